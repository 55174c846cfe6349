//! Secrets, credentials and master keys over restarts.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::*;
use orama_actors::vault::MasterKeys;
use orama_cluster::JournalQuery;
use orama_proto::function::FunctionSpec;
use orama_proto::invocation::Principal;
use orama_proto::{RequestId, SecretName};
use zeroize::Zeroizing;

fn secret(text: &str) -> SecretName {
    SecretName::parse(text).unwrap()
}

fn value(text: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(text.as_bytes().to_vec())
}

async fn read(node: &Node, namespace: &str, name: &str) -> String {
    let done = node
        .call(namespace, "ask", Principal::Admin, name.as_bytes())
        .await;
    String::from_utf8(done.unwrap().output.to_vec()).unwrap()
}

#[test]
fn guests_read_their_own_namespaces_secrets_only() {
    on_a_system(async {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(dir.path(), &Settings::default()).await;
        let id = RequestId::random();
        for name in ["aa", "bb"] {
            node.platform
                .create_namespace(&id, &ns(name))
                .await
                .unwrap();
            node.deploy(name, "ask", &asking("get_secret"), FunctionSpec::default())
                .await;
        }
        let set = |n: &'static str, v: &'static str| {
            let node = &node;
            let id = &id;
            async move {
                node.platform
                    .set_secret(id, &ns(n), &secret("TOKEN"), value(v))
                    .await
            }
        };
        set("aa", "of-a").await.unwrap();
        assert_eq!(read(&node, "aa", "TOKEN").await, "of-a");
        assert_eq!(read(&node, "bb", "TOKEN").await, "");
        set("bb", "of-b").await.unwrap();
        set("aa", "of-a, again").await.unwrap();
        assert_eq!(read(&node, "aa", "TOKEN").await, "of-a, again");
        assert_eq!(read(&node, "bb", "TOKEN").await, "of-b");
        assert_eq!(
            set("aa", "").await.unwrap_err().message,
            "secret value required"
        );
        let nobody = set("nobody", "x").await.unwrap_err();
        assert_eq!(nobody.code.status(), 404);
        let (aa, token) = (ns("aa"), secret("TOKEN"));
        let delete = || node.platform.delete_secret(&id, &aa, &token);
        delete().await.unwrap();
        assert_eq!(delete().await.unwrap_err().code.status(), 404);
        assert_eq!(read(&node, "aa", "TOKEN").await, "");
        // A namespace made anew under the same name has nothing of the old one.
        node.platform
            .delete_namespace(&id, &ns("bb"))
            .await
            .unwrap();
        node.platform
            .create_namespace(&id, &ns("bb"))
            .await
            .unwrap();
        node.deploy("bb", "ask", &asking("get_secret"), FunctionSpec::default())
            .await;
        assert_eq!(read(&node, "bb", "TOKEN").await, "");
        set("bb", "new").await.unwrap();
        assert_eq!(read(&node, "bb", "TOKEN").await, "new");
        node.stop().await;
    });
}

