//! Answers of `/v1/rqlite/*`. Rows are JSON when they come and go out as they
//! are, so that integers stay exact and nothing is read twice.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use bytes::Bytes;
use orama_proto::limits::{SQL_RESULT_MAX_BYTES, SQL_ROWS_MAX};
use orama_proto::sql::{OpDone, OpKind, Rows, SqlError};
use orama_proto::{ApiError, ErrorCode, RequestId};
use serde::Serialize;

use crate::gateway::respond;

/// A result that was cut is none: whoever reads it would take it for all there is.
fn whole(rows: Rows) -> Result<Rows, ApiError> {
    if !rows.cut {
        return Ok(rows);
    }
    Err(ApiError::new(
        ErrorCode::PayloadTooLarge,
        format!(
            "the result has more than the {SQL_ROWS_MAX} rows or {SQL_RESULT_MAX_BYTES} bytes that are answered at most; use LIMIT"
        ),
    ))
}

/// `{"items":[…],"count":N,"columns":[…]}`.
///
/// # Errors
/// 413 for a result that was cut.
pub(super) fn items(rows: Rows, name: &str) -> Result<HttpResponse, ApiError> {
    let rows = whole(rows)?;
    let tail = format!(
        ",\"count\":{},\"columns\":{}}}",
        rows.count,
        json(&rows.columns)?
    );
    let parts = vec![
        format!("{{\"{name}\":").into(),
        Bytes::from(rows.json),
        tail.into(),
    ];
    Ok(respond::json_parts(StatusCode::OK, parts))
}

/// The only row as an object; 404 without one.
///
/// # Errors
/// 404.
pub(super) fn object(rows: Rows) -> Result<HttpResponse, ApiError> {
    let (row, _) = only(rows)?;
    Ok(respond::json_bytes(StatusCode::OK, row))
}

/// The only row as an object, and once more in `items`: the service gives the
/// object, the SDK of it reads `items`. A column of that name goes before.
///
/// # Errors
/// 404.
pub(super) fn object_and_items(rows: Rows) -> Result<HttpResponse, ApiError> {
    let (row, columns) = only(rows)?;
    if columns.iter().any(|column| column == "items") {
        return Ok(respond::json_bytes(StatusCode::OK, row));
    }
    let open = row.slice(..row.len() - 1);
    let comma: &[u8] = if columns.is_empty() { b"" } else { b"," };
    let parts = vec![
        open,
        Bytes::from_static(comma),
        Bytes::from_static(b"\"items\":["),
        row,
        Bytes::from_static(b"]}"),
    ];
    Ok(respond::json_parts(StatusCode::OK, parts))
}

fn only(rows: Rows) -> Result<(Bytes, Vec<String>), ApiError> {
    let rows = whole(rows)?;
    let json = Bytes::from(rows.json);
    let inner = json.strip_prefix(b"[").and_then(|j| j.strip_suffix(b"]"));
    match inner.map(<[u8]>::trim_ascii) {
        Some(row) if row.starts_with(b"{") && row.ends_with(b"}") => {
            Ok((json.slice_ref(row), rows.columns))
        }
        _ => Err(ApiError::not_found("not found: no row fits")),
    }
}

/// `{"rows_affected":1,"last_insert_id":7,"execution_state":"ok"}`, with `rows`
/// when the statement returns some. It has happened, so a cut is told beside
/// them and is no error.
///
/// # Errors
/// 500.
pub(super) fn executed(done: OpDone) -> Result<HttpResponse, ApiError> {
    let mut body = effect(&done).into_bytes();
    body.extend_from_slice(b",\"execution_state\":\"ok\"");
    push_rows(&mut body, done.rows);
    body.push(b'}');
    Ok(respond::json_bytes(StatusCode::OK, body.into()))
}

/// An object that is still open.
fn effect(done: &OpDone) -> String {
    format!(
        "{{\"rows_affected\":{},\"last_insert_id\":{}",
        done.rows_affected, done.last_insert_id
    )
}

fn push_rows(body: &mut Vec<u8>, rows: Option<Rows>) {
    if let Some(rows) = rows {
        body.extend_from_slice(b",\"rows\":");
        body.extend_from_slice(&rows.json);
        if rows.cut {
            body.extend_from_slice(b",\"rows_cut\":true");
        }
    }
}

/// `{"status":"ok","results":[…]}`: of an `exec` what [`executed`] has, of a
/// `query` its rows. `cut` lists the results that are not all there is.
///
/// # Errors
/// 500.
pub(super) fn committed(done: Vec<OpDone>, results: bool) -> Result<HttpResponse, ApiError> {
    if !results {
        return respond::ok(&serde_json::json!({"status": "ok"}));
    }
    let mut body = b"{\"status\":\"ok\",\"results\":[".to_vec();
    let mut cut = Vec::new();
    for (index, one) in done.into_iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        if one.rows.as_ref().is_some_and(|rows| rows.cut) {
            cut.push(index);
        }
        match one.kind {
            OpKind::Query => match one.rows {
                Some(rows) => body.extend_from_slice(&rows.json),
                None => body.extend_from_slice(b"[]"),
            },
            OpKind::Exec => {
                body.extend_from_slice(effect(&one).as_bytes());
                push_rows(&mut body, one.rows);
                body.push(b'}');
            }
        }
    }
    body.push(b']');
    if !cut.is_empty() {
        body.extend_from_slice(b",\"cut\":");
        body.extend_from_slice(json(&cut)?.as_bytes());
    }
    body.push(b'}');
    Ok(respond::json_bytes(StatusCode::OK, body.into()))
}

