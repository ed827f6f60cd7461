//! RFC 8621, 4.1 and 4.2: what Email/get returns.

use serde_json::{Value, json};

use crate::support::jmap::{Client, names, strings};
use crate::support::server::Server;

/// Puts a message into the inbox.
fn import(client: &Client, message: &str) -> String {
    client.import(&client.mailbox("inbox"), message.replace('\n', "\r\n"))
}

const SIMPLE: &str = "From: \"Joe  Bloggs\" <joe@x.test>, jane@x.test (Jane)\nTo: Friends: a@x.test, =?utf-8?Q?B=C3=A9?= <b@x.test>;, c@x.test\nSubject: \n =?utf-8?B?R3LDvMOfZQ==?=\n from here\nDate: Tue, 1 Apr 2025 10:00:00 -0700 (PDT)\nMessage-ID: <id.1@x.test>\nIn-Reply-To: <a@x.test>\nReferences: <a@x.test> <b@x.test>\nX-Custom: one\nX-Custom:  two =?utf-8?Q?=C3=BC?=\nList-Post: <mailto:list@x.test>, (c) <https://x.test/post>\nList-Unsubscribe: NO\nResent-Date: Wed, 2 Apr 2025 00:00:00 +0000\n\nThe text.\n";

#[test]
fn default_properties_are_those_of_the_rfc() {
    let client = Server::shared().account();
    let id = import(&client, SIMPLE);
    let email = client.get_with("Email", &id, json!({}));
    let mut expected = [
        "id",
        "blobId",
        "threadId",
        "mailboxIds",
        "keywords",
        "size",
        "receivedAt",
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
        "attachments",
    ];
    expected.sort_unstable();
    assert_eq!(names(&email), expected);
    assert_eq!(email["bodyValues"], json!({}), "nothing was fetched");
    assert_eq!(email["subject"], "Grüße from here");
    assert_eq!(
        email["from"],
        json!([{ "name": "Joe  Bloggs", "email": "joe@x.test" }, { "name": "Jane", "email": "jane@x.test" }])
    );
    assert_eq!(
        email["to"],
        json!([{ "name": null, "email": "a@x.test" }, { "name": "Bé", "email": "b@x.test" }, { "name": null, "email": "c@x.test" }])
    );
    assert_eq!((&email["cc"], &email["sender"]), (&Value::Null, &Value::Null));
    assert_eq!(email["sentAt"], "2025-04-01T10:00:00-07:00");
    assert_eq!(email["messageId"], json!(["id.1@x.test"]));
    assert_eq!(email["inReplyTo"], json!(["a@x.test"]));
    assert_eq!(email["references"], json!(["a@x.test", "b@x.test"]));
    assert_eq!(email["hasAttachment"], false);
    assert_eq!(email["preview"], "The text.");
    assert_eq!(email["size"], json!(client.download(email["blobId"].as_str().expect("blobId")).len()));
    let part = &email["textBody"][0];
    assert_eq!(
        names(part),
        ["blobId", "charset", "cid", "disposition", "language", "location", "name", "partId", "size", "type"]
    );
}

