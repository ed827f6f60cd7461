//! The bus over real servers: what is heard, and what is told when events may be missing.

use std::time::{Duration, Instant};

use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

use crate::bus::testing::Server;
use crate::bus::{Bus, Event, Queue, Topic};
use crate::config::engine::{CacheUrl, cache_url};
use crate::types::id::{AccountId, Id};
use crate::types::object_type::ObjectType;

const ACCOUNT: AccountId = AccountId(Id(7));

fn changed(account: i64, modseq: i64) -> Event {
    Event::Changed { account: AccountId(Id(account)), modseq, types: [ObjectType::Email].into(), at: 0 }
}

/// A bus that is connected.
async fn open(url: &CacheUrl) -> Bus {
    let bus = Bus::open(url);
    until(&bus, false, Duration::from_secs(20)).await;
    bus
}

async fn until(bus: &Bus, is_broken: bool, within: Duration) {
    let mut state = bus.is_broken();
    let waiting = state.wait_for(|state| *state == is_broken);
    timeout(within, waiting).await.expect("the state of the bus").unwrap();
}

/// The next event of a kind, whatever else comes.
async fn heard(events: &mut Receiver<Event>, wanted: &Event, within: Duration) -> bool {
    let waiting = async { while events.recv().await.unwrap() != *wanted {} };
    timeout(within, waiting).await.is_ok()
}

/// Listens for a topic, from now on.
async fn listening(bus: &Bus, topic: Topic) -> (crate::bus::Interest, Receiver<Event>) {
    let mut events = bus.subscribe();
    let interest = bus.interest(topic);
    assert!(heard(&mut events, &Event::Missed(Some(topic)), Duration::from_secs(5)).await);
    (interest, events)
}

/// Events that go on until one of them is heard, as a server that is taken into use does not say when.
async fn flows(from: &Bus, events: &mut Receiver<Event>, within: Duration) {
    let started = Instant::now();
    for modseq in 1_000.. {
        from.publish(changed(7, modseq));
        if heard(events, &changed(7, modseq), Duration::from_millis(200)).await {
            return;
        }
        assert!(started.elapsed() < within, "no event comes");
    }
}

#[tokio::test]
async fn events_reach_other_processes_that_are_interested_and_each_once() {
    let server = Server::start();
    let (one, two) = (open(&server.url()).await, open(&server.url()).await);
    let (_queue, _) = listening(&one, Topic::Queue(Queue::Outgoing)).await;
    let (_logins, _) = listening(&one, Topic::Logins).await;
    let (account, mut events) = listening(&one, Topic::Account(ACCOUNT)).await;
    let mut own = two.subscribe();
    let sent = [
        changed(8, 1),
        changed(7, 2),
        Event::Queued { queue: Queue::Index, lane: 1 },
        Event::Queued { queue: Queue::Outgoing, lane: 5 },
        Event::LoginChanged { login: Id(3) },
        changed(7, 3),
    ];
    for event in &sent {
        two.publish(event.clone());
    }
    for wanted in [1, 3, 4, 5] {
        let event = timeout(Duration::from_secs(5), events.recv()).await.unwrap();
        assert_eq!(event, Ok(sent[wanted].clone()));
    }
    // The publisher hears all of it, too, and not once more by way of the server.
    for event in sent {
        assert_eq!(own.try_recv(), Ok(event));
    }
    let (_mine, mut own) = listening(&two, Topic::Account(ACCOUNT)).await;
    two.publish(changed(7, 4));
    two.publish(changed(7, 5));
    assert_eq!((own.recv().await, own.recv().await), (Ok(changed(7, 4)), Ok(changed(7, 5))));
    assert!(timeout(Duration::from_millis(200), own.recv()).await.is_err());
    // The last interest ends the subscription.
    drop(account);
    drop(_mine);
    let channel = format!("postrider:a:{ACCOUNT}");
    let ended = async {
        while server.command::<(String, i64)>(&["pubsub", "numsub", &channel]).1 > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(5), ended).await.unwrap();
}

#[tokio::test]
async fn installations_with_other_prefixes_hear_nothing_of_each_other() {
    let server = Server::start();
    let other = cache_url(&format!("redis://127.0.0.1:{}/0?prefix=other", server.port)).unwrap();
    let (one, two) = (open(&server.url()).await, open(&other).await);
    let (_interest, mut events) = listening(&one, Topic::Account(ACCOUNT)).await;
    two.publish(changed(7, 1));
    assert!(!heard(&mut events, &changed(7, 1), Duration::from_millis(300)).await);
}

