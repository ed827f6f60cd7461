//! RFC 8621, 4.4: how the conditions and sorts of Email/query go together.

use serde_json::{Value, json};

use crate::support::jmap::{Client, id_of, plain_email, strings};
use crate::support::server::Server;

/// An Email in the inbox; its id.
fn email(client: &Client, more: Value) -> String {
    let mut email = plain_email(&client.mailbox("inbox"), "s@sender.test", "subject", "text");
    for (name, value) in more.as_object().into_iter().flatten() {
        email[name] = value.clone();
    }
    id_of(&client.create("Email", email))
}

fn ids(client: &Client, arguments: Value) -> Vec<String> {
    strings(&client.call("Email/query", arguments)["ids"])
}

#[test]
fn a_condition_is_all_of_its_properties() {
    let client = Server::shared().account();
    let inbox = client.mailbox("inbox");
    let seen = email(&client, json!({ "keywords": { "$seen": true }, "subject": "apples" }));
    let unseen = email(&client, json!({ "subject": "apples and pears" }));
    let found = |filter: Value| {
        let mut found = client.query(filter);
        found.sort_unstable();
        found
    };
    let mut both = vec![seen.clone(), unseen.clone()];
    both.sort_unstable();
    assert_eq!(found(json!({})), both, "no property: always true");
    assert_eq!(found(Value::Null), both);
    assert_eq!(found(json!({ "inMailbox": inbox, "hasKeyword": "$seen" })), [seen.clone()]);
    assert_eq!(found(json!({ "inMailbox": inbox, "subject": "pears", "minSize": 1 })), [unseen.clone()]);
    assert_eq!(found(json!({ "hasKeyword": "$seen", "subject": "pears" })), Vec::<String>::new());
    let split =
        json!({ "operator": "AND", "conditions": [{ "hasKeyword": "$seen" }, { "subject": "apples" }] });
    assert_eq!(found(split), found(json!({ "hasKeyword": "$seen", "subject": "apples" })));
    let either =
        json!({ "operator": "OR", "conditions": [{ "subject": "pears" }, { "hasKeyword": "$seen" }] });
    assert_eq!(found(either.clone()), both);
    let neither =
        json!({ "operator": "NOT", "conditions": [either, { "operator": "AND", "conditions": [] }] });
    assert_eq!(found(neither), Vec::<String>::new());
    assert_eq!(client.error("Email/query", json!({ "filter": { "colour": "red" } })), "unsupportedFilter");
    for wrong in [
        json!({ "inMailbox": 7 }),
        json!({ "inMailboxOtherThan": inbox }),
        json!({ "before": 7 }),
        json!({ "after": "2025" }),
        json!({ "minSize": -1 }),
        json!({ "maxSize": "big" }),
        json!({ "hasAttachment": "yes" }),
        json!({ "allInThreadHaveKeyword": null }),
        json!({ "header": "From" }),
        json!({ "header": [] }),
        json!({ "header": ["a", "b", "c"] }),
        json!({ "header": ["a", 7] }),
    ] {
        let error = client.error("Email/query", json!({ "filter": wrong }));
        assert_eq!(error, "invalidArguments", "{wrong}");
    }
}

#[test]
fn phrases_tokens_and_case() {
    let client = Server::shared().account();
    let id = email(
        &client,
        json!({ "subject": "The quick brown fox", "bodyValues": { "1": { "value": "she said \"it's done\" in C:\\temp today" } } }),
    );
    let finds = |filter: Value| client.query(filter.clone()) == [id.clone()];
    for text in [
        "QUICK",
        "fox quick",
        "\"quick brown\"",
        "'quick brown'",
        "\"quick brown\" the",
        "the 'brown fox'",
        "\"it\\'s done\"",
        "'it\\'s done'",
        "\"said \\\"it\\'s\"",
    ] {
        assert!(finds(json!({ "text": text })), "{text} is not found");
    }
    for text in ["\"brown quick\"", "'fox quick'", "quick wolf", "\"quick fox\""] {
        assert!(!finds(json!({ "text": text })), "{text} is found");
    }
}

#[test]
fn what_a_reader_of_html_sees_is_searched() {
    let client = Server::shared().account();
    let html = "<html><head><title>headword</title><style>.cssword{}</style><script>scriptword()</script></head>\
                <body class=\"classword\"><p>vis<b>ible</b> word</p><img alt=\"altword\" title='titleword' src=\"srcword\"></body></html>";
    let id = email(
        &client,
        json!({ "bodyStructure": { "type": "text/html", "partId": "1" }, "bodyValues": { "1": { "value": html } } }),
    );
    for word in ["visible", "word", "altword", "titleword"] {
        assert_eq!(client.query(json!({ "body": word })), [id.clone()], "{word}");
    }
    for word in ["headword", "cssword", "scriptword", "classword", "srcword", "img"] {
        assert!(client.query(json!({ "body": word })).is_empty(), "{word}");
    }
}

