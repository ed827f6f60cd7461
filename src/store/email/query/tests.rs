//! Windows are slices of the whole list, and what they cost does not grow with the mailbox.

use std::collections::HashSet;

use crate::store::Store;
use crate::store::directory::fixture::Fixture;
use crate::store::email::place::{Placed, Placement, place, placements};
use crate::store::email::query::{EmailQuery, Filter, Sort, SortBy, Start, Window};
use crate::store::mailbox;
use crate::store::plan::{assert_range_read, recorded, work_of};
use crate::store::testing::{Filling, fill};
use crate::store::tx::Tx;
use crate::types::id::{AccountId, Id};

/// An account with mail in its inbox, of which five have been put elsewhere as well or flagged.
struct Mail {
    fixture: Fixture,
    account: AccountId,
    inbox: Id,
    archive: Id,
    sent: Id,
    /// Oldest first.
    ids: Vec<Id>,
}

impl Mail {
    /// So many Emails, five of them unread, in threads of two.
    async fn of(emails: i64) -> Mail {
        Mail::over(Fixture::new().await, emails).await
    }

    async fn over(fixture: Fixture, emails: i64) -> Mail {
        let account = fixture.account("alice@example.test").await.account;
        let store = &fixture.store;
        let snapshot = &mut *store.read().await.unwrap();
        let inbox = mailbox::id_by_role(snapshot, account, "inbox").await.unwrap().unwrap();
        let archive = mailbox::id_by_role(snapshot, account, "archive").await.unwrap().unwrap();
        let sent = mailbox::id_by_role(snapshot, account, "sent").await.unwrap().unwrap();
        let filling = Filling { mailbox: inbox, emails, in_thread: 2, unread_every: emails / 5 };
        let ids = fill(store, account, filling).await;
        // The first ones, so that nothing is found by luck among the newest.
        change(store, account, &ids[..5], move |placed| placed.set_mailbox(archive, true)).await;
        change(store, account, &ids[3..6], |placed| placed.set_keyword("custom", true)).await;
        change(store, account, &ids[1..4], |placed| placed.set_keyword("$flagged", true)).await;
        change(store, account, &ids[4..5], move |placed| placed.set_mailbox(sent, true)).await;
        change(store, account, &ids[4..5], move |placed| placed.set_mailbox(inbox, false)).await;
        Mail { fixture, account, inbox, archive, sent, ids }
    }

    fn query(&self, filter: Option<Filter>) -> EmailQuery {
        EmailQuery {
            account: self.account,
            filter,
            sort: Vec::new(),
            collapse_threads: false,
            start: Start::Position(0),
            limit: 50,
            calculate_total: false,
        }
    }

    /// The window, and the steps that it took.
    async fn run(&self, query: EmailQuery) -> (Option<Window>, u64) {
        let snapshot = &mut *self.fixture.store.read().await.unwrap();
        let (window, work) =
            work_of(async { query.prepare(snapshot).await.unwrap().run(snapshot).await.unwrap() }).await;
        (window.ok(), work.steps)
    }

    /// A filter of every kind, alone and with others.
    fn filters(&self) -> Vec<Option<Filter>> {
        use Filter::{And, InMailbox, InMailboxOtherThan, Not, Or};
        let keyword = |name: &str, on| Filter::Keyword(name.to_owned(), on);
        let (inbox, archive) = (InMailbox(self.inbox), InMailbox(self.archive));
        vec![
            None,
            Some(inbox.clone()),
            Some(And(vec![archive.clone(), inbox.clone()])),
            Some(Or(vec![archive.clone(), inbox.clone()])),
            Some(Or(vec![archive.clone(), keyword("$flagged", true)])),
            Some(Not(vec![inbox.clone()])),
            Some(InMailboxOtherThan(vec![self.inbox])),
            Some(InMailboxOtherThan(vec![self.archive, self.sent])),
            Some(And(vec![InMailboxOtherThan(vec![self.inbox, self.archive]), keyword("$seen", false)])),
            Some(keyword("custom", true)),
            Some(And(vec![inbox.clone(), keyword("custom", true), Filter::After(1_000)])),
            Some(And(vec![inbox.clone(), keyword("custom", false), keyword("$seen", false)])),
            Some(Filter::Ids(vec![self.ids[7], self.ids[2], self.ids[4], Id(1)])),
            Some(And(vec![inbox.clone(), Filter::Ids(vec![self.ids[7], self.ids[2], self.ids[4]])])),
            Some(And(vec![inbox, Filter::SomeInThread("$flagged".to_owned())])),
            Some(And(vec![Filter::MinSize(1_003), Filter::HasAttachment(false)])),
        ]
    }
}

