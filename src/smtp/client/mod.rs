//! The client: one connection to one server, for any number of transactions.
//!
//! It opens no sockets and looks nothing up: it is given a stream. It knows nothing of queues: it
//! says what became of each recipient, and where a failure leaves the outcome unknown.
//!
//! ```text
//! Client::start(stream) -> greeting, EHLO | HELO, [STARTTLS, EHLO], [AUTH]
//!     .send(envelope, message, before_data) -> MAIL, RCPT…, before_data, DATA -> one result each
//!     .quit()
//! ```

pub mod capabilities;
pub mod connection;
pub mod error;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod transaction;

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::smtp::client::capabilities::Capabilities;
use crate::smtp::client::connection::Connection;
use crate::smtp::client::error::{ClientError, ErrorKind};
use crate::smtp::client::tls::TlsPolicy;
use crate::smtp::reply::Reply;
use crate::smtp::sasl::{Credentials, login_responses, plain_response};

/// How long each answer is waited for (RFC 5321, 4.5.3.2).
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// The greeting.
    pub greeting: Duration,
    /// The answer to any command but those below, and the TLS handshake.
    pub command: Duration,
    /// The 354 after DATA.
    pub data_start: Duration,
    /// One block of the message being taken.
    pub data_block: Duration,
    /// The answer to the final dot.
    pub data_end: Duration,
    /// The answer to QUIT, which nobody needs to wait for.
    pub quit: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        const MINUTE: u64 = 60;
        Timeouts {
            greeting: Duration::from_secs(5 * MINUTE),
            command: Duration::from_secs(5 * MINUTE),
            data_start: Duration::from_secs(2 * MINUTE),
            data_block: Duration::from_secs(3 * MINUTE),
            data_end: Duration::from_secs(10 * MINUTE),
            quit: Duration::from_secs(5),
        }
    }
}

/// What a connection needs to know beforehand.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Our name for EHLO.
    pub host_name: String,
    /// How long answers are waited for.
    pub timeouts: Timeouts,
    /// Whether and how to encrypt.
    pub tls: TlsPolicy,
    /// Whom to sign in as.
    pub credentials: Option<Credentials>,
    /// Whether the password may be sent over an unencrypted connection.
    pub allow_plaintext_auth: bool,
}

/// A connection that is ready for transactions.
#[derive(Debug)]
pub struct Client<S> {
    pub(in crate::smtp::client) connection: Connection<S>,
    pub(in crate::smtp::client) capabilities: Capabilities,
    pub(in crate::smtp::client) timeouts: Timeouts,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Greets the server over a fresh stream, encrypts and signs in as the options say.
    pub async fn start(stream: S, options: &ClientOptions) -> Result<Client<S>, ClientError> {
        let timeouts = options.timeouts.clone();
        let mut connection = Connection::new(stream);
        if let TlsPolicy::Implicit(settings) = &options.tls {
            connection = connection.encrypt(settings, timeouts.command).await?;
        }
        let greeting = connection.reply(timeouts.greeting).await?;
        if !greeting.is_positive() {
            return Err(ClientError::new(ErrorKind::Refused(greeting)));
        }
        let mut client = Client { connection, capabilities: Capabilities::default(), timeouts };
        client.hello(&options.host_name).await?;
        let mut client = client.starttls(options).await?;
        if let Some(credentials) = &options.credentials {
            client.sign_in(credentials, options.allow_plaintext_auth).await?;
        }
        Ok(client)
    }

    /// What the server offers.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.connection.is_encrypted()
    }

    /// Says good-bye. Whatever the server answers, the connection ends.
    pub async fn quit(mut self) {
        if self.connection.send(b"QUIT\r\n", self.timeouts.quit).await.is_ok() {
            let _ = self.connection.reply(self.timeouts.quit).await;
        }
    }

    /// EHLO, or HELO where the server does not know it (RFC 5321, 4.1.1.1).
    async fn hello(&mut self, host_name: &str) -> Result<(), ClientError> {
        let reply = self.command(&format!("EHLO {host_name}")).await?;
        if reply.is_positive() {
            self.capabilities = Capabilities::read(&reply);
            return Ok(());
        }
        if !reply.is_permanent() {
            return Err(ClientError::new(ErrorKind::Refused(reply)));
        }
        let reply = self.command(&format!("HELO {host_name}")).await?;
        if !reply.is_positive() {
            return Err(ClientError::new(ErrorKind::Refused(reply)));
        }
        self.capabilities = Capabilities::default();
        Ok(())
    }

    async fn starttls(mut self, options: &ClientOptions) -> Result<Client<S>, ClientError> {
        let settings = match &options.tls {
            TlsPolicy::Never | TlsPolicy::Implicit(_) => return Ok(self),
            TlsPolicy::Opportunistic(_) if !self.capabilities.starttls => return Ok(self),
            TlsPolicy::Required(_) if !self.capabilities.starttls => {
                return Err(ClientError::new(ErrorKind::TlsNotOffered));
            }
            TlsPolicy::Opportunistic(settings) | TlsPolicy::Required(settings) => settings,
        };
        let reply = self.command("STARTTLS").await?;
        if !reply.is_positive() {
            return match options.tls {
                TlsPolicy::Required(_) => Err(ClientError::new(ErrorKind::Refused(reply))),
                _ => Ok(self),
            };
        }
        self.connection = self.connection.encrypt(settings, self.timeouts.command).await?;
        // RFC 3207, 4.2: what was offered in the clear is forgotten.
        self.hello(&options.host_name).await?;
        Ok(self)
    }

    async fn sign_in(&mut self, credentials: &Credentials, plaintext: bool) -> Result<(), ClientError> {
        if !self.is_encrypted() && !plaintext {
            return Err(ClientError::new(ErrorKind::TlsNotOffered));
        }
        let reply = if self.capabilities.auth_plain {
            // RFC 4954, 4: an initial response must fit the command line.
            let response = plain_response(credentials);
            if response.len() < 400 {
                self.command(&format!("AUTH PLAIN {response}")).await?
            } else {
                self.exchange("AUTH PLAIN", &[response]).await?
            }
        } else if self.capabilities.auth_login {
            self.exchange("AUTH LOGIN", &login_responses(credentials)).await?
        } else {
            return Err(ClientError::new(ErrorKind::AuthNotOffered));
        };
        if reply.is_positive() { Ok(()) } else { Err(ClientError::new(ErrorKind::Refused(reply))) }
    }

    async fn exchange(&mut self, command: &str, responses: &[String]) -> Result<Reply, ClientError> {
        let mut reply = self.command(command).await?;
        for response in responses {
            if reply.code() != 334 {
                break;
            }
            reply = self.command(response).await?;
        }
        Ok(reply)
    }

    async fn command(&mut self, line: &str) -> Result<Reply, ClientError> {
        self.connection.send(format!("{line}\r\n").as_bytes(), self.timeouts.command).await?;
        self.connection.reply(self.timeouts.command).await
    }
}
