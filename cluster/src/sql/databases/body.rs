//! A snapshot as one stream of bytes, for another replica: manifest and files.
//!
//! ```text
//! "ORAMASQL" version  registers_applied  n registers: len key, len value
//! n databases: len (id, what is said of it), then the file's bytes      xxh3-128 of all before
//! ```
//!
//! Numbers are big-endian. Lengths are bounded before anything is allocated or written by them,
//! and files get names of this node's own.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};

use orama_proto::record;
use orama_proto::sql::DatabaseId;
use xxhash_rust::xxh3::Xxh3;

use super::backups::{Backups, verify};
use super::directory::Saved;
use super::files::{self, CHUNK};
use super::manifest::{Entry, Manifest, Pair, Pairs};
use super::{Databases, layout};
use crate::data_dir::sync_dir;
use crate::disk;

const MAGIC: &[u8; 8] = b"ORAMASQL";
const VERSION: u8 = 1;
/// Registers and databases a body may have.
const COUNT_MAX: u32 = 100_000;
/// Bytes of a register's key or value.
const TEXT_MAX: u32 = 64 << 10;
/// Bytes of all registers together.
const TEXTS_MAX: usize = 256 << 20;
/// Bytes of what is said of a database.
const RECORD_MAX: u32 = 8 << 10;

fn bad(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(
        ErrorKind::InvalidData,
        format!("the snapshot's body: {what}"),
    )
}

/// Writes and sums up.
struct Out<'a> {
    to: &'a mut dyn Write,
    sum: Xxh3,
}

impl Out<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.to.write_all(bytes)
    }
    fn text(&mut self, bytes: &[u8], max: u32) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).ok().filter(|n| *n <= max);
        let length = length.ok_or_else(|| bad("a text is too long"))?;
        self.bytes(&length.to_be_bytes())?;
        self.bytes(bytes)
    }
    fn count(&mut self, count: usize) -> io::Result<()> {
        let count = u32::try_from(count).ok().filter(|n| *n <= COUNT_MAX);
        let count = count.ok_or_else(|| bad("there is too much in it"))?;
        self.bytes(&count.to_be_bytes())
    }
}

/// Reads and sums up.
struct In<'a> {
    from: &'a mut dyn Read,
    sum: Xxh3,
}

impl In<'_> {
    fn exact<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes)?;
        self.sum.update(&bytes);
        Ok(bytes)
    }
    fn number(&mut self, what: &str, max: u32) -> io::Result<u32> {
        match u32::from_be_bytes(self.exact()?) {
            n if n <= max => Ok(n),
            n => Err(bad(format_args!("{what}: {n}, at most {max}"))),
        }
    }
    fn text(&mut self, what: &str, max: u32) -> io::Result<Vec<u8>> {
        let length = self.number(what, max)?;
        let mut bytes = vec![0; length as usize];
        self.from.read_exact(&mut bytes)?;
        self.sum.update(&bytes);
        Ok(bytes)
    }
    /// Copies so many bytes to a file; answers their sum.
    fn copy(&mut self, bytes: u64, to: &mut dyn Write) -> io::Result<u128> {
        let (mut left, mut sum, mut chunk) = (bytes, Xxh3::new(), vec![0; CHUNK]);
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let part = &mut chunk[..wanted];
            self.from.read_exact(part)?;
            self.sum.update(part);
            sum.update(part);
            to.write_all(part)?;
            left -= wanted as u64;
        }
        Ok(sum.digest128())
    }
}

impl Databases {
    /// Streams manifest and backups as one body (for another replica): verifies the sums.
    pub(crate) fn write_body(&self, manifest: &[Pair], to: &mut dyn Write) -> io::Result<()> {
        let manifest = Manifest::read(manifest)?;
        let mut out = Out {
            to,
            sum: Xxh3::new(),
        };
        out.bytes(MAGIC)?;
        out.bytes(&[VERSION])?;
        out.bytes(&manifest.registers_applied.to_be_bytes())?;
        out.count(manifest.registers.len())?;
        for (key, value) in &manifest.registers {
            out.text(key.as_bytes(), TEXT_MAX)?;
            out.text(value.as_bytes(), TEXT_MAX)?;
        }
        out.count(manifest.databases.len())?;
        for (id, entry) in &manifest.databases {
            out.text(&said(id, entry)?, RECORD_MAX)?;
            if let Entry::Saved(saved) = entry {
                let path = self.backup_path(id, saved);
                verify(&path, saved, || send(&path, saved.bytes, &mut out))?;
            }
        }
        let sum = out.sum.digest128();
        to.write_all(&sum.to_be_bytes())
    }

    /// How many bytes [`Self::write_body`] will write; 0 when the manifest cannot be read.
    pub(crate) fn body_bytes(&self, manifest: &[Pair]) -> u64 {
        let Ok(manifest) = Manifest::read(manifest) else {
            return 0;
        };
        let registers = manifest.registers.iter();
        let registers: usize = registers.map(|(k, v)| 8 + k.len() + v.len()).sum();
        let databases = manifest.databases.iter().map(|(id, entry)| {
            let said = said(id, entry).map_or(0, |s| s.len() as u64);
            4 + said + bytes_of(entry)
        });
        let head = MAGIC.len() + 1 + 8 + 4 + 4 + 16;
        (head + registers) as u64 + databases.sum::<u64>()
    }

