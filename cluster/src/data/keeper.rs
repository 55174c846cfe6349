//! A data group's state as the consensus layer sees it: databases that keep
//! themselves, and how far they are.

#[cfg(test)]
mod golden_tests;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use orama_proto::sql::DatabaseId;
use orama_proto::{GroupId, record};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::apply::Batch;
use super::command::{Command, Stamper};
use super::dropped::Dropped;
use super::metrics::Metrics;
use super::rebuild;
use super::shape;
use super::shares::Shares;
use crate::consensus::{
    Admission, CommandLog, Keeper, KeptEntry, Manifest, MembershipRecord, Position, Resumed,
    StorageFault,
};
use crate::sql::{self, Databases, DatabasesOptions, Floor, SaveFault};

/// Version of what a floor says of the group.
const FLOOR_VERSION: u8 = 1;
/// A manifest's pair of ours: how far the group was.
const AT: &[u8] = b"\0at";
/// A snapshot is due after so many bytes of commands at least, and at most.
const SNAPSHOT_BYTES: std::ops::RangeInclusive<u64> = (64 << 20)..=(1 << 30);
/// While a database is fenced snapshots are put off, because this node's last copies of it may be
/// what it is rebuilt from. But not for ever: until so many times as many entries,
const PUT_OFF_TIMES: u64 = 10;
/// or so many bytes of commands.
const PUT_OFF_BYTES: u64 = 4 << 30;
/// A snapshot is due after so long, when there is anything new.
const SNAPSHOT_SECONDS: u64 = 15 * 60;
/// The floor is raised after so many entries,
const FLOOR_ENTRIES: u64 = 10_000;
/// or after so long when there is anything new.
const FLOOR_AFTER: Duration = Duration::from_secs(30);

/// How far applying is.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    pub(super) at: Option<Position>,
    pub(super) membership: MembershipRecord,
}

impl Progress {
    /// Index of the last applied entry; 0 before the first.
    pub(super) fn index(&self) -> u64 {
        self.at.map_or(0, |at| at.index)
    }
    fn of(resumed: &Resumed) -> Self {
        Self {
            at: resumed.at,
            membership: resumed.membership.clone(),
        }
    }
    fn floor(&self) -> io::Result<Floor> {
        let resumed = Resumed {
            at: self.at,
            membership: self.membership.clone(),
        };
        let opaque = record::encode(FLOOR_VERSION, &resumed);
        Ok(Floor {
            index: self.index(),
            opaque: opaque.map_err(io::Error::other)?,
        })
    }
}

fn resumed(floor: &Floor) -> Result<Resumed, String> {
    record::decode(FLOOR_VERSION, &floor.opaque)
        .map_err(|e| format!("the floor cannot be read: {e}"))
}

/// A local snapshot, with everything before `at` in it.
#[derive(Clone)]
pub(super) struct Saved {
    pub(super) at: u64,
    pub(super) pairs: Manifest,
}

impl Saved {
    fn read(manifest: &Manifest) -> Self {
        let ours = manifest.iter().find(|(key, _)| key == AT);
        let at =
            ours.and_then(|(_, value)| Some(u64::from_be_bytes(value.as_slice().try_into().ok()?)));
        Self {
            at: at.unwrap_or(0),
            pairs: without_ours(manifest),
        }
    }
}

/// What the databases know of.
fn without_ours(manifest: &Manifest) -> Manifest {
    let pairs = manifest.iter().filter(|(key, _)| key != AT);
    pairs.cloned().collect()
}

fn save_fault(fault: SaveFault) -> io::Error {
    match fault {
        SaveFault::Io(error) => error,
        SaveFault::Engine(fault) => super::apply::fault(fault),
    }
}

/// When snapshots are made.
#[derive(Debug, Clone)]
pub(super) struct KeeperOptions {
    pub(super) snapshot_entries: u64,
    pub(super) databases: DatabasesOptions,
}

/// Whether a database's namespace is known to have been deleted and made anew. Does not wait.
pub(super) type Outlived = Box<dyn Fn(&DatabaseId) -> bool + Send + Sync>;

/// The databases of one group on this node, and what the group's log did to them.
pub(super) struct DataKeeper {
    pub(super) group: GroupId,
    dir: PathBuf,
    options: KeeperOptions,
    counters: sql::Metrics,
    pub(super) metrics: Metrics,
    stamper: Stamper,
    outlived: Outlived,
    shares: Arc<Shares>,
    log: OnceLock<Arc<dyn CommandLog>>,
    databases: RwLock<Option<Arc<Databases>>>,
    /// Held while entries are applied, and while a rebuilt database is put in its place.
    progress: Mutex<Progress>,
    /// Databases that were dropped. After `progress`.
    dropped: Mutex<Dropped>,
    /// Newest first.
    saved: Mutex<Vec<Saved>>,
    /// The floor's index, and when it was looked at last. Held while it is raised.
    floor: Mutex<(u64, Instant)>,
    /// Databases that cannot be mended here at once: somebody knows and tries.
    given_up: Mutex<BTreeSet<DatabaseId>>,
    /// Since when a snapshot that is due is put off.
    put_off: Mutex<Option<Instant>>,
    /// Told when a database was fenced.
    pub(super) fenced: Arc<Notify>,
}

