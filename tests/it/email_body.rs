//! RFC 8621, 4.1.4 and 4.2: body parts and their values.

use serde_json::{Value, json};

use crate::support::jmap::Client;
use crate::support::server::Server;

const PART_PROPERTIES: [&str; 12] = [
    "partId",
    "blobId",
    "size",
    "headers",
    "name",
    "type",
    "charset",
    "disposition",
    "cid",
    "language",
    "location",
    "subParts",
];

/// A message in the inbox, its lines ended by LF in the source.
fn import(client: &Client, message: &str) -> String {
    client.import(&client.mailbox("inbox"), message.replace('\n', "\r\n"))
}

/// The body structure of a message, every property of each part.
fn structure(client: &Client, message: &str) -> Value {
    let id = import(client, message);
    let arguments = json!({ "properties": ["bodyStructure"], "bodyProperties": PART_PROPERTIES });
    client.get_with("Email", &id, arguments)["bodyStructure"].clone()
}

/// The one value of a message of one part.
fn value(client: &Client, message: impl Into<Vec<u8>>, more: Value) -> Value {
    let id = client.import(&client.mailbox("inbox"), message);
    let mut arguments = json!({ "properties": ["bodyValues"], "fetchAllBodyValues": true });
    for (name, value) in more.as_object().into_iter().flatten() {
        arguments[name] = value.clone();
    }
    let values = client.get_with("Email", &id, arguments)["bodyValues"].clone();
    assert_eq!(values.as_object().map(serde_json::Map::len), Some(1), "{values}");
    values.as_object().and_then(|values| values.values().next()).cloned().unwrap_or_default()
}

#[test]
fn parts_have_all_their_properties() {
    let client = Server::shared().account();
    let root = structure(
        &client,
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\
         Content-Type: (c) text/HTML (c); charset=\"ISO-8859-1\"; format=flowed\nContent-ID: (c) <part@x.test>\n\
         Content-Language: de, en-GB (comment)\nContent-Location: http://x.test/a\n b.html\n\
         Content-Disposition: Inline (c); size=3\n\n<p>\n--b\n\
         Content-Type: application/pdf; name=\"wrong.pdf\"\nContent-Transfer-Encoding: BASE64\n\
         Content-Disposition: attachment; filename*0*=utf-8''%C3%9Cber; filename*1=sicht.pdf\n\nJVBERi0x\nLjQ=\n--b--\n",
    );
    let names: Vec<&str> = root.as_object().expect("object").keys().map(String::as_str).collect();
    assert_eq!(names.len(), PART_PROPERTIES.len(), "{root}");
    assert_eq!(
        (&root["type"], &root["partId"], &root["blobId"]),
        (&json!("multipart/mixed"), &Value::Null, &Value::Null)
    );
    assert_eq!((&root["charset"], &root["disposition"]), (&Value::Null, &Value::Null));
    assert_eq!(root["headers"][0], json!({ "name": "MIME-Version", "value": " 1.0" }));
    let [html, pdf] = root["subParts"].as_array().map(Vec::as_slice).expect("parts") else {
        panic!("{root}")
    };
    for part in [html, pdf] {
        assert!(part["partId"].is_string() && part["blobId"].is_string(), "{part}");
        assert_eq!(part["subParts"], Value::Null);
    }
    assert_ne!(html["partId"], pdf["partId"]);
    for (name, wanted) in [
        ("type", json!("text/html")),
        ("charset", json!("ISO-8859-1")),
        ("disposition", json!("inline")),
        ("cid", json!("part@x.test")),
        ("language", json!(["de", "en-GB"])),
        ("size", json!(3)),
        ("name", Value::Null),
    ] {
        let (is, wanted) = match name {
            "charset" => (json!(html[name].as_str().map(str::to_lowercase)), json!("iso-8859-1")),
            _ => (html[name].clone(), wanted),
        };
        assert_eq!(is, wanted, "{name}: {html}");
    }
    assert!(html["location"].as_str().is_some_and(|uri| uri.starts_with("http://x.test/a")), "{html}");
    assert_eq!(html["headers"].as_array().map(Vec::len), Some(5));
    for (name, wanted) in [
        ("type", json!("application/pdf")),
        ("charset", Value::Null),
        ("disposition", json!("attachment")),
        ("name", json!("\u{dc}bersicht.pdf")),
        ("size", json!(8)),
        ("cid", Value::Null),
        ("language", Value::Null),
        ("location", Value::Null),
    ] {
        assert_eq!(pdf[name], wanted, "{name}: {pdf}");
    }
    assert_eq!(client.download(pdf["blobId"].as_str().expect("blobId")), b"%PDF-1.4");
}

