//! RFC 8621, section 2: mailboxes that several logins see.

use serde_json::{Value, json};

use crate::support::jmap::{Client, id_of, strings};
use crate::support::server::Server;

/// An account, and another login that sees it too.
fn shared(server: &Server, read_only: bool) -> (Client, Client) {
    let (owner, guest) = (server.account(), server.account());
    let mut arguments = vec!["access", "grant", &guest.address, &owner.address];
    if read_only {
        arguments.push("--read-only");
    }
    server.cli(&arguments);
    let guest = server.sign_in(&guest.address).in_account(&owner.account);
    (owner, guest)
}

#[track_caller]
fn is_subscribed(client: &Client, mailbox: &str) -> bool {
    client.get("Mailbox", mailbox, &["isSubscribed"])["isSubscribed"].as_bool().expect("a Boolean")
}

fn subscribed(client: &Client) -> Vec<String> {
    strings(&client.call("Mailbox/query", json!({ "filter": { "isSubscribed": true } }))["ids"])
}

#[test]
fn each_login_has_subscriptions_of_its_own() {
    let (owner, guest) = shared(Server::shared(), false);
    let (inbox, archive) = (owner.mailbox("inbox"), owner.mailbox("archive"));
    assert!(is_subscribed(&owner, &inbox), "one's own mailboxes are shown");
    assert!(!is_subscribed(&guest, &inbox), "those of others are not, unless that is wanted");
    assert_eq!(subscribed(&guest), Vec::<String>::new());

    guest.update("Mailbox", &inbox, json!({ "isSubscribed": true }));
    owner.update("Mailbox", &inbox, json!({ "isSubscribed": false }));
    owner.update("Mailbox", &archive, json!({ "isSubscribed": true }));
    assert_eq!((is_subscribed(&owner, &inbox), is_subscribed(&guest, &inbox)), (false, true));
    assert_eq!((is_subscribed(&owner, &archive), is_subscribed(&guest, &archive)), (true, false));
    assert_eq!(subscribed(&guest), [inbox.clone()]);
    assert!(!subscribed(&owner).contains(&inbox) && subscribed(&owner).contains(&archive));
    guest.update("Mailbox", &inbox, json!({ "isSubscribed": false }));
    assert!(!is_subscribed(&guest, &inbox));

    // Who makes a mailbox wants to see it; so does the owner of the account.
    let made = guest.create("Mailbox", json!({ "name": "by the guest" }));
    assert_eq!(made["isSubscribed"], true, "{made}");
    assert!(is_subscribed(&guest, &id_of(&made)) && is_subscribed(&owner, &id_of(&made)));
    let made = id_of(&owner.create("Mailbox", json!({ "name": "by the owner" })));
    assert!(is_subscribed(&owner, &made) && !is_subscribed(&guest, &made));
    let hidden = id_of(&guest.create("Mailbox", json!({ "name": "hidden", "isSubscribed": false })));
    assert!(!is_subscribed(&guest, &hidden));
}

#[test]
fn a_subscription_is_a_change_of_the_mailbox() {
    let (owner, guest) = shared(Server::shared(), false);
    let inbox = owner.mailbox("inbox");
    let filter = json!({ "filter": { "isSubscribed": true } });
    let before = guest.call("Mailbox/query", filter.clone());
    let state = guest.state("Mailbox");
    let answer = guest.update("Mailbox", &inbox, json!({ "isSubscribed": true }));
    assert_eq!((&answer["oldState"], &answer["updated"]), (&json!(state), &json!({ &inbox: null })));
    assert_ne!(answer["newState"], answer["oldState"]);
    let changes = guest.call("Mailbox/changes", json!({ "sinceState": state }));
    assert_eq!((&changes["updated"], &changes["updatedProperties"]), (&json!([inbox]), &Value::Null));
    let mut since = filter;
    since["sinceQueryState"] = before["queryState"].clone();
    let changes = guest.call("Mailbox/queryChanges", since);
    assert_eq!(changes["added"], json!([{ "id": inbox, "index": 0 }]));
    // The same again changes nothing.
    let answer = guest.update("Mailbox", &inbox, json!({ "isSubscribed": true }));
    assert_eq!(answer["newState"], answer["oldState"]);
}

