//! The writing side: one batch, one frame, one write, one sync.
//!
//! After the first failure nothing is written any more (see `writer.rs`): what
//! the file holds beyond the last acknowledged frame is not known.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use orama_proto::GroupId;
use parking_lot::Mutex;

use super::cleaner::Cleaner;
use super::engine::Op;
use super::files::{Files, SegmentFile};
use super::frame::{self, SECTOR, Stand};
use super::index::{Index, Place};
use super::record::{self, Tag};
use super::scan::{self, Found};
use super::segment::{Head, RESERVE, Sizes};
use crate::consensus::fault::StorageFault;

type Made = io::Result<(Arc<dyn SegmentFile>, u64)>;

/// The segment after this one.
enum Next {
    Missing,
    Making(JoinHandle<Made>),
    Ready(Arc<dyn SegmentFile>, u64),
    /// It could not be made ahead; it is tried again when it is needed.
    Failed,
}

/// The end of the log, and what is needed to go on from there.
pub(super) struct Appender {
    files: Arc<dyn Files>,
    sizes: Sizes,
    index: Arc<Mutex<Index>>,
    log: u64,
    number: u32,
    file: Arc<dyn SegmentFile>,
    size: u64,
    /// Where the next frame begins.
    at: u64,
    seq: u64,
    chain: u64,
    /// Segments below are not needed; said by every frame, so that a missing one is noticed.
    floor: u32,
    next: Next,
    cleaner: Cleaner,
    frame: Vec<u8>,
    /// Where in the frame each operation begins.
    starts: Vec<usize>,
    /// Removing a segment has failed: said once.
    unremoved: bool,
}

impl Appender {
    /// Opens or begins the log, and makes sure that what was found is on the disk.
    pub(super) fn open(
        files: Arc<dyn Files>,
        sizes: Sizes,
    ) -> Result<(Arc<Mutex<Index>>, Self), StorageFault> {
        let list = || {
            let numbers = files.list()?;
            if !numbers.is_empty() {
                return Ok(numbers);
            }
            // The files are private, so the id need not be hard to guess.
            let log = getrandom::u64().map_err(io::Error::other)?;
            make(&*files, &sizes, 1, 0, log)?;
            files.list()
        };
        let numbers = list().map_err(|e| StorageFault::io(files.path(1), e))?;
        let found = scan::scan(&*files, &numbers)?;
        for number in &found.leftovers {
            let removed = files.remove(*number);
            removed.map_err(|e| StorageFault::io(files.path(*number), e))?;
        }
        let path = files.path(found.number);
        let mut appender = Self::resume(files, sizes, &found);
        appender
            .settle(&found)
            .map_err(|e| StorageFault::io(path, e))?;
        let index = Arc::new(Mutex::new(found.index));
        appender.index = Arc::clone(&index);
        Ok((index, appender))
    }

    fn resume(files: Arc<dyn Files>, sizes: Sizes, found: &Found) -> Self {
        Self {
            files,
            sizes,
            index: Arc::new(Mutex::new(Index::new(found.number))),
            log: found.log,
            number: found.number,
            file: Arc::clone(&found.file),
            size: found.size,
            at: found.at,
            seq: found.seq,
            chain: found.chain,
            floor: found.floor.max(found.index.base()),
            next: match &found.spare {
                Some((file, size)) => Next::Ready(Arc::clone(file), *size),
                None => Next::Missing,
            },
            cleaner: Cleaner::default(),
            frame: Vec::new(),
            starts: Vec::new(),
            unremoved: false,
        }
    }

