//! What openapi/postrider.json says is so: schemathesis makes requests of it, right ones and wrong ones, and
//! looks at the answers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::rest::Api;
use crate::support::server::Server;

/// Seconds for each kind of key; by hand: `POSTRIDER_TEST_SCHEMATHESIS_SECONDS=600`.
const SECONDS: &str = "20";

/// `tests/run --prepare` puts it there.
fn schemathesis() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools/python/bin/schemathesis")
}

fn nothing_is_found(server: &Server, key: Option<&str>) {
    let seconds = std::env::var("POSTRIDER_TEST_SCHEMATHESIS_SECONDS").unwrap_or_else(|_| SECONDS.to_owned());
    let folder = tempfile::TempDir::with_prefix("postrider-schemathesis-").expect("temporary folder");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(schemathesis());
    command
        .current_dir(folder.path())
        .arg("--config-file")
        .arg(manifest.join("tests/schemathesis.toml"))
        .arg("--no-color")
        .arg("run")
        .arg(manifest.join("openapi/postrider.json"))
        .args(["--url", &format!("{}/api/v1", server.url())])
        .args(["--phases", "examples,coverage,fuzzing,stateful", "--continue-on-failure"])
        .args(["--max-time", &seconds, "--request-timeout", "30", "--warnings", "off"]);
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

#[test]
fn the_document_holds_for_every_kind_of_key() {
    // A relay that is not there: nothing leaves, however much is sent.
    let server = Server::builder().env("POSTRIDER_RELAY", "smtp://127.0.0.1:9").start();
    let alice = server.account();
    // The domain and the address of the examples are there.
    server.cli(&["domain", "add", "example.org"]);
    for name in ["alice@example.org", "bob@example.org"] {
        server.cli(&["account", "add", name, "--password", "a password"]);
    }
    let all = ["--scope", "read,write,send,admin", "--domain", "*"];
    let admin = Api::new(&server, "alice@example.org", &all);
    alice.create_email(&alice.mailbox("inbox"), "something to be read", "text");
    nothing_is_found(&server, admin.key.as_deref());
    let narrow = Api::new(&server, &alice.address, &["--scope", "read"]);
    nothing_is_found(&server, narrow.key.as_deref());
    nothing_is_found(&server, None);
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
}
