//! RFC 8621, 4.4 and 4.5: Email/query and Email/queryChanges, and the text search behind them.

use serde_json::{Value, json};

use crate::support::jmap::{Client, id_of, strings};
use crate::support::server::Server;

/// An Email of the test's own in the inbox; its id.
fn email(client: &Client, more: Value) -> String {
    let mut object = json!({
        "mailboxIds": { client.mailbox("inbox"): true },
        "from": [{ "name": "Sender", "email": "sender@sender.test" }],
        "subject": "subject",
        "bodyStructure": { "type": "text/plain", "partId": "1" },
        "bodyValues": { "1": { "value": "body" } },
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        object[name] = value.clone();
    }
    id_of(&client.create("Email", object))
}

fn day(day: u32) -> String {
    format!("2025-02-{day:02}T08:00:00Z")
}

/// Ten mails, the last one newest; their ids, oldest first.
fn ten(client: &Client) -> Vec<String> {
    (1..=10)
        .map(|number| {
            email(client, json!({ "receivedAt": day(number), "subject": format!("mail {number}") }))
        })
        .collect()
}

fn ids(client: &Client, arguments: Value) -> Vec<String> {
    strings(&client.call("Email/query", arguments)["ids"])
}

#[test]
fn windows_are_cut_by_position_limit_and_anchor() {
    let client = Server::shared().account();
    let mails = ten(&client);
    let sort = json!([{ "property": "receivedAt" }]);
    let query = |more: Value| {
        let mut arguments = json!({ "sort": sort });
        for (name, value) in more.as_object().into_iter().flatten() {
            arguments[name] = value.clone();
        }
        let answer = client.call("Email/query", arguments);
        (strings(&answer["ids"]), answer["position"].as_i64().expect("position"))
    };
    assert_eq!(query(json!({})), (mails.clone(), 0));
    assert_eq!(query(json!({ "position": 3, "limit": 2 })), (mails[3..5].to_vec(), 3));
    assert_eq!(query(json!({ "position": -3 })), (mails[7..].to_vec(), 7));
    assert_eq!(query(json!({ "position": -30, "limit": 1 })), (mails[..1].to_vec(), 0));
    assert_eq!(query(json!({ "position": 10 })), (vec![], 10));
    assert_eq!(query(json!({ "limit": 0 })), (vec![], 0));
    assert_eq!(query(json!({ "anchor": mails[5], "limit": 2 })), (mails[5..7].to_vec(), 5));
    assert_eq!(
        query(json!({ "anchor": mails[5], "anchorOffset": -2, "limit": 3 })),
        (mails[3..6].to_vec(), 3)
    );
    assert_eq!(
        query(json!({ "anchor": mails[5], "anchorOffset": 2, "position": 1 })),
        (mails[7..].to_vec(), 7)
    );
    assert_eq!(
        query(json!({ "anchor": mails[1], "anchorOffset": -5, "limit": 2 })),
        (mails[..2].to_vec(), 0)
    );
    assert_eq!(client.error("Email/query", json!({ "anchor": "nobody" })), "anchorNotFound");
    let answer = client.call("Email/query", json!({ "limit": 1, "calculateTotal": true }));
    assert_eq!(answer["total"], 10);
    assert!(client.call("Email/query", json!({ "limit": 1 })).get("total").is_none());
}

#[test]
fn conditions_of_the_metadata() {
    let client = Server::shared().account();
    let (inbox, archive) = (client.mailbox("inbox"), client.mailbox("archive"));
    let old = email(&client, json!({ "receivedAt": day(1), "keywords": { "$seen": true, "work": true } }));
    let middle = email(&client, json!({ "receivedAt": day(2), "mailboxIds": { &archive: true } }));
    let large = "long line of text\n".repeat(500);
    let new = email(
        &client,
        json!({ "receivedAt": day(3), "mailboxIds": { &inbox: true, &archive: true },
        "keywords": { "$flagged": true }, "bodyValues": { "1": { "value": large } } }),
    );
    let query =
        |filter: Value| ids(&client, json!({ "filter": filter, "sort": [{ "property": "receivedAt" }] }));
    let all = vec![old.clone(), middle.clone(), new.clone()];
    assert_eq!(query(json!({ "inMailbox": archive })), [middle.clone(), new.clone()]);
    assert_eq!(query(json!({ "inMailboxOtherThan": [inbox] })), [middle.clone(), new.clone()]);
    assert_eq!(query(json!({ "inMailboxOtherThan": [inbox, archive] })), Vec::<String>::new());
    assert_eq!(query(json!({ "before": day(2) })), [old.clone()]);
    assert_eq!(query(json!({ "after": day(2) })), [middle.clone(), new.clone()]);
    assert_eq!(
        query(json!({ "after": "2025-02-02T08:00:00.000Z", "before": "2025-02-03T08:00:00.000Z" })),
        [middle.clone()]
    );
    assert_eq!(query(json!({ "minSize": 5_000 })), [new.clone()]);
    assert_eq!(query(json!({ "maxSize": 5_000 })), [old.clone(), middle.clone()]);
    let size = client.get("Email", &middle, &["size"])["size"].clone();
    assert!(query(json!({ "minSize": size })).contains(&middle), "minSize is inclusive");
    assert!(!query(json!({ "maxSize": size })).contains(&middle), "maxSize is exclusive");
    assert_eq!(query(json!({ "hasKeyword": "$seen" })), [old.clone()]);
    assert_eq!(query(json!({ "hasKeyword": "WORK" })), [old.clone()]);
    assert_eq!(query(json!({ "notKeyword": "$seen" })), [middle.clone(), new.clone()]);
    assert_eq!(query(json!({ "hasAttachment": true })), Vec::<String>::new());
    assert_eq!(query(json!({})), all);
    assert_eq!(query(json!(null)), all);
    assert_eq!(query(json!({ "inMailbox": archive, "hasKeyword": "$flagged" })), [new.clone()]);
    let and =
        json!({ "operator": "AND", "conditions": [{ "inMailbox": inbox }, { "notKeyword": "$flagged" }] });
    assert_eq!(query(and), [old.clone()]);
    let or = json!({ "operator": "OR", "conditions": [{ "hasKeyword": "work" }, { "minSize": 5_000 }] });
    assert_eq!(query(or), [old.clone(), new.clone()]);
    let not = json!({ "operator": "NOT", "conditions": [{ "hasKeyword": "work" }, { "minSize": 5_000 }] });
    assert_eq!(query(not), [middle.clone()]);
    let deep = json!({ "operator": "NOT", "conditions": [{ "operator": "AND", "conditions": [
        { "operator": "OR", "conditions": [{ "inMailbox": archive }] }, { "hasKeyword": "$flagged" }] }] });
    assert_eq!(query(deep), [old, middle]);
    assert_eq!(query(json!({ "operator": "AND", "conditions": [] })), all);
    for wrong in [
        json!({ "operator": "XOR", "conditions": [] }),
        json!({ "hasKeyword": 7 }),
        json!({ "before": "yesterday" }),
        json!({ "inMailbox": null }),
    ] {
        let error = client.error("Email/query", json!({ "filter": wrong }));
        assert!(error == "invalidArguments" || error == "unsupportedFilter", "{wrong}: {error}");
    }
}

#[test]
fn conditions_on_threads() {
    let client = Server::shared().account();
    let in_thread = |thread: &str, keywords: Value, number: u32| {
        email(
            &client,
            json!({ "subject": "Re: topic", "references": [format!("{thread}@x.test")], "keywords": keywords, "receivedAt": day(number) }),
        )
    };
    let a1 = in_thread("a", json!({ "work": true }), 1);
    let a2 = in_thread("a", json!({ "work": true, "$seen": true }), 2);
    let b1 = in_thread("b", json!({ "work": true }), 3);
    let b2 = in_thread("b", json!({}), 4);
    let c = in_thread("c", json!({}), 5);
    let query =
        |filter: Value| ids(&client, json!({ "filter": filter, "sort": [{ "property": "receivedAt" }] }));
    assert_eq!(query(json!({ "allInThreadHaveKeyword": "work" })), [a1.clone(), a2.clone()]);
    assert_eq!(
        query(json!({ "someInThreadHaveKeyword": "work" })),
        [a1.clone(), a2.clone(), b1.clone(), b2.clone()]
    );
    assert_eq!(query(json!({ "noneInThreadHaveKeyword": "work" })), [c.clone()]);
    let collapsed = ids(
        &client,
        json!({ "collapseThreads": true, "sort": [{ "property": "receivedAt", "isAscending": false }] }),
    );
    assert_eq!(collapsed, [c.clone(), b2.clone(), a2.clone()]);
    let answer =
        client.call("Email/query", json!({ "collapseThreads": true, "calculateTotal": true, "limit": 1 }));
    assert_eq!((&answer["total"], &answer["collapseThreads"]), (&json!(3), &json!(true)));
    let by = |property: &str, keyword: &str| {
        ids(
            &client,
            json!({ "sort": [{ "property": property, "keyword": keyword, "isAscending": false }, { "property": "receivedAt" }] }),
        )
    };
    assert_eq!(by("hasKeyword", "work"), [a1.clone(), a2.clone(), b1.clone(), b2.clone(), c.clone()]);
    assert_eq!(by("hasKeyword", "$seen"), [a2.clone(), a1.clone(), b1.clone(), b2.clone(), c.clone()]);
    assert_eq!(
        by("someInThreadHaveKeyword", "$seen"),
        [a1.clone(), a2.clone(), b1.clone(), b2.clone(), c.clone()]
    );
    assert_eq!(by("allInThreadHaveKeyword", "work"), [a1, a2, b1, b2, c]);
}

#[test]
fn sorting_by_every_property() {
    let client = Server::shared().account();
    let one = email(
        &client,
        json!({ "subject": "Re: banana", "from": [{ "name": "zoe", "email": "z@x.test" }],
        "to": [{ "name": "Anna", "email": "q@x.test" }], "sentAt": "2025-01-03T00:00:00+09:00", "receivedAt": day(1) }),
    );
    let two = email(
        &client,
        json!({ "subject": "Äpfel", "from": [{ "email": "Bob@x.test" }],
        "to": [{ "email": "carl@x.test" }], "sentAt": "2025-01-02T20:00:00Z", "receivedAt": day(2),
        "bodyValues": { "1": { "value": "x".repeat(3_000) } } }),
    );
    let three = email(
        &client,
        json!({ "subject": "CHERRY", "from": [{ "name": "\u{e5}ke", "email": "a@x.test" }],
        "to": [{ "name": "bert", "email": "a@x.test" }], "sentAt": "2025-01-04T00:00:00Z", "receivedAt": day(3) }),
    );
    let by = |property: &str| {
        ids(&client, json!({ "sort": [{ "property": property }, { "property": "receivedAt" }] }))
    };
    assert_eq!(by("receivedAt"), [one.clone(), two.clone(), three.clone()]);
    assert_eq!(by("sentAt"), [one.clone(), two.clone(), three.clone()]);
    assert_eq!(by("size").last(), Some(&two));
    // i;unicode-casemap (RFC 5051) takes marks off letters, and without a name the address counts.
    assert_eq!(by("from"), [three.clone(), two.clone(), one.clone()]);
    assert_eq!(by("to"), [one.clone(), three.clone(), two.clone()]);
    assert_eq!(
        by("subject"),
        [two.clone(), one.clone(), three.clone()],
        "the base subject counts, without case"
    );
    let descending = ids(
        &client,
        json!({ "sort": [{ "property": "sentAt", "isAscending": false, "collation": "i;unicode-casemap" }] }),
    );
    assert_eq!(descending, [three, two, one]);
    let error =
        client.error("Email/query", json!({ "sort": [{ "property": "subject", "collation": "i;nope" }] }));
    assert_eq!(error, "unsupportedSort");
}

#[test]
fn text_conditions_look_where_they_should() {
    let client = Server::shared().account();
    let message = "From: \"Karla Kolumna\" <karla@zeitung.example>\r\nTo: team@firma.example\r\nCc: Chef <boss@firma.example>\r\nBcc: hidden@firma.example\r\nSubject: Quartalsbericht =?utf-8?Q?f=C3=BCr?= M\u{e4}rz\r\nX-Projekt: Kr\u{f6}nung\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>Der <b>Umsatz</b> stieg um 12,5&nbsp;% &ndash; sagt caf\u{e9}-Chef.</p><style>unsichtbar{}</style>\r\n--b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename=\"Tabelle_final.pdf\"\r\n\r\n%PDF\r\n--b--\r\n";
    let id = client.import(&client.mailbox("inbox"), message);
    client.create_email(&client.mailbox("inbox"), "another", "nothing to see");
    let finds = |filter: Value| client.query(filter.clone()) == [id.clone()];
    for filter in [
        json!({ "from": "karla" }),
        json!({ "from": "Kolumna" }),
        json!({ "from": "karla@zeitung.example" }),
        json!({ "from": "zeitung" }),
        json!({ "to": "team" }),
        json!({ "cc": "boss@firma.example" }),
        json!({ "cc": "chef" }),
        json!({ "bcc": "hidden" }),
        json!({ "subject": "quartalsbericht" }),
        json!({ "subject": "Quartals" }),
        json!({ "subject": "für märz" }),
        json!({ "subject": "fur marz" }),
        json!({ "subject": "\"Quartalsbericht für\"" }),
        json!({ "body": "umsatz stieg" }),
        json!({ "body": "cafe" }),
        json!({ "body": "café" }),
        json!({ "text": "kolumna umsatz" }),
        json!({ "text": "Tabelle_final.pdf" }),
        json!({ "text": "tabelle" }),
        json!({ "header": ["X-Projekt"] }),
        json!({ "header": ["x-projekt", "krönung"] }),
        json!({ "hasAttachment": true }),
        json!({ "operator": "AND", "conditions": [{ "from": "karla" }, { "operator": "NOT", "conditions": [{ "body": "verlust" }] }] }),
        json!({ "operator": "OR", "conditions": [{ "from": "karla" }, { "body": "verlust" }] }),
    ] {
        assert!(finds(filter.clone()), "{filter} finds nothing");
    }
    for filter in [
        json!({ "from": "firma" }),
        json!({ "to": "karla" }),
        json!({ "subject": "umsatz" }),
        json!({ "body": "quartalsbericht" }),
        json!({ "body": "unsichtbar" }),
        json!({ "body": "style" }),
        json!({ "text": "kolumna verlust" }),
        json!({ "subject": "\"für Quartalsbericht\"" }),
        json!({ "header": ["X-Projekt", "nichts"] }),
        json!({ "header": ["X-Other"] }),
        json!({ "operator": "AND", "conditions": [{ "from": "karla" }, { "body": "verlust" }] }),
        json!({ "operator": "NOT", "conditions": [{ "from": "karla" }, { "subject": "another" }] }),
    ] {
        assert!(client.query(filter.clone()).is_empty(), "{filter} finds what it should not");
    }
    for wrong in [json!({ "header": [] }), json!({ "header": ["a", "b", "c"] }), json!({ "text": 7 })] {
        let error = client.error("Email/query", json!({ "filter": wrong }));
        assert!(error == "invalidArguments" || error == "unsupportedFilter", "{wrong}: {error}");
    }
}

/// RFC 8621 promises nothing on lag; this server does: what a client has just done is found, or
/// found no longer, by the very next query.
#[test]
fn the_index_never_lags() {
    let client = Server::shared().account();
    for round in 0..20 {
        let word = crate::support::message::unique("lagging");
        let id = client.create_email(&client.mailbox("inbox"), &format!("about {word}"), "text");
        assert_eq!(client.query(json!({ "text": word })), [id.clone()], "round {round}: not found at once");
        client.destroy("Email", &id);
        assert!(client.query(json!({ "text": word })).is_empty(), "round {round}: still found");
    }
}

#[test]
fn snippets_mark_what_was_found() {
    let client = Server::shared().account();
    let id = client.create_email(
        &client.mailbox("inbox"),
        "A <strange> subject & more",
        "The quick brown fox\njumps over <b>the</b> lazy dog.",
    );
    let other = client.create_email(&client.mailbox("inbox"), "nothing", "nothing");
    let answer = client.call(
        "SearchSnippet/get",
        json!({ "filter": { "text": "strange fox" }, "emailIds": [id, other, "nobody"] }),
    );
    let list = answer["list"].as_array().expect("list");
    assert_eq!(list[0]["emailId"], json!(id));
    assert_eq!(list[0]["subject"], "A &lt;<mark>strange</mark>&gt; subject &amp; more");
    assert!(
        list[0]["preview"]
            .as_str()
            .is_some_and(|preview| preview.contains("brown <mark>fox</mark>") && !preview.contains("<b>")),
        "{list:?}"
    );
    assert_eq!((&list[1]["subject"], &list[1]["preview"]), (&Value::Null, &Value::Null));
    assert_eq!(answer["notFound"], json!(["nobody"]));
    let answer = client.call(
        "SearchSnippet/get",
        json!({ "filter": { "inMailbox": client.mailbox("inbox") }, "emailIds": [id] }),
    );
    assert_eq!((&answer["list"][0]["subject"], &answer["list"][0]["preview"]), (&Value::Null, &Value::Null));
}

/// Words, beginnings of words and, in scripts without spaces, any piece of a subject.
#[test]
fn subjects_in_many_scripts_are_found_by_their_pieces() {
    let client = Server::shared().account();
    let inbox = client.mailbox("inbox");
    let subjects = [
        ("Встреча переносится на четверг", true),
        ("Η συνάντηση μεταφέρεται την Πέμπτη", true),
        ("האסיפה נדחתה ליום חמישי", true),
        ("تأجل الاجتماع إلى يوم الخميس", true),
        ("बैठक गुरुवार को होगी", true),
        ("Zażółć gęślą jaźń przed świtem", true),
        ("会議は木曜日の午前十時に変更されました", false),
        ("会议改到星期四上午十点在三楼", false),
        ("회의가목요일오전으로변경되었습니다", false),
        ("การประชุมเลื่อนไปเป็นวันพฤหัสบดี", false),
    ];
    let ids: Vec<String> =
        subjects.iter().map(|(subject, _)| client.create_email(&inbox, subject, "x")).collect();
    let mut seed = 7_u64;
    let mut next = |most: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % most.max(1)
    };
    for ((subject, has_spaces), id) in subjects.iter().zip(&ids) {
        let finds = |piece: &str| client.query(json!({ "subject": piece })).contains(id);
        if *has_spaces {
            for word in subject.split(' ') {
                assert!(finds(word), "{word:?} of {subject}");
                let letters: Vec<char> = word.chars().collect();
                if letters.len() > 2 {
                    let start: String = letters[..2 + next(letters.len() - 2)].iter().collect();
                    assert!(finds(&start), "beginning {start:?} of {subject}");
                }
            }
        } else {
            let letters: Vec<char> = subject.chars().collect();
            for _ in 0..12 {
                let start = next(letters.len());
                let piece: String = letters[start..(start + 1 + next(6)).min(letters.len())].iter().collect();
                assert!(finds(&piece), "{piece:?} of {subject}");
            }
        }
        assert!(!finds("xyzzy"));
    }
}

