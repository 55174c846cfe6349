//! What the metadata group replicates, and what applying it answers.
//!
//! A command carries everything its effect depends on: times, identifiers and
//! ciphertext are chosen by whoever proposes it, so that every replica comes
//! to the same state. Applying a command either changes the state as a whole
//! or refuses and changes nothing.

use serde::{Deserialize, Serialize};

use crate::function::{FunctionSpec, FunctionVersion};
use crate::sealed::{SealedValue, WrappedKey};
use crate::topology::{ClusterId, Member, NodeState, Placement};
use crate::{
    ContentId, FunctionName, GroupId, Namespace, NodeId, RequestId, SecretName, Timestamp,
};

/// Version of [`MetaEnvelope`] and everything in it, in the log.
pub const COMMAND_VERSION: u8 = 1;

/// A command with what is needed to follow it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaEnvelope {
    /// The request that caused it.
    pub request_id: RequestId,
    /// The proposer's clock.
    pub at: Timestamp,
    /// What to do.
    pub command: MetaCommand,
}

/// A change to the metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetaCommand {
    /// Gives the cluster its own keys; answers `Unchanged` when it has them.
    InitPlatformKeys {
        /// Sealed key material.
        sealed: WrappedKey,
    },
    /// Makes a namespace; `Exists` when there is one.
    CreateNamespace {
        /// Its name.
        namespace: Namespace,
        /// Its data key.
        data_key: WrappedKey,
    },
    /// Removes a namespace with everything in it.
    DeleteNamespace {
        /// Its name.
        namespace: Namespace,
    },
    /// Adds an API key.
    CreateApiKey {
        /// The record; the key itself is not in it.
        key: ApiKeyRecord,
    },
    /// Removes an API key.
    RevokeApiKey {
        /// Whose.
        namespace: Namespace,
        /// Which.
        key_id: String,
    },
    /// Adds the next version of a function, atomically with everything that belongs to it.
    DeployFunction {
        /// The tenant.
        namespace: Namespace,
        /// The function.
        name: FunctionName,
        /// Used when the name is new.
        new_function_id: String,
        /// The module.
        wasm_cid: ContentId,
        /// Its size.
        wasm_bytes: u64,
        /// Its settings.
        spec: FunctionSpec,
        /// Who deploys.
        created_by: String,
    },
    /// Makes a copy of an earlier version the newest one.
    RollbackFunction {
        /// The tenant.
        namespace: Namespace,
        /// The function.
        name: FunctionName,
        /// Which version to copy.
        to: u64,
        /// Who asks.
        created_by: String,
    },
    /// Enables or disables every version of a function.
    SetFunctionEnabled {
        /// The tenant.
        namespace: Namespace,
        /// The function.
        name: FunctionName,
        /// The wanted state.
        enabled: bool,
    },
    /// Deletes one version, or the function.
    DeleteFunction {
        /// The tenant.
        namespace: Namespace,
        /// The function.
        name: FunctionName,
        /// One version, or all.
        version: Option<u64>,
    },
    /// Sets a secret.
    PutSecret {
        /// The tenant.
        namespace: Namespace,
        /// Its name.
        name: SecretName,
        /// Its sealed value.
        value: SealedValue,
    },
    /// Removes a secret.
    DeleteSecret {
        /// The tenant.
        namespace: Namespace,
        /// Its name.
        name: SecretName,
    },
    /// Replaces the wrapping of a namespace's data key; the data key stays.
    RewrapDataKey {
        /// The tenant.
        namespace: Namespace,
        /// The wrapping this replaces; a different present one is a `Conflict`.
        replaces: WrappedKey,
        /// The new wrapping.
        data_key: WrappedKey,
    },
    /// Replaces the wrapping of the platform's keys.
    RewrapPlatformKeys {
        /// The wrapping this replaces.
        replaces: WrappedKey,
        /// The new wrapping.
        sealed: WrappedKey,
    },
    /// Names the cluster and fixes the number of its data groups; `Unchanged` when it has a name.
    InitCluster {
        /// Its id.
        cluster: ClusterId,
        /// Data groups, for good.
        data_groups: u32,
        /// Voters of `meta` that there must be before the cluster is used.
        first_voters: u32,
    },
    /// Adds a member or replaces what is known of it; `Unchanged` when nothing differs.
    /// `Exists` when another member has the name, unless it is the one that `replaces` names.
    /// The state and the joining time of a member that is there stay as they are.
    PutMember {
        /// The member.
        member: Member,
        /// A member of the same name that is gone for good and removed with this; the new
        /// one takes its place in every placement. When it is the member itself, the
        /// command only changes a member that is there: one that was removed meanwhile stays so.
        replaces: Option<NodeId>,
    },
    /// Says what a member is meant to do. Leaving is final, and one member stays.
    SetMemberState {
        /// Which.
        node: NodeId,
        /// What.
        state: NodeState,
    },
    /// Forgets a member. `Conflict` while a placement names it.
    RemoveMember {
        /// Which.
        node: NodeId,
    },
    /// Says where a data group lives. `Conflict` when the epoch is not this any more.
    PlaceGroup {
        /// Which.
        group: GroupId,
        /// Where.
        placement: Placement,
        /// The topology's epoch that the decision was made on.
        epoch: u64,
    },
}

/// An API key as it is stored: only a keyed hash of it (CONTRACT 6.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeyRecord {
    /// Public identifier, shown in lists and logs.
    pub id: String,
    /// The namespace it opens.
    pub namespace: Namespace,
    /// HMAC-SHA-256 of the key under the platform's pepper.
    pub hash: [u8; 32],
    /// For people.
    pub label: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What applying a command answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetaReply {
    /// The change was made.
    Done,
    /// The state was already as wanted.
    Unchanged,
    /// A version came to be.
    Version(Box<FunctionVersion>),
    /// The command was refused and nothing changed.
    Refused(MetaRefusal),
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum MetaRefusal {
    /// What the command names does not exist.
    #[error("{what} {name:?} does not exist")]
    Missing {
        /// namespace, function, version, secret or API key.
        what: String,
        /// Its name.
        name: String,
    },
    /// What the command creates exists.
    #[error("{what} {name:?} exists already")]
    Exists {
        /// namespace or API key.
        what: String,
        /// Its name.
        name: String,
    },
    /// It changed since the proposer looked.
    #[error("{what} changed meanwhile")]
    Conflict {
        /// What changed.
        what: String,
    },
    /// A count is at its limit.
    #[error("{what}: the limit is {limit}")]
    LimitReached {
        /// What is counted.
        what: String,
        /// How many there may be.
        limit: u64,
    },
}
