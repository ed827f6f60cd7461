//! The listeners of a configuration.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::receive::body_memory::BodyMemory;
use crate::receive::connection::Shared;
use crate::receive::intake::Intake;
use crate::receive::listener::Listener;
use crate::receive::policy::Policy;
use crate::receive::session::{Role, SessionSettings};

/// Opens the ports that the configuration names: for other servers, for users, and for users with
/// TLS from the first byte where there is a certificate. `tls` is the server's side of TLS; it may
/// change its certificate by itself.
pub async fn listen(
    config: &Config,
    intake: &Intake,
    tls: Option<Arc<ServerConfig>>,
    shutdown: &CancellationToken,
) -> io::Result<Vec<Listener>> {
    let defaults = Policy::default();
    let policy = Policy {
        max_message_size: config.max_message_size,
        connections_per_address: usize::try_from(config.connections_per_address).unwrap_or(usize::MAX),
        ..defaults
    };
    // One message of the largest size has to fit, whatever the configuration says.
    let largest = usize::try_from(config.max_message_size).unwrap_or(usize::MAX);
    let body_memory = Arc::new(BodyMemory::new(policy.body_memory.max(largest)));
    let ports = [
        (config.smtp_listen, Role::Mx, false),
        (config.submission_listen, Role::Submission, false),
        (config.submissions_listen.filter(|_| tls.is_some()), Role::Submission, true),
    ];
    let mut listeners = Vec::new();
    for (address, role, is_implicit_tls) in ports {
        let Some(address) = address else { continue };
        let socket = TcpListener::bind(address)
            .await
            .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
        let settings = SessionSettings {
            role,
            host_name: config.hostname.clone(),
            policy: policy.clone(),
            has_certificate: tls.is_some(),
            allow_plaintext_auth: config.allow_plaintext_auth,
            clock: intake.store.clock().clone(),
            ids: Arc::clone(intake.store.ids()),
        };
        let shared = Shared {
            settings: Arc::new(settings),
            tls: tls.clone().map(TlsAcceptor::from),
            is_implicit_tls,
            intake: match role {
                Role::Mx => intake.clone(),
                Role::Submission => intake.for_people(),
            },
            body_memory: Arc::clone(&body_memory),
            shutdown: shutdown.clone(),
        };
        listeners.push(Listener::new(socket, shared, &config.trusted_proxies));
    }
    Ok(listeners)
}
