//! No account can read, change, guess or infer anything of another's.
//!
//! [`cases`] says for each method how it is asked for another's objects. Every method of the method
//! table must have a case: one that is added without fails `every_method_has_a_case`. Each case is
//! tried in the other's account, where nothing may be told but that there is no such account; and
//! with the other's ids in one's own account, where the answer must be the very one that ids get
//! which nobody has.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::jmap::{BLOB, CORE, Client, MAIL, QUOTA, SUBMISSION, VACATION, id_of, plain_email};
use crate::support::server::Server;

const USING: [&str; 6] = [CORE, MAIL, SUBMISSION, VACATION, QUOTA, BLOB];

/// Methods that work on no account. Push subscriptions are a login's; they have a test of their own.
const WITHOUT_ACCOUNT: [&str; 3] = ["Core/echo", "PushSubscription/get", "PushSubscription/set"];

/// Somebody's objects, or ids that nobody has.
struct Ids {
    account: String,
    address: String,
    mailbox: String,
    email: String,
    thread: String,
    blob: String,
    part: String,
    identity: String,
    submission: String,
    quota: String,
}

fn victim(server: &Server) -> (Client, Ids) {
    let client = server.account();
    server.cli(&["account", "quota", &client.address, "100MB"]);
    let mailbox = client.create_mailbox("secret mailbox");
    let created =
        client.create("Email", plain_email(&mailbox, &client.address, "secret subject", "secret text"));
    let identity = id_of(&client.call("Identity/get", json!({ "ids": null }))["list"][0]);
    let mut held = json!({ "emailId": created["id"], "identityId": identity });
    held["envelope"] = json!({
        "mailFrom": { "email": client.address, "parameters": { "HOLDFOR": "36000" } },
        "rcptTo": [{ "email": "x@elsewhere.test" }],
    });
    let submission = id_of(&client.create("EmailSubmission", held));
    let body = client.get("Email", &id_of(&created), &["textBody"]);
    let quota = client.calls_using(&USING, json!([["Quota/get", { "accountId": client.account }, "c"]]));
    let text = |value: &Value| value.as_str().expect("an id").to_owned();
    let ids = Ids {
        account: client.account.clone(),
        address: client.address.clone(),
        mailbox,
        email: id_of(&created),
        thread: text(&created["threadId"]),
        blob: text(&created["blobId"]),
        part: text(&body["textBody"][0]["blobId"]),
        identity,
        submission,
        quota: text(&quota[0].arguments["list"][0]["id"]),
    };
    (client, ids)
}

impl Ids {
    fn all(&self) -> [&str; 10] {
        [
            &self.account,
            &self.address,
            &self.mailbox,
            &self.email,
            &self.thread,
            &self.blob,
            &self.part,
            &self.identity,
            &self.submission,
            &self.quota,
        ]
    }

    /// Ids of the same form that nobody has.
    fn of_nobody(&self) -> Ids {
        let other = |id: &str| {
            // The second character of an id, and of a blob's hash, in another place of the alphabet.
            let (first, rest) = id.split_at(1);
            let changed = if rest.starts_with('q') { 'r' } else { 'q' };
            format!("{first}{changed}{}", &rest[1..])
        };
        Ids {
            account: other(&self.account),
            address: format!("nobody-{}", self.address),
            mailbox: other(&self.mailbox),
            email: other(&self.email),
            thread: other(&self.thread),
            blob: other(&self.blob),
            part: other(&self.part),
            identity: other(&self.identity),
            submission: other(&self.submission),
            quota: other(&self.quota),
        }
    }
}

/// What the thief brings along in its own account.
struct Own {
    account: String,
    address: String,
    inbox: String,
    email: String,
    identity: String,
    state: String,
}

fn thief(server: &Server) -> (Client, Own) {
    let client = server.account();
    let inbox = client.mailbox("inbox");
    let own = Own {
        account: client.account.clone(),
        address: client.address.clone(),
        email: client.create_email(&inbox, "own", "own text"),
        identity: id_of(&client.call("Identity/get", json!({ "ids": null }))["list"][0]),
        state: client.state("Email"),
        inbox,
    };
    (client, own)
}

