//! The registers as a group's machine.

use std::collections::BTreeMap;

use orama_proto::record;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::{Expect, KEY_MAX_BYTES, REGISTERS_MAX, VALUE_MAX_BYTES};
use crate::consensus::{Applied, Change, Machine};

/// Version of [`Command`] in the log and of every stored value.
const VERSION: u8 = 1;
/// Registers lie under this byte and their key.
const TAG: u8 = b'r';

/// What the group replicates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Command {
    /// Sets a register when it is as expected.
    Set {
        key: String,
        value: String,
        expect: Expect,
    },
}

/// What applying it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reply {
    Done,
    /// The present value is this one.
    Differs(Option<String>),
    /// There are as many registers as there may be.
    Full,
    /// Key or value is too long; whoever proposed it did not look.
    TooLong,
}

impl Command {
    pub(super) fn encode(&self) -> Result<Vec<u8>, String> {
        record::encode(VERSION, self).map_err(|e| e.to_string())
    }
}

impl Reply {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        record::decode(VERSION, bytes).map_err(|e| e.to_string())
    }
}

/// The registers of one group.
#[derive(Debug, Default)]
pub(super) struct Registers {
    values: RwLock<BTreeMap<String, String>>,
}

impl Registers {
    pub(super) fn get(&self, key: &str) -> Option<String> {
        self.values.read().get(key).cloned()
    }

    fn set(&self, key: String, value: String, expect: &Expect) -> (Reply, Option<Change>) {
        if key.len() > KEY_MAX_BYTES || value.len() > VALUE_MAX_BYTES {
            return (Reply::TooLong, None);
        }
        let mut values = self.values.write();
        let present = values.get(&key);
        let fits = match expect {
            Expect::Anything => true,
            Expect::Absent => present.is_none(),
            Expect::Value(wanted) => present == Some(wanted),
        };
        if !fits {
            return (Reply::Differs(present.cloned()), None);
        }
        if present.is_none() && values.len() >= REGISTERS_MAX {
            return (Reply::Full, None);
        }
        let change = match record::encode(VERSION, &value) {
            Ok(bytes) => Change {
                key: stored(&key),
                value: Some(bytes),
            },
            Err(_) => return (Reply::TooLong, None),
        };
        values.insert(key, value);
        (Reply::Done, Some(change))
    }
}

fn stored(key: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + key.len());
    out.push(TAG);
    out.extend_from_slice(key.as_bytes());
    out
}

impl Machine for Registers {
    fn load(&self, pairs: &mut dyn Iterator<Item = (&[u8], &[u8])>) -> Result<(), String> {
        let mut values = BTreeMap::new();
        for (key, value) in pairs {
            let name = key
                .strip_prefix(&[TAG])
                .and_then(|k| std::str::from_utf8(k).ok())
                .ok_or_else(|| {
                    format!("the key {:?} is not known", String::from_utf8_lossy(key))
                })?;
            let value = record::decode(VERSION, value).map_err(|e| format!("{name:?}: {e}"))?;
            values.insert(name.to_owned(), value);
        }
        *self.values.write() = values;
        Ok(())
    }

    fn apply(&self, command: &[u8]) -> Result<Applied, String> {
        let Command::Set { key, value, expect } =
            record::decode(VERSION, command).map_err(|e| e.to_string())?;
        let (reply, change) = self.set(key, value, &expect);
        Ok(Applied {
            reply: record::encode(VERSION, &reply).map_err(|e| e.to_string())?,
            changes: change.into_iter().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(
        machine: &Registers,
        pairs: &mut BTreeMap<Vec<u8>, Vec<u8>>,
        key: &str,
        value: &str,
        expect: Expect,
    ) -> Reply {
        let (key, value) = (key.to_owned(), value.to_owned());
        let bytes = Command::Set { key, value, expect }.encode().unwrap();
        let applied = machine.apply(&bytes).unwrap();
        for change in applied.changes {
            pairs.insert(change.key, change.value.unwrap());
        }
        Reply::decode(&applied.reply).unwrap()
    }

    #[test]
    fn registers_compare_and_set_and_are_loaded_again() {
        let (machine, mut pairs) = (Registers::default(), BTreeMap::new());
        let mut set = |k: &str, v: &str, e| apply(&machine, &mut pairs, k, v, e);
        assert_eq!(
            set("a", "1", Expect::Value("0".into())),
            Reply::Differs(None)
        );
        assert_eq!(set("a", "1", Expect::Absent), Reply::Done);
        let other = Reply::Differs(Some("1".into()));
        assert_eq!(set("a", "2", Expect::Absent), other);
        assert_eq!(set("a", "2", Expect::Value("1".into())), Reply::Done);
        assert_eq!(set("", "", Expect::Anything), Reply::Done);
        let long = "x".repeat(KEY_MAX_BYTES + 1);
        assert_eq!(set(&long, "", Expect::Anything), Reply::TooLong);
        let again = Registers::default();
        again
            .load(&mut pairs.iter().map(|(k, v)| (&k[..], &v[..])))
            .unwrap();
        assert_eq!(*again.values.read(), *machine.values.read());
        assert_eq!(again.get("a").as_deref(), Some("2"));
    }

    #[test]
    fn the_number_of_registers_is_limited() {
        let (machine, mut pairs) = (Registers::default(), BTreeMap::new());
        for n in 0..REGISTERS_MAX {
            let key = n.to_string();
            assert_eq!(
                apply(&machine, &mut pairs, &key, "v", Expect::Anything),
                Reply::Done
            );
        }
        let mut set = |k: &str| apply(&machine, &mut pairs, k, "w", Expect::Anything);
        assert_eq!(set("one more"), Reply::Full);
        assert_eq!(set("7"), Reply::Done, "replacing is no addition");
    }
}
