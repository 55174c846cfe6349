//! A gateway for tests: it answers from a script.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A gateway that answers what it was told to, in order, and remembers what it
/// was asked.
pub struct Scripted {
    pub url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    pub async fn start(answers: Vec<(u16, String)>) -> Self {
        Self::with_headers(answers, String::new()).await
    }

    pub async fn with_headers(answers: Vec<(u16, String)>, headers: String) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        tokio::spawn(async move {
            for (status, body) in answers {
                let (mut socket, _) = listener.accept().await.unwrap();
                let request = read_request(&mut socket).await;
                seen.lock().push(request);
                let answer = format!(
                    "HTTP/1.1 {status} X\r\nconnection: close\r\nx-request-id: hdr\r\nx-duration-ms: 7\r\n{headers}content-length: {}\r\n\r\n{body}",
                    body.len()
                );
                socket.write_all(answer.as_bytes()).await.unwrap();
                let _ = socket.shutdown().await;
            }
        });
        Self { url, requests }
    }

    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().clone()
    }
}

/// Head and body as text.
async fn read_request(socket: &mut tokio::net::TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text[..end]
                .lines()
                .find_map(|l| l.strip_prefix("content-length: ")?.trim().parse().ok())
                .unwrap_or(0);
            if text.contains("transfer-encoding: chunked") {
                if text.ends_with("0\r\n\r\n") {
                    break;
                }
            } else if bytes.len() >= end + 4 + length {
                break;
            }
        }
        let mut buffer = [0; 8192];
        match socket.read(&mut buffer).await.unwrap() {
            0 => break,
            n => bytes.extend_from_slice(&buffer[..n]),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
