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
