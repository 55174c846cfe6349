//! Multiaddresses: what may be configured, and where a name leads.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tokio::net::lookup_host;
use tokio::time::timeout;

/// A name that takes longer is tried again later.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);
/// Addresses of one name that are tried.
const PER_NAME: usize = 8;

/// The machine in an address.
pub(super) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip)),
        _ => None,
    })
}

/// `/ip4|ip6/…/tcp/…` of a socket address.
pub(super) fn of_socket(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()))
}

/// An address that can be dialled and told: a machine or name, then `/tcp`.
/// A `/p2p` at its end is dropped: identities are proven, not looked up.
pub(super) fn parse(text: &str) -> Result<Multiaddr, String> {
    let address: Multiaddr = text.parse().map_err(|e| format!("{e}"))?;
    let parts: Vec<Protocol<'_>> = address.iter().collect();
    let (machine, tcp) = match parts.as_slice() {
        [machine, tcp] => (machine, tcp),
        [machine, tcp, Protocol::P2p(_)] => (machine, tcp),
        _ => return Err("it is not of the form /ip4/ADDRESS/tcp/PORT".into()),
    };
    let known = matches!(
        machine,
        Protocol::Ip4(_)
            | Protocol::Ip6(_)
            | Protocol::Dns(_)
            | Protocol::Dns4(_)
            | Protocol::Dns6(_)
    );
    if !known || !matches!(tcp, Protocol::Tcp(_)) {
        return Err("it is not of the form /ip4/ADDRESS/tcp/PORT".into());
    }
    Ok(Multiaddr::empty().with(machine.clone()).with(tcp.clone()))
}

/// An address to listen on: no name.
pub(super) fn parse_listen(text: &str) -> Result<Multiaddr, String> {
    let address = parse(text)?;
    if ip_of(&address).is_none() {
        return Err("a name cannot be listened on; give an IP address".into());
    }
    Ok(address)
}

/// The addresses behind an address: itself, or those of its name now.
pub(super) async fn resolve(address: &Multiaddr) -> Result<Vec<Multiaddr>, String> {
    let mut parts = address.iter();
    let (Some(machine), Some(Protocol::Tcp(port))) = (parts.next(), parts.next()) else {
        return Err("it is not of the form /ip4/ADDRESS/tcp/PORT".into());
    };
    let (name, four, six) = match &machine {
        Protocol::Ip4(_) | Protocol::Ip6(_) => return Ok(vec![address.clone()]),
        Protocol::Dns(name) => (name, true, true),
        Protocol::Dns4(name) => (name, true, false),
        Protocol::Dns6(name) => (name, false, true),
        _ => return Err("it names no machine".into()),
    };
    let found = timeout(LOOKUP_TIMEOUT, lookup_host((name.as_ref(), port)))
        .await
        .map_err(|_| format!("{name} could not be looked up in time"))?
        .map_err(|e| format!("{name} could not be looked up: {e}"))?;
    let found: Vec<Multiaddr> = found
        .filter(|socket| if socket.is_ipv4() { four } else { six })
        .take(PER_NAME)
        .map(of_socket)
        .collect();
    if found.is_empty() {
        return Err(format!("{name} has no address"));
    }
    Ok(found)
}

/// Of the addresses listened on, those to tell peers: this machine's own ones
/// do not help them, unless there is nothing else.
pub(super) fn to_tell(listening: &[Multiaddr]) -> Vec<String> {
    let is_useful = |address: &&Multiaddr| match ip_of(address) {
        Some(IpAddr::V4(ip)) => !ip.is_loopback() && !ip.is_link_local(),
        // A link-local address means nothing without the name of an interface.
        Some(IpAddr::V6(ip)) => !ip.is_loopback() && !ip.is_unicast_link_local(),
        None => false,
    };
    let useful: Vec<&Multiaddr> = listening.iter().filter(is_useful).collect();
    let told = if useful.is_empty() {
        listening.iter().collect()
    } else {
        useful
    };
    told.into_iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_a_machine_and_a_port() {
        for good in [
            "/ip4/0.0.0.0/tcp/4001",
            "/ip6/::1/tcp/0",
            "/dns4/a.example/tcp/1",
            "/dns/a/tcp/1",
        ] {
            assert_eq!(parse(good).unwrap().to_string(), good);
        }
        let peer = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
        let with_peer = format!("/ip4/1.2.3.4/tcp/1/p2p/{peer}");
        assert_eq!(parse(&with_peer).unwrap().to_string(), "/ip4/1.2.3.4/tcp/1");
        for bad in [
            "",
            "1.2.3.4:1",
            "/ip4/1.2.3.4",
            "/tcp/1",
            "/ip4/1.2.3.4/udp/1",
            "/ip4/1.2.3.4/tcp/1/ws",
            "/ip4/1.2.3.4/tcp/1/tcp/2",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse_listen("/dns4/localhost/tcp/1").is_err());
    }

    #[test]
    fn loopback_is_told_when_there_is_nothing_else() {
        let parsed = |texts: &[&str]| -> Vec<Multiaddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let lo = "/ip4/127.0.0.1/tcp/1";
        assert_eq!(to_tell(&parsed(&[lo])), [lo]);
        let lan = "/ip4/10.0.0.1/tcp/1";
        assert_eq!(
            to_tell(&parsed(&[lo, lan, "/ip6/::1/tcp/1", "/ip6/fe80::1/tcp/1"])),
            [lan]
        );
    }

    #[tokio::test]
    async fn names_lead_to_addresses_of_their_kind() {
        let resolved = resolve(&"/dns4/localhost/tcp/7".parse().unwrap()).await;
        assert_eq!(
            resolved.unwrap(),
            ["/ip4/127.0.0.1/tcp/7".parse::<Multiaddr>().unwrap()]
        );
        let nobody = resolve(&"/dns4/nobody.invalid/tcp/7".parse().unwrap()).await;
        assert!(nobody.unwrap_err().contains("nobody.invalid"));
    }
}
