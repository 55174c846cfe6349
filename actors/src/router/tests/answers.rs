//! What every way of not being answered means for the invocation.

use orama_proto::ErrorCode;
use orama_proto::invocation::InvocationStatus;

use super::super::metrics::Out;
use super::*;

const NOT_STARTED: [(Fault, Out); 4] = [
    (Fault::NotSent, Out::NotSent),
    (Fault::Busy, Out::Busy),
    (Fault::Declined, Out::Declined),
    (Fault::TooLarge, Out::Declined),
];

/// Three nodes; `a` has no place left, `b` and `c` have.
async fn three() -> (Node, Node, Node, Arc<FunctionVersion>) {
    let (a, b, function) = pair().await;
    let c = Node::start(&a.net, 3, "c", 1, &a.disk);
    c.deploy(&function).await;
    a.sees(&c, 0).await;
    a.fill(&function).await;
    (a, b, c, function)
}

#[actix::test]
async fn what_was_not_started_is_tried_elsewhere_then_here() {
    for (fault, how) in NOT_STARTED {
        for repeatable in [false, true] {
            let (a, b, c, function) = three().await;
            a.net.fail(&b, fault);
            c.gate.open();
            let again = || {
                let mut invoke = invoke(&function);
                invoke.repeatable = repeatable;
                invoke
            };
            let completed = a.invoker.invoke(again()).await.unwrap();
            assert_eq!(&*completed.node, "c", "{fault:?}");
            let metrics = &a.router.0.shared.metrics;
            let tried = metrics.count_out(how);
            // Which of the two is drawn first is up to chance.
            assert!(tried <= 1 && metrics.retries.get() == tried);
            a.net.fail(&c, fault);
            let waiting = a.spawn(again());
            until(|| a.invoker.admission.load() == (1, 1)).await;
            a.gate.open();
            assert_eq!(&*waiting.await.unwrap().unwrap().node, "a");
            assert_eq!(
                (metrics.repeats.get(), metrics.count_out(Out::Lost)),
                (0, 0)
            );
            assert!(b.records(&function).await.is_empty());
        }
    }
}

#[actix::test]
async fn what_may_have_run_is_reported_and_not_run_again() {
    for fault in [Fault::Lost, Fault::Deadline] {
        let (a, b, function) = pair().await;
        a.fill(&function).await;
        b.gate.open();
        a.net.fail(&b, fault);
        let lost = invoke(&function);
        let id = lost.request_id.clone();
        let error = a.invoker.invoke(lost).await.unwrap_err();
        assert_eq!(
            (error.code, error.code.status()),
            (ErrorCode::ServiceUnavailable, 503)
        );
        assert!(!error.retryable && error.retry_after.is_none());
        assert!(error.message.contains("node \"b\"") && error.message.contains("may have run"));
        let records = a.records(&function).await;
        let [record] = records.as_slice() else {
            panic!("{records:?}")
        };
        assert_eq!(
            (&record.request_id, record.status),
            (&id, InvocationStatus::Error)
        );
        assert_eq!(record.error_message, error.message);
        b.idle().await;
        assert_eq!(b.records(&function).await.len(), 1, "it ran once");
        assert_eq!(a.router.0.shared.metrics.count_out(Out::Lost), 1);
    }
}

#[actix::test]
async fn with_an_idempotency_key_it_is_run_again() {
    for fault in [Fault::Lost, Fault::Deadline] {
        let (a, b, function) = pair().await;
        a.fill(&function).await;
        b.gate.open();
        a.net.fail(&b, fault);
        let mut invoke = invoke(&function);
        invoke.repeatable = true;
        let id = invoke.request_id.clone();
        let waiting = a.spawn(invoke);
        until(|| a.invoker.admission.load() == (1, 1)).await;
        assert_eq!(a.router.0.shared.metrics.repeats.get(), 1);
        a.gate.open();
        assert_eq!(&*waiting.await.unwrap().unwrap().node, "a");
        let records = a.records(&function).await;
        let of_it = records.iter().filter(|r| r.request_id == id);
        let mut ends: Vec<_> = of_it.map(|r| r.status.as_str()).collect();
        ends.sort_unstable();
        assert_eq!(ends, ["error", "success"]);
    }
}

#[actix::test]
async fn an_input_that_fits_no_call_stays_here() {
    let (a, _b, function) = pair().await;
    a.fill(&function).await;
    let mut large = invoke(&function);
    large.input = Bytes::from(vec![0; orama_proto::forward::FORWARD_INPUT_MAX + 1]);
    let waiting = a.spawn(large);
    until(|| a.invoker.admission.load() == (1, 1)).await;
    a.gate.open();
    assert_eq!(&*waiting.await.unwrap().unwrap().node, "a");
}

#[actix::test]
async fn with_nobody_to_ask_the_queue_refuses_as_ever() {
    let (a, b, function) = pair().await;
    b.fill(&function).await;
    a.sees(&b, 1).await;
    a.fill(&function).await;
    let waiting: Vec<_> = (0..16).map(|_| a.spawn(invoke(&function))).collect();
    until(|| a.invoker.admission.load() == (1, 16)).await;
    let refused = a.invoker.invoke(invoke(&function)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::RateLimited);
    assert!(refused.retry_after.is_some() && refused.retryable);
    a.gate.open();
    for call in waiting {
        assert!(call.await.unwrap().is_ok());
    }
}
