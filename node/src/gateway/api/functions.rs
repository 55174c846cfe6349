//! Functions: deploy, list, show, versions, logs, enable, roll back, delete
//! (CONTRACT 2.4, 2.6, 2.7).

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use orama_actors::platform::Deploy;
use orama_cluster::JournalQuery;
use orama_proto::api::{
    DeployResponse, EnabledResponse, FunctionList, LogsResponse, Message, RollbackRequest,
    VersionList,
};
use orama_proto::function::FunctionInfo;
use orama_proto::limits::{JSON_BODY_MAX_BYTES, LOGS_DEFAULT, LOGS_MAX};
use orama_proto::{ApiError, FunctionName, RequestId};

use super::Api;
use crate::gateway::body::{self, parse_json};
use crate::gateway::deploy;
use crate::gateway::front::Call;
use crate::gateway::path::{self, FunctionRef};
use crate::gateway::respond;

/// Longest request or record id in a query.
const ID_MAX_CHARS: usize = 128;

fn not_found(name: &FunctionName, version: Option<u64>) -> ApiError {
    ApiError::not_found(match version {
        None => format!("Function not found: \"{name}\""),
        Some(version) => format!("Function not found: no version {version} of \"{name}\""),
    })
}

impl Api {
    pub(super) async fn list_functions(&self, call: &Call) -> Result<HttpResponse, ApiError> {
        self.fresh(call).await?;
        let functions = self.platform.meta().functions(&call.namespace()?);
        respond::ok(&FunctionList {
            count: functions.len(),
            functions: functions.iter().map(|f| FunctionInfo::from(&**f)).collect(),
        })
    }

    pub(super) async fn deploy(&self, call: Call) -> Result<HttpResponse, ApiError> {
        let namespace = call.namespace()?;
        let form = deploy::read(&call.request, call.body, &namespace, &self.uploads).await?;
        let deployed = self
            .platform
            .deploy(
                &call.request_id,
                Deploy {
                    namespace,
                    name: form.name,
                    spec: form.spec,
                    wasm: form.wasm,
                    created_by: call.principal.wallet().to_owned(),
                },
            )
            .await?;
        respond::json(
            StatusCode::CREATED,
            &DeployResponse {
                message: "Function deployed successfully".into(),
                function: FunctionInfo::from(&deployed),
            },
        )
    }

    pub(super) async fn get_function(&self, call: &Call) -> Result<HttpResponse, ApiError> {
        let wanted = FunctionRef::parse(call.capture(0))?;
        self.fresh(call).await?;
        let found = self
            .platform
            .meta()
            .function(&call.namespace()?, &wanted.name, wanted.version);
        let missing = || not_found(&wanted.name, wanted.version);
        respond::ok(&FunctionInfo::from(&*found.ok_or_else(missing)?))
    }

    pub(super) async fn delete_function(&self, call: &Call) -> Result<HttpResponse, ApiError> {
        let wanted = FunctionRef::parse(call.capture(0))?;
        self.platform
            .delete_function(
                &call.request_id,
                &call.namespace()?,
                &wanted.name,
                wanted.version,
            )
            .await?;
        respond::ok(&Message {
            message: "Function deleted successfully".into(),
        })
    }

    pub(super) async fn versions(&self, call: &Call) -> Result<HttpResponse, ApiError> {
        let name = FunctionRef::without_version(call.capture(0))?;
        self.fresh(call).await?;
        let versions = self
            .platform
            .meta()
            .versions(&call.namespace()?, &name)
            .ok_or_else(|| not_found(&name, None))?;
        respond::ok(&VersionList {
            count: versions.len(),
            versions: versions.iter().map(|v| FunctionInfo::from(&**v)).collect(),
        })
    }

    pub(super) async fn logs(&self, call: &Call) -> Result<HttpResponse, ApiError> {
        let namespace = call.namespace()?;
        let name = FunctionRef::without_version(call.capture(0))?;
        let asked = LogsQuery::parse(call.request.query_string())?;
        let found = self
            .platform
            .logs(JournalQuery {
                namespace: namespace.clone(),
                function: name.clone(),
                limit: asked.limit,
                after: asked.after,
                request_id: asked.request_id,
            })
            .await?;
        let (invocations, silent) = (found.records, found.silent);
        // The log of a deleted function stays readable as long as it is kept.
        let unknown = || self.platform.meta().versions(&namespace, &name).is_none();
        if invocations.is_empty() && unknown() {
            self.fresh(call).await?;
            if unknown() {
                return Err(not_found(&name, None));
            }
        }
        let logs: Vec<_> = invocations
            .iter()
            .flat_map(|record| record.wasm_logs.iter().rev())
            .cloned()
            .collect();
        let invocations = if asked.wasm_only {
            Vec::new()
        } else {
            invocations
        };
        respond::ok(&LogsResponse {
            name: name.into(),
            namespace: namespace.into(),
            count: if asked.wasm_only {
                logs.len()
            } else {
                invocations.len()
            },
            invocations,
            logs,
            silent,
        })
    }

