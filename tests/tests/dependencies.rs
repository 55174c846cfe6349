//! The house's rules about itself: dependencies run one way, and `unsafe` is
//! in few listed places.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Crate, and the crates of this workspace it may use.
const EDGES: &[(&str, &[&str])] = &[
    ("orama-proto", &[]),
    ("orama-cluster", &["orama-proto"]),
    ("orama-actors", &["orama-proto", "orama-cluster"]),
    (
        "orama-node",
        &["orama-proto", "orama-cluster", "orama-actors"],
    ),
    (
        "orama-tests",
        &["orama-proto", "orama-cluster", "orama-actors"],
    ),
    (
        "orama-benches",
        &[
            "orama-proto",
            "orama-cluster",
            "orama-actors",
            "orama-tests",
        ],
    ),
];

/// A library, and the only crates that may use it outside of tests and benchmarks.
const OWNERS: &[(&str, &[&str])] = &[
    ("sled", &["orama-cluster"]),
    ("redb", &["orama-cluster"]),
    ("openraft", &["orama-cluster"]),
    ("rusqlite", &["orama-cluster"]),
    ("libp2p", &["orama-cluster"]),
    ("libp2p-stream", &["orama-cluster"]),
    ("actix-web", &["orama-node"]),
    ("actix-multipart", &["orama-node"]),
    ("reqwest", &["orama-node"]),
    ("clap", &["orama-node"]),
    ("wasmtime", &["orama-actors"]),
    ("tokio", &["orama-cluster", "orama-actors", "orama-node"]),
    ("actix", &["orama-actors", "orama-node"]),
];

/// The modules that may hold unsafe code, with the reason. At most three.
const UNSAFE: &[(&str, &str)] = &[
    (
        "actors/src/runtime/cache.rs",
        "loading compiled code that this node wrote and checksummed",
    ),
    (
        "cluster/src/sql/raw",
        "SQLite's C interface: its clock, changed rows, which write failed",
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn packages() -> Vec<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--offline",
            "--no-deps",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

#[test]
fn dependencies_run_one_way() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for package in packages() {
        let name = package["name"].as_str().unwrap().to_owned();
        let Some((_, allowed)) = EDGES.iter().find(|(of, _)| *of == name) else {
            wrong.push(format!("{name} is not in the list of crates"));
            continue;
        };
        seen.insert(name.clone());
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            if on.starts_with("orama-") && !allowed.contains(&on) {
                wrong.push(format!("{name} must not depend on {on}"));
            }
            let measures = ["orama-tests", "orama-benches"].contains(&name.as_str());
            // What a crate's own tests use does not reach its users.
            let shipped = dependency["kind"] != "dev";
            if let Some((_, owners)) = OWNERS.iter().find(|(library, _)| *library == on)
                && !measures
                && shipped
                && !owners.contains(&name.as_str())
            {
                wrong.push(format!(
                    "{name} must not depend on {on}, only {owners:?} may"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(seen.len(), EDGES.len(), "crates are missing: {seen:?}");
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Whether a line of source holds the keyword, outside of comments and names such as `unsafe_code`.
fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let words: Vec<&str> = code
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
        .collect();
    words.contains(&"unsafe") && !code.contains('"')
}

#[test]
fn unsafe_code_is_in_few_listed_places() {
    let root = root();
    let mut files = Vec::new();
    for part in ["proto/src", "cluster/src", "actors/src", "node/src"] {
        rust_files(&root.join(part), &mut files);
    }
    assert!(files.len() > 20, "the sources are where this test looks");
    let mut holders = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        if text.lines().any(is_unsafe) {
            let name = file.strip_prefix(&root).unwrap().display().to_string();
            let module = UNSAFE.iter().find(|(listed, _)| name.starts_with(listed));
            let (module, _) =
                module.unwrap_or_else(|| panic!("{name} holds unsafe code and is not listed"));
            assert!(
                text.contains("SAFETY"),
                "{name}: unsafe code without its safety argument"
            );
            holders.insert(*module);
        }
    }
    assert!(
        holders.len() <= 3,
        "too many modules with unsafe code: {holders:?}"
    );
}

#[test]
fn no_file_is_endless() {
    let root = root();
    let mut files = Vec::new();
    for part in ["proto/src", "cluster/src", "actors/src", "node/src"] {
        rust_files(&root.join(part), &mut files);
    }
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(&root).unwrap().display().to_string();
        if name.contains("tests") {
            continue;
        }
        assert!(
            text.lines().count() <= 600,
            "{name} has {} lines",
            text.lines().count()
        );
        assert!(
            text.starts_with("//!"),
            "{name} does not begin with its purpose"
        );
    }
}
