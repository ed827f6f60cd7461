//! What can go wrong with a connection.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::smtp::reply::Reply;

/// A connection that cannot be used any more.
#[derive(Debug)]
pub struct ClientError {
    /// What happened.
    pub kind: ErrorKind,
    /// The final dot was on its way already: the server may have taken the message although its
    /// answer was not heard (RFC 5321, 4.5.3.2.6 names the duplicates that a new try can cause).
    pub after_final_dot: bool,
}

/// What happened.
#[derive(Debug)]
pub enum ErrorKind {
    /// No answer in this time.
    TimedOut(Duration),
    /// The connection broke, or the server closed it.
    Io(io::Error),
    /// The TLS handshake failed.
    Tls(io::Error),
    /// TLS is required, for itself or for the password, and not offered.
    TlsNotOffered,
    /// Signing in is required, with none of our mechanisms offered.
    AuthNotOffered,
    /// The server does not speak SMTP.
    NotSmtp,
    /// The server refused to go on: greeting, EHLO, STARTTLS, AUTH, or a 421 at any time.
    Refused(Reply),
    /// The hook before DATA said no; nothing was sent.
    Aborted,
}

impl ClientError {
    pub(in crate::smtp::client) fn new(kind: ErrorKind) -> Self {
        ClientError { kind, after_final_dot: false }
    }

    /// Whether a new try at this server is in vain.
    pub fn is_permanent(&self) -> bool {
        matches!(&self.kind, ErrorKind::Refused(reply) if reply.is_permanent())
    }

    /// The server's own words, where it said any.
    pub fn reply(&self) -> Option<&Reply> {
        match &self.kind {
            ErrorKind::Refused(reply) => Some(reply),
            _ => None,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ErrorKind::TimedOut(after) => write!(f, "no answer within {} s", after.as_secs())?,
            ErrorKind::Io(error) => write!(f, "the connection broke: {error}")?,
            ErrorKind::Tls(error) => write!(f, "the TLS handshake failed: {error}")?,
            ErrorKind::TlsNotOffered => f.write_str("the server does not offer TLS")?,
            ErrorKind::AuthNotOffered => f.write_str("the server offers no way to sign in that is known")?,
            ErrorKind::NotSmtp => f.write_str("the server does not speak SMTP")?,
            ErrorKind::Refused(reply) => write!(f, "the server said: {reply}")?,
            ErrorKind::Aborted => f.write_str("given up before the message was sent")?,
        }
        if self.after_final_dot { f.write_str(" (after the whole message was sent)") } else { Ok(()) }
    }
}

impl std::error::Error for ClientError {}
