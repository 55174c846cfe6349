//! What every invocation must leave behind, checked in one place.

use std::time::Duration;

use orama_proto::error::{ApiError, ErrorCode};
use orama_proto::invocation::{InvocationRecord, InvocationStatus, Trigger};

use crate::client::{Reply, Tenant};

/// How long the journal may lag behind the answer.
const JOURNAL_LAG: Duration = Duration::from_secs(10);

/// The records of this request, oldest first, once there are `count`.
pub async fn await_records(
    tenant: &Tenant,
    function: &str,
    request_id: &str,
    count: usize,
) -> Vec<InvocationRecord> {
    let began = std::time::Instant::now();
    let name = function.split('@').next().unwrap_or(function);
    loop {
        let logs = tenant.logs(name).await;
        let mut found: Vec<_> = logs
            .invocations
            .into_iter()
            .filter(|r| r.request_id.as_str() == request_id)
            .collect();
        if found.len() >= count {
            assert_eq!(found.len(), count, "one record per attempt: {found:?}");
            found.reverse();
            return found;
        }
        assert!(
            began.elapsed() < JOURNAL_LAG,
            "{} of {count} records of request {request_id} after {JOURNAL_LAG:?}",
            found.len()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The one record of this request.
pub async fn await_record(tenant: &Tenant, function: &str, request_id: &str) -> InvocationRecord {
    await_records(tenant, function, request_id, 1)
        .await
        .remove(0)
}

fn check_common(record: &InvocationRecord, tenant: &Tenant, function: &str, input: usize) {
    let name = function.split('@').next().unwrap_or(function);
    assert_eq!(record.namespace.as_str(), tenant.namespace);
    assert_eq!(record.function.as_str(), name);
    assert!(record.version >= 1);
    assert_eq!(record.trigger_type, Trigger::Http);
    assert_eq!(record.input_size, input as u64, "{record:?}");
    assert!(record.completed_at >= record.started_at, "{record:?}");
    let between = (record.completed_at.0 - record.started_at.0) / 1_000;
    assert!(
        record.duration_ms.abs_diff(between) <= 20 + record.duration_ms / 10,
        "duration_ms must be the time between the two instants: {record:?}"
    );
    assert!(uuid::Uuid::parse_str(&record.id).is_ok(), "{record:?}");
}

/// Invokes; the call must succeed and leave a record that says so.
pub async fn expect_success(
    tenant: &Tenant,
    function: &str,
    input: impl Into<Vec<u8>>,
) -> (Reply, InvocationRecord) {
    let input = input.into();
    let size = input.len();
    let reply = tenant.invoke(function, input).await;
    reply.output();
    let record = await_record(tenant, function, &reply.request_id()).await;
    check_common(&record, tenant, function, size);
    assert_eq!(record.status, InvocationStatus::Success, "{record:?}");
    assert_eq!(record.error_message, "");
    assert_eq!(record.attempt, 1);
    assert!(
        (1..=256).contains(&record.memory_used_mb),
        "memory_used_mb is the peak in MiB, rounded up: {record:?}"
    );
    assert_eq!(
        reply.header("x-duration-ms"),
        record.duration_ms.to_string()
    );
    (reply, record)
}

/// Invokes; the call must fail with this code and these words, in the answer
/// and in the record.
pub async fn expect_failure(
    tenant: &Tenant,
    function: &str,
    input: impl Into<Vec<u8>>,
    code: ErrorCode,
    words: &[&str],
) -> (ApiError, InvocationRecord) {
    let input = input.into();
    let size = input.len();
    let reply = tenant.invoke(function, input).await;
    let error = reply.expect_error(code, words);
    let record = await_record(tenant, function, &reply.request_id()).await;
    check_common(&record, tenant, function, size);
    let status = if code == ErrorCode::Timeout {
        InvocationStatus::Timeout
    } else {
        InvocationStatus::Error
    };
    assert_eq!(record.status, status, "{record:?}");
    let message = record.error_message.to_lowercase();
    for word in words {
        assert!(
            message.contains(&word.to_lowercase()),
            "the record should say {word:?}: {record:?}"
        );
    }
    (error, record)
}
