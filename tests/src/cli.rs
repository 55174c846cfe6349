//! The command line, in a home of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::client::Tenant;
use crate::guests;
use crate::node::orama_binary;

/// Runs `orama` with an isolated `ORAMA_HOME`.
pub struct Orama {
    home: TempDir,
    env: Vec<(String, String)>,
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Said {
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// Its stdout.
    pub stdout: String,
    /// Its stderr.
    pub stderr: String,
}

impl Default for Orama {
    fn default() -> Self {
        Self::new()
    }
}

impl Orama {
    /// A home with nothing in it.
    pub fn new() -> Self {
        let home = tempfile::Builder::new()
            .prefix("orama-home-")
            .tempdir()
            .expect("a temporary directory");
        let go = guests::go_toolchain();
        let mut path = vec![go.parent().expect("the toolchain's directory").to_owned()];
        path.extend(std::env::split_paths(
            &std::env::var_os("PATH").unwrap_or_default(),
        ));
        let path = std::env::join_paths(path).expect("a PATH");
        let mut env = vec![("PATH".to_owned(), path.to_string_lossy().into_owned())];
        env.extend(
            guests::go_environment()
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value)),
        );
        Self { home, env }
    }
    /// Talks to this tenant's node with its credential.
    pub fn of(tenant: &Tenant) -> Self {
        Self::new()
            .env("ORAMA_API_URL", tenant.url())
            .env("ORAMA_TOKEN", &tenant.credential)
    }
    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
    /// The home, in which commands run unless they are told otherwise.
    pub fn home(&self) -> &Path {
        self.home.path()
    }
    /// A command that is not started yet.
    pub fn command(&self, dir: &Path, args: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(orama_binary());
        command
            .args(args)
            .current_dir(dir)
            .env("HOME", self.home())
            .env("ORAMA_HOME", self.home().join(".orama"))
            .env_remove("ORAMA_API_URL")
            .env_remove("ORAMA_GATEWAY_URL")
            .env_remove("ORAMA_TOKEN")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
    /// Runs a command in this directory.
    pub async fn run_in(&self, dir: impl Into<PathBuf>, args: &[&str]) -> Said {
        let output = self.command(&dir.into(), args).output();
        let output = tokio::time::timeout(Duration::from_secs(180), output)
            .await
            .unwrap_or_else(|_| panic!("orama {args:?} did not end"))
            .expect("running orama");
        let said = Said {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        assert!(
            !said.stderr.contains("panicked at"),
            "orama {args:?} panicked: {said:?}"
        );
        said
    }
    /// Runs a command in the home.
    pub async fn run(&self, args: &[&str]) -> Said {
        self.run_in(self.home(), args).await
    }
    /// Runs a command that must succeed; answers its stdout.
    pub async fn ok(&self, args: &[&str]) -> String {
        self.ok_in(self.home(), args).await
    }
    /// Runs a command in this directory that must succeed; answers its stdout.
    pub async fn ok_in(&self, dir: impl Into<PathBuf>, args: &[&str]) -> String {
        let said = self.run_in(dir, args).await;
        assert_eq!(said.code, 0, "orama {args:?}: {said:?}");
        said.stdout
    }
    /// Runs a command with `--json` that must succeed; answers what it printed.
    pub async fn json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let said = self.ok(&args).await;
        serde_json::from_str(&said).unwrap_or_else(|e| panic!("orama {args:?} ({e}): {said}"))
    }
}

impl Said {
    /// Fails the test unless the exit code is this one and something was said on stderr.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        if code != 0 {
            assert!(
                !self.stderr.trim().is_empty(),
                "a failure says why: {self:?}"
            );
        }
        self
    }
    /// Both streams.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}
