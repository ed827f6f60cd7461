//! Submissions from the request to the queue.

use serde_json::{Value, json};

use crate::jmap::fixture::{Fixture, User};
use crate::store::queue::claim::LEASE_MS;
use crate::store::queue::outgoing::{self, OutgoingRow};
use crate::store::submission::{Delivered, record_results};
use crate::store::tx::Tx;
use crate::types::address::Address;
use crate::types::id::{AccountId, Id};

/// A user with a draft.
struct Sender<'a> {
    user: User<'a>,
    identity: String,
    drafts: String,
    sent: String,
}

impl<'a> Sender<'a> {
    async fn new(fixture: &'a Fixture) -> Sender<'a> {
        let user = fixture.user("alice@example.test").await;
        let got = user.call("Identity/get", json!({})).await;
        let identity = got["list"][0]["id"].as_str().unwrap().to_owned();
        let got = user.call("Mailbox/get", json!({"properties": ["role"]})).await;
        let role = |role: &str| {
            let mailboxes = got["list"].as_array().unwrap();
            let found = mailboxes.iter().find(|mailbox| mailbox["role"] == role).unwrap();
            found["id"].as_str().unwrap().to_owned()
        };
        let (drafts, sent) = (role("drafts"), role("sent"));
        Sender { user, identity, drafts, sent }
    }

    fn email(&self, changes: Value) -> Value {
        let mut email = json!({
            "mailboxIds": {&self.drafts: true},
            "keywords": {"$draft": true, "$seen": true},
            "from": [{"name": "Alice", "email": "alice@example.test"}],
            "to": [{"email": "bob@remote.test"}],
            "cc": [{"email": "carol@other.test"}, {"email": "BOB@remote.test"}],
            "bcc": [{"email": "secret@remote.test"}],
            "subject": "Hello",
            "textBody": [{"partId": "1", "type": "text/plain"}],
            "bodyValues": {"1": {"value": "Hi"}},
        });
        email.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        email
    }

    async fn draft(&self, changes: Value) -> String {
        let set = self.user.call("Email/set", json!({"create": {"e": self.email(changes)}})).await;
        set["created"]["e"]["id"].as_str().unwrap_or_else(|| panic!("{set}")).to_owned()
    }

    /// Submits with these properties changed; the whole response.
    async fn submit(&self, email: &str, changes: Value) -> Value {
        let mut submission = json!({"identityId": self.identity, "emailId": email});
        submission.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        self.user.call("EmailSubmission/set", json!({"create": {"s": submission}})).await
    }

    async fn created(&self, email: &str, changes: Value) -> Value {
        let set = self.submit(email, changes).await;
        assert!(set["created"]["s"]["id"].is_string(), "{set}");
        set["created"]["s"].clone()
    }

    async fn refused(&self, email: &str, changes: Value) -> Value {
        let set = self.submit(email, changes).await;
        assert_eq!(set["oldState"], set["newState"]);
        set["notCreated"]["s"].clone()
    }

    async fn get(&self, id: &Value) -> Value {
        self.user.call("EmailSubmission/get", json!({"ids": [id]})).await["list"][0].clone()
    }

    fn account(&self) -> AccountId {
        self.user.caller.accounts[0].id
    }

    /// The rows that are due, claimed as a worker does.
    async fn due(&self) -> Vec<OutgoingRow> {
        let store = &self.user.fixture.jmap.store;
        let mut rows = Vec::new();
        for lane in 0..crate::store::queue::LANES {
            rows.extend(outgoing::claim(store, lane, 100, LEASE_MS).await.unwrap());
        }
        rows.sort_by(|a, b| a.domain.cmp(&b.domain));
        rows
    }

    async fn sent(&self, row: &OutgoingRow) -> String {
        let blobs = &self.user.fixture.jmap.blobs;
        let raw = blobs.read(row.account, &row.body_hash).await.unwrap().expect("the row keeps its message");
        String::from_utf8_lossy(&raw).into_owned()
    }
}

fn addresses(row: &OutgoingRow) -> Vec<&str> {
    row.recipients.iter().map(|recipient| recipient.address.as_str()).collect()
}

#[tokio::test]
async fn a_draft_is_sent_and_moved_in_one_request() {
    let fixture = Fixture::new().await;
    let alice = Sender::new(&fixture).await;
    let account = alice.user.account();
    let responses = alice
        .user
        .request(json!([
            ["Email/set", {"accountId": account, "create": {"e": alice.email(json!({}))}}, "a"],
            ["EmailSubmission/set", {
                "accountId": account,
                "create": {"s": {"identityId": alice.identity, "emailId": "#e", "envelope": null}},
                "onSuccessUpdateEmail": {"#s": {
                    format!("mailboxIds/{}", alice.drafts): null,
                    format!("mailboxIds/{}", alice.sent): true,
                    "keywords/$draft": null,
                }},
            }, "b"],
            ["EmailSubmission/get", {"accountId": account, "ids": ["#s"]}, "c"],
            ["Email/get", {"accountId": account, "ids": ["#e"], "properties": ["mailboxIds", "keywords", "threadId"]}, "d"],
        ]))
        .await;
    let names: Vec<_> = responses.iter().map(|response| (response[0].clone(), response[2].clone())).collect();
    assert_eq!(
        json!(names),
        json!([
            ["Email/set", "a"],
            ["EmailSubmission/set", "b"],
            ["Email/set", "b"],
            ["EmailSubmission/get", "c"],
            ["Email/get", "d"]
        ])
    );
    let email = responses[0][1]["created"]["e"]["id"].as_str().unwrap();
    assert_eq!(responses[2][1]["updated"], json!({email: null}));
    let moved = &responses[4][1]["list"][0];
    assert_eq!(moved["mailboxIds"], json!({&alice.sent: true}));
    assert_eq!(moved["keywords"], json!({"$seen": true}));

    let created = &responses[1][1]["created"]["s"];
    let envelope = json!({
        "mailFrom": {"email": "alice@example.test", "parameters": null},
        "rcptTo": [
            {"email": "bob@remote.test", "parameters": null},
            {"email": "carol@other.test", "parameters": null},
            {"email": "secret@remote.test", "parameters": null},
        ],
    });
    assert_eq!(created["envelope"], envelope);
    let queued = json!({"smtpReply": "250 2.0.0 Queued", "delivered": "queued", "displayed": "unknown"});
    let mut expected = json!({
        "id": created["id"], "identityId": alice.identity, "emailId": email, "threadId": moved["threadId"],
        "envelope": envelope, "sendAt": "2025-06-15T15:06:40Z", "undoStatus": "pending",
        "deliveryStatus": {"bob@remote.test": queued, "carol@other.test": queued, "secret@remote.test": queued},
        "dsnBlobIds": [], "mdnBlobIds": [],
    });
    assert_eq!(responses[3][1]["list"][0], expected);
    for given in ["identityId", "emailId"] {
        expected.as_object_mut().unwrap().shift_remove(given);
    }
    assert_eq!(*created, expected, "all that the server set is told");

    let rows = alice.due().await;
    assert_eq!(rows.iter().map(|row| row.domain.as_str()).collect::<Vec<_>>(), ["other.test", "remote.test"]);
    assert_eq!(addresses(&rows[1]), ["bob@remote.test", "secret@remote.test"]);
    for row in &rows {
        assert_eq!(json!(row.submission), created["id"]);
        assert_eq!(row.envelope.mail_from, "alice@example.test");
        assert_eq!(json!(row.envelope.env_id), created["id"]);
        assert!(!row.envelope.smtputf8 && !row.envelope.body_8bit);
        let message = alice.sent(row).await;
        assert!(message.contains("Subject: Hello\r\n") && !message.contains("secret"), "{message}");
        assert_eq!(row.size, message.len() as i64);
    }
}

#[tokio::test]
async fn the_message_outlives_its_email_and_its_record() {
    let fixture = Fixture::new().await;
    let alice = Sender::new(&fixture).await;
    let email = alice.draft(json!({})).await;
    let account = alice.user.account();
    let responses = alice
        .user
        .request(json!([["EmailSubmission/set", {
            "accountId": account,
            "create": {"s": {"identityId": alice.identity, "emailId": email}},
            "onSuccessDestroyEmail": ["#s"],
        }, "0"]]))
        .await;
    assert_eq!(responses[1][0], "Email/set");
    assert_eq!(responses[1][1]["destroyed"], json!([email]));
    let id = responses[0][1]["created"]["s"]["id"].clone();
    assert_eq!(alice.get(&id).await["emailId"], json!(email));
    let set = alice.user.call("EmailSubmission/set", json!({"destroy": [id, id, "x"]})).await;
    assert_eq!(set["destroyed"], json!([id]));
    assert_eq!(set["notDestroyed"]["x"]["type"], "notFound");
    let changes = alice.user.call("EmailSubmission/changes", json!({"sinceState": set["oldState"]})).await;
    assert_eq!(changes["destroyed"], json!([id]));
    let rows = alice.due().await;
    assert_eq!(rows.len(), 2);
    assert!(alice.sent(&rows[0]).await.contains("Subject: Hello"));
}

#[tokio::test]
async fn nothing_is_done_to_emails_of_submissions_that_failed() {
    let fixture = Fixture::new().await;
    let alice = Sender::new(&fixture).await;
    let email = alice.draft(json!({"from": [{"email": "bob@example.test"}]})).await;
    let responses = alice
        .user
        .request(json!([["EmailSubmission/set", {
            "accountId": alice.user.account(),
            "create": {"s": {"identityId": alice.identity, "emailId": email}},
            "onSuccessDestroyEmail": ["#s", "x"],
            "onSuccessUpdateEmail": {"#s": {"keywords/$draft": null}},
        }, "0"]]))
        .await;
    assert_eq!(responses.len(), 1, "{responses:?}");
    assert_eq!(responses[0][1]["notCreated"]["s"]["type"], "forbiddenFrom");
    assert_eq!(alice.user.call("Email/get", json!({"ids": [email]})).await["notFound"], json!([]));
    assert!(alice.due().await.is_empty());
}

#[tokio::test]
async fn held_mail_can_be_taken_back() {
    let fixture = Fixture::new().await;
    let alice = Sender::new(&fixture).await;
    let email = alice.draft(json!({})).await;
    let envelope = |parameters: Value| {
        json!({"envelope": {
            "mailFrom": {"email": "alice@example.test", "parameters": parameters},
            "rcptTo": [{"email": "bob@remote.test", "parameters": {"NOTIFY": "NEVER"}}],
        }})
    };
    let held = alice.created(&email, envelope(json!({"HOLDFOR": "60", "ENVID": "mine"}))).await;
    assert_eq!(held["sendAt"], "2025-06-15T15:07:40Z");
    assert!(held.get("envelope").is_none(), "what was given is not echoed");
    assert!(alice.due().await.is_empty());
    let canceled = json!({"undoStatus": "canceled"});
    let cancel = async |id: &Value| {
        let id = id.as_str().unwrap();
        let set = alice.user.call("EmailSubmission/set", json!({"update": {id: canceled}})).await;
        (set["updated"][id].clone(), set["notUpdated"][id]["type"].clone())
    };
    let (updated, error) = cancel(&held["id"]).await;
    assert_eq!(error, Value::Null);
    assert_eq!(updated["deliveryStatus"]["bob@remote.test"]["delivered"], "no");
    assert_eq!(alice.get(&held["id"]).await["undoStatus"], "canceled");
    assert_eq!(cancel(&held["id"]).await, (Value::Null, Value::Null), "it is so already");
    fixture.directory.clock.advance_ms(60_000);
    assert!(alice.due().await.is_empty(), "nothing is left to be sent");

    let again =
        alice.created(&email, envelope(json!({"HOLDFOR": "60"}))).await["id"].as_str().unwrap().to_owned();
    let back = json!([["EmailSubmission/set", {
        "accountId": alice.user.account(),
        "update": {&again: canceled},
        "onSuccessUpdateEmail": {&again: {"keywords/$flagged": true}, held["id"].as_str().unwrap(): {"keywords/x": true}},
    }, "0"]]);
    let back = alice.user.request(back).await;
    assert_eq!(back[1][1]["updated"], json!({&email: null}), "what was asked of the one that changed");
    let got = alice.user.call("Email/get", json!({"ids": [email], "properties": ["keywords"]})).await;
    assert_eq!(got["list"][0]["keywords"], json!({"$draft": true, "$seen": true, "$flagged": true}));

    let until = envelope(json!({"HOLDUNTIL": "2025-06-15T15:08:00Z"}));
    let other = alice.created(&email, until).await;
    fixture.directory.clock.advance_ms(19_999);
    assert!(alice.due().await.is_empty());
    fixture.directory.clock.advance_ms(1);
    let rows = alice.due().await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].recipients[0].notify.as_deref(), Some("NEVER"));
    assert_eq!(cancel(&other["id"]).await.1, "cannotUnsend", "a worker has it");
    let id: Id = other["id"].as_str().unwrap().parse().unwrap();
    let unit = async move |tx: &mut Tx| {
        record_results(tx, id, &[("bob@remote.test", "250 2.0.0 OK", Delivered::Unknown)]).await
    };
    fixture.jmap.store.write(alice.account(), unit).await.unwrap();
    let sent = alice.get(&other["id"]).await;
    assert_eq!(sent["undoStatus"], "final");
    assert_eq!(sent["deliveryStatus"]["bob@remote.test"]["smtpReply"], "250 2.0.0 OK");
    assert_eq!(cancel(&other["id"]).await.1, "cannotUnsend");
    let too_long = alice.refused(&email, envelope(json!({"HOLDFOR": "99999999"}))).await;
    assert_eq!(
        (&too_long["type"], &too_long["properties"]),
        (&json!("invalidProperties"), &json!(["envelope"]))
    );
}

