//! The node's data directory: its layout, its lock, its identity.
//!
//! ```text
//! LOCK         held exclusively while a process uses the directory; holds its pid
//! node-key     the node's key on the mesh, and so who it is: drawn once, never changed
//! FORMAT       number of the layout; written last, so it vouches for node-key
//! raft/ state/ snapshots/ databases/ blobs/ compiled/ journal.redb    see the methods
//! ```
//!
//! A directory without `FORMAT` is one whose creation was interrupted, or a
//! new one. One with `FORMAT` and without a readable identity is refused: a
//! node that came back under a new identity would vote twice.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::mesh::NodeKey;
use orama_proto::NodeId;
use xxhash_rust::xxh3::xxh3_64;
use zeroize::Zeroizing;

/// The layout this program reads and writes.
const FORMAT: u32 = 3;
/// Longest of the small files that is read: they hold one short line.
const SMALL_FILE_MAX: u64 = 256;
/// The file with the node's key.
const KEY_FILE: &str = "node-key";

/// The data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process holds the lock.
    #[error("the data directory {path} is in use by another node process{}", pid.map(|p| format!(" (pid {p})")).unwrap_or_default())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The holder, when it could be read.
        pid: Option<u32>,
    },
    /// Written by a version of this program that is not known here.
    #[error("the data directory {path} has format {found}, this program reads format {known}{}", if *older { "; that layout was never released: start with an empty data directory and deploy again, or use the program that wrote it" } else { "" })]
    Format {
        /// The directory.
        path: PathBuf,
        /// What was found.
        found: String,
        /// What is known.
        known: u32,
        /// It is one of the layouts before the first release, which nothing migrates.
        older: bool,
    },
    /// The file system refused.
    #[error("the data directory {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl DataDirError {
    fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// An open data directory; the lock is held until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    key: NodeKey,
    node_id: NodeId,
    /// Its lock goes when the file is closed, by the kernel even after a kill.
    _lock: File,
}

impl DataDir {
    /// Opens or creates the directory (mode 0700) and takes its lock.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        make_dir(path).map_err(|e| DataDirError::io(path, e))?;
        warn_when_open_to_others(path);
        let lock = take_lock(path)?;
        let key = read_or_begin(path)?;
        let dir = Self {
            path: path.to_owned(),
            node_id: key.node_id(),
            key,
            _lock: lock,
        };
        let raft = dir.path.join("raft");
        for sub in [
            raft,
            dir.state(),
            dir.snapshots(),
            dir.databases(),
            dir.blobs(),
            dir.compiled(),
        ] {
            make_dir(&sub).map_err(|e| DataDirError::io(&sub, e))?;
        }
        sync_dir(path).map_err(|e| DataDirError::io(path, e))?;
        Ok(dir)
    }
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// This node's identity: it follows from its key.
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }
    /// This node's key on the mesh, made with the directory.
    pub fn key(&self) -> &NodeKey {
        &self.key
    }
    /// The Raft log: a directory of segments.
    pub(crate) fn raft_log(&self) -> PathBuf {
        self.path.join("raft").join("log")
    }
    /// The metadata state machine: a sled directory.
    pub fn state(&self) -> PathBuf {
        self.path.join("state")
    }
    /// Raft snapshots.
    pub fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }
    /// The namespaces' databases: a directory for each group.
    pub fn databases(&self) -> PathBuf {
        self.path.join("databases")
    }
    /// Blobs by content id.
    pub fn blobs(&self) -> PathBuf {
        self.path.join("blobs")
    }
    /// Compiled modules.
    pub fn compiled(&self) -> PathBuf {
        self.path.join("compiled")
    }
    /// The journal: one redb file.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal.redb")
    }
}

/// Makes a directory and its parents, readable by this user alone. One that
/// is there already keeps its mode: it may be a volume that is not ours to change.
pub(crate) fn make_dir(path: &Path) -> io::Result<()> {
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            Err(io::Error::new(ErrorKind::NotADirectory, "not a directory"))
        }
        other => other,
    }
}

/// Makes names created in, renamed into or removed from `dir` survive a power cut.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn warn_when_open_to_others(path: &Path) {
    if let Ok(meta) = fs::metadata(path)
        && meta.permissions().mode() & 0o007 != 0
    {
        tracing::warn!(
            path = %path.display(),
            "every user of this machine can enter the data directory; chmod 0700 it"
        );
    }
}

