//! A file system that is really full, for tests: a tmpfs of a given size.

use std::path::Path;
use std::process::Command;

/// A mounted tmpfs; unmounted when dropped.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Mounts a disk of `kib` kibibytes. Needs root: where this fails, so does the test.
    pub(crate) fn mount(kib: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let run = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "orama-test"])
            .arg(dir.path())
            .output()
            .expect("the disk-full tests need the program mount");
        assert!(
            run.status.success(),
            "the disk-full tests mount a tmpfs and need root (or: unshare -Urm cargo test): {}",
            String::from_utf8_lossy(&run.stderr)
        );
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazy: a failed test may still hold files open.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}