#[tokio::test]
async fn a_killed_server_is_noticed_and_after_its_return_events_flow_again() {
    let mut server = Server::start();
    let (one, two) = (open(&server.url()).await, open(&server.url()).await);
    let (_interest, mut events) = listening(&one, Topic::Account(ACCOUNT)).await;
    server.kill();
    for bus in [&one, &two] {
        until(bus, true, Duration::from_secs(3)).await;
    }
    two.publish(changed(7, 1));
    server.start_again();
    for bus in [&one, &two] {
        until(bus, false, Duration::from_secs(10)).await;
    }
    assert!(heard(&mut events, &Event::Missed(None), Duration::from_secs(5)).await);
    flows(&two, &mut events, Duration::from_secs(5)).await;
}

#[tokio::test]
async fn nobody_waits_for_a_server_that_hangs_and_what_was_lost_is_told() {
    let server = Server::start();
    let (one, two) = (open(&server.url()).await, open(&server.url()).await);
    let (_interest, mut events) = listening(&one, Topic::Account(ACCOUNT)).await;
    server.hang();
    let started = Instant::now();
    for modseq in 1..100_000 {
        two.publish(changed(9, modseq));
    }
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    for bus in [&one, &two] {
        until(bus, true, Duration::from_secs(4)).await;
    }
    server.go_on();
    for bus in [&one, &two] {
        until(bus, false, Duration::from_secs(10)).await;
    }
    while events.try_recv().is_ok() {}
    flows(&two, &mut events, Duration::from_secs(5)).await;
}

#[tokio::test]
async fn what_one_process_could_not_tell_makes_the_others_look() {
    let server = Server::start();
    let (one, two) = (open(&server.url()).await, open(&server.url()).await);
    let mut events = one.subscribe();
    // More than fits: the sender cannot run in between, since this is the only thread.
    for modseq in 0..40_000 {
        two.publish(changed(9, modseq));
    }
    assert!(heard(&mut events, &Event::Missed(None), Duration::from_secs(5)).await);
    assert!(!*one.is_broken().borrow() && !*two.is_broken().borrow());
}

#[test]
fn a_process_that_falls_silent_makes_the_bus_broken_and_one_that_leaves_does_not() {
    let server = Server::start();
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (here, there) = (runtime(), runtime());
    let mine = here.block_on(open(&server.url()));
    let (_logins, _) = here.block_on(listening(&mine, Topic::Logins));
    let leaving = there.block_on(open(&server.url()));
    std::thread::sleep(Duration::from_millis(1_200));
    there.block_on(leaving.close());
    std::thread::sleep(Duration::from_secs(4));
    assert!(!*mine.is_broken().borrow(), "it said good-bye");
    let silent = there.block_on(open(&server.url()));
    std::thread::sleep(Duration::from_millis(1_200));
    there.shutdown_background();
    here.block_on(until(&mine, true, Duration::from_secs(4)));
    drop(silent);
}

#[tokio::test]
async fn the_bus_runs_over_a_cluster() {
    let servers = Server::cluster();
    let url = |server: &Server| cache_url(&format!("redis+cluster://127.0.0.1:{}", server.port)).unwrap();
    let (one, two) = (open(&url(&servers[0])).await, open(&url(&servers[2])).await);
    let (_interest, mut events) = listening(&one, Topic::Account(ACCOUNT)).await;
    flows(&two, &mut events, Duration::from_secs(5)).await;
}

#[tokio::test]
async fn the_bus_follows_the_master_that_the_sentinels_name() {
    let mut master = Server::start();
    let _replica = Server::with(&["--replicaof", &format!("127.0.0.1 {}", master.port)]);
    let sentinel = Server::sentinel(&master);
    let url = cache_url(&format!("redis+sentinel://127.0.0.1:{}/mymaster", sentinel.port)).unwrap();
    let (one, two) = (open(&url).await, open(&url).await);
    let (_interest, mut events) = listening(&one, Topic::Account(ACCOUNT)).await;
    flows(&two, &mut events, Duration::from_secs(5)).await;
    let knows_replica = || {
        let replicas: Vec<deadpool_redis::redis::Value> =
            sentinel.command(&["sentinel", "replicas", "mymaster"]);
        !replicas.is_empty()
    };
    crate::bus::testing::wait_for("the replica", knows_replica);
    master.kill();
    until(&one, true, Duration::from_secs(3)).await;
    for bus in [&one, &two] {
        until(bus, false, Duration::from_secs(30)).await;
    }
    flows(&two, &mut events, Duration::from_secs(10)).await;
}
