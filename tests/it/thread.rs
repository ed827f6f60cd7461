//! RFC 8621, section 3: Threads.

use serde_json::{Value, json};

use crate::support::jmap::{Client, id_of, plain_email, strings};
use crate::support::server::Server;

/// A mail that refers to others, received at an hour of one day; its id and its Thread's.
fn mail(client: &Client, subject: &str, references: &[&str], hour: u32) -> (String, String) {
    let mut email = plain_email(&client.mailbox("inbox"), &client.address, subject, "text");
    email["receivedAt"] = json!(format!("2025-03-01T{hour:02}:00:00Z"));
    if !references.is_empty() {
        email["references"] = json!(references);
    }
    let made = client.create("Email", email);
    (id_of(&made), made["threadId"].as_str().expect("threadId").to_owned())
}

fn emails_of(client: &Client, thread: &str) -> Vec<String> {
    strings(&client.get("Thread", thread, &["emailIds"])["emailIds"])
}

#[test]
fn emails_are_listed_oldest_first() {
    let client = Server::shared().account();
    let (noon, thread) = mail(&client, "plan", &["root@x.test"], 12);
    let (night, other) = mail(&client, "Re: plan", &["root@x.test"], 23);
    let (dawn, _) = mail(&client, "plan", &["root@x.test"], 4);
    assert_eq!(thread, other);
    let (same, _) = mail(&client, "plan", &["root@x.test"], 12);
    let mut at_noon = [noon, same];
    // Ids count in base32, in which the digits come after the letters.
    at_noon.sort_by_key(|id| id.bytes().map(|byte| (byte.is_ascii_digit(), byte)).collect::<Vec<_>>());
    let [first, second] = at_noon;
    let wanted = [dawn, first, second, night];
    for _ in 0..3 {
        assert_eq!(emails_of(&client, &thread), wanted, "of the same date: by id, always the same");
    }
    for id in &wanted {
        assert_eq!(client.get("Email", id, &["threadId"])["threadId"], json!(thread));
    }
}

#[test]
fn a_single_email_has_a_thread_too() {
    let client = Server::shared().account();
    let (id, thread) = mail(&client, "alone", &[], 1);
    let answer = client.call("Thread/get", json!({ "ids": [thread, "nobody", thread] }));
    assert_eq!(answer["list"], json!([{ "id": thread, "emailIds": [id] }]));
    assert_eq!(answer["notFound"], json!(["nobody"]));
    let all = client.call("Thread/get", json!({ "ids": null }));
    assert_eq!(all["list"], answer["list"]);
    let bare = client.call("Thread/get", json!({ "ids": [thread], "properties": ["id"] }));
    assert_eq!(bare["list"], json!([{ "id": thread }]));
    let error = client.error("Thread/get", json!({ "ids": [thread], "properties": ["emails"] }));
    assert_eq!(error, "invalidArguments");
}

#[test]
fn changes_tell_threads_that_come_grow_and_go() {
    let client = Server::shared().account();
    let (first, grown) = mail(&client, "grown", &["grown@x.test"], 1);
    let (only, gone) = mail(&client, "gone", &["gone@x.test"], 1);
    let state = client.state("Thread");
    let (second, again) = mail(&client, "Re: grown", &["grown@x.test"], 2);
    assert_eq!(again, grown);
    let (_, new) = mail(&client, "new", &["new@x.test"], 3);
    client.destroy("Email", &only);
    let changes = client.call("Thread/changes", json!({ "sinceState": state }));
    assert_eq!(
        (&changes["created"], &changes["updated"], &changes["destroyed"]),
        (&json!([new]), &json!([grown]), &json!([gone])),
        "{changes}"
    );
    assert_eq!(changes["newState"], json!(client.state("Thread")));
    assert_eq!(client.call("Thread/get", json!({ "ids": [gone] }))["notFound"], json!([gone]));
    client.destroy("Email", &first);
    assert_eq!(emails_of(&client, &grown), [second.clone()]);
    // A flag is no matter of the Thread.
    let state = client.state("Thread");
    client.update("Email", &second, json!({ "keywords/$seen": true }));
    let changes = client.call("Thread/changes", json!({ "sinceState": state }));
    assert_eq!((&changes["updated"], &changes["hasMoreChanges"]), (&json!([]), &json!(false)));
    assert_eq!(client.error("Thread/changes", json!({ "sinceState": "x" })), "cannotCalculateChanges");
}

/// RFC 8621, 3: `threadId` is immutable; a server that joined two Threads would have to make the
/// Emails anew.
#[test]
fn threads_that_turn_out_to_belong_together_stay_as_they_are() {
    let client = Server::shared().account();
    let (one, thread_one) = mail(&client, "story", &["one@x.test"], 1);
    let (two, thread_two) = mail(&client, "story", &["two@x.test"], 2);
    assert_ne!(thread_one, thread_two);
    let (bridge, thread) = mail(&client, "Re: story", &["one@x.test", "two@x.test"], 3);
    assert!([&thread_one, &thread_two].contains(&&thread));
    for (id, thread) in [(&one, &thread_one), (&two, &thread_two), (&bridge, &thread)] {
        assert_eq!(client.get("Email", id, &["threadId"])["threadId"], json!(thread));
    }
    let error = client.update_error("Email", &one, json!({ "threadId": thread_two }));
    assert_eq!(error["properties"], json!(["threadId"]));
}

#[test]
fn subjects_and_ids_decide_together() {
    let client = Server::shared().account();
    let (_, thread) = mail(&client, "Quarterly  report", &["base@x.test"], 1);
    for subject in
        ["Re: Quarterly report", "Fwd: quarterly report", "[list] RE: [list] Quarterly report (fwd)"]
    {
        assert_eq!(mail(&client, subject, &["base@x.test"], 2).1, thread, "{subject}");
        assert_ne!(mail(&client, subject, &[], 2).1, thread, "{subject}, but no common id");
    }
    for subject in ["Quarterly report 2", "Report", ""] {
        assert_ne!(mail(&client, subject, &["base@x.test"], 2).1, thread, "{subject:?}");
    }
    // The Message-ID of one, the In-Reply-To of the other.
    let mut root = plain_email(&client.mailbox("inbox"), &client.address, "asked", "?");
    root["messageId"] = json!(["asked@x.test"]);
    let root = client.create("Email", root);
    let mut answer = plain_email(&client.mailbox("sent"), &client.address, "Re: asked", "!");
    answer["inReplyTo"] = json!(["asked@x.test"]);
    assert_eq!(client.create("Email", answer)["threadId"], root["threadId"]);
    assert_ne!(root["threadId"], Value::Null);
}
