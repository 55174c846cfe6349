//! Calls in on one lane of one link.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{AsyncRead, AsyncWrite};
use orama_proto::NodeId;
use orama_proto::frame::{Head, Outcome};
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::timeout_at;

use super::Outbox;
use crate::mesh::frame::{FrameError, FrameReader};
use crate::mesh::metrics::Metrics;
use crate::mesh::{Declined, Incoming, Lane, Service};

/// Answers that may wait beside those of calls in flight: refusals.
const REFUSALS: usize = 64;
/// A caller that says it waits longer is believed so much.
const WAITS_MAX: Duration = Duration::from_secs(3600);

type Run = crate::mesh::BoxFuture<'static, Result<Bytes, Declined>>;

pub(in crate::mesh) struct Server {
    lane: Lane,
    outbox: Outbox,
    running: Mutex<Running>,
    metrics: Metrics,
}

#[derive(Default)]
struct Running {
    calls: HashMap<u64, Call>,
    bytes: usize,
    /// Tells a call from a later one with the same id.
    next: u64,
    closed: bool,
}

struct Call {
    run: u64,
    bytes: usize,
    /// Set as soon as the task runs.
    task: Option<AbortHandle>,
}

/// The place of a call; freed with it.
struct Place {
    server: Arc<Server>,
    id: u64,
    run: u64,
}

impl Call {
    fn abort(self) {
        if let Some(task) = self.task {
            task.abort();
        }
    }
}

impl Server {
    pub(in crate::mesh) fn new(lane: Lane, metrics: &Metrics) -> Self {
        Self {
            lane,
            outbox: Outbox::new(
                lane.in_flight_max() + REFUSALS,
                lane.bytes_max(),
                metrics.lane(lane).clone(),
            ),
            running: Mutex::default(),
            metrics: metrics.clone(),
        }
    }

    /// Writes answers.
    pub(in crate::mesh) async fn write(&self, stream: impl AsyncWrite + Unpin) -> io::Result<()> {
        self.outbox.write_to(stream, |_| true).await
    }

    /// Whether a call is being handled.
    pub(in crate::mesh) fn is_busy(&self) -> bool {
        !self.running.lock().calls.is_empty()
    }

    /// Stops every call: the link is gone.
    pub(in crate::mesh) fn close(&self) {
        let calls = {
            let mut running = self.running.lock();
            running.closed = true;
            running.bytes = 0;
            std::mem::take(&mut running.calls)
        };
        self.gauge_off(calls.len());
        for call in calls.into_values() {
            call.abort();
        }
        self.outbox.close();
    }

    fn gauge_off(&self, calls: usize) {
        let handling = &self.metrics.lane(self.lane).handling;
        handling.sub(i64::try_from(calls).unwrap_or(i64::MAX));
    }

    /// Reads requests and cancels. `dispatch` answers the run of a request, or
    /// `None` when nobody takes it.
    pub(in crate::mesh) async fn read(
        self: &Arc<Self>,
        from: NodeId,
        stream: impl AsyncRead + Unpin,
        dispatch: impl Fn(Service, Incoming) -> Option<Run>,
        heard: impl Fn(),
    ) -> Result<(), FrameError> {
        let metrics = self.metrics.lane(self.lane);
        let mut reader = FrameReader::new(stream, self.lane.frame_max());
        loop {
            while let Some(frame) = reader.ready()? {
                metrics.frames_in.inc();
                match frame.head {
                    Head::Request {
                        id,
                        service,
                        timeout_ms,
                    } => {
                        let waits = Duration::from_millis(timeout_ms).min(WAITS_MAX);
                        let incoming = Incoming {
                            from,
                            deadline: Instant::now() + waits,
                            body: frame.body,
                        };
                        if !self.begin(id, service, incoming, &dispatch)? {
                            // Waits for room: a peer that does not read is not read either.
                            let outcome = Outcome::Busy;
                            let head = Head::Answer { id, outcome };
                            if self.outbox.push(head, Bytes::new()).await.is_err() {
                                return Err(FrameError::End);
                            }
                        }
                    }
                    Head::Cancel { id } => self.cancel(id),
                    Head::Answer { .. } => {
                        return Err(FrameError::Unexpected("an answer where requests come"));
                    }
                }
            }
            let read = reader.fill().await?;
            metrics.bytes_in.inc_by(read as u64);
            heard();
        }
    }

