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

    /// Waits for bytes and answers how many came. Not to be cancelled and called again.
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

#[cfg(test)]
mod tests {
    use orama_proto::frame::{HEAD_MAX, Outcome, encode_head};
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1000;

    fn frames() -> impl Strategy<Value = Vec<Frame>> {
        let frame = (
            any::<u64>(),
            any::<u8>(),
            proptest::collection::vec(any::<u8>(), 0..=LIMIT),
        )
            .prop_map(|(id, kind, body)| {
                let head = match kind % 4 {
                    0 => Head::Request {
                        id,
                        service: kind,
                        timeout_ms: id / 2,
                    },
                    1 => Head::Answer {
                        id,
                        outcome: Outcome::Done,
                    },
                    2 => Head::Answer {
                        id,
                        outcome: Outcome::Busy,
                    },
                    _ => Head::Cancel { id },
                };
                let body = if kind % 4 < 2 {
                    body.into()
                } else {
                    Bytes::new()
                };
                Frame { head, body }
            });
        proptest::collection::vec(frame, 1..8)
    }

    fn encode(frames: &[Frame]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in frames {
            encode_head(frame.head, frame.body.len(), &mut bytes).unwrap();
            bytes.extend_from_slice(&frame.body);
        }
        bytes
    }

    /// Feeds bytes in pieces; stops at the first error.
    fn decode(bytes: &[u8], pieces: &[usize]) -> (Vec<Frame>, Option<FrameError>) {
        let mut decoder = Decoder::new(LIMIT);
        let (mut frames, mut rest) = (Vec::new(), bytes);
        let mut pieces = pieces.iter().cycle();
        while !rest.is_empty() {
            let take = pieces.next().map_or(rest.len(), |n| *n.min(&rest.len()));
            decoder.put(&rest[..take]);
            rest = &rest[take..];
            loop {
                match decoder.next() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => return (frames, Some(error)),
                }
            }
            // Never more than what came, and a frame that is not whole yet.
            assert!(decoder.buffer.len() <= PREFIX + LIMIT + HEAD_MAX);
        }
        (frames, None)
    }

    #[test]
    fn a_claimed_length_costs_nothing() {
        let mut decoder = Decoder::new(24 << 20);
        decoder.put(&(24u32 << 20).to_le_bytes());
        decoder.put(&[1; 10]);
        assert!(decoder.next().unwrap().is_none());
        assert!(decoder.buffer.capacity() < 1 << 10);
        for too_long in [u32::MAX, (24 << 20) + HEAD_MAX as u32 + 1] {
            let mut decoder = Decoder::new(24 << 20);
            decoder.put(&too_long.to_le_bytes());
            let error = decoder.next().unwrap_err();
            assert!(matches!(error, FrameError::TooLong { .. }), "{error}");
        }
    }

    proptest! {
        #[test]
        fn frames_come_back_however_they_are_cut(
            frames in frames(),
            pieces in proptest::collection::vec(1usize..300, 1..20),
        ) {
            let (back, error) = decode(&encode(&frames), &pieces);
            prop_assert!(error.is_none());
            prop_assert_eq!(back, frames);
        }

        #[test]
        fn damaged_frames_are_refused_or_decoded(
            frames in frames(),
            pieces in proptest::collection::vec(1usize..300, 1..20),
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let mut bytes = encode(&frames);
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            for frame in decode(&bytes, &pieces).0 {
                prop_assert!(frame.body.len() <= LIMIT);
            }
        }

        #[test]
        fn any_bytes_are_refused_or_decoded(
            bytes: Vec<u8>,
            pieces in proptest::collection::vec(1usize..30, 1..20),
        ) {
            decode(&bytes, &pieces);
        }

        #[test]
        fn a_stream_is_read_as_it_comes(frames in frames()) {
            let bytes = encode(&frames);
            futures::executor::block_on(async {
                let mut reader = FrameReader::new(&bytes[..], LIMIT);
                let mut back = Vec::new();
                let end = loop {
                    while let Some(frame) = reader.ready().unwrap() {
                        back.push(frame);
                    }
                    if let Err(end) = reader.fill().await {
                        break end;
                    }
                };
                assert!(matches!(end, FrameError::End));
                assert_eq!(back, frames);
            });
        }
    }
}
