//! DATA and BDAT: the message, and what is checked and added before it is queued.

use std::net::IpAddr;

use bytes::{Bytes, BytesMut};

use crate::mail::reencode::remove_return_path;
use crate::receive::received::{Trace, received_fields};
use crate::receive::session::greeting::Greeting;
use crate::receive::session::sign_in::SignedIn;
use crate::receive::session::transaction::{Recipient, Transaction, too_large};
use crate::receive::session::{Mode, Role, Session, Step};
use crate::receive::submitted;
use crate::smtp::bdat::{Chunk, ChunkCollector};
use crate::smtp::data::{DataDecoder, DataError};
use crate::smtp::parameters::{Hold, MailParameters};
use crate::smtp::path::ReversePath;
use crate::smtp::reply::{EnhancedCode, Reply};
use crate::types::id::Id;

/// A message that is ready to be queued.
#[derive(Debug, Clone)]
pub struct AcceptedMessage {
    /// The id under which it is queued; it stands in its Received field.
    pub id: Id,
    /// Through which server it came.
    pub role: Role,
    /// Who it comes from.
    pub from: ReversePath,
    /// What followed the reverse path.
    pub parameters: MailParameters,
    /// Who it goes to: one to a hundred.
    pub recipients: Vec<Recipient>,
    /// The client's address.
    pub peer: IpAddr,
    /// The client's name for itself.
    pub helo: String,
    /// Version and cipher, when encrypted.
    pub tls: Option<String>,
    /// Who the client is, on submission.
    pub signed_in: Option<SignedIn>,
    /// When its end came, in milliseconds since 1970.
    pub received_at_ms: i64,
    /// When it may leave, in milliseconds since 1970: now, unless it is held.
    pub send_at_ms: i64,
    /// The message with its trace fields: Received, and from other servers Return-Path above it.
    pub message: Bytes,
}

/// What came of queueing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueAnswer {
    /// It is on disk.
    Queued(Id),
    /// The credentials have changed since the sign-in.
    SignInAgain,
    /// The right to the sender's address has gone since it was named.
    NotTheirs,
    /// The login has sent to too many recipients within the hour.
    RateExceeded,
    /// There is no room for it.
    Full,
    /// Something behind is down.
    Unavailable,
}

impl Session {
    pub(in crate::receive::session) fn data(&mut self) {
        if let Err(reply) = self.check_message_start() {
            return self.error(&reply);
        }
        if self.transaction.as_ref().is_some_and(|transaction| transaction.chunks.is_some()) {
            // RFC 3030, 2: the two do not mix.
            return self.out_of_order("The message comes in chunks");
        }
        self.reply(&Reply::plain(354, "End with CR LF . CR LF"));
        self.mode = Mode::Data(DataDecoder::new(self.policy().max_message_size, self.policy().swallow));
    }

    pub(in crate::receive::session) fn bdat(&mut self, size: u64, last: bool) {
        let (limit, swallow) = (self.policy().max_message_size, self.policy().swallow);
        if let Err(reply) = self.check_message_start() {
            let mut collector = ChunkCollector::discarding();
            // RFC 3030, 2: the octets of a refused chunk are read all the same.
            if collector.begin(size, last, limit.saturating_add(swallow)).is_err() {
                self.error(&too_large());
                self.mode = Mode::Closed;
            } else {
                self.mode = Mode::DroppedChunk(collector, reply);
            }
            return;
        }
        let Some(transaction) = &mut self.transaction else { return };
        let is_overloaded = transaction.is_overloaded;
        let chunks = transaction.chunks.get_or_insert_with(|| ChunkCollector::new(limit));
        if is_overloaded {
            chunks.give_up();
        }
        if chunks.begin(size, last, swallow).is_err() {
            self.error(&too_large());
            self.mode = Mode::Closed;
        } else {
            self.mode = Mode::Chunk;
        }
    }

    fn check_message_start(&self) -> Result<(), Reply> {
        match &self.transaction {
            None => Err(Reply::new(503, EnhancedCode(5, 5, 1), "MAIL first")),
            // RFC 5321, 3.3
            Some(transaction) if transaction.recipients.is_empty() => {
                Err(Reply::new(554, EnhancedCode(5, 5, 1), "No valid recipients"))
            }
            Some(_) => Ok(()),
        }
    }

    pub(in crate::receive::session) fn chunk_bytes(&mut self, input: &mut BytesMut) -> Option<Step> {
        let chunks = self.transaction.as_mut().and_then(|transaction| transaction.chunks.as_mut())?;
        match chunks.push(input) {
            None => {
                self.mode = Mode::Chunk;
                Some(Step::Read)
            }
            Some(Ok(Chunk::More)) => {
                self.reply(&Reply::new(250, EnhancedCode(2, 0, 0), "OK"));
                None
            }
            Some(Ok(Chunk::Last(message))) => self.message_end(Ok(message)),
            Some(Err(error)) => self.message_end(Err(error)),
        }
    }