async fn change(
    store: &Store,
    account: AccountId,
    ids: &[Id],
    how: impl Fn(&mut Placed) + Clone + Send + Sync + 'static,
) {
    let ids = ids.to_vec();
    let unit = async move |tx: &mut Tx| {
        let found = placements(tx, account, &ids).await?;
        let moves: Vec<Placement> = found
            .into_iter()
            .map(|before| {
                let mut after = before.clone();
                how(&mut after);
                Placement { before: Some(before), after: Some(after) }
            })
            .collect();
        place(tx, &moves).await
    };
    store.write(account, unit).await.unwrap();
}

fn sorts() -> Vec<Vec<Sort>> {
    let by = |by, is_ascending| Sort { by, is_ascending };
    vec![
        Vec::new(),
        vec![by(SortBy::ReceivedAt, true)],
        vec![by(SortBy::Subject, false), by(SortBy::Size, true)],
        vec![by(SortBy::Keyword("$flagged".to_owned()), false), by(SortBy::ReceivedAt, true)],
    ]
}

#[tokio::test]
async fn every_window_is_a_slice_of_the_whole_list() {
    let mail = Mail::of(30).await;
    for filter in mail.filters() {
        for (sort, collapse_threads) in
            sorts().into_iter().flat_map(|sort| [(sort.clone(), false), (sort, true)])
        {
            let query =
                EmailQuery { sort, collapse_threads, calculate_total: true, ..mail.query(filter.clone()) };
            let whole = mail.run(query.clone()).await.0.unwrap();
            let told = format!("{query:?}");
            let length = whole.ids.len() as i64;
            assert_eq!((whole.position, whole.total), (0, Some(length)), "{told}");
            assert_eq!(whole.ids.iter().collect::<HashSet<_>>().len(), whole.ids.len(), "{told}");
            for position in [0, 2, length - 3, length, length + 5, -1, -3, -99] {
                for calculate_total in [false, true] {
                    let start = Start::Position(position);
                    let window =
                        mail.run(EmailQuery { start, limit: 2, calculate_total, ..query.clone() }).await;
                    let from = if position < 0 { length + position } else { position };
                    check(window.0, &whole, from, 2, &told);
                }
            }
            for (place, id) in (0..).zip(&whole.ids).step_by(3) {
                for (offset, limit) in
                    [(0, 2), (1, 3), (-1, 1), (-2, 4), (-99, 2), (99, 2), (i64::MIN, 0), (i64::MAX, 1)]
                {
                    let start = Start::Anchor { id: *id, offset };
                    let window = mail.run(EmailQuery { start, limit, ..query.clone() }).await;
                    check(window.0, &whole, i64::saturating_add(place, offset), limit, &told);
                }
            }
            let missing = mail.ids.iter().find(|id| !whole.ids.contains(id)).copied().unwrap_or(Id(1));
            let start = Start::Anchor { id: missing, offset: 0 };
            assert_eq!(mail.run(EmailQuery { start, ..query }).await.0, None, "{told}");
        }
    }
}

fn check(window: Option<Window>, whole: &Window, position: i64, limit: usize, told: &str) {
    let window = window.unwrap_or_else(|| panic!("no window: {told}"));
    let position = position.max(0);
    let wanted: Vec<Id> = whole.ids.iter().copied().skip(position as usize).take(limit).collect();
    assert_eq!((window.position, window.ids), (position, wanted), "{told}");
}

