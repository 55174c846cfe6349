//! What nodes ask each other so that one answer speaks for all: journal
//! records, and whether a change is visible. Each message is a record of
//! [`GATHER_VERSION`] (see [`crate::record`]).

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{FunctionName, Namespace, RequestId};

/// Version of everything in this module on the wire.
pub const GATHER_VERSION: u8 = 1;
/// Records of one answer, bytes: fewer than the journal answers, so that an
/// answer that was cut is known to be.
pub const GATHER_MAX_BYTES: usize = 12 << 20;

/// Asks a node for its records of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatherRequest {
    /// The tenant.
    pub namespace: Namespace,
    /// The function.
    pub function: FunctionName,
    /// The newest so many.
    pub limit: u32,
    /// Only records newer than this record id.
    pub after: Option<String>,
    /// Only this request.
    pub request_id: Option<RequestId>,
}

/// A node's records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatherReply {
    /// Newest first; each a record of `invocation::RECORD_VERSION`, as it is
    /// stored: what another version wrote can be passed over alone.
    pub records: Vec<ByteBuf>,
    /// There were more within the limit, older ones, that did not fit
    /// [`GATHER_MAX_BYTES`].
    pub cut: bool,
}

/// Asks a node to answer when it has applied the metadata up to `index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VisibleRequest {
    /// Of the metadata's log.
    pub index: u64,
}

/// How far a node was when it answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VisibleReply {
    /// Of the metadata's log.
    pub applied: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record;

    #[test]
    fn messages_survive_the_wire() {
        let request = GatherRequest {
            namespace: Namespace::parse("ns").unwrap(),
            function: FunctionName::parse("f").unwrap(),
            limit: 50,
            after: Some("a".into()),
            request_id: Some(RequestId::from("r")),
        };
        let bytes = record::encode(GATHER_VERSION, &request).unwrap();
        assert_eq!(
            record::decode::<GatherRequest>(GATHER_VERSION, &bytes).unwrap(),
            request
        );
        let reply = GatherReply {
            records: vec![ByteBuf::from(vec![1, 2, 3])],
            cut: true,
        };
        let bytes = record::encode(GATHER_VERSION, &reply).unwrap();
        assert_eq!(
            record::decode::<GatherReply>(GATHER_VERSION, &bytes).unwrap(),
            reply
        );
    }
}
