//! Which version an invocation means, and whether the caller may have it (CONTRACT 2.5).

use std::sync::Arc;
use std::time::Instant;

use orama_cluster::MetaStore;
use orama_proto::function::{FunctionSpec, FunctionVersion};
use orama_proto::invocation::Principal;
use orama_proto::{ApiError, ErrorCode, FunctionName, Namespace};

use crate::runtime::BoxFuture;

/// The functions of the cluster as this node knows them.
pub(crate) trait Catalog: Send + Sync + 'static {
    /// See [`MetaStore::resolve`].
    fn resolve(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
        version: Option<u64>,
    ) -> Option<Arc<FunctionVersion>>;

    /// Whether there is such a version that is not deleted, active or not.
    fn exists(&self, namespace: &Namespace, name: &FunctionName, version: Option<u64>) -> bool;

    /// See [`MetaStore::confirm`]; the text is for the log.
    fn confirm(&self, deadline: Instant) -> BoxFuture<'_, Result<(), String>>;
}

impl Catalog for MetaStore {
    fn resolve(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
        version: Option<u64>,
    ) -> Option<Arc<FunctionVersion>> {
        Self::resolve(self, namespace, name, version)
    }

    fn exists(&self, namespace: &Namespace, name: &FunctionName, version: Option<u64>) -> bool {
        self.function(namespace, name, version).is_some()
    }

    fn confirm(&self, deadline: Instant) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            Self::confirm(self, deadline)
                .await
                .map_err(|error| error.to_string())
        })
    }
}

/// The version to run.
///
/// # Errors
/// `NOT_FOUND`, which names function and version and says when it is disabled.
pub(super) fn resolve(
    catalog: &dyn Catalog,
    namespace: &Namespace,
    name: &FunctionName,
    version: Option<u64>,
) -> Result<Arc<FunctionVersion>, ApiError> {
    // Version 0 means the latest (CONTRACT 2.3).
    let version = version.filter(|v| *v != 0);
    catalog.resolve(namespace, name, version).ok_or_else(|| {
        let disabled = catalog.exists(namespace, name, version);
        missing(name, version, disabled)
    })
}

fn missing(name: &FunctionName, version: Option<u64>, disabled: bool) -> ApiError {
    let which = match version {
        Some(version) => format!("{name}@{version}"),
        None => name.to_string(),
    };
    let why = if disabled { " is disabled" } else { "" };
    ApiError::not_found(format!("Function not found: {which:?}{why}"))
}

/// Checks that the principal may invoke a function of `namespace`.
///
/// # Errors
/// `UNAUTHORIZED` for a caller without credential, `FORBIDDEN` for a known one.
pub(super) fn authorize(
    principal: &Principal,
    namespace: &Namespace,
    name: &FunctionName,
    spec: &FunctionSpec,
) -> Result<(), ApiError> {
    let platform = matches!(principal, Principal::Admin | Principal::System);
    let own = principal.namespace() == Some(namespace);
    let allowed = if spec.is_internal {
        platform
    } else {
        spec.is_public || own || platform
    };
    if allowed {
        return Ok(());
    }
    if *principal == Principal::Anonymous {
        return Err(ApiError::new(
            ErrorCode::Unauthorized,
            format!("function {name:?} is not public: a credential is required"),
        ));
    }
    let why = match spec.is_internal {
        true => "it is internal",
        false => "the credential belongs to another namespace",
    };
    Err(ApiError::new(
        ErrorCode::Forbidden,
        format!("function {name:?} may not be invoked with this credential: {why}"),
    ))
}

/// Whom the guest sees. A credential proves an identity within its own
/// namespace only: whoever issues tokens there chooses their subjects, so to a
/// public function of another namespace the caller is anonymous.
pub(super) fn seen_by_guest(principal: &Arc<Principal>, namespace: &Namespace) -> Arc<Principal> {
    match principal.namespace() {
        Some(other) if other != namespace => Arc::new(Principal::Anonymous),
        _ => Arc::clone(principal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ns(text: &str) -> Namespace {
        Namespace::parse(text).unwrap()
    }

    #[test]
    fn the_permission_matrix_holds() {
        let key = |n: &str| Principal::ApiKey {
            namespace: ns(n),
            key_id: "key_1".into(),
        };
        let jwt = |n: &str| Principal::Jwt {
            namespace: ns(n),
            subject: "0xabc".into(),
            claims: Default::default(),
        };
        let callers = [
            Principal::Anonymous,
            key("own"),
            jwt("own"),
            key("other"),
            jwt("other"),
            Principal::Admin,
            Principal::System,
        ];
        // Per caller: public, private, internal, internal and public. 0 is allowed.
        let expected = [
            [0, 401, 401, 401],
            [0, 0, 403, 403],
            [0, 0, 403, 403],
            [0, 403, 403, 403],
            [0, 403, 403, 403],
            [0, 0, 0, 0],
            [0, 0, 0, 0],
        ];
        let name = FunctionName::parse("f").unwrap();
        for (caller, row) in callers.iter().zip(expected) {
            let kinds = [(true, false), (false, false), (false, true), (true, true)];
            for ((is_public, is_internal), want) in kinds.into_iter().zip(row) {
                let spec = FunctionSpec {
                    is_public,
                    is_internal,
                    ..FunctionSpec::default()
                };
                let got = authorize(caller, &ns("own"), &name, &spec);
                let got = got.map_or_else(|e| e.code.status(), |()| 0);
                assert_eq!(
                    got, want,
                    "{caller:?} public={is_public} internal={is_internal}"
                );
            }
        }
    }

    #[test]
    fn another_namespaces_identity_is_not_believed() {
        let theirs = Arc::new(Principal::Jwt {
            namespace: ns("other"),
            subject: "0xvictim".into(),
            claims: Default::default(),
        });
        assert_eq!(seen_by_guest(&theirs, &ns("own")).wallet(), "");
        assert_eq!(seen_by_guest(&theirs, &ns("other")).wallet(), "0xvictim");
        let admin = Arc::new(Principal::Admin);
        assert_eq!(*seen_by_guest(&admin, &ns("own")), Principal::Admin);
    }

    #[test]
    fn a_missing_function_is_named() {
        let name = FunctionName::parse("hello").unwrap();
        let message = |version, disabled| missing(&name, version, disabled).message;
        assert_eq!(message(None, false), "Function not found: \"hello\"");
        assert_eq!(message(Some(3), false), "Function not found: \"hello@3\"");
        assert_eq!(
            message(None, true),
            "Function not found: \"hello\" is disabled"
        );
    }
}
