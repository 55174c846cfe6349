//! Free space: changes are refused while there is still room to refuse them in.

use std::path::Path;

/// Changes are refused when less than this is free. A write that fails for lack
/// of room stops the group until it is opened again; refusing earlier keeps the
/// group alive, and it takes changes again as soon as there is room.
pub(crate) const RESERVED_BYTES: u64 = 16 << 20;

/// Whether `bytes` fit on the file system of `path` and the reserve stays. A
/// file system that does not answer is given the benefit of the doubt.
pub(crate) fn has_room(path: &Path, bytes: u64) -> bool {
    let Ok(stat) = rustix::fs::statvfs(path) else {
        return true;
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    free >= RESERVED_BYTES.saturating_add(bytes)
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
