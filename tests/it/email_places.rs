//! RFC 8621, 4.1.1 and 4.6: where an Email is and which keywords it has.

use serde_json::{Value, json};

use crate::support::jmap::{Client, MAIL, id_of, names, strings};
use crate::support::server::Server;

#[track_caller]
fn keywords(client: &Client, id: &str) -> Value {
    client.get("Email", id, &["keywords"])["keywords"].clone()
}

/// The four counters of a mailbox.
fn counters(client: &Client, mailbox: &str) -> [u64; 4] {
    let names = ["totalEmails", "unreadEmails", "totalThreads", "unreadThreads"];
    let mailbox = client.get("Mailbox", mailbox, &names);
    names.map(|name| mailbox[name].as_u64().expect("a counter"))
}

#[test]
fn keywords_are_any_printable_characters_but_some() {
    let client = Server::shared().account();
    let id = client.create_email(&client.mailbox("inbox"), "keywords", "text");
    assert_eq!(keywords(&client, &id), json!({}), "none by default");
    for legal in
        ["!#$&'+,-./:;<=>?@[^_`|}~", "$Forwarded", "$phishing", "$Junk", "$NotJunk", &"k".repeat(255)]
    {
        client.update("Email", &id, json!({ "keywords": { legal: true } }));
        let shown = legal.to_lowercase();
        assert_eq!(keywords(&client, &id), json!({ &shown: true }), "in lower case");
        assert_eq!(client.query(json!({ "hasKeyword": legal })), [id.clone()]);
    }
    let too_long = "k".repeat(256);
    let mut illegal = vec!["", " ", "a b", "\u{e9}", "a\u{7f}", "a\tb", &too_long];
    illegal.extend(["(", ")", "{", "]", "%", "*", "\"", "\\"]);
    for illegal in illegal {
        let error = client.update_error("Email", &id, json!({ "keywords": { illegal: true } }));
        assert_eq!(error["properties"], json!(["keywords"]), "{illegal:?}: {error}");
    }
    for value in [json!(false), json!(1), json!("true"), Value::Null] {
        let error = client.update_error("Email", &id, json!({ "keywords": { "a": value } }));
        assert_eq!(error["properties"], json!(["keywords"]), "{value}");
    }
}

#[test]
fn sets_are_replaced_or_patched() {
    let client = Server::shared().account();
    let (inbox, archive) = (client.mailbox("inbox"), client.mailbox("archive"));
    let id = client.create_email(&inbox, "moved", "text");
    let before = client.get("Email", &id, &["id", "threadId", "blobId", "size", "receivedAt"]);
    let mailboxes = || client.get("Email", &id, &["mailboxIds"])["mailboxIds"].clone();
    client.update("Email", &id, json!({ "keywords": { "a": true, "b": true } }));
    client.update("Email", &id, json!({ "keywords/c": true, "keywords/A": null }));
    assert_eq!(keywords(&client, &id), json!({ "b": true, "c": true }));
    client.update("Email", &id, json!({ "keywords": { "d": true } }));
    assert_eq!(keywords(&client, &id), json!({ "d": true }));
    client.update("Email", &id, json!({ format!("mailboxIds/{archive}"): true }));
    assert_eq!(mailboxes(), json!({ &inbox: true, &archive: true }));
    client.update("Email", &id, json!({ format!("mailboxIds/{inbox}"): null }));
    assert_eq!(mailboxes(), json!({ &archive: true }));
    let trash = client.mailbox("trash");
    client.update("Email", &id, json!({ "mailboxIds": { &trash: true } }));
    assert_eq!(mailboxes(), json!({ &trash: true }));
    assert_eq!(
        client.get("Email", &id, &["id", "threadId", "blobId", "size", "receivedAt"]),
        before,
        "the Email is the same wherever it is"
    );
    for (patch, kind) in [
        (json!({ format!("mailboxIds/{trash}"): null }), "invalidProperties"),
        (json!({ "mailboxIds": {} }), "invalidProperties"),
        (json!({ "mailboxIds": null }), "invalidProperties"),
        (json!({ "mailboxIds": { &inbox: false } }), "invalidProperties"),
        (json!({ "mailboxIds": { "nobody": true } }), "invalidProperties"),
        (json!({ "mailboxIds": { &inbox: true }, format!("mailboxIds/{trash}"): null }), "invalidPatch"),
        (json!({ "preview": "mine" }), "invalidProperties"),
    ] {
        assert_eq!(client.update_error("Email", &id, patch.clone())["type"], kind, "{patch}");
    }
    assert_eq!(mailboxes(), json!({ &trash: true }));
}

#[test]
fn an_email_has_so_many_keywords_and_mailboxes() {
    let client = Server::shared().account();
    let id = client.create_email(&client.mailbox("inbox"), "limits", "text");
    let mail = &client.session["accounts"][&client.account]["accountCapabilities"][MAIL];
    let most = mail["maxMailboxesPerEmail"].as_u64().expect("a limit");
    let too_many: Value = (0..=most).map(|number| (format!("m{number}"), true)).collect();
    let keywords: Value = (0..10_000).map(|number| (format!("k{number}"), true)).collect();
    for (property, value, kind) in
        [("mailboxIds", too_many, "tooManyMailboxes"), ("keywords", keywords, "tooManyKeywords")]
    {
        assert_eq!(client.update_error("Email", &id, json!({ property: value }))["type"], kind);
        let mut email = json!({ "mailboxIds": { client.mailbox("inbox"): true } });
        email[property] = value;
        assert_eq!(client.create_error("Email", email)["type"], kind);
    }
}

