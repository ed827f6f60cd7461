//! `postrider serve`: starts every stage, and stops them in order.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::Office;
use crate::app::{self, App};
use crate::callback::Callback;
use crate::cli::certificate::{Certificate, LOOK_EVERY};
use crate::cli::lock::{DataLock, LockError};
use crate::cli::open_files;
use crate::cli::output::Failure;
use crate::cli::socket;
use crate::config::engine::{BlobUrl, CacheUrl, DatabaseUrl, SearchUrl};
use crate::config::role::Role;
use crate::config::{self, Config};
use crate::deliver::{self, Deliver};
use crate::dns::Dns;
use crate::events::Logger;
use crate::events::feed::Feed;
use crate::events::webhook::Webhooks;
use crate::http;
use crate::http::state::HttpState;
use crate::index;
use crate::ingest::worker::Ingest;
use crate::push::hub::Hub;
use crate::receive;
use crate::receive::intake::Intake;
use crate::store::unit::Urgency;
use crate::sweep;
use crate::types::clock::Clock;
use crate::web_push::WebPush;

/// For what is in hand when the server stops; it has to be gone within ten seconds.
const STOP_TIME: Duration = Duration::from_secs(9);
/// For the store to close after that.
const CLOSE_TIME: Duration = Duration::from_millis(900);
/// How often the figures of the metrics are put in order.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// A server that runs.
pub struct Server {
    /// Administrative acts.
    pub office: Office,
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// Where mail from other servers comes in.
    pub smtp: Option<SocketAddr>,
    /// Where mail from clients comes in, without TLS from the first byte.
    pub submission: Option<SocketAddr>,
    app: App,
    stop: CancellationToken,
    stages: TaskTracker,
    terminate: Signal,
    interrupt: Signal,
    _lock: DataLock,
}

