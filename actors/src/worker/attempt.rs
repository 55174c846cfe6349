//! The attempts of one invocation: places, retries, and a record of each.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use orama_proto::function::FunctionVersion;
use orama_proto::invocation::{InvocationRecord, InvocationStatus, LogLine, Principal, Trigger};
use orama_proto::limits::MIB;
use orama_proto::{ApiError, RequestId, Timestamp};

use super::admission::{Admission, Place, Refusal};
use super::metrics::Metrics;
use super::retry;
use crate::runtime::{GuestError, Outcome};

/// Longest error text kept in a record, bytes.
const ERROR_MAX_BYTES: usize = 8 * 1024;

/// What all attempts have in common.
pub(crate) struct Request {
    pub(crate) id: RequestId,
    pub(crate) function: Arc<FunctionVersion>,
    /// As the guest sees it.
    pub(crate) principal: Arc<Principal>,
    pub(crate) trigger: Trigger,
    pub(crate) input_size: u64,
}

impl Request {
    /// The record of an attempt on another node that never answered. Only that
    /// node could have said more, and it may not come back.
    pub(super) fn lost(
        &self,
        started_at: Timestamp,
        took: Duration,
        error: String,
    ) -> InvocationRecord {
        let end = End {
            status: InvocationStatus::Error,
            error,
            started_at,
            took,
            output_size: 0,
            memory_peak: 0,
            logs: Vec::new(),
            dropped_log_lines: 0,
        };
        self.record(1, end)
    }

    fn record(&self, attempt: u32, end: End) -> InvocationRecord {
        let micros = u64::try_from(end.took.as_micros()).unwrap_or(u64::MAX);
        InvocationRecord {
            // The journal gives it, in the order of writing.
            id: String::new(),
            request_id: self.id.clone(),
            namespace: self.function.namespace.clone(),
            function: self.function.name.clone(),
            version: self.function.version,
            attempt,
            trigger_type: self.trigger,
            caller_wallet: self.principal.wallet().to_owned(),
            input_size: self.input_size,
            output_size: end.output_size,
            started_at: end.started_at,
            completed_at: Timestamp(end.started_at.0.saturating_add(micros)),
            duration_ms: micros / 1_000,
            status: end.status,
            error_message: cut(end.error),
            memory_used_mb: u32::try_from(end.memory_peak.div_ceil(MIB)).unwrap_or(u32::MAX),
            wasm_logs: end.logs,
            dropped_log_lines: end.dropped_log_lines,
        }
    }
}

/// Why an invocation has no output.
#[derive(Debug)]
pub(super) enum Failure {
    /// There was no place for the first attempt.
    Refused(Refusal),
    /// The last attempt's guest failed.
    Guest(GuestError),
    /// The module could not be had.
    Module(ApiError),
}

/// Runs attempts.
pub(super) struct Attempts<'a> {
    pub(super) request: &'a Request,
    pub(super) admission: &'a Arc<Admission>,
    pub(super) metrics: &'a Metrics,
    /// Takes a record; must not wait.
    pub(super) record: &'a (dyn Fn(InvocationRecord) + Send + Sync),
}

