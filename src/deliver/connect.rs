//! A connection to a host: how it is encrypted, and as whom we sign in.
//!
//! To mail hosts any encryption is better than none, and none is better than no delivery (RFC 7435). A
//! relay that was configured with `smtps://` is spoken to inside TLS alone; a password leaves this
//! machine only for a host that has proved its name.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::net::TcpStream;

use crate::deliver::Shared;
use crate::deliver::route::Hop;
use crate::smtp::client::error::{ClientError, ErrorKind};
use crate::smtp::client::tls::{TlsPolicy, TlsSettings};
use crate::smtp::client::{Client, ClientOptions};
use crate::smtp::sasl::Credentials;

/// Opens a connection that is ready for transactions.
pub async fn connect(shared: &Shared, hop: &Hop, address: IpAddr) -> Result<Client<TcpStream>, ClientError> {
    let options = options(shared, hop, address);
    let stream = open_stream(shared, hop, address).await?;
    match Client::start(stream, &options).await {
        // RFC 7435: no encryption is better than no delivery, where nothing secret is at stake.
        Err(ClientError { kind: ErrorKind::Tls(error), .. })
            if matches!(options.tls, TlsPolicy::Opportunistic(_)) && options.credentials.is_none() =>
        {
            tracing::info!(host = hop.name, %error, "TLS failed; sending without");
            let stream = open_stream(shared, hop, address).await?;
            Client::start(stream, &ClientOptions { tls: TlsPolicy::Never, ..options }).await
        }
        other => other,
    }
}

async fn open_stream(shared: &Shared, hop: &Hop, address: IpAddr) -> Result<TcpStream, ClientError> {
    let failed = |kind| ClientError { kind, after_final_dot: false };
    let within: Duration = shared.settings.connect_timeout;
    let connecting = TcpStream::connect(SocketAddr::new(address, hop.port));
    match tokio::time::timeout(within, connecting).await {
        Ok(Ok(stream)) => {
            // Commands are small; waiting for more of them would only make them late.
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(error)) => Err(failed(ErrorKind::Io(error))),
        Err(_) => Err(failed(ErrorKind::TimedOut(within))),
    }
}

pub(in crate::deliver) fn options(shared: &Shared, hop: &Hop, address: IpAddr) -> ClientOptions {
    let server_name = ServerName::try_from(hop.name.clone()).unwrap_or_else(|_| ServerName::from(address));
    let relay = shared.settings.relay.as_ref();
    let login = relay.and_then(|relay| relay.login.as_ref());
    let tls = |config: &Arc<rustls::ClientConfig>| TlsSettings { config: config.clone(), server_name };
    // A password goes over the network only to a host that has proved its name.
    let is_here = address.to_canonical().is_loopback();
    let is_implicit = relay.is_some_and(|relay| relay.is_implicit_tls);
    let tls = match (is_here, is_implicit, login) {
        (false, true, _) => TlsPolicy::Implicit(tls(&shared.verifying)),
        (true, true, _) => TlsPolicy::Implicit(tls(&shared.accepting_any)),
        (false, false, Some(_)) => TlsPolicy::Required(tls(&shared.verifying)),
        (_, false, _) => TlsPolicy::Opportunistic(tls(&shared.accepting_any)),
    };
    ClientOptions {
        host_name: shared.settings.ourselves.host_name.clone(),
        timeouts: shared.settings.timeouts.clone(),
        tls,
        credentials: login.map(|(login, password)| Credentials {
            login: login.clone(),
            password: password.reveal().to_owned(),
        }),
        allow_plaintext_auth: is_here,
    }
}
