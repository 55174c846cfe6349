//! The grammar as a whole, credentials, and the operator's commands; functions and the cluster
//! have files of their own.

mod cluster;
mod functions;

use clap::{CommandFactory, Parser};

use super::args::Cli;
use super::credentials::Credentials;
use super::error::Exit;
use super::files::Home;
use super::harness::{run, run_in};
use super::scripted::Scripted;

#[test]
fn the_grammar_is_sound_and_every_level_has_help() {
    let mut root = Cli::command();
    root.clone().debug_assert();
    root.build();
    let mut seen = 0;
    let mut todo = vec![root];
    while let Some(mut command) = todo.pop() {
        let help = command.render_long_help().to_string();
        let name = command.get_name().to_owned();
        assert!(help.contains("Usage:"), "{name}");
        assert!(command.get_about().is_some() || name == "help", "{name}");
        for argument in command.get_arguments() {
            let id = argument.get_id();
            assert!(argument.get_help().is_some(), "{name}: {id}");
        }
        seen += 1;
        todo.extend(command.get_subcommands().cloned());
    }
    assert!(seen > 40, "{seen}");
}

#[test]
fn the_specified_command_lines_parse() {
    for line in [
        "dev",
        "node run",
        "function init my-function",
        "function build",
        "function build dir",
        "function deploy",
        "function invoke my-function --data {}",
        "function invoke f@2 --data -",
        "function list --json",
        "--json function ls",
        "function get f",
        "function delete f -f",
        "function logs f --limit 10 --follow --wasm-only --request-id x",
        "function versions f",
        "function rollback f 3",
        "function enable f",
        "function disable f",
        "function secrets set APNS_KEY_ID ABC123DEF",
        "function secrets set APNS_AUTH_KEY --from-file ./AuthKey.p8",
        "function secrets list",
        "function secrets delete APNS_KEY_ID --force",
        "secrets set A -",
        "secrets set A -----BEGIN",
        "namespace create team-a",
        "namespace list",
        "namespace delete team-a --force",
        "key create --namespace team-a --label ci",
        "key list -n team-a",
        "key revoke ID",
        "key rotate-master",
        "key master-status",
        "cluster status --json",
        "cluster drain n1",
        "cluster drain n1 --undo",
        "cluster leave n1 --yes",
        "cluster leave n1 --force",
        "cluster transfer data-1 n2",
        "env add prod https://x.test --description d",
        "env use prod",
        "env list",
        "env current",
        "env remove prod",
        "auth login --api-key k",
        "auth login --token t",
        "auth login --admin-token t",
        "auth whoami --env prod",
        "auth logout",
    ] {
        let words = ["orama"].into_iter().chain(line.split(' '));
        if let Err(e) = Cli::try_parse_from(words) {
            panic!("{line}: {e}");
        }
    }
    for line in [
        "function",
        "function rollback f 0",
        "function logs f --limit 501",
        "--env a --api-url http://b function list",
        "function deploy --rebuild --no-build",
    ] {
        let words = ["orama"].into_iter().chain(line.split(' '));
        let e = Cli::try_parse_from(words).err();
        assert_eq!(e.map(|e| e.exit_code()), Some(2), "{line}");
    }
}

#[tokio::test]
async fn without_a_credential_nothing_is_sent_but_a_public_call() {
    let server = Scripted::start(vec![(200, "{}".into())]).await;
    let dir = tempfile::tempdir().unwrap();
    for words in [
        ["function", "list"],
        ["namespace", "list"],
        ["secrets", "list"],
        ["auth", "whoami"],
    ] {
        let ran = run_in(Home::at(dir.path()), &server.url, &words).await;
        assert_eq!(
            ran.result.unwrap_err().exit(),
            Some(Exit::Auth),
            "{words:?}"
        );
    }
    assert_eq!(server.requests().len(), 0);
    let ran = run_in(
        Home::at(dir.path()),
        &server.url,
        &["function", "invoke", "f"],
    )
    .await;
    ran.result.unwrap();
    assert!(!server.requests()[0].contains("authorization"));
}

#[tokio::test]
async fn a_login_is_stored_only_when_the_gateway_accepts_it() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path());
    let answers = vec![
        (401, r#"{"error":"invalid API key"}"#.to_owned()),
        (200, r#"{"authenticated":false}"#.to_owned()),
        (
            200,
            r#"{"authenticated":true,"method":"api_key","namespace":"team"}"#.to_owned(),
        ),
        (200, r#"{"authenticated":true,"method":"admin"}"#.to_owned()),
    ];
    let server = Scripted::start(answers).await;
    let stored = || {
        let all = Credentials::load(&home).unwrap();
        all.key(&server.url, None).map(|c| c.api_key().to_owned())
    };
    let login = ["auth", "login", "--api-key", "ak_new:team"];
    for _ in 0..2 {
        let ran = run_in(home.clone(), &server.url, &login).await;
        assert_eq!(ran.result.unwrap_err().exit(), Some(Exit::Auth));
        assert_eq!(stored(), None);
    }
    let ran = run_in(home.clone(), &server.url, &login).await;
    ran.result.unwrap();
    assert!(!ran.out.contains("ak_new"), "{}", ran.out);
    assert_eq!(stored().as_deref(), Some("ak_new:team"));
    let words = ["auth", "login", "--admin-token", "op"];
    run_in(home.clone(), &server.url, &words)
        .await
        .result
        .unwrap();
    let all = Credentials::load(&home).unwrap();
    assert_eq!(all.admin_token(&server.url), Some("op"));
    let ran = run_in(home.clone(), &server.url, &["auth", "logout"]).await;
    assert!(ran.out.contains("Removed 2"), "{}", ran.out);
    assert_eq!(stored(), None);
}

#[tokio::test]
async fn the_operator_s_commands_use_the_operator_s_token() {
    let made = r#"{"namespace":"team-a","api_key":"ak_x:team-a"}"#;
    let keys =
        r#"{"keys":[{"id":"k1","label":"ci","created_at":"2026-01-02T03:04:05Z"}],"count":1}"#;
    let server = Scripted::start(vec![(201, made.into()), (200, keys.into())]).await;
    let ran = run(&server.url, &["namespace", "create", "team-a"]).await;
    ran.result.unwrap();
    assert!(ran.out.contains("ak_x:team-a"));
    let ran = run(&server.url, &["key", "list"]).await;
    ran.result.unwrap();
    assert!(
        ran.out.contains("k1  ci     2026-01-02T03:04:05Z"),
        "{}",
        ran.out
    );
    let requests = server.requests();
    assert!(requests[0].contains("authorization: Bearer operator\r\n"));
    assert!(requests[0].ends_with(r#"{"name":"team-a"}"#));
    assert!(requests[1].starts_with("GET /v1/admin/namespaces/default/keys "));
}
