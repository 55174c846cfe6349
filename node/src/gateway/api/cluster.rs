//! `/v1/admin/cluster`: who the cluster consists of, and the operations on it
//! (CONTRACT 14.2).

use std::borrow::Cow;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use orama_cluster::membership::Departure;
use orama_proto::api::{LeaveResponse, RegisterValue, TransferRequest};
use orama_proto::limits::JSON_BODY_MAX_BYTES;
use orama_proto::{ApiError, GroupId, NodeId};
use serde::Deserialize;

use super::Api;
use super::admin::{body_of, message};
use crate::gateway::body::{self, parse_json};
use crate::gateway::front::Call;
use crate::gateway::path;
use crate::gateway::respond;

/// Body of `POST /v1/admin/cluster/nodes/{node}/drain`; may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainRequest {
    /// Makes the node active again.
    #[serde(default)]
    undo: bool,
}

impl Api {
    pub(super) async fn cluster_status(&self) -> Result<HttpResponse, ApiError> {
        respond::ok(&self.platform.cluster_status().await)
    }

    pub(super) async fn drain_node(&self, mut call: Call) -> Result<HttpResponse, ApiError> {
        let asked = undo_of_query(path::query(call.request.query_string(), "undo")?)?;
        body::refuse_encoding(call.request.headers())?;
        let body = call.read(JSON_BODY_MAX_BYTES, "the request body").await?;
        let request = if body.is_empty() {
            DrainRequest::default()
        } else {
            parse_json("drain", &body)?
        };
        let undo = asked.unwrap_or(request.undo);
        let node = call.capture(0);
        self.platform
            .drain_member(&call.request_id, node, undo)
            .await?;
        message(&if undo {
            format!("Node \"{node}\" is active again")
        } else {
            format!("Node \"{node}\" is draining")
        })
    }

    pub(super) async fn remove_node(&self, call: &Call) -> Result<HttpResponse, ApiError> {
        let node = call.capture(0);
        let departure = self.platform.remove_member(&call.request_id, node).await?;
        let answered_by = self.platform.cluster().node_id();
        let (status, body) = leave_answer(node, departure, answered_by);
        respond::json(status, &body)
    }

    pub(super) async fn transfer_group(&self, call: Call) -> Result<HttpResponse, ApiError> {
        let group = group_of(call.capture(0))?;
        let request_id = call.request_id.clone();
        let asked: TransferRequest = body_of(call, "transfer").await?;
        if asked.node.is_empty() {
            return Err(ApiError::validation("node: must not be empty"));
        }
        self.platform
            .transfer(&request_id, group, &asked.node)
            .await?;
        message(&format!("Node \"{}\" leads {group}", asked.node))
    }

    pub(super) async fn get_register(&self, call: &Call) -> Result<HttpResponse, ApiError> {
        let group = group_of(call.capture(0))?;
        respond::ok(&self.platform.register(group, call.capture(1)).await?)
    }

    pub(super) async fn set_register(&self, call: Call) -> Result<HttpResponse, ApiError> {
        let group = group_of(call.capture(0))?;
        let key = call.capture(1).to_owned();
        let asked = checked(body_of(call, "register").await?)?;
        self.platform.set_register(group, &key, asked).await?;
        message("Register set")
    }
}

/// `?undo`, `?undo=1` or `?undo=true`, and the contrary.
fn undo_of_query(value: Option<Cow<'_, str>>) -> Result<Option<bool>, ApiError> {
    match value.as_deref() {
        None => Ok(None),
        Some("" | "1" | "true") => Ok(Some(true)),
        Some("0" | "false") => Ok(Some(false)),
        Some(_) => Err(ApiError::validation("undo: must be 1 or 0")),
    }
}

