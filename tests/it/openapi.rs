//! What openapi/postrider.json says is so: schemathesis makes requests of it, right ones and wrong ones, and
//! looks at the answers; and a client that is made of it works.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::rest::Api;
use crate::support::server::{PASSWORD, Server};

/// Seconds for each kind of key, with the same numbers each time; by hand, with others:
/// `POSTRIDER_TEST_SCHEMATHESIS_SECONDS=600`.
const SECONDS: &str = "20";

/// A program of Python: `tests/run --prepare` puts it there.
fn python(program: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools/python/bin").join(program)
}

fn nothing_is_found(server: &Server, key: Option<&str>) {
    let by_hand = std::env::var("POSTRIDER_TEST_SCHEMATHESIS_SECONDS").ok();
    let seconds = by_hand.as_deref().unwrap_or(SECONDS);
    let folder = tempfile::TempDir::with_prefix("postrider-schemathesis-").expect("temporary folder");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(python("schemathesis"));
    command
        .current_dir(folder.path())
        .arg("--config-file")
        .arg(manifest.join("tests/schemathesis.toml"))
        .arg("--no-color")
        .arg("run")
        .arg(manifest.join("openapi/postrider.json"))
        .args(["--url", &format!("{}/api/v1", server.url())])
        .args(["--phases", "examples,coverage,fuzzing,stateful", "--continue-on-failure"])
        .args(["--max-time", seconds, "--request-timeout", "30", "--warnings", "off"]);
    if by_hand.is_none() {
        command.args(["--seed", "1"]);
    }
    if let Some(key) = key {
        command.args(["--header", &format!("Authorization: Bearer {key}")]);
    }
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("schemathesis: {error}; `tests/run --prepare` installs it"));
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("Test cases:"), "{told}");
}

/// A server with the domain and the addresses of the examples, and what there is to be read.
fn server() -> Server {
    // A relay that is not there: nothing leaves, however much is sent.
    let server = Server::builder().env("POSTRIDER_RELAY", "smtp://127.0.0.1:9").start();
    server.cli(&["domain", "add", "example.org"]);
    for name in ["alice@example.org", "bob@example.org"] {
        server.cli(&["account", "add", name, "--password", PASSWORD]);
    }
    let alice = server.sign_in("alice@example.org");
    alice.create_email(&alice.mailbox("inbox"), "something to be read", "text");
    server
}

#[test]
fn the_document_holds_for_every_kind_of_key() {
    let all: &[&str] = &["--scope", "read,write,send,admin", "--domain", "*"];
    // Each on a server of its own: whoever may remove accounts does.
    for rights in [Some(all), Some(&["--scope", "read"]), None] {
        let server = server();
        let key = rights.and_then(|rights| Api::new(&server, "alice@example.org", rights).key);
        nothing_is_found(&server, key.as_deref());
        let log = server.log();
        assert!(!log.contains("panicked"), "{log}");
    }
}

#[test]
fn a_client_that_is_made_of_the_document_works() {
    let server = Server::builder().env("POSTRIDER_PUSH_NETWORKS", "127.0.0.1").start();
    let (shop, customer) = (server.account_named("shop"), server.account_named("customer"));
    let all = ["--scope", "read,write,send,admin", "--domain", "*"];
    let api = Api::new(&server, &shop.address, &all);
    let folder = tempfile::TempDir::with_prefix("postrider-client-").expect("temporary folder");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = Command::new(python("openapi-python-client"))
        .args(["generate", "--meta", "none", "--path"])
        .arg(manifest.join("openapi/postrider.json"))
        .arg("--output-path")
        .arg(folder.path().join("postrider_client"))
        .output()
        .unwrap_or_else(|error| panic!("openapi-python-client: {error}; `tests/run --prepare` installs it"));
    let told = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(made.status.success() && !told.contains("WARNING") && !told.contains("ERROR"), "{told}");
    let child = Command::new(python("python3"))
        .arg(manifest.join("tests/generated_client.py"))
        .arg(folder.path())
        .args([&server.url(), api.key.as_ref().expect("a key"), &shop.address, &customer.address])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3");
    let received = customer.wait_for_subject("Order 17");
    let customers = Api::new(&server, &customer.address, &[]);
    customers.post(&format!("/messages/{received}/reply"), &serde_json::json!({ "text": "When?" }));
    let output = child.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.ends_with("done\n"),
        "{told}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