impl Server {
    /// Opens the data folder and starts all stages.
    pub async fn start(config: Config) -> Result<Server, Failure> {
        open_files::raise_limit();
        let config = Arc::new(config);
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let roles = &config.role;
        check_roles(&config)?;
        // Before anybody is told that the server is ready: who is, may be stopped in order.
        let heard = |error: std::io::Error| Failure::new(format!("signals cannot be heard: {error}"));
        let terminate = signal(SignalKind::terminate()).map_err(heard)?;
        let interrupt = signal(SignalKind::interrupt()).map_err(heard)?;
        let lock = take_lock(&config.data)?;
        let certificate = match &config.tls {
            Some(files) => Some(Certificate::read(files).map_err(Failure::new)?),
            None => None,
        };
        let metrics = PrometheusBuilder::new().install_recorder();
        let metrics = metrics.map_err(|error| tracing::warn!(%error, "metrics are not collected")).ok();
        let app = app::open(config.clone(), Clock::system()).await;
        let app = app.map_err(|error| Failure::new(error.to_string()))?;
        let stop = CancellationToken::new();
        let stages = TaskTracker::new();
        // Whoever waits for an answer has the database before the workers.
        let work_store = app.store.with_urgency(Urgency::Background);
        let work_blobs = app.blobs.over_store(work_store.clone());
        let receive_store = app.store.with_urgency(Urgency::Soon);

        // Ports first: one that is taken ends the start before anything is done.
        let http = bind(config.http_listen, "http_listen").await?;
        let http_address = http.local_addr().unwrap_or(config.http_listen);
        let https = match (config.https_listen, &certificate) {
            (Some(address), Some(certificate)) => {
                let tls = certificate.server_config(&["h2", "http/1.1"]).map_err(Failure::new)?;
                Some((bind(address, "https_listen").await?, TlsAcceptor::from(tls)))
            }
            _ => None,
        };
        let smtp_tls = match &certificate {
            Some(certificate) => Some(certificate.server_config(&[]).map_err(Failure::new)?),
            None => None,
        };
        let intake = Intake {
            store: receive_store.clone(),
            blobs: app.blobs.over_store(receive_store),
            sign_in: app.sign_in.clone(),
            cache: app.cache.clone(),
            recipients_per_hour: config.recipients_per_hour,
        };
        let receivers = if roles.has(Role::Receive) {
            receive::server::listen(&config, &intake, smtp_tls, &stop).await.map_err(|error| {
                Failure::new(format!(
                    "{error}; set the keys of the SMTP ports (`postrider config`) to others"
                ))
            })?
        } else {
            Vec::new()
        };
        let dns = open_dns(&config.dns)?;
        let deliver =
            Deliver::new(work_store.clone(), work_blobs.clone(), dns.clone(), deliver::Settings::of(&config));
        let deliver = deliver.map_err(|error| Failure::new(format!("TLS cannot be set up: {error}")))?;
        let admin = socket::listen(&config.data).map_err(|error| {
            Failure::new(format!("{}/admin.sock cannot be opened: {error}", config.data.display()))
        })?;

        let hub = Hub::new(app.store.clone(), stop.clone());
        if roles.has(Role::Push) {
            stages.spawn(hub.clone().run());
        }
        let feed = Feed::new(app.bus.clone(), stop.clone());
        if roles.has(Role::Api) {
            stages.spawn(feed.clone().run());
        }
        let no_tls = |error| Failure::new(format!("TLS cannot be set up: {error}"));
        let callback = Callback::new(dns.clone(), config.push_networks.as_slice().into()).map_err(no_tls)?;
        let hostname = config.hostname.as_str().into();
        let webhooks = Webhooks::new(work_store.clone(), callback.clone(), hostname);
        if roles.has(Role::Events) {
            stages.spawn(Logger::new(work_store.clone()).run(stop.clone()));
            stages.spawn(webhooks.clone().run(stop.clone()));
        }
        let office = Office::new(app.store.clone(), app.blobs.clone(), &config).with_dns(dns.clone());
        let state = HttpState::new(app.clone(), office.clone(), hub, feed, webhooks, metrics.clone());
        if roles.has(Role::Push) {
            let web_push = WebPush::new(work_store.clone(), state.jmap.clone(), app.vapid.clone(), callback);
            stages.spawn(web_push.run(stop.clone()));
        }
        let router = http::router(state, roles);
        if let Some((listener, tls)) = https {
            let proxies = config.trusted_proxies.clone();
            let serving = http::server::serve(listener, Some(tls), router.clone(), proxies, stop.clone());
            stages.spawn(serving);
        }
        let proxies = config.trusted_proxies.clone();
        stages.spawn(http::server::serve(http, None, router, proxies, stop.clone()));
        let address_of = |role: receive::session::Role| {
            let mut of_role = receivers.iter().filter(|receiver| receiver.role() == role);
            of_role.next().and_then(|receiver| receiver.address().ok())
        };
        use receive::session::Role as Port;
        let (smtp, submission) = (address_of(Port::Mx), address_of(Port::Submission));
        let submission = submission.filter(|_| config.submission_listen.is_some());
        for receiver in receivers {
            stages.spawn(receiver.run());
        }
        if roles.has(Role::Ingest) {
            let authenticator = Arc::new(dns.authenticator());
            let hostname = config.hostname.as_str().into();
            let ingest = Ingest::new(work_store.clone(), work_blobs.clone(), authenticator, hostname);
            stages.spawn(ingest.run(stop.clone()));
            let keep = sweep::Keep { changes: config.keep_changes, events: config.keep_events };
            stages.spawn(sweep::run(work_store.clone(), work_blobs.clone(), keep, stop.clone()));
        }
        if roles.has(Role::Deliver) {
            stages.spawn(deliver.run(stop.clone()));
        }
        if roles.has(Role::Index) {
            stages.spawn(index::rebuild::keep_filled(app.index.clone(), work_store.clone(), stop.clone()));
            let (index, store, blobs) = (app.index.clone(), work_store, work_blobs);
            stages.spawn(index::worker::run(index, store, blobs, stop.clone()));
        }
        stages.spawn(serve_admin(office.clone(), admin, config.clone(), stop.clone()));
        if let (Some(certificate), Some(files)) = (certificate, config.tls.clone()) {
            stages.spawn(certificate.follow(files, LOOK_EVERY, stop.clone()));
        }
        if let Some(metrics) = metrics {
            let stop = stop.clone();
            stages.spawn(async move {
                while stop.run_until_cancelled(tokio::time::sleep(UPKEEP_EVERY)).await.is_some() {
                    metrics.run_upkeep();
                }
            });
        }
        let shown = |address: Option<SocketAddr>| address.map(|address| address.to_string());
        tracing::info!(
            http = %http_address,
            smtp = shown(smtp),
            submission = shown(submission),
            data = %config.data.display(),
            role = %roles,
            "the server runs"
        );
        Ok(Server {
            office,
            http: http_address,
            smtp,
            submission,
            app,
            stop,
            stages,
            terminate,
            interrupt,
            _lock: lock,
        })
    }

