//! The settings in their final, checked form.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use orama_cluster::LinkOptions;
use orama_proto::limits::DATABASE_MAX_BYTES;

use super::args::SettingArgs;
use super::layers::{Found, Layers};
use super::{
    ADMIN_TOKEN, ConfigError, DevArgs, Environment, MASTER_KEY, NodeRunArgs, Secret, cluster,
    secrets,
};

/// Most data groups of a cluster.
const DATA_GROUPS_MAX: usize = 256;
/// Longest node name, characters.
const NODE_NAME_MAX: usize = 64;

/// Which command is run; decides defaults and whether secrets are required.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `orama node run`.
    Node,
    /// `orama dev`.
    Dev,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Everything a node is told when it starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which command is run.
    pub mode: Mode,
    /// Shown to people.
    pub node_name: String,
    /// Everything the node stores.
    pub data_dir: PathBuf,
    /// The gateway's address.
    pub http_addr: SocketAddr,
    /// The address of /metrics, /livez and /readyz.
    pub metrics_addr: SocketAddr,
    /// Hosts `ns-NAME.DOMAIN` select a namespace; lower case.
    pub base_domain: Option<String>,
    /// How long running requests may take to finish at shutdown.
    pub drain_timeout: Duration,
    /// A tracing filter.
    pub log: String,
    /// How log lines are written; `None` decides by the terminal.
    pub log_format: Option<LogFormat>,
    /// Threads that serve HTTP and run functions.
    pub workers: usize,
    /// Functions that may run at once.
    pub max_running: usize,
    /// The same for one namespace.
    pub max_running_per_namespace: usize,
    /// Invocations of one namespace that may wait.
    pub max_queued_per_namespace: usize,
    /// How long they may wait.
    pub max_queue_wait: Duration,
    /// HTTP connections of one worker.
    pub max_connections: usize,
    /// The mesh; `None` without a cluster secret: then the node is for itself.
    pub links: Option<LinkOptions>,
    /// A snapshot of the metadata is made after so many changes; of data groups after some times as many.
    pub snapshot_every: u64,
    /// Data groups of a cluster that this node forms.
    pub data_groups: u32,
    /// A member out of contact for so long has its replicas replaced.
    pub replace_after: Duration,
    /// Bytes that the SQL database of a namespace may have.
    pub database_max_bytes: u64,
    /// The master keys' text. `None` only in `dev`.
    pub master_key: Option<Secret>,
    /// Token of the administrative API. `None` only in `dev`.
    pub admin_token: Option<Secret>,
}

impl Config {
    /// The settings of `orama node run`.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn for_node(args: &NodeRunArgs, environment: Environment<'_>) -> Result<Self, ConfigError> {
        let config = Self::resolve(Mode::Node, &args.settings, environment)?;
        let missing = |variable, recipe| ConfigError::SecretMissing { variable, recipe };
        if config.master_key.is_none() {
            return Err(missing(MASTER_KEY, "openssl rand -base64 32"));
        }
        if config.admin_token.is_none() {
            return Err(missing(ADMIN_TOKEN, "openssl rand -hex 32"));
        }
        Ok(config)
    }

    /// The settings of `orama dev`.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn for_dev(args: &DevArgs, environment: Environment<'_>) -> Result<Self, ConfigError> {
        Self::resolve(Mode::Dev, &args.settings, environment)
    }

    fn resolve(
        mode: Mode,
        flags: &SettingArgs,
        environment: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        let layers = Layers::new(flags, environment)?;
        let dev = mode == Mode::Dev;
        let config = Self {
            mode,
            node_name: node_name(&layers)?,
            data_dir: text(&layers, "data_dir")?
                .unwrap_or_else(|| if dev { "./.orama" } else { "/var/lib/orama" }.into())
                .into(),
            http_addr: address(
                &layers,
                "http_addr",
                if dev {
                    "127.0.0.1:6001"
                } else {
                    "0.0.0.0:6001"
                },
            )?,
            metrics_addr: address(
                &layers,
                "metrics_addr",
                if dev {
                    "127.0.0.1:6002"
                } else {
                    "0.0.0.0:9090"
                },
            )?,
            base_domain: domain(&layers)?,
            drain_timeout: duration(&layers, "drain_timeout", Duration::from_secs(30))?,
            log: text(&layers, "log")?.unwrap_or_else(|| "info".into()),
            log_format: log_format(&layers)?.or(dev.then_some(LogFormat::Text)),
            workers: number(&layers, "workers", cores(), 1, 512)?,
            max_running: number(&layers, "max_running", 2048, 1, 16_384)?,
            max_running_per_namespace: number(
                &layers,
                "max_running_per_namespace",
                1024,
                1,
                16_384,
            )?,
            max_queued_per_namespace: number(
                &layers,
                "max_queued_per_namespace",
                1024,
                0,
                100_000,
            )?,
            max_queue_wait: duration(&layers, "max_queue_wait", Duration::from_secs(10))?,
            max_connections: number(&layers, "max_connections", 8192, 1, 100_000)?,
            links: cluster::links(&layers, environment, mode)?,
            snapshot_every: number(&layers, "snapshot_every", 5_000, 1, 1_000_000)? as u64,
            // At most 256, so the cast keeps the number.
            data_groups: number(&layers, "data_groups", 4, 1, DATA_GROUPS_MAX)? as u32,
            replace_after: replace_after(&layers)?,
            database_max_bytes: database_max_bytes(&layers)?,
            master_key: secrets::find(&layers, environment, MASTER_KEY, "master_key_file")?,
            admin_token: secrets::find(&layers, environment, ADMIN_TOKEN, "admin_token_file")?,
        };
        if let Some(Err(problem)) = config.admin_token.as_ref().map(secrets::check_admin_token) {
            return Err(ConfigError::Value {
                origin: ADMIN_TOKEN.into(),
                problem: problem.into(),
            });
        }
        Ok(config)
    }
}

