//! RFC 8620, sections 5.5 and 5.6: /query and /queryChanges, asked in the same way of every type.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::jmap::{Answer, CORE, Client, MAIL, QUOTA, SUBMISSION, id_of, plain_email, strings};
use crate::support::server::Server;

/// The types that can be queried, with a property to sort by and a condition that all objects meet.
fn types(client: &Client) -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("Mailbox", "name", json!({ "parentId": null })),
        ("Email", "receivedAt", json!({ "inMailbox": client.mailbox("inbox") })),
        ("EmailSubmission", "sentAt", json!({ "undoStatus": "pending" })),
        ("Quota", "name", json!({ "scope": "account" })),
    ]
}

/// An account with several objects of each type, as far as there can be several.
fn full_account(server: &Server) -> Client {
    let client = server.account();
    server.cli(&["account", "quota", &client.address, "100MB"]);
    let inbox = client.mailbox("inbox");
    let identity = id_of(&client.call("Identity/get", json!({ "ids": null }))["list"][0]);
    for number in 0..3 {
        let subject = format!("mail {number}");
        let email = client.create("Email", plain_email(&inbox, &client.address, &subject, "x"));
        client.create(
            "EmailSubmission",
            json!({ "emailId": email["id"], "identityId": identity, "envelope": {
                "mailFrom": { "email": client.address, "parameters": { "HOLDFOR": "36000" } },
                "rcptTo": [{ "email": "x@elsewhere.test" }],
            } }),
        );
    }
    client
}

fn answer(client: &Client, method: &str, mut arguments: Value) -> Answer {
    arguments["accountId"] = json!(client.account);
    client.calls_using(&[CORE, MAIL, SUBMISSION, QUOTA], json!([[method, arguments, "c"]])).remove(0)
}

#[track_caller]
fn call(client: &Client, method: &str, arguments: Value) -> Value {
    let answer = answer(client, method, arguments.clone());
    assert_eq!(answer.name, method, "{arguments}: {}", answer.arguments);
    answer.arguments
}

#[track_caller]
fn error(client: &Client, method: &str, arguments: Value) -> Value {
    let answer = answer(client, method, arguments.clone());
    assert_eq!(answer.name, "error", "{method} {arguments}: {}", answer.arguments);
    answer.arguments["type"].clone()
}

