//! RFC 8620, sections 5.3 and 5.4: /set and /copy, asked in the same way of every type.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::jmap::{Client, id_of, plain_email};
use crate::support::server::Server;

/// The types that can be set.
const TYPES: [&str; 5] = ["Mailbox", "Email", "Identity", "EmailSubmission", "VacationResponse"];

fn members(object: &Value) -> BTreeSet<&str> {
    object.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

fn submission(client: &Client) -> String {
    let email = client.create("Email", plain_email(&client.mailbox("inbox"), &client.address, "x", "x"));
    let identity = id_of(&client.call("Identity/get", json!({ "ids": null }))["list"][0]);
    id_of(&client.create(
        "EmailSubmission",
        json!({ "emailId": email["id"], "identityId": identity, "envelope": {
            "mailFrom": { "email": client.address, "parameters": { "HOLDFOR": "36000" } },
            "rcptTo": [{ "email": "x@elsewhere.test" }],
        } }),
    ))
}

#[test]
fn every_type_is_set_in_the_same_way() {
    let client = Server::shared().account();
    for kind in TYPES {
        let method = format!("{kind}/set");
        let answer = client.call(&method, json!({}));
        let wanted = [
            "accountId",
            "oldState",
            "newState",
            "created",
            "updated",
            "destroyed",
            "notCreated",
            "notUpdated",
            "notDestroyed",
        ];
        assert_eq!(members(&answer), BTreeSet::from(wanted), "{kind}");
        assert_eq!(answer["accountId"], json!(client.account));
        assert_eq!(answer["oldState"], json!(client.state(kind)), "{kind}");
        assert_eq!(answer["newState"], answer["oldState"], "{kind}");
        for list in &wanted[3..] {
            assert_eq!(answer[list], Value::Null, "{kind} {list}");
        }
        let nulls = json!({ "ifInState": null, "create": null, "update": null, "destroy": null });
        assert_eq!(client.call(&method, nulls), answer, "{kind}: null is the default");
        assert_eq!(client.error(&method, json!({ "ifInState": "nonsense" })), "stateMismatch", "{kind}");
        assert_eq!(client.call(&method, json!({ "ifInState": answer["oldState"] })), answer, "{kind}");
        for wrong in [
            json!({ "create": [] }),
            json!({ "create": { "k": 7 } }),
            json!({ "update": "x" }),
            json!({ "update": { "x": null } }),
            json!({ "destroy": { "x": true } }),
            json!({ "destroy": [7] }),
            json!({ "ifInState": 7 }),
            json!({ "more": true }),
        ] {
            assert_eq!(client.error(&method, wrong.clone()), "invalidArguments", "{kind} {wrong}");
        }
        // The limit is on all three together.
        let update: Value = (0..2_000).map(|number| (format!("u{number}"), json!({}))).collect();
        let destroy: Vec<String> = (0..2_097).map(|number| format!("d{number}")).collect();
        let answer = client.error(&method, json!({ "update": update, "destroy": destroy }));
        assert_eq!(answer, "requestTooLarge", "{kind}");
        if kind != "VacationResponse" {
            let answer = client.call(&method, json!({ "update": { "none": {} }, "destroy": ["gone"] }));
            assert_eq!(answer["notUpdated"]["none"]["type"], "notFound", "{kind}: {answer}");
            assert_eq!(answer["notDestroyed"]["gone"]["type"], "notFound", "{kind}: {answer}");
            assert_eq!(answer["newState"], answer["oldState"], "{kind}");
        }
        let unknown = client.create_error(kind, json!({ "noSuchProperty": 1 }));
        let wanted = if kind == "VacationResponse" { "singleton" } else { "invalidProperties" };
        assert_eq!(unknown["type"], wanted, "{kind}: {unknown}");
        assert!(unknown["description"].is_string(), "{kind}: {unknown}");
    }
}

#[test]
fn a_whole_object_is_a_patch_of_itself() {
    let client = Server::shared().account();
    let submission = submission(&client);
    let mailbox = client.create_mailbox("whole");
    let email = client.create_email(&mailbox, "whole", "text");
    let identity = id_of(&client.call("Identity/get", json!({ "ids": null }))["list"][0]);
    for (kind, id) in [
        ("Mailbox", mailbox.as_str()),
        ("Email", &email),
        ("Identity", &identity),
        ("EmailSubmission", &submission),
        ("VacationResponse", "singleton"),
    ] {
        let whole = client.get_with(kind, id, json!({}));
        let state = client.state(kind);
        let answer = client.call(&format!("{kind}/set"), json!({ "update": { id: whole } }));
        assert!(answer["updated"].get(id).is_some(), "{kind}: {answer}");
        assert_eq!(client.get_with(kind, id, json!({})), whole, "{kind}");
        assert_eq!(client.state(kind), state, "{kind}: nothing has changed");
        // What only the server sets may stand there, but as it is.
        let error = client.update_error(kind, id, json!({ "id": "another" }));
        assert_eq!(
            (&error["type"], &error["properties"]),
            (&json!("invalidProperties"), &json!(["id"])),
            "{kind}"
        );
    }
    for (kind, id, patch, name) in [
        ("Mailbox", mailbox.as_str(), json!({ "totalEmails": 7, "name": "other" }), "totalEmails"),
        ("Email", &email, json!({ "size": 1, "keywords": { "$seen": true } }), "size"),
        ("Identity", &identity, json!({ "mayDelete": true, "name": "other" }), "mayDelete"),
        ("EmailSubmission", &submission, json!({ "sendAt": "2001-01-01T00:00:00Z" }), "sendAt"),
    ] {
        let before = client.get_with(kind, id, json!({}));
        let error = client.update_error(kind, id, patch);
        assert_eq!(error["type"], "invalidProperties", "{kind}: {error}");
        assert_eq!(error["properties"], json!([name]), "{kind}: {error}");
        assert_eq!(client.get_with(kind, id, json!({})), before, "{kind}: half of an update was done");
    }
}

#[test]
fn patches_that_are_none_are_refused_as_such() {
    let client = Server::shared().account();
    let id = client.create_email(&client.mailbox("inbox"), "patched", "text");
    let before = client.get("Email", &id, &["keywords", "mailboxIds"]);
    for patch in [
        // Inside an array, through what is not there, through a value, and one the beginning of another.
        json!({ "from/0": { "email": "x@x.test" } }),
        json!({ "nothing/here": true }),
        json!({ "keywords/$seen/deeper": true }),
        json!({ "keywords/$seen": true, "keywords": {} }),
        json!({ "keywords": {}, "keywords/$seen": null }),
    ] {
        let error = client.update_error("Email", &id, patch.clone());
        assert_eq!(error["type"], "invalidPatch", "{patch}: {error}");
    }
    assert_eq!(client.get("Email", &id, &["keywords", "mailboxIds"]), before);
    // To remove what is not there is nothing to complain of; null sets the default.
    client.update("Email", &id, json!({ "keywords/never-there": null }));
    client.update("Email", &id, json!({ "keywords/$seen": true }));
    client.update("Email", &id, json!({ "keywords": null }));
    assert_eq!(client.get("Email", &id, &["keywords"])["keywords"], json!({}));
    let mailbox = client.create_mailbox("defaults");
    client.update("Mailbox", &mailbox, json!({ "sortOrder": 5, "isSubscribed": false }));
    client.update("Mailbox", &mailbox, json!({ "sortOrder": null, "role": null, "parentId": null }));
    assert_eq!(client.get("Mailbox", &mailbox, &["sortOrder"])["sortOrder"], 0);
}

#[test]
fn each_set_error_has_its_type() {
    let server = Server::shared();
    let client = server.account();
    let inbox = client.mailbox("inbox");
    let error = client.create_error("VacationResponse", json!({}));
    assert_eq!(error["type"], "singleton");
    let answer = client.call("VacationResponse/set", json!({ "destroy": ["singleton"] }));
    assert_eq!(answer["notDestroyed"]["singleton"]["type"], "singleton");
    let identity = id_of(&client.call("Identity/get", json!({ "ids": null }))["list"][0]);
    let answer = client.call("Identity/set", json!({ "destroy": [identity] }));
    assert_eq!(answer["notDestroyed"][&identity]["type"], "forbidden", "{answer}");
    client.create_mailbox("once");
    let again = client.create_error("Mailbox", json!({ "name": "once" }));
    assert!(again["type"] == "alreadyExists" || again["type"] == "invalidProperties", "{again}");
    let several = client.create_error("Mailbox", json!({ "name": 7, "sortOrder": "x", "colour": "red" }));
    assert_eq!(several["type"], "invalidProperties", "{several}");
    assert!(several["properties"].as_array().is_some_and(|list| !list.is_empty()), "{several}");
    let foreign = client.create_error("Mailbox", json!({ "name": "x", "parentId": "nobody" }));
    assert_eq!(
        (&foreign["type"], &foreign["properties"]),
        (&json!("invalidProperties"), &json!(["parentId"]))
    );
    let destroyed = client.create_mailbox("destroyed");
    let answer = client.call(
        "Mailbox/set",
        json!({ "update": { &destroyed: { "name": "x" } }, "destroy": [destroyed, destroyed] }),
    );
    assert_eq!(answer["notUpdated"][&destroyed]["type"], "willDestroy", "{answer}");
    assert_eq!(answer["destroyed"], json!([destroyed]), "{answer}");
    // Beyond the quota nothing more is kept.
    server.cli(&["account", "quota", &client.address, "1kB"]);
    let large = plain_email(&inbox, &client.address, "large", &"x".repeat(5_000));
    assert_eq!(client.create_error("Email", large)["type"], "overQuota");
    server.cli(&["account", "quota", &client.address, "none"]);
    // An Email that is larger than any may be.
    let size = client.session["capabilities"]["urn:ietf:params:jmap:core"]["maxSizeUpload"].as_u64();
    let blob = client.upload("application/octet-stream", vec![b'x'; size.expect("limit") as usize]);
    let mut email = plain_email(&inbox, &client.address, "too large", "x");
    email["attachments"] = json!([{ "type": "application/octet-stream", "blobId": blob["blobId"] }, {
        "type": "application/octet-stream", "blobId": blob["blobId"] }]);
    email.as_object_mut().expect("object").remove("bodyStructure");
    email["textBody"] = json!([{ "type": "text/plain", "partId": "1" }]);
    assert_eq!(client.create_error("Email", email)["type"], "tooLarge");
}

#[test]
fn copies_have_the_form_of_the_rfc() {
    let server = Server::shared();
    let (client, other) = (server.account(), server.account());
    server.cli(&["access", "grant", &client.address, &other.address]);
    let client = server.sign_in(&client.address);
    let there = client.in_account(&other.account);
    let inbox = json!({ there.mailbox("inbox"): true });
    let id = client.create_email(&client.mailbox("inbox"), "copied", "text");
    let copy = |more: Value| {
        let mut arguments = json!({
            "fromAccountId": client.account, "accountId": other.account,
            "create": { "k": { "id": id, "mailboxIds": inbox } },
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            arguments[name] = value.clone();
        }
        client.calls(json!([["Email/copy", arguments, "c"], ["Core/echo", {}, "after"]]))
    };
    let before = there.state("Email");
    let answers = copy(json!({ "ifInState": before, "ifFromInState": client.state("Email") }));
    let copied = &answers[0].arguments;
    assert_eq!(
        members(copied),
        BTreeSet::from(["fromAccountId", "accountId", "oldState", "newState", "created", "notCreated"])
    );
    assert_eq!((&copied["oldState"], &copied["newState"]), (&json!(before), &json!(there.state("Email"))));
    assert_eq!(copied["notCreated"], Value::Null);
    assert_ne!(copied["created"]["k"]["id"], json!(id));
    assert_eq!(answers.len(), 2, "the original is kept unless said otherwise");
    let failed = copy(json!({ "create": { "k": { "id": "nobody", "mailboxIds": inbox } } }));
    assert_eq!(failed[0].arguments["created"], Value::Null);
    assert_eq!(failed[0].arguments["notCreated"]["k"]["type"], "notFound");
    for (more, kind) in [
        (json!({ "create": { "k": 7 } }), "invalidArguments"),
        (json!({ "create": null }), "invalidArguments"),
        (json!({ "onSuccessDestroyOriginal": "yes" }), "invalidArguments"),
        (json!({ "ifInState": "s0-0" }), "stateMismatch"),
        (json!({ "ifFromInState": "s0-0" }), "stateMismatch"),
    ] {
        assert_eq!(copy(more.clone())[0].arguments["type"], kind, "{more}");
    }
    // The implicit call answers after the copy and before the next, under the copy's call id.
    let moved =
        copy(json!({ "onSuccessDestroyOriginal": true, "destroyFromIfInState": client.state("Email") }));
    let order: Vec<(&str, &str)> =
        moved.iter().map(|answer| (answer.name.as_str(), answer.call_id.as_str())).collect();
    assert_eq!(order, [("Email/copy", "c"), ("Email/set", "c"), ("Core/echo", "after")]);
    assert_eq!(moved[1].arguments["destroyed"], json!([id]));
}
