//! The grammar of the command line: every command, flag and help text.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{DevArgs, NodeRunArgs};

const ENVIRONMENT_HELP: &str = "\
Environment:
  ORAMA_API_URL      URL of the gateway; ORAMA_GATEWAY_URL is the same
  ORAMA_TOKEN        API key or token to send, instead of the stored one
  ORAMA_ADMIN_TOKEN  operator's token, for the namespace and key commands
  ORAMA_HOME         directory of environments.json and credentials.json [default: ~/.orama]
  ORAMA_GO           the Go toolchain's `go` for `function build`
  ORAMA_TOKEN_FILE and ORAMA_ADMIN_TOKEN_FILE name files that hold the tokens.

Exit codes:
  0 success, 1 error, 2 wrong usage, 3 not authorised, 4 not found, 5 unavailable";

/// Self-hosted serverless functions in WebAssembly.
#[derive(Debug, Parser)]
#[command(name = "orama", version, after_help = ENVIRONMENT_HELP)]
#[command(arg_required_else_help = true)]
pub struct Cli {
    /// Flags every command takes.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags every command takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Print the API's answer as JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
    /// Use this environment instead of the active one (see `orama env list`)
    #[arg(long = "env", value_name = "NAME", global = true)]
    pub environment: Option<String>,
    /// Use the gateway at this URL instead of an environment's
    #[arg(
        long,
        value_name = "URL",
        global = true,
        conflicts_with = "environment"
    )]
    pub api_url: Option<String>,
    /// Work in this namespace: use the credential stored for it
    #[arg(long, short = 'n', value_name = "NAME", global = true)]
    pub namespace: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a node for development on this machine, everything included
    ///
    /// Makes the namespace `default` with an API key, and makes itself the
    /// active environment `local`, so that the other commands reach it.
    Dev(Box<DevArgs>),
    /// Run a node in production
    #[command(subcommand, arg_required_else_help = true)]
    Node(NodeCommand),
    /// Write, build, deploy and call functions
    #[command(subcommand, arg_required_else_help = true)]
    Function(FunctionCommand),
    /// Manage the secrets of a namespace (same as `orama function secrets`)
    #[command(subcommand, arg_required_else_help = true)]
    Secrets(SecretsCommand),
    /// Manage namespaces (needs the operator's token)
    #[command(subcommand, arg_required_else_help = true)]
    Namespace(NamespaceCommand),
    /// Manage API keys and the master key (needs the operator's token)
    #[command(subcommand, arg_required_else_help = true)]
    Key(KeyCommand),
    /// Query and change the SQL database of a namespace
    #[command(subcommand, arg_required_else_help = true)]
    Db(DbCommand),
    /// Look at the cluster and move work in it (needs the operator's token)
    #[command(subcommand, arg_required_else_help = true)]
    Cluster(ClusterCommand),
    /// Manage environments: named gateways
    #[command(subcommand, arg_required_else_help = true)]
    Env(EnvCommand),
    /// Log in to a gateway and out again
    #[command(subcommand, arg_required_else_help = true)]
    Auth(AuthCommand),
}

/// `orama node …`
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Run this node in the foreground until it gets SIGTERM
    Run(Box<NodeRunArgs>),
}

