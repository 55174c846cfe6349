//! What host functions get from the node.

use std::time::Instant;

use orama_cluster::{Answer, MetaStore, SqlQuery, Written};
use orama_proto::sql::{ReadOptions, SqlError, SqlOp};
use orama_proto::{Namespace, SecretName};
use zeroize::Zeroizing;

use crate::errors::Seldom;
use crate::runtime::{BoxFuture, HostServices};
use crate::sql::{Sql, SqlCaller};
use crate::vault::{VaultError, Vaults};

/// The node, as guests may use it.
pub(super) struct NodeServices {
    pub(super) meta: MetaStore,
    pub(super) vaults: Vaults,
    pub(super) sql: Sql,
}

impl HostServices for NodeServices {
    fn secret<'a>(
        &'a self,
        namespace: &'a Namespace,
        name: &'a SecretName,
    ) -> BoxFuture<'a, Result<Option<Zeroizing<Vec<u8>>>, String>> {
        Box::pin(async move {
            let (Some(entry), Some(sealed)) = (
                self.meta.namespace(namespace),
                self.meta.secret(namespace, name),
            ) else {
                return Ok(None);
            };
            // A guest may ask in a loop.
            static SELDOM: Seldom = Seldom::new();
            match self.vaults.open(&entry, name, &sealed).await {
                Ok(value) => Ok(Some(value)),
                Err(VaultError::Unavailable(cause)) => {
                    if SELDOM.due() {
                        tracing::warn!(%namespace, secret = %name, cause, "a secret cannot be opened now");
                    }
                    Err(format!("secret {name:?} is not available now"))
                }
                Err(error) => {
                    if SELDOM.due() {
                        tracing::error!(%namespace, secret = %name, %error, "a secret cannot be opened");
                    }
                    Err(format!("secret {name:?} cannot be opened; set it again"))
                }
            }
        })
    }

    fn sql_execute<'a>(
        &'a self,
        caller: SqlCaller<'a>,
        ops: Vec<SqlOp>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Written, SqlError>> {
        Box::pin(self.sql.execute(caller, ops, deadline))
    }

    fn sql_query<'a>(
        &'a self,
        caller: SqlCaller<'a>,
        queries: Vec<SqlQuery>,
        read: ReadOptions,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Answer, SqlError>> {
        Box::pin(self.sql.query(caller, queries, read, deadline))
    }
}
