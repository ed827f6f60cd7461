//! Connections to Redis that answer soon or are not asked.
//!
//! A call that fails, or takes too long, ends the use of Redis at once for all: nobody else waits.
//! One task then tries a write now and then, and with its success Redis is in use again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use deadpool_redis::redis::{self, AsyncConnectionConfig, FromRedisValue, Pipeline, RedisError};
use deadpool_redis::sentinel::{SentinelNodeConnectionInfo, SentinelServerType, TlsMode};
use deadpool_redis::{PoolError, ProtocolVersion, RedisConnectionInfo, Runtime, cluster, sentinel};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::config::redis_url::{RedisUrl, Topology};

/// What a call waits at the most.
const ANSWER_WITHIN: Duration = Duration::from_millis(100);
/// What goes on behind a call that waits no more, so that a slow connection is there for the next.
const SETTLE_WITHIN: Duration = Duration::from_secs(3);
/// Between looks while Redis is in use, so that its loss shows when nobody asks for anything.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// Between tries while Redis is not in use.
const TRY_EVERY: Duration = Duration::from_millis(500);
/// A loss so soon after the return doubles the time between tries, up to a bound: some node of a Cluster
/// may be down while others answer.
const STEADY_AFTER: Duration = Duration::from_secs(10);
const TRY_EVERY_MAX: Duration = Duration::from_secs(30);
/// Connections of one process. Each of a Cluster has one to every node behind it.
const CONNECTIONS: usize = 16;
const CLUSTER_CONNECTIONS: usize = 4;

/// Cheap to clone.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    url: RedisUrl,
    kind: Result<Kind, String>,
    is_up: AtomicBool,
    pace: Mutex<Pace>,
    /// Woken by a loss.
    lost: Arc<Notify>,
}

/// How the last losses followed each other.
struct Pace {
    /// Since when Redis is in use, or was last.
    up_since: Instant,
    try_every: Duration,
    /// Whether the log has the loss, and not the return.
    is_told: bool,
}

enum Kind {
    Single(deadpool_redis::Pool),
    Sentinel(sentinel::Pool),
    Cluster(cluster::Pool),
}

impl Pool {
    /// Connects by and by; until then Redis is not in use.
    pub fn open(url: &RedisUrl) -> Pool {
        if url.is_tls {
            // The client takes the provider of the process, and panics when it has several to choose from.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let pool = Pool(Arc::new(Inner {
            url: url.clone(),
            kind: Kind::open(url),
            is_up: AtomicBool::new(false),
            pace: Mutex::new(Pace { up_since: Instant::now(), try_every: TRY_EVERY, is_told: false }),
            lost: Arc::default(),
        }));
        metrics::gauge!("postrider_cache_up").set(0.0);
        tokio::spawn(watch(Arc::downgrade(&pool.0), pool.0.lost.clone()));
        pool
    }

    /// Whether Redis is in use.
    #[cfg(test)]
    pub fn is_up(&self) -> bool {
        self.0.is_up.load(Ordering::Relaxed)
    }

    /// What Redis answers; `None` when it is not in use, or not soon enough.
    pub async fn ask<T: FromRedisValue + Send + 'static>(&self, pipeline: Pipeline) -> Option<T> {
        if !self.0.is_up.load(Ordering::Relaxed) {
            return None;
        }
        let inner = self.0.clone();
        let asking = tokio::spawn(async move { inner.query(&pipeline).await });
        let problem = match timeout(ANSWER_WITHIN, asking).await {
            Ok(Ok(Ok(answer))) => return Some(answer),
            Ok(Ok(Err(problem))) => problem,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} ms", ANSWER_WITHIN.as_millis()),
        };
        self.0.lose(&problem);
        None
    }
}

/// Tries a write for as long as somebody has the pool: now and then while Redis is in use, and more
/// often while it is not, until it takes one.
async fn watch(pool: Weak<Inner>, lost: Arc<Notify>) {
    loop {
        let Some(inner) = pool.upgrade() else { return };
        let mut pipeline = redis::pipe();
        let key = format!("{}:try", inner.url.prefix);
        pipeline.cmd("SET").arg(key).arg(1).arg("EX").arg(60).ignore();
        let is_up = match inner.query::<()>(&pipeline).await {
            Ok(()) => {
                inner.find();
                true
            }
            Err(problem) => {
                inner.lose(&problem);
                false
            }
        };
        drop(inner);
        if is_up {
            let _ = timeout(CHECK_EVERY, lost.notified()).await;
        }
        let Some(inner) = pool.upgrade() else { return };
        let wait = inner.wait();
        drop(inner);
        sleep(wait).await;
    }
}

