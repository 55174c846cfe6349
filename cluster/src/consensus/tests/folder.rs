//! A keeper for tests: one file with a map, and copies of it as snapshots.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::consensus::{CommandLog, Keeper, KeptEntry, Manifest, Resumed, StorageFault};

/// Bytes in front of a command that only the leader fills.
pub(super) const STAMP: usize = 8;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Live {
    applied: u64,
    floor: Resumed,
    map: BTreeMap<String, (u64, String)>,
}

/// Files: `live`, and `copy-INDEX` for each snapshot.
pub(super) struct Folder {
    dir: PathBuf,
    live: Mutex<Live>,
    pub(super) log: Mutex<Option<Arc<dyn CommandLog>>>,
    /// A snapshot is due after so many entries.
    pub(super) every: u64,
    /// Applying fails so from now on.
    pub(super) fails: Mutex<Option<io::ErrorKind>>,
    pub(super) panics: AtomicBool,
    pub(super) stamps: AtomicU64,
    /// Entries that were given to it and known already.
    pub(super) known: AtomicU64,
    pub(super) rebuilds: AtomicU64,
    /// What it says that a snapshot takes.
    pub(super) size: AtomicU64,
}

fn other(e: impl ToString) -> io::Error {
    io::Error::other(e.to_string())
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn encode(live: &Live) -> io::Result<Vec<u8>> {
    orama_proto::record::encode(1, live).map_err(other)
}

fn decode(bytes: &[u8]) -> io::Result<Live> {
    orama_proto::record::decode(1, bytes).map_err(|e| damaged(&e.to_string()))
}

impl Folder {
    pub(super) fn new(dir: PathBuf, every: u64) -> Arc<Self> {
        Arc::new(Self {
            dir,
            live: Mutex::default(),
            log: Mutex::default(),
            every,
            fails: Mutex::default(),
            panics: AtomicBool::new(false),
            stamps: AtomicU64::new(0),
            known: AtomicU64::new(0),
            rebuilds: AtomicU64::new(0),
            size: AtomicU64::new(1024),
        })
    }

    pub(super) fn get(&self, key: &str) -> Option<String> {
        self.live.lock().map.get(key).map(|(_, v)| v.clone())
    }

    pub(super) fn stamp_of(&self, key: &str) -> Option<u64> {
        self.live.lock().map.get(key).map(|(stamp, _)| *stamp)
    }

    pub(super) fn live_file(&self) -> PathBuf {
        self.dir.join("live")
    }

    pub(super) fn copies(&self) -> Vec<PathBuf> {
        let names = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut paths: Vec<_> = names.map(|e| e.path()).collect();
        paths.retain(|p| is_copy(p));
        paths.sort();
        paths
    }

    fn write(&self, live: &Live) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let new = self.dir.join("live.new");
        fs::write(&new, encode(live)?)?;
        fs::rename(new, self.live_file())
    }

    fn copy_of(&self, manifest: &Manifest) -> io::Result<(String, Vec<u8>)> {
        let (name, sum) = manifest.first().ok_or_else(|| damaged("no file"))?;
        let name = String::from_utf8(name.clone()).map_err(other)?;
        let bytes = fs::read(self.dir.join(&name))?;
        match xxh3_64(&bytes).to_be_bytes() == sum[..] {
            true => Ok((name, bytes)),
            false => Err(damaged("the copy is damaged")),
        }
    }

    fn keep_copy(&self, name: &str, bytes: &[u8]) -> io::Result<Manifest> {
        fs::create_dir_all(&self.dir)?;
        fs::write(self.dir.join(name), bytes)?;
        let sum = xxh3_64(bytes).to_be_bytes().to_vec();
        Ok(vec![(name.as_bytes().to_vec(), sum)])
    }

    fn restore(&self, manifest: &Manifest, at: &Resumed) -> io::Result<()> {
        let (_, bytes) = self.copy_of(manifest)?;
        let mut live = self.live.lock();
        *live = decode(&bytes)?;
        live.floor = at.clone();
        self.write(&live)
    }
}

fn is_copy(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("copy-")
}

impl Keeper for Folder {
    fn open(&self, log: Arc<dyn CommandLog>) -> Result<Result<Resumed, String>, StorageFault> {
        *self.log.lock() = Some(log);
        let live = match fs::read(self.live_file()) {
            Ok(bytes) => decode(&bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Live::default()),
            Err(e) => return Err(StorageFault::io(&self.dir, e)),
        };
        Ok(match live {
            Ok(live) => {
                let floor = live.floor.clone();
                *self.live.lock() = live;
                Ok(floor)
            }
            Err(e) => Err(e.to_string()),
        })
    }

