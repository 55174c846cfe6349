//! Invocations that find no place and run on another node.

use std::sync::atomic::Ordering;
use std::time::Instant;

use orama_cluster::{CallError, Service};
use orama_proto::forward::{ForwardReply, ForwardedInvoke, NotTaken};
use orama_proto::{ErrorCode, NodeId};

use super::super::metrics::{In, Out};
use super::*;

fn out(node: &Node, how: Out) -> u64 {
    node.router.0.shared.metrics.count_out(how)
}

fn taken(node: &Node, how: In) -> u64 {
    node.router.0.shared.metrics.count_in(how)
}

fn head(function: &FunctionVersion) -> ForwardedInvoke {
    ForwardedInvoke {
        request_id: RequestId::from("r-1"),
        namespace: function.namespace.clone(),
        function: function.name.clone(),
        function_id: function.function_id.clone(),
        version: function.version,
        wasm_cid: function.wasm_cid,
        principal: Principal::Admin,
        trigger: Trigger::Http,
        hops: 1,
    }
}

async fn send(to: &Node, head: &ForwardedInvoke) -> Result<ForwardReply, CallError> {
    let body = Bytes::from(head.encode(b"").unwrap());
    let deadline = Instant::now() + Duration::from_secs(20);
    let net = to.net.clone();
    let reply = net.call(NodeId(99), to.id, Service::Invoke, body, deadline);
    Ok(ForwardReply::decode(&reply.await?).unwrap().0)
}

async fn refused(to: &Node, head: &ForwardedInvoke) -> NotTaken {
    match send(to, head).await {
        Ok(ForwardReply::NotTaken(why)) => why,
        other => panic!("it was taken: {other:?}"),
    }
}

#[actix::test]
async fn what_finds_no_place_runs_on_the_other_node_as_it_would_have_here() {
    let (a, b, function) = pair().await;
    // A newer version: the one that was asked for runs, not the newest.
    let newer = version(
        &b.disk,
        "(module (memory (export \"memory\") 1) (func (export \"_start\")))",
        3,
        FunctionSpec::default(),
    );
    b.deploy(&newer).await;
    a.fill(&function).await;
    b.gate.open();
    let second = invoke(&function);
    let request_id = second.request_id.clone();
    let completed = a.invoker.invoke(second).await.unwrap();
    assert_eq!(
        (&*completed.node, &completed.output[..]),
        ("b", &b"0xabc"[..])
    );
    let records = b.records(&function).await;
    let [record] = records.as_slice() else {
        panic!("{records:?}")
    };
    assert_eq!((&record.request_id, record.version), (&request_id, 2));
    assert_eq!((&*record.caller_wallet, record.input_size), ("0xabc", 5));
    assert_eq!((out(&a, Out::Done), taken(&b, In::Done)), (1, 1));
    let names: Vec<_> = b
        .invoker
        .workers
        .info()
        .into_iter()
        .map(|i| i.name)
        .collect();
    assert!(names.contains(&"forwarded-0".to_owned()), "{names:?}");
    a.gate.open();
    a.idle().await;
    b.idle().await;
    let here = a.invoker.invoke(invoke(&function)).await.unwrap();
    assert_eq!(&*here.node, "a", "with a free place nothing is forwarded");
    // Both of its own, and none of what ran elsewhere.
    assert_eq!(a.records(&function).await.len(), 2);
}

#[actix::test]
async fn an_error_is_the_same_as_if_it_had_run_here() {
    let (a, b, function) = pair().await;
    let failing = version(
        &a.disk,
        "(module (memory (export \"memory\") 1) (func (export \"_start\") unreachable))",
        4,
        FunctionSpec::default(),
    );
    a.deploy(&failing).await;
    b.deploy(&failing).await;
    let mut first = invoke(&failing);
    first.request_id = RequestId::from("r-7");
    let here = a.invoker.invoke(first).await.unwrap_err();
    a.fill(&function).await;
    let mut second = invoke(&failing);
    second.request_id = RequestId::from("r-7");
    let there = a.invoker.invoke(second).await.unwrap_err();
    assert_eq!(here, there);
    assert_eq!(
        (there.code, out(&a, Out::Failed)),
        (ErrorCode::FunctionExecutionFailed, 1)
    );
}

