//! RFC 8620, 7.2: devices that are not connected are told by web push.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::dns::{Dns, Record};
use crate::support::eventually;
use crate::support::jmap::{Client, names};
use crate::support::message;
use crate::support::push_service::{Device, PushService};
use crate::support::server::Server;

const CORE: &str = "urn:ietf:params:jmap:core";
const SOON: Duration = Duration::from_millis(800);

fn call(client: &Client, method: &str, arguments: Value) -> Value {
    let answer = client.calls_using(&[CORE], json!([[method, arguments, "0"]])).remove(0);
    assert_eq!(answer.name, method, "{:?}", answer.arguments);
    answer.arguments
}

fn create(client: &Client, object: Value) -> Result<Value, Value> {
    let answer = call(client, "PushSubscription/set", json!({ "create": { "new": object } }));
    match answer["created"]["new"].clone() {
        Value::Null => Err(answer["notCreated"]["new"].clone()),
        created => Ok(created),
    }
}

pub(crate) fn update(client: &Client, id: &str, patch: Value) -> Result<Value, Value> {
    let answer = call(client, "PushSubscription/set", json!({ "update": { id: patch } }));
    match answer["updated"].get(id) {
        Some(updated) => Ok(updated.clone()),
        None => Err(answer["notUpdated"][id].clone()),
    }
}

pub(crate) fn list(client: &Client) -> Vec<Value> {
    call(client, "PushSubscription/get", json!({}))["list"].as_array().expect("a list").clone()
}

/// A server that pushes to a service, and an account.
pub(crate) fn world() -> (PushService, Server, Client) {
    let service = PushService::start();
    let server = service.trusted_by(Server::builder()).start();
    let client = server.account();
    (service, server, client)
}

/// Makes a subscription and verifies it; its id.
pub(crate) fn subscribe(service: &PushService, client: &Client, device: &Device, more: Value) -> String {
    let mut object = json!({ "deviceClientId": "d", "url": service.url("d"), "keys": device.keys() });
    object.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
    let id = create(client, object).expect("created")["id"].as_str().expect("id").to_owned();
    let code = device.read(&service.next())["verificationCode"].clone();
    assert_eq!(update(client, &id, json!({ "verificationCode": code })), Ok(Value::Null));
    id
}

#[test]
fn a_subscription_is_verified_and_then_told_of_changes() {
    let (service, server, client) = world();
    let device = Device::new();
    let object = json!({
        "deviceClientId": "device 1", "url": service.url("one"), "keys": device.keys(),
        "types": ["Mailbox", "Calendar"],
    });
    let created = create(&client, object).expect("created");
    // What the server has set, and nothing that only the device knows.
    assert_eq!(names(&created), ["emailPush", "expires", "id", "types", "verificationCode"], "{created}");
    assert_eq!(created["types"], json!(["Mailbox"]));
    let id = created["id"].as_str().expect("id");
    let pushed = service.next();
    assert_eq!(pushed.path, "/one");
    assert_eq!(pushed.header("content-type"), Some("application/json"));
    assert!(pushed.header("ttl").is_some_and(|ttl| ttl.parse::<u32>().is_ok_and(|ttl| ttl > 0)));
    let text = device.read(&pushed);
    assert_eq!(text["@type"], "PushVerification");
    assert_eq!(text["pushSubscriptionId"], id);
    // Nothing more goes there until the code has come back.
    client.create_mailbox("not told");
    assert!(service.next_within(SOON).is_none());
    let wrong = update(&client, id, json!({ "verificationCode": "guessed" })).expect_err("refused");
    assert_eq!(
        (wrong["type"].as_str(), &wrong["properties"]),
        (Some("invalidProperties"), &json!(["verificationCode"]))
    );
    let code = text["verificationCode"].as_str().expect("a code");
    assert!(code.len() >= 22, "{code}");
    assert_eq!(update(&client, id, json!({ "verificationCode": code })), Ok(Value::Null));
    assert_eq!(list(&client)[0]["verificationCode"], code);
    assert!(service.next_within(SOON).is_none(), "nothing has changed");

    client.create_mailbox("told");
    let pushed = service.next();
    assert_eq!(pushed.header("urgency"), Some("low"));
    assert!(pushed.header("topic").is_some_and(|topic| topic.len() <= 32));
    let wanted = json!({ "@type": "StateChange", "changed": { &client.account: { "Mailbox": client.state("Mailbox") } } });
    assert_eq!(device.read(&pushed), wanted);
    // Mail changes the counters of a mailbox; an Email alone is none of its types.
    let email = client.create_email(&client.mailbox("inbox"), "x", "y");
    service.next();
    std::thread::sleep(Duration::from_millis(2_100));
    client.update("Email", &email, json!({ "keywords/red": true }));
    assert!(service.next_within(SOON).is_none());
    // Many changes after each other are told together.
    for number in 0..20 {
        client.create_mailbox(&format!("box {number}"));
    }
    let state = client.state("Mailbox");
    let mut pushes = 0;
    let last = eventually("the last state", || {
        let change = device.read(&service.next());
        pushes += 1;
        (change["changed"][&client.account]["Mailbox"] == state.as_str()).then_some(change)
    });
    assert!(pushes <= 3, "{pushes} pushes: {last}");
    assert!(server.metric("postrider_web_pushes_total").is_some_and(|count| count >= 4.0));
}