    fn rebuild(&self, snapshot: Option<(&Manifest, &Resumed)>) -> io::Result<()> {
        match snapshot {
            Some((manifest, at)) => self.restore(manifest, at)?,
            None => {
                let mut live = self.live.lock();
                *live = Live::default();
                self.write(&live)?;
            }
        }
        self.rebuilds.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    fn apply(&self, entries: Vec<KeptEntry>) -> io::Result<Vec<Vec<u8>>> {
        assert!(!self.panics.load(Ordering::Acquire), "told to panic");
        if let Some(kind) = *self.fails.lock() {
            return Err(kind.into());
        }
        let mut live = self.live.lock();
        let mut replies = Vec::new();
        for entry in entries {
            let mut reply = Vec::new();
            if entry.at.index <= live.applied && live.applied > 0 {
                self.known.fetch_add(1, Ordering::AcqRel);
            } else if let Some(command) = entry.command {
                let (stamp, text) = command.split_at_checked(STAMP).ok_or(damaged("short"))?;
                let stamp = u64::from_be_bytes(stamp.try_into().map_err(other)?);
                let text = String::from_utf8(text.to_vec()).map_err(other)?;
                let (key, value) = text.split_once('=').ok_or(damaged("no key"))?;
                let new = (stamp, value.to_owned());
                let old = live.map.insert(key.to_owned(), new);
                reply = old.map(|(_, v)| v.into_bytes()).unwrap_or_default();
            }
            live.applied = live.applied.max(entry.at.index);
            replies.push(reply);
        }
        self.write(&live)?;
        Ok(replies)
    }

    fn hash(&self) -> u128 {
        let map = self.live.lock().map.clone();
        orama_proto::record::encode(1, &map).map_or(0, |bytes| u128::from(xxh3_64(&bytes)))
    }

    fn save(&self, at: &Resumed) -> io::Result<Manifest> {
        let mut live = self.live.lock();
        live.floor = at.clone();
        self.write(&live)?;
        // As far as it happens to be: at least `at`.
        let index = at.at.map_or(0, |at| at.index);
        assert!(live.applied >= index, "saved ahead of what was applied");
        let bytes = encode(&live)?;
        drop(live);
        self.keep_copy(&format!("copy-{index:08}"), &bytes)
    }

    fn keep(&self, manifests: &[Manifest]) -> io::Result<()> {
        let named = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            manifests.iter().flatten().any(|(key, _)| key == name)
        };
        let gone = self.copies().into_iter().filter(|path| !named(path));
        for path in gone {
            fs::remove_file(path)?;
        }
        Ok(())
    }

    fn due(&self, entries: u64, _: u64, _: u64) -> bool {
        entries >= self.every
    }

    fn save_bytes(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    fn body_bytes(&self, manifest: &Manifest) -> io::Result<u64> {
        let (name, bytes) = self.copy_of(manifest)?;
        Ok((1 + name.len() + bytes.len()) as u64)
    }

    fn write_body(&self, manifest: &Manifest, out: &mut dyn Write) -> io::Result<()> {
        let (name, bytes) = self.copy_of(manifest)?;
        out.write_all(&[u8::try_from(name.len()).map_err(other)?])?;
        out.write_all(name.as_bytes())?;
        out.write_all(&bytes)
    }

    fn unpack(&self, body: &mut dyn Read) -> io::Result<Manifest> {
        let mut length = [0; 1];
        body.read_exact(&mut length)?;
        let mut name = vec![0; usize::from(length[0])];
        body.read_exact(&mut name)?;
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes)?;
        decode(&bytes)?;
        self.keep_copy(&String::from_utf8(name).map_err(other)?, &bytes)
    }

    fn adopt(&self, manifest: &Manifest, at: &Resumed) -> io::Result<()> {
        self.restore(manifest, at)
    }

    fn stamp(&self, command: &mut Vec<u8>) -> Result<(), String> {
        let stamp = self.stamps.fetch_add(1, Ordering::AcqRel) + 1;
        if let Some(place) = command.get_mut(..STAMP) {
            place.copy_from_slice(&stamp.to_be_bytes());
        }
        Ok(())
    }

    fn close(&self) {
        *self.log.lock() = None;
    }

    fn erase(&self) -> io::Result<()> {
        *self.live.lock() = Live::default();
        match fs::remove_dir_all(&self.dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}
