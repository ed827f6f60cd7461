//! RFC 8621, 4.1.2 and 4.1.3: header fields in all their forms.

use serde_json::{Value, json};

use crate::support::jmap::{Client, id_of, plain_email};
use crate::support::server::Server;

const FORMS: [&str; 6] = ["asText", "asAddresses", "asGroupedAddresses", "asMessageIds", "asDate", "asURLs"];
const ADDRESSES: [&str; 2] = ["asAddresses", "asGroupedAddresses"];

/// Each defined field and the parsed forms that it may be had in.
const FIELDS: [(&str, &[&str]); 29] = [
    ("Subject", &["asText"]),
    ("Comments", &["asText"]),
    ("Keywords", &["asText"]),
    ("From", &ADDRESSES),
    ("Sender", &ADDRESSES),
    ("Reply-To", &ADDRESSES),
    ("To", &ADDRESSES),
    ("Cc", &ADDRESSES),
    ("Bcc", &ADDRESSES),
    ("Resent-From", &ADDRESSES),
    ("Resent-Sender", &ADDRESSES),
    ("Resent-Reply-To", &ADDRESSES),
    ("Resent-To", &ADDRESSES),
    ("Resent-Cc", &ADDRESSES),
    ("Resent-Bcc", &ADDRESSES),
    ("Message-ID", &["asMessageIds"]),
    ("In-Reply-To", &["asMessageIds"]),
    ("References", &["asMessageIds"]),
    ("Resent-Message-ID", &["asMessageIds"]),
    ("Date", &["asDate"]),
    ("Resent-Date", &["asDate"]),
    ("List-Help", &["asURLs"]),
    ("List-Unsubscribe", &["asURLs"]),
    ("List-Subscribe", &["asURLs"]),
    ("List-Post", &["asURLs"]),
    ("List-Owner", &["asURLs"]),
    ("List-Archive", &["asURLs"]),
    ("Return-Path", &[]),
    ("Received", &[]),
];

/// A message in the inbox, of octets as they stand.
fn import(client: &Client, message: &[u8]) -> String {
    client.import(&client.mailbox("inbox"), message)
}

/// A property of an Email.
#[track_caller]
fn get(client: &Client, id: &str, property: &str) -> Value {
    let email = client.get("Email", id, &[property]);
    let value = email.get(property);
    value.unwrap_or_else(|| panic!("the name is not the one asked for: {email}")).clone()
}

#[test]
fn each_field_has_its_forms_and_no_others() {
    let client = Server::shared().account();
    let id = import(&client, b"From: a@x.test\r\n\r\n");
    let blob = get(&client, &id, "blobId");
    for (field, allowed) in FIELDS {
        let properties = |is_allowed: bool| {
            let forms = FORMS.iter().filter(move |form| allowed.contains(form) == is_allowed);
            forms.map(|form| format!("header:{field}:{form}")).collect::<Vec<_>>()
        };
        let mut legal = properties(true);
        legal.extend([format!("header:{field}"), format!("header:{field}:asRaw")]);
        client.call("Email/get", json!({ "ids": [id], "properties": legal }));
        client.call("Email/parse", json!({ "blobIds": [blob], "properties": legal }));
        for illegal in properties(false) {
            let get = json!({ "ids": [id], "properties": [illegal] });
            assert_eq!(client.error("Email/get", get), "invalidArguments", "{illegal}");
            let parse = json!({ "blobIds": [blob], "properties": [illegal] });
            assert_eq!(client.error("Email/parse", parse), "invalidArguments", "{illegal}");
            let mut email = plain_email(&client.mailbox("drafts"), &client.address, "s", "t");
            for given in ["subject", "from", "to"] {
                email.as_object_mut().expect("object").remove(given);
            }
            email[&illegal] = Value::Null;
            let error = client.create_error("Email", email);
            assert_eq!(error["properties"], json!([illegal]), "{error}");
        }
    }
    // Any other field may have any form.
    for field in ["X-Any", "List-Id", "Content-Type", "subjects"] {
        let all: Vec<String> = FORMS.iter().map(|form| format!("header:{field}:{form}:all")).collect();
        client.call("Email/get", json!({ "ids": [id], "properties": all }));
    }
}

