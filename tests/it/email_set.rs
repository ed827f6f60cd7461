//! RFC 8621, 4.6 to 4.9: Email/set, Email/copy, Email/import.

use serde_json::{Value, json};

use crate::support::jmap::{Client, id_of, plain_email};
use crate::support::server::Server;

fn draft(client: &Client, more: Value) -> Value {
    let mut email = plain_email(&client.mailbox("drafts"), &client.address, "subject", "text");
    for (name, value) in more.as_object().into_iter().flatten() {
        if value == "remove" {
            email.as_object_mut().expect("object").remove(name);
        } else {
            email[name] = value.clone();
        }
    }
    email
}

/// The bytes of a created Email.
fn raw(client: &Client, created: &Value) -> String {
    String::from_utf8(client.download(created["blobId"].as_str().expect("blobId"))).expect("UTF-8")
}

#[test]
fn a_draft_is_what_was_asked_for() {
    let client = Server::shared().account();
    let file = client.upload("application/pdf", "%PDF-1.4")["blobId"].clone();
    let picture = client.upload("image/png", vec![0x89, b'P', b'N', b'G'])["blobId"].clone();
    let created = client.create(
        "Email",
        json!({
            "mailboxIds": { client.mailbox("drafts"): true },
            "keywords": { "$draft": true, "$Seen": true },
            "receivedAt": "2025-01-02T03:04:05Z",
            "from": [{ "name": "Jürgen Groß", "email": client.address }],
            "to": [{ "name": "Müller, Karl", "email": "karl@x.test" }, { "name": null, "email": "b@x.test" }],
            "cc": [], "bcc": [{ "email": "hidden@x.test" }],
            "replyTo": [{ "email": "reply@x.test" }],
            "sender": [{ "email": client.address }],
            "subject": "Grüße – ein recht langer Betreff, der über die Zeile hinausgeht und gefaltet werden muss 🎉",
            "sentAt": "2025-01-02T03:04:05+09:00",
            "messageId": ["own@x.test"], "inReplyTo": ["a@x.test"], "references": ["a@x.test", "b@x.test"],
            "header:X-Custom:asText": "größer", "header:X-Raw": " as it is", "header:X-Many:asText:all": ["one", "two"],
            "header:List-Help:asURLs": ["https://x.test/help"], "header:X-Date:asDate": "2025-01-02T03:04:05Z",
            "bodyStructure": { "type": "multipart/mixed", "subParts": [
                { "type": "multipart/alternative", "subParts": [
                    { "type": "text/plain", "partId": "t", "language": ["de"] },
                    { "type": "multipart/related", "subParts": [
                        { "type": "text/html", "partId": "h" },
                        { "type": "image/png", "blobId": picture, "cid": "pic@x.test", "disposition": "inline", "name": "Bild ä.png" },
                    ] },
                ] },
                { "type": "application/pdf", "blobId": file, "disposition": "attachment", "name": "Übersicht.pdf", "header:X-Part:asText": "ü" },
            ] },
            "bodyValues": { "t": { "value": "Grüße\n.dot\nFrom here\n" }, "h": { "value": "<p>Grüße <img src=\"cid:pic@x.test\"></p>" } },
        }),
    );
    for echoed in ["id", "blobId", "threadId", "size"] {
        assert!(!created[echoed].is_null(), "{echoed}: {created}");
    }
    let email = client.get_with("Email", &id_of(&created), json!({
        "properties": ["mailboxIds", "keywords", "receivedAt", "from", "to", "cc", "bcc", "replyTo", "sender", "subject",
            "sentAt", "messageId", "inReplyTo", "references", "header:X-Custom:asText", "header:X-Raw",
            "header:X-Many:asText:all", "header:List-Help:asURLs", "header:X-Date:asDate", "bodyStructure", "bodyValues", "hasAttachment", "size"],
        "bodyProperties": ["type", "cid", "disposition", "name", "language", "size", "blobId", "partId", "header:X-Part:asText"],
        "fetchAllBodyValues": true,
    }));
    assert_eq!(email["keywords"], json!({ "$draft": true, "$seen": true }), "keywords are in lower case");
    assert_eq!(email["receivedAt"], "2025-01-02T03:04:05Z");
    assert_eq!(email["from"], json!([{ "name": "Jürgen Groß", "email": client.address }]));
    assert_eq!(
        email["to"],
        json!([{ "name": "Müller, Karl", "email": "karl@x.test" }, { "name": null, "email": "b@x.test" }])
    );
    assert_eq!(email["bcc"], json!([{ "name": null, "email": "hidden@x.test" }]));
    assert_eq!(
        email["subject"],
        "Grüße – ein recht langer Betreff, der über die Zeile hinausgeht und gefaltet werden muss 🎉"
    );
    assert_eq!(email["sentAt"], "2025-01-02T03:04:05+09:00");
    assert_eq!(
        (&email["messageId"], &email["references"]),
        (&json!(["own@x.test"]), &json!(["a@x.test", "b@x.test"]))
    );
    assert_eq!(
        (&email["header:X-Custom:asText"], &email["header:X-Raw"]),
        (&json!("größer"), &json!(" as it is"))
    );
    assert_eq!(email["header:X-Many:asText:all"], json!(["one", "two"]));
    assert_eq!(email["header:List-Help:asURLs"], json!(["https://x.test/help"]));
    assert_eq!(email["header:X-Date:asDate"], "2025-01-02T03:04:05Z");
    let mixed = &email["bodyStructure"];
    let related = &mixed["subParts"][0]["subParts"][1];
    let image = &related["subParts"][1];
    assert_eq!(
        (&image["cid"], &image["name"], &image["disposition"]),
        (&json!("pic@x.test"), &json!("Bild ä.png"), &json!("inline"))
    );
    let pdf = &mixed["subParts"][1];
    assert_eq!((&pdf["name"], &pdf["header:X-Part:asText"]), (&json!("Übersicht.pdf"), &json!("ü")));
    assert_eq!(client.download(pdf["blobId"].as_str().expect("blobId")), b"%PDF-1.4");
    let text = &mixed["subParts"][0]["subParts"][0];
    assert_eq!(text["language"], json!(["de"]));
    assert_eq!(
        email["bodyValues"][text["partId"].as_str().expect("partId")]["value"],
        "Grüße\n.dot\nFrom here\n"
    );
    assert_eq!(email["hasAttachment"], true);
    let raw = raw(&client, &created);
    assert!(raw.contains("\r\nMIME-Version: 1.0\r\n"));
    assert!(raw.lines().all(|line| line.len() <= 998), "a line is too long");
    assert!(!raw.replace("\r\n", "").contains(['\r', '\n']), "a bare CR or LF");
    assert!(raw.split("\r\n\r\n").next().is_some_and(str::is_ascii), "headers are ASCII:\n{raw}");
}

