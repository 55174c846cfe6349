//! Where a request carries its credential, and what that proves (CONTRACT 6.1, 14.3).
//!
//! A credential that is present and wrong is a 401 on every route that looks
//! at it: taking it for none would let users debug ghosts.

use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use orama_proto::invocation::Principal;
use orama_proto::{ApiError, ErrorCode, Namespace};

/// Longest credential, bytes.
const CREDENTIAL_MAX_BYTES: usize = 8 * 1024;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The texts a request carries, unchecked. Has no `Debug`.
#[derive(Clone, Copy, Default)]
pub(crate) struct Credentials<'a> {
    /// Decides who the caller is.
    pub(crate) first: Option<&'a str>,
    /// Must be of the same namespace.
    pub(crate) second: Option<&'a str>,
}

impl<'a> Credentials<'a> {
    /// Finds them in the headers. A token comes before a key, and `X-API-Key`
    /// before `Authorization`.
    ///
    /// # Errors
    /// 401 when a header is there and holds no credential.
    pub(crate) fn find(headers: &'a HeaderMap) -> Result<Self, ApiError> {
        let key = single(headers, X_API_KEY)?;
        let authorization = match single(headers, AUTHORIZATION)? {
            None => None,
            Some(value) => Some(strip_scheme(value)?),
        };
        let (first, second) = match (authorization, key) {
            (Some(token), key) if is_token(token) => (Some(token), key),
            (authorization, Some(key)) => (Some(key), authorization),
            (authorization, None) => (authorization, None),
        };
        Ok(Self {
            first,
            second: second.filter(|text| Some(*text) != first),
        })
    }
}

/// Checks what a request carries.
///
/// # Errors
/// 401 when a credential is wrong, 403 when two disagree about the namespace.
pub(crate) fn identify(
    credentials: Credentials<'_>,
    authenticate: impl Fn(&str) -> Result<Principal, ApiError>,
) -> Result<Option<Principal>, ApiError> {
    let Some(first) = credentials.first else {
        return Ok(None);
    };
    let principal = authenticate(first)?;
    if let Some(second) = credentials.second {
        let other = authenticate(second)?;
        if other.namespace() != principal.namespace() {
            return Err(forbidden(
                "the two credentials of this request belong to different namespaces",
            ));
        }
    }
    Ok(Some(principal))
}

/// The namespace that a host `ns-NAME.DOMAIN` selects.
///
/// # Errors
/// 400 when the host has that form and NAME is no namespace.
pub(crate) fn host_namespace(
    host: &str,
    base_domain: Option<&str>,
) -> Result<Option<Namespace>, ApiError> {
    let Some(domain) = base_domain else {
        return Ok(None);
    };
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let label = host
        .strip_suffix(domain)
        .and_then(|rest| rest.strip_suffix('.'))
        .and_then(|label| label.strip_prefix("ns-"));
    match label {
        None => Ok(None),
        Some(name) => Ok(Some(Namespace::parse(name)?)),
    }
}

/// A 403.
pub(crate) fn forbidden(message: &str) -> ApiError {
    ApiError::new(ErrorCode::Forbidden, message)
}

/// A 401.
pub(crate) fn unauthorized(message: &str) -> ApiError {
    ApiError::new(ErrorCode::Unauthorized, message)
}

fn single(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, ApiError> {
    let mut values = headers.get_all(&name);
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(unauthorized(&format!("the header {name} is given twice")));
    }
    let text = value.to_str().map(str::trim).unwrap_or_default();
    if text.is_empty() || text.len() > CREDENTIAL_MAX_BYTES {
        return Err(unauthorized(&format!(
            "the header {name} holds no valid credential"
        )));
    }
    Ok(Some(text))
}

fn strip_scheme(value: &str) -> Result<&str, ApiError> {
    let (scheme, rest) = match value.split_once(' ') {
        Some((scheme, rest)) => (Some(scheme), rest.trim()),
        None => (None, value),
    };
    let known = |word: &str| {
        ["bearer", "apikey"]
            .iter()
            .any(|k| word.eq_ignore_ascii_case(k))
    };
    match scheme {
        Some(word) if !known(word) => Err(unauthorized(
            "the Authorization header must be `Bearer <key or token>` or `ApiKey <key>`",
        )),
        // A shell variable that is not set leaves the bare word behind.
        None if known(rest) => Err(unauthorized(
            "the Authorization header holds no credential after its scheme",
        )),
        _ if rest.is_empty() || rest.contains(char::is_whitespace) => Err(unauthorized(
            "the Authorization header holds no valid credential",
        )),
        _ => Ok(rest),
    }
}

