//! What a tenant's statement may touch (SQLite asks while it prepares one).
//!
//! One function decides; `authorizer/tests.rs` is the table of what is allowed. Two aims:
//! nothing leaves the tenant's own tables, and nothing that is written depends on the
//! connection, the process or the host.

#[cfg(test)]
mod tests;

use rusqlite::hooks::{AuthAction, AuthContext};

/// Whose statements are prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Mode {
    /// Ours: everything.
    Open,
    /// A tenant's, in an entry of the log.
    Write,
    /// A tenant's, in a read.
    Read,
}

impl From<u8> for Mode {
    fn from(number: u8) -> Self {
        match number {
            0 => Self::Open,
            2 => Self::Read,
            _ => Self::Write,
        }
    }
}

/// The word a statement begins with, as far as it matters: some statements write SQLite's own
/// tables on the way, which no other may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Word {
    Other,
    Alter,
    Analyze,
    Drop,
    Explain,
    Reindex,
    Vacuum,
}

impl From<u8> for Word {
    fn from(number: u8) -> Self {
        match number {
            1 => Self::Alter,
            2 => Self::Analyze,
            3 => Self::Drop,
            4 => Self::Explain,
            5 => Self::Reindex,
            6 => Self::Vacuum,
            _ => Self::Other,
        }
    }
}

impl Word {
    /// The first word of a text; `None` when it holds nothing but space, comments and semicolons.
    pub(super) fn first(sql: &str) -> Option<Self> {
        let mut rest = sql;
        loop {
            rest = rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0c', ';', '\u{feff}']);
            if let Some(comment) = rest.strip_prefix("--") {
                rest = comment.split_once('\n').map_or("", |(_, after)| after);
            } else if let Some(comment) = rest.strip_prefix("/*") {
                rest = comment.split_once("*/").map_or("", |(_, after)| after);
            } else {
                break;
            }
        }
        if rest.is_empty() {
            return None;
        }
        let end = rest
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        Some(match rest[..end].to_ascii_lowercase().as_str() {
            "alter" => Self::Alter,
            "analyze" => Self::Analyze,
            "drop" => Self::Drop,
            "explain" => Self::Explain,
            "reindex" => Self::Reindex,
            "vacuum" => Self::Vacuum,
            _ => Self::Other,
        })
    }
    /// Whether SQLite itself writes the tables of statistics for such a statement.
    fn keeps_statistics(self) -> bool {
        matches!(
            self,
            Self::Alter | Self::Analyze | Self::Drop | Self::Reindex
        )
    }
}

/// Whether an action may happen; if so, whether it changes the schema or the planner's statistics. If not,
/// why, for the tenant.
pub(super) fn decide(context: &AuthContext<'_>, mode: Mode, word: Word) -> Result<bool, String> {
    let action = &context.action;
    if mode == Mode::Open {
        return Ok(false);
    }
    reserved(action)?;
    // `CREATE TABLE temp.t` is told as CREATE TABLE. ALTER goes over the temporary schema too.
    let temporary = context
        .database_name
        .is_some_and(|name| name.eq_ignore_ascii_case("temp"));
    if temporary && word != Word::Alter && !is_reading(action) {
        return Err(TEMPORARY.into());
    }
    match *action {
        AuthAction::Select | AuthAction::Recursive => Ok(false),
        AuthAction::Read { table_name, .. } => readable(table_name),
        AuthAction::Function { function_name } => function(function_name, mode, word),
        AuthAction::Pragma {
            pragma_name,
            pragma_value,
        } => pragma(pragma_name, pragma_value, mode),

        AuthAction::Attach { .. } | AuthAction::Detach { .. } => {
            Err("ATTACH and DETACH are not allowed: a namespace has one database".into())
        }
        AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => Err(BRACKETS.into()),
        AuthAction::CreateTempIndex { .. }
        | AuthAction::CreateTempTable { .. }
        | AuthAction::CreateTempTrigger { .. }
        | AuthAction::CreateTempView { .. }
        | AuthAction::DropTempIndex { .. }
        | AuthAction::DropTempTable { .. }
        | AuthAction::DropTempTrigger { .. }
        | AuthAction::DropTempView { .. } => Err(TEMPORARY.into()),
        AuthAction::CreateVtable { .. } | AuthAction::DropVtable { .. } => {
            Err("virtual tables are not allowed".into())
        }

        _ if mode == Mode::Read => Err(CHANGES.into()),
        AuthAction::Insert { table_name }
        | AuthAction::Delete { table_name }
        | AuthAction::Update { table_name, .. } => writable(table_name, word),
        AuthAction::DropTable { table_name } if is_statistics(table_name) => {
            Err(format!("{table_name} is SQLite's own: use ANALYZE"))
        }
        AuthAction::CreateIndex { .. }
        | AuthAction::CreateTable { .. }
        | AuthAction::CreateTrigger { .. }
        | AuthAction::CreateView { .. }
        | AuthAction::DropIndex { .. }
        | AuthAction::DropTable { .. }
        | AuthAction::DropTrigger { .. }
        | AuthAction::DropView { .. }
        | AuthAction::AlterTable { .. }
        | AuthAction::Reindex { .. }
        | AuthAction::Analyze { .. } => Ok(true),
        _ => Err("this kind of statement is not allowed".into()),
    }
}