#[test]
fn who_pushes_is_signed_with_the_key_that_the_session_tells() {
    let (service, _server, client) = world();
    let device = Device::new();
    subscribe(&service, &client, &device, json!({}));
    client.create_mailbox("told");
    let pushed = service.next();
    let authorization = pushed.header("authorization").expect("VAPID");
    let (token, key) =
        authorization.strip_prefix("vapid t=").expect("VAPID").split_once(", k=").expect("VAPID");
    assert_eq!(
        client.session["capabilities"]["urn:ietf:params:jmap:webpush-vapid"],
        json!({ "applicationServerKey": key })
    );
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).expect("claims")).expect("base64");
    let claims: Value = serde_json::from_slice(&claims).expect("JSON");
    assert_eq!(claims["aud"], format!("https://{}", service.address));
    assert!(claims["sub"].as_str().is_some_and(|contact| contact.starts_with("mailto:")));
}

#[test]
fn new_mail_is_pushed_with_what_a_notification_shows() {
    let (service, server, client) = world();
    let device = Device::new();
    let (inbox, archive) = (client.mailbox("inbox"), client.mailbox("archive"));
    let config = json!({
        "filter": { "operator": "AND", "conditions": [{ "inMailbox": inbox }, { "notKeyword": "$seen" }] },
        "properties": ["from", "subject", "id", "preview"], "urgency": "high",
    });
    let email_push = json!({ &client.account: config });
    subscribe(&service, &client, &device, json!({ "types": [], "emailPush": email_push }));
    assert_eq!(list(&client)[0]["emailPush"], email_push);
    let mail =
        |subject: &str| message::text("Ann <ann@sender.test>", &client.address, subject, "Shall we meet?");
    server.deliver("ann@sender.test", &client.address, mail("Lunch"));
    let pushed = service.next();
    assert_eq!(pushed.header("urgency"), Some("high"));
    let push = device.read(&pushed);
    assert_eq!((&push["@type"], &push["accountId"]), (&json!("EmailPush"), &json!(client.account)));
    let email = &push["emails"][0];
    assert_eq!(
        email.as_object().expect("an Email").keys().collect::<Vec<_>>(),
        ["from", "subject", "id", "preview"]
    );
    assert_eq!(email["subject"], "Lunch");
    assert_eq!(email["preview"], "Shall we meet?");
    assert_eq!(email["from"][0]["email"], "ann@sender.test");
    assert_eq!(client.get("Email", email["id"].as_str().expect("id"), &["subject"])["subject"], "Lunch");
    assert!(push["state"].as_str().is_some_and(|state| state.starts_with('s')));
    // Neither what the user does with mail, nor mail that the filter keeps out, nor mail that is moved here.
    client.update("Email", email["id"].as_str().expect("id"), json!({ "keywords/$flagged": true }));
    client.create_email(&archive, "not for the inbox", "x");
    client.create_email(&client.mailbox("drafts"), "a draft", "x");
    let old = "From: a@b.test\r\nSubject: old\r\nDate: Mon, 02 Jan 2023 10:00:00 +0000\r\n\r\nx";
    let blob = client.upload("message/rfc822", old)["blobId"].clone();
    let email =
        json!({ "blobId": blob, "mailboxIds": { &inbox: true }, "receivedAt": "2023-01-02T10:00:00Z" });
    client.call("Email/import", json!({ "accountId": client.account, "emails": { "e": email } }));
    assert!(service.next_within(Duration::from_secs(3)).is_none());
    // Each is told once, those that come together in as few pushes as can be.
    for number in 0..6 {
        server.deliver("ann@sender.test", &client.address, mail(&format!("mail {number}")));
    }
    let mut subjects = Vec::new();
    while subjects.len() < 6 {
        let push = device.read(&service.next());
        for email in push["emails"].as_array().expect("emails") {
            subjects.push(email["subject"].as_str().expect("subject").to_owned());
        }
    }
    subjects.sort();
    assert_eq!(subjects, (0..6).map(|number| format!("mail {number}")).collect::<Vec<_>>());
    assert!(service.next_within(Duration::from_secs(3)).is_none());
}