#[tokio::test]
async fn only_undo_status_can_be_changed() {
    let fixture = Fixture::new().await;
    let alice = Sender::new(&fixture).await;
    let email = alice.draft(json!({})).await;
    let id = alice.created(&email, json!({})).await["id"].as_str().unwrap().to_owned();
    for (patch, wrong) in [
        (json!({"undoStatus": "final"}), json!(["undoStatus"])),
        (json!({"sendAt": "2030-01-01T00:00:00Z"}), json!(["sendAt"])),
        (json!({"emailId": alice.identity}), json!(["emailId"])),
        (json!({"more": 1}), json!(["more"])),
        (json!({"emailId": email, "undoStatus": "pending"}), Value::Null),
    ] {
        let set = alice.user.call("EmailSubmission/set", json!({"update": {&id: patch}})).await;
        assert_eq!(set["notUpdated"][&id]["properties"], wrong, "{set}");
        assert_eq!(set["oldState"], set["newState"]);
    }
    let both = json!({"update": {&id: {"undoStatus": "canceled"}, "x": {}}, "destroy": [&id]});
    let set = alice.user.call("EmailSubmission/set", both).await;
    assert_eq!(set["notUpdated"][&id]["type"], "willDestroy");
    assert_eq!(set["notUpdated"]["x"]["type"], "notFound");
    assert_eq!(set["destroyed"], json!([id]));
    assert_eq!(alice.due().await.len(), 2, "a record that goes takes no delivery with it");
}

