//! Admission: after Noise and before anything else, both sides prove that they
//! know the cluster secret.
//!
//! ```text
//! both      version, nonce                                  33 bytes each
//! dialer    proof, proof                                    64 bytes
//! listener  verdict, and when it is good: proof, proof      65 bytes
//! ```
//!
//! A proof is HMAC-SHA256(secret, domain, role, own peer id, other peer id, own
//! nonce, other nonce). The peer ids are those that Noise has authenticated, so
//! a proof is worth nothing on another connection; the role keeps it from being
//! sent back. The dialer proves first: who scans a listener gets nothing that a
//! secret could be guessed from offline. There are always two proofs; a side
//! with one secret fills the other with random bytes, so nobody learns whether
//! a rotation is on. Two sides understand each other when they share any secret.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::PeerId;
use libp2p::core::UpgradeInfo;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use libp2p::noise;
use ring::hmac;

use super::metrics::Metrics;
use super::secrets::{ClusterSecrets, MOST};

const VERSION: u8 = 1;
const DOMAIN: &[u8] = b"orama mesh admission 1";
const NONCE: usize = 32;
const PROOF: usize = 32;
const REFUSED: u8 = 0;
const ADMITTED: u8 = 1;

/// Why somebody is not let in, or does not let us in.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdmissionError {
    #[error("no encryption could be agreed on: {0}")]
    Noise(#[from] noise::Error),
    #[error("the connection ended during admission: {0}")]
    Io(#[from] io::Error),
    #[error("the peer speaks version {0} of admission, this program version {VERSION}")]
    Version(u8),
    #[error("wrong cluster secret")]
    Secret,
    #[error("the peer refuses our cluster secret")]
    Refused,
}

impl AdmissionError {
    fn label(&self) -> &'static str {
        match self {
            Self::Noise(_) => "noise",
            Self::Io(_) => "broken",
            Self::Version(_) => "version",
            Self::Secret => "wrong_secret",
            Self::Refused => "refused",
        }
    }
}

/// Noise and admission as one step of the connection.
#[derive(Clone)]
pub(super) struct Admission {
    noise: noise::Config,
    own: PeerId,
    keys: Arc<[hmac::Key]>,
    metrics: Metrics,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Dialer,
    Listener,
}

impl Role {
    fn other(self) -> Self {
        match self {
            Self::Dialer => Self::Listener,
            Self::Listener => Self::Dialer,
        }
    }
    fn byte(self) -> u8 {
        match self {
            Self::Dialer => b'd',
            Self::Listener => b'l',
        }
    }
}

impl Admission {
    pub(super) fn new(
        noise: noise::Config,
        own: PeerId,
        secrets: &ClusterSecrets,
        metrics: Metrics,
    ) -> Self {
        let keys = secrets
            .iter()
            .map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret))
            .collect();
        Self {
            noise,
            own,
            keys,
            metrics,
        }
    }

    async fn admit<S>(&self, role: Role, peer: PeerId, io: &mut S) -> Result<(), AdmissionError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut hello = [0; 1 + NONCE];
        hello[0] = VERSION;
        getrandom::fill(&mut hello[1..]).map_err(io::Error::other)?;
        io.write_all(&hello).await?;
        io.flush().await?;
        let mut theirs = [0; 1 + NONCE];
        io.read_exact(&mut theirs).await?;
        if theirs[0] != VERSION {
            return Err(AdmissionError::Version(theirs[0]));
        }
        let (own_nonce, their_nonce) = (&hello[1..], &theirs[1..]);
        let ours = statement(role, &self.own, &peer, own_nonce, their_nonce);
        let expected = statement(role.other(), &peer, &self.own, their_nonce, own_nonce);
        match role {
            Role::Dialer => {
                io.write_all(&self.prove(&ours)?).await?;
                io.flush().await?;
                let mut answer = [0; 1 + MOST * PROOF];
                io.read_exact(&mut answer).await?;
                if answer[0] != ADMITTED {
                    return Err(AdmissionError::Refused);
                }
                self.verify(&expected, &answer[1..])
            }
            Role::Listener => {
                let mut proofs = [0; MOST * PROOF];
                io.read_exact(&mut proofs).await?;
                let verdict = self.verify(&expected, &proofs);
                let mut answer = [0; 1 + MOST * PROOF];
                answer[0] = REFUSED;
                if verdict.is_ok() {
                    answer[0] = ADMITTED;
                    answer[1..].copy_from_slice(&self.prove(&ours)?);
                }
                io.write_all(&answer).await?;
                io.flush().await?;
                verdict
            }
        }
    }

    fn prove(&self, statement: &[u8]) -> io::Result<[u8; MOST * PROOF]> {
        let mut out = [0; MOST * PROOF];
        getrandom::fill(&mut out).map_err(io::Error::other)?;
        for (key, place) in self.keys.iter().zip(out.chunks_exact_mut(PROOF)) {
            place.copy_from_slice(hmac::sign(key, statement).as_ref());
        }
        Ok(out)
    }

    /// `hmac::verify` compares in constant time.
    fn verify(&self, statement: &[u8], proofs: &[u8]) -> Result<(), AdmissionError> {
        let known = proofs.chunks_exact(PROOF).any(|proof| {
            self.keys
                .iter()
                .any(|key| hmac::verify(key, statement, proof).is_ok())
        });
        if known {
            Ok(())
        } else {
            Err(AdmissionError::Secret)
        }
    }
}

/// What a proof is about. Every part has one length or is preceded by it.
fn statement(role: Role, own: &PeerId, other: &PeerId, own_nonce: &[u8], nonce: &[u8]) -> Vec<u8> {
    let mut out = DOMAIN.to_vec();
    out.push(role.byte());
    for peer in [own, other] {
        let bytes = peer.to_bytes();
        out.push(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(&bytes);
    }
    out.extend_from_slice(own_nonce);
    out.extend_from_slice(nonce);
    out
}

impl UpgradeInfo for Admission {
    type Info = &'static str;
    type InfoIter = std::iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once("/orama/noise/1")
    }
}

impl<S> InboundConnectionUpgrade<S> for Admission
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = (PeerId, noise::Output<S>);
    type Error = AdmissionError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Output, Self::Error>> + Send>>;

    fn upgrade_inbound(self, socket: S, _: Self::Info) -> Self::Future {
        let noise = self.noise.clone();
        let secured = noise.upgrade_inbound(socket, "/noise");
        finish(self, Role::Listener, secured)
    }
}

impl<S> OutboundConnectionUpgrade<S> for Admission
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = (PeerId, noise::Output<S>);
    type Error = AdmissionError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Output, Self::Error>> + Send>>;

    fn upgrade_outbound(self, socket: S, _: Self::Info) -> Self::Future {
        let noise = self.noise.clone();
        let secured = noise.upgrade_outbound(socket, "/noise");
        finish(self, Role::Dialer, secured)
    }
}

type Secured<S> = Result<(PeerId, noise::Output<S>), noise::Error>;

fn finish<S>(
    admission: Admission,
    role: Role,
    secured: impl Future<Output = Secured<S>> + Send + 'static,
) -> BoxFuture<'static, Result<(PeerId, noise::Output<S>), AdmissionError>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    Box::pin(async move {
        let result: Result<_, AdmissionError> = async {
            let (peer, mut io) = secured.await?;
            admission.admit(role, peer, &mut io).await?;
            Ok((peer, io))
        }
        .await;
        admission.metrics.admission(match &result {
            Ok(_) => "admitted",
            Err(error) => error.label(),
        });
        result
    })
}