#[test]
fn query_changes_tell_what_to_take_out_and_where_to_put_in() {
    let client = Server::shared().account();
    let mails = ten(&client);
    let arguments = json!({ "sort": [{ "property": "receivedAt" }], "filter": { "notKeyword": "$seen" } });
    let before = client.call("Email/query", arguments.clone());
    assert_eq!(before["canCalculateChanges"], true);
    client.update("Email", &mails[2], json!({ "keywords/$seen": true }));
    let new = email(&client, json!({ "receivedAt": "2025-02-04T09:00:00Z" }));
    let mut changes = arguments.clone();
    changes["sinceQueryState"] = before["queryState"].clone();
    changes["calculateTotal"] = json!(true);
    let answer = client.call("Email/queryChanges", changes.clone());
    assert_eq!(answer["oldQueryState"], before["queryState"]);
    assert!(strings(&answer["removed"]).contains(&mails[2]));
    assert_eq!(answer["added"], json!([{ "id": new, "index": 3 }]));
    assert_eq!(answer["total"], 10);
    let after = client.call("Email/query", arguments.clone());
    assert_eq!(after["queryState"], answer["newQueryState"]);
    let mut same = changes.clone();
    same["sinceQueryState"] = after["queryState"].clone();
    let answer = client.call("Email/queryChanges", same);
    assert_eq!((&answer["removed"], &answer["added"]), (&json!([]), &json!([])));
    let mut few = changes.clone();
    few["maxChanges"] = json!(1);
    assert_eq!(client.error("Email/queryChanges", few), "tooManyChanges");
    let mut lost = changes.clone();
    lost["sinceQueryState"] = json!("nonsense");
    assert_eq!(client.error("Email/queryChanges", lost), "cannotCalculateChanges");
    // RFC 8620, 5.6: what comes after upToId may be left out.
    changes["upToId"] = json!(mails[0]);
    let answer = client.call("Email/queryChanges", changes);
    assert!(
        answer["added"]
            .as_array()
            .is_some_and(|added| added.iter().all(|one| one["index"].as_u64() <= Some(3)))
    );
}

#[test]
fn text_queries_do_not_promise_changes() {
    let client = Server::shared().account();
    let answer = client.call("Email/query", json!({ "filter": { "text": "anything" } }));
    assert_eq!(answer["canCalculateChanges"], false);
    let error = client.error(
        "Email/queryChanges",
        json!({ "filter": { "text": "anything" }, "sinceQueryState": answer["queryState"] }),
    );
    assert_eq!(error, "cannotCalculateChanges");
}

#[test]
fn large_filters_have_a_limit_and_no_recursion() {
    let client = Server::shared().account();
    let mut filter = json!({ "hasKeyword": "$seen" });
    for _ in 0..50 {
        filter = json!({ "operator": "NOT", "conditions": [filter] });
    }
    let answer = client.answer("Email/query", json!({ "filter": filter }));
    assert!(answer.name == "Email/query" || answer.arguments["type"] == "unsupportedFilter", "{answer:?}");
}
