//! Posts events to webhooks, by the scheme of Standard Webhooks: each at least once, those of one account in
//! their order, each webhook for itself.
//!
//! A webhook has a cursor in the log of its domain. A worker takes its row of the queue, reads what comes
//! after the cursor, posts that, account by account side by side, and moves the cursor over what was taken.
//! What was taken beyond an event that was not is remembered here, so that it is not posted again unless
//! this process ends.

mod notice;
mod sign;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream;
use hyper::StatusCode;
use rand::seq::SliceRandom;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::sign::new_secret;
use crate::bus::Queue;
use crate::callback::{Callback, NoAnswer, retry_after};
use crate::events::object::EventObject;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::event::log::{self, Cursor, LoggedEvent, Page};
use crate::store::event::webhook::{self, Failing, Webhook};
use crate::store::queue::watch::Watch;
use crate::store::queue::webhook::{self as queue, WebhookRow};
use crate::types::callback_url::CallbackUrl;
use crate::types::id::{AccountId, Id};

/// Webhooks in hand at a time: so many that those that hang do not hold up the others.
const AT_ONCE: usize = 512;
/// Rows of one claim.
const CLAIMED: usize = 32;
/// Events that are read at a time for one webhook.
const PAGE: usize = 25;
/// Accounts whose events are posted to one webhook side by side.
const SIDE_BY_SIDE: usize = 8;
/// A row is in hand for less than this.
const LEASE_MS: i64 = 60_000;
/// After this no more is begun for a webhook, so that the others have their turn.
const TURN: Duration = Duration::from_secs(20);
/// For a receiver to answer.
const ANSWER_TIME: Duration = Duration::from_secs(15);
/// Waits between tries, which are lengthened by up to a tenth; the last one counts from then on.
const WAITS_MS: [i64; 8] = [5_000, 30_000, 120_000, 600_000, 1_800_000, 3_600_000, 7_200_000, 14_400_000];
/// A webhook to which nothing gets through for so long is disabled.
const GIVE_UP_MS: i64 = 3 * 86_400_000;
/// Characters of an error that are kept.
const MAX_ERROR: usize = 300;

/// Posts to webhooks. Cheap to clone.
#[derive(Clone)]
pub struct Webhooks {
    store: Store,
    callback: Callback,
    hostname: Arc<str>,
    places: Arc<Semaphore>,
    /// What a webhook has taken beyond something that it has not.
    taken: Arc<Mutex<HashMap<Id, Beyond>>>,
}

/// Events that were taken, though not all before them.
struct Beyond {
    /// From where on they were posted, and where to: another order wants them again.
    cursor: Cursor,
    url: String,
    events: HashSet<Id>,
}

/// What came of a post.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Posted {
    /// The receiver has it.
    Taken,
    /// The receiver wants no more (410).
    Gone,
    /// It was not taken; why, and the seconds after which it may be tried again, if the receiver says.
    Failed(String, Option<u64>),
}

/// What has become of a turn.
enum Turned {
    /// All is told, and the cursor is to be moved.
    Done(Option<(Cursor, Cursor)>),
    /// There is more.
    More,
    /// The webhook is not there, or wants nothing.
    Nobody,
    /// Something was not taken.
    Failed(Failure),
    /// The receiver wants no more.
    Gone,
}

/// Why something was not taken.
struct Failure {
    why: String,
    /// The seconds after which it may be tried again, if the receiver says.
    retry_after: Option<u64>,
    /// Whether something else was taken meanwhile.
    has_progress: bool,
}

/// How far a page was posted.
struct PagePosted {
    /// What came of the first event that was not taken, if one was tried in vain.
    failed: Option<Posted>,
    /// Where the cursor was and where it belongs.
    moved: (Cursor, Cursor),
    is_all_taken: bool,
    has_progress: bool,
}

impl Webhooks {
    /// Over the store; `hostname` is our name.
    pub fn new(store: Store, callback: Callback, hostname: Arc<str>) -> Webhooks {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        Webhooks { store, callback, hostname, places, taken: Arc::default() }
    }

