//! A damaged or full disk: a clear error, and never silently less than what
//! was acknowledged.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use orama_proto::error::ErrorCode;
use orama_proto::function::FunctionInfo;
use orama_tests::{Deploy, Node, Refusal, Rng, Tenant, expect_success, guests, seed};
use reqwest::Method;
use serde_json::json;

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

fn copy_dir(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(status.success());
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

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_blob_is_noticed_and_healed() {
    // The first reader finds it corrupt and sets it aside; later ones find it missing.
    let mut node = Node::builder()
        .allow_error("corrupt")
        .allow_error("a module is not available")
        .start()
        .await;
    let tenant = populate(&node, "blobs").await;
    let bytes = guests::constant("precious");
    let info = tenant.deploy(Deploy::new("hurt", &bytes)).await;
    let before = state(&tenant).await;
    node.stop().await;
    let blob = files_under(&node.data_dir().join("blobs"))
        .into_iter()
        .find(|path| {
            path.file_name()
                .is_some_and(|n| n == info.wasm_cid.as_str())
        })
        .expect("the blob's file is named by its content id");
    let mut content = std::fs::read(&blob).unwrap();
    assert_eq!(content, bytes);
    let middle = content.len() / 2;
    content[middle] ^= 1;
    std::fs::write(&blob, content).unwrap();
    // Without the compiled file the node must read the blob.
    std::fs::remove_dir_all(node.data_dir().join("compiled")).unwrap();

    node.start_again().await;
    let reply = tenant.invoke("hurt", "").await;
    let error = reply.expect_error(ErrorCode::FunctionUnavailable, &[]);
    assert!(error.retryable);
    // The node lives, and compiles the others again.
    let after = state(&tenant).await;
    assert_eq!(after.answers, before.answers);
    assert!(after.functions.iter().any(|f| f.name == "hurt"));

    // The same bytes again heal every version that has them.
    let healed = tenant.deploy(Deploy::new("hurt", &bytes)).await;
    assert_eq!((healed.version, healed.wasm_cid), (2, info.wasm_cid));
    for name in ["hurt", "hurt@1"] {
        let (reply, _) = expect_success(&tenant, name, "").await;
        assert_eq!(reply.json()["output"], "precious");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compiled_file_is_only_a_cache() {
    let mut node = Node::builder().allow_error("compiled").start().await;
    let mut rng = Rng::new(seed());
    let tenant = populate(&node, "compiled").await;
    let before = state(&tenant).await;
    node.stop().await;
    for file in files_under(&node.data_dir().join("compiled")) {
        flip(&file, &mut rng, 3);
    }
    node.start_again().await;
    assert_eq!(state(&tenant).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_directory_is_only_a_view() {
    let mut node = Node::builder()
        .allow_error("state")
        .allow_error("sled")
        .start()
        .await;
    let mut rng = Rng::new(seed());
    let tenant = populate(&node, "views").await;
    let before = state(&tenant).await;
    let dir = node.data_dir().join("state");
    for damage in 0..4 {
        if damage % 2 == 0 {
            node.stop().await;
        } else {
            node.kill();
        }
        match damage {
            0 => std::fs::remove_dir_all(&dir).unwrap(),
            1 => {
                let largest = files_under(&dir)
                    .into_iter()
                    .max_by_key(|f| f.metadata().unwrap().len())
                    .unwrap();
                println!(
                    "flipped in {}: {:?}",
                    largest.display(),
                    flip(&largest, &mut rng, 20)
                );
            }
            2 => {
                for file in files_under(&dir) {
                    std::fs::write(file, "").unwrap();
                }
            }
            _ => {
                let file = files_under(&dir)
                    .into_iter()
                    .max_by_key(|f| f.metadata().unwrap().len())
                    .unwrap();
                let half = file.metadata().unwrap().len() / 2;
                std::fs::OpenOptions::new()
                    .write(true)
                    .open(file)
                    .unwrap()
                    .set_len(half)
                    .unwrap();
            }
        }
        node.start_again().await;
        assert_eq!(state(&tenant).await, before, "damage {damage}");
    }
}

/// Starts nodes on damaged copies of a data directory: each refuses clearly, or serves everything.
/// Answers how many refused.
async fn try_damages(
    node: &mut Node,
    tenant: &Tenant,
    before: &State,
    words: &[&str],
    damages: impl Iterator<Item = Box<dyn FnOnce(&Path) -> String>>,
) -> usize {
    let pristine = node.scratch().join("pristine");
    copy_dir(node.data_dir(), &pristine);
    node.reconfigure(|b| b.ready_within(Duration::from_secs(15)));
    let (mut refused, mut served) = (0, 0);
    for damage in damages {
        std::fs::remove_dir_all(node.data_dir()).unwrap();
        copy_dir(&pristine, node.data_dir());
        let what = damage(node.data_dir());
        match node.try_start_again().await {
            Ok(_) => {
                served += 1;
                assert_eq!(
                    &state(tenant).await,
                    before,
                    "{what}: it must serve everything or refuse"
                );
                // A node that serves also takes changes.
                tenant.set_secret("AFTER", "damage").await;
                node.kill();
            }
            Err(refusal) => {
                refused += 1;
                println!("{what}: refused");
                check_refusal(&refusal, words);
            }
        }
    }
    println!("damaged starts: {refused} refused, {served} served everything");
    // The pristine copy starts: it was the damage.
    std::fs::remove_dir_all(node.data_dir()).unwrap();
    copy_dir(&pristine, node.data_dir());
    node.start_again().await;
    assert_eq!(&state(tenant).await, before);
    refused
}

/// Where the log is written at present.
fn newest_segment(dir: &Path) -> PathBuf {
    let segments = files_under(&dir.join("raft/log"));
    let written = segments.into_iter().filter(|path| {
        let bytes = std::fs::read(path).unwrap();
        // The first sector is a head; a segment made ahead has nothing else.
        bytes.len() > 512 && bytes[512..].iter().any(|byte| *byte != 0)
    });
    written.max().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_log_is_never_silently_less() {
    let mut node = Node::builder()
        .allow_error("log")
        .allow_error("corrupt")
        .start()
        .await;
    let tenant = populate(&node, "logs").await;
    let before = state(&tenant).await;
    node.kill();
    let mut rng = Rng::new(seed());
    let damages = (0..24).map(|n| {
        let mut rng = rng.fork();
        let damage: Box<dyn FnOnce(&Path) -> String> = Box::new(move |dir| {
            let file = newest_segment(dir);
            // The view must not hide the log's loss: without it the log is all there is.
            if n % 2 == 0 {
                std::fs::remove_dir_all(dir.join("state")).unwrap();
            }
            if n == 22 {
                std::fs::write(&file, vec![0u8; 4096]).unwrap();
                return "an overwritten log".into();
            }
            if n == 23 {
                let length = file.metadata().unwrap().len();
                std::fs::OpenOptions::new()
                    .write(true)
                    .open(&file)
                    .unwrap()
                    .set_len(length / 3)
                    .unwrap();
                return "a log cut to a third".into();
            }
            format!("bytes {:?} of the log", flip(&file, &mut rng, 1 + n % 4))
        });
        damage
    });
    let words = ["log", "corrupt", "damage", "checksum"];
    try_damages(&mut node, &tenant, &before, &words, damages).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_snapshot_is_never_silently_less() {
    let mut node = Node::builder()
        .allow_error("snapshot")
        .allow_error("corrupt")
        .start()
        .await;
    let tenant = populate(&node, "snaps").await;
    // Enough changes for two snapshots: the log is compacted up to the older one.
    let snapshots = node.data_dir().join("snapshots");
    let mut changes = 0;
    while files_under(&snapshots).len() < 2 {
        let batch = (0..64).map(|n| {
            let tenant = &tenant;
            async move {
                tenant
                    .set_secret(&format!("FILLER_{n}"), &format!("{changes}"))
                    .await
            }
        });
        futures::future::join_all(batch).await;
        changes += 64;
        assert!(changes < 20_000, "no two snapshots after {changes} changes");
    }
    // Let the compaction that follows a snapshot come to its end.
    tokio::time::sleep(Duration::from_millis(500)).await;
    println!(
        "two snapshots after {changes} changes: {:?}",
        files_under(&snapshots)
    );
    let before = state(&tenant).await;
    node.stop().await;
    let mut rng = Rng::new(seed());
    let damages = (0..8).map(|n| {
        let mut rng = rng.fork();
        let damage: Box<dyn FnOnce(&Path) -> String> = Box::new(move |dir| {
            if n > 0 {
                std::fs::remove_dir_all(dir.join("state")).unwrap();
            }
            let mut files = files_under(&dir.join("snapshots"));
            // The newest alone, or all of them.
            if n < 4 {
                files = files.split_off(files.len() - 1);
            }
            for file in &files {
                match n {
                    2 | 6 => std::fs::write(file, "").unwrap(),
                    3 | 7 => std::fs::remove_file(file).unwrap(),
                    _ => drop(flip(file, &mut rng, 1 + n)),
                }
            }
            format!("damage {n} to {files:?}")
        });
        damage
    });
    let refused = try_damages(&mut node, &tenant, &before, &["snapshot"], damages).await;
    assert!(
        refused >= 4,
        "without any snapshot a compacted log is not everything: {refused}"
    );
}

/// A small file system of its own, unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(at: PathBuf, mib: u32) -> Self {
        std::fs::create_dir_all(&at).unwrap();
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(&at)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "this test mounts a small tmpfs and so needs to run as root with CAP_SYS_ADMIN: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Self(at)
    }
    /// Takes all space but this much.
    fn fill(&self, leave: usize) {
        let free = || {
            let stat = rustix::fs::statvfs(&self.0).unwrap();
            (stat.f_bavail * stat.f_frsize) as usize
        };
        let filler = self.0.join("filler");
        let now = free();
        assert!(now > leave, "{now} bytes are free, {leave} were to be left");
        // The node writes as well: what does not fit any more is what was wanted.
        match std::fs::write(filler, vec![1u8; now - leave]) {
            Err(e) if e.kind() != std::io::ErrorKind::StorageFull => panic!("{e}"),
            _ => assert!(free() <= leave),
        }
    }
    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A module of about this many bytes that do not compress, with this constant's answer.
fn large(mib: usize, seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let mut module = guests::constant(&format!("large {seed}"));
    // A custom section: id 0, size, name length, name, content.
    let content: Vec<u8> = (0..mib * 1024 * 1024 / 8)
        .flat_map(|_| rng.draw().to_le_bytes())
        .collect();
    let mut section = vec![4u8];
    section.extend_from_slice(b"junk");
    section.extend_from_slice(&content);
    module.push(0);
    let mut size = section.len();
    loop {
        let byte = (size & 0x7f) as u8;
        size >>= 7;
        if size == 0 {
            module.push(byte);
            break;
        }
        module.push(byte | 0x80);
    }
    module.extend_from_slice(&section);
    module
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_the_deploy_and_loses_nothing() {
    let mount = tempfile::tempdir().unwrap();
    let disk = SmallDisk::new(mount.path().join("disk"), 192);
    let mut node = Node::builder()
        .data_dir(disk.0.join("data"))
        .allow_error("space")
        .allow_error("full")
        .allow_error("stopped")
        .start()
        .await;
    let tenant = populate(&node, "full").await;
    let before = state(&tenant).await;

    // There is room for the log, but not for the module.
    disk.fill(6 << 20);
    for n in 0..3 {
        let reply = tenant.try_deploy(Deploy::new("one", &large(12, n))).await;
        reply.expect_error(ErrorCode::StorageQuotaExceeded, &["full"]);
    }
    assert_eq!(
        state(&tenant).await,
        before,
        "the failed deploys left nothing behind"
    );
    disk.free();
    let made = tenant.deploy(Deploy::new("big", &large(12, 1))).await;
    assert_eq!(made.version, 1);
    assert_eq!(tenant.invoke("big", "").await.json()["output"], "large 1");
    tenant
        .call(Method::DELETE, "/v1/functions/big", "")
        .await
        .expect(200);
    let before = state(&tenant).await;

    // There is room for nothing at all: every change is refused or made, none is lost.
    disk.fill(0);
    let mut kept = Vec::new();
    for n in 0..40 {
        let name = format!("FULL_{n}");
        let value = "v".repeat(30_000);
        let reply = tenant
            .json(
                Method::PUT,
                "/v1/functions/secrets",
                &json!({"name": name, "value": value}),
            )
            .await;
        match reply.status {
            200 => kept.push(name),
            503 | 507 => {
                let code = if reply.status == 507 {
                    ErrorCode::StorageQuotaExceeded
                } else {
                    ErrorCode::ServiceUnavailable
                };
                reply.expect_error(code, &[]);
            }
            other => panic!("{other}: {reply:?}"),
        }
    }
    assert!(kept.len() < 40, "a full disk must refuse something");
    // What was there still answers.
    assert_eq!(tenant.invoke("one", "").await.output(), b"11");
    disk.free();
    node.crash_and_restart().await;
    let secrets = tenant.secrets().await;
    for name in &kept {
        assert!(secrets.contains(name), "{name} was acknowledged");
    }
    let after = state(&tenant).await;
    assert_eq!(
        (after.functions, after.versions, after.answers),
        (before.functions, before.versions, before.answers)
    );
    tenant.set_secret("AFTERWARDS", "works").await;
    tenant
        .deploy(Deploy::new("afterwards", &guests::constant("3")))
        .await;
}
