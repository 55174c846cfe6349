//! A load generator: keep-alive connections that repeat one request, minimal
//! HTTP/1.1 on bare sockets, every answer's length and status checked.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::figures::{Latencies, shown};

/// What was measured.
#[derive(Debug)]
pub struct Measured {
    /// Answers per second.
    pub per_second: f64,
    /// How long each took.
    pub latencies: Latencies,
}

impl Measured {
    /// Columns of a table: answers per second, median, 99th percentile.
    pub fn columns(&self) -> String {
        format!(
            "{:.0} | {} | {}",
            self.per_second,
            shown(self.latencies.percentile(0.5)),
            shown(self.latencies.percentile(0.99))
        )
    }
}

/// A request to repeat.
#[derive(Debug, Clone)]
pub struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// GET.
    pub fn get(path: &str) -> Self {
        let bytes = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
        Self { bytes }
    }
    /// POST of a JSON body with a bearer credential.
    pub fn post(path: &str, credential: &str, body: &[u8]) -> Self {
        Self::send("POST", path, Some(credential), body)
    }
    /// Any method with a JSON body, with or without a bearer credential.
    pub fn send(method: &str, path: &str, credential: Option<&str>, body: &[u8]) -> Self {
        let credential = credential
            .map(|credential| format!("Authorization: Bearer {credential}\r\n"))
            .unwrap_or_default();
        let mut bytes = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{credential}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        Self { bytes }
    }
}

/// One keep-alive connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn open(to: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(to).await.context("connecting")?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: vec![0; 16 * 1024],
        })
    }
    /// Sends the request and reads the answer; its body must have been announced and the status 200.
    ///
    /// # Errors
    /// Any other answer.
    pub async fn exchange(&mut self, request: &Request) -> anyhow::Result<()> {
        self.stream.write_all(&request.bytes).await?;
        let mut filled = 0;
        loop {
            ensure!(
                filled < self.buffer.len(),
                "the answer is too long for this generator"
            );
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            ensure!(read > 0, "the server hung up");
            filled += read;
            let answer = &self.buffer[..filled];
            let Some(end) = answer.windows(4).position(|w| w == b"\r\n\r\n") else {
                continue;
            };
            if !answer.starts_with(b"HTTP/1.1 200") {
                bail!("not a 200: {}", String::from_utf8_lossy(answer));
            }
            let length = content_length(&answer[..end]).context("no Content-Length")?;
            if filled >= end + 4 + length {
                return Ok(());
            }
        }
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    head.split(|b| *b == b'\n').find_map(|line| {
        let name = line.get(..NAME.len())?;
        if !name.eq_ignore_ascii_case(NAME) {
            return None;
        }
        std::str::from_utf8(&line[NAME.len()..])
            .ok()?
            .trim()
            .parse()
            .ok()
    })
}

/// Repeats the request on `connections` connections for this long.
///
/// # Errors
/// The first answer that is not a 200.
pub async fn measure(
    to: SocketAddr,
    request: &Request,
    connections: usize,
    length: Duration,
) -> anyhow::Result<Measured> {
    let began = Instant::now();
    let end = began + length;
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let request = request.clone();
        tasks.push(tokio::spawn(async move {
            let mut connection = Connection::open(to).await?;
            let mut nanos = Vec::new();
            loop {
                let sent = Instant::now();
                if sent >= end {
                    return anyhow::Ok(nanos);
                }
                connection.exchange(&request).await?;
                nanos.push(u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX));
            }
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await??);
    }
    let took = began.elapsed().as_secs_f64();
    Ok(Measured {
        per_second: all.len() as f64 / took,
        latencies: Latencies::new(all),
    })
}

/// The sum of what single clients measured.
///
/// # Errors
/// The first client's that failed.
pub async fn together(mut tasks: JoinSet<anyhow::Result<Measured>>) -> anyhow::Result<Measured> {
    let (mut per_second, mut all) = (0.0, Vec::new());
    while let Some(done) = tasks.join_next().await {
        let measured = done??;
        per_second += measured.per_second;
        all.extend(measured.latencies.into_nanos());
    }
    Ok(Measured {
        per_second,
        latencies: Latencies::new(all),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_found_in_any_case() {
        assert_eq!(
            content_length(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nx: y"),
            Some(12)
        );
        assert_eq!(
            content_length(b"HTTP/1.1 200 OK\r\ncontent-length:7"),
            Some(7)
        );
        assert_eq!(
            content_length(b"HTTP/1.1 200 OK\r\nx: content-length: 7"),
            None
        );
    }
}
