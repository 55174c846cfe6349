//! Tells the binary the commit it is built from, as `ORAMA_BUILD_COMMIT`: what the environment
//! says (an image's build has no repository), else what git says of this checkout, else
//! "unknown". Only the commit: a time would make two builds of one commit differ.

use std::path::{Path, PathBuf};
use std::process::Command;

const VARIABLE: &str = "ORAMA_BUILD_COMMIT";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let given = std::env::var(VARIABLE)
        .ok()
        .filter(|text| is_one_word(text));
    let commit = given.or_else(of_this_checkout);
    let commit = commit.as_deref().unwrap_or("unknown");
    println!("cargo::rustc-env={VARIABLE}={commit}");
}

/// The commit that is checked out, uncommitted changes or not; and has cargo ask again when that
/// may be another one.
fn of_this_checkout() -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    // Sources without a repository may lie inside of somebody else's.
    let top = PathBuf::from(git(root, &["rev-parse", "--show-toplevel"])?);
    if top.canonicalize().ok()? != root.canonicalize().ok()? {
        return None;
    }
    // HEAD changes with a checkout, its log with every commit. Git keeps the log unless it is
    // told not to: then the file is missing, and cargo asks at every build.
    for file in ["HEAD", "logs/HEAD"] {
        let path = git(root, &["rev-parse", "--git-path", file])?;
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    git(root, &["rev-parse", "HEAD"]).filter(|text| is_one_word(text))
}

fn git(root: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(args)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// No more than that becomes part of the binary.
fn is_one_word(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(fits)
}
