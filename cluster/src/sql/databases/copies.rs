//! Copies of databases: made with SQLite's backup API, named by what is in
//! them, never written again.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use orama_proto::sql::DatabaseId;
use orama_proto::{Namespace, Timestamp, record};
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::directory::fault;
use super::{Mark, SaveFault};
use crate::sql::raw;

/// Version of a copy's line in a manifest.
const VERSION: u8 = 1;
/// First byte of a manifest's keys: a database, a register, how far the registers are.
const DATABASE: u8 = b'd';
const REGISTER: u8 = b'r';
const REGISTERS: &[u8] = b"R";

/// A copy, as a manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Copy {
    pub(super) mark: Mark,
    pub(super) bytes: u64,
    /// xxh3-128 of the file; its name too.
    pub(super) sum: u128,
}

impl Copy {
    pub(super) fn path(&self, backups: &Path) -> PathBuf {
        backups.join(format!("{:032x}.db", self.sum))
    }
}

/// What a manifest says.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) copies: Vec<(DatabaseId, Copy)>,
    pub(super) registers: Vec<(String, String)>,
    pub(super) registers_applied: u64,
}

pub(super) fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl Contents {
    pub(super) fn write(&self) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut pairs = Vec::with_capacity(self.copies.len() + self.registers.len() + 1);
        pairs.push((
            REGISTERS.to_vec(),
            self.registers_applied.to_be_bytes().to_vec(),
        ));
        for (id, copy) in &self.copies {
            let mut key = vec![DATABASE];
            key.extend_from_slice(&id.born.0.to_be_bytes());
            key.extend_from_slice(id.namespace.as_str().as_bytes());
            pairs.push((
                key,
                record::encode(VERSION, copy).map_err(io::Error::other)?,
            ));
        }
        for (name, value) in &self.registers {
            let key = [&[REGISTER], name.as_bytes()].concat();
            pairs.push((key, value.as_bytes().to_vec()));
        }
        pairs.sort();
        Ok(pairs)
    }

    pub(super) fn read(pairs: &[(Vec<u8>, Vec<u8>)]) -> io::Result<Self> {
        let mut contents = Self::default();
        for (key, value) in pairs {
            contents
                .take(key, value)
                .ok_or_else(|| damaged("a pair of a manifest is not understood"))?;
        }
        Ok(contents)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let (tag, rest) = key.split_first()?;
        match *tag {
            _ if key == REGISTERS => {
                self.registers_applied = u64::from_be_bytes(value.try_into().ok()?);
            }
            REGISTER => {
                let text = |bytes| std::str::from_utf8(bytes).ok().map(str::to_owned);
                self.registers.push((text(rest)?, text(value)?));
            }
            DATABASE => {
                let (born, name) = rest.split_first_chunk::<8>()?;
                let id = DatabaseId {
                    namespace: Namespace::parse(std::str::from_utf8(name).ok()?).ok()?,
                    born: Timestamp(u64::from_be_bytes(*born)),
                };
                self.copies.push((id, record::decode(VERSION, value).ok()?));
            }
            _ => return None,
        }
        Some(())
    }
}

/// Copies a live database to `to`, which must not exist; synced. Others read and write it meanwhile.
pub(super) fn copy_live(live: &Path, to: &Path) -> Result<Copy, SaveFault> {
    let sorted = |error: rusqlite::Error| SaveFault::Engine(fault(&error));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags_and_vfs(live, flags, raw::VFS).map_err(sorted)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut target = Connection::open_with_flags_and_vfs(to, flags, raw::VFS).map_err(sorted)?;
    // Synced once, below.
    target
        .pragma_update(None, "synchronous", "OFF")
        .map_err(sorted)?;
    let step = {
        let backup = rusqlite::backup::Backup::new(&source, &mut target).map_err(sorted)?;
        backup.step(-1).map_err(sorted)?
    };
    if step != rusqlite::backup::StepResult::Done {
        return Err(io::Error::other(format!("the copy did not end: {step:?}")).into());
    }
    // The copy says that it wants a write-ahead log; a file that is complete by itself must not.
    target
        .pragma_update(None, "journal_mode", "DELETE")
        .map_err(sorted)?;
    let mark = mark_in(&target).map_err(sorted)?;
    drop(target);
    let (sum, bytes) = sum_of(to)?;
    File::open(to)?.sync_all()?;
    Ok(Copy { mark, bytes, sum })
}

/// How far a copy is.
pub(super) fn mark_in(conn: &Connection) -> rusqlite::Result<Mark> {
    conn.query_row("SELECT applied, hash FROM _orama_state", [], |row| {
        let applied: i64 = row.get(0)?;
        let hash: Vec<u8> = row.get(1)?;
        Ok(Mark {
            applied: u64::from_ne_bytes(applied.to_ne_bytes()),
            hash: hash.try_into().map_or(0, u128::from_be_bytes),
        })
    })
}

/// Sum and length of a file that nobody writes.
pub(super) fn sum_of(path: &Path) -> io::Result<(u128, u64)> {
    let mut file = File::open(path)?;
    let (mut hash, mut bytes) = (Xxh3::new(), 0);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hash.digest128(), bytes)),
            n => {
                hash.update(buffer.get(..n).unwrap_or_default());
                bytes += n as u64;
            }
        }
    }
}

/// Checks that a copy is what a manifest says.
pub(super) fn verify(path: &Path, copy: &Copy) -> io::Result<()> {
    let found = sum_of(path)?;
    if found != (copy.sum, copy.bytes) {
        return Err(damaged(format!("the copy {} is damaged", path.display())));
    }
    Ok(())
}

/// Makes a live file of a copy, synced and verified.
pub(super) fn restore(from: &Path, copy: &Copy, to: &Path) -> io::Result<()> {
    let done = (|| {
        fs::copy(from, to)?;
        verify(to, copy).map_err(|_| damaged(format!("the copy {} is damaged", from.display())))?;
        File::open(to)?.sync_all()
    })();
    if done.is_err() {
        let _ = fs::remove_file(to);
    }
    done
}
