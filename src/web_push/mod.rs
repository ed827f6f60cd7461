//! Tells devices that are not connected, by web push (RFC 8620, 7.2; RFC 8030): a worker takes accounts
//! that have changed from the push queue and posts what is new to the URL of each subscription.
//!
//! A row is in hand for less than its lease, so that it needs no renewal; a worker that dies leaves a
//! row that is told half a minute later, perhaps twice: a push is a hint, and telling it twice does no
//! harm.

mod encrypt;
mod endpoint;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bus::Queue;
use crate::callback::Callback;
use crate::jmap::call::{AccountAccess, Caller, Jmap};
use crate::jmap::email::push::{NewMail, new_mail};
use crate::jmap::error::MethodError;
use crate::push::event_source::state_change;
use crate::push::hub::Told;
use crate::store::Store;
use crate::store::change::states_of;
use crate::store::directory::access::accounts_of_login;
use crate::store::error::StoreError;
use crate::store::push_subscription::{self, Interest, PushSubscription};
use crate::store::queue::push::{self as queue, PushRow};
use crate::store::queue::watch::Watch;
use crate::types::callback_url::{CallbackUrl, NotACallbackUrl};
use crate::types::id::Id;
use crate::types::object_type::ObjectType;
use crate::types::scope::{Scope, Scopes};
use crate::vapid::Vapid;
use crate::web_push::encrypt::{MAX_TEXT, encrypt};
use crate::web_push::endpoint::{Endpoint, Posted, Push};

/// Rows in hand at a time.
const AT_ONCE: usize = 64;
/// Of one host at a time: one that hangs may not hold up the others.
const AT_ONCE_OF_HOST: usize = 16;
/// Accounts of which new mail is read at a time.
const READ_AT_ONCE: usize = 4;
/// Rows of one claim.
const CLAIMED: usize = 32;
/// A row is in hand for less than this.
const LEASE_MS: i64 = 60_000;
const WORK_TIME: Duration = Duration::from_secs(45);
/// Between two pushes about one account to one device: what changes meanwhile is told together.
const GAP_MS: i64 = 2_000;
/// When a row is looked at again, at the least, for which it was too early.
const LATER_MS: i64 = 750;
/// A change of a subscription is written in this time: first beside its accounts, then in itself.
const UPDATED_WITHIN_MS: i64 = 30_000;
/// Waits between tries; the last one counts from then on.
const WAITS_MS: [i64; 7] = [5_000, 20_000, 60_000, 300_000, 900_000, 1_800_000, 3_600_000];
/// After this time nobody is told any more: the device looks for itself when it is there again.
const GIVE_UP_MS: i64 = 86_400_000;
/// Tries of what a push service does not want.
const REFUSALS: i64 = 4;
/// Seconds for which a push service keeps a push for a device that is away.
const TTL: u32 = 86_400;
const VERIFICATION_TTL: u32 = 3_600;

/// The worker.
#[derive(Clone)]
pub struct WebPush {
    /// Of workers: devices are told after clients that wait.
    store: Store,
    /// By which new mail is read, by few at a time.
    jmap: Jmap,
    reading: Arc<Semaphore>,
    vapid: Vapid,
    endpoint: Endpoint,
    places: Arc<Semaphore>,
    hosts: Arc<Mutex<HashMap<String, usize>>>,
}

/// What becomes of a row.
#[derive(Debug)]
enum Fate {
    /// It is told; with the modseq up to which new mail was looked through.
    Told(Option<i64>),
    /// Nobody is there to be told.
    Drop,
    /// The subscription is no more.
    Gone,
    /// Again, as late as its tries say, or at least so many seconds.
    Retry(String, u64),
    /// It is not wanted: a few times more.
    Refused(String),
    /// Soon again, and not counted: its host has enough in hand, or the subscription is being changed.
    Later,
}

impl WebPush {
    /// Over a store, and the parts that methods work on.
    pub fn new(store: Store, jmap: Jmap, vapid: Vapid, callback: Callback) -> WebPush {
        WebPush {
            store,
            jmap,
            reading: Arc::new(Semaphore::new(READ_AT_ONCE)),
            vapid,
            endpoint: Endpoint::new(callback),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            hosts: Arc::default(),
        }
    }

    fn store(&self) -> &Store {
        &self.store
    }