/// `orama function …`
#[derive(Debug, Subcommand)]
pub enum FunctionCommand {
    /// Make a directory NAME with a function that builds and runs as it is
    Init {
        /// Letters, digits, hyphens and underscores, starting with a letter
        name: String,
    },
    /// Compile a project to function.wasm
    ///
    /// Runs `build.command` of function.yaml when there is one. Otherwise Go
    /// files are compiled with TinyGo if it is installed, else with Go 1.21 or
    /// newer, and a Cargo.toml with cargo.
    Build(BuildArgs),
    /// Deploy a project as the function's next version
    ///
    /// Builds first when function.wasm is missing or a source file is newer.
    Deploy(DeployArgs),
    /// Call a function and print its output
    Invoke(InvokeArgs),
    /// List the functions of the namespace
    #[command(visible_alias = "ls")]
    List,
    /// Show a function's settings as JSON
    Get {
        /// NAME, or NAME@VERSION
        name: String,
    },
    /// Delete a function, or one of its versions
    #[command(visible_alias = "rm")]
    Delete {
        /// NAME, or NAME@VERSION
        name: String,
        /// Do not ask
        #[arg(long, short)]
        force: bool,
    },
    /// Show a function's invocations and what they logged, oldest first
    Logs(LogsArgs),
    /// List a function's versions, newest first
    Versions {
        /// The function's name
        name: String,
    },
    /// Deploy a copy of an earlier version as the newest
    Rollback {
        /// The function's name
        name: String,
        /// The version to go back to
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        version: u64,
    },
    /// Let a disabled function be invoked again
    Enable {
        /// The function's name
        name: String,
    },
    /// Refuse invocations of a function until it is enabled again
    Disable {
        /// The function's name
        name: String,
    },
    /// Manage the secrets that functions read with get_secret
    #[command(subcommand, arg_required_else_help = true)]
    Secrets(SecretsCommand),
}

/// `orama function build`
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The project's directory
    #[arg(default_value = ".")]
    pub dir: PathBuf,
}

/// `orama function deploy`
#[derive(Debug, Args)]
pub struct DeployArgs {
    /// The project's directory
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// Build even when function.wasm is newer than every source
    #[arg(long, conflicts_with = "no_build")]
    pub rebuild: bool,
    /// Deploy function.wasm as it is
    #[arg(long)]
    pub no_build: bool,
}

/// `orama function invoke`
#[derive(Debug, Args)]
pub struct InvokeArgs {
    /// NAME, or NAME@VERSION
    pub name: String,
    /// The input, usually JSON; @FILE reads a file, - reads stdin
    #[arg(
        long,
        short,
        value_name = "DATA",
        default_value = "{}",
        allow_hyphen_values = true
    )]
    pub data: String,
}

/// `orama function logs`
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The function's name
    pub name: String,
    /// Show at most so many, the newest
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=500))]
    pub limit: u32,
    /// Keep printing new invocations until interrupted
    #[arg(long, short)]
    pub follow: bool,
    /// Only the lines the function logged
    #[arg(long)]
    pub wasm_only: bool,
    /// Only this request
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
}

/// `orama function secrets …`
#[derive(Debug, Subcommand)]
pub enum SecretsCommand {
    /// Set a secret; give exactly one of VALUE, --from-file and - (stdin)
    ///
    /// A file is taken byte for byte; from stdin one line end is removed.
    Set {
        /// The secret's name
        name: String,
        /// Its value; - reads stdin, which keeps it out of the shell's history
        #[arg(allow_hyphen_values = true)]
        value: Option<String>,
        /// Read the value from this file
        #[arg(long, value_name = "FILE")]
        from_file: Option<PathBuf>,
    },
    /// List the names of all secrets; values are never shown
    #[command(visible_alias = "ls")]
    List,
    /// Delete a secret
    #[command(visible_alias = "rm")]
    Delete {
        /// The secret's name
        name: String,
        /// Do not ask
        #[arg(long, short)]
        force: bool,
    },
}

/// `orama namespace …`
#[derive(Debug, Subcommand)]
pub enum NamespaceCommand {
    /// Make a namespace and print its first API key
    Create {
        /// 2 to 40 lower-case letters, digits and hyphens
        name: String,
        /// Store the key, for later commands with --namespace NAME
        #[arg(long)]
        save: bool,
    },
    /// List all namespaces
    #[command(visible_alias = "ls")]
    List,
    /// Delete a namespace with everything in it
    #[command(visible_alias = "rm")]
    Delete {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(long, short)]
        force: bool,
    },
}

/// `orama key …`
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a further API key of a namespace and print it
    Create {
        /// For people, shown in lists
        #[arg(long, default_value = "", hide_default_value = true)]
        label: String,
    },
    /// List the API keys of a namespace; the keys themselves are never shown
    #[command(visible_alias = "ls")]
    List,
    /// Revoke an API key
    Revoke {
        /// Its identifier, from `orama key list`
        id: String,
        /// Do not ask
        #[arg(long, short)]
        force: bool,
    },
    /// Re-wrap every data key under the node's active master key
    RotateMaster,
    /// Show which master keys are still in use
    MasterStatus,
}

