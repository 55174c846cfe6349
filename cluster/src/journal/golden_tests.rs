//! What the journal's file holds stays what it is.

use super::chunk::{self, Entry};
use crate::golden::Golden;

#[test]
fn golden_chunks() {
    let mut golden = Golden::open("journal");
    let entry = |id| Entry {
        id,
        request_id: b"r-1",
        record: b"a record",
    };
    // Length of the key (one byte), key, value.
    let write = |entries: &[Entry<'_>]| {
        let (key, value) = chunk::write(b"prefix", entries);
        [vec![u8::try_from(key.len()).unwrap()], key, value].concat()
    };
    golden.holds("chunk", &write(&[entry(b"i-1"), entry(b"i-2")]), |bytes| {
        let (key, value) = bytes[1..].split_at(usize::from(bytes[0]));
        write(&chunk::read(key, value).unwrap())
    });
}
