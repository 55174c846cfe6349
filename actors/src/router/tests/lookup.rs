//! Nothing is said not to exist before that is confirmed.

use std::sync::atomic::Ordering;

use orama_proto::ErrorCode;

use super::*;

async fn alone() -> (Node, Arc<FunctionVersion>) {
    let disk = Disk::default();
    let function = gated(&disk, FunctionSpec::default());
    let node = Node::start(&Net::default(), 1, "a", 4, &disk);
    node.gate.open();
    (node, function)
}

#[actix::test]
async fn what_was_deployed_elsewhere_is_found() {
    let (node, function) = alone().await;
    node.functions.later.lock().push(Arc::clone(&function));
    let completed = node.invoker.invoke(invoke(&function)).await.unwrap();
    assert_eq!(&completed.output[..], b"0xabc");
    node.invoker.invoke(invoke(&function)).await.unwrap();
    assert_eq!(node.functions.confirms.load(Ordering::SeqCst), 1, "once");
}

#[actix::test]
async fn what_was_enabled_elsewhere_is_found() {
    let (node, function) = alone().await;
    let mut disabled = (*function).clone();
    disabled.status = FunctionStatus::Inactive;
    node.functions.known.lock().push(Arc::new(disabled));
    let error = node.invoker.invoke(invoke(&function)).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
    assert!(error.message.ends_with("is disabled"), "{error}");
    assert_eq!(node.functions.confirms.load(Ordering::SeqCst), 1);
    node.functions.known.lock().clear();
    node.functions.later.lock().push(Arc::clone(&function));
    assert!(node.invoker.invoke(invoke(&function)).await.is_ok());
}

#[actix::test]
async fn without_a_leader_it_is_unavailable_and_not_missing() {
    let (node, function) = alone().await;
    node.functions.no_leader.store(true, Ordering::SeqCst);
    let error = node.invoker.invoke(invoke(&function)).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::ServiceUnavailable);
    assert!(error.retryable && error.message.contains("could not be confirmed"));
    // What is known needs no leader.
    node.deploy(&function).await;
    assert!(node.invoker.invoke(invoke(&function)).await.is_ok());
}

#[actix::test]
async fn a_flood_of_unknown_names_costs_few_confirmations() {
    let (node, function) = alone().await;
    let calls = (0..500).map(|i| {
        let mut invoke = invoke(&function);
        invoke.name = FunctionName::parse(&format!("f{i}")).unwrap();
        node.invoker.invoke(invoke)
    });
    for answer in futures::future::join_all(calls).await {
        assert_eq!(answer.unwrap_err().code, ErrorCode::NotFound);
    }
    let confirms = node.functions.confirms.load(Ordering::SeqCst);
    assert!((1..=3).contains(&confirms), "{confirms}");
}
