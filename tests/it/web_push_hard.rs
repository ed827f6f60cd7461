//! Web push when something is against it: subscriptions that end, services that lead elsewhere, a
//! server that is killed. Each test also looks at what the operator sees counted.

use std::net::Ipv4Addr;
use std::time::Duration;

use postrider::types::clock::Clock;
use postrider::types::date::utc_date;
use serde_json::{Value, json};

use crate::support::dns::Record;
use crate::support::jmap::{CORE, Client};
use crate::support::push_service::{Device, PushService};
use crate::support::server::Server;
use crate::support::{PATIENCE, eventually, message, poll};
use crate::web_push::{list, subscribe, update, world};

/// What becomes of pushes, as `postrider_web_pushes_total` has it.
const OUTCOMES: [&str; 4] = ["told", "put off", "gone", "given up"];

/// How long a row is in the hand of a worker that has died.
const LEASE: Duration = Duration::from_secs(60);

/// An address where pushes may not go in [`fenced`].
const INSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A service at 127.0.0.1, the one private address to which the server may push; and another at
/// [`INSIDE`], on the same port.
fn fenced() -> (PushService, PushService, Server, Client) {
    let service = PushService::start();
    let inside = service.beside(INSIDE);
    let builder = service.trusted_by(Server::builder());
    let server = builder.env("POSTRIDER_PUSH_NETWORKS", "127.0.0.1").start();
    let client = server.account();
    (service, inside, server, client)
}

/// The paths of the next pushes, sorted: those of one change come in any order.
#[track_caller]
fn paths(service: &PushService, count: usize) -> Vec<String> {
    let mut paths = Vec::new();
    while paths.len() < count {
        paths.push(service.next().path);
    }
    paths.sort();
    paths
}

/// How many pushes ended how; what none has come to is left out.
fn counted(server: &Server) -> Vec<(&'static str, f64)> {
    let count = |outcome: &'static str| {
        let count = server.metric(&format!("postrider_web_pushes_total{{outcome=\"{outcome}\"}}"))?;
        Some((outcome, count))
    };
    OUTCOMES.into_iter().filter_map(count).collect()
}

/// Waits for these counts: a push is counted when the service's answer has been read.
#[track_caller]
fn assert_counted(server: &Server, wanted: &[(&str, f64)]) {
    let mut last = Vec::new();
    poll(|| {
        last = counted(server);
        (last == wanted).then_some(())
    });
    assert_eq!(last, wanted);
}

/// The state of mailboxes of which a device was told.
#[track_caller]
fn told_state(service: &PushService, device: &Device, client: &Client) -> Value {
    device.read(&service.next())["changed"][&client.account]["Mailbox"].clone()
}

#[test]
fn a_subscription_that_is_over_hears_nothing_more_and_one_renewed_in_time_goes_on() {
    let (service, server, client) = world();
    let device = Device::new();
    let [over, renewed] = ["over", "renewed"]
        .map(|path| subscribe(&service, &client, &device, json!({ "url": service.url(path) })));
    client.create_mailbox("told to both");
    assert_eq!(paths(&service, 2), ["/over", "/renewed"]);

    // In one request, so that the renewal is in time however busy the machine is.
    let soon = utc_date(Clock::system().now_ms() + 3_000);
    let both = json!({ &over: { "expires": soon }, &renewed: { "expires": soon } });
    let one = json!({ &renewed: { "expires": null } });
    let calls = json!([
        ["PushSubscription/set", { "update": both }, "0"],
        ["PushSubscription/set", { "update": one }, "1"],
    ]);
    let answers = client.calls_using(&[CORE], calls);
    assert_eq!(answers[0].arguments["updated"], json!({ &over: null, &renewed: null }), "{answers:?}");
    let until = answers[1].arguments["updated"][&renewed]["expires"].as_str().expect("a date");
    assert!(until > soon.as_str(), "{until}");

    let left = eventually("one is over", || {
        let left = list(&client);
        (left.len() == 1).then_some(left)
    });
    assert_eq!((&left[0]["id"], &left[0]["expires"]), (&json!(renewed), &json!(until)));
    // The second push comes two seconds after the first: one to the other would come before it.
    for name in ["after that", "and once more"] {
        client.create_mailbox(name);
        assert_eq!(service.next().path, "/renewed");
    }
    assert_counted(&server, &[("told", 6.0)]);
    let refused = update(&client, &over, json!({ "expires": null })).expect_err("it is over");
    assert_eq!(refused["type"], "notFound");
}

