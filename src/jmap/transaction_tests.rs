//! What a call reads is one state, and what it writes is one transaction.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::task::JoinHandle;

use crate::bus::Event;
use crate::jmap::fixture::{Fixture, User};
use crate::mail::parse::parse;
use crate::store::Store;
use crate::store::db::{Conn, sql};
use crate::store::email::insert::{NewEmail, NewPlace, insert};
use crate::store::mailbox::{self, NewMailbox};
use crate::store::tx::Tx;
use crate::types::blob_id::BlobHash;
use crate::types::id::{AccountId, Id};
use crate::types::object_type::ObjectType;
use crate::types::state::State;

/// Transactions that run while the reader reads.
const WRITES: usize = 150;

/// Puts so many messages into a mailbox, in one transaction.
async fn file(store: &Store, account: AccountId, mailbox_id: Id, count: usize) {
    let parsed = parse(b"From: a@b.test\r\nSubject: Hi\r\n\r\nHello\r\n");
    let email = Arc::new(NewEmail::of(&parsed, BlobHash::of(b"x"), 1_750_000_000_000));
    let unit = async move |tx: &mut Tx| {
        let place = NewPlace { mailboxes: vec![mailbox_id], keywords: Vec::new(), is_delivery: false };
        for _ in 0..count {
            insert(tx, &email, &place).await?;
        }
        Ok(())
    };
    store.write(account, unit).await.unwrap();
}

async fn inbox_of(store: &Store, account: AccountId) -> Id {
    let mut snapshot = store.read().await.unwrap();
    mailbox::id_by_role(&mut snapshot, account, "inbox").await.unwrap().unwrap()
}

/// Files a message in one transaction after the other.
fn filing(store: Store, account: AccountId, inbox: Id) -> JoinHandle<()> {
    tokio::spawn(async move {
        for _ in 0..WRITES {
            file(&store, account, inbox, 1).await;
        }
    })
}

