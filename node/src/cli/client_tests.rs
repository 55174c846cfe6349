//! The client against a server that answers from a script.

use super::*;
use crate::cli::error::Exit;
use crate::cli::scripted::Scripted;

fn client(url: &str) -> Client {
    let token = Token::new("ak_test:default".into());
    Client::new(Url::parse(url).unwrap(), Some(token)).unwrap()
}

#[tokio::test]
async fn error_answers_of_every_shape_become_one() {
    let envelope = r#"{"ok":false,"error":{"code":"NOT_FOUND","message":"no f","retryable":false,"request_id":"r1"},"message":"no f"}"#;
    for (status, body, code, message, id, exit) in [
        (404, envelope, "NOT_FOUND", "no f", "r1", Exit::NotFound),
        (
            401,
            r#"{"error":"missing API key"}"#,
            "",
            "missing API key",
            "hdr",
            Exit::Auth,
        ),
        (
            500,
            r#"{"request_id":"r2","status":"error","error":"trap"}"#,
            "",
            "trap",
            "r2",
            Exit::Error,
        ),
        (
            503,
            "<html>busy</html>",
            "",
            "<html>busy</html>",
            "hdr",
            Exit::Unavailable,
        ),
        (
            502,
            "",
            "",
            "the answer has no body",
            "hdr",
            Exit::Unavailable,
        ),
        (
            418,
            r#"{"error":{"code":"NEWER_CODE","message":"m"}}"#,
            "NEWER_CODE",
            "m",
            "hdr",
            Exit::Error,
        ),
        (302, "", "", "the answer has no body", "hdr", Exit::Error),
    ] {
        let server = Scripted::start(vec![(status, body.to_owned())]).await;
        let error = client(&server.url)
            .get(&["functions", "f"], &[])
            .await
            .err()
            .unwrap();
        assert_eq!(error.exit(), Some(exit), "{status} {body}");
        let CliError::Api(failure) = error else {
            panic!("{error}");
        };
        assert_eq!(
            (
                failure.status,
                failure.code.as_str(),
                failure.message.as_str()
            ),
            (status, code, message)
        );
        assert_eq!(failure.request_id.as_deref(), Some(id));
    }
}

#[tokio::test]
async fn names_are_one_segment_and_the_credential_is_sent() {
    let server = Scripted::start(vec![(200, "{}".into()), (200, "{}".into())]).await;
    let client = client(&format!("{}/base/", server.url));
    client
        .get(&["functions", "a/b?c#d é"], &[("q", "x&y")])
        .await
        .unwrap();
    client.delete(&["functions", "f@2"]).await.unwrap();
    let requests = server.requests();
    assert!(
        requests[0].starts_with("GET /base/v1/functions/a%2Fb%3Fc%23d%20%C3%A9?q=x%26y HTTP/1.1"),
        "{}",
        requests[0]
    );
    assert!(requests[0].contains("\r\nauthorization: Bearer ak_test:default\r\n"));
    assert!(requests[1].starts_with("DELETE /base/v1/functions/f@2 "));
    for dots in ["", ".", ".."] {
        let error = client.delete(&["functions", dots]).await.err().unwrap();
        assert_eq!(error.exit(), Some(Exit::Usage));
    }
}

#[tokio::test]
async fn a_redirect_takes_the_credential_nowhere() {
    let other = Scripted::start(vec![(200, "{}".into())]).await;
    let location = format!("location: {}/v1/functions\r\n", other.url);
    let server = Scripted::with_headers(vec![(307, String::new())], location).await;
    assert!(client(&server.url).get(&["functions"], &[]).await.is_err());
    assert_eq!(other.requests().len(), 0);
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_unavailable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = client(&url).get(&["functions"], &[]).await.err().unwrap();
    assert_eq!(error.exit(), Some(Exit::Unavailable));
    assert!(
        error.to_string().contains(&url) && error.hint().is_some(),
        "{error}"
    );
}

#[test]
fn only_loopback_skips_the_proxy() {
    for (url, loopback) in [
        ("http://localhost:1", true),
        ("http://127.9.9.9", true),
        ("http://[::1]:2", true),
        ("http://10.0.0.1", false),
        ("http://localhost.evil.test", false),
    ] {
        assert_eq!(is_loopback(&Url::parse(url).unwrap()), loopback, "{url}");
    }
}
