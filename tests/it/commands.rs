//! The commands, beside a running server and without one.

use serde_json::{Value, json};

use crate::support::http::Request;
use crate::support::server::{PASSWORD, Server};

fn listing(server: &Server, arguments: &[&str]) -> Value {
    let printed = server.cli(&[arguments, &["--json"]].concat());
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{printed}"))
}

fn names(object: &Value) -> Vec<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// The status of the session for these credentials.
fn session_status(server: &Server, authorization: &str) -> u16 {
    server.request(Request::get("/jmap/session").header("Authorization", authorization)).status
}

fn basic(address: &str, password: &str) -> String {
    use base64::Engine;
    let login = format!("{address}:{password}");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login))
}

#[test]
fn listings_have_stable_names_with_a_server_and_without() {
    let server = Server::start();
    server.cli(&["account", "add", "alice@example.test", "--password", PASSWORD, "--quota", "10GB"]);
    server.cli(&["account", "add", "bob@example.test", "--password", PASSWORD]);
    server.cli(&["alias", "add", "team@example.test", "alice@example.test", "bob@example.test"]);
    server.cli(&["access", "grant", "alice@example.test", "bob@example.test", "--read-only"]);
    server.cli(&["token", "add", "alice@example.test", "--name", "backup"]);
    let look = || {
        let domains = listing(&server, &["domain", "list"]);
        assert_eq!(names(&domains[0]), ["domain", "postmaster", "catchAll", "createdAt"]);
        assert_eq!(domains[0]["postmaster"], "alice@example.test");
        let accounts = listing(&server, &["account", "list"]);
        assert_eq!(names(&accounts[0]), ["id", "address", "quota", "used", "messages", "createdAt"]);
        assert_eq!(
            (&accounts[0]["quota"], &accounts[1]["quota"]),
            (&json!(10_000_000_000_u64), &Value::Null)
        );
        let team = json!([{
            "alias": "team@example.test", "accounts": ["alice@example.test", "bob@example.test"]
        }]);
        assert_eq!(listing(&server, &["alias", "list"]), team);
        let rights =
            json!([{ "login": "alice@example.test", "account": "bob@example.test", "readOnly": true }]);
        assert_eq!(listing(&server, &["access", "list"]), rights);
        let tokens = listing(&server, &["token", "list"]);
        let wanted =
            ["id", "login", "name", "createdAt", "expiresAt", "lastUsedAt", "scopes", "account", "domain"];
        assert_eq!(names(&tokens[0]), wanted);
        assert_eq!(listing(&server, &["queue", "list"]), json!([]));
        let table = server.cli(&["account", "list"]);
        assert!(table.starts_with("ADDRESS") && table.contains("bob@example.test"), "{table}");
    };
    look();
    server.terminate();
    look();
}

#[test]
fn changed_passwords_and_revoked_tokens_count_at_once() {
    let server = Server::shared();
    let address = server.account_named("changing").address.clone();
    assert_eq!(session_status(server, &basic(&address, PASSWORD)), 200);
    let output = server.try_cli(&["account", "password", &address, "--password-stdin"], "another one\n");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(session_status(server, &basic(&address, PASSWORD)), 401);
    assert_eq!(session_status(server, &basic(&address, "another one")), 200);

    let made = listing(server, &["token", "add", &address, "--name", "x"]);
    let (id, token) = (made["id"].as_str().expect("an id"), made["token"].as_str().expect("a token"));
    let bearer = format!("Bearer {token}");
    assert_eq!(session_status(server, &bearer), 200);
    server.cli(&["token", "revoke", id]);
    assert_eq!(session_status(server, &bearer), 401);
}

#[test]
fn a_password_that_was_made_up_is_told_and_works() {
    let server = Server::shared();
    let address = "made-up@example.test";
    let printed = server.cli(&["account", "add", address]);
    let password = printed.lines().find_map(|line| line.strip_prefix("Password: ")).expect("a password");
    assert_eq!(session_status(server, &basic(address, password)), 200);
    server.cli(&["account", "remove", address]);
    assert_eq!(session_status(server, &basic(address, password)), 401);
}

#[test]
fn granted_accounts_are_in_the_session_until_they_are_revoked() {
    let server = Server::shared();
    let (guest, host) = (server.account_named("guest"), server.account_named("host"));
    let accounts = || {
        let session = guest.signed(Request::get("/jmap/session"));
        server.request(session).expect(200).json()["accounts"].clone()
    };
    assert_eq!(accounts().as_object().map(serde_json::Map::len), Some(1));
    server.cli(&["access", "grant", &guest.address, &host.address, "--read-only"]);
    let shown = accounts()[&host.account].clone();
    assert_eq!((&shown["name"], &shown["isReadOnly"]), (&json!(host.address), &json!(true)));
    server.cli(&["access", "revoke", &guest.address, &host.address]);
    assert_eq!(accounts().as_object().map(serde_json::Map::len), Some(1));
}

