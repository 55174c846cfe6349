//! A node process: started from the real binary, stopped gently or by SIGKILL,
//! restarted on the same directory, its log read at the end.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use orama_proto::api::{CreateNamespaceResponse, MasterKeyStatus, TokenResponse};
use parking_lot::Mutex;
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::client::{Reply, Tenant, http_client, send};

mod observe;

/// The administrator's token of every test node; also a marker to search for.
const ADMIN_TOKEN: &str = "admin-token-of-the-tests-8c1f";
/// How long a node may take until it is ready, unless a test asks for less.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The directory cargo builds into, found from this program's own path.
pub fn target_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("the path of this program");
    exe.ancestors()
        .find(|dir| dir.join("CACHEDIR.TAG").is_file())
        .or_else(|| exe.ancestors().nth(3))
        .expect("tests run from TARGET/PROFILE/deps")
        .to_owned()
}

/// The binary under test: `ORAMA_BIN`, or the one built beside this program.
pub fn orama_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("ORAMA_BIN") {
        return path.into();
    }
    let exe = std::env::current_exe().expect("the path of this program");
    exe.ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join("orama"))
        .find(|path| path.is_file())
        .unwrap_or_else(|| {
            panic!(
                "no orama beside {}; build it with `cargo build -p orama-node`",
                exe.display()
            )
        })
}

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
    data_dir: Option<PathBuf>,
    env: Vec<(String, Option<String>)>,
    args: Vec<String>,
    ready_within: Duration,
    allowed: Vec<String>,
    wrapper: Vec<String>,
    host: String,
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

/// The administrator's way to a node. Cheap to clone; follows it over restarts.
#[derive(Clone)]
pub struct Gateway {
    base: Arc<Mutex<String>>,
    http: reqwest::Client,
}