impl DataKeeper {
    pub(super) fn new(
        group: GroupId,
        dir: PathBuf,
        options: KeeperOptions,
        counters: sql::Metrics,
        metrics: Metrics,
        fenced: Arc<Notify>,
        outlived: Outlived,
    ) -> Self {
        Self {
            group,
            dir,
            options,
            counters,
            shares: Shares::new(group, metrics.clone()),
            metrics,
            stamper: Stamper::default(),
            outlived,
            log: OnceLock::new(),
            databases: RwLock::default(),
            progress: Mutex::default(),
            dropped: Mutex::default(),
            saved: Mutex::default(),
            floor: Mutex::new((0, Instant::now())),
            given_up: Mutex::default(),
            put_off: Mutex::default(),
            fenced,
        }
    }

    /// The databases while they are open.
    pub(super) fn databases(&self) -> Option<Arc<Databases>> {
        self.databases.read().clone()
    }

    fn opened(&self) -> io::Result<Arc<Databases>> {
        let closed = || io::Error::other("the databases are closed");
        self.databases().ok_or_else(closed)
    }

    pub(super) fn log(&self) -> Option<&Arc<dyn CommandLog>> {
        self.log.get()
    }
    pub(super) fn progress(&self) -> &Mutex<Progress> {
        &self.progress
    }
    pub(super) fn saved(&self) -> Vec<Saved> {
        self.saved.lock().clone()
    }

    fn try_open(&self) -> io::Result<Result<Resumed, String>> {
        let options = self.options.databases.clone();
        let databases = match Databases::open(&self.dir, self.group, options, &self.counters)? {
            Ok(databases) => databases,
            Err(why) => return Ok(Err(why)),
        };
        let floor = databases.floor();
        let resumed = match floor.as_ref().map(resumed).transpose() {
            Ok(resumed) => resumed.unwrap_or_default(),
            Err(why) => {
                databases.close();
                return Ok(Err(why));
            }
        };
        self.taken(&databases, &resumed, &mut self.progress.lock());
        *self.databases.write() = Some(Arc::new(databases));
        Ok(Ok(resumed))
    }

    /// The state is another one from here on.
    fn taken(&self, databases: &Databases, at: &Resumed, progress: &mut Progress) {
        *progress = Progress::of(at);
        *self.dropped.lock() = Dropped::read(databases);
        *self.floor.lock() = (at.at.map_or(0, |at| at.index), Instant::now());
        let fenced = databases.list().into_iter().filter(|d| d.fenced.is_some());
        *self.given_up.lock() = fenced.map(|d| d.id).collect();
        self.fenced.notify_one();
    }

    /// Fences a database for good: until somebody rebuilds it.
    pub(super) fn fence(&self, id: &DatabaseId, why: &str) -> io::Result<()> {
        self.given_up.lock().insert(id.clone());
        let done = self.opened()?.fence(id, why).map_err(super::apply::fault);
        self.fenced.notify_one();
        done
    }

    /// A database proved damaged to somebody who read it, and is fenced: it is rebuilt from now on.
    pub(super) fn noticed(&self, id: &DatabaseId) {
        let mut given_up = self.given_up.lock();
        // Looked at under the lock that whoever mends it takes afterwards: one that is sound
        // again must not be noted, for nobody would take it out.
        let fenced = self.databases().is_some_and(|d| d.is_fenced(id));
        if fenced && given_up.insert(id.clone()) {
            self.fenced.notify_one();
        }
    }

    /// A fenced database is sound again.
    pub(super) fn mended(&self, id: &DatabaseId) {
        self.given_up.lock().remove(id);
    }

    /// Whether a database waits to be rebuilt.
    pub(super) fn is_fenced(&self, id: &DatabaseId) -> bool {
        self.given_up.lock().contains(id)
    }

    /// How many databases wait to be rebuilt.
    pub(super) fn fenced_count(&self) -> usize {
        self.given_up.lock().len()
    }