/// `orama db …`
#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// Run one statement that reads, and show its rows
    #[command(after_long_help = QUERY_HELP)]
    Query {
        /// The statement and its arguments
        #[command(flatten)]
        statement: StatementArgs,
        /// How fresh the rows must be
        #[command(flatten)]
        read: ReadArgs,
        /// Print the rows as CSV (RFC 4180) with a head line; NULL is an empty field
        #[arg(long, conflicts_with = "json")]
        csv: bool,
    },
    /// Run one statement that changes something, and show what it did
    #[command(after_long_help = EXEC_HELP)]
    Exec {
        /// The statement and its arguments
        #[command(flatten)]
        statement: StatementArgs,
    },
    /// Read statements line by line and run them; `.help` tells more
    ///
    /// A statement ends with a semicolon and may take several lines. Each is a
    /// transaction of its own. On a terminal a statement that fails does not end
    /// the shell; otherwise the first failure does, and its line is named.
    #[command(after_long_help = SHELL_HELP)]
    Shell {
        /// How fresh the rows must be
        #[command(flatten)]
        read: ReadArgs,
    },
    /// Run the statements of FILE.sql, or put in what the SQLite file FILE.db has
    ///
    /// All of the file is looked at before anything is sent. Then its
    /// statements are sent in transactions of up to 100. When one fails, or the
    /// command is interrupted, the ones before it stay; the line is named, and
    /// the number of the statement with which to go on.
    #[command(after_long_help = IMPORT_HELP)]
    Import(ImportArgs),
    /// Write the whole database to FILE.db as an SQLite file, or to FILE.sql as statements
    ///
    /// Of one moment. The file is there as a whole or not at all, for its
    /// owner to read only.
    #[command(after_long_help = EXPORT_HELP)]
    Export {
        /// FILE.db, FILE.sqlite, FILE.sqlite3 or FILE.sql
        file: PathBuf,
        /// Replace the file when it exists
        #[arg(long, short)]
        force: bool,
    },
}

const QUERY_HELP: &str = "\
Examples:
  orama db query 'SELECT * FROM users WHERE name = ? AND age > ?' Ada 30
  orama db query 'SELECT * FROM users WHERE phone = ?' +4912345
  orama db query 'SELECT ?' \"'7'\"                 # the text 7
  orama db query 'SELECT ?, ?' --args '[1.50, null]'
  orama db query - --level none --freshness 2s < report.sql
  orama db query 'SELECT * FROM users' --csv > users.csv

In the table, NULL is no value and 'NULL' the text; characters that cannot be
seen are escaped, and long values cut: at the width of the terminal, elsewhere
at 1000 characters. --json and --csv cut nothing. A BLOB is shown in base64.";

const EXEC_HELP: &str = "\
Examples:
  orama db exec 'CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT, photo BLOB)'
  orama db exec 'INSERT INTO users(name, photo) VALUES(?, ?)' Ada \"x'00ff'\"
  orama db exec 'DELETE FROM users WHERE id = ? RETURNING *' 7";

const SHELL_HELP: &str = "\
Examples:
  orama db shell
  orama db shell < migration.sql
  rlwrap orama db shell                          # with a history of lines";

const IMPORT_HELP: &str = "\
Examples:
  orama db import backup.sql --dry-run
  orama db import backup.sql
  orama db import backup.sql --from 101          # after a failure in statement 101
  sqlite3 app.db .dump > app.sql && orama db import app.sql

BEGIN, COMMIT, PRAGMA foreign_keys and what ANALYZE found are left out: `sqlite3
FILE .dump` writes them around its statements, and an import has its own
transactions. A statement may have 256 KiB, an INSERT with long values 960 KiB.";

const EXPORT_HELP: &str = "\
Examples:
  orama db export backup.db
  orama db export backup.sql --force";

/// `orama db import`
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// FILE.sql, FILE.db, FILE.sqlite or FILE.sqlite3
    pub file: PathBuf,
    /// Begin with the N-th statement, to go on where an import ended
    #[arg(long, value_name = "N", default_value = "1", hide_default_value = true, value_parser = from_one)]
    pub from: usize,
    /// Look at the file and send nothing
    #[arg(long)]
    pub dry_run: bool,
}

