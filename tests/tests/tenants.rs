//! Who may do what: credentials, API keys, secrets of a namespace.

use orama_proto::error::ErrorCode;
use orama_tests::{Deploy, Node, expect_success, guests, http_client};
use reqwest::Method;
use serde_json::{Value, json};

const NOT_FOUND: ErrorCode = ErrorCode::NotFound;

#[tokio::test(flavor = "multi_thread")]
async fn credentials_decide() {
    let node = Node::start().await;
    let (ours, theirs) = (node.tenant("ours").await, node.tenant("theirs").await);
    ours.deploy(Deploy::new("private", &guests::echo())).await;
    ours.deploy(Deploy::new("public", &guests::echo()).public())
        .await;
    let user = node.user(&ours, "0xWallet", json!({"tier": "gold"})).await;

    // Checklist 14.
    let direct = |name: &str| format!("/v1/invoke/ours/{name}");
    let anonymous = node.anonymous(Method::POST, &direct("private"), "x").await;
    anonymous.expect_error(ErrorCode::Unauthorized, &[]);
    assert!(
        anonymous.header("www-authenticate").starts_with("Bearer"),
        "{:?}",
        anonymous.headers
    );
    node.anonymous(Method::POST, &direct("public"), "1")
        .await
        .output();
    theirs
        .call(Method::POST, &direct("private"), "x")
        .await
        .expect_error(ErrorCode::Forbidden, &[]);
    theirs
        .invoke("private", "x")
        .await
        .expect_error(NOT_FOUND, &[]);
    for (caller, wallet) in [(&ours, "ours"), (&user, "0xWallet")] {
        let (_, record) = expect_success(caller, "private", "1").await;
        assert_eq!(record.caller_wallet, wallet);
    }
    // A credential that is present and wrong is 401 even where none is needed.
    for wrong in ["ak_nonsense:ours", "a.b.c", "orama_wrong"] {
        let stranger = ours.with_credential(wrong);
        let reply = stranger.call(Method::POST, &direct("public"), "1").await;
        reply.expect_error(ErrorCode::Unauthorized, &[]);
    }
    // The key in each of its places.
    for (name, value) in [
        ("X-API-Key", ours.credential.clone()),
        ("Authorization", format!("ApiKey {}", ours.credential)),
        ("authorization", format!("bearer {}", ours.credential)),
        ("Authorization", ours.credential.clone()),
    ] {
        let url = format!("{}/v1/functions", node.url());
        let answer = http_client()
            .get(url)
            .header(name, value)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{name}");
    }
    // Checklist: whoami says who, and never the key.
    let reply = ours.get("/v1/auth/whoami").await.expect(200);
    assert!(!reply.text().contains(&ours.credential), "{reply:?}");
    let who = ours.whoami().await;
    assert!(who.authenticated);
    assert_eq!(
        (who.method.as_str(), who.namespace.as_deref()),
        ("api_key", Some("ours"))
    );
    assert!(who.api_key.is_some_and(|masked| masked != ours.credential));
    let who = user.whoami().await;
    assert_eq!(
        (who.method.as_str(), who.subject.as_deref()),
        ("jwt", Some("0xWallet"))
    );
    assert!(who.expires_at.is_some());
    // Tenants do not administer, and a tampered token is nobody's.
    for caller in [&ours, &user] {
        let reply = caller.get("/v1/admin/namespaces").await;
        assert!([401, 403].contains(&reply.status), "{reply:?}");
    }
    node.anonymous(Method::GET, "/v1/admin/namespaces", "")
        .await
        .expect_error(ErrorCode::Unauthorized, &[]);
    // A user's token invokes; it manages nothing.
    user.get("/v1/functions")
        .await
        .expect_error(ErrorCode::Forbidden, &[]);
    user.try_deploy(Deploy::new("mine", &guests::echo()))
        .await
        .expect_error(ErrorCode::Forbidden, &[]);
    let mut token = user.credential.clone();
    let last = token.pop().unwrap();
    token.push(if last == 'A' { 'B' } else { 'A' });
    // The last character may carry unused bits; change one in the middle of the signature as well.
    let middle = token.rfind('.').unwrap() + 10;
    let other = if &token[middle..=middle] == "x" {
        "y"
    } else {
        "x"
    };
    token.replace_range(middle..=middle, other);
    ours.with_credential(&token)
        .get("/v1/functions")
        .await
        .expect_error(ErrorCode::Unauthorized, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_listed_and_revoked() {
    let node = Node::start().await;
    let tenant = node.tenant("keyed").await;
    let path = "/v1/admin/namespaces/keyed/keys";
    let reply = node
        .admin(Method::POST, path, Some(json!({"label": "ci"})))
        .await
        .expect(201);
    let made = reply.json();
    let second = tenant.with_credential(made["api_key"].as_str().unwrap());
    assert!(second.functions().await.is_empty());
    let list = node.admin(Method::GET, path, None).await.expect(200);
    assert_eq!(list.json()["count"], 2);
    assert!(!list.text().contains(&tenant.credential) && !list.text().contains(&second.credential));
    let id = made["id"].as_str().unwrap();
    let revoked = node
        .admin(Method::DELETE, &format!("{path}/{id}"), None)
        .await;
    assert!([200, 204].contains(&revoked.status), "{revoked:?}");
    second
        .get("/v1/functions")
        .await
        .expect_error(ErrorCode::Unauthorized, &[]);
    assert!(tenant.functions().await.is_empty());

    // Namespaces: twice is a conflict; deleted means its key is nobody's.
    node.admin(
        Method::POST,
        "/v1/admin/namespaces",
        Some(json!({"name": "keyed"})),
    )
    .await
    .expect_error(ErrorCode::Conflict, &["keyed"]);
    node.admin(
        Method::POST,
        "/v1/admin/namespaces",
        Some(json!({"name": "Not_A_Name"})),
    )
    .await
    .expect_error(ErrorCode::ValidationFailed, &["namespace"]);
    let gone = node
        .admin(Method::DELETE, "/v1/admin/namespaces/keyed", None)
        .await;
    assert!([200, 204].contains(&gone.status), "{gone:?}");
    tenant
        .get("/v1/functions")
        .await
        .expect_error(ErrorCode::Unauthorized, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_belong_to_their_namespace() {
    let mut node = Node::start().await;
    let (ours, theirs) = (node.tenant("ours").await, node.tenant("theirs").await);
    let reader = guests::secret_reader(&["malloc"]);
    for tenant in [&ours, &theirs] {
        tenant.deploy(Deploy::new("reader", &reader)).await;
        assert_eq!(
            tenant.get("/v1/functions/secrets").await.expect(200).json(),
            json!({"secrets": [], "count": 0})
        );
    }
    ours.set_secret("B", "second").await;
    ours.set_secret("A", "first").await;
    ours.set_secret("A", "changed").await;
    theirs.set_secret("A", "of the others").await;
    assert_eq!(ours.secrets().await, ["A", "B"]);
    assert_eq!(theirs.secrets().await, ["A"]);
    // Checklist 11.
    for restarted in [false, true] {
        if restarted {
            node.crash_and_restart().await;
        }
        for (tenant, name, value) in [
            (&ours, "A", "mchanged"),
            (&ours, "B", "msecond"),
            (&theirs, "A", "mof the others"),
            (&theirs, "B", ""),
        ] {
            assert_eq!(
                tenant.invoke("reader", name).await.json()["output"],
                value,
                "{name}"
            );
        }
    }
    let long = "s".repeat(20_000);
    ours.set_secret("LONG", &long).await;
    assert_eq!(
        ours.invoke("reader", "LONG").await.json()["output"],
        format!("m{long}")
    );

    let gone = ours
        .call(Method::DELETE, "/v1/functions/secrets/A", "")
        .await
        .expect(200);
    assert_eq!(gone.json()["message"], "Secret deleted");
    assert_eq!(ours.invoke("reader", "A").await.json()["output"], "");
    ours.call(Method::DELETE, "/v1/functions/secrets/A", "")
        .await
        .expect_error(NOT_FOUND, &["secret"]);
    let put = |body: Value| {
        let ours = &ours;
        async move { ours.json(Method::PUT, "/v1/functions/secrets", &body).await }
    };
    let invalid = ErrorCode::ValidationFailed;
    put(json!({"value": "x"}))
        .await
        .expect_error(invalid, &["secret name"]);
    put(json!({"name": "X"}))
        .await
        .expect_error(invalid, &["secret value"]);
    put(json!({"name": "a/b", "value": "x"}))
        .await
        .expect_error(invalid, &["secret name"]);
    put(json!({"name": "BIG", "value": "x".repeat(64 * 1024 + 1)}))
        .await
        .expect_error(ErrorCode::PayloadTooLarge, &["65536"]);
    let broken = ours
        .call(Method::PUT, "/v1/functions/secrets", "{not json")
        .await;
    broken.expect_error(invalid, &["JSON"]);
}
