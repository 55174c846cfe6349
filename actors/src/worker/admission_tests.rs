//! Places under contention, cancellation and drain.

use super::*;
use prometheus::Registry;

fn setup(running: usize, per_namespace: usize, queued: usize, wait_ms: u64) -> Arc<Admission> {
    let metrics = Arc::new(Metrics::register(&Registry::new()).unwrap());
    let limits = Limits {
        running,
        per_namespace,
        queued_per_namespace: queued,
        wait: Duration::from_millis(wait_ms),
    };
    Admission::new(limits, metrics)
}

fn ns(text: &str) -> Namespace {
    Namespace::parse(text).unwrap()
}

fn empty(admission: &Admission) -> bool {
    admission.tenants.lock().map.is_empty()
        && admission.node.available_permits() == admission.limits.running
        && admission.metrics.running.get() == 0
        && admission.metrics.queued.get() == 0
        && admission.node_waiting.load(Ordering::Relaxed) == 0
}

/// Polls a future once.
async fn started<F: Future + Unpin>(future: &mut F) -> bool {
    futures::poll!(future).is_pending()
}

#[tokio::test]
async fn a_place_comes_back_and_the_entry_goes() {
    let admission = setup(2, 1, 1, 1_000);
    let place = admission.place(&ns("aa")).await.unwrap();
    assert_eq!(admission.metrics.running.get(), 1);
    drop(place);
    assert!(empty(&admission));
}

#[tokio::test]
async fn a_place_at_once_or_none() {
    let admission = setup(2, 1, 9, 1_000);
    let first = admission.try_place(&ns("aa"));
    assert!(first.is_some());
    assert!(
        admission.try_place(&ns("aa")).is_none(),
        "its namespace's limit"
    );
    let second = admission.try_place(&ns("bb"));
    assert!(second.is_some() && admission.try_place(&ns("cc")).is_none());
    assert_eq!(
        (admission.load(), admission.metrics.refusals()),
        ((2, 0), 0)
    );
    drop((first, second));
    assert!(empty(&admission));
    // Who waits comes first.
    let held = admission.place(&ns("aa")).await.unwrap();
    let name = ns("aa");
    let mut waiting = Box::pin(admission.place(&name));
    assert!(started(&mut waiting).await);
    drop(held);
    assert!(admission.try_place(&name).is_none());
    drop(waiting);
    let mut closing = Box::pin(admission.closing());
    assert!(started(&mut closing).await && !admission.is_closed());
    admission.close();
    closing.await;
    assert!(admission.is_closed() && admission.try_place(&name).is_none());
}

#[tokio::test]
async fn a_namespaces_queue_is_bounded_in_length_and_time() {
    let admission = setup(9, 1, 1, 30);
    let held = admission.place(&ns("aa")).await.unwrap();
    let name = ns("aa");
    let mut waiting = Box::pin(admission.place(&name));
    assert!(started(&mut waiting).await);
    assert_eq!(admission.metrics.queued.get(), 1);
    let refused = admission.place(&name).await.err();
    assert_eq!(refused, Some(Refusal::NamespaceQueueFull));
    assert!(admission.place(&ns("bb")).await.is_ok(), "others go on");
    assert_eq!(waiting.await.err(), Some(Refusal::NamespaceBusy));
    assert_eq!(admission.metrics.refusals(), 2);
    drop(held);
    assert!(empty(&admission));
}

#[tokio::test]
async fn the_nodes_queue_is_bounded_in_length_and_time() {
    let admission = setup(1, 1, 0, 30);
    let held = admission.place(&ns("aa")).await.unwrap();
    let names: Vec<_> = (0..4).map(|i| ns(&format!("n{i}"))).collect();
    let mut waiting: Vec<_> = names
        .iter()
        .map(|name| Box::pin(admission.place(name)))
        .collect();
    for future in &mut waiting {
        assert!(started(future).await);
    }
    let refused = admission.place(&ns("zz")).await.err();
    assert_eq!(refused, Some(Refusal::NodeQueueFull));
    for future in waiting {
        assert_eq!(future.await.err(), Some(Refusal::NodeBusy));
    }
    drop(held);
    assert!(empty(&admission));
}

