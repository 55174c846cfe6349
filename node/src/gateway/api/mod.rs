//! What each endpoint does, once the front has let a call through.

mod admin;
mod cluster;
mod database;
mod fresh;
mod functions;
mod identity;
mod invoke;
mod secrets;
mod status;

use actix_web::HttpResponse;
use orama_actors::Platform;
use orama_proto::ApiError;
use orama_proto::invocation::Principal;
use orama_proto::limits::MIB;

use super::body::Budget;
use super::deploy::UploadBudget;
use super::front::{Backend, Call};
use super::health::Health;
use super::routes::Endpoint;

pub use status::NodeFacts;

/// Memory that invocation bodies may take together; smaller ones are not counted.
const INVOKE_BODIES_MAX_BYTES: usize = 256 * MIB;

/// The platform over HTTP.
pub(crate) struct Api {
    platform: Platform,
    facts: NodeFacts,
    health: Health,
    uploads: UploadBudget,
    bodies: Budget,
}

impl Api {
    /// Puts HTTP before a platform.
    pub(crate) fn new(platform: Platform, facts: NodeFacts, health: Health) -> Self {
        Self {
            platform,
            facts,
            health,
            uploads: UploadBudget::new(),
            bodies: Budget::new(INVOKE_BODIES_MAX_BYTES),
        }
    }
}

impl Backend for Api {
    fn authenticate(&self, credential: &str) -> Result<Principal, ApiError> {
        self.platform.authenticate(credential)
    }

    async fn authenticate_confirmed(&self, credential: &str) -> Result<Principal, ApiError> {
        self.platform.authenticate_confirmed(credential).await
    }

    async fn call(&self, call: Call) -> Result<HttpResponse, ApiError> {
        match call.endpoint {
            Endpoint::Invoke | Endpoint::InvokeIn => self.invoke(call).await,

            Endpoint::ListFunctions => self.list_functions(&call).await,
            Endpoint::Deploy => self.deploy(call).await,
            Endpoint::GetFunction => self.get_function(&call).await,
            Endpoint::DeleteFunction => self.delete_function(&call).await,
            Endpoint::Versions => self.versions(&call).await,
            Endpoint::Logs => self.logs(&call).await,
            Endpoint::Enable => self.set_enabled(&call, true).await,
            Endpoint::Disable => self.set_enabled(&call, false).await,
            Endpoint::Rollback => self.rollback(call).await,

            Endpoint::ListSecrets => self.list_secrets(&call).await,
            Endpoint::SetSecret => self.set_secret(call).await,
            Endpoint::DeleteSecret => self.delete_secret(&call).await,

            Endpoint::ListNamespaces => self.list_namespaces(&call).await,
            Endpoint::CreateNamespace => self.create_namespace(call).await,
            Endpoint::DeleteNamespace => self.delete_namespace(&call).await,
            Endpoint::ListKeys => self.list_keys(&call).await,
            Endpoint::CreateKey => self.create_key(call).await,
            Endpoint::RevokeKey => self.revoke_key(&call).await,
            Endpoint::CreateToken => self.create_token(call).await,
            Endpoint::MasterKeyStatus => self.master_key_status(&call).await,
            Endpoint::RotateMasterKey => self.rotate_master_key(&call).await,
            Endpoint::Actors => self.actors().await,

            Endpoint::ClusterStatus => self.cluster_status().await,
            Endpoint::DrainNode => self.drain_node(call).await,
            Endpoint::RemoveNode => self.remove_node(&call).await,
            Endpoint::TransferGroup => self.transfer_group(call).await,
            Endpoint::GetRegister => self.get_register(&call).await,
            Endpoint::SetRegister => self.set_register(call).await,

            Endpoint::GroupDatabases => self.group_databases(&call).await,
            Endpoint::DbQuery => self.db_query(call).await,
            Endpoint::DbExec => self.db_exec(call).await,
            Endpoint::DbFind => self.db_find(call, false).await,
            Endpoint::DbFindOne => self.db_find(call, true).await,
            Endpoint::DbSelect => self.db_select(call).await,
            Endpoint::DbTransaction => self.db_transaction(call).await,
            Endpoint::DbSchema => self.db_schema(&call).await,
            Endpoint::DbCreateTable => self.db_create_table(call).await,
            Endpoint::DbDropTable => self.db_drop_table(call).await,
            Endpoint::DbExport => self.db_export(&call).await,

            Endpoint::WhoAmI => self.who_am_i(&call),
            Endpoint::IssueToken => self.issue_token(&call),
            Endpoint::Jwks => self.jwks(),

            Endpoint::Health => self.health(),
            Endpoint::Version => self.version(),
            Endpoint::Status => self.status(),
        }
    }
}