    /// Works until it is told to stop, then finishes what it has in hand.
    pub async fn run(self, stop: CancellationToken) {
        let mut watch = Watch::new(self.store().clone(), Queue::Push);
        let tasks = TaskTracker::new();
        loop {
            let lane = tokio::select! {
                () = stop.cancelled() => break,
                lane = watch.lane() => lane,
            };
            loop {
                // Never more than can be worked on at once: a lease begins with the claim.
                let free = self.places.available_permits().min(CLAIMED);
                if free == 0 {
                    drop(self.places.acquire().await);
                    continue;
                }
                let rows = match queue::claim(self.store(), lane, free, LEASE_MS).await {
                    Ok(rows) => rows,
                    Err(error) => {
                        tracing::warn!(%error, lane, "the push queue cannot be worked on");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        break;
                    }
                };
                let are_all = rows.len() < free;
                for row in rows {
                    let Ok(place) = self.places.clone().acquire_owned().await else { continue };
                    let worker = self.clone();
                    tasks.spawn(async move {
                        worker.work(row).await;
                        drop(place);
                    });
                }
                if are_all || stop.is_cancelled() {
                    break;
                }
            }
        }
        tasks.close();
        tasks.wait().await;
    }

    /// Does one row.
    async fn work(&self, row: PushRow) {
        let fate = match tokio::time::timeout(WORK_TIME, self.tell(&row)).await {
            Ok(Ok(fate)) => fate,
            Ok(Err(error)) => Fate::Retry(error.to_string(), 0),
            Err(_) => Fate::Retry("it took too long".to_owned(), 0),
        };
        if let Err(error) = self.settle(row, fate).await {
            tracing::warn!(%error, row = %row.claim.id, "a push could not be settled: it is done again");
        }
    }