#[actix::test]
async fn attempts_and_their_records_belong_to_the_node_that_runs_it() {
    let (a, b, function) = pair().await;
    let spec = FunctionSpec {
        retry_count: 2,
        // Not a value the API allows: tests shall not wait.
        retry_delay_seconds: 0,
        ..FunctionSpec::default()
    };
    let failing = version(
        &a.disk,
        "(module (memory (export \"memory\") 1) (func (export \"_start\") unreachable))",
        5,
        spec,
    );
    a.deploy(&failing).await;
    b.deploy(&failing).await;
    a.fill(&function).await;
    assert!(a.invoker.invoke(invoke(&failing)).await.is_err());
    let mut attempts: Vec<_> = b
        .records(&failing)
        .await
        .iter()
        .map(|r| r.attempt)
        .collect();
    attempts.sort_unstable();
    assert_eq!(attempts, [1, 2, 3]);
    assert!(a.records(&failing).await.is_empty());
}

#[actix::test]
async fn a_caller_that_goes_away_stops_the_guest_elsewhere() {
    let (a, b, function) = pair().await;
    a.fill(&function).await;
    let call = a.spawn(invoke(&function));
    until(|| b.gate.waiting.load(Ordering::SeqCst) == 1).await;
    assert_eq!(b.invoker.admission.load(), (1, 0));
    call.abort();
    b.idle().await;
    until(|| taken(&b, In::Cancelled) == 1).await;
    let records = b.records(&function).await;
    assert_eq!(records[0].error_message, "cancelled by the caller");
}

#[actix::test]
async fn what_was_forwarded_is_not_forwarded_again() {
    let (a, b, function) = pair().await;
    let mut far = head(&function);
    far.hops = 2;
    let declined = send(&b, &far).await;
    assert!(
        matches!(declined, Err(CallError::Declined { .. })),
        "{declined:?}"
    );
    assert_eq!(taken(&b, In::Hops), 1);
    // b has no place, and sees that a has one.
    b.fill(&function).await;
    b.sees(&a, 0).await;
    assert_eq!(refused(&b, &head(&function)).await, NotTaken::Busy);
    assert_eq!(out(&b, Out::Done) + taken(&a, In::Done), 0);
}

#[actix::test]
async fn a_node_that_does_not_have_the_very_version_is_not_ready() {
    let (_a, b, function) = pair().await;
    let another = |change: fn(&mut ForwardedInvoke)| {
        let mut head = head(&function);
        change(&mut head);
        head
    };
    let wrong = [
        another(|h| h.version = 9),
        another(|h| h.function_id = "f-2".into()),
        another(|h| h.wasm_cid = ContentId::of(b"other")),
    ];
    for head in &wrong {
        assert_eq!(refused(&b, head).await, NotTaken::NotReady);
    }
    assert_eq!(taken(&b, In::NotReady), 3);
    let garbled = Bytes::from_static(b"\xff\xff\xff\xff\xff");
    let soon = Instant::now() + Duration::from_secs(5);
    let net = b.net.clone();
    let answer = net
        .call(NodeId(99), b.id, Service::Invoke, garbled, soon)
        .await;
    assert!(matches!(answer, Err(CallError::Declined { .. })));
    assert_eq!(
        (taken(&b, In::Malformed), b.invoker.admission.load()),
        (1, (0, 0))
    );
}

