//! The command line: exit codes, tables for people, JSON for programs.

use std::time::Duration;

use orama_tests::{Deploy, Node, Orama, Tenant, guests};
use serde_json::json;

async fn tenant(node: &Node, namespace: &str) -> Tenant {
    let tenant = node.tenant(namespace).await;
    tenant.deploy(Deploy::new("echo", &guests::echo())).await;
    tenant
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes() {
    let node = Node::start().await;
    let tenant = tenant(&node, "codes").await;
    let orama = Orama::of(&tenant);
    orama.run(&["function", "list"]).await.expect_code(0);
    orama.run(&["--help"]).await.expect_code(0);
    for usage in [
        &["function", "list", "--frobnicate"][..],
        &["frobnicate"],
        &["function", "invoke"],
    ] {
        orama.run(usage).await.expect_code(2);
    }
    let stranger = Orama::of(&tenant.with_credential("ak_wrong:codes"));
    stranger.run(&["function", "list"]).await.expect_code(3);
    let nobody = Orama::new().env("ORAMA_API_URL", node.url());
    let said = nobody.run(&["function", "list"]).await.expect_code(3);
    assert!(said.stderr.contains("authentication required"), "{said:?}");
    for missing in [
        &["function", "get", "nobody"][..],
        &["function", "invoke", "nobody"],
        &["function", "logs", "nobody"],
        &["function", "versions", "nobody"],
        &["function", "delete", "nobody", "--force"],
        &["function", "secrets", "delete", "NOBODY", "--force"],
        &["function", "invoke", "echo@99"],
    ] {
        orama.run(missing).await.expect_code(4);
    }
    // Nobody listens on port 1.
    let away = Orama::new()
        .env("ORAMA_API_URL", "http://127.0.0.1:1")
        .env("ORAMA_TOKEN", "x");
    let said = away.run(&["function", "list"]).await.expect_code(5);
    assert!(
        said.stderr.contains("127.0.0.1:1"),
        "it says whom it could not reach: {said:?}"
    );
    // A function that fails is an error, and its reason is shown.
    tenant.deploy(Deploy::new("fails", &guests::c("ops"))).await;
    let said = orama
        .run(&["function", "invoke", "fails", "--data", "exit 3"])
        .await
        .expect_code(1);
    assert!(said.all().contains("code 3"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_json() {
    let node = Node::start().await;
    let tenant = tenant(&node, "tables").await;
    let orama = Orama::of(&tenant);

    let table = orama.ok(&["function", "list"]).await;
    let head = table.lines().next().unwrap();
    for column in ["NAME", "VERSION", "STATUS", "MEMORY", "TIMEOUT", "PUBLIC"] {
        assert!(head.contains(column), "{table}");
    }
    let row = table.lines().find(|l| l.contains("echo")).unwrap();
    for cell in ["1", "active", "64MB", "30s", "no"] {
        assert!(row.split_whitespace().any(|w| w == cell), "{cell}: {table}");
    }
    assert!(table.contains("Total: 1 function(s)"), "{table}");
    let list = orama.json(&["function", "list"]).await;
    assert_eq!(list["functions"][0]["name"], "echo", "{list}");
    assert_eq!(list["count"], 1);

    let got = orama.json(&["function", "get", "echo"]).await;
    assert_eq!((&got["name"], &got["version"]), (&json!("echo"), &json!(1)));
    let pretty: serde_json::Value =
        serde_json::from_str(&orama.ok(&["function", "get", "echo"]).await).unwrap();
    assert_eq!(pretty["name"], "echo");

    let said = orama
        .ok(&["function", "invoke", "echo", "--data", r#"{"a":1}"#])
        .await;
    for words in ["Request ID:", "Duration:", "Output:"] {
        assert!(said.contains(words), "{said}");
    }
    orama
        .json(&["function", "invoke", "echo", "--data", r#"{"a":1}"#])
        .await;
    let default = orama.ok(&["function", "invoke", "echo"]).await;
    assert!(
        default.contains("{}"),
        "the default data is an empty object: {default}"
    );

    let versions = orama.ok(&["function", "versions", "echo"]).await;
    assert!(
        versions.contains("VERSION")
            && versions.contains("WASM CID")
            && versions.contains("Total: 1 version(s)"),
        "{versions}"
    );
    assert_eq!(
        orama.json(&["function", "versions", "echo"]).await["count"],
        1
    );
    tokio::time::sleep(Duration::from_millis(500)).await;
    let logs = orama
        .json(&["function", "logs", "echo", "--limit", "1"])
        .await;
    assert_eq!(logs["count"], 1, "{logs}");

    // Secrets: inline, from a file, listed by name only.
    orama
        .ok(&["function", "secrets", "set", "INLINE", "one"])
        .await;
    let file = orama.home().join("key.p8");
    std::fs::write(&file, "line 1\nline 2\n").unwrap();
    let set = orama
        .ok(&[
            "function",
            "secrets",
            "set",
            "FILE",
            "--from-file",
            &file.display().to_string(),
        ])
        .await;
    assert!(set.contains("Secret \"FILE\" set successfully."), "{set}");
    let list = orama.ok(&["function", "secrets", "list"]).await;
    assert!(
        list.contains("Secrets (2):") && list.contains("FILE") && list.contains("INLINE"),
        "{list}"
    );
    assert!(!list.contains("line 1"));
    assert_eq!(
        orama.json(&["function", "secrets", "list"]).await["secrets"],
        json!(["FILE", "INLINE"])
    );
    assert_eq!(
        orama.ok(&["secrets", "list"]).await,
        list,
        "the short form is an alias"
    );
    let both = ["function", "secrets", "set", "X", "one", "--from-file", "y"];
    assert_ne!(orama.run(&both).await.code, 0);
    assert_ne!(
        orama.run(&["function", "secrets", "set", "X"]).await.code,
        0
    );
    tenant
        .deploy(Deploy::new("reader", &guests::secret_reader(&["malloc"])))
        .await;
    assert_eq!(
        tenant.invoke("reader", "FILE").await.json()["output"],
        "mline 1\nline 2\n"
    );
    orama
        .ok(&["function", "secrets", "delete", "FILE", "--force"])
        .await;
    assert_eq!(tenant.secrets().await, ["INLINE"]);

    // Disable, enable, rollback, delete.
    orama.ok(&["function", "disable", "echo"]).await;
    orama
        .run(&["function", "invoke", "echo"])
        .await
        .expect_code(4);
    orama.ok(&["function", "enable", "echo"]).await;
    tenant
        .deploy(Deploy::new("echo", &guests::constant("2")))
        .await;
    orama.ok(&["function", "rollback", "echo", "1"]).await;
    assert_eq!(tenant.versions("echo").await[0].version, 3);
    assert_eq!(tenant.invoke("echo", "7").await.output(), b"7");
    // Without a terminal and without --force nothing is deleted.
    assert_ne!(orama.run(&["function", "delete", "echo"]).await.code, 0);
    assert_eq!(tenant.functions().await.len(), 2);
    let gone = orama.ok(&["function", "delete", "echo", "--force"]).await;
    assert!(gone.contains("Function deleted successfully"), "{gone}");
    assert_eq!(tenant.functions().await.len(), 1);

    let who = orama.json(&["auth", "whoami"]).await;
    assert_eq!(who["namespace"], "tables");
    assert!(!who.to_string().contains(&tenant.credential));
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_follow() {
    let node = Node::start().await;
    let tenant = node.tenant("follow").await;
    tenant.deploy(Deploy::new("talk", &guests::c("ops"))).await;
    let orama = Orama::of(&tenant);
    let mut follower = orama
        .command(orama.home(), &["function", "logs", "talk", "--follow"])
        .spawn()
        .unwrap();
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(
        follower.stdout.take().unwrap(),
    ));
    for n in 0..3 {
        let input = format!("hostcalls orama none none none followed-{n} 0");
        tenant.invoke("talk", input).await.output();
        let marker = format!("followed-{n}");
        let seen = tokio::time::timeout(Duration::from_secs(15), async {
            loop {
                let line = lines
                    .next_line()
                    .await
                    .unwrap()
                    .expect("it goes on following");
                if line.contains(&marker) {
                    return;
                }
            }
        });
        seen.await.unwrap_or_else(|_| panic!("{marker} never came"));
    }
    follower.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn environments_and_login() {
    let node = Node::start().await;
    let tenant = tenant(&node, "envs").await;
    let orama = Orama::new();
    orama.ok(&["env", "add", "test", &node.url()]).await;
    orama.ok(&["env", "use", "test"]).await;
    assert!(orama.ok(&["env", "current"]).await.contains("test"));
    assert!(orama.ok(&["env", "list"]).await.contains(&node.url()));
    orama.run(&["function", "list"]).await.expect_code(3);
    // The key comes through stdin, so that it is in no process list.
    let mut login = orama
        .command(orama.home(), &["auth", "login"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let line = format!("{}\n", tenant.credential);
    let mut stdin = login.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, line.as_bytes())
        .await
        .unwrap();
    drop(stdin);
    let output = login.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(orama.ok(&["function", "list"]).await.contains("echo"));
    // The file with the credential is its owner's alone.
    let file = orama.home().join(".orama/credentials.json");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    orama.ok(&["auth", "logout"]).await;
    orama.run(&["function", "list"]).await.expect_code(3);
    orama.ok(&["env", "use", "local"]).await;
    orama.ok(&["env", "remove", "test"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn administration() {
    let node = Node::start().await;
    let admin = Orama::new()
        .env("ORAMA_API_URL", node.url())
        .env("ORAMA_TOKEN", node.admin_token())
        .env("ORAMA_ADMIN_TOKEN", node.admin_token());
    let made = admin.json(&["namespace", "create", "fresh"]).await;
    assert_eq!(made["namespace"], "fresh");
    let key = made["api_key"].as_str().unwrap().to_owned();
    let tenant = Orama::new()
        .env("ORAMA_API_URL", node.url())
        .env("ORAMA_TOKEN", key);
    assert!(
        tenant
            .ok(&["function", "list"])
            .await
            .contains("No functions deployed.")
    );
    assert!(admin.ok(&["namespace", "list"]).await.contains("fresh"));
    let made = admin.json(&["key", "create", "-n", "fresh"]).await;
    assert!(made["api_key"].is_string());
    let keys = admin.json(&["key", "list", "-n", "fresh"]).await;
    assert_eq!(keys["count"], 2, "{keys}");
    admin
        .ok(&[
            "key",
            "revoke",
            "-n",
            "fresh",
            made["id"].as_str().unwrap(),
            "--force",
        ])
        .await;
    assert_eq!(
        admin.json(&["key", "list", "-n", "fresh"]).await["count"],
        1
    );
    admin.ok(&["namespace", "delete", "fresh", "--force"]).await;
    tenant.run(&["function", "list"]).await.expect_code(3);
}
