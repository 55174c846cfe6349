//! Running a node: draining, master keys, and what must never be readable.

use std::path::Path;
use std::time::{Duration, Instant};

use orama_tests::{Deploy, Node, NodeBuilder, guests, master_key};
use reqwest::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_running_invocations_finish() {
    let mut node = Node::start().await;
    let tenant = node.tenant("drain").await;
    tenant.deploy(Deploy::new("sleep", &guests::c("ops"))).await;
    tenant.invoke("sleep", "sleep 1").await.output();
    let running = tokio::spawn({
        let tenant = tenant.clone();
        async move { tenant.invoke("sleep", "sleep 1500").await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    node.terminate();
    // Readiness goes before the work ends.
    while node.is_ready().await {
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "readiness must go at once"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let reply = running.await.unwrap();
    assert_eq!(reply.output(), br#"{"slept":1500}"#);
    let id = reply.request_id();
    let status = node.wait(Duration::from_secs(20)).await;
    assert_eq!(status.code(), Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    // The record of the last invocation was written before the end.
    node.start_again().await;
    let logs = tenant.logs("sleep").await;
    assert!(logs.invocations.iter().any(|r| r.request_id.as_str() == id));
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_is_bounded() {
    let mut node = Node::builder()
        .arg("--drain-timeout")
        .arg("1")
        .start()
        .await;
    let tenant = node.tenant("bounded").await;
    tenant.deploy(Deploy::new("sleep", &guests::c("ops"))).await;
    let running = tokio::spawn({
        let tenant = tenant.clone();
        async move { tenant.invoke_or_die("sleep", "sleep 25000").await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    node.terminate();
    let began = Instant::now();
    node.wait(Duration::from_secs(15)).await;
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    if let Some(reply) = running.await.unwrap() {
        assert_ne!(reply.status, 200);
    }
}

async fn refused(builder: NodeBuilder, words: &[&str]) {
    let refusal = builder
        .try_start()
        .await
        .err()
        .expect("it must refuse to start");
    let status = refusal.status.expect("it must end by itself");
    assert!([1, 2].contains(&status.code().unwrap_or(-1)), "{refusal:?}");
    for word in words {
        assert!(
            refusal.stderr.contains(word),
            "should say {word:?}: {}",
            refusal.stderr
        );
    }
    assert!(!refusal.stderr.contains("panicked"), "{}", refusal.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_are_wrong_are_named() {
    refused(
        Node::builder().without_env("ORAMA_MASTER_KEY"),
        &["ORAMA_MASTER_KEY"],
    )
    .await;
    refused(
        Node::builder().without_env("ORAMA_ADMIN_TOKEN"),
        &["ORAMA_ADMIN_TOKEN"],
    )
    .await;
    refused(
        Node::builder().env("ORAMA_MASTER_KEY", "k1:c2hvcnQ="),
        &["ORAMA_MASTER_KEY", "32"],
    )
    .await;
    refused(Node::builder().arg("--frobnicate"), &["--frobnicate"]).await;
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(config.path(), "http_adr: 127.0.0.1:0\n").unwrap();
    let path = config.path().display().to_string();
    refused(Node::builder().arg("--config").arg(path), &["http_adr"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_wrong_master_key_refuses_to_start() {
    let right = master_key("house");
    let mut node = Node::builder()
        .env("ORAMA_MASTER_KEY", &right)
        .start()
        .await;
    let tenant = node.tenant("sealed").await;
    tenant
        .deploy(Deploy::new("reader", &guests::secret_reader(&["malloc"])))
        .await;
    tenant.set_secret("KEY", "value").await;
    node.stop().await;
    for wrong in [master_key("garden"), master_key("house")] {
        node.reconfigure(|b| b.env("ORAMA_MASTER_KEY", wrong));
        let refusal = node
            .try_start_again()
            .await
            .expect_err("it must refuse to start");
        assert_eq!(
            refusal.status.and_then(|s| s.code()),
            Some(1),
            "{refusal:?}"
        );
        assert!(
            refusal.stderr.contains("house"),
            "it names the key: {}",
            refusal.stderr
        );
    }
    node.reconfigure(|b| b.env("ORAMA_MASTER_KEY", right));
    node.start_again().await;
    assert_eq!(
        tenant.invoke("reader", "KEY").await.json()["output"],
        "mvalue"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_key_is_rotated() {
    let (old, new) = (master_key("old"), master_key("new"));
    let mut node = Node::builder().env("ORAMA_MASTER_KEY", &old).start().await;
    let mut tenants = Vec::new();
    for n in 0..3 {
        let tenant = node.tenant(&format!("tenant-{n}")).await;
        tenant
            .deploy(Deploy::new("reader", &guests::secret_reader(&["malloc"])))
            .await;
        tenant.set_secret("KEY", &format!("value-{n}")).await;
        tenants.push(tenant);
    }
    let user = node.user(&tenants[0], "alice", json!({})).await;
    let before = node.master_keys().await;
    assert_eq!(before.active, "old");
    assert!(before.wrapped_by["old"] >= 3, "{before:?}");

    // Both are given, the new one first; the old one is still in use until the rotation.
    node.stop().await;
    node.reconfigure(|b| b.env("ORAMA_MASTER_KEY", format!("{new},{old}")));
    node.start_again().await;
    let between = node.master_keys().await;
    assert_eq!(
        (between.active.as_str(), between.wrapped_by.get("old")),
        ("new", before.wrapped_by.get("old"))
    );
    let rotated = node
        .admin(Method::POST, "/v1/admin/master-key/rotate", None)
        .await
        .expect(200);
    let rotated: orama_proto::api::MasterKeyStatus = rotated.parse();
    assert_eq!(rotated.rewrapped, before.wrapped_by["old"]);
    assert_eq!(
        rotated.wrapped_by.get("old").copied().unwrap_or(0),
        0,
        "{rotated:?}"
    );
    // A second call has nothing to do.
    let again = node
        .admin(Method::POST, "/v1/admin/master-key/rotate", None)
        .await
        .expect(200);
    assert_eq!(again.json()["rewrapped"], 0);

    // The old key is not needed any more; after a crash, too.
    node.kill();
    node.reconfigure(|b| b.env("ORAMA_MASTER_KEY", &new));
    node.start_again().await;
    for (n, tenant) in tenants.iter().enumerate() {
        let reply = tenant.invoke("reader", "KEY").await;
        assert_eq!(reply.json()["output"], format!("mvalue-{n}"));
        tenant.set_secret("KEY", "changed").await;
    }
    // What was signed before is valid still.
    assert_eq!(
        user.invoke("reader", "KEY").await.json()["output"],
        "mchanged"
    );
    node.stop().await;
    node.reconfigure(|b| b.env("ORAMA_MASTER_KEY", &old));
    let refusal = node
        .try_start_again()
        .await
        .expect_err("the old key opens nothing now");
    assert!(refusal.stderr.contains("new"), "{}", refusal.stderr);
}

/// Files under `dir` that hold one of these texts.
fn holders(dir: &Path, texts: &[(&str, Vec<u8>)]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holders(&path, texts));
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        for (what, text) in texts {
            if bytes.windows(text.len()).any(|w| w == text.as_slice()) {
                found.push(format!("{what} in {}", path.display()));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_written_in_the_clear() {
    let key = master_key("kept");
    let mut node = Node::builder()
        .env("ORAMA_MASTER_KEY", &key)
        .env("ORAMA_LOG", "debug")
        .start()
        .await;
    let tenant = node.tenant("clear").await;
    let user = node.user(&tenant, "alice", json!({"k": "v"})).await;
    const VALUE: &str = "MARKER-VALUE-5f2c9d-must-not-be-found";
    const ENV: &str = "MARKER-ENV-77aa31-must-not-be-in-logs";
    tenant
        .deploy(Deploy::new("reader", &guests::secret_reader(&["malloc"])).env("SETTING", ENV))
        .await;
    tenant.set_secret("MARKED", VALUE).await;
    // It is read, it is refused, it is replaced; through key and token.
    assert_eq!(
        tenant.invoke("reader", "MARKED").await.json()["output"],
        format!("m{VALUE}")
    );
    assert_eq!(
        user.invoke("reader", "MARKED").await.json()["output"],
        format!("m{VALUE}")
    );
    tenant
        .json(
            Method::PUT,
            "/v1/functions/secrets",
            &json!({"name": "bad/name", "value": VALUE}),
        )
        .await
        .expect(400);
    tenant
        .json(
            Method::PUT,
            "/v1/functions/secrets",
            &json!({"name": "MARKED", "value": VALUE, "x": 1}),
        )
        .await;
    tenant.set_secret("MARKED", &format!("{VALUE}-2")).await;
    tenant
        .get(&format!("/v1/functions?api_key={}", tenant.credential))
        .await;
    node.admin(Method::POST, "/v1/admin/master-key/rotate", None)
        .await
        .expect(200);
    let metrics = node.metrics_text().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    node.stop().await;

    let master = key.split_once(':').unwrap().1.to_owned();
    let raw_master =
        base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &master).unwrap();
    let texts = [
        ("the secret", VALUE.as_bytes().to_vec()),
        ("the API key", tenant.credential.clone().into_bytes()),
        ("the token", user.credential.clone().into_bytes()),
        (
            "the administrator's token",
            node.admin_token().as_bytes().to_vec(),
        ),
        ("the master key in base64", master.into_bytes()),
        ("the master key", raw_master),
    ];
    assert_eq!(holders(node.data_dir(), &texts), Vec::<String>::new());
    let said = format!("{}{}{metrics}", node.log(), node.stdout());
    for (what, text) in &texts {
        if let Ok(text) = std::str::from_utf8(text) {
            assert!(
                !said.contains(text),
                "{what} is in the log, on stdout or in the metrics"
            );
        }
    }
    assert!(
        !said.contains(ENV),
        "a value of the environment is in the log or in the metrics"
    );
    // The directory is its owner's alone.
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(node.data_dir()).unwrap());
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}
