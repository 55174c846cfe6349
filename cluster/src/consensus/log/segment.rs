//! A segment's first sector, and how large segments are.
//!
//! ```text
//! 0  magic  8 bytes     8  version u32   12 number u32
//! 16 size   u64         24 log     u64   the log's id, the same in all segments
//! 32 zeros              504 sum    u64   xxh3-64 of everything before it
//! ```

use xxhash_rust::xxh3::xxh3_64;

use super::frame::SECTOR;
use super::record::{u32_at, u64_at};

const MAGIC: &[u8; 8] = b"ORAMALOG";
const VERSION: u32 = 1;
const SUM: usize = SECTOR - 8;

/// How large segments become, and how much that is dead may lie about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// The first segment; each next one has twice as many bytes, up to `largest`.
    pub(super) first: u64,
    pub(super) largest: u64,
    /// Live records are moved when the log takes more than twice what is live and this.
    pub(super) slack: u64,
    /// At most so much is moved by a batch, or as much as the batch itself has.
    pub(super) step: usize,
    /// Whether the next segment is made by a thread of its own.
    pub(super) ahead: bool,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            first: 4 << 20,
            largest: 16 << 20,
            slack: 32 << 20,
            step: 256 << 10,
            ahead: true,
        }
    }
}

impl Sizes {
    /// The size of a segment that must hold `need` bytes of frames.
    pub(super) fn of(&self, number: u32, need: u64) -> u64 {
        let doubled = number.saturating_sub(1).min(32);
        let usual = self.first.saturating_mul(1 << doubled).min(self.largest);
        usual.max(need + RESERVE + SECTOR as u64)
    }
}

/// Room at the end of a segment for what closes, opens and seals it.
pub(super) const RESERVE: u64 = 3 * SECTOR as u64;

/// What a segment's first sector says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) number: u32,
    pub(super) size: u64,
    pub(super) log: u64,
}

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; SECTOR];
        out[0..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&self.number.to_le_bytes());
        out[16..24].copy_from_slice(&self.size.to_le_bytes());
        out[24..32].copy_from_slice(&self.log.to_le_bytes());
        let sum = xxh3_64(&out[..SUM]);
        out[SUM..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let words = || Some((bytes.get(..SUM)?, u64_at(bytes, SUM)?));
        let (covered, sum) = words().ok_or("it is shorter than a segment's head")?;
        if !covered.starts_with(MAGIC) || xxh3_64(covered) != sum {
            return Err("the segment's head is not what was written");
        }
        if u32_at(bytes, 8) != Some(VERSION) {
            return Err("the segment's version is not known here");
        }
        let fields = || {
            Some(Self {
                number: u32_at(bytes, 12)?,
                size: u64_at(bytes, 16)?,
                log: u64_at(bytes, 24)?,
            })
        };
        fields().ok_or("the segment's head is cut off")
    }
}
