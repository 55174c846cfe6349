//! A damaged or full disk: a clear error, and never silently less than what
//! was acknowledged.

mod caches;
mod full_disk;
mod log;

use std::path::{Path, PathBuf};

use orama_proto::function::FunctionInfo;
use orama_tests::{Deploy, Node, Refusal, Rng, Tenant, guests};

/// Everything a tenant was promised.
#[derive(Debug, PartialEq)]
struct State {
    functions: Vec<FunctionInfo>,
    versions: Vec<FunctionInfo>,
    secrets: Vec<String>,
    answers: Vec<String>,
}

async fn state(tenant: &Tenant) -> State {
    let mut answers = Vec::new();
    for (name, input) in [
        ("one", ""),
        ("one@1", ""),
        ("two", ""),
        ("reader", "KEY"),
        ("reader", "OTHER"),
    ] {
        answers
            .push(String::from_utf8_lossy(&tenant.invoke(name, input).await.output()).into_owned());
    }
    // An output that is wrapped carries the request's id and duration; keep what the guest said.
    let answers = answers
        .into_iter()
        .map(
            |text| match serde_json::from_str::<serde_json::Value>(&text) {
                Ok(body) if body.get("output").is_some() => body["output"].to_string(),
                _ => text,
            },
        )
        .collect();
    State {
        functions: tenant.functions().await,
        versions: tenant.versions("one").await,
        secrets: tenant.secrets().await,
        answers,
    }
}

async fn populate(node: &Node, namespace: &str) -> Tenant {
    let tenant = node.tenant(namespace).await;
    tenant
        .deploy(Deploy::new("reader", &guests::secret_reader(&["malloc"])))
        .await;
    tenant
        .deploy(Deploy::new("one", &guests::constant("1")))
        .await;
    tenant
        .deploy(Deploy::new("one", &guests::constant("11")))
        .await;
    tenant
        .deploy(Deploy::new("two", &guests::constant("2")))
        .await;
    tenant.set_secret("KEY", "value").await;
    tenant.set_secret("OTHER", "gone").await;
    tenant.set_secret("OTHER", "changed").await;
    tenant
}

fn files_under(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_under(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Turns `count` bytes around, all of them in places that hold something.
fn flip(file: &Path, rng: &mut Rng, count: usize) -> Vec<usize> {
    let mut bytes = std::fs::read(file).unwrap();
    let used: Vec<usize> = (0..bytes.len()).filter(|&i| bytes[i] != 0).collect();
    assert!(!used.is_empty(), "{} holds nothing", file.display());
    let at: Vec<usize> = (0..count)
        .map(|_| used[rng.below(used.len() as u64) as usize])
        .collect();
    for &i in &at {
        bytes[i] ^= 0x5a;
    }
    std::fs::write(file, bytes).unwrap();
    at
}

/// A refusal must be one: exit code 1 and a sentence, no panic, no hanging.
fn check_refusal(refusal: &Refusal, words: &[&str]) {
    let status = refusal
        .status
        .unwrap_or_else(|| panic!("it neither started nor ended: {}", refusal.stderr));
    assert_eq!(status.code(), Some(1), "{refusal:?}");
    assert!(!refusal.stderr.contains("panicked"), "{}", refusal.stderr);
    let said = refusal.stderr.to_lowercase();
    assert!(
        words.iter().any(|word| said.contains(word)),
        "should say one of {words:?}: {}",
        refusal.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_turned_away() {
    let node = Node::start().await;
    let tenant = populate(&node, "locked").await;
    let before = state(&tenant).await;
    let rival = node.rival().await;
    check_refusal(&rival, &["in use"]);
    assert!(
        rival
            .stderr
            .contains(&node.data_dir().display().to_string()),
        "{}",
        rival.stderr
    );
    assert_eq!(state(&tenant).await, before);
}
