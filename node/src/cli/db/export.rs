//! `orama db export`: the database as an SQLite file or as SQL. The file is
//! there as a whole or not at all, also when the command is interrupted.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use orama_cluster::{Dump, DumpError};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::import::Kind;
use crate::cli::App;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::interrupt::Interrupt;

/// How long the whole file may take to arrive.
const WITHIN: Duration = Duration::from_secs(3600);
/// Names that are tried for a file under way; a process that was killed leaves one behind.
const NAMES: u32 = 16;

/// Runs the command.
///
/// # Errors
/// See [`CliError`].
pub(super) async fn run(
    app: &mut App,
    client: &Client,
    file: &Path,
    force: bool,
    interrupt: &mut Interrupt,
) -> Result<(), CliError> {
    let target = Target::of(file, force)?;
    // What is under way is removed when it is dropped.
    let bytes = tokio::select! {
        bytes = write(client, &target) => bytes?,
        () = interrupt.next() => {
            return Err(CliError::Failed(format!(
                "interrupted; {} was not written",
                file.display()
            )));
        }
    };
    if app.out.json() {
        let file = file.display().to_string();
        return app
            .out
            .value(&serde_json::json!({"file": file, "bytes": bytes}));
    }
    app.out
        .line(format!("Wrote {} ({bytes} bytes).", file.display()))
}

/// Answers the length of the file.
async fn write(client: &Client, target: &Target) -> Result<u64, CliError> {
    let (copy, mut to) = Part::create(target, "part")?;
    let path = ["rqlite", "export"];
    let received = client.download(&path, &mut to, &copy.0, WITHIN).await?;
    match target.kind {
        Kind::Database => {
            synced(to, &copy.0)?;
            copy.publish(target)?;
            Ok(received)
        }
        Kind::Sql => {
            drop(to);
            let (text, out) = Part::create(target, "sql.part")?;
            let (from, into) = (copy.0.clone(), text.0.clone());
            let written = tokio::task::spawn_blocking(move || as_sql(&from, out, &into));
            let bytes = written
                .await
                .map_err(|e| CliError::Failed(format!("writing the statements ended: {e}")))??;
            text.publish(target)?;
            Ok(bytes)
        }
    }
}

/// The file that is to be written.
struct Target {
    kind: Kind,
    /// Where it is, behind symbolic links.
    file: PathBuf,
    /// Whether it may replace one.
    force: bool,
}

impl Target {
    /// Finds out before anything is asked of the gateway whether it can be written.
    fn of(given: &Path, force: bool) -> Result<Self, CliError> {
        let usage = |what: String| Err(CliError::Usage(format!("{}{what}", given.display())));
        let meta = match fs::symlink_metadata(given) {
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(CliError::file("cannot look at", given)(e)),
            // Its target is replaced, and the link stays.
            Ok(meta) if meta.is_symlink() => match fs::metadata(given) {
                Ok(meta) => Some(meta),
                Err(_) => {
                    return usage(
                        " is a symbolic link that leads nowhere; remove it, or name the file"
                            .into(),
                    );
                }
            },
            Ok(meta) => Some(meta),
        };
        if meta.as_ref().is_some_and(fs::Metadata::is_dir) {
            return usage(" is a directory; name a file in it, such as backup.db".into());
        }
        let kind = Kind::of(given)?;
        let file = match meta {
            None => given.to_owned(),
            Some(meta) if !meta.is_file() => return usage(" is not a file".into()),
            Some(_) if !force => return usage(" exists; add --force to replace it".into()),
            Some(_) => fs::canonicalize(given).map_err(CliError::file("cannot look at", given))?,
        };
        let target = Self { kind, file, force };
        let dir = target.dir();
        match fs::metadata(dir) {
            Ok(meta) if meta.is_dir() => Ok(target),
            Ok(_) => Err(CliError::Usage(format!(
                "{} is not a directory",
                dir.display()
            ))),
            Err(e) => Err(CliError::file("cannot write to directory", dir)(e)),
        }
    }

    fn dir(&self) -> &Path {
        match self.file.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        }
    }
}

/// A file under way; removed unless it is published.
struct Part(PathBuf);

impl Part {
    /// In the same directory, so that it can be renamed.
    fn create(target: &Target, ending: &str) -> Result<(Self, File), CliError> {
        let name = target.file.file_name().unwrap_or_default();
        let mut tried = 0;
        loop {
            let mut hidden = std::ffi::OsString::from(".");
            hidden.push(name);
            hidden.push(format!(".{}-{tried}.{ending}", std::process::id()));
            let path = target.file.with_file_name(hidden);
            let made = OpenOptions::new()
                .create_new(true)
                .write(true)
                .mode(0o600)
                .open(&path);
            match made {
                Ok(file) => return Ok((Self(path), file)),
                Err(e) if e.kind() == ErrorKind::AlreadyExists && tried < NAMES => tried += 1,
                Err(e) => {
                    return Err(CliError::file("cannot write to directory", target.dir())(e));
                }
            }
        }
    }

    fn publish(&self, target: &Target) -> Result<(), CliError> {
        let file = &target.file;
        let moved = if target.force {
            fs::rename(&self.0, file)
        } else {
            // A file that has come since is not replaced either.
            match renameat_with(CWD, &self.0, CWD, file, RenameFlags::NOREPLACE) {
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => fs::rename(&self.0, file),
                moved => moved.map_err(std::io::Error::from),
            }
        };
        moved
            .and_then(|()| File::open(target.dir())?.sync_all())
            .map_err(CliError::file("cannot write", file))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Not there any more when it was published.
        let _ = fs::remove_file(&self.0);
    }
}

fn synced(mut file: File, name: &Path) -> Result<(), CliError> {
    file.flush()
        .and_then(|()| file.sync_all())
        .map_err(CliError::file("cannot write", name))
}

/// Why the statements could not be written.
enum Stop {
    Dump(DumpError),
    Write(std::io::Error),
}

impl From<DumpError> for Stop {
    fn from(error: DumpError) -> Self {
        Self::Dump(error)
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Write(error)
    }
}

/// Writes an SQLite file as SQL, in the frame that `sqlite3` puts around it,
/// so that it reads the text quickly and in any order of tables.
fn as_sql(from: &Path, to: File, name: &Path) -> Result<u64, CliError> {
    let mut out = BufWriter::new(to);
    let write = |out: &mut BufWriter<File>| -> Result<(), Stop> {
        let dump = Dump::open(from)?;
        out.write_all(b"PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n")?;
        dump.each::<Stop>(|statement| {
            out.write_all(statement.to_sql().as_bytes())?;
            out.write_all(b";\n")?;
            Ok(())
        })?;
        out.write_all(b"COMMIT;\n")?;
        Ok(())
    };
    match write(&mut out) {
        Ok(()) => {}
        Err(Stop::Dump(error)) => {
            return Err(CliError::Failed(format!(
                "the database cannot be written as SQL: {error}"
            )));
        }
        Err(Stop::Write(error)) => return Err(CliError::file("cannot write", name)(error)),
    }
    let file = out
        .into_inner()
        .map_err(|e| CliError::file("cannot write", name)(e.into_error()))?;
    let bytes = file.metadata().map(|meta| meta.len()).unwrap_or(0);
    synced(file, name)?;
    Ok(bytes)
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
