//! What is done with files as a whole: checkpoints, copies, sums, and which files a database has.
//!
//! A database file that SQLite has open in this process is never opened here by other means:
//! closing any descriptor of it would drop the POSIX locks that SQLite holds. Write-ahead
//! logs carry no locks (`nolockIoMethods` in SQLite's `os_unix.c`) and may be.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::{Backup as Copying, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};
use xxhash_rust::xxh3::Xxh3;

use super::super::{EngineFault, Mark, raw};
use super::SaveFault;

/// How long to wait for another connection's lock: of a recovery, or of a last one closing.
const BUSY: Duration = Duration::from_secs(2);
/// Bytes that are read at once.
pub(super) const CHUNK: usize = 128 << 10;
/// What SQLite puts beside a database.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// What SQLite says, about a statement of ours: never the statement's fault.
pub(super) fn fault(error: &rusqlite::Error) -> EngineFault {
    let no_room = raw::take_no_room();
    let code = error.sqlite_error().map(|e| e.extended_code & 0xff);
    match code {
        Some(ffi::SQLITE_FULL) => EngineFault::Full,
        Some(_) if no_room => EngineFault::Full,
        // A file that cannot be opened for writing is tried for reading by SQLite.
        Some(ffi::SQLITE_CANTOPEN | ffi::SQLITE_IOERR | ffi::SQLITE_READONLY)
            if raw::take_no_handles() =>
        {
            EngineFault::Handles
        }
        Some(ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB) => EngineFault::Damaged(error.to_string()),
        _ => EngineFault::Io(error.to_string()),
    }
}

/// The fault that an error of the file system is.
pub(super) fn io_fault(path: &Path, error: &io::Error) -> EngineFault {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => EngineFault::Full,
        _ if raw::is_no_handles(error.raw_os_error()) => EngineFault::Handles,
        _ => EngineFault::Io(format!("{}: {error}", path.display())),
    }
}

/// An error that says which file is not what was written.
pub(super) fn damaged(path: &Path, why: &str) -> io::Error {
    let text = format!("{}: {why}", path.display());
    io::Error::new(ErrorKind::InvalidData, text)
}

/// Opens a file for upkeep, without making it. Closing it writes nothing, even when it is the last
/// one: what is written back, and when, is said here and not by who happens to close last.
pub(super) fn open(path: &Path, write: bool) -> Result<Connection, EngineFault> {
    let mode = match write {
        true => OpenFlags::SQLITE_OPEN_READ_WRITE,
        false => OpenFlags::SQLITE_OPEN_READ_ONLY,
    };
    open_with(path, mode)
}

/// Opens a file, or makes it.
pub(super) fn create(path: &Path) -> Result<Connection, EngineFault> {
    open_with(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
    )
}

fn open_with(path: &Path, mode: OpenFlags) -> Result<Connection, EngineFault> {
    raw::register()?;
    raw::take_no_room();
    raw::take_no_handles();
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags_and_vfs(path, flags, raw::VFS).map_err(|e| fault(&e))?;
    let keep = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    conn.busy_timeout(BUSY)
        .and_then(|()| conn.set_db_config(keep, true))
        .map_err(|e| fault(&e))?;
    Ok(conn)
}

/// A file that SQLite keeps beside the database `path`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Bytes of a database file and of its write-ahead log.
pub(super) fn sizes(path: &Path) -> (u64, u64) {
    let size = |path: &Path| fs::metadata(path).map_or(0, |m| m.len());
    (size(path), size(&beside(path, "-wal")))
}

/// Deletes a database file and what is beside it, the database last.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    for suffix in BESIDE.into_iter().rev() {
        remove_one(&beside(path, suffix))?;
    }
    remove_one(path)
}

/// Deletes a file that may be gone already.
pub(super) fn remove_one(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// The database file that a file in a directory belongs to, by its name.
pub(super) fn owner(name: &str) -> &str {
    let stripped = BESIDE.iter().find_map(|suffix| name.strip_suffix(suffix));
    stripped.unwrap_or(name)
}

/// Makes everything that is committed in a database durable: what the database file lacks is
/// in the synced write-ahead log. Never waits for readers, never holds up a writer. Answers
/// whether the whole log is in the file.
///
/// In `walCheckpoint` (SQLite 3.54.1) the log is synced before the first page is copied and the
/// file after the last one, if nobody wrote meanwhile; the log is begun anew only after that.
/// When a reader or another checkpoint keeps it from copying, the log is synced here.
pub(super) fn checkpoint(path: &Path) -> Result<bool, EngineFault> {
    let conn = open(path, true)?;
    let (busy, log, copied) = run_checkpoint(&conn, "PRAGMA wal_checkpoint(PASSIVE)")?;
    if busy == 0 && log >= 0 && copied >= log {
        return Ok(true);
    }
    let wal = beside(path, "-wal");
    match File::open(&wal).and_then(|file| file.sync_data()) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(io_fault(&wal, &e)),
        _ => Ok(false),
    }
}

