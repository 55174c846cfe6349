//! Every limit that a user can meet, with its name and default in one place.
//!
//! Sizes are bytes unless the name says otherwise. Sources: SPECIFICATION for
//! memory, timeout and trigger depth; CONTRACT sections named at each item.

/// One kibibyte.
pub const KIB: usize = 1024;
/// One mebibyte.
pub const MIB: usize = 1024 * KIB;

/// Longest function or namespace-scoped name, in characters (CONTRACT 7.1).
pub const NAME_MAX_CHARS: usize = 64;
/// Longest secret name, in characters (CONTRACT 5.1).
pub const SECRET_NAME_MAX_CHARS: usize = 128;
/// Largest secret value (CONTRACT 5.1).
pub const SECRET_VALUE_MAX_BYTES: usize = 64 * KIB;
/// Secrets a namespace may hold.
pub const SECRETS_PER_NAMESPACE: usize = 1_000;

/// Largest WebAssembly module that may be deployed (CONTRACT 2.4).
pub const WASM_MAX_BYTES: usize = 32 * MIB;
/// Largest text field of a deploy form; the metadata part may be this long.
pub const DEPLOY_FIELD_MAX_BYTES: usize = 256 * KIB;
/// Largest JSON body of an administrative or secrets call.
pub const JSON_BODY_MAX_BYTES: usize = 512 * KIB;
/// Largest invocation body (CONTRACT 2.5).
pub const INVOKE_BODY_MAX_BYTES: usize = MIB;
/// Largest guest output (CONTRACT 9).
pub const OUTPUT_MAX_BYTES: usize = 8 * MIB;

/// Memory limit of a function, MiB: smallest allowed.
pub const MEMORY_MIN_MB: u32 = 1;
/// Memory limit of a function, MiB: largest allowed.
pub const MEMORY_MAX_MB: u32 = 256;
/// Memory limit of a function, MiB: default.
pub const MEMORY_DEFAULT_MB: u32 = 64;
/// Timeout, seconds: smallest allowed.
pub const TIMEOUT_MIN_SECS: u32 = 1;
/// Timeout, seconds: largest allowed.
pub const TIMEOUT_MAX_SECS: u32 = 300;
/// Timeout, seconds: default.
pub const TIMEOUT_DEFAULT_SECS: u32 = 30;
/// Retries after a failed attempt: largest allowed (CONTRACT 7.1).
pub const RETRY_MAX: u32 = 5;
/// Seconds before the first retry: default.
pub const RETRY_DELAY_DEFAULT_SECS: u32 = 5;
/// Seconds before the first retry: largest allowed.
pub const RETRY_DELAY_MAX_SECS: u32 = 300;
/// Longest pause before any retry, seconds (CONTRACT 8).
pub const RETRY_BACKOFF_MAX_SECS: u32 = 300;

/// Environment variables of one function version.
pub const ENV_VARS_MAX: usize = 128;
/// Total bytes of keys and values of a version's environment variables.
pub const ENV_TOTAL_MAX_BYTES: usize = 64 * KIB;

/// One log line; the rest is cut (CONTRACT 1.6).
pub const LOG_LINE_MAX_BYTES: usize = 16 * KIB;
/// Log lines of one invocation; further ones are dropped and counted.
pub const LOG_LINES_MAX: usize = 1_000;
/// Total bytes of log text of one invocation.
pub const LOG_TOTAL_MAX_BYTES: usize = 256 * KIB;

/// Functions a namespace may hold.
pub const FUNCTIONS_PER_NAMESPACE: usize = 1_000;
/// Versions kept of a function; the oldest go first, never the latest active one.
pub const VERSIONS_KEPT: usize = 100;
/// Namespaces of a cluster.
pub const NAMESPACES_MAX: usize = 10_000;
/// API keys of a namespace.
pub const KEYS_PER_NAMESPACE: usize = 100;

/// Default number of records a logs query answers (CONTRACT 2.7).
pub const LOGS_DEFAULT: usize = 50;
/// Largest number of records a logs query answers (CONTRACT 2.7).
pub const LOGS_MAX: usize = 500;
/// Days an invocation record is kept (CONTRACT 10, item 78).
pub const JOURNAL_RETENTION_DAYS: u32 = 7;
/// Invocation records kept of one function.
pub const JOURNAL_PER_FUNCTION: usize = 10_000;

/// Members of a cluster.
pub const MEMBERS_MAX: usize = 64;
/// Data groups of a cluster.
pub const DATA_GROUPS_MAX: usize = 256;
/// Replicas of a data group.
pub const REPLICAS_MAX: usize = 9;
/// Addresses of a member.
pub const ADDRESSES_PER_MEMBER: usize = 16;
/// One address of a member, and its name and version, in bytes.
pub const ADDRESS_MAX_BYTES: usize = 256;

/// Statements of a transaction or a batch (CONTRACT 1.7).
pub const SQL_OPS_MAX: usize = 100;
/// One statement's text.
pub const SQL_STATEMENT_MAX_BYTES: usize = 256 * KIB;
/// Texts and arguments of a transaction or a batch together: an entry of the log is at most 1 MiB.
pub const SQL_REQUEST_MAX_BYTES: usize = 960 * KIB;
/// Parameters of a statement.
pub const SQL_PARAMETERS_MAX: usize = 1_000;
/// One value in a database: text, BLOB or row.
pub const SQL_VALUE_MAX_BYTES: usize = MIB;
/// Rows one query answers (CONTRACT 1.7).
pub const SQL_ROWS_MAX: usize = 10_000;
/// Bytes of rows that a read answers, over all its queries (CONTRACT 1.7).
pub const SQL_RESULT_MAX_BYTES: usize = 32 * MIB;
/// Bytes of rows that a transaction answers, over all its statements.
pub const SQL_TRANSACTION_RESULT_MAX_BYTES: usize = 4 * MIB;
/// Seconds a read may take (CONTRACT 1.7).
pub const SQL_READ_MAX_SECS: u64 = 10;
/// Seconds a write may take to be committed.
pub const SQL_WRITE_MAX_SECS: u64 = 10;
/// Steps of a transaction: about half a second of simple work.
pub const SQL_STEPS_MAX: u64 = 20_000_000;
/// Largest database of a namespace: default.
pub const DATABASE_MAX_BYTES: usize = 1024 * MIB;
/// Largest body of `/v1/rqlite/*` (CONTRACT 2.10).
pub const SQL_BODY_MAX_BYTES: usize = 4 * MIB;
