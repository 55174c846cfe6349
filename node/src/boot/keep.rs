//! Small secrets that `orama dev` makes once and finds again: files that only
//! their owner reads.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use zeroize::Zeroizing;

use crate::config::{Secret, read_secret_file};

/// Reads the secret, or makes and stores it.
///
/// # Errors
/// When the file is there and cannot be read, or cannot be written.
pub(super) fn find_or_make(
    file: &Path,
    make: impl FnOnce() -> anyhow::Result<Zeroizing<String>>,
) -> anyhow::Result<Secret> {
    if let Some(found) = find(file)? {
        return Ok(found);
    }
    let secret = Secret::new(make()?);
    store(file, &secret)?;
    Ok(secret)
}

/// Reads the secret, if there is one.
///
/// # Errors
/// When the file is there and cannot be read.
pub(super) fn find(file: &Path) -> anyhow::Result<Option<Secret>> {
    if !file.exists() {
        return Ok(None);
    }
    read_secret_file(file)
        .map(Some)
        .map_err(|problem| anyhow::anyhow!("{}: {problem}", file.display()))
}

/// Writes the secret so that after a crash it is there whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn store(file: &Path, secret: &Secret) -> anyhow::Result<()> {
    let whole = || -> std::io::Result<()> {
        let fresh = file.with_extension("new");
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut open = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)?;
        open.write_all(secret.expose().as_bytes())?;
        open.write_all(b"\n")?;
        open.sync_all()?;
        std::fs::rename(&fresh, file)?;
        match file.parent() {
            Some(parent) => std::fs::File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    };
    whole().with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_made_once_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("dev-api-key");
        let make = |text: &'static str| move || Ok(Zeroizing::new(text.to_owned()));
        let first = find_or_make(&file, make("one")).unwrap();
        let again = find_or_make(&file, make("two")).unwrap();
        assert_eq!(
            (first.expose().as_str(), again.expose().as_str()),
            ("one", "one")
        );
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        store(&file, &Secret::new(Zeroizing::new("three".into()))).unwrap();
        assert_eq!(find(&file).unwrap().unwrap().expose().as_str(), "three");
        std::fs::write(&file, "").unwrap();
        assert!(find(&file).is_err());
    }
}
