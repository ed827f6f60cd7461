//! One mail transaction: MAIL, RCPT for each recipient, DATA, the message.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::smtp::client::Client;
use crate::smtp::client::capabilities::Capabilities;
use crate::smtp::client::error::{ClientError, ErrorKind};
use crate::smtp::data::DataEncoder;
use crate::smtp::parameters::{Notify, OriginalRecipient, Ret};
use crate::smtp::reply::{EnhancedCode, Reply};
use crate::smtp::xtext::encode_xtext;

/// Commands that are sent before their replies are read. More could fill the buffers of both
/// sides, each waiting for the other to read (RFC 2920, 3.1).
const PIPELINE_DEPTH: usize = 50;
/// Octets of the message that are written at once.
const BLOCK: usize = 64 * 1024;

/// The envelope of a message on its way out.
#[derive(Debug, Clone, Default)]
pub struct OutgoingEnvelope {
    /// The reverse path without its brackets; empty for `<>`.
    pub sender: String,
    /// To whom, in the order of the results.
    pub recipients: Vec<OutgoingRecipient>,
    /// What a bounce shall contain.
    pub ret: Option<Ret>,
    /// The sender's mark for the envelope, decoded.
    pub envid: Option<String>,
    /// Whether the message's header has UTF-8, or an address that only SMTPUTF8 can carry.
    pub smtputf8: bool,
}

/// A recipient of a message on its way out.
#[derive(Debug, Clone, Default)]
pub struct OutgoingRecipient {
    /// The forward path without its brackets.
    pub address: String,
    /// What the sender wants to hear.
    pub notify: Option<Notify>,
    /// The address that the sender first wrote.
    pub orcpt: Option<OriginalRecipient>,
}

/// What became of a recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientResult {
    /// 2yz: the server took the responsibility. 4yz: later. 5yz: never.
    pub code: u16,
    /// The enhanced code, where the server gave one.
    pub enhanced: Option<EnhancedCode>,
    /// The server's words, in one line.
    pub text: String,
}

impl RecipientResult {
    /// Whether the server took the message for this recipient.
    pub fn is_delivered(&self) -> bool {
        self.code / 100 == 2
    }

    /// Whether a new try is in vain.
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }
}

impl From<&Reply> for RecipientResult {
    fn from(reply: &Reply) -> Self {
        // A 2yz or 3yz where a refusal was due, or a 1yz, is neither: try again later.
        RecipientResult { code: reply.code(), enhanced: reply.enhanced(), text: reply.text() }
    }
}

/// A transaction that was cut off. The connection is of no more use.
#[derive(Debug)]
pub struct TransactionError {
    /// Why.
    pub error: ClientError,
    /// The recipients whose fate was known by then, in the order of the envelope: those that were
    /// refused. All others share the error.
    pub results: Vec<Option<RecipientResult>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Sends one message. `before_data` is awaited when at least one recipient was taken, directly
    /// before DATA: when it says false, nothing more is sent, and the connection is to be dropped.
    ///
    /// The message is in CRLF lines. When it has octets above 127 and the server does not offer
    /// 8BITMIME, or needs SMTPUTF8 without that being offered, all recipients fail with 5.6.3 or
    /// 5.6.7 and nothing is sent.
    pub async fn send(
        &mut self,
        envelope: &OutgoingEnvelope,
        message: &[u8],
        before_data: impl Future<Output = bool>,
    ) -> Result<Vec<RecipientResult>, TransactionError> {
        let eight_bit = !message.is_ascii();
        if let Some(refusal) = self.refusal_beforehand(envelope, message.len() as u64, eight_bit) {
            return Ok(vec![refusal; envelope.recipients.len()]);
        }
        let mut results = vec![None; envelope.recipients.len()];
        match self.transaction(envelope, message, eight_bit, before_data, &mut results).await {
            Ok(rest) => {
                Ok(results.into_iter().map(|result| result.unwrap_or_else(|| rest.clone())).collect())
            }
            Err(error) => Err(TransactionError { error, results }),
        }
    }

    /// What the server has said in its answer to EHLO that it will not take.
    fn refusal_beforehand(
        &self,
        envelope: &OutgoingEnvelope,
        size: u64,
        eight_bit: bool,
    ) -> Option<RecipientResult> {
        let refusal = |code, enhanced, text: &str| {
            Some(RecipientResult { code, enhanced: Some(enhanced), text: text.to_owned() })
        };
        if envelope.smtputf8 && !self.capabilities.smtputf8 {
            // RFC 6531, 3.2
            return refusal(550, EnhancedCode(5, 6, 7), "The server does not offer SMTPUTF8");
        }
        if eight_bit && !self.capabilities.eight_bit_mime {
            return refusal(554, EnhancedCode(5, 6, 3), "The server does not offer 8BITMIME");
        }
        if self.capabilities.max_size.is_some_and(|limit| size > limit) {
            return refusal(552, EnhancedCode(5, 3, 4), "The message is larger than the server takes");
        }
        None
    }