/// 409 in the shape that clients of Orama read (CONTRACT 2.10): `error` is a
/// text and `code` is SQL's; `message` and `request_id` are as in every error.
///
/// # Errors
/// 500.
pub(super) fn rolled_back(
    failed: u32,
    error: &SqlError,
    request_id: &RequestId,
) -> Result<HttpResponse, ApiError> {
    #[derive(Serialize)]
    struct Body<'a> {
        ok: bool,
        status: &'static str,
        failed_index: u32,
        error: &'a str,
        code: &'static str,
        message: &'a str,
        request_id: &'a str,
    }
    respond::json(
        StatusCode::CONFLICT,
        &Body {
            ok: false,
            status: "rollback",
            failed_index: failed,
            error: &error.message,
            code: error.code.as_str(),
            message: &error.message,
            request_id: request_id.as_str(),
        },
    )
}

fn json(value: &impl Serialize) -> Result<String, ApiError> {
    serde_json::to_string(value)
        .map_err(|_| ApiError::new(ErrorCode::Internal, "the answer cannot be written"))
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;
    use orama_proto::sql::SqlCode;

    use super::*;

    fn rows(json: &str, columns: &[&str], count: u64) -> Rows {
        Rows {
            columns: columns.iter().map(|c| (*c).to_owned()).collect(),
            json: json.as_bytes().to_vec(),
            count,
            cut: false,
        }
    }

    async fn text(response: Result<HttpResponse, ApiError>) -> String {
        let response = response.unwrap();
        assert_eq!(
            response.headers().get("content-type").unwrap(),
            "application/json"
        );
        let body = to_bytes(response.into_body()).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[actix_web::test]
    async fn rows_go_out_as_they_came() {
        let exact = rows(r#"[{"n":9223372036854775807}]"#, &["n"], 1);
        assert_eq!(
            text(items(exact, "items")).await,
            r#"{"items":[{"n":9223372036854775807}],"count":1,"columns":["n"]}"#
        );
        let none = rows("[]", &["a\"b"], 0);
        assert_eq!(
            text(items(none, "tables")).await,
            r#"{"tables":[],"count":0,"columns":["a\"b"]}"#
        );
        // Too long to be copied together: the pieces are the same text.
        let long = format!("[{{\"t\":\"{}\"}}]", "x".repeat(100_000));
        let body = text(items(rows(&long, &["t"], 1), "items")).await;
        assert_eq!(
            body,
            format!(r#"{{"items":{long},"count":1,"columns":["t"]}}"#)
        );
    }

    #[actix_web::test]
    async fn one_row_is_an_object() {
        let row = || rows(r#"[{"count":3}]"#, &["count"], 1);
        assert_eq!(text(object(row())).await, r#"{"count":3}"#);
        assert_eq!(
            text(object_and_items(row())).await,
            r#"{"count":3,"items":[{"count":3}]}"#
        );
        let named = rows(r#"[{"items":3}]"#, &["items"], 1);
        assert_eq!(text(object_and_items(named)).await, r#"{"items":3}"#);
        let none = object(rows("[]", &["a"], 0)).unwrap_err();
        assert_eq!(none.code.status(), 404);
    }

    #[test]
    fn a_cut_result_is_refused_with_the_limits() {
        let mut cut = rows("[]", &[], 0);
        cut.cut = true;
        let error = items(cut, "items").unwrap_err();
        assert_eq!(error.code.status(), 413);
        assert!(error.message.contains("10000 rows"), "{error}");
        assert!(error.message.contains("33554432 bytes"), "{error}");
    }

    #[actix_web::test]
    async fn effects_have_upstreams_shape() {
        let done = |rows| OpDone {
            kind: OpKind::Exec,
            rows_affected: 2,
            last_insert_id: -1,
            rows,
        };
        assert_eq!(
            text(executed(done(None))).await,
            r#"{"rows_affected":2,"last_insert_id":-1,"execution_state":"ok"}"#
        );
        let returned = Some(rows(r#"[{"id":1}]"#, &["id"], 1));
        assert_eq!(
            text(executed(done(returned.clone()))).await,
            r#"{"rows_affected":2,"last_insert_id":-1,"execution_state":"ok","rows":[{"id":1}]}"#
        );
        let mut query = done(returned);
        query.kind = OpKind::Query;
        if let Some(rows) = &mut query.rows {
            rows.cut = true;
        }
        let all = vec![done(None), query];
        assert_eq!(
            text(committed(all.clone(), true)).await,
            r#"{"status":"ok","results":[{"rows_affected":2,"last_insert_id":-1},[{"id":1}]],"cut":[1]}"#
        );
        assert_eq!(text(committed(all, false)).await, r#"{"status":"ok"}"#);
    }

    #[actix_web::test]
    async fn a_rollback_says_which_and_why() {
        let error = SqlError::new(SqlCode::ConstraintViolation, "UNIQUE: t.id");
        let response = rolled_back(3, &error, &RequestId::from("r1")).unwrap();
        assert_eq!(response.status(), 409);
        let body: serde_json::Value = serde_json::from_str(&text(Ok(response)).await).unwrap();
        assert_eq!(
            body,
            serde_json::json!({"ok": false, "status": "rollback", "failed_index": 3,
                "error": "UNIQUE: t.id", "code": "CONSTRAINT_VIOLATION",
                "message": "UNIQUE: t.id", "request_id": "r1"})
        );
    }
}