    pub(super) async fn set_enabled(
        &self,
        call: &Call,
        enabled: bool,
    ) -> Result<HttpResponse, ApiError> {
        let name = FunctionRef::without_version(call.capture(0))?;
        self.platform
            .set_enabled(&call.request_id, &call.namespace()?, &name, enabled)
            .await?;
        respond::ok(&EnabledResponse {
            status: "ok".into(),
            function: name.into(),
            enabled,
        })
    }

    pub(super) async fn rollback(&self, mut call: Call) -> Result<HttpResponse, ApiError> {
        let namespace = call.namespace()?;
        let name = FunctionRef::without_version(call.capture(0))?;
        body::refuse_encoding(call.request.headers())?;
        let body = call.read(JSON_BODY_MAX_BYTES, "the request body").await?;
        let wanted: RollbackRequest = parse_json("rollback", &body)?;
        if wanted.version == 0 {
            return Err(ApiError::validation("version must be 1 or more (got 0)"));
        }
        let created_by = call.principal.wallet();
        let version = self
            .platform
            .rollback(
                &call.request_id,
                &namespace,
                &name,
                wanted.version,
                created_by,
            )
            .await?;
        respond::ok(&DeployResponse {
            message: format!(
                "Function rolled back to version {} as version {}",
                wanted.version, version.version
            ),
            function: FunctionInfo::from(&version),
        })
    }
}

/// The query of a logs call.
#[derive(Debug, PartialEq, Eq)]
struct LogsQuery {
    limit: usize,
    after: Option<String>,
    request_id: Option<RequestId>,
    wasm_only: bool,
}

impl LogsQuery {
    fn parse(query: &str) -> Result<Self, ApiError> {
        let limit = match path::query(query, "limit")? {
            None => LOGS_DEFAULT,
            Some(text) => text
                .parse::<u64>()
                .map_err(|_| ApiError::validation("limit must be a whole number"))?
                .try_into()
                .unwrap_or(LOGS_MAX)
                .clamp(1, LOGS_MAX),
        };
        let id = |name: &str| match path::query(query, name)? {
            Some(text) if text.is_empty() || text.chars().count() > ID_MAX_CHARS => Err(
                ApiError::validation(format!("{name} must have 1 to {ID_MAX_CHARS} characters")),
            ),
            found => Ok(found.map(std::borrow::Cow::into_owned)),
        };
        let wasm_only = match path::query(query, "wasm_only")?.as_deref() {
            None | Some("0" | "false") => false,
            Some("1" | "true" | "") => true,
            Some(_) => return Err(ApiError::validation("wasm_only must be 1 or 0")),
        };
        Ok(Self {
            limit,
            after: id("after")?,
            request_id: id("request_id")?.map(|id| RequestId::from(id.as_str())),
            wasm_only,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_queries_are_clamped_and_strict() {
        let limit = |query| {
            LogsQuery::parse(query)
                .map(|q| q.limit)
                .map_err(|e| e.message)
        };
        assert_eq!(limit(""), Ok(50));
        assert_eq!(limit("limit=7"), Ok(7));
        assert_eq!(limit("limit=0"), Ok(1));
        assert_eq!(limit("limit=501"), Ok(500));
        assert_eq!(limit("limit=18446744073709551615"), Ok(500));
        for bad in [
            "limit=",
            "limit=x",
            "limit=-1",
            "limit=1.5",
            "wasm_only=yes",
            "after=",
        ] {
            assert!(limit(bad).is_err(), "{bad}");
        }
        let query = LogsQuery::parse("after=a&request_id=r%31&wasm_only=1").unwrap();
        assert_eq!(query.after.as_deref(), Some("a"));
        assert_eq!(query.request_id, Some(RequestId::from("r1")));
        assert!(query.wasm_only);
    }
}
