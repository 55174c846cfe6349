//! Functions after they are deployed: roll back, enable, disable, delete.

use orama_proto::command::MetaCommand;
use orama_proto::function::FunctionVersion;
use orama_proto::{ApiError, FunctionName, Namespace, RequestId};

use super::Inner;

impl Inner {
    pub(super) async fn rollback(
        &self,
        request_id: &RequestId,
        namespace: &Namespace,
        name: &FunctionName,
        to: u64,
        created_by: &str,
    ) -> Result<FunctionVersion, ApiError> {
        let command = MetaCommand::RollbackFunction {
            namespace: namespace.clone(),
            name: name.clone(),
            to,
            created_by: created_by.to_owned(),
        };
        self.publish(request_id, command).await
    }

    pub(super) async fn set_enabled(
        &self,
        request_id: &RequestId,
        namespace: &Namespace,
        name: &FunctionName,
        enabled: bool,
    ) -> Result<(), ApiError> {
        let command = MetaCommand::SetFunctionEnabled {
            namespace: namespace.clone(),
            name: name.clone(),
            enabled,
        };
        self.change(request_id, command).await
    }

    pub(super) async fn delete_function(
        &self,
        request_id: &RequestId,
        namespace: &Namespace,
        name: &FunctionName,
        version: Option<u64>,
    ) -> Result<(), ApiError> {
        let command = MetaCommand::DeleteFunction {
            namespace: namespace.clone(),
            name: name.clone(),
            version,
        };
        self.change(request_id, command).await
    }
}
