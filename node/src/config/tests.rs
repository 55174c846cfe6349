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
    for wrong in [
        "1",
        "63KiB",
        "2TiB",
        "1025GiB",
        "99999999999999999GiB",
        "-1",
        "GiB",
    ] {
        let text = problem(&with(&[("database_max_bytes", wrong)]), "");
        assert!(
            text.starts_with("--database-max-bytes: must be a size from 64KiB"),
            "{text}"
        );
    }
    for (size, bytes) in [("65536", 65_536), ("512MiB", 512 << 20), ("2GiB", 2 << 30)] {
        let args = with(&[("database_max_bytes", size)]);
        let config = Config::for_node(&args, &environment).unwrap();
        assert_eq!(config.database_max_bytes, bytes);
    }
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
    assert!(
        problem("cluster_secret: abc")
            .unwrap_err()
            .contains("cluster_secret_file")
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

const SECRET: &str = "cluster-secret-of-the-tests-0123456789";

/// As [`environment`], with a cluster secret.
fn clustered(name: &str) -> Option<String> {
    match name {
        "ORAMA_CLUSTER_SECRET" => Some(SECRET.into()),
        other => environment(other),
    }
}

#[test]
fn without_a_cluster_secret_there_is_no_mesh() {
    let config = Config::for_node(&NodeRunArgs::default(), &environment).unwrap();
    assert!(config.links.is_none());
    assert_eq!(config.snapshot_every, 5_000);
    assert_eq!(config.data_groups, 4);
    assert_eq!(config.replace_after, Duration::from_secs(300));
    assert_eq!(config.database_max_bytes, 1 << 30);
    for (name, value, origin) in [
        (
            "join",
            "/ip4/10.0.0.1/tcp/4001",
            "--join: needs ORAMA_CLUSTER_SECRET",
        ),
        (
            "bootstrap_expect",
            "3",
            "--bootstrap-expect: needs ORAMA_CLUSTER_SECRET",
        ),
        ("mesh_listen", "/ip4/0.0.0.0/tcp/1", "--mesh-listen: needs"),
        (
            "mesh_advertise",
            "/ip4/10.0.0.1/tcp/1",
            "--mesh-advertise: needs",
        ),
    ] {
        let text = Config::for_node(&with(&[(name, value)]), &environment)
            .unwrap_err()
            .to_string();
        assert!(text.starts_with(origin), "{text}");
    }
    // The default, said aloud.
    assert!(Config::for_node(&with(&[("bootstrap_expect", "1")]), &environment).is_ok());
}

#[test]
fn the_meshs_settings_have_the_contracts_defaults() {
    let links = |flags: &[(&str, &str)]| {
        Config::for_node(&with(flags), &clustered)
            .unwrap()
            .links
            .unwrap()
    };
    let alone = links(&[]);
    assert_eq!(alone.listen, ["/ip4/0.0.0.0/tcp/4001"]);
    assert_eq!(alone.advertise, [""; 0]);
    assert_eq!((alone.join.len(), alone.bootstrap_expect), (0, 1));
    let joining = links(&[
        ("join", "/ip4/10.0.0.1/tcp/4001,dns:orama.local:4001"),
        ("join", "/dns4/node-2/tcp/4001"),
        ("mesh_advertise", "/dns4/node-1/tcp/4001"),
    ]);
    assert_eq!((joining.join.len(), joining.bootstrap_expect), (3, 0));
    assert_eq!(joining.advertise, ["/dns4/node-1/tcp/4001"]);
    let first = links(&[("join", "dns:orama:4001"), ("bootstrap_expect", "3")]);
    assert_eq!(first.bootstrap_expect, 3);
    let dev = Config::for_dev(&DevArgs::default(), &clustered).unwrap();
    assert_eq!(dev.links.unwrap().listen, ["/ip4/127.0.0.1/tcp/4001"]);
    let shown = format!("{:?}", Config::for_node(&with(&[]), &clustered).unwrap());
    assert!(!shown.contains(SECRET));
}

#[test]
fn lists_come_from_flags_commas_and_yaml_lists() {
    let file = file("join:\n  - /ip4/10.0.0.1/tcp/4001\n  - dns:orama:4001\nbootstrap_expect: 3\n");
    let mut args = NodeRunArgs::default();
    args.settings.config = Some(file.path().to_owned());
    let links = Config::for_node(&args, &clustered).unwrap().links.unwrap();
    assert_eq!((links.join.len(), links.bootstrap_expect), (2, 3));
    let environment = |name: &str| match name {
        "ORAMA_JOIN" => Some(" /ip4/10.0.0.9/tcp/4001 , ,".into()),
        other => clustered(other),
    };
    let links = Config::for_node(&args, &environment)
        .unwrap()
        .links
        .unwrap();
    assert_eq!(links.join.len(), 1, "the environment beats the file");
}

#[test]
fn wrong_settings_of_the_mesh_are_named() {
    let problem = |name: &str, value: &str| {
        Config::for_node(&with(&[(name, value)]), &clustered)
            .unwrap_err()
            .to_string()
    };
    for (name, value, start) in [
        ("join", "somewhere", "--join: "),
        ("join", ",", "--join: must not be empty"),
        (
            "mesh_listen",
            "0.0.0.0:4001",
            "--mesh-listen: must be multiaddresses",
        ),
        ("mesh_listen", "/dns4/a/tcp/1", "--mesh-listen: "),
        ("mesh_listen", "/ip4/0.0.0.0/tcp/70000", "--mesh-listen: "),
        (
            "mesh_advertise",
            "/ip4/0.0.0.0/tcp/4001",
            "--mesh-advertise: ",
        ),
        (
            "mesh_advertise",
            "/ip4/10.0.0.1/tcp/0",
            "--mesh-advertise: ",
        ),
        (
            "mesh_advertise",
            "/ip4/10.0.0.1/udp/1",
            "--mesh-advertise: ",
        ),
        (
            "bootstrap_expect",
            "0",
            "--bootstrap-expect: must be at least 1",
        ),
        ("bootstrap_expect", "65", "--bootstrap-expect: "),
        (
            "data_groups",
            "0",
            "--data-groups: must be a whole number from 1 to 256",
        ),
        ("data_groups", "257", "--data-groups: "),
        (
            "snapshot_every",
            "0",
            "--snapshot-every: must be a whole number from 1 to 1000000",
        ),
        (
            "replace_after",
            "10ms",
            "--replace-after: must be at least 1s",
        ),
        ("node_name", "a b", "--node-name: must have"),
        ("node_name", "0123456789abcdef", "--node-name: must have"),
    ] {
        let text = problem(name, value);
        assert!(text.starts_with(start), "{name} {value}: {text}");
    }
    let short = |name: &str| match name {
        "ORAMA_CLUSTER_SECRET" => Some("tooshort".into()),
        other => environment(other),
    };
    let text = Config::for_node(&with(&[]), &short)
        .unwrap_err()
        .to_string();
    assert!(
        text.starts_with("ORAMA_CLUSTER_SECRET: ") && !text.contains("tooshort"),
        "{text}"
    );
}
