//! Opening: every byte of every segment is verified before anything is served.
//!
//! What does not verify is damage, with one exception: the last frame of the
//! newest segment, when sectors of it were never written and nothing follows.
//! That is a write the power cut short, which nobody was told about.

use std::sync::Arc;

use super::files::{Files, SegmentFile};
use super::frame::{self, SECTOR};
use super::index::{Index, Place};
use super::record::{self, Tag};
use super::replay::Replay;
use super::segment::Head;
use crate::consensus::fault::StorageFault;

/// The last frame, where it lies.
#[derive(Debug, Clone)]
pub(super) struct LastFrame {
    pub(super) segment: u32,
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
}

/// A log as it was found.
pub(super) struct Found {
    pub(super) log: u64,
    pub(super) index: Index,
    /// The segment that is written next, and where.
    pub(super) number: u32,
    pub(super) file: Arc<dyn SegmentFile>,
    pub(super) size: u64,
    pub(super) at: u64,
    pub(super) seq: u64,
    pub(super) chain: u64,
    pub(super) floor: u32,
    pub(super) last: Option<LastFrame>,
    /// Whether the last frame says that the log was closed.
    pub(super) closed: bool,
    /// What a write that was cut short left, in the segment that is written next.
    pub(super) torn: Option<std::ops::Range<u64>>,
    /// A segment that was made ahead.
    pub(super) spare: Option<(Arc<dyn SegmentFile>, u64)>,
    /// Segments below the floor, to be removed.
    pub(super) leftovers: Vec<u32>,
}

/// What the scan has learned so far.
struct Scan<'a> {
    files: &'a dyn Files,
    replay: Replay,
    log: Option<u64>,
    /// `seq` and `chain` of the last frame of this run of segments.
    before: Option<(u64, u64)>,
    floor: u32,
    sealed: bool,
    closed: bool,
    last: Option<LastFrame>,
}

/// A segment after its scan.
struct Scanned {
    number: u32,
    file: Arc<dyn SegmentFile>,
    size: u64,
    end: u64,
    frames: u64,
    sealed: bool,
    torn: Option<std::ops::Range<u64>>,
}

/// Verifies the segments `numbers`, of which there is at least one.
pub(super) fn scan(files: &dyn Files, numbers: &[u32]) -> Result<Found, StorageFault> {
    let mut scan = Scan {
        files,
        replay: Replay::default(),
        log: None,
        before: (numbers.first() == Some(&1)).then_some((0, 0)),
        floor: 0,
        sealed: false,
        closed: false,
        last: None,
    };
    let mut segments: Vec<Scanned> = Vec::new();
    for &number in numbers {
        if let Some(before) = segments.last() {
            if before.number.checked_add(1) != Some(number) {
                // What is before a hole must turn out to be needed no more.
                scan.replay.clear();
                scan.before = None;
                segments.clear();
            } else if !before.sealed {
                scan.only_spare(number)?;
            }
        }
        let scanned = scan.segment(number, segments.last())?;
        segments.push(scanned);
    }
    scan.finish(segments, numbers)
}

/// What is to be made zero again, up to the last sector that is not.
fn garbage(start: u64, rest: &[u8]) -> std::ops::Range<u64> {
    let written = rest.chunks(SECTOR).rposition(|s| !frame::is_zero(s));
    start..start + written.map_or(0, |nth| (nth + 1) * SECTOR) as u64
}

