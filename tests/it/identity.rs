//! Identities (RFC 8621, 6): whom a user may send as.

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::jmap::{Client, id_of, plain_email};
use crate::support::server::Server;

fn identity(client: &Client) -> String {
    id_of(&client.call("Identity/get", json!({ "ids": null }))["list"][0])
}

/// A draft with this author.
fn draft(client: &Client, from: &str) -> String {
    id_of(&client.create("Email", plain_email(&client.mailbox("drafts"), from, "draft", "text")))
}

#[test]
fn identities_follow_addresses_and_aliases() {
    let server = Server::shared();
    let client = server.account();
    let list = |client: &Client| -> Vec<String> {
        let answer = client.call("Identity/get", json!({ "ids": null }));
        let list = answer["list"].as_array().expect("list");
        list.iter().map(|identity| identity["email"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(list(&client), [client.address.clone()]);
    let state = client.state("Identity");
    let alias = client.address.replace('@', "-alias@");
    server.cli(&["alias", "add", &alias, &client.address]);
    assert!(list(&client).contains(&alias));
    assert_ne!(client.state("Identity"), state);
    let id = identity(&client);
    client.update("Identity", &id, json!({ "name": "Max Müller", "textSignature": "-- \nMax", "htmlSignature": "<b>Max</b>", "replyTo": [{ "email": "r@x.test" }], "bcc": null }));
    let got = client.get_with("Identity", &id, json!({}));
    assert_eq!((&got["name"], &got["textSignature"]), (&json!("Max Müller"), &json!("-- \nMax")));
    assert!(got["mayDelete"].is_boolean());
    let made = client.create("Identity", json!({ "name": "Other", "email": alias }));
    client.destroy("Identity", &id_of(&made));
    assert_eq!(
        client.create_error("Identity", json!({ "name": "x", "email": "stranger@x.test" }))["type"],
        "forbiddenFrom"
    );
    assert_eq!(client.create_error("Identity", json!({ "name": "x" }))["type"], "invalidProperties");
    assert_eq!(
        client.update_error("Identity", &id, json!({ "email": alias }))["type"],
        "invalidProperties",
        "immutable"
    );
    server.cli(&["alias", "remove", &alias]);
    assert!(!list(&client).contains(&alias));
}

#[test]
fn properties_have_defaults_and_are_kept() {
    let client = Server::shared().account();
    let made = client.create("Identity", json!({ "email": client.address }));
    let id = id_of(&made);
    let got = client.get_with("Identity", &id, json!({}));
    let defaults = json!({
        "id": id, "name": "", "email": client.address, "replyTo": null, "bcc": null,
        "textSignature": "", "htmlSignature": "", "mayDelete": true,
    });
    assert_eq!(Value::Object(got.as_object().expect("object").clone()), defaults);
    let set = json!({
        "name": "Élodie", "replyTo": [{ "name": "Team", "email": "team@x.test" }, { "name": null, "email": "b@x.test" }],
        "bcc": [{ "name": null, "email": "archive@x.test" }], "textSignature": "-- \nÉ", "htmlSignature": "<p>É</p>",
    });
    client.update("Identity", &id, set.clone());
    let got = client.get_with("Identity", &id, json!({}));
    for (name, value) in set.as_object().expect("object") {
        assert_eq!(&got[name], value, "{name}");
    }
    for (name, wrong) in [
        ("name", json!(1)),
        ("replyTo", json!("x@y.test")),
        ("bcc", json!([{ "email": "no address" }])),
        ("htmlSignature", json!({})),
        ("mayDelete", json!(false)),
        ("id", json!("other")),
        ("nonsense", json!(1)),
    ] {
        let error = client.update_error("Identity", &id, json!({ name: wrong }));
        assert_eq!((&error["type"], &error["properties"]), (&json!("invalidProperties"), &json!([name])));
    }
}

#[test]
fn an_address_may_have_several_and_its_own_stays() {
    let client = Server::shared().account();
    let own = identity(&client);
    let state = client.state("Identity");
    let first = id_of(&client.create("Identity", json!({ "email": client.address, "name": "one" })));
    let second = id_of(&client.create("Identity", json!({ "email": client.address, "name": "two" })));
    let changes = client.call("Identity/changes", json!({ "sinceState": state }));
    let mut created = crate::support::jmap::strings(&changes["created"]);
    created.sort();
    let mut both = vec![first.clone(), second.clone()];
    both.sort();
    assert_eq!(created, both);
    let state = client.state("Identity");
    client.update("Identity", &first, json!({ "name": "uno" }));
    client.destroy("Identity", &second);
    let changes = client.call("Identity/changes", json!({ "sinceState": state }));
    assert_eq!((&changes["updated"], &changes["destroyed"]), (&json!([first]), &json!([second])));
    assert_eq!(client.get("Identity", &own, &["mayDelete"])["mayDelete"], false);
    let answer = client.call("Identity/set", json!({ "destroy": [own, "nobody"] }));
    assert_eq!(answer["notDestroyed"][&own]["type"], "forbidden");
    assert_eq!(answer["notDestroyed"]["nobody"]["type"], "notFound");
    assert_eq!(client.call("Identity/get", json!({ "ids": ["nobody"] }))["notFound"], json!(["nobody"]));
}

#[test]
fn what_was_made_of_an_alias_goes_with_it() {
    let server = Server::shared();
    let client = server.account();
    let alias = client.address.replace('@', "-lost@");
    server.cli(&["alias", "add", &alias, &client.address]);
    let made = id_of(&client.create("Identity", json!({ "email": alias, "name": "made" })));
    let tagged = id_of(&client.create("Identity", json!({ "email": alias.replace('@', "+tag@") })));
    let kept = id_of(&client.create("Identity", json!({ "email": client.address, "name": "kept" })));
    let email = draft(&client, &client.address.clone());
    let state = client.state("Identity");
    server.cli(&["alias", "remove", &alias]);
    let changes = client.call("Identity/changes", json!({ "sinceState": state }));
    let destroyed = crate::support::jmap::strings(&changes["destroyed"]);
    assert_eq!(destroyed.len(), 3, "{changes}");
    assert!(destroyed.contains(&made) && destroyed.contains(&tagged) && !destroyed.contains(&kept));
    let error = client.create_error("EmailSubmission", json!({ "emailId": email, "identityId": made }));
    assert_eq!((&error["type"], &error["properties"]), (&json!("invalidProperties"), &json!(["identityId"])));
}

#[test]
fn an_identity_of_an_account_that_was_revoked_cannot_send() {
    let server = Server::shared();
    let (client, other) = (server.account(), server.account());
    server.cli(&["access", "grant", &client.address, &other.address]);
    let made = eventually("an identity of the other account's address", || {
        let answer = client.call("Identity/set", json!({ "create": { "new": { "email": other.address } } }));
        answer["created"]["new"]["id"].as_str().map(str::to_owned)
    });
    let envelope =
        json!({ "mailFrom": { "email": client.address }, "rcptTo": [{ "email": client.address }] });
    let own = draft(&client, &client.address.clone());
    let submission = json!({ "emailId": own, "identityId": made, "envelope": envelope });
    client.create("EmailSubmission", submission.clone());
    server.cli(&["access", "revoke", &client.address, &other.address]);
    let error = client.create_error("EmailSubmission", submission);
    assert_eq!(error["type"], "forbiddenFrom", "{error}");
    assert_eq!(client.create_error("Identity", json!({ "email": other.address }))["type"], "forbiddenFrom");
}
