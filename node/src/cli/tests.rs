//! Whole commands: arguments in, requests to a scripted gateway, output out.

use std::io::Write;
use std::sync::Arc;

use clap::CommandFactory;
use parking_lot::Mutex;

use super::credentials::{Credentials, Default as DefaultKey};
use super::scripted::Scripted;
use super::*;

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Ran {
    result: Result<(), CliError>,
    out: String,
    err: String,
}

/// Runs a command line with a key and an operator's token stored for `url`.
async fn run(url: &str, words: &[&str]) -> Ran {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path());
    Credentials::update(&home, |all| {
        all.set_key(url, "default", "ak_test:default", DefaultKey::Yes);
        all.set_admin_token(url, "operator");
        Ok(())
    })
    .unwrap();
    run_in(home, url, words).await
}

async fn run_in(home: Home, url: &str, words: &[&str]) -> Ran {
    let line = ["orama", "--api-url", url]
        .into_iter()
        .chain(words.iter().copied());
    let cli = Cli::try_parse_from(line).unwrap();
    let (out, err) = (Shared::default(), Shared::default());
    let mut app = App {
        home,
        vars: Variables::default(),
        out: Output::to(cli.global.json, out.clone(), err.clone()),
        global: cli.global,
    };
    let result = dispatch(&mut app, cli.command).await;
    Ran {
        result,
        out: out.text(),
        err: err.text(),
    }
}

fn function(version: u64) -> String {
    format!(
        r#"{{"id":"i","name":"f","namespace":"default","version":{version},"wasm_cid":"bafk","wasm_bytes":8,"memory_limit_mb":64,"timeout_seconds":30,"is_public":true,"retry_count":0,"retry_delay_seconds":5,"status":"active","created_at":"2026-01-02T03:04:05.678901Z","updated_at":"2026-01-02T03:04:05Z","created_by":"default"}}"#
    )
}

#[test]
fn the_grammar_is_sound_and_every_level_has_help() {
    let mut root = Cli::command();
    root.clone().debug_assert();
    root.build();
    let mut seen = 0;
    let mut todo = vec![root];
    while let Some(mut command) = todo.pop() {
        let help = command.render_long_help().to_string();
        let name = command.get_name().to_owned();
        assert!(help.contains("Usage:"), "{name}");
        assert!(command.get_about().is_some() || name == "help", "{name}");
        for argument in command.get_arguments() {
            let id = argument.get_id();
            assert!(argument.get_help().is_some(), "{name}: {id}");
        }
        seen += 1;
        todo.extend(command.get_subcommands().cloned());
    }
    assert!(seen > 40, "{seen}");
}

#[test]
fn the_specified_command_lines_parse() {
    for line in [
        "dev",
        "node run",
        "function init my-function",
        "function build",
        "function build dir",
        "function deploy",
        "function invoke my-function --data {}",
        "function invoke f@2 --data -",
        "function list --json",
        "--json function ls",
        "function get f",
        "function delete f -f",
        "function logs f --limit 10 --follow --wasm-only --request-id x",
        "function versions f",
        "function rollback f 3",
        "function enable f",
        "function disable f",
        "function secrets set APNS_KEY_ID ABC123DEF",
        "function secrets set APNS_AUTH_KEY --from-file ./AuthKey.p8",
        "function secrets list",
        "function secrets delete APNS_KEY_ID --force",
        "secrets set A -",
        "secrets set A -----BEGIN",
        "namespace create team-a",
        "namespace list",
        "namespace delete team-a --force",
        "key create --namespace team-a --label ci",
        "key list -n team-a",
        "key revoke ID",
        "key rotate-master",
        "key master-status",
        "cluster status --json",
        "cluster drain n1",
        "cluster drain n1 --undo",
        "cluster leave n1 --yes",
        "cluster leave n1 --force",
        "cluster transfer data-1 n2",
        "env add prod https://x.test --description d",
        "env use prod",
        "env list",
        "env current",
        "env remove prod",
        "auth login --api-key k",
        "auth login --token t",
        "auth login --admin-token t",
        "auth whoami --env prod",
        "auth logout",
    ] {
        let words = ["orama"].into_iter().chain(line.split(' '));
        if let Err(e) = Cli::try_parse_from(words) {
            panic!("{line}: {e}");
        }
    }
    for line in [
        "function",
        "function rollback f 0",
        "function logs f --limit 501",
        "--env a --api-url http://b function list",
        "function deploy --rebuild --no-build",
    ] {
        let words = ["orama"].into_iter().chain(line.split(' '));
        let e = Cli::try_parse_from(words).err();
        assert_eq!(e.map(|e| e.exit_code()), Some(2), "{line}");
    }
}

