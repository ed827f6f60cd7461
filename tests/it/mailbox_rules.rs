//! RFC 8621, sections 2.1 to 2.5: what Mailboxes may be, and how they are listed and followed.

use serde_json::{Value, json};

use crate::support::jmap::{Client, MAIL, id_of, names, strings};
use crate::support::server::Server;

fn capability(client: &Client) -> Value {
    client.session["accounts"][&client.account]["accountCapabilities"][MAIL].clone()
}

fn query(client: &Client, arguments: Value) -> Vec<String> {
    strings(&client.call("Mailbox/query", arguments)["ids"])
}

#[test]
fn the_capability_tells_the_limits() {
    let client = Server::shared().account();
    assert_eq!(client.session["capabilities"][MAIL], json!({}));
    let mail = capability(&client);
    let limit = |name: &str| mail[name].as_u64().unwrap_or_else(|| panic!("{name}: {mail}"));
    assert!(limit("maxMailboxesPerEmail") >= 1);
    assert!(limit("maxMailboxDepth") >= 2);
    assert!(limit("maxSizeMailboxName") >= 100);
    assert!(limit("maxSizeAttachmentsPerEmail") >= 50_000_000);
    assert_eq!(mail["mayCreateTopLevelMailbox"], true);
    // Each sort that is offered works, and no other.
    let mut sorts = strings(&mail["emailQuerySortOptions"]);
    for property in &sorts {
        let sort = json!([{ "property": property, "keyword": "$seen" }]);
        client.call("Email/query", json!({ "sort": sort }));
    }
    sorts.sort_unstable();
    assert_eq!(
        sorts,
        [
            "allInThreadHaveKeyword",
            "from",
            "hasKeyword",
            "receivedAt",
            "sentAt",
            "size",
            "someInThreadHaveKeyword",
            "subject",
            "to"
        ]
    );
    let error = client.error("Email/query", json!({ "sort": [{ "property": "preview" }] }));
    assert_eq!(error, "unsupportedSort");
}

#[test]
fn mailboxes_nest_as_deep_as_the_capability_says() {
    let client = Server::shared().account();
    let most = capability(&client)["maxMailboxDepth"].as_u64().expect("a limit");
    let mut parent = Value::Null;
    for level in 1..=most {
        parent =
            client.create("Mailbox", json!({ "name": format!("level {level}"), "parentId": parent }))["id"]
                .clone();
    }
    let error = client.create_error("Mailbox", json!({ "name": "too deep", "parentId": parent }));
    assert_eq!(
        (&error["type"], &error["properties"]),
        (&json!("invalidProperties"), &json!(["parentId"])),
        "{error}"
    );
}

#[test]
fn names_are_as_long_as_the_capability_says_and_composed() {
    let client = Server::shared().account();
    let most = capability(&client)["maxSizeMailboxName"].as_u64().expect("a limit") as usize;
    let longest = "é".repeat(most / 2);
    let made = client.create("Mailbox", json!({ "name": longest }));
    assert_eq!(client.get("Mailbox", &id_of(&made), &["name"])["name"], json!(longest));
    let error = client.create_error("Mailbox", json!({ "name": "é".repeat(most / 2 + 1) }));
    assert_eq!(error["properties"], json!(["name"]), "octets count, not characters");
    // RFC 5198: Normalization Form C.
    let made = client.create("Mailbox", json!({ "name": "Cafe\u{301}" }));
    assert_eq!(made["name"], "Café", "what the server changed is told");
    assert_eq!(client.create_error("Mailbox", json!({ "name": "Café" }))["type"], "alreadyExists");
    assert_eq!(
        client.update("Mailbox", &id_of(&made), json!({ "name": "x" }))["updated"][id_of(&made)],
        json!(null)
    );
    // The same name is free elsewhere in the tree, and when it differs by case.
    client.create("Mailbox", json!({ "name": "x", "parentId": made["id"] }));
    client.create("Mailbox", json!({ "name": "X" }));
}

