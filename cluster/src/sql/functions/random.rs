//! `random()` and `randomblob()` from the entry's seed.
//!
//! They take the place of SQLite's own everywhere: in DEFAULTs, triggers, views, `ORDER BY`.

use std::sync::Arc;

use orama_proto::limits::SQL_VALUE_MAX_BYTES;
use parking_lot::Mutex;
use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, Error, ffi};

/// xoshiro256** (Blackman, Vigna), its state filled by splitmix64. Written out here because its numbers
/// are part of what replicas agree on: no library may change them.
#[derive(Debug, Default)]
pub(in super::super) struct Generator {
    state: [u64; 4],
}

impl Generator {
    /// Begins again where `seed` says.
    pub(in super::super) fn seed(&mut self, seed: [u8; 16]) {
        let seed = u128::from_le_bytes(seed);
        // The first number depends on the second word alone: that one has to know all of the seed.
        let mut low = seed as u64;
        let mut both = (seed >> 64) as u64 ^ splitmix(&mut low);
        self.state = [
            splitmix(&mut low),
            splitmix(&mut both),
            splitmix(&mut low),
            splitmix(&mut both),
        ];
        // The one state it would never leave.
        if self.state == [0; 4] {
            self.state[0] = 1;
        }
    }
    /// For reads: nobody has to agree.
    pub(in super::super) fn seed_from_entropy(&mut self) {
        self.seed(entropy().to_le_bytes());
    }
    pub(super) fn next(&mut self) -> u64 {
        let [s0, s1, s2, s3] = &mut self.state;
        let answer = s1.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = *s1 << 17;
        *s2 ^= *s0;
        *s3 ^= *s1;
        *s1 ^= *s2;
        *s0 ^= *s3;
        *s2 ^= t;
        *s3 = s3.rotate_left(45);
        answer
    }
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let number = self.next().to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
    }
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Numbers that nobody can foresee; the clock when the system has none.
pub(in super::super) fn entropy() -> u128 {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        let now = orama_proto::Timestamp::now();
        bytes[..8].copy_from_slice(&now.0.to_le_bytes());
    }
    u128::from_le_bytes(bytes)
}

/// Puts both in the place of SQLite's.
pub(super) fn install(
    sqlite: &Connection,
    generator: &Arc<Mutex<Generator>>,
) -> rusqlite::Result<()> {
    // Never DETERMINISTIC: SQLite would call them once per statement. INNOCUOUS: DEFAULTs and
    // triggers may use them although the schema is not trusted.
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_INNOCUOUS;
    let numbers = Arc::clone(generator);
    sqlite.create_scalar_function(
        "random",
        0,
        flags,
        move |_| Ok(numbers.lock().next() as i64),
    )?;
    let blobs = Arc::clone(generator);
    sqlite.create_scalar_function("randomblob", 1, flags, move |context| {
        // As SQLite's: whatever is not a positive number is 1.
        let bytes = match context.get_raw(0) {
            rusqlite::types::ValueRef::Integer(bytes) => bytes,
            rusqlite::types::ValueRef::Real(bytes) => bytes as i64,
            rusqlite::types::ValueRef::Text(text) => leading_integer(text),
            _ => 1,
        };
        let bytes = usize::try_from(bytes.max(1)).unwrap_or(usize::MAX);
        if bytes > SQL_VALUE_MAX_BYTES {
            return Err(Error::SqliteFailure(
                ffi::Error::new(ffi::SQLITE_TOOBIG),
                None,
            ));
        }
        let mut blob = vec![0; bytes];
        blobs.lock().fill(&mut blob);
        Ok(blob)
    })
}

/// The number a text begins with, as SQLite converts texts.
fn leading_integer(text: &[u8]) -> i64 {
    let text = String::from_utf8_lossy(text);
    let text = text.trim_start();
    let end = text
        .char_indices()
        .find(|(at, c)| !(c.is_ascii_digit() || (*at == 0 && matches!(c, '-' | '+'))))
        .map_or(text.len(), |(at, _)| at);
    text[..end].parse().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers are stored in databases by every replica: they may never change.
    #[test]
    fn the_sequence_of_a_seed_is_fixed() {
        let mut generator = Generator::default();
        generator.seed([7; 16]);
        let first: Vec<u64> = (0..3).map(|_| generator.next()).collect();
        generator.seed([7; 16]);
        assert_eq!(first, (0..3).map(|_| generator.next()).collect::<Vec<_>>());
        for byte in 0..16 {
            let mut seed = [7; 16];
            seed[byte] = 8;
            generator.seed(seed);
            assert_ne!(first[0], generator.next(), "byte {byte}");
        }
    }

    #[test]
    fn xoshiro_is_the_published_one() {
        // The reference implementation from the state 1, 2, 3, 4.
        let mut generator = Generator {
            state: [1, 2, 3, 4],
        };
        assert_eq!(
            [generator.next(), generator.next(), generator.next()],
            [11520, 0, 1_509_978_240]
        );
    }

    #[test]
    fn splitmix_is_the_published_one() {
        let mut state = 1_234_567;
        assert_eq!(splitmix(&mut state), 6_457_827_717_110_365_317);
        assert_eq!(splitmix(&mut state), 3_203_168_211_198_807_973);
    }
}