    /// Starts a call, or answers that it is not taken.
    fn begin(
        self: &Arc<Self>,
        id: u64,
        service: u8,
        incoming: Incoming,
        dispatch: impl Fn(Service, Incoming) -> Option<Run>,
    ) -> Result<bool, FrameError> {
        let bytes = incoming.body.len();
        let deadline = incoming.deadline;
        {
            let running = self.running.lock();
            if running.calls.contains_key(&id) {
                return Err(FrameError::Unexpected("a request with an id in use"));
            }
            // A single body of any permitted size is taken when nothing else is there.
            let full = running.calls.len() >= places(self.lane)
                || (running.bytes > 0 && running.bytes + bytes > self.lane.bytes_max());
            if full || running.closed {
                return Ok(false);
            }
        }
        let Some(service) = Service::from_wire(service) else {
            return Ok(false);
        };
        let Some(work) = dispatch(service, incoming) else {
            return Ok(false);
        };
        self.metrics.served(service);
        let run = {
            let mut running = self.running.lock();
            if running.closed {
                return Ok(false);
            }
            let run = running.next;
            running.next += 1;
            let task = None;
            running.calls.insert(id, Call { run, bytes, task });
            running.bytes += bytes;
            run
        };
        self.metrics.lane(self.lane).handling.inc();
        let place = Place {
            server: Arc::clone(self),
            id,
            run,
        };
        let task = tokio::spawn(place.handle(deadline, work)).abort_handle();
        match self.running.lock().calls.get_mut(&id) {
            Some(call) => call.task = Some(task),
            // Done already, or the link has ended.
            None => task.abort(),
        }
        Ok(true)
    }

    fn cancel(&self, id: u64) {
        let mut running = self.running.lock();
        if let Some(call) = running.calls.remove(&id) {
            running.bytes -= call.bytes;
            drop(running);
            self.gauge_off(1);
            call.abort();
        }
    }
}

/// Calls in flight. Some more than the caller thinks it may have: it sees an
/// answer a moment before its place is free here.
fn places(lane: Lane) -> usize {
    lane.in_flight_max() + lane.in_flight_max() / 4
}

impl Place {
    async fn handle(self, deadline: Instant, work: Run) {
        // After the deadline nobody waits.
        let Ok(result) = timeout_at(deadline.into(), work).await else {
            return;
        };
        let limit = self.server.lane.frame_max();
        let (outcome, body) = match result {
            Ok(body) if body.len() > limit => {
                // Not declined: the handler did its work.
                tracing::warn!(
                    lane = self.server.lane.as_str(),
                    bytes = body.len(),
                    limit,
                    "an answer is over the lane's limit; its caller gets none"
                );
                return;
            }
            Ok(body) => (Outcome::Done, body),
            Err(Declined(mut why)) => {
                if why.len() > limit {
                    let mut end = limit;
                    while !why.is_char_boundary(end) {
                        end -= 1;
                    }
                    why.truncate(end);
                }
                (Outcome::Declined, Bytes::from(why))
            }
        };
        let head = Head::Answer {
            id: self.id,
            outcome,
        };
        // The place is kept until the answer is queued, so that answers are bounded like calls.
        let _ = self.server.outbox.push(head, body).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut running = self.server.running.lock();
        if running
            .calls
            .get(&self.id)
            .is_some_and(|call| call.run == self.run)
            && let Some(call) = running.calls.remove(&self.id)
        {
            running.bytes -= call.bytes;
            drop(running);
            self.server.gauge_off(1);
        }
    }
}
