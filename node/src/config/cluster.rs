//! The settings of a node that is part of a cluster: where it listens, where
//! it looks for members, and the secret that admits it (CONTRACT 14.1).

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use orama_cluster::mesh::ClusterSecrets;
use orama_cluster::{LinkOptions, Seed};

use super::layers::{Found, Layers};
use super::settings::{Mode, number};
use super::{CLUSTER_SECRET, ConfigError, Environment, secrets};

/// Most values of a repeatable setting; a member has no more addresses either.
const LIST_MAX: usize = 16;
/// Most nodes that a new cluster may wait for.
const EXPECT_MAX: usize = 64;

/// The mesh's settings; `None` without a cluster secret.
///
/// # Errors
/// See [`ConfigError`]; every setting here but the secret itself needs the secret.
pub(super) fn links(
    layers: &Layers<'_>,
    environment: Environment<'_>,
    mode: Mode,
) -> Result<Option<LinkOptions>, ConfigError> {
    let secret = secrets::find(layers, environment, CLUSTER_SECRET, "cluster_secret_file")?;
    let join = seeds(layers)?;
    let default_expect = usize::from(join.is_empty());
    let expect = number(layers, "bootstrap_expect", default_expect, 0, EXPECT_MAX)?;
    if let Some(found) = layers.find("bootstrap_expect")
        && expect == 0
        && join.is_empty()
    {
        return Err(found.wrong("must be at least 1 without --join, or there would be no cluster"));
    }
    let default_listen = match mode {
        Mode::Node => "/ip4/0.0.0.0/tcp/4001",
        Mode::Dev => "/ip4/127.0.0.1/tcp/4001",
    };
    let listen =
        addresses(layers, "mesh_listen", false)?.unwrap_or_else(|| vec![default_listen.to_owned()]);
    let advertise = addresses(layers, "mesh_advertise", true)?.unwrap_or_default();
    let Some(secret) = secret else {
        let idle = ["join", "bootstrap_expect", "mesh_listen", "mesh_advertise"]
            .into_iter()
            .filter(|name| *name != "bootstrap_expect" || expect > 1)
            .find_map(|name| layers.find(name));
        return match idle {
            Some(found) => Err(ConfigError::NeedsClusterSecret {
                origin: found.origin,
            }),
            None => Ok(None),
        };
    };
    let secrets = ClusterSecrets::parse(secret.expose()).map_err(|problem| ConfigError::Value {
        origin: CLUSTER_SECRET.into(),
        problem,
    })?;
    Ok(Some(LinkOptions {
        listen,
        advertise,
        secrets,
        join,
        // At most 64, so the cast keeps the number.
        bootstrap_expect: expect as u32,
    }))
}

/// The values of a repeatable setting: commas separate them wherever it comes from.
fn list(layers: &Layers<'_>, name: &str) -> Result<Option<(Found, Vec<String>)>, ConfigError> {
    let Some(found) = layers.find(name) else {
        return Ok(None);
    };
    let values: Vec<String> = found
        .text
        .split(',')
        .map(str::trim)
        .filter(|value| !value.is_empty())
        .map(str::to_owned)
        .collect();
    match values.len() {
        0 => Err(found.wrong("must not be empty")),
        1..=LIST_MAX => Ok(Some((found, values))),
        _ => Err(found.wrong(&format!("must have at most {LIST_MAX} values"))),
    }
}

fn seeds(layers: &Layers<'_>) -> Result<Vec<Seed>, ConfigError> {
    let Some((found, values)) = list(layers, "join")? else {
        return Ok(Vec::new());
    };
    let parse = |value: &String| {
        Seed::from_str(value).map_err(|problem| ConfigError::Value {
            origin: found.origin.clone(),
            // It repeats the value already.
            problem,
        })
    };
    values.iter().map(parse).collect()
}

fn addresses(
    layers: &Layers<'_>,
    name: &str,
    names_allowed: bool,
) -> Result<Option<Vec<String>>, ConfigError> {
    let Some((found, values)) = list(layers, name)? else {
        return Ok(None);
    };
    match values.iter().find(|v| !is_address(v, names_allowed)) {
        None => Ok(Some(values)),
        Some(_) if names_allowed => Err(found.wrong(
            "must be multiaddresses that peers can reach, such as /ip4/10.0.0.1/tcp/4001 or /dns4/node-1/tcp/4001",
        )),
        Some(_) => Err(found.wrong("must be multiaddresses such as /ip4/0.0.0.0/tcp/4001")),
    }
}

/// Whether a text is `/ip4|ip6|dns…/HOST/tcp/PORT`. What is told to peers may be
/// a name, and neither "any address" nor "any port".
fn is_address(text: &str, told: bool) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    let ["", kind, host, "tcp", port] = parts[..] else {
        return false;
    };
    let host_fits = match kind {
        "ip4" => host
            .parse()
            .is_ok_and(|ip: Ipv4Addr| !told || !ip.is_unspecified()),
        "ip6" => host
            .parse()
            .is_ok_and(|ip: Ipv6Addr| !told || !ip.is_unspecified()),
        "dns" | "dns4" | "dns6" => told && !host.is_empty(),
        _ => false,
    };
    host_fits && port.parse().is_ok_and(|port: u16| !told || port != 0)
}
