//! Identifiers that machines make.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A Raft group. Group 0 is `meta`; the data groups follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupId(pub u32);

impl GroupId {
    /// The metadata group.
    pub const META: GroupId = GroupId(0);
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::META {
            f.write_str("meta")
        } else {
            write!(f, "data-{}", self.0)
        }
    }
}

/// A node of the cluster: the first eight bytes of SHA-256 over its public key's peer id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct NodeId(pub u64);

// In the form that tables and flags use, so that one log can be searched for it.
impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Follows one request through gateway, guest, log and replicated command.
/// The text is the `X-Request-ID` header: a UUID unless a trusted peer gave another.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// A new random one.
    pub fn random() -> Self {
        let mut buffer = Uuid::encode_buffer();
        Self(Arc::from(
            &*Uuid::new_v4().hyphenated().encode_lower(&mut buffer),
        ))
    }
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for RequestId {
    fn from(text: &str) -> Self {
        Self(Arc::from(text))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
