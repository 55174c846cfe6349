//! `/v1/auth/…`: who a credential is, tokens, and the key that verifies them.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::HttpResponse;
use orama_actors::identity::mask_key;
use orama_proto::ApiError;
use orama_proto::api::{TokenResponse, WhoAmI};
use orama_proto::invocation::Principal;

use super::Api;
use crate::gateway::credential::{Credentials, forbidden};
use crate::gateway::front::Call;
use crate::gateway::respond;

/// Life of a token, seconds (CONTRACT 6.1).
pub(super) const TOKEN_LIFE_SECS: u64 = 900;

impl Api {
    pub(super) fn who_am_i(&self, call: &Call) -> Result<HttpResponse, ApiError> {
        let given = Credentials::find(call.request.headers())?
            .first
            .unwrap_or_default();
        let namespace = call.principal.namespace().map(ToString::to_string);
        let known = |method: &str| WhoAmI {
            authenticated: true,
            method: method.to_owned(),
            namespace,
            ..WhoAmI::default()
        };
        respond::ok(&match &*call.principal {
            Principal::Anonymous | Principal::System => WhoAmI::default(),
            Principal::Admin => known("admin"),
            Principal::ApiKey { .. } => WhoAmI {
                api_key: Some(mask_key(given)),
                ..known("api_key")
            },
            Principal::Jwt { subject, .. } => self.platform.token_facts(given).unwrap_or(WhoAmI {
                subject: Some(subject.clone()),
                ..known("jwt")
            }),
        })
    }

    /// A token that stands for the key itself: its subject is the namespace.
    pub(super) fn issue_token(&self, call: &Call) -> Result<HttpResponse, ApiError> {
        if !matches!(*call.principal, Principal::ApiKey { .. }) {
            return Err(forbidden(
                "a token is issued for an API key, not for a token",
            ));
        }
        let namespace = call.namespace()?;
        let life = Duration::from_secs(TOKEN_LIFE_SECS);
        let token =
            self.platform
                .mint_token(&namespace, namespace.as_str(), BTreeMap::new(), life)?;
        respond::ok(&token_response(&token, TOKEN_LIFE_SECS, namespace.as_str()))
    }

    pub(super) fn jwks(&self) -> Result<HttpResponse, ApiError> {
        respond::ok(&self.platform.jwks())
    }
}

pub(super) fn token_response(token: &str, expires_in: u64, namespace: &str) -> TokenResponse {
    TokenResponse {
        access_token: token.to_owned(),
        token_type: "Bearer".into(),
        expires_in,
        namespace: namespace.to_owned(),
    }
}
