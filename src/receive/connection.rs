//! One connection: reads and writes the bytes of its session, each in its time, and does what the
//! session asks for.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::receive::body_memory::{BodyMemory, Share};
use crate::receive::intake::Intake;
use crate::receive::session::{Session, SessionSettings, Step};
use crate::smtp::reply::EnhancedCode;
use crate::smtp::stream::MaybeTls;

/// Octets that are read at once.
const READ_SIZE: usize = 32 * 1024;

/// What all connections of a listener share.
#[derive(Clone)]
pub struct Shared {
    /// What sessions need to know.
    pub settings: Arc<SessionSettings>,
    /// The certificate, for STARTTLS or from the start.
    pub tls: Option<TlsAcceptor>,
    /// Whether TLS begins with the first byte (RFC 8314, 3.3).
    pub is_implicit_tls: bool,
    /// What is behind the session.
    pub intake: Intake,
    /// What messages on their way may hold, together.
    pub body_memory: Arc<BodyMemory>,
    /// Cancelled when the server stops.
    pub shutdown: CancellationToken,
}

/// Serves a client until one side has had enough. An error is the client's going away, or its
/// failure to go on in time.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    peer: IpAddr,
    shared: &Shared,
) -> io::Result<()> {
    let mut stream = MaybeTls::Plain(stream);
    let mut tls = None;
    if shared.is_implicit_tls {
        (stream, tls) = encrypt(stream, shared).await?;
    }
    let mut session = Session::new(Arc::clone(&shared.settings), peer, tls);
    let mut input = BytesMut::new();
    let mut share = Share::new(Arc::clone(&shared.body_memory));
    let mut clock = Deadlines::new(shared);
    loop {
        let step = session.advance(&mut input);
        // A whole message is held until it is queued.
        let held = match &step {
            Step::Queue(accepted) => accepted.message.len(),
            _ => session.buffered(),
        };
        if !share.resize(held) && !matches!(step, Step::Queue(_)) {
            session.overloaded();
            share.resize(session.buffered());
        }
        match step {
            Step::Read => {
                let output = session.take_output();
                clock.progress(&session, !output.is_empty());
                send(&mut stream, &output, shared).await?;
                if !read(&mut stream, &mut input, &mut session, &mut clock, shared).await? {
                    return Ok(());
                }
            }
            Step::StartTls => {
                send(&mut stream, &session.take_output(), shared).await?;
                input.clear();
                let (encrypted, description) = encrypt(stream, shared).await?;
                stream = encrypted;
                session.encrypted(description.unwrap_or_default());
                clock.progress(&session, true);
            }
            Step::SignIn(credentials) => {
                session.sign_in_answer(shared.intake.sign_in(peer, &credentials).await);
            }
            Step::Recipient(path) => session.recipient_answer(shared.intake.recipient(&path).await),
            Step::Queue(accepted) => session.queue_answer(shared.intake.queue(*accepted).await),
            Step::Close => {
                send(&mut stream, &session.take_output(), shared).await?;
                // Best effort: the client may have gone.
                let _ = timeout(shared.settings.policy.handshake, stream.shutdown()).await;
                return Ok(());
            }
        }
    }
}

/// By when the client has to go on.
struct Deadlines {
    idle: Duration,
    transaction: Duration,
    /// A command is awaited since then: bytes that trickle in do not count.
    replied_at: Instant,
    transaction_at: Option<Instant>,
    /// When the server stops, and a message is on its way.
    stop_at: Option<Instant>,
}

impl Deadlines {
    fn new(shared: &Shared) -> Self {
        let policy = &shared.settings.policy;
        Deadlines {
            idle: policy.idle,
            transaction: policy.transaction,
            replied_at: Instant::now(),
            transaction_at: None,
            stop_at: None,
        }
    }

    fn progress(&mut self, session: &Session, has_replied: bool) {
        let now = Instant::now();
        if has_replied {
            self.replied_at = now;
        }
        self.transaction_at = session.is_in_transaction().then(|| self.transaction_at.unwrap_or(now));
    }

    fn next(&self, session: &Session) -> Instant {
        let since = if session.is_in_message() { Instant::now() } else { self.replied_at };
        let mut deadline = since + self.idle;
        if let Some(started) = self.transaction_at {
            deadline = deadline.min(started + self.transaction);
        }
        self.stop_at.map_or(deadline, |stop_at| deadline.min(stop_at))
    }
}

/// Reads more input, or makes the session close itself. False: the client has gone.
async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut MaybeTls<S>,
    input: &mut BytesMut,
    session: &mut Session,
    deadlines: &mut Deadlines,
    shared: &Shared,
) -> io::Result<bool> {
    input.reserve(READ_SIZE);
    loop {
        let is_stopping = deadlines.stop_at.is_some();
        tokio::select! {
            biased;
            () = shared.shutdown.cancelled(), if !is_stopping => {
                deadlines.stop_at = Some(Instant::now() + shared.settings.policy.shutdown);
            }
            result = timeout_at(deadlines.next(session), stream.read_buf(input)) => {
                return match result {
                    Ok(count) => Ok(count? > 0),
                    Err(_) if is_stopping => {
                        session.close_with(EnhancedCode(4, 3, 2), "The server is stopping");
                        Ok(true)
                    }
                    Err(_) => {
                        session.close_with(EnhancedCode(4, 4, 2), "Waited too long");
                        Ok(true)
                    }
                };
            }
        }
        if !session.is_in_message() {
            session.close_with(EnhancedCode(4, 3, 2), "The server is stopping");
            return Ok(true);
        }
    }
}

async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut MaybeTls<S>,
    output: &[u8],
    shared: &Shared,
) -> io::Result<()> {
    if output.is_empty() {
        return Ok(());
    }
    let write = async {
        stream.write_all(output).await?;
        stream.flush().await
    };
    timeout(shared.settings.policy.handshake, write).await?
}

/// Shakes hands; gives version and cipher, too.
async fn encrypt<S: AsyncRead + AsyncWrite + Unpin>(
    stream: MaybeTls<S>,
    shared: &Shared,
) -> io::Result<(MaybeTls<S>, Option<String>)> {
    let (MaybeTls::Plain(stream), Some(acceptor)) = (stream, &shared.tls) else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    let stream = timeout(shared.settings.policy.handshake, acceptor.accept(stream)).await??;
    let (_, connection) = stream.get_ref();
    let version = connection.protocol_version().and_then(|version| version.as_str()).unwrap_or("TLS");
    let cipher = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("");
    let description = format!("{version} {cipher}");
    Ok((MaybeTls::Tls(Box::new(stream.into())), Some(description)))
}
