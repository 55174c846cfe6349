//! The file that a snapshot is: a header, a body, and a checksum over everything.
//!
//! `magic ‖ u32 length ‖ header ‖ body ‖ xxh3-128 of all before`. The body is pairs (all of a
//! state, or a keeper's manifest), or between nodes a keeper's whole snapshot.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use orama_proto::record;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::types::{MembershipRecord, Position};

const MAGIC: &[u8; 8] = b"ORAMASNP";
const HEADER_VERSION: u8 = 1;
/// A header is small; a larger length is damage.
const HEADER_MAX: usize = 64 << 10;
const SUM: usize = 16;
/// What a snapshot says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) group: u32,
    pub(crate) at: Option<Position>,
    pub(crate) membership: MembershipRecord,
    /// The state hash.
    pub(crate) hash: [u8; 16],
    pub(crate) pairs: u64,
    /// Bytes of the body: of all pairs with their lengths, or of a keeper's whole snapshot.
    pub(crate) body: u64,
}

pub(super) fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Whether the error is about the contents. A sector that cannot be read is
/// damage too: the other snapshot may do.
pub(super) fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    ) || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Whether what a manifest names is not there or not what it was. Not a sector that cannot be
/// read or written: the message does not say of which file.
pub(super) fn is_spoiled(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound
    )
}

pub(super) fn take(rest: &mut &[u8]) -> io::Result<Vec<u8>> {
    let cut = || damaged("a pair is cut off");
    let (length, after) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
    let length = u32::from_be_bytes(*length) as usize;
    let (bytes, after) = after.split_at_checked(length).ok_or_else(cut)?;
    *rest = after;
    Ok(bytes.to_vec())
}

pub(super) fn parse(bytes: &[u8]) -> io::Result<(Header, &[u8])> {
    let cut = || damaged("it is too short");
    let (content, sum) = bytes
        .split_at_checked(bytes.len().saturating_sub(SUM))
        .ok_or_else(cut)?;
    let mut hash = Xxh3::new();
    hash.update(content);
    if hash.digest128().to_be_bytes() != sum {
        return Err(damaged("its checksum does not match"));
    }
    let rest = content
        .strip_prefix(MAGIC)
        .ok_or_else(|| damaged("it is no snapshot"))?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
    let length = u32::from_be_bytes(*length) as usize;
    let (header, body) = rest.split_at_checked(length).ok_or_else(cut)?;
    let header: Header =
        record::decode(HEADER_VERSION, header).map_err(|e| damaged(&e.to_string()))?;
    if body.len() as u64 != header.body {
        return Err(damaged("its length does not match its header"));
    }
    Ok((header, body))
}

/// Verifies a file without holding it in memory.
pub(super) fn verify(path: &Path) -> io::Result<Header> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let content = size
        .checked_sub(SUM as u64)
        .ok_or_else(|| damaged("it is too short"))?;
    let mut input = BufReader::with_capacity(64 << 10, file);
    let mut head = [0; 12];
    input.read_exact(&mut head)?;
    let (magic, length) = head.split_at(8);
    let length = length
        .try_into()
        .map(u32::from_be_bytes)
        .map_err(|_| damaged("it is too short"))? as usize;
    if magic != MAGIC || length > HEADER_MAX {
        return Err(damaged("it is no snapshot"));
    }
    let mut record_bytes = vec![0; length];
    input.read_exact(&mut record_bytes)?;
    let mut hash = Xxh3::new();
    hash.update(&head);
    hash.update(&record_bytes);
    let read = head.len() as u64 + length as u64;
    let body = content
        .checked_sub(read)
        .ok_or_else(|| damaged("it is too short"))?;
    let mut left = body;
    let mut buffer = vec![0; 64 << 10];
    while left > 0 {
        let want = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let chunk = buffer
            .get_mut(..want)
            .ok_or_else(|| damaged("it is too long"))?;
        input.read_exact(chunk)?;
        hash.update(chunk);
        left -= want as u64;
    }
    let mut sum = [0; SUM];
    input.read_exact(&mut sum)?;
    if hash.digest128().to_be_bytes() != sum {
        return Err(damaged("its checksum does not match"));
    }
    let header: Header =
        record::decode(HEADER_VERSION, &record_bytes).map_err(|e| damaged(&e.to_string()))?;
    if header.body != body {
        return Err(damaged("its length does not match its header"));
    }
    Ok(header)
}

/// Writes and sums up; counts what it writes.
struct Summed<W> {
    out: W,
    hash: Xxh3,
    bytes: u64,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write_all(bytes)?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn put(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    out.write_all(&length.to_be_bytes())?;
    out.write_all(bytes)
}

pub(super) fn write_file<'a>(
    path: &Path,
    header: &Header,
    pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> io::Result<()> {
    write_around(path, header, |out| {
        for (key, value) in pairs {
            put(out, key)?;
            put(out, value)?;
        }
        Ok(())
    })
}

/// Writes a file around a body, which must have as many bytes as the header says; synced. Blocks.
pub(super) fn write_around(
    path: &Path,
    header: &Header,
    body: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let record = record::encode(HEADER_VERSION, header).map_err(io::Error::other)?;
    let mut file = Summed {
        out: BufWriter::with_capacity(256 << 10, File::create(path)?),
        hash: Xxh3::new(),
        bytes: 0,
    };
    file.write_all(MAGIC)?;
    put(&mut file, &record)?;
    let head = file.bytes;
    body(&mut file)?;
    let written = file.bytes - head;
    if written != header.body {
        let what = format!("a body of {} bytes has {written}", header.body);
        return Err(io::Error::other(what));
    }
    let sum = file.hash.digest128().to_be_bytes();
    file.out.write_all(&sum)?;
    file.out
        .into_inner()
        .map_err(|e| e.into_error())?
        .sync_all()
}