fn state(text: &Value) -> State {
    text.as_str().unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

fn length(list: &Value) -> i64 {
    list.as_array().unwrap_or_else(|| panic!("{list}")).len() as i64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_get_tells_the_state_of_what_it_lists() {
    let fixture = Fixture::new().await;
    let user = fixture.user("alice@example.test").await;
    let (store, account) = (fixture.jmap.store.clone(), user.caller.accounts[0].id);
    let get = async || user.call("Mailbox/get", json!({"ids": null, "properties": ["name"]})).await;
    let first = get().await;
    // Each transaction makes one mailbox, so that the state says how many there are.
    let difference = |answer: &Value| length(&answer["list"]) - state(&answer["state"]).modseq;
    let making = tokio::spawn(async move {
        for number in 0..WRITES {
            let unit = async move |tx: &mut Tx| {
                let name = format!("box {number}");
                let new = NewMailbox { parent_id: Id(0), name: &name, role: None, sort_order: 0 };
                mailbox::insert(tx, &new).await
            };
            store.write(account, unit).await.unwrap();
        }
    });
    let mut states = 0;
    while !making.is_finished() {
        let answer = get().await;
        assert_eq!(difference(&answer), difference(&first), "a state of other mailboxes than those listed");
        states += 1;
    }
    making.await.unwrap();
    assert!(states > 10, "read {states} times only");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_email_get_tells_the_state_of_what_it_lists() {
    let fixture = Fixture::new().await;
    let user = fixture.user("alice@example.test").await;
    let (store, account) = (fixture.jmap.store.clone(), user.caller.accounts[0].id);
    let inbox = inbox_of(&store, account).await;
    let get = async |method: &str| user.call(method, json!({"ids": null, "properties": ["id"]})).await;
    file(&store, account, inbox, 1).await;
    for method in ["Email/get", "Thread/get"] {
        let difference = |answer: &Value| length(&answer["list"]) - state(&answer["state"]).modseq;
        let first = get(method).await;
        let filing = filing(store.clone(), account, inbox);
        while !filing.is_finished() {
            let answer = get(method).await;
            assert_eq!(difference(&answer), difference(&first), "{method}: a state of other objects");
        }
        filing.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_takes_state_ids_and_total_from_one_state() {
    let fixture = Fixture::new().await;
    let user = fixture.user("alice@example.test").await;
    let (store, account) = (fixture.jmap.store.clone(), user.caller.accounts[0].id);
    let inbox = inbox_of(&store, account).await;
    file(&store, account, inbox, 1).await;
    let in_inbox = json!({"inMailbox": inbox.to_string()});
    for filter in [json!(null), in_inbox.clone(), json!({"minSize": 1})] {
        let query =
            async || user.call("Email/query", json!({"filter": filter, "calculateTotal": true})).await;
        let first = query().await;
        let difference = |answer: &Value| length(&answer["ids"]) - state(&answer["queryState"]).modseq;
        let filing = filing(store.clone(), account, inbox);
        while !filing.is_finished() {
            let answer = query().await;
            assert_eq!(answer["total"], json!(length(&answer["ids"])), "{filter}");
            assert_eq!(difference(&answer), difference(&first), "{filter}: a state of another list");
        }
        filing.await.unwrap();
    }
    let since = user.call("Email/query", json!({"filter": in_inbox, "limit": 1})).await["queryState"].clone();
    let total = user.call("Email/query", json!({"filter": in_inbox, "calculateTotal": true})).await["total"]
        .as_i64()
        .unwrap();
    let filing = filing(store.clone(), account, inbox);
    while !filing.is_finished() {
        let asked = json!({"filter": in_inbox, "sinceQueryState": since, "calculateTotal": true});
        let answer = user.call("Email/queryChanges", asked).await;
        let added = length(&answer["added"]);
        assert_eq!(state(&answer["newQueryState"]).modseq - state(&since).modseq, added, "{answer}");
        assert_eq!(answer["total"], json!(total + added), "a total of another state");
    }
    filing.await.unwrap();
}

/// The modseqs and types of the transactions told since the last call.
fn transactions(events: &mut Receiver<Event>) -> Vec<(i64, Vec<ObjectType>)> {
    let mut found = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let Event::Changed { modseq, types, .. } = event {
            found.push((modseq, types.to_vec()));
        }
    }
    found
}

async fn draft(user: &User<'_>, subject: &str) -> Value {
    let drafts = user.mailbox("drafts").await;
    json!({
        "mailboxIds": {drafts: true},
        "from": [{"email": "alice@example.test"}],
        "to": [{"email": "bob@remote.test"}],
        "subject": subject,
        "textBody": [{"partId": "1", "type": "text/plain"}],
        "bodyValues": {"1": {"value": "Hi"}},
    })
}

#[tokio::test]
async fn a_set_is_one_transaction_in_which_each_object_stands_alone() {
    let fixture = Fixture::new().await;
    let user = fixture.user("alice@example.test").await;
    let old = user.email(b"Subject: old\r\n\r\n", json!({})).await;
    let gone = user.email(b"Subject: gone\r\n\r\n", json!({})).await;
    let mut events = fixture.jmap.store.bus().subscribe();
    let answer = user
        .call(
            "Email/set",
            json!({
                "create": {
                    "a": draft(&user, "a").await,
                    "wrong": {"mailboxIds": {"aaaaaaaaaaaaa": true}, "subject": "x"},
                    "b": draft(&user, "b").await,
                },
                "update": {
                    &old: {"keywords/$seen": true},
                    "aaaaaaaaaaaab": {"keywords/$seen": true},
                },
                "destroy": [gone, "aaaaaaaaaaaac"],
            }),
        )
        .await;
    assert_eq!(answer["created"].as_object().unwrap().len(), 2, "{answer}");
    assert_eq!(answer["notCreated"].as_object().unwrap().len(), 1);
    assert_eq!(answer["updated"].as_object().unwrap().len(), 1);
    assert_eq!(answer["destroyed"], json!([gone]));
    let told = transactions(&mut events);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(state(&answer["newState"]).modseq, told[0].0, "the state that it was told");
}

#[tokio::test]
async fn a_submission_and_what_it_does_to_its_email_are_one_transaction() {
    let fixture = Fixture::new().await;
    let user = fixture.user("alice@example.test").await;
    let identity = user.call("Identity/get", json!({})).await["list"][0]["id"].clone();
    let email = user.call("Email/set", json!({"create": {"e": draft(&user, "Hi").await}})).await["created"]["e"]
        ["id"]
        .clone();
    let sent = user.mailbox("sent").await;
    let mut events = fixture.jmap.store.bus().subscribe();
    let answers = user
        .request(json!([["EmailSubmission/set", {
            "accountId": user.account(),
            "create": {"s": {"identityId": identity, "emailId": email}},
            "onSuccessUpdateEmail": {"#s": {"mailboxIds": {sent: true}, "keywords/$draft": null}},
        }, "0"]]))
        .await;
    assert!(answers[0][1]["created"]["s"]["id"].is_string(), "{answers:?}");
    assert!(answers[1][1]["updated"].is_object(), "{answers:?}");
    let told = transactions(&mut events);
    assert_eq!(told.len(), 1, "a crash between the two would send a draft that stays one: {told:?}");
    for object_type in [ObjectType::Email, ObjectType::EmailSubmission] {
        assert!(told[0].1.contains(&object_type), "{told:?}");
    }
    assert_eq!(state(&answers[0][1]["newState"]), state(&answers[1][1]["newState"]));
}

#[tokio::test]
async fn a_large_mailbox_is_emptied_by_the_thousand_and_goes_last() {
    let fixture = Fixture::new().await;
    let user = fixture.user("alice@example.test").await;
    let (store, account) = (fixture.jmap.store.clone(), user.caller.accounts[0].id);
    let answer = user.call("Mailbox/set", json!({"create": {"m": {"name": "Old"}}})).await;
    let old = answer["created"]["m"]["id"].as_str().unwrap().to_owned();
    file(&store, account, old.parse().unwrap(), 2_100).await;
    let mut events = store.bus().subscribe();
    let destroy = json!({"destroy": [old], "onDestroyRemoveEmails": true});
    let answer = user.call("Mailbox/set", destroy).await;
    assert_eq!(answer["destroyed"], json!([old]), "{answer}");
    let told = transactions(&mut events);
    assert!(told.len() >= 3, "one transaction held the account for all of it: {told:?}");
    let asked = json!({"sinceState": answer["oldState"]});
    let changes = user.call("Mailbox/changes", asked).await;
    assert_eq!(changes["destroyed"], json!([old]));
    let left = user.call("Email/query", json!({"calculateTotal": true})).await;
    assert_eq!(left["total"], json!(0));
    let mut snapshot = store.read().await.unwrap();
    let largest = largest_transaction(&mut snapshot, account).await;
    assert!(largest <= 1_000, "{largest} Emails in one transaction");
    let gone = destroyed_in(&mut snapshot, account, ObjectType::Mailbox).await;
    assert_eq!(gone, [told[told.len() - 1].0], "until its mail has gone it is there");
}

/// The transactions that destroyed an object of a type.
async fn destroyed_in(conn: &mut Conn, account: AccountId, object_type: ObjectType) -> Vec<i64> {
    sql("select modseq from change where account_id = $1 and type = $2 and kind = 3 order by modseq")
        .bind(account)
        .bind(object_type.number())
        .column(conn)
        .await
        .unwrap()
}

/// How many Emails one transaction destroyed at the most.
async fn largest_transaction(conn: &mut Conn, account: AccountId) -> i64 {
    sql("select count(*) from change where account_id = $1 and type = $2 and kind = 3 \
         group by modseq order by 1 desc limit 1")
    .bind(account)
    .bind(ObjectType::Email.number())
    .value(conn)
    .await
    .unwrap()
    .unwrap_or(0)
}

#[tokio::test]
async fn changes_of_a_query_are_told_up_to_a_thousand() {
    let fixture = Fixture::new().await;
    let user = fixture.user("alice@example.test").await;
    let (store, account) = (fixture.jmap.store.clone(), user.caller.accounts[0].id);
    let inbox = inbox_of(&store, account).await;
    let since = user.call("Email/query", json!({"limit": 1})).await["queryState"].clone();
    file(&store, account, inbox, 1_000).await;
    let asked = json!({"sinceQueryState": since});
    let answer = user.call("Email/queryChanges", asked.clone()).await;
    assert_eq!(length(&answer["added"]), 1_000);
    file(&store, account, inbox, 1).await;
    assert_eq!(user.call("Email/queryChanges", asked).await["type"], "tooManyChanges");
}

#[tokio::test]
async fn threads_never_merge() {
    let fixture = Fixture::new().await;
    let user = fixture.user("alice@example.test").await;
    let thread = async |text: &str| {
        let email = user.email(text.as_bytes(), json!({})).await;
        let got = user.call("Email/get", json!({"ids": [email], "properties": ["threadId"]})).await;
        got["list"][0]["threadId"].as_str().unwrap().to_owned()
    };
    let first = thread("Message-ID: <1@x>\r\nSubject: Dinner\r\n\r\n").await;
    let second = thread("Message-ID: <2@x>\r\nSubject: Dinner\r\n\r\n").await;
    assert_ne!(first, second);
    let both =
        "Message-ID: <3@x>\r\nIn-Reply-To: <2@x>\r\nReferences: <1@x> <2@x>\r\nSubject: Re: Dinner\r\n\r\n";
    assert_eq!(thread(both).await, second, "the first that matches");
    let answer = thread("Message-ID: <4@x>\r\nIn-Reply-To: <1@x>\r\nSubject: Re: Dinner\r\n\r\n").await;
    assert_eq!(answer, first, "what came apart stays apart");
}
