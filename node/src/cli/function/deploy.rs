//! `orama function deploy`: the form of CONTRACT 2.4, after a build when one is due.

use std::time::{Duration, Instant};

use orama_proto::api::{DeployMetadata, DeployResponse};
use orama_proto::function::FunctionSpec;
use reqwest::multipart::{Form, Part};

use super::super::App;
use super::super::args::DeployArgs;
use super::super::client::Client;
use super::super::error::CliError;
use super::super::output::seconds;
use super::build::build;
use super::project::{Freshness, Project, WASM, read_wasm};
use super::toolchain::Finder;

/// Upload and compilation of the largest module, on a slow machine.
const LIMIT: Duration = Duration::from_secs(600);

/// Runs the command.
///
/// # Errors
/// See [`CliError`].
pub async fn run(app: &mut App, args: &DeployArgs) -> Result<(), CliError> {
    let project = Project::open(&args.dir)?;
    let target = app.target()?;
    // Before a build of half a minute.
    let token = target.require_credential()?;
    bring_up_to_date(app, &project, args)?;
    let wasm = read_wasm(&project.wasm())?;
    let client = Client::new(target.url, Some(token))?;

    let name = &project.manifest.name;
    app.out.progress(format_args!(
        "Deploying {name} to {} ({} bytes)...",
        client.url(),
        wasm.len()
    ));
    let begun = Instant::now();
    let form = form(name.as_str(), &project.manifest.spec, wasm)?;
    let answer = client.form(&["functions"], form, LIMIT).await?;
    app.out.progress(format_args!(
        "  uploaded, compiled and stored in {}",
        seconds(begun.elapsed())
    ));
    if app.out.json() {
        return app.out.raw(&answer.body);
    }
    let made: DeployResponse = answer.parse()?;
    let function = made.function;
    app.out.line(format!(
        "Deployed {} version {} ({} bytes)",
        function.name, function.version, function.wasm_bytes
    ))?;
    app.out.line(format!("  CID:     {}", function.wasm_cid))?;
    app.out.line(format!(
        "  URL:     {}/v1/functions/{}/invoke",
        client.url(),
        function.name
    ))?;
    app.out.line(format!(
        "  Invoke:  orama function invoke {} --data '{{}}'",
        function.name
    ))
}

/// Builds when the module is missing or older than a source, and says so.
fn bring_up_to_date(app: &mut App, project: &Project, args: &DeployArgs) -> Result<(), CliError> {
    let freshness = project.freshness()?;
    if args.no_build {
        return match freshness {
            Freshness::Missing => Err(CliError::NotFound(format!(
                "there is no {WASM} in {}; leave --no-build away to build it",
                project.dir.display()
            ))),
            _ => Ok(()),
        };
    }
    let reason = match &freshness {
        _ if args.rebuild => "--rebuild".to_owned(),
        Freshness::Fresh => {
            app.out
                .progress(format_args!("{WASM} is newer than its sources"));
            return Ok(());
        }
        Freshness::Missing => format!("there is no {WASM}"),
        Freshness::Older(source) => format!("{} is newer than {WASM}", source.display()),
        Freshness::Unknown => format!("too many files to compare with {WASM}"),
    };
    let tool = match Finder::from_env(app.home.path()).choose(project) {
        Ok(tool) => tool,
        // A module made elsewhere, such as by another language's build, has
        // no builder here and is what the author wants deployed.
        Err(CliError::Toolchain { .. })
            if freshness != Freshness::Missing
                && !args.rebuild
                && project.go_files()?.is_empty()
                && !project.has("Cargo.toml")
                && project.manifest.build.language.is_none() =>
        {
            app.out.warn(format_args!(
                "{reason}, and function.yaml has no build.command: deploying {WASM} as it is"
            ));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    app.out.progress(format_args!("Rebuilding: {reason}"));
    let built = build(project, &tool, &mut app.out)?;
    app.out.progress(format_args!(
        "Built {} ({} bytes)",
        built.path.display(),
        built.bytes
    ));
    Ok(())
}

/// The form, field by field in the order of CONTRACT 2.4.
fn form(name: &str, spec: &FunctionSpec, wasm: Vec<u8>) -> Result<Form, CliError> {
    let failed = |e: &dyn std::fmt::Display| CliError::Failed(format!("cannot make the form: {e}"));
    let mut form = Form::new()
        .text("name", name.to_owned())
        .text("is_public", spec.is_public.to_string())
        .text("memory_limit_mb", spec.memory_limit_mb.to_string())
        .text("timeout_seconds", spec.timeout_seconds.to_string())
        .text("retry_count", spec.retry_count.to_string())
        .text("retry_delay_seconds", spec.retry_delay_seconds.to_string());
    let metadata = DeployMetadata {
        is_internal: spec.is_internal.then_some(true),
        env_vars: (!spec.env_vars.is_empty()).then(|| spec.env_vars.clone()),
        ..DeployMetadata::default()
    };
    if metadata.is_internal.is_some() || metadata.env_vars.is_some() {
        let text = serde_json::to_string(&metadata).map_err(|e| failed(&e))?;
        form = form.text("metadata", text);
    }
    let part = Part::bytes(wasm)
        .file_name(WASM)
        .mime_str("application/wasm")
        .map_err(|e| failed(&e))?;
    Ok(form.part("wasm", part))
}
