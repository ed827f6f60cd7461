//! The mail corpus goes in, and what JMAP returns is compared part by part with another parser's
//! reading. `tests/corpus/README.md` says where the messages come from.
//!
//! With `POSTRIDER_CORPUS_REPORT=file` the differences are also written there as JSON.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use postrider::mail::body;
use postrider::mail::fields::raw_value;
use postrider::mail::parse::parse;
use postrider::mail::structure::Structure;
use postrider::types::date::parse_date;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::support::eventually;
use crate::support::jmap::Client;
use crate::support::server::Server;
use crate::support::smtp::Smtp;

/// How many Emails one Email/get asks for.
const BATCH: usize = 50;

/// What is asked of an Email besides its structure.
const PROPERTIES: [&str; 17] = [
    "id",
    "blobId",
    "size",
    "headers",
    "subject",
    "from",
    "sender",
    "to",
    "cc",
    "bcc",
    "replyTo",
    "sentAt",
    "messageId",
    "inReplyTo",
    "references",
    "bodyStructure",
    "bodyValues",
];

const BODY_PROPERTIES: [&str; 11] = [
    "partId",
    "blobId",
    "size",
    "name",
    "type",
    "charset",
    "disposition",
    "cid",
    "language",
    "location",
    "subParts",
];

struct Message {
    name: String,
    bytes: Vec<u8>,
}

fn corpus_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

fn messages_in(folder: &Path) -> Vec<Message> {
    let mut messages: Vec<Message> = fs::read_dir(folder)
        .expect("corpus folder")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "eml"))
        .map(|path| Message {
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            bytes: fs::read(&path).expect("message"),
        })
        .collect();
    messages.sort_by(|a, b| a.name.cmp(&b.name));
    messages
}

/// Messages of which no line before the first empty one is a header field: Email/import takes them for
/// none.
const WITHOUT_HEADER: [&str; 5] = [
    "broken-colons",
    "broken-name-only-lines",
    "broken-no-headers",
    "broken-only-line-end",
    "broken-text-without-headers",
];

/// Whether SMTP hands the message over byte by byte: all line ends are CRLF, and the headers that
/// the server writes above it do not run into its first line.
fn survives_smtp(bytes: &[u8]) -> bool {
    if !bytes.ends_with(b"\r\n") {
        return false;
    }
    let mut previous = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte == b'\n' && previous != b'\r' || *byte == b'\r' && bytes.get(at + 1) != Some(&b'\n') {
            return false;
        }
        previous = *byte;
    }
    let first = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let name = first.split(|byte| *byte == b':').next().unwrap_or_default();
    name.len() < first.len() && !name.is_empty() && name.iter().all(|byte| (33..127).contains(byte))
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Delivers over one connection after another, some hundred messages each.
fn deliver(server: &Server, client: &Client, messages: &[&Message]) {
    for batch in messages.chunks(100) {
        let mut smtp = Smtp::connect(server.smtp());
        smtp.ehlo();
        for message in batch {
            let reply = smtp.try_send("writer@corpus.test", &[client.address.as_str()], &message.bytes);
            match reply {
                Ok(reply) => assert_eq!(reply.code, 250, "{}: {reply}", message.name),
                Err(error) => panic!("{}: {error}", message.name),
            }
        }
        let _ = smtp.try_command("QUIT");
    }
}

/// All Emails of the account, each with its own bytes.
fn fetch(client: &Client, ids: &[String]) -> Vec<(Value, Vec<u8>)> {
    let mut emails = Vec::new();
    for batch in ids.chunks(BATCH) {
        let answer = client.call(
            "Email/get",
            json!({
                "ids": batch, "properties": PROPERTIES, "bodyProperties": BODY_PROPERTIES,
                "fetchAllBodyValues": true,
            }),
        );
        assert_eq!(answer["notFound"], json!([]));
        for email in answer["list"].as_array().expect("list") {
            let bytes = client.download(email["blobId"].as_str().expect("blobId"));
            assert_eq!(email["size"], json!(bytes.len()), "size of {}", email["id"]);
            emails.push((email.clone(), bytes));
        }
    }
    emails
}

/// The message below what the server wrote above it, and how many headers that are.
fn identify<'a>(bytes: &[u8], known: &HashMap<String, &'a Message>) -> Option<(&'a Message, usize)> {
    let mut start = 0;
    let mut above = 0;
    loop {
        if let Some(message) = known.get(&sha256(&bytes[start..])) {
            return Some((message, above));
        }
        above += 1;
        if above > 10 {
            return None;
        }
        // To the end of the header that starts here.
        loop {
            start += bytes[start..].windows(2).position(|pair| pair == b"\r\n")? + 2;
            if !matches!(bytes.get(start), Some(b' ' | b'\t')) {
                break;
            }
        }
    }
}

