//! Attempts with guests that are plain futures.

use super::*;
use crate::worker::admission::Limits;
use orama_proto::function::{FunctionSpec, FunctionStatus};
use orama_proto::{ContentId, ErrorCode, FunctionName, Namespace};
use parking_lot::Mutex;
use prometheus::Registry;

struct World {
    request: Request,
    admission: Arc<Admission>,
    metrics: Arc<Metrics>,
    records: Mutex<Vec<InvocationRecord>>,
}

impl World {
    fn new(retry_count: u32) -> Self {
        let metrics = Arc::new(Metrics::register(&Registry::new()).unwrap());
        let limits = Limits {
            running: 1,
            per_namespace: 1,
            queued_per_namespace: 4,
            wait: Duration::from_secs(5),
        };
        let spec = FunctionSpec {
            retry_count,
            // Not a value the API allows: tests shall not wait.
            retry_delay_seconds: 0,
            ..FunctionSpec::default()
        };
        let function = FunctionVersion {
            function_id: "id".into(),
            namespace: Namespace::parse("default").unwrap(),
            name: FunctionName::parse("f").unwrap(),
            version: 2,
            wasm_cid: ContentId::of(b""),
            wasm_bytes: 0,
            spec,
            status: FunctionStatus::Active,
            created_at: Timestamp::now(),
            updated_at: Timestamp::now(),
            created_by: String::new(),
            rolled_back_from: None,
        };
        Self {
            request: Request {
                id: RequestId::random(),
                function: Arc::new(function),
                principal: Arc::new(Principal::Anonymous),
                trigger: Trigger::Http,
                input_size: 7,
            },
            admission: Admission::new(limits, Arc::clone(&metrics)),
            metrics,
            records: Mutex::new(Vec::new()),
        }
    }

    async fn run<A>(&self, attempt: impl FnMut() -> A) -> Result<(Bytes, Duration), Failure>
    where
        A: Future<Output = Result<Outcome, ApiError>>,
    {
        let attempts = Attempts {
            request: &self.request,
            admission: &self.admission,
            metrics: &self.metrics,
            record: &|record| self.records.lock().push(record),
        };
        attempts.run(None, attempt).await
    }

    fn journal(&self) -> Vec<(u32, InvocationStatus, String)> {
        let records = self.records.lock();
        let all = records.iter();
        all.map(|r| (r.attempt, r.status, r.error_message.clone()))
            .collect()
    }
}

fn outcome(result: Result<Bytes, GuestError>) -> Result<Outcome, ApiError> {
    Ok(Outcome {
        result,
        started_at: Timestamp(1_000_000),
        duration: Duration::from_micros(2_500),
        output_size: 3,
        memory_peak: MIB + 1,
        logs: Vec::new(),
        dropped_log_lines: 5,
    })
}

fn exit(code: i32) -> Result<Outcome, ApiError> {
    outcome(Err(GuestError::Exit {
        code,
        detail: String::new(),
    }))
}

#[tokio::test]
async fn a_success_leaves_one_full_record() {
    let world = World::new(3);
    let (output, took) = world
        .run(|| async { outcome(Ok(Bytes::from_static(b"out"))) })
        .await
        .unwrap();
    assert_eq!((output.as_ref(), took.as_micros()), (&b"out"[..], 2_500));
    let records = world.records.lock();
    let [record] = records.as_slice() else {
        panic!("one record")
    };
    assert_eq!(record.request_id, world.request.id);
    assert_eq!((record.version, record.attempt), (2, 1));
    assert_eq!((record.input_size, record.output_size), (7, 3));
    assert_eq!((record.memory_used_mb, record.duration_ms), (2, 2));
    assert_eq!(record.completed_at, Timestamp(1_002_500));
    assert_eq!(record.dropped_log_lines, 5);
}

#[tokio::test]
async fn a_place_that_was_taken_before_is_used_and_given_back() {
    let world = World::new(0);
    let place = world.admission.try_place(&world.request.function.namespace);
    assert!(place.is_some());
    let attempts = Attempts {
        request: &world.request,
        admission: &world.admission,
        metrics: &world.metrics,
        record: &|_| (),
    };
    // There is no other place: taking one again would wait for ever.
    let ran = attempts.run(place, || async { outcome(Ok(Bytes::new())) });
    assert!(ran.await.is_ok());
    assert_eq!(world.admission.load(), (0, 0));
}