#[test]
fn names_are_any_printable_characters_and_keep_their_case() {
    let client = Server::shared().account();
    let id = import(&client, b"From: a@x.test\r\nX!#$%&'*+-/=?^_`{|}~9: odd\r\nSubject: s\r\n\r\n");
    assert_eq!(get(&client, &id, "header:X!#$%&'*+-/=?^_`{|}~9"), " odd");
    for spelling in ["header:SUBJECT:asText", "header:subject:asText", "header:sUbJeCt:asText"] {
        assert_eq!(get(&client, &id, spelling), "s");
    }
    assert_eq!(get(&client, &id, "header:Subject:asRaw"), " s");
    assert_eq!(get(&client, &id, "header:Subject:asRaw:all"), json!([" s"]));
    for wrong in ["header:Sub ject", "header:Sübject", "header:", "header:Subject:all:asText", "header:a:b:c"]
    {
        let error = client.error("Email/get", json!({ "ids": [id], "properties": [wrong] }));
        assert_eq!(error, "invalidArguments", "{wrong}");
    }
}

#[test]
fn headers_are_listed_as_they_stand() {
    let client = Server::shared().account();
    let id = import(&client, b"FROM: a@x.test\r\nx-Two:1\r\nSubject: folded\r\n\tvalue \r\nX-Two: 2\r\n\r\n");
    let headers = json!([
        { "name": "FROM", "value": " a@x.test" },
        { "name": "x-Two", "value": "1" },
        { "name": "Subject", "value": " folded\r\n\tvalue " },
        { "name": "X-Two", "value": " 2" },
    ]);
    assert_eq!(get(&client, &id, "headers"), headers);
    assert_eq!(get(&client, &id, "header:X-TWO"), " 2", "the last instance");
    assert_eq!(get(&client, &id, "header:X-TWO:all"), json!(["1", " 2"]));
    assert_eq!(get(&client, &id, "header:None"), Value::Null);
    assert_eq!(get(&client, &id, "header:None:asText:all"), json!([]));
}

#[test]
fn raw_values_are_unicode_without_nul() {
    let client = Server::shared().account();
    let id = import(&client, b"From: a@x.test\r\nX-A: \xffm\xc3\xbcd\0e \xe2\x82!\r\nSubject: a\0b\r\n\r\n");
    assert_eq!(get(&client, &id, "header:X-A"), " \u{fffd}m\u{fc}de \u{fffd}!");
    assert_eq!(get(&client, &id, "header:Subject"), " ab");
    assert_eq!(get(&client, &id, "subject"), "ab");
    assert_eq!(get(&client, &id, "headers")[1]["value"], " \u{fffd}m\u{fc}de \u{fffd}!");
}

#[test]
fn text_is_unfolded_decoded_and_composed() {
    let client = Server::shared().account();
    for (value, text) in [
        ("  two  spaces before", "two  spaces before"),
        ("folded\r\n  twice\r\n\tover", "folded  twice\tover"),
        ("=?utf-8?Q?Gr=C3=BC=C3=9Fe?=", "Gr\u{fc}\u{df}e"),
        ("=?ISO-8859-1?b?R3L832U=?= there", "Gr\u{fc}\u{df}e there"),
        ("=?utf-8?Q?one?= =?utf-8?Q?two?=", "onetwo"),
        ("=?utf-8?Q?one?=\r\n =?iso-8859-1?Q?tw=F6?=", "onetw\u{f6}"),
        ("=?utf-8?Q?a=00b=07c?=", "abc"),
        // Composed, whether it came encoded or not.
        ("=?utf-8?Q?Cafe=CC=81?=", "Caf\u{e9}"),
        ("Cafe\u{301}", "Caf\u{e9}"),
        // RFC 2047 has rules on where an encoded word may stand, and what it is.
        ("a=?utf-8?Q?b?=", "a=?utf-8?Q?b?="),
        ("=?utf-8?Q?b?=c", "=?utf-8?Q?b?=c"),
        ("=?utf-8?Q?b c?=", "=?utf-8?Q?b c?="),
        ("=?utf-8?X?b?=", "=?utf-8?X?b?="),
        ("=?no-such-charset?Q?b?=", "=?no-such-charset?Q?b?="),
        // Decoding goes on after what is broken.
        ("=?utf-8?Q?a=FFb?=", "a\u{fffd}b"),
    ] {
        let id = import(&client, format!("X-Text: {value}\r\nSubject: {value}\r\n\r\n").as_bytes());
        assert_eq!(get(&client, &id, "header:X-Text:asText"), text, "{value:?}");
        assert_eq!(get(&client, &id, "subject"), text, "{value:?}");
    }
}