#[test]
fn a_service_that_fails_is_tried_again_and_one_that_forgets_is_not() {
    let (service, _server, client) = world();
    let device = Device::new();
    let id = subscribe(&service, &client, &device, json!({ "types": ["Mailbox"] }));
    for trouble in ["503 Busy", "hang up"] {
        service.answer(trouble);
        let begun = Instant::now();
        let told = client.create_mailbox(trouble);
        service.next();
        // Within the wait after the first try, and with what has changed meanwhile.
        client.create_mailbox(&format!("{trouble} and more"));
        let again = device.read(&service.next());
        assert!(begun.elapsed() > Duration::from_secs(4), "{:?}", begun.elapsed());
        assert_eq!(again["changed"][&client.account]["Mailbox"], client.state("Mailbox"), "{told}");
        std::thread::sleep(Duration::from_millis(2_100));
    }
    service.answer("429 Slow Down\r\nRetry-After: 7");
    let begun = Instant::now();
    client.create_mailbox("too often");
    service.next();
    service.next();
    assert!(begun.elapsed() > Duration::from_secs(7), "{:?}", begun.elapsed());
    std::thread::sleep(Duration::from_millis(2_100));
    // Redirects lead nowhere, not even elsewhere on the same service.
    service.answer(&format!("302 Found\r\nLocation: {}", service.url("elsewhere")));
    client.create_mailbox("redirected");
    assert_eq!(service.next().path, "/d");
    assert_eq!(service.next().path, "/d");
    std::thread::sleep(Duration::from_millis(2_100));
    service.answer("410 Gone");
    client.create_mailbox("gone");
    service.next();
    eventually("the subscription is gone", || list(&client).is_empty().then_some(()));
    assert!(update(&client, &id, json!({ "expires": null })).is_err());
    client.create_mailbox("not told");
    assert!(service.next_within(Duration::from_secs(3)).is_none());
}

#[test]
fn a_subscription_goes_with_its_credential_and_only_that_sees_it() {
    let (service, server, client) = world();
    let token = server.cli_json(&["token", "add", &client.address]);
    let bearer = format!("Bearer {}", token["token"].as_str().expect("token"));
    let mut phone = server.sign_in(&client.address);
    phone.authorization = bearer;
    let devices = [Device::new(), Device::new()];
    let by_password = subscribe(&service, &client, &devices[0], json!({ "url": service.url("password") }));
    let by_token = subscribe(&service, &phone, &devices[1], json!({ "url": service.url("token") }));
    let ids = |client: &Client| list(client).iter().map(|one| one["id"].clone()).collect::<Vec<_>>();
    assert_eq!((ids(&client), ids(&phone)), (vec![json!(by_password)], vec![json!(by_token)]));
    let refused = update(&client, &by_token, json!({ "types": [] })).expect_err("another credential's");
    assert_eq!(refused["type"], "notFound");
    let answer = call(&client, "PushSubscription/set", json!({ "destroy": [by_token] }));
    assert_eq!(answer["notDestroyed"][&by_token]["type"], "notFound");
    // The token goes, and with it what it made.
    server.cli(&["token", "revoke", token["id"].as_str().expect("id")]);
    client.create_mailbox("told to one");
    assert_eq!(service.next().path, "/password");
    assert!(service.next_within(Duration::from_secs(3)).is_none());
    // So with the password.
    server.cli(&["account", "password", &client.address, "--password", "another one entirely"]);
    let body = message::text("a@b.test", &client.address, "new", "x");
    server.deliver("a@b.test", &client.address, body);
    assert!(service.next_within(Duration::from_secs(3)).is_none());
}

