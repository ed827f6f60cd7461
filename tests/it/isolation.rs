//! No account can read, change, guess or infer anything of another's: every method is tried with
//! another's account id, and with another's object ids inside one's own account.

use serde_json::{Value, json};

use crate::support::jmap::{BLOB, CORE, Client, MAIL, QUOTA, SUBMISSION, VACATION, id_of, plain_email};
use crate::support::server::Server;

const USING: [&str; 6] = [CORE, MAIL, SUBMISSION, VACATION, QUOTA, BLOB];

struct Victim {
    client: Client,
    mailbox: String,
    email: String,
    thread: String,
    blob: String,
    identity: String,
    submission: String,
}

fn victim(server: &Server) -> Victim {
    let client = server.account();
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
    Victim {
        mailbox,
        email: id_of(&created),
        thread: created["threadId"].as_str().expect("threadId").to_owned(),
        blob: created["blobId"].as_str().expect("blobId").to_owned(),
        identity,
        submission,
        client,
    }
}

fn ask(client: &Client, method: &str, arguments: &Value) -> (String, Value) {
    let answer = client.calls_using(&USING, json!([[method, arguments, "c"]])).remove(0);
    (answer.name, answer.arguments)
}

#[test]
fn no_method_works_in_another_account() {
    let server = Server::shared();
    let victim = victim(server);
    let thief = server.account();
    let account = &victim.client.account;
    for method in [
        "Mailbox/get",
        "Mailbox/changes",
        "Mailbox/query",
        "Mailbox/queryChanges",
        "Mailbox/set",
        "Thread/get",
        "Thread/changes",
        "Email/get",
        "Email/changes",
        "Email/query",
        "Email/queryChanges",
        "Email/set",
        "Email/copy",
        "Email/import",
        "Email/parse",
        "SearchSnippet/get",
        "Identity/get",
        "Identity/changes",
        "Identity/set",
        "EmailSubmission/get",
        "EmailSubmission/changes",
        "EmailSubmission/query",
        "EmailSubmission/queryChanges",
        "EmailSubmission/set",
        "VacationResponse/get",
        "VacationResponse/set",
        "Quota/get",
        "Quota/changes",
        "Quota/query",
        "Quota/queryChanges",
        "Blob/copy",
        "Blob/upload",
        "Blob/get",
        "Blob/lookup",
    ] {
        let arguments = json!({
            "accountId": account, "fromAccountId": thief.account, "ids": [], "sinceState": "s0-0", "sinceQueryState": "s0-0",
            "blobIds": [], "emailIds": [], "emails": {}, "create": {}, "typeNames": [],
        });
        // Whatever else is wrong with the arguments, nothing else is told.
        let mut kinds = Vec::new();
        for tried in [arguments, json!({ "accountId": account })] {
            let (name, answer) = ask(&thief, method, &tried);
            assert_eq!(name, "error", "{method}: {answer}");
            kinds.push(answer["type"].as_str().unwrap_or_default().to_owned());
            assert_ne!(answer["type"], "unknownMethod", "{method}");
        }
        let (_, unknown) = ask(&thief, method, &json!({ "accountId": "aaaaaaaaaaaaa" }));
        assert!(
            kinds.contains(&unknown["type"].as_str().unwrap_or_default().to_owned()),
            "{method}: an unknown account answers otherwise: {kinds:?} {unknown}"
        );
        assert!(
            kinds.iter().all(|kind| kind == "accountNotFound" || kind == "invalidArguments"),
            "{method}: {kinds:?}"
        );
    }
    let (name, answer) = ask(
        &thief,
        "Email/copy",
        &json!({ "fromAccountId": account, "accountId": thief.account, "create": {} }),
    );
    assert_eq!((name.as_str(), &answer["type"]), ("error", &json!("fromAccountNotFound")));
}