    /// What was found may be in the page cache only, left by a process that was
    /// killed, or by a sync that failed: the last frame is written again. What a
    /// power cut left of an unfinished write is made zero.
    fn settle(&mut self, found: &Found) -> io::Result<()> {
        if let Some(torn) = &found.torn {
            tracing::warn!(
                path = %self.files.path(self.number).display(),
                offset = torn.start,
                bytes = torn.end - torn.start,
                "the log ends in a write that was cut short; nobody was told that it was done, and it is dropped"
            );
            let zeros = vec![0; (torn.end - torn.start) as usize];
            self.file.write_at(torn.start, &zeros)?;
            self.file.sync()?;
        }
        if found.closed {
            return self.write_mark(Tag::Open);
        }
        if let Some(last) = &found.last {
            let file = match last.segment == self.number {
                true => Arc::clone(&self.file),
                false => self.files.open(last.segment)?,
            };
            file.write_at(last.offset, &last.bytes)?;
            file.sync()?;
        }
        Ok(())
    }

    /// Makes all of `ops`, in order, durable.
    /// Answers how many entries that were.
    pub(super) fn commit(&mut self, ops: &[Op]) -> io::Result<usize> {
        let mut frame = std::mem::take(&mut self.frame);
        frame::begin(&mut frame);
        let bytes: usize = ops.iter().map(Op::size).sum();
        let limit = self.sizes.step.max(bytes);
        self.cleaner
            .gather(&self.index, self.number, &self.sizes, limit, &mut frame);
        self.starts.clear();
        for op in ops {
            self.starts.push(frame.len());
            op.encode(&mut frame);
        }
        let written = self.write(&mut frame);
        // One exceptional batch does not hold its memory for ever.
        frame.shrink_to(self.sizes.largest as usize);
        self.frame = frame;
        let base = written?;
        let mut entries = 0;
        {
            let mut index = self.index.lock();
            let place = |start: usize, length: usize| Place {
                segment: self.number,
                offset: base + start as u32,
                length: length as u32,
            };
            self.cleaner.apply(&mut index, place);
            for (op, &start) in ops.iter().zip(&self.starts) {
                entries += op.apply(&mut index, start, place);
            }
        }
        self.retire();
        self.prepare_next();
        Ok(entries)
    }

    /// What the segments take.
    pub(super) fn disk_bytes(&self) -> i64 {
        i64::try_from(self.index.lock().disk()).unwrap_or(i64::MAX)
    }

    /// Says that the log was closed, so that from now on its very end is verified.
    /// Waits for what is made ahead.
    /// Writes nothing when the log is not `sound`.
    pub(super) fn close(&mut self, sound: bool) -> io::Result<()> {
        if let Next::Making(thread) = std::mem::replace(&mut self.next, Next::Missing) {
            // Whatever became of it, the next start finds it or makes it anew.
            drop(thread.join());
        }
        // Without room for it the end is verified as after a kill.
        if !sound || self.at + RESERVE > self.size {
            return Ok(());
        }
        self.write_mark(Tag::Close)
    }

    /// Writes a frame of one sector; there is always room for it.
    fn write_mark(&mut self, tag: Tag) -> io::Result<()> {
        let mut frame = Vec::with_capacity(SECTOR);
        frame::begin(&mut frame);
        record::put_bare(&mut frame, tag, GroupId(0));
        self.put(&mut frame)
    }

    /// Writes the frame, into the next segment if need be. Answers its offset.
    fn write(&mut self, frame: &mut Vec<u8>) -> io::Result<u32> {
        let length = frame::padded(frame.len()) as u64;
        if u32::try_from(length).is_err() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if self.at + length + RESERVE > self.size {
            self.roll(length)?;
        }
        let offset = self.at;
        self.put(frame)?;
        u32::try_from(offset).map_err(io::Error::other)
    }

    fn put(&mut self, frame: &mut Vec<u8>) -> io::Result<()> {
        let stand = Stand {
            log: self.log,
            segment: self.number,
            floor: self.floor,
            seq: self.seq + 1,
            prev: self.chain,
        };
        let chain = frame::finish(frame, stand);
        self.file.write_at(self.at, frame)?;
        self.file.sync()?;
        self.chain = chain;
        self.seq += 1;
        self.at += frame.len() as u64;
        Ok(())
    }