/// One octet or a run of them may stand for what is no UTF-8 (RFC 8621, 4.1.2.1).
fn squeeze(value: &Value) -> Value {
    match value {
        Value::String(text) => {
            let mut out = String::with_capacity(text.len());
            for c in text.chars() {
                if c != '\u{fffd}' || !out.ends_with('\u{fffd}') {
                    out.push(c);
                }
            }
            Value::String(out)
        }
        Value::Array(list) => list.iter().map(squeeze).collect(),
        Value::Object(map) => {
            let without_nulls = map.iter().filter(|(_, value)| !value.is_null());
            Value::Object(
                without_nulls.map(|(key, value)| (key.clone(), squeeze(value))).collect::<Map<_, _>>(),
            )
        }
        other => other.clone(),
    }
}

/// What JMAP returned, in the shape of the expectations.
fn observed(client: &Client, email: &Value, above: usize) -> Value {
    let mut out = Map::new();
    let headers: Vec<Value> = email["headers"]
        .as_array()
        .into_iter()
        .flatten()
        .skip(above)
        .map(|header| json!([header["name"], header["value"]]))
        .collect();
    out.insert("headers".into(), json!(headers));
    for name in
        ["subject", "from", "sender", "to", "cc", "bcc", "replyTo", "messageId", "inReplyTo", "references"]
    {
        out.insert(name.into(), email[name].clone());
    }
    let sent_at = email["sentAt"].as_str().and_then(parse_date).map(|ms| ms / 1000);
    assert_eq!(sent_at.is_none(), email["sentAt"].is_null(), "sentAt: {}", email["sentAt"]);
    out.insert("sentAt".into(), json!(sent_at));
    out.insert("bodyStructure".into(), observed_part(client, &email["bodyStructure"], &email["bodyValues"]));
    Value::Object(out)
}

fn observed_part(client: &Client, part: &Value, values: &Value) -> Value {
    let mut out = Map::new();
    for name in ["type", "charset", "disposition", "name", "cid", "language", "location"] {
        out.insert(name.into(), part[name].clone());
    }
    let kind = part["type"].as_str().unwrap_or_default();
    if let Some(parts) = part["subParts"].as_array() {
        assert!(kind.starts_with("multipart/"), "a {kind} with parts");
        assert!(part["partId"].is_null() && part["blobId"].is_null(), "a multipart with ids: {part}");
        out.insert("subParts".into(), parts.iter().map(|part| observed_part(client, part, values)).collect());
        return Value::Object(out);
    }
    assert!(part["partId"].is_string() && part["blobId"].is_string(), "a part without ids: {part}");
    let bytes = client.download(part["blobId"].as_str().unwrap_or_default());
    assert_eq!(part["size"], json!(bytes.len()), "size of a part: {part}");
    out.insert("size".into(), part["size"].clone());
    out.insert("sha256".into(), json!(sha256(&bytes)));
    if kind.starts_with("text/") {
        let value = &values[part["partId"].as_str().unwrap_or_default()];
        assert!(value["value"].is_string(), "no body value for {part}");
        assert_eq!(value["isTruncated"], json!(false));
        if value["isEncodingProblem"] == json!(true) {
            out.insert("encodingProblem".into(), json!(true));
        }
        out.insert("text".into(), value["value"].clone());
    }
    Value::Object(out)
}

