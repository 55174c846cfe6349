//! The node's key on the mesh and what follows from it: its peer id and its node id.

use std::sync::Arc;

use libp2p::PeerId;
use libp2p::identity::Keypair;
use orama_proto::NodeId;
use zeroize::Zeroizing;

/// The program's key on the mesh. Its public half is the node's identity.
/// `Debug` never shows it.
#[derive(Clone)]
pub struct NodeKey(Arc<Zeroizing<[u8; 32]>>);

impl NodeKey {
    /// A new one.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate() -> std::io::Result<Self> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(std::io::Error::other)?;
        Ok(Self::from_bytes(seed))
    }
    /// From its 32 bytes (an Ed25519 seed).
    pub fn from_bytes(seed: Zeroizing<[u8; 32]>) -> Self {
        Self(Arc::new(seed))
    }
    /// The 32 bytes, for the key file.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
    /// The node that has this key: the first eight bytes of SHA-256 over the peer id.
    pub fn node_id(&self) -> NodeId {
        node_of(&self.pair().public().to_peer_id())
    }
    /// As the libraries want it.
    pub(super) fn pair(&self) -> Keypair {
        let mut seed = Zeroizing::new(**self.0);
        match Keypair::ed25519_from_bytes(seed.as_mut_slice()) {
            Ok(pair) => pair,
            // It refuses other lengths only, and 32 bytes are the right one.
            Err(_) => unreachable!("an Ed25519 seed has 32 bytes"),
        }
    }
}

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeKey(..)")
    }
}

/// The node behind a peer id.
pub(super) fn node_of(peer: &PeerId) -> NodeId {
    let digest = ring::digest::digest(&ring::digest::SHA256, &peer.to_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_ref()[..8]);
    NodeId(u64::from_be_bytes(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_follows_from_the_key_alone() {
        let key = NodeKey::from_bytes(Zeroizing::new([7; 32]));
        let again = NodeKey::from_bytes(Zeroizing::new(*key.expose()));
        assert_eq!(key.node_id(), again.node_id());
        assert_ne!(key.node_id(), NodeKey::generate().unwrap().node_id());
        // Fixed for ever: a node that computed another id would be another member.
        assert_eq!(key.node_id().to_string(), "f88ff96e561cd45e");
    }

    #[test]
    fn debug_shows_nothing() {
        let key = NodeKey::from_bytes(Zeroizing::new([0xab; 32]));
        assert_eq!(format!("{key:?}"), "NodeKey(..)");
    }
}