#[test]
fn a_subscription_that_its_service_has_forgotten_goes_and_the_others_stay() {
    let (service, server, client) = world();
    let device = Device::new();
    for name in ["a", "b", "c"] {
        subscribe(&service, &client, &device, json!({ "deviceClientId": name, "url": service.url(name) }));
    }
    for answer in ["404 Not Found", "410 Gone"] {
        service.answer(answer);
    }
    client.create_mailbox("two are gone");
    // The answers go to the pushes in the order in which they come.
    let (first, second, kept) = (service.next().path, service.next().path, service.next().path);
    let left = eventually("two subscriptions are gone", || {
        let left = list(&client);
        (left.len() == 1).then_some(left)
    });
    assert_eq!(left[0]["deviceClientId"], kept.trim_start_matches('/'), "{first} and {second} are gone");
    // The one that is left rests for two seconds: pushes to the others would come before this one.
    client.create_mailbox("told to one");
    assert_eq!(service.next().path, kept);
    assert_counted(&server, &[("told", 5.0), ("gone", 2.0)]);
}

#[test]
fn a_redirect_leads_no_push_into_a_private_network() {
    let (service, inside, server, client) = fenced();
    let device = Device::new();
    server.dns.add("inside.test", Record::A(INSIDE));
    for path in ["a", "b", "c", "d"] {
        subscribe(&service, &client, &device, json!({ "url": service.url(path) }));
    }
    // 307 and 308 would take the content along.
    let (address, port) = (inside.address, inside.address.port());
    for answer in [
        format!("301 Moved Permanently\r\nLocation: https://{address}/301"),
        format!("302 Found\r\nLocation: https://{address}/302"),
        format!("307 Temporary Redirect\r\nLocation: http://{address}/307"),
        format!("308 Permanent Redirect\r\nLocation: https://inside.test:{port}/308"),
    ] {
        service.answer(&answer);
    }
    client.create_mailbox("redirected");
    assert_eq!(paths(&service, 4), ["/a", "/b", "/c", "/d"]);
    // Each is tried again where it was.
    assert_eq!(paths(&service, 4), ["/a", "/b", "/c", "/d"]);
    assert_counted(&server, &[("told", 8.0), ("put off", 4.0)]);
    assert_eq!(inside.connections(), 0, "not even a connection");
    assert!(!server.dns.was_asked("inside.test"), "not even a look-up");
}

#[test]
fn a_name_that_moves_into_a_private_network_is_told_nothing_until_it_is_back() {
    let (service, inside, server, client) = fenced();
    let device = Device::new();
    let lead_to = |host: Ipv4Addr| {
        server.dns.remove("push.test");
        server.dns.add("push.test", Record::A(host));
    };
    lead_to(Ipv4Addr::LOCALHOST);
    // A connection that is kept would go on leading to where the name led before.
    for _ in 0..2 {
        service.answer("201 Created\r\nConnection: close");
    }
    let url = format!("https://push.test:{}/d", service.address.port());
    subscribe(&service, &client, &device, json!({ "url": url }));
    client.create_mailbox("before");
    assert_eq!(told_state(&service, &device, &client), client.state("Mailbox"));
    assert_eq!(service.connections(), 2);
    assert!(!server.log().contains("push_networks"));

    // The next push comes two seconds after the last: the record, which holds for one, is asked for anew.
    lead_to(INSIDE);
    client.create_mailbox("meanwhile");
    eventually("the log says why", || server.log().contains("push_networks").then_some(()));
    assert_counted(&server, &[("told", 2.0), ("put off", 1.0)]);
    assert_eq!((inside.connections(), service.connections()), (0, 2), "not even a connection");

    lead_to(Ipv4Addr::LOCALHOST);
    assert_eq!(told_state(&service, &device, &client), client.state("Mailbox"));
    assert_counted(&server, &[("told", 3.0), ("put off", 1.0)]);
    assert_eq!(inside.connections(), 0);
}

#[test]
fn a_push_that_waits_outlives_the_server() {
    let (service, server, client) = world();
    let device = Device::new();
    let email_push = json!({ &client.account: { "properties": ["subject"] } });
    subscribe(&service, &client, &device, json!({ "types": [], "emailPush": email_push }));
    let deliver = |subject: &str| {
        let mail = message::text("a@sender.test", &client.address, subject, "x");
        server.deliver("a@sender.test", &client.address, mail);
    };
    service.answer("503 Service Unavailable\r\nRetry-After: 8");
    deliver("before the end");
    let wanted = json!([{ "subject": "before the end" }]);
    assert_eq!(device.read(&service.next())["emails"], wanted);
    assert_counted(&server, &[("told", 1.0), ("put off", 1.0)]);
    server.kill();
    assert!(service.next_within(Duration::ZERO).is_none(), "it should wait when the server is killed");

    server.start_again();
    // Where it was killed before it had noted when to try again, its lease has to end first.
    let again = service.next_within(LEASE + PATIENCE).expect("it is pushed after all");
    assert_eq!(device.read(&again)["emails"], wanted);
    assert_counted(&server, &[("told", 1.0)]);
    // What has been told is not told again with what comes next.
    deliver("after the start");
    assert_eq!(device.read(&service.next())["emails"], json!([{ "subject": "after the start" }]));
}
