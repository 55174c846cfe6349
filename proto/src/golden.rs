//! Stored and wire formats, held against bytes that an earlier build wrote.
//!
//! A file `src/golden/NAME.txt` has a line `sample hex` for each record. What this build
//! writes must be those bytes, and what it reads from them it must write again as they
//! were: a field that is added, moved or given another type fails here. Such a change
//! needs a new version of the record, new samples under new names, and the old samples
//! stay for as long as the old version is still read.
//!
//! `ORAMA_GOLDEN=write cargo test -p CRATE golden` adds lines for samples that have none
//! yet. It never replaces one.
//!
//! Used by the tests of several crates, each with its own `src/golden`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

/// A file of samples. Dropping it checks that every line of it was looked at.
pub(crate) struct Golden {
    path: PathBuf,
    lines: BTreeMap<String, String>,
    seen: BTreeSet<String>,
    write: bool,
}

impl Golden {
    /// The file `src/golden/NAME.txt` of the crate under test.
    pub(crate) fn open(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("src/golden")
            .join(format!("{name}.txt"));
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let line = |line: &str| line.split_once(' ').map(|(n, h)| (n.into(), h.into()));
        Self {
            lines: text.lines().filter_map(line).collect(),
            seen: BTreeSet::new(),
            write: std::env::var("ORAMA_GOLDEN").is_ok_and(|value| value == "write"),
            path,
        }
    }

    /// The bytes of a sample; those of `make` become them when it has none yet.
    pub(crate) fn stored(&mut self, sample: &str, make: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
        assert!(self.seen.insert(sample.into()), "{sample} is there twice");
        if self.write && !self.lines.contains_key(sample) {
            self.lines.insert(sample.into(), hex(&make()));
        }
        let line = self.lines.get(sample);
        let line = line.unwrap_or_else(|| panic!("{sample} is not in {}", self.path.display()));
        let byte = |at: usize| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
        (0..line.len()).step_by(2).map(byte).collect()
    }

    /// Holds `written` against the sample, and what `again` reads from the sample and writes.
    pub(crate) fn holds(
        &mut self,
        sample: &str,
        written: &[u8],
        again: impl FnOnce(&[u8]) -> Vec<u8>,
    ) {
        let stored = self.stored(sample, || written.to_vec());
        let file = self.path.display();
        assert_eq!(
            hex(written),
            hex(&stored),
            "{sample} of {file} is written in another way"
        );
        assert_eq!(
            hex(&again(&stored)),
            hex(&stored),
            "{sample} of {file} is read in another way"
        );
    }
}

impl Drop for Golden {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let unseen: Vec<_> = self
            .lines
            .keys()
            .filter(|n| !self.seen.contains(*n))
            .collect();
        assert!(
            unseen.is_empty(),
            "{}: nothing is held against {unseen:?}",
            self.path.display()
        );
        if self.write {
            let lines = self
                .lines
                .iter()
                .map(|(name, hex)| format!("{name} {hex}\n"));
            std::fs::write(&self.path, lines.collect::<String>()).unwrap();
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
