//! EventSource (RFC 8620, 7.3): a stream of `state` and `ping` events.

use std::convert::Infallible;
use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use serde_json::{Map, Value, json};

use crate::push::hub::{Listener, Told, Wake};
use crate::types::id::AccountId;
use crate::types::object_type::ObjectType;
use crate::types::state::State;

/// Bounds of the ping interval, in seconds. Proxies cut idle streams; a client that asks for none
/// gets none.
const PING_SECONDS: std::ops::RangeInclusive<u64> = 1..=900;

/// How the stream shall be.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// End after the first `state` event.
    pub close_after_state: bool,
    /// Seconds between pings; 0 for none.
    pub ping_seconds: u64,
}

/// The `StateChange` object (RFC 8620, 7.1).
pub fn state_change(news: &Told) -> Value {
    let mut changed = Map::new();
    for (account, states) in news {
        let states: Map<String, Value> = states
            .iter()
            .map(|(object_type, state)| (object_type.name().to_owned(), json!(state.to_string())))
            .collect();
        changed.insert(account.to_string(), Value::Object(states));
    }
    json!({ "@type": "StateChange", "changed": changed })
}

/// The id of an event: all states told so far, so that a client that comes back with it hears of
/// what it missed and of nothing else.
pub fn event_id(told: &Told) -> String {
    let mut id = String::new();
    for (account, states) in told {
        for (object_type, state) in states {
            // A string has no failing writes.
            let _ = write!(
                id,
                "{}{account}.{}.{state}",
                if id.is_empty() { "" } else { "_" },
                object_type.number()
            );
        }
    }
    // An empty id is none: whoever came back with it would hear of nothing that came in between.
    if id.is_empty() { NOTHING_TOLD.to_owned() } else { id }
}

/// The id of one who has been told nothing.
const NOTHING_TOLD: &str = "0";

/// The states of an event id; what cannot be read is left out and so told again.
pub fn read_event_id(id: &str) -> Told {
    let mut told = Told::new();
    for entry in id.split('_').take(1_000) {
        let mut parts = entry.splitn(3, '.');
        let account = parts.next().and_then(|part| part.parse::<AccountId>().ok());
        let object_type = parts.next().and_then(|part| part.parse().ok()).and_then(ObjectType::of_number);
        let state = parts.next().and_then(|part| part.parse::<State>().ok());
        if let (Some(account), Some(object_type), Some(state)) = (account, object_type, state) {
            told.entry(account).or_default().insert(object_type, state);
        }
    }
    told
}