#[test]
fn exit_codes_tell_wrong_questions_from_failures() {
    let server = Server::shared();
    let code = |arguments: &[&str]| {
        let output = server.try_cli(arguments, "");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!told.is_empty() && !told.contains("panicked"), "{arguments:?}: {told}");
        output.status.code()
    };
    assert_eq!(code(&["account", "ad", "x@example.test"]), Some(2));
    assert_eq!(code(&["account", "add", "no-address"]), Some(2));
    assert_eq!(code(&["--config", "/nonexistent.toml", "account", "list"]), Some(2));
    assert_eq!(code(&["account", "add", "x@nowhere.test", "--password", "x"]), Some(1));
    assert_eq!(code(&["account", "remove", "nobody@example.test"]), Some(1));
    assert_eq!(code(&["queue", "show", "abc"]), Some(1));
    assert_eq!(code(&["import", "nobody@example.test", "."]), Some(1));
}

#[test]
fn the_table_of_settings_hides_passwords() {
    let server =
        Server::builder().env("POSTRIDER_RELAY", "smtp://me:geheim@127.0.0.1:9").without_domain().start();
    for arguments in [&["config"][..], &["config", "--json"][..]] {
        let printed = server.cli(arguments);
        assert!(printed.contains("me:[hidden]@127.0.0.1:9") && !printed.contains("geheim"), "{printed}");
    }
    assert!(!server.log().contains("geheim"));
}

#[test]
fn a_command_in_the_wrong_folder_makes_no_store_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_postrider"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("POSTRIDER_")) {
            command.env_remove(name);
        }
        let output = command
            .args(arguments)
            .current_dir(folder.path())
            .env("POSTRIDER_DATA", "data")
            .output()
            .expect("the program runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for arguments in [&["account", "list"][..], &["queue", "list", "--json"], &["account", "add", "a@b.test"]]
    {
        let (code, told) = run(arguments);
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains("no mail store in data") && told.contains("POSTRIDER_DATA"), "{told}");
    }
    assert!(!folder.path().join("data").exists());
    assert_eq!(run(&["domain", "add", "example.org"]).0, Some(0));
    assert_eq!(run(&["account", "list"]).0, Some(0));
}

#[test]
fn domains_and_aliases_are_changed_afterwards() {
    let server = Server::start();
    for name in ["alice", "bob"] {
        server.cli(&["account", "add", &format!("{name}@example.test"), "--password", PASSWORD]);
    }
    let set = |arguments: &[&str]| server.try_cli(&[&["domain", "set"], arguments].concat(), "");
    assert_eq!(set(&["example.test"]).status.code(), Some(2), "nothing is to be changed");
    assert_eq!(set(&["other.test", "--catch-all", "none"]).status.code(), Some(1));
    let to_bob = ["example.test", "--postmaster", "bob@example.test", "--catch-all", "bob@example.test"];
    assert!(set(&to_bob).status.success());
    let domain = &listing(&server, &["domain", "list"])[0];
    assert_eq!(
        (&domain["postmaster"], &domain["catchAll"]),
        (&json!("bob@example.test"), &json!("bob@example.test"))
    );
    assert!(set(&["example.test", "--catch-all", "none"]).status.success());
    assert_eq!(listing(&server, &["domain", "list"])[0]["catchAll"], Value::Null);

    server.cli(&["alias", "add", "team@example.test", "alice@example.test"]);
    let told = server.cli(&["alias", "add", "team@example.test", "bob@example.test"]);
    assert!(told.contains("goes to alice@example.test, bob@example.test"), "{told}");
    server.cli(&["alias", "remove", "team@example.test", "alice@example.test"]);
    let team = json!([{ "alias": "team@example.test", "accounts": ["bob@example.test"] }]);
    assert_eq!(listing(&server, &["alias", "list"]), team);
}

#[test]
fn the_demo_keeps_out_of_a_folder_with_other_domains() {
    let server = Server::start();
    server.cli(&["domain", "add", "real.test"]);
    server.cli(&["domain", "remove", "example.test"]);
    server.terminate();
    let output = server.try_cli(&["demo"], "");
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("real.test") && told.contains("POSTRIDER_DATA"), "{told}");
}