    async fn settle(&self, row: PushRow, fate: Fate) -> Result<(), StoreError> {
        let (store, now_ms) = (self.store(), self.store().clock().now_ms());
        let count = |outcome: &'static str| {
            metrics::counter!("postrider_web_pushes_total", "outcome" => outcome).increment(1);
        };
        let give_up = async |why: &str| {
            count("given up");
            tracing::info!(subscription = %row.subscription, why, "a push is given up");
            queue::drop_row(store, row).await
        };
        match fate {
            Fate::Told(until) => {
                count("told");
                queue::told(store, row, until, now_ms + GAP_MS).await
            }
            Fate::Later => {
                let due = now_ms + LATER_MS + rand::random_range(0..LATER_MS);
                queue::postpone(store, row, due).await
            }
            Fate::Drop => {
                // The hint leads to nothing.
                self.forget_interest(row).await?;
                queue::drop_row(store, row).await
            }
            Fate::Gone => {
                count("gone");
                tracing::info!(subscription = %row.subscription, "a push service knows a subscription no more");
                push_subscription::delete(store, row.login, row.subscription).await?;
                self.forget_interest(row).await?;
                queue::drop_row(store, row).await
            }
            Fate::Refused(why) if row.tries >= REFUSALS => give_up(&why).await,
            Fate::Retry(why, _) if now_ms - row.created_at > GIVE_UP_MS => give_up(&why).await,
            Fate::Refused(why) => self.retry(row, why, 0, now_ms).await,
            Fate::Retry(why, seconds) => self.retry(row, why, seconds, now_ms).await,
        }
    }

    async fn retry(&self, row: PushRow, why: String, seconds: u64, now_ms: i64) -> Result<(), StoreError> {
        metrics::counter!("postrider_web_pushes_total", "outcome" => "put off").increment(1);
        tracing::info!(subscription = %row.subscription, tries = row.tries, why, "a push is put off");
        let place = usize::try_from(row.tries - 1).unwrap_or_default().min(WAITS_MS.len() - 1);
        let wait = WAITS_MS.get(place).copied().unwrap_or_default();
        // So that those put off together do not come again together.
        let wait = wait + rand::random_range(0..=wait / 4);
        let asked = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000).min(GIVE_UP_MS);
        queue::retry(self.store(), row, now_ms + wait.max(asked), why).await
    }

    async fn forget_interest(&self, row: PushRow) -> Result<(), StoreError> {
        let (account, login, subscription) = (row.account, row.login, row.subscription);
        match push_subscription::note_interest(self.store(), account, login, subscription, Interest::NONE)
            .await
        {
            Err(StoreError::NoSuchAccount) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Tells a subscription what a row is about.
    async fn tell(&self, row: &PushRow) -> Result<Fate, StoreError> {
        let now_ms = self.store().clock().now_ms();
        let mut snapshot = self.store().read().await?;
        let found =
            push_subscription::reached(&mut snapshot, row.login, row.subscription, row.account, now_ms)
                .await?;
        drop(snapshot);
        let Some(subscription) = found else { return Ok(Fate::Drop) };
        let url: CallbackUrl = match subscription.url.parse() {
            Ok(url) => url,
            Err(NotACallbackUrl(why)) => return Ok(Fate::Refused(why.to_owned())),
        };
        let Some(_place) = self.enter(url.host()) else { return Ok(Fate::Later) };
        match (row.types, subscription.is_verified) {
            (0, true) => Ok(Fate::Told(None)),
            (0, false) => self.verify(&subscription, &url).await,
            (_, true) => self.tell_changes(row, &subscription, &url).await,
            // It is about to be: its accounts are noted one by one before it counts.
            (_, false) if now_ms - row.created_at < UPDATED_WITHIN_MS => Ok(Fate::Later),
            (_, false) => Ok(Fate::Drop),
        }
    }

    /// Whether the URL is the client's own, it has to show by the code that only the URL hears.
    async fn verify(&self, subscription: &PushSubscription, url: &CallbackUrl) -> Result<Fate, StoreError> {
        let text = json!({
            "@type": "PushVerification",
            "pushSubscriptionId": subscription.id,
            "verificationCode": subscription.verification_code,
        });
        let posted = self.post(subscription, url, &text, VERIFICATION_TTL, "normal", None).await;
        Ok(fate_of(posted).unwrap_or(Fate::Told(None)))
    }

    async fn tell_changes(
        &self,
        row: &PushRow,
        subscription: &PushSubscription,
        url: &CallbackUrl,
    ) -> Result<Fate, StoreError> {
        let mut until = None;
        if row.types & ObjectType::EmailDelivery.bit() != 0 {
            let configs: Map<String, Value> =
                serde_json::from_str(&subscription.email_push).unwrap_or_default();
            if let Some(config) = configs.get(&row.account.to_string()) {
                let is_all = row.types & subscription.types == 0;
                match self.tell_new_mail(row, subscription, url, config, is_all).await? {
                    Ok(modseq) => until = Some(modseq),
                    Err(fate) => return Ok(fate),
                }
            } else if row.types & subscription.types == 0
                && self.store().clock().now_ms() - row.created_at < UPDATED_WITHIN_MS
            {
                // It is about to ask for it.
                return Ok(Fate::Later);
            }
        }
        let wanted = row.types & subscription.types;
        if wanted != 0 {
            let states = states_of(&mut *self.store().read().await?, row.account).await?;
            let changed = states.into_iter().filter(|(object_type, _)| object_type.bit() & wanted != 0);
            let news = Told::from([(row.account, changed.collect())]);
            let urgency = if wanted & ObjectType::EmailDelivery.bit() != 0 { "normal" } else { "low" };
            // A later state of the same types is all that a device needs which was away.
            let topic = topic_of(row, wanted);
            let posted = self.post(subscription, url, &state_change(&news), TTL, urgency, Some(topic)).await;
            if let Some(fate) = fate_of(posted) {
                return Ok(fate);
            }
        }
        Ok(Fate::Told(until))
    }

    /// Tells of new mail; up to which modseq. Whether that is all that the row is about.
    async fn tell_new_mail(
        &self,
        row: &PushRow,
        subscription: &PushSubscription,
        url: &CallbackUrl,
        config: &Value,
        is_all: bool,
    ) -> Result<Result<i64, Fate>, StoreError> {
        let mut snapshot = self.store().read().await?;
        let since = push_subscription::told_until(&mut snapshot, row.account, row.subscription).await?;
        let accounts = accounts_of_login(&mut snapshot, row.login).await?;
        drop(snapshot);
        let Some(since) = since else { return Ok(Err(Fate::Drop)) };
        let accounts = accounts
            .into_iter()
            .map(|account| AccountAccess::of(row.login, account, Scopes::of(&[Scope::Read])))
            .collect();
        let caller = Caller {
            login_id: row.login,
            token_id: Id(0),
            expires_at: 0,
            username: String::new(),
            scopes: Scopes::of(&[Scope::Read]),
            accounts,
        };
        let reading = self.reading.acquire().await;
        let found = new_mail(&self.jmap, &caller, row.account, config, since).await;
        drop(reading);
        let found = match found {
            Ok(found) => found,
            // A mailbox of the filter is gone, or the like: the client has to set another.
            Err(MethodError::InvalidArguments(why) | MethodError::UnsupportedFilter(why)) => {
                tracing::info!(subscription = %row.subscription, why, "new mail cannot be pushed");
                return Ok(Ok(row.modseq));
            }
            Err(error) => return Ok(Err(Fate::Retry(format!("new mail cannot be read: {error:?}"), 0))),
        };
        let until = found.state.modseq;
        let urgency = config["urgency"].as_str().and_then(urgency_of).unwrap_or("normal");
        let mut pushes = email_pushes(row, found).into_iter().peekable();
        while let Some(EmailPush { content, whole_until }) = pushes.next() {
            let posted = self.post(subscription, url, &content, TTL, urgency, None).await;
            if let Some(fate) = fate_of(posted) {
                return Ok(Err(fate));
            }
            // Whatever becomes of the rest, what has been told is not told again with the next try.
            if let Some(modseq) = whole_until
                && !(is_all && pushes.peek().is_none())
            {
                let (lane, account) = (row.claim.lane, row.account);
                let noted =
                    push_subscription::note_told(self.store(), lane, account, row.subscription, modseq);
                if let Err(error) = noted.await {
                    tracing::warn!(%error, "new mail may be pushed twice");
                }
            }
        }
        Ok(Ok(until))
    }

    async fn post(
        &self,
        subscription: &PushSubscription,
        url: &CallbackUrl,
        content: &Value,
        ttl: u32,
        urgency: &'static str,
        topic: Option<String>,
    ) -> Posted {
        let text = content.to_string();
        let body = match &subscription.keys {
            None => Ok(text.into_bytes()),
            Some(keys) => encrypt(keys, text.as_bytes()),
        };
        let Ok(body) = body else {
            return Posted::Refused("it cannot be encrypted with the keys of the client".to_owned());
        };
        let now_ms = self.store().clock().now_ms();
        let Some(authorization) = self.vapid.authorization(&url.origin(), now_ms) else {
            return Posted::Failed("it cannot be signed".to_owned());
        };
        let is_encrypted = subscription.keys.is_some();
        self.endpoint.post(url, Push { body, is_encrypted, authorization, ttl, urgency, topic }).await
    }

    /// A place at a host; `None` when it has enough in hand.
    fn enter(&self, host: &str) -> Option<HostPlace> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = hosts.entry(host.to_owned()).or_default();
        if *count >= AT_ONCE_OF_HOST {
            return None;
        }
        *count += 1;
        Some(HostPlace { hosts: self.hosts.clone(), host: host.to_owned() })
    }
}