impl Attempts<'_> {
    /// Runs `attempt` until it succeeds, must not be tried again, or has been
    /// tried often enough. Each attempt holds a place, the first one `place` if
    /// it was taken already; the pauses hold none.
    /// Answers the output and how long the last attempt took.
    ///
    /// Dropping the future stops the guest, gives the place back and leaves a
    /// record that says so.
    pub(super) async fn run<F, A>(
        &self,
        mut place: Option<Place>,
        mut attempt: F,
    ) -> Result<(Bytes, Duration), Failure>
    where
        F: FnMut() -> A,
        A: Future<Output = Result<Outcome, ApiError>>,
    {
        let function = &self.request.function;
        let retries = function.spec.retry_count;
        let mut failed = None;
        for number in 1..=retries.saturating_add(1) {
            let place = match place.take() {
                Some(place) => place,
                None => match self.admission.place(&function.namespace).await {
                    Ok(place) => place,
                    // What the guest said is worth more than that there was no room to ask again.
                    Err(refusal) => {
                        return Err(failed.map_or(Failure::Refused(refusal), Failure::Guest));
                    }
                },
            };
            let open = Open::new(self, number);
            let ended = attempt().await;
            drop(place);
            let error = match ended {
                Err(unavailable) => {
                    open.unavailable(&unavailable);
                    return Err(Failure::Module(unavailable));
                }
                Ok(outcome) => {
                    let took = outcome.duration;
                    match open.ended(outcome) {
                        Ok(output) => return Ok((output, took)),
                        Err(error) => error,
                    }
                }
            };
            if number > retries || !retry::worth_another(&error) {
                return Err(Failure::Guest(error));
            }
            let pause = retry::pause(&function.spec, number - 1, retry::random());
            if !self.admission.pause(pause).await {
                return Err(Failure::Guest(error));
            }
            self.metrics.retries.inc();
            failed = Some(error);
        }
        // Unreached: the last round returns.
        Err(failed.map_or(Failure::Refused(Refusal::Draining), Failure::Guest))
    }
}

/// An attempt that has begun and has no record yet. Dropped without an end, it
/// records that the caller went away.
struct Open<'a, 'b> {
    attempts: &'a Attempts<'b>,
    number: u32,
    started_at: Timestamp,
    clock: Instant,
    done: bool,
}

/// How an attempt ended, as a record says it.
struct End {
    status: InvocationStatus,
    error: String,
    started_at: Timestamp,
    took: Duration,
    output_size: u64,
    memory_peak: usize,
    logs: Vec<LogLine>,
    dropped_log_lines: u64,
}

impl<'a, 'b> Open<'a, 'b> {
    fn new(attempts: &'a Attempts<'b>, number: u32) -> Self {
        Self {
            attempts,
            number,
            started_at: Timestamp::now(),
            clock: Instant::now(),
            done: false,
        }
    }

    fn ended(mut self, outcome: Outcome) -> Result<Bytes, GuestError> {
        let (status, error) = match &outcome.result {
            Ok(_) => (InvocationStatus::Success, String::new()),
            Err(error @ GuestError::Timeout { .. }) => {
                (InvocationStatus::Timeout, error.to_string())
            }
            Err(error) => (InvocationStatus::Error, error.to_string()),
        };
        self.write(End {
            status,
            error,
            started_at: outcome.started_at,
            took: outcome.duration,
            output_size: outcome.output_size,
            memory_peak: outcome.memory_peak,
            logs: outcome.logs,
            dropped_log_lines: outcome.dropped_log_lines,
        });
        outcome.result
    }

    fn unavailable(mut self, error: &ApiError) {
        self.without_guest(error.message.clone());
    }

    fn without_guest(&mut self, error: String) {
        self.write(End {
            status: InvocationStatus::Error,
            error,
            started_at: self.started_at,
            took: self.clock.elapsed(),
            output_size: 0,
            memory_peak: 0,
            logs: Vec::new(),
            dropped_log_lines: 0,
        });
    }

    fn write(&mut self, end: End) {
        self.done = true;
        let Attempts {
            request,
            metrics,
            record,
            ..
        } = self.attempts;
        metrics.ended(end.status, request.trigger, end.took);
        record(request.record(self.number, end));
    }
}

impl Drop for Open<'_, '_> {
    fn drop(&mut self) {
        if !self.done {
            self.attempts.metrics.cancelled.inc();
            self.without_guest("cancelled by the caller".to_owned());
        }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > ERROR_MAX_BYTES {
        let end = text.floor_char_boundary(ERROR_MAX_BYTES);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
#[path = "attempt_tests.rs"]
mod tests;
