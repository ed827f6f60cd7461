//! The cache over real servers: what is shared, what stays when Redis goes, and that nobody waits.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::bus::testing::Server;
use crate::cache::{Cache, Rate, Space, Verified};
use crate::config::engine::{CacheUrl, cache_url};
use crate::types::clock::Clock;
use crate::types::id::{AccountId, Id};

const ACCOUNT: AccountId = AccountId(Id(1));
const MINUTE_MS: i64 = 60_000;

/// A cache of one process, with Redis in use.
async fn open(url: &CacheUrl, clock: &Clock) -> Cache {
    let cache = Cache::open(url, 1 << 20, clock.clone());
    is_up(&cache, true).await;
    cache
}

async fn is_up(cache: &Cache, wanted: bool) {
    let Cache::Redis(redis) = cache else { panic!("no Redis") };
    let started = Instant::now();
    while redis.is_up() != wanted {
        assert!(started.elapsed() < Duration::from_secs(20), "Redis in use: not {wanted}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn clock() -> Clock {
    Clock::fixed(1_000_000_000)
}

/// What is kept of some Emails, as soon as there is anything: nobody waits for writes.
async fn kept(cache: &Cache, ids: &[Id]) -> Vec<Option<Bytes>> {
    for _ in 0..100 {
        let found = cache.get_many(Space::Email, ACCOUNT, ids).await;
        if found.iter().any(Option::is_some) {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nothing is kept");
}

async fn round_trip(url: &CacheUrl) {
    let clock = clock();
    let (one, two) = (open(url, &clock).await, open(url, &clock).await);
    let value = |text: &'static str| Bytes::from_static(text.as_bytes());
    one.put_many(Space::Email, ACCOUNT, vec![(Id(7), value("seven")), (Id(9), value("nine\0"))]).await;
    let ids = [Id(9), Id(8), Id(7)];
    assert_eq!(kept(&two, &ids).await, [Some(value("nine\0")), None, Some(value("seven"))]);
    for (space, account) in [(Space::Structure, ACCOUNT), (Space::Email, AccountId(Id(2)))] {
        assert_eq!(two.get_many(space, account, &ids).await, [None, None, None]);
    }
    let verified = |login| Verified { login: Id(login), version: 3 };
    for login in [1, 2] {
        one.remember_verified([login as u8; 32], verified(login), MINUTE_MS).await;
    }
    assert_eq!(two.verified(&[1; 32]).await, Some(verified(1)));
    two.forget_login(Id(1)).await;
    assert_eq!(two.verified(&[1; 32]).await, None);
    assert_eq!(two.verified(&[2; 32]).await, Some(verified(2)));
    for (number, cache) in [&one, &two, &one].into_iter().enumerate() {
        assert_eq!(cache.rate_add(Rate::Recipients, "a", MINUTE_MS, 5).await, 5 * (number as u64 + 1));
    }
}

#[tokio::test]
async fn processes_share_what_they_keep() {
    round_trip(&Server::start().url()).await;
}

#[tokio::test]
async fn processes_share_it_over_a_cluster() {
    let servers = Server::cluster();
    round_trip(&cache_url(&format!("redis+cluster://127.0.0.1:{}", servers[1].port)).unwrap()).await;
}

#[tokio::test]
async fn the_cache_follows_the_master_that_the_sentinels_name() {
    let mut master = Server::start();
    let replica = Server::with(&["--replicaof", &format!("127.0.0.1 {}", master.port)]);
    let sentinel = Server::sentinel(&master);
    crate::bus::testing::wait_for("the replica", || {
        let replicas: Vec<deadpool_redis::redis::Value> =
            sentinel.command(&["sentinel", "replicas", "mymaster"]);
        !replicas.is_empty()
    });
    let url = cache_url(&format!("redis+sentinel://127.0.0.1:{}/mymaster", sentinel.port)).unwrap();
    round_trip(&url).await;
    let cache = open(&url, &clock()).await;
    master.kill();
    cache.rate_add(Rate::Recipients, "b", MINUTE_MS, 1).await;
    is_up(&cache, false).await;
    is_up(&cache, true).await;
    cache.rate_add(Rate::Recipients, "b", MINUTE_MS, 1).await;
    let keys: Vec<String> = replica.command(&["keys", "*:r:*"]);
    assert!(!keys.is_empty(), "it counts at the new master");
}

#[tokio::test]
async fn what_is_kept_ends_by_itself() {
    let (server, clock) = (Server::start(), clock());
    let (one, two) = (open(&server.url(), &clock).await, open(&server.url(), &clock).await);
    one.remember_verified([1; 32], Verified { login: Id(1), version: 3 }, 300).await;
    assert!(two.verified(&[1; 32]).await.is_some());
    one.put_many(Space::Email, ACCOUNT, vec![(Id(7), Bytes::from_static(b"x"))]).await;
    kept(&two, &[Id(7)]).await;
    one.rate_add(Rate::FailuresOfLogin, "a", MINUTE_MS, 1).await;
    for key in server.command::<Vec<String>>(&["keys", "postrider:*"]) {
        assert!(server.command::<i64>(&["ttl", &key]) >= 0, "{key} stays for ever");
    }
    tokio::time::sleep(Duration::from_millis(400)).await;
    clock.advance_ms(400);
    let fresh = open(&server.url(), &clock).await;
    for cache in [&one, &two, &fresh] {
        assert_eq!(cache.verified(&[1; 32]).await, None);
    }
}

#[tokio::test]
async fn rates_of_all_processes_count_over_the_last_window() {
    let (server, clock) = (Server::start(), clock());
    // At the beginning of a window.
    clock.advance_ms(MINUTE_MS - clock.now_ms().rem_euclid(MINUTE_MS));
    let (one, two) = (open(&server.url(), &clock).await, open(&server.url(), &clock).await);
    let add = async |cache: &Cache, by| cache.rate_add(Rate::FailuresOfAddress, "a", MINUTE_MS, by).await;
    assert_eq!(add(&one, 0).await, 0);
    assert_eq!(add(&one, 6).await, 6);
    assert_eq!(add(&two, 2).await, 8);
    assert_eq!(add(&one, 0).await, 8);
    clock.advance_ms(MINUTE_MS + MINUTE_MS / 2);
    let fresh = open(&server.url(), &clock).await;
    for cache in [&one, &two, &fresh] {
        assert_eq!(add(cache, 0).await, 4, "half of the window before");
    }
    assert_eq!(add(&fresh, 1).await, 5);
    assert_eq!(add(&two, 0).await, 5);
}

#[tokio::test]
async fn limits_stay_when_redis_dies_or_comes_back_empty() {
    let mut server = Server::start();
    let clock = clock();
    let (one, two) = (open(&server.url(), &clock).await, open(&server.url(), &clock).await);
    let add = async |cache: &Cache, by| cache.rate_add(Rate::FailuresOfLogin, "a", MINUTE_MS, by).await;
    add(&one, 5).await;
    assert_eq!(add(&two, 5).await, 10);
    assert_eq!(add(&one, 0).await, 10);
    server.kill();
    assert_eq!(add(&one, 1).await, 11, "from the sum that was seen last");
    assert_eq!(add(&two, 2).await, 12);
    server.start_again();
    for cache in [&one, &two] {
        is_up(cache, true).await;
    }
    assert_eq!(add(&two, 1).await, 13);
    server.command::<()>(&["flushall"]);
    assert_eq!(add(&two, 0).await, 13);
}

#[tokio::test]
async fn without_redis_each_process_keeps_its_own_and_nobody_waits() {
    let mut server = Server::start();
    let clock = clock();
    let (one, two) = (open(&server.url(), &clock).await, open(&server.url(), &clock).await);
    let verified = Verified { login: Id(1), version: 3 };
    one.remember_verified([1; 32], verified, MINUTE_MS).await;
    one.put_many(Space::Email, ACCOUNT, vec![(Id(7), Bytes::from_static(b"x"))]).await;
    for step in ["hangs", "is gone"] {
        if step == "hangs" {
            server.hang();
        } else {
            server.kill();
        }
        // The first waits a moment, all others not at all.
        let started = Instant::now();
        for _ in 0..200 {
            assert_eq!(two.get_many(Space::Email, ACCOUNT, &[Id(7)]).await, [None]);
            assert_eq!(one.verified(&[1; 32]).await, Some(verified));
            two.rate_add(Rate::Recipients, "a", MINUTE_MS, 1).await;
        }
        assert!(started.elapsed() < Duration::from_millis(500), "{step}: {:?}", started.elapsed());
        if step == "hangs" {
            server.go_on();
            is_up(&two, true).await;
            // What was read before is near by now, and what was counted stays.
            server.command::<()>(&["flushall"]);
        }
    }
    two.remember_verified([2; 32], verified, MINUTE_MS).await;
    assert_eq!(two.verified(&[2; 32]).await, Some(verified));
    assert_eq!(two.rate_add(Rate::Recipients, "a", MINUTE_MS, 0).await, 400);
    assert_eq!(one.get_many(Space::Email, ACCOUNT, &[Id(7)]).await, [Some(Bytes::from_static(b"x"))]);
    // A server that comes late is taken into use.
    let late = Cache::open(&server.url(), 1 << 20, clock.clone());
    assert_eq!(late.rate_add(Rate::Recipients, "b", MINUTE_MS, 1).await, 1);
    server.start_again();
    is_up(&late, true).await;
}
