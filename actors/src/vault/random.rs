//! Random bytes for keys and nonces.

/// Fills `buffer` from the operating system's generator.
///
/// The generator only refuses while a machine is starting up and has no
/// entropy yet. There is nothing to fall back on and nothing to report to, so
/// this asks again until it answers.
pub(crate) fn fill(buffer: &mut [u8]) {
    while getrandom::fill(buffer).is_err() {
        std::thread::yield_now();
    }
}

/// An array of random bytes.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    fill(&mut out);
    out
}

/// A random number.
pub(crate) fn number() -> u64 {
    u64::from_le_bytes(bytes())
}
