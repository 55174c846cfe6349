//! The peer: three local members of etcd, each a process of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::load::{Connection, Measured, Request, measure, together};

/// Three members; killed when this is dropped.
#[derive(Debug)]
pub struct Etcd {
    /// Where clients reach them.
    pub clients: Vec<SocketAddr>,
    /// The first line of `etcd --version`.
    pub version: String,
    members: Vec<Child>,
    _home: TempDir,
}

fn free() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

impl Etcd {
    /// Starts them and waits until they take writes; `None` when etcd is not installed.
    ///
    /// # Errors
    /// When a member does not start, or takes no write for half a minute.
    pub async fn start() -> anyhow::Result<Option<Self>> {
        let Ok(output) = Command::new("etcd").arg("--version").output() else {
            return Ok(None);
        };
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let home = tempfile::tempdir()?;
        let mut addresses = Vec::new();
        for _ in 0..3 {
            addresses.push((free()?, free()?));
        }
        let cluster: Vec<String> = addresses
            .iter()
            .enumerate()
            .map(|(i, (_, peer))| format!("m{i}=http://{peer}"))
            .collect();
        let mut etcd = Self {
            clients: addresses.iter().map(|(client, _)| *client).collect(),
            version: said.lines().next().unwrap_or_default().to_owned(),
            members: Vec::new(),
            _home: home,
        };
        for (i, (client, peer)) in addresses.iter().enumerate() {
            let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
            let child = Command::new("etcd")
                .args(["--name", &format!("m{i}"), "--log-level", "error"])
                .arg("--data-dir")
                .arg(etcd._home.path().join(format!("m{i}")))
                .args([
                    "--listen-client-urls",
                    &client,
                    "--advertise-client-urls",
                    &client,
                ])
                .args([
                    "--listen-peer-urls",
                    &peer,
                    "--initial-advertise-peer-urls",
                    &peer,
                ])
                .args([
                    "--initial-cluster",
                    &cluster.join(","),
                    "--initial-cluster-state",
                    "new",
                ])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .context("starting etcd")?;
            etcd.members.push(child);
        }
        let began = Instant::now();
        let body = Self::put_body("ready", "1");
        let request = Request::send("POST", "/v3/kv/put", None, body.as_bytes());
        for member in etcd.clients.clone() {
            loop {
                let tried = async { Connection::open(member).await?.exchange(&request).await };
                let Err(error) = tried.await else { break };
                ensure!(began.elapsed() < Duration::from_secs(30), "etcd: {error:#}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(Some(etcd))
    }

    /// `clients` clients that put values of `bytes` bytes, a third of them through each member.
    ///
    /// # Errors
    /// The first put that fails.
    pub async fn puts(
        &self,
        clients: usize,
        bytes: usize,
        length: Duration,
    ) -> anyhow::Result<Measured> {
        let mut tasks = JoinSet::new();
        for client in 0..clients {
            let body = Self::put_body(&format!("c{client}"), &"v".repeat(bytes));
            let request = Request::send("POST", "/v3/kv/put", None, body.as_bytes());
            let to = self.clients[client % self.clients.len()];
            tasks.spawn(async move { measure(to, &request, 1, length).await });
        }
        together(tasks).await
    }

    /// The body of a put in etcd's JSON.
    pub fn put_body(key: &str, value: &str) -> String {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        format!(r#"{{"key":"{}","value":"{}"}}"#, encode(key), encode(value))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}
