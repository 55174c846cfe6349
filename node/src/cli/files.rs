//! The user's directory `~/.orama`: read whole, written atomically, one writer
//! at a time, for no one else to read.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::CliError;

/// A file here larger than this was not written by us.
const FILE_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// The directory of environments and credentials.
#[derive(Debug, Clone)]
pub struct Home(PathBuf);

/// Held while files are changed; released when dropped, also by a crash.
pub struct HomeLock(#[allow(dead_code)] File);

impl Home {
    /// `ORAMA_HOME`, else `~/.orama`.
    ///
    /// # Errors
    /// When neither is known.
    pub fn from_env() -> Result<Self, CliError> {
        if let Some(dir) = std::env::var_os("ORAMA_HOME").filter(|d| !d.is_empty()) {
            return Ok(Self(PathBuf::from(dir)));
        }
        match std::env::home_dir().filter(|d| !d.as_os_str().is_empty()) {
            Some(dir) => Ok(Self(dir.join(".orama"))),
            None => Err(CliError::Usage(
                "there is no home directory; set ORAMA_HOME".into(),
            )),
        }
    }

    /// This directory.
    #[cfg(test)]
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self(dir.into())
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What the file holds; the default when there is none.
    ///
    /// # Errors
    /// When it cannot be read or does not parse.
    pub fn read<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, CliError> {
        let path = self.0.join(name);
        match fs::metadata(&path) {
            Ok(meta) if meta.len() > FILE_MAX_BYTES => {
                return Err(CliError::Failed(format!(
                    "{} is larger than {FILE_MAX_BYTES} bytes",
                    path.display()
                )));
            }
            _ => {}
        }
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(T::default()),
            Err(e) => return Err(CliError::file("cannot read", path)(e)),
        };
        // The reason names line and column, never the content: it may be a key.
        serde_json::from_slice(&text).map_err(|e| {
            CliError::Failed(format!(
                "{} is damaged (line {}, column {}); repair or remove it",
                path.display(),
                e.line(),
                e.column()
            ))
        })
    }

    /// Waits until no other process changes files here. Makes the directory.
    ///
    /// # Errors
    /// When it cannot be made or locked.
    pub fn lock(&self) -> Result<HomeLock, CliError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(CliError::file("cannot create", &self.0))?;
        let path = self.0.join(".lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(CliError::file("cannot open", &path))?;
        file.lock().map_err(CliError::file("cannot lock", &path))?;
        Ok(HomeLock(file))
    }

    /// Replaces the file as a whole: a reader, or a crash, meets the old
    /// content or the new one. Mode 0600.
    ///
    /// # Errors
    /// When it cannot be written; the old content is then still there.
    pub fn write<T: Serialize>(
        &self,
        _held: &HomeLock,
        name: &str,
        value: &T,
    ) -> Result<(), CliError> {
        let path = self.0.join(name);
        let mut text =
            serde_json::to_vec_pretty(value).map_err(|e| CliError::Failed(e.to_string()))?;
        text.push(b'\n');
        // The lock makes this name ours; a leftover of a crash is replaced.
        let part = self.0.join(format!(".{name}.part"));
        let _ = fs::remove_file(&part);
        let written = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&part)
            .and_then(|mut file| {
                file.write_all(&text)?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&part, &path))
            .and_then(|()| File::open(&self.0)?.sync_all());
        written.map_err(|e| {
            let _ = fs::remove_file(&part);
            CliError::file("cannot write", path)(e)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn files_are_private_whole_and_leave_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("deep/.orama"));
        assert_eq!(home.read::<Vec<u32>>("x.json").unwrap(), Vec::<u32>::new());
        let lock = home.lock().unwrap();
        // A file that was open to all becomes private with the next write.
        fs::write(home.path().join("x.json"), "[1]").unwrap();
        fs::set_permissions(home.path().join("x.json"), PermissionsExt::from_mode(0o644)).unwrap();
        home.write(&lock, "x.json", &vec![1, 2, 3]).unwrap();
        drop(lock);
        assert_eq!(home.read::<Vec<u32>>("x.json").unwrap(), [1, 2, 3]);
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&home.path().join("x.json")), 0o600);
        assert_eq!(mode(home.path()), 0o700);
        let names: Vec<_> = fs::read_dir(home.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }

    #[test]
    fn a_failed_write_keeps_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        let lock = home.lock().unwrap();
        home.write(&lock, "x.json", &vec![1]).unwrap();
        // A directory in the way of the temporary file.
        fs::create_dir(dir.path().join(".x.json.part")).unwrap();
        assert!(home.write(&lock, "x.json", &vec![2]).is_err());
        assert_eq!(home.read::<Vec<u32>>("x.json").unwrap(), [1]);
    }

    #[test]
    fn damage_is_reported_without_the_content() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        fs::write(dir.path().join("x.json"), "[\"ak_secret").unwrap();
        let e = home.read::<Vec<u32>>("x.json").unwrap_err().to_string();
        assert!(e.contains("x.json") && !e.contains("ak_secret"), "{e}");
    }
}
