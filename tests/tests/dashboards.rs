//! Alerts, dashboards and documents name metrics: each of them must be one that the
//! program has, or the alert would be silent for ever.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Every word of the text that begins as our metrics do.
fn names(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("orama_"))
        .map(str::to_owned)
        .collect()
}

fn sources(dir: &Path, text: &mut String) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|e| e == "rs") {
            text.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

fn files() -> Vec<PathBuf> {
    let mut files = vec![root().join("deploy/prometheus/rules.yaml")];
    for dir in ["deploy/grafana", "docs"] {
        for entry in std::fs::read_dir(root().join(dir)).unwrap() {
            files.push(entry.unwrap().path());
        }
    }
    files
}

#[test]
fn metrics_that_are_named_exist() {
    let mut text = String::new();
    for part in ["cluster/src", "actors/src", "node/src"] {
        sources(&root().join(part), &mut text);
    }
    let known = names(&text);
    let mut seen = 0;
    for file in files() {
        for name in names(&std::fs::read_to_string(&file).unwrap()) {
            // What Prometheus makes of a histogram.
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .unwrap_or(&name);
            assert!(
                known.contains(family),
                "{} names {family}, which no source has",
                file.display()
            );
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn dashboards_are_json_without_two_panels_of_one_id() {
    for file in files()
        .iter()
        .filter(|f| f.extension().is_some_and(|e| e == "json"))
    {
        let text = std::fs::read_to_string(file).unwrap();
        let board: serde_json::Value = serde_json::from_str(&text).unwrap();
        let panels = board["panels"].as_array().unwrap();
        let ids: BTreeSet<u64> = panels.iter().map(|p| p["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len(), "{}", file.display());
    }
}
