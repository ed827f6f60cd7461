//! RFC 8620, sections 5.1 and 5.2: /get and /changes, asked in the same way of every type.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::jmap::{
    Answer, BLOB, CORE, Client, MAIL, QUOTA, SUBMISSION, VACATION, id_of, plain_email, strings,
};
use crate::support::server::Server;

const USING: [&str; 6] = [CORE, MAIL, SUBMISSION, VACATION, QUOTA, BLOB];

/// The types that can be got, with a property of each.
const TYPES: [(&str, &str); 7] = [
    ("Mailbox", "name"),
    ("Thread", "emailIds"),
    ("Email", "subject"),
    ("Identity", "email"),
    ("EmailSubmission", "undoStatus"),
    ("VacationResponse", "isEnabled"),
    ("Quota", "used"),
];

/// The types that have changes.
const CHANGING: [&str; 6] = ["Mailbox", "Thread", "Email", "Identity", "EmailSubmission", "Quota"];

/// An account that has an object of every type.
fn full_account(server: &Server) -> Client {
    let client = server.account();
    server.cli(&["account", "quota", &client.address, "100MB"]);
    let email = client.create("Email", plain_email(&client.mailbox("inbox"), &client.address, "x", "x"));
    let identity = id_of(&client.call("Identity/get", json!({ "ids": null }))["list"][0]);
    client.create(
        "EmailSubmission",
        json!({ "emailId": email["id"], "identityId": identity, "envelope": {
            "mailFrom": { "email": client.address, "parameters": { "HOLDFOR": "36000" } },
            "rcptTo": [{ "email": "x@elsewhere.test" }],
        } }),
    );
    client
}

fn answer(client: &Client, method: &str, mut arguments: Value) -> Answer {
    arguments["accountId"] = json!(client.account);
    client.calls_using(&USING, json!([[method, arguments, "c"]])).remove(0)
}

#[track_caller]
fn call(client: &Client, method: &str, arguments: Value) -> Value {
    let answer = answer(client, method, arguments);
    assert_eq!(answer.name, method, "{}", answer.arguments);
    answer.arguments
}

#[track_caller]
fn error(client: &Client, method: &str, arguments: Value) -> Value {
    let answer = answer(client, method, arguments.clone());
    assert_eq!(answer.name, "error", "{method} {arguments}: {}", answer.arguments);
    answer.arguments["type"].clone()
}

