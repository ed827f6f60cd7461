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
Object.assign(globalThis, { Mailbox, until });
// What is never answered is an error, and no endless wait.
const soon = (answer) => Promise.race([answer, new Promise((_, late) => {
  setTimeout(() => late(new Error("no answer within a minute")), 60_000).unref();
})]);
for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    answer = { ok: (await soon(evaluate(line)(mailbox, seen, notified, list))) ?? null };
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
        assert!(code.len() >= 8, "the code of the page");
        let folder = tempfile::TempDir::with_prefix("postrider-page-").expect("temporary folder");
        let file = folder.path().join("page.mjs");
        std::fs::write(&file, format!("{}\n{DRIVER}", code.concat())).expect("written");
        let mut child = Command::new(node())
            // Which browsers have anyway.
            .arg("--experimental-eventsource")
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
    page.run("void mailbox.stayConnected(() => mailbox.connect((changed) => seen.push(changed)))");
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

    // With a network an edit is sent by itself.
    page.run(&format!("mailbox.edit('{first}', {{ 'keywords/$answered': true }})"));
    page.run("until(() => mailbox.pending.length === 0, 'the edit was sent')");
    let keywords = || client.get("Email", &first, &["keywords"])["keywords"].clone();
    assert_eq!(keywords(), json!({ "$flagged": true, "$answered": true }));

    // Without one: the edit is seen at once, and sent when the server is there again.
    server.terminate();
    page.run("until(() => mailbox.socket.readyState === 3, 'cut off')");
    assert_eq!(page.run("mailbox.ask().catch((error) => error.message)"), json!("not connected"));
    page.run(&format!("mailbox.edit('{first}', {{ 'keywords/$seen': true, 'keywords/$flagged': null }})"));
    let now = json!({ "$seen": true, "$answered": true });
    assert_eq!(page.run(&format!("mailbox.emails.get('{first}').keywords")), now);
    server.restart();
    page.run("until(() => mailbox.pending.length === 0, 'the edit was sent after the restart')");
    assert_eq!(keywords(), now);
    // It comes back by itself, hears of what it missed, and the list goes on.
    page.run("until(() => mailbox.socket.readyState === 1, 'connected again')");
    client.create_email(&inbox, "after the restart", "x");
    page.run("until(async () => { await mailbox.sync(); return [...mailbox.emails.values()].some((email) => email.subject === 'after the restart'); }, 'the mail after the restart')");
    page.run("until(() => list.length === 3, 'all of the list')");
    page.run("until(() => list.some((email) => email.subject === 'after the restart'), 'the mail after the restart in the list')");
}

#[test]
fn a_page_comes_back_whenever_its_connection_goes() {
    let server = Server::shared();
    let client = server.account();
    let mut page = Page::open(server, &client.address);
    page.run("mailbox.signIn()");
    page.run("mailbox.load()");
    client.create_email(&client.mailbox("inbox"), "missed", "x");
    page.run("void mailbox.stayConnected(() => mailbox.connect((changed) => seen.push(changed)))");
    page.run("until(() => mailbox.emails.size === 1, 'connected, and has asked what it missed')");
    // The next connection goes while the page asks what it missed.
    page.run(
        "void (mailbox.sync = async () => {
            delete mailbox.sync;
            globalThis.second = mailbox.socket;
            second.close();
            await until(() => second.readyState === 3, 'closed');
            return mailbox.sync();
        })",
    );
    // Who waits for an answer when the first one goes hears that none will come.
    page.run(
        "void mailbox.ask(['Core/echo', {}, '0']).catch(() => notified.push('lost')), mailbox.socket.close()",
    );
    page.run("until(() => notified.includes('lost'), 'the promise ended')");
    let is_open = "mailbox.socket.readyState === 1";
    page.run(&format!("until(() => globalThis.second && mailbox.socket !== second && {is_open}, 'a third')"));
    // One with which the page can do nothing does not stay beside the next.
    page.run(
        "void (mailbox.sync = async () => {
            delete mailbox.sync;
            globalThis.useless = mailbox.socket;
            throw new Error('no answer');
        })",
    );
    page.run("mailbox.socket.close()");
    page.run(&format!(
        "until(() => globalThis.useless && mailbox.socket !== useless && {is_open}, 'another')"
    ));
    page.run("until(() => useless.readyState === 3, 'closed')");
}