#[test]
fn roles_are_those_of_the_registry_and_each_is_given_once() {
    let client = Server::shared().account();
    for role in ["all", "flagged", "important", "memos", "scheduled", "snoozed", "subscribed"] {
        let made = id_of(&client.create("Mailbox", json!({ "name": role, "role": role })));
        assert_eq!(client.mailbox(role), made);
        let error = client.create_error("Mailbox", json!({ "name": format!("{role} too"), "role": role }));
        assert_eq!(error["properties"], json!(["role"]), "{role}");
    }
    for role in ["Inbox", "inbox ", "noselect", ""] {
        let error = client.create_error("Mailbox", json!({ "name": "y", "role": role }));
        assert_eq!(error["properties"], json!(["role"]), "{role:?}");
    }
    let (archive, sent) = (client.mailbox("archive"), client.mailbox("sent"));
    let swap = json!({ "update": { &archive: { "role": "sent" }, &sent: { "role": "archive" } } });
    assert_eq!(client.call("Mailbox/set", swap)["notUpdated"], Value::Null);
    assert_eq!(client.mailbox("archive"), sent);
}

#[test]
fn gets_answer_all_or_those_asked_for() {
    let client = Server::shared().account();
    let all = client.call("Mailbox/get", json!({ "ids": null }));
    let without = client.call("Mailbox/get", json!({}));
    assert_eq!(all["list"], without["list"]);
    assert_eq!(
        names(&all["list"][0]),
        [
            "id",
            "isSubscribed",
            "myRights",
            "name",
            "parentId",
            "role",
            "sortOrder",
            "totalEmails",
            "totalThreads",
            "unreadEmails",
            "unreadThreads"
        ]
    );
    let inbox = client.mailbox("inbox");
    let answer =
        client.call("Mailbox/get", json!({ "ids": [inbox, "nobody", inbox], "properties": ["role"] }));
    assert_eq!(answer["list"], json!([{ "id": inbox, "role": "inbox" }]));
    assert_eq!(answer["notFound"], json!(["nobody"]));
    let error = client.error("Mailbox/get", json!({ "ids": null, "properties": ["colour"] }));
    assert_eq!(error, "invalidArguments");
}

#[test]
fn conditions_and_operators() {
    let client = Server::shared().account();
    let up = id_of(&client.create("Mailbox", json!({ "name": "Reisen", "sortOrder": 50 })));
    let down = id_of(&client.create("Mailbox", json!({ "name": "Preise", "parentId": up })));
    let found = |filter: Value| {
        let mut found = query(&client, json!({ "filter": filter }));
        found.retain(|id| [&up, &down].contains(&id));
        found.sort_unstable();
        found
    };
    let mut both = [up.clone(), down.clone()];
    both.sort_unstable();
    assert_eq!(found(json!({})), both, "no condition lets everything through");
    assert_eq!(found(json!({ "name": "reis" })), both, "a part of the name, in any case");
    assert_eq!(found(json!({ "name": "reise", "parentId": null })), [up.clone()], "all must match");
    assert_eq!(found(json!({ "parentId": up })), [down.clone()]);
    assert_eq!(found(json!({ "parentId": "nobody" })), Vec::<String>::new());
    assert_eq!(found(json!({ "hasAnyRole": true })), Vec::<String>::new());
    assert_eq!(found(json!({ "role": "inbox" })), Vec::<String>::new());
    let or = json!({ "operator": "OR", "conditions": [{ "name": "Preise" }, { "role": "inbox" }] });
    assert_eq!(found(or.clone()), [down.clone()]);
    let and = json!({ "operator": "AND", "conditions": [or, { "parentId": up }] });
    assert_eq!(found(and.clone()), [down.clone()]);
    assert_eq!(found(json!({ "operator": "NOT", "conditions": [and] })), [up.clone()]);
    let roles = query(&client, json!({ "filter": { "hasAnyRole": true } }));
    assert_eq!(roles.len(), 6, "{roles:?}");
    for (filter, kind) in [
        (json!({ "colour": "red" }), "unsupportedFilter"),
        (json!({ "name": 7 }), "invalidArguments"),
        (json!({ "name": null }), "invalidArguments"),
        (json!({ "hasAnyRole": null }), "invalidArguments"),
        (json!({ "isSubscribed": "yes" }), "invalidArguments"),
        (json!({ "parentId": 1 }), "invalidArguments"),
        (json!({ "operator": "XOR", "conditions": [] }), "invalidArguments"),
        (json!({ "operator": "AND" }), "invalidArguments"),
    ] {
        assert_eq!(client.error("Mailbox/query", json!({ "filter": filter })), kind, "{filter}");
    }
}