/// The example of sections 4.1.2.3 and 4.1.2.4.
#[test]
fn addresses_alone_and_in_their_groups() {
    let client = Server::shared().account();
    let id = import(
        &client,
        b"To: \"  James Smythe\" <james@example.com>, Friends:\r\n  jane@example.com, =?UTF-8?Q?John_Sm=C3=AEth?=\r\n  <john@example.com>;\r\n\r\n",
    );
    let james = json!({ "name": "James Smythe", "email": "james@example.com" });
    let jane = json!({ "name": null, "email": "jane@example.com" });
    let john = json!({ "name": "John Sm\u{ee}th", "email": "john@example.com" });
    assert_eq!(get(&client, &id, "header:To:asAddresses"), json!([james, jane, john]));
    assert_eq!(
        get(&client, &id, "header:To:asGroupedAddresses"),
        json!([{ "name": null, "addresses": [james] }, { "name": "Friends", "addresses": [jane, john] }])
    );
    for (value, addresses) in [
        ("a@x.test (Ann \\(A.\\))", json!([{ "name": "Ann (A.)", "email": "a@x.test" }])),
        (
            "\"Quo\\\"ted\\\\ \r\n  name \" <a@x.test>",
            json!([{ "name": "Quo\"ted\\   name", "email": "a@x.test" }]),
        ),
        ("(all) Ann (x) B. <a@x.test> (y)", json!([{ "name": "Ann B.", "email": "a@x.test" }])),
        ("=?iso-8859-1?Q?J=F6rg?= M. <a@x.test>", json!([{ "name": "J\u{f6}rg M.", "email": "a@x.test" }])),
        ("undisclosed-recipients:;", json!([])),
        ("ann", json!([{ "name": null, "email": "ann" }])),
    ] {
        let id = import(&client, format!("Cc: {value}\r\n\r\n").as_bytes());
        assert_eq!(get(&client, &id, "cc"), addresses, "{value:?}");
    }
    // Best effort: whatever it is, it has a value.
    for value in ["<a@x.test", "a@x.test b@x.test", ",,,", "\"open", "a@x.test, , <>, (", "Group: a@x.test"] {
        let id = import(&client, format!("Cc: {value}\r\n\r\n").as_bytes());
        assert!(get(&client, &id, "cc").is_array(), "{value:?}");
        assert!(get(&client, &id, "header:Cc:asGroupedAddresses").is_array(), "{value:?}");
    }
}

#[test]
fn ids_dates_and_urls_are_null_when_they_are_none() {
    let client = Server::shared().account();
    for (property, value, parsed) in [
        ("header:References:asMessageIds", "<a@x> (one)\r\n <b@x>", json!(["a@x", "b@x"])),
        ("header:References:asMessageIds", "no ids here", Value::Null),
        ("header:Resent-Message-ID:asMessageIds", "<a@x>", json!(["a@x"])),
        ("header:Date:asDate", "Fri, 21 Nov 1997 09:55:06 -0600", json!("1997-11-21T09:55:06-06:00")),
        ("header:Date:asDate", "21 Nov 97 09:55:06 GMT (comment)", json!("1997-11-21T09:55:06Z")),
        ("header:Date:asDate", "last week", Value::Null),
        ("header:Resent-Date:asDate", "Fri, 21 Nov 1997 09:55 +0000", json!("1997-11-21T09:55:00Z")),
        ("header:List-Help:asURLs", "<mailto:a@x>, (c) <http://x/>", json!(["mailto:a@x", "http://x/"])),
        ("header:List-Post:asURLs", "NO", Value::Null),
        ("header:X-Other:asURLs", "<http://x/>", json!(["http://x/"])),
    ] {
        let field = property.split(':').nth(1).expect("a name");
        let id = import(&client, format!("{field}: {value}\r\n\r\n").as_bytes());
        assert_eq!(get(&client, &id, property), parsed, "{value:?}");
        assert_eq!(get(&client, &id, &format!("{property}:all")), json!([parsed]), "{value:?}");
    }
}