    /// A URL to which events may be posted; else why not.
    pub fn check_url(&self, text: &str) -> Result<CallbackUrl, &'static str> {
        let url = CallbackUrl::of_webhook(text).map_err(|error| error.0)?;
        self.callback.check(&url).map(|()| url)
    }

    /// Works until it is told to stop, then finishes what it has in hand.
    pub async fn run(self, stop: CancellationToken) {
        let mut watch = Watch::new(self.store.clone(), Queue::Webhooks);
        let tasks = TaskTracker::new();
        loop {
            let lane = tokio::select! {
                () = stop.cancelled() => break,
                lane = watch.lane() => lane,
            };
            let Ok(mut places) = self.places.clone().acquire_many_owned(CLAIMED as u32).await else { break };
            let mut lanes = watch.more();
            lanes.push(lane);
            lanes.sort_unstable();
            lanes.dedup();
            // Where there are many, each has its turn.
            lanes.shuffle(&mut rand::rng());
            lanes.truncate(CLAIMED);
            let rows = self.claim(&lanes).await;
            for row in rows {
                let (worker, stop, place) = (self.clone(), stop.clone(), places.split(1));
                tasks.spawn(async move {
                    let _place = place;
                    worker.work(row, &stop).await;
                });
            }
        }
        tasks.close();
        tasks.wait().await;
    }

    /// Claims rows of lanes; where that fails, of each by itself: what one lacks, a node of the database, is none
    /// of the others' business.
    async fn claim(&self, lanes: &[i64]) -> Vec<WebhookRow> {
        let each = (CLAIMED / lanes.len().max(1)).max(1);
        if let Ok(rows) = queue::claim(&self.store, lanes, each, LEASE_MS).await {
            return rows;
        }
        let mut rows = Vec::new();
        for lane in lanes {
            match queue::claim(&self.store, &[*lane], each, LEASE_MS).await {
                Ok(claimed) => rows.extend(claimed),
                Err(error) => tracing::warn!(%error, lane, "the queue of webhooks cannot be worked on"),
            }
        }
        if rows.is_empty() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        rows
    }

    /// Does one row.
    pub async fn work(&self, row: WebhookRow, stop: &CancellationToken) {
        let id = row.webhook;
        let turned = match self.turn(&row, stop).await {
            Ok(turned) => turned,
            // A fault of ours is none of the receiver's: it is taken up again when the lease ends.
            Err(error) => {
                tracing::warn!(%error, webhook = %id, "the events of a webhook could not be read");
                return;
            }
        };
        if let Err(error) = self.settle(row, turned).await {
            tracing::warn!(%error, webhook = %id, "a webhook could not be settled; it is taken up again");
        }
    }

    async fn turn(&self, row: &WebhookRow, stop: &CancellationToken) -> Result<Turned, StoreError> {
        let until = Instant::now() + TURN;
        let mut has_progress = false;
        loop {
            let mut snapshot = self.store.read().await?;
            let found = webhook::get(&mut snapshot, &row.domain, row.webhook).await?;
            let Some(hook) = found.filter(|hook| hook.disabled_at == 0) else {
                return Ok(Turned::Nobody);
            };
            let page = log::read(&mut snapshot, &hook.view, hook.cursor, hook.kinds, PAGE).await?;
            drop(snapshot);
            let Ok(url) = CallbackUrl::of_webhook(&hook.url) else {
                let why = "its URL is none".to_owned();
                return Ok(Turned::Failed(Failure { why, retry_after: None, has_progress }));
            };
            let posted = self.post_all(&hook, &url, &page, until).await;
            has_progress |= posted.has_progress;
            let (from, to) = posted.moved;
            let has_moved = from != to;
            if posted.is_all_taken && !page.has_more {
                return Ok(Turned::Done(has_moved.then_some((from, to))));
            }
            if has_moved {
                webhook::advance(&self.store, row.domain.clone(), row.webhook, from, to).await?;
            }
            match posted.failed {
                Some(Posted::Failed(why, retry_after)) => {
                    return Ok(Turned::Failed(Failure { why, retry_after, has_progress }));
                }
                Some(Posted::Gone) => return Ok(Turned::Gone),
                _ if Instant::now() >= until || stop.is_cancelled() => return Ok(Turned::More),
                _ => {}
            }
        }
    }

    /// Posts a page, of which nothing more is begun after a time.
    async fn post_all(&self, hook: &Webhook, url: &CallbackUrl, page: &Page, until: Instant) -> PagePosted {
        let beyond = self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&hook.id);
        let beyond = beyond.filter(|beyond| beyond.cursor == hook.cursor && beyond.url == hook.url);
        let mut taken = beyond.map_or_else(HashSet::new, |beyond| beyond.events);
        let mut accounts: BTreeMap<AccountId, Vec<&LoggedEvent>> = BTreeMap::new();
        for event in page.events.iter().filter(|event| !taken.contains(&event.id)) {
            accounts.entry(event.account).or_default().push(event);
        }
        // Collected, since a stream of borrowing closures is not `Send` for the compiler.
        let chains: Vec<_> =
            accounts.into_values().map(|events| self.post_in_order(hook, url, events, until)).collect();
        let mut chains = stream::iter(chains).buffer_unordered(SIDE_BY_SIDE);
        let (mut failed, mut has_progress) = (None, false);
        while let Some((posted, failure)) = chains.next().await {
            has_progress |= !posted.is_empty();
            taken.extend(posted);
            failed = failed.or(failure);
        }
        drop(chains);
        let first_left = page.events.iter().position(|event| !taken.contains(&event.id));
        let to = match first_left {
            None => page.next,
            Some(0) => hook.cursor,
            Some(place) => page.events.get(place - 1).map_or(hook.cursor, LoggedEvent::cursor),
        };
        if let Some(place) = first_left {
            let after: HashSet<Id> = page.events.iter().skip(place).map(|event| event.id).collect();
            let events: HashSet<Id> = taken.intersection(&after).copied().collect();
            if !events.is_empty() {
                let beyond = Beyond { cursor: to, url: hook.url.clone(), events };
                self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(hook.id, beyond);
            }
        }
        PagePosted { failed, moved: (hook.cursor, to), is_all_taken: first_left.is_none(), has_progress }
    }

    /// Posts events one after the other until one is not taken, or the time is over; those that were, and what came of that one.
    async fn post_in_order(
        &self,
        hook: &Webhook,
        url: &CallbackUrl,
        events: Vec<&LoggedEvent>,
        until: Instant,
    ) -> (Vec<Id>, Option<Posted>) {
        let mut posted = Vec::with_capacity(events.len());
        for event in events {
            if Instant::now() >= until {
                break;
            }
            match self.post(hook, url, &EventObject::from(event.clone())).await {
                Posted::Taken => posted.push(event.id),
                Posted::Failed(why, seconds) => {
                    let why = format!("{why} (event {}, {})", event.id, event.cursor());
                    return (posted, Some(Posted::Failed(why, seconds)));
                }
                Posted::Gone => return (posted, Some(Posted::Gone)),
            }
        }
        (posted, None)
    }

    /// Posts one event.
    pub async fn post(&self, hook: &Webhook, url: &CallbackUrl, event: &EventObject) -> Posted {
        let Ok(body) = serde_json::to_vec(event) else {
            return Posted::Failed("an event cannot be written".to_owned(), None);
        };
        let now_ms = self.store.clock().now_ms();
        let seconds = now_ms / 1_000;
        let headers = vec![
            ("webhook-id", event.id.clone()),
            ("webhook-timestamp", seconds.to_string()),
            ("webhook-signature", sign::signatures(&hook.secrets, now_ms, &event.id, seconds, &body)),
            ("user-agent", "Postrider".to_owned()),
        ];
        let begun = Instant::now();
        let posted = match self.callback.post(url, headers, body.into(), ANSWER_TIME).await {
            Ok(response) => outcome(response.status(), retry_after(response.headers())),
            Err(NoAnswer::Forbidden(why) | NoAnswer::Failed(why)) => Posted::Failed(why, None),
        };
        let told = match posted {
            Posted::Taken => "taken",
            Posted::Gone => "gone",
            Posted::Failed(..) => "failed",
        };
        metrics::counter!("postrider_webhook_posts_total", "outcome" => told).increment(1);
        metrics::histogram!("postrider_webhook_post_seconds").record(begun.elapsed().as_secs_f64());
        posted
    }

    async fn settle(&self, row: WebhookRow, turned: Turned) -> Result<(), StoreError> {
        match turned {
            Turned::Done(moved) => queue::told(&self.store, row, moved).await,
            Turned::More => queue::go_on(&self.store, row).await,
            Turned::Nobody => {
                self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&row.webhook);
                queue::drop_row(&self.store, row).await
            }
            Turned::Gone => {
                let why = "the receiver answered 410: it wants no more".to_owned();
                let failure = Failure { why, retry_after: None, has_progress: false };
                self.failed(row, failure, |_, _| true).await
            }
            Turned::Failed(failure) => {
                self.failed(row, failure, |since, now_ms| now_ms - since >= GIVE_UP_MS).await
            }
        }
    }

    async fn failed(
        &self,
        row: WebhookRow,
        failure: Failure,
        is_over: impl Fn(i64, i64) -> bool + Clone + Send + 'static,
    ) -> Result<(), StoreError> {
        let why: String = failure.why.chars().take(MAX_ERROR).collect();
        let (domain, id) = (row.domain.clone(), row.webhook);
        match webhook::failed(&self.store, domain.clone(), id, why.clone(), is_over).await? {
            Failing::Gone => queue::drop_row(&self.store, row).await,
            Failing::Disabled => {
                tracing::warn!(webhook = %id, domain, why, "a webhook was disabled");
                // Whoever is not told by mail sees it in the list.
                if let Err(error) = notice::send(&self.store, &self.hostname, &domain, id).await {
                    tracing::warn!(%error, webhook = %id, "nobody could be told that a webhook was disabled");
                }
                queue::drop_row(&self.store, row).await
            }
            Failing::Since(_) => {
                let tries = if failure.has_progress { 1 } else { row.tries };
                let place = usize::try_from(tries - 1).unwrap_or_default().min(WAITS_MS.len() - 1);
                let wait = WAITS_MS[place];
                let asked =
                    failure.retry_after.map_or(0, |seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
                let longest = WAITS_MS[WAITS_MS.len() - 1];
                let wait = wait.max(asked.saturating_mul(1_000).min(longest));
                let due = self.store.clock().now_ms() + wait + rand::random_range(0..=wait / 10);
                queue::retry(&self.store, row, due, tries, why).await
            }
        }
    }
}

fn outcome(status: StatusCode, seconds: Option<u64>) -> Posted {
    match status {
        status if status.is_success() => Posted::Taken,
        StatusCode::GONE => Posted::Gone,
        // A redirect too: it is not followed.
        status => Posted::Failed(format!("the receiver answered {status}"), seconds),
    }
}