/// Collects where two readings differ, by path.
fn differ(path: &str, expected: &Value, got: &Value, out: &mut BTreeMap<String, (Value, Value)>) {
    if path.ends_with("subParts") {
        let empty = Vec::new();
        let (expected, got) = (expected.as_array().unwrap_or(&empty), got.as_array().unwrap_or(&empty));
        for (index, (expected, got)) in expected.iter().zip(got).enumerate() {
            differ(&format!("{}{index}", path.trim_end_matches("subParts")), expected, got, out);
        }
        if expected.len() != got.len() {
            out.insert(path.into(), (json!(expected.len()), json!(got.len())));
        }
        return;
    }
    let is_part = path.starts_with("bodyStructure") && expected.is_object() && got.is_object();
    if path.is_empty() || is_part {
        let empty = Map::new();
        let (expected, got) = (expected.as_object().unwrap_or(&empty), got.as_object().unwrap_or(&empty));
        let hashed = expected.get("textSha256");
        let problem = expected.contains_key("encodingProblem");
        for name in expected.keys().chain(got.keys().filter(|name| !expected.contains_key(*name))) {
            let below = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            let (one, two) =
                (expected.get(name).unwrap_or(&Value::Null), got.get(name).unwrap_or(&Value::Null));
            match name.as_str() {
                // Where the charset fits not, what is shown is the server's own affair.
                "text" if problem => {}
                "text" if hashed.is_some() => {}
                "textSha256" => {
                    let text = got.get("text").and_then(Value::as_str).unwrap_or_default();
                    if *one != json!(sha256(text.as_bytes())) {
                        out.insert(below, (one.clone(), json!("another text")));
                    }
                }
                _ => differ(&below, one, two, out),
            }
        }
        return;
    }
    if expected != got {
        out.insert(path.into(), (expected.clone(), got.clone()));
    }
}

/// `differences.json`: message and path to the value that is right, and whether it was needed.
fn explained() -> HashMap<(String, String), Value> {
    let text = fs::read_to_string(corpus_folder().join("differences.json")).expect("differences.json");
    let groups: Vec<Value> = serde_json::from_str(&text).expect("differences.json");
    let mut out = HashMap::new();
    for group in groups {
        let reason = group["reason"].as_str().unwrap_or_default();
        assert!(reason.len() > 20, "a difference without a reason: {group}");
        for (message, paths) in group["messages"].as_object().expect("messages") {
            for (path, value) in paths.as_object().expect("paths") {
                let before = out.insert((message.clone(), path.clone()), value.clone());
                assert!(before.is_none(), "{message} {path} is explained twice");
            }
        }
    }
    out
}

/// One reading compared with the expectation of a message; what is explained is taken out.
fn compare(
    message: &Message,
    got: &Value,
    explained: &mut HashMap<(String, String), Value>,
    report: &mut Report,
) {
    let path = corpus_folder().join("expected").join(format!("{}.json", message.name));
    let expected: Value =
        serde_json::from_str(&fs::read_to_string(path).expect("expectation")).expect("expectation");
    let mut found = BTreeMap::new();
    differ("", &squeeze(&expected), &squeeze(got), &mut found);
    found.retain(|path, (_, got)| {
        let right = explained.remove(&(message.name.clone(), path.clone()));
        right.is_none_or(|right| squeeze(&right) != *got)
    });
    if !found.is_empty() {
        report.insert(message.name.clone(), found);
    }
}

/// Message, path, expected and got.
type Report = BTreeMap<String, BTreeMap<String, (Value, Value)>>;

#[track_caller]
fn assert_no_differences(report: &Report, explained: &HashMap<(String, String), Value>) {
    if let Ok(file) = std::env::var("POSTRIDER_CORPUS_REPORT") {
        fs::write(file, serde_json::to_vec_pretty(report).expect("JSON")).expect("report");
    }
    let mut lines = Vec::new();
    for (name, found) in report {
        for (path, (expected, got)) in found {
            lines.push(format!("{name} {path}\n    expected {expected}\n    got      {got}"));
        }
    }
    assert!(
        lines.is_empty(),
        "{} differences in {} messages:\n{}",
        lines.len(),
        report.len(),
        lines.join("\n")
    );
    assert!(explained.is_empty(), "explained, but not there: {:?}", explained.keys().collect::<Vec<_>>());
}

/// The parser alone, without a server: quick to run while working on it.
#[test]
fn the_parser_reads_every_message_as_another_parser_does() {
    let mut explained = explained();
    let mut report = Report::new();
    for message in messages_in(&corpus_folder().join("messages")) {
        let parsed = parse(&message.bytes);
        let mut got = json!(null);
        let headers = &parsed.headers;
        let fields = parsed.structure.header_fields(&message.bytes);
        got["headers"] = fields.map(|field| json!([field.name, raw_value(field.value)])).collect();
        got["subject"] = json!(headers.subject);
        got["from"] = json!(headers.from);
        got["sender"] = json!(headers.sender);
        got["to"] = json!(headers.to);
        got["cc"] = json!(headers.cc);
        got["bcc"] = json!(headers.bcc);
        got["replyTo"] = json!(headers.reply_to);
        got["messageId"] = json!(headers.message_id);
        got["inReplyTo"] = json!(headers.in_reply_to);
        got["references"] = json!(headers.references);
        got["sentAt"] = json!(headers.sent_at.as_ref().map(|date| date.ms.div_euclid(1000)));
        got["bodyStructure"] = parsed_part(&parsed.structure, 0, &message.bytes);
        compare(&message, &got, &mut explained, &mut report);
    }
    assert_no_differences(&report, &explained);
}