/// What a read is told that writes; the way out is another for each surface (`SqlHint`).
pub(super) const CHANGES: &str = "this changes the database";
/// The same, of transactions.
pub(super) const BRACKETS: &str = "BEGIN, COMMIT, ROLLBACK and SAVEPOINT are not allowed";
const TEMPORARY: &str = "temporary tables, views and triggers are not allowed: use a table or WITH";

fn is_reading(action: &AuthAction<'_>) -> bool {
    matches!(
        action,
        AuthAction::Read { .. }
            | AuthAction::Select
            | AuthAction::Function { .. }
            | AuthAction::Pragma { .. }
    )
}

/// Ours begin like this.
fn is_reserved(name: &str) -> bool {
    name.get(..7)
        .is_some_and(|begin| begin.eq_ignore_ascii_case("_orama_"))
}

/// Refuses whatever names something of ours.
fn reserved(action: &AuthAction<'_>) -> Result<(), String> {
    let names = match *action {
        AuthAction::CreateIndex {
            index_name,
            table_name,
        }
        | AuthAction::DropIndex {
            index_name,
            table_name,
        } => [index_name, table_name],
        AuthAction::CreateTrigger {
            trigger_name,
            table_name,
        }
        | AuthAction::DropTrigger {
            trigger_name,
            table_name,
        } => [trigger_name, table_name],
        AuthAction::CreateTable { table_name }
        | AuthAction::DropTable { table_name }
        | AuthAction::AlterTable { table_name, .. }
        | AuthAction::Analyze { table_name }
        | AuthAction::Read { table_name, .. }
        | AuthAction::Insert { table_name }
        | AuthAction::Delete { table_name }
        | AuthAction::Update { table_name, .. } => [table_name, ""],
        AuthAction::CreateView { view_name } | AuthAction::DropView { view_name } => {
            [view_name, ""]
        }
        AuthAction::Reindex { index_name } => [index_name, ""],
        AuthAction::Pragma {
            pragma_value: Some(value),
            ..
        } => [value, ""],
        _ => return Ok(()),
    };
    // ANALYZE and REINDEX without a name go over all tables; ours has one row.
    let all = matches!(
        action,
        AuthAction::Analyze { .. } | AuthAction::Reindex { .. }
    );
    if !all && names.into_iter().any(is_reserved) {
        return Err("names that begin with _orama_ are reserved".into());
    }
    Ok(())
}

/// Tables that show the file, the process or the connection instead of the tenant's rows.
const HIDDEN_TABLES: [&str; 7] = [
    "bytecode",
    "dbstat",
    "fts3tokenize",
    "sqlite_dbpage",
    "sqlite_memstat",
    "sqlite_stmt",
    "tables_used",
];

fn readable(table: &str) -> Result<bool, String> {
    if HIDDEN_TABLES
        .iter()
        .any(|name| name.eq_ignore_ascii_case(table))
    {
        return Err(format!("{table} may not be read"));
    }
    Ok(false)
}

fn is_statistics(table: &str) -> bool {
    table
        .get(..11)
        .is_some_and(|begin| begin.eq_ignore_ascii_case("sqlite_stat"))
}

fn writable(table: &str, word: Word) -> Result<bool, String> {
    // A connection that is open would not notice and plan otherwise than one that opens the file later.
    if is_statistics(table) && !word.keeps_statistics() {
        return Err(format!("{table} is SQLite's own: use ANALYZE"));
    }
    // SQLite refuses to write its schema table but for statements about the schema;
    // sqlite_sequence is an ordinary table.
    Ok(false)
}

/// They show the schema: the same on every replica.
const SCHEMA_PRAGMAS: [&str; 6] = [
    "foreign_key_check",
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "table_list",
];
/// They show columns, of views too: of more than five equal ones SQLite draws the names of the others
/// at random, on each replica others. In reads only.
const COLUMN_PRAGMAS: [&str; 2] = ["table_info", "table_xinfo"];
/// Numbers in the file's header that are the tenant's own.
const NUMBER_PRAGMAS: [&str; 2] = ["application_id", "user_version"];
/// They show the file or the library: in reads only, and only without a value.
const READ_PRAGMAS: [&str; 9] = [
    "collation_list",
    "compile_options",
    "encoding",
    "foreign_keys",
    "freelist_count",
    "function_list",
    "page_count",
    "page_size",
    "schema_version",
];