#[tokio::test]
async fn a_greedy_namespace_does_not_starve_another() {
    let admission = setup(2, 1, 100, 5_000);
    let (greedy, modest) = (ns("greedy"), ns("modest"));
    let held = admission.place(&greedy).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..50 {
        let mut future = Box::pin(admission.place(&greedy));
        assert!(started(&mut future).await);
        waiting.push(future);
    }
    assert!(admission.place(&modest).await.is_ok());
    drop(waiting);
    drop(held);
    assert!(empty(&admission));
}

#[tokio::test]
async fn who_stops_waiting_leaves_nothing_behind() {
    let admission = setup(1, 1, 10, 5_000);
    let (a, b) = (ns("aa"), ns("bb"));
    let held = admission.place(&a).await.unwrap();
    let mut same = Box::pin(admission.place(&a));
    let mut other = Box::pin(admission.place(&b));
    assert!(started(&mut same).await && started(&mut other).await);
    assert_eq!(admission.metrics.queued.get(), 2);
    drop((same, other));
    assert_eq!(admission.metrics.queued.get(), 0);
    drop(held);
    assert!(empty(&admission));
    assert!(admission.place(&b).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_are_right_after_many_cancelled_and_finished_ones() {
    let admission = setup(3, 2, 50, 5_000);
    let tasks: Vec<_> = (0..400_u64)
        .map(|i| {
            let admission = Arc::clone(&admission);
            tokio::spawn(async move {
                let name = ns(&format!("n{}", i % 5));
                let work = async {
                    let _request = admission.begin();
                    let place = admission.place(&name).await;
                    assert!(admission.metrics.running.get() <= 3);
                    tokio::time::sleep(Duration::from_micros(i % 700)).await;
                    drop(place);
                };
                let _ = tokio::time::timeout(Duration::from_micros(i * 37 % 2_000), work).await;
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(empty(&admission));
    assert_eq!(admission.idle(Duration::ZERO).await, 0);
}

#[tokio::test]
async fn draining_refuses_the_new_and_the_waiting_and_waits_for_the_running() {
    let admission = setup(1, 1, 10, 5_000);
    let (a, b) = (ns("aa"), ns("bb"));
    let request = admission.begin();
    let held = admission.place(&a).await.unwrap();
    let mut same = Box::pin(admission.place(&a));
    let mut other = Box::pin(admission.place(&b));
    let mut pause = Box::pin(admission.pause(Duration::from_secs(3_600)));
    assert!(started(&mut same).await && started(&mut other).await && started(&mut pause).await);
    admission.close();
    assert_eq!(same.await.err(), Some(Refusal::Draining));
    assert_eq!(other.await.err(), Some(Refusal::Draining));
    assert!(!pause.await, "a pause before a retry ends");
    assert_eq!(
        admission.place(&ns("cc")).await.err(),
        Some(Refusal::Draining)
    );
    assert_eq!(admission.idle(Duration::from_millis(1)).await, 1);
    let mut idle = Box::pin(admission.idle(Duration::from_secs(10)));
    assert!(started(&mut idle).await);
    drop(held);
    drop(request);
    assert_eq!(idle.await, 0);
}

#[test]
fn refusals_say_whose_limit_it_is() {
    let admission = setup(4, 2, 8, 1);
    let error = |r: Refusal| r.error(&ns("aa"), admission.limits());
    let own = error(Refusal::NamespaceQueueFull);
    assert_eq!(own.code, ErrorCode::RateLimited);
    assert!(own.message.contains("\"aa\"") && own.message.contains('2'));
    assert_eq!(error(Refusal::NodeBusy).code, ErrorCode::ServiceUnavailable);
    for refusal in Refusal::ALL {
        assert!(error(refusal).retry_after.is_some() && error(refusal).retryable);
    }
}