#[test]
fn trees_are_sorted_and_filtered_as_trees() {
    let client = Server::shared().account();
    let make = |name: &str, parent: &Value, order: u32| {
        client.create("Mailbox", json!({ "name": name, "parentId": parent, "sortOrder": order }))["id"]
            .clone()
    };
    let a = make("tree a", &Value::Null, 900);
    let b = make("tree b", &Value::Null, 800);
    let aa = make("tree aa", &a, 1);
    let ab = make("tree ab", &a, 2);
    let ba = make("tree ba", &b, 3);
    let aaa = make("other", &aa, 0);
    let leaf = make("tree leaf", &aaa, 0);
    let list = |arguments: Value| {
        let mut all = json!({ "sort": [{ "property": "sortOrder" }], "sortAsTree": true });
        for (name, value) in arguments.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        let own = [&a, &b, &aa, &ab, &ba, &aaa, &leaf];
        let mut ids = query(&client, all);
        ids.retain(|id| own.iter().any(|own| *own == id));
        json!(ids)
    };
    assert_eq!(list(json!({})), json!([b, ba, a, aa, aaa, leaf, ab]));
    let descending = json!({ "sort": [{ "property": "sortOrder", "isAscending": false }] });
    assert_eq!(list(descending), json!([a, ab, aa, aaa, leaf, b, ba]), "a parent still comes first");
    assert_eq!(list(json!({ "sortAsTree": false })), json!([aaa, leaf, aa, ab, ba, b, a]));
    assert_eq!(list(json!({ "filter": { "name": "tree" } })), json!([b, ba, a, aa, leaf, ab]));
    assert_eq!(
        list(json!({ "filter": { "name": "tree" }, "filterAsTree": true })),
        json!([b, ba, a, aa, ab]),
        "what is below a mailbox that does not match is left out"
    );
    let state = client.call("Mailbox/query", json!({ "sortAsTree": true }));
    assert_eq!(state["canCalculateChanges"], false);
    for tree in ["sortAsTree", "filterAsTree"] {
        let error = client
            .error("Mailbox/queryChanges", json!({ "sinceQueryState": state["queryState"], tree: true }));
        assert_eq!(error, "cannotCalculateChanges", "{tree}");
    }
}

#[test]
fn windows_of_a_list() {
    let client = Server::shared().account();
    let sort = json!([{ "property": "sortOrder" }, { "property": "name" }]);
    let window = |more: Value| {
        let mut arguments = json!({ "sort": sort });
        for (name, value) in more.as_object().into_iter().flatten() {
            arguments[name] = value.clone();
        }
        query(&client, arguments)
    };
    let all = window(json!({}));
    assert_eq!(all.len(), 6);
    assert_eq!(window(json!({ "position": 1, "limit": 2 })), all[1..3]);
    assert_eq!(window(json!({ "position": -2 })), all[4..]);
    assert_eq!(window(json!({ "anchor": all[3], "anchorOffset": -1, "limit": 2 })), all[2..4]);
    assert_eq!(window(json!({ "position": 100 })), Vec::<String>::new());
    assert_eq!(window(json!({ "limit": 0 })), Vec::<String>::new());
    assert_eq!(client.error("Mailbox/query", json!({ "anchor": "nobody" })), "anchorNotFound");
    assert_eq!(client.error("Mailbox/query", json!({ "limit": -1 })), "invalidArguments");
    let reversed = query(&client, json!({ "sort": [{ "property": "name", "isAscending": false }] }));
    let ascending = query(&client, json!({ "sort": [{ "property": "name" }] }));
    assert_eq!(reversed.into_iter().rev().collect::<Vec<_>>(), ascending);
    let answer = client.call("Mailbox/query", json!({ "calculateTotal": true, "limit": 1 }));
    assert_eq!((&answer["total"], &answer["position"]), (&json!(6), &json!(0)));
    assert_eq!(client.call("Mailbox/query", json!({})).get("total"), None);
}

