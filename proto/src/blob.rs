//! What nodes say to each other about blobs. Each message is a record of
//! [`BLOB_VERSION`] (see [`crate::record`]).

use serde::{Deserialize, Serialize};

use crate::ContentId;

/// Version of [`BlobRequest`] and [`BlobReply`] on the wire.
pub const BLOB_VERSION: u8 = 1;
/// Bytes of a chunk at most; a frame of the bulk lane holds it with room to spare.
pub const BLOB_CHUNK_BYTES: usize = 1 << 20;

/// What one node asks another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlobRequest {
    /// Do you have it?
    Has {
        /// Which.
        cid: ContentId,
    },
    /// A chunk of it. One at offset 0 is answered only for a blob that is whole.
    Read {
        /// Which.
        cid: ContentId,
        /// From which byte on.
        offset: u64,
    },
    /// Get it, from me or from anybody, verify it, make it durable, then answer.
    Hold {
        /// Which.
        cid: ContentId,
        /// How large it is.
        bytes: u64,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlobReply {
    /// To any of them: it is not here.
    Absent,
    /// To `Has`: a file of so many bytes.
    Here {
        /// Its size.
        bytes: u64,
    },
    /// To `Read`.
    Chunk(BlobChunk),
    /// To `Hold`: it is here, verified, past fdatasync.
    Held,
}

/// A piece of a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobChunk {
    /// Size of the whole blob. A claim: the receiver allocates for what came.
    pub total: u64,
    /// xxh3-64 of `bytes`: finds a damaged piece before the whole is there.
    pub digest: u64,
    /// From the asked offset on; [`BLOB_CHUNK_BYTES`] of them, fewer at the end.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record;

    #[test]
    fn messages_survive_the_wire() {
        let cid = ContentId::of(b"x");
        for request in [
            BlobRequest::Has { cid },
            BlobRequest::Read { cid, offset: 7 },
            BlobRequest::Hold { cid, bytes: 9 },
        ] {
            let bytes = record::encode(BLOB_VERSION, &request).unwrap();
            assert_eq!(
                record::decode::<BlobRequest>(BLOB_VERSION, &bytes).unwrap(),
                request
            );
        }
        let reply = BlobReply::Chunk(BlobChunk {
            total: u64::MAX,
            digest: 1,
            bytes: vec![7; BLOB_CHUNK_BYTES],
        });
        let bytes = record::encode(BLOB_VERSION, &reply).unwrap();
        assert!(bytes.len() < BLOB_CHUNK_BYTES + 64);
        assert_eq!(
            record::decode::<BlobReply>(BLOB_VERSION, &bytes).unwrap(),
            reply
        );
    }
}
