//! RFC 8621, 4.7 to 4.9: Email/copy, Email/import and Email/parse.

use serde_json::{Map, Value, json};

use crate::support::jmap::{Client, id_of, names};
use crate::support::server::Server;

fn upload(client: &Client, octets: impl Into<Vec<u8>>) -> String {
    client.upload("message/rfc822", octets)["blobId"].as_str().expect("blobId").to_owned()
}

/// Imports into the inbox, with more properties; the whole answer.
fn import(client: &Client, blob: &str, more: Value) -> Value {
    let mut email = json!({ "blobId": blob, "mailboxIds": { client.mailbox("inbox"): true } });
    for (name, value) in more.as_object().into_iter().flatten() {
        if value == "remove" {
            email.as_object_mut().expect("object").remove(name);
        } else {
            email[name] = value.clone();
        }
    }
    client.call("Email/import", json!({ "emails": { "k": email } }))
}

#[test]
fn what_was_imported_is_told_and_what_was_not() {
    let client = Server::shared().account();
    let state = client.state("Email");
    let blob = upload(&client, "From: a@x.test\r\nSubject: told\r\n\r\ntext\r\n");
    let answer = import(&client, &blob, json!({ "keywords": { "$Seen": true } }));
    assert_eq!(names(&answer), ["accountId", "created", "newState", "notCreated", "oldState"]);
    assert_eq!((&answer["oldState"], &answer["newState"]), (&json!(state), &json!(client.state("Email"))));
    assert_eq!(answer["notCreated"], Value::Null);
    let made = &answer["created"]["k"];
    assert_eq!(names(made), ["blobId", "id", "size", "threadId"]);
    assert_eq!(made["blobId"], json!(blob));
    for (what, more, property) in [
        ("no blob", json!({ "blobId": "remove" }), "blobId"),
        ("a blob that is not there", json!({ "blobId": "bnobody" }), "blobId"),
        ("a blob of another type", json!({ "blobId": 7 }), "blobId"),
        ("no mailboxes", json!({ "mailboxIds": "remove" }), "mailboxIds"),
        ("an empty set", json!({ "mailboxIds": {} }), "mailboxIds"),
        ("an unknown mailbox", json!({ "mailboxIds": { "nobody": true } }), "mailboxIds"),
        ("a list", json!({ "mailboxIds": [client.mailbox("inbox")] }), "mailboxIds"),
        ("false", json!({ "mailboxIds": { client.mailbox("inbox"): false } }), "mailboxIds"),
        ("keywords as a list", json!({ "keywords": ["$seen"] }), "keywords"),
        ("an illegal keyword", json!({ "keywords": { "a\"b": true } }), "keywords"),
        ("a wrong date", json!({ "receivedAt": "today" }), "receivedAt"),
        ("another property", json!({ "subject": "mine" }), "subject"),
    ] {
        let answer = import(&client, &blob, more);
        let error = &answer["notCreated"]["k"];
        assert_eq!(
            (&error["type"], &error["properties"], &answer["created"]),
            (&json!("invalidProperties"), &json!([property]), &Value::Null),
            "{what}: {answer}"
        );
    }
    let error = client.error("Email/import", json!({ "emails": {}, "ifInState": state }));
    assert_eq!(error, "stateMismatch");
    for arguments in [json!({}), json!({ "emails": [] }), json!({ "emails": { "k": 7 } })] {
        assert_eq!(client.error("Email/import", arguments), "invalidArguments");
    }
}

#[test]
fn what_is_no_message_is_not_imported() {
    let client = Server::shared().account();
    for octets in [
        &b""[..],
        b"\r\n\r\nSubject: below an empty line\r\n",
        b"Dear all,\r\nthis is a letter.\r\n",
        b":::\r\n:\r\n\r\nSubject: x\r\n",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"[1, 2, 3]",
        &[0; 100],
    ] {
        let blob = upload(&client, octets);
        let answer = import(&client, &blob, json!({}));
        assert_eq!(answer["notCreated"]["k"]["type"], "invalidEmail", "{answer}");
        let parsed = client.call("Email/parse", json!({ "blobIds": [blob] }));
        assert_eq!((&parsed["notParsable"], &parsed["parsed"]), (&json!([blob]), &Value::Null));
    }
    // What is only odd is taken as it is.
    for octets in [
        &b"X:"[..],
        b"Subject: no end",
        b"a: b\nbare: lines\n\nbody",
        b"From : old\r\nnonsense\r\n",
        b"\xef\xbb\xbfFrom: a@x.test\r\nSubject: after a mark\r\n\r\n",
        b" left over\r\nSubject: below\r\n\r\n",
    ] {
        let blob = upload(&client, octets);
        let made = import(&client, &blob, json!({}))["created"]["k"].clone();
        assert_eq!(client.download(made["blobId"].as_str().expect("blobId")), octets);
        assert_eq!(client.call("Email/parse", json!({ "blobIds": [blob] }))["notParsable"], Value::Null);
    }
}

