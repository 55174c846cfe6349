//! A record for tests.

use orama_proto::invocation::{InvocationRecord, InvocationStatus, Trigger};
use orama_proto::{FunctionName, Namespace, RequestId, Timestamp};

pub(super) fn record(id: &str) -> InvocationRecord {
    InvocationRecord {
        id: id.to_owned(),
        request_id: RequestId::from("r"),
        namespace: Namespace::parse("ns").unwrap(),
        function: FunctionName::parse("f").unwrap(),
        version: 1,
        attempt: 1,
        trigger_type: Trigger::Http,
        caller_wallet: String::new(),
        input_size: 0,
        output_size: 0,
        started_at: Timestamp(0),
        completed_at: Timestamp(0),
        duration_ms: 0,
        status: InvocationStatus::Success,
        error_message: String::new(),
        memory_used_mb: 0,
        wasm_logs: Vec::new(),
        dropped_log_lines: 0,
    }
}