#[test]
fn what_a_creation_answers() {
    let client = Server::shared().account();
    let made = client.create(
        "Email",
        json!({ "mailboxIds": { client.mailbox("drafts"): true }, "keywords": { "$draft": true }, "subject": "s" }),
    );
    assert_eq!(names(&made), ["blobId", "id", "size", "threadId"]);
    let email = client.get("Email", &id_of(&made), &["blobId", "size", "threadId"]);
    assert_eq!(email, made);
    assert_eq!(keywords(&client, &id_of(&made)), json!({ "$draft": true }));
}

#[test]
fn a_destroyed_email_is_in_no_mailbox() {
    let client = Server::shared().account();
    let (inbox, archive) = (client.mailbox("inbox"), client.mailbox("archive"));
    let id = client.create_email(&inbox, "gone", "text");
    client.update("Email", &id, json!({ format!("mailboxIds/{archive}"): true }));
    let state = client.state("Email");
    client.destroy("Email", &id);
    for mailbox in [&inbox, &archive] {
        assert_eq!(counters(&client, mailbox), [0; 4]);
        assert_eq!(client.query(json!({ "inMailbox": mailbox })), Vec::<String>::new());
    }
    let changes = client.call("Email/changes", json!({ "sinceState": state }));
    assert_eq!((&changes["destroyed"], &changes["updated"]), (&json!([id]), &json!([])));
    let answer = client.call("Email/set", json!({ "destroy": [id] }));
    assert_eq!(answer["notDestroyed"][&id]["type"], "notFound");
    assert_eq!(client.call("Email/get", json!({ "ids": [id] }))["notFound"], json!([id]));
}

/// One Email may have two names in a call: its id, and a creation id of before. It is one Email all
/// the same, and counted once.
#[test]
fn an_email_that_is_patched_twice_in_a_call_is_placed_once() {
    let client = Server::shared().account();
    let (inbox, archive, trash) =
        (client.mailbox("inbox"), client.mailbox("archive"), client.mailbox("trash"));
    let id = client.create_email(&inbox, "two names", "text");
    assert_eq!(counters(&client, &inbox), [1, 1, 1, 1]);
    let patch_both = |one: Value, two: Value| {
        let response = client.request(&json!({
            "using": ["urn:ietf:params:jmap:core", MAIL],
            "createdIds": { "a": id, "b": id },
            "methodCalls": [["Email/set", { "accountId": client.account, "update": { "#a": one, &id: {}, "#b": two } }, "c"]],
        }));
        let set = response["methodResponses"][0][1].clone();
        assert_eq!(
            (&set["updated"], &set["notUpdated"]),
            (&json!({ &id: null }), &Value::Null),
            "{response}"
        );
    };
    patch_both(json!({ "keywords/$seen": true }), json!({ "keywords/$flagged": true }));
    assert_eq!(keywords(&client, &id), json!({ "$flagged": true, "$seen": true }), "both patches count");
    assert_eq!(counters(&client, &inbox), [1, 0, 1, 0]);
    patch_both(json!({ "keywords/$seen": null }), json!({ format!("mailboxIds/{archive}"): true }));
    assert_eq!((counters(&client, &inbox), counters(&client, &archive)), ([1, 1, 1, 1], [1, 1, 1, 1]));
    patch_both(json!({ "mailboxIds": { &trash: true } }), json!({ "mailboxIds": { &archive: true } }));
    assert_eq!(
        (counters(&client, &inbox), counters(&client, &archive), counters(&client, &trash)),
        ([0; 4], [1, 1, 1, 1], [0; 4])
    );
    assert_eq!(client.query(json!({ "inMailbox": archive })), [id.clone()]);
    client.destroy("Email", &id);
    assert_eq!(counters(&client, &archive), [0; 4]);
}

#[test]
fn changes_tell_what_came_changed_and_went() {
    let client = Server::shared().account();
    let inbox = client.mailbox("inbox");
    let (old, doomed) = (client.create_email(&inbox, "old", "x"), client.create_email(&inbox, "doomed", "x"));
    let state = client.state("Email");
    let new = client.create_email(&inbox, "new", "x");
    client.update("Email", &old, json!({ "keywords/$seen": true }));
    client.destroy("Email", &doomed);
    let passing = client.create_email(&inbox, "passing", "x");
    client.destroy("Email", &passing);
    let changes = client.call("Email/changes", json!({ "sinceState": state }));
    assert_eq!(
        (&changes["created"], &changes["updated"], &changes["destroyed"], &changes["hasMoreChanges"]),
        (&json!([new]), &json!([old]), &json!([doomed]), &json!(false))
    );
    assert_eq!((&changes["oldState"], &changes["newState"]), (&json!(state), &json!(client.state("Email"))));
    let mut since = state;
    let mut told = Vec::new();
    loop {
        let part = client.call("Email/changes", json!({ "sinceState": since, "maxChanges": 1 }));
        let ids: Vec<String> =
            ["created", "updated", "destroyed"].iter().flat_map(|kind| strings(&part[kind])).collect();
        assert!(ids.len() <= 1, "{part}");
        told.extend(ids);
        since = part["newState"].as_str().expect("a state").to_owned();
        if part["hasMoreChanges"] == false {
            break;
        }
    }
    for id in [&new, &old, &doomed] {
        assert!(told.contains(id));
    }
    assert_eq!(client.error("Email/changes", json!({ "sinceState": "x" })), "cannotCalculateChanges");
    assert_eq!(
        client.error("Email/changes", json!({ "sinceState": since, "maxChanges": 0 })),
        "invalidArguments"
    );
}