#[tokio::test]
async fn every_refusal_has_its_type() {
    let fixture = Fixture::new().await;
    let alice = Sender::new(&fixture).await;
    let own = alice.draft(json!({})).await;
    let mail_from = |email: &str| json!({"envelope": {"mailFrom": {"email": email}, "rcptTo": [{"email": "bob@remote.test"}]}});
    let kind = async |email: &str, changes: Value| alice.refused(email, changes).await["type"].clone();
    assert_eq!(kind(&own, mail_from("bob@remote.test")).await, "forbiddenMailFrom");
    let wrong =
        json!({"envelope": {"mailFrom": {"email": "alice@example.test"}, "rcptTo": [{"email": "x"}]}});
    let error = alice.refused(&own, wrong).await;
    assert_eq!((&error["type"], &error["invalidRecipients"]), (&json!("invalidRecipients"), &json!(["x"])));

    let nobody = alice.draft(json!({"to": [], "cc": null, "bcc": null})).await;
    assert_eq!(kind(&nobody, json!({})).await, "noRecipients");
    let two = json!({"from": [{"email": "alice@example.test"}, {"email": "alice+b@example.test"}]});
    let two = alice.draft(two).await;
    let error = alice.refused(&two, json!({})).await;
    assert_eq!((&error["type"], &error["properties"]), (&json!("invalidEmail"), &json!(["from"])));
    let without = alice.draft(json!({"from": null})).await;
    assert_eq!(kind(&without, mail_from("alice@example.test")).await, "invalidEmail");
    let others =
        alice.draft(json!({"from": [{"email": "alice@example.test"}, {"email": "bob@example.test"}]})).await;
    assert_eq!(kind(&others, mail_from("alice@example.test")).await, "forbiddenFrom");

    for (changes, wrong) in [
        (json!({"emailId": "x"}), "emailId"),
        (json!({"emailId": "#x"}), "emailId"),
        (json!({"emailId": alice.identity}), "emailId"),
        (json!({"emailId": null}), "emailId"),
        (json!({"identityId": own}), "identityId"),
        (json!({"identityId": 1}), "identityId"),
        (json!({"sendAt": "2030-01-01T00:00:00Z"}), "sendAt"),
        (json!({"undoStatus": "final"}), "undoStatus"),
        (json!({"envelope": 1}), "envelope"),
    ] {
        let error = alice.refused(&own, changes).await;
        assert_eq!((&error["type"], &error["properties"]), (&json!("invalidProperties"), &json!([wrong])));
    }
    let mut value = "x".repeat(70).to_string();
    value.push_str("\r\n");
    let large = value.repeat(16_000);
    let large = alice.draft(json!({"bodyValues": {"1": {"value": large}}})).await;
    let error = alice.refused(&large, json!({})).await;
    assert_eq!((&error["type"], &error["maxSize"]), (&json!("tooLarge"), &json!(1 << 20)));
    let many: Vec<Value> = (0..1_001).map(|number| json!({"email": format!("{number}@x.test")})).collect();
    let many = json!({"envelope": {"mailFrom": {"email": "alice@example.test"}, "rcptTo": many}});
    let error = alice.refused(&own, many).await;
    assert_eq!((&error["type"], &error["maxRecipients"]), (&json!("tooManyRecipients"), &json!(1_000)));
    assert!(alice.due().await.is_empty());
}

