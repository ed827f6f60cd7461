//! Live queries over a WebSocket: whoever follows the messages has the list that a query would give.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::jmap::{Client, plain_email, strings};
use crate::support::server::Server;
use crate::support::websocket::Socket;

const PROPERTIES: [&str; 4] = ["id", "subject", "keywords", "mailboxIds"];

pub(crate) fn subscribe(socket: &mut Socket, id: &str, account: &str, filter: &Value, more: &Value) {
    let mut message = json!({
        "@type": "LiveQuery", "id": id, "accountId": account, "filter": filter, "properties": PROPERTIES,
    });
    message.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
    socket.say(&message);
}

/// What a client does with a message.
pub(crate) fn follow(list: &mut Vec<Value>, message: &Value) {
    let removed: HashSet<String> = strings(&message["removed"]).into_iter().collect();
    list.retain(|email| !removed.contains(email["id"].as_str().expect("id")));
    for added in message["added"].as_array().expect("added") {
        let index = added["index"].as_u64().expect("index") as usize;
        assert!(index <= list.len(), "{message}");
        list.insert(index, added["email"].clone());
    }
    for updated in message["updated"].as_array().expect("updated") {
        *list.iter_mut().find(|email| email["id"] == updated["id"]).expect("in the list") = updated.clone();
    }
}

/// The list by a query of its own.
pub(crate) fn fresh(client: &Client, filter: &Value, more: &Value) -> Vec<Value> {
    let mut query = json!({
        "accountId": client.account, "filter": filter,
        "sort": [{ "property": "receivedAt", "isAscending": false }],
    });
    query.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
    let ids = client.call("Email/query", query)["ids"].clone();
    let got = client
        .call("Email/get", json!({ "accountId": client.account, "ids": ids, "properties": PROPERTIES }));
    got["list"].as_array().expect("list").clone()
}

#[test]
fn the_list_comes_first_and_then_what_changes_in_it() {
    let server = Server::shared();
    let client = server.account();
    let inbox = client.mailbox("inbox");
    let first = client.create_email(&inbox, "first", "x");
    let mut socket = Socket::open(server, &client);
    subscribe(&mut socket, "list", &client.account, &json!({ "inMailbox": inbox }), &json!({ "limit": 2 }));
    let told = socket.hear().expect("open");
    assert_eq!((&told["@type"], &told["id"]), (&json!("LiveQueryChanges"), &json!("list")));
    assert_eq!((&told["removed"], &told["updated"]), (&json!([]), &json!([])));
    assert_eq!(told["added"][0]["email"]["subject"], "first");
    // Mail that comes in is there with its subject, without a question.
    server.deliver(
        "a@sender.test",
        &client.address,
        crate::support::message::text("a@sender.test", &client.address, "second", "x"),
    );
    let told = socket.hear().expect("open");
    assert_eq!(
        (&told["added"][0]["index"], &told["added"][0]["email"]["subject"]),
        (&json!(0), &json!("second"))
    );
    client.update("Email", &first, json!({ "keywords/$flagged": true }));
    let told = socket.hear().expect("open");
    assert_eq!((&told["added"], &told["removed"]), (&json!([]), &json!([])));
    assert_eq!(told["updated"][0]["keywords"], json!({ "$flagged": true }));
    // The window holds two: the oldest leaves when another comes.
    client.create_email(&inbox, "third", "x");
    let told = socket.hear().expect("open");
    assert_eq!((&told["removed"], &told["added"][0]["email"]["subject"]), (&json!([first]), &json!("third")));
    // What happens elsewhere is not told, nor anything after the end.
    client.create_email(&client.mailbox("archive"), "elsewhere", "x");
    socket.say(&json!({ "@type": "LiveQueryCancel", "id": "list" }));
    socket.call("Core/echo", &json!({}));
    client.create_email(&inbox, "fourth", "x");
    assert_eq!(socket.pushed_within(Duration::from_millis(500)), None);
}

