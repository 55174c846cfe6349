//! A whole snapshot as one stream: the manifest, then each copy it names, in its order.
//!
//! `u32 pairs ‖ (u32 ‖ key ‖ u32 ‖ value)… ‖ (u64 length ‖ bytes)…`. What arrives is believed
//! only as far as it verifies: lengths are bounded by what is there, names are made from sums.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use super::copies::{Contents, Copy, damaged};

type Pairs = [(Vec<u8>, Vec<u8>)];

/// One key or value of a manifest.
const PAIR_MAX: u32 = 64 << 10;
/// Pairs of a manifest.
const PAIRS_MAX: u32 = 1 << 20;

fn length(n: usize) -> io::Result<[u8; 4]> {
    let n = u32::try_from(n).map_err(io::Error::other)?;
    Ok(n.to_be_bytes())
}

/// Bytes that [`write`] writes.
pub(super) fn bytes(pairs: &Pairs) -> io::Result<u64> {
    let manifest: usize = pairs.iter().map(|(k, v)| k.len() + v.len() + 8).sum();
    let copies = Contents::read(pairs)?.copies;
    let files: u64 = copies.iter().map(|(_, copy)| copy.bytes + 8).sum();
    Ok(4 + manifest as u64 + files)
}

/// Writes everything; the copies are verified on the way.
pub(super) fn write(backups: &Path, pairs: &Pairs, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(&length(pairs.len())?)?;
    for (key, value) in pairs {
        for part in [key, value] {
            out.write_all(&length(part.len())?)?;
            out.write_all(part)?;
        }
    }
    for (_, copy) in Contents::read(pairs)?.copies {
        let path = copy.path(backups);
        let mut file = File::open(&path)?;
        out.write_all(&copy.bytes.to_be_bytes())?;
        let sum = pump(&mut file, out, copy.bytes)?;
        if sum != copy.sum {
            return Err(damaged(format!("the copy {} is damaged", path.display())));
        }
    }
    Ok(())
}

/// Moves so many bytes; answers their sum.
fn pump(from: &mut dyn Read, to: &mut dyn Write, bytes: u64) -> io::Result<u128> {
    let mut hash = Xxh3::new();
    let mut left = bytes;
    let mut buffer = vec![0; 256 << 10];
    while left > 0 {
        let want = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let part = buffer.get_mut(..want).unwrap_or_default();
        from.read_exact(part)?;
        hash.update(part);
        to.write_all(part)?;
        left -= want as u64;
    }
    Ok(hash.digest128())
}

fn number(from: &mut dyn Read, max: u32) -> io::Result<u32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    let n = u32::from_be_bytes(bytes);
    (n <= max)
        .then_some(n)
        .ok_or_else(|| damaged("a length that cannot be"))
}

fn part(from: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; number(from, PAIR_MAX)? as usize];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Takes everything into `backups`; answers the manifest. `room` says whether so many bytes fit.
pub(super) fn read(
    backups: &Path,
    from: &mut dyn Read,
    room: &dyn Fn(u64) -> bool,
) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let count = number(from, PAIRS_MAX)?;
    let mut pairs = Vec::new();
    for _ in 0..count {
        let key = part(from)?;
        pairs.push((key, part(from)?));
    }
    let contents = Contents::read(&pairs)?;
    for (_, copy) in &contents.copies {
        take(backups, copy, from, room)?;
    }
    File::open(backups)?.sync_all()?;
    Ok(pairs)
}

fn take(
    backups: &Path,
    copy: &Copy,
    from: &mut dyn Read,
    room: &dyn Fn(u64) -> bool,
) -> io::Result<()> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    if u64::from_be_bytes(bytes) != copy.bytes {
        return Err(damaged("a copy is not as long as its manifest says"));
    }
    let path = copy.path(backups);
    let temporary = path.with_extension("tmp");
    if !room(copy.bytes) {
        return Err(io::Error::from(io::ErrorKind::StorageFull));
    }
    let done = (|| {
        let mut file = File::create(&temporary)?;
        let sum = pump(from, &mut file, copy.bytes)?;
        if sum != copy.sum {
            return Err(damaged("a copy is not what its manifest says"));
        }
        file.sync_all()?;
        fs::rename(&temporary, &path)
    })();
    if done.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    done
}