/// Two dots make a token; keys have none.
fn is_token(text: &str) -> bool {
    text.bytes().filter(|b| *b == b'.').count() == 2
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        map
    }

    fn found(
        pairs: &[(&'static str, &'static str)],
    ) -> Result<(Option<String>, Option<String>), u16> {
        let map = headers(pairs);
        Credentials::find(&map)
            .map(|c| (c.first.map(str::to_owned), c.second.map(str::to_owned)))
            .map_err(|e| e.code.status())
    }

    fn one(text: &str) -> Result<(Option<String>, Option<String>), u16> {
        Ok((Some(text.to_owned()), None))
    }

    #[test]
    fn every_form_is_read() {
        for value in [
            "Bearer ak_1:ns",
            "bearer ak_1:ns",
            "BEARER  ak_1:ns",
            "ApiKey ak_1:ns",
            "apikey ak_1:ns",
            "ak_1:ns",
        ] {
            assert_eq!(
                found(&[("authorization", value)]),
                one("ak_1:ns"),
                "{value}"
            );
        }
        assert_eq!(found(&[("x-api-key", " ak_1:ns ")]), one("ak_1:ns"));
        assert_eq!(found(&[]), Ok((None, None)));
    }

    #[test]
    fn a_token_decides_and_the_key_must_agree() {
        let both = found(&[("authorization", "Bearer a.b.c"), ("x-api-key", "k")]);
        assert_eq!(both, Ok((Some("a.b.c".into()), Some("k".into()))));
        let keys = found(&[("authorization", "Bearer j"), ("x-api-key", "k")]);
        assert_eq!(keys, Ok((Some("k".into()), Some("j".into()))));
        let same = found(&[("authorization", "Bearer k"), ("x-api-key", "k")]);
        assert_eq!(same, one("k"));
    }

    #[test]
    fn present_and_empty_is_wrong() {
        for value in ["", "Bearer", "Bearer ", "apikey", "Basic abc", "Bearer a b"] {
            assert_eq!(found(&[("authorization", value)]), Err(401), "{value:?}");
        }
        assert_eq!(found(&[("x-api-key", "")]), Err(401));
        assert_eq!(found(&[("x-api-key", "a"), ("x-api-key", "b")]), Err(401));
    }

    #[test]
    fn namespaces_must_agree() {
        let authenticate = |text: &str| match text {
            "bad" => Err(unauthorized("invalid API key")),
            ns => Ok(Principal::ApiKey {
                namespace: Namespace::parse(ns).unwrap(),
                key_id: String::new(),
            }),
        };
        let check = |first, second| {
            identify(Credentials { first, second }, authenticate).map_err(|e| e.code.status())
        };
        assert_eq!(check(None, None), Ok(None));
        assert!(check(Some("aa"), Some("aa")).is_ok());
        assert_eq!(check(Some("aa"), Some("bb")), Err(403));
        assert_eq!(check(Some("aa"), Some("bad")), Err(401));
        assert_eq!(check(Some("bad"), None), Err(401));
    }

    #[test]
    fn hosts_select_namespaces() {
        let of = |host| host_namespace(host, Some("example.com")).map(|n| n.map(String::from));
        assert_eq!(
            of("ns-shop.example.com:6001").unwrap().as_deref(),
            Some("shop")
        );
        assert_eq!(of("NS-Shop.Example.com.").unwrap().as_deref(), Some("shop"));
        for host in [
            "example.com",
            "shop.example.com",
            "ns-shop.example.org",
            "ns-shopexample.com",
            "[::1]:80",
            "",
        ] {
            assert_eq!(of(host).unwrap(), None, "{host}");
        }
        assert!(of("ns-a.b.example.com").is_err());
        assert_eq!(host_namespace("ns-shop.example.com", None).unwrap(), None);
    }
}
