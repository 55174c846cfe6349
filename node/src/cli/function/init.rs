//! `orama function init`: a project that builds as it is, without network.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::json;

use super::super::App;
use super::super::error::CliError;
use super::named;

const YAML: &str = include_str!("scaffold/function.yaml");
const GO: &str = include_str!("scaffold/function.go.txt");
const GO_MOD: &str = include_str!("scaffold/go.mod.txt");
const GITIGNORE: &str = "*.wasm\n";

/// Makes the directory NAME.
///
/// # Errors
/// A name that is none, a directory that exists, a disk that refuses.
pub fn run(app: &mut App, name: &str) -> Result<(), CliError> {
    let name = named(name)?;
    let files = scaffold(Path::new("."), name.as_str())?;
    if app.out.json() {
        return app.out.value(&json!({"directory": name, "files": files}));
    }
    app.out.line(format!("Created function project: {name}/"))?;
    for (file, what) in [
        ("function.go", "the handler"),
        ("function.yaml", "its settings"),
        ("go.mod", "the Go module; it needs nothing else"),
    ] {
        app.out.line(format!("  {name}/{file:<14} {what}"))?;
    }
    app.out.line("")?;
    app.out.line("Next steps:")?;
    for step in [
        format!("cd {name}"),
        "orama function build".to_owned(),
        "orama function deploy".to_owned(),
        format!("orama function invoke {name} --data '{{\"name\": \"World\"}}'"),
    ] {
        app.out.line(format!("  {step}"))?;
    }
    Ok(())
}

/// Writes the files; answers their names.
fn scaffold(parent: &Path, name: &str) -> Result<Vec<&'static str>, CliError> {
    let dir = parent.join(name);
    // Also says no to a file or a dangling link of that name.
    fs::create_dir(&dir).map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => CliError::Failed(format!("directory {name:?} already exists")),
        _ => CliError::file("cannot create", &dir)(e),
    })?;
    let files = [
        ("function.go", GO),
        ("function.yaml", YAML),
        ("go.mod", GO_MOD),
        (".gitignore", GITIGNORE),
    ];
    for (file, text) in files {
        let path = dir.join(file);
        fs::write(&path, text.replace("{{name}}", name))
            .map_err(CliError::file("cannot write", &path))?;
    }
    Ok(files.map(|(file, _)| file).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use orama_proto::function::FunctionSpec;
    use orama_proto::manifest::Manifest;

    #[test]
    fn the_scaffold_is_complete_and_valid() {
        let dir = tempfile::tempdir().unwrap();
        scaffold(dir.path(), "my-function").unwrap();
        let read = |file: &str| {
            std::fs::read_to_string(dir.path().join("my-function").join(file)).unwrap()
        };
        let manifest = Manifest::parse(&read("function.yaml")).unwrap();
        assert_eq!(manifest.name.as_str(), "my-function");
        assert_eq!(manifest.spec, FunctionSpec::default());
        assert!(!read("function.go").contains("{{"));
        assert!(read("go.mod").contains("/my-function\n"));
        // Only the standard library: it must build without network.
        assert!(!read("go.mod").contains("require"));

        let e = scaffold(dir.path(), "my-function").unwrap_err();
        assert_eq!(e.to_string(), "directory \"my-function\" already exists");
    }
}
