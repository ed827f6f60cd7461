//! Guessing passwords is slow, and slows nobody else.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::cache::Cache;
use crate::config::engine::CacheUrl;
use crate::store::directory::fixture::Fixture;
use crate::store::directory::sign_in::{SignIn, SignInError};
use crate::store::directory::{login, password};

const NAME: &str = "alice@example.test";
const WINDOW_MS: i64 = 15 * 60_000;

struct Bench {
    fixture: Fixture,
    sign_in: SignIn,
}

impl Bench {
    async fn new() -> Bench {
        let fixture = Fixture::new().await;
        let created = fixture.account(NAME).await;
        login::set_password(&fixture.store, created.login, password::hash("right").unwrap()).await.unwrap();
        let cache = Cache::open(&CacheUrl::Memory, 1 << 20, fixture.clock.clone());
        let sign_in = SignIn::new(fixture.store.clone(), cache, [1; 32]);
        Bench { fixture, sign_in }
    }

    async fn says(&self, name: &str, password: &str, from: IpAddr) -> &'static str {
        shown(&self.sign_in.with_password(name, password, from).await)
    }
}

fn shown<T>(answer: &Result<T, SignInError>) -> &'static str {
    match answer {
        Ok(_) => "in",
        Err(SignInError::Refused) => "refused",
        Err(SignInError::TooMany { .. }) => "too many",
        Err(SignInError::Busy) => "busy",
        Err(SignInError::Store(_)) => "store",
    }
}

fn host(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, number))
}

#[tokio::test]
async fn failures_of_a_login_are_limited_and_lock_nobody_out_elsewhere() {
    let bench = Bench::new().await;
    let mut refused = 0;
    while bench.says(NAME, "wrong", host(1)).await == "refused" {
        refused += 1;
        assert!(refused < 100, "as many guesses as one likes");
    }
    assert!(refused >= 5, "{refused} mistakes are too few for a person");
    assert_eq!(bench.says(NAME, "right", host(1)).await, "too many", "even the right one");
    assert_eq!(bench.says("Alice@EXAMPLE.test", "wrong", host(1)).await, "too many", "in any spelling");
    assert_eq!(bench.says(NAME, "right", host(2)).await, "in", "its owner is elsewhere");
    bench.fixture.clock.advance_ms(2 * WINDOW_MS);
    assert_eq!(bench.says(NAME, "right", host(1)).await, "in", "and it ends");
}

#[tokio::test]
async fn a_new_password_counts_at_once_although_the_old_one_was_guessed_at() {
    let bench = Bench::new().await;
    while bench.says(NAME, "wrong", host(1)).await == "refused" {}
    let mut snapshot = bench.fixture.store.read().await.unwrap();
    let login = login::by_name(&mut snapshot, NAME).await.unwrap().unwrap().id;
    drop(snapshot);
    login::set_password(&bench.fixture.store, login, password::hash("another").unwrap()).await.unwrap();
    assert_eq!(bench.says(NAME, "another", host(1)).await, "in");
}

#[tokio::test]
async fn failures_of_an_address_are_limited_whatever_the_name() {
    let bench = Bench::new().await;
    for number in 0..200 {
        // No address at all: refused without the cost of a hash, and counted.
        bench.says(&format!("nobody{number}"), "x", host(1)).await;
    }
    assert_eq!(bench.says(NAME, "right", host(1)).await, "too many");
    let token = bench.sign_in.with_token("pr_wrong", host(1)).await;
    assert_eq!(shown(&token), "too many", "tokens are guessed no better");
    assert_eq!(bench.says(NAME, "right", host(2)).await, "in");
}

#[tokio::test]
async fn what_is_remembered_of_a_password_ends_with_it() {
    let bench = Bench::new().await;
    assert_eq!(bench.says(NAME, "right", host(1)).await, "in");
    let mut snapshot = bench.fixture.store.read().await.unwrap();
    let login = login::by_name(&mut snapshot, NAME).await.unwrap().unwrap().id;
    drop(snapshot);
    login::set_password(&bench.fixture.store, login, password::hash("another").unwrap()).await.unwrap();
    assert_eq!(bench.says(NAME, "right", host(1)).await, "refused");
    assert_eq!(bench.says(NAME, "another", host(1)).await, "in");
}

#[tokio::test]
async fn whoever_is_known_does_not_wait_for_the_passwords_of_others() {
    let bench = Bench::new().await;
    assert_eq!(bench.says(NAME, "right", host(1)).await, "in");
    let mut guesses = JoinSet::new();
    for number in 0..40 {
        let sign_in = bench.sign_in.clone();
        guesses.spawn(async move { sign_in.with_password(NAME, "wrong", host(10 + number)).await.is_ok() });
    }
    // Those that can be are being verified by now.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let begun = Instant::now();
    assert_eq!(bench.says(NAME, "right", host(1)).await, "in");
    let waited = begun.elapsed();
    let finished = std::iter::from_fn(|| guesses.try_join_next()).count();
    assert!(finished < 20, "{finished} of 40 passwords were verified first, in {waited:?}");
    guesses.abort_all();
}

/// Threads of this process on which a password is verified.
fn password_threads() -> usize {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return 0 };
    let names =
        threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
    names.filter(|name| name.trim() == "password").count()
}

#[tokio::test]
async fn whoever_leaves_while_its_password_is_verified_makes_no_room_by_that() {
    let bench = Bench::new().await;
    for number in 0..60 {
        let sign_in = bench.sign_in.clone();
        let guess =
            tokio::spawn(async move { sign_in.with_password(NAME, "wrong", host(number)).await.is_ok() });
        tokio::time::sleep(Duration::from_millis(2)).await;
        guess.abort();
    }
    // Other tests of this process verify passwords too.
    let at_once = password_threads();
    assert!(at_once < 20, "{at_once} passwords are verified at once");
}

/// Messages are parsed and objects read on threads of the runtime, of which there are few.
#[test]
fn a_flood_of_passwords_leaves_threads_for_other_work() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(8).build();
    runtime.unwrap().block_on(async {
        let bench = Bench::new().await;
        let mut guesses = JoinSet::new();
        for number in 0..40 {
            let sign_in = bench.sign_in.clone();
            guesses.spawn(async move { sign_in.with_password(NAME, "wrong", host(number)).await.is_ok() });
        }
        // Those that can be are being verified by now.
        tokio::time::sleep(Duration::from_millis(20)).await;
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        let finished = std::iter::from_fn(|| guesses.try_join_next()).count();
        assert!(finished < 20, "{finished} of 40 passwords were verified first");
        guesses.abort_all();
    });
}

#[tokio::test]
async fn a_flood_of_passwords_is_turned_away_rather_than_queued() {
    let bench = Bench::new().await;
    let mut guesses = JoinSet::new();
    for number in 0..1_000_u32 {
        let sign_in = bench.sign_in.clone();
        let from = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number));
        guesses.spawn(async move { shown(&sign_in.with_password(NAME, "wrong", from).await) });
    }
    let mut verified = 0;
    while guesses.join_next().await.unwrap().unwrap() != "busy" {
        verified += 1;
        assert!(verified < 300, "everybody is queued");
    }
    guesses.abort_all();
}
