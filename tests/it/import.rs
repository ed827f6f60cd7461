//! `postrider import`: old mail is brought along once, whatever happens meanwhile.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::server::Server;

fn write(path: &Path, text: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    fs::write(path, text).expect("written");
}

/// Runs the import; what it says, which is a success when nothing was broken.
fn import(server: &Server, address: &str, path: &Path, more: &[&str]) -> Value {
    let path = path.to_string_lossy();
    let arguments = [&["import", address, &path, "--json"], more].concat();
    let output = server.try_cli(&arguments, "");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(output.status.success(), summary["brokenCount"] == 0, "{output:?}");
    summary
}

#[test]
fn a_maildir_keeps_its_folders_flags_and_times() {
    let server = Server::shared();
    let client = server.account_named("maildir");
    let folder = server.folder().join("maildir");
    write(
        &folder.join("cur/1:2,FS"),
        "Received: from a by b; Thu, 10 Nov 2005 12:00:00 +0000\nDate: Wed, 9 Nov 2005 12:00:00 +0000\n\
         Subject: flagged one\n\nbody\n",
    );
    write(&folder.join("new/2"), "Subject: new one\nDate: Fri, 11 Nov 2005 12:00:00 +0000\n\nzebra\n");
    write(&folder.join(".Entw&APw-rfe.Alt/cur/3:2,RS"), "Subject: deep one\n\nbody\n");
    write(&folder.join(".Entw&APw-rfe.Alt/new/.keep"), "");
    write(&folder.join("cur/4:2,"), "\nthis is no message\n");
    let summary = import(server, &client.address, &folder, &[]);
    assert_eq!((&summary["imported"], &summary["brokenCount"]), (&json!(3), &json!(1)));
    assert!(summary["broken"][0]["place"].as_str().is_some_and(|place| place.ends_with("cur/4:2,")));

    // What was imported is found by the very next text query.
    let new = client.query(json!({ "text": "zebra", "inMailbox": client.mailbox("inbox") }));
    let new = client.get("Email", new.first().expect("found"), &["keywords", "receivedAt"]);
    assert_eq!((&new["keywords"], &new["receivedAt"]), (&json!({}), &json!("2005-11-11T12:00:00Z")));
    let flagged = client.query(json!({ "hasKeyword": "$flagged" }));
    let flagged = client.get("Email", flagged.first().expect("found"), &["keywords", "receivedAt", "size"]);
    assert_eq!(flagged["keywords"], json!({ "$flagged": true, "$seen": true }));
    assert_eq!(flagged["receivedAt"], "2005-11-10T12:00:00Z");
    let mailboxes = client.call("Mailbox/get", json!({ "ids": null }))["list"].clone();
    let named = |name: &str| {
        let mut list = mailboxes.as_array().expect("a list").iter();
        list.find(|mailbox| mailbox["name"] == name).unwrap_or_else(|| panic!("no {name}: {mailboxes}"))
    };
    assert_eq!(named("Alt")["parentId"], named("Entwürfe")["id"]);
    assert_eq!((&named("Alt")["totalEmails"], &named("Alt")["unreadEmails"]), (&json!(1), &json!(0)));

    let again = import(server, &client.address, &folder, &[]);
    assert_eq!((&again["imported"], &again["alreadyThere"]), (&json!(0), &json!(3)));
}

#[test]
fn what_the_user_has_destroyed_does_not_come_back() {
    let server = Server::shared();
    let client = server.account_named("destroyed");
    let file = server.folder().join("one.eml");
    write(&file, "Subject: once\n\nbody\n");
    assert_eq!(import(server, &client.address, &file, &["--mailbox", "Old/2005", "--seen"])["imported"], 1);
    let id = client.wait_for_subject("once");
    assert_eq!(client.get("Email", &id, &["keywords"])["keywords"], json!({ "$seen": true }));
    client.destroy("Email", &id);
    assert_eq!(import(server, &client.address, &file, &["--mailbox", "Old/2005"])["alreadyThere"], 1);
    assert_eq!(client.query(json!({})).len(), 0);
}

#[test]
fn an_import_goes_on_after_the_server_was_killed() {
    const MESSAGES: usize = 2_000;
    let server = Server::start();
    let client = server.account();
    let file = server.folder().join("archive.mbox");
    let mut mbox = String::new();
    for number in 0..MESSAGES {
        mbox.push_str(&format!(
            "From a@b.test Thu Nov 10 12:00:00 2005\nSubject: message {number}\nX-Gmail-Labels: x\n\n\
             >From the start, {number}\n\n"
        ));
    }
    write(&file, mbox);
    let path = file.to_string_lossy().into_owned();
    let address = client.address.clone();
    let count = || client.query(json!({})).len();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| server.try_cli(&["import", &address, &path], ""));
        while count() == 0 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        server.kill();
        let output = running.join().expect("the command ended");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    });
    server.restart();
    assert!(count() < MESSAGES, "the server was killed too late to prove anything");
    let summary = import(&server, &address, &file, &[]);
    let number = |name: &str| summary[name].as_u64().expect("a number");
    assert_eq!(number("imported") + number("alreadyThere"), MESSAGES as u64);
    assert!(number("alreadyThere") > 0, "{summary}");
    let mailboxes = client.call("Mailbox/get", json!({ "ids": null }))["list"].clone();
    let archive = mailboxes.as_array().expect("a list").iter().find(|mailbox| mailbox["role"] == "archive");
    assert_eq!(archive.expect("the archive")["totalEmails"], MESSAGES);
    // Without a server the command does it itself, to the same end.
    server.terminate();
    assert_eq!(import(&server, &address, &file, &[])["alreadyThere"], MESSAGES);
}