    /// The settings with which it runs.
    pub fn config(&self) -> &Config {
        &self.app.config
    }

    /// Runs until SIGTERM or SIGINT, then finishes what is in hand.
    pub async fn run(mut self) -> Result<(), Failure> {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        tracing::info!("the server stops");
        self.stop().await
    }

    /// Finishes what is in hand and closes the store.
    pub async fn stop(self) -> Result<(), Failure> {
        self.stop.cancel();
        self.stages.close();
        if tokio::time::timeout(STOP_TIME, self.stages.wait()).await.is_err() {
            tracing::warn!("some work was cut off: it is taken up by the next start");
        }
        let store = self.app.store.clone();
        // A database that does not answer may not hold the end up: it rolls back what is open.
        if tokio::time::timeout(CLOSE_TIME, store.close()).await.is_err() {
            tracing::warn!("the database did not answer in time; what was not committed is done again");
        }
        self.app.bus.close().await;
        Ok(())
    }
}

/// Refuses roles that cannot do their work with the engines that are configured.
fn check_roles(config: &Config) -> Result<(), Failure> {
    let roles = &config.role;
    let is_local_index = matches!(config.search_url, SearchUrl::Tantivy(_));
    if is_local_index && roles.has(Role::Api) != roles.has(Role::Index) {
        return Err(Failure::new(
            "a tantivy: index is in one process: the roles api and index must run together; use meilisearch: \
             for several",
        ));
    }
    if matches!(config.database_url, DatabaseUrl::Sqlite(_)) && !roles.is_all() {
        return Err(Failure::new(
            "a sqlite: database is in one process, which must have all roles; use postgres: for several",
        ));
    }
    if matches!(config.blob_url, BlobUrl::File(_)) && !roles.is_all() {
        return Err(Failure::new(
            "a file: folder of messages is of one process, which must have all roles; use s3: for several",
        ));
    }
    if matches!(config.cache_url, CacheUrl::Memory) && !roles.is_all() {
        tracing::warn!("with cache_url memory: other processes hear late of changes; use redis: for several");
    }
    Ok(())
}

async fn serve_admin(
    office: Office,
    listener: tokio::net::UnixListener,
    config: Arc<Config>,
    stop: CancellationToken,
) {
    let handle = move |request| {
        let office = office.clone();
        async move { office.answer(request).await }
    };
    socket::serve_admin(&config.data, listener, config.max_message_size, stop, handle).await;
}

/// The resolver. A machine without a configuration of its own asks itself (resolv.conf(5)).
fn open_dns(which: &config::value::Dns) -> Result<Dns, Failure> {
    let opened = match (Dns::new(which), which) {
        (Err(error), config::value::Dns::System) => {
            tracing::warn!(%error, "this machine names no DNS server; set `dns` to one");
            Dns::with_server(SocketAddr::from((Ipv4Addr::LOCALHOST, 53)))
        }
        (opened, _) => opened,
    };
    opened.map_err(|error| Failure::new(format!("DNS cannot be set up: {error}")))
}

async fn bind(address: SocketAddr, key: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let variable = format!("POSTRIDER_{}", key.to_ascii_uppercase());
        Failure::new(format!(
            "{address} cannot be listened on: {error}; set `{key}` or {variable} to another"
        ))
    })
}

fn take_lock(data: &Path) -> Result<DataLock, Failure> {
    let folder = data.display();
    DataLock::take(data).map_err(|error| match error {
        LockError::Held => {
            Failure::new(format!("the data folder {folder} is in use: does a server run already?"))
        }
        LockError::Io(error) => Failure::new(format!("the data folder {folder} cannot be used: {error}")),
    })
}
