//! The administrator's requests to a node, and the tenants made by them.

use std::sync::Arc;

use orama_proto::api::{CreateNamespaceResponse, MasterKeyStatus, TokenResponse};
use parking_lot::Mutex;
use reqwest::Method;
use serde_json::json;

use super::{ADMIN_TOKEN, Node};
use crate::client::{Reply, Tenant, send};

/// The administrator's way to a node. Cheap to clone; follows it over restarts.
#[derive(Clone)]
pub struct Gateway {
    base: Arc<Mutex<String>>,
    http: reqwest::Client,
}

impl Gateway {
    /// A request, not yet sent.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.base.lock());
        self.http.request(method, url).bearer_auth(ADMIN_TOKEN)
    }
}

impl Node {
    /// A request with the administrator's token.
    pub async fn admin(
        &self,
        method: Method,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> Reply {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.url()))
            .bearer_auth(ADMIN_TOKEN);
        if let Some(body) = body {
            request = request.json(&body);
        }
        send(request).await
    }
    /// A request without any credential.
    pub async fn anonymous(&self, method: Method, path: &str, body: impl Into<Vec<u8>>) -> Reply {
        let url = format!("{}{path}", self.url());
        send(self.http.request(method, url).body(body.into())).await
    }

    /// A namespace that was made elsewhere, through this node.
    pub fn tenant_of(&self, tenant: &Tenant) -> Tenant {
        Tenant::new(
            self.base.clone(),
            self.http.clone(),
            &tenant.namespace,
            &tenant.credential,
        )
    }
    /// A request with the administrator's token, not yet sent; follows the node over restarts.
    pub fn admin_request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.gateway().request(method, path)
    }
    /// The administrator's way to this node, for tasks of their own.
    pub fn gateway(&self) -> Gateway {
        Gateway {
            base: self.base.clone(),
            http: self.http.clone(),
        }
    }

    /// Makes a namespace; its key comes with it.
    pub async fn tenant(&self, namespace: &str) -> Tenant {
        let reply = self
            .admin(
                Method::POST,
                "/v1/admin/namespaces",
                Some(json!({ "name": namespace })),
            )
            .await;
        let made: CreateNamespaceResponse = reply.expect(201).parse();
        assert_eq!(made.namespace, namespace);
        Tenant::new(
            self.base.clone(),
            self.http.clone(),
            namespace,
            &made.api_key,
        )
    }

    /// The same namespace through a token of one of its users.
    pub async fn user(&self, tenant: &Tenant, subject: &str, custom: serde_json::Value) -> Tenant {
        let path = format!("/v1/admin/namespaces/{}/tokens", tenant.namespace);
        let body = json!({ "subject": subject, "custom": custom, "expires_in": 900 });
        let reply = self.admin(Method::POST, &path, Some(body)).await;
        assert!(
            [200, 201].contains(&reply.status),
            "minting a token: {reply:?}"
        );
        let token: TokenResponse = reply.parse();
        tenant.with_credential(&token.access_token)
    }

    /// The state of the master keys.
    pub async fn master_keys(&self) -> MasterKeyStatus {
        self.admin(Method::GET, "/v1/admin/master-key", None)
            .await
            .expect(200)
            .parse()
    }
}