fn parsed_part(structure: &Structure, index: usize, raw: &[u8]) -> Value {
    let part = &structure.parts[index];
    let mut out = json!({
        "type": part.media_type, "charset": part.charset, "disposition": part.disposition, "name": part.name,
        "cid": part.cid, "language": part.language, "location": part.location,
    });
    if part.is_multipart() {
        out["subParts"] = structure.children(index).map(|child| parsed_part(structure, child, raw)).collect();
        return out;
    }
    let octets = body::octets(raw, part);
    assert_eq!(part.size, octets.len() as u64);
    out["size"] = json!(part.size);
    out["sha256"] = json!(sha256(&octets));
    if part.is_text() {
        let value = body::value(raw, part, 0);
        out["text"] = json!(value.value);
        if value.is_encoding_problem {
            out["encodingProblem"] = json!(true);
        }
    }
    out
}

#[test]
fn every_message_is_returned_as_another_parser_reads_it() {
    let server = Server::start();
    let client = server.account();
    let messages = messages_in(&corpus_folder().join("messages"));
    assert!(messages.len() >= 300, "{} messages", messages.len());
    let (refused, taken): (Vec<&Message>, Vec<&Message>) =
        messages.iter().partition(|message| WITHOUT_HEADER.contains(&message.name.as_str()));
    assert_eq!(refused.len(), WITHOUT_HEADER.len());
    let (by_smtp, by_import): (Vec<&Message>, Vec<&Message>) =
        taken.iter().partition(|message| survives_smtp(&message.bytes));
    assert!(by_smtp.len() > by_import.len() * 10);

    deliver(&server, &client, &by_smtp);
    let inbox = client.mailbox("inbox");
    for message in &by_import {
        client.import(&inbox, message.bytes.clone());
    }
    for message in &refused {
        let blob = client.upload("message/rfc822", message.bytes.clone())["blobId"].clone();
        let email = json!({ "blobId": blob, "mailboxIds": { &inbox: true } });
        let answer = client.call("Email/import", json!({ "emails": { "k": email } }));
        assert_eq!(answer["notCreated"]["k"]["type"], "invalidEmail", "{}: {answer}", message.name);
    }
    let ids = eventually("all messages filed", || {
        let ids = client.query(json!(null));
        (ids.len() >= taken.len()).then_some(ids)
    });
    assert_eq!(ids.len(), taken.len(), "a message is there twice");

    let known: HashMap<String, &Message> =
        messages.iter().map(|message| (sha256(&message.bytes), message)).collect();
    let mut explained = explained();
    explained.retain(|(name, _), _| !WITHOUT_HEADER.contains(&name.as_str()));
    let mut report = Report::new();
    for (email, bytes) in fetch(&client, &ids) {
        let Some((message, above)) = identify(&bytes, &known) else {
            panic!("not a message of the corpus:\n{}", String::from_utf8_lossy(&bytes));
        };
        compare(message, &observed(&client, &email, above), &mut explained, &mut report);
    }
    assert_no_differences(&report, &explained);
}

/// Whatever is in a foreign collection: it is taken, kept byte by byte, and every part can be
/// read.
#[test]
fn the_shared_collection_is_kept_byte_by_byte() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    if !folder.is_dir() {
        return;
    }
    let server = Server::shared();
    let client = server.account();
    let inbox = client.mailbox("inbox");
    let mut messages = Vec::new();
    for entry in fs::read_dir(&folder).expect("folder").flatten().filter(|entry| entry.path().is_dir()) {
        messages.extend(messages_in(&entry.path()));
    }
    let (by_smtp, by_import): (Vec<&Message>, Vec<&Message>) =
        messages.iter().partition(|message| survives_smtp(&message.bytes));
    deliver(server, &client, &by_smtp);
    for message in by_import {
        client.import(&inbox, message.bytes.clone());
    }
    let ids = client.wait_for_emails(json!(null), messages.len());
    let known: HashMap<String, &Message> =
        messages.iter().map(|message| (sha256(&message.bytes), message)).collect();
    for (email, bytes) in fetch(&client, &ids) {
        let found = identify(&bytes, &known);
        assert!(found.is_some(), "changed on its way:\n{}", String::from_utf8_lossy(&bytes));
        observed(&client, &email, 0);
    }
}