#[tokio::test]
async fn an_account_writes_to_so_many_recipients_in_an_hour() {
    let fixture = Fixture::new().await;
    let alice = Sender::new(&fixture).await;
    let email = alice.draft(json!({})).await;
    let to = |count: usize| {
        let to: Vec<Value> = (0..count).map(|number| json!({"email": format!("{number}@x.test")})).collect();
        json!({"envelope": {"mailFrom": {"email": "alice@example.test"}, "rcptTo": to}})
    };
    alice.created(&email, to(90)).await;
    let error = alice.refused(&email, to(11)).await;
    assert_eq!(error["type"], "forbiddenToSend");
    assert!(error["description"].is_string());
    alice.created(&email, to(10)).await;
    fixture.directory.clock.advance_ms(2 * 3_600_000);
    alice.created(&email, to(11)).await;
}

#[tokio::test]
async fn tags_aliases_and_the_null_path_are_ones_own() {
    let fixture = Fixture::new().await;
    let alice = Sender::new(&fixture).await;
    let alias = Address::parse("team@example.test").unwrap();
    crate::store::directory::address::alias_add(&fixture.jmap.store, alias, alice.account()).await.unwrap();
    let team = alice.draft(json!({"from": [{"email": "Team+x@example.test"}]})).await;
    // The alias is the login's, but not what this identity stands for.
    let created = alice.created(&team, json!({})).await;
    assert_eq!(created["envelope"]["mailFrom"]["email"], "alice@example.test");
    let null =
        json!({"envelope": {"mailFrom": {"email": ""}, "rcptTo": [{"email": "j\u{f6}@b\u{fc}cher.test"}]}});
    alice.created(&team, null).await;
    let wide = json!({"envelope": {
        "mailFrom": {"email": "team@example.test"}, "rcptTo": [{"email": "joe@b\u{fc}cher.test"}],
    }});
    let wide = alice.created(&team, wide).await;
    assert!(wide["deliveryStatus"]["joe@b\u{fc}cher.test"].is_object());
    let mut rows: Vec<_> = alice.due().await;
    rows.retain(|row| row.domain == "xn--bcher-kva.test");
    rows.sort_by_key(|row| row.claim.id);
    assert_eq!((rows[0].envelope.mail_from.as_str(), rows[0].envelope.smtputf8), ("", true));
    assert_eq!(addresses(&rows[0]), ["j\u{f6}@b\u{fc}cher.test"]);
    assert_eq!(
        (rows[1].envelope.mail_from.as_str(), rows[1].envelope.smtputf8),
        ("team@example.test", false)
    );
    assert_eq!(addresses(&rows[1]), ["joe@xn--bcher-kva.test"]);
}