fn take_lock(dir: &Path) -> Result<File, DataDirError> {
    let path = dir.join("LOCK");
    let io = |e| DataDirError::io(&path, e);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            // The holder may be between its lock and its pid, then nobody is named.
            let pid = read_small(&path)
                .ok()
                .and_then(|text| text.trim().parse().ok());
            return Err(DataDirError::InUse {
                path: dir.to_owned(),
                pid,
            });
        }
        Err(TryLockError::Error(e)) => return Err(io(e)),
    }
    // The lock is what counts. A full disk must not keep a node from starting.
    if let Err(error) = file
        .set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
    {
        tracing::warn!(path = %path.display(), %error, "the pid cannot be written");
    }
    Ok(file)
}

/// Answers the identity of an existing directory, or makes a new one of an empty one.
fn read_or_begin(dir: &Path) -> Result<NodeKey, DataDirError> {
    let format_path = dir.join("FORMAT");
    let key_path = dir.join(KEY_FILE);
    let wrong_format = |found: &str| DataDirError::Format {
        path: dir.to_owned(),
        found: found.to_owned(),
        known: FORMAT,
        older: found
            .trim_matches('"')
            .parse()
            .is_ok_and(|found: u32| found < FORMAT),
    };
    match read_small(&format_path) {
        Ok(text) if text.trim() == FORMAT.to_string() => {
            return read_key(&key_path).map_err(|e| DataDirError::io(&key_path, e));
        }
        Ok(text) => return Err(wrong_format(&format!("{:?}", text.trim()))),
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(DataDirError::io(&format_path, e)),
    }
    if let Some(stranger) = first_stranger(dir).map_err(|e| DataDirError::io(dir, e))? {
        return Err(wrong_format(&format!(
            "none (it holds {stranger:?} and no FORMAT file, so it is no data directory)"
        )));
    }
    let key = match read_key(&key_path) {
        Ok(key) => key,
        // Nothing else exists yet, so nobody knows this node: a torn file is drawn again.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => {
            let key = draw_key().map_err(|e| DataDirError::io(&key_path, e))?;
            write_small(dir, KEY_FILE, &key_line(key.expose()))
                .map_err(|e| DataDirError::io(&key_path, e))?;
            key
        }
        Err(e) => return Err(DataDirError::io(&key_path, e)),
    };
    write_small(dir, "FORMAT", &format!("{FORMAT}\n"))
        .map_err(|e| DataDirError::io(&format_path, e))?;
    Ok(key)
}

/// A file that no interrupted start of ours explains. Hidden ones and
/// `lost+found` belong to the file system and are nobody's data.
fn first_stranger(dir: &Path) -> io::Result<Option<String>> {
    const OURS: [&str; 4] = ["LOCK", KEY_FILE, "node-key.new", "FORMAT.new"];
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !OURS.contains(&name.as_str()) && name != "lost+found" && !name.starts_with('.') {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn draw_key() -> io::Result<NodeKey> {
    loop {
        let key = NodeKey::generate()?;
        // Zero reads as "no node" in places; one draw in 2^64 is thrown away.
        if key.node_id() != NodeId(0) {
            return Ok(key);
        }
    }
}

/// The key in hexadecimal digits, and a checksum that guards against rot.
fn key_line(seed: &[u8; 32]) -> Zeroizing<String> {
    // Reserved at once: a string that grows leaves copies behind.
    let mut line = Zeroizing::new(String::with_capacity(2 * seed.len() + 18));
    for byte in seed {
        for digit in [byte >> 4, byte & 15] {
            line.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
        }
    }
    line.push_str(&format!(" {:016x}\n", xxh3_64(seed)));
    line
}

fn read_key(path: &Path) -> io::Result<NodeKey> {
    let text = Zeroizing::new(read_small(path)?);
    let damaged = || io::Error::new(ErrorKind::InvalidData, "the node's key is damaged");
    let mut seed = Zeroizing::new([0; 32]);
    let digits = text.as_bytes().get(..64).ok_or_else(damaged)?;
    for (byte, pair) in seed.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let digit = char::from(*digit).to_digit(16).ok_or_else(damaged)?;
            *byte = *byte << 4 | u8::try_from(digit).map_err(|_| damaged())?;
        }
    }
    if *text != *key_line(&seed) {
        return Err(damaged());
    }
    Ok(NodeKey::from_bytes(seed))
}

fn read_small(path: &Path) -> io::Result<String> {
    // Reserved at once: the key passes through here.
    let mut text = String::with_capacity(SMALL_FILE_MAX as usize);
    File::open(path)?
        .take(SMALL_FILE_MAX)
        .read_to_string(&mut text)?;
    Ok(text)
}

