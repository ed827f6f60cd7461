//! Events are hints: whatever becomes of them, a connection hears of every change, and of none twice.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, Event, Queue, Topic};
use crate::push::hub::{Hub, Listener, Wake};
use crate::store::Store;
use crate::store::directory::fixture::Fixture;
use crate::store::testing::store_with;
use crate::store::tx::Tx;
use crate::types::id::{AccountId, Id};
use crate::types::object_type::ObjectType;

struct Bench {
    fixture: Fixture,
    hub: Hub,
    account: AccountId,
    other: AccountId,
    closing: CancellationToken,
}

impl Bench {
    async fn new() -> Bench {
        let fixture = Fixture::new().await;
        let account = fixture.account("alice@example.test").await.account;
        let other = fixture.account("bob@example.test").await.account;
        let closing = CancellationToken::new();
        let hub = Hub::new(fixture.store.clone(), closing.clone());
        tokio::spawn(hub.clone().run());
        // It subscribes, and sweeps for the first time.
        tokio::time::sleep(Duration::from_millis(50)).await;
        Bench { fixture, hub, account, other, closing }
    }

    fn listen(&self) -> Listener {
        self.hub.listen(Id(1), &[self.account], vec![ObjectType::Email])
    }

    /// The same database with a bus on which nobody listens: what a crash leaves of a commit whose
    /// events were not published.
    fn unheard(&self) -> Store {
        store_with(self.fixture.folder.path(), Bus::memory(), self.fixture.clock.clone())
    }
}

async fn change(store: &Store, account: AccountId) -> i64 {
    let unit = async move |tx: &mut Tx| {
        tx.created(ObjectType::Email, tx.new_id());
        Ok(tx.modseq())
    };
    store.write(account, unit).await.unwrap()
}

async fn is_woken(listener: &mut Listener, within: Duration) -> bool {
    timeout(within, listener.wake()).await.is_ok()
}

#[tokio::test]
async fn a_commit_wakes_those_who_listen_to_its_account() {
    let bench = Bench::new().await;
    let mut mine = bench.listen();
    let mut other = bench.hub.listen(Id(2), &[bench.other], vec![ObjectType::Email]);
    let modseq = change(&bench.fixture.store, bench.account).await;
    let woken = timeout(Duration::from_secs(5), mine.wake()).await.unwrap();
    assert_eq!(woken, Wake::Accounts(vec![bench.account]));
    let news = mine.news(&[bench.account]).await.unwrap();
    assert_eq!(news[&bench.account][&ObjectType::Email].modseq, modseq);
    let other = timeout(Duration::from_millis(100), other.wake()).await.ok();
    assert_eq!(other, None, "nothing of another account");
}

#[tokio::test]
async fn a_change_that_no_event_told_is_found_within_a_minute() {
    let bench = Bench::new().await;
    let mut listener = bench.listen();
    let modseq = change(&bench.unheard(), bench.account).await;
    assert!(!is_woken(&mut listener, Duration::from_millis(200)).await, "nobody was told");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::time::resume();
    assert!(is_woken(&mut listener, Duration::from_secs(5)).await, "nor looked");
    let news = listener.news(&[bench.account]).await.unwrap();
    assert_eq!(news[&bench.account][&ObjectType::Email].modseq, modseq);
}

#[tokio::test]
async fn events_in_inverted_order_tell_the_newest_state_and_no_older_one() {
    let bench = Bench::new().await;
    let mut listener = bench.listen();
    let store = bench.unheard();
    let older = change(&store, bench.account).await;
    let newer = change(&store, bench.account).await;
    let event =
        |modseq| Event::Changed { account: bench.account, modseq, types: [ObjectType::Email].into(), at: 0 };
    let mut told = Vec::new();
    for modseq in [newer, older] {
        bench.fixture.store.bus().publish(event(modseq));
        assert!(is_woken(&mut listener, Duration::from_secs(5)).await);
        for states in listener.news(&[bench.account]).await.unwrap().into_values() {
            told.push(states[&ObjectType::Email].modseq);
        }
    }
    assert_eq!(told, [newer]);
}

#[tokio::test]
async fn a_login_whose_credentials_changed_must_come_in_again() {
    let bench = Bench::new().await;
    let (mut mine, mut other) = (bench.listen(), bench.hub.listen(Id(2), &[bench.account], Vec::new()));
    bench.fixture.store.bus().publish(Event::LoginChanged { login: Id(1) });
    assert_eq!(timeout(Duration::from_secs(5), mine.wake()).await.unwrap(), Wake::LoginChanged);
    assert!(!is_woken(&mut other, Duration::from_millis(100)).await);
    bench.closing.cancel();
    assert_eq!(timeout(Duration::from_secs(5), other.wake()).await.unwrap(), Wake::Closing);
}

#[tokio::test]
async fn after_events_were_missed_every_login_comes_in_again() {
    let bench = Bench::new().await;
    let (mut mine, mut other) = (bench.listen(), bench.hub.listen(Id(2), &[bench.other], Vec::new()));
    // This thread is the only one, so nothing is received until all is told: the first is lost.
    bench.fixture.store.bus().publish(Event::LoginChanged { login: Id(1) });
    for lane in 0..20_000 {
        bench.fixture.store.bus().publish(Event::Queued { queue: Queue::Index, lane });
    }
    for listener in [&mut mine, &mut other] {
        let woken = timeout(Duration::from_secs(5), listener.wake()).await;
        assert_eq!(woken, Ok(Wake::LoginChanged));
    }
}

#[tokio::test]
async fn states_are_read_anew_when_events_may_have_been_missed() {
    let bench = Bench::new().await;
    let mut listener = bench.listen();
    change(&bench.fixture.store, bench.account).await;
    listener.news(&[bench.account]).await.unwrap();
    // A commit that nobody tells of: the states that are known are old.
    let modseq = change(&bench.unheard(), bench.account).await;
    assert!(listener.news(&[bench.account]).await.unwrap().is_empty(), "no event, no question");
    bench.fixture.store.bus().publish(Event::Missed(Some(Topic::Account(bench.account))));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let news = listener.news(&[bench.account]).await.unwrap();
    assert_eq!(news[&bench.account][&ObjectType::Email].modseq, modseq);
}

#[tokio::test]
async fn what_nobody_listens_to_is_not_kept_up() {
    let bench = Bench::new().await;
    let mut first = bench.listen();
    first.news(&[bench.account]).await.unwrap();
    drop(first);
    // Whatever happens until somebody listens again is nobody's to tell.
    let modseq = change(&bench.unheard(), bench.account).await;
    let mut second = bench.listen();
    let news = second.news(&[bench.account]).await.unwrap();
    assert_eq!(news[&bench.account][&ObjectType::Email].modseq, modseq);
}

#[tokio::test]
async fn changes_that_follow_each_other_closely_are_told_together() {
    let bench = Bench::new().await;
    let mut listener = bench.listen();
    let mut wakes = 0;
    let begun = tokio::time::Instant::now();
    let changing = async {
        for _ in 0..100 {
            change(&bench.fixture.store, bench.account).await;
        }
    };
    let waking = async {
        loop {
            listener.wake().await;
            wakes += 1;
        }
    };
    tokio::select! { () = changing => {}, () = waking => {} }
    let most = 2 + begun.elapsed().as_millis() / 5;
    assert!(wakes <= most, "{wakes} wakes in {:?}", begun.elapsed());
}