/// The ways in which a method can be asked for another's objects, without `accountId`; `None` for
/// a method that this list does not know.
fn cases(method: &str, own: &Own, ids: &Ids) -> Option<Vec<Value>> {
    let inbox = json!({ &own.inbox: true });
    let set = |id: &str, patch: Value| json!({ "update": { id: patch }, "destroy": [id] });
    let held = |email: &str, identity: &str| {
        json!({ "create": { "k": {
            "emailId": email, "identityId": identity,
            "envelope": {
                "mailFrom": { "email": own.address, "parameters": { "HOLDFOR": "36000" } },
                "rcptTo": [{ "email": "x@elsewhere.test" }],
            },
        } } })
    };
    let since = json!({ "sinceState": own.state });
    let since_query = |filter: Value| json!({ "sinceQueryState": own.state, "filter": filter });
    Some(match method {
        "Mailbox/get" => vec![json!({ "ids": [ids.mailbox] })],
        "Thread/get" => vec![json!({ "ids": [ids.thread] }), json!({ "ids": [ids.email] })],
        "Email/get" => vec![json!({ "ids": [ids.email], "fetchAllBodyValues": true })],
        "Identity/get" => vec![json!({ "ids": [ids.identity] })],
        "EmailSubmission/get" => vec![json!({ "ids": [ids.submission] })],
        "VacationResponse/get" => vec![json!({ "ids": [ids.account] })],
        "Quota/get" => vec![json!({ "ids": [ids.quota] }), json!({ "ids": null })],
        "Mailbox/changes"
        | "Thread/changes"
        | "Email/changes"
        | "Identity/changes"
        | "EmailSubmission/changes"
        | "Quota/changes" => vec![since],
        "Mailbox/query" => vec![
            json!({ "filter": { "parentId": ids.mailbox }, "calculateTotal": true }),
            json!({ "filter": { "name": "secret" }, "calculateTotal": true }),
            json!({ "anchor": ids.mailbox }),
        ],
        "Mailbox/queryChanges" => {
            vec![since_query(json!({ "parentId": ids.mailbox })), since_query(json!({ "name": "secret" }))]
        }
        "Email/query" => vec![
            json!({ "filter": { "inMailbox": ids.mailbox }, "calculateTotal": true }),
            json!({ "filter": { "inMailboxOtherThan": [ids.mailbox] }, "calculateTotal": true }),
            json!({ "filter": { "text": "secret" }, "calculateTotal": true }),
            json!({ "filter": { "from": ids.address }, "calculateTotal": true }),
            json!({ "anchor": ids.email }),
        ],
        "Email/queryChanges" => vec![
            since_query(json!({ "inMailbox": ids.mailbox })),
            json!({ "sinceQueryState": own.state, "upToId": ids.email }),
        ],
        "EmailSubmission/query" => vec![
            json!({ "filter": { "emailIds": [ids.email] }, "calculateTotal": true }),
            json!({ "filter": { "threadIds": [ids.thread] }, "calculateTotal": true }),
            json!({ "filter": { "identityIds": [ids.identity] }, "calculateTotal": true }),
            json!({ "anchor": ids.submission }),
        ],
        "EmailSubmission/queryChanges" => vec![since_query(json!({ "emailIds": [ids.email] }))],
        "Quota/query" => {
            vec![json!({ "filter": { "name": ids.address } }), json!({ "anchor": ids.quota })]
        }
        "Quota/queryChanges" => vec![since_query(json!({ "name": ids.address }))],
        "Mailbox/set" => vec![
            set(&ids.mailbox, json!({ "name": "stolen" })),
            json!({ "destroy": [ids.mailbox], "onDestroyRemoveEmails": true }),
            json!({ "create": { "k": { "name": "k", "parentId": ids.mailbox } } }),
            json!({ "update": { &own.inbox: { "parentId": ids.mailbox } } }),
        ],
        "Email/set" => vec![
            set(&ids.email, json!({ "keywords/$seen": true })),
            json!({ "update": { &own.email: { format!("mailboxIds/{}", ids.mailbox): true } } }),
            json!({ "create": { "k": plain_email(&ids.mailbox, &own.address, "x", "x") } }),
            json!({ "create": { "k": {
                "mailboxIds": inbox, "bodyStructure": { "type": "text/plain", "blobId": ids.blob },
            } } }),
            json!({ "create": { "k": {
                "mailboxIds": inbox, "attachments": [{ "type": "text/plain", "blobId": ids.part }],
            } } }),
        ],
        "Email/copy" => {
            vec![
                json!({ "fromAccountId": ids.account, "create": { "k": { "id": ids.email, "mailboxIds": inbox } } }),
            ]
        }
        "Email/import" => vec![
            json!({ "emails": { "k": { "blobId": ids.blob, "mailboxIds": inbox } } }),
            json!({ "emails": { "k": { "blobId": ids.part, "mailboxIds": inbox } } }),
            json!({ "emails": { "k": { "blobId": ids.blob, "mailboxIds": { &ids.mailbox: true } } } }),
        ],
        "Email/parse" => vec![json!({ "blobIds": [ids.blob, ids.part], "fetchAllBodyValues": true })],
        "SearchSnippet/get" => {
            vec![json!({ "filter": { "text": "secret" }, "emailIds": [ids.email] })]
        }
        "Identity/set" => vec![
            set(&ids.identity, json!({ "name": "stolen" })),
            json!({ "create": { "k": { "email": ids.address } } }),
        ],
        "EmailSubmission/set" => vec![
            set(&ids.submission, json!({ "undoStatus": "canceled" })),
            held(&ids.email, &own.identity),
            held(&own.email, &ids.identity),
            json!({ "update": { &ids.submission: {} },
                "onSuccessUpdateEmail": { &ids.submission: { "keywords/$seen": true } },
                "onSuccessDestroyEmail": [ids.submission] }),
        ],
        "VacationResponse/set" => vec![set(&ids.account, json!({ "isEnabled": true }))],
        "Blob/copy" => vec![json!({ "fromAccountId": ids.account, "blobIds": [ids.blob, ids.part] })],
        "Blob/upload" => vec![
            json!({ "create": { "k": { "data": [{ "blobId": ids.blob }] } } }),
            json!({ "create": { "k": { "data": [{ "blobId": ids.part, "length": 1 }] } } }),
        ],
        "Blob/get" => vec![
            json!({ "ids": [ids.blob, ids.part] }),
            json!({ "ids": [ids.blob], "properties": ["size", "digest:sha-256"] }),
        ],
        "Blob/lookup" => {
            vec![json!({ "ids": [ids.blob, ids.part], "typeNames": ["Email", "Thread", "Mailbox"] })]
        }
        _ => return None,
    })
}

