//! The stages that mail passes, started together: receive, ingest, deliver, index, sweep.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::cli::output::Failure;
use crate::deliver::{self, Deliver};
use crate::dns::Dns;
use crate::index;
use crate::ingest::worker::Ingest;
use crate::receive::body_memory::BodyMemory;
use crate::receive::connection::Shared;
use crate::receive::intake::Intake;
use crate::receive::listener::Listener;
use crate::receive::policy::Policy;
use crate::receive::session::{Role, SessionSettings};
use crate::sweep;

/// A socket that listens for SMTP.
pub struct SmtpSocket {
    /// Bound already.
    pub socket: TcpListener,
    /// Whom it serves.
    pub role: Role,
    /// Whether TLS begins with the first byte.
    pub is_implicit_tls: bool,
}

/// Starts the stages; they end when `stop` is cancelled.
pub fn start(
    app: &App,
    sockets: Vec<SmtpSocket>,
    tls: Option<&TlsAcceptor>,
    stages: &TaskTracker,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let dns = Dns::new(&app.config.dns)
        .map_err(|error| Failure::new(format!("the DNS resolver cannot be set up: {error}; see `dns`")))?;
    let body_memory = Arc::new(BodyMemory::new(Policy::default().body_memory));
    for socket in sockets {
        stages.spawn(listener(app, socket, tls.cloned(), body_memory.clone(), stop.clone()).run());
    }
    let ingest = Ingest {
        store: app.store.clone(),
        blobs: app.blobs.clone(),
        authenticator: Arc::new(dns.authenticator()),
        hostname: app.config.hostname.as_str().into(),
    };
    stages.spawn(ingest.run(stop.clone()));
    let settings = deliver::Settings::of(&app.config);
    let deliver = Deliver::new(app.store.clone(), app.blobs.clone(), dns, settings)
        .map_err(|error| Failure::new(format!("TLS for sending cannot be set up: {error}")))?;
    stages.spawn(deliver.run(stop.clone()));
    let (index, store, rebuild_stop) = (app.index.clone(), app.store.clone(), stop.clone());
    stages.spawn(async move {
        let rebuild = index::rebuild::rebuild_if_needed(&index, &store);
        if let Some(Err(error)) = rebuild_stop.run_until_cancelled(rebuild).await {
            tracing::warn!(%error, "the index is not filled yet; the next start goes on");
        }
    });
    stages.spawn(index::worker::run(app.index.clone(), app.store.clone(), app.blobs.clone(), stop.clone()));
    stages.spawn(sweep::run(app.store.clone(), app.blobs.clone(), app.config.keep_changes, stop.clone()));
    Ok(())
}

fn listener(
    app: &App,
    socket: SmtpSocket,
    tls: Option<TlsAcceptor>,
    body_memory: Arc<BodyMemory>,
    stop: CancellationToken,
) -> Listener {
    let config = &app.config;
    let policy = Policy {
        max_message_size: config.max_message_size,
        connections_per_address: config.connections_per_address as usize,
        ..Policy::default()
    };
    let settings = SessionSettings {
        role: socket.role,
        host_name: config.hostname.clone(),
        policy,
        has_certificate: tls.is_some(),
        allow_plaintext_auth: config.allow_plaintext_auth,
        clock: app.clock.clone(),
        ids: app.store.ids().clone(),
    };
    let intake = Intake {
        store: app.store.clone(),
        blobs: app.blobs.clone(),
        sign_in: app.sign_in.clone(),
        cache: app.cache.clone(),
        recipients_per_hour: config.recipients_per_hour,
    };
    let shared = Shared {
        settings: Arc::new(settings),
        tls,
        is_implicit_tls: socket.is_implicit_tls,
        intake,
        body_memory,
        shutdown: stop,
    };
    Listener::new(socket.socket, shared, &config.trusted_proxies)
}