#[test]
fn what_cannot_be_live_is_refused_for_its_query() {
    let server = Server::shared();
    let (client, other) = (server.account(), server.account());
    let inbox = client.mailbox("inbox");
    let mut socket = Socket::open(server, &client);
    let account = &client.account;
    let mut error_of = |account: &str, filter: Value, more: Value| {
        subscribe(&mut socket, "q", account, &filter, &more);
        let told = socket.hear().expect("open");
        assert_eq!((&told["@type"], &told["id"]), (&json!("LiveQueryError"), &json!("q")), "{told}");
        told["type"].as_str().expect("a type").to_owned()
    };
    let in_inbox = json!({ "inMailbox": inbox });
    assert_eq!(error_of(account, json!({ "text": "x" }), json!({})), "unsupportedFilter");
    assert_eq!(error_of(account, json!({ "inMailbox": inbox, "from": "x" }), json!({})), "unsupportedFilter");
    assert_eq!(error_of(account, in_inbox.clone(), json!({ "limit": 201 })), "invalidArguments");
    assert_eq!(
        error_of(account, in_inbox.clone(), json!({ "sort": [{ "property": "size" }] })),
        "unsupportedSort"
    );
    assert_eq!(error_of(account, in_inbox.clone(), json!({ "properties": ["nothing"] })), "invalidArguments");
    assert_eq!(error_of(&other.account, in_inbox.clone(), json!({})), "accountNotFound");
    // Eight of them, and no ninth.
    for number in 0..8 {
        subscribe(&mut socket, &format!("q{number}"), account, &in_inbox, &json!({}));
    }
    subscribe(&mut socket, "q8", account, &in_inbox, &json!({}));
    let told: Vec<Value> = (0..9).map(|_| socket.hear().expect("open")).collect();
    let errors: Vec<&Value> = told.iter().filter(|told| told["@type"] == "LiveQueryError").collect();
    assert_eq!(errors.len(), 1, "{told:?}");
    assert_eq!((&errors[0]["id"], &errors[0]["type"]), (&json!("q8"), &json!("limit")));
}

/// Whatever is done to an account, the lists come to be what fresh queries give.
#[test]
fn lists_follow_whatever_is_done_to_the_account() {
    let server = Server::shared();
    let client = server.account();
    let boxes = [client.mailbox("inbox"), client.mailbox("archive")];
    let queries: Vec<(Value, Value)> = vec![
        (json!({ "inMailbox": boxes[0] }), json!({ "limit": 5 })),
        (json!({ "inMailbox": boxes[0] }), json!({ "limit": 200, "collapseThreads": true })),
        (json!({ "inMailbox": boxes[0], "notKeyword": "$seen" }), json!({ "limit": 8 })),
        (json!({ "inMailbox": boxes[1], "hasKeyword": "$flagged" }), json!({})),
    ];
    let mut socket = Socket::open(server, &client);
    for (number, (filter, more)) in queries.iter().enumerate() {
        subscribe(&mut socket, &number.to_string(), &client.account, filter, more);
    }
    let mut lists: Vec<Option<Vec<Value>>> = vec![None; queries.len()];
    let mut ids: Vec<String> = Vec::new();
    for round in 0..6 {
        for _ in 0..15 {
            let any = |ids: &[String]| ids[rand::random_range(0..ids.len())].clone();
            match rand::random_range(0..10) {
                0..4 => {
                    let target = &boxes[rand::random_range(0..2)];
                    let mut email =
                        plain_email(target, "a@b.test", &format!("s{}", rand::random_range(0..4)), "x");
                    // Answers, of which threads are made; and mail that is older than what is there.
                    email["messageId"] = json!([format!("m{}@x", ids.len())]);
                    if !ids.is_empty() && rand::random_bool(0.5) {
                        email["references"] = json!([format!("m{}@x", rand::random_range(0..ids.len()))]);
                    }
                    let second = rand::random_range(10..60);
                    email["receivedAt"] = json!(format!("2025-01-01T10:00:{second}Z"));
                    ids.push(client.create("Email", email)["id"].as_str().expect("id").to_owned());
                }
                _ if ids.is_empty() => {}
                4 => {
                    let id = ids.swap_remove(rand::random_range(0..ids.len()));
                    client.destroy("Email", &id);
                }
                5 => {
                    let place = rand::random_range(0..2);
                    client.update("Email", &any(&ids), json!({ "mailboxIds": { &boxes[place]: true } }));
                }
                6 => {
                    client.update("Email", &any(&ids), json!({ "keywords/red": true }));
                }
                number => {
                    let keyword = if number < 9 { "keywords/$seen" } else { "keywords/$flagged" };
                    let value = if rand::random_bool(0.6) { json!(true) } else { Value::Null };
                    client.update("Email", &any(&ids), json!({ keyword: value }));
                }
            }
        }
        // Whatever comes until the lists are right; patience is the test's.
        let wanted: Vec<Option<Vec<Value>>> =
            queries.iter().map(|(filter, more)| Some(fresh(&client, filter, more))).collect();
        while lists != wanted {
            let message = socket.hear().unwrap_or_else(|code| panic!("round {round}: closed with {code}"));
            assert_eq!(message["@type"], "LiveQueryChanges", "{message}");
            let number: usize = message["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
            follow(lists[number].get_or_insert_default(), &message);
        }
    }
    assert_eq!(socket.pushed_within(Duration::from_millis(300)), None, "nothing is told twice");
}