#[tokio::test]
async fn another_account_sees_nothing() {
    let fixture = Fixture::new().await;
    let alice = Sender::new(&fixture).await;
    let email = alice.draft(json!({})).await;
    let id = alice.created(&email, json!({})).await["id"].clone();
    let bob = fixture.user("bob@example.test").await;
    let got = bob.call("EmailSubmission/get", json!({"ids": [id]})).await;
    assert_eq!(got["notFound"], json!([id]));
    let identity = bob.call("Identity/get", json!({})).await["list"][0]["id"].clone();
    let create = json!({"create": {"s": {"identityId": identity, "emailId": email}}, "destroy": [id]});
    let set = bob.call("EmailSubmission/set", create).await;
    assert_eq!(set["notCreated"]["s"]["properties"], json!(["emailId"]));
    assert_eq!(set["notDestroyed"][id.as_str().unwrap()]["type"], "notFound");
    let account = alice.user.account();
    for method in ["get", "set", "query", "changes", "queryChanges"] {
        let answer = bob.call(&format!("EmailSubmission/{method}"), json!({"accountId": account})).await;
        assert_eq!(answer["type"], "accountNotFound");
    }
}

#[tokio::test]
async fn submissions_are_found_sorted_and_followed() {
    let fixture = Fixture::new().await;
    let alice = Sender::new(&fixture).await;
    let mut ids: Vec<Value> = Vec::new();
    let mut emails = Vec::new();
    for number in 0..4 {
        let email = alice.draft(json!({"subject": format!("Number {number}")})).await;
        ids.push(alice.created(&email, json!({})).await["id"].clone());
        emails.push(email);
        fixture.directory.clock.advance_ms(1_000);
    }
    let query = async |arguments: Value| alice.user.call("EmailSubmission/query", arguments).await;
    let all = query(json!({"calculateTotal": true})).await;
    assert_eq!(all["ids"], json!([ids[3], ids[2], ids[1], ids[0]]), "the newest first");
    assert_eq!((&all["total"], &all["canCalculateChanges"]), (&json!(4), &json!(true)));
    let by_date = json!([{"property": "sentAt"}]);
    for (filter, wanted) in [
        (json!({"emailIds": [emails[1], emails[2], "x"]}), vec![1, 2]),
        (json!({"identityIds": [alice.identity], "after": "2025-06-15T15:06:42Z"}), vec![2, 3]),
        (json!({"before": "2025-06-15T15:06:42Z"}), vec![0, 1]),
        (json!({"identityIds": []}), vec![]),
        (json!({"undoStatus": "pending"}), vec![0, 1, 2, 3]),
        (json!({"undoStatus": "x"}), vec![]),
        (json!({"threadIds": []}), vec![]),
        (json!({}), vec![0, 1, 2, 3]),
        (
            json!({"operator": "NOT", "conditions": [{"emailIds": [emails[1]]}, {"emailIds": [emails[2]]}]}),
            vec![0, 3],
        ),
        (
            json!({"operator": "OR", "conditions": [{"emailIds": [emails[1]]}, {"undoStatus": "final"}]}),
            vec![1],
        ),
    ] {
        let found = query(json!({"filter": filter, "sort": by_date})).await;
        let wanted: Vec<_> = wanted.into_iter().map(|place| ids[place as usize].clone()).collect();
        assert_eq!(found["ids"], json!(wanted), "{filter}");
    }
    let window = query(json!({"sort": by_date, "anchor": ids[2], "anchorOffset": -1, "limit": 2})).await;
    assert_eq!((&window["ids"], &window["position"]), (&json!([ids[1], ids[2]]), &json!(1)));
    let window = query(json!({"sort": by_date, "position": -1})).await;
    assert_eq!(window["ids"], json!([ids[3]]));
    let window = query(json!({"sort": [{"property": "emailId", "isAscending": false}], "limit": 1})).await;
    assert_eq!(window["ids"], json!([ids[3]]));
    for (arguments, error) in [
        (json!({"anchor": "x"}), "anchorNotFound"),
        (json!({"sort": [{"property": "undoStatus"}]}), "unsupportedSort"),
        (json!({"filter": {"more": 1}}), "unsupportedFilter"),
        (json!({"filter": {"before": "x"}}), "invalidArguments"),
        (json!({"filter": {"emailIds": [1]}}), "invalidArguments"),
    ] {
        assert_eq!(query(arguments.clone()).await["type"], error, "{arguments}");
    }

    // What a client knows, and what it hears.
    let filter = json!({"undoStatus": "pending"});
    let known = query(json!({"filter": filter, "sort": by_date})).await;
    let email = alice.draft(json!({})).await;
    ids.push(alice.created(&email, json!({})).await["id"].clone());
    let results: Id = ids[1].as_str().unwrap().parse().unwrap();
    let unit = async move |tx: &mut Tx| {
        record_results(tx, results, &[("bob@remote.test", "250 2.0.0 OK", Delivered::Yes)]).await
    };
    fixture.jmap.store.write(alice.account(), unit).await.unwrap();
    let since = json!({
        "filter": filter, "sort": by_date, "sinceQueryState": known["queryState"], "calculateTotal": true,
    });
    let heard = alice.user.call("EmailSubmission/queryChanges", since).await;
    assert_eq!(heard["removed"], json!([ids[1]]));
    assert_eq!(heard["added"], json!([{"id": ids[4], "index": 3}]));
    assert_eq!(heard["total"], 4);
}
