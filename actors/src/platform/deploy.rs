//! Deploying: everything that can fail comes before the one command that
//! makes the version visible, so nothing half-made ever is.

use std::time::{Duration, Instant};

use orama_proto::command::{MetaCommand, MetaReply};
use orama_proto::function::FunctionVersion;
use orama_proto::limits::WASM_MAX_BYTES;
use orama_proto::{ApiError, ContentId, ErrorCode, Namespace, RequestId};
use tokio::sync::SemaphorePermit;

use super::{Deploy, Inner};
use crate::errors;
use crate::worker::Turn;

/// Deploys at once, of different namespaces: each compiles on all cores and
/// holds a module in memory.
pub(super) const DEPLOYS_AT_ONCE: usize = 2;
/// How long a majority of the voters has to hold the module.
const SPREAD_WITHIN: Duration = Duration::from_secs(10);
/// How long a deploy waits for its turn.
const TURN_WITHIN: Duration = Duration::from_secs(30);

impl Inner {
    pub(super) async fn deploy(
        &self,
        request_id: &RequestId,
        deploy: Deploy,
    ) -> Result<FunctionVersion, ApiError> {
        let result = self.try_deploy(request_id, deploy).await;
        let label = match &result {
            Ok(_) => "ok",
            Err(error) if error.code.status() < 500 => "refused",
            Err(_) => "failed",
        };
        self.metrics.deploys.with_label_values(&[label]).inc();
        result
    }

    async fn try_deploy(
        &self,
        request_id: &RequestId,
        deploy: Deploy,
    ) -> Result<FunctionVersion, ApiError> {
        let Deploy {
            namespace,
            name,
            spec,
            wasm,
            created_by,
        } = deploy;
        // A drain waits for this.
        let _request = self.invoker.admission.begin();
        spec.validate()?;
        check_size(wasm.len())?;
        self.namespace_confirmed(&namespace).await?;
        // A namespace's deploys take one turn between them, so that those of
        // one tenant, however many and slow, do not keep the others waiting.
        let own = self.deploying.enter(namespace.clone());
        // Held to the end, so that the sweep of unused modules, which takes
        // every turn, cannot come between storing a module and referring to it.
        let (_own_turn, _turn) = self.deploy_turn(&own).await?;
        let hashed = wasm.clone();
        let wasm_cid = tokio::task::spawn_blocking(move || ContentId::of(&hashed))
            .await
            .map_err(|_| errors::unexpected("hashing a module was interrupted"))?;
        let wasm_bytes = wasm.len() as u64;
        self.runtime
            .prepare(wasm_cid, wasm.clone())
            .await
            .and_then(|module| module.check(&spec))
            .map_err(errors::module_at_deploy)?;
        let stored = self.blobs.store().put(wasm).await;
        if stored.map_err(|e| errors::blob_at_deploy(&e))? != wasm_cid {
            return Err(errors::unexpected("a blob was stored under another name"));
        }
        // The voters that count are today's: a node that was cut off may know older ones.
        if self.cluster.mesh().is_some() {
            self.confirm().await?;
        }
        // Whoever is told of the version must be able to get it, whichever node dies.
        self.blobs
            .spread(wasm_cid, Instant::now() + SPREAD_WITHIN)
            .await
            .map_err(|error| errors::too_few(&error))?;
        let command = MetaCommand::DeployFunction {
            namespace,
            name,
            new_function_id: uuid::Uuid::new_v4().to_string(),
            wasm_cid,
            wasm_bytes,
            spec,
            created_by,
        };
        self.publish(request_id, command).await
    }

    async fn deploy_turn<'a>(
        &'a self,
        own: &'a Turn<'_, Namespace>,
    ) -> Result<(Option<SemaphorePermit<'a>>, SemaphorePermit<'a>), ApiError> {
        let turn = async { (own.taken().await, self.deploys.acquire().await) };
        match tokio::time::timeout(TURN_WITHIN, turn).await {
            Ok((own, Ok(turn))) => Ok((own, turn)),
            Ok((_, Err(_))) => Err(ApiError::new(
                ErrorCode::ServiceUnavailable,
                "this node is shutting down",
            )),
            Err(_) => Err(ApiError::new(
                ErrorCode::ServiceUnavailable,
                format!(
                    "other deploys are running: a node takes {DEPLOYS_AT_ONCE} at once, one of each namespace; try again"
                ),
            )
            .after(5.0)),
        }
    }

    /// A change that makes a version.
    pub(super) async fn publish(
        &self,
        request_id: &RequestId,
        command: MetaCommand,
    ) -> Result<FunctionVersion, ApiError> {
        match self.propose(request_id, command).await {
            Ok(MetaReply::Version(version)) => {
                tracing::info!(
                    %request_id,
                    namespace = %version.namespace,
                    function = %version.name,
                    version = version.version,
                    "version published"
                );
                Ok(*version)
            }
            Ok(_) => Err(errors::unexpected("publishing a version answered none")),
            Err(error) => Err(errors::propose(error)),
        }
    }
}

fn check_size(bytes: usize) -> Result<(), ApiError> {
    match bytes {
        0 => Err(ApiError::validation("WASM bytecode required")),
        1..=WASM_MAX_BYTES => Ok(()),
        _ => Err(ApiError::new(
            ErrorCode::PayloadTooLarge,
            format!("the module has {bytes} bytes, the limit is {WASM_MAX_BYTES}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_have_one_byte_to_32_mib() {
        let status = |bytes| check_size(bytes).map_err(|e| e.code.status());
        assert_eq!(status(0), Err(400));
        assert_eq!(status(WASM_MAX_BYTES), Ok(()));
        assert_eq!(status(WASM_MAX_BYTES + 1), Err(413));
    }
}
