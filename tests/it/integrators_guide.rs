//! The code in docs/integrators.md does what the page says: it is taken from there and run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::clients_guide::node;
use crate::support::rest::Api;
use crate::support::server::Server;

/// The one piece of code of a language.
fn code(language: &str) -> &'static str {
    let page = include_str!("../../docs/integrators.md");
    let (_, rest) = page.split_once(&format!("```{language}\n")).expect("the code of the page");
    rest.split("```").next().expect("its end")
}

fn runs(program: PathBuf, file: &str, language: &str) {
    let code = code(language);
    let lines = code.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines < 40, "{lines} lines of {language}");
    let server = Server::builder().env("POSTRIDER_PUSH_NETWORKS", "127.0.0.1").start();
    let (shop, customer) = (server.account_named("shop"), server.account_named("customer"));
    let key = Api::new(&server, &shop.address, &["--scope", "send,read,write"]);
    let folder = tempfile::TempDir::with_prefix("postrider-guide-").expect("temporary folder");
    let path: &Path = &folder.path().join(file);
    std::fs::write(path, code).expect("written");
    let child = Command::new(program)
        .arg(path)
        .args([&server.url(), key.key.as_ref().expect("a key"), &shop.address, &customer.address])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{language}: {error}; `tests/run --prepare` installs it"));
    customer.wait_for_subject("Your order 1234");
    let customers = Api::new(&server, &customer.address, &[]);
    customers.post(
        "/sends",
        &json!({ "from": { "email": customer.address }, "to": [{ "email": shop.address }],
            "subject": "Re: Your order 1234", "text": "When will it be here?" }),
    );
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{language}: {}", output.status);
    let text = String::from_utf8(output.stdout).expect("text");
    let said: Vec<String> = text.lines().map(|line| line.replace(['"', '\'', ' '], "")).collect();
    let wanted = ["message.sent{order:1234}", "message.delivered{order:1234}", "answerWhenwillitbehere?"]
        .map(str::to_owned);
    assert_eq!(said, wanted);
    assert_eq!(shop.query(json!({ "inMailbox": shop.mailbox("inbox"), "notKeyword": "$seen" })), [""; 0]);
}

#[test]
fn the_python_runs() {
    runs("python3".into(), "guide.py", "python");
}

#[test]
fn the_javascript_runs() {
    runs(node(), "guide.mjs", "js");
}
