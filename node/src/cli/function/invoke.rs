//! `orama function invoke`.

use std::path::Path;
use std::time::Duration;

use orama_proto::limits::{
    INVOKE_BODY_MAX_BYTES, RETRY_BACKOFF_MAX_SECS, RETRY_MAX, TIMEOUT_MAX_SECS,
};
use reqwest::Url;

use super::super::App;
use super::super::args::InvokeArgs;
use super::super::client::Client;
use super::super::error::CliError;
use super::super::prompt::{file_bytes, stdin_bytes};
use super::addressed;

/// Every attempt with the longest timeout, every pause between them, and a
/// margin: the gateway ends the call, not the client.
const LIMIT: Duration = Duration::from_secs(
    (TIMEOUT_MAX_SECS * (RETRY_MAX + 1) + RETRY_BACKOFF_MAX_SECS * RETRY_MAX) as u64 + 60,
);

/// Runs the command.
///
/// # Errors
/// See [`CliError`]; a function that fails is [`CliError::Api`].
pub async fn run(app: &mut App, args: InvokeArgs) -> Result<(), CliError> {
    let name = addressed(&args.name)?;
    let input = input(&args.data)?;
    let target = app.target()?;
    // Without a credential a public function can still be called.
    let token = target.credential();
    let namespace = target.named_namespace().map(str::to_owned);
    let local = Url::clone(&target.url);
    let client = Client::new(local, token)?;
    app.out
        .progress(format_args!("Invoking function \"{name}\"..."));
    let path: Vec<&str> = match &namespace {
        Some(namespace) => vec!["invoke", namespace, &name],
        None => vec!["functions", &name, "invoke"],
    };
    let answer = client
        .bytes(&path, input, LIMIT)
        .await
        .map_err(|error| with_advice(error, &name))?;
    if app.out.json() {
        return app.out.raw(&answer.body);
    }
    app.out
        .line(format!("Request ID:  {}", answer.header("x-request-id")))?;
    app.out.line(format!(
        "Duration:    {} ms",
        answer.header("x-duration-ms")
    ))?;
    app.out.line("Output:")?;
    app.out.raw(&answer.body)
}

/// Points at the log, where the function's own words are.
fn with_advice(error: CliError, name: &str) -> CliError {
    match error {
        CliError::Api(mut failure)
            if matches!(
                failure.code.as_str(),
                "FUNCTION_EXECUTION_FAILED" | "TIMEOUT"
            ) =>
        {
            let name = name.split('@').next().unwrap_or(name);
            failure.advice = failure
                .request_id
                .as_ref()
                .map(|id| format!("its log: orama function logs {name} --request-id {id}"));
            CliError::Api(failure)
        }
        other => other,
    }
}

fn input(data: &str) -> Result<Vec<u8>, CliError> {
    let bytes = match data.strip_prefix('@') {
        Some("") => return Err(CliError::Usage("--data @ names no file".into())),
        Some(file) => file_bytes(Path::new(file), INVOKE_BODY_MAX_BYTES)?,
        None if data == "-" => stdin_bytes(INVOKE_BODY_MAX_BYTES)?,
        None => data.as_bytes().to_vec(),
    };
    if bytes.len() > INVOKE_BODY_MAX_BYTES {
        return Err(CliError::Failed(format!(
            "the input has {} bytes, the limit is {INVOKE_BODY_MAX_BYTES}",
            bytes.len()
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_comes_from_argument_or_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("in.json");
        std::fs::write(&file, b"\xff\n").unwrap();
        assert_eq!(input("{\"a\":1}").unwrap(), b"{\"a\":1}");
        assert_eq!(input("").unwrap(), b"");
        assert_eq!(input(&format!("@{}", file.display())).unwrap(), b"\xff\n");
        assert!(input("@").is_err());
        let missing = input("@/nowhere/x").unwrap_err();
        assert!(missing.to_string().contains("/nowhere/x"));
        std::fs::write(&file, vec![0; INVOKE_BODY_MAX_BYTES + 1]).unwrap();
        let e = input(&format!("@{}", file.display())).unwrap_err();
        assert!(e.to_string().contains("1048576"), "{e}");
    }
}