    /// Fills in the refused recipients; gives what became of all others.
    async fn transaction(
        &mut self,
        envelope: &OutgoingEnvelope,
        message: &[u8],
        eight_bit: bool,
        before_data: impl Future<Output = bool>,
        results: &mut [Option<RecipientResult>],
    ) -> Result<RecipientResult, ClientError> {
        let mut commands = vec![mail_command(envelope, &self.capabilities, message.len(), eight_bit)];
        commands.extend(envelope.recipients.iter().map(|to| rcpt_command(to, &self.capabilities)));
        let depth = if self.capabilities.pipelining { PIPELINE_DEPTH } else { 1 };
        let mut mail_refused = None;
        let mut at = 0;
        for batch in commands.chunks(depth) {
            if mail_refused.is_some() {
                break;
            }
            self.connection.send(batch.concat().as_bytes(), self.timeouts.command).await?;
            for _ in batch {
                let reply = self.connection.reply(self.timeouts.command).await?;
                match at {
                    0 if !reply.is_positive() => mail_refused = Some(refusal_of(&reply)),
                    0 => {}
                    _ if reply.is_positive() => {}
                    _ => {
                        if let Some(place) = results.get_mut(at - 1) {
                            *place = Some(refusal_of(&reply));
                        }
                    }
                }
                at += 1;
            }
        }
        if let Some(refusal) = mail_refused {
            // What was said of recipients only followed from the refused MAIL.
            results.fill(Some(refusal.clone()));
            self.reset().await?;
            return Ok(refusal);
        }
        if results.iter().all(Option::is_some) {
            self.reset().await?;
            return Ok(no_recipient());
        }
        if !before_data.await {
            return Err(ClientError::new(ErrorKind::Aborted));
        }
        self.data(message).await
    }

    async fn data(&mut self, message: &[u8]) -> Result<RecipientResult, ClientError> {
        self.connection.send(b"DATA\r\n", self.timeouts.command).await?;
        let reply = self.connection.reply(self.timeouts.data_start).await?;
        if reply.code() != 354 {
            self.reset().await?;
            return Ok(refusal_of(&reply));
        }
        let (mut encoder, mut block) = (DataEncoder::new(), Vec::with_capacity(BLOCK + BLOCK / 8));
        for piece in message.chunks(BLOCK) {
            encoder.push(piece, &mut block);
            self.connection.send(&block, self.timeouts.data_block).await?;
            block.clear();
        }
        encoder.finish(&mut block);
        // From here on a lost answer leaves the outcome unknown.
        let unknown = |error: ClientError| ClientError { after_final_dot: true, ..error };
        self.connection.send(&block, self.timeouts.data_block).await.map_err(unknown)?;
        match self.connection.reply(self.timeouts.data_end).await {
            Ok(reply) if reply.is_positive() => Ok(RecipientResult::from(&reply)),
            Ok(reply) => Ok(refusal_of(&reply)),
            // A 421 is an answer: the message was not taken.
            Err(error) if error.reply().is_some() => Err(error),
            Err(error) => Err(unknown(error)),
        }
    }

    /// Ends a transaction that came to nothing, so that the next one finds a clean state.
    async fn reset(&mut self) -> Result<(), ClientError> {
        self.connection.send(b"RSET\r\n", self.timeouts.command).await?;
        self.connection.reply(self.timeouts.command).await.map(|_| ())
    }
}

/// A reply that is no success, as a result. One that makes no sense here (3yz, or a 2yz to DATA)
/// counts as a temporary failure.
fn refusal_of(reply: &Reply) -> RecipientResult {
    let result = RecipientResult::from(reply);
    if matches!(result.code / 100, 4 | 5) {
        return result;
    }
    let text = format!("unexpected reply: {reply}");
    RecipientResult { code: 451, enhanced: Some(EnhancedCode(4, 5, 0)), text }
}

fn no_recipient() -> RecipientResult {
    RecipientResult {
        code: 554,
        enhanced: Some(EnhancedCode(5, 5, 1)),
        text: "No valid recipients".to_owned(),
    }
}

fn mail_command(envelope: &OutgoingEnvelope, offered: &Capabilities, size: usize, eight_bit: bool) -> String {
    let mut command = format!("MAIL FROM:<{}>", envelope.sender);
    if offered.size {
        command.push_str(&format!(" SIZE={size}"));
    }
    if eight_bit && offered.eight_bit_mime {
        command.push_str(" BODY=8BITMIME");
    }
    if envelope.smtputf8 && offered.smtputf8 {
        command.push_str(" SMTPUTF8");
    }
    if offered.dsn {
        if let Some(ret) = envelope.ret {
            command.push_str(&format!(" RET={}", ret.as_str()));
        }
        if let Some(envid) = &envelope.envid {
            command.push_str(&format!(" ENVID={}", encode_xtext(envid)));
        }
    }
    without_line_ends(command)
}

fn rcpt_command(recipient: &OutgoingRecipient, offered: &Capabilities) -> String {
    let mut command = format!("RCPT TO:<{}>", recipient.address);
    if offered.dsn {
        if let Some(notify) = recipient.notify {
            command.push_str(&format!(" NOTIFY={notify}"));
        }
        if let Some(orcpt) = &recipient.orcpt {
            command.push_str(&format!(" ORCPT={orcpt}"));
        }
    }
    without_line_ends(command)
}

/// Addresses were parsed before they came here; should one hold a line end all the same, it must
/// not become a command.
fn without_line_ends(command: String) -> String {
    let mut command = command.replace(char::is_control, "?");
    command.push_str("\r\n");
    command
}