#[test]
fn what_a_client_may_set_and_what_not() {
    let (service, _server, client) = world();
    let fine = json!({ "deviceClientId": "d", "url": service.url("x") });
    let with = |name: &str, value: Value| {
        let mut object = fine.clone();
        object[name] = value;
        object
    };
    let device = Device::new();
    for (name, value) in [
        ("url", json!("http://push.test/")),
        ("url", json!("https://user@push.test/")),
        ("url", json!("https://10.1.2.3/")),
        ("url", json!("https://[::1]/")),
        ("url", json!("https://169.254.169.254/latest/meta-data")),
        ("url", json!(7)),
        ("url", Value::Null),
        ("deviceClientId", json!("")),
        ("keys", json!({ "p256dh": "AAAA", "auth": "AAAA" })),
        ("verificationCode", json!("x")),
        ("expires", json!("2020-01-01T00:00:00Z")),
        ("expires", json!("soon")),
        ("types", json!("Email")),
        ("id", json!("x")),
        ("emailPush", json!({ "x": { "properties": ["id"] } })),
        ("emailPush", json!({ &client.account: { "properties": ["nothing"] } })),
        ("emailPush", json!({ &client.account: { "properties": ["id"], "filter": { "what": 1 } } })),
        ("emailPush", json!({ &client.account: { "properties": ["id"], "urgency": "at once" } })),
    ] {
        let error = create(&client, with(name, value.clone())).expect_err(name);
        assert_eq!(error["type"], "invalidProperties", "{name} {value}: {error}");
        assert_eq!(error["properties"], json!([name]), "{value}: {error}");
    }
    // Content of mail goes to nobody without keys.
    let email_push = json!({ &client.account: { "properties": ["id"] } });
    let error = create(&client, with("emailPush", email_push)).expect_err("no keys");
    assert_eq!(error["properties"], json!(["keys"]));
    // A time is shortened; what is shown are neither URL nor keys.
    let mut object = with("expires", json!("2999-01-01T00:00:00Z"));
    object["keys"] = device.keys();
    let created = create(&client, object).expect("created");
    assert!(created["expires"].as_str().is_some_and(|date| date < "2999"), "{created}");
    let id = created["id"].as_str().expect("id");
    for hidden in ["url", "keys"] {
        let answer =
            client.calls_using(&[CORE], json!([["PushSubscription/get", { "properties": [hidden] }, "0"]]));
        assert_eq!((answer[0].name.as_str(), &answer[0].arguments["type"]), ("error", &json!("forbidden")));
    }
    let shown = list(&client);
    assert_eq!(
        names(&shown[0]),
        ["deviceClientId", "emailPush", "expires", "id", "types", "verificationCode"]
    );
    assert_eq!(shown[0]["verificationCode"], Value::Null);
    for (name, value) in
        [("url", json!(service.url("y"))), ("keys", Value::Null), ("deviceClientId", json!("e"))]
    {
        let error = update(&client, id, json!({ name: value })).expect_err(name);
        assert_eq!(error["properties"], json!([name]), "{error}");
    }
    assert_eq!(
        update(&client, id, json!({ "expires": "2999-01-01T00:00:00Z" })).map(|told| names(&told).len()),
        Ok(1)
    );
    let answer =
        call(&client, "PushSubscription/get", json!({ "ids": [id, "nobody"], "properties": ["types"] }));
    assert_eq!(answer, json!({ "list": [{ "id": id, "types": null }], "notFound": ["nobody"] }));
    let answer = call(&client, "PushSubscription/set", json!({ "destroy": [id] }));
    assert_eq!(answer["destroyed"], json!([id]));
    assert!(answer.get("newState").is_none() && answer.get("accountId").is_none(), "{answer}");
    assert!(list(&client).is_empty());
}

/// A name that leads into a private network is not followed there, whatever it led to before.
#[test]
fn nothing_is_pushed_into_a_private_network() {
    let service = PushService::start();
    let dns = Dns::start();
    dns.add("push.test", Record::A(Ipv4Addr::LOCALHOST));
    let start = |networks: &str| {
        Server::builder()
            .env("POSTRIDER_DNS", dns.address().to_string())
            .env("SSL_CERT_FILE", service.certificate().to_string_lossy())
            .env("POSTRIDER_PUSH_NETWORKS", networks)
            .start()
    };
    let url = format!("https://push.test:{}/x", service.address.port());
    let new = json!({ "deviceClientId": "d", "url": url });
    let server = start("10.0.0.0/8");
    create(&server.account(), new.clone()).expect("created");
    assert!(service.next_within(Duration::from_secs(3)).is_none());
    assert_eq!(service.connections(), 0, "not even a connection");
    eventually("the log says why", || server.log().contains("push_networks").then_some(()));
    assert!(!server.log().contains("/x"), "a URL is a secret");
    let server = start("127.0.0.0/8");
    create(&server.account(), new).expect("created");
    assert_eq!(service.next().path, "/x");
}