#[tokio::test]
async fn places_are_those_in_the_whole_list() {
    let mail = Mail::of(30).await;
    let candidates: HashSet<Id> =
        mail.ids.iter().copied().step_by(3).chain([mail.ids[4], mail.ids[7]]).collect();
    let snapshot = &mut *mail.fixture.store.read().await.unwrap();
    for filter in mail.filters() {
        for (sort, collapse_threads) in
            sorts().into_iter().flat_map(|sort| [(sort.clone(), false), (sort, true)])
        {
            let query =
                EmailQuery { sort, collapse_threads, calculate_total: true, ..mail.query(filter.clone()) };
            let whole = mail.run(query.clone()).await.0.unwrap();
            let prepared = query.clone().prepare(snapshot).await.unwrap();
            for up_to_id in [None, whole.ids.get(whole.ids.len() / 2).copied(), Some(Id(1))] {
                let end = whole.ids.iter().position(|id| Some(*id) == up_to_id).unwrap_or(usize::MAX);
                let listed = (0..).zip(&whole.ids).filter(|(_, id)| candidates.contains(id));
                let wanted: Vec<(i64, Id)> = listed
                    .map(|(place, id)| (place, *id))
                    .filter(|(place, _)| *place as usize <= end)
                    .collect();
                let found = prepared.places(snapshot, &candidates, up_to_id).await.unwrap();
                assert_eq!((found.places, found.total), (wanted, whole.total), "{up_to_id:?} {query:?}");
            }
        }
    }
}

/// Emails of the large mailbox of the tests below.
const MANY: i64 = 40_000;
/// Steps that a short read takes at the most, whatever the size of the mailbox.
const FEW_STEPS: u64 = 6_000;

#[tokio::test]
async fn what_a_list_costs_does_not_grow_with_the_mailbox() {
    use Filter::{And, InMailbox, InMailboxOtherThan, Not, Or};
    let mail = Mail::over(Fixture::on_sqlite().await, MANY).await;
    let keyword = |name: &str, on| Filter::Keyword(name.to_owned(), on);
    let (inbox, archive) = (InMailbox(mail.inbox), InMailbox(mail.archive));
    let unread = keyword("$seen", false);
    let oldest = Filter::Before(5_000);
    for (filter, length) in [
        (None, MANY),
        (Some(inbox.clone()), MANY - 1),
        (Some(And(vec![inbox.clone(), unread.clone()])), 5),
        (Some(And(vec![And(vec![inbox.clone()]), Not(vec![keyword("$seen", true)])])), 5),
        (
            Some(Or(vec![
                And(vec![inbox.clone(), unread.clone()]),
                And(vec![inbox.clone(), unread.clone()]),
            ])),
            5,
        ),
        (Some(unread.clone()), 5),
        (Some(keyword("$flagged", true)), 3),
        (Some(And(vec![inbox.clone(), keyword("$flagged", true)])), 3),
        (Some(And(vec![inbox.clone(), oldest])), 4),
        (Some(keyword("custom", true)), 3),
        (Some(And(vec![inbox.clone(), keyword("custom", true)])), 2),
        (Some(And(vec![inbox.clone(), archive.clone()])), 4),
        (Some(Or(vec![And(vec![inbox.clone(), archive.clone()]), And(vec![archive.clone(), unread])])), 4),
        (Some(InMailboxOtherThan(vec![mail.inbox])), 5),
        (Some(Or(vec![archive.clone(), InMailbox(mail.sent)])), 5),
        (Some(And(vec![inbox.clone(), Filter::Ids(mail.ids[..9].to_vec())])), 8),
    ] {
        let query = EmailQuery { calculate_total: true, ..mail.query(filter) };
        let (window, steps) = mail.run(query.clone()).await;
        let window = window.unwrap();
        assert_eq!((window.ids.len() as i64, window.total), (length.min(50), Some(length)), "{query:?}");
        assert!(steps < FEW_STEPS, "{steps} steps: {query:?}");
    }
    // Lists of threads, both ends of a list, and what is beyond it.
    for filter in [None, Some(inbox)] {
        for (collapse_threads, position, calculate_total) in [
            (true, 0, true),
            (true, 0, false),
            (false, -50, true),
            (false, MANY - 60, false),
            (false, MANY * 2, false),
        ] {
            let start = Start::Position(position);
            let query = EmailQuery { collapse_threads, start, calculate_total, ..mail.query(filter.clone()) };
            let steps = mail.run(query.clone()).await.1;
            assert!(steps < FEW_STEPS, "{steps} steps: {query:?}");
        }
    }
}