#[test]
fn headers_in_every_form() {
    let client = Server::shared().account();
    let id = import(&client, SIMPLE);
    let get = |property: &str| client.get("Email", &id, &[property])[property].clone();
    assert_eq!(get("header:Subject"), " \r\n =?utf-8?B?R3LDvMOfZQ==?=\r\n from here");
    assert_eq!(get("header:subject:asText"), "Grüße from here");
    assert_eq!(get("header:X-Custom"), "  two =?utf-8?Q?=C3=BC?=", "the last one");
    assert_eq!(get("header:X-Custom:all"), json!([" one", "  two =?utf-8?Q?=C3=BC?="]));
    assert_eq!(get("header:x-custom:asText:all"), json!(["one", "two ü"]));
    assert_eq!(get("header:X-Missing"), Value::Null);
    assert_eq!(get("header:X-Missing:all"), json!([]));
    assert_eq!(get("header:From:asAddresses").as_array().map(Vec::len), Some(2));
    assert_eq!(
        get("header:To:asGroupedAddresses"),
        json!([
            { "name": "Friends", "addresses": [{ "name": null, "email": "a@x.test" }, { "name": "Bé", "email": "b@x.test" }] },
            { "name": null, "addresses": [{ "name": null, "email": "c@x.test" }] },
        ])
    );
    assert_eq!(get("header:References:asMessageIds"), json!(["a@x.test", "b@x.test"]));
    assert_eq!(get("header:Date:asDate"), "2025-04-01T10:00:00-07:00");
    assert_eq!(get("header:Resent-Date:asDate:all"), json!(["2025-04-02T00:00:00Z"]));
    assert_eq!(get("header:List-Post:asURLs"), json!(["mailto:list@x.test", "https://x.test/post"]));
    assert_eq!(get("header:List-Unsubscribe:asURLs"), Value::Null);
    assert_eq!(get("header:X-Custom:asAddresses:all").as_array().map(Vec::len), Some(2));
    for wrong in [
        "header:From:asDate",
        "header:Subject:asAddresses",
        "header:Date:asText",
        "header:",
        "header:From:asNothing",
        "header:From:all:asText",
        "header:X Y",
        "nope",
        "Header:From",
    ] {
        let error = client.error("Email/get", json!({ "ids": [id], "properties": [wrong] }));
        assert_eq!(error, "invalidArguments", "{wrong}");
    }
    let headers = client.get("Email", &id, &["headers"])["headers"].clone();
    assert_eq!(
        headers[0],
        json!({ "name": "From", "value": " \"Joe  Bloggs\" <joe@x.test>, jane@x.test (Jane)" })
    );
    assert_eq!(headers.as_array().map(Vec::len), Some(12));
}

/// The message whose parts RFC 8621, 4.1.4 takes as its example.
const EXAMPLE: &str = "From: a@x.test\nSubject: parts\nContent-Type: multipart/mixed; boundary=1\n\n--1\nContent-Type: text/plain\nContent-Disposition: inline\n\nA\n--1\nContent-Type: multipart/mixed; boundary=2\n\n--2\nContent-Type: multipart/alternative; boundary=3\n\n--3\nContent-Type: multipart/mixed; boundary=4\n\n--4\nContent-Type: text/plain\nContent-Disposition: inline\n\nB\n--4\nContent-Type: image/jpeg\nContent-Disposition: inline\n\nC\n--4\nContent-Type: text/plain\nContent-Disposition: inline\n\nD\n--4--\n--3\nContent-Type: multipart/related; boundary=5\n\n--5\nContent-Type: text/html\n\nE\n--5\nContent-Type: image/jpeg\nContent-ID: <f@x.test>\n\nF\n--5--\n--3--\n--2\nContent-Type: image/jpeg\nContent-Disposition: attachment\n\nG\n--2\nContent-Type: application/x-excel\n\nH\n--2\nContent-Type: message/rfc822\n\nSubject: J\n\nJ\n--2--\n--1\nContent-Type: text/plain\nContent-Disposition: inline\n\nK\n--1--\n";

#[test]
fn bodies_and_attachments_are_chosen_as_the_rfc_shows() {
    let client = Server::shared().account();
    let id = import(&client, EXAMPLE);
    let email = client.get_with(
        "Email",
        &id,
        json!({ "properties": ["bodyStructure", "textBody", "htmlBody", "attachments", "hasAttachment"] }),
    );
    let letters = |list: &str| -> String {
        let parts = email[list].as_array().expect("list");
        parts
            .iter()
            .map(|part| {
                let bytes = client.download(part["blobId"].as_str().expect("blobId"));
                if part["type"] == "message/rfc822" { 'J' } else { char::from(bytes[0]) }
            })
            .collect()
    };
    assert_eq!(letters("textBody"), "ABCDK");
    assert_eq!(letters("htmlBody"), "AEK");
    assert_eq!(letters("attachments"), "CFGHJ");
    assert_eq!(email["hasAttachment"], true);
    let structure = &email["bodyStructure"];
    assert_eq!(structure["type"], "multipart/mixed");
    assert_eq!((&structure["partId"], &structure["blobId"]), (&Value::Null, &Value::Null));
    assert_eq!(structure["subParts"].as_array().map(Vec::len), Some(3));
    assert_eq!(structure["subParts"][1]["subParts"][0]["subParts"][1]["type"], "multipart/related");
}