    /// Unpacks such a body into backups and answers its manifest; the live files stay as they are.
    pub(crate) fn unpack(&self, body: &mut dyn Read) -> io::Result<Pairs> {
        let mut backups = self.backups.lock();
        self.check_open().map_err(super::io_error)?;
        let mut body = In {
            from: body,
            sum: Xxh3::new(),
        };
        let mut manifest = Manifest::default();
        let read = self.read_body(&mut backups, &mut body, &mut manifest);
        let read = read.and_then(|()| sync_dir(&layout::backups(&self.dir)));
        if let Err(error) = read {
            for (id, saved) in manifest.saved() {
                // What stays behind goes with the next `keep`.
                let _ = files::remove_one(&self.backup_path(id, saved));
            }
            return Err(error);
        }
        let names = manifest
            .saved()
            .map(|(id, saved)| layout::backup_name(&id.namespace, saved.applied, saved.serial));
        backups.unpacked = names.collect();
        manifest.pairs()
    }

    fn read_body(
        &self,
        backups: &mut Backups,
        body: &mut In<'_>,
        manifest: &mut Manifest,
    ) -> io::Result<()> {
        if body.exact::<8>()? != *MAGIC {
            return Err(bad("it does not begin like one"));
        }
        let [version] = body.exact()?;
        if version != VERSION {
            return Err(bad(format_args!(
                "it has version {version}, known is {VERSION}"
            )));
        }
        manifest.registers_applied = u64::from_be_bytes(body.exact()?);
        let mut texts = 0;
        for _ in 0..body.number("registers", COUNT_MAX)? {
            let key = body.text("bytes of a register's key", TEXT_MAX)?;
            let value = body.text("bytes of a register", TEXT_MAX)?;
            texts += key.len() + value.len();
            if texts > TEXTS_MAX {
                return Err(bad("the registers are too long"));
            }
            let text = |bytes| String::from_utf8(bytes).map_err(bad);
            manifest.registers.insert(text(key)?, text(value)?);
        }
        for _ in 0..body.number("databases", COUNT_MAX)? {
            let said = body.text("bytes of a database's record", RECORD_MAX)?;
            let (id, entry): (DatabaseId, Entry) = record::decode(VERSION, &said).map_err(bad)?;
            if manifest.databases.contains_key(&id) {
                return Err(bad(format_args!("{id} is in it twice")));
            }
            let entry = match entry {
                fenced @ Entry::Fenced { .. } => fenced,
                Entry::Saved(theirs) => Entry::Saved(Saved {
                    serial: backups.serial(),
                    ..theirs
                }),
            };
            // Known before it is written, so that it is deleted when something is wrong.
            manifest.databases.insert(id.clone(), entry.clone());
            if let Entry::Saved(saved) = entry {
                self.receive(&id, &saved, body)?;
            }
        }
        let sum = body.sum.digest128();
        if u128::from_be_bytes(body.exact()?) != sum {
            return Err(bad("its checksum is another"));
        }
        match body.from.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(bad("it goes on after its end")),
        }
    }

    fn receive(&self, id: &DatabaseId, saved: &Saved, body: &mut In<'_>) -> io::Result<()> {
        let path = self.backup_path(id, saved);
        if !disk::leaves(&self.dir, saved.bytes, disk::BULK_RESERVED_BYTES) {
            return Err(ErrorKind::StorageFull.into());
        }
        files::remove_one(&path)?;
        let mut file = File::create_new(&path)?;
        let sum = body.copy(saved.bytes, &mut file)?;
        if sum != saved.sum {
            return Err(bad(format_args!("the copy of {id} arrived damaged")));
        }
        file.sync_all()
    }
}

fn said(id: &DatabaseId, entry: &Entry) -> io::Result<Vec<u8>> {
    // Numbers of this node's are nobody else's business, and would change the length.
    let entry = match entry {
        Entry::Saved(saved) => Entry::Saved(Saved {
            serial: 0,
            ..saved.clone()
        }),
        fenced @ Entry::Fenced { .. } => fenced.clone(),
    };
    record::encode(VERSION, &(id, entry)).map_err(bad)
}

fn bytes_of(entry: &Entry) -> u64 {
    match entry {
        Entry::Saved(saved) => saved.bytes,
        Entry::Fenced { .. } => 0,
    }
}

/// Sends a file, and not a byte more than was announced.
fn send(path: &std::path::Path, announced: u64, out: &mut Out<'_>) -> io::Result<(u64, u128)> {
    let mut file = File::open(path)?.take(announced.saturating_add(1));
    let (mut bytes, mut sum, mut chunk) = (0, Xxh3::new(), vec![0; CHUNK]);
    loop {
        let n = file.read(&mut chunk)?;
        bytes += n as u64;
        if n == 0 || bytes > announced {
            return Ok((bytes, sum.digest128()));
        }
        sum.update(&chunk[..n]);
        out.bytes(&chunk[..n])?;
    }
}