impl Gateway {
    /// A request, not yet sent.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.base.lock());
        self.http.request(method, url).bearer_auth(ADMIN_TOKEN)
    }
}

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

    /// The command that starts a node with these settings.
    fn command(&self) -> Command {
        let mut words = self.builder.wrapper.iter();
        let mut command = match words.next() {
            Some(program) => {
                let mut command = Command::new(program);
                command.args(words).arg(orama_binary());
                command
            }
            None => Command::new(orama_binary()),
        };
        let any_port = format!("{}:0", self.builder.host);
        command
            .args(["node", "run", "--data-dir"])
            .arg(&self.data_dir)
            .args(["--http-addr", &any_port, "--metrics-addr", &any_port])
            .args(&self.builder.args)
            .env("ORAMA_HOME", self.home.path())
            .stdin(Stdio::null());
        for (name, value) in &self.builder.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    async fn launch(&mut self) -> Result<Duration, Refusal> {
        self.begin();
        self.await_ready().await
    }

    /// Starts the process and does not wait for anything.
    pub fn begin(&mut self) {
        assert!(self.child.is_none(), "the node runs already");
        self.starts += 1;
        let child = self
            .command()
            .stdout(
                File::create(self.log_file(self.starts, "stdout")).expect("the node's stdout file"),
            )
            .stderr(
                File::create(self.log_file(self.starts, "stderr")).expect("the node's stderr file"),
            )
            .spawn()
            .expect("starting the node");
        self.child = Some(child);
        self.began = Instant::now();
    }

    /// The addresses the node has announced on its stdout since its start.
    fn announced(&self, mark: &str) -> Option<String> {
        let said = std::fs::read_to_string(self.log_file(self.starts, "stdout")).ok()?;
        said.lines()
            .filter_map(|line| line.split_once(mark))
            .find_map(|(_, rest)| rest.split_whitespace().next().map(str::to_owned))
            // A line that is still being written has no end yet.
            .filter(|_| said.ends_with('\n'))
    }
    /// The mesh address of this start, once it was announced.
    pub fn mesh_address(&self) -> Option<String> {
        self.announced("mesh on ")
    }

    /// Waits until the process started last is ready; answers how long it took.
    pub async fn await_ready(&mut self) -> Result<Duration, Refusal> {
        loop {
            let ended = self
                .child
                .as_mut()
                .and_then(|c| c.try_wait().expect("the node's state"));
            if ended.is_some() || self.began.elapsed() > self.builder.ready_within {
                if ended.is_none() {
                    self.kill();
                }
                self.child = None;
                self.refused.push(self.starts);
                return Err(Refusal {
                    status: ended,
                    stderr: self.log_of(self.starts),
                });
            }
            if let (Some(gateway), Some(metrics)) = (
                self.announced("listening on http://"),
                self.announced("metrics on http://"),
            ) {
                *self.base.lock() = format!("http://{gateway}");
                self.metrics = format!("http://{metrics}");
                if self.is_ready().await {
                    return Ok(self.began.elapsed());
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Whether `/readyz` answers 200.
    pub async fn is_ready(&self) -> bool {
        let url = format!("{}/readyz", self.metrics);
        match self.http.get(url).send().await {
            Ok(answer) => answer.status() == 200,
            Err(_) => false,
        }
    }

    /// SIGKILL, and waits for the end of the process.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killing the node");
            let status = child.wait().expect("the node's end");
            assert!(
                status.signal() == Some(9) || status.success(),
                "the node had ended by itself before it was killed: {status}\n{}",
                self.log_tail()
            );
        }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let child = self.child.as_ref().expect("the node runs");
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, signal).expect("sending a signal");
    }
    /// Sends SIGTERM and does not wait.
    pub fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }
    /// SIGSTOP: the process stands still and its connections stay open.
    pub fn pause(&self) {
        self.signal(rustix::process::Signal::STOP);
    }
    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(rustix::process::Signal::CONT);
    }
    /// Whether there is a process.
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Waits for the process to end by itself.
    pub async fn wait(&mut self, limit: Duration) -> ExitStatus {
        let began = Instant::now();
        let mut child = self.child.take().expect("the node runs");
        loop {
            if let Some(status) = child.try_wait().expect("the node's state") {
                return status;
            }
            if began.elapsed() > limit {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the node did not end in {limit:?}\n{}", self.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// SIGTERM; the node must end with exit code 0.
    pub async fn stop(&mut self) {
        self.terminate();
        let status = self.wait(Duration::from_secs(40)).await;
        assert!(
            status.success(),
            "SIGTERM must end in exit code 0, got {status}\n{}",
            self.log_tail()
        );
    }

    /// Starts the node again on the same data directory; answers the time to ready.
    pub async fn start_again(&mut self) -> Duration {
        match self.try_start_again().await {
            Ok(took) => took,
            Err(refusal) => panic!(
                "the node did not start again ({:?}); its stderr:\n{}",
                refusal.status, refusal.stderr
            ),
        }
    }
    /// Starts the node again; answers why when it ends before it is ready.
    pub async fn try_start_again(&mut self) -> Result<Duration, Refusal> {
        self.launch().await
    }
    /// SIGKILL and a new start.
    pub async fn crash_and_restart(&mut self) -> Duration {
        self.kill();
        self.start_again().await
    }
    /// Changes the settings of the next start.
    pub fn reconfigure(&mut self, change: impl FnOnce(NodeBuilder) -> NodeBuilder) {
        self.builder = change(std::mem::take(&mut self.builder));
    }

    /// A second process with the same settings on the same data directory; answers how it ended.
    pub async fn rival(&self) -> Refusal {
        let mut command = tokio::process::Command::from(self.command());
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let output = tokio::time::timeout(Duration::from_secs(20), command.output())
            .await
            .expect("a second node on the same directory must end by itself")
            .expect("starting a second node");
        Refusal {
            status: Some(output.status),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// A request with the administrator's token.
    pub async fn admin(
        &self,
        method: Method,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> Reply {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.url()))
            .bearer_auth(ADMIN_TOKEN);
        if let Some(body) = body {
            request = request.json(&body);
        }
        send(request).await
    }
    /// A request without any credential.
    pub async fn anonymous(&self, method: Method, path: &str, body: impl Into<Vec<u8>>) -> Reply {
        let url = format!("{}{path}", self.url());
        send(self.http.request(method, url).body(body.into())).await
    }

    /// A namespace that was made elsewhere, through this node.
    pub fn tenant_of(&self, tenant: &Tenant) -> Tenant {
        Tenant::new(
            self.base.clone(),
            self.http.clone(),
            &tenant.namespace,
            &tenant.credential,
        )
    }
    /// A request with the administrator's token, not yet sent; follows the node over restarts.
    pub fn admin_request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.gateway().request(method, path)
    }
    /// The administrator's way to this node, for tasks of their own.
    pub fn gateway(&self) -> Gateway {
        Gateway {
            base: self.base.clone(),
            http: self.http.clone(),
        }
    }

    /// Makes a namespace; its key comes with it.
    pub async fn tenant(&self, namespace: &str) -> Tenant {
        let reply = self
            .admin(
                Method::POST,
                "/v1/admin/namespaces",
                Some(json!({ "name": namespace })),
            )
            .await;
        let made: CreateNamespaceResponse = reply.expect(201).parse();
        assert_eq!(made.namespace, namespace);
        Tenant::new(
            self.base.clone(),
            self.http.clone(),
            namespace,
            &made.api_key,
        )
    }

    /// The same namespace through a token of one of its users.
    pub async fn user(&self, tenant: &Tenant, subject: &str, custom: serde_json::Value) -> Tenant {
        let path = format!("/v1/admin/namespaces/{}/tokens", tenant.namespace);
        let body = json!({ "subject": subject, "custom": custom, "expires_in": 900 });
        let reply = self.admin(Method::POST, &path, Some(body)).await;
        assert!(
            [200, 201].contains(&reply.status),
            "minting a token: {reply:?}"
        );
        let token: TokenResponse = reply.parse();
        tenant.with_credential(&token.access_token)
    }

    /// The state of the master keys.
    pub async fn master_keys(&self) -> MasterKeyStatus {
        self.admin(Method::GET, "/v1/admin/master-key", None)
            .await
            .expect(200)
            .parse()
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