struct HostPlace {
    hosts: Arc<Mutex<HashMap<String, usize>>>,
    host: String,
}

impl Drop for HostPlace {
    fn drop(&mut self) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = hosts.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                hosts.remove(&self.host);
            }
        }
    }
}

/// What a post means for its row; `None` when it was taken.
fn fate_of(posted: Posted) -> Option<Fate> {
    match posted {
        Posted::Taken => None,
        Posted::Gone => Some(Fate::Gone),
        Posted::NotNow(seconds) => {
            Some(Fate::Retry("the push service takes none now".to_owned(), seconds.unwrap_or_default()))
        }
        Posted::Refused(why) => Some(Fate::Refused(why)),
        Posted::Failed(why) => Some(Fate::Retry(why, 0)),
    }
}

fn urgency_of(name: &str) -> Option<&'static str> {
    ["very-low", "low", "normal", "high"].into_iter().find(|known| *known == name)
}

/// At most 32 characters of base64url (RFC 8030, 5.4), which tell the push service nothing. Of these types
/// alone: a push about others says nothing of them, and may not take the place of this one.
fn topic_of(row: &PushRow, types: i64) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&row.subscription.0.to_be_bytes());
    hasher.update(&row.account.get().to_be_bytes());
    hasher.update(&types.to_be_bytes());
    URL_SAFE_NO_PAD.encode(&hasher.finalize().as_bytes()[..18])
}

/// An EmailPush object.
struct EmailPush {
    content: Value,
    /// With it and those before it all new mail up to this modseq has been told; none when some of the same
    /// modseq comes after it.
    whole_until: Option<i64>,
}

