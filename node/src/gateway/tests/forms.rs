//! Deploy forms: right ones, hostile ones, and those that are cut off.

use actix_web::test::TestRequest;
use orama_proto::limits::WASM_MAX_BYTES;

use super::{Answer, send, with_key};

const BOUNDARY: &str = "xyzzy";

enum Part<'a> {
    Text(&'a str, &'a str),
    File(&'a str, usize),
}

fn form(parts: &[Part<'_>], closed: bool) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts {
        body.extend_from_slice(format!("--{BOUNDARY}\r\n").as_bytes());
        match part {
            Part::Text(name, text) => body.extend_from_slice(
                format!("Content-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
                    .as_bytes(),
            ),
            Part::File(name, size) => {
                body.extend_from_slice(
                    format!("Content-Disposition: form-data; name=\"{name}\"; filename=\"function.wasm\"\r\nContent-Type: application/wasm\r\n\r\n").as_bytes(),
                );
                body.extend(std::iter::repeat_n(b'w', *size));
                body.extend_from_slice(b"\r\n");
            }
        }
    }
    if closed {
        body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    }
    body
}

async fn upload(body: Vec<u8>) -> Answer {
    upload_as(&format!("multipart/form-data; boundary={BOUNDARY}"), body).await
}

async fn upload_as(kind: &str, body: Vec<u8>) -> Answer {
    let request = with_key(TestRequest::post().uri("/v1/functions"))
        .insert_header(("content-type", kind))
        .set_payload(body);
    send(request).await
}

#[actix_web::test]
async fn a_form_is_read() {
    let answer = upload(form(
        &[
            Part::Text("name", "echo"),
            Part::Text("is_public", "false"),
            Part::Text("memory_limit_mb", "32"),
            Part::Text("metadata", r#"{"env_vars":{"A":"1"}}"#),
            Part::File("wasm", 200_000),
        ],
        true,
    ))
    .await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({"name": "echo", "memory": 32, "wasm": 200_000})
    );
}

#[actix_web::test]
async fn hostile_forms_are_refused_by_name() {
    let name = || Part::Text("name", "echo");
    let long = "x".repeat(300_000);
    for (parts, status, expected) in [
        (vec![name()], 400, "WASM file required"),
        (
            vec![name(), Part::File("wasm", 0)],
            400,
            "WASM file required",
        ),
        (vec![Part::File("wasm", 9)], 400, "Function name required"),
        (
            vec![name(), Part::File("wasm", 9), Part::File("wasm", 9)],
            400,
            "'wasm' is given twice",
        ),
        (
            vec![name(), name(), Part::File("wasm", 9)],
            400,
            "'name' is given twice",
        ),
        (
            vec![name(), Part::File("wsam", 9)],
            400,
            "unknown part \"wsam\"",
        ),
        (
            vec![name(), Part::Text("memory", "3")],
            400,
            "unknown part \"memory\"",
        ),
        (
            vec![Part::Text("name", "🚀"), Part::File("wasm", 9)],
            400,
            "function name",
        ),
        (
            vec![
                name(),
                Part::Text("namespace", "other"),
                Part::File("wasm", 9),
            ],
            403,
            "another namespace",
        ),
        (
            vec![name(), Part::Text("metadata", &long)],
            413,
            "the part 'metadata' is too large",
        ),
        (
            vec![
                name(),
                Part::Text("memory_limit_mb", "0"),
                Part::File("wasm", 9),
            ],
            400,
            "memory_limit_mb must be between 1 and 256 MB (got 0)",
        ),
        (
            vec![name(), Part::File("wasm", WASM_MAX_BYTES + 1)],
            413,
            "32 MiB",
        ),
    ] {
        let answer = upload(form(&parts, true)).await;
        let message = answer.error().message;
        assert_eq!(answer.status, status, "{message}");
        assert!(message.contains(expected), "{message} / {expected}");
    }
    let answer = upload(form(&[name(), Part::File("wasm", WASM_MAX_BYTES)], true)).await;
    assert_eq!(answer.status, 200);
}

#[actix_web::test]
async fn a_form_cut_anywhere_is_refused() {
    let whole = form(&[Part::Text("name", "echo"), Part::File("wasm", 50)], true);
    // The last line end may be missing.
    for length in 0..whole.len() - 2 {
        let answer = upload(whole[..length].to_vec()).await;
        assert_eq!(answer.status, 400, "{length}: {:?}", answer.body);
        answer.error();
    }
    assert_eq!(upload(whole[..whole.len() - 2].to_vec()).await.status, 200);
}

#[actix_web::test]
async fn a_part_with_its_own_length_does_not_hide_a_cut() {
    let body = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"name\"\r\nContent-Length: 4\r\n\r\necho\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"wasm\"; filename=\"f\"\r\nContent-Length: 3\r\n\r\nwww\r\n"
    );
    let answer = upload(body.clone().into_bytes()).await;
    assert!(answer.error().message.contains("ends early"));
    let answer = upload(format!("{body}--{BOUNDARY}--").into_bytes()).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
}

#[actix_web::test]
async fn other_bodies_get_upstreams_words() {
    let message = async |kind: &str, body: &str| upload_as(kind, body.into()).await.error().message;
    let json = "application/json";
    assert!(
        message(json, r#"{"name":"x","wasm_base64":"AGFzbQ=="}"#)
            .await
            .contains("Base64 WASM upload not supported, use multipart/form-data")
    );
    assert!(message(json, "{}").await.contains("WASM bytecode required"));
    assert!(
        message("text/plain", "hello")
            .await
            .contains("Failed to parse form")
    );
    assert!(
        message("multipart/form-data", "x")
            .await
            .contains("boundary")
    );
    assert!(
        message("multipart/form-data; boundary=", "x")
            .await
            .contains("boundary")
    );
    let long = format!("multipart/form-data; boundary={}", "b".repeat(71));
    assert!(message(&long, "x").await.contains("boundary"));
    assert!(
        message("nonsense", "x")
            .await
            .contains("Failed to parse form")
    );
}

#[actix_web::test]
async fn compressed_forms_are_refused() {
    let request = with_key(TestRequest::post().uri("/v1/functions"))
        .insert_header((
            "content-type",
            format!("multipart/form-data; boundary={BOUNDARY}"),
        ))
        .insert_header(("content-encoding", "gzip"))
        .set_payload(form(&[Part::Text("name", "echo")], true));
    assert!(
        send(request)
            .await
            .error()
            .message
            .contains("Content-Encoding")
    );
}
