//! The pairs that describe a snapshot: registers, and for each database the file that holds it.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};

use orama_proto::record;
use orama_proto::sql::DatabaseId;
use serde::{Deserialize, Serialize};

use super::directory::Saved;

/// Version of the records in it.
const VERSION: u8 = 1;
/// Keys: one for the whole, then the registers, then the databases.
const HEAD: &[u8] = b"m";
const REGISTER: u8 = b'r';
const DATABASE: u8 = b'd';

pub(super) type Pair = (Vec<u8>, Vec<u8>);
pub(super) type Pairs = Vec<Pair>;

/// A database in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Entry {
    /// A backup has it.
    Saved(Saved),
    /// It could not be saved, because it was fenced or was being rebuilt: whoever starts from this
    /// snapshot has to get it from elsewhere. It must be at least at this entry.
    Fenced { required: u64, why: String },
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) registers_applied: u64,
    pub(super) registers: BTreeMap<String, String>,
    pub(super) databases: BTreeMap<DatabaseId, Entry>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    registers_applied: u64,
    /// How many there are of each: a pair that was lost is noticed.
    registers: u64,
    databases: u64,
}

fn bad(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the manifest: {what}"))
}

impl Manifest {
    pub(super) fn pairs(&self) -> io::Result<Pairs> {
        let head = Head {
            registers_applied: self.registers_applied,
            registers: self.registers.len() as u64,
            databases: self.databases.len() as u64,
        };
        let head = record::encode(VERSION, &head).map_err(bad)?;
        let mut pairs = vec![(HEAD.to_vec(), head)];
        for (key, value) in &self.registers {
            pairs.push((tagged(REGISTER, key.as_bytes()), value.clone().into_bytes()));
        }
        for (id, entry) in &self.databases {
            let id = record::encode(VERSION, id).map_err(bad)?;
            let entry = record::encode(VERSION, entry).map_err(bad)?;
            pairs.push((tagged(DATABASE, &id), entry));
        }
        Ok(pairs)
    }

    /// Reads pairs; nothing at all describes a group without anything in it.
    pub(super) fn read(pairs: &[Pair]) -> io::Result<Self> {
        let mut manifest = Self::default();
        let mut head = None;
        for (key, value) in pairs {
            match key.split_first() {
                Some((&REGISTER, key)) => {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(bad);
                    manifest.registers.insert(text(key)?, text(value)?);
                }
                Some((&DATABASE, id)) => {
                    let id = record::decode(VERSION, id).map_err(bad)?;
                    let entry = record::decode(VERSION, value).map_err(bad)?;
                    manifest.databases.insert(id, entry);
                }
                _ if key == HEAD => {
                    head = Some(record::decode::<Head>(VERSION, value).map_err(bad)?);
                }
                _ => return Err(bad("a key is not known")),
            }
        }
        let Some(head) = head else {
            return match pairs {
                [] => Ok(manifest),
                _ => Err(bad("it has no head")),
            };
        };
        let complete = head.registers == manifest.registers.len() as u64
            && head.databases == manifest.databases.len() as u64;
        if !complete {
            return Err(bad("pairs are missing"));
        }
        manifest.registers_applied = head.registers_applied;
        Ok(manifest)
    }

    /// The backups it names.
    pub(super) fn saved(&self) -> impl Iterator<Item = (&DatabaseId, &Saved)> {
        self.databases.iter().filter_map(|(id, entry)| match entry {
            Entry::Saved(saved) => Some((id, saved)),
            Entry::Fenced { .. } => None,
        })
    }
}

fn tagged(tag: u8, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + key.len());
    out.push(tag);
    out.extend_from_slice(key);
    out
}
