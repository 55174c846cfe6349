//! Free space: changes are refused while there is still room to refuse them in.

use std::path::Path;

/// Changes are refused when less than this is free. A write that fails for lack
/// of room stops the group until it is opened again; refusing earlier keeps the
/// group alive, and it takes changes again as soon as there is room.
/// Half of it is for sled, which fills up a segment of 16 MiB when it is
/// opened: a node must be able to start again on a full disk.
pub(crate) const RESERVED_BYTES: u64 = 32 << 20;

/// What takes much room (blobs, compiled modules, the journal) leaves this
/// free: the metadata's reserve, and as much again for changes of the metadata.
/// So a full disk is first of all one on which functions can still be deleted.
pub(crate) const BULK_RESERVED_BYTES: u64 = 2 * RESERVED_BYTES;

/// Whether `bytes` fit on the file system of `path` and the reserve stays. A
/// file system that does not answer is given the benefit of the doubt.
pub(crate) fn has_room(path: &Path, bytes: u64) -> bool {
    leaves(path, bytes, RESERVED_BYTES)
}

/// Whether `bytes` of a blob, a compiled module or the journal fit, and leave
/// the metadata its room.
pub fn room_for_bulk(path: &Path, bytes: u64) -> bool {
    leaves(path, bytes, BULK_RESERVED_BYTES)
}

/// Whether `reserve` stays free after `bytes` were written.
pub(crate) fn leaves(path: &Path, bytes: u64, reserve: u64) -> bool {
    let Ok(stat) = rustix::fs::statvfs(path) else {
        return true;
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    free >= reserve.saturating_add(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_what_the_file_system_says_less_the_reserve() {
        let dir = tempfile::tempdir().unwrap();
        let stat = rustix::fs::statvfs(dir.path()).unwrap();
        let free = stat.f_bavail * stat.f_frsize;
        assert!(has_room(dir.path(), 0));
        assert!(!has_room(dir.path(), free));
        assert!(!has_room(dir.path(), u64::MAX));
        assert!(has_room(Path::new("/no/such/place"), 0));
    }
}
