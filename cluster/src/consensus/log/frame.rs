//! Frames: what one batch writes at once, in whole sectors of its own.
//!
//! ```text
//! 0  magic    u32   with the version of this layout
//! 4  length   u32   of the records
//! 8  seq      u64   one more than the frame before, in all segments
//! 16 segment  u32   the segment it belongs to
//! 20 floor    u32   segments below this one are not needed any more
//! 24 prev     u64   `chain` of the frame before
//! 32 zeros    u32   sectors of this frame that are all zero by nature
//! 36 nothing  u32
//! 40 sum      u128  xxh3-128 of everything after the head, padding included
//! 56 chain    u64   xxh3-64 of the head before it, seeded with the log's id
//! 64 records, zeros up to the end of the sector
//! ```
//!
//! No sector is written twice, and before it is written it is zero. So a sector
//! that never reached the disk shows itself, and the number of natural zero
//! sectors in the head tells it from one that is meant to be zero.

use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128};

use super::record::{u32_at, u64_at};

/// What a disk writes as a whole or not at all.
pub(super) const SECTOR: usize = 512;
/// Bytes of a frame's head.
pub(super) const HEAD: usize = 64;
/// `OFR` and version 1.
const MAGIC: u32 = u32::from_le_bytes(*b"OFR\x01");
const ZEROS: [u8; SECTOR] = [0; SECTOR];

/// Whether there is nothing but zeros, in whole sectors or the rest of one.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes
        .chunks(SECTOR)
        .all(|part| part == ZEROS.get(..part.len()).unwrap_or_default())
}

fn zero_sectors(bytes: &[u8]) -> u32 {
    let zero = bytes.chunks_exact(SECTOR).filter(|s| *s == ZEROS).count();
    u32::try_from(zero).unwrap_or(u32::MAX)
}

/// How many bytes a frame of so many takes.
pub(super) fn padded(length: usize) -> usize {
    length.next_multiple_of(SECTOR)
}

/// Where a frame stands among the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stand {
    /// The log's id.
    pub(super) log: u64,
    pub(super) segment: u32,
    pub(super) floor: u32,
    pub(super) seq: u64,
    pub(super) prev: u64,
}

/// Begins a frame; records follow.
pub(super) fn begin(frame: &mut Vec<u8>) {
    frame.clear();
    frame.resize(HEAD, 0);
}

/// Fills in the head of what [`begin`] began. Answers its chain.
pub(super) fn finish(frame: &mut Vec<u8>, stand: Stand) -> u64 {
    let length = u32::try_from(frame.len() - HEAD).unwrap_or(u32::MAX);
    frame.resize(padded(frame.len()), 0);
    let sum = xxh3_128(&frame[HEAD..]);
    let zeros = zero_sectors(frame);
    frame[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    frame[4..8].copy_from_slice(&length.to_le_bytes());
    frame[8..16].copy_from_slice(&stand.seq.to_le_bytes());
    frame[16..20].copy_from_slice(&stand.segment.to_le_bytes());
    frame[20..24].copy_from_slice(&stand.floor.to_le_bytes());
    frame[24..32].copy_from_slice(&stand.prev.to_le_bytes());
    frame[32..36].copy_from_slice(&zeros.to_le_bytes());
    frame[40..56].copy_from_slice(&sum.to_le_bytes());
    let chain = xxh3_64_with_seed(&frame[..56], stand.log);
    frame[56..64].copy_from_slice(&chain.to_le_bytes());
    chain
}

/// A verified head.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    /// Bytes of head and records.
    pub(super) length: usize,
    pub(super) seq: u64,
    pub(super) segment: u32,
    pub(super) floor: u32,
    pub(super) prev: u64,
    pub(super) chain: u64,
    zeros: u32,
    sum: u128,
}

impl Head {
    /// The head that begins here, if it is one of this log.
    pub(super) fn parse(bytes: &[u8], log: u64) -> Option<Self> {
        let chain = u64_at(bytes, 56)?;
        if u32_at(bytes, 0)? != MAGIC || xxh3_64_with_seed(bytes.get(..56)?, log) != chain {
            return None;
        }
        Some(Self {
            length: HEAD.checked_add(usize::try_from(u32_at(bytes, 4)?).ok()?)?,
            seq: u64_at(bytes, 8)?,
            segment: u32_at(bytes, 16)?,
            floor: u32_at(bytes, 20)?,
            prev: u64_at(bytes, 24)?,
            zeros: u32_at(bytes, 32)?,
            sum: u128::from_le_bytes(*bytes.get(40..)?.first_chunk()?),
            chain,
        })
    }

    /// Whether the whole frame, padding included, is as it was written.
    pub(super) fn verify(&self, frame: &[u8]) -> bool {
        frame
            .get(HEAD..)
            .is_some_and(|rest| xxh3_128(rest) == self.sum)
    }

    /// Whether sectors of it were never written.
    pub(super) fn is_torn(&self, frame: &[u8]) -> bool {
        zero_sectors(frame) > self.zeros
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAND: Stand = Stand {
        log: 77,
        segment: 3,
        floor: 2,
        seq: 9,
        prev: 5,
    };

    #[test]
    fn damage_and_tearing_are_told_apart() {
        let mut frame = Vec::new();
        begin(&mut frame);
        // One sector of it is zero by nature.
        frame.extend_from_slice(&[7; 700]);
        frame.extend_from_slice(&[0; 1024]);
        frame.extend_from_slice(&[9; 300]);
        let chain = finish(&mut frame, STAND);
        assert_eq!(frame.len() % SECTOR, 0);
        let head = Head::parse(&frame, 77).unwrap();
        assert_eq!((head.chain, head.seq, head.zeros), (chain, 9, 1));
        assert!(head.verify(&frame) && !head.is_torn(&frame));
        assert!(Head::parse(&frame, 78).is_none(), "another log's frame");
        for at in 0..frame.len() {
            let mut bad = frame.clone();
            bad[at] ^= 0x20;
            match Head::parse(&bad, 77) {
                None => assert!(at < HEAD),
                Some(head) => assert!(!head.verify(&bad) && !head.is_torn(&bad), "byte {at}"),
            }
        }
        for sector in 1..frame.len() / SECTOR {
            let mut torn = frame.clone();
            torn[sector * SECTOR..(sector + 1) * SECTOR].fill(0);
            assert_eq!(head.is_torn(&torn), torn != frame, "sector {sector}");
        }
    }
}
