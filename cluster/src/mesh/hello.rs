//! What peers say to each other on the heartbeat lane: who they are, that they
//! are still there, and which of two links is to end.

use libp2p::Multiaddr;
use orama_proto::ClusterId;
use orama_proto::record::RecordError;
use serde::{Deserialize, Serialize};

const VERSION: u8 = 1;
/// Longest name, version and address, bytes; most addresses.
const TEXT_MAX: usize = 256;
const ADDRESSES_MAX: usize = 16;
/// Longest encoding of all that.
const GREETING_MAX: usize = 8 << 10;

/// A message of the mesh to itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Greeting {
    /// Who I am. Answered with nothing.
    Hello(Hello),
    /// Are you there? Answered with nothing.
    Ping,
    /// There is a newer link: begin no more calls on this one. Answered with
    /// one byte: 1 when no call of yours is in flight on it.
    Retire,
}

/// Who somebody is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) addresses: Vec<String>,
    pub(super) cluster: Option<ClusterId>,
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<GREETING_MAX>()
}

impl Greeting {
    pub(super) fn encode(&self) -> Result<Vec<u8>, RecordError> {
        let mut out = vec![VERSION];
        bincode::serde::encode_into_std_write(self, &mut out, config())
            .map_err(|e| RecordError::Encode(e.to_string()))?;
        Ok(out)
    }

    /// Reads one. What a peer says about itself is cut to its limits: it goes to people's screens.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let (&found, body) = bytes.split_first().ok_or(RecordError::Empty)?;
        if found != VERSION {
            return Err(RecordError::Version {
                found,
                known: VERSION,
            });
        }
        let (greeting, used) = bincode::serde::decode_from_slice(body, config())
            .map_err(|e| RecordError::Decode(e.to_string()))?;
        if used < body.len() {
            return Err(RecordError::Trailing(body.len() - used));
        }
        Ok(match greeting {
            Self::Hello(hello) => Self::Hello(hello.bounded()),
            other => other,
        })
    }
}

impl Hello {
    /// Within its limits, in both directions.
    pub(super) fn bounded(mut self) -> Self {
        for text in [&mut self.name, &mut self.version] {
            text.retain(|c| !c.is_control());
            text.truncate(text.floor_char_boundary(TEXT_MAX));
        }
        self.addresses
            .retain(|address| address.len() <= TEXT_MAX && address.parse::<Multiaddr>().is_ok());
        self.addresses.truncate(ADDRESSES_MAX);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            name: "a".into(),
            version: "1".into(),
            addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
            cluster: Some(ClusterId(7)),
        }
    }

    #[test]
    fn greetings_come_back() {
        for greeting in [Greeting::Hello(hello()), Greeting::Ping, Greeting::Retire] {
            let bytes = greeting.encode().unwrap();
            assert_eq!(Greeting::decode(&bytes).unwrap(), greeting);
        }
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let long = Hello {
            name: "ä\n".repeat(1000),
            addresses: [
                vec!["nonsense".to_owned(), "/ip4/1.2.3.4/tcp/9999999".to_owned()],
                vec!["/ip4/1.2.3.4/tcp/1".to_owned(); 100],
            ]
            .concat(),
            ..hello()
        };
        let hello = long.bounded();
        assert_eq!(hello.name, "ä".repeat(128));
        assert_eq!(hello.addresses.len(), ADDRESSES_MAX);
        let largest = Hello {
            addresses: vec![format!("/dns4/{}/tcp/1", "a".repeat(TEXT_MAX - 13)); 100],
            ..hello
        };
        let largest = largest.bounded();
        assert_eq!(largest.addresses.len(), ADDRESSES_MAX);
        assert!(Greeting::Hello(largest).encode().unwrap().len() < GREETING_MAX);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_refused_or_decoded(bytes: Vec<u8>) {
            let _ = Greeting::decode(&bytes);
            let _ = Greeting::decode(&[&[VERSION], &bytes[..]].concat());
        }
    }
}