    /// Goes on in the next segment: it is there before this one says so.
    fn roll(&mut self, need: u64) -> io::Result<()> {
        let number = self.number.checked_add(1).ok_or(io::ErrorKind::Other)?;
        let ahead = match std::mem::replace(&mut self.next, Next::Missing) {
            Next::Ready(file, size) => Some((file, size)),
            Next::Making(thread) => thread.join().ok().and_then(Result::ok),
            Next::Missing | Next::Failed => None,
        };
        let ahead = ahead.filter(|(_, size)| need + RESERVE + SECTOR as u64 <= *size);
        let (file, size) = match ahead {
            Some(ready) => ready,
            None => make(&*self.files, &self.sizes, number, need, self.log)?,
        };
        self.write_mark(Tag::Seal)?;
        self.index.lock().add_segment(Arc::clone(&file), size);
        self.number = number;
        self.file = file;
        self.size = size;
        self.at = SECTOR as u64;
        Ok(())
    }

    /// Removes the segments that the last frame said are not needed, and looks for more.
    fn retire(&mut self) {
        let mut gone = Vec::new();
        {
            let mut index = self.index.lock();
            while index.base() < self.floor {
                gone.push(index.base());
                index.drop_oldest();
            }
            self.floor = self.floor.max(index.first_alive(self.number));
        }
        for number in gone {
            if let Err(error) = self.files.remove(number)
                && !std::mem::replace(&mut self.unremoved, true)
            {
                let path = self.files.path(number);
                tracing::warn!(path = %path.display(), %error, "an old segment of the log cannot be removed; the next start tries again");
            }
        }
    }

    /// Begins to make the next segment when half of this one is full.
    fn prepare_next(&mut self) {
        if !self.sizes.ahead || self.at < self.size / 2 || !matches!(self.next, Next::Missing) {
            return;
        }
        let Some(number) = self.number.checked_add(1) else {
            return;
        };
        let (files, sizes, log) = (Arc::clone(&self.files), self.sizes, self.log);
        let thread = std::thread::Builder::new()
            .name("raft-log-ahead".into())
            .spawn(move || make(&*files, &sizes, number, 0, log));
        self.next = thread.map_or(Next::Failed, Next::Making);
    }
}

fn make(files: &dyn Files, sizes: &Sizes, number: u32, need: u64, log: u64) -> Made {
    let size = sizes.of(number, need);
    let head = Head { number, size, log };
    Ok((files.create(number, size, &head.encode())?, size))
}

impl Op {
    /// About how many bytes it takes in a frame.
    pub(super) fn size(&self) -> usize {
        match self {
            Op::Append { records, .. } => records.len(),
            _ => record::HEAD,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Op::Append { records, .. } => out.extend_from_slice(records),
            Op::Vote { group, vote } => record::put_vote(out, *group, *vote),
            Op::Committed { group, at } => {
                record::put_position(out, Tag::Committed, *group, *at);
            }
            Op::Purge { group, upto } => record::put_position(out, Tag::Purged, *group, *upto),
            Op::Truncate { group, from } => record::put_truncate(out, *group, *from),
            Op::Erase { group } => record::put_bare(out, Tag::Erase, *group),
        }
    }

    fn apply(
        &self,
        index: &mut Index,
        start: usize,
        place: impl Fn(usize, usize) -> Place,
    ) -> usize {
        let here = place(start, record::HEAD);
        match self {
            Op::Append {
                group,
                first,
                records,
            } => {
                let (mut at, mut entry) = (0, *first);
                while let Some(length) = records.get(at..).and_then(record::length) {
                    index.append(*group, entry, place(start + at, length));
                    at += length;
                    entry += 1;
                }
                return (entry - first) as usize;
            }
            Op::Vote { group, vote } => index.set_vote(*group, *vote, here),
            Op::Committed { group, at } => index.set_committed(*group, *at, here),
            Op::Purge { group, upto } => index.purge(*group, *upto, here),
            Op::Truncate { group, from } => index.truncate(*group, *from),
            Op::Erase { group } => index.erase(*group),
        }
        0
    }
}