#[actix::test]
async fn a_module_that_is_not_loaded_is_loaded_for_the_next_time() {
    let (net, disk) = (Net::default(), Disk::default());
    let function = gated(&disk, FunctionSpec::default());
    let a = Node::start(&net, 1, "a", 1, &disk);
    let b = Node::start(&net, 2, "b", 1, &disk);
    a.deploy(&function).await;
    b.functions.known.lock().push(Arc::clone(&function));
    a.sees(&b, 0).await;
    a.fill(&function).await;
    let waiting = a.spawn(invoke(&function));
    until(|| taken(&b, In::NotReady) == 1).await;
    // It waits here, and is answered here.
    until(|| a.invoker.admission.load() == (1, 1)).await;
    until(|| b.invoker.runtime.loaded(&function.wasm_cid).is_some()).await;
    until(|| b.router.0.shared.loading.lock().is_empty()).await;
    b.gate.open();
    // Once b's next report is here it is asked again.
    until(|| {
        let members = a.router.0.shared.board.members();
        let what = (&function.wasm_cid, &function.namespace);
        members[0].eligible(Some(what), Instant::now()).is_some()
    })
    .await;
    let completed = a.invoker.invoke(invoke(&function)).await.unwrap();
    assert_eq!(&*completed.node, "b");
    a.gate.open();
    assert_eq!(&*waiting.await.unwrap().unwrap().node, "a");
}

#[actix::test]
async fn a_namespaces_own_limit_overflows_and_does_not_stand_for_the_node() {
    let (net, disk) = (Net::default(), Disk::default());
    let function = gated(&disk, FunctionSpec::default());
    let a = Node::with_limits(&net, 1, "a", (4, 1), &disk);
    let b = Node::with_limits(&net, 2, "b", (4, 1), &disk);
    for node in [&a, &b] {
        node.deploy(&function).await;
        node.fill(&function).await;
    }
    a.sees(&b, 1).await;
    let waiting = a.spawn(invoke(&function));
    // b has places, but none for this namespace: it says so, and is asked once.
    until(|| a.invoker.admission.load() == (1, 1)).await;
    assert_eq!(out(&a, Out::NamespaceBusy), 1);
    assert_eq!(taken(&b, In::NamespaceBusy), 1);
    // Others go there as before.
    let mut other = (*function).clone();
    other.namespace = Namespace::parse("other").unwrap();
    let other = Arc::new(other);
    for node in [&a, &b] {
        node.functions.known.lock().push(Arc::clone(&other));
    }
    let first = a.spawn(invoke(&other));
    until(|| a.gate.waiting.load(Ordering::SeqCst) == 2).await;
    until(|| a.invoker.admission.load() == (2, 1)).await;
    b.gate.open();
    a.sees(&b, 0).await;
    let completed = a.invoker.invoke(invoke(&other)).await.unwrap();
    assert_eq!(&*completed.node, "b", "with its one place here taken");
    a.gate.open();
    for call in [waiting, first] {
        assert_eq!(&*call.await.unwrap().unwrap().node, "a");
    }
}

#[actix::test]
async fn who_drains_says_so_at_once_and_takes_nothing() {
    let (a, b, function) = pair().await;
    b.invoker.admission.close();
    let closed = |node: &Node| {
        let loads = node.router.loads();
        loads.iter().any(|(id, load)| *id == b.id && load.closed)
    };
    until(|| closed(&a)).await;
    assert_eq!(refused(&b, &head(&function)).await, NotTaken::Draining);
    a.fill(&function).await;
    let waiting = a.spawn(invoke(&function));
    until(|| a.invoker.admission.load() == (1, 1)).await;
    assert_eq!(
        out(&a, Out::Draining) + out(&a, Out::Done),
        0,
        "it was not even asked"
    );
    a.gate.open();
    assert_eq!(&*waiting.await.unwrap().unwrap().node, "a");
}

#[actix::test]
async fn a_member_that_is_not_active_is_closed_to_its_peers_alone() {
    let (a, b, function) = pair().await;
    b.net.set_active(&b, false);
    let closed = || {
        let loads = a.router.loads();
        loads.iter().any(|(id, load)| *id == b.id && load.closed)
    };
    until(closed).await;
    assert_eq!(refused(&b, &head(&function)).await, NotTaken::Draining);
    b.gate.open();
    let own = b.invoker.invoke(invoke(&function)).await.unwrap();
    assert_eq!(&*own.node, "b");
}