/// The stream of events. `accounts` are looked at once at the start, so that a listener that
/// assumed an old state hears of what is newer.
pub fn stream(
    listener: Listener,
    accounts: Vec<AccountId>,
    options: Options,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let ping = (options.ping_seconds > 0)
        .then(|| options.ping_seconds.clamp(*PING_SECONDS.start(), *PING_SECONDS.end()));
    let start = Some((listener, accounts, Pending::Start));
    futures_util::stream::unfold(start, move |state| async move {
        let (mut listener, accounts, pending) = state?;
        // Something must be written at once, or some proxies and browsers hold the answer back. No
        // empty line follows the comment: it ends an event, and not every client passes over an
        // event without data as it should (nor could it be told its place so, by an id alone).
        if pending == Pending::Start {
            let text = Bytes::from_static(b": connected\n");
            return Some((Ok(text), Some((listener, accounts, Pending::First))));
        }
        let mut first = (pending == Pending::First).then_some(accounts.clone());
        // One deadline for each event: wakes that bring no news must not put it off.
        let ping_at = ping.map(|seconds| tokio::time::Instant::now() + Duration::from_secs(seconds));
        loop {
            let wake = match first.take() {
                Some(accounts) => Some(Wake::Accounts(accounts)),
                None => match ping_at {
                    Some(at) => tokio::time::timeout_at(at, listener.wake()).await.ok(),
                    None => Some(listener.wake().await),
                },
            };
            match wake {
                None => {
                    let interval = ping.unwrap_or_default();
                    let text = format!("event: ping\ndata: {{\"interval\":{interval}}}\n\n");
                    return Some((Ok(Bytes::from(text)), Some((listener, accounts, Pending::News))));
                }
                Some(Wake::Accounts(changed)) => {
                    let news = match Box::pin(listener.news(&changed)).await {
                        Ok(news) => news,
                        Err(error) => {
                            tracing::warn!(%error, "states could not be read; a stream ends");
                            return None;
                        }
                    };
                    if news.is_empty() {
                        continue;
                    }
                    listener.is_written();
                    let id = event_id(listener.told());
                    let text = format!("event: state\nid: {id}\ndata: {}\n\n", state_change(&news));
                    let rest = (!options.close_after_state).then_some((listener, accounts, Pending::News));
                    return Some((Ok(Bytes::from(text)), rest));
                }
                // The client comes back, with its credentials, and resumes by the last id.
                Some(Wake::LoginChanged | Wake::Closing) => return None,
            }
        }
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pending {
    Start,
    First,
    News,
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use tokio::time::Instant;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::bus::Event;
    use crate::push::hub::Hub;
    use crate::store::Store;
    use crate::store::testing::{bare_account, sqlite_in};
    use crate::types::clock::Clock;
    use crate::types::id::Id;

    /// The stream of an account in which nothing has ever changed, and the hub behind it.
    struct Quiet {
        store: Store,
        account: AccountId,
        hub: Hub,
        running: tokio::task::JoinHandle<()>,
        _folder: tempfile::TempDir,
    }

    impl Quiet {
        async fn new() -> Quiet {
            let folder = tempfile::tempdir().unwrap();
            let store = sqlite_in(folder.path(), Clock::fixed(1_000));
            let account = bare_account(&store).await;
            let hub = Hub::new(store.clone(), CancellationToken::new());
            let running = tokio::spawn(hub.clone().run());
            Quiet { store, account, hub, running, _folder: folder }
        }

        async fn stream(&self, ping_seconds: u64) -> impl Stream<Item = String> + Unpin + use<> {
            let listener = self.hub.listen(Id(1), &[self.account], ObjectType::ALL.to_vec());
            let options = Options { close_after_state: false, ping_seconds };
            let mut events = Box::pin(stream(listener, vec![self.account], options));
            assert_eq!(events.next().await, Some(Ok(Bytes::from_static(b": connected\n"))));
            events.map(|event| event.map(|event| String::from_utf8_lossy(&event).into_owned()).unwrap())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pings_come_within_their_bounds_and_have_no_id() {
        let quiet = Quiet::new().await;
        for (asked, kept) in [(1, 1), (30, 30), (300, 300), (900, 900), (901, 900), (u64::MAX, 900)] {
            let mut events = quiet.stream(asked).await;
            for _ in 0..2 {
                let start = Instant::now();
                let event = events.next().await;
                assert_eq!(event, Some(format!("event: ping\ndata: {{\"interval\":{kept}}}\n\n")));
                assert_eq!(start.elapsed().as_secs(), kept, "asked for {asked}");
            }
        }
        let mut events = quiet.stream(0).await;
        let day = Duration::from_secs(86_400);
        assert!(tokio::time::timeout(day, events.next()).await.is_err(), "nobody asked for pings");
        quiet.running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn wakes_without_news_put_no_ping_off() {
        let quiet = Quiet::new().await;
        let (bus, account) = (quiet.store.bus().clone(), quiet.account);
        let noise = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(2)).await;
                bus.publish(Event::Changed { account, modseq: 1, types: [ObjectType::Email].into(), at: 0 });
            }
        });
        let mut events = quiet.stream(15).await;
        for _ in 0..3 {
            let start = Instant::now();
            let event = tokio::time::timeout(Duration::from_secs(60), events.next()).await;
            assert!(event.is_ok_and(|event| event.is_some_and(|event| event.starts_with("event: ping\n"))));
            assert_eq!(start.elapsed().as_secs(), 15);
        }
        noise.abort();
        quiet.running.abort();
    }

    #[test]
    fn event_ids_read_back() {
        let mut told = Told::new();
        told.entry(AccountId(Id(7))).or_default().insert(ObjectType::Email, State::at(5, 9));
        told.entry(AccountId(Id(8))).or_default().insert(ObjectType::Mailbox, State::at(-5, 10));
        assert_eq!(read_event_id(&event_id(&told)), told);
        assert_eq!(read_event_id("rubbish_a.b.c_é"), Told::new());
    }
}
