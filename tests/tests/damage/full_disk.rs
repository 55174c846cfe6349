//! A disk without room for a module, and one without room for anything.

use orama_proto::error::ErrorCode;
use orama_tests::cluster::SmallDisk;
use orama_tests::{Deploy, Node, Rng, guests};
use reqwest::Method;
use serde_json::json;

use super::{populate, state};

/// A module of about this many bytes that do not compress, with this constant's answer.
fn large(mib: usize, seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let mut module = guests::constant(&format!("large {seed}"));
    // A custom section: id 0, size, name length, name, content.
    let content: Vec<u8> = (0..mib * 1024 * 1024 / 8)
        .flat_map(|_| rng.draw().to_le_bytes())
        .collect();
    let mut section = vec![4u8];
    section.extend_from_slice(b"junk");
    section.extend_from_slice(&content);
    module.push(0);
    let mut size = section.len();
    loop {
        let byte = (size & 0x7f) as u8;
        size >>= 7;
        if size == 0 {
            module.push(byte);
            break;
        }
        module.push(byte | 0x80);
    }
    module.extend_from_slice(&section);
    module
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_the_deploy_and_loses_nothing() {
    let mount = tempfile::tempdir().unwrap();
    let disk = SmallDisk::new(mount.path().join("disk"), 192);
    let mut node = Node::builder()
        .data_dir(disk.path().join("data"))
        .allow_error("space")
        .allow_error("full")
        .allow_error("stopped")
        .start()
        .await;
    let tenant = populate(&node, "full").await;
    let before = state(&tenant).await;

    // There is room for the log, but not for the module.
    disk.fill(6);
    for n in 0..3 {
        let reply = tenant.try_deploy(Deploy::new("one", &large(12, n))).await;
        reply.expect_error(ErrorCode::StorageQuotaExceeded, &["full"]);
    }
    assert_eq!(
        state(&tenant).await,
        before,
        "the failed deploys left nothing behind"
    );
    disk.free();
    let made = tenant.deploy(Deploy::new("big", &large(12, 1))).await;
    assert_eq!(made.version, 1);
    assert_eq!(tenant.invoke("big", "").await.json()["output"], "large 1");
    tenant
        .call(Method::DELETE, "/v1/functions/big", "")
        .await
        .expect(200);
    let before = state(&tenant).await;

    // There is room for nothing at all: every change is refused or made, none is lost.
    disk.fill(0);
    let mut kept = Vec::new();
    for n in 0..40 {
        let name = format!("FULL_{n}");
        let value = "v".repeat(30_000);
        let reply = tenant
            .json(
                Method::PUT,
                "/v1/functions/secrets",
                &json!({"name": name, "value": value}),
            )
            .await;
        match reply.status {
            200 => kept.push(name),
            503 | 507 => {
                let code = if reply.status == 507 {
                    ErrorCode::StorageQuotaExceeded
                } else {
                    ErrorCode::ServiceUnavailable
                };
                reply.expect_error(code, &[]);
            }
            other => panic!("{other}: {reply:?}"),
        }
    }
    assert!(kept.len() < 40, "a full disk must refuse something");
    // What was there still answers.
    assert_eq!(tenant.invoke("one", "").await.output(), b"11");
    disk.free();
    node.crash_and_restart().await;
    let secrets = tenant.secrets().await;
    for name in &kept {
        assert!(secrets.contains(name), "{name} was acknowledged");
    }
    let after = state(&tenant).await;
    assert_eq!(
        (after.functions, after.versions, after.answers),
        (before.functions, before.versions, before.answers)
    );
    tenant.set_secret("AFTERWARDS", "works").await;
    tenant
        .deploy(Deploy::new("afterwards", &guests::constant("3")))
        .await;
}
