//! A function's directory: its manifest, its sources, its module, and whether
//! the module is older than what it is made from.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use orama_proto::limits::WASM_MAX_BYTES;
use orama_proto::manifest::{FILE_NAME, Manifest};

use super::super::error::CliError;
use super::super::prompt::file_bytes;

/// The module's file name.
pub const WASM: &str = "function.wasm";
/// A function.yaml larger than this is none.
const MANIFEST_MAX_BYTES: usize = 1024 * 1024;
/// Directories below the project that are looked into.
const DEPTH_MAX: usize = 16;
/// Files and directories that are looked at.
const ENTRIES_MAX: usize = 20_000;
/// What is made by a build, or is not the author's.
const SKIPPED: &[&str] = &["target", "node_modules", "__pycache__"];
const SOURCE_EXTENSIONS: &[&str] = &[
    "go", "rs", "c", "h", "cc", "cpp", "hpp", "zig", "s", "wat", "ts", "js", "py", "swift",
];
const SOURCE_FILES: &[&str] = &[
    FILE_NAME,
    "go.mod",
    "go.sum",
    "go.work",
    "Cargo.toml",
    "Cargo.lock",
    "Makefile",
    "build.sh",
];

/// A directory with a valid function.yaml.
pub struct Project {
    /// Where.
    pub dir: PathBuf,
    /// What its function.yaml says.
    pub manifest: Manifest,
}

impl Project {
    /// Reads and checks function.yaml.
    ///
    /// # Errors
    /// When it is missing or wrong, naming the key.
    pub fn open(dir: &Path) -> Result<Self, CliError> {
        let path = dir.join(FILE_NAME);
        if !path.exists() {
            return Err(CliError::NotFound(format!(
                "failed to read {FILE_NAME}: there is none in {}; `orama function init NAME` makes a project",
                dir.display()
            )));
        }
        let bytes = file_bytes(&path, MANIFEST_MAX_BYTES)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| CliError::Failed(format!("{} is not UTF-8 text", path.display())))?;
        let manifest = Manifest::parse(&text).map_err(|e| CliError::Failed(e.to_string()))?;
        Ok(Self {
            dir: dir.to_owned(),
            manifest,
        })
    }

    /// Where the module is.
    pub fn wasm(&self) -> PathBuf {
        self.dir.join(WASM)
    }

    /// Whether there is this file.
    pub fn has(&self, file: &str) -> bool {
        self.dir.join(file).is_file()
    }

    /// The Go files of the directory itself, without tests, sorted.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn go_files(&self) -> Result<Vec<String>, CliError> {
        let entries = fs::read_dir(&self.dir).map_err(CliError::file("cannot read", &self.dir))?;
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| {
                name.ends_with(".go")
                    && !name.ends_with("_test.go")
                    && !name.starts_with(['.', '_'])
            })
            .collect();
        names.sort();
        Ok(names)
    }

    /// Compares the module's time with its sources'.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn freshness(&self) -> Result<Freshness, CliError> {
        let wasm = self.wasm();
        let Ok(meta) = fs::metadata(&wasm) else {
            return Ok(Freshness::Missing);
        };
        let built = meta
            .modified()
            .map_err(CliError::file("cannot read", &wasm))?;
        let mut left = ENTRIES_MAX;
        newer_source(&self.dir, built, DEPTH_MAX, &mut left)
    }
}

/// Whether a module may be deployed as it is.
#[derive(Debug, PartialEq, Eq)]
pub enum Freshness {
    /// There is none.
    Missing,
    /// This file is newer.
    Older(PathBuf),
    /// No source is newer.
    Fresh,
    /// There are too many files to tell.
    Unknown,
}