#[test]
fn types_names_and_charsets_are_implied_where_they_are_not_said() {
    let client = Server::shared().account();
    let root = structure(
        &client,
        "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nno header\n--b\nContent-Type: text/csv\n\n1\n--b\n\
         Content-Type: image/png; name=\"=?utf-8?Q?B=C3=A4r.png?=\"; charset=utf-8\n\nx\n--b\n\
         Content-Type: multipart/digest; boundary=d\n\n--d\n\nSubject: in a digest\n\ntext\n--d\nContent-Type: text/plain\n\nx\n--d--\n--b--\n",
    );
    let parts = &root["subParts"];
    assert_eq!((&parts[0]["type"], &parts[0]["charset"]), (&json!("text/plain"), &json!("us-ascii")));
    assert_eq!((&parts[1]["type"], &parts[1]["charset"]), (&json!("text/csv"), &json!("us-ascii")));
    assert_eq!((&parts[2]["name"], &parts[2]["charset"]), (&json!("B\u{e4}r.png"), &json!("utf-8")));
    let digest = &parts[3]["subParts"];
    assert_eq!((&digest[0]["type"], &digest[1]["type"]), (&json!("message/rfc822"), &json!("text/plain")));
    let whole = structure(&client, "Subject: no type at all\n\ntext\n");
    assert_eq!((&whole["type"], &whole["charset"]), (&json!("text/plain"), &json!("us-ascii")));
    let image = structure(&client, "Content-Type: image/png\n\nx");
    assert_eq!(image["charset"], Value::Null);
}

#[test]
fn attached_messages_are_not_taken_apart() {
    let client = Server::shared().account();
    let inner = "Subject: inner\nContent-Type: multipart/mixed; boundary=i\n\n--i\n\na\n--i\n\nb\n--i--\n";
    for kind in ["message/rfc822", "message/global"] {
        let message = format!(
            "Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: {kind}\n\n{inner}\n--o--\n"
        );
        let id = import(&client, &message);
        let email = client.get_with(
            "Email",
            &id,
            json!({ "properties": ["bodyStructure", "attachments", "textBody"], "bodyProperties": ["type", "subParts", "blobId"] }),
        );
        assert_eq!(email["bodyStructure"]["subParts"].as_array().map(Vec::len), Some(1));
        let part = &email["bodyStructure"]["subParts"][0];
        assert_eq!((&part["type"], &part["subParts"]), (&json!(kind), &Value::Null));
        assert_eq!(email["attachments"], json!([part]));
        assert_eq!(email["textBody"], json!([]));
        let blob = part["blobId"].as_str().expect("blobId");
        let parsed =
            client.call("Email/parse", json!({ "blobIds": [blob], "properties": ["subject", "textBody"] }));
        assert_eq!(parsed["parsed"][blob]["subject"], "inner", "{kind}");
        assert_eq!(parsed["parsed"][blob]["textBody"].as_array().map(Vec::len), Some(2));
    }
}