    /// The end of the message has come, and with it the end of the transaction.
    pub(in crate::receive::session) fn message_end(
        &mut self,
        result: Result<Bytes, DataError>,
    ) -> Option<Step> {
        let transaction = self.transaction.take()?;
        let message = match result {
            Ok(_) if transaction.is_overloaded => {
                self.reply(&Reply::new(452, EnhancedCode(4, 3, 1), "Too much mail at once, try again later"));
                return None;
            }
            Ok(message) => message,
            Err(DataError::TooLarge) => {
                self.error(&too_large());
                return None;
            }
            Err(DataError::Flood) => {
                self.error(&too_large());
                self.mode = Mode::Closed;
                return None;
            }
            Err(DataError::BareLineEnd) => {
                let text = "The message has a bare CR or LF: lines end with CR LF";
                self.error(&Reply::new(550, EnhancedCode(5, 6, 11), text));
                return None;
            }
        };
        match self.accept(transaction, &message) {
            Ok(accepted) => {
                self.mode = Mode::Waiting;
                Some(Step::Queue(Box::new(accepted)))
            }
            Err(reply) => {
                self.error(&reply);
                None
            }
        }
    }

    fn accept(&mut self, transaction: Transaction, message: &[u8]) -> Result<AcceptedMessage, Reply> {
        let most = self.policy().received_fields;
        if received_fields(message, most + 1) > most {
            return Err(Reply::new(554, EnhancedCode(5, 4, 6), "The message is in a loop"));
        }
        let id = self.settings.ids.make();
        let now_ms = self.settings.clock.now_ms();
        let helo = self.greeting.clone().unwrap_or(Greeting { name: String::new(), is_extended: false });
        let only_recipient = match &transaction.recipients[..] {
            [only] => Some(only.path.as_str()),
            _ => None,
        };
        let trace = Trace {
            helo: &helo.name,
            is_extended: helo.is_extended,
            peer: self.peer,
            tls: self.tls.as_deref(),
            is_signed_in: self.signed_in.is_some(),
            is_utf8: transaction.parameters.smtputf8,
            host_name: &self.settings.host_name,
            id,
            only_recipient,
            received_at_ms: now_ms,
        };
        let mut out = BytesMut::with_capacity(message.len() + 1024);
        match &self.signed_in {
            Some(signed_in) => {
                out.extend_from_slice(trace.field().as_bytes());
                let host_name = &self.settings.host_name;
                let prepared = submitted::prepare(message, &signed_in.addresses, id, host_name, now_ms)
                    .map_err(|error| error.reply())?;
                out.extend_from_slice(&prepared);
            }
            None => {
                // RFC 5321, 4.4: on top of all, once for all recipients.
                let return_path = format!("Return-Path: <{}>\r\n", transaction.from.as_str());
                out.extend_from_slice(return_path.as_bytes());
                out.extend_from_slice(trace.field().as_bytes());
                // Those of other servers would stand beside it.
                out.extend_from_slice(&remove_return_path(message));
            }
        }
        let send_at_ms = match transaction.parameters.hold {
            None => now_ms,
            Some(Hold::ForSeconds(seconds)) => now_ms.saturating_add(i64::from(seconds) * 1000),
            Some(Hold::UntilMs(until)) => until.max(now_ms),
        };
        Ok(AcceptedMessage {
            id,
            role: self.settings.role,
            from: transaction.from,
            parameters: transaction.parameters,
            recipients: transaction.recipients,
            peer: self.peer,
            helo: helo.name,
            tls: self.tls.clone(),
            signed_in: self.signed_in.clone(),
            received_at_ms: now_ms,
            send_at_ms,
            message: out.freeze(),
        })
    }

    /// Goes on after `Step::Queue`.
    pub fn queue_answer(&mut self, answer: QueueAnswer) {
        self.mode = Mode::Command;
        let reply = match answer {
            QueueAnswer::Queued(id) => {
                self.commands = 0;
                Reply::new(250, EnhancedCode(2, 0, 0), format!("Queued as {id}"))
            }
            // For now only: who signs in again may send it.
            QueueAnswer::SignInAgain => {
                return self.close_with(EnhancedCode(4, 7, 0), "The credentials have changed, sign in again");
            }
            QueueAnswer::NotTheirs => {
                Reply::new(550, EnhancedCode(5, 7, 1), "The sender's address is not yours any more")
            }
            QueueAnswer::RateExceeded => {
                Reply::new(450, EnhancedCode(4, 7, 1), "Too many recipients in an hour, try again later")
            }
            QueueAnswer::Full => Reply::new(452, EnhancedCode(4, 3, 1), "No room, try again later"),
            QueueAnswer::Unavailable => {
                Reply::new(451, EnhancedCode(4, 3, 0), "Cannot take it at present, try again later")
            }
        };
        self.reply(&reply);
    }
}
