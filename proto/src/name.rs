//! Names people choose, validated once at the edge.
//!
//! A rejected name yields a [`NameError`] that says which field was wrong,
//! what the rule is and what was given, shortened and escaped so that it can
//! be logged and sent back.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits;

/// A name that breaks its rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {given} is not valid: {rule}")]
pub struct NameError {
    /// The field as the user knows it, such as `function name`.
    pub field: &'static str,
    /// What was given, quoted, escaped and cut to a readable length.
    pub given: String,
    /// The rule that was broken.
    pub rule: String,
}

fn quoted(text: &str) -> String {
    const SHOWN: usize = 80;
    let mut cut: String = text.chars().take(SHOWN).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    format!("{cut:?}")
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $field:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
            /// Checks `text` against the rule of this kind of name.
            ///
            /// # Errors
            /// [`NameError`] naming the field and the rule.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                match $check(text) {
                    Ok(()) => Ok(Self(Arc::from(text))),
                    Err(rule) => Err(NameError { field: $field, given: quoted(text), rule }),
                }
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
        impl std::str::FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }
        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(&text)
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0.as_ref().to_owned()
            }
        }
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// A tenant. `[a-z0-9][a-z0-9-]{0,38}[a-z0-9]`, 2 to 40 characters (CONTRACT 14.2).
    Namespace, "namespace", check_namespace
);
name!(
    /// A function of a namespace: letters, digits, `-` and `_`, starting with a
    /// letter, at most 64 characters (SPECIFICATION, CONTRACT 7.1).
    FunctionName, "function name", check_function
);
name!(
    /// A secret of a namespace: `[A-Za-z_][A-Za-z0-9_.-]{0,127}` (CONTRACT 5.1).
    SecretName, "secret name", check_secret
);

fn check_namespace(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let inner = bytes.iter().all(|b| plain(b) || *b == b'-');
    let ends = bytes.first().is_some_and(plain) && bytes.last().is_some_and(plain);
    if (2..=40).contains(&bytes.len()) && inner && ends {
        return Ok(());
    }
    Err("it must be 2 to 40 lower-case letters, digits or hyphens, and neither start nor end with a hyphen".into())
}

fn check_function(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("it must not be empty".into());
    }
    let count = text.chars().count();
    if count > limits::NAME_MAX_CHARS {
        return Err(format!(
            "it has {count} characters, the limit is {}",
            limits::NAME_MAX_CHARS
        ));
    }
    let mut chars = text.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphabetic());
    if !first || !chars.all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
        return Err(
            "it must start with a letter and contain only letters, digits, hyphens, or underscores"
                .into(),
        );
    }
    // `/v1/functions/secrets` is a route of its own (CONTRACT 2.3).
    if text == "secrets" {
        return Err("it is reserved".into());
    }
    Ok(())
}

fn check_secret(text: &str) -> Result<(), String> {
    let count = text.chars().count();
    if count == 0 || count > limits::SECRET_NAME_MAX_CHARS {
        return Err(format!(
            "it must have 1 to {} characters",
            limits::SECRET_NAME_MAX_CHARS
        ));
    }
    let mut chars = text.chars();
    let first = chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !first || !chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
        return Err("it must start with a letter or underscore and contain only letters, digits, '_', '.' or '-'".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn function_names_follow_the_rule() {
        for good in ["a", "my-function", "A_1", &"x".repeat(64)] {
            assert!(FunctionName::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "1a",
            "a/b",
            "naïve",
            "🚀",
            "secrets",
            "a b",
            "-a",
            &"x".repeat(65),
        ] {
            assert!(FunctionName::parse(bad).is_err(), "{bad}");
        }
        let long = FunctionName::parse(&"x".repeat(65)).unwrap_err();
        assert!(long.to_string().contains("65") && long.to_string().contains("64"));
    }

    #[test]
    fn namespaces_follow_the_rule() {
        for good in ["ab", "a-b", "default", "0x", &"a".repeat(40)] {
            assert!(Namespace::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "-ab", "ab-", "Ab", "a_b", "a.b", &"a".repeat(41)] {
            assert!(Namespace::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rejected_name_is_shown_short_and_escaped() {
        let e = SecretName::parse(&format!("\n{}", "y".repeat(500))).unwrap_err();
        assert!(e.given.len() < 120 && !e.given.contains('\n'));
    }
}