#[test]
fn values_are_decoded_as_well_as_it_goes() {
    let client = Server::shared().account();
    let text = |header: &str, body: &[u8]| {
        let mut message = format!("From: a@x.test\r\n{header}\r\n\r\n").into_bytes();
        message.extend_from_slice(body);
        value(&client, message, json!({}))
    };
    let fine = |value: &str| json!({ "value": value, "isEncodingProblem": false, "isTruncated": false });
    let problem = |value: &str| json!({ "value": value, "isEncodingProblem": true, "isTruncated": false });
    let plain = "Content-Type: text/plain; charset=";
    assert_eq!(text("X: y", b"one\r\ntwo\r\n"), fine("one\ntwo\n"));
    assert_eq!(text(&format!("{plain}iso-8859-15"), b"5 \xa4"), fine("5 \u{20ac}"));
    assert_eq!(text(&format!("{plain}koi8-r"), b"\xf0\xd2\xc9"), fine("\u{41f}\u{440}\u{438}"));
    assert_eq!(
        text(
            &format!("{plain}utf-8\r\nContent-Transfer-Encoding: quoted-printable"),
            b"gr=C3=BC=\r\n=C3=9Fe"
        ),
        fine("gr\u{fc}\u{df}e")
    );
    assert_eq!(text(&format!("{plain}utf-8\r\nContent-Transfer-Encoding: base64"), b"w7w="), fine("\u{fc}"));
    // What is broken is marked, and reading goes on.
    assert_eq!(text(&format!("{plain}utf-8"), b"a\xffb"), problem("a\u{fffd}b"));
    assert_eq!(text(&format!("{plain}no-such-charset"), b"abc"), problem("abc"));
    assert_eq!(text("Content-Transfer-Encoding: x-unknown", b"abc=41"), problem("abc=41"));
    let given = text("X: y", b"nul \0 inside");
    assert!(!given["value"].as_str().expect("text").contains('\0'), "{given}");
}

#[test]
fn an_unknown_transfer_encoding_is_none() {
    let client = Server::shared().account();
    let part = structure(&client, "Content-Transfer-Encoding: x-own\nContent-Type: application/x\n\nYWJj\n");
    assert_eq!(client.download(part["blobId"].as_str().expect("blobId")), b"YWJj\r\n");
    assert_eq!(part["size"], 6);
}

#[test]
fn values_are_cut_outside_characters_and_tags() {
    let client = Server::shared().account();
    let cut = |kind: &str, body: &str, most: usize| {
        let message = format!("Content-Type: text/{kind}; charset=utf-8\r\n\r\n{body}");
        let value = value(&client, message, json!({ "maxBodyValueBytes": most }));
        let text = value["value"].as_str().expect("text").to_owned();
        assert!(most == 0 || text.len() <= most, "{text:?} has more than {most} octets");
        assert_eq!(value["isTruncated"], json!(text != body), "{text:?}");
        text
    };
    let body = "a\u{e9}\u{20ac}\u{1f600}z";
    for (most, wanted) in [
        (0, body),
        (1, "a"),
        (2, "a"),
        (3, "a\u{e9}"),
        (5, "a\u{e9}"),
        (6, "a\u{e9}\u{20ac}"),
        (9, "a\u{e9}\u{20ac}"),
        (11, body),
        (99, body),
    ] {
        assert_eq!(cut("plain", body, most), wanted, "{most}");
    }
    let html = "<p>see <a href=\"https://example.com\" title=\"a > b\">here</a>";
    for most in 1..html.len() {
        let text = cut("html", html, most);
        assert!(html.starts_with(&text));
        assert!(text.matches('<').count() <= text.replace("a > b", "").matches('>').count(), "{text:?}");
    }
}

