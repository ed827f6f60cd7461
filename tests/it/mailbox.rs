//! RFC 8621, section 2: Mailboxes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::jmap::{id_of, strings};
use crate::support::server::Server;

#[test]
fn an_account_begins_with_the_usual_mailboxes() {
    let client = Server::shared().account();
    let answer = client.call("Mailbox/get", json!({ "ids": null }));
    let list = answer["list"].as_array().expect("list");
    let roles: BTreeSet<&str> = list.iter().filter_map(|mailbox| mailbox["role"].as_str()).collect();
    for role in ["inbox", "drafts", "sent", "trash", "junk", "archive"] {
        assert!(roles.contains(role), "no {role} among {roles:?}");
    }
    for mailbox in list {
        assert_eq!(mailbox["parentId"], Value::Null);
        assert_eq!(mailbox["isSubscribed"], true);
        for counter in ["totalEmails", "unreadEmails", "totalThreads", "unreadThreads"] {
            assert_eq!(mailbox[counter], 0, "{counter} of {mailbox}");
        }
        assert!(mailbox["sortOrder"].is_u64());
        for right in [
            "mayReadItems",
            "mayAddItems",
            "mayRemoveItems",
            "maySetSeen",
            "maySetKeywords",
            "mayCreateChild",
            "mayRename",
            "mayDelete",
            "maySubmit",
        ] {
            assert!(mailbox["myRights"][right].is_boolean(), "{right} of {mailbox}");
        }
    }
}

#[test]
fn mailboxes_are_made_changed_and_destroyed() {
    let client = Server::shared().account();
    let made = client.create("Mailbox", json!({ "name": "Projekte", "sortOrder": 7, "isSubscribed": false }));
    for echoed in ["totalEmails", "unreadEmails", "totalThreads", "unreadThreads", "myRights"] {
        assert!(made.get(echoed).is_some(), "the server set {echoed}: {made}");
    }
    let id = id_of(&made);
    let mailbox = client.get_with("Mailbox", &id, json!({}));
    assert_eq!(
        (&mailbox["name"], &mailbox["sortOrder"], &mailbox["isSubscribed"]),
        (&json!("Projekte"), &json!(7), &json!(false))
    );
    assert_eq!((&mailbox["parentId"], &mailbox["role"]), (&Value::Null, &Value::Null));
    let child = id_of(&client.create("Mailbox", json!({ "name": "Kind", "parentId": id })));
    client.update("Mailbox", &child, json!({ "name": "Enkel", "role": "important" }));
    let mailbox = client.get("Mailbox", &child, &["name", "role", "parentId"]);
    assert_eq!(
        (&mailbox["name"], &mailbox["role"], &mailbox["parentId"]),
        (&json!("Enkel"), &json!("important"), &json!(id))
    );
    client.update("Mailbox", &child, json!({ "parentId": null, "role": null }));
    client.destroy("Mailbox", &id);
    client.destroy("Mailbox", &child);
    assert_eq!(
        client.call("Mailbox/get", json!({ "ids": [id, child] }))["notFound"].as_array().map(Vec::len),
        Some(2)
    );
}

#[test]
fn what_breaks_the_rules_is_refused() {
    let client = Server::shared().account();
    let inbox = client.mailbox("inbox");
    let parent = client.create_mailbox("parent");
    let child = id_of(&client.create("Mailbox", json!({ "name": "child", "parentId": parent })));
    for (object, kind) in [
        (json!({}), "invalidProperties"),
        (json!({ "name": "" }), "invalidProperties"),
        (json!({ "name": null }), "invalidProperties"),
        (json!({ "name": "x\u{0}y" }), "invalidProperties"),
        (json!({ "name": "x\ny" }), "invalidProperties"),
        (json!({ "name": "x".repeat(10_000) }), "invalidProperties"),
        (json!({ "name": "x", "parentId": "nobody" }), "invalidProperties"),
        (json!({ "name": "x", "role": "no-such-role" }), "invalidProperties"),
        (json!({ "name": "x", "role": "inbox" }), "invalidProperties"),
        (json!({ "name": "x", "sortOrder": -1 }), "invalidProperties"),
        (json!({ "name": "x", "sortOrder": 2_147_483_648_u64 }), "invalidProperties"),
        (json!({ "name": "x", "myRights": {} }), "invalidProperties"),
        (json!({ "name": "parent" }), "alreadyExists"),
        (json!({ "name": "child", "parentId": parent }), "alreadyExists"),
    ] {
        let error = client.create_error("Mailbox", object.clone());
        assert_eq!(error["type"], kind, "{object}: {error}");
    }
    let error = client.create_error("Mailbox", json!({ "name": "parent" }));
    assert_eq!(error["existingId"], json!(parent), "{error}");
    for (id, patch) in [
        (&parent, json!({ "parentId": parent })),
        (&parent, json!({ "parentId": child })),
        (&parent, json!({ "id": "other" })),
        (&parent, json!({ "unreadEmails": 4 })),
    ] {
        assert_eq!(client.update_error("Mailbox", id, patch.clone())["type"], "invalidProperties", "{patch}");
    }
    let error = client.call("Mailbox/set", json!({ "destroy": [parent], "onDestroyRemoveEmails": true }));
    assert_eq!(error["notDestroyed"][&parent]["type"], "mailboxHasChild");
    client.create_email(&child, "inside", "text");
    let error = client.call("Mailbox/set", json!({ "destroy": [child] }));
    assert_eq!(error["notDestroyed"][&child]["type"], "mailboxHasEmail");
    let _ = inbox;
}