#[test]
fn the_newest_received_field_tells_the_time() {
    let client = Server::shared().account();
    let received_at = |message: &str, more: Value| {
        let blob = upload(&client, message);
        let id = id_of(&import(&client, &blob, more)["created"]["k"]);
        client.get("Email", &id, &["receivedAt"])["receivedAt"].as_str().expect("a date").to_owned()
    };
    let hops = "Received: from b by c; Thu, 30 Oct 2014 14:12:00 +0800\r\nReceived: from a by b; Wed, 29 Oct 2014 00:00:00 +0000\r\nDate: Tue, 28 Oct 2014 00:00:00 +0000\r\n\r\n";
    assert_eq!(received_at(hops, json!({})), "2014-10-30T06:12:00Z");
    assert_eq!(received_at(hops, json!({ "receivedAt": null })), "2014-10-30T06:12:00Z");
    assert_eq!(
        received_at(hops, json!({ "receivedAt": "2001-02-03T04:05:06.789Z" })),
        "2001-02-03T04:05:06Z"
    );
    let now = received_at("Date: Tue, 28 Oct 2014 00:00:00 +0000\r\n\r\n", json!({}));
    let made = client.create("Email", json!({ "mailboxIds": { client.mailbox("drafts"): true } }));
    let later = client.get("Email", &id_of(&made), &["receivedAt"])["receivedAt"].clone();
    assert!(
        now.as_str() <= later.as_str().expect("a date") && now.as_str() > "2020",
        "{now}: the time of import"
    );
}

#[test]
fn the_same_message_may_be_there_twice() {
    let client = Server::shared().account();
    let blob = upload(&client, "Message-ID: <twice@x.test>\r\nSubject: twice\r\n\r\n");
    let one = import(&client, &blob, json!({}))["created"]["k"].clone();
    let two = import(&client, &blob, json!({}))["created"]["k"].clone();
    assert_ne!(one["id"], two["id"]);
    assert_eq!((&one["blobId"], &one["threadId"]), (&two["blobId"], &two["threadId"]));
    client.update("Email", &id_of(&one), json!({ "keywords/$flagged": true }));
    assert_eq!(client.get("Email", &id_of(&two), &["keywords"])["keywords"], json!({}));
    client.destroy("Email", &id_of(&one));
    assert_eq!(client.download(two["blobId"].as_str().expect("blobId")).len(), 46);
}

#[test]
fn an_import_over_the_quota_is_refused_alone() {
    let server = Server::shared();
    let client = server.account();
    server.cli(&["account", "quota", &client.address, "2000"]);
    let small = upload(&client, "Subject: small\r\n\r\n");
    let large = upload(&client, format!("Subject: large\r\n\r\n{}", "x".repeat(3_000)));
    let inbox = client.mailbox("inbox");
    let email = |blob: &str| json!({ "blobId": blob, "mailboxIds": { &inbox: true } });
    let answer = client.call("Email/import", json!({ "emails": { "s": email(&small), "l": email(&large) } }));
    assert!(answer["created"]["s"]["id"].is_string(), "{answer}");
    assert_eq!(answer["notCreated"]["l"]["type"], "overQuota", "{answer}");
}

/// RFC 6532: addresses and texts in UTF-8, without any encoding.
#[test]
fn international_headers_are_read() {
    let client = Server::shared().account();
    let message = "From: J\u{f6}rg <j\u{f6}rg@b\u{fc}cher.example>\r\nTo: \u{5c71}\u{7530} <\u{5c71}@\u{4f8b}.example>\r\n\
                   Subject: \u{3053}\u{3093}\u{306b}\u{3061}\u{306f}\r\nX-Name-\u{dc}: no field\r\n\r\ntext\r\n";
    let blob = upload(&client, message);
    let wanted = json!({
        "from": [{ "name": "J\u{f6}rg", "email": "j\u{f6}rg@b\u{fc}cher.example" }],
        "to": [{ "name": "\u{5c71}\u{7530}", "email": "\u{5c71}@\u{4f8b}.example" }],
        "subject": "\u{3053}\u{3093}\u{306b}\u{3061}\u{306f}",
    });
    let properties = ["from", "to", "subject"];
    let parsed = client.call("Email/parse", json!({ "blobIds": [blob], "properties": properties }));
    assert_eq!(parsed["parsed"][&blob], wanted);
    let id = id_of(&import(&client, &blob, json!({}))["created"]["k"]);
    let mut email = client.get("Email", &id, &properties);
    email.as_object_mut().expect("object").remove("id");
    assert_eq!(email, wanted);
}

