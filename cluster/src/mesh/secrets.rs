//! The secrets that admit a node to the mesh.

use std::sync::Arc;

use zeroize::Zeroizing;

/// Shortest secret, bytes.
const SHORTEST: usize = 16;
/// Secrets that may be valid at a time.
pub(super) const MOST: usize = 2;

/// The secrets that admit a node: one, or two while it is rotated. `Debug` never shows them.
#[derive(Clone)]
pub struct ClusterSecrets(Arc<[Zeroizing<Vec<u8>>]>);

impl ClusterSecrets {
    /// From the setting's text: one secret of at least 16 bytes, or two with a comma between.
    /// White space around a secret does not belong to it.
    ///
    /// # Errors
    /// A text for the operator that does not repeat the secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        if parts.len() > MOST {
            return Err(format!(
                "the cluster secret is {} values with commas between; at most {MOST} may be valid at a time",
                parts.len()
            ));
        }
        for (i, part) in parts.iter().enumerate() {
            if part.is_empty() {
                return Err(if parts.len() == 1 {
                    "the cluster secret is empty".to_owned()
                } else {
                    format!("value {} of the cluster secret is empty", i + 1)
                });
            }
            if part.len() < SHORTEST {
                return Err(format!(
                    "value {} of the cluster secret has {} bytes; it needs at least {SHORTEST}",
                    i + 1,
                    part.len()
                ));
            }
        }
        Ok(Self(
            parts
                .iter()
                .map(|part| Zeroizing::new(part.as_bytes().to_vec()))
                .collect(),
        ))
    }

    /// Each of them, the one to prefer first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|secret| secret.as_slice())
    }
}

impl std::fmt::Debug for ClusterSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClusterSecrets({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_or_two_long_ones_are_taken() {
        let one = ClusterSecrets::parse("0123456789abcdef\n").unwrap();
        assert_eq!(one.iter().collect::<Vec<_>>(), [b"0123456789abcdef"]);
        let two = ClusterSecrets::parse("0123456789abcdef, fedcba9876543210").unwrap();
        assert_eq!(two.iter().count(), 2);
        assert_eq!(format!("{two:?}"), "ClusterSecrets(2)");
    }

    #[test]
    fn others_are_refused_without_repeating_them() {
        for bad in [
            "",
            " ",
            "tooshort-secret",
            "0123456789abcdef,",
            ",0123456789abcdef",
            "0123456789abcdef,tooshort-secret",
            "0123456789abcdef,0123456789abcdef,0123456789abcdef",
        ] {
            let error = ClusterSecrets::parse(bad).unwrap_err();
            assert!(!error.contains("0123456789abcdef"), "{error}");
            assert!(!error.contains("tooshort-secret"), "{error}");
        }
    }
}