#[test]
fn parent_and_child_go_in_one_request() {
    let client = Server::shared().account();
    let parent = client.create_mailbox("up");
    let child = id_of(&client.create("Mailbox", json!({ "name": "down", "parentId": parent })));
    let answer = client.call("Mailbox/set", json!({ "destroy": [parent, child] }));
    assert_eq!(answer["destroyed"].as_array().map(Vec::len), Some(2), "{answer}");
}

#[test]
fn names_may_be_swapped_in_one_request() {
    let client = Server::shared().account();
    let (one, two) = (client.create_mailbox("one"), client.create_mailbox("two"));
    let answer =
        client.call("Mailbox/set", json!({ "update": { &one: { "name": "two" }, &two: { "name": "one" } } }));
    assert_eq!(answer["updated"].as_object().map(serde_json::Map::len), Some(2), "{answer}");
}

#[test]
fn destroying_with_mails_removes_those_that_are_nowhere_else() {
    let client = Server::shared().account();
    let mailbox = client.create_mailbox("doomed");
    let only = client.create_email(&mailbox, "only here", "text");
    let both = client.create_email(&mailbox, "elsewhere too", "text");
    let archive = client.mailbox("archive");
    client.update("Email", &both, json!({ format!("mailboxIds/{archive}"): true }));
    let state = client.state("Email");
    let answer = client.call("Mailbox/set", json!({ "destroy": [mailbox], "onDestroyRemoveEmails": true }));
    assert_eq!(answer["destroyed"], json!([mailbox]), "{answer}");
    let left = client.call("Email/get", json!({ "ids": [only, both], "properties": ["mailboxIds"] }));
    assert_eq!(left["list"], json!([{ "id": both, "mailboxIds": { archive: true } }]));
    let changes = client.call("Email/changes", json!({ "sinceState": state }));
    assert_eq!((&changes["destroyed"], &changes["updated"]), (&json!([only]), &json!([both])));
}

#[test]
fn counters_follow_every_change() {
    let client = Server::shared().account();
    let (inbox, trash) = (client.mailbox("inbox"), client.mailbox("trash"));
    let counters = |mailbox: &str| {
        let mailbox =
            client.get("Mailbox", mailbox, &["totalEmails", "unreadEmails", "totalThreads", "unreadThreads"]);
        ["totalEmails", "unreadEmails", "totalThreads", "unreadThreads"]
            .map(|name| mailbox[name].as_u64().unwrap_or(99))
    };
    let new = |subject: &str, reference: &str| {
        let mut email = crate::support::jmap::plain_email(&inbox, "s@sender.test", subject, "text");
        email["references"] = json!([reference]);
        id_of(&client.create("Email", email))
    };
    let first = new("thread", "root@x.test");
    let second = new("Re: thread", "root@x.test");
    assert_eq!(counters(&inbox), [2, 2, 1, 1]);
    client.update("Email", &first, json!({ "keywords/$seen": true }));
    assert_eq!(counters(&inbox), [2, 1, 1, 1]);
    client.update("Email", &second, json!({ "keywords/$draft": true }));
    assert_eq!(counters(&inbox), [2, 0, 1, 0], "a draft is not unread");
    client.update("Email", &second, json!({ "keywords": {} }));
    // RFC 8621, 2: an unread mail in the trash and a read one in the inbox.
    client.update("Email", &second, json!({ "mailboxIds": { &trash: true } }));
    assert_eq!(counters(&inbox), [1, 0, 1, 0]);
    assert_eq!(counters(&trash), [1, 1, 1, 1]);
    // In another mailbox than the trash, it makes the thread unread everywhere.
    let archive = client.mailbox("archive");
    client.update("Email", &second, json!({ "mailboxIds": { &archive: true } }));
    assert_eq!(counters(&inbox), [1, 0, 1, 1]);
    assert_eq!(counters(&archive), [1, 1, 1, 1]);
    client.destroy("Email", &second);
    assert_eq!((counters(&inbox), counters(&archive)), ([1, 0, 1, 0], [0, 0, 0, 0]));
    // The role of trash may move.
    client.update("Email", &first, json!({ "keywords": {}, format!("mailboxIds/{archive}"): true }));
    let answer = client.call(
        "Mailbox/set",
        json!({ "update": { &trash: { "role": null }, &archive: { "role": "trash" } } }),
    );
    assert_eq!(answer["updated"].as_object().map(serde_json::Map::len), Some(2), "{answer}");
    assert_eq!((counters(&inbox), counters(&archive)), ([1, 1, 1, 1], [1, 1, 1, 1]));
}

