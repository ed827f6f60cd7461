//! MAIL and RCPT: the envelope.

use crate::receive::session::{Mode, Role, Session, Step};
use crate::receive::submitted::owner;
use crate::smtp::bdat::ChunkCollector;
use crate::smtp::parameters::{Hold, MailParameters, RcptParameters};
use crate::smtp::path::{ForwardPath, ReversePath};
use crate::smtp::reply::{EnhancedCode, Reply};
use crate::types::id::AccountId;

/// A transaction under way.
#[derive(Debug)]
pub struct Transaction {
    pub(in crate::receive::session) from: ReversePath,
    pub(in crate::receive::session) parameters: MailParameters,
    pub(in crate::receive::session) recipients: Vec<Recipient>,
    /// The recipient whose answer is awaited.
    pub(in crate::receive::session) asked: Option<(ForwardPath, RcptParameters)>,
    pub(in crate::receive::session) chunks: Option<ChunkCollector>,
    pub(in crate::receive::session) is_overloaded: bool,
}

/// A recipient that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The path as written.
    pub path: ForwardPath,
    /// What followed it.
    pub parameters: RcptParameters,
    /// The accounts behind it; empty when it is not local.
    pub accounts: Vec<AccountId>,
}

/// Where mail for a path goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecipientAnswer {
    /// To these accounts.
    Local(Vec<AccountId>),
    /// To nobody: the domain is ours, the address is none.
    Unknown,
    /// To another server.
    NotLocal,
    /// To accounts that are all over their quota.
    OverQuota,
    /// Nobody can tell at present.
    Unavailable,
}

impl Transaction {
    pub(in crate::receive::session) fn buffered(&self) -> usize {
        self.chunks.as_ref().map_or(0, ChunkCollector::buffered)
    }

    pub(in crate::receive::session) fn overloaded(&mut self) {
        self.is_overloaded = true;
        if let Some(chunks) = &mut self.chunks {
            chunks.give_up();
        }
    }
}

impl Session {
    pub(in crate::receive::session) fn mail(&mut self, from: ReversePath, parameters: MailParameters) {
        // RFC 5321, 4.1.4
        if self.greeting.is_none() {
            return self.out_of_order("EHLO first");
        }
        if self.transaction.is_some() {
            return self.out_of_order("A transaction is under way");
        }
        if let Err(reply) = self.check_mail(&from, &parameters) {
            return self.error(&reply);
        }
        self.messages += 1;
        if self.messages > self.policy().messages {
            return self.close_with(EnhancedCode(4, 7, 0), "Too many messages in one connection");
        }
        self.transaction = Some(Transaction {
            from,
            parameters,
            recipients: Vec::new(),
            asked: None,
            chunks: None,
            is_overloaded: false,
        });
        self.reply(&Reply::new(250, EnhancedCode(2, 1, 0), "OK"));
    }

    fn check_mail(&self, from: &ReversePath, parameters: &MailParameters) -> Result<(), Reply> {
        if self.settings.role == Role::Submission {
            let Some(signed_in) = &self.signed_in else {
                // RFC 4954, 6
                return Err(Reply::new(530, EnhancedCode(5, 7, 0), "Sign in first"));
            };
            // The null path is nobody's: notifications of users go out with it (RFC 8098, 3), and
            // who wrote them is checked in From.
            if let ReversePath::Mailbox(mailbox) = from
                && owner(mailbox.address(), &signed_in.addresses).is_none()
            {
                return Err(Reply::new(550, EnhancedCode(5, 7, 1), "This address is not yours"));
            }
            self.check_hold(parameters)?;
        } else if parameters.ret.is_some() || parameters.envid.is_some() || parameters.hold.is_some() {
            return Err(Reply::new(555, EnhancedCode(5, 5, 4), "Parameter not offered"));
        }
        // RFC 1870, 6.1
        if parameters.size.is_some_and(|size| size > self.policy().max_message_size) {
            return Err(too_large());
        }
        Ok(())
    }