fn text(layers: &Layers<'_>, name: &str) -> Result<Option<String>, ConfigError> {
    match layers.find(name) {
        Some(found) if found.text.trim().is_empty() => Err(found.wrong("must not be empty")),
        found => Ok(found.map(|found| found.text)),
    }
}

pub(super) fn number(
    layers: &Layers<'_>,
    name: &str,
    default: usize,
    low: usize,
    high: usize,
) -> Result<usize, ConfigError> {
    let Some(found) = layers.find(name) else {
        return Ok(default);
    };
    found
        .text
        .parse()
        .ok()
        .filter(|n| (low..=high).contains(n))
        .ok_or_else(|| found.wrong(&format!("must be a whole number from {low} to {high}")))
}

fn duration(layers: &Layers<'_>, name: &str, default: Duration) -> Result<Duration, ConfigError> {
    let Some(found) = layers.find(name) else {
        return Ok(default);
    };
    parse_duration(&found.text)
        .filter(|d| *d <= Duration::from_secs(24 * 3600))
        .ok_or_else(|| found.wrong("must be a time of at most 24h such as 500ms, 30s, 2m or 1h"))
}

fn replace_after(layers: &Layers<'_>) -> Result<Duration, ConfigError> {
    let time = duration(layers, "replace_after", Duration::from_secs(300))?;
    match layers.find("replace_after") {
        // Shorter than an election, every hiccup would move data about.
        Some(found) if time < Duration::from_secs(1) => Err(found.wrong("must be at least 1s")),
        _ => Ok(time),
    }
}

fn database_max_bytes(layers: &Layers<'_>) -> Result<u64, ConfigError> {
    let Some(found) = layers.find("database_max_bytes") else {
        return Ok(DATABASE_MAX_BYTES as u64);
    };
    // SQLite counts pages of 4 KiB with 32 bits; a new database has a few.
    parse_size(&found.text)
        .filter(|bytes| (64 << 10..=1 << 40).contains(bytes))
        .ok_or_else(|| {
            found.wrong("must be a size from 64KiB to 1024GiB such as 1073741824, 512MiB or 2GiB")
        })
}

/// `4096`, `64KiB`, `512MiB`, `2GiB`.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let scale = match unit {
        "" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.checked_mul(1 << scale)
}

fn node_name(layers: &Layers<'_>) -> Result<String, ConfigError> {
    let Some(found) = layers.find("node_name") else {
        return Ok(host_name());
    };
    if !is_node_name(&found.text) {
        return Err(found.wrong(
            "must have 1 to 64 letters, digits, dots, hyphens and underscores, and not look like a node's id",
        ));
    }
    Ok(found.text)
}

/// Names stand in URLs and tables, and where an id may stand too.
fn is_node_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
    let an_id = name.len() == 16 && name.bytes().all(|b| b.is_ascii_hexdigit());
    (1..=NODE_NAME_MAX).contains(&name.len())
        && name.bytes().all(plain)
        && !name.bytes().all(|b| b == b'.')
        && !an_id
}

/// `500ms`, `30s`, `2m`, `1h`; a bare number is seconds.
fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "" | "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

fn address(layers: &Layers<'_>, name: &str, default: &str) -> Result<SocketAddr, ConfigError> {
    let found = layers.find(name).unwrap_or_else(|| Found {
        text: default.to_owned(),
        origin: format!("default of --{}", name.replace('_', "-")),
    });
    // `:6001` is what people write for every address.
    let text = match found.text.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => found.text.clone(),
    };
    text.parse()
        .ok()
        .or_else(|| text.to_socket_addrs().ok()?.next())
        .ok_or_else(|| found.wrong("must be an address with a port, such as 127.0.0.1:6001"))
}

fn domain(layers: &Layers<'_>) -> Result<Option<String>, ConfigError> {
    let Some(found) = layers.find("base_domain") else {
        return Ok(None);
    };
    let domain = found.text.trim().trim_matches('.').to_ascii_lowercase();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    if domain.is_empty() || domain.len() > 253 || !domain.bytes().all(plain) {
        return Err(found.wrong("must be a domain name such as example.com"));
    }
    Ok(Some(domain))
}

fn log_format(layers: &Layers<'_>) -> Result<Option<LogFormat>, ConfigError> {
    let Some(found) = layers.find("log_format") else {
        return Ok(None);
    };
    match found.text.as_str() {
        "text" => Ok(Some(LogFormat::Text)),
        "json" => Ok(Some(LogFormat::Json)),
        _ => Err(found.wrong("must be text or json")),
    }
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .map(|name| name.trim().to_owned())
        .filter(|name| is_node_name(name))
        .unwrap_or_else(|| "orama".into())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().min(512))
}
