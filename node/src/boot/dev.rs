//! What `orama dev` does beyond a node: secrets that make themselves, a
//! namespace with a key, and a command line that knows both.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use orama_actors::Platform;
use orama_actors::vault::MasterKeys;
use orama_cluster::DataDir;
use orama_proto::invocation::Principal;
use orama_proto::{Namespace, RequestId};
use zeroize::Zeroizing;

use super::keep;
use crate::config::{Config, Secret};

/// The namespace that development happens in.
const NAMESPACE: &str = "default";

/// Makes the secrets that were not given, once.
///
/// # Errors
/// When a file cannot be read or written.
pub(super) fn fill_secrets(config: &mut Config, dir: &DataDir) -> anyhow::Result<()> {
    if config.master_key.is_none() {
        let file = dir.path().join("dev-master-key");
        let key = keep::find_or_make(&file, || Ok(MasterKeys::generate()))?;
        config.master_key = Some(key);
    }
    if config.admin_token.is_none() {
        let file = dir.path().join("dev-admin-token");
        config.admin_token = Some(keep::find_or_make(&file, random_token)?);
    }
    Ok(())
}

fn random_token() -> anyhow::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0u8; 32]);
    getrandom::fill(&mut *bytes).context("the system has no random numbers")?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)))
}

/// Sees to the namespace and its key, and makes them the command line's own.
/// Answers what is to be printed.
///
/// # Errors
/// When the namespace or the key cannot be made.
pub(super) async fn settle(
    platform: &Platform,
    dir: &DataDir,
    addr: SocketAddr,
    admin_token: &Secret,
) -> anyhow::Result<String> {
    let namespace = Namespace::parse(NAMESPACE)?;
    let key = api_key(platform, dir, &namespace).await?;
    let url = format!("http://{}", reachable(addr));
    let key_text = key.expose().as_str();
    let environment =
        crate::cli::environments::activate_local(&url, NAMESPACE, key_text, admin_token.expose());
    let mut text = Vec::new();
    writeln!(text, "\nOrama is running.\n")?;
    writeln!(text, "  URL        {url}")?;
    writeln!(text, "  Namespace  {NAMESPACE}")?;
    writeln!(text, "  API key    {key_text}\n")?;
    match environment {
        Ok(()) => writeln!(
            text,
            "The command line uses it as environment `local`. Try:\n"
        )?,
        Err(error) => writeln!(
            text,
            "The command line could not be set up ({error:#}); give it the URL and the key:\n\n  export ORAMA_API_URL={url} ORAMA_TOKEN={key_text}\n"
        )?,
    }
    writeln!(text, "  orama function init hello")?;
    writeln!(text, "  orama function deploy hello")?;
    writeln!(
        text,
        "  orama function invoke hello --data '{{\"name\":\"you\"}}'\n"
    )?;
    Ok(String::from_utf8(text)?)
}

/// The key of an earlier run while it still opens the namespace, else a new one.
async fn api_key(
    platform: &Platform,
    dir: &DataDir,
    namespace: &Namespace,
) -> anyhow::Result<Secret> {
    let file = dir.path().join("dev-api-key");
    if let Some(kept) = keep::find(&file)?
        && let Ok(Principal::ApiKey { namespace: of, .. }) = platform.authenticate(kept.expose())
        && of == *namespace
    {
        return Ok(kept);
    }
    let request_id = RequestId::random();
    let key = match platform.meta().namespace(namespace) {
        None => platform.create_namespace(&request_id, namespace).await?,
        Some(_) => {
            platform
                .create_key(&request_id, namespace, "orama dev")
                .await?
                .1
        }
    };
    let key = Secret::new(key);
    keep::store(&file, &key)?;
    Ok(key)
}

/// An address that a client on this machine reaches.
fn reachable(mut addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => addr.set_ip([127, 0, 0, 1].into()),
        IpAddr::V6(ip) if ip.is_unspecified() => {
            addr.set_ip(std::net::Ipv6Addr::LOCALHOST.into());
        }
        _ => {}
    }
    addr
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_becomes_a_reachable_one() {
        let of = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(of("0.0.0.0:1"), "127.0.0.1:1");
        assert_eq!(of("[::]:1"), "[::1]:1");
        assert_eq!(of("10.0.0.1:1"), "10.0.0.1:1");
    }

    #[test]
    fn tokens_are_long_and_differ() {
        let (a, b) = (random_token().unwrap(), random_token().unwrap());
        assert!(a.len() >= 43 && *a != *b);
        assert!(crate::config::check_admin_token(&Secret::new(a)).is_ok());
    }
}
