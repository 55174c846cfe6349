//! Snapshots: whole states as files that a power cut and a flipped bit cannot
//! pass off as good.
//!
//! A file (see `container.rs`) is written under a temporary name, synced, renamed, and its
//! directory synced. The newest two are kept: if the newest turns out damaged the older one and
//! the log, which is purged only up to the older one, still lead to the present.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orama_proto::GroupId;
use parking_lot::Mutex;

use super::container::{Header, damaged, is_damage, parse, take, verify, write_file};
use super::fault::StorageFault;
use super::keeper::{Manifest, Resumed};
use super::log::PurgeLimit;
use super::types::{MembershipRecord, Position, RaftSnapshotMeta};

/// So many are kept.
pub(crate) const KEPT: usize = 2;

/// A verified snapshot. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotFile {
    pub(crate) path: PathBuf,
    pub(crate) header: Arc<Header>,
    /// A leader's whole snapshot that its keeper has taken apart: the manifest of it.
    pub(crate) unpacked: Option<Arc<Manifest>>,
}

impl SnapshotFile {
    /// The state that it is of.
    pub(super) fn resumed(&self) -> Resumed {
        Resumed {
            at: self.header.at,
            membership: self.header.membership.clone(),
        }
    }

    /// The body as a stream, verified when the file came. Blocks.
    pub(super) fn body(&self) -> io::Result<impl Read + use<>> {
        let mut input = BufReader::with_capacity(256 << 10, File::open(&self.path)?);
        let mut head = [0; 12];
        input.read_exact(&mut head)?;
        let length = head
            .last_chunk::<4>()
            .map_or(0, |length| u32::from_be_bytes(*length));
        input.seek_relative(i64::from(length))?;
        Ok(input.take(self.header.body))
    }

    pub(crate) fn meta(&self) -> RaftSnapshotMeta {
        RaftSnapshotMeta {
            last_log_id: self.header.at.map(Into::into),
            last_membership: self.header.membership.clone().into(),
        }
    }

    /// No file, of no state.
    pub(crate) fn nothing() -> Self {
        Self {
            path: PathBuf::new(),
            header: Arc::new(Header {
                group: 0,
                at: None,
                membership: MembershipRecord::default(),
                hash: [0; 16],
                pairs: 0,
                body: 0,
            }),
            unpacked: None,
        }
    }

    /// Reads everything, verifying it once more. Blocks.
    pub(crate) fn pairs(&self) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let bytes = fs::read(&self.path)?;
        let (header, body) = parse(&bytes)?;
        if header != *self.header {
            return Err(damaged("it changed"));
        }
        let mut rest = body;
        let mut pairs = Vec::new();
        while !rest.is_empty() {
            let key = take(&mut rest)?;
            let value = take(&mut rest)?;
            pairs.push((key, value));
        }
        let hash = super::state::state_hash(pairs.iter().map(|(k, v)| (&k[..], &v[..])));
        if pairs.len() as u64 != header.pairs || hash.to_be_bytes() != header.hash {
            return Err(damaged("its contents do not match its header"));
        }
        Ok(pairs)
    }
}

/// The snapshots of one group.
#[derive(Debug)]
pub(crate) struct SnapshotStore {
    dir: PathBuf,
    group: GroupId,
    /// Newest first.
    kept: Mutex<Vec<SnapshotFile>>,
}

