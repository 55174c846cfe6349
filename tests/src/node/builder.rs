//! What a node is started with.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use parking_lot::Mutex;

use super::{ADMIN_TOKEN, Node};
use crate::client::http_client;

/// How long a node may take until it is ready, unless a test asks for less.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A new master key with this id, in the form `ORAMA_MASTER_KEY` takes.
pub fn master_key(id: &str) -> String {
    let mut raw = [0u8; 32];
    getrandom::fill(&mut raw).expect("the system's random source");
    format!(
        "{id}:{}",
        base64::engine::general_purpose::STANDARD.encode(raw)
    )
}

/// Settings of a node to be started.
#[derive(Debug, Clone)]
pub struct NodeBuilder {
    pub(super) data_dir: Option<PathBuf>,
    pub(super) env: Vec<(String, Option<String>)>,
    pub(super) args: Vec<String>,
    pub(super) ready_within: Duration,
    pub(super) allowed: Vec<String>,
    pub(super) wrapper: Vec<String>,
    pub(super) host: String,
}

impl Default for NodeBuilder {
    fn default() -> Self {
        Self {
            data_dir: None,
            env: vec![
                ("ORAMA_MASTER_KEY".into(), Some(master_key("k1"))),
                ("ORAMA_ADMIN_TOKEN".into(), Some(ADMIN_TOKEN.into())),
                ("ORAMA_LOG_FORMAT".into(), Some("json".into())),
            ],
            args: Vec::new(),
            ready_within: READY_WITHIN,
            allowed: Vec::new(),
            wrapper: Vec::new(),
            host: "127.0.0.1".into(),
        }
    }
}

/// A node that ended before it was ready.
#[derive(Debug)]
pub struct Refusal {
    /// How it ended; `None` when it had to be killed because it neither ended nor became ready.
    pub status: Option<ExitStatus>,
    /// Everything it said on stderr.
    pub stderr: String,
}

impl NodeBuilder {
    /// Uses this data directory instead of a temporary one.
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(path.into());
        self
    }
    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.into(), Some(value.into())));
        self
    }
    /// Takes an environment variable away.
    pub fn without_env(mut self, name: &str) -> Self {
        self.env.push((name.into(), None));
        self
    }
    /// A program, with its arguments, that replaces itself with the node: what it
    /// does to itself before, such as entering a namespace, holds for the node.
    pub fn wrapper(mut self, program: Vec<String>) -> Self {
        self.wrapper = program;
        self
    }
    /// The address on which the gateway and the metrics listen.
    pub fn host(mut self, host: &str) -> Self {
        self.host = host.into();
        self
    }
    /// Replaces all command line arguments that were added.
    pub fn args(mut self, args: Vec<String>) -> Self {
        self.args = args;
        self
    }
    /// Adds a command line argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }
    /// The longest time from start to ready.
    pub fn ready_within(mut self, limit: Duration) -> Self {
        self.ready_within = limit;
        self
    }
    /// Lines of level ERROR that contain this text are expected.
    pub fn allow_error(mut self, text: &str) -> Self {
        self.allowed.push(text.into());
        self
    }

    /// Starts the node and waits until it is ready.
    pub async fn start(self) -> Node {
        match self.try_start().await {
            Ok(node) => node,
            Err(refusal) => panic!(
                "the node did not start ({:?}); its stderr:\n{}",
                refusal.status, refusal.stderr
            ),
        }
    }

    /// Starts the node; answers why when it ends before it is ready.
    pub async fn try_start(self) -> Result<Node, Refusal> {
        let mut node = self.prepare();
        node.launch().await.map(|_| node)
    }

    /// A node that is not started yet.
    pub fn prepare(self) -> Node {
        let home = tempfile::Builder::new()
            .prefix("orama-test-")
            .tempdir()
            .expect("a temporary directory");
        let data_dir = self
            .data_dir
            .clone()
            .unwrap_or_else(|| home.path().join("data"));
        Node {
            allowed: Mutex::new(self.allowed.clone()),
            builder: self,
            home,
            data_dir,
            child: None,
            starts: 0,
            began: Instant::now(),
            base: Arc::new(Mutex::new(String::new())),
            metrics: String::new(),
            refused: Vec::new(),
            http: http_client(),
        }
    }
}
