//! A node's process: starts, signals, its end.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::{Node, NodeBuilder, Refusal, orama_binary};

impl Node {
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

    pub(super) async fn launch(&mut self) -> Result<Duration, Refusal> {
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
}