#[test]
fn what_is_missing_is_added() {
    let client = Server::shared().account();
    let created = client.create("Email", json!({ "mailboxIds": { client.mailbox("drafts"): true } }));
    let email = client.get(
        "Email",
        &id_of(&created),
        &["messageId", "sentAt", "from", "subject", "keywords", "receivedAt"],
    );
    assert_eq!(email["messageId"].as_array().map(Vec::len), Some(1), "{email}");
    assert!(email["sentAt"].is_string() && email["receivedAt"].is_string(), "{email}");
    assert_eq!(
        (&email["from"], &email["subject"], &email["keywords"]),
        (&Value::Null, &Value::Null, &json!({}))
    );
}

#[test]
fn text_html_and_attachments_can_be_given_without_a_structure() {
    let client = Server::shared().account();
    let file = client.upload("text/csv", "1;2")["blobId"].clone();
    let created = client.create("Email", draft(&client, json!({
        "bodyStructure": "remove",
        "textBody": [{ "type": "text/plain", "partId": "t" }],
        "htmlBody": [{ "type": "text/html", "partId": "h" }],
        "attachments": [{ "type": "text/csv", "blobId": file, "name": "a.csv", "disposition": "attachment" }],
        "bodyValues": { "t": { "value": "plain" }, "h": { "value": "<b>html</b>" } },
    })));
    let email = client.get_with("Email", &id_of(&created), json!({ "properties": ["textBody", "htmlBody", "attachments", "bodyValues"], "fetchAllBodyValues": true }));
    assert_eq!(
        (&email["textBody"][0]["type"], &email["htmlBody"][0]["type"]),
        (&json!("text/plain"), &json!("text/html"))
    );
    assert_eq!(email["attachments"][0]["name"], "a.csv");
    assert_eq!(
        email["bodyValues"][email["htmlBody"][0]["partId"].as_str().expect("partId")]["value"],
        "<b>html</b>"
    );
}

