//! `orama db export`: the database as an SQLite file or as SQL. The file is
//! there as a whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use orama_cluster::{Dump, DumpError};

use super::import::Kind;
use crate::cli::App;
use crate::cli::client::Client;
use crate::cli::error::CliError;

/// How long the whole file may take to arrive.
const WITHIN: Duration = Duration::from_secs(3600);

/// Runs the command.
///
/// # Errors
/// See [`CliError`].
pub(super) async fn run(
    app: &mut App,
    client: &Client,
    file: &Path,
    force: bool,
) -> Result<(), CliError> {
    let kind = Kind::of(file)?;
    if !force && file.exists() {
        return Err(CliError::Usage(format!(
            "{} exists; add --force to replace it",
            file.display()
        )));
    }
    let copy = Part::beside(file, "part")?;
    let mut to = copy.create()?;
    let path = ["rqlite", "export"];
    let received = client.download(&path, &mut to, &copy.0, WITHIN).await?;
    let bytes = match kind {
        Kind::Database => {
            synced(to, &copy.0)?;
            copy.publish(file)?;
            received
        }
        Kind::Sql => {
            drop(to);
            let text = Part::beside(file, "sql.part")?;
            let (from, into) = (copy.0.clone(), text.0.clone());
            let out = text.create()?;
            let written = tokio::task::spawn_blocking(move || as_sql(&from, out, &into));
            let bytes = written
                .await
                .map_err(|e| CliError::Failed(format!("writing the statements ended: {e}")))??;
            text.publish(file)?;
            bytes
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

/// A file under way; removed unless it is published.
struct Part(PathBuf);

impl Part {
    /// In the same directory, so that it can be renamed.
    fn beside(file: &Path, ending: &str) -> Result<Self, CliError> {
        let Some(name) = file.file_name() else {
            return Err(CliError::Usage(format!("{} is no file", file.display())));
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.{ending}", std::process::id()));
        Ok(Self(file.with_file_name(hidden)))
    }

    fn create(&self) -> Result<File, CliError> {
        OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&self.0)
            .map_err(CliError::file("cannot create", &self.0))
    }

    fn publish(&self, file: &Path) -> Result<(), CliError> {
        fs::rename(&self.0, file).map_err(CliError::file("cannot write", file))
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