/// Writes a small file that is there whole or not at all, power cut or not.
fn write_small(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, dir.join(name))?;
    sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn it_is_made_private_and_keeps_its_identity() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/b");
        let first = DataDir::open(&path).unwrap();
        let id = first.node_id();
        assert_eq!(id, first.key().node_id());
        let shown = format!("{first:?}");
        assert!(shown.contains("NodeKey(..)"), "{shown}");
        assert_eq!(mode(&temp.path().join("a")), 0o700);
        for dir in [
            path.clone(),
            first.state(),
            first.snapshots(),
            first.databases(),
            first.blobs(),
            first.compiled(),
            path.join("raft"),
        ] {
            assert_eq!(mode(&dir), 0o700, "{dir:?}");
        }
        assert_eq!(mode(&path.join("node-key")), 0o600);
        drop(first);
        assert_eq!(DataDir::open(&path).unwrap().node_id(), id);
        let other = DataDir::open(&temp.path().join("other")).unwrap();
        assert_ne!(other.node_id(), id);
    }

    #[test]
    fn a_second_opener_is_told_who_holds_it() {
        let temp = tempfile::tempdir().unwrap();
        let first = DataDir::open(temp.path()).unwrap();
        let error = DataDir::open(temp.path()).unwrap_err();
        assert!(
            matches!(error, DataDirError::InUse { pid: Some(pid), .. } if pid == std::process::id()),
            "{error:?}"
        );
        assert!(
            error
                .to_string()
                .contains(&format!("pid {}", std::process::id()))
        );
        drop(first);
        DataDir::open(temp.path()).unwrap();
    }

    #[test]
    fn an_unknown_format_is_refused_and_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        drop(DataDir::open(temp.path()).unwrap());
        for found in ["1\n", "2\n", "4\n", "", "one"] {
            fs::write(temp.path().join("FORMAT"), found).unwrap();
            let error = DataDir::open(temp.path()).unwrap_err();
            assert!(
                matches!(&error, DataDirError::Format { known: 3, .. }),
                "{error:?}"
            );
            let older = matches!(found, "1\n" | "2\n");
            let text = error.to_string();
            assert_eq!(text.contains("an empty data directory"), older, "{text}");
            assert_eq!(
                fs::read_to_string(temp.path().join("FORMAT")).unwrap(),
                found
            );
        }
    }

    #[test]
    fn a_directory_of_someone_else_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("thesis.tex"), "x").unwrap();
        let error = DataDir::open(temp.path()).unwrap_err().to_string();
        assert!(error.contains("thesis.tex"), "{error}");
        assert!(!temp.path().join("node-key").exists());
    }

    #[test]
    fn a_fresh_volume_is_accepted() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("lost+found")).unwrap();
        fs::write(temp.path().join(".snapshot"), "").unwrap();
        DataDir::open(temp.path()).unwrap();
    }

    #[test]
    fn an_interrupted_creation_is_taken_up() {
        let temp = tempfile::tempdir().unwrap();
        // Died while writing the identity, then before FORMAT.
        fs::write(temp.path().join("node-key.new"), "12").unwrap();
        fs::write(temp.path().join("node-key"), "12").unwrap();
        let id = DataDir::open(temp.path()).unwrap().node_id();
        fs::remove_file(temp.path().join("FORMAT")).unwrap();
        for sub in [
            "raft",
            "state",
            "snapshots",
            "databases",
            "blobs",
            "compiled",
        ] {
            fs::remove_dir(temp.path().join(sub)).unwrap();
        }
        assert_eq!(DataDir::open(temp.path()).unwrap().node_id(), id);
    }

    #[test]
    fn a_lost_or_damaged_identity_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        drop(DataDir::open(temp.path()).unwrap());
        let file = temp.path().join("node-key");
        let good = fs::read_to_string(&file).unwrap();
        let flipped = if good.starts_with('a') { "b" } else { "a" }.to_owned() + &good[1..];
        for bad in [flipped.as_str(), "", &good[..20]] {
            fs::write(&file, bad).unwrap();
            let error = DataDir::open(temp.path()).unwrap_err().to_string();
            assert!(error.contains("node-key"), "{error}");
        }
        fs::remove_file(&file).unwrap();
        let error = DataDir::open(temp.path()).unwrap_err().to_string();
        assert!(error.contains("node-key"), "{error}");
        assert!(!file.exists());
    }

    #[test]
    fn what_cannot_be_a_directory_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below"), "/proc/orama".into()] {
            let error = DataDir::open(&path).unwrap_err();
            assert!(matches!(error, DataDirError::Io { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(path.to_str().unwrap()), "{text}");
        }
    }
}
