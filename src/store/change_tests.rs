//! States: which are answered, which are refused, and where `maxChanges` may cut.

use std::collections::BTreeSet;

use crate::store::Store;
use crate::store::change::{Changes, ChangesSince, changes_since, created_after, state_of, trim};
use crate::store::testing::{bare_account, store_in};
use crate::store::tx::Tx;
use crate::types::clock::Clock;
use crate::types::id::{AccountId, Id};
use crate::types::object_type::ObjectType;
use crate::types::state::State;

const DAY_MS: i64 = 86_400_000;

struct Bench {
    store: Store,
    clock: Clock,
    account: AccountId,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::fixed(1_767_225_600_000);
        let store = store_in(folder.path(), clock.clone());
        let account = bare_account(&store).await;
        Bench { store, clock, account, _folder: folder }
    }

    /// One transaction that creates so many objects of a type.
    async fn create(&self, object_type: ObjectType, count: usize) -> Vec<Id> {
        let unit = async move |tx: &mut Tx| {
            let ids: Vec<Id> = (0..count).map(|_| tx.new_id()).collect();
            for id in &ids {
                tx.created(object_type, *id);
            }
            Ok(ids)
        };
        self.store.write(self.account, unit).await.unwrap()
    }

    async fn state(&self, object_type: ObjectType) -> State {
        let mut snapshot = self.store.read().await.unwrap();
        state_of(&mut snapshot, self.account, object_type).await.unwrap()
    }

    async fn since(&self, state: State, limit: usize) -> ChangesSince {
        let mut snapshot = self.store.read().await.unwrap();
        changes_since(&mut snapshot, self.account, ObjectType::Email, state, limit).await.unwrap()
    }

    async fn is_known(&self, state: State) -> bool {
        matches!(self.since(state, 10).await, ChangesSince::Known { .. })
    }
}

#[tokio::test]
async fn a_transaction_of_many_objects_is_told_in_pieces() {
    let bench = Bench::new().await;
    let before = bench.state(ObjectType::Email).await;
    let mut wanted: BTreeSet<Id> = bench.create(ObjectType::Email, 500).await.into_iter().collect();
    wanted.extend(bench.create(ObjectType::Email, 3).await);
    let head = bench.state(ObjectType::Email).await;
    let (mut state, mut told, mut pieces) = (before, Vec::new(), 0);
    loop {
        let ChangesSince::Known { changes, new_state, has_more } = bench.since(state, 128).await else {
            panic!("{state} is refused");
        };
        assert!(changes.created.len() <= 128, "{}", changes.created.len());
        assert_ne!(new_state, state, "no step forward");
        told.extend(changes.created);
        state = new_state;
        pieces += 1;
        if !has_more {
            break;
        }
    }
    assert_eq!((pieces, state), (4, head));
    assert_eq!(told.len(), 503, "none twice");
    assert_eq!(told.into_iter().collect::<BTreeSet<_>>(), wanted, "and none left out");
}

#[tokio::test]
async fn a_place_within_a_transaction_is_followed_by_what_comes_after_it() {
    let bench = Bench::new().await;
    let before = bench.state(ObjectType::Email).await;
    bench.create(ObjectType::Email, 4).await;
    let ChangesSince::Known { changes, new_state, has_more: true } = bench.since(before, 3).await else {
        panic!("three of four");
    };
    assert_eq!(new_state.to_string().parse(), Ok(new_state), "a client can bring it back");
    bench.create(ObjectType::Email, 1).await;
    let ChangesSince::Known { changes: rest, .. } = bench.since(new_state, 10).await else {
        panic!("{new_state} is refused");
    };
    assert_eq!((changes.created.len(), rest.created.len()), (3, 2));
}