/// Empties the write-ahead log; waits for readers at most so long. Nobody may write meanwhile.
/// Answers whether it is empty.
pub(super) fn truncate_log(path: &Path, wait: Duration) -> Result<bool, EngineFault> {
    let conn = open(path, true)?;
    conn.busy_timeout(wait).map_err(|e| fault(&e))?;
    let (busy, ..) = run_checkpoint(&conn, "PRAGMA wal_checkpoint(TRUNCATE)")?;
    Ok(busy == 0)
}

/// Brings the whole write-ahead log of a file that nobody else has open into it, and deletes the log.
pub(super) fn settle(path: &Path) -> Result<(), EngineFault> {
    if !truncate_log(path, BUSY)? {
        let why = format!("{}: its log cannot be emptied", path.display());
        return Err(EngineFault::Io(why));
    }
    for suffix in BESIDE {
        let beside = beside(path, suffix);
        remove_one(&beside).map_err(|e| io_fault(&beside, &e))?;
    }
    Ok(())
}

/// Puts all of the write-ahead log into the file and deletes it, if no other connection has the
/// file open. Nobody may write meanwhile.
pub(super) fn end_log(path: &Path) -> Result<(), EngineFault> {
    end_log_of(open(path, true)?)
}

/// The same for a connection of upkeep's, which is closed by it.
pub(super) fn end_log_of(conn: Connection) -> Result<(), EngineFault> {
    // Written and synced here, where an error is told. Closing finds nothing left but to delete.
    run_checkpoint(&conn, "PRAGMA wal_checkpoint(PASSIVE)")?;
    let keep = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    conn.set_db_config(keep, false).map_err(|e| fault(&e))?;
    conn.close().map_err(|(_, e)| fault(&e))
}

fn run_checkpoint(conn: &Connection, sql: &str) -> Result<(i64, i64, i64), EngineFault> {
    let answer = conn.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    answer.map_err(|e| fault(&e))
}

/// A copy that was just made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copied {
    pub(super) mark: Mark,
    pub(super) bytes: u64,
    pub(super) sum: u128,
}

/// Copies a database as of one moment into a new file, while it is written to. With `durable`
/// the file is synced; its directory is the caller's.
pub(super) fn copy_database(from: &Path, to: &Path, durable: bool) -> Result<Copied, SaveFault> {
    remove(to)?;
    let mark = copy_pages(from, to)?;
    if durable {
        File::open(to)?.sync_all()?;
    }
    let (bytes, sum) = sum(to)?;
    Ok(Copied { mark, bytes, sum })
}

fn copy_pages(from: &Path, to: &Path) -> Result<Mark, EngineFault> {
    let source = open(from, false)?;
    let sql = |e: rusqlite::Error| fault(&e);
    // One moment for the mark and the pages.
    source.execute_batch("BEGIN").map_err(sql)?;
    let mark = read_mark(&source)?;
    let mut target = create(to)?;
    let settings = "PRAGMA synchronous=OFF; PRAGMA journal_mode=OFF;";
    target.execute_batch(settings).map_err(sql)?;
    let copied = Copying::new(&source, &mut target)
        .and_then(|copying| copying.step(-1))
        .map_err(sql)?;
    match copied {
        StepResult::Done => Ok(mark),
        other => Err(EngineFault::Io(format!("the copy did not end: {other:?}"))),
    }
}

fn read_mark(conn: &Connection) -> Result<Mark, EngineFault> {
    let sql = "SELECT applied, hash FROM _orama_state WHERE id = 1";
    let read = conn.query_row(sql, [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 16]>(1)?))
    });
    match read {
        Ok((applied, hash)) => Ok(Mark {
            applied: applied.cast_unsigned(),
            hash: u128::from_be_bytes(hash),
        }),
        Err(error @ rusqlite::Error::SqliteFailure(..)) => match fault(&error) {
            // Another's file: it lacks our table.
            EngineFault::Io(why) if why.contains("no such table") => Err(EngineFault::Damaged(why)),
            other => Err(other),
        },
        Err(other) => Err(EngineFault::Damaged(format!("its own mark: {other}"))),
    }
}

/// Length and xxh3-128 of a file that SQLite does not have open.
pub(super) fn sum(path: &Path) -> io::Result<(u64, u128)> {
    let mut file = File::open(path)?;
    let (mut bytes, mut sum, mut chunk) = (0, Xxh3::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok((bytes, sum.digest128())),
            n => {
                bytes += n as u64;
                sum.update(&chunk[..n]);
            }
        }
    }
}

/// Copies a closed file to a new one, synced; answers its length and sum. The directory is the caller's.
pub(super) fn copy_file(from: &Path, to: &Path) -> io::Result<(u64, u128)> {
    remove(to)?;
    let mut source = File::open(from)?;
    let mut target = File::create_new(to)?;
    io::copy(&mut source, &mut target)?;
    target.sync_all()?;
    // What was written, as it is read back.
    sum(to)
}
