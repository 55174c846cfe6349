//! What stands in a URL: percent-encoding, `name[@version]`, the query.

use std::borrow::Cow;

use orama_proto::{ApiError, FunctionName};

/// Decodes a segment or a part of a query once.
///
/// # Errors
/// 400 for a broken escape, or bytes that are not UTF-8.
pub(crate) fn decode(text: &str, plus_is_space: bool) -> Result<Cow<'_, str>, ApiError> {
    let special = |b: u8| b == b'%' || (plus_is_space && b == b'+');
    if !text.bytes().any(special) {
        return Ok(Cow::Borrowed(text));
    }
    let wrong = || ApiError::validation("the URL holds a percent-encoding that is not valid UTF-8");
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' if plus_is_space => b' ',
            b'%' => {
                let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
                match (digit(bytes.next()), digit(bytes.next())) {
                    (Some(high), Some(low)) => (high * 16 + low) as u8,
                    _ => return Err(wrong()),
                }
            }
            other => other,
        });
    }
    String::from_utf8(out).map(Cow::Owned).map_err(|_| wrong())
}

/// The first value of a parameter of the query.
///
/// # Errors
/// 400 for a broken escape.
pub(crate) fn query<'a>(query: &'a str, name: &str) -> Result<Option<Cow<'a, str>>, ApiError> {
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if decode(key, true)? == name {
            return decode(value, true).map(Some);
        }
    }
    Ok(None)
}

/// A function, or one version of it, as a path names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FunctionRef {
    /// The function.
    pub(crate) name: FunctionName,
    /// 1 or more.
    pub(crate) version: Option<u64>,
}

impl FunctionRef {
    /// Reads `name` or `name@version` (CONTRACT 2.3); the version is a plain
    /// decimal number from 1.
    ///
    /// # Errors
    /// 400 naming what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let (name, version) = match text.split_once('@') {
            None => (text, None),
            Some((name, version)) => (name, Some(version)),
        };
        let name = FunctionName::parse(name)?;
        let version = match version {
            None => None,
            Some(digits) => {
                let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
                let number = digits.parse().ok().filter(|_| plain);
                Some(number.ok_or_else(|| {
                    let shown: String = digits.chars().take(40).collect();
                    ApiError::validation(format!(
                        "version {shown:?} is not valid: it must be a whole number from 1, as in {name}@2"
                    ))
                })?)
            }
        };
        Ok(Self { name, version })
    }

    /// Reads a name where a version has no meaning.
    ///
    /// # Errors
    /// 400 naming what is wrong.
    pub(crate) fn without_version(text: &str) -> Result<FunctionName, ApiError> {
        let found = Self::parse(text)?;
        match found.version {
            None => Ok(found.name),
            Some(version) => Err(ApiError::validation(format!(
                "this call is about the whole function: leave @{version} away"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_strict() {
        let good = FunctionRef::parse("echo@12").unwrap();
        assert_eq!((good.name.as_str(), good.version), ("echo", Some(12)));
        assert_eq!(FunctionRef::parse("echo").unwrap().version, None);
        for bad in [
            "echo@",
            "echo@abc",
            "echo@0",
            "echo@007",
            "echo@+1",
            "echo@-1",
            "echo@1x",
            "echo@1@2",
            "echo@1.0",
            "echo@ 1",
            "echo@٣",
            "echo@99999999999999999999999",
            "@1",
            "",
            "e/o",
            "é",
        ] {
            let error = FunctionRef::parse(bad).unwrap_err();
            assert_eq!(error.code.status(), 400, "{bad}");
            assert!(error.message.len() < 400);
        }
        assert!(FunctionRef::without_version("echo").is_ok());
        assert!(FunctionRef::without_version("echo@1").is_err());
    }

    #[test]
    fn queries_are_decoded() {
        let text = "a=1&na%6De=x+y%26&b&name=z";
        assert_eq!(query(text, "name").unwrap().as_deref(), Some("x y&"));
        assert_eq!(query(text, "b").unwrap().as_deref(), Some(""));
        assert_eq!(query("", "name").unwrap(), None);
        assert!(query("name=%f", "name").is_err());
    }
}
