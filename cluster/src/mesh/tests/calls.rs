//! Calls: what arrives, in which order, and what a caller learns when nothing comes back.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn every_lane_carries_calls_both_ways() {
    let (a, b) = pair().await;
    let id = a.id;
    b.mesh.serve(
        Service::Invoke,
        Arc::new(Serve(move |incoming: Incoming| async move {
            assert_eq!(incoming.from, id);
            assert!(incoming.deadline > Instant::now());
            Ok(incoming.body)
        })),
    );
    a.mesh.serve(Service::Invoke, echo());
    for lane in Lane::ALL {
        for body in [
            Bytes::new(),
            Bytes::from("x"),
            vec![7; lane.frame_max()].into(),
        ] {
            assert_eq!(a.call(&b, lane, body.clone()).await.unwrap(), body);
            assert_eq!(b.call(&a, lane, body.clone()).await.unwrap(), body);
        }
        let bytes = lane.frame_max() + 1;
        let limit = lane.frame_max();
        assert_eq!(
            a.call(&b, lane, vec![0; bytes]).await,
            Err(CallError::TooLarge { bytes, limit })
        );
    }
    assert_eq!(
        a.mesh.peers(),
        [Peer {
            id: b.id,
            name: "test".into(),
            version: "1".into(),
            addresses: b.mesh.addresses(),
            cluster: None,
        }]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_does_not_delay_heartbeats() {
    let (a, b) = pair().await;
    b.mesh.serve(Service::Invoke, echo());
    // 32 MiB through bulk, as many chunks at a time as it takes.
    let bulk = async {
        for _ in 0..8 {
            let chunks = (0..4).map(|_| a.call(&b, Lane::Bulk, vec![1; 1 << 20]));
            for chunk in futures::future::join_all(chunks).await {
                assert_eq!(chunk.unwrap().len(), 1 << 20);
            }
        }
    };
    let mut beats = 0;
    let mut bulk = std::pin::pin!(bulk);
    loop {
        tokio::select! {
            biased;
            () = &mut bulk => break,
            beat = a.call(&b, Lane::Heartbeat, "beat") => {
                beat.unwrap();
                beats += 1;
            }
        }
    }
    // Behind the bulk there would be a beat or two for each batch of chunks.
    assert!(beats > 32, "{beats} heartbeats while 32 MiB went both ways");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_dispatched_in_order() {
    let (a, b) = pair().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    struct Order(Arc<Mutex<Vec<u32>>>);
    impl Handler for Order {
        fn call(&self, incoming: Incoming) -> BoxFuture<'static, Result<Bytes, Declined>> {
            let number = u32::from_le_bytes(incoming.body[..].try_into().unwrap());
            self.0.lock().push(number);
            Box::pin(async { Ok(Bytes::new()) })
        }
    }
    b.mesh
        .serve(Service::Invoke, Arc::new(Order(Arc::clone(&seen))));
    let calls = (0..200u32).map(|i| a.call(&b, Lane::Consensus, i.to_le_bytes().to_vec()));
    for done in futures::future::join_all(calls).await {
        done.unwrap();
    }
    assert_eq!(*seen.lock(), (0..200).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_call_stops_its_handler() {
    let (a, b) = pair().await;
    let gate = Gate::serve(&b.mesh);
    {
        let call = a.call(&b, Lane::Calls, "x");
        tokio::select! {
            _ = call => panic!("nobody lets it go"),
            event = gate.next() => assert_eq!(event, "began"),
        }
    }
    assert_eq!(gate.next().await, "dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_call_and_handler() {
    let (a, b) = pair().await;
    let gate = Gate::serve(&b.mesh);
    let deadline = Instant::now() + Duration::from_millis(200);
    let call = a
        .mesh
        .call(b.id, Lane::Calls, Service::Invoke, Bytes::new(), deadline);
    let error = call.await.unwrap_err();
    assert_eq!(error, CallError::Deadline(b.id));
    assert!(error.maybe_handled());
    assert!(Instant::now() >= deadline);
    assert_eq!(gate.next().await, "began");
    assert_eq!(gate.next().await, "dropped");
    // One that is over before it begins is not sent.
    let past = Instant::now();
    let call = a
        .mesh
        .call(b.id, Lane::Calls, Service::Invoke, Bytes::new(), past);
    assert_eq!(call.await, Err(CallError::Deadline(b.id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_calls_than_a_lane_takes_are_refused() {
    let (a, b) = pair().await;
    let gate = Gate::serve(&b.mesh);
    let (most, more) = (Lane::Bulk.in_flight_max(), 3);
    let calls = (0..most + more).map(|_| a.call(&b, Lane::Bulk, "x"));
    let calls = futures::future::join_all(calls);
    let release = async {
        for _ in 0..most {
            assert_eq!(gate.next().await, "began");
        }
        for _ in 0..most {
            gate.go.notify_one();
            assert_eq!(gate.next().await, "done");
        }
    };
    let (results, ()) = tokio::join!(calls, release);
    let taken = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(taken, most);
    for refused in results.into_iter().filter_map(Result::err) {
        assert_eq!(refused, CallError::Busy(b.id));
    }
    // The places are free again.
    let again = a.call(&b, Lane::Bulk, "x");
    let release = async { gate.go.notify_one() };
    assert!(tokio::join!(again, release).0.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_and_what_nobody_serves_is_busy() {
    let (a, b) = pair().await;
    let busy = Err(CallError::Busy(b.id));
    assert_eq!(a.call(&b, Lane::Calls, "x").await, busy);
    b.mesh.serve(
        Service::Invoke,
        Arc::new(Serve(|_| async { Err(Declined("not today".into())) })),
    );
    let error = a.call(&b, Lane::Calls, "x").await.unwrap_err();
    assert_eq!(error.to_string(), format!("node {}: not today", b.id));
    assert!(!error.maybe_handled());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_takes_only_its_call_along() {
    let (a, b) = pair().await;
    b.mesh.serve(
        Service::Invoke,
        Arc::new(Serve(|incoming: Incoming| async move {
            assert!(incoming.body.is_empty(), "on purpose");
            Ok(incoming.body)
        })),
    );
    let deadline = Instant::now() + Duration::from_millis(300);
    let call = a
        .mesh
        .call(b.id, Lane::Bulk, Service::Invoke, "x".into(), deadline);
    assert_eq!(call.await, Err(CallError::Deadline(b.id)));
    for _ in 0..2 * Lane::Bulk.in_flight_max() {
        a.call(&b, Lane::Bulk, "").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_lost_and_what_was_not_is_not_sent() {
    let (a, b) = pair().await;
    let gate = Gate::serve(&b.mesh);
    let call = a.call(&b, Lane::Calls, "x");
    let stop = async {
        assert_eq!(gate.next().await, "began");
        b.mesh.shutdown().await;
        assert_eq!(gate.next().await, "dropped");
    };
    let (lost, ()) = tokio::join!(call, stop);
    let lost = lost.unwrap_err();
    assert_eq!(lost, CallError::Lost(b.id));
    assert!(lost.maybe_handled());
    a.unlinked(&b).await;
    let unsent = a.call(&b, Lane::Calls, "x").await.unwrap_err();
    assert_eq!(unsent, CallError::NotSent(b.id));
    assert!(!unsent.maybe_handled());
    // One's own shutdown ends calls the same way.
    let c = start().await;
    let gate = Gate::serve(&c.mesh);
    a.keep(&c);
    a.linked(&c).await;
    let call = a.call(&c, Lane::Calls, "x");
    let stop = async {
        assert_eq!(gate.next().await, "began");
        a.mesh.shutdown().await;
    };
    assert_eq!(tokio::join!(call, stop).0, Err(CallError::Lost(c.id)));
    assert_eq!(gate.next().await, "dropped");
}
