//! Precedence, and errors that name their origin.

use std::io::Write;
use std::time::Duration;

use super::*;

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn environment(name: &str) -> Option<String> {
    match name {
        "ORAMA_MASTER_KEY" => Some(KEY.into()),
        "ORAMA_ADMIN_TOKEN" => Some("0123456789abcdef".into()),
        _ => None,
    }
}

fn with(flags: &[(&str, &str)]) -> NodeRunArgs {
    let mut args = NodeRunArgs::default();
    for (name, value) in flags {
        args.settings.give(name, value);
    }
    args
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[test]
fn defaults_are_the_contracts() {
    let config = Config::for_node(&NodeRunArgs::default(), &environment).unwrap();
    assert_eq!(config.http_addr.to_string(), "0.0.0.0:6001");
    assert_eq!(config.metrics_addr.to_string(), "0.0.0.0:9090");
    assert_eq!(config.data_dir.to_str(), Some("/var/lib/orama"));
    assert_eq!(config.drain_timeout, Duration::from_secs(30));
    let dev = Config::for_dev(&DevArgs::default(), &|_| None).unwrap();
    assert_eq!(dev.http_addr.to_string(), "127.0.0.1:6001");
    assert_eq!(dev.data_dir.to_str(), Some("./.orama"));
    assert!(dev.master_key.is_none());
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let file = file("workers: 3\nmax_running: 30\nmax_running_per_namespace: 300\n");
    let mut args = with(&[("workers", "5")]);
    args.settings.config = Some(file.path().to_owned());
    let environment = |name: &str| match name {
        "ORAMA_WORKERS" => Some("4".into()),
        "ORAMA_MAX_RUNNING" => Some("40".into()),
        "ORAMA_DRAIN_TIMEOUT" => Some(String::new()),
        other => environment(other),
    };
    let config = Config::for_node(&args, &environment).unwrap();
    assert_eq!(config.workers, 5);
    assert_eq!(config.max_running, 40);
    assert_eq!(config.max_running_per_namespace, 300);
    assert_eq!(config.max_queued_per_namespace, 1024);
    assert_eq!(config.drain_timeout, Duration::from_secs(30));
}

#[test]
fn wrong_values_name_flag_variable_or_key() {
    let problem = |args: &NodeRunArgs, variable: &str| {
        Config::for_node(args, &|name| {
            if name == variable {
                Some("many".into())
            } else {
                environment(name)
            }
        })
        .unwrap_err()
        .to_string()
    };
    let text = problem(&with(&[("max_running", "0")]), "");
    assert_eq!(
        text,
        "--max-running: must be a whole number from 1 to 16384 (got \"0\")"
    );
    assert!(problem(&with(&[]), "ORAMA_WORKERS").starts_with("ORAMA_WORKERS: must be"));
    assert!(problem(&with(&[]), "ORAMA_DRAIN_TIMEOUT").contains("30s"));
    assert!(problem(&with(&[]), "ORAMA_LOG_FORMAT").contains("text or json"));
    assert!(problem(&with(&[("http_addr", "nowhere")]), "").starts_with("--http-addr"));
}

#[test]
fn the_file_is_strict() {
    let problem = |text: &str| {
        let file = file(text);
        let mut args = NodeRunArgs::default();
        args.settings.config = Some(file.path().to_owned());
        Config::for_node(&args, &environment)
            .map(|_| ())
            .map_err(|e| e.to_string())
    };
    assert!(
        problem("http_adr: 1")
            .unwrap_err()
            .ends_with("unknown key 'http_adr', did you mean 'http_addr'?")
    );
    assert!(
        problem("workers: [1]")
            .unwrap_err()
            .contains("'workers' must be a single value")
    );
    assert!(
        problem("workers: 0")
            .unwrap_err()
            .starts_with("workers in ")
    );
    assert!(
        problem("master_key: abc")
            .unwrap_err()
            .contains("master_key_file")
    );
    assert!(problem("- a").is_err());
    assert_eq!(problem("# nothing\n"), Ok(()));
    assert_eq!(problem("drain_timeout: 5\nlog: debug\n"), Ok(()));
    let mut args = NodeRunArgs::default();
    args.settings.config = Some("/nonexistent/orama.yaml".into());
    let text = Config::for_node(&args, &environment)
        .unwrap_err()
        .to_string();
    assert!(text.starts_with("config file /nonexistent/orama.yaml:"));
}

#[test]
fn secrets_are_required_checked_and_hidden() {
    let text = Config::for_node(&NodeRunArgs::default(), &|_| None)
        .unwrap_err()
        .to_string();
    assert!(text.contains("ORAMA_MASTER_KEY") && text.contains("openssl rand -base64 32"));
    let short = |name: &str| match name {
        "ORAMA_ADMIN_TOKEN" => Some("short".into()),
        other => environment(other),
    };
    let text = Config::for_node(&NodeRunArgs::default(), &short)
        .unwrap_err()
        .to_string();
    assert!(text.starts_with("ORAMA_ADMIN_TOKEN:") && !text.contains("short"));

    let key = file(&format!("{KEY}\n"));
    let path = key.path().display().to_string();
    let from_file = |name: &str| match name {
        "ORAMA_MASTER_KEY" => None,
        "ORAMA_MASTER_KEY_FILE" => Some(path.clone()),
        other => environment(other),
    };
    let config = Config::for_node(&NodeRunArgs::default(), &from_file).unwrap();
    assert_eq!(config.master_key.as_ref().unwrap().expose().as_str(), KEY);
    assert!(!format!("{config:?}").contains(KEY));
    let both = Config::for_node(&with(&[("master_key_file", &path)]), &environment);
    assert!(both.unwrap_err().to_string().contains("both set"));
    let nowhere = |name: &str| (name == "ORAMA_MASTER_KEY_FILE").then(|| "/nonexistent".into());
    let text = Config::for_node(&NodeRunArgs::default(), &nowhere)
        .unwrap_err()
        .to_string();
    assert!(
        text.starts_with("ORAMA_MASTER_KEY_FILE: /nonexistent:"),
        "{text}"
    );
}