fn members(object: &Value) -> BTreeSet<String> {
    object.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn every_type_is_got_in_the_same_way() {
    let client = full_account(Server::shared());
    for (kind, property) in TYPES {
        let get = |arguments: Value| call(&client, &format!("{kind}/get"), arguments);
        let all = get(json!({}));
        assert_eq!(members(&all), names(&["accountId", "state", "list", "notFound"]), "{kind}");
        assert_eq!((&all["accountId"], &all["notFound"]), (&json!(client.account), &json!([])), "{kind}");
        assert_eq!(get(json!({ "ids": null, "properties": null })), all, "{kind}: null is the default");
        let first = &all["list"][0];
        assert!(first["id"].is_string() && first.get(property).is_some(), "{kind}: {all}");
        let id = &first["id"];
        let only = get(json!({ "ids": [id], "properties": [property] }))["list"][0].clone();
        assert_eq!(members(&only), names(&["id", property]), "{kind}");
        let none = get(json!({ "ids": [id], "properties": [] }))["list"][0].clone();
        assert_eq!(members(&none), names(&["id"]), "{kind}: the id comes always");
        let twice = get(json!({ "ids": [id, "nothing", id, "nothing"], "properties": ["id"] }));
        assert_eq!(twice["list"], json!([{ "id": id }]), "{kind}");
        assert_eq!(twice["notFound"], json!(["nothing"]), "{kind}");
        let empty = get(json!({ "ids": [] }));
        assert_eq!((&empty["list"], &empty["notFound"]), (&json!([]), &json!([])), "{kind}");
        assert_eq!(empty["state"], all["state"], "{kind}: nothing has changed");
        for wrong in [
            json!({ "properties": ["nothingLikeThis"] }),
            json!({ "properties": property }),
            json!({ "properties": [7] }),
            json!({ "ids": id }),
            json!({ "ids": [null] }),
            json!({ "ids": { "0": id } }),
            json!({ "more": 1 }),
        ] {
            assert_eq!(
                error(&client, &format!("{kind}/get"), wrong.clone()),
                "invalidArguments",
                "{kind} {wrong}"
            );
        }
        let many: Vec<String> = (0..4_097).map(|number| format!("m{number}")).collect();
        assert_eq!(
            error(&client, &format!("{kind}/get"), json!({ "ids": many })),
            "requestTooLarge",
            "{kind}"
        );
    }
}

#[test]
fn ids_are_safe_everywhere() {
    let client = full_account(Server::shared());
    let mut ids = vec![client.account.clone()];
    for (kind, _) in TYPES.iter().filter(|(kind, _)| *kind != "VacationResponse") {
        let list = call(&client, &format!("{kind}/get"), json!({}))["list"].clone();
        ids.extend(list.as_array().into_iter().flatten().map(id_of));
    }
    let email = call(&client, "Email/get", json!({ "properties": ["blobId", "threadId", "textBody"] }));
    let email = &email["list"][0];
    for id in [&email["blobId"], &email["threadId"], &email["textBody"][0]["blobId"]] {
        ids.push(id.as_str().expect("an id").to_owned());
    }
    for id in &ids {
        assert!((1..=255).contains(&id.len()), "{id}");
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{id}");
        // RFC 8620, 1.2: what is wise to avoid.
        assert!(id.starts_with(|c: char| c.is_ascii_lowercase()), "{id}");
        assert!(!id.bytes().any(|byte| byte.is_ascii_uppercase()), "{id} could differ in case alone");
    }
}

#[test]
fn every_type_tells_its_changes_in_the_same_way() {
    let client = full_account(Server::shared());
    for kind in CHANGING {
        let method = format!("{kind}/changes");
        let state = call(&client, &format!("{kind}/get"), json!({ "ids": [] }))["state"].clone();
        let answer = call(&client, &method, json!({ "sinceState": state }));
        let mut wanted = names(&[
            "accountId",
            "oldState",
            "newState",
            "hasMoreChanges",
            "created",
            "updated",
            "destroyed",
        ]);
        if ["Mailbox", "Quota"].contains(&kind) {
            // RFC 8621, 2.2 and RFC 9425, 4.3.
            wanted.insert("updatedProperties".to_owned());
        }
        assert_eq!(members(&answer), wanted, "{kind}");
        assert_eq!((&answer["oldState"], &answer["newState"]), (&state, &state), "{kind}");
        assert_eq!(answer["hasMoreChanges"], false, "{kind}");
        for list in ["created", "updated", "destroyed"] {
            assert_eq!(answer[list], json!([]), "{kind}");
        }
        for wrong in [json!(0), json!(-1), json!(1.5), json!("1"), json!(9_007_199_254_740_993_u64)] {
            let arguments = json!({ "sinceState": state, "maxChanges": wrong });
            assert_eq!(error(&client, &method, arguments), "invalidArguments", "{kind} {wrong}");
        }
        for wrong in [json!({}), json!({ "sinceState": null }), json!({ "sinceState": 7 })] {
            assert_eq!(error(&client, &method, wrong.clone()), "invalidArguments", "{kind} {wrong}");
        }
        let text = state.as_str().expect("state");
        let (epoch, modseq) = text.split_once('-').expect("epoch and modseq");
        let modseq: i64 = modseq.parse().expect("a number");
        for lost in [
            "".to_owned(),
            "nonsense".to_owned(),
            format!("{epoch}-{}", modseq + 1_000_000),
            format!("s1-{modseq}"),
            format!("{text}x"),
        ] {
            let answer = error(&client, &method, json!({ "sinceState": lost }));
            assert_eq!(answer, "cannotCalculateChanges", "{kind} {lost:?}");
        }
    }
}

#[test]
fn changes_come_in_pages_that_add_up() {
    let client = Server::shared().account();
    let start = client.state("Mailbox");
    let create: Value =
        (0..7).map(|number| (format!("k{number}"), json!({ "name": format!("m{number}") }))).collect();
    let made = client.call("Mailbox/set", json!({ "create": create }));
    let ids: Vec<String> = (0..7).map(|number| id_of(&made["created"][format!("k{number}")])).collect();
    client.update("Mailbox", &ids[0], json!({ "sortOrder": 1 }));
    client.destroy("Mailbox", &ids[1]);
    let inbox = client.mailbox("inbox");
    client.update("Mailbox", &inbox, json!({ "sortOrder": 2 }));
    let end = client.state("Mailbox");

    let whole = client.call("Mailbox/changes", json!({ "sinceState": start }));
    let sorted = |list: &Value| strings(list).into_iter().collect::<BTreeSet<String>>();
    let kept: BTreeSet<String> = ids.iter().filter(|id| **id != ids[1]).cloned().collect();
    // Created and updated: created alone. Created and destroyed: nothing at all.
    assert_eq!(sorted(&whole["created"]), kept);
    assert_eq!(whole["updated"], json!([inbox]));
    assert_eq!(whole["destroyed"], json!([]));
    assert_eq!((&whole["newState"], &whole["hasMoreChanges"]), (&json!(end), &json!(false)));

    let mut state = start.clone();
    let (mut created, mut gone, mut pages) = (BTreeSet::new(), BTreeSet::new(), 0);
    loop {
        let page = client.call("Mailbox/changes", json!({ "sinceState": state, "maxChanges": 2 }));
        let count: usize =
            ["created", "updated", "destroyed"].iter().map(|list| strings(&page[list]).len()).sum();
        assert!(count <= 2, "{page}");
        assert_eq!(page["oldState"], json!(state));
        for id in strings(&page["created"]) {
            // Never created after a page that took it as there, or as gone.
            assert!(!gone.contains(&id) && created.insert(id), "{page}");
        }
        for id in strings(&page["updated"]) {
            assert!(created.contains(&id) || id == inbox, "updated before it was created: {page}");
        }
        for id in strings(&page["destroyed"]) {
            assert!(created.contains(&id) || id == ids[1], "destroyed before it was created: {page}");
            gone.insert(id);
        }
        pages += 1;
        state = page["newState"].as_str().expect("newState").to_owned();
        if page["hasMoreChanges"] == false {
            break;
        }
        assert!(pages < 20, "no end: {page}");
    }
    assert_eq!(state, end);
    assert!(pages >= 3, "{pages} pages");
    let left: BTreeSet<String> = created.difference(&gone).cloned().collect();
    assert_eq!(left, kept);

    // Updated and destroyed: destroyed alone.
    client.update("Mailbox", &ids[2], json!({ "sortOrder": 3 }));
    client.destroy("Mailbox", &ids[2]);
    let last = client.call("Mailbox/changes", json!({ "sinceState": end }));
    assert_eq!((&last["updated"], &last["destroyed"]), (&json!([]), &json!([ids[2]])));
    assert_ne!(client.state("Mailbox"), end, "the state changes with the data");
}

#[test]
fn core_has_no_methods_that_it_does_not_tell_of() {
    let client = Server::shared().account();
    for method in
        ["PushSubscription/changes", "PushSubscription/query", "Thread/set", "Quota/set", "Blob/set"]
    {
        assert_eq!(error(&client, method, json!({})), "unknownMethod", "{method}");
    }
}