#[test]
fn what_must_be_rejected_is() {
    let client = Server::shared().account();
    let blob = client.upload("text/plain", "x")["blobId"].clone();
    let part = json!({ "type": "text/plain", "partId": "1" });
    for (what, more) in [
        ("no mailbox", json!({ "mailboxIds": {} })),
        ("no mailboxIds", json!({ "mailboxIds": "remove" })),
        ("an unknown mailbox", json!({ "mailboxIds": { "nobody": true } })),
        ("a mailbox with false", json!({ "mailboxIds": { client.mailbox("inbox"): false } })),
        ("headers", json!({ "headers": [{ "name": "X-A", "value": "b" }] })),
        ("a header twice", json!({ "header:Subject:asText": "another" })),
        ("a header in two forms", json!({ "header:X-A:asText": "a", "header:X-A": " b" })),
        ("content type at the top", json!({ "header:Content-Type": " text/plain" })),
        ("an unknown form", json!({ "header:X-A:asFoo": "a" })),
        ("a form that does not fit", json!({ "header:From:asText": "a" })),
        ("a header with a line break", json!({ "header:X-A": " a\r\nBcc: b@x.test" })),
        ("a subject of another type", json!({ "subject": 7 })),
        ("a wrong date", json!({ "sentAt": "yesterday" })),
        ("a wrong received date", json!({ "receivedAt": "2025-01-01" })),
        ("an address without email", json!({ "to": [{ "name": "x" }] })),
        ("from of another type", json!({ "from": "a@x.test" })),
        ("an illegal keyword", json!({ "keywords": { "a b": true } })),
        ("a keyword with false", json!({ "keywords": { "a": false } })),
        ("server-set properties", json!({ "size": 7 })),
        ("a thread", json!({ "threadId": "t" })),
        ("structure and textBody", json!({ "textBody": [part] })),
        ("a part without value", json!({ "bodyStructure": { "type": "text/plain", "partId": "2" } })),
        (
            "a part with partId and blobId",
            json!({ "bodyStructure": { "type": "text/plain", "partId": "1", "blobId": blob } }),
        ),
        ("a part with neither", json!({ "bodyStructure": { "type": "text/plain" } })),
        (
            "a charset with partId",
            json!({ "bodyStructure": { "type": "text/plain", "partId": "1", "charset": "koi8-r" } }),
        ),
        (
            "a size with partId",
            json!({ "bodyStructure": { "type": "text/plain", "partId": "1", "size": 4 } }),
        ),
        (
            "an unknown part property",
            json!({ "bodyStructure": { "type": "text/plain", "partId": "1", "colour": 1 } }),
        ),
        (
            "a transfer encoding",
            json!({ "bodyStructure": { "type": "text/plain", "partId": "1", "header:Content-Transfer-Encoding": " base64" } }),
        ),
        ("part headers", json!({ "bodyStructure": { "type": "text/plain", "partId": "1", "headers": [] } })),
        ("a truncated value", json!({ "bodyValues": { "1": { "value": "x", "isTruncated": true } } })),
        ("a broken value", json!({ "bodyValues": { "1": { "value": "x", "isEncodingProblem": true } } })),
        ("a value without text", json!({ "bodyValues": { "1": {} } })),
        (
            "sub-parts in a leaf",
            json!({ "bodyStructure": { "type": "text/plain", "partId": "1", "subParts": [part] } }),
        ),
        ("a multipart with partId", json!({ "bodyStructure": { "type": "multipart/mixed", "partId": "1" } })),
        ("two text bodies", json!({ "bodyStructure": "remove", "textBody": [part, part] })),
        (
            "a text body of another type",
            json!({ "bodyStructure": "remove", "textBody": [{ "type": "text/html", "partId": "1" }] }),
        ),
        ("an html body of another type", json!({ "bodyStructure": "remove", "htmlBody": [part] })),
    ] {
        let error = client.create_error("Email", draft(&client, more));
        assert_eq!(error["type"], "invalidProperties", "{what}: {error}");
    }
    let error = client.create_error(
        "Email",
        draft(&client, json!({ "bodyStructure": { "type": "image/png", "blobId": "bnobody" } })),
    );
    assert_eq!(error["type"], "blobNotFound", "{error}");
    assert_eq!(error["notFound"], json!(["bnobody"]));
}

