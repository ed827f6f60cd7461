//! Push without the bus: what other processes commit is found in time, and found once.

use std::time::{Duration, Instant};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::bus::Bus;
use crate::bus::testing::Server;
use crate::push::hub::{Hub, Listener, Wake};
use crate::store::Store;
use crate::store::directory::access;
use crate::store::directory::fixture::Fixture;
use crate::store::testing::store_with;
use crate::store::tx::Tx;
use crate::types::id::{AccountId, Id};
use crate::types::object_type::ObjectType;

/// A push is late by no more, whatever has become of the bus.
const IN_TIME: Duration = Duration::from_secs(5);

/// Two processes over one database: this one serves clients, the other writes.
struct Bench {
    fixture: Fixture,
    server: Server,
    account: AccountId,
    login: Id,
    here: Bus,
    hub: Hub,
    other: Store,
}

impl Bench {
    async fn new() -> Bench {
        let fixture = Fixture::new().await;
        let user = fixture.account("alice@example.test").await;
        let server = Server::start();
        let open = || {
            let bus = Bus::open(&server.url());
            (store_with(fixture.folder.path(), bus.clone(), fixture.clock.clone()), bus)
        };
        let ((mine, here), (other, there)) = (open(), open());
        let hub = Hub::new(mine, CancellationToken::new());
        tokio::spawn(hub.clone().run());
        for bus in [&here, &there] {
            is_broken(bus, false).await;
        }
        Bench { account: user.account, login: user.login, fixture, server, here, hub, other }
    }

    /// A client that has been told all so far.
    async fn client(&self) -> Listener {
        let mut listener = self.hub.listen(self.login, &[self.account], vec![ObjectType::Email]);
        listener.news(&[self.account]).await.unwrap();
        // Begins to hear of the account.
        if !*self.here.is_broken().borrow() {
            let woken = timeout(IN_TIME, listener.wake()).await;
            assert_eq!(woken, Ok(Wake::Accounts(vec![self.account])));
        }
        listener
    }

    /// The other process commits; how long until the client is told.
    async fn told_after(&self, listener: &mut Listener) -> Duration {
        let unit = async move |tx: &mut Tx| {
            tx.created(ObjectType::Email, tx.new_id());
            Ok(tx.modseq())
        };
        let modseq = self.other.write(self.account, unit).await.unwrap();
        let started = Instant::now();
        let told = async {
            while let Wake::Accounts(accounts) = listener.wake().await {
                let news = listener.news(&accounts).await.unwrap();
                // What it was not told of an earlier change may come first.
                if news.get(&self.account).is_some_and(|states| states[&ObjectType::Email].modseq == modseq) {
                    return;
                }
            }
            panic!("the client was sent away");
        };
        timeout(IN_TIME, told).await.expect("the push is late");
        started.elapsed()
    }
}

async fn is_broken(bus: &Bus, wanted: bool) {
    let mut state = bus.is_broken();
    let waiting = state.wait_for(|state| *state == wanted);
    timeout(Duration::from_secs(20), waiting).await.expect("the state of the bus").unwrap();
}

#[tokio::test]
async fn what_another_process_commits_is_pushed_at_once() {
    let bench = Bench::new().await;
    let mut client = bench.client().await;
    let took = bench.told_after(&mut client).await;
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[tokio::test]
async fn a_push_is_in_time_while_redis_is_gone_and_prompt_after_its_return() {
    let mut bench = Bench::new().await;
    let mut client = bench.client().await;
    bench.told_after(&mut client).await;
    bench.server.kill();
    // At once, before anybody has noticed, and later.
    for _ in 0..3 {
        bench.told_after(&mut client).await;
    }
    let mut late = bench.client().await;
    bench.told_after(&mut late).await;
    bench.server.start_again();
    // Whatever falls between its return and ours.
    for _ in 0..3 {
        bench.told_after(&mut client).await;
    }
    is_broken(&bench.here, false).await;
    is_broken(bench.other.bus(), false).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let took = bench.told_after(&mut client).await;
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[tokio::test]
async fn a_push_is_in_time_while_redis_hangs_and_nothing_is_missed_when_it_goes_on() {
    let bench = Bench::new().await;
    let mut client = bench.client().await;
    bench.server.hang();
    for _ in 0..3 {
        bench.told_after(&mut client).await;
    }
    bench.server.go_on();
    for _ in 0..2 {
        bench.told_after(&mut client).await;
    }
}

#[tokio::test]
async fn a_flushed_redis_changes_nothing() {
    let bench = Bench::new().await;
    let mut client = bench.client().await;
    bench.server.command::<()>(&["flushall"]);
    let took = bench.told_after(&mut client).await;
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[tokio::test]
async fn a_login_that_changes_while_redis_is_gone_must_come_in_again_and_nobody_else() {
    let mut bench = Bench::new().await;
    let bob = bench.fixture.account("bob@example.test").await;
    bench.server.kill();
    is_broken(&bench.here, true).await;
    // The looks at the beginning of the loss are over.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let mut alice = bench.client().await;
    let mut other = bench.hub.listen(bob.login, &[bob.account], vec![ObjectType::Email]);
    // They are known from the next look on.
    tokio::time::sleep(Duration::from_secs(4)).await;
    access::grant(&bench.other, bench.login, bob.account, true).await.unwrap();
    let woken = async { while alice.wake().await != Wake::LoginChanged {} };
    timeout(IN_TIME, woken).await.expect("it still listens to what it was");
    let sent_away = async { while other.wake().await != Wake::LoginChanged {} };
    assert!(timeout(Duration::from_secs(4), sent_away).await.is_err());
}

#[tokio::test]
async fn only_accounts_with_a_client_are_listened_for() {
    let bench = Bench::new().await;
    let listens = |account: AccountId| {
        let channel = format!("postrider:a:{account}");
        bench.server.command::<(String, i64)>(&["pubsub", "numsub", &channel]).1
    };
    assert_eq!(listens(bench.account), 0);
    let one = bench.client().await;
    let two = bench.client_of_same();
    assert_eq!(listens(bench.account), 1);
    drop(one);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(listens(bench.account), 1, "another client is there");
    drop(two);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(listens(bench.account), 0);
}

impl Bench {
    fn client_of_same(&self) -> Listener {
        self.hub.listen(self.login, &[self.account], vec![ObjectType::Email])
    }
}
