//! Runs whole command lines in tests: arguments in, requests to a scripted gateway, output out.

use std::io::Write;
use std::sync::Arc;

use clap::Parser;
use parking_lot::Mutex;

use super::args::Cli;
use super::credentials::{Credentials, Default as DefaultKey};
use super::error::CliError;
use super::files::Home;
use super::output::Output;
use super::scripted::Scripted;
use super::target::Variables;
use super::{App, dispatch};

/// A stdout or stderr to look at.
#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What became of a command.
pub struct Ran {
    pub result: Result<(), CliError>,
    pub out: String,
    pub err: String,
    /// What the gateway was asked, if the harness started it.
    pub asked: Vec<String>,
}

/// Runs a command line with a key and an operator's token stored for `url`.
pub async fn run(url: &str, words: &[&str]) -> Ran {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path());
    Credentials::update(&home, |all| {
        all.set_key(url, "default", "ak_test:default", DefaultKey::Yes);
        all.set_admin_token(url, "operator");
        Ok(())
    })
    .unwrap();
    run_in(home, url, words).await
}

/// Runs a command line with what is stored in this home.
pub async fn run_in(home: Home, url: &str, words: &[&str]) -> Ran {
    let line = ["orama", "--api-url", url]
        .into_iter()
        .chain(words.iter().copied());
    let cli = Cli::try_parse_from(line).unwrap();
    let (mut app, out, err) = app(home, cli.global);
    let result = dispatch(&mut app, cli.command).await;
    Ran {
        result,
        out: out.text(),
        err: err.text(),
        asked: Vec::new(),
    }
}

/// Runs a command line against a gateway with these answers.
pub async fn ran(words: &[&str], answers: Vec<(u16, &str)>) -> Ran {
    let answers = answers
        .into_iter()
        .map(|(status, body)| (status, body.to_owned()));
    let server = Scripted::start(answers.collect()).await;
    let ran = run(&server.url, words).await;
    Ran {
        asked: server.requests(),
        ..ran
    }
}

/// What commands work with, and its stdout and stderr.
pub fn app(home: Home, global: super::GlobalArgs) -> (App, Shared, Shared) {
    let (out, err) = (Shared::default(), Shared::default());
    let app = App {
        home,
        vars: Variables::default(),
        out: Output::to(global.json, out.clone(), err.clone()),
        global,
    };
    (app, out, err)
}