#[test]
fn fetch_arguments_choose_the_values() {
    let client = Server::shared().account();
    let message = "Content-Type: multipart/mixed; boundary=m\n\n--m\nContent-Type: multipart/alternative; boundary=a\n\n\
         --a\n\nplain\n--a\nContent-Type: text/html\n\n<b>html\n--a--\n--m\nContent-Type: image/png\n\nPNG\n--m\n\
         Content-Type: text/csv\nContent-Disposition: attachment\n\n1;2\n--m--\n";
    let id = import(&client, message);
    let blob = client.get("Email", &id, &["blobId"])["blobId"].as_str().expect("blobId").to_owned();
    for (arguments, wanted) in [
        (json!({}), vec![]),
        (json!({ "fetchTextBodyValues": true }), vec!["plain"]),
        (json!({ "fetchHTMLBodyValues": true }), vec!["<b>html"]),
        (json!({ "fetchTextBodyValues": true, "fetchHTMLBodyValues": true }), vec!["plain", "<b>html"]),
        (json!({ "fetchAllBodyValues": true }), vec!["plain", "<b>html", "1;2"]),
    ] {
        let mut arguments = arguments;
        arguments["properties"] = json!(["bodyValues"]);
        let got = client.get_with("Email", &id, arguments.clone())["bodyValues"].clone();
        arguments["blobIds"] = json!([blob]);
        let parsed = client.call("Email/parse", arguments.clone())["parsed"][&blob]["bodyValues"].clone();
        assert_eq!(got, parsed);
        let texts: Vec<&str> =
            got.as_object().expect("object").values().filter_map(|value| value["value"].as_str()).collect();
        assert_eq!(texts, wanted, "{arguments}");
    }
}

#[test]
fn attachments_are_what_is_to_be_offered() {
    let client = Server::shared().account();
    let has = |parts: &str| {
        let id = import(
            &client,
            &format!("Content-Type: multipart/mixed; boundary=b\n\n--b\n\ntext\n{parts}--b--\n"),
        );
        let email = client.get("Email", &id, &["hasAttachment", "attachments"]);
        (email["hasAttachment"] == true, email["attachments"].as_array().map_or(0, Vec::len))
    };
    assert_eq!(has(""), (false, 0));
    assert_eq!(has("--b\nContent-Type: application/pdf\n\nx\n"), (true, 1));
    assert_eq!(has("--b\nContent-Type: text/plain\nContent-Disposition: attachment\n\nx\n"), (true, 1));
    assert_eq!(has("--b\nContent-Type: application/pdf\nContent-Disposition: inline\n\nx\n"), (false, 1));
    // An image among the text is shown there, in both bodies.
    assert_eq!(has("--b\nContent-Type: image/png\nContent-Disposition: inline\n\nx\n").1, 0);
}

#[test]
fn previews_are_short_and_of_text() {
    let client = Server::shared().account();
    let preview = |message: &str| {
        let id = import(&client, message);
        client.get("Email", &id, &["preview"])["preview"].as_str().expect("text").to_owned()
    };
    let long = preview(&format!(
        "Content-Type: text/plain; charset=utf-8\n\n{}",
        "w\u{f6}rter und mehr ".repeat(100)
    ));
    assert!((1..=256).contains(&long.chars().count()), "{long}");
    assert!(long.starts_with("w\u{f6}rter und mehr"), "{long}");
    let html = preview("Content-Type: text/html\n\n<style>p{}</style><p>Hello   <b>you</b>&amp;me</p>");
    assert_eq!(html, "Hello you&me");
    assert_eq!(preview("Subject: empty\n\n"), "");
}

#[test]
fn fields_of_parts_are_had_by_name() {
    let client = Server::shared().account();
    let id = import(
        &client,
        "Content-Type: multipart/mixed; boundary=b\nX-P: top\n\n--b\nX-P: one\nX-p: tw=?\nContent-Type: text/plain (c)\n\na\n--b--\n",
    );
    let email = client.get_with(
        "Email",
        &id,
        json!({ "properties": ["bodyStructure"], "bodyProperties": ["header:X-P", "header:x-p:asText:all", "header:content-type"] }),
    );
    let root = &email["bodyStructure"];
    assert_eq!((&root["header:X-P"], &root["header:x-p:asText:all"]), (&json!(" top"), &json!(["top"])));
    assert_eq!(
        root["subParts"][0],
        json!({ "header:X-P": " tw=?", "header:x-p:asText:all": ["one", "tw=?"], "header:content-type": " text/plain (c)" })
    );
    for wrong in ["header:From:asDate", "header:", "bodyValues", "mailboxIds"] {
        let error = client.error("Email/get", json!({ "ids": [id], "bodyProperties": [wrong] }));
        assert_eq!(error, "invalidArguments", "{wrong}");
    }
}