#[tokio::test]
async fn lists_are_tables_for_people_and_bodies_for_programs() {
    let body = format!(r#"{{"functions":[{}],"count":1}}"#, function(3));
    let server = Scripted::start(vec![(200, body.clone()), (200, body.clone())]).await;
    let ran = run(&server.url, &["function", "list"]).await;
    ran.result.unwrap();
    assert_eq!(
        ran.out,
        "NAME  VERSION  STATUS  MEMORY  TIMEOUT  PUBLIC\nf     3        active  64MB    30s      yes\n\nTotal: 1 function(s)\n"
    );
    let ran = run(&server.url, &["function", "list", "--json"]).await;
    assert_eq!(ran.out, format!("{body}\n"));
    let empty = r#"{"functions":[],"count":0}"#.to_owned();
    let server = Scripted::start(vec![(200, empty)]).await;
    let ran = run(&server.url, &["function", "list"]).await;
    assert_eq!(ran.out, "No functions deployed.\n");
}

#[tokio::test]
async fn without_a_credential_nothing_is_sent_but_a_public_call() {
    let server = Scripted::start(vec![(200, "{}".into())]).await;
    let dir = tempfile::tempdir().unwrap();
    for words in [
        ["function", "list"],
        ["namespace", "list"],
        ["secrets", "list"],
        ["auth", "whoami"],
    ] {
        let ran = run_in(Home::at(dir.path()), &server.url, &words).await;
        assert_eq!(
            ran.result.unwrap_err().exit(),
            Some(Exit::Auth),
            "{words:?}"
        );
    }
    assert_eq!(server.requests().len(), 0);
    let ran = run_in(
        Home::at(dir.path()),
        &server.url,
        &["function", "invoke", "f"],
    )
    .await;
    ran.result.unwrap();
    assert!(!server.requests()[0].contains("authorization"));
}

#[tokio::test]
async fn an_invocation_prints_id_duration_and_output() {
    let server = Scripted::start(vec![(200, "{\"a\":1}".into()), (200, "1".into())]).await;
    let words = ["function", "invoke", "f@2", "--data", "{\"name\": \"W\"}"];
    let ran = run(&server.url, &words).await;
    ran.result.unwrap();
    assert_eq!(
        ran.out,
        "Request ID:  hdr\nDuration:    7 ms\nOutput:\n{\"a\":1}\n"
    );
    assert_eq!(ran.err, "Invoking function \"f@2\"...\n");
    assert!(server.requests()[0].starts_with("POST /v1/functions/f@2/invoke "));
    assert!(server.requests()[0].ends_with("{\"name\": \"W\"}"));
    let words = [
        "function",
        "invoke",
        "f",
        "--namespace",
        "default",
        "--json",
    ];
    let ran = run(&server.url, &words).await;
    assert_eq!(ran.out, "1\n");
    assert!(server.requests()[1].starts_with("POST /v1/invoke/default/f "));
    assert!(
        server.requests()[1].ends_with("\r\n\r\n{}"),
        "the default input"
    );
}

#[tokio::test]
async fn a_failed_function_is_exit_1_and_points_at_its_log() {
    for (status, code) in [(500, "FUNCTION_EXECUTION_FAILED"), (504, "TIMEOUT")] {
        let body = format!(
            r#"{{"ok":false,"error":{{"code":"{code}","message":"boom","retryable":false,"request_id":"r9"}}}}"#
        );
        let server = Scripted::start(vec![(status, body)]).await;
        let ran = run(&server.url, &["function", "invoke", "f@1"]).await;
        let error = ran.result.unwrap_err();
        assert_eq!(error.exit(), Some(Exit::Error));
        assert_eq!(
            error.to_string(),
            format!("API error ({status}): boom [{code}] (request r9)")
        );
        let hint = error.hint().unwrap();
        assert!(
            hint.contains("orama function logs f --request-id r9"),
            "{hint}"
        );
        assert_eq!(ran.out, "");
    }
}

#[tokio::test]
async fn a_deploy_sends_the_form_of_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let yaml = "name: f\nmemory: 128\ninternal: true\nenv:\n  A: \"1\"\n";
    std::fs::write(dir.path().join("function.yaml"), yaml).unwrap();
    std::fs::write(dir.path().join("function.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let body = format!(
        r#"{{"message":"Function deployed successfully","function":{}}}"#,
        function(1)
    );
    let server = Scripted::start(vec![(201, body)]).await;
    let path = dir.path().to_str().unwrap();
    let ran = run(&server.url, &["function", "deploy", path]).await;
    ran.result.unwrap();
    assert!(
        ran.out.starts_with("Deployed f version 1 (8 bytes)\n"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("bafk") && ran.out.contains("orama function invoke f"));
    let request = &server.requests()[0];
    assert!(request.starts_with("POST /v1/functions HTTP/1.1"));
    let mut from = 0;
    for part in [
        "name=\"name\"\r\n\r\nf\r\n",
        "name=\"is_public\"\r\n\r\nfalse\r\n",
        "name=\"memory_limit_mb\"\r\n\r\n128\r\n",
        "name=\"timeout_seconds\"\r\n\r\n30\r\n",
        "name=\"retry_count\"\r\n\r\n0\r\n",
        "name=\"retry_delay_seconds\"\r\n\r\n5\r\n",
        "name=\"metadata\"\r\n\r\n{\"is_internal\":true,\"env_vars\":{\"A\":\"1\"}}\r\n",
        "name=\"wasm\"; filename=\"function.wasm\"\r\n",
    ] {
        let at = request[from..].find(part);
        from += at.unwrap_or_else(|| panic!("{part} in {request}"));
    }
    assert!(!request.contains("name=\"namespace\""));
}

#[tokio::test]
async fn a_prebuilt_module_is_deployed_with_a_warning_and_its_absence_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    std::fs::write(dir.path().join("function.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let wasm = std::fs::File::options()
        .write(true)
        .open(dir.path().join("function.wasm"))
        .unwrap();
    wasm.set_modified(std::time::UNIX_EPOCH).unwrap();
    std::fs::write(dir.path().join("function.yaml"), "name: f\n").unwrap();
    let body = format!(r#"{{"message":"","function":{}}}"#, function(1));
    let server = Scripted::start(vec![(201, body)]).await;
    let ran = run(&server.url, &["function", "deploy", path]).await;
    ran.result.unwrap();
    assert!(
        ran.err.contains("warning: ") && ran.err.contains("as it is"),
        "{}",
        ran.err
    );

    std::fs::remove_file(dir.path().join("function.wasm")).unwrap();
    let ran = run(&server.url, &["function", "deploy", path]).await;
    let error = ran.result.unwrap_err().to_string();
    assert!(error.contains("nothing to build"), "{error}");
    std::fs::write(dir.path().join("function.wasm"), b"\x7fELF").unwrap();
    let ran = run(&server.url, &["function", "deploy", path, "--no-build"]).await;
    let error = ran.result.unwrap_err().to_string();
    assert!(error.contains("not a WebAssembly module"), "{error}");
    assert_eq!(server.requests().len(), 1);
}

fn record(id: &str, status: &str, error: &str) -> String {
    format!(
        r#"{{"id":"{id}","request_id":"r{id}","namespace":"default","function":"f","version":1,"attempt":1,"trigger_type":"http","caller_wallet":"","input_size":2,"output_size":3,"started_at":"2026-01-02T03:04:05.678901Z","completed_at":"2026-01-02T03:04:05.7Z","duration_ms":4,"status":"{status}","error_message":"{error}","memory_used_mb":1,"wasm_logs":[{{"level":"info","message":"hi\u001b[2J","timestamp":"2026-01-02T03:04:05.68Z"}}],"dropped_log_lines":0}}"#
    )
}

fn logs(records: &[String]) -> String {
    format!(
        r#"{{"name":"f","namespace":"default","invocations":[{}],"logs":[],"count":{}}}"#,
        records.join(","),
        records.len()
    )
}

#[tokio::test]
async fn logs_read_from_old_to_new() {
    let body = logs(&[record("2", "error", "boom"), record("1", "success", "")]);
    let server = Scripted::start(vec![(200, body.clone()), (200, body)]).await;
    let ran = run(&server.url, &["function", "logs", "f", "--request-id", "x"]).await;
    ran.result.unwrap();
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(
        lines[0],
        "[2026-01-02T03:04:05.678Z] success  request=r1 duration=4ms version=1 trigger=http input=2B output=3B memory=1MB"
    );
    assert_eq!(lines[1], "    [2026-01-02T03:04:05.68Z] info: hi\\u{1b}[2J");
    assert_eq!(lines[3], "    error: boom");
    assert_eq!(lines.last(), Some(&"Showing 2 invocation(s)"));
    assert!(server.requests()[0].contains("/v1/functions/f/logs?limit=50&request_id=x "));
    let ran = run(&server.url, &["function", "logs", "f", "--wasm-only"]).await;
    assert!(ran.out.ends_with("\nShowing 2 log(s)\n"), "{}", ran.out);
}

#[tokio::test]
async fn following_goes_on_through_an_outage_and_repeats_nothing() {
    let unavailable = r#"{"error":{"code":"SERVICE_UNAVAILABLE","message":"draining"}}"#;
    let server = Scripted::start(vec![
        (
            200,
            logs(&[record("2", "success", ""), record("1", "success", "")]),
        ),
        (503, unavailable.into()),
        (503, unavailable.into()),
        (
            200,
            logs(&[record("3", "timeout", "function execution timeout")]),
        ),
        (
            404,
            r#"{"error":{"code":"NOT_FOUND","message":"deleted"}}"#.into(),
        ),
    ])
    .await;
    let ran = run(&server.url, &["--json", "function", "logs", "f", "-f"]).await;
    assert_eq!(ran.result.unwrap_err().exit(), Some(Exit::NotFound));
    let ids: Vec<String> = ran
        .out
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["id"].to_string())
        .collect();
    assert_eq!(ids, ["\"1\"", "\"2\"", "\"3\""]);
    assert_eq!(ran.err.matches("draining").count(), 1, "{}", ran.err);
    let asked: Vec<String> = server
        .requests()
        .iter()
        .map(|r| r.lines().next().unwrap_or("").to_owned())
        .collect();
    assert!(asked[0].contains("?limit=50 "), "{asked:?}");
    assert!(asked[1].contains("?limit=500&after=2 "), "{asked:?}");
    assert!(asked[4].contains("?limit=500&after=3 "), "{asked:?}");

    // A first question that fails is not an outage but a mistake.
    let server = Scripted::start(vec![(503, unavailable.into())]).await;
    let ran = run(&server.url, &["function", "logs", "f", "-f"]).await;
    assert_eq!(ran.result.unwrap_err().exit(), Some(Exit::Unavailable));
}

#[tokio::test]
async fn a_login_is_stored_only_when_the_gateway_accepts_it() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path());
    let answers = vec![
        (401, r#"{"error":"invalid API key"}"#.to_owned()),
        (200, r#"{"authenticated":false}"#.to_owned()),
        (
            200,
            r#"{"authenticated":true,"method":"api_key","namespace":"team"}"#.to_owned(),
        ),
        (200, r#"{"authenticated":true,"method":"admin"}"#.to_owned()),
    ];
    let server = Scripted::start(answers).await;
    let stored = || {
        let all = Credentials::load(&home).unwrap();
        all.key(&server.url, None).map(|c| c.api_key().to_owned())
    };
    let login = ["auth", "login", "--api-key", "ak_new:team"];
    for _ in 0..2 {
        let ran = run_in(home.clone(), &server.url, &login).await;
        assert_eq!(ran.result.unwrap_err().exit(), Some(Exit::Auth));
        assert_eq!(stored(), None);
    }
    let ran = run_in(home.clone(), &server.url, &login).await;
    ran.result.unwrap();
    assert!(!ran.out.contains("ak_new"), "{}", ran.out);
    assert_eq!(stored().as_deref(), Some("ak_new:team"));
    let words = ["auth", "login", "--admin-token", "op"];
    run_in(home.clone(), &server.url, &words)
        .await
        .result
        .unwrap();
    let all = Credentials::load(&home).unwrap();
    assert_eq!(all.admin_token(&server.url), Some("op"));
    let ran = run_in(home.clone(), &server.url, &["auth", "logout"]).await;
    assert!(ran.out.contains("Removed 2"), "{}", ran.out);
    assert_eq!(stored(), None);
}

#[tokio::test]
async fn the_operator_s_commands_use_the_operator_s_token() {
    let made = r#"{"namespace":"team-a","api_key":"ak_x:team-a"}"#;
    let keys =
        r#"{"keys":[{"id":"k1","label":"ci","created_at":"2026-01-02T03:04:05Z"}],"count":1}"#;
    let server = Scripted::start(vec![(201, made.into()), (200, keys.into())]).await;
    let ran = run(&server.url, &["namespace", "create", "team-a"]).await;
    ran.result.unwrap();
    assert!(ran.out.contains("ak_x:team-a"));
    let ran = run(&server.url, &["key", "list"]).await;
    ran.result.unwrap();
    assert!(
        ran.out.contains("k1  ci     2026-01-02T03:04:05Z"),
        "{}",
        ran.out
    );
    let requests = server.requests();
    assert!(requests[0].contains("authorization: Bearer operator\r\n"));
    assert!(requests[0].ends_with(r#"{"name":"team-a"}"#));
    assert!(requests[1].starts_with("GET /v1/admin/namespaces/default/keys "));
}

/// A cluster of two as the gateway tells it; the second may be gone.
fn cluster(second: &str) -> String {
    serde_json::json!({
        "cluster_id": "00112233445566778899aabbccddeeff",
        "epoch": 9,
        "answered_by": "n1",
        "nodes": [
            {"id": "aaaaaaaaaaaaaaaa", "name": "n1", "addresses": ["/ip4/10.0.0.1/tcp/4001"],
             "role": "leader", "state": "active", "version": "0.1.0",
             "load": {"running": 3, "queued": 1, "capacity": 64, "latency_us": 100, "closed": false}},
            {"id": "bbbbbbbbbbbbbbbb", "name": "n2", "addresses": ["/ip4/10.0.0.2/tcp/4001", "/ip6/::2/tcp/4001"],
             "role": "voter", "state": second, "version": "0.1.0"},
        ],
        "groups": [
            {"id": 0, "name": "meta", "leader": "aaaaaaaaaaaaaaaa", "term": 4, "last": 120, "applied": 120,
             "voters": ["bbbbbbbbbbbbbbbb", "aaaaaaaaaaaaaaaa"], "learners": []},
            {"id": 1, "name": "data-1", "leader": null, "term": 2, "last": 10, "applied": 7,
             "voters": ["aaaaaaaaaaaaaaaa"], "learners": ["bbbbbbbbbbbbbbbb"]},
        ],
        "silent": [],
    })
    .to_string()
}

#[tokio::test]
async fn the_state_of_a_cluster_is_a_verdict_and_two_tables() {
    let sick = cluster("unreachable");
    let server = Scripted::start(vec![(200, sick.clone()), (200, sick.clone())]).await;
    let ran = run(&server.url, &["cluster", "status"]).await;
    let error = ran.result.unwrap_err();
    assert_eq!(error.exit(), Some(Exit::Error));
    assert_eq!(
        error.to_string(),
        "the cluster is not well: group data-1 has no leader"
    );
    assert_eq!(
        ran.out,
        "\
PROBLEM: group data-1 has no leader.
Also: 1 of 2 nodes answer: n2 cannot be reached.
Also: group meta cannot lose another node.

NAME  ROLE    STATE        RUNNING/QUEUED  VERSION  ADDRESS                    ID
n1    leader  active       3/1             0.1.0    /ip4/10.0.0.1/tcp/4001     aaaaaaaa
n2    voter   UNREACHABLE  -               0.1.0    /ip4/10.0.0.2/tcp/4001 +1  bbbbbbbb

GROUP   LEADER  TERM  APPLIED/LAST  VOTERS    LEARNERS
meta    n1      4     120/120       n1 n2(!)  -
data-1  NONE    2     7/10 (-3)     n1        n2(!)

Cluster 00112233, epoch 9, answered by n1.
"
    );
    assert!(server.requests()[0].starts_with("GET /v1/admin/cluster "));
    assert!(server.requests()[0].contains("Bearer operator"));
    // Programs get the body, and the same exit code.
    let ran = run(&server.url, &["cluster", "status", "--json"]).await;
    assert_eq!(ran.out, format!("{sick}\n"));
    assert_eq!(ran.result.unwrap_err().exit(), Some(Exit::Error));
}

#[tokio::test]
async fn a_healthy_cluster_is_exit_0() {
    let well = cluster("active").replace("\"leader\":null", "\"leader\":\"bbbbbbbbbbbbbbbb\"");
    let server = Scripted::start(vec![(200, well)]).await;
    let ran = run(&server.url, &["cluster", "status"]).await;
    ran.result.unwrap();
    assert!(
        ran.out
            .starts_with("2 of 2 nodes answer; every group has a leader.\n"),
        "{}",
        ran.out
    );
}

#[tokio::test]
async fn operations_on_the_cluster_name_node_and_group() {
    let message = |text: &str| (200, format!(r#"{{"message":"{text}"}}"#));
    let server = Scripted::start(vec![
        message("draining"),
        message("active"),
        message("n2 leads"),
        message("left"),
    ])
    .await;
    let ran = run(&server.url, &["cluster", "drain", "n2"]).await;
    ran.result.unwrap();
    assert_eq!(ran.out, "draining\n");
    run(&server.url, &["cluster", "drain", "n2", "--undo"])
        .await
        .result
        .unwrap();
    run(&server.url, &["cluster", "transfer", "data-1", "n2"])
        .await
        .result
        .unwrap();
    let ran = run(&server.url, &["cluster", "leave", "n2", "--yes"]).await;
    ran.result.unwrap();
    assert_eq!(ran.out, "Node \"n2\" has left the cluster.\n");
    let asked = server.requests();
    assert!(asked[0].starts_with("POST /v1/admin/cluster/nodes/n2/drain "));
    assert!(asked[0].ends_with(r#"{"undo":false}"#));
    assert!(asked[1].ends_with(r#"{"undo":true}"#));
    assert!(asked[2].starts_with("POST /v1/admin/cluster/groups/data-1/transfer "));
    assert!(asked[2].ends_with(r#"{"node":"n2"}"#));
    assert!(asked[3].starts_with("POST /v1/admin/cluster/nodes/n2/leave "));
}

#[tokio::test]
async fn leaving_is_watched_until_the_node_is_gone() {
    // Another node has its name now: what was watched is the id.
    let gone = cluster("active").replace("bbbbbbbbbbbbbbbb", "cccccccccccccccc");
    let server = Scripted::start(vec![
        (202, r#"{"message":"is leaving"}"#.into()),
        (200, cluster("leaving")),
        (200, gone),
    ])
    .await;
    let ran = run(&server.url, &["cluster", "leave", "n2", "--yes"]).await;
    ran.result.unwrap();
    assert_eq!(
        ran.err,
        "n2 is leaving: it still holds 2 group(s) (meta and data-1) and leads 0\n"
    );
    assert_eq!(ran.out, "Node \"n2\" has left the cluster.\n");
}
