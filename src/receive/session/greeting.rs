//! EHLO, HELO and STARTTLS.

use crate::receive::session::{Mode, Role, Session, Step};
use crate::smtp::reply::{EnhancedCode, Reply};
use crate::types::date::utc_date;

/// How the client has introduced itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// Its name for itself.
    pub name: String,
    /// With EHLO.
    pub is_extended: bool,
}

impl Session {
    pub(in crate::receive::session) fn ehlo(&mut self, name: String) {
        // RFC 5321, 4.1.4: as RSET.
        self.transaction = None;
        self.greeting = Some(Greeting { name, is_extended: true });
        let lines = self.offers().into_iter().map(Into::into).collect();
        self.reply(&Reply::lines(250, lines));
    }

    pub(in crate::receive::session) fn helo(&mut self, name: String) {
        self.transaction = None;
        self.greeting = Some(Greeting { name, is_extended: false });
        let reply = Reply::plain(250, self.settings.host_name.clone());
        self.reply(&reply);
    }

    fn offers(&self) -> Vec<String> {
        let mut offers = vec![
            self.settings.host_name.clone(),
            "PIPELINING".to_owned(),
            format!("SIZE {}", self.policy().max_message_size),
            "8BITMIME".to_owned(),
            "SMTPUTF8".to_owned(),
            "ENHANCEDSTATUSCODES".to_owned(),
            "CHUNKING".to_owned(),
        ];
        if self.can_encrypt() {
            offers.push("STARTTLS".to_owned());
        }
        if self.settings.role == Role::Submission {
            if self.may_sign_in() && self.signed_in.is_none() {
                offers.push("AUTH PLAIN LOGIN".to_owned());
            }
            offers.push("DSN".to_owned());
            // RFC 4865, 3: the longest delay, and the same as a date.
            let seconds = self.policy().max_hold.as_secs();
            let latest = self.settings.clock.now_ms() + seconds as i64 * 1000;
            offers.push(format!("FUTURERELEASE {seconds} {}", utc_date(latest)));
        }
        offers
    }

    fn can_encrypt(&self) -> bool {
        self.settings.has_certificate && self.tls.is_none()
    }

    pub(in crate::receive::session) fn start_tls(&mut self) -> Option<Step> {
        if self.tls.is_some() {
            self.out_of_order("Encrypted already");
            return None;
        }
        if !self.settings.has_certificate {
            self.error(&Reply::new(502, EnhancedCode(5, 5, 1), "STARTTLS is not offered"));
            return None;
        }
        self.reply(&Reply::new(220, EnhancedCode(2, 0, 0), "Go ahead"));
        self.mode = Mode::Waiting;
        Some(Step::StartTls)
    }
}
