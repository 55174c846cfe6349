//! Calls out on one lane of one link.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{AsyncRead, AsyncWrite};
use orama_proto::frame::{Head, Outcome};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::{Full, Outbox};
use crate::mesh::frame::{FrameError, FrameReader};
use crate::mesh::metrics::LaneMetrics;
use crate::mesh::{Lane, Service};

/// Cancels that may wait beside the calls.
const CANCELS: usize = 64;

/// A call without an answer, as one link sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::mesh) enum Failure {
    /// The link ended before the request was written.
    NotSent,
    /// The peer did not take it, or it could not be written in time.
    Busy,
    Declined(String),
    /// The link ended after the request was written.
    Lost,
    Deadline,
}

pub(in crate::mesh) struct Client {
    lane: Lane,
    outbox: Outbox,
    calls: Mutex<Calls>,
    /// Rises with every answer: what the peer's life is measured by.
    answers: AtomicU64,
    metrics: LaneMetrics,
}

#[derive(Default)]
struct Calls {
    next: u64,
    pending: HashMap<u64, Pending>,
    closed: bool,
}

struct Pending {
    service: Service,
    written: bool,
    answer: oneshot::Sender<Result<Bytes, Failure>>,
}

/// Gives a call up when its future is dropped or its time is over.
struct Guard<'a> {
    client: &'a Client,
    id: u64,
}

impl Client {
    pub(in crate::mesh) fn new(lane: Lane, metrics: LaneMetrics) -> Self {
        Self {
            lane,
            outbox: Outbox::new(
                lane.in_flight_max() + CANCELS,
                lane.bytes_max(),
                metrics.clone(),
            ),
            calls: Mutex::default(),
            answers: AtomicU64::new(0),
            metrics,
        }
    }

    pub(in crate::mesh) async fn call(
        &self,
        service: Service,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Failure> {
        let now = Instant::now();
        if deadline <= now {
            return Err(Failure::Deadline);
        }
        let (id, answer) = self.begin(service)?;
        let guard = Guard { client: self, id };
        let head = Head::Request {
            id,
            service: service as u8,
            timeout_ms: millis(deadline - now),
        };
        if let Err((full, body)) = self.outbox.try_push(head, body) {
            let pushed = match full {
                Full::Closed => Err(Full::Closed),
                Full::Full => timeout_at(deadline.into(), self.outbox.push(head, body))
                    .await
                    .unwrap_or(Err(Full::Full)),
            };
            match pushed {
                Ok(()) => {}
                Err(Full::Full) => return Err(Failure::Busy),
                Err(Full::Closed) => return Err(Failure::NotSent),
            }
        }
        let result = timeout_at(deadline.into(), answer).await;
        match result {
            Ok(Ok(result)) => {
                // Resolved calls are not pending any more; nothing to give up.
                result
            }
            // Senders are dropped with a result only.
            Ok(Err(_)) => Err(Failure::Lost),
            Err(_) => Err(match guard.give_up() {
                Some(false) => Failure::Busy,
                _ => Failure::Deadline,
            }),
        }
    }

    fn begin(
        &self,
        service: Service,
    ) -> Result<(u64, oneshot::Receiver<Result<Bytes, Failure>>), Failure> {
        let mut calls = self.calls.lock();
        if calls.closed {
            return Err(Failure::NotSent);
        }
        if calls.pending.len() >= self.lane.in_flight_max() {
            return Err(Failure::Busy);
        }
        let (sender, answer) = oneshot::channel();
        let id = calls.next;
        calls.next += 1;
        calls.pending.insert(
            id,
            Pending {
                service,
                written: false,
                answer: sender,
            },
        );
        Ok((id, answer))
    }

    /// Whether a call waits for its answer; the mesh's own do not count.
    pub(in crate::mesh) fn is_busy(&self) -> bool {
        let calls = self.calls.lock();
        let mut pending = calls.pending.values();
        pending.any(|call| call.service != Service::Hello)
    }

    /// Answers so far.
    pub(in crate::mesh) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Ends every call: the link is gone.
    pub(in crate::mesh) fn close(&self) {
        let pending = {
            let mut calls = self.calls.lock();
            calls.closed = true;
            std::mem::take(&mut calls.pending)
        };
        self.outbox.close();
        for call in pending.into_values() {
            let _ = call.answer.send(Err(if call.written {
                Failure::Lost
            } else {
                Failure::NotSent
            }));
        }
    }

    /// Writes requests and cancels.
    pub(in crate::mesh) async fn write(&self, stream: impl AsyncWrite + Unpin) -> io::Result<()> {
        let take = |head: &Head| match head {
            Head::Request { id, .. } => match self.calls.lock().pending.get_mut(id) {
                Some(pending) => {
                    pending.written = true;
                    true
                }
                // Given up while it waited.
                None => false,
            },
            _ => true,
        };
        self.outbox.write_to(stream, take).await
    }

    /// Reads answers. `heard` is told of every read.
    pub(in crate::mesh) async fn read(
        &self,
        stream: impl AsyncRead + Unpin,
        heard: impl Fn(),
    ) -> Result<(), FrameError> {
        let mut reader = FrameReader::new(stream, self.lane.frame_max());
        loop {
            while let Some(frame) = reader.ready()? {
                self.metrics.frames_in.inc();
                let Head::Answer { id, outcome } = frame.head else {
                    return Err(FrameError::Unexpected("a request where answers come"));
                };
                self.answers.fetch_add(1, Ordering::Relaxed);
                let result = match outcome {
                    Outcome::Done => Ok(frame.body),
                    Outcome::Busy => Err(Failure::Busy),
                    Outcome::Declined => Err(Failure::Declined(
                        String::from_utf8_lossy(&frame.body).into_owned(),
                    )),
                };
                // One that was given up is not there any more.
                let pending = self.calls.lock().pending.remove(&id);
                if let Some(pending) = pending {
                    let _ = pending.answer.send(result);
                }
            }
            let read = reader.fill().await?;
            self.metrics.bytes_in.inc_by(read as u64);
            heard();
        }
    }
}

impl Guard<'_> {
    /// Whether the request was written; `None` when the call has ended.
    fn give_up(&self) -> Option<bool> {
        let pending = self.client.calls.lock().pending.remove(&self.id)?;
        if pending.written {
            // Without room the peer stops at the deadline that it knows.
            let _ = self
                .client
                .outbox
                .try_push(Head::Cancel { id: self.id }, Bytes::new());
        }
        Some(pending.written)
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// Rounded up: the peer must not give up before the caller.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}
