//! A node process: started from the real binary, stopped gently or by SIGKILL,
//! restarted on the same directory, its log read at the end.

mod binary;
mod builder;
mod observe;
mod process;
mod requests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tempfile::TempDir;

pub use binary::{orama_binary, target_dir};
pub use builder::{NodeBuilder, Refusal, master_key};
pub use requests::Gateway;

/// The administrator's token of every test node; also a marker to search for.
const ADMIN_TOKEN: &str = "admin-token-of-the-tests-8c1f";

/// A running node. Dropping it kills the process and fails the test when the
/// node's log holds a panic or an ERROR line that the test did not announce.
pub struct Node {
    builder: NodeBuilder,
    home: TempDir,
    data_dir: PathBuf,
    child: Option<Child>,
    starts: usize,
    began: Instant,
    base: Arc<Mutex<String>>,
    metrics: String,
    allowed: Mutex<Vec<String>>,
    /// Starts that were refused: the ERROR that says why belongs there.
    refused: Vec<usize>,
    http: reqwest::Client,
}

impl Node {
    /// Settings of a node.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }
    /// A node with the default settings.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Announces lines of level ERROR that contain this text.
    pub fn allow_error(&self, text: &str) {
        self.allowed.lock().push(text.into());
    }
    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }
    /// A directory that lives as long as this node, for the test's own files.
    pub fn scratch(&self) -> &Path {
        self.home.path()
    }
    /// `http://ADDRESS` of the gateway, as it is now.
    pub fn url(&self) -> String {
        self.base.lock().clone()
    }
    /// The gateway's socket address.
    pub fn addr(&self) -> SocketAddr {
        self.url()
            .trim_start_matches("http://")
            .parse()
            .expect("the gateway's address")
    }
    /// The administrator's token.
    pub fn admin_token(&self) -> &str {
        ADMIN_TOKEN
    }
    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the node runs").id()
    }

    fn log_file(&self, start: usize, kind: &str) -> PathBuf {
        self.home.path().join(format!("node-{start}.{kind}"))
    }
    fn log_of(&self, start: usize) -> String {
        let bytes = std::fs::read(self.log_file(start, "stderr")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
    /// Everything the node has said on stderr, over all its starts.
    pub fn log(&self) -> String {
        (1..=self.starts).map(|n| self.log_of(n)).collect()
    }
    /// Everything the node has said on stdout, over all its starts.
    pub fn stdout(&self) -> String {
        (1..=self.starts)
            .map(|n| std::fs::read_to_string(self.log_file(n, "stdout")).unwrap_or_default())
            .collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the end of the node's log\n{}", self.log_tail());
            return;
        }
        let alarming = self.alarming_lines();
        assert!(
            alarming.is_empty(),
            "the node's log holds lines that this test did not announce:\n{}",
            alarming.join("\n")
        );
    }
}
