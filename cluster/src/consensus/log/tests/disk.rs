//! A disk in memory that forgets what was not synced.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::consensus::log::files::{Files, SegmentFile};

/// Segments by number.
pub(super) type Image = BTreeMap<u32, Vec<u8>>;

/// A disk whose power can be cut: writes since the last sync may be lost, each
/// sector on its own, and removals may be lost, each on its own.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) now: Image,
    pub(super) synced: Image,
    /// What happened to each segment since its last sync.
    pending: BTreeMap<u32, Vec<(usize, Vec<u8>)>>,
    removed: Vec<u32>,
    pub(super) syncs: u64,
    pub(super) creations: u64,
    pub(super) fail: Option<io::ErrorKind>,
    /// Making segments fails, as on a full disk.
    pub(super) full: bool,
    /// Writing panics.
    pub(super) panic: bool,
    camera: Option<Camera>,
}

/// How many operations were acknowledged, and what the disk then holds.
pub(super) type Picture = (u64, Image);

/// Takes a picture of what a power cut would leave, at random calls.
#[derive(Debug)]
struct Camera {
    random: Random,
    taken: Vec<Picture>,
    acknowledged: Arc<AtomicU64>,
}

/// Deterministic, so that a failing seed can be run again.
#[derive(Debug)]
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

fn put(image: &mut Image, number: u32, at: usize, bytes: &[u8]) {
    if let Some(file) = image.get_mut(&number) {
        file[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

impl Disk {
    /// What is left when the power goes now.
    pub(super) fn cut(&self, random: &mut Random) -> Image {
        let mut image = self.synced.clone();
        for (number, writes) in &self.pending {
            // A sector is written or not; most of the time only some are.
            let lost = random.below(4);
            for (at, bytes) in writes {
                assert_eq!(at % 512, 0, "writes are whole sectors");
                for (i, sector) in bytes.chunks(512).enumerate() {
                    if random.below(3) >= lost {
                        put(&mut image, *number, at + i * 512, sector);
                    }
                }
            }
        }
        for number in &self.removed {
            if random.below(2) == 0 {
                image.remove(number);
            }
        }
        image
    }

    fn picture(&mut self) {
        let Some(mut camera) = self.camera.take() else {
            return;
        };
        if camera.random.below(3) == 0 {
            let image = self.cut(&mut camera.random);
            let count = camera.acknowledged.load(Ordering::SeqCst);
            camera.taken.push((count, image));
        }
        self.camera = Some(camera);
    }

    fn check(&self) -> io::Result<()> {
        self.fail.map_or(Ok(()), |kind| Err(kind.into()))
    }

    pub(super) fn pictures(&mut self) -> Vec<Picture> {
        let camera = self.camera.as_mut();
        camera
            .map(|c| std::mem::take(&mut c.taken))
            .unwrap_or_default()
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Backend(pub(super) Arc<Mutex<Disk>>);

impl Backend {
    pub(super) fn over(image: Image) -> Self {
        let backend = Self::default();
        {
            let mut disk = backend.0.lock();
            disk.now = image.clone();
            disk.synced = image;
        }
        backend
    }

    pub(super) fn watched(seed: u64, acknowledged: &Arc<AtomicU64>) -> Self {
        let backend = Self::default();
        backend.0.lock().camera = Some(Camera {
            random: Random(seed),
            taken: Vec::new(),
            acknowledged: Arc::clone(acknowledged),
        });
        backend
    }

    pub(super) fn synced(&self) -> Image {
        self.0.lock().synced.clone()
    }
}

struct Segment {
    disk: Backend,
    number: u32,
}

impl SegmentFile for Segment {
    fn size(&self) -> io::Result<u64> {
        let disk = self.disk.0.lock();
        Ok(disk.now.get(&self.number).map_or(0, Vec::len) as u64)
    }
    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let disk = self.disk.0.lock();
        let at = at as usize;
        let file = disk.now.get(&self.number);
        let bytes = file.and_then(|f| f.get(at..at + out.len()));
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.disk.0.lock();
        assert!(!disk.panic, "this disk panics");
        disk.check()?;
        put(&mut disk.now, self.number, at as usize, bytes);
        let pending = disk.pending.entry(self.number).or_default();
        pending.push((at as usize, bytes.to_vec()));
        disk.picture();
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk.0.lock();
        // The power may go before the sync has done anything.
        disk.picture();
        disk.check()?;
        disk.syncs += 1;
        if let Some(file) = disk.now.get(&self.number).cloned() {
            disk.synced.insert(self.number, file);
        }
        disk.pending.remove(&self.number);
        disk.picture();
        Ok(())
    }
}

impl Files for Backend {
    fn path(&self, number: u32) -> PathBuf {
        format!("(memory)/{number:08x}.log").into()
    }
    fn list(&self) -> io::Result<Vec<u32>> {
        Ok(self.0.lock().now.keys().copied().collect())
    }
    fn create(&self, number: u32, size: u64, head: &[u8]) -> io::Result<Arc<dyn SegmentFile>> {
        let mut disk = self.0.lock();
        disk.check()?;
        if disk.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.picture();
        let mut file = head.to_vec();
        file.resize(size as usize, 0);
        disk.now.insert(number, file.clone());
        disk.synced.insert(number, file);
        disk.creations += 1;
        disk.picture();
        drop(disk);
        self.open(number)
    }
    fn open(&self, number: u32) -> io::Result<Arc<dyn SegmentFile>> {
        Ok(Arc::new(Segment {
            disk: self.clone(),
            number,
        }))
    }
    fn remove(&self, number: u32) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.now.remove(&number);
        disk.removed.push(number);
        disk.picture();
        Ok(())
    }
}
