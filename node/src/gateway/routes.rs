//! The one table of everything the gateway answers, with who may ask
//! (CONTRACT 10, item 73b): a path that is not in it is a 404, a method that
//! is not in it a 405, and nothing is reached without a policy.

mod find;
#[cfg(test)]
mod find_tests;

use actix_web::http::Method;

pub(crate) use find::{Found, Table};

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Anyone; a credential is not looked at, so that probes never fail by one.
    Public,
    /// Anyone; a credential that is given must be right.
    Optional,
    /// Whoever manages a namespace: an API key of it, or a token whose subject
    /// is the namespace itself. Tokens of end users are not enough.
    Owner,
    /// The operator.
    Admin,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Health,
    Version,
    Status,
    Jwks,
    WhoAmI,
    IssueToken,
    ListFunctions,
    Deploy,
    ListSecrets,
    SetSecret,
    DeleteSecret,
    GetFunction,
    DeleteFunction,
    Versions,
    Logs,
    Invoke,
    InvokeIn,
    Enable,
    Disable,
    Rollback,
    ListNamespaces,
    CreateNamespace,
    DeleteNamespace,
    ListKeys,
    CreateKey,
    RevokeKey,
    CreateToken,
    MasterKeyStatus,
    RotateMasterKey,
    Actors,
    ClusterStatus,
    DrainNode,
    RemoveNode,
    TransferGroup,
    GetRegister,
    SetRegister,
    GroupDatabases,
    DbQuery,
    DbExec,
    DbFind,
    DbFindOne,
    DbSelect,
    DbTransaction,
    DbSchema,
    DbCreateTable,
    DbDropTable,
    DbExport,
}

/// A line of the table.
#[derive(Debug)]
pub(crate) struct Route {
    /// GET answers HEAD too.
    pub(crate) method: Method,
    /// The path; segments in braces are captured. The label in metrics and logs.
    pub(crate) pattern: &'static str,
    /// Who may ask.
    pub(crate) policy: Policy,
    /// What is done.
    pub(crate) endpoint: Endpoint,
}

/// Label of requests that match no path.
pub(crate) const UNMATCHED: &str = "unmatched";

const fn route(method: Method, pattern: &'static str, policy: Policy, endpoint: Endpoint) -> Route {
    Route {
        method,
        pattern,
        policy,
        endpoint,
    }
}

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const PUT: Method = Method::PUT;
const DELETE: Method = Method::DELETE;