#[test]
fn only_keywords_and_mailboxes_change() {
    let client = Server::shared().account();
    let (inbox, archive) = (client.mailbox("inbox"), client.mailbox("archive"));
    let id = client.create_email(&inbox, "fixed", "text");
    for patch in [
        json!({ "subject": "other" }),
        json!({ "receivedAt": "2025-01-01T00:00:00Z" }),
        json!({ "from": null }),
        json!({ "mailboxIds": {} }),
        json!({ format!("mailboxIds/{inbox}"): null }),
        json!({ "mailboxIds/nobody": true }),
        json!({ "keywords/a b": true }),
        json!({ "keywords/x": 0 }),
    ] {
        let error = client.update_error("Email", &id, patch.clone());
        assert!(error["type"] == "invalidProperties" || error["type"] == "invalidPatch", "{patch}: {error}");
    }
    client.update("Email", &id, json!({ "subject": "fixed", "keywords": { "$FLAGGED": true }, "mailboxIds": { &inbox: true, &archive: true } }));
    let email = client.get("Email", &id, &["keywords", "mailboxIds"]);
    assert_eq!(email["keywords"], json!({ "$flagged": true }));
    assert_eq!(email["mailboxIds"], json!({ &inbox: true, &archive: true }));
    client.update("Email", &id, json!({ "keywords/$flagged": null, "keywords/$Forwarded": true, format!("mailboxIds/{inbox}"): null }));
    let email = client.get("Email", &id, &["keywords", "mailboxIds"]);
    assert_eq!(
        (&email["keywords"], &email["mailboxIds"]),
        (&json!({ "$forwarded": true }), &json!({ &archive: true }))
    );
    let state = client.state("Email");
    client.update("Email", &id, json!({ "keywords/$forwarded": true }));
    assert_eq!(client.call("Email/changes", json!({ "sinceState": state }))["destroyed"], json!([]));
}

#[test]
fn five_hundred_flags_change_in_one_call() {
    let client = Server::shared().account();
    let inbox = client.mailbox("inbox");
    let mut create = serde_json::Map::new();
    for number in 0..500 {
        create.insert(
            format!("n{number}"),
            plain_email(&inbox, &client.address, &format!("mail {number}"), "text"),
        );
    }
    let answer = client.call("Email/set", json!({ "create": create }));
    let ids: Vec<String> = answer["created"].as_object().expect("created").values().map(id_of).collect();
    assert_eq!(ids.len(), 500, "{}", answer["notCreated"]);
    let state = client.state("Email");
    let update: serde_json::Map<String, Value> =
        ids.iter().map(|id| (id.clone(), json!({ "keywords/$seen": true }))).collect();
    let answer = client.call("Email/set", json!({ "update": update }));
    assert_eq!(answer["updated"].as_object().map(serde_json::Map::len), Some(500));
    assert_eq!(client.get("Mailbox", &inbox, &["unreadEmails"])["unreadEmails"], 0);
    // A transaction of 500 is cut by maxChanges.
    let mut since = state;
    let mut seen = std::collections::BTreeSet::new();
    loop {
        let changes = client.call("Email/changes", json!({ "sinceState": since, "maxChanges": 120 }));
        let updated = crate::support::jmap::strings(&changes["updated"]);
        assert!(updated.len() <= 120);
        seen.extend(updated);
        since = changes["newState"].as_str().expect("newState").to_owned();
        if changes["hasMoreChanges"] == false {
            break;
        }
    }
    assert_eq!(seen.len(), 500);
    let answer = client.call("Email/set", json!({ "destroy": ids }));
    assert_eq!(answer["destroyed"].as_array().map(Vec::len), Some(500));
    assert_eq!(client.get("Mailbox", &inbox, &["totalEmails"])["totalEmails"], 0);
}