fn members(object: &Value) -> BTreeSet<&str> {
    object.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn every_type_is_queried_in_the_same_way() {
    let client = full_account(Server::shared());
    for (kind, property, condition) in types(&client) {
        let method = format!("{kind}/query");
        let query = |arguments: Value| call(&client, &method, arguments);
        let sort = json!([{ "property": property }]);
        let plain = query(json!({ "sort": sort }));
        let ids = strings(&plain["ids"]);
        assert!(!ids.is_empty(), "{kind}: {plain}");
        let mut wanted =
            BTreeSet::from(["accountId", "queryState", "canCalculateChanges", "position", "ids"]);
        wanted.insert("limit");
        if kind == "Email" {
            // What it was asked with, for clients that keep answers (RFC 8621, 4.4).
            wanted.insert("collapseThreads");
        }
        assert_eq!(members(&plain), wanted, "{kind}: no limit was given, so the server's holds");
        assert_eq!((&plain["accountId"], &plain["position"]), (&json!(client.account), &json!(0)), "{kind}");
        assert!(plain["limit"].as_u64() >= Some(500), "{kind}");
        let counted = query(json!({ "sort": sort, "calculateTotal": true, "limit": 500 }));
        assert_eq!(counted["total"], json!(ids.len()), "{kind}");
        assert!(counted.get("limit").is_none(), "{kind}: the client's limit holds: {counted}");
        let clamped = query(json!({ "limit": 9_000_000 }));
        assert_eq!(clamped["limit"], plain["limit"], "{kind}");
        assert_eq!(
            query(json!({ "filter": null, "sort": sort, "anchor": null, "limit": null })),
            plain,
            "{kind}"
        );
        assert_eq!(query(json!({ "filter": condition, "sort": sort })), plain, "{kind}");

        let last = ids.last().expect("an id");
        let window = |more: Value| {
            let mut arguments = json!({ "sort": sort });
            more.as_object().into_iter().flatten().for_each(|(name, value)| arguments[name] = value.clone());
            let answer = query(arguments);
            (strings(&answer["ids"]), answer["position"].clone())
        };
        let end = ids.len();
        assert_eq!(window(json!({ "position": -1 })), (vec![last.clone()], json!(end - 1)), "{kind}");
        assert_eq!(window(json!({ "position": -99 })), (ids.clone(), json!(0)), "{kind}");
        assert_eq!(window(json!({ "position": end })).0, Vec::<String>::new(), "{kind}");
        assert_eq!(
            window(json!({ "position": 9_007_199_254_740_991_i64 })).0,
            Vec::<String>::new(),
            "{kind}"
        );
        assert_eq!(window(json!({ "limit": 0 })).0, Vec::<String>::new(), "{kind}");
        assert_eq!(window(json!({ "limit": 1 })).0, ids[..1], "{kind}");
        assert_eq!(
            window(json!({ "anchor": last, "position": 0 })),
            (vec![last.clone()], json!(end - 1)),
            "{kind}: position is ignored beside an anchor"
        );
        assert_eq!(
            window(json!({ "anchor": ids[0], "anchorOffset": -5 })),
            (ids.clone(), json!(0)),
            "{kind}"
        );
        assert_eq!(window(json!({ "anchor": last, "anchorOffset": 5 })).0, Vec::<String>::new(), "{kind}");
        assert_eq!(
            window(json!({ "anchorOffset": 5 })),
            (ids.clone(), json!(0)),
            "{kind}: anchorOffset is ignored without an anchor"
        );
        for anchor in ["nobody", "", "#none"] {
            assert_eq!(error(&client, &method, json!({ "anchor": anchor })), "anchorNotFound", "{kind}");
        }
        for wrong in [
            json!({ "limit": -1 }),
            json!({ "limit": "x" }),
            json!({ "position": 0.5 }),
            json!({ "anchor": 7 }),
            json!({ "anchorOffset": "x" }),
            json!({ "calculateTotal": 1 }),
            json!({ "sort": {} }),
            json!({ "sort": [property] }),
            json!({ "sort": [{}] }),
            json!({ "sort": [{ "property": property, "isAscending": "no" }] }),
            json!({ "sort": [{ "property": property, "more": 1 }] }),
            json!({ "filter": [] }),
            json!({ "filter": "x" }),
            json!({ "more": 1 }),
        ] {
            assert_eq!(error(&client, &method, wrong.clone()), "invalidArguments", "{kind} {wrong}");
        }
        for wrong in [
            json!({ "sort": [{ "property": "nothingLikeThis" }] }),
            json!({ "sort": [{ "property": property, "collation": "i;nothing" }] }),
        ] {
            assert_eq!(error(&client, &method, wrong.clone()), "unsupportedSort", "{kind} {wrong}");
        }
        assert_eq!(
            error(&client, &method, json!({ "filter": { "nothingLikeThis": 1 } })),
            "unsupportedFilter",
            "{kind}"
        );
    }
}

#[test]
fn operators_combine_conditions_of_every_type() {
    let client = full_account(Server::shared());
    for (kind, property, condition) in types(&client) {
        let query = |filter: Value| {
            let arguments = json!({ "filter": filter, "sort": [{ "property": property }] });
            strings(&call(&client, &format!("{kind}/query"), arguments)["ids"])
        };
        let all = query(Value::Null);
        let operator = |name: &str, conditions: Value| json!({ "operator": name, "conditions": conditions });
        let not = operator("NOT", json!([condition]));
        assert_eq!(query(operator("AND", json!([condition, condition]))), all, "{kind}");
        assert_eq!(query(operator("AND", json!([condition, not]))), Vec::<String>::new(), "{kind}");
        assert_eq!(query(operator("OR", json!([not, condition]))), all, "{kind}");
        assert_eq!(query(operator("OR", json!([not, not]))), Vec::<String>::new(), "{kind}");
        assert_eq!(query(not.clone()), Vec::<String>::new(), "{kind}");
        assert_eq!(query(operator("NOT", json!([not]))), all, "{kind}");
        assert_eq!(query(operator("NOT", json!([not, condition]))), Vec::<String>::new(), "{kind}");
        assert_eq!(query(operator("AND", json!([]))), all, "{kind}");
        assert_eq!(query(operator("OR", json!([]))), Vec::<String>::new(), "{kind}: none of none matches");
        assert_eq!(query(json!({})), all, "{kind}: no condition is no hindrance");
        for wrong in [
            json!({ "operator": "XOR", "conditions": [] }),
            json!({ "operator": "AND" }),
            json!({ "operator": "AND", "conditions": {} }),
            json!({ "operator": "AND", "conditions": [7] }),
            json!({ "operator": "and", "conditions": [] }),
        ] {
            let kind_of_error = error(&client, &format!("{kind}/query"), json!({ "filter": wrong }));
            assert_eq!(kind_of_error, "invalidArguments", "{kind} {wrong}");
        }
    }
}

#[test]
fn sorting_is_stable_and_can_be_turned_round() {
    let client = full_account(Server::shared());
    for (kind, property, _) in types(&client) {
        let query =
            |sort: Value| strings(&call(&client, &format!("{kind}/query"), json!({ "sort": sort }))["ids"]);
        for sort in [Value::Null, json!([]), json!([{ "property": property }])] {
            assert_eq!(query(sort.clone()), query(sort.clone()), "{kind} {sort}");
        }
        let collations = client.session["capabilities"][CORE]["collationAlgorithms"].clone();
        for collation in strings(&collations) {
            let sort = json!([{ "property": property, "isAscending": true, "collation": collation }]);
            assert_eq!(query(sort), query(json!([{ "property": property }])), "{kind} {collation}");
        }
    }
    // RFC 8620, 5.5: case does not count, and false comes before true.
    let (upper, lower) = (client.create_mailbox("ZEBRA"), client.create_mailbox("zebu"));
    let names = |is_ascending: bool| {
        let sort = json!([{ "property": "name", "isAscending": is_ascending }]);
        let ids = strings(&client.call("Mailbox/query", json!({ "sort": sort }))["ids"]);
        ids.iter().filter(|id| **id == upper || **id == lower).cloned().collect::<Vec<_>>()
    };
    assert_eq!(names(true), [upper.clone(), lower.clone()]);
    assert_eq!(names(false), [lower, upper]);
    let flagged = strings(&client.call("Email/query", json!({}))["ids"])[1].clone();
    client.update("Email", &flagged, json!({ "keywords/$flagged": true }));
    let by = |is_ascending: bool| {
        let sort = json!([{ "property": "hasKeyword", "keyword": "$flagged", "isAscending": is_ascending }]);
        strings(&client.call("Email/query", json!({ "sort": sort }))["ids"])
    };
    assert_eq!(by(true).last(), Some(&flagged));
    assert_eq!(by(false).first(), Some(&flagged));
}

#[test]
fn every_type_tells_how_its_queries_changed() {
    let server = Server::shared();
    let client = full_account(server);
    for (kind, property, condition) in types(&client) {
        let (query, changes) = (format!("{kind}/query"), format!("{kind}/queryChanges"));
        let asked = json!({ "filter": condition, "sort": [{ "property": property }] });
        let with = |more: Value| {
            let mut arguments = asked.clone();
            more.as_object().into_iter().flatten().for_each(|(name, value)| arguments[name] = value.clone());
            arguments
        };
        let before = call(&client, &query, asked.clone());
        assert_eq!(before["canCalculateChanges"], true, "{kind}");
        let state = before["queryState"].clone();
        let same = call(&client, &changes, with(json!({ "sinceQueryState": state })));
        let mut wanted = BTreeSet::from(["accountId", "oldQueryState", "newQueryState", "removed", "added"]);
        if kind == "Email" {
            wanted.insert("collapseThreads");
        }
        assert_eq!(members(&same), wanted, "{kind}");
        assert_eq!((&same["oldQueryState"], &same["newQueryState"]), (&state, &state), "{kind}");
        assert_eq!((&same["removed"], &same["added"]), (&json!([]), &json!([])), "{kind}");
        let total =
            call(&client, &changes, with(json!({ "sinceQueryState": state, "calculateTotal": true })));
        assert_eq!(total["total"], json!(strings(&before["ids"]).len()), "{kind}");
        for wrong in [
            json!({}),
            json!({ "sinceQueryState": 7 }),
            json!({ "sinceQueryState": state, "maxChanges": -1 }),
            json!({ "sinceQueryState": state, "maxChanges": "x" }),
            json!({ "sinceQueryState": state, "upToId": 7 }),
            json!({ "sinceQueryState": state, "calculateTotal": "yes" }),
            json!({ "sinceQueryState": state, "more": 1 }),
        ] {
            assert_eq!(error(&client, &changes, with(wrong.clone())), "invalidArguments", "{kind} {wrong}");
        }
        for lost in ["", "nonsense", "s1-1"] {
            let lost = with(json!({ "sinceQueryState": lost }));
            assert_eq!(error(&client, &changes, lost), "cannotCalculateChanges", "{kind}");
        }
        let unsupported = json!({ "sinceQueryState": state, "filter": { "nothingLikeThis": 1 } });
        assert_eq!(error(&client, &changes, unsupported), "unsupportedFilter", "{kind}");
        let unsupported = json!({ "sinceQueryState": state, "sort": [{ "property": "nothingLikeThis" }] });
        assert_eq!(error(&client, &changes, unsupported), "unsupportedSort", "{kind}");
    }
}

#[test]
fn a_cached_list_is_mended_by_splicing() {
    let client = Server::shared().account();
    let asked = json!({ "filter": { "parentId": null }, "sort": [{ "property": "name" }] });
    let ids: Vec<String> = ["b", "d", "f", "h"].iter().map(|name| client.create_mailbox(name)).collect();
    let before = client.call("Mailbox/query", asked.clone());
    let mut cached = strings(&before["ids"]);
    client.create_mailbox("c");
    client.create_mailbox("a");
    client.destroy("Mailbox", &ids[1]);
    client.update("Mailbox", &ids[0], json!({ "name": "z" }));
    client.update("Mailbox", &ids[3], json!({ "parentId": ids[2] }));
    let mut arguments = asked.clone();
    arguments["sinceQueryState"] = before["queryState"].clone();
    let changes = client.call("Mailbox/queryChanges", arguments.clone());
    let removed = strings(&changes["removed"]);
    cached.retain(|id| !removed.contains(id));
    let mut least = 0;
    for added in changes["added"].as_array().expect("added") {
        let index = added["index"].as_u64().expect("index") as usize;
        assert!(index >= least, "added is sorted by index: {changes}");
        least = index;
        cached.insert(index, added["id"].as_str().expect("id").to_owned());
    }
    let after = client.call("Mailbox/query", asked);
    assert_eq!(json!(cached), after["ids"]);
    assert_eq!(changes["newQueryState"], after["queryState"]);
    assert_ne!(after["queryState"], before["queryState"], "the state changes with the results");
    let count = removed.len() + changes["added"].as_array().map_or(0, Vec::len);
    arguments["maxChanges"] = json!(count - 1);
    assert_eq!(client.error("Mailbox/queryChanges", arguments.clone()), "tooManyChanges");
    arguments["maxChanges"] = json!(count);
    assert_eq!(client.call("Mailbox/queryChanges", arguments)["added"], changes["added"]);
}