#[test]
fn parse_answers_what_a_blob_can_tell() {
    let client = Server::shared().account();
    let message =
        "From: a@x.test\r\nSubject: parsed\r\nDate: Tue, 1 Apr 2025 10:00:00 +0000\r\n\r\na\u{e9}\r\n";
    let blob = upload(&client, message);
    let answer = client.call("Email/parse", json!({ "blobIds": [blob, blob] }));
    assert_eq!(names(&answer), ["accountId", "notFound", "notParsable", "parsed"]);
    assert_eq!((&answer["notFound"], &answer["notParsable"]), (&Value::Null, &Value::Null));
    let names: Vec<&str> =
        answer["parsed"][&blob].as_object().expect("object").keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "messageId",
            "inReplyTo",
            "references",
            "sender",
            "from",
            "to",
            "cc",
            "bcc",
            "replyTo",
            "subject",
            "sentAt",
            "hasAttachment",
            "preview",
            "bodyValues",
            "textBody",
            "htmlBody",
            "attachments"
        ]
    );
    let part: Vec<&str> = answer["parsed"][&blob]["textBody"][0]
        .as_object()
        .expect("object")
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        part,
        ["partId", "blobId", "size", "name", "type", "charset", "disposition", "cid", "language", "location"]
    );
    let properties =
        ["id", "threadId", "mailboxIds", "keywords", "receivedAt", "size", "header:SUBJECT:asText"];
    let answer = client.call("Email/parse", json!({ "blobIds": [blob], "properties": properties }));
    assert_eq!(
        answer["parsed"][&blob],
        json!({
            "id": null, "threadId": null, "mailboxIds": null, "keywords": null, "receivedAt": null,
            "size": message.len(), "header:SUBJECT:asText": "parsed",
        })
    );
    let answer = client.call(
        "Email/parse",
        json!({ "blobIds": [blob], "properties": ["bodyValues", "bodyStructure"], "bodyProperties": ["type"],
            "fetchAllBodyValues": true, "maxBodyValueBytes": 2 }),
    );
    let email = &answer["parsed"][&blob];
    assert_eq!(email["bodyStructure"], json!({ "type": "text/plain" }));
    let cut = json!({ "value": "a", "isEncodingProblem": false, "isTruncated": true });
    assert_eq!(email["bodyValues"], json!({ "1": cut }));
    for arguments in [
        json!({ "properties": ["subject"] }),
        json!({ "blobIds": [blob], "properties": ["header:From:asDate"] }),
        json!({ "blobIds": [blob], "bodyProperties": ["header:From:asDate"] }),
        json!({ "blobIds": [blob], "maxBodyValueBytes": -1 }),
        json!({ "blobIds": [blob], "fetchTextBodyValues": 1 }),
    ] {
        assert_eq!(client.error("Email/parse", arguments.clone()), "invalidArguments", "{arguments}");
    }
}

#[test]
fn copies_differ_in_their_place_alone() {
    let server = Server::shared();
    let (client, other) = (server.account(), server.account());
    server.cli(&["access", "grant", &client.address, &other.address]);
    let client = server.sign_in(&client.address);
    let id = client.create_email(&client.mailbox("inbox"), "copied", "text");
    let there = other.mailbox("inbox");
    let copy = |object: Value| {
        let mut email = json!({ "id": id, "mailboxIds": { &there: true } });
        email.as_object_mut().expect("object").extend(object.as_object().cloned().unwrap_or_else(Map::new));
        let arguments =
            json!({ "fromAccountId": client.account, "accountId": other.account, "create": { "k": email } });
        client.call("Email/copy", arguments)
    };
    let answer = copy(json!({ "keywords": { "$flagged": true }, "receivedAt": "2020-01-01T00:00:00Z" }));
    let made = &answer["created"]["k"];
    assert_eq!(names(made), ["blobId", "id", "size", "threadId"], "{answer}");
    let email =
        other.get("Email", &id_of(made), &["subject", "keywords", "receivedAt", "mailboxIds", "size"]);
    assert_eq!(
        (&email["subject"], &email["keywords"], &email["receivedAt"], &email["mailboxIds"]),
        (
            &json!("copied"),
            &json!({ "$flagged": true }),
            &json!("2020-01-01T00:00:00Z"),
            &json!({ &there: true })
        )
    );
    assert_eq!(email["size"], made["size"]);
    for (property, value) in [
        ("subject", json!("other")),
        ("from", json!([])),
        ("size", json!(1)),
        ("threadId", json!("t")),
        ("header:X-A", json!("b")),
        ("textBody", json!([])),
        ("mailboxIds", json!({})),
        ("keywords", json!({ " ": true })),
        ("receivedAt", json!("now")),
    ] {
        let answer = copy(json!({ property: value }));
        let error = &answer["notCreated"]["k"];
        assert_eq!(
            (&error["type"], &error["properties"]),
            (&json!("invalidProperties"), &json!([property])),
            "{property}: {answer}"
        );
    }
    assert_eq!(client.query(json!(null)), [id], "the original is still there");
}