fn pragma(name: &str, value: Option<&str>, mode: Mode) -> Result<bool, String> {
    let among = |names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    if among(&COLUMN_PRAGMAS) && mode == Mode::Write {
        return Err(format!(
            "PRAGMA {name} is not allowed in a write: its answer can differ between nodes, ask it with a query"
        ));
    }
    if among(&SCHEMA_PRAGMAS)
        || among(&COLUMN_PRAGMAS)
        || (among(&NUMBER_PRAGMAS) && (value.is_none() || mode == Mode::Write))
        || (among(&READ_PRAGMAS) && value.is_none() && mode == Mode::Read)
    {
        return Ok(false);
    }
    if mode == Mode::Read && among(&NUMBER_PRAGMAS) {
        return Err(CHANGES.into());
    }
    if mode == Mode::Write && among(&["defer_foreign_keys"]) && value.is_some_and(is_on) {
        // Statements are compiled otherwise then, as after a change of the schema. It ends with the
        // entry (`Connection::settle_foreign_keys`); OFF would forget what was violated.
        return Ok(true);
    }
    if mode == Mode::Write && among(&["foreign_keys"]) && value.is_some() {
        return Err(
            "PRAGMA foreign_keys = OFF must be the first of a transaction's ops: it holds for those after it, and no longer".into(),
        );
    }
    Err(format!("PRAGMA {name} is not allowed here"))
}

fn is_on(value: &str) -> bool {
    ["on", "1", "true", "yes"]
        .iter()
        .any(|on| on.eq_ignore_ascii_case(value))
}

fn function(name: &str, mode: Mode, word: Word) -> Result<bool, String> {
    let among = |names: &[&str]| {
        names
            .binary_search(&name.to_ascii_lowercase().as_str())
            .is_ok()
    };
    if among(&FUNCTIONS)
        || (mode == Mode::Read && among(&READ_FUNCTIONS))
        || (word == Word::Alter && among(&ALTER_FUNCTIONS))
    {
        return Ok(false);
    }
    if among(&READ_FUNCTIONS) {
        return Err(format!(
            "the function {name}() is not allowed in a write: its answer differs between nodes"
        ));
    }
    Err(format!("the function {name}() is not allowed"))
}

/// Functions whose answer depends on arguments, rows and the entry only. Sorted.
/// A list of what is allowed, so that one that a later SQLite brings is looked at first.
#[rustfmt::skip]
const FUNCTIONS: [&str; 104] = [
    "->", "->>", "abs", "avg", "changes", "char", "coalesce", "concat", "concat_ws", "count",
    "cume_dist", "current_date", "current_time", "current_timestamp", "date", "datetime", "dense_rank",
    "first_value", "format", "glob", "group_concat", "hex", "if", "ifnull", "iif", "instr", "json",
    "json_array", "json_array_insert", "json_array_length", "json_error_position", "json_extract",
    "json_group_array", "json_group_object", "json_insert", "json_object", "json_patch", "json_pretty",
    "json_quote", "json_remove", "json_replace", "json_set", "json_type", "json_valid", "jsonb",
    "jsonb_array", "jsonb_array_insert", "jsonb_extract", "jsonb_group_array", "jsonb_group_object",
    "jsonb_insert", "jsonb_object", "jsonb_patch", "jsonb_remove", "jsonb_replace", "jsonb_set",
    "julianday", "lag", "last_insert_rowid", "last_value", "lead", "length", "like", "likelihood",
    "likely", "lower", "ltrim", "max", "min", "nth_value", "ntile", "nullif", "octet_length",
    "percent_rank", "printf", "quote", "random",
    "randomblob", "rank", "replace", "round", "row_number", "rtrim", "sign", "soundex", "strftime",
    "string_agg", "substr", "substring", "subtype", "sum", "time", "timediff", "total", "trim", "typeof",
    "unhex", "unicode", "unistr", "unistr_quote", "unixepoch", "unlikely", "upper", "zeroblob",
];

/// Functions that tell builds or connections apart. Sorted.
const READ_FUNCTIONS: [&str; 5] = [
    "sqlite_compileoption_get",
    "sqlite_compileoption_used",
    "sqlite_source_id",
    "sqlite_version",
    "total_changes",
];

/// What ALTER TABLE calls inside; SQLite knows them in its own statements only. Sorted.
const ALTER_FUNCTIONS: [&str; 9] = [
    "sqlite_add_constraint",
    "sqlite_drop_column",
    "sqlite_drop_constraint",
    "sqlite_fail",
    "sqlite_find_constraint",
    "sqlite_rename_column",
    "sqlite_rename_quotefix",
    "sqlite_rename_table",
    "sqlite_rename_test",
];