#[test]
fn a_reader_may_subscribe_and_no_more() {
    let (owner, reader) = shared(Server::shared(), true);
    let inbox = owner.mailbox("inbox");
    reader.update("Mailbox", &inbox, json!({ "isSubscribed": true }));
    assert!(is_subscribed(&reader, &inbox));
    assert_eq!(subscribed(&reader), [inbox.clone()]);
    for arguments in [
        json!({ "update": { &inbox: { "isSubscribed": false, "name": "mine" } } }),
        json!({ "update": { &inbox: { "sortOrder": 4 } } }),
        json!({ "update": { &inbox: { "isSubscribed": false } }, "destroy": [inbox] }),
        json!({ "update": { &inbox: { "isSubscribed": false } }, "create": { "n": { "name": "n" } } }),
        json!({ "destroy": [inbox] }),
        json!({}),
    ] {
        assert_eq!(reader.error("Mailbox/set", arguments.clone()), "accountReadOnly", "{arguments}");
    }
    assert!(is_subscribed(&reader, &inbox), "what was refused has changed nothing");
    let error = reader.update_error("Mailbox", &inbox, json!({ "isSubscribed": 1 }));
    assert_eq!(error["properties"], json!(["isSubscribed"]));
}

#[test]
fn a_subscription_ends_with_the_access() {
    let server = Server::shared();
    let (owner, guest) = shared(server, false);
    let inbox = owner.mailbox("inbox");
    guest.update("Mailbox", &inbox, json!({ "isSubscribed": true }));
    server.cli(&["access", "revoke", &guest.address, &owner.address]);
    server.cli(&["access", "grant", &guest.address, &owner.address]);
    let guest = server.sign_in(&guest.address).in_account(&owner.account);
    assert!(!is_subscribed(&guest, &inbox));
}

#[test]
fn rights_and_capabilities_are_those_of_the_login() {
    const MAIL: &str = "urn:ietf:params:jmap:mail";
    const RIGHTS: [&str; 9] = [
        "mayReadItems",
        "mayAddItems",
        "mayRemoveItems",
        "maySetSeen",
        "maySetKeywords",
        "mayCreateChild",
        "mayRename",
        "mayDelete",
        "maySubmit",
    ];
    let server = Server::shared();
    let (owner, guest) = shared(server, false);
    let (_, reader) = shared(server, true);
    let rights = |client: &Client, role: &str| -> Vec<bool> {
        let all = client.get("Mailbox", &client.mailbox(role), &["myRights"])["myRights"].clone();
        assert_eq!(all.as_object().map(serde_json::Map::len), Some(RIGHTS.len()), "{all}");
        RIGHTS.iter().map(|right| all[right].as_bool().expect("a Boolean")).collect()
    };
    assert_eq!(rights(&owner, "archive"), [true; 9]);
    assert_eq!(rights(&guest, "archive"), [true; 9]);
    assert_eq!(rights(&owner, "inbox"), [true, true, true, true, true, true, true, false, true]);
    assert_eq!(rights(&reader, "archive"), [true, false, false, false, false, false, false, false, false]);
    let capability =
        |client: &Client| client.session["accounts"][&client.account]["accountCapabilities"][MAIL].clone();
    assert_eq!(capability(&owner)["mayCreateTopLevelMailbox"], true);
    assert_eq!(capability(&reader)["mayCreateTopLevelMailbox"], false);
    // What a right says is what happens.
    let inbox = owner.mailbox("inbox");
    let error = owner.call("Mailbox/set", json!({ "destroy": [inbox] }));
    assert_eq!(error["notDestroyed"][&inbox]["type"], "forbidden");
    assert!(reader.query(json!({ "inMailbox": reader.mailbox("inbox") })).is_empty());
    for method in ["Email/set", "Email/import"] {
        let arguments = if method == "Email/set" { json!({}) } else { json!({ "emails": {} }) };
        assert_eq!(reader.error(method, arguments), "accountReadOnly", "{method}");
    }
}