#[test]
fn the_ids_of_another_account_are_unknown_in_ones_own() {
    let server = Server::shared();
    let victim = victim(server);
    let thief = server.account();
    for (kind, id) in [
        ("Mailbox", &victim.mailbox),
        ("Email", &victim.email),
        ("Thread", &victim.thread),
        ("Identity", &victim.identity),
        ("EmailSubmission", &victim.submission),
    ] {
        let answer = thief.call(&format!("{kind}/get"), json!({ "ids": [id] }));
        assert_eq!((&answer["list"], &answer["notFound"]), (&json!([]), &json!([id])), "{kind}");
        if kind == "Thread" {
            continue;
        }
        let answer =
            thief.call(&format!("{kind}/set"), json!({ "update": { id.as_str(): { "name": "stolen" } } }));
        assert_eq!(answer["notUpdated"][id]["type"], "notFound", "{kind}: {answer}");
        let answer = thief.call(&format!("{kind}/set"), json!({ "destroy": [id] }));
        assert_eq!(answer["notDestroyed"][id]["type"], "notFound", "{kind}: {answer}");
    }
    let inbox = thief.mailbox("inbox");
    let error = thief.create_error("Email", plain_email(&victim.mailbox, &thief.address, "x", "x"));
    assert_eq!(error["type"], "invalidProperties");
    let error = thief.create_error("Mailbox", json!({ "name": "x", "parentId": victim.mailbox }));
    assert_eq!(error["type"], "invalidProperties");
    let own = thief.create_email(&inbox, "own", "own");
    let error = thief.update_error("Email", &own, json!({ format!("mailboxIds/{}", victim.mailbox): true }));
    assert_eq!(error["type"], "invalidProperties");
    let answer = thief.call(
        "Email/import",
        json!({ "emails": { "i": { "blobId": victim.blob, "mailboxIds": { &inbox: true } } } }),
    );
    let kind = answer["notCreated"]["i"]["type"].as_str().unwrap_or_default();
    assert!(kind == "blobNotFound" || kind == "invalidProperties", "{answer}");
    let answer = thief.call("Email/parse", json!({ "blobIds": [victim.blob] }));
    assert_eq!(answer["notFound"], json!([victim.blob]), "{answer}");
    let error = thief.create_error("Email", {
        let mut email = plain_email(&inbox, &thief.address, "x", "x");
        email["bodyStructure"] = json!({ "type": "application/octet-stream", "blobId": victim.blob });
        email
    });
    assert_eq!(error["type"], "blobNotFound");
    let answer = thief
        .call("SearchSnippet/get", json!({ "filter": { "text": "secret" }, "emailIds": [victim.email] }));
    assert_eq!(answer["notFound"], json!([victim.email]));
    for (email, identity) in [
        (&victim.email, id_of(&thief.call("Identity/get", json!({ "ids": null }))["list"][0])),
        (&own, victim.identity.clone()),
    ] {
        let error =
            thief.create_error("EmailSubmission", json!({ "emailId": email, "identityId": identity }));
        assert_eq!(error["type"], "invalidProperties");
    }
    for filter in [
        json!({ "text": "secret" }),
        json!({ "inMailbox": victim.mailbox }),
        json!({ "inMailboxOtherThan": [victim.mailbox], "text": "secret" }),
    ] {
        let (name, answer) = ask(
            &thief,
            "Email/query",
            &json!({ "accountId": thief.account, "filter": filter, "calculateTotal": true }),
        );
        let found = answer["ids"].as_array().map_or(0, Vec::len);
        assert!(name == "error" || found == 0, "{filter}: {answer}");
    }
    let (name, answer) =
        ask(&thief, "Blob/get", &json!({ "accountId": thief.account, "ids": [victim.blob] }));
    assert!(name == "error" || answer["notFound"] == json!([victim.blob]), "{answer}");
    let (name, answer) = ask(
        &thief,
        "Blob/lookup",
        &json!({ "accountId": thief.account, "typeNames": ["Email"], "ids": [victim.blob] }),
    );
    assert!(
        name == "error" || answer["list"] == json!([]) || !answer.to_string().contains(&victim.email),
        "{answer}"
    );
    // The same text in both accounts is one blob in the store: the thief's own upload of it must
    // not open the victim's, nor tell that it was there.
    assert_eq!(victim.client.get("Email", &victim.email, &["subject"])["subject"], "secret subject");
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