#[test]
fn encoded_fields_are_searched_as_they_read() {
    let client = Server::shared().account();
    let id = client.import(
        &client.mailbox("inbox"),
        "From: =?utf-8?Q?J=C3=B6rg?= <j@x.test>\r\nTo: =?utf-8?B?xYF1a2FzeiBLb8WC?= <l@x.test>\r\nSubject: =?iso-8859-1?Q?Gr=FC=DFe?=\r\nX-Note: =?utf-8?Q?K=C3=B6nig?=\r\n\r\n",
    );
    for filter in [
        json!({ "from": "jörg" }),
        json!({ "to": "łukasz" }),
        json!({ "subject": "grüße" }),
        json!({ "header": ["X-Note", "könig"] }),
        json!({ "header": ["X-NOTE"] }),
        json!({ "text": "jörg łukasz grüße" }),
    ] {
        assert_eq!(client.query(filter.clone()), [id.clone()], "{filter}");
    }
    for filter in [json!({ "subject": "iso" }), json!({ "from": "utf" })] {
        assert!(client.query(filter.clone()).is_empty(), "{filter}: what is encoded is no text");
    }
}

#[test]
fn a_collapsed_list_has_each_thread_once_and_follows_changes() {
    let client = Server::shared().account();
    let inbox = client.mailbox("inbox");
    let in_thread = |thread: &str, hour: u32, seen: bool| {
        let keywords = if seen { json!({ "$seen": true }) } else { json!({}) };
        email(
            &client,
            json!({ "subject": "talk", "references": [format!("{thread}@x.test")], "keywords": keywords,
                "receivedAt": format!("2025-05-01T{hour:02}:00:00Z") }),
        )
    };
    let a1 = in_thread("a", 1, false);
    let b1 = in_thread("b", 2, true);
    let a2 = in_thread("a", 3, true);
    let b2 = in_thread("b", 4, true);
    let list = |filter: Value, is_ascending: bool| {
        json!({ "filter": filter, "collapseThreads": true, "calculateTotal": true,
            "sort": [{ "property": "receivedAt", "isAscending": is_ascending }] })
    };
    let in_inbox = json!({ "inMailbox": inbox });
    assert_eq!(ids(&client, list(in_inbox.clone(), false)), [b2.clone(), a2.clone()]);
    assert_eq!(ids(&client, list(in_inbox.clone(), true)), [a1.clone(), b1.clone()]);
    // The filter comes first: what does not match stands for no thread.
    let unseen = json!({ "notKeyword": "$seen" });
    assert_eq!(ids(&client, list(unseen, false)), [a1.clone()]);
    let before = client.call("Email/query", list(in_inbox.clone(), false));
    let mailbox = client.get("Mailbox", &inbox, &["totalThreads", "totalEmails"]);
    assert_eq!(before["total"], mailbox["totalThreads"]);
    let all = json!({ "filter": in_inbox, "calculateTotal": true });
    assert_eq!(client.call("Email/query", all)["total"], mailbox["totalEmails"]);
    assert_eq!(before["canCalculateChanges"], true);
    let a3 = in_thread("a", 5, false);
    let mut since = list(in_inbox.clone(), false);
    since["sinceQueryState"] = before["queryState"].clone();
    let changes = client.call("Email/queryChanges", since);
    let removed = strings(&changes["removed"]);
    let mut spliced = strings(&before["ids"]);
    spliced.retain(|id| !removed.contains(id));
    for added in changes["added"].as_array().expect("added") {
        spliced.insert(added["index"].as_u64().expect("index") as usize, id_of(added));
    }
    assert_eq!(spliced, [a3, b2]);
    assert_eq!(ids(&client, list(in_inbox, false)), spliced);
    assert_eq!(changes["total"], 2);
    assert_eq!(client.error("Email/query", json!({ "collapseThreads": 1 })), "invalidArguments");
}

#[test]
fn sorts_follow_each_other_and_are_stable() {
    let client = Server::shared().account();
    let make = |subject: &str, from: Value, hour: u32| {
        email(
            &client,
            json!({ "subject": subject, "from": from, "receivedAt": format!("2025-06-01T{hour:02}:00:00Z") }),
        )
    };
    let nobody = make("b", json!([]), 1);
    let unnamed = make("Re: a", json!([{ "name": "", "email": "dora@x.test" }]), 2);
    let named = make(
        "a",
        json!([{ "name": "Carl", "email": "zz@x.test" }, { "name": "Aaron", "email": "a@x.test" }]),
        3,
    );
    let sorted = |sort: Value| ids(&client, json!({ "sort": sort }));
    assert_eq!(
        sorted(json!([{ "property": "from" }])),
        [nobody.clone(), named.clone(), unnamed.clone()],
        "the name of the first address, else the address, else nothing"
    );
    let newest = json!({ "property": "receivedAt", "isAscending": false });
    assert_eq!(
        sorted(json!([{ "property": "subject" }, newest])),
        [named.clone(), unnamed.clone(), nobody.clone()],
        "the same base subject, then the newest"
    );
    let tie = json!([{ "property": "hasKeyword", "keyword": "$flagged" }]);
    let first = sorted(tie.clone());
    for _ in 0..3 {
        assert_eq!(sorted(tie.clone()), first, "what is equal keeps its order");
    }
    client.update("Email", &unnamed, json!({ "keywords/$flagged": true }));
    assert_eq!(sorted(tie).last(), Some(&unnamed), "false comes before true");
    for property in ["hasKeyword", "allInThreadHaveKeyword", "someInThreadHaveKeyword"] {
        let error = client.error("Email/query", json!({ "sort": [{ "property": property }] }));
        assert!(
            error == "invalidArguments" || error == "unsupportedSort",
            "{property} without a keyword: {error}"
        );
    }
    let ascii = json!([{ "property": "subject", "collation": "i;ascii-casemap" }]);
    assert_eq!(sorted(ascii).len(), 3);
}
