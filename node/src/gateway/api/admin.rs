//! `/v1/admin`: namespaces, keys, tokens, master keys, actors (CONTRACT 14.2).

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use orama_proto::api::{
    ActorInfo, CreateKeyRequest, CreateKeyResponse, CreateNamespaceRequest,
    CreateNamespaceResponse, CreateTokenRequest, KeyInfo, KeyList, Message, NamespaceList,
};
use orama_proto::limits::JSON_BODY_MAX_BYTES;
use orama_proto::{ApiError, Namespace};
use serde::Serialize;

use super::Api;
use super::identity::{TOKEN_LIFE_SECS, token_response};
use crate::gateway::body::{self, parse_json};
use crate::gateway::front::Call;
use crate::gateway::respond;

#[derive(Serialize)]
struct ActorList {
    actors: Vec<ActorInfo>,
    count: usize,
}

impl Api {
    pub(super) async fn list_namespaces(&self, call: &Call) -> Result<HttpResponse, ApiError> {
        self.fresh(call).await?;
        let namespaces = self.platform.meta().namespaces();
        respond::ok(&NamespaceList {
            count: namespaces.len(),
            namespaces,
        })
    }

    pub(super) async fn create_namespace(&self, call: Call) -> Result<HttpResponse, ApiError> {
        let request_id = call.request_id.clone();
        let asked: CreateNamespaceRequest = body_of(call, "namespace").await?;
        let namespace = Namespace::parse(&asked.name)?;
        let key = self
            .platform
            .create_namespace(&request_id, &namespace)
            .await?;
        respond::json(
            StatusCode::CREATED,
            &CreateNamespaceResponse {
                namespace: namespace.into(),
                api_key: key.as_str().to_owned(),
            },
        )
    }

    pub(super) async fn delete_namespace(&self, call: &Call) -> Result<HttpResponse, ApiError> {
        let namespace = Namespace::parse(call.capture(0))?;
        self.platform
            .delete_namespace(&call.request_id, &namespace)
            .await?;
        message("Namespace deleted")
    }

    pub(super) async fn list_keys(&self, call: &Call) -> Result<HttpResponse, ApiError> {
        self.fresh(call).await?;
        let namespace = self.existing(call).await?;
        let keys: Vec<KeyInfo> = self
            .platform
            .meta()
            .api_keys(&namespace)
            .iter()
            .map(|key| KeyInfo {
                id: key.id.clone(),
                label: key.label.clone(),
                created_at: key.created_at,
            })
            .collect();
        respond::ok(&KeyList {
            count: keys.len(),
            keys,
        })
    }

    pub(super) async fn create_key(&self, mut call: Call) -> Result<HttpResponse, ApiError> {
        let namespace = self.existing(&call).await?;
        body::refuse_encoding(call.request.headers())?;
        let body = call.read(JSON_BODY_MAX_BYTES, "the request body").await?;
        // The label is all there is to say, so saying nothing is allowed.
        let asked = if body.is_empty() {
            CreateKeyRequest::default()
        } else {
            parse_json("key", &body)?
        };
        let (record, key) = self
            .platform
            .create_key(&call.request_id, &namespace, &asked.label)
            .await?;
        respond::json(
            StatusCode::CREATED,
            &CreateKeyResponse {
                id: record.id,
                namespace: namespace.into(),
                api_key: key.as_str().to_owned(),
            },
        )
    }

    pub(super) async fn revoke_key(&self, call: &Call) -> Result<HttpResponse, ApiError> {
        let namespace = self.existing(call).await?;
        self.platform
            .revoke_key(&call.request_id, &namespace, call.capture(1))
            .await?;
        message("API key revoked")
    }

    pub(super) async fn create_token(&self, call: Call) -> Result<HttpResponse, ApiError> {
        let namespace = self.existing(&call).await?;
        let asked: CreateTokenRequest = body_of(call, "token").await?;
        let life = asked.expires_in.unwrap_or(TOKEN_LIFE_SECS);
        let token = self.platform.mint_token(
            &namespace,
            &asked.subject,
            asked.custom,
            Duration::from_secs(life),
        )?;
        respond::json(
            StatusCode::CREATED,
            &token_response(&token, life, namespace.as_str()),
        )
    }

    pub(super) async fn master_key_status(&self, call: &Call) -> Result<HttpResponse, ApiError> {
        self.fresh(call).await?;
        respond::ok(&self.platform.master_key_status())
    }

    pub(super) async fn rotate_master_key(&self, call: &Call) -> Result<HttpResponse, ApiError> {
        respond::ok(&self.platform.rotate_master_key(&call.request_id).await?)
    }

    pub(super) async fn actors(&self) -> Result<HttpResponse, ApiError> {
        let actors = self.platform.actors().await;
        respond::ok(&ActorList {
            count: actors.len(),
            actors,
        })
    }

    /// The namespace that the path names, if there is one. It may have been made
    /// on another node a moment ago, so that is made sure before a 404.
    async fn existing(&self, call: &Call) -> Result<Namespace, ApiError> {
        let namespace = Namespace::parse(call.capture(0))?;
        let there = || self.platform.meta().namespace(&namespace).is_some();
        if !there() {
            self.platform.confirm().await?;
        }
        if there() {
            Ok(namespace)
        } else {
            Err(ApiError::not_found(format!(
                "Namespace not found: \"{namespace}\""
            )))
        }
    }
}

pub(super) fn message(text: &str) -> Result<HttpResponse, ApiError> {
    respond::ok(&Message {
        message: text.to_owned(),
    })
}

pub(super) async fn body_of<T: serde::de::DeserializeOwned>(
    mut call: Call,
    what: &str,
) -> Result<T, ApiError> {
    body::refuse_encoding(call.request.headers())?;
    let body = call.read(JSON_BODY_MAX_BYTES, "the request body").await?;
    parse_json(what, &body)
}