impl SnapshotStore {
    /// Verifies what is there. Answers what is wrong with each file that was
    /// set aside under the suffix `.damaged`. Blocks.
    pub(crate) fn open(dir: &Path, group: GroupId) -> Result<(Self, Vec<String>), StorageFault> {
        let fault = |e| StorageFault::io(dir, e);
        fs::create_dir_all(dir).map_err(fault)?;
        let prefix = format!("{:08x}-", group.0);
        let mut names: Vec<String> = fs::read_dir(dir)
            .map_err(fault)?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with(&prefix))
            .collect();
        // Names sort by index; the newest comes first.
        names.sort_unstable_by(|a, b| b.cmp(a));
        let mut kept = Vec::new();
        let mut refused = Vec::new();
        for name in names {
            let path = dir.join(&name);
            if name.ends_with(".tmp") {
                fs::remove_file(&path).map_err(fault)?;
                continue;
            }
            if !name.ends_with(".snap") {
                continue;
            }
            match verify(&path) {
                // Not being able to read a file says nothing about what is in it.
                Err(e) if !is_damage(&e) => return Err(StorageFault::io(&path, e)),
                Ok(header) if header.group == group.0 => kept.push(SnapshotFile {
                    path,
                    header: Arc::new(header),
                    unpacked: None,
                }),
                other => {
                    let why = match other {
                        Err(e) => e.to_string(),
                        Ok(_) => "it belongs to another group".into(),
                    };
                    tracing::warn!(group = %group, file = %path.display(), why, "a snapshot is damaged and set aside");
                    let aside = path.with_extension("damaged");
                    fs::rename(&path, &aside).map_err(fault)?;
                    refused.push(format!("snapshot {name} is damaged: {why}"));
                }
            }
        }
        let store = Self {
            dir: dir.to_owned(),
            group,
            kept: Mutex::new(kept),
        };
        store.prune().map_err(fault)?;
        Ok((store, refused))
    }

    /// The newest snapshot.
    pub(crate) fn newest(&self) -> Option<SnapshotFile> {
        self.kept.lock().first().cloned()
    }

    /// All that are kept, newest first.
    pub(crate) fn kept(&self) -> Vec<SnapshotFile> {
        self.kept.lock().clone()
    }

    /// How far the log may be purged with what is kept.
    pub(crate) fn purge_limit(&self) -> PurgeLimit {
        let kept = self.kept.lock();
        PurgeLimit::Snapshot(kept.get(KEPT - 1).and_then(|s| s.header.at))
    }

    /// Writes a snapshot and makes it the newest. Blocks.
    pub(crate) fn write<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        at: Option<Position>,
        membership: MembershipRecord,
        pairs: &[(K, V)],
    ) -> io::Result<SnapshotFile> {
        let refs = || pairs.iter().map(|(k, v)| (k.as_ref(), v.as_ref()));
        let header = Header {
            group: self.group.0,
            at,
            membership,
            hash: super::state::state_hash(refs()).to_be_bytes(),
            pairs: pairs.len() as u64,
            body: refs().map(|(k, v)| (k.len() + v.len() + 8) as u64).sum(),
        };
        let temporary = self.path_of(at).with_extension("tmp");
        let result = write_file(&temporary, &header, refs());
        let file = SnapshotFile {
            path: temporary,
            header: Arc::new(header),
            unpacked: None,
        };
        let result = result.and_then(|()| self.adopt(&file));
        if result.is_err() {
            // Room is what may be missing; what is half written helps nobody.
            let _ = fs::remove_file(&file.path);
        }
        result
    }

    fn path_of(&self, at: Option<Position>) -> PathBuf {
        let (index, term) = at.map_or((0, 0), |at| (at.index, at.term));
        let name = format!("{:08x}-{index:020}-{term:020}.snap", self.group.0);
        self.dir.join(name)
    }

    /// Makes a file that is whole and synced the newest snapshot, under its own name. Blocks.
    pub(crate) fn adopt(&self, file: &SnapshotFile) -> io::Result<SnapshotFile> {
        let path = self.path_of(file.header.at);
        fs::rename(&file.path, &path)?;
        File::open(&self.dir)?.sync_all()?;
        let file = SnapshotFile {
            path,
            header: Arc::clone(&file.header),
            unpacked: None,
        };
        let mut kept = self.kept.lock();
        kept.retain(|other| other.path != file.path);
        kept.push(file.clone());
        // One that was built may be finished after a leader's newer one was installed.
        kept.sort_by_key(|kept| std::cmp::Reverse(kept.header.at));
        drop(kept);
        self.prune()?;
        Ok(file)
    }

    /// Deletes every file of a group. Blocks.
    pub(crate) fn erase(dir: &Path, group: GroupId) -> io::Result<()> {
        let prefix = format!("{:08x}-", group.0);
        let entries = match fs::read_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        let mut any = false;
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                fs::remove_file(entry.path())?;
                any = true;
            }
        }
        match any {
            true => File::open(dir)?.sync_all(),
            false => Ok(()),
        }
    }

    /// Forgets a manifest whose files proved damaged, and keeps it for whoever wants to know
    /// why: the older one does, or a new one. Blocks.
    pub(super) fn set_aside(&self, file: &SnapshotFile, why: &io::Error) {
        tracing::warn!(group = %self.group, file = %file.path.display(), %why, "a snapshot is damaged and set aside");
        self.kept.lock().retain(|kept| kept != file);
        let aside = fs::rename(&file.path, file.path.with_extension("damaged"))
            .and_then(|()| File::open(&self.dir)?.sync_all());
        if let Err(error) = aside {
            tracing::warn!(group = %self.group, %error, "it stays where it is until the next start");
        }
    }

    /// Whether this file is one of ours.
    pub(crate) fn holds(&self, file: &SnapshotFile) -> bool {
        self.kept.lock().contains(file)
    }

    /// Drops every snapshot but the newest.
    pub(crate) fn keep_newest_only(&self) -> io::Result<()> {
        let old: Vec<_> = self.kept.lock().drain(1..).collect();
        old.iter().try_for_each(|s| fs::remove_file(&s.path))
    }

    fn prune(&self) -> io::Result<()> {
        let mut kept = self.kept.lock();
        while kept.len() > KEPT {
            if let Some(oldest) = kept.pop() {
                fs::remove_file(&oldest.path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u64) -> Option<Position> {
        Some(Position {
            term: 1,
            leader: 1,
            index,
        })
    }

    fn pairs(n: u32) -> Vec<(Vec<u8>, Vec<u8>)> {
        (1..=n)
            .map(|i| (i.to_be_bytes().to_vec(), vec![7; i as usize]))
            .collect()
    }

    #[test]
    fn two_are_kept_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = SnapshotStore::open(dir.path(), GroupId::META).unwrap();
        assert_eq!(store.purge_limit(), PurgeLimit::Snapshot(None));
        for index in [10, 20, 30] {
            store
                .write(at(index), MembershipRecord::default(), &pairs(index as u32))
                .unwrap();
        }
        assert_eq!(store.purge_limit(), PurgeLimit::Snapshot(at(20)));
        fs::write(dir.path().join("00000000-1.tmp"), b"half").unwrap();
        let (again, refused) = SnapshotStore::open(dir.path(), GroupId::META).unwrap();
        assert!(refused.is_empty());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        assert_eq!(again.newest().unwrap().pairs().unwrap(), pairs(30));
        assert_eq!(again.newest().unwrap().header.at, at(30));
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = SnapshotStore::open(dir.path(), GroupId::META).unwrap();
        let file = store
            .write(at(5), MembershipRecord::default(), &pairs(6))
            .unwrap();
        let good = fs::read(&file.path).unwrap();
        for i in 0..good.len() {
            let mut bad = good.clone();
            bad[i] ^= 0x41;
            fs::write(&file.path, &bad).unwrap();
            assert!(verify(&file.path).is_err(), "byte {i}");
            assert!(file.pairs().is_err(), "byte {i}");
            fs::write(&file.path, &good[..i]).unwrap();
            assert!(verify(&file.path).is_err(), "cut at {i}");
        }
        let (store, refused) = SnapshotStore::open(dir.path(), GroupId::META).unwrap();
        assert!(
            store.newest().is_none() && refused.len() == 1,
            "{refused:?}"
        );
    }
}