#[test]
fn body_values_are_fetched_as_asked_and_cut_at_characters() {
    let client = Server::shared().account();
    let id = import(
        &client,
        "From: a@x.test\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/alternative; boundary=c\n\n--c\nContent-Type: text/plain; charset=utf-8\n\naéße\n--c\nContent-Type: text/html; charset=utf-8\n\n<p>aé</p>\n--c--\n--b\nContent-Type: text/csv; charset=utf-8\nContent-Disposition: attachment\n\n1;2\n--b--\n",
    );
    let values = |more: Value| {
        let mut arguments = json!({ "properties": ["bodyValues", "textBody", "htmlBody", "attachments"] });
        for (name, value) in more.as_object().into_iter().flatten() {
            arguments[name] = value.clone();
        }
        let email = client.get_with("Email", &id, arguments);
        let value = |list: &str| {
            let part = email[list][0]["partId"].as_str().expect("partId");
            email["bodyValues"][part]["value"].as_str().map(str::to_owned)
        };
        (value("textBody"), value("htmlBody"), value("attachments"))
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(values(json!({})), (None, None, None));
    assert_eq!(values(json!({ "fetchTextBodyValues": true })), (some("aéße"), None, None));
    assert_eq!(values(json!({ "fetchHTMLBodyValues": true })), (None, some("<p>aé</p>"), None));
    assert_eq!(values(json!({ "fetchAllBodyValues": true })), (some("aéße"), some("<p>aé</p>"), some("1;2")));
    let (text, html, _) = values(json!({ "fetchAllBodyValues": true, "maxBodyValueBytes": 4 }));
    assert_eq!(text, some("aé"), "never inside a character");
    assert!(html.is_some_and(|html| html.len() <= 4 && !html.ends_with('\u{fffd}')));
    let email = client.get_with(
        "Email",
        &id,
        json!({ "properties": ["bodyValues"], "fetchTextBodyValues": true, "maxBodyValueBytes": 4 }),
    );
    let value = email["bodyValues"].as_object().and_then(|values| values.values().next()).expect("value");
    assert_eq!((&value["isTruncated"], &value["isEncodingProblem"]), (&json!(true), &json!(false)));
    assert_eq!(
        client.error("Email/get", json!({ "ids": [id], "maxBodyValueBytes": -1 })),
        "invalidArguments"
    );
}

#[test]
fn body_properties_are_those_asked_for() {
    let client = Server::shared().account();
    let id = import(&client, EXAMPLE);
    let email = client.get_with("Email", &id, json!({ "properties": ["textBody"], "bodyProperties": ["type", "header:Content-Disposition:asText", "headers"] }));
    assert_eq!(
        email["textBody"][0],
        json!({
            "type": "text/plain", "header:Content-Disposition:asText": "inline",
            "headers": [{ "name": "Content-Type", "value": " text/plain" }, { "name": "Content-Disposition", "value": " inline" }],
        })
    );
    assert_eq!(
        client.error("Email/get", json!({ "ids": [id], "bodyProperties": ["nope"] })),
        "invalidArguments"
    );
    assert_eq!(
        client.error("Email/get", json!({ "ids": [id], "fetchAllBodyValues": "yes" })),
        "invalidArguments"
    );
}

#[test]
fn parts_of_encoded_forwards_can_be_read_and_imported() {
    let client = Server::shared().account();
    let inner = "From: inner@x.test\r\nSubject: inner\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n\r\ninner text\r\n--i\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nJVBERg==\r\n--i--\r\n";
    let encoded = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(inner)
    };
    let id = import(
        &client,
        &format!(
            "From: a@x.test\nContent-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n{encoded}\n--o--\n"
        ),
    );
    let email = client.get("Email", &id, &["attachments"]);
    let blob = email["attachments"][0]["blobId"].as_str().expect("blobId");
    assert_eq!(client.download(blob), inner.as_bytes());
    let parsed = client.call("Email/parse", json!({ "blobIds": [blob], "properties": ["subject", "attachments", "id", "mailboxIds", "receivedAt"] }));
    let parsed = &parsed["parsed"][blob];
    assert_eq!(parsed["subject"], "inner");
    assert_eq!(
        (&parsed["id"], &parsed["mailboxIds"], &parsed["receivedAt"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    let pdf = parsed["attachments"][0]["blobId"].as_str().expect("blobId");
    assert_eq!(client.download(pdf), b"%PDF");
    let answer = client.call(
        "Email/import",
        json!({ "emails": { "i": { "blobId": blob, "mailboxIds": { client.mailbox("archive"): true } } } }),
    );
    let imported = answer["created"]["i"]["id"].as_str().unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(client.get("Email", imported, &["subject"])["subject"], "inner");
}

#[test]
fn parse_tells_what_it_cannot_find_or_read() {
    let client = Server::shared().account();
    let blob = client.upload("message/rfc822", "Subject: parsed\r\n\r\ntext\r\n")["blobId"]
        .as_str()
        .expect("blobId")
        .to_owned();
    let answer =
        client.call("Email/parse", json!({ "blobIds": [blob, "bnobody"], "fetchAllBodyValues": true }));
    assert_eq!(answer["parsed"][&blob]["subject"], "parsed");
    assert_eq!(answer["notFound"], json!(["bnobody"]));
    assert!(answer["notParsable"].is_array() || answer["notParsable"].is_null());
    assert_eq!(answer["parsed"][&blob]["preview"], "text");
    assert_eq!(
        client.error("Email/parse", json!({ "blobIds": [blob], "properties": ["nope"] })),
        "invalidArguments"
    );
}

#[test]
fn threads_are_grouped_by_ids_and_base_subject() {
    let client = Server::shared().account();
    let mail = |id: &str, subject: &str, headers: &str| {
        let email = import(
            &client,
            &format!("From: a@x.test\nMessage-ID: <{id}@x.test>\nSubject: {subject}\n{headers}\ntext {id}\n"),
        );
        client.get("Email", &email, &["threadId"])["threadId"].as_str().expect("threadId").to_owned()
    };
    let root = mail("root", "Dinner", "");
    assert_eq!(mail("two", "Re: Dinner", "In-Reply-To: <root@x.test>\n"), root);
    assert_eq!(mail("three", "AW: [list] dinner", "References: <root@x.test> <two@x.test>\n"), root);
    assert_ne!(mail("four", "Lunch", "References: <root@x.test> <two@x.test>\n"), root, "another subject");
    assert_ne!(mail("five", "Dinner", ""), root, "the subject alone is not enough");
    let early = mail("late", "Holiday", "References: <unseen@x.test>\n");
    assert_eq!(mail("unseen", "Holiday", ""), early, "the reference came before what it refers to");
    let sibling = mail("sibling", "Re: Holiday", "References: <unseen@x.test>\n");
    assert_eq!(sibling, early);
    let thread = client.get("Thread", &root, &["emailIds"]);
    assert_eq!(thread["emailIds"].as_array().map(Vec::len), Some(3));
    let received: Vec<String> = {
        let ids = strings(&thread["emailIds"]);
        ids.iter()
            .map(|id| {
                client.get("Email", id, &["receivedAt"])["receivedAt"].as_str().expect("date").to_owned()
            })
            .collect()
    };
    assert!(received.is_sorted(), "oldest first: {received:?}");
    assert_eq!(client.call("Thread/get", json!({ "ids": ["nobody"] }))["notFound"], json!(["nobody"]));
}
