//! What peers are answered.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use orama_proto::blob::{BLOB_VERSION, BlobChunk, BlobReply, BlobRequest};
use orama_proto::{ContentId, NodeId, record};
use xxhash_rust::xxh3::xxh3_64;

use super::{Inner, worth_fetching};
use crate::blobs::{BLOB_MAX_BYTES, BlobError};
use crate::mesh::{BoxFuture, Declined, Handler, Incoming};

/// Answers peers for as long as the blobs live.
pub(super) struct Serve(pub(super) Weak<Inner>);

impl Handler for Serve {
    fn call(&self, incoming: Incoming) -> BoxFuture<'static, Result<Bytes, Declined>> {
        let inner = self.0.upgrade();
        Box::pin(async move {
            let inner = inner.ok_or_else(|| Declined("the node is stopping".to_owned()))?;
            let request = record::decode(BLOB_VERSION, &incoming.body)
                .map_err(|error| Declined(error.to_string()))?;
            let reply = inner.answer(incoming.from, request).await?;
            record::encode(BLOB_VERSION, &reply)
                .map(Bytes::from)
                .map_err(|error| Declined(error.to_string()))
        })
    }
}

impl Inner {
    async fn answer(
        self: &Arc<Self>,
        from: NodeId,
        request: BlobRequest,
    ) -> Result<BlobReply, Declined> {
        let answer = match request {
            BlobRequest::Has { cid } => self.store.size(cid).await.map(|bytes| match bytes {
                Some(bytes) => BlobReply::Here { bytes },
                None => BlobReply::Absent,
            }),
            BlobRequest::Read { cid, offset } => self.read(cid, offset).await,
            BlobRequest::Hold { cid, bytes } => self.hold(cid, bytes, from).await,
        };
        match answer {
            Ok(reply) => Ok(reply),
            Err(BlobError::Missing(_) | BlobError::Corrupt { .. }) => Ok(BlobReply::Absent),
            // The text names no path.
            Err(error) => Err(Declined(error.to_string())),
        }
    }

    async fn read(&self, cid: ContentId, offset: u64) -> Result<BlobReply, BlobError> {
        let (bytes, total) = self.store.chunk(cid, offset).await?;
        self.metrics.served.inc_by(bytes.len() as u64);
        Ok(BlobReply::Chunk(BlobChunk {
            total,
            digest: xxh3_64(&bytes),
            bytes,
        }))
    }

    async fn hold(
        self: &Arc<Self>,
        cid: ContentId,
        bytes: u64,
        from: NodeId,
    ) -> Result<BlobReply, BlobError> {
        if bytes > BLOB_MAX_BYTES as u64 {
            return Ok(BlobReply::Absent);
        }
        match self.store.hold(cid).await {
            Ok(()) => Ok(BlobReply::Held),
            Err(error) if worth_fetching(&error) => {
                self.fetch(cid, Some(from)).await.map(|_| BlobReply::Held)
            }
            Err(error) => Err(error),
        }
    }
}
