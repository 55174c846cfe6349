//! Requests written byte by byte: truncated, malformed, or cut off.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::Reply;

/// The boundary of [`multipart`].
pub const BOUNDARY: &str = "----orama-test-boundary";

/// A multipart body: (name, file name, bytes), complete.
pub fn multipart(parts: &[(&str, Option<&str>, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file, bytes) in parts {
        body.extend_from_slice(
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"").as_bytes(),
        );
        if let Some(file) = file {
            body.extend_from_slice(
                format!("; filename=\"{file}\"\r\nContent-Type: application/wasm").as_bytes(),
            );
        }
        body.extend_from_slice(b"\r\n\r\n");
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

/// The head of a request; `announced` is its Content-Length.
pub fn head(
    method: &str,
    path: &str,
    credential: &str,
    content_type: &str,
    announced: usize,
) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {credential}\r\n\
         Content-Type: {content_type}\r\nContent-Length: {announced}\r\nConnection: close\r\n\r\n"
    )
    .into_bytes()
}

/// Sends these bytes on a connection of their own and reads the answer to its
/// end; `None` when the server closed without one.
pub async fn exchange(to: SocketAddr, bytes: &[u8]) -> Option<Reply> {
    let mut stream = TcpStream::connect(to).await.expect("a connection");
    // The server may answer and close before it has read everything; that is its right.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(30), read)
        .await
        .expect("an answer or a close in 30 s");
    parse(&answer)
}

/// Sends these bytes and hangs up at once.
pub async fn send_and_hang_up(to: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(to).await.expect("a connection");
    let _ = stream.write_all(bytes).await;
    let _ = stream.flush().await;
}

fn parse(answer: &[u8]) -> Option<Reply> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':')?;
        headers.append(
            HeaderName::from_bytes(name.trim().as_bytes()).ok()?,
            HeaderValue::from_str(value.trim()).ok()?,
        );
    }
    let mut body = answer[end + 4..].to_vec();
    if headers
        .get("transfer-encoding")
        .is_some_and(|v| v == "chunked")
    {
        body = unchunked(&body);
    }
    Some(Reply {
        status,
        headers,
        body,
    })
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(at) = bytes.windows(2).position(|w| w == b"\r\n") {
        let size = std::str::from_utf8(&bytes[..at]).unwrap_or("0");
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let start = at + 2;
        if size == 0 || bytes.len() < start + size + 2 {
            break;
        }
        body.extend_from_slice(&bytes[start..start + size]);
        bytes = &bytes[start + size + 2..];
    }
    body
}