#[test]
fn an_attempt_that_was_lost_elsewhere_has_a_record_too() {
    let world = World::new(0);
    let record = world
        .request
        .lost(Timestamp(5), Duration::from_millis(7), "gone".into());
    assert_eq!(record.request_id, world.request.id);
    assert_eq!(
        (record.attempt, record.duration_ms, record.input_size),
        (1, 7, 7)
    );
    assert_eq!(
        (record.status, &*record.error_message),
        (InvocationStatus::Error, "gone")
    );
}

#[tokio::test]
async fn each_attempt_is_recorded_under_one_request() {
    let world = World::new(2);
    let mut codes = [3, 4, 0].into_iter();
    let result = world
        .run(|| {
            let code = codes.next().unwrap();
            async move {
                match code {
                    0 => outcome(Ok(Bytes::new())),
                    code => exit(code),
                }
            }
        })
        .await;
    assert!(result.is_ok());
    let journal = world.journal();
    let numbers: Vec<_> = journal.iter().map(|(n, ..)| *n).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(journal[1].2, "the function exited with code 4");
    assert_eq!(journal[2].1, InvocationStatus::Success);
    assert_eq!(world.metrics.retries.get(), 2);
}

#[tokio::test]
async fn attempts_end_with_the_count_and_with_hopeless_errors() {
    let world = World::new(1);
    let result = world.run(|| async { exit(1) }).await;
    assert!(matches!(result, Err(Failure::Guest(_))));
    assert_eq!(world.journal().len(), 2);
    let world = World::new(5);
    let late = GuestError::Timeout {
        after: Duration::from_secs(1),
    };
    let result = world.run(|| async { outcome(Err(late.clone())) }).await;
    assert!(matches!(
        result,
        Err(Failure::Guest(GuestError::Timeout { .. }))
    ));
    assert_eq!(world.journal()[0].1, InvocationStatus::Timeout);
    assert_eq!(world.journal().len(), 1);
    let world = World::new(5);
    let gone = || ApiError::new(ErrorCode::FunctionUnavailable, "no module");
    let result = world.run(|| async { Err(gone()) }).await;
    assert!(matches!(result, Err(Failure::Module(_))));
    assert_eq!(
        world.journal(),
        [(1, InvocationStatus::Error, "no module".into())]
    );
}

#[tokio::test]
async fn a_cancelled_attempt_is_recorded_and_gives_its_place_back() {
    let world = World::new(5);
    let mut call = Box::pin(world.run(std::future::pending));
    assert!(futures::poll!(&mut call).is_pending());
    drop(call);
    let cancelled = "cancelled by the caller".to_owned();
    assert_eq!(world.journal(), [(1, InvocationStatus::Error, cancelled)]);
    assert_eq!(world.metrics.cancelled.get(), 1);
    let again = world.run(|| async { outcome(Ok(Bytes::new())) }).await;
    assert!(again.is_ok(), "the only place is free again");
}

#[tokio::test]
async fn who_is_cancelled_in_the_queue_has_not_run() {
    let world = World::new(0);
    let place = world
        .admission
        .place(&world.request.function.namespace)
        .await;
    let mut call = Box::pin(world.run(|| async { exit(1) }));
    assert!(futures::poll!(&mut call).is_pending());
    drop(call);
    assert!(world.journal().is_empty() && place.is_ok());
}

#[tokio::test]
async fn no_place_is_held_between_attempts_and_a_drain_ends_the_pause() {
    let mut world = World::new(5);
    let mut function = (*world.request.function).clone();
    function.spec.retry_delay_seconds = 300;
    world.request.function = Arc::new(function);
    let mut call = Box::pin(world.run(|| async { exit(9) }));
    assert!(futures::poll!(&mut call).is_pending());
    let namespace = &world.request.function.namespace;
    assert!(world.admission.place(namespace).await.is_ok());
    world.admission.close();
    let result = call.await;
    assert!(matches!(
        result,
        Err(Failure::Guest(GuestError::Exit { code: 9, .. }))
    ));
    assert_eq!(world.journal().len(), 1);
}

#[test]
fn long_errors_are_cut_between_characters() {
    let text = cut("é".repeat(ERROR_MAX_BYTES));
    assert!(text.len() <= ERROR_MAX_BYTES + 3 && text.ends_with('…'));
    assert_eq!(cut("short".into()), "short");
}
