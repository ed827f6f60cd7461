//! Quotas (RFC 9425): what is told of them, and that they hold.

use serde_json::{Value, json};

use crate::support::jmap::{Answer, CORE, Client, MAIL, QUOTA, id_of, plain_email};
use crate::support::message;
use crate::support::server::Server;

/// Calls with the quota capability.
fn calls(client: &Client, calls: Value) -> Vec<Answer> {
    client.calls_using(&[CORE, MAIL, QUOTA], calls)
}

fn call(client: &Client, method: &str, mut arguments: Value) -> Value {
    arguments["accountId"] = json!(client.account);
    let answer = calls(client, json!([[method, arguments, "c"]])).remove(0);
    assert_eq!(answer.name, method, "{}", answer.arguments);
    answer.arguments
}

fn limited(limit: &str) -> (&'static Server, Client) {
    let server = Server::shared();
    let client = server.account();
    server.cli(&["account", "quota", &client.address, limit]);
    (server, client)
}

#[test]
fn the_capability_is_told_and_empty() {
    let (_, client) = limited("1MB");
    assert_eq!(client.session["capabilities"][QUOTA], json!({}));
    assert_eq!(client.session["accounts"][&client.account]["accountCapabilities"][QUOTA], json!({}));
}

#[test]
fn a_quota_has_all_its_properties() {
    let (_, client) = limited("1MB");
    let got = call(&client, "Quota/get", json!({ "ids": null }));
    let quota = &got["list"][0];
    let id = id_of(quota);
    let wanted = json!({
        "id": id, "resourceType": "octets", "used": 0, "hardLimit": 1_000_000, "scope": "account",
        "name": client.address, "types": ["Email"], "warnLimit": null, "softLimit": null, "description": null,
    });
    assert_eq!(quota.as_object(), wanted.as_object());
    let raw = format!("From: a@x.test\r\nSubject: used\r\n\r\n{}\r\n", "x".repeat(1_000));
    client.import(&client.mailbox("inbox"), raw.clone());
    let some = call(&client, "Quota/get", json!({ "ids": [id, "nobody"], "properties": ["used"] }));
    assert_eq!(some["list"], json!([{ "id": id, "used": raw.len() }]));
    assert_eq!(some["notFound"], json!(["nobody"]));
    let wrong =
        calls(&client, json!([["Quota/get", { "accountId": client.account, "properties": ["x"] }, "c"]]));
    assert_eq!(wrong[0].arguments["type"], "invalidArguments");
    assert_eq!(
        calls(&client, json!([["Quota/set", { "accountId": client.account }, "c"]]))[0].arguments["type"],
        "unknownMethod"
    );
}

#[test]
fn a_client_follows_what_is_used_by_back_reference_and_push() {
    let (server, client) = limited("1MB");
    let state = call(&client, "Quota/get", json!({ "ids": [] }))["state"].clone();
    let events = client.events("Quota", "no", 0);
    let subject = message::unique("counted ");
    let from = "a@sender.test";
    server.deliver(from, &client.address, message::text(from, &client.address, &subject, "hello"));
    client.wait_for_subject(&subject);
    let told = events.wait_for("the change", |event| event.state_of(&client.account, "Quota"));
    let answers = calls(
        &client,
        json!([
            ["Quota/changes", { "accountId": client.account, "sinceState": state, "maxChanges": 20 }, "0"],
            ["Quota/get", {
                "accountId": client.account,
                "#ids": { "resultOf": "0", "name": "Quota/changes", "path": "/updated" },
                "#properties": { "resultOf": "0", "name": "Quota/changes", "path": "/updatedProperties" },
            }, "1"],
        ]),
    );
    assert_eq!(answers[0].arguments["newState"], json!(told));
    assert_eq!(answers[0].arguments["updatedProperties"], json!(["used"]));
    let got = answers[1].arguments["list"][0].as_object().expect("the quota");
    let mut names: Vec<&str> = got.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["id", "used"]);
    assert!(got["used"].as_u64() > Some(0));
    server.cli(&["account", "quota", &client.address, "2MB"]);
    let changes = call(&client, "Quota/changes", json!({ "sinceState": told }));
    assert_eq!(changes["updatedProperties"], Value::Null);
    assert_eq!(changes["updated"].as_array().map(Vec::len), Some(1));
}

