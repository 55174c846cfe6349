//! Entries of a data group's log: what they look like, what applying them answers.
//!
//! ```text
//! version ‖ kind ‖ clock (8, big endian, microseconds) ‖ seed (16) ‖ body (bincode)
//! ```
//!
//! Clock and seed stand at a fixed place, so that the leader writes them without
//! reading the rest.

use orama_proto::Timestamp;
use orama_proto::record;
use orama_proto::sql::{DatabaseId, SqlOutcome, SqlTransaction, Stamp};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::Expect;

/// Version of an entry.
pub(super) const VERSION: u8 = 2;
/// Version of a reply.
const REPLY_VERSION: u8 = 2;
const KIND_REGISTER: u8 = 1;
pub(super) const KIND_TRANSACTION: u8 = 2;
const KIND_DROP: u8 = 3;
/// Bytes of clock and seed.
pub(super) const STAMP: std::ops::Range<usize> = 2..26;
/// No body is larger: an entry has at most 1 MiB.
const DECODE_LIMIT: usize = 2 << 20;

pub(super) fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<DECODE_LIMIT>()
}

/// What a data group replicates.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Command {
    /// Sets a register when it is as expected.
    Register {
        key: String,
        value: String,
        expect: Expect,
    },
    /// Changes a database.
    Transaction(SqlTransaction),
    /// Deletes a database.
    Drop(DatabaseId),
}

/// An entry that cannot be understood: perhaps a newer program wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CommandError {
    #[error("it is shorter than a command")]
    Short,
    #[error("it has version {0}, this program reads version {VERSION}")]
    Version(u8),
    #[error("it is of the unknown kind {0}")]
    Kind(u8),
    #[error("{0}")]
    Body(String),
}

impl Command {
    /// The entry, not stamped yet.
    pub(super) fn encode(&self) -> Result<Vec<u8>, CommandError> {
        match self {
            Self::Register { key, value, expect } => entry(KIND_REGISTER, &(key, value, expect)),
            Self::Transaction(transaction) => Self::encode_transaction(transaction),
            Self::Drop(id) => entry(KIND_DROP, id),
        }
    }

    /// The entry of a transaction that stays the caller's.
    pub(super) fn encode_transaction(
        transaction: &SqlTransaction,
    ) -> Result<Vec<u8>, CommandError> {
        entry(KIND_TRANSACTION, transaction)
    }

    /// Reads an entry and what the leader stamped on it.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, Stamp), CommandError> {
        let (head, body) = bytes
            .split_at_checked(STAMP.end)
            .ok_or(CommandError::Short)?;
        if head[0] != VERSION {
            return Err(CommandError::Version(head[0]));
        }
        let command = match head[1] {
            KIND_REGISTER => {
                let (key, value, expect) = self::body(body)?;
                Self::Register { key, value, expect }
            }
            KIND_TRANSACTION => Self::Transaction(self::body(body)?),
            KIND_DROP => Self::Drop(self::body(body)?),
            other => return Err(CommandError::Kind(other)),
        };
        let mut clock = [0; 8];
        clock.copy_from_slice(&head[2..10]);
        let mut seed = [0; 16];
        seed.copy_from_slice(&head[10..26]);
        let stamp = Stamp {
            clock: Timestamp(u64::from_be_bytes(clock)),
            seed,
        };
        Ok((command, stamp))
    }
}

fn entry<T: Serialize>(kind: u8, body: &T) -> Result<Vec<u8>, CommandError> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(&[VERSION, kind]);
    out.resize(STAMP.end, 0);
    bincode::serde::encode_into_std_write(body, &mut out, config())
        .map_err(|e| CommandError::Body(e.to_string()))?;
    Ok(out)
}

fn body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CommandError> {
    let (value, used) = bincode::serde::decode_from_slice(bytes, config())
        .map_err(|e| CommandError::Body(e.to_string()))?;
    match bytes.len() - used {
        0 => Ok(value),
        left => Err(CommandError::Body(format!("{left} bytes follow its end"))),
    }
}

/// Where a leader takes clock and seeds from. One system call serves many entries.
pub(super) struct Stamper {
    seeds: Mutex<Seeds>,
}

struct Seeds {
    bytes: [u8; Self::BYTES],
    next: usize,
    /// Entries stamped when the system gave no random bytes.
    poor: u64,
}

impl Seeds {
    const BYTES: usize = 16 * 256;

