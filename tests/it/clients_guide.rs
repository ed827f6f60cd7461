//! The code in docs/clients.md does what the page says: it is taken from there and run by Node.js, whose
//! WebSocket is another implementation than ours.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::support::message;
use crate::support::push_service::{Device, PushService};
use crate::support::server::{PASSWORD, Server};

/// What the test does with the module: each line that comes in is an expression, the answer is JSON.
const DRIVER: &str = r#"
import { createInterface } from "node:readline";
const [server, login, password] = process.argv.slice(2);
const mailbox = new Mailbox(server, "Basic " + btoa(`${login}:${password}`));
const seen = [], notified = [];
let list = [];
const evaluate = (text) => new Function("mailbox", "seen", "notified", "list", `return (async () => (${text}))()`);
const until = async (is, what) => {
  for (let tries = 0; tries < 1500; tries++) {
    if (await is()) return true;
    await new Promise((over) => setTimeout(over, 20));
  }
  throw new Error("did not happen: " + what);
};
globalThis.until = until;
for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    answer = { ok: (await evaluate(line)(mailbox, seen, notified, list)) ?? null };
  } catch (error) {
    answer = { error: String(error.stack ?? error) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
process.exit(0);
"#;

/// Node.js 22 or later: `tests/run --prepare` puts one there where the machine has none.
pub fn node() -> PathBuf {
    if let Some(named) = std::env::var_os("POSTRIDER_TEST_NODE") {
        return named.into();
    }
    let prepared = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools/node");
    if prepared.exists() { prepared } else { "node".into() }
}

/// A page, with what is on it.
struct Page {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _folder: tempfile::TempDir,
}

impl Page {
    fn open(server: &Server, login: &str) -> Page {
        let guide = include_str!("../../docs/clients.md");
        let code: Vec<&str> =
            guide.split("```js\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert!(code.len() >= 6, "the code of the page");
        let folder = tempfile::TempDir::with_prefix("postrider-page-").expect("temporary folder");
        let file = folder.path().join("page.mjs");
        std::fs::write(&file, format!("{}\n{DRIVER}", code.concat())).expect("written");
        let mut child = Command::new(node())
            .arg(&file)
            .args([&server.url(), login, PASSWORD])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("Node.js: {error}; `tests/run --prepare` installs it"));
        let input = child.stdin.take().expect("its input");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        Page { child, input, output, _folder: folder }
    }

    /// Evaluates an expression in the page.
    #[track_caller]
    fn run(&mut self, expression: &str) -> Value {
        writeln!(self.input, "{}", expression.replace('\n', " ")).expect("the page listens");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the page answers");
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            answer.get("error").is_none(),
            "{expression}: {}",
            answer["error"].as_str().unwrap_or_default()
        );
        answer["ok"].clone()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_page_loads_follows_edits_and_comes_back() {
    let server = Server::start();
    let client = server.account();
    let inbox = client.mailbox("inbox");
    let first = client.create_email(&inbox, "first", "x");
    let mut page = Page::open(&server, &client.address);
    let version = page.run("Number(process.versions.node.split('.')[0])");
    assert!(
        version.as_u64() >= Some(22),
        "Node.js 22 or later is wanted, not {version}; `tests/run --prepare` installs one"
    );
    page.run("mailbox.signIn()");
    page.run("mailbox.load()");
    assert_eq!(page.run("[...mailbox.emails.values()].map((email) => email.subject)"), json!(["first"]));

    // Changes that others make, by changes since a state.
    let second = client.create_email(&inbox, "second", "x");
    client.update("Email", &first, json!({ "keywords/$flagged": true }));
    page.run("mailbox.sync()");
    assert_eq!(page.run(&format!("mailbox.emails.get('{first}').keywords")), json!({ "$flagged": true }));
    client.destroy("Email", &second);
    page.run("mailbox.sync()");
    assert_eq!(page.run("mailbox.emails.size"), json!(1));

    // One connection for requests, push and lists.
    page.run("void mailbox.stayConnected((changed) => seen.push(changed))");
    page.run("until(() => mailbox.socket?.readyState === 1, 'connected')");
    assert_eq!(
        page.run("mailbox.ask(['Core/echo', { a: 1 }, '0'])"),
        json!([["Core/echo", { "a": 1 }, "0"]])
    );
    page.run(&format!(
        "void mailbox.follow('inbox', {{ inMailbox: '{inbox}' }}, (now) => list.splice(0, 99, ...now))"
    ));
    page.run("until(() => list.length === 1, 'the list')");
    let body = message::text("ann@sender.test", &client.address, "it came by SMTP", "x");
    server.deliver("ann@sender.test", &client.address, body);
    page.run("until(() => list[0]?.subject === 'it came by SMTP', 'the new mail in the list')");
    page.run("until(() => seen.some((changed) => changed.Email), 'a StateChange')");

    // Without a network: the edit is seen at once, and sent when the server is there again.
    server.terminate();
    page.run("until(() => mailbox.socket.readyState === 3, 'cut off')");
    page.run(&format!("mailbox.edit('{first}', {{ 'keywords/$seen': true, 'keywords/$flagged': null }})"));
    assert_eq!(page.run(&format!("mailbox.emails.get('{first}').keywords")), json!({ "$seen": true }));
    server.restart();
    page.run("until(() => mailbox.pending.length === 0, 'the edit was sent')");
    assert_eq!(client.get("Email", &first, &["keywords"])["keywords"], json!({ "$seen": true }));
    // It comes back by itself and hears of what it missed, from the state that was pushed last.
    page.run("until(() => mailbox.socket.readyState === 1, 'connected again')");
    client.create_email(&inbox, "after the restart", "x");
    page.run("until(async () => { await mailbox.sync(); return [...mailbox.emails.values()].some((email) => email.subject === 'after the restart'); }, 'the mail after the restart')");
}

#[test]
fn a_phone_subscribes_verifies_and_shows_new_mail() {
    let service = PushService::start();
    let server = service.trusted_by(Server::builder()).start();
    let client = server.account();
    let device = Device::new();
    let mut page = Page::open(&server, &client.address);
    page.run("mailbox.signIn()");
    page.run("mailbox.load()");
    let subscription = json!({ "endpoint": service.url("phone"), "keys": device.keys() });
    let created = page.run(&format!("mailbox.subscribe('my phone', {subscription})"));
    let show = "(email) => notified.push(email.subject)";
    let verification = device.read(&service.next()).to_string();
    page.run(&format!("mailbox.pushed({}, {show})", json!(verification)));
    let body = message::text("ann@sender.test", &client.address, "Lunch?", "At one.");
    server.deliver("ann@sender.test", &client.address, body);
    let mut notified = Value::Null;
    while notified != json!(["Lunch?"]) {
        let push = device.read(&service.next()).to_string();
        page.run(&format!("mailbox.pushed({}, {show})", json!(push)));
        notified = page.run("notified");
    }
    assert_eq!(page.run(&format!("mailbox.renew({})", created["id"])), json!(true));
    assert_eq!(page.run("mailbox.renew('nobody')"), json!(false));
}