/// The names in the method table, as its source has them.
pub fn methods() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/jmap/method.rs");
    let source = fs::read_to_string(path).expect("src/jmap/method.rs");
    let table =
        source.split("methods! {").nth(1).and_then(|rest| rest.split("};").next()).expect("the table");
    table.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn ask(client: &Client, method: &str, account: &str, arguments: &Value) -> Vec<(String, Value)> {
    let mut arguments = arguments.clone();
    arguments["accountId"] = json!(account);
    let answers = client.calls_using(&USING, json!([[method, arguments, "c"]]));
    answers.into_iter().map(|answer| (answer.name, answer.arguments)).collect()
}

/// All that the victim could notice.
fn everything(client: &Client) -> Value {
    let kinds = ["Mailbox", "Email", "Thread", "Identity", "EmailSubmission", "VacationResponse"];
    let states: Vec<String> = kinds.iter().map(|kind| client.state(kind)).collect();
    let mailboxes = client.call("Mailbox/get", json!({ "ids": null }));
    json!([states, mailboxes["list"]])
}

#[test]
fn every_method_has_a_case() {
    let server = Server::shared();
    let ((_, ids), (_, own)) = (victim(server), thief(server));
    let methods = methods();
    assert!(methods.len() > 30, "{methods:?}");
    let lacking: Vec<&String> = methods
        .iter()
        .filter(|method| !WITHOUT_ACCOUNT.contains(&method.as_str()))
        .filter(|method| cases(method, &own, &ids).is_none_or(|cases| cases.is_empty()))
        .collect();
    assert!(lacking.is_empty(), "methods without a case here: {lacking:?}");
    let unique: BTreeSet<&String> = methods.iter().collect();
    assert_eq!(unique.len(), methods.len());
}

