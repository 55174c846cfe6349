//! How fresh an answer must be: reads of the management API see everything that
//! was acknowledged before them on any node, unless they ask not to wait for it.

use orama_proto::ApiError;

use super::Api;
use crate::gateway::front::Call;
use crate::gateway::path;

/// What the parameter `level` of a read asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    /// The default.
    Linearizable,
    /// At once, from this node's memory: works without a leader, and may be old.
    None,
}

impl Level {
    fn parse(query: &str) -> Result<Self, ApiError> {
        match path::query(query, "level")?.as_deref() {
            None | Some("linearizable") => Ok(Self::Linearizable),
            Some("none") => Ok(Self::None),
            Some(_) => Err(ApiError::validation(
                "level must be linearizable (the default) or none",
            )),
        }
    }
}

impl Api {
    /// Waits until this node's memory is as fresh as the call asks for.
    ///
    /// # Errors
    /// 400 for an unknown level, 503 when no leader can be reached.
    pub(super) async fn fresh(&self, call: &Call) -> Result<(), ApiError> {
        match Level::parse(call.request.query_string())? {
            Level::None => Ok(()),
            Level::Linearizable => self.platform.confirm().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_wait_unless_they_say_not_to() {
        let level = |query| Level::parse(query).map_err(|e| e.code.status());
        assert_eq!(level(""), Ok(Level::Linearizable));
        assert_eq!(level("limit=1&level=linearizable"), Ok(Level::Linearizable));
        assert_eq!(level("level=none"), Ok(Level::None));
        assert_eq!(level("level="), Err(400));
        assert_eq!(level("level=strong"), Err(400));
    }
}
