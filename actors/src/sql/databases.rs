//! What the facade asks of the cluster: behind a trait, so that tests need none.

use std::time::Instant;

use orama_cluster::{Answer, DataError, DataGroups, Export, MetaStore, SqlQuery, Written};
use orama_proto::sql::{DatabaseId, ReadOptions, SqlTransaction};
use orama_proto::{Namespace, Timestamp};

use crate::runtime::BoxFuture;

/// The namespaces and their databases.
pub(super) trait Databases: Send + Sync + 'static {
    /// When the namespace was made, as this node knows it.
    fn born(&self, namespace: &Namespace) -> Option<Timestamp>;

    /// See [`MetaStore::confirm`]; the text is for the log.
    fn confirm(&self, deadline: Instant) -> BoxFuture<'_, Result<(), String>>;

    /// See [`DataGroups::execute`].
    fn execute(
        &self,
        transaction: SqlTransaction,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Written, DataError>>;

    /// See [`DataGroups::query`].
    fn query<'a>(
        &'a self,
        database: &'a DatabaseId,
        queries: Vec<SqlQuery>,
        read: ReadOptions,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Answer, DataError>>;

    /// See [`DataGroups::export`].
    fn export<'a>(
        &'a self,
        database: &'a DatabaseId,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Export, DataError>>;
}

/// The node's own.
pub(super) struct Node {
    pub(super) data: DataGroups,
    pub(super) meta: MetaStore,
}

impl Databases for Node {
    fn born(&self, namespace: &Namespace) -> Option<Timestamp> {
        self.meta.namespace(namespace).map(|entry| entry.created_at)
    }

    fn confirm(&self, deadline: Instant) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let confirmed = self.meta.confirm(deadline).await;
            confirmed.map_err(|error| error.to_string())
        })
    }

    fn execute(
        &self,
        transaction: SqlTransaction,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Written, DataError>> {
        Box::pin(self.data.execute(transaction, deadline))
    }

    fn query<'a>(
        &'a self,
        database: &'a DatabaseId,
        queries: Vec<SqlQuery>,
        read: ReadOptions,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Answer, DataError>> {
        Box::pin(self.data.query(database, queries, read, deadline))
    }

    fn export<'a>(
        &'a self,
        database: &'a DatabaseId,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Export, DataError>> {
        Box::pin(self.data.export(database, deadline))
    }
}