#[test]
fn no_method_works_in_another_account() {
    let server = Server::shared();
    let ((victim, ids), (thief, own)) = (victim(server), thief(server));
    let nobody = ids.of_nobody();
    let before = everything(&victim);
    for method in methods() {
        for arguments in cases(&method, &own, &ids).into_iter().flatten() {
            let mut arguments = arguments;
            if arguments.get("fromAccountId").is_some() {
                // The other way round, into the other's account; out of it, see below.
                arguments["fromAccountId"] = json!(own.account);
            }
            let answers = ask(&thief, &method, &ids.account, &arguments);
            let no_account = json!({ "type": "accountNotFound" });
            assert_eq!(answers, [("error".to_owned(), no_account)], "{method} {arguments}");
            assert_eq!(ask(&thief, &method, &nobody.account, &arguments), answers, "{method} {arguments}");
            // Nor does anything else that is wrong with the call tell more.
            let wrong = ask(&thief, &method, &ids.account, &json!({ "more": 1 }));
            assert_eq!(wrong, ask(&thief, &method, &nobody.account, &json!({ "more": 1 })), "{method}");
        }
    }
    assert_eq!(everything(&victim), before);
}

#[test]
fn the_ids_of_another_account_are_unknown_in_ones_own() {
    let server = Server::shared();
    let ((victim, ids), (thief, own)) = (victim(server), thief(server));
    let nobody = ids.of_nobody();
    let before = everything(&victim);
    for method in methods() {
        let (Some(stolen), Some(made_up)) = (cases(&method, &own, &ids), cases(&method, &own, &nobody))
        else {
            continue;
        };
        for (stolen, made_up) in stolen.iter().zip(&made_up) {
            let told = ask(&thief, &method, &own.account, stolen);
            let of_nobody = ask(&thief, &method, &own.account, made_up);
            // The answers may differ in nothing but the ids that were asked for.
            let mut told_text = serde_json::to_string(&told).expect("JSON");
            let mut nobody_text = serde_json::to_string(&of_nobody).expect("JSON");
            for (place, (one, other)) in ids.all().iter().zip(nobody.all()).enumerate().rev() {
                told_text = told_text.replace(one, &format!("<{place}>"));
                nobody_text = nobody_text.replace(other, &format!("<{place}>"));
            }
            assert_eq!(told_text, nobody_text, "{method} {stolen}");
            assert!(!told_text.contains("secret s") && !told_text.contains("secret t"), "{told_text}");
            if told_text.contains("fromAccount") {
                assert_eq!(told[0].1["type"], "fromAccountNotFound", "{method}");
            }
        }
    }
    assert_eq!(everything(&victim), before);
}