/// EmailPush objects for new mail, each of a size that can be pushed. Where one Email is too large,
/// properties that would go beyond are left out, in the order in which the client wants them.
fn email_pushes(row: &PushRow, found: NewMail) -> Vec<EmailPush> {
    let empty = |emails: Vec<Value>| {
        json!({
            "@type": "EmailPush",
            "accountId": row.account,
            "emails": emails,
            "state": found.state.to_string(),
        })
    };
    let room = MAX_TEXT.saturating_sub(empty(Vec::new()).to_string().len());
    let mut pushes = Vec::new();
    let (mut emails, mut used, mut until) = (Vec::new(), 0, 0);
    for (modseq, email) in found.emails {
        let mut cut = Map::new();
        let mut length = 2;
        for (name, value) in email {
            // `"name":value,`
            let more = Value::from(name.as_str()).to_string().len() + value.to_string().len() + 2;
            if length + more <= room {
                length += more;
                cut.insert(name, value);
            }
        }
        if used + length + 1 > room && !emails.is_empty() {
            let whole_until = (modseq > until).then_some(until);
            pushes.push(EmailPush { content: empty(std::mem::take(&mut emails)), whole_until });
            used = 0;
        }
        used += length + 1;
        emails.push(Value::Object(cut));
        until = modseq;
    }
    if !emails.is_empty() {
        pushes.push(EmailPush { content: empty(emails), whole_until: Some(until) });
    }
    pushes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::queue::claim::Claim;
    use crate::types::id::AccountId;
    use crate::types::state::State;

    #[test]
    fn a_push_takes_the_place_of_those_only_that_say_no_more() {
        let (mail, mailbox) = (ObjectType::Email.bit(), ObjectType::Mailbox.bit());
        assert_eq!(topic_of(&row(), mailbox), topic_of(&row(), mailbox));
        assert_ne!(topic_of(&row(), mailbox), topic_of(&row(), mail | mailbox));
        assert_eq!(topic_of(&row(), mail).len(), 24);
    }

    fn row() -> PushRow {
        PushRow {
            claim: Claim { lane: 0, id: Id(1), attempts: 1 },
            tries: 1,
            account: AccountId(Id(7)),
            login: Id(2),
            subscription: Id(3),
            types: 0,
            modseq: 5,
            created_at: 0,
        }
    }

    fn email(subject: &str, preview: &str) -> Map<String, Value> {
        let email = json!({"subject": subject, "preview": preview, "id": "e"});
        email.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn new_mail_is_pushed_in_pieces_that_can_be_pushed() {
        let long = "é".repeat(300);
        // Ten came together, and ten by themselves.
        let emails = (0..20).map(|number| (number.max(9), email("a subject", &long))).collect();
        let pushes = email_pushes(&row(), NewMail { emails, state: State::at(1, 20) });
        assert!(pushes.len() > 2, "{}", pushes.len());
        let mut count = 0;
        for EmailPush { content, whole_until } in &pushes {
            assert!(content.to_string().len() <= MAX_TEXT);
            assert_eq!(content["state"], json!("s1-20"));
            count += content["emails"].as_array().map_or(0, Vec::len);
            // The first ten are whole with the last of them only.
            let whole = (count >= 10).then(|| i64::try_from(count).unwrap_or_default() - 1);
            assert_eq!(*whole_until, whole, "{count}");
        }
        assert_eq!(count, 20);
    }

    #[test]
    fn what_does_not_fit_into_one_push_is_left_out_in_the_clients_order() {
        for length in (MAX_TEXT - 300)..(MAX_TEXT + 10) {
            let emails = vec![(5, email("kept", &"x".repeat(length)))];
            let pushes = email_pushes(&row(), NewMail { emails, state: State::at(1, 5) });
            let [push] = pushes.as_slice() else { panic!("{}", pushes.len()) };
            assert!(push.content.to_string().len() <= MAX_TEXT, "{length}");
            assert_eq!(push.content["emails"][0]["subject"], json!("kept"));
        }
        let emails = vec![(5, email("kept", &"x".repeat(MAX_TEXT)))];
        let pushes = email_pushes(&row(), NewMail { emails, state: State::at(1, 5) });
        assert_eq!(pushes[0].content["emails"], json!([{"subject": "kept", "id": "e"}]));
    }
}
