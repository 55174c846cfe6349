//! Secrets of a namespace (CONTRACT 2.9, 5.1).

use orama_proto::command::MetaCommand;
use orama_proto::limits::SECRET_VALUE_MAX_BYTES;
use orama_proto::{ApiError, ErrorCode, Namespace, RequestId, SecretName};
use zeroize::Zeroizing;

use super::Inner;
use crate::errors;

impl Inner {
    pub(super) async fn set_secret(
        &self,
        request_id: &RequestId,
        namespace: &Namespace,
        name: &SecretName,
        value: Zeroizing<Vec<u8>>,
    ) -> Result<(), ApiError> {
        check_value(value.len())?;
        let entry = self.namespace_confirmed(namespace).await?;
        let sealed = self.vaults.seal(&entry, name, &value).await;
        drop(value);
        let command = MetaCommand::PutSecret {
            namespace: namespace.clone(),
            name: name.clone(),
            value: sealed.map_err(|e| errors::vault(&e))?,
        };
        self.change(request_id, command).await
    }

    pub(super) async fn delete_secret(
        &self,
        request_id: &RequestId,
        namespace: &Namespace,
        name: &SecretName,
    ) -> Result<(), ApiError> {
        let command = MetaCommand::DeleteSecret {
            namespace: namespace.clone(),
            name: name.clone(),
        };
        self.change(request_id, command).await
    }
}

fn check_value(bytes: usize) -> Result<(), ApiError> {
    match bytes {
        0 => Err(ApiError::validation("secret value required")),
        1..=SECRET_VALUE_MAX_BYTES => Ok(()),
        _ => Err(ApiError::new(
            ErrorCode::PayloadTooLarge,
            format!("secret value has {bytes} bytes, the limit is {SECRET_VALUE_MAX_BYTES}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_one_byte_to_64_kib() {
        let status = |bytes| check_value(bytes).map_err(|e| e.code.status());
        assert_eq!(status(0), Err(400));
        assert_eq!(check_value(0).unwrap_err().message, "secret value required");
        assert_eq!(status(1), Ok(()));
        assert_eq!(status(65_536), Ok(()));
        assert_eq!(status(65_537), Err(413));
    }
}