    fn draw(&mut self, clock: Timestamp) -> [u8; 16] {
        let mut seed = [0; 16];
        if self.next == Self::BYTES {
            if getrandom::fill(&mut self.bytes).is_err() {
                // Never reused: the same seed twice would give two entries the same random numbers.
                self.poor += 1;
                return xxh3_128_with_seed(&clock.0.to_be_bytes(), self.poor).to_be_bytes();
            }
            self.next = 0;
        }
        seed.copy_from_slice(&self.bytes[self.next..self.next + 16]);
        self.next += 16;
        seed
    }
}

impl Default for Stamper {
    fn default() -> Self {
        Self {
            seeds: Mutex::new(Seeds {
                bytes: [0; Seeds::BYTES],
                next: Seeds::BYTES,
                poor: 0,
            }),
        }
    }
}

impl Stamper {
    /// Writes clock and seed into an entry. What is no entry stays as it is.
    pub(super) fn stamp(&self, command: &mut [u8]) {
        let Some(place) = command.get_mut(STAMP) else {
            return;
        };
        let clock = Timestamp::now();
        let seed = self.seeds.lock().draw(clock);
        let (at, rest) = place.split_at_mut(8);
        at.copy_from_slice(&clock.0.to_be_bytes());
        rest.copy_from_slice(&seed);
    }
}

/// What applying an entry answers to whoever proposed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reply {
    /// A register was set, a database dropped, or the entry was applied here before.
    Done,
    /// The register has another value.
    Differs(Option<String>),
    /// There are as many registers as there may be.
    Full,
    /// A register's key or value is too long; whoever proposed it did not look.
    TooLong,
    /// What became of a transaction.
    Outcome(SqlOutcome),
    /// It was decided, and what became of it is not known to this replica: its copy of the
    /// database is fenced, or came from another replica with the entry's effect in it.
    NotKnown,
}

impl Reply {
    pub(super) fn encode(&self) -> Result<Vec<u8>, String> {
        record::encode(REPLY_VERSION, self).map_err(|e| e.to_string())
    }
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        record::decode(REPLY_VERSION, bytes).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orama_proto::sql::{OpKind, SqlLimits, SqlOp, SqlValue};
    use orama_proto::{Namespace, RequestId};

    fn database() -> DatabaseId {
        DatabaseId {
            namespace: Namespace::parse("acme").unwrap(),
            born: Timestamp(7),
        }
    }

    fn commands() -> Vec<Command> {
        let transaction = SqlTransaction {
            database: database(),
            request_id: RequestId::from("r"),
            limits: SqlLimits {
                pages: 9,
                steps: 10,
            },
            ops: vec![SqlOp {
                kind: OpKind::Exec,
                sql: "INSERT INTO t VALUES (?)".into(),
                args: vec![SqlValue::Real(0.5), SqlValue::Blob(vec![1])],
            }],
        };
        vec![
            Command::Register {
                key: "k".into(),
                value: "v".into(),
                expect: Expect::Value("w".into()),
            },
            Command::Transaction(transaction),
            Command::Drop(database()),
        ]
    }

    #[test]
    fn commands_survive_and_the_stamp_is_the_leaders() {
        let stamper = Stamper::default();
        let mut seeds = std::collections::HashSet::new();
        for command in commands() {
            let mut bytes = command.encode().unwrap();
            let (read, stamp) = Command::decode(&bytes).unwrap();
            assert_eq!((read, stamp.clock), (command.clone(), Timestamp(0)));
            let before = Timestamp::now();
            for _ in 0..300 {
                stamper.stamp(&mut bytes);
                let (read, stamp) = Command::decode(&bytes).unwrap();
                assert_eq!(read, command);
                assert!(stamp.clock >= before && stamp.clock <= Timestamp::now());
                assert!(seeds.insert(stamp.seed), "a seed was used twice");
            }
        }
    }

    #[test]
    fn what_is_not_a_command_is_refused_by_name() {
        let bytes = commands()[1].encode().unwrap();
        for cut in 0..bytes.len() {
            assert!(Command::decode(&bytes[..cut]).is_err(), "{cut}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(Command::decode(&longer).is_err());
        let mut other = bytes.clone();
        other[0] = 9;
        assert_eq!(Command::decode(&other), Err(CommandError::Version(9)));
        other[0] = VERSION;
        other[1] = 77;
        assert_eq!(Command::decode(&other), Err(CommandError::Kind(77)));
        let mut short = vec![1, 2, 3];
        Stamper::default().stamp(&mut short);
        assert_eq!(short, [1, 2, 3]);
    }

    #[test]
    fn replies_survive() {
        let outcome = Reply::Outcome(SqlOutcome::Committed(Vec::new()));
        for reply in [Reply::Done, Reply::NotKnown, outcome, Reply::Differs(None)] {
            assert_eq!(Reply::decode(&reply.encode().unwrap()).unwrap(), reply);
        }
    }
}