#[test]
fn changes_of_counters_alone_are_told_as_such() {
    let client = Server::shared().account();
    let inbox = client.mailbox("inbox");
    let state = client.state("Mailbox");
    client.create_email(&inbox, "counted", "text");
    let changes = client.call("Mailbox/changes", json!({ "sinceState": state }));
    assert_eq!(changes["updated"], json!([inbox]));
    let properties: BTreeSet<String> = strings(&changes["updatedProperties"]).into_iter().collect();
    assert_eq!(
        properties,
        ["totalEmails", "totalThreads", "unreadEmails", "unreadThreads"].map(str::to_owned).into()
    );
    client.update("Mailbox", &inbox, json!({ "sortOrder": 3 }));
    let changes = client.call("Mailbox/changes", json!({ "sinceState": state }));
    let properties = &changes["updatedProperties"];
    assert!(properties.is_null() || strings(properties).contains(&"sortOrder".to_owned()), "{changes}");
}

#[test]
fn queries_filter_and_sort() {
    let client = Server::shared().account();
    let b = id_of(&client.create("Mailbox", json!({ "name": "Bücher", "sortOrder": 1000 })));
    let a =
        id_of(&client.create("Mailbox", json!({ "name": "auto", "sortOrder": 1000, "isSubscribed": false })));
    let child = id_of(&client.create("Mailbox", json!({ "name": "Zebra", "parentId": b, "sortOrder": 0 })));
    let query = |filter: Value, more: Value| {
        let mut arguments =
            json!({ "filter": filter, "sort": [{ "property": "sortOrder" }, { "property": "name" }] });
        for (name, value) in more.as_object().into_iter().flatten() {
            arguments[name] = value.clone();
        }
        strings(&client.call("Mailbox/query", arguments)["ids"])
    };
    assert_eq!(query(json!({ "hasAnyRole": false }), json!({})), [child.clone(), a.clone(), b.clone()]);
    assert_eq!(query(json!({ "parentId": b }), json!({})), [child.clone()]);
    assert_eq!(query(json!({ "role": "inbox" }), json!({})), [client.mailbox("inbox")]);
    assert_eq!(query(json!({ "name": "BÜCH" }), json!({})), [b.clone()]);
    assert_eq!(query(json!({ "isSubscribed": false }), json!({})), [a.clone()]);
    assert_eq!(query(json!({ "role": null, "parentId": null }), json!({})), [a.clone(), b.clone()]);
    let not = json!({ "operator": "NOT", "conditions": [{ "hasAnyRole": true }, { "name": "auto" }] });
    assert_eq!(query(not, json!({})), [child.clone(), b.clone()]);
    let tree = query(json!({ "hasAnyRole": false }), json!({ "sortAsTree": true }));
    assert_eq!(tree, [a.clone(), b.clone(), child.clone()], "a parent comes before its children");
    let sorted = client.call(
        "Mailbox/query",
        json!({ "filter": { "hasAnyRole": false }, "sort": [{ "property": "name", "isAscending": false }] }),
    );
    assert_eq!(strings(&sorted["ids"]), [child.clone(), b.clone(), a.clone()]);
    let filtered = query(json!({ "name": "Zebra" }), json!({ "filterAsTree": true }));
    assert_eq!(filtered, Vec::<String>::new(), "its parent does not fit");
    assert_eq!(client.error("Mailbox/query", json!({ "sort": [{ "property": "role" }] })), "unsupportedSort");
    let answer = client.call(
        "Mailbox/query",
        json!({ "calculateTotal": true, "limit": 2, "position": 1, "sort": [{ "property": "name" }] }),
    );
    assert_eq!((answer["ids"].as_array().map(Vec::len), &answer["position"]), (Some(2), &json!(1)));
    assert_eq!(
        answer["total"],
        json!(client.call("Mailbox/get", json!({ "ids": null }))["list"].as_array().map(Vec::len))
    );
}

#[test]
fn a_read_only_account_can_be_read_and_no_more() {
    let server = Server::shared();
    let (owner, reader) = (server.account(), server.account());
    let id = owner.create_email(&owner.mailbox("inbox"), "look", "text");
    server.cli(&["access", "grant", &reader.address, &owner.address, "--read-only"]);
    let reader = server.sign_in(&reader.address).in_account(&owner.account);
    assert_eq!(reader.session["accounts"][&owner.account]["isReadOnly"], true, "{}", reader.session);
    assert_eq!(reader.get("Email", &id, &["subject"])["subject"], "look");
    let rights = reader.get("Mailbox", &owner.mailbox("inbox"), &["myRights"])["myRights"].clone();
    assert_eq!(
        (&rights["mayReadItems"], &rights["mayAddItems"], &rights["maySetSeen"]),
        (&json!(true), &json!(false), &json!(false))
    );
    assert_eq!(reader.error("Email/set", json!({ "destroy": [id] })), "accountReadOnly");
    assert_eq!(reader.error("Mailbox/set", json!({ "create": { "x": { "name": "x" } } })), "accountReadOnly");
}
