//! What waits to be written to a stream: bounded by frames and bytes, written
//! in as few writes as possible.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::{AsyncWrite, AsyncWriteExt};
use orama_proto::frame::{Head, encode_head};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::mesh::metrics::LaneMetrics;

/// Frames are put together into writes of about this size.
const WRITE_MAX: usize = 256 << 10;
/// A body of this size is written from where it is.
const UNCOPIED_MIN: usize = 64 << 10;
/// A write that makes no progress for so long ends the link: the peer does not read.
pub(in crate::mesh) const STALLED: Duration = Duration::from_secs(10);

/// The frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mesh) enum Full {
    /// No room now.
    Full,
    /// The link has ended.
    Closed,
}

pub(in crate::mesh) struct Outbox {
    state: Mutex<State>,
    /// For the writer.
    filled: Notify,
    /// For those who wait for room.
    emptied: Notify,
    frames_max: usize,
    bytes_max: usize,
    metrics: LaneMetrics,
}

#[derive(Default)]
struct State {
    queue: VecDeque<(Head, Bytes)>,
    bytes: usize,
    closed: bool,
}

impl Outbox {
    pub(in crate::mesh) fn new(frames_max: usize, bytes_max: usize, metrics: LaneMetrics) -> Self {
        Self {
            state: Mutex::default(),
            filled: Notify::new(),
            emptied: Notify::new(),
            frames_max,
            bytes_max,
            metrics,
        }
    }

    /// Queues a frame if there is room. A frame that is larger than all room fits into an empty queue.
    pub(in crate::mesh) fn try_push(&self, head: Head, body: Bytes) -> Result<(), (Full, Bytes)> {
        let mut state = self.state.lock();
        if state.closed {
            return Err((Full::Closed, body));
        }
        let fits = state.queue.len() < self.frames_max
            && (state.queue.is_empty() || state.bytes + body.len() <= self.bytes_max);
        if !fits {
            return Err((Full::Full, body));
        }
        state.bytes += body.len();
        state.queue.push_back((head, body));
        drop(state);
        self.metrics.queued.inc();
        self.filled.notify_one();
        Ok(())
    }

    /// Queues a frame as soon as there is room.
    pub(in crate::mesh) async fn push(&self, head: Head, mut body: Bytes) -> Result<(), Full> {
        loop {
            // Registered before the look, so that room made in between is not missed.
            let mut room = std::pin::pin!(self.emptied.notified());
            match self.try_push(head, body) {
                Ok(()) => return Ok(()),
                Err((Full::Closed, _)) => return Err(Full::Closed),
                Err((Full::Full, back)) => body = back,
            }
            room.as_mut().enable();
            match self.try_push(head, body) {
                Ok(()) => return Ok(()),
                Err((Full::Closed, _)) => return Err(Full::Closed),
                Err((Full::Full, back)) => body = back,
            }
            room.await;
        }
    }

    /// Takes no more frames; what waits is dropped. Frames are "not written"
    /// exactly when `take` was not called for them.
    pub(in crate::mesh) fn close(&self) {
        let dropped = {
            let mut state = self.state.lock();
            state.closed = true;
            state.bytes = 0;
            std::mem::take(&mut state.queue)
        };
        self.count_off(dropped.len());
        self.filled.notify_one();
        self.emptied.notify_waiters();
    }

    fn count_off(&self, frames: usize) {
        self.metrics
            .queued
            .sub(i64::try_from(frames).unwrap_or(i64::MAX));
    }

    /// Writes what is queued until the outbox is closed or the stream breaks.
    /// `take` is asked before each frame whether it is still wanted; from a yes
    /// on, the frame counts as written.
    pub(in crate::mesh) async fn write_to(
        &self,
        mut stream: impl AsyncWrite + Unpin,
        mut take: impl FnMut(&Head) -> bool,
    ) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(4 << 10);
        loop {
            buffer.clear();
            if buffer.capacity() > 2 * WRITE_MAX {
                buffer.shrink_to(WRITE_MAX);
            }
            let Some(tail) = self.gather(&mut buffer, &mut take)? else {
                return Ok(());
            };
            if buffer.is_empty() {
                self.filled.notified().await;
                continue;
            }
            write_all(&mut stream, &buffer).await?;
            write_all(&mut stream, &tail).await?;
            timeout(STALLED, stream.flush())
                .await
                .map_err(|_| stalled())??;
            let written = buffer.len() + tail.len();
            self.metrics.bytes_out.inc_by(written as u64);
        }
    }

    /// Moves frames into the buffer; a long body is handed back to be written
    /// behind it. `None`: closed.
    fn gather(
        &self,
        buffer: &mut Vec<u8>,
        take: &mut impl FnMut(&Head) -> bool,
    ) -> io::Result<Option<Bytes>> {
        let mut tail = Bytes::new();
        let (mut taken, mut wanted) = (0, 0);
        {
            let mut state = self.state.lock();
            if state.closed {
                return Ok(None);
            }
            while buffer.len() < WRITE_MAX && tail.is_empty() {
                let Some((head, body)) = state.queue.pop_front() else {
                    break;
                };
                state.bytes -= body.len();
                taken += 1;
                if !take(&head) {
                    continue;
                }
                wanted += 1;
                encode_head(head, body.len(), buffer).map_err(io::Error::other)?;
                if body.len() < UNCOPIED_MIN {
                    buffer.extend_from_slice(&body);
                } else {
                    tail = body;
                }
            }
        }
        if taken > 0 {
            self.count_off(taken);
            self.metrics.frames_out.inc_by(wanted);
            self.emptied.notify_waiters();
        }
        Ok(Some(tail))
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.close();
    }
}

async fn write_all(stream: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = timeout(STALLED, stream.write(bytes))
            .await
            .map_err(|_| stalled())??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
    }
    Ok(())
}

fn stalled() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")
}