#[tokio::test]
async fn an_anchor_is_counted_and_not_read_to() {
    let mail = Mail::over(Fixture::on_sqlite().await, MANY).await;
    let oldest = mail.ids[0];
    for filter in [None, Some(Filter::InMailbox(mail.inbox))] {
        for offset in [0, -30, -MANY + 100] {
            let start = Start::Anchor { id: oldest, offset };
            let query = EmailQuery { start, ..mail.query(filter.clone()) };
            let (window, steps) = mail.run(query.clone()).await;
            assert_eq!(window.unwrap().ids.len(), if offset == 0 { 1 } else { 50.min(-offset as usize + 1) });
            // A count takes two steps a row; rows that are fetched take ten.
            let skipped = if offset < -100 { 3 * MANY as u64 } else { 0 };
            assert!(steps < 3 * MANY as u64 + skipped + FEW_STEPS, "{steps} steps: {query:?}");

            let snapshot = &mut *mail.fixture.store.read().await.unwrap();
            let prepared = query.prepare(snapshot).await.unwrap();
            for text in recorded(prepared.run(snapshot)).await {
                let plan = if text.contains(" order by 2") { Vec::new() } else { assert_range_read(&text) };
                assert!(
                    !text.contains("count(*)") || plan.iter().any(|step| step.contains("received_at>?")),
                    "{plan:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn query_changes_cost_what_has_been_touched() {
    let mail = Mail::over(Fixture::on_sqlite().await, MANY).await;
    let newest: HashSet<Id> = mail.ids.iter().rev().take(20).copied().collect();
    let snapshot = &mut *mail.fixture.store.read().await.unwrap();
    for collapse_threads in [false, true] {
        let filter = Some(Filter::InMailbox(mail.inbox));
        let query = EmailQuery { collapse_threads, calculate_total: true, ..mail.query(filter) };
        let prepared = query.prepare(snapshot).await.unwrap();
        let (found, work) = work_of(prepared.places(snapshot, &newest, None)).await;
        let found = found.unwrap();
        assert_eq!(found.places.len(), if collapse_threads { 10 } else { 20 });
        assert_eq!(found.places[9].0, 9);
        assert!(work.steps < FEW_STEPS, "{work:?}");
    }
}

/// What docs/performance.md tells of deep pages: `cargo test --lib -- --ignored --nocapture a_million`.
#[tokio::test]
#[ignore = "a measurement of half a minute"]
async fn deep_pages_of_a_million() {
    let mail = Mail::over(Fixture::on_sqlite().await, 1_000_000).await;
    let by = |by, is_ascending| vec![Sort { by, is_ascending }];
    for (name, sort, collapse_threads) in [
        ("by date", vec![], false),
        ("by date, collapsed", vec![], true),
        ("by subject", by(SortBy::Subject, true), false),
        ("by subject, collapsed", by(SortBy::Subject, true), true),
        ("flagged first", by(SortBy::Keyword("$flagged".to_owned()), false), false),
    ] {
        for (what, start) in [
            ("first page", Start::Position(0)),
            ("position 400,000", Start::Position(400_000)),
            ("anchor in the middle", Start::Anchor { id: mail.ids[500_001], offset: 0 }),
            ("the oldest as anchor", Start::Anchor { id: mail.ids[1], offset: 0 }),
        ] {
            let filter = Some(Filter::InMailbox(mail.inbox));
            let query = EmailQuery { sort: sort.clone(), collapse_threads, start, ..mail.query(filter) };
            let begun = std::time::Instant::now();
            let (window, _) = mail.run(query).await;
            println!(
                "{name}, {what}: {:?}, {}",
                begun.elapsed(),
                window.map_or(0, |window| window.ids.len())
            );
        }
    }
}