/// The first pattern that fits a path decides, so literal segments stand
/// before captures of the same place.
pub(crate) const ROUTES: &[Route] = &[
    route(GET, "/health", Policy::Public, Endpoint::Health),
    route(GET, "/v1/health", Policy::Public, Endpoint::Health),
    route(GET, "/v1/version", Policy::Public, Endpoint::Version),
    route(GET, "/v1/status", Policy::Public, Endpoint::Status),
    route(GET, "/v1/auth/jwks", Policy::Public, Endpoint::Jwks),
    route(
        GET,
        "/.well-known/jwks.json",
        Policy::Public,
        Endpoint::Jwks,
    ),
    route(GET, "/v1/auth/whoami", Policy::Optional, Endpoint::WhoAmI),
    route(POST, "/v1/auth/token", Policy::Owner, Endpoint::IssueToken),
    route(GET, "/v1/functions", Policy::Owner, Endpoint::ListFunctions),
    route(POST, "/v1/functions", Policy::Owner, Endpoint::Deploy),
    route(
        GET,
        "/v1/functions/secrets",
        Policy::Owner,
        Endpoint::ListSecrets,
    ),
    route(
        PUT,
        "/v1/functions/secrets",
        Policy::Owner,
        Endpoint::SetSecret,
    ),
    route(
        DELETE,
        "/v1/functions/secrets/{secret}",
        Policy::Owner,
        Endpoint::DeleteSecret,
    ),
    route(
        GET,
        "/v1/functions/{function}",
        Policy::Owner,
        Endpoint::GetFunction,
    ),
    route(
        DELETE,
        "/v1/functions/{function}",
        Policy::Owner,
        Endpoint::DeleteFunction,
    ),
    route(
        GET,
        "/v1/functions/{function}/versions",
        Policy::Owner,
        Endpoint::Versions,
    ),
    route(
        GET,
        "/v1/functions/{function}/logs",
        Policy::Owner,
        Endpoint::Logs,
    ),
    route(
        POST,
        "/v1/functions/{function}/invoke",
        Policy::Optional,
        Endpoint::Invoke,
    ),
    route(
        POST,
        "/v1/functions/{function}/enable",
        Policy::Owner,
        Endpoint::Enable,
    ),
    route(
        POST,
        "/v1/functions/{function}/disable",
        Policy::Owner,
        Endpoint::Disable,
    ),
    route(
        POST,
        "/v1/functions/{function}/rollback",
        Policy::Owner,
        Endpoint::Rollback,
    ),
    route(
        POST,
        "/v1/invoke/{namespace}/{function}",
        Policy::Optional,
        Endpoint::InvokeIn,
    ),
    route(
        GET,
        "/v1/admin/namespaces",
        Policy::Admin,
        Endpoint::ListNamespaces,
    ),
    route(
        POST,
        "/v1/admin/namespaces",
        Policy::Admin,
        Endpoint::CreateNamespace,
    ),
    route(
        DELETE,
        "/v1/admin/namespaces/{namespace}",
        Policy::Admin,
        Endpoint::DeleteNamespace,
    ),
    route(
        GET,
        "/v1/admin/namespaces/{namespace}/keys",
        Policy::Admin,
        Endpoint::ListKeys,
    ),
    route(
        POST,
        "/v1/admin/namespaces/{namespace}/keys",
        Policy::Admin,
        Endpoint::CreateKey,
    ),
    route(
        DELETE,
        "/v1/admin/namespaces/{namespace}/keys/{id}",
        Policy::Admin,
        Endpoint::RevokeKey,
    ),
    route(
        POST,
        "/v1/admin/namespaces/{namespace}/tokens",
        Policy::Admin,
        Endpoint::CreateToken,
    ),
    route(
        GET,
        "/v1/admin/master-key",
        Policy::Admin,
        Endpoint::MasterKeyStatus,
    ),
    route(
        POST,
        "/v1/admin/master-key/rotate",
        Policy::Admin,
        Endpoint::RotateMasterKey,
    ),
    route(GET, "/v1/admin/actors", Policy::Admin, Endpoint::Actors),
    route(
        GET,
        "/v1/admin/cluster",
        Policy::Admin,
        Endpoint::ClusterStatus,
    ),
    route(
        POST,
        "/v1/admin/cluster/nodes/{node}/drain",
        Policy::Admin,
        Endpoint::DrainNode,
    ),
    route(
        POST,
        "/v1/admin/cluster/nodes/{node}/leave",
        Policy::Admin,
        Endpoint::RemoveNode,
    ),
    route(
        POST,
        "/v1/admin/cluster/groups/{group}/transfer",
        Policy::Admin,
        Endpoint::TransferGroup,
    ),
    route(
        GET,
        "/v1/admin/cluster/groups/{group}/registers/{key}",
        Policy::Admin,
        Endpoint::GetRegister,
    ),
    route(
        PUT,
        "/v1/admin/cluster/groups/{group}/registers/{key}",
        Policy::Admin,
        Endpoint::SetRegister,
    ),
    route(
        GET,
        "/v1/admin/cluster/groups/{group}/databases",
        Policy::Admin,
        Endpoint::GroupDatabases,
    ),
    route(POST, "/v1/rqlite/query", Policy::Owner, Endpoint::DbQuery),
    route(POST, "/v1/rqlite/exec", Policy::Owner, Endpoint::DbExec),
    route(POST, "/v1/rqlite/find", Policy::Owner, Endpoint::DbFind),
    route(
        POST,
        "/v1/rqlite/find-one",
        Policy::Owner,
        Endpoint::DbFindOne,
    ),
    route(POST, "/v1/rqlite/select", Policy::Owner, Endpoint::DbSelect),
    route(
        POST,
        "/v1/rqlite/transaction",
        Policy::Owner,
        Endpoint::DbTransaction,
    ),
    route(GET, "/v1/rqlite/schema", Policy::Owner, Endpoint::DbSchema),
    route(
        POST,
        "/v1/rqlite/create-table",
        Policy::Owner,
        Endpoint::DbCreateTable,
    ),
    route(
        POST,
        "/v1/rqlite/drop-table",
        Policy::Owner,
        Endpoint::DbDropTable,
    ),
    route(GET, "/v1/rqlite/export", Policy::Owner, Endpoint::DbExport),
];
