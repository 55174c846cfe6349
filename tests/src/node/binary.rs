//! Where cargo puts what is tested.

use std::path::PathBuf;

/// The directory cargo builds into, found from this program's own path.
pub fn target_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("the path of this program");
    exe.ancestors()
        .find(|dir| dir.join("CACHEDIR.TAG").is_file())
        .or_else(|| exe.ancestors().nth(3))
        .expect("tests run from TARGET/PROFILE/deps")
        .to_owned()
}

/// The binary under test: `ORAMA_BIN`, or the one built beside this program.
pub fn orama_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("ORAMA_BIN") {
        return path.into();
    }
    let exe = std::env::current_exe().expect("the path of this program");
    exe.ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join("orama"))
        .find(|path| path.is_file())
        .unwrap_or_else(|| {
            panic!(
                "no orama beside {}; build it with `cargo build -p orama-node`",
                exe.display()
            )
        })
}