#[test]
fn imports_keep_every_byte() {
    let client = Server::shared().account();
    let message =
        "From: a@x.test\r\nSubject: imported\r\nDate: Tue, 1 Apr 2025 10:00:00 +0000\r\n\r\nbytes \u{fc}\r\n";
    let blob = client.upload("message/rfc822", message)["blobId"].clone();
    let inbox = client.mailbox("inbox");
    let answer = client.call("Email/import", json!({ "emails": {
        "a": { "blobId": blob, "mailboxIds": { &inbox: true }, "keywords": { "$seen": true }, "receivedAt": "2024-12-31T23:59:59Z" },
        "no blob": { "blobId": "bnobody", "mailboxIds": { &inbox: true } },
        "no mailbox": { "blobId": blob, "mailboxIds": {} },
        "wrong mailbox": { "blobId": blob, "mailboxIds": { "nobody": true } },
        "wrong keyword": { "blobId": blob, "mailboxIds": { &inbox: true }, "keywords": { "(": true } },
    } }));
    let created = &answer["created"]["a"];
    for echoed in ["id", "blobId", "threadId", "size"] {
        assert!(!created[echoed].is_null(), "{answer}");
    }
    let email = client.get("Email", &id_of(created), &["receivedAt", "keywords", "blobId", "size"]);
    assert_eq!(
        (&email["receivedAt"], &email["keywords"]),
        (&json!("2024-12-31T23:59:59Z"), &json!({ "$seen": true }))
    );
    assert_eq!(client.download(email["blobId"].as_str().expect("blobId")), message.as_bytes());
    for (name, kind) in [
        ("no blob", "blobNotFound"),
        ("no mailbox", "invalidProperties"),
        ("wrong mailbox", "invalidProperties"),
        ("wrong keyword", "invalidProperties"),
    ] {
        let error = &answer["notCreated"][name]["type"];
        assert!(error == kind || error == "invalidProperties", "{name}: {answer}");
    }
    assert_eq!(
        client.error("Email/import", json!({ "emails": {}, "ifInState": "nonsense" })),
        "stateMismatch"
    );
}

#[test]
fn emails_are_copied_between_accounts() {
    let server = Server::shared();
    let (client, other) = (server.account(), server.account());
    server.cli(&["access", "grant", &client.address, &other.address]);
    let id = client.create_email(&client.mailbox("inbox"), "travels", "text");
    client.update("Email", &id, json!({ "keywords/$flagged": true }));
    let there = other.mailbox("inbox");
    let answer = client.call("Email/copy", json!({
        "fromAccountId": client.account, "accountId": other.account,
        "create": { "a": { "id": id, "mailboxIds": { &there: true } }, "b": { "id": "nobody", "mailboxIds": { &there: true } } },
    }));
    let copy = id_of(&answer["created"]["a"]);
    assert_eq!(answer["notCreated"]["b"]["type"], "notFound", "{answer}");
    let email = other.get("Email", &copy, &["subject", "keywords", "mailboxIds"]);
    assert_eq!((&email["subject"], &email["mailboxIds"]), (&json!("travels"), &json!({ &there: true })));
    let answers = client.calls(json!([["Email/copy", {
        "fromAccountId": client.account, "accountId": other.account, "onSuccessDestroyOriginal": true,
        "create": { "a": { "id": id, "mailboxIds": { &there: true }, "keywords": { "$seen": true } } },
    }, "c"]]));
    let names: Vec<&str> = answers.iter().map(|answer| answer.name.as_str()).collect();
    // Copied again or known to be there: both are legal, and the original goes only with a copy.
    if answers[0].arguments["created"]["a"].is_object() {
        assert_eq!(names, ["Email/copy", "Email/set"], "{answers:?}");
        assert_eq!(answers[1].arguments["destroyed"], json!([id]));
        assert_eq!(answers[1].call_id, "c");
    } else {
        assert_eq!(answers[0].arguments["notCreated"]["a"]["type"], "alreadyExists", "{answers:?}");
    }
}