fn from_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("the first statement has the number 1".into()),
        Ok(number) => Ok(number),
    }
}

/// A statement on the command line.
#[derive(Debug, Clone, Default, Args)]
pub struct StatementArgs {
    /// The statement; - reads it from stdin
    #[arg(allow_hyphen_values = true)]
    pub sql: String,
    /// Arguments for its `?`: numbers, null, x'00ff' for a BLOB, anything else is text
    ///
    /// A number is one only in the form in which it would be printed: 7, -7, 1.5.
    /// Everything else is text as it stands: 007, +49, 1.50, 1e3, 0x10, true, and whole
    /// numbers of more than 64 bits. '7', with the quotes inside, is the text 7.
    #[arg(value_name = "ARG", allow_negative_numbers = true)]
    pub values: Vec<String>,
    /// All arguments as a JSON array instead, such as '[1.50, \"7\", null]'
    #[arg(long, value_name = "JSON", conflicts_with = "values")]
    pub args: Option<String>,
}

/// How fresh a read must be.
#[derive(Debug, Clone, Default, Args)]
pub struct ReadArgs {
    /// none: what the node has; weak: what the leader has; linearizable (strong is the same): all that was acknowledged [default: linearizable]
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    pub level: Option<String>,
    /// With --level none: refuse rows of a replica that heard nothing from its leader for longer, such as 2s
    #[arg(long, value_name = "TIME")]
    pub freshness: Option<String>,
    /// With --freshness: refuse them too while the replica is behind
    #[arg(long, requires = "freshness")]
    pub freshness_strict: bool,
}

fn level(text: &str) -> Result<String, String> {
    let level = text.to_ascii_lowercase();
    match level.as_str() {
        "none" | "weak" | "strong" | "linearizable" => Ok(level),
        _ => Err("it is none, weak, or linearizable (strong is the same)".into()),
    }
}

/// `orama cluster …`
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Show whether all is well, then the nodes and groups; exit code 1 when something is wrong
    Status,
    /// Stop a node from leading groups and taking other nodes' work, before work on it
    Drain {
        /// Name or id of the node
        node: String,
        /// Make it active again
        #[arg(long)]
        undo: bool,
    },
    /// Move everything away from a node and remove it from the cluster for good
    Leave {
        /// Name or id of the node
        node: String,
        /// Do not ask
        #[arg(long, short = 'f', visible_alias = "yes")]
        force: bool,
    },
    /// Let a node lead a group
    Transfer {
        /// `meta`, `data-N`, or the group's number
        group: String,
        /// Name or id of the node
        node: String,
    },
}

/// `orama env …`
#[derive(Debug, Subcommand)]
pub enum EnvCommand {
    /// Add an environment, or change its URL
    Add {
        /// Its name
        name: String,
        /// URL of its gateway
        url: String,
        /// For people
        #[arg(long, default_value = "", hide_default_value = true)]
        description: String,
    },
    /// Make an environment the active one
    Use {
        /// Its name
        name: String,
    },
    /// List environments
    #[command(visible_alias = "ls")]
    List,
    /// Show the environment that commands use now
    Current,
    /// Remove an environment; credentials for its URL stay until `auth logout`
    #[command(visible_alias = "rm")]
    Remove {
        /// Its name
        name: String,
    },
}

/// `orama auth …`
#[derive(Debug, Subcommand)]
pub enum AuthCommand {
    /// Check a credential with the gateway and store it for that gateway
    ///
    /// Asks for an API key when none is given: on a terminal without echo,
    /// otherwise it reads one line of stdin.
    Login {
        /// API key of a namespace
        #[arg(long, visible_alias = "token", value_name = "KEY")]
        api_key: Option<String>,
        /// Operator's token of the gateway
        #[arg(long, value_name = "TOKEN", conflicts_with = "api_key")]
        admin_token: Option<String>,
    },
    /// Show who the gateway takes you for
    Whoami,
    /// Remove stored credentials for the gateway, all or those of --namespace
    Logout,
}
