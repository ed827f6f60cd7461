//! Moving house: a server's mail goes to other engines and back, and its clients notice nothing.

use serde_json::{Value, json};

use crate::support::http::Request;
use crate::support::jmap::{Client, plain_email};
use crate::support::server::Server;
use crate::support::{eventually, stack};

/// What a client knows: ids, states, and what is in its mail.
fn seen(client: &Client) -> Value {
    let emails = client.query(json!(null));
    let got = client.call("Email/get", json!({ "ids": emails, "properties": null }));
    let mailboxes = client.call("Mailbox/get", json!({ "ids": null }));
    let list = got["list"].as_array().into_iter().flatten();
    let sizes: Vec<usize> =
        list.map(|email| client.download(email["blobId"].as_str().expect("blobId")).len()).collect();
    json!({ "emails": got["list"], "emailState": got["state"], "mailboxes": mailboxes["list"],
        "mailboxState": mailboxes["state"], "sizes": sizes })
}

/// A client of the same account on another server.
fn on(server: &Server, client: &Client) -> Client {
    server.sign_in(&client.address)
}

/// The addresses of engines in the folder of a server.
fn local(server: &Server) -> [String; 2] {
    let folder = server.folder().join("moved");
    std::fs::create_dir_all(&folder).expect("a folder");
    [format!("sqlite:{}/postrider.db", folder.display()), format!("file:{}/blobs", folder.display())]
}

/// The addresses of the engines that a server runs on.
fn own(server: &Server) -> [String; 2] {
    let data = server.data();
    let or = |name: &str, default: String| server.variable(name).map_or(default, str::to_owned);
    [
        or("POSTRIDER_DATABASE_URL", format!("sqlite:{}/postrider.db", data.display())),
        or("POSTRIDER_BLOB_URL", format!("file:{}/blobs", data.display())),
    ]
}

fn copy<'a>(from: &'a [String; 2], to: &'a [String; 2]) -> [&'a str; 9] {
    let ([database, blobs], [to, to_blobs]) = (from, to);
    ["copy", "--from", database, "--from-blobs", blobs, "--to", to, "--to-blobs", to_blobs]
}

/// A server on the engines at these addresses, on this machine alone.
fn moved(to: &[String; 2]) -> Server {
    let [database, blobs] = to;
    let builder = Server::builder().alone().without_domain();
    builder.env("POSTRIDER_DATABASE_URL", database).env("POSTRIDER_BLOB_URL", blobs).prepare()
}

fn settle(server: &Server, client: &Client, count: usize) {
    eventually("all is filed and indexed", || {
        let is_empty = server.metric("postrider_queue_messages") == Some(0.0);
        (is_empty && client.query(json!(null)).len() == count).then_some(())
    });
}

#[test]
fn clients_do_not_notice_that_their_mail_has_moved() {
    let server = Server::start();
    let client = server.account();
    let drafts = client.mailbox("drafts");
    for number in 0..30 {
        let mut email = plain_email(&drafts, &client.address, &format!("moved {number}"), "needle here");
        email["keywords"] = match number % 2 {
            0 => json!({ "$seen": true, "own-keyword": true }),
            _ => json!({ "own-keyword": true }),
        };
        let made = client.call("Email/set", json!({ "create": { "e": email } }));
        assert!(made["created"]["e"].is_object(), "{made}");
    }
    // Larger than what the database holds, and than what is read at once.
    for length in [100_000, 6_000_000] {
        let mail = format!("Subject: large {length}\r\n\r\n{}\r\n", "text line\r\n".repeat(length / 11));
        server.deliver("a@sender.test", &client.address, mail);
    }
    settle(&server, &client, 32);
    let destroyed = client.query(json!({ "body": "needle" }))[3].clone();
    client.call("Email/set", json!({ "destroy": [destroyed] }));
    let token = server.cli_json(&["token", "add", &client.address]);
    let before = seen(&client);
    let (from, to) = (own(&server), local(&server));

    if !stack::is_postgres() {
        let refused = server.try_cli(&copy(&from, &to), "");
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && told.contains("stop the server first"), "{told}");
    }
    server.terminate();
    let copied = server.cli_json(&copy(&from, &to));
    assert_eq!((&copied["areCompared"], &copied["objects"]), (&json!(true), &json!(2)), "{copied}");
    let told = server.try_cli(&copy(&from, &to), "");
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.contains("it holds mail already"), "{told}");

    let there_server = moved(&to);
    there_server.start_again();
    let there = on(&there_server, &client);
    assert_eq!(seen(&there), before);
    let changes = there.call("Email/changes", json!({ "sinceState": before["emailState"] }));
    assert_eq!((&changes["hasMoreChanges"], &changes["created"]), (&json!(false), &json!([])));
    assert_eq!(there.query(json!({ "body": "needle" })).len(), 29);
    let bearer = format!("Bearer {}", token["token"].as_str().expect("a token"));
    let session = Request::get("/.well-known/jmap").header("Authorization", &bearer);
    assert_eq!(there_server.request(session).status, 200, "tokens move as well");
    there_server.deliver("a@sender.test", &client.address, "Subject: after\r\n\r\ntext");
    settle(&there_server, &there, 32);
    let before = seen(&there);
    there_server.terminate();

    // And back, to engines such as it came from.
    let back = Server::builder().without_domain().prepare();
    let copied = back.cli_json(&copy(&to, &own(&back)));
    assert_eq!(copied["areCompared"], true, "{copied}");
    back.start_again();
    assert_eq!(seen(&on(&back, &client)), before);
}

#[test]
fn a_copy_that_was_cut_short_goes_on_and_nothing_starts_on_it_before_its_end() {
    let server = Server::start();
    let client = server.account();
    for number in 0..40 {
        // Each is an object of its own.
        let mail = format!("Subject: large {number}\r\n\r\n{}\r\n", "text line\r\n".repeat(8_000 + number));
        server.deliver("a@sender.test", &client.address, mail);
    }
    settle(&server, &client, 40);
    let before = seen(&client);
    server.terminate();
    let (from, to) = (own(&server), local(&server));
    let blobs = server.folder().join("moved").join("blobs");
    let mut child = server.spawn_cli(&copy(&from, &to));
    let objects = || std::fs::read_dir(&blobs).map_or(0, Iterator::count);
    eventually("some objects are there", || (objects() > 3).then_some(()));
    let _ = child.kill();
    let _ = child.wait();
    let half = moved(&to);
    let refused = half.try_cli(&["serve"], "");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("copy into this database was begun"), "{told}");
    let copied = server.cli_json(&copy(&from, &to));
    assert_eq!((&copied["areCompared"], &copied["objects"]), (&json!(true), &json!(40)), "{copied}");
    half.start_again();
    assert_eq!(seen(&on(&half, &client)), before);
}
