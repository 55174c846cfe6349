//! What travels on a lane between two nodes: frames.
//!
//! ```text
//! u32 LE   length of what follows
//! u8       version
//! bincode  [`Head`]
//! ...      body: the rest of the frame
//! ```
//!
//! The body is not part of the bincode value, so that a receiver takes it as a
//! slice of what it read and a sender writes it from where it is. A head has no
//! length fields: nothing in it can make a decoder allocate.

use serde::{Deserialize, Serialize};

use crate::record::RecordError;

/// The version this program writes and reads.
pub const VERSION: u8 = 1;
/// Bytes of the length in front of a frame.
pub const PREFIX: usize = 4;
/// Longest version byte and head together; a frame is at most this much longer than its body.
pub const HEAD_MAX: usize = 32;

/// What a frame is. The body belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Head {
    /// A call; the body is the request.
    Request {
        /// Drawn by the caller, unused among its calls on this lane.
        id: u64,
        /// Which service. One that the receiver does not know is answered [`Outcome::Busy`].
        service: u8,
        /// How long the caller waits from now.
        timeout_ms: u64,
    },
    /// The answer to a call; the body depends on the outcome.
    Answer {
        /// The call's.
        id: u64,
        /// How it ended.
        outcome: Outcome,
    },
    /// The caller does not wait any more. No body.
    Cancel {
        /// The call's.
        id: u64,
    },
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done; the body is the answer.
    Done,
    /// The handler declined; the body is its text.
    Declined,
    /// Not taken: nothing was done. No body.
    Busy,
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<HEAD_MAX>()
}

/// Writes length, version and head of a frame whose body of `body` bytes the caller writes behind it.
///
/// # Errors
/// [`RecordError::Encode`] when the frame would be longer than its length can say.
pub fn encode_head(head: Head, body: usize, out: &mut Vec<u8>) -> Result<(), RecordError> {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX]);
    out.push(VERSION);
    bincode::serde::encode_into_std_write(head, out, config())
        .map_err(|e| RecordError::Encode(e.to_string()))?;
    let length = u32::try_from(out.len() - start - PREFIX + body)
        .map_err(|_| RecordError::Encode("the frame is longer than 4 GiB".into()))?;
    out[start..start + PREFIX].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// Reads the head of a frame (without its length) and answers where its body begins.
///
/// # Errors
/// See [`RecordError`].
pub fn decode_head(frame: &[u8]) -> Result<(Head, usize), RecordError> {
    let (&found, rest) = frame.split_first().ok_or(RecordError::Empty)?;
    if found != VERSION {
        return Err(RecordError::Version {
            found,
            known: VERSION,
        });
    }
    let (head, used) = bincode::serde::decode_from_slice::<Head, _>(rest, config())
        .map_err(|e| RecordError::Decode(e.to_string()))?;
    let body = 1 + used;
    let bodiless = matches!(
        head,
        Head::Cancel { .. }
            | Head::Answer {
                outcome: Outcome::Busy,
                ..
            }
    );
    if bodiless && body < frame.len() {
        return Err(RecordError::Trailing(frame.len() - body));
    }
    Ok((head, body))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn heads() -> impl Strategy<Value = Head> {
        prop_oneof![
            (any::<u64>(), any::<u8>(), any::<u64>()).prop_map(|(id, service, timeout_ms)| {
                Head::Request {
                    id,
                    service,
                    timeout_ms,
                }
            }),
            (
                any::<u64>(),
                prop_oneof![
                    Just(Outcome::Done),
                    Just(Outcome::Declined),
                    Just(Outcome::Busy)
                ]
            )
                .prop_map(|(id, outcome)| Head::Answer { id, outcome }),
            any::<u64>().prop_map(|id| Head::Cancel { id }),
        ]
    }

    #[test]
    fn the_bytes_of_version_1_stay_what_they_are() {
        let mut out = Vec::new();
        let request = Head::Request {
            id: 7,
            service: 6,
            timeout_ms: 1000,
        };
        encode_head(request, 2, &mut out).unwrap();
        // Length 9: version, variant, id, service, 0xfb + u16 LE, and two bytes of body.
        assert_eq!(out, [9, 0, 0, 0, 1, 0, 7, 6, 251, 0xe8, 3]);
        out.clear();
        let busy = Head::Answer {
            id: 7,
            outcome: Outcome::Busy,
        };
        encode_head(busy, 0, &mut out).unwrap();
        assert_eq!(out, [4, 0, 0, 0, 1, 1, 7, 2]);
        out.clear();
        encode_head(Head::Cancel { id: 7 }, 0, &mut out).unwrap();
        assert_eq!(out, [3, 0, 0, 0, 1, 2, 7]);
    }

    #[test]
    fn what_is_not_a_frame_is_refused() {
        assert!(matches!(decode_head(&[]), Err(RecordError::Empty)));
        assert!(matches!(
            decode_head(&[9, 2, 7]),
            Err(RecordError::Version { found: 9, known: 1 })
        ));
        assert!(matches!(decode_head(&[1]), Err(RecordError::Decode(_))));
        assert!(matches!(
            decode_head(&[1, 3, 7]),
            Err(RecordError::Decode(_))
        ));
        assert!(matches!(
            decode_head(&[1, 2, 7, 0]),
            Err(RecordError::Trailing(1))
        ));
    }

    proptest! {
        #[test]
        fn heads_come_back(head in heads(), body in 0usize..100) {
            let mut out = vec![0xaa];
            let has_body = matches!(
                head,
                Head::Request { .. } | Head::Answer { outcome: Outcome::Done | Outcome::Declined, .. }
            );
            let body = if has_body { body } else { 0 };
            encode_head(head, body, &mut out).unwrap();
            let frame_len = u32::from_le_bytes(out[1..5].try_into().unwrap()) as usize;
            prop_assert_eq!(frame_len, out.len() - 5 + body);
            prop_assert!(frame_len <= HEAD_MAX + body);
            out.resize(out.len() + body, 0x55);
            let (back, at) = decode_head(&out[5..]).unwrap();
            prop_assert_eq!(back, head);
            prop_assert_eq!(out.len() - 5 - at, body);
        }

        #[test]
        fn any_bytes_are_refused_or_decoded(bytes: Vec<u8>) {
            if let Ok((_, at)) = decode_head(&bytes) {
                prop_assert!(at <= bytes.len());
            }
        }
    }
}