#[test]
fn the_same_octets_in_two_accounts_tell_neither_of_the_other() {
    let server = Server::shared();
    let ((victim, ids), (thief, own)) = (victim(server), thief(server));
    // The thief guesses all of the message and uploads it: the blob has the same id, and that is all.
    let message = victim.download(&ids.blob);
    assert_eq!(thief.upload("message/rfc822", message)["blobId"], json!(ids.blob));
    let lookup = json!({ "ids": [ids.blob], "typeNames": ["Email", "Thread", "Mailbox"] });
    let answer = ask(&thief, "Blob/lookup", &own.account, &lookup);
    let matched = json!({ "Email": [], "Thread": [], "Mailbox": [] });
    assert_eq!(answer[0].1["list"], json!([{ "id": ids.blob, "matchedIds": matched }]));
    let email = thief.call(
        "Email/import",
        json!({ "emails": { "k": { "blobId": ids.blob, "mailboxIds": { &own.inbox: true } } } }),
    );
    let imported = id_of(&email["created"]["k"]);
    thief.destroy("Email", &imported);
    assert_eq!(victim.get("Email", &ids.email, &["subject"])["subject"], "secret subject");
}

#[test]
fn the_states_of_accounts_do_not_fit_each_other() {
    let server = Server::shared();
    let (one, two) = (server.account(), server.account());
    let state = one.state("Email");
    assert_eq!(two.error("Email/changes", json!({ "sinceState": state })), "cannotCalculateChanges");
}

#[test]
fn wrong_passwords_and_unknown_logins_look_alike() {
    let server = Server::shared();
    let client = server.account();
    let ask = |login: &str| {
        let start = std::time::Instant::now();
        let response =
            server.request(crate::support::http::Request::get("/.well-known/jmap").basic(login, "wrong"));
        let mut headers = response.headers.clone();
        headers.retain(|(name, _)| name != "date" && !name.contains("request-id"));
        (response.status, headers, response.text(), start.elapsed())
    };
    let (known, unknown) = (ask(&client.address), ask("nobody-at-all@example.test"));
    assert_eq!((known.0, &known.1, &known.2), (unknown.0, &unknown.1, &unknown.2));
    let ratio = known.3.as_secs_f64() / unknown.3.as_secs_f64().max(0.001);
    assert!((0.1..10.0).contains(&ratio), "{:?} against {:?}", known.3, unknown.3);
}

#[test]
fn push_subscriptions_of_others_can_be_neither_seen_nor_changed() {
    let server = Server::shared();
    let (victim, thief) = (server.account(), server.account());
    let ask = |client: &Client, method: &str, arguments: Value| {
        client.calls_using(&USING, json!([[method, arguments, "c"]])).remove(0).arguments
    };
    let subscription = json!({ "deviceClientId": "d", "url": "https://push.invalid/x" });
    let made = ask(&victim, "PushSubscription/set", json!({ "create": { "s": subscription } }));
    let theirs = made["created"]["s"]["id"].as_str().expect("an id").to_owned();
    let all = ask(&thief, "PushSubscription/get", json!({}));
    assert_eq!(all, json!({ "list": [], "notFound": [] }));
    let nobodys = theirs.chars().rev().collect::<String>();
    for id in [&theirs, &nobodys] {
        let got = ask(&thief, "PushSubscription/get", json!({ "ids": [id] }));
        assert_eq!(got, json!({ "list": [], "notFound": [id] }));
        let set = json!({ "update": { id: { "types": [] } }, "destroy": [id] });
        let answer = ask(&thief, "PushSubscription/set", set);
        assert_eq!(answer["notUpdated"][id], json!({ "type": "notFound" }), "{answer}");
        assert_eq!(answer["notDestroyed"][id], json!({ "type": "notFound" }), "{answer}");
    }
    // Nor can one ask to be told of another's mail.
    let mut greedy = subscription;
    greedy["emailPush"] = json!({ &victim.account: { "properties": ["subject"] } });
    let answer = ask(&thief, "PushSubscription/set", json!({ "create": { "s": greedy } }));
    assert_eq!(answer["notCreated"]["s"]["properties"], json!(["emailPush"]), "{answer}");
    let still = ask(&victim, "PushSubscription/get", json!({}));
    assert_eq!(still["list"][0]["id"], theirs.as_str());
    assert_eq!(still["list"][0]["types"], Value::Null);
}
