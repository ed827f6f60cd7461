//! One SMTP session as a state machine: bytes go in, replies come out, and whatever needs the
//! world outside is asked for as a `Step`.
//!
//! Not here: sockets, time-outs, the store. Invariant: the same bytes give the same replies and the
//! same steps, however they were cut into packets.

pub mod greeting;
pub mod message;
pub mod sign_in;
#[cfg(test)]
mod tests;
pub mod transaction;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::BytesMut;

use crate::receive::policy::Policy;
use crate::receive::session::message::AcceptedMessage;
use crate::receive::session::sign_in::SignedIn;
use crate::receive::session::transaction::Transaction;
use crate::smtp::bdat::ChunkCollector;
use crate::smtp::command::{self, Command, CommandError};
use crate::smtp::data::DataDecoder;
use crate::smtp::line::{Line, LineReader, MAX_AUTH_LINE, MAX_COMMAND_LINE};
use crate::smtp::path::ForwardPath;
use crate::smtp::reply::{EnhancedCode, Reply};
use crate::smtp::sasl::{Credentials, Exchange};
use crate::types::clock::Clock;
use crate::types::id::IdMaker;

/// Whom a server is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Other servers, with mail for local addresses.
    Mx,
    /// Our own users, with mail for anybody (RFC 6409).
    Submission,
}

/// What all sessions of a listener share.
#[derive(Debug)]
pub struct SessionSettings {
    /// Whom the server is for.
    pub role: Role,
    /// Our name.
    pub host_name: String,
    /// The limits.
    pub policy: Policy,
    /// Whether STARTTLS can be offered.
    pub has_certificate: bool,
    /// Whether passwords may come unencrypted from other machines.
    pub allow_plaintext_auth: bool,
    /// Tells the time.
    pub clock: Clock,
    /// Makes the ids of messages.
    pub ids: Arc<IdMaker>,
}

/// What is to be done before the session can go on. Replies wait in `take_output` all the while.
#[derive(Debug)]
pub enum Step {
    /// Send the replies and read more bytes.
    Read,
    /// Send the replies, drop all input (RFC 3207, 4.2), shake hands, call `encrypted`.
    StartTls,
    /// Find out whether these are right, call `sign_in_answer`.
    SignIn(Credentials),
    /// Find out where mail for this path goes, call `recipient_answer`.
    Recipient(ForwardPath),
    /// Store the message durably, call `queue_answer`.
    Queue(Box<AcceptedMessage>),
    /// Send the replies and close the connection.
    Close,
}

/// What the next bytes are.
#[derive(Debug)]
enum Mode {
    Command,
    SignIn(Exchange),
    Data(DataDecoder),
    /// A chunk of the transaction, or one that is dropped before a reply that is known already.
    Chunk,
    DroppedChunk(ChunkCollector, Reply),
    /// An answer is awaited.
    Waiting,
    Closed,
}

/// The state of one session.
#[derive(Debug)]
pub struct Session {
    settings: Arc<SessionSettings>,
    peer: IpAddr,
    /// Version and cipher, when encrypted.
    tls: Option<String>,
    lines: LineReader,
    output: Vec<u8>,
    mode: Mode,
    greeting: Option<greeting::Greeting>,
    signed_in: Option<SignedIn>,
    transaction: Option<Transaction>,
    /// Since the last message that was queued.
    commands: u32,
    errors: u32,
    refused_recipients: u32,
    sign_in_failures: u32,
    messages: u32,
}

impl Session {
    /// A session with its greeting in the output. `tls` is there from the start where the port is
    /// one of implicit TLS.
    pub fn new(settings: Arc<SessionSettings>, peer: IpAddr, tls: Option<String>) -> Session {
        let mut session = Session {
            settings,
            peer: peer.to_canonical(),
            tls,
            lines: LineReader::new(),
            output: Vec::new(),
            mode: Mode::Command,
            greeting: None,
            signed_in: None,
            transaction: None,
            commands: 0,
            errors: 0,
            refused_recipients: 0,
            sign_in_failures: 0,
            messages: 0,
        };
        let greeting = Reply::plain(220, format!("{} ESMTP Postrider", session.settings.host_name));
        session.reply(&greeting);
        session
    }

