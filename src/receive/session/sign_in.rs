//! AUTH (RFC 4954), on submission only.

use crate::receive::session::{Mode, Role, Session, Step};
use crate::smtp::line::Line;
use crate::smtp::reply::{EnhancedCode, Reply};
use crate::smtp::sasl::{self, Exchange, Mechanism, SaslError};
use crate::types::address::Address;
use crate::types::id::{AccountId, Id};

/// Who a client has shown to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// The login.
    pub login: Id,
    /// What its credentials were; another version voids the sign-in.
    pub version: i64,
    /// When they end, in milliseconds since 1970; 0 for never.
    pub expires_at: i64,
    /// The one account that they are for.
    pub only: Option<AccountId>,
    /// Its name.
    pub name: String,
    /// The addresses that it may write as, each with its account.
    pub addresses: Vec<(Address, AccountId)>,
}

/// What came of a sign-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignInAnswer {
    /// They are right.
    SignedIn(SignedIn),
    /// They are wrong.
    Refused,
    /// Too many were wrong, from this address or for this login.
    TooMany,
    /// Nobody can tell at present.
    Unavailable,
}

impl Session {
    /// Whether a password may be sent here: encrypted, from this machine, or as configured.
    pub(in crate::receive::session) fn may_sign_in(&self) -> bool {
        self.tls.is_some() || self.peer.is_loopback() || self.settings.allow_plaintext_auth
    }

    pub(in crate::receive::session) fn auth(
        &mut self,
        mechanism: &str,
        initial: Option<&str>,
    ) -> Option<Step> {
        if self.settings.role != Role::Submission {
            self.error(&Reply::new(502, EnhancedCode(5, 5, 1), "AUTH is not offered"));
        } else if !self.greeting.as_ref().is_some_and(|greeting| greeting.is_extended) {
            self.out_of_order("EHLO first");
        } else if self.signed_in.is_some() {
            // RFC 4954, 4: once only.
            self.out_of_order("Signed in already");
        } else if self.transaction.is_some() {
            self.out_of_order("Not within a transaction");
        } else if !self.may_sign_in() {
            let text = "Encryption is required to sign in";
            self.error(&Reply::new(538, EnhancedCode(5, 7, 11), text));
        } else if let Some(mechanism) = Mechanism::parse(mechanism) {
            return match Exchange::start(mechanism, initial) {
                Ok((exchange, step)) => self.exchange(exchange, step),
                Err(error) => {
                    self.sasl_error(error);
                    None
                }
            };
        } else {
            self.error(&Reply::new(504, EnhancedCode(5, 5, 4), "Unknown mechanism"));
        }
        None
    }

    pub(in crate::receive::session) fn sign_in_line(
        &mut self,
        mut exchange: Exchange,
        line: Line,
    ) -> Option<Step> {
        let line = match line {
            Line::Complete(line) => line,
            Line::Flood => {
                self.close_with(EnhancedCode(4, 7, 0), "Line too long");
                return None;
            }
            // RFC 4954, 4: 500 with 5.5.6 where the line is too long.
            Line::TooLong => {
                self.error(&Reply::new(500, EnhancedCode(5, 5, 6), "Line too long"));
                return None;
            }
            Line::Malformed => {
                self.sasl_error(SaslError::Malformed);
                return None;
            }
        };
        match exchange.respond(&line) {
            Ok(step) => self.exchange(exchange, step),
            Err(error) => {
                self.sasl_error(error);
                None
            }
        }
    }

    fn exchange(&mut self, exchange: Exchange, step: sasl::Step) -> Option<Step> {
        match step {
            sasl::Step::Challenge(challenge) => {
                self.reply(&Reply::plain(334, challenge));
                self.mode = Mode::SignIn(exchange);
                None
            }
            sasl::Step::Credentials(credentials) => {
                self.mode = Mode::Waiting;
                Some(Step::SignIn(credentials))
            }
        }
    }

    fn sasl_error(&mut self, error: SaslError) {
        let reply = match error {
            SaslError::Cancelled => Reply::new(501, EnhancedCode(5, 7, 0), "Cancelled"),
            SaslError::Malformed => Reply::new(501, EnhancedCode(5, 5, 2), "Cannot decode the response"),
            SaslError::OtherIdentity => {
                Reply::new(535, EnhancedCode(5, 7, 8), "Acting as somebody else is not possible")
            }
        };
        self.error(&reply);
    }

    /// Goes on after `Step::SignIn`.
    pub fn sign_in_answer(&mut self, answer: SignInAnswer) {
        self.mode = Mode::Command;
        match answer {
            SignInAnswer::SignedIn(signed_in) => {
                self.signed_in = Some(signed_in);
                self.reply(&Reply::new(235, EnhancedCode(2, 7, 0), "Welcome"));
            }
            SignInAnswer::Refused => {
                self.reply(&Reply::new(535, EnhancedCode(5, 7, 8), "Wrong login or password"));
                self.sign_in_failures += 1;
                if self.sign_in_failures >= self.policy().sign_in_failures {
                    self.close_with(EnhancedCode(4, 7, 0), "Too many failed sign-ins");
                }
            }
            SignInAnswer::TooMany => {
                self.close_with(EnhancedCode(4, 7, 0), "Too many failed sign-ins, try again later");
            }
            SignInAnswer::Unavailable => {
                self.reply(&Reply::new(454, EnhancedCode(4, 7, 0), "Cannot tell at present"));
            }
        }
    }
}