#[test]
fn types_that_a_client_does_not_use_are_not_shown() {
    let (_, client) = limited("1MB");
    let answers = client.calls_using(
        &[CORE, QUOTA],
        json!([
            ["Quota/get", { "accountId": client.account, "ids": null }, "0"],
            ["Quota/query", { "accountId": client.account }, "1"],
        ]),
    );
    assert_eq!(answers[0].arguments["list"], json!([]));
    assert_eq!(answers[1].arguments["ids"], json!([]));
    let without =
        client.calls_using(&[CORE, MAIL], json!([["Quota/get", { "accountId": client.account }, "0"]]));
    assert_eq!(without[0].arguments["type"], "unknownMethod");
}

#[test]
fn nothing_is_made_over_the_limit() {
    let (server, client) = limited("10kB");
    let inbox = client.mailbox("inbox");
    let big = format!("From: a@x.test\r\nSubject: big\r\n\r\n{}\r\n", "0123456789\r\n".repeat(1_000));
    let blob = client.upload("message/rfc822", big);
    let answer = client.call(
        "Email/import",
        json!({ "emails": { "i": { "blobId": blob["blobId"], "mailboxIds": { &inbox: true } } } }),
    );
    assert_eq!(answer["notCreated"]["i"]["type"], "overQuota", "{answer}");
    let email = plain_email(&inbox, &client.address, "big", &"0123456789\n".repeat(1_000));
    assert_eq!(client.create_error("Email", email)["type"], "overQuota");
    client.import(&inbox, "From: a@x.test\r\nSubject: small\r\n\r\nx\r\n");
    let used = call(&client, "Quota/get", json!({}))["list"][0]["used"].as_u64();
    assert!(used < Some(1_000), "{used:?}");
    server.cli(&["account", "quota", &client.address, "none"]);
    assert_eq!(call(&client, "Quota/get", json!({}))["list"], json!([]));
    let email = plain_email(&inbox, &client.address, "big", &"0123456789\n".repeat(1_000));
    client.create("Email", email);
}

#[test]
fn quotas_are_found_and_sorted() {
    let (_, client) = limited("1MB");
    let id = id_of(&call(&client, "Quota/get", json!({}))["list"][0]);
    let local = client.address.split('@').next().unwrap_or_default().to_owned();
    for (filter, is_found) in [
        (json!(null), true),
        (json!({}), true),
        (json!({ "name": local }), true),
        (json!({ "name": "nobody" }), false),
        (json!({ "scope": "account" }), true),
        (json!({ "scope": "global" }), false),
        (json!({ "resourceType": "octets" }), true),
        (json!({ "resourceType": "count" }), false),
        (json!({ "type": "Email" }), true),
        (json!({ "type": "Mailbox" }), false),
        (json!({ "scope": "account", "type": "Mailbox" }), false),
    ] {
        let answer = call(&client, "Quota/query", json!({ "filter": filter }));
        let wanted = if is_found { json!([id]) } else { json!([]) };
        assert_eq!(answer["ids"], wanted, "{filter}");
    }
    for property in ["name", "used"] {
        for is_ascending in [true, false] {
            let sort = json!([{ "property": property, "isAscending": is_ascending }]);
            assert_eq!(call(&client, "Quota/query", json!({ "sort": sort }))["ids"], json!([id]));
        }
    }
    let state = call(&client, "Quota/query", json!({}))["queryState"].clone();
    client.import(&client.mailbox("inbox"), "From: a@x.test\r\n\r\nx\r\n");
    let changes = call(&client, "Quota/queryChanges", json!({ "sinceQueryState": state }));
    assert_eq!(changes["removed"], json!([id]));
    assert_eq!(changes["added"], json!([{ "id": id, "index": 0 }]));
}
