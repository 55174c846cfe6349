//! Opens connections: settings, limits, callbacks.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use orama_proto::limits::{SQL_PARAMETERS_MAX, SQL_STATEMENT_MAX_BYTES, SQL_VALUE_MAX_BYTES};
use parking_lot::Mutex;
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection as Sqlite, OpenFlags};

use super::super::functions::{self, Generator};
use super::budget::{Shared, TICK};
use super::changes::Changes;
use super::{Connection, EngineFault, Mode, PAGE_BYTES, failure, raw};

/// Prepared statements a connection keeps, tenants' and ours together.
const STATEMENTS_KEPT: usize = 64;
/// How long to wait for a lock of another connection (of a checkpoint, or of a recovery).
const BUSY: Duration = Duration::from_secs(30);
/// KiB of pages a connection caches.
const CACHE_KIB: i64 = 2048;

/// A row's header and the other columns come on top of one value.
const LENGTH_MAX: i64 = SQL_VALUE_MAX_BYTES as i64 + 4096;
/// Our own texts carry a token.
const TEXT_MAX: i64 = SQL_STATEMENT_MAX_BYTES as i64 + 1024;
/// Bytes of the right side of LIKE and GLOB: matching costs up to this times the text's length, in one step.
pub(super) const PATTERN_MAX: i64 = 256;
/// Columns of a table, an index or a result.
const COLUMNS_MAX: i64 = 1000;
/// Tables, views, indexes and triggers together: every connection keeps them in memory.
const SCHEMA_MAX: i64 = 4000;
const TRIGGER_DEPTH_MAX: i64 = 32;
const ARGUMENTS_MAX: i64 = 200;
const COMPOUND_MAX: i64 = 200;

pub(super) fn writer(path: &Path) -> Result<Connection, EngineFault> {
    raw::register()?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    open(path, flags, Mode::Write, |sqlite| {
        sqlite.pragma_update(None, "page_size", PAGE_BYTES as i64)?;
        sqlite.pragma_update(None, "journal_mode", "WAL")?;
        // A kill loses nothing; after a power cut the log has what the file lacks.
        sqlite.pragma_update(None, "synchronous", "NORMAL")?;
        sqlite.pragma_update(None, "wal_autocheckpoint", 0)?;
        // The plan must not depend on whether a statement was compiled before its arguments were known.
        sqlite.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        sqlite.execute_batch(
            "BEGIN IMMEDIATE;
             CREATE TABLE IF NOT EXISTS _orama_state (
                 id INTEGER PRIMARY KEY CHECK (id = 1),
                 applied INTEGER NOT NULL,
                 hash BLOB NOT NULL,
                 version INTEGER NOT NULL);
             INSERT OR IGNORE INTO _orama_state VALUES (1, 0, zeroblob(16), 1);
             COMMIT;",
        )
    })
}

pub(super) fn reader(path: &Path) -> Result<Connection, EngineFault> {
    raw::register()?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    open(path, flags, Mode::Read, |sqlite| {
        sqlite.pragma_update(None, "query_only", true)
    })
}

pub(super) fn empty() -> Result<Connection, EngineFault> {
    raw::register()?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    open(Path::new(":memory:"), flags, Mode::Read, |sqlite| {
        sqlite.pragma_update(None, "query_only", true)
    })
}

fn open(
    path: &Path,
    flags: OpenFlags,
    tenant: Mode,
    prepare: impl FnOnce(&Sqlite) -> rusqlite::Result<()>,
) -> Result<Connection, EngineFault> {
    raw::take_no_room();
    let mut sqlite = Sqlite::open_with_flags_and_vfs(path, flags, raw::VFS)
        .map_err(|error| failure::opening(&error))?;
    let shared = Arc::new(Shared::new());
    let generator = Arc::new(Mutex::new(Generator::default()));
    let changes = Arc::new(Mutex::new(Changes::default()));
    let set_up = |sqlite: &mut Sqlite| {
        settings(sqlite)?;
        prepare(sqlite)?;
        limits(sqlite)?;
        functions::install(sqlite, &generator)?;
        let judge = Arc::clone(&shared);
        sqlite.authorizer(Some(move |context: rusqlite::hooks::AuthContext<'_>| {
            judge.authorize(&context)
        }))?;
        let budget = Arc::clone(&shared);
        sqlite.progress_handler(
            i32::try_from(TICK).unwrap_or(i32::MAX),
            Some(move || budget.tick()),
        )
    };
    set_up(&mut sqlite).map_err(|error| failure::opening(&error))?;
    if tenant == Mode::Write && !raw::install_patterns(&sqlite) {
        return Err(EngineFault::Io("no memory".into()));
    }
    let observer: Arc<Mutex<dyn raw::RowObserver>> = changes.clone();
    if tenant == Mode::Write && !raw::observe_rows(&sqlite, observer) {
        return Err(EngineFault::Io("no memory".into()));
    }
    Ok(Connection {
        conn: sqlite,
        shared,
        changes,
        generator,
        tenant,
        pages: Cell::new(0),
        scratch: RefCell::new(raw::limit_scratch(u64::MAX, u64::MAX)),
        texts: RefCell::new(HashMap::new()),
    })
}

fn settings(sqlite: &Sqlite) -> rusqlite::Result<()> {
    sqlite.busy_timeout(BUSY)?;
    sqlite.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    for (config, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, true),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, true),
        (DbConfig::SQLITE_DBCONFIG_DQS_DML, true),
        (DbConfig::SQLITE_DBCONFIG_DQS_DDL, true),
        // Upkeep decides when a log is checkpointed, not whoever closes last.
        (DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true),
    ] {
        sqlite.set_db_config(config, on)?;
    }
    // "File" means our scratch files: in memory, but bounded (see `raw`).
    sqlite.pragma_update(None, "temp_store", "FILE")?;
    sqlite.pragma_update(None, "mmap_size", 0)?;
    sqlite.pragma_update(None, "cache_size", -CACHE_KIB)?;
    sqlite.pragma_update(None, "cell_size_check", true)
}

fn limits(sqlite: &Sqlite) -> rusqlite::Result<()> {
    // VDBE_OP stays as it is: beyond it SQLite says "out of memory", which is not the statement's
    // fault. The text's length bounds programs well enough.
    for (limit, value) in [
        (Limit::SQLITE_LIMIT_LENGTH, LENGTH_MAX),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, TEXT_MAX),
        (Limit::SQLITE_LIMIT_COLUMN, COLUMNS_MAX),
        (Limit::SQLITE_LIMIT_COMPOUND_SELECT, COMPOUND_MAX),
        (Limit::SQLITE_LIMIT_FUNCTION_ARG, ARGUMENTS_MAX),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, PATTERN_MAX),
        (
            Limit::SQLITE_LIMIT_VARIABLE_NUMBER,
            SQL_PARAMETERS_MAX as i64,
        ),
        (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, TRIGGER_DEPTH_MAX),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
        (Limit::SQLITE_LIMIT_SCHEMA, SCHEMA_MAX),
    ] {
        sqlite.set_limit(limit, i32::try_from(value).unwrap_or(i32::MAX))?;
    }
    Ok(())
}

/// A number no tenant knows, new for each process.
pub(super) fn token() -> u128 {
    static TOKEN: OnceLock<u128> = OnceLock::new();
    *TOKEN.get_or_init(functions::entropy)
}