    /// The databases that wait to be rebuilt, and why. Blocks.
    pub(super) fn all_fenced(&self) -> Vec<(DatabaseId, String)> {
        let Some(databases) = self.databases() else {
            return Vec::new();
        };
        let listed = databases.list();
        let mut given_up = self.given_up.lock();
        // One that is deleted needs nobody any more. One that is being fenced at this moment
        // stays: only who mends it takes it out.
        let there: BTreeSet<&DatabaseId> = listed.iter().map(|d| &d.id).collect();
        given_up.retain(|id| there.contains(id));
        let fenced: Vec<_> = listed
            .iter()
            .filter_map(|d| Some((d.id.clone(), d.fenced.clone()?)))
            .collect();
        given_up.extend(fenced.iter().map(|(id, _)| id.clone()));
        fenced
    }

    /// A database proved damaged while the entry `index` was to be applied: rebuilds it from
    /// what this node has, when that is enough. Called with `progress` held.
    fn mend(&self, databases: &Databases, id: &DatabaseId, why: &str, index: u64) -> bool {
        if self.given_up.lock().contains(id) {
            return false;
        }
        tracing::error!(group = %self.group, database = %id, why, "a database is damaged; it is rebuilt");
        match rebuild::on_the_spot(self, databases, id, index.saturating_sub(1)) {
            Ok(from) => {
                self.metrics.rebuilt("local");
                tracing::warn!(group = %self.group, database = %id, from, "a damaged database was rebuilt from its last copy and the log");
                true
            }
            Err(error) => {
                tracing::warn!(group = %self.group, database = %id, %error, "a damaged database is not rebuilt on the spot; it stays fenced until it is");
                self.noticed(id);
                false
            }
        }
    }

    /// Whether a snapshot that is due waits for a fenced database.
    fn puts_off(&self, entries: u64, bytes: u64) -> bool {
        let most = self.options.snapshot_entries.saturating_mul(PUT_OFF_TIMES);
        let fenced = self.fenced_count();
        if fenced == 0 || entries >= most || bytes >= PUT_OFF_BYTES {
            *self.put_off.lock() = None;
            return false;
        }
        let mut put_off = self.put_off.lock();
        if put_off.is_none() {
            *put_off = Some(Instant::now());
            tracing::warn!(group = %self.group, fenced, "snapshots are put off until fenced databases are rebuilt; the log grows meanwhile");
        }
        true
    }

    /// Since how long a snapshot is put off.
    pub(super) fn put_off_for(&self) -> Duration {
        let mut put_off = self.put_off.lock();
        if self.fenced_count() == 0 {
            *put_off = None;
        }
        put_off.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Keeps write-ahead logs short and raises the floor when it is due. Blocks.
    pub(super) fn tend(&self) -> io::Result<()> {
        let databases = self.opened()?;
        databases.checkpoint().map_err(save_fault)?;
        let progress = self.progress.lock().clone();
        let due = {
            let floor = self.floor.lock();
            let new = progress.index().saturating_sub(floor.0);
            new >= FLOOR_ENTRIES || (new > 0 && floor.1.elapsed() >= FLOOR_AFTER)
        };
        if due {
            self.raise(&databases, &progress)
        } else {
            Ok(())
        }
    }

    fn raise(&self, databases: &Databases, to: &Progress) -> io::Result<()> {
        let mut floor = self.floor.lock();
        if to.index() > floor.0 {
            databases.harden(&to.floor()?).map_err(save_fault)?;
            *floor = (to.index(), Instant::now());
        }
        Ok(())
    }
}

impl Keeper for DataKeeper {
    fn open(&self, log: Arc<dyn CommandLog>) -> Result<Result<Resumed, String>, StorageFault> {
        let _ = self.log.set(log);
        self.try_open()
            .map_err(|e| StorageFault::io(self.dir.clone(), e))
    }

    fn rebuild(&self, snapshot: Option<(&Manifest, &Resumed)>) -> io::Result<()> {
        if let Some(databases) = self.databases.write().take() {
            databases.close();
        }
        let floor = match snapshot {
            Some((_, at)) => Some(Progress::of(at).floor()?),
            None => None,
        };
        let pairs = snapshot.map_or_else(Manifest::new, |(manifest, _)| without_ours(manifest));
        Databases::reset_dir(&self.dir, &pairs, floor.as_ref())?;
        self.try_open()?.map(drop).map_err(io::Error::other)?;
        let saved = snapshot.map(|(_, at)| Saved {
            at: at.at.map_or(0, |at| at.index),
            pairs,
        });
        *self.saved.lock() = saved.into_iter().collect();
        Ok(())
    }

