//! A small file system of its own, that can be filled.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A tmpfs, unmounted at the end, also when this process is killed.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    /// Unmounts when its stdin closes, which it does with this process.
    guardian: Child,
}

impl SmallDisk {
    /// Of this many MiB; needs root.
    pub fn new(path: PathBuf, mib: u64) -> Self {
        std::fs::create_dir_all(&path).expect("the mount point");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(&path)
            .output()
            .expect("running mount");
        assert!(
            output.status.success(),
            "this test mounts a small tmpfs and so needs root with CAP_SYS_ADMIN: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let guardian = Command::new("sh")
            .args(["-c", r#"read -r _; exec umount -l "$1""#, "sh"])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .expect("the guardian of the mount");
        Self { path, guardian }
    }
    /// Whether this process may mount.
    pub fn is_permitted() -> bool {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mounted = Command::new("unshare")
            .args(["--mount", "mount", "-t", "tmpfs", "tmpfs"])
            .arg(dir.path())
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            println!("NOTICE: no tmpfs can be mounted here: full disks are not covered");
        }
        mounted
    }
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Leaves this many MiB free.
    pub fn fill(&self, leave_mib: u64) {
        let found = rustix::fs::statvfs(&self.path).expect("the file system's size");
        let free = found.f_bavail * found.f_frsize;
        let mut left = free.saturating_sub(leave_mib << 20);
        let mut file = File::create(self.path.join("ballast")).expect("the ballast");
        let chunk = vec![0xaau8; 1 << 20];
        while left > 0 {
            let next = left.min(chunk.len() as u64) as usize;
            if file.write_all(&chunk[..next]).is_err() {
                break;
            }
            left -= next as u64;
        }
    }
    /// Frees what [`Self::fill`] took.
    pub fn free(&self) {
        let _ = std::fs::remove_file(self.path.join("ballast"));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.guardian.stdin.take());
        let _ = self.guardian.wait();
    }
}
