//! Stored and wire formats, held against bytes that an earlier build wrote.
//!
//! A file `src/golden/NAME.txt` has a line `sample hex` for each record. What this build
//! writes must be those bytes, and what it reads from them it must write again as they
//! were: a field that is added, moved or given another type fails here. Such a change
//! needs a new version of the record, new samples under new names, and the old samples
//! stay for as long as the old version is still read.
//!
//! `ORAMA_GOLDEN=write cargo test -p CRATE golden` adds lines for samples that have none
//! yet. It never replaces one: a line is changed or taken out by hand, and only when no
//! build that was released ever wrote it.
//!
//! Used by the tests of several crates, each with its own `src/golden`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write as _};
use std::path::PathBuf;

use serde::de::value::Error;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};

/// What the reader of a failure needs to know.
const MEANING: &str = "Nodes and files of earlier builds have it as it was. \
    Unless that is a mistake it needs a new version: see the head of proto/src/golden.rs.";

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
        let line = line.unwrap_or_else(|| {
            panic!(
                "{sample} is not in {}. A new sample is added by ORAMA_GOLDEN=write.",
                self.path.display()
            )
        });
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
        // Shown when reading it panics, which says nothing of the sample.
        println!("{sample} of {file}");
        let same = |made: &[u8], done: &str| {
            assert_eq!(
                hex(made),
                hex(&stored),
                "{sample} of {file} is {done} in another way. {MEANING}"
            );
        };
        same(written, "written");
        same(&again(&stored), "read");
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
            "{}: nothing is held against {unseen:?}. {MEANING}",
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

/// Holds that there is a sample of every variant of `T`, so that a new one gets its line too.
pub(crate) fn has_every_variant<'a, T>(samples: impl IntoIterator<Item = &'a T>)
where
    T: Debug + DeserializeOwned + 'a,
{
    let shown: BTreeSet<String> = samples.into_iter().map(variant).collect();
    let mut known = 0;
    let _ = T::deserialize(Variants(&mut known));
    assert_eq!(
        shown.len(),
        known,
        "{} has {known} variants, and there are samples of {shown:?}",
        std::any::type_name::<T>()
    );
}

/// The name at the head of what `Debug` shows.
fn variant<T: Debug>(value: &T) -> String {
    let text = format!("{value:?}");
    let end = text.find(|c: char| !c.is_ascii_alphanumeric());
    text[..end.unwrap_or(text.len())].to_owned()
}

/// Counts the variants of the enum that is to be read, and reads nothing.
struct Variants<'a>(&'a mut usize);

impl<'de> Deserializer<'de> for Variants<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("no enum"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        *self.0 = variants.len();
        Err(Error::custom("counted"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        option unit unit_struct newtype_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}
