//! `orama function secrets …`. A value is read, sent and wiped; it is never printed.

use std::path::PathBuf;

use orama_proto::SecretName;
use orama_proto::api::{Message, SecretList, SetSecretRequest};
use orama_proto::limits::SECRET_VALUE_MAX_BYTES;
use reqwest::Method;
use zeroize::{Zeroize, Zeroizing};

use super::App;
use super::args::SecretsCommand;
use super::error::CliError;
use super::prompt;

/// Runs the command.
///
/// # Errors
/// See [`CliError`].
pub async fn run(app: &mut App, command: SecretsCommand) -> Result<(), CliError> {
    match command {
        SecretsCommand::Set {
            name,
            value,
            from_file,
        } => {
            let name = checked(&name)?;
            let value = value_of(value, from_file)?;
            let client = app.client()?;
            let mut body = SetSecretRequest {
                name: name.to_string(),
                value: value.to_string(),
            };
            let path = ["functions", "secrets"];
            let answer = client.json(Method::PUT, &path, &body).await;
            body.value.zeroize();
            let answer = answer?;
            if app.out.json() {
                return app.out.raw(&answer.body);
            }
            app.out.line(format!("Secret \"{name}\" set successfully."))
        }
        SecretsCommand::List => {
            let client = app.client()?;
            let answer = client.get(&["functions", "secrets"], &[]).await?;
            if app.out.json() {
                return app.out.raw(&answer.body);
            }
            let list: SecretList = answer.parse()?;
            if list.secrets.is_empty() {
                return app.out.line("No secrets found.");
            }
            app.out.line(format!("Secrets ({}):", list.secrets.len()))?;
            for name in list.secrets {
                app.out.line(format!("  {name}"))?;
            }
            Ok(())
        }
        SecretsCommand::Delete { name, force } => {
            let name = checked(&name)?;
            let client = app.client()?;
            let question = format!("Delete secret {name:?}?");
            prompt::confirm(app, force, &question).await?;
            let path = ["functions", "secrets", name.as_str()];
            let answer = client.delete(&path).await?;
            if app.out.json() {
                return app.out.raw(&answer.body);
            }
            let message = answer.parse::<Message>().map(|m| m.message);
            app.out
                .line(message.unwrap_or_else(|_| "Secret deleted".into()))
        }
    }
}

fn checked(name: &str) -> Result<SecretName, CliError> {
    SecretName::parse(name).map_err(|e| CliError::Usage(e.to_string()))
}

fn value_of(
    value: Option<String>,
    from_file: Option<PathBuf>,
) -> Result<Zeroizing<String>, CliError> {
    let bytes = match (value, from_file) {
        (Some(_), Some(_)) => {
            return Err(CliError::Usage(
                "give the value or --from-file, not both".into(),
            ));
        }
        (None, None) => {
            return Err(CliError::Usage(
                "no value: give it as an argument, with --from-file FILE, or - to read stdin"
                    .into(),
            ));
        }
        (Some(text), None) if text == "-" => {
            let mut bytes = Zeroizing::new(prompt::stdin_bytes(SECRET_VALUE_MAX_BYTES)?);
            // `echo value |` adds a line end nobody means.
            if bytes.last() == Some(&b'\n') {
                bytes.pop();
            }
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
            bytes
        }
        (Some(text), None) => Zeroizing::new(text.into_bytes()),
        (None, Some(path)) => Zeroizing::new(prompt::file_bytes(&path, SECRET_VALUE_MAX_BYTES)?),
    };
    if bytes.is_empty() {
        return Err(CliError::Usage("the value is empty".into()));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(CliError::Failed(
            "the value is not UTF-8 text; encode binary values, for example with base64".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_source_of_a_value() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key.pem");
        std::fs::write(&file, "-----BEGIN\n").unwrap();
        let value = |v: Option<&str>, f: Option<&PathBuf>| {
            value_of(v.map(str::to_owned), f.cloned()).map(|z| z.to_string())
        };
        assert_eq!(value(Some("x"), None).unwrap(), "x");
        assert_eq!(value(None, Some(&file)).unwrap(), "-----BEGIN\n");
        assert!(matches!(
            value(Some("x"), Some(&file)),
            Err(CliError::Usage(_))
        ));
        assert!(matches!(value(None, None), Err(CliError::Usage(_))));
        assert!(value(Some(""), None).is_err());
        std::fs::write(&file, [0xff]).unwrap();
        let e = value(None, Some(&file)).unwrap_err().to_string();
        assert!(e.contains("UTF-8"), "{e}");
        std::fs::write(&file, vec![b'a'; SECRET_VALUE_MAX_BYTES + 1]).unwrap();
        let e = value(None, Some(&file)).unwrap_err().to_string();
        assert!(e.contains("65536"), "{e}");
    }
}
