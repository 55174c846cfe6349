//! Concurrent invocations never see each other's caller, secrets or logs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use orama_proto::invocation::LogLevel;
use orama_tests::{Deploy, Node, Rng, Tenant, guests, raise_open_files, seed, setting};
use serde_json::json;

/// Kept under the 500 records that one logs query answers.
const CALLS_PER_FUNCTION: usize = 400;
const FUNCTIONS: usize = 3;
const CONCURRENCY: usize = 64;

struct Caller {
    tenant: Tenant,
    wallet: String,
    subject: String,
    claim: String,
    secret: String,
    env: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn two_namespaces_never_meet() {
    raise_open_files();
    let mut rng = Rng::new(seed());
    let calls = setting("ORAMA_ISOLATION_CALLS", CALLS_PER_FUNCTION as u64) as usize;
    let node = Node::start().await;
    let mut callers = Vec::new();
    for namespace in ["left", "right"] {
        let tenant = node.tenant(namespace).await;
        tenant
            .set_secret("SHARED_NAME", &format!("secret-of-{namespace}"))
            .await;
        for f in 0..FUNCTIONS {
            let module = if f == 0 {
                guests::go("hostcalls")
            } else {
                guests::c("ops")
            };
            tenant
                .deploy(
                    Deploy::new(&format!("f{f}"), &module)
                        .env("SIDE", &format!("env-of-{namespace}")),
                )
                .await;
        }
        for user in ["key", "anna", "bert"] {
            let (caller, wallet, subject, claim) = match user {
                "key" => (
                    tenant.clone(),
                    namespace.to_owned(),
                    String::new(),
                    String::new(),
                ),
                user => {
                    let subject = format!("{user}-of-{namespace}");
                    let claim = format!("claim-{subject}");
                    let caller = node.user(&tenant, &subject, json!({"who": claim})).await;
                    (caller, subject.clone(), subject, claim)
                }
            };
            callers.push(Arc::new(Caller {
                tenant: caller,
                wallet,
                subject,
                claim,
                secret: format!("secret-of-{namespace}"),
                env: format!("env-of-{namespace}"),
            }));
        }
    }

    // Every function gets exactly `calls` calls from its namespace's three callers, all mixed.
    let mut plan = Vec::new();
    for side in 0..2 {
        for f in 0..FUNCTIONS {
            for _ in 0..calls {
                plan.push((
                    callers[side * 3 + rng.below(3) as usize].clone(),
                    f,
                    rng.below(6),
                ));
            }
        }
    }
    for i in (1..plan.len()).rev() {
        plan.swap(i, rng.below(i as u64 + 1) as usize);
    }
    let total = plan.len();
    let began = std::time::Instant::now();
    let sent: Vec<(String, usize, String, String)> =
        futures::stream::iter(plan.into_iter().enumerate())
            .map(|(n, (caller, f, pause))| async move {
                let marker = format!("marker-{n}-{}", caller.wallet);
                let module = ["env", "host", "orama"][n % 3];
                let input = if f == 0 {
                    json!({"module": module, "claim": "who", "env": "SIDE", "secret": "SHARED_NAME",
                       "info": marker, "error": marker, "sleep": pause})
                    .to_string()
                } else {
                    format!("hostcalls {module} who SIDE SHARED_NAME {marker} {pause}")
                };
                let reply = caller.tenant.invoke(&format!("f{f}"), input).await;
                reply.output();
                let answer = reply.json();
                for (field, expected) in [
                    ("wallet", &caller.wallet),
                    ("subject", &caller.subject),
                    ("claim", &caller.claim),
                    ("secret", &caller.secret),
                    ("env", &caller.env),
                    ("request_id", &reply.request_id()),
                ] {
                    assert_eq!(answer[field], **expected, "{field} of {answer}");
                }
                (
                    caller.tenant.namespace.clone(),
                    f,
                    reply.request_id(),
                    marker,
                )
            })
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
    println!("{total} interleaved calls in {:?}", began.elapsed());
    assert!(total >= 6 * calls);

    // Each record holds its own marker and no other.
    let mut expected: HashMap<String, String> = HashMap::new();
    for (_, _, request_id, marker) in &sent {
        assert!(
            expected
                .insert(request_id.clone(), marker.clone())
                .is_none(),
            "a request id came twice"
        );
    }
    for side in ["left", "right"] {
        let tenant = &callers.iter().find(|c| c.wallet == side).unwrap().tenant;
        for f in 0..FUNCTIONS {
            let name = format!("f{f}");
            let mut waited = 0;
            let records = loop {
                let records = tenant.logs(&name).await.invocations;
                if records.len() == calls {
                    break records;
                }
                waited += 1;
                assert!(
                    waited < 500,
                    "{} of {calls} records of {side}/{name}",
                    records.len()
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            for record in records {
                let marker = &expected[record.request_id.as_str()];
                let lines: Vec<_> = record
                    .wasm_logs
                    .iter()
                    .map(|l| (l.level, &l.message))
                    .collect();
                assert_eq!(lines, [(LogLevel::Info, marker), (LogLevel::Error, marker)]);
                assert_eq!(record.namespace.as_str(), side);
                assert!(
                    marker.ends_with(&format!("-{}", record.caller_wallet)),
                    "{record:?}"
                );
            }
        }
    }
}