/// Two tenants with the same function and secret names, thousands of calls
/// at once on several threads: nobody ever sees the other's anything.
#[test]
fn interleaved_calls_of_two_namespaces_never_mix() {
    const CALLS: usize = 2_000;
    on_a_system(async {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            queued: CALLS,
            wait: Duration::from_secs(60),
            ..Settings::default()
        };
        let node = Node::start(dir.path(), &settings).await;
        let id = RequestId::random();
        for name in ["aa", "bb"] {
            node.platform
                .create_namespace(&id, &ns(name))
                .await
                .unwrap();
            node.deploy(name, "ask", SECRETIVE, FunctionSpec::default())
                .await;
            node.platform
                .set_secret(&id, &ns(name), &secret("WHO"), value(name))
                .await
                .unwrap();
        }
        let threads: Vec<_> = (0..2).map(|_| actix::Arbiter::new()).collect();
        let (done, mut all) = tokio::sync::mpsc::unbounded_channel();
        for i in 0..CALLS {
            let name = ["aa", "bb"][i / 2 % 2];
            let caller = Principal::Jwt {
                namespace: ns(name),
                subject: format!("{name}-{i}"),
                claims: BTreeMap::new(),
            };
            let call = node.call(name, "ask", caller, format!("{name} line {i}").as_bytes());
            let done = done.clone();
            threads[i % 2].spawn(async move {
                let output = call.await.unwrap().output;
                done.send((name, i, output)).unwrap();
            });
        }
        drop(done);
        let mut seen = 0;
        while let Some((name, i, output)) = all.recv().await {
            assert_eq!(
                String::from_utf8_lossy(&output),
                format!("{name}{name}-{i}")
            );
            seen += 1;
        }
        assert_eq!(seen, CALLS);
        for name in ["aa", "bb"] {
            let query = JournalQuery {
                namespace: ns(name),
                function: function("ask"),
                limit: 500,
                after: None,
                request_id: None,
            };
            let records = node.platform.logs(query).await.unwrap().records;
            assert_eq!(records.len(), 500);
            for record in records {
                let i = record
                    .caller_wallet
                    .strip_prefix(&format!("{name}-"))
                    .unwrap();
                assert_eq!(record.wasm_logs.len(), 1);
                assert_eq!(record.wasm_logs[0].message, format!("{name} line {i}"));
            }
        }
        let workers = node.platform.actors().await;
        let workers = workers.iter().filter(|a| a.name.starts_with("worker-"));
        assert_eq!(workers.map(|w| w.handled).sum::<u64>(), CALLS as u64);
        for thread in threads {
            thread.stop();
        }
        node.stop().await;
    });
}

#[test]
fn the_master_key_is_rotated_and_a_missing_one_refuses_the_start() {
    on_a_system(async {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (MasterKeys::generate(), MasterKeys::generate());
        let with = |keys: String| Settings {
            master_keys: keys,
            ..Settings::default()
        };
        let old = with(format!("old:{}", *one));
        let both = with(format!("new:{},old:{}", *two, *one));
        let new = with(format!("new:{}", *two));
        let id = RequestId::random();

        let node = Node::start(dir.path(), &old).await;
        let key = node
            .platform
            .create_namespace(&id, &ns("aa"))
            .await
            .unwrap();
        node.platform
            .set_secret(&id, &ns("aa"), &secret("K"), value("kept"))
            .await
            .unwrap();
        node.deploy("aa", "ask", &asking("get_secret"), FunctionSpec::default())
            .await;
        let life = Duration::from_secs(60);
        let token = node
            .platform
            .mint_token(&ns("aa"), "0xabc", BTreeMap::new(), life)
            .unwrap();
        node.stop().await;

        let error = Node::try_start(dir.path(), &new)
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("\"old\"") && !error.contains(&**one),
            "{error}"
        );
        let wrong = with(format!("old:{}", *two));
        let error = Node::try_start(dir.path(), &wrong)
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("the key is wrong"), "{error}");

        let node = Node::start(dir.path(), &both).await;
        let before = node.platform.master_key_status();
        assert_eq!(
            (before.active.as_str(), before.wrapped_by["old"]),
            ("new", 2)
        );
        let after = node.platform.rotate_master_key(&id).await.unwrap();
        assert_eq!(
            (after.rewrapped, after.wrapped_by),
            (2, BTreeMap::from([("new".into(), 2)]))
        );
        assert_eq!(
            node.platform
                .rotate_master_key(&id)
                .await
                .unwrap()
                .rewrapped,
            0
        );
        assert_eq!(read(&node, "aa", "K").await, "kept");
        node.stop().await;

        let node = Node::start(dir.path(), &new).await;
        assert_eq!(read(&node, "aa", "K").await, "kept");
        // Credentials outlive restart and rotation.
        assert!(matches!(
            node.platform.authenticate(&key),
            Ok(Principal::ApiKey { .. })
        ));
        let user = node.platform.authenticate(&token).unwrap();
        assert_eq!(user.wallet(), "0xabc");
        let (record, second) = node
            .platform
            .create_key(&id, &ns("aa"), "ci")
            .await
            .unwrap();
        assert!(node.platform.authenticate(&second).is_ok());
        node.platform
            .revoke_key(&id, &ns("aa"), &record.id)
            .await
            .unwrap();
        assert_eq!(
            node.platform
                .authenticate(&second)
                .unwrap_err()
                .code
                .status(),
            401
        );
        node.stop().await;
    });
}