    fn apply(&self, entries: Vec<KeptEntry>) -> io::Result<Vec<Vec<u8>>> {
        let databases = self.opened()?;
        let mut progress = self.progress.lock();
        let mut dropped = self.dropped.lock();
        let mend =
            |fenced: &sql::Fenced, index| self.mend(&databases, &fenced.id, &fenced.why, index);
        let took = |id: &DatabaseId, costs: &[_]| self.shares.applied(id, costs);
        let batch = Batch::new(&databases, &mut dropped, mend, &took);
        let replies = batch.run(&entries)?;
        for entry in entries {
            progress.at = Some(entry.at);
            if let Some(membership) = entry.membership {
                progress.membership = membership;
            }
        }
        Ok(replies)
    }

    fn hash(&self) -> u128 {
        self.databases().map_or(0, |databases| databases.hash())
    }

    fn save(&self, at: &Resumed) -> io::Result<Manifest> {
        let databases = self.opened()?;
        self.raise(&databases, &Progress::of(at))?;
        let mut manifest = databases.save().map_err(save_fault)?;
        let index = at.at.map_or(0, |at| at.index);
        self.saved.lock().insert(
            0,
            Saved {
                at: index,
                pairs: manifest.clone(),
            },
        );
        manifest.push((AT.to_vec(), index.to_be_bytes().to_vec()));
        Ok(manifest)
    }

    fn keep(&self, manifests: &[Manifest]) -> io::Result<()> {
        let mut kept: Vec<Saved> = manifests.iter().map(Saved::read).collect();
        {
            let mut saved = self.saved.lock();
            // One that came from another replica does not say how far it was.
            for kept in kept.iter_mut().filter(|k| k.at == 0) {
                let known = saved.iter().find(|s| s.pairs == kept.pairs);
                kept.at = known.map_or(0, |s| s.at);
            }
            kept.sort_by_key(|s| std::cmp::Reverse(s.at));
            *saved = kept.clone();
        }
        let pairs: Vec<Manifest> = kept.into_iter().map(|s| s.pairs).collect();
        self.opened()?.keep(&pairs)
    }

    fn due(&self, entries: u64, bytes: u64, seconds: u64) -> bool {
        let unsaved = self.databases().map_or(0, |d| d.unsaved_bytes());
        let bytes_due = unsaved.clamp(*SNAPSHOT_BYTES.start(), *SNAPSHOT_BYTES.end());
        let due = entries >= self.options.snapshot_entries
            || bytes >= bytes_due
            || (entries > 0 && seconds >= SNAPSHOT_SECONDS);
        due && !self.puts_off(entries, bytes)
    }

    fn save_bytes(&self) -> u64 {
        self.databases().map_or(0, |d| d.unsaved_bytes())
    }

    fn body_bytes(&self, manifest: &Manifest) -> io::Result<u64> {
        Ok(self.opened()?.body_bytes(&without_ours(manifest)))
    }

    fn write_body(&self, manifest: &Manifest, out: &mut dyn io::Write) -> io::Result<()> {
        self.opened()?.write_body(&without_ours(manifest), out)
    }

    fn unpack(&self, body: &mut dyn io::Read) -> io::Result<Manifest> {
        self.opened()?.unpack(body)
    }

    fn adopt(&self, manifest: &Manifest, at: &Resumed) -> io::Result<()> {
        let databases = self.opened()?;
        let pairs = without_ours(manifest);
        let floor = Progress::of(at).floor()?;
        // A database that is being rebuilt must not get its file from the old state.
        let mut progress = self.progress.lock();
        databases.reset(&pairs, Some(&floor)).map_err(save_fault)?;
        self.taken(&databases, at, &mut progress);
        drop(progress);
        let at = floor.index;
        *self.saved.lock() = vec![Saved { at, pairs }];
        Ok(())
    }

    fn stamp(&self, command: &mut Vec<u8>) -> Result<(), String> {
        // One that cannot be read stops the group on every replica that has it in its log. It is
        // read whole: its kind alone says nothing about what a newer program put into it.
        let (read, _) = Command::decode(command)
            .map_err(|error| format!("the leader cannot read the command: {error}"))?;
        if let Command::Transaction(transaction) = &read
            && (self.outlived)(&transaction.database)
        {
            return Err("the namespace was deleted and made anew".into());
        }
        self.stamper.stamp(command);
        Ok(())
    }

    fn admit(&self, command: &[u8], term: u64) -> Admission {
        // What is no transaction costs nothing to speak of.
        match shape::of_entry(command) {
            Some((id, shape)) => self.shares.admit(id, shape, command.len(), term),
            None => Admission::Now(None),
        }
    }

    fn close(&self) {
        let Some(databases) = self.databases.write().take() else {
            return;
        };
        let progress = self.progress.lock().clone();
        if let Err(error) = self.raise(&databases, &progress) {
            tracing::warn!(group = %self.group, %error, "the floor was not raised; the log has what is missing");
        }
        databases.close();
    }

    fn erase(&self) -> io::Result<()> {
        Databases::erase(&self.dir)
    }
}
