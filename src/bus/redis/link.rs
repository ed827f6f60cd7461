//! The connection to Redis: it publishes what is to be sent, listens for what is wanted, and comes
//! back when it was lost.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
use deadpool_redis::redis::{
    self, AsyncConnectionConfig, Client, Msg, Pipeline, ProtocolVersion, PushInfo, PushKind,
    RedisConnectionInfo, RedisError, TlsMode,
};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::bus::redis::nodes::BEAT_EVERY;
use crate::bus::redis::{Outgoing, Shared, locked, wire};
use crate::bus::{Event, Topic};
use crate::config::redis_url::{RedisUrl, Topology};

/// For a connection, with TLS and the question who is the master.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// For any answer. Who takes longer is as good as gone: pushes must not wait for it.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_500);
/// Between tries to connect; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Messages of one pipeline.
const AT_ONCE: usize = 512;
/// Channels of one command.
const CHANNELS_AT_ONCE: usize = 1_000;

/// Why a connection is at its end.
enum End {
    /// The bus is closed.
    Closed,
    /// Connect again.
    Lost(String),
}

/// Keeps a connection until the bus is closed or nobody has it any more.
pub async fn run(shared: Arc<Shared>, url: RedisUrl, mut outgoing: mpsc::Receiver<Outgoing>) {
    let mut wait = FIRST_WAIT;
    let mut is_lost = false;
    shared.set_broken(true);
    for attempt in 0_usize.. {
        let problem = match Link::open(&shared, &url, attempt).await {
            Ok(mut link) => {
                if std::mem::take(&mut is_lost) {
                    tracing::info!(redis = %url, "the bus is back");
                }
                wait = FIRST_WAIT;
                match link.serve(&mut outgoing).await {
                    End::Closed => return,
                    End::Lost(problem) => problem,
                }
            }
            Err(problem) => problem,
        };
        shared.set_broken(true);
        metrics::counter!("postrider_bus_errors_total").increment(1);
        if !std::mem::replace(&mut is_lost, true) {
            tracing::warn!(redis = %url, %problem, "the bus is gone: changes are looked for in the database");
        }
        // Jittered, so that not all processes come back in one moment.
        if let End::Closed =
            drop_for(&shared, &mut outgoing, wait.mul_f64(rand::random_range(0.5..1.0))).await
        {
            return;
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Drops what is to be sent for a while: an old hint helps nobody.
async fn drop_for(shared: &Shared, outgoing: &mut mpsc::Receiver<Outgoing>, time: Duration) -> End {
    let pause = sleep(time);
    tokio::pin!(pause);
    loop {
        tokio::select! {
            () = &mut pause => return End::Lost(String::new()),
            message = outgoing.recv() => match message {
                Some(Outgoing::Message { .. }) => shared.lose(1),
                Some(Outgoing::Close(_)) | None => return End::Closed,
            },
        }
    }
}

/// An open connection.
struct Link {
    shared: Arc<Shared>,
    connection: MultiplexedConnection,
    /// Woken when the connection has ended.
    ended: Arc<Notify>,
    listening: HashSet<Topic>,
}

impl Link {
    /// Connects and listens for all that is wanted.
    async fn open(shared: &Arc<Shared>, url: &RedisUrl, attempt: usize) -> Result<Link, String> {
        let ended = Arc::new(Notify::new());
        let (hearing, ending) = (shared.clone(), ended.clone());
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(Some(ANSWER_WITHIN))
            .set_connection_timeout(Some(CONNECT_WITHIN))
            .set_push_sender(move |push| {
                hear(&hearing, &ending, push);
                Ok::<(), redis::aio::SendError>(())
            });
        let connection = within(CONNECT_WITHIN, connect(url, attempt, &config)).await?;
        let mut link = Link { shared: shared.clone(), connection, ended, listening: HashSet::new() };
        link.subscribe(vec![wire::look_channel(&shared.prefix)]).await?;
        link.listen(&shared.wanted()).await?;
        locked(&shared.nodes).wait_anew();
        Ok(link)
    }

    /// Works until the connection or the bus ends.
    async fn serve(&mut self, outgoing: &mut mpsc::Receiver<Outgoing>) -> End {
        self.look_at_nodes();
        // Whatever was told in the meantime, by others and to others.
        self.shared.tell(Event::Missed(None));
        let mut beat = interval(BEAT_EVERY);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(AT_ONCE);
        loop {
            let shared = self.shared.clone();
            let done = tokio::select! {
                () = self.ended.notified() => Err("the connection was closed".to_owned()),
                _ = beat.tick() => self.beat().await,
                () = shared.topics_changed.notified() => self.follow_interest().await,
                count = outgoing.recv_many(&mut batch, AT_ONCE) => {
                    let is_last = count == 0;
                    match self.send(batch.drain(..)).await {
                        Ok(None) if is_last => {
                            self.say_bye().await;
                            return End::Closed;
                        }
                        Ok(None) => Ok(()),
                        Ok(Some(closed)) => {
                            self.say_bye().await;
                            let _ = closed.send(());
                            return End::Closed;
                        }
                        Err(problem) => Err(problem),
                    }
                }
            };
            if let Err(problem) = done {
                return End::Lost(problem);
            }
        }
    }

    /// Publishes; whether the bus is to be closed after it.
    async fn send(
        &mut self,
        batch: impl Iterator<Item = Outgoing>,
    ) -> Result<Option<oneshot::Sender<()>>, String> {
        let mut pipeline = redis::pipe();
        let (mut count, mut close) = (0, None);
        for outgoing in batch {
            match outgoing {
                Outgoing::Message { channel, text } => {
                    pipeline.publish(channel, text).ignore();
                    count += 1;
                }
                Outgoing::Close(closed) => close = Some(closed),
            }
        }
        if count > 0
            && let Err(problem) = self.ask(&pipeline).await
        {
            self.shared.lose(count);
            return Err(problem);
        }
        Ok(close)
    }

    /// Says that this process is there, which also shows whether the connection is; tells of losses.
    async fn beat(&mut self) -> Result<(), String> {
        let shared = self.shared.clone();
        let has_lost = shared.has_lost.swap(false, Ordering::SeqCst);
        let mut pipeline = redis::pipe();
        pipeline.publish(wire::beat_channel(&shared.prefix), format!("{} up", shared.origin)).ignore();
        if has_lost {
            pipeline.publish(wire::look_channel(&shared.prefix), format!("{} look", shared.origin)).ignore();
        }
        let sent = self.ask(&pipeline).await;
        if sent.is_err() && has_lost {
            shared.has_lost.store(true, Ordering::SeqCst);
        }
        self.look_at_nodes();
        sent
    }

    async fn say_bye(&mut self) {
        let mut pipeline = redis::pipe();
        let text = format!("{} bye", self.shared.origin);
        pipeline.publish(wire::beat_channel(&self.shared.prefix), text).ignore();
        // Without it the others only look at the database for a while.
        let _ = self.ask(&pipeline).await;
    }

    fn look_at_nodes(&self) {
        let silent = locked(&self.shared.nodes).silent();
        metrics::gauge!("postrider_bus_silent_nodes").set(silent as f64);
        self.shared.set_broken(silent > 0);
    }

    async fn ask(&mut self, pipeline: &Pipeline) -> Result<(), String> {
        within(ANSWER_WITHIN, pipeline.query_async::<()>(&mut self.connection)).await
    }

    /// Listens for what has come into interest, and no more for what has gone out of it.
    async fn follow_interest(&mut self) -> Result<(), String> {
        let (wanted, unwanted) = self.shared.changed();
        let wanted: Vec<Topic> = wanted.into_iter().filter(|topic| !self.listening.contains(topic)).collect();
        for some in wanted.chunks(CHANNELS_AT_ONCE) {
            self.listen(some).await?;
            for topic in some {
                // Between the wish and this moment.
                self.shared.tell(Event::Missed(Some(*topic)));
            }
        }
        let gone = unwanted.into_iter().filter(|topic| self.listening.remove(topic));
        let gone: Vec<String> = gone.flat_map(|topic| channels(&self.shared.prefix, topic)).collect();
        for some in gone.chunks(CHANNELS_AT_ONCE) {
            within(ANSWER_WITHIN, self.connection.unsubscribe(some)).await?;
        }
        Ok(())
    }

    async fn listen(&mut self, topics: &[Topic]) -> Result<(), String> {
        let channels = topics.iter().flat_map(|topic| channels(&self.shared.prefix, *topic)).collect();
        self.subscribe(channels).await?;
        self.listening.extend(topics);
        Ok(())
    }

    async fn subscribe(&mut self, channels: Vec<String>) -> Result<(), String> {
        for some in channels.chunks(CHANNELS_AT_ONCE) {
            within(ANSWER_WITHIN, self.connection.subscribe(some)).await?;
        }
        Ok(())
    }
}

/// Who wants to hear of logins has clients connected, and must know when another process is silent.
fn channels(prefix: &str, topic: Topic) -> Vec<String> {
    let beats = (topic == Topic::Logins).then(|| wire::beat_channel(prefix));
    std::iter::once(wire::channel(prefix, topic)).chain(beats).collect()
}

/// What the server says by itself. Runs on the connection's own task.
fn hear(shared: &Shared, ended: &Notify, push: PushInfo) {
    if push.kind == PushKind::Disconnection {
        ended.notify_one();
        return;
    }
    let Some(message) = Msg::from_push_info(push) else { return };
    if let Ok(text) = std::str::from_utf8(message.get_payload_bytes()) {
        shared.hear(message.get_channel_name(), text);
    }
}

/// A connection to the server, the master that the Sentinels name, or one node of the Cluster: its
/// nodes pass on to each other what is published.
async fn connect(
    url: &RedisUrl,
    attempt: usize,
    config: &AsyncConnectionConfig,
) -> Result<MultiplexedConnection, RedisError> {
    let asked: Vec<String> = url.asked().iter().map(|address| address.reveal().to_owned()).collect();
    let client = match &url.topology {
        Topology::Sentinel { master } => {
            let mut to_master =
                RedisConnectionInfo::default().set_db(url.database).set_protocol(ProtocolVersion::RESP3);
            if let Some(user) = &url.user {
                to_master = to_master.set_username(user);
            }
            if let Some(password) = &url.password {
                to_master = to_master.set_password(password.reveal());
            }
            let mut node = SentinelNodeConnectionInfo::default().set_redis_connection_info(to_master);
            if url.is_tls {
                node = node.set_tls_mode(TlsMode::Secure);
            }
            let kind = SentinelServerType::Master;
            SentinelClient::build(asked, master, Some(node), kind)?.async_get_client().await?
        }
        Topology::Single | Topology::Cluster => {
            // Another node each time.
            let address = asked.into_iter().cycle().nth(attempt % url.hosts.len().max(1));
            Client::open(address.unwrap_or_default())?
        }
    };
    client.get_multiplexed_async_connection_with_config(config).await
}

async fn within<T>(time: Duration, work: impl Future<Output = Result<T, RedisError>>) -> Result<T, String> {
    let started = Instant::now();
    match timeout(time, work).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} ms", started.elapsed().as_millis())),
    }
}