/// A group as a path names it: its number, `meta`, or `data-N`.
pub(super) fn group_of(text: &str) -> Result<GroupId, ApiError> {
    let named = text.strip_prefix("data-");
    let id = match text {
        "meta" => Some(0),
        _ => number(named.unwrap_or(text)),
    };
    // `data-0` would be another name of the metadata group.
    id.filter(|id| *id != 0 || named.is_none())
        .map(GroupId)
        .ok_or_else(|| {
            ApiError::validation("group: must be a group's number, \"meta\" or \"data-N\"")
        })
}

/// A number of digits alone: no sign.
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// What may be written to a register.
fn checked(asked: RegisterValue) -> Result<RegisterValue, ApiError> {
    if asked.value.is_none() {
        return Err(ApiError::validation("value: is required"));
    }
    if asked.if_value.is_some() && asked.if_absent {
        return Err(ApiError::validation(
            "if_value: cannot be given together with if_absent",
        ));
    }
    Ok(asked)
}

/// The platform answers when the node is gone or its patience is over; then
/// the cluster goes on with it by itself.
fn leave_answer(
    node: &str,
    departure: Departure,
    answered_by: NodeId,
) -> (StatusCode, LeaveResponse) {
    let (status, text) = if departure.gone {
        (StatusCode::OK, "has left the cluster")
    } else {
        (StatusCode::ACCEPTED, "is leaving")
    };
    let body = LeaveResponse {
        message: format!("Node \"{node}\" {text}"),
        id: departure.id.to_string(),
        gone: departure.gone,
        answered_by: answered_by.to_string(),
    };
    (status, body)
}

#[cfg(test)]
mod tests {
    use orama_proto::ErrorCode;

    use super::*;

    #[test]
    fn groups_have_numbers_and_names() {
        for (text, id) in [
            ("0", 0),
            ("meta", 0),
            ("3", 3),
            ("data-3", 3),
            ("data-256", 256),
        ] {
            assert_eq!(group_of(text).unwrap(), GroupId(id), "{text}");
        }
        for text in [
            "",
            "data",
            "data-",
            "data-0",
            "data-x",
            "-1",
            "+1",
            "4294967296",
            "Meta",
        ] {
            let error = group_of(text).unwrap_err();
            assert_eq!(error.code, ErrorCode::ValidationFailed, "{text}");
            assert!(error.message.starts_with("group: "), "{text}");
        }
    }

    #[test]
    fn undo_may_stand_in_the_query() {
        let undo = |query: &'static str| undo_of_query(path::query(query, "undo").unwrap());
        assert_eq!(undo("").unwrap(), None);
        assert_eq!(undo("undo").unwrap(), Some(true));
        assert_eq!(undo("undo=1").unwrap(), Some(true));
        assert_eq!(undo("x=2&undo=0").unwrap(), Some(false));
        assert!(undo("undo=yes").unwrap_err().message.starts_with("undo: "));
    }

    #[test]
    fn a_register_is_set_under_at_most_one_condition() {
        let value = |text: &str| -> RegisterValue { serde_json::from_str(text).unwrap() };
        assert!(checked(value(r#"{"value":"a"}"#)).is_ok());
        assert!(checked(value(r#"{"value":"a","if_value":"b"}"#)).is_ok());
        assert!(checked(value(r#"{"value":"a","if_absent":true}"#)).is_ok());
        let wrong = |text| checked(value(text)).unwrap_err().message;
        assert!(wrong("{}").starts_with("value: "));
        assert!(
            wrong(r#"{"value":"a","if_value":"b","if_absent":true}"#).starts_with("if_value: ")
        );
    }

    #[test]
    fn a_leave_is_answered_with_the_id_it_concerned() {
        let answer = |gone| {
            let departure = Departure {
                id: NodeId(7),
                gone,
            };
            leave_answer("n1", departure, NodeId(9))
        };
        let (status, body) = answer(false);
        assert_eq!((status.as_u16(), body.gone), (202, false));
        assert_eq!(body.id, "0000000000000007");
        assert_eq!(body.answered_by, "0000000000000009");
        assert_eq!(body.message, "Node \"n1\" is leaving");
        let (status, body) = answer(true);
        assert_eq!((status.as_u16(), body.gone), (200, true));
    }
}