fn newer_source(
    dir: &Path,
    built: SystemTime,
    depth: usize,
    left: &mut usize,
) -> Result<Freshness, CliError> {
    let entries = fs::read_dir(dir).map_err(CliError::file("cannot read", dir))?;
    for entry in entries {
        let entry = entry.map_err(CliError::file("cannot read", dir))?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|n| !n.starts_with('.')) else {
            continue;
        };
        if *left == 0 || depth == 0 {
            return Ok(Freshness::Unknown);
        }
        *left -= 1;
        let path = entry.path();
        // Not following links to directories: they may lead in a circle.
        let kind = entry
            .file_type()
            .map_err(CliError::file("cannot read", &path))?;
        if kind.is_dir() {
            if !SKIPPED.contains(&name) {
                match newer_source(&path, built, depth - 1, left)? {
                    Freshness::Fresh => {}
                    found => return Ok(found),
                }
            }
        } else if is_source(&path, name)
            && let Ok(changed) = fs::metadata(&path).and_then(|m| m.modified())
            && changed > built
        {
            return Ok(Freshness::Older(path));
        }
    }
    Ok(Freshness::Fresh)
}

fn is_source(path: &Path, name: &str) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    SOURCE_FILES.contains(&name) || SOURCE_EXTENSIONS.contains(&extension)
}

/// Checks that bytes look like a core module before they are sent anywhere.
///
/// # Errors
/// What they are instead.
pub fn check_wasm(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let refuse = |what: &str| Err(CliError::Failed(format!("{} {what}", path.display())));
    match bytes {
        [0x00, b'a', b's', b'm', 1, 0, 0, 0, ..] => Ok(()),
        [0x00, b'a', b's', b'm', _, _, 1, 0, ..] => {
            refuse("is a WebAssembly component; a core module is needed (target wasm32-wasip1)")
        }
        [] => refuse("is empty"),
        _ => refuse("is not a WebAssembly module"),
    }
}

/// Reads a module that is to be deployed.
///
/// # Errors
/// When it is missing, too large, or none.
pub fn read_wasm(path: &Path) -> Result<Vec<u8>, CliError> {
    let size = fs::metadata(path)
        .map_err(CliError::file("cannot read", path))?
        .len();
    if size > WASM_MAX_BYTES as u64 {
        return Err(CliError::Failed(format!(
            "{} has {size} bytes, the limit is {WASM_MAX_BYTES}",
            path.display()
        )));
    }
    let bytes = file_bytes(path, WASM_MAX_BYTES)?;
    check_wasm(path, &bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(path: &Path, seconds: u64) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
            .unwrap();
    }

    #[test]
    fn a_newer_source_anywhere_makes_the_module_old() {
        let dir = tempfile::tempdir().unwrap();
        let project = Project {
            dir: dir.path().to_owned(),
            manifest: Manifest::parse("name: f").unwrap(),
        };
        at(&dir.path().join("function.go"), 100);
        assert_eq!(project.freshness().unwrap(), Freshness::Missing);
        at(&dir.path().join(WASM), 200);
        at(&dir.path().join("README.md"), 300);
        at(&dir.path().join("target/debug/x.rs"), 300);
        at(&dir.path().join(".git/x.go"), 300);
        assert_eq!(project.freshness().unwrap(), Freshness::Fresh);
        for source in [
            "go.sum",
            FILE_NAME,
            "pkg/deep/x.go",
            "src/lib.rs",
            "Cargo.toml",
        ] {
            let path = dir.path().join(source);
            at(&path, 300);
            assert_eq!(project.freshness().unwrap(), Freshness::Older(path.clone()));
            fs::remove_file(path).unwrap();
        }
        assert_eq!(project.freshness().unwrap(), Freshness::Fresh);
    }

    #[test]
    fn only_core_modules_pass() {
        let path = Path::new("f.wasm");
        check_wasm(path, b"\0asm\x01\0\0\0").unwrap();
        for (bytes, says) in [
            (&b"\0asm\x0d\0\x01\0"[..], "component"),
            (b"", "empty"),
            (b"\0asm", "not a WebAssembly"),
            (b"\x7fELF\x02\x01\x01\0", "not a WebAssembly"),
        ] {
            let e = check_wasm(path, bytes).unwrap_err().to_string();
            assert!(e.contains(says), "{e}");
        }
    }

    #[test]
    fn a_missing_or_wrong_manifest_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let e = Project::open(dir.path()).err().unwrap();
        assert!(e.to_string().starts_with("failed to read function.yaml"));
        fs::write(dir.path().join(FILE_NAME), "name: f\nmemory: 64MB\n").unwrap();
        let e = Project::open(dir.path()).err().unwrap().to_string();
        assert!(e.contains("'memory'") && e.contains("64MB"), "{e}");
    }
}
