//! Where members are looked for: parsing the setting, and looking addresses up.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// Addresses that one seed may stand for; a name with more is cut.
const ADDRESSES_MAX: usize = 64;

/// How a member is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seed {
    /// `/ip4/…/tcp/…`, `/ip6/…/tcp/…` or `/dns4/…/tcp/…`.
    Address(String),
    /// `dns:NAME:PORT`: every A and AAAA record, looked up again at every try.
    Dns {
        /// The name.
        name: String,
        /// The port.
        port: u16,
    },
}

impl std::fmt::Display for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(text) => f.write_str(text),
            Self::Dns { name, port } => write!(f, "dns:{name}:{port}"),
        }
    }
}

/// What a multiaddress says, as far as a seed may say it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Socket(SocketAddr),
    /// A name; `Some(true)` wants IPv4 only, `Some(false)` IPv6 only.
    Name(String, u16, Option<bool>),
}

/// Reads `/ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT`. A `/p2p/…` behind it is
/// ignored: who is there is proven by admission, and a member may have come
/// back on a new disk under another key.
fn target(text: &str) -> Result<Target, String> {
    let wrong = |why: &str| format!("{text:?} is no address of a member: {why}");
    let address = Multiaddr::from_str(text).map_err(|e| wrong(&e.to_string()))?;
    let mut parts = address.iter();
    let host = parts.next();
    let Some(Protocol::Tcp(port)) = parts.next() else {
        return Err(wrong("expected /ip4/HOST/tcp/PORT or the like"));
    };
    match parts.next() {
        None | Some(Protocol::P2p(_)) => {}
        Some(_) => return Err(wrong("only TCP is spoken here")),
    }
    if parts.next().is_some() {
        return Err(wrong("something follows the address"));
    }
    if port == 0 {
        return Err(wrong("port 0"));
    }
    match host {
        Some(Protocol::Ip4(ip)) => Ok(Target::Socket((IpAddr::V4(ip), port).into())),
        Some(Protocol::Ip6(ip)) => Ok(Target::Socket((IpAddr::V6(ip), port).into())),
        Some(Protocol::Dns(name)) => Ok(Target::Name(name.into_owned(), port, None)),
        Some(Protocol::Dns4(name)) => Ok(Target::Name(name.into_owned(), port, Some(true))),
        Some(Protocol::Dns6(name)) => Ok(Target::Name(name.into_owned(), port, Some(false))),
        _ => Err(wrong("expected ip4, ip6, dns, dns4 or dns6")),
    }
}

impl FromStr for Seed {
    type Err = String;
    /// Parses the setting's text.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.starts_with('/') {
            target(text)?;
            return Ok(Self::Address(text.to_owned()));
        }
        let wrong = || format!("{text:?} is neither a multiaddress nor dns:NAME:PORT");
        let rest = text.strip_prefix("dns:").ok_or_else(wrong)?;
        let (name, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let port: u16 = port.parse().map_err(|_| wrong())?;
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 253 || !name.chars().all(valid) || port == 0 {
            return Err(wrong());
        }
        Ok(Self::Dns {
            name: name.to_owned(),
            port,
        })
    }
}

impl Seed {
    /// The addresses it stands for at this moment.
    ///
    /// # Errors
    /// A text: the name cannot be looked up.
    pub(super) async fn resolve(&self) -> Result<Vec<SocketAddr>, String> {
        let (name, port, family) = match self {
            Self::Dns { name, port } => (name.clone(), *port, None),
            Self::Address(text) => match target(text)? {
                Target::Socket(address) => return Ok(vec![address]),
                Target::Name(name, port, family) => (name, port, family),
            },
        };
        let found = tokio::net::lookup_host((name.as_str(), port)).await;
        let mut found: Vec<SocketAddr> = found
            .map_err(|e| format!("{name} cannot be looked up: {e}"))?
            .filter(|a| family.is_none_or(|v4| a.is_ipv4() == v4))
            .collect();
        found.sort();
        found.dedup();
        found.truncate(ADDRESSES_MAX);
        if found.is_empty() {
            return Err(format!("{name} has no address"));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_seed_may_look_like() {
        let dns = |name: &str, port| Seed::Dns {
            name: name.into(),
            port,
        };
        assert_eq!("dns:orama:4001".parse(), Ok(dns("orama", 4001)));
        assert_eq!(" dns:a.b-c.d:1 ".parse(), Ok(dns("a.b-c.d", 1)));
        for good in [
            "/ip4/10.0.0.1/tcp/4001",
            "/ip6/::1/tcp/4001",
            "/dns/host/tcp/4001",
            "/dns4/host/tcp/4001",
            "/dns6/host/tcp/4001",
            "/ip4/1.2.3.4/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN",
        ] {
            assert_eq!(good.parse(), Ok(Seed::Address(good.into())));
        }
        for bad in [
            "",
            "host:4001",
            "10.0.0.1:4001",
            "dns:host",
            "dns::4001",
            "dns:host:0",
            "dns:host:70000",
            "dns:ho st:1",
            "/ip4/10.0.0.1",
            "/ip4/10.0.0.1/udp/1",
            "/ip4/10.0.0.1/tcp/0",
            "/ip4/10.0.0.1/tcp/1/ws",
            "/ip4/300.0.0.1/tcp/1",
            "/unix/a/tcp/1",
        ] {
            let error = bad.parse::<Seed>().unwrap_err();
            assert!(error.contains(bad.trim()), "{bad}: {error}");
        }
    }

    #[tokio::test]
    async fn addresses_are_looked_up_at_each_try() {
        let seed: Seed = "/ip4/127.0.0.1/tcp/7".parse().unwrap();
        assert_eq!(
            seed.resolve().await.unwrap(),
            ["127.0.0.1:7".parse().unwrap()]
        );
        let seed: Seed = "dns:localhost:7".parse().unwrap();
        let found = seed.resolve().await.unwrap();
        assert!(found.iter().all(|a| a.ip().is_loopback() && a.port() == 7));
        let seed: Seed = "/dns4/localhost/tcp/7".parse().unwrap();
        assert!(seed.resolve().await.unwrap().iter().all(|a| a.is_ipv4()));
        let seed: Seed = "dns:no-such-host.invalid:7".parse().unwrap();
        assert!(seed.resolve().await.unwrap_err().contains("no-such-host"));
    }
}
