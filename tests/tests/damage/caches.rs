//! Damage to what can be had again: blobs, compiled modules, the state directory.

use orama_proto::error::ErrorCode;
use orama_tests::{Deploy, Node, Rng, expect_success, guests, seed};

use super::{files_under, flip, populate, state};

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_blob_is_noticed_and_healed() {
    // The first reader finds it corrupt and sets it aside; later ones find it missing.
    let mut node = Node::builder()
        .allow_error("corrupt")
        .allow_error("a module is not available")
        .start()
        .await;
    let tenant = populate(&node, "blobs").await;
    let bytes = guests::constant("precious");
    let info = tenant.deploy(Deploy::new("hurt", &bytes)).await;
    let before = state(&tenant).await;
    node.stop().await;
    let blob = files_under(&node.data_dir().join("blobs"))
        .into_iter()
        .find(|path| {
            path.file_name()
                .is_some_and(|n| n == info.wasm_cid.as_str())
        })
        .expect("the blob's file is named by its content id");
    let mut content = std::fs::read(&blob).unwrap();
    assert_eq!(content, bytes);
    let middle = content.len() / 2;
    content[middle] ^= 1;
    std::fs::write(&blob, content).unwrap();
    // Without the compiled file the node must read the blob.
    std::fs::remove_dir_all(node.data_dir().join("compiled")).unwrap();

    node.start_again().await;
    let reply = tenant.invoke("hurt", "").await;
    let error = reply.expect_error(ErrorCode::FunctionUnavailable, &[]);
    assert!(error.retryable);
    // The node lives, and compiles the others again.
    let after = state(&tenant).await;
    assert_eq!(after.answers, before.answers);
    assert!(after.functions.iter().any(|f| f.name == "hurt"));

    // The same bytes again heal every version that has them.
    let healed = tenant.deploy(Deploy::new("hurt", &bytes)).await;
    assert_eq!((healed.version, healed.wasm_cid), (2, info.wasm_cid));
    for name in ["hurt", "hurt@1"] {
        let (reply, _) = expect_success(&tenant, name, "").await;
        assert_eq!(reply.json()["output"], "precious");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compiled_file_is_only_a_cache() {
    let mut node = Node::builder().allow_error("compiled").start().await;
    let mut rng = Rng::new(seed());
    let tenant = populate(&node, "compiled").await;
    let before = state(&tenant).await;
    node.stop().await;
    for file in files_under(&node.data_dir().join("compiled")) {
        flip(&file, &mut rng, 3);
    }
    node.start_again().await;
    assert_eq!(state(&tenant).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_directory_is_only_a_view() {
    let mut node = Node::builder()
        .allow_error("state")
        .allow_error("sled")
        .start()
        .await;
    let mut rng = Rng::new(seed());
    let tenant = populate(&node, "views").await;
    let before = state(&tenant).await;
    let dir = node.data_dir().join("state");
    for damage in 0..4 {
        if damage % 2 == 0 {
            node.stop().await;
        } else {
            node.kill();
        }
        match damage {
            0 => std::fs::remove_dir_all(&dir).unwrap(),
            1 => {
                let largest = files_under(&dir)
                    .into_iter()
                    .max_by_key(|f| f.metadata().unwrap().len())
                    .unwrap();
                println!(
                    "flipped in {}: {:?}",
                    largest.display(),
                    flip(&largest, &mut rng, 20)
                );
            }
            2 => {
                for file in files_under(&dir) {
                    std::fs::write(file, "").unwrap();
                }
            }
            _ => {
                let file = files_under(&dir)
                    .into_iter()
                    .max_by_key(|f| f.metadata().unwrap().len())
                    .unwrap();
                let half = file.metadata().unwrap().len() / 2;
                std::fs::OpenOptions::new()
                    .write(true)
                    .open(file)
                    .unwrap()
                    .set_len(half)
                    .unwrap();
            }
        }
        node.start_again().await;
        assert_eq!(state(&tenant).await, before, "damage {damage}");
    }
}
