//! The grammar of the command line: every command, flag and help text.

mod db;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use self::db::{DbCommand, ImportArgs, ReadArgs, StatementArgs};
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
