//! Compiled modules on disk: neither a second deploy of the same bytes nor a
//! restart compiles again.
//!
//! `compiled/<fingerprint>/<cid>.cwasm` holds the machine code, `<cid>.check`
//! its length and checksum, written after it. The fingerprint stands for
//! everything that machine code depends on (wasmtime's version, the engine's
//! settings, the processor's features), so files of another engine are never
//! even looked at. A file that does not fit its record is removed and the
//! module compiled again: the cache may be lost at any time, the blobs may not.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::hash::Hash;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use orama_proto::{ContentId, record};
use serde::{Deserialize, Serialize};
use wasmtime::{Engine, Module};
use xxhash_rust::xxh3::Xxh3;

/// Part of the fingerprint; to be raised when modules must be compiled anew
/// although wasmtime is the same, as when validation becomes stricter.
const FORMAT: u32 = 1;
/// Version of [`Check`].
const CHECK_VERSION: u8 = 1;
const CODE: &str = "cwasm";
const CHECK: &str = "check";
const TEMPORARY: &str = "tmp";

#[derive(Serialize, Deserialize)]
struct Check {
    length: u64,
    xxh3: [u8; 16],
}

/// What the cache has for a module.
pub(crate) enum Cached {
    Module(Module),
    Absent,
    /// It was there and not what it should be; it is gone now.
    Damaged(String),
    /// It is what was stored, and the engine does not take it; it is gone now.
    Unfit(String),
}

/// The directory of compiled modules that fit this engine.
pub(crate) struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// Opens the directory, removing what other engines and interrupted writes left in it.
    pub(crate) fn open(root: &Path, engine: &Engine) -> io::Result<Self> {
        let name = fingerprint(engine);
        let dir = root.join(&name);
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        for entry in fs::read_dir(root)? {
            let entry = entry?;
            let other = entry.file_name();
            if other != *name && is_fingerprint(&other.to_string_lossy()) {
                tracing::info!(directory = %entry.path().display(), "removing modules compiled for another engine");
                fs::remove_dir_all(entry.path())?;
            }
        }
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == TEMPORARY)
            {
                fs::remove_file(path)?;
            }
        }
        Ok(Self { dir })
    }

    fn path(&self, cid: &ContentId, extension: &str) -> PathBuf {
        self.dir.join(format!("{cid}.{extension}"))
    }

    /// Maps a compiled module, after comparing it with its record.
    pub(crate) fn load(&self, engine: &Engine, cid: &ContentId) -> io::Result<Cached> {
        let (Some(check), Some(mut code)) =
            (open(&self.path(cid, CHECK))?, open(&self.path(cid, CODE))?)
        else {
            // Half a pair is what a write left that did not come to its end.
            self.remove(cid)?;
            return Ok(Cached::Absent);
        };
        let refused = match verify(check, &mut code) {
            Ok(()) => match map(engine, code) {
                Ok(module) => return Ok(Cached::Module(module)),
                Err(e) => Cached::Unfit(format!("{e:#}")),
            },
            Err(Mismatch::Damaged(why)) => Cached::Damaged(why),
            Err(Mismatch::Io(e)) => return Err(e),
        };
        self.remove(cid)?;
        Ok(refused)
    }

    /// Stores machine code; when this returns it survives a power cut.
    ///
    /// # Errors
    /// Also when the metadata would not be left its room on the disk.
    pub(crate) fn store(&self, cid: &ContentId, code: &[u8]) -> io::Result<()> {
        if !orama_cluster::room_for_bulk(&self.dir, code.len() as u64) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut hash = Xxh3::new();
        hash.update(code);
        let check = Check {
            length: code.len() as u64,
            xxh3: hash.digest128().to_le_bytes(),
        };
        let check = record::encode(CHECK_VERSION, &check).map_err(io::Error::other)?;
        self.replace(&self.path(cid, CODE), code)?;
        self.replace(&self.path(cid, CHECK), &check)?;
        File::open(&self.dir)?.sync_all()
    }

    /// Readers of `path` see the old bytes or the new ones. The old file, which
    /// may be mapped and running, is unlinked and not written to.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".");
        name.push(TEMPORARY);
        let temporary = PathBuf::from(name);
        let written = File::create(&temporary).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, path)
        });
        if written.is_err() {
            // Best effort: what is left is removed at the next start.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Removes a module.
    pub(crate) fn remove(&self, cid: &ContentId) -> io::Result<()> {
        // The record first: code without one is never loaded.
        for extension in [CHECK, CODE] {
            match fs::remove_file(self.path(cid, extension)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes modules that are not in `keep`. Answers how many.
    pub(crate) fn sweep(&self, keep: &HashSet<ContentId>) -> io::Result<u64> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != CODE) {
                continue;
            }
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let Ok(cid) = ContentId::parse(&stem) else {
                continue;
            };
            if !keep.contains(&cid) {
                self.remove(&cid)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

enum Mismatch {
    Io(io::Error),
    Damaged(String),
}

impl From<io::Error> for Mismatch {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// Compares a file with its record and leaves it at its beginning.
fn verify(check: File, code: &mut File) -> Result<(), Mismatch> {
    let mut bytes = Vec::new();
    // A record is tens of bytes; a longer file is not one.
    check.take(4096).read_to_end(&mut bytes)?;
    let check: Check = record::decode(CHECK_VERSION, &bytes)
        .map_err(|e| Mismatch::Damaged(format!("its record is unreadable: {e}")))?;
    let length = code.metadata()?.len();
    if length != check.length {
        return Err(Mismatch::Damaged(format!(
            "it has {length} bytes, its record says {}",
            check.length
        )));
    }
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match code.read(&mut buffer)? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    if hash.digest128().to_le_bytes() != check.xxh3 {
        return Err(Mismatch::Damaged("its checksum is wrong".into()));
    }
    code.rewind()?;
    Ok(())
}

/// Maps verified machine code into memory.
#[allow(unsafe_code)]
fn map(engine: &Engine, code: File) -> Result<Module, wasmtime::Error> {
    // SAFETY: `deserialize_open_file` demands that the file is what
    // `precompile_module` made and that it does not change while it is mapped.
    // - Made by us: only `Cache::store` writes into this directory, which is
    //   ours alone (mode 0700, in the locked data directory that also holds the
    //   node's keys: who can write here has the node already). Length and
    //   checksum of this very file, by descriptor and not by name, were compared
    //   just before; wasmtime itself then compares version and settings.
    // - Does not change: files are replaced by rename and removed by unlink,
    //   never written in place or truncated, and the mapping holds the inode.
    unsafe { Module::deserialize_open_file(engine, code) }
}

fn fingerprint(engine: &Engine) -> String {
    let mut hash = Xxh3::new();
    FORMAT.hash(&mut hash);
    engine.precompile_compatibility_hash().hash(&mut hash);
    format!("{:032x}", hash.digest128())
}

fn is_fingerprint(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a disk or quota is full.
pub(crate) fn is_full(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
