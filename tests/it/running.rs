//! Starting, stopping, and what the machine around the program sees of it.

use std::time::Duration;

use serde_json::json;

use crate::support::http::Request;
use crate::support::message;
use crate::support::server::Server;

#[test]
fn health_readiness_and_metrics() {
    let server = Server::shared();
    assert_eq!(server.request(Request::get("/healthz")).status, 200);
    assert_eq!(server.request(Request::get("/readyz")).status, 200);
    let metrics = server.request(Request::get("/metrics")).expect(200);
    assert!(metrics.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
    assert!(metrics.text().lines().any(|line| line.starts_with("# TYPE ")), "{}", metrics.text());
    assert!(metrics.text().contains("postrider_"), "{}", metrics.text());
}

#[test]
fn sigterm_ends_everything_with_exit_code_zero() {
    let server = Server::start();
    let client = server.account();
    let events = client.events("*", "no", 0);
    server.terminate();
    assert!(events.ended_within(Duration::from_secs(1)), "the event stream is still open");
    assert!(Request::get("/healthz").try_send(server.http()).is_err(), "somebody still answers");
}

#[test]
fn sigint_ends_it_too() {
    let server = Server::builder().without_domain().start();
    server.signal("INT");
    assert_eq!(server.wait_exit(Duration::from_secs(10)).code(), Some(0));
}

#[test]
fn data_survives_a_restart() {
    let server = Server::start();
    let client = server.account();
    server.deliver(
        "a@sender.test",
        &client.address,
        message::text("a@sender.test", &client.address, "kept", "x"),
    );
    let id = client.wait_for_subject("kept");
    let state = client.state("Email");
    server.terminate();
    server.restart();
    assert_eq!(client.get("Email", &id, &["subject"])["subject"], "kept");
    assert_eq!(client.state("Email"), state);
    assert_eq!(client.query(json!({ "text": "kept" })), [id]);
}

#[test]
fn two_servers_on_one_folder_are_refused() {
    let server = Server::shared();
    let output = server.try_cli(&["serve"], "");
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    // Refused because of the folder: it comes before the ports, which are taken as well.
    assert!(told.contains("the data folder") && told.contains("is in use"), "{told}");
}

#[test]
fn wrong_configuration_is_an_error_that_names_the_key() {
    let server = Server::shared();
    let folder = server.folder().join("config-test");
    std::fs::create_dir_all(&folder).expect("folder");
    let file = folder.join("wrong.toml");
    std::fs::write(&file, "http_listne = \"127.0.0.1:1\"\n").expect("file");
    let output = server.try_cli(&["serve", "--config", &file.to_string_lossy()], "");
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("http_listne") && told.contains("http_listen"), "{told}");
}

#[test]
fn help_has_examples_for_every_command() {
    let server = Server::shared();
    let top = server.cli(&["--help"]);
    for command in ["serve", "demo", "domain", "account", "alias", "access", "import", "queue", "token"] {
        assert!(top.contains(command), "--help does not name {command}");
        let help = server.cli(&[command, "--help"]);
        assert!(help.contains("xample"), "{command} --help has no example:\n{help}");
    }
}
