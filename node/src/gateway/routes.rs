//! The one table of everything the gateway answers, with who may ask
//! (CONTRACT 10, item 73b): a path that is not in it is a 404, a method that
//! is not in it a 405, and nothing is reached without a policy.

use actix_web::http::Method;
use orama_proto::ApiError;

use super::path;

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

/// Segments of the longest pattern.
const SEGMENTS_MAX: usize = 7;

/// What a path and method lead to.
#[derive(Debug)]
pub(crate) enum Found {
    /// A line of the table, by index, and the decoded captures in order.
    Route(usize, Result<Vec<String>, ApiError>),
    /// The path exists, the method does not; the pattern and the value of `Allow`.
    Method(&'static str, String),
    /// No such path.
    Nothing,
}

/// The table, with its patterns cut into segments.
#[derive(Debug)]
pub(crate) struct Table {
    segments: Vec<Vec<&'static str>>,
}

impl Table {
    /// Cuts the patterns.
    pub(crate) fn new() -> Self {
        let cut = |route: &Route| route.pattern.split('/').skip(1).collect();
        Self {
            segments: ROUTES.iter().map(cut).collect(),
        }
    }

    /// Finds what `path`, still percent-encoded, leads to.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Found {
        let mut given = [""; SEGMENTS_MAX];
        let mut count = 0;
        for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
            let Some(place) = given.get_mut(count) else {
                return Found::Nothing;
            };
            *place = segment;
            count += 1;
        }
        let given = &given[..count];
        let Some(first) = self.segments.iter().position(|s| fits(s, given)) else {
            return Found::Nothing;
        };
        let pattern = ROUTES[first].pattern;
        let wanted = if method == Method::HEAD { &GET } else { method };
        let same = || {
            ROUTES
                .iter()
                .enumerate()
                .filter(|(_, r)| r.pattern == pattern)
        };
        match same().find(|(_, route)| route.method == *wanted) {
            Some((index, _)) => Found::Route(index, captures(&self.segments[index], given)),
            None => {
                let mut allow: Vec<&str> = same().map(|(_, r)| r.method.as_str()).collect();
                if allow.contains(&"GET") {
                    allow.push("HEAD");
                }
                allow.push("OPTIONS");
                Found::Method(pattern, allow.join(", "))
            }
        }
    }
}

fn fits(pattern: &[&str], given: &[&str]) -> bool {
    pattern.len() == given.len()
        && pattern.iter().zip(given).all(|(want, have)| {
            if want.starts_with('{') {
                !have.is_empty()
            } else {
                want == have
            }
        })
}

fn captures(pattern: &[&'static str], given: &[&str]) -> Result<Vec<String>, ApiError> {
    pattern
        .iter()
        .zip(given)
        .filter(|(want, _)| want.starts_with('{'))
        .map(|(_, have)| path::decode(have, false).map(std::borrow::Cow::into_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(method: Method, path: &str) -> Option<(Endpoint, Vec<String>)> {
        match Table::new().find(&method, path) {
            Found::Route(index, captures) => Some((ROUTES[index].endpoint, captures.unwrap())),
            _ => None,
        }
    }

    fn allow(method: Method, path: &str) -> Option<String> {
        match Table::new().find(&method, path) {
            Found::Method(_, allow) => Some(allow),
            _ => None,
        }
    }

    #[test]
    fn every_route_is_reached_by_its_own_pattern() {
        for route in ROUTES {
            let path = route
                .pattern
                .replace("{function}", "echo")
                .replace("{namespace}", "default")
                .replace("{secret}", "KEY")
                .replace("{id}", "k1")
                .replace("{node}", "n1")
                .replace("{group}", "data-1")
                .replace("{key}", "r1");
            assert!(path.split('/').skip(1).count() <= SEGMENTS_MAX, "{path}");
            let found = endpoint(route.method.clone(), &path).map(|f| f.0);
            assert_eq!(found, Some(route.endpoint), "{path}");
        }
    }

    #[test]
    fn a_secret_called_invoke_stays_a_secret() {
        let path = "/v1/functions/secrets/invoke";
        assert_eq!(
            endpoint(Method::DELETE, path),
            Some((Endpoint::DeleteSecret, vec!["invoke".into()]))
        );
        assert_eq!(
            allow(Method::POST, path).as_deref(),
            Some("DELETE, OPTIONS")
        );
        assert_eq!(
            allow(Method::DELETE, "/v1/functions/secrets").as_deref(),
            Some("GET, PUT, HEAD, OPTIONS")
        );
    }

    #[test]
    fn the_cluster_is_the_operators() {
        let of_cluster = |r: &&Route| r.pattern.starts_with("/v1/admin/");
        assert!(ROUTES.iter().filter(of_cluster).count() > 10);
        for route in ROUTES.iter().filter(of_cluster) {
            assert_eq!(route.policy, Policy::Admin, "{}", route.pattern);
        }
    }

    #[test]
    fn only_whole_paths_match() {
        for path in [
            "/",
            "",
            "/v1",
            "/v1/functions/",
            "/v1/functions//invoke",
            "/v1/functions/a/ws",
            "/v1/functions/a/invoke/",
            "/v1/functions/a/invoke/b/c/d/e",
            "/V1/health",
            "//health",
        ] {
            assert!(
                matches!(Table::new().find(&GET, path), Found::Nothing),
                "{path}"
            );
        }
        assert_eq!(
            endpoint(Method::HEAD, "/health").map(|f| f.0),
            Some(Endpoint::Health)
        );
    }

    #[test]
    fn captures_are_decoded_once() {
        let found = endpoint(POST, "/v1/functions/a%252Fb%40/invoke");
        assert_eq!(found, Some((Endpoint::Invoke, vec!["a%2Fb@".into()])));
        for bad in [
            "/v1/functions/a%2/invoke",
            "/v1/functions/a%zz/invoke",
            "/v1/functions/%ff/invoke",
        ] {
            assert!(
                matches!(Table::new().find(&POST, bad), Found::Route(_, Err(_))),
                "{bad}"
            );
        }
    }
}
