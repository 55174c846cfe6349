//! Reads frames off a stream.
//!
//! A length is checked against the lane's limit before anything is done with
//! it, and even a permitted one allocates nothing: the buffer grows with the
//! bytes that have arrived.

use std::io;

use bytes::{Bytes, BytesMut};
use futures::{AsyncRead, AsyncReadExt};
use orama_proto::frame::{self, Head, PREFIX};
use orama_proto::record::RecordError;

/// Bytes asked of the stream at once: at least, and at most once they keep coming.
const CHUNK_MIN: usize = 2 << 10;
const CHUNK_MAX: usize = 64 << 10;

/// The stream cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("the stream ended")]
    End,
    #[error("the stream broke: {0}")]
    Io(io::Error),
    #[error("a frame of {length} bytes, the limit is {limit}")]
    TooLong { length: usize, limit: usize },
    #[error("{0}")]
    Malformed(#[from] RecordError),
    #[error("a frame that has no place here: {0}")]
    Unexpected(&'static str),
}

impl FrameError {
    /// Whether the peer broke the rules, in contrast to the network.
    pub(super) fn is_violation(&self) -> bool {
        !matches!(self, Self::End | Self::Io(_))
    }
    /// For metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::End => "closed",
            Self::Io(_) => "broken",
            Self::TooLong { .. } => "frame_too_long",
            Self::Malformed(_) => "frame_malformed",
            Self::Unexpected(_) => "frame_unexpected",
        }
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) head: Head,
    pub(super) body: Bytes,
}

/// Cuts a stream of bytes into frames.
#[derive(Debug)]
pub(super) struct Decoder {
    limit: usize,
    buffer: BytesMut,
}

impl Decoder {
    /// For bodies up to `body_max`.
    pub(super) fn new(body_max: usize) -> Self {
        Self {
            limit: body_max + frame::HEAD_MAX,
            buffer: BytesMut::new(),
        }
    }

    /// The next whole frame of what was put in.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*prefix) as usize;
        if length > self.limit {
            return Err(FrameError::TooLong {
                length,
                limit: self.limit,
            });
        }
        if self.buffer.len() < PREFIX + length {
            return Ok(None);
        }
        let mut bytes = self.buffer.split_to(PREFIX + length).split_off(PREFIX);
        let (head, body) = frame::decode_head(&bytes)?;
        let body = bytes.split_off(body).freeze();
        if body.len() + frame::HEAD_MAX > self.limit {
            return Err(FrameError::TooLong {
                length,
                limit: self.limit,
            });
        }
        Ok(Some(Frame { head, body }))
    }

    #[cfg(test)]
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }
}

/// A stream and its decoder.
pub(super) struct FrameReader<R> {
    stream: R,
    decoder: Decoder,
    chunk: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(stream: R, body_max: usize) -> Self {
        Self {
            stream,
            decoder: Decoder::new(body_max),
            chunk: CHUNK_MIN,
        }
    }

    /// A frame that is here already.
    pub(super) fn ready(&mut self) -> Result<Option<Frame>, FrameError> {
        self.decoder.next()
    }

    /// Waits for bytes and answers how many came.
    pub(super) async fn fill(&mut self) -> Result<usize, FrameError> {
        let buffer = &mut self.decoder.buffer;
        let had = buffer.len();
        buffer.resize(had + self.chunk, 0);
        let read = self.stream.read(&mut buffer[had..]).await;
        let got = *read.as_ref().unwrap_or(&0);
        buffer.truncate(had + got);
        match read {
            Ok(0) => return Err(FrameError::End),
            Ok(_) => {}
            Err(e) => return Err(FrameError::Io(e)),
        }
        self.chunk = if got == self.chunk {
            (self.chunk * 2).min(CHUNK_MAX)
        } else if got < self.chunk / 4 {
            (self.chunk / 2).max(CHUNK_MIN)
        } else {
            self.chunk
        };
        Ok(got)
    }
}
