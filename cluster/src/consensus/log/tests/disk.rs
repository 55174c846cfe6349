//! A disk in memory that forgets what was not synced.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use redb::{BackendError, StorageBackend};

/// A disk whose power can be cut: writes since the last sync may be lost, each
/// on its own, and a write may be torn at a sector.
#[derive(Debug, Default)]
pub(super) struct Disk {
    now: Vec<u8>,
    pub(super) synced: Vec<u8>,
    /// What happened since the last sync, in order.
    pending: Vec<Pending>,
    /// Every sync leaves what a cut right after it would find.
    pub(super) syncs: u64,
    pub(super) fail: Option<io::ErrorKind>,
    /// Writing panics, as redb does on pages that rotted.
    pub(super) panic: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Pending {
    Write(usize, Vec<u8>),
    Length(usize),
}

pub(super) fn perform(image: &mut Vec<u8>, step: &Pending) {
    match step {
        Pending::Length(len) => image.resize(*len, 0),
        Pending::Write(at, bytes) => {
            if image.len() < at + bytes.len() {
                image.resize(at + bytes.len(), 0);
            }
            image[*at..at + bytes.len()].copy_from_slice(bytes);
        }
    }
}

/// Deterministic, so that a failing seed can be run again.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        self.0 >> 33
    }
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
}

impl Disk {
    /// What is left when the power goes now.
    pub(super) fn cut(&self, random: &mut Random) -> Vec<u8> {
        let mut image = self.synced.clone();
        for step in &self.pending {
            match step {
                // The file system keeps the length or not; redb tolerates both.
                Pending::Length(_) => perform(&mut image, step),
                Pending::Write(at, bytes) => {
                    for (i, sector) in bytes.chunks(512).enumerate() {
                        if random.below(2) == 0 {
                            let part = Pending::Write(at + i * 512, sector.to_vec());
                            perform(&mut image, &part);
                        }
                    }
                }
            }
        }
        image
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Backend(pub(super) Arc<Mutex<Disk>>);

impl Backend {
    pub(super) fn over(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Disk {
            now: image.clone(),
            synced: image,
            ..Disk::default()
        })))
    }
    fn check(disk: &Disk) -> Result<(), io::Error> {
        disk.fail.map_or(Ok(()), |kind| Err(kind.into()))
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.0.lock().now.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let disk = self.0.lock();
        let at = offset as usize;
        let bytes = disk.now.get(at..at + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let mut disk = self.0.lock();
        Self::check(&disk)?;
        let step = Pending::Length(len as usize);
        perform(&mut disk.now, &step);
        disk.pending.push(step);
        Ok(())
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        let mut disk = self.0.lock();
        Self::check(&disk)?;
        disk.synced = disk.now.clone();
        disk.pending.clear();
        disk.syncs += 1;
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut disk = self.0.lock();
        assert!(!disk.panic, "this page is not what it was");
        Self::check(&disk)?;
        let step = Pending::Write(offset as usize, data.to_vec());
        perform(&mut disk.now, &step);
        disk.pending.push(step);
        Ok(())
    }
    fn try_lock_range(
        &self,
        _: std::ops::Bound<u64>,
        _: std::ops::Bound<u64>,
    ) -> Result<bool, BackendError> {
        Ok(true)
    }
}

/// How many operations were acknowledged, and what the disk then holds.
pub(super) type Picture = (u64, Vec<u8>);

/// A disk that takes a picture of what a power cut would leave at random calls.
#[derive(Debug, Clone)]
pub(super) struct Camera {
    disk: Backend,
    pub(super) taken: Arc<Mutex<Vec<Picture>>>,
    random: Arc<Mutex<u64>>,
    /// How many operations were acknowledged when a picture is taken.
    pub(super) acknowledged: Arc<AtomicU64>,
}

impl Camera {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            disk: Backend::default(),
            taken: Arc::default(),
            random: Arc::new(Mutex::new(seed)),
            acknowledged: Arc::default(),
        }
    }
    fn picture(&self) {
        let mut seed = self.random.lock();
        let mut random = Random(*seed);
        if random.below(3) == 0 {
            let count = self.acknowledged.load(Ordering::SeqCst);
            let image = self.disk.0.lock().cut(&mut random);
            self.taken.lock().push((count, image));
        }
        *seed = random.0;
    }
}

impl StorageBackend for Camera {
    fn len(&self) -> Result<u64, io::Error> {
        self.disk.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.disk.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.disk.set_len(len)?;
        self.picture();
        Ok(())
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        // The power may go before the sync has done anything.
        self.picture();
        self.disk.sync_data()?;
        self.picture();
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.disk.write(offset, data)?;
        self.picture();
        Ok(())
    }
    fn try_lock_range(
        &self,
        _: std::ops::Bound<u64>,
        _: std::ops::Bound<u64>,
    ) -> Result<bool, BackendError> {
        Ok(true)
    }
}
