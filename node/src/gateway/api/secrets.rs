//! Secrets of a namespace (CONTRACT 2.9). Values come in and never go out.

use actix_web::HttpResponse;
use orama_proto::api::{SecretList, SetSecretRequest};
use orama_proto::limits::JSON_BODY_MAX_BYTES;
use orama_proto::{ApiError, SecretName};
use serde::Serialize;
use zeroize::Zeroizing;

use super::Api;
use crate::gateway::body::{self, parse_json};
use crate::gateway::front::Call;
use crate::gateway::respond;

#[derive(Serialize)]
struct SecretAnswer<'a> {
    message: &'a str,
    name: &'a str,
    namespace: &'a str,
}

impl Api {
    pub(super) async fn list_secrets(&self, call: &Call) -> Result<HttpResponse, ApiError> {
        self.fresh(call).await?;
        let names = self.platform.meta().secrets(&call.namespace()?);
        respond::ok(&SecretList {
            count: names.len(),
            secrets: names.into_iter().map(String::from).collect(),
        })
    }

    pub(super) async fn set_secret(&self, mut call: Call) -> Result<HttpResponse, ApiError> {
        let namespace = call.namespace()?;
        body::refuse_encoding(call.request.headers())?;
        let body = call.read(JSON_BODY_MAX_BYTES, "the request body").await?;
        let asked: SetSecretRequest = parse_json("secret", &body)?;
        let value = Zeroizing::new(asked.value.into_bytes());
        if asked.name.is_empty() {
            return Err(ApiError::validation("secret name required"));
        }
        let name = SecretName::parse(&asked.name)?;
        self.platform
            .set_secret(&call.request_id, &namespace, &name, value)
            .await?;
        respond::ok(&SecretAnswer {
            message: "Secret set",
            name: name.as_str(),
            namespace: namespace.as_str(),
        })
    }

    pub(super) async fn delete_secret(&self, call: &Call) -> Result<HttpResponse, ApiError> {
        let namespace = call.namespace()?;
        let name = SecretName::parse(call.capture(0))?;
        self.platform
            .delete_secret(&call.request_id, &namespace, &name)
            .await?;
        respond::ok(&SecretAnswer {
            message: "Secret deleted",
            name: name.as_str(),
            namespace: namespace.as_str(),
        })
    }
}