impl Inner {
    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Redis is in use from now on.
    fn find(&self) {
        let mut pace = self.pace();
        if !self.is_up.swap(true, Ordering::Relaxed) {
            pace.up_since = Instant::now();
        }
        metrics::gauge!("postrider_cache_up").set(1.0);
        if std::mem::take(&mut pace.is_told) {
            tracing::info!(redis = %self.url, "the cache is back");
        }
    }

    /// Redis is not in use from now on.
    fn lose(&self, problem: &str) {
        metrics::counter!("postrider_cache_errors_total").increment(1);
        let mut pace = self.pace();
        self.is_up.store(false, Ordering::Relaxed);
        if !std::mem::replace(&mut pace.is_told, true) {
            pace.try_every = match pace.up_since.elapsed() < STEADY_AFTER {
                true => (pace.try_every * 2).min(TRY_EVERY_MAX),
                false => TRY_EVERY,
            };
            metrics::gauge!("postrider_cache_up").set(0.0);
            tracing::warn!(redis = %self.url, %problem, "the cache is gone: each process keeps its own");
            self.lost.notify_one();
        }
    }

    /// Until the next try; jittered, so that not all processes try in one moment.
    fn wait(&self) -> Duration {
        match self.is_up.load(Ordering::Relaxed) {
            true => Duration::ZERO,
            false => self.pace().try_every.mul_f64(rand::random_range(0.5..1.0)),
        }
    }

    async fn query<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, String> {
        let kind = self.kind.as_ref().map_err(String::clone)?;
        match timeout(SETTLE_WITHIN, kind.query(pipeline)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {} ms", SETTLE_WITHIN.as_millis())),
        }
    }
}

impl Kind {
    fn open(url: &RedisUrl) -> Result<Kind, String> {
        let wrong = |error: RedisError| error.to_string();
        let asked: Vec<String> = url.asked().iter().map(|address| address.reveal().to_owned()).collect();
        match &url.topology {
            Topology::Single => {
                let config = AsyncConnectionConfig::new().set_connection_timeout(Some(SETTLE_WITHIN));
                let address = asked.into_iter().next().unwrap_or_default();
                let manager = deadpool_redis::Manager::new_with_config(address, config).map_err(wrong)?;
                let pool = deadpool_redis::Pool::builder(manager).max_size(CONNECTIONS);
                pool.runtime(Runtime::Tokio1).build().map(Kind::Single).map_err(|error| error.to_string())
            }
            Topology::Sentinel { master } => {
                let to_master = RedisConnectionInfo {
                    db: url.database,
                    username: url.user.clone(),
                    password: url.password.as_ref().map(|password| password.reveal().to_owned()),
                    protocol: ProtocolVersion::RESP3,
                };
                let node = SentinelNodeConnectionInfo {
                    tls_mode: url.is_tls.then_some(TlsMode::Secure),
                    redis_connection_info: Some(to_master),
                };
                let kind = SentinelServerType::Master;
                let manager =
                    sentinel::Manager::new(asked, master.clone(), Some(node), kind).map_err(wrong)?;
                let pool = sentinel::Pool::builder(manager).max_size(CONNECTIONS);
                pool.runtime(Runtime::Tokio1).build().map(Kind::Sentinel).map_err(|error| error.to_string())
            }
            Topology::Cluster => {
                let manager = cluster::Manager::new(asked, false).map_err(wrong)?;
                let pool = cluster::Pool::builder(manager).max_size(CLUSTER_CONNECTIONS);
                pool.runtime(Runtime::Tokio1).build().map(Kind::Cluster).map_err(|error| error.to_string())
            }
        }
    }

    /// A connection that fails is not used again: it may lead to a server that is no master any more.
    async fn query<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, String> {
        let away = |error: PoolError| error.to_string();
        let outcome = match self {
            Kind::Single(pool) => {
                let mut connection = pool.get().await.map_err(away)?;
                let outcome = pipeline.query_async(&mut connection).await;
                if outcome.is_err() {
                    drop(deadpool_redis::Connection::take(connection));
                }
                outcome
            }
            Kind::Sentinel(pool) => {
                let mut connection = pool.get().await.map_err(away)?;
                let outcome = pipeline.query_async(&mut connection).await;
                if outcome.is_err() {
                    drop(sentinel::Connection::take(connection));
                }
                outcome
            }
            Kind::Cluster(pool) => {
                let mut connection = pool.get().await.map_err(away)?;
                let outcome = pipeline.query_async(&mut connection).await;
                if outcome.is_err() {
                    drop(cluster::Connection::take(connection));
                }
                outcome
            }
        };
        outcome.map_err(|error: RedisError| error.to_string())
    }
}