    fn check_hold(&self, parameters: &MailParameters) -> Result<(), Reply> {
        let longest_ms = i64::try_from(self.policy().max_hold.as_millis()).unwrap_or(i64::MAX);
        let wait_ms = match parameters.hold {
            None => 0,
            Some(Hold::ForSeconds(seconds)) => i64::from(seconds) * 1000,
            Some(Hold::UntilMs(until)) => until.saturating_sub(self.settings.clock.now_ms()),
        };
        // RFC 4865, 5: beyond the limits that were announced.
        if wait_ms > longest_ms {
            return Err(Reply::new(501, EnhancedCode(5, 5, 4), "Held for longer than is offered"));
        }
        Ok(())
    }

    pub(in crate::receive::session) fn rcpt(
        &mut self,
        to: ForwardPath,
        parameters: RcptParameters,
    ) -> Option<Step> {
        let most = self.policy().recipients;
        let is_mx = self.settings.role == Role::Mx;
        let Some(transaction) = &mut self.transaction else {
            self.out_of_order("MAIL first");
            return None;
        };
        let refusal = if transaction.chunks.is_some() {
            Reply::new(503, EnhancedCode(5, 5, 1), "The message has begun")
        } else if is_mx && parameters != RcptParameters::default() {
            Reply::new(555, EnhancedCode(5, 5, 4), "Parameter not offered")
        } else if matches!(&to, ForwardPath::Mailbox(mailbox) if mailbox.needs_smtputf8())
            && !transaction.parameters.smtputf8
        {
            // RFC 6531, 3.5
            Reply::new(553, EnhancedCode(5, 6, 7), "Such an address needs SMTPUTF8")
        } else if transaction.recipients.len() >= most {
            // RFC 5321, 4.5.3.1.10: not an error; the client sends the rest in another transaction.
            self.reply(&Reply::new(
                452,
                EnhancedCode(4, 5, 3),
                "Too many recipients, send again to the rest",
            ));
            return None;
        } else {
            transaction.asked = Some((to.clone(), parameters));
            self.mode = Mode::Waiting;
            return Some(Step::Recipient(to));
        };
        self.error(&refusal);
        None
    }

    /// Goes on after `Step::Recipient`.
    pub fn recipient_answer(&mut self, answer: RecipientAnswer) {
        self.mode = Mode::Command;
        let is_mx = self.settings.role == Role::Mx;
        let Some(transaction) = &mut self.transaction else { return };
        let Some((path, parameters)) = transaction.asked.take() else { return };
        let accounts = match answer {
            RecipientAnswer::Local(accounts) => accounts,
            RecipientAnswer::NotLocal if !is_mx => Vec::new(),
            // A user's own mail is taken although the other's mailbox is full; delivery will tell.
            RecipientAnswer::OverQuota if !is_mx => Vec::new(),
            RecipientAnswer::NotLocal => {
                return self.refuse_recipient(&Reply::new(550, EnhancedCode(5, 7, 1), "No relaying"));
            }
            RecipientAnswer::Unknown => {
                return self.refuse_recipient(&Reply::new(550, EnhancedCode(5, 1, 1), "No such user here"));
            }
            RecipientAnswer::OverQuota => {
                return self.reply(&Reply::new(452, EnhancedCode(4, 2, 2), "The mailbox is full"));
            }
            RecipientAnswer::Unavailable => {
                return self.reply(&Reply::new(451, EnhancedCode(4, 3, 0), "Cannot tell at present"));
            }
        };
        transaction.recipients.push(Recipient { path, parameters, accounts });
        self.reply(&Reply::new(250, EnhancedCode(2, 1, 5), "OK"));
    }

    fn refuse_recipient(&mut self, reply: &Reply) {
        self.refused_recipients += 1;
        if self.refused_recipients > self.policy().refused_recipients {
            self.close_with(EnhancedCode(4, 7, 0), "Too many refused recipients");
        } else {
            self.reply(reply);
        }
    }
}

pub(in crate::receive::session) fn too_large() -> Reply {
    Reply::new(552, EnhancedCode(5, 3, 4), "The message is too large")
}
