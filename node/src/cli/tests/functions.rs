//! `orama function`, whole commands.

use crate::cli::error::Exit;
use crate::cli::harness::run;
use crate::cli::scripted::Scripted;

fn function(version: u64) -> String {
    format!(
        r#"{{"id":"i","name":"f","namespace":"default","version":{version},"wasm_cid":"bafk","wasm_bytes":8,"memory_limit_mb":64,"timeout_seconds":30,"is_public":true,"retry_count":0,"retry_delay_seconds":5,"status":"active","created_at":"2026-01-02T03:04:05.678901Z","updated_at":"2026-01-02T03:04:05Z","created_by":"default"}}"#
    )
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