impl Scan<'_> {
    fn fault(&self, number: u32, what: impl Into<String>) -> StorageFault {
        StorageFault::LogFile {
            path: self.files.path(number),
            what: what.into(),
        }
    }

    fn at(&self, number: u32, offset: u64, what: &str) -> StorageFault {
        self.fault(number, format!("at byte {offset}: {what}"))
    }

    /// The segment before is not sealed: this one may only be a spare, and the last.
    fn only_spare(&self, number: u32) -> Result<(), StorageFault> {
        let bytes = self.read(number)?.1;
        match frame::is_zero(bytes.get(SECTOR..).unwrap_or_default()) {
            true => Ok(()),
            false => Err(self.fault(
                number - 1,
                "the next segment is in use, but the end of this one is not there",
            )),
        }
    }

    fn read(&self, number: u32) -> Result<(Arc<dyn SegmentFile>, Vec<u8>), StorageFault> {
        let read = || {
            let file = self.files.open(number)?;
            let size = file.size()?;
            let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
            file.read_at(0, &mut bytes)?;
            Ok((file, bytes))
        };
        read().map_err(|e| StorageFault::io(self.files.path(number), e))
    }

    fn segment(&mut self, number: u32, before: Option<&Scanned>) -> Result<Scanned, StorageFault> {
        let (file, bytes) = self.read(number)?;
        let head = Head::parse(&bytes).map_err(|what| self.fault(number, what))?;
        let size = bytes.len() as u64;
        let log = *self.log.get_or_insert(head.log);
        let foreign = head.number != number || head.log != log;
        if foreign || size != head.size || !bytes.len().is_multiple_of(SECTOR) {
            let what = match foreign {
                true => "it is a segment of another place or of another log".to_owned(),
                false => format!("it has {size} bytes instead of {}", head.size),
            };
            return Err(self.fault(number, what));
        }
        let spare = before.is_some_and(|s| !s.sealed);
        let mut scanned = Scanned {
            number,
            file,
            size,
            end: SECTOR as u64,
            frames: 0,
            sealed: false,
            torn: None,
        };
        if spare {
            return Ok(scanned);
        }
        self.sealed = false;
        while scanned.end < size && scanned.torn.is_none() {
            let at = scanned.end as usize;
            let rest = bytes.get(at..).unwrap_or_default();
            if self.sealed || frame::is_zero(rest.get(..SECTOR).unwrap_or_default()) {
                if frame::is_zero(rest) {
                    break;
                }
                if self.sealed {
                    return Err(self.at(number, scanned.end, "something follows the end"));
                }
                self.torn(number, scanned.end, rest, rest.len(), log)?;
                scanned.torn = Some(garbage(scanned.end, rest));
                break;
            }
            match self.frame(number, scanned.end, rest, log)? {
                Some(length) => {
                    scanned.end += length as u64;
                    scanned.frames += 1;
                }
                None => scanned.torn = Some(garbage(scanned.end, rest)),
            }
        }
        scanned.sealed = self.sealed;
        Ok(scanned)
    }

    /// Takes the frame that begins here. Answers its length; `None` when it is torn.
    fn frame(
        &mut self,
        number: u32,
        offset: u64,
        rest: &[u8],
        log: u64,
    ) -> Result<Option<usize>, StorageFault> {
        let Some(head) = frame::Head::parse(rest, log) else {
            return Err(self.at(number, offset, "a frame's head is not what was written"));
        };
        let follows = self
            .before
            .is_none_or(|(seq, chain)| head.seq == seq + 1 && head.prev == chain);
        if head.segment != number || !follows {
            return Err(self.at(number, offset, "this frame does not follow the one before"));
        }
        let length = frame::padded(head.length);
        let Some(bytes) = rest.get(..length) else {
            return Err(self.at(number, offset, "a frame is longer than the segment"));
        };
        if !head.verify(bytes) {
            if !head.is_torn(bytes) {
                return Err(self.at(number, offset, "a frame's checksum does not match"));
            }
            self.torn(number, offset, rest, length, log)?;
            return Ok(None);
        }
        self.records(number, offset, bytes.get(..head.length).unwrap_or_default())?;
        self.before = Some((head.seq, head.chain));
        self.floor = head.floor;
        self.last = Some(LastFrame {
            segment: number,
            offset,
            bytes: bytes.to_vec(),
        });
        Ok(Some(length))
    }

    fn records(&mut self, number: u32, offset: u64, frame: &[u8]) -> Result<(), StorageFault> {
        let mut at = frame::HEAD;
        self.closed = false;
        while at < frame.len() {
            let place = offset + at as u64;
            let found = record::parse(frame.get(at..).unwrap_or_default());
            let (record, length) = found
                .and_then(|found| found.0.check().map(|()| found))
                .map_err(|e| self.at(number, place, &format!("a record: {e}")))?;
            self.sealed |= record.tag == Tag::Seal;
            self.closed |= record.tag == Tag::Close;
            let place = Place {
                segment: number,
                offset: u32::try_from(place).unwrap_or(u32::MAX),
                length: u32::try_from(length).unwrap_or(u32::MAX),
            };
            self.replay.take(&record, place);
            at += length;
        }
        Ok(())
    }

    /// Whether what begins here, `extent` bytes at most, may be a write that was cut short.
    fn torn(
        &self,
        number: u32,
        offset: u64,
        rest: &[u8],
        extent: usize,
        log: u64,
    ) -> Result<(), StorageFault> {
        let refuse = |what| Err(self.at(number, offset, what));
        // What opens a closed log is one sector: it is there or not.
        if self.closed {
            return refuse("the log was closed here, and something follows");
        }
        let (inside, after) = rest.split_at(extent.min(rest.len()));
        if !frame::is_zero(after) {
            return refuse("a frame's checksum does not match, and more follows");
        }
        let mut sectors = inside.chunks(SECTOR).skip(1);
        let later = |head: frame::Head| {
            head.segment == number && self.before.is_none_or(|(seq, _)| head.seq > seq + 1)
        };
        if sectors.any(|sector| frame::Head::parse(sector, log).is_some_and(later)) {
            return refuse("a frame is missing, and more follows");
        }
        Ok(())
    }

    fn finish(self, mut segments: Vec<Scanned>, numbers: &[u32]) -> Result<Found, StorageFault> {
        let newest = numbers.last().copied().unwrap_or(0);
        let nothing = || StorageFault::LogFile {
            path: self.files.path(newest),
            what: "there is nothing in it".into(),
        };
        // The last segment is a spare unless the one before says that it goes on there.
        let with_frames = segments.iter().rposition(|s| s.frames > 0);
        let current = match with_frames {
            None => 0,
            Some(nth) if segments.get(nth).is_some_and(|s| s.sealed) => nth + 1,
            Some(nth) => nth,
        };
        if current == segments.len() {
            let missing = newest.saturating_add(1);
            return Err(self.fault(missing, "it is missing, the segment before goes on there"));
        }
        let base = segments.first().map_or(0, |s| s.number);
        let lost = base > 1 && base > self.floor;
        if lost {
            return Err(self.fault(base - 1, "it is missing"));
        }
        if segments.len() > current + 2 {
            return Err(self.fault(newest, "it is one segment too many"));
        }
        let spare = segments
            .drain(current + 1..)
            .next()
            .map(|s| (s.file, s.size));
        let mut index = Index::new(base);
        for segment in &segments {
            index.add_segment(Arc::clone(&segment.file), segment.size);
        }
        let written = segments.pop().ok_or_else(nothing)?;
        for (group, found) in self.replay.finish()? {
            index.adopt(group, found);
        }
        let (seq, chain) = self.before.unwrap_or((0, 0));
        Ok(Found {
            log: self.log.ok_or_else(nothing)?,
            index,
            number: written.number,
            file: written.file,
            size: written.size,
            at: written.end,
            seq,
            chain,
            floor: self.floor,
            last: self.last,
            closed: self.closed,
            torn: written.torn,
            spare,
            leftovers: numbers.iter().copied().filter(|n| *n < base).collect(),
        })
    }
}