#[tokio::test]
async fn states_that_this_log_cannot_answer_are_refused() {
    let bench = Bench::new().await;
    bench.create(ObjectType::Email, 1).await;
    let head = bench.state(ObjectType::Email).await;
    assert!(bench.is_known(State::at(head.epoch, head.modseq - 1)).await);
    assert!(!bench.is_known(State::at(head.epoch + 1, head.modseq)).await, "another epoch");
    assert!(!bench.is_known(State::at(head.epoch + 1, head.modseq - 1)).await, "another epoch");
    assert!(!bench.is_known(State::at(head.epoch, head.modseq + 1)).await, "from the future");
}

#[tokio::test]
async fn each_type_has_a_head_of_its_own() {
    let bench = Bench::new().await;
    bench.create(ObjectType::Email, 1).await;
    let email = bench.state(ObjectType::Email).await;
    bench.create(ObjectType::Mailbox, 1).await;
    assert_eq!(bench.state(ObjectType::Email).await, email, "an Email did not change");
    assert_ne!(bench.state(ObjectType::Mailbox).await, email);
    let ChangesSince::Known { changes, .. } = bench.since(email, 10).await else { panic!("known") };
    assert_eq!(changes, Changes::default());
}

#[tokio::test]
async fn the_head_is_answered_however_old_and_nothing_below_the_floor_is() {
    let bench = Bench::new().await;
    bench.create(ObjectType::Email, 3).await;
    let old = bench.state(ObjectType::Email).await;
    let within = State { within: 1, ..old };
    assert!(bench.is_known(within).await);
    // The floor comes to the Emails' own transaction, then passes it, while other types go on.
    for _ in 0..3 {
        bench.clock.advance_ms(40 * DAY_MS);
        bench.create(ObjectType::Mailbox, 1).await;
        while trim(&bench.store, bench.account, bench.clock.now_ms() - 30 * DAY_MS).await.unwrap() {}
        assert_eq!(bench.state(ObjectType::Email).await, old);
        assert!(bench.is_known(old).await, "a client that is up to date stays so");
        assert!(!bench.is_known(State::at(old.epoch, 0)).await);
        assert!(!bench.is_known(within).await, "the rest of that transaction is gone");
    }
}

#[tokio::test]
async fn an_event_tells_the_modseq_that_the_log_has() {
    let bench = Bench::new().await;
    let mut events = bench.store.bus().subscribe();
    bench.create(ObjectType::Email, 2).await;
    let head = bench.state(ObjectType::Email).await;
    let event = events.recv().await.unwrap();
    let (types, at) = ([ObjectType::Email].into(), bench.clock.now_ms());
    assert_eq!(event, crate::bus::Event::Changed { account: bench.account, modseq: head.modseq, types, at });
}

#[tokio::test]
async fn what_was_created_is_found_behind_however_many_other_changes() {
    let bench = Bench::new().await;
    let old = bench.create(ObjectType::Email, 3).await;
    let since = state_of(&mut bench.store.read().await.unwrap(), bench.account, ObjectType::Email).await;
    let since = since.unwrap().modseq;
    let new = bench.create(ObjectType::Email, 2).await;
    bench.create(ObjectType::Mailbox, 1).await;
    for _ in 0..50 {
        let old = old.clone();
        let unit = async move |tx: &mut Tx| {
            for id in &old {
                tx.updated(ObjectType::Email, *id, 1);
            }
            Ok(())
        };
        bench.store.write(bench.account, unit).await.unwrap();
    }
    let found = async |limit, looked_through| {
        let mut snapshot = bench.store.read().await.unwrap();
        let found =
            created_after(&mut snapshot, bench.account, ObjectType::Email, since, limit, looked_through);
        found.await.unwrap().into_iter().map(|(id, _)| id).collect::<Vec<_>>()
    };
    assert_eq!(found(10, 1_000).await, [new[1], new[0]], "the newest first");
    assert_eq!(found(1, 1_000).await, [new[1]]);
    assert!(found(10, 100).await.is_empty(), "it ends somewhere");
}