#[test]
fn no_edit_of_a_page_is_lost_or_shown_though_refused() {
    let server = Server::shared();
    let client = server.account();
    let inbox = client.mailbox("inbox");
    let ids = ["one", "two", "three"].map(|subject| client.create_email(&inbox, subject, "x"));
    let mut page = Page::open(server, &client.address);
    page.run("mailbox.signIn()");
    page.run("mailbox.load()");
    // Sent twice at once, while the network is gone for one request.
    let seen = "{ 'keywords/$seen': true }";
    for id in &ids {
        page.run(&format!("mailbox.pending.push({{ id: '{id}', patch: {seen} }})"));
    }
    page.run(
        "void (mailbox.call = (...calls) => {
            globalThis.requests = (globalThis.requests ?? 0) + 1;
            if (requests === 3) throw new Error('no network');
            return Mailbox.prototype.call.apply(mailbox, calls);
        })",
    );
    page.run("Promise.allSettled([mailbox.flush(), mailbox.flush()])");
    page.run("delete mailbox.call");
    assert_eq!(page.run("mailbox.pending"), json!([]));
    for id in &ids {
        assert_eq!(client.get("Email", id, &["keywords"])["keywords"], json!({ "$seen": true }));
    }
    // An Email is in some mailbox, and is not when it is destroyed.
    client.destroy("Email", &ids[1]);
    page.run(&format!("mailbox.edit('{}', {{ 'mailboxIds/{inbox}': null }})", ids[0]));
    page.run(&format!("mailbox.edit('{}', {{ 'keywords/$flagged': true }})", ids[1]));
    page.run("until(() => mailbox.pending.length === 0, 'both were answered')");
    assert_eq!(page.run(&format!("mailbox.emails.get('{}').mailboxIds", ids[0])), json!({ inbox: true }));
    assert_eq!(page.run(&format!("mailbox.emails.has('{}')", ids[1])), json!(false));
}

#[test]
fn a_page_with_an_event_source_is_told_and_comes_back() {
    let server = Server::start();
    let client = server.account();
    let inbox = client.mailbox("inbox");
    let first = client.create_email(&inbox, "first", "x");
    let mut page = Page::open(&server, &client.address);
    page.run("mailbox.signIn()");
    page.run("mailbox.load()");
    client.create_email(&inbox, "missed", "x");
    page.run(
        "void mailbox.stayConnected(() => mailbox.listen((changed) => {
            seen.push(changed);
            mailbox.sync().catch(() => {});
        }))",
    );
    page.run("until(() => mailbox.emails.size === 2, 'what was missed')");
    client.create_email(&inbox, "told", "x");
    page.run("until(() => seen.some((changed) => changed.Email), 'a state event')");
    page.run("until(() => mailbox.emails.size === 3, 'the new mail')");
    server.terminate();
    page.run(&format!("mailbox.edit('{first}', {{ 'keywords/$seen': true }})"));
    server.restart();
    page.run("until(() => mailbox.pending.length === 0, 'the edit was sent after the restart')");
    page.run("(seen.length = 0)");
    client.create_email(&inbox, "after the restart", "x");
    page.run("until(() => mailbox.emails.size === 4, 'the mail after the restart')");
    client.update("Email", &first, json!({ "keywords/$flagged": true }));
    page.run("until(() => seen.some((changed) => changed.Email), 'a state event after the restart')");
    page.run(&format!("until(() => mailbox.emails.get('{first}').keywords.$flagged, 'the flag')"));
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