#[test]
fn convenience_properties_are_header_properties() {
    const PAIRS: [(&str, &str); 11] = [
        ("messageId", "header:Message-ID:asMessageIds"),
        ("inReplyTo", "header:In-Reply-To:asMessageIds"),
        ("references", "header:References:asMessageIds"),
        ("sender", "header:Sender:asAddresses"),
        ("from", "header:From:asAddresses"),
        ("to", "header:To:asAddresses"),
        ("cc", "header:Cc:asAddresses"),
        ("bcc", "header:Bcc:asAddresses"),
        ("replyTo", "header:Reply-To:asAddresses"),
        ("subject", "header:Subject:asText"),
        ("sentAt", "header:Date:asDate"),
    ];
    let client = Server::shared().account();
    let full = import(
        &client,
        "Message-ID: <m@x>\r\nIn-Reply-To: <i@x> <j@x>\r\nReferences: <r@x>\r\nSender: s@x\r\nFrom: \u{dc} <f@x>, g@x\r\n\
         To: first@x\r\nTo: t@x (T)\r\nCc: G: c@x;\r\nBcc: b@x\r\nReply-To: r@x\r\nSubject: =?utf-8?Q?=C3=BC?=\r\n\
         Date: Fri, 21 Nov 1997 09:55:06 -0600\r\n\r\n"
            .as_bytes(),
    );
    let none = import(&client, b"X-Only: this\r\n\r\n");
    for (convenient, property) in PAIRS {
        let value = get(&client, &full, convenient);
        assert_ne!(value, Value::Null, "{convenient}");
        assert_eq!(value, get(&client, &full, property));
        assert_eq!(get(&client, &none, convenient), Value::Null, "{convenient}");
        assert_eq!(get(&client, &none, property), Value::Null);
    }
    assert_eq!(get(&client, &full, "to"), json!([{ "name": "T", "email": "t@x" }]), "the last instance");
}

#[test]
fn every_form_can_be_set() {
    let client = Server::shared().account();
    let group = json!([{ "name": "Us", "addresses": [{ "name": "\u{c5}sa", "email": "a@x.test" }] }]);
    let fields = json!({
        "header:X-Raw": " raw, as it is",
        "header:X-Raw-Too:asRaw": " raw by name",
        "header:X-Text:asText": "l\u{e4}nger",
        "header:X-Addresses:asAddresses": [{ "name": "M\u{fc}ller, K.", "email": "k@x.test" }],
        "header:X-Groups:asGroupedAddresses": group,
        "header:X-Ids:asMessageIds": ["a@x", "b@x"],
        "header:X-Date:asDate": "2025-01-02T03:04:05-06:00",
        "header:X-Links:asURLs": ["https://x.test/", "mailto:a@x.test"],
        "header:X-All:asText:all": ["one", "zw\u{f6}lf"],
        "header:Resent-Date:asDate:all": ["2025-01-02T03:04:05Z", "2025-01-03T03:04:05Z"],
        "header:List-Id:asText": "the list",
        "header:Comments:asText": "a comment",
        "header:Keywords:asText": "key, word",
        "header:Resent-To:asGroupedAddresses": group,
    });
    let mut email = plain_email(&client.mailbox("drafts"), &client.address, "all forms", "text");
    email.as_object_mut().expect("object").extend(fields.as_object().expect("object").clone());
    let id = id_of(&client.create("Email", email));
    for (property, value) in fields.as_object().expect("object") {
        assert_eq!(get(&client, &id, property), *value, "{property}");
    }
}