    /// Reads on in `input` until something is to be done.
    pub fn advance(&mut self, input: &mut BytesMut) -> Step {
        loop {
            let step = match std::mem::replace(&mut self.mode, Mode::Command) {
                Mode::Closed => {
                    self.mode = Mode::Closed;
                    Some(Step::Close)
                }
                // Nobody may go on before the answer is there.
                Mode::Waiting => {
                    self.mode = Mode::Closed;
                    Some(Step::Close)
                }
                Mode::Command => match self.lines.next(input, MAX_COMMAND_LINE) {
                    None => Some(Step::Read),
                    Some(line) => self.command_line(line),
                },
                Mode::SignIn(exchange) => match self.lines.next(input, MAX_AUTH_LINE) {
                    None => {
                        self.mode = Mode::SignIn(exchange);
                        Some(Step::Read)
                    }
                    Some(line) => self.sign_in_line(exchange, line),
                },
                Mode::Data(mut decoder) => match decoder.push(input) {
                    None => {
                        self.mode = Mode::Data(decoder);
                        Some(Step::Read)
                    }
                    Some(result) => self.message_end(result),
                },
                Mode::Chunk => self.chunk_bytes(input),
                Mode::DroppedChunk(mut collector, reply) => match collector.push(input) {
                    None => {
                        self.mode = Mode::DroppedChunk(collector, reply);
                        Some(Step::Read)
                    }
                    Some(_) => {
                        self.error(&reply);
                        None
                    }
                },
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    /// The replies that wait to be sent.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Whether a message is on its way.
    pub fn is_in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// Whether the bytes of a message are awaited.
    pub fn is_in_message(&self) -> bool {
        matches!(self.mode, Mode::Data(_) | Mode::Chunk)
    }

    /// Octets of a message that are held.
    pub fn buffered(&self) -> usize {
        let data = match &self.mode {
            Mode::Data(decoder) => decoder.buffered(),
            _ => 0,
        };
        data + self.transaction.as_ref().map_or(0, Transaction::buffered)
    }

    /// There is no memory for the message on its way: it is read to its end and put off.
    pub fn overloaded(&mut self) {
        if let Mode::Data(decoder) = &mut self.mode {
            decoder.give_up();
        }
        if let Some(transaction) = &mut self.transaction {
            transaction.overloaded();
        }
    }

    /// The TLS handshake is done. The session starts anew (RFC 3207, 4.2).
    pub fn encrypted(&mut self, tls: String) {
        self.tls = Some(tls);
        self.greeting = None;
        self.transaction = None;
        self.signed_in = None;
        self.lines = LineReader::new();
        self.mode = Mode::Command;
    }

    /// Says why and closes: `421` at the server's own wish (RFC 5321, 3.8).
    pub fn close_with(&mut self, enhanced: EnhancedCode, text: &'static str) {
        self.reply(&Reply::new(421, enhanced, text));
        self.mode = Mode::Closed;
    }

    fn policy(&self) -> &Policy {
        &self.settings.policy
    }

    fn reply(&mut self, reply: &Reply) {
        reply.write_to(&mut self.output);
    }

    /// A reply to something that should not have been; too many of them end the session.
    fn error(&mut self, reply: &Reply) {
        self.errors += 1;
        if self.errors > self.policy().errors {
            self.close_with(EnhancedCode(4, 7, 0), "Too many errors");
        } else {
            self.reply(reply);
        }
    }

    fn out_of_order(&mut self, text: &'static str) {
        self.error(&Reply::new(503, EnhancedCode(5, 5, 1), text));
    }

    fn command_line(&mut self, line: Line) -> Option<Step> {
        self.commands += 1;
        if self.commands > self.policy().commands {
            self.close_with(EnhancedCode(4, 7, 0), "Too many commands");
            return None;
        }
        let line = match line {
            Line::Complete(line) => line,
            Line::Malformed => {
                self.error(&Reply::new(500, EnhancedCode(5, 5, 2), "Lines end with CR LF"));
                return None;
            }
            Line::TooLong => {
                self.error(&Reply::new(500, EnhancedCode(5, 5, 2), "Line too long"));
                return None;
            }
            Line::Flood => {
                self.close_with(EnhancedCode(4, 7, 0), "Line too long");
                return None;
            }
        };
        match command::parse(&line) {
            Ok(command) => self.command(command),
            Err(error) => {
                self.error(&error.reply());
                if error == CommandError::ChunkSize {
                    self.mode = Mode::Closed;
                }
                None
            }
        }
    }

    fn command(&mut self, command: Command) -> Option<Step> {
        match command {
            Command::Ehlo { name } => self.ehlo(name),
            Command::Helo { name } => self.helo(name),
            Command::Mail { from, parameters } => self.mail(from, parameters),
            Command::Rcpt { to, parameters } => return self.rcpt(to, parameters),
            Command::Data => self.data(),
            Command::Bdat { size, last } => self.bdat(size, last),
            Command::Rset => {
                self.transaction = None;
                self.reply(&Reply::new(250, EnhancedCode(2, 0, 0), "OK"));
            }
            Command::Noop => self.reply(&Reply::new(250, EnhancedCode(2, 0, 0), "OK")),
            Command::Quit => {
                self.reply(&Reply::new(221, EnhancedCode(2, 0, 0), "Bye"));
                self.mode = Mode::Closed;
            }
            // RFC 5321, 3.5.3: the answer of a server that does not tell its users.
            Command::Vrfy => {
                self.reply(&Reply::new(252, EnhancedCode(2, 0, 0), "Send some mail, it will be tried"));
            }
            Command::Expn => {
                self.error(&Reply::new(502, EnhancedCode(5, 5, 1), "Lists are not expanded"));
            }
            Command::Help => {
                self.reply(&Reply::new(214, EnhancedCode(2, 0, 0), "RFC 5321 says it all"));
            }
            Command::StartTls => return self.start_tls(),
            Command::Auth { mechanism, initial } => return self.auth(&mechanism, initial.as_deref()),
        }
        None
    }
}