#[test]
fn changes_tell_what_was_made_changed_and_destroyed() {
    let client = Server::shared().account();
    let (old, doomed) = (client.create_mailbox("old"), client.create_mailbox("doomed"));
    let state = client.state("Mailbox");
    let listed = client.call("Mailbox/query", json!({ "sort": [{ "property": "name" }] }));
    let new = client.create_mailbox("new");
    client.update("Mailbox", &old, json!({ "name": "older" }));
    client.destroy("Mailbox", &doomed);
    let passing = client.create_mailbox("passing");
    client.destroy("Mailbox", &passing);
    let changes = client.call("Mailbox/changes", json!({ "sinceState": state }));
    assert_eq!(changes["oldState"], json!(state));
    assert_eq!(changes["newState"], json!(client.state("Mailbox")));
    assert_eq!(changes["hasMoreChanges"], false);
    assert_eq!(
        (&changes["created"], &changes["updated"], &changes["destroyed"]),
        (&json!([new]), &json!([old]), &json!([doomed]))
    );
    assert_eq!(changes["updatedProperties"], Value::Null);
    let first = client.call("Mailbox/changes", json!({ "sinceState": state, "maxChanges": 1 }));
    assert_eq!((&first["created"], &first["hasMoreChanges"]), (&json!([new]), &json!(true)));
    let rest = client.call("Mailbox/changes", json!({ "sinceState": first["newState"] }));
    assert_eq!((&rest["updated"], &rest["destroyed"]), (&json!([old]), &json!([doomed])));
    assert_eq!(client.error("Mailbox/changes", json!({ "sinceState": "x" })), "cannotCalculateChanges");

    let since = json!({ "sort": [{ "property": "name" }], "sinceQueryState": listed["queryState"], "calculateTotal": true });
    let changes = client.call("Mailbox/queryChanges", since.clone());
    let after = client.call("Mailbox/query", json!({ "sort": [{ "property": "name" }] }));
    assert_eq!(changes["newQueryState"], after["queryState"]);
    // Splicing the answer into the old list gives the new one.
    let removed = strings(&changes["removed"]);
    let mut spliced = strings(&listed["ids"]);
    spliced.retain(|id| !removed.contains(id));
    for added in changes["added"].as_array().expect("added") {
        let index = added["index"].as_u64().expect("index") as usize;
        spliced.insert(index, id_of(added));
    }
    assert_eq!(json!(spliced), after["ids"]);
    assert_eq!(changes["total"], json!(spliced.len()));
    let mut few = since;
    few["maxChanges"] = json!(1);
    assert_eq!(client.error("Mailbox/queryChanges", few), "tooManyChanges");
}

#[test]
fn emails_keep_a_mailbox_unless_they_may_go_with_it() {
    let client = Server::shared().account();
    let mailbox = client.create_mailbox("full");
    let id = client.create_email(&mailbox, "kept", "text");
    for arguments in
        [json!({ "destroy": [mailbox] }), json!({ "destroy": [mailbox], "onDestroyRemoveEmails": false })]
    {
        let answer = client.call("Mailbox/set", arguments);
        assert_eq!(answer["notDestroyed"][&mailbox]["type"], "mailboxHasEmail", "{answer}");
    }
    assert_eq!(client.get("Email", &id, &["mailboxIds"])["mailboxIds"], json!({ &mailbox: true }));
    // A mailbox moves with its mail; the Email keeps its id.
    client.update("Mailbox", &mailbox, json!({ "parentId": client.mailbox("archive") }));
    assert_eq!(client.get("Email", &id, &["mailboxIds"])["mailboxIds"], json!({ &mailbox: true }));
    let arguments = json!({ "destroy": [mailbox], "onDestroyRemoveEmails": true });
    assert_eq!(client.call("Mailbox/set", arguments)["destroyed"], json!([mailbox]));
    assert_eq!(client.call("Email/get", json!({ "ids": [id] }))["notFound"], json!([id]));
    let error = client.error("Mailbox/set", json!({ "onDestroyRemoveEmails": "yes" }));
    assert_eq!(error, "invalidArguments");
    assert_eq!(client.error("Mailbox/set", json!({ "ifInState": "old" })), "stateMismatch");
}

#[test]
fn changed_properties_can_be_referred_to() {
    let client = Server::shared().account();
    let inbox = client.mailbox("inbox");
    let fetch = |state: &str| {
        let refer = |path: &str| json!({ "resultOf": "c", "name": "Mailbox/changes", "path": path });
        let answers = client.calls(json!([
            ["Mailbox/changes", { "accountId": client.account, "sinceState": state }, "c"],
            ["Mailbox/get", { "accountId": client.account, "#ids": refer("/updated"), "#properties": refer("/updatedProperties") }, "g"],
        ]));
        answers[1].arguments["list"].clone()
    };
    let state = client.state("Mailbox");
    client.create_email(&inbox, "counted", "text");
    let counters =
        json!([{ "id": inbox, "totalEmails": 1, "unreadEmails": 1, "totalThreads": 1, "unreadThreads": 1 }]);
    assert_eq!(fetch(&state), counters);
    client.update("Mailbox", &inbox, json!({ "sortOrder": 9 }));
    assert_eq!(fetch(&state)[0]["sortOrder"], 9, "null asks for all properties");
}
