//! What a try said of a recipient, and what follows from it for the row. Pure.
//!
//! 2yz: delivered; the sender is told when that was asked for and nobody else will tell (RFC 3461, 5.2). 4yz, and whatever went wrong on the way: tried again, until the time is over.
//! 5yz: failed.

use crate::mail::dsn;
use crate::smtp::client::transaction::RecipientResult;
use crate::smtp::parameters::Notify;
use crate::smtp::reply::{EnhancedCode, Reply};
use crate::store::queue::outgoing::{Next, OutgoingRow};
use crate::types::envelope::{OutgoingRecipient, RecipientStatus};

use crate::deliver::schedule::Schedule;

/// What became of a recipient in a try.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// The next host, or an account here, has the message.
    Delivered,
    /// To be tried again.
    Later,
    /// Refused for good.
    Failed,
}

/// What a try said of a recipient.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// What became of it.
    pub fate: Fate,
    /// The enhanced status code (RFC 3463).
    pub status: String,
    /// The reply in one line; one of our own making where no server said anything.
    pub reply: String,
    /// The host that gave the reply.
    pub host: Option<String>,
    /// Whether that host offers DSN: then it has been told what the sender wants to hear, and is the
    /// one to tell of success (RFC 3461, 5.2.2).
    pub offers_dsn: bool,
}

impl Report {
    /// A failure for the time being, in our own words.
    pub fn later(status: EnhancedCode, text: &str) -> Report {
        Report {
            fate: Fate::Later,
            status: status.to_string(),
            reply: format!("451 {status} {text}"),
            host: None,
            offers_dsn: false,
        }
    }

    /// A failure for good, in our own words.
    pub fn failed(status: EnhancedCode, text: &str) -> Report {
        Report {
            fate: Fate::Failed,
            status: status.to_string(),
            reply: format!("550 {status} {text}"),
            host: None,
            offers_dsn: false,
        }
    }

    /// A delivery on this server.
    pub fn delivered_here() -> Report {
        let status = EnhancedCode(2, 1, 5);
        Report {
            fate: Fate::Delivered,
            status: status.to_string(),
            reply: format!("250 {status} Delivered on this server"),
            host: None,
            offers_dsn: false,
        }
    }

    /// What a server answered about a recipient.
    pub fn of_result(host: &str, result: &RecipientResult) -> Report {
        let fate = match (result.is_delivered(), result.is_permanent()) {
            (true, _) => Fate::Delivered,
            (_, true) => Fate::Failed,
            _ => Fate::Later,
        };
        let code = match result.enhanced {
            Some(enhanced) => format!("{} {enhanced} ", result.code),
            None => format!("{} ", result.code),
        };
        Report {
            fate,
            status: status_of(result.code, result.enhanced),
            reply: format!("{code}{}", result.text),
            host: Some(host.to_owned()),
            offers_dsn: false,
        }
    }

    /// What a server answered before it heard of any recipient.
    pub fn of_reply(host: &str, reply: &Reply) -> Report {
        Report::of_result(host, &RecipientResult::from(reply))
    }

    /// The same, but to be tried again whatever was said.
    pub fn for_now(self) -> Report {
        Report { fate: if self.fate == Fate::Failed { Fate::Later } else { self.fate }, ..self }
    }
}

/// The enhanced code, or what a reply without one amounts to (RFC 3463, 3.1: X.0.0).
fn status_of(code: u16, enhanced: Option<EnhancedCode>) -> String {
    enhanced.map_or_else(|| format!("{}.0.0", if code < 400 { 2 } else { code / 100 }), |e| e.to_string())
}

/// A recipient about whom the sender is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// Its place in the row.
    pub place: usize,
    /// What is told.
    pub outcome: dsn::Outcome,
    /// The enhanced status code.
    pub status: String,
    /// What the server said, or we.
    pub diagnostic: String,
}

/// What follows from a try.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// All recipients as they are now.
    pub recipients: Vec<OutgoingRecipient>,
    /// What is left to do.
    pub next: Next,
    /// What the sender is told.
    pub told: Vec<Told>,
}

/// Judges what a try said of the pending recipients of a row, given by their places. `chance` is from
/// 0 to 1.
pub fn judge(
    row: &OutgoingRow,
    reports: &[(usize, Report)],
    schedule: &Schedule,
    now_ms: i64,
    chance: f64,
) -> Judgement {
    let mut recipients = row.recipients.clone();
    let mut told = Vec::new();
    for (place, report) in reports {
        let Some(recipient) = recipients.get_mut(*place) else { continue };
        let first_tried_ms = *recipient.first_tried_ms.get_or_insert(now_ms);
        recipient.last_reply = report.reply.clone();
        recipient.last_host = report.host.clone();
        let notify = wanted(recipient);
        let tell = |outcome, status: &str| Told {
            place: *place,
            outcome,
            status: status.to_owned(),
            diagnostic: report.reply.clone(),
        };
        match report.fate {
            Fate::Delivered => {
                recipient.status = RecipientStatus::Delivered;
                if notify.success && !report.offers_dsn {
                    let is_here = report.host.is_none();
                    let outcome = if is_here { dsn::Outcome::Delivered } else { dsn::Outcome::Relayed };
                    told.push(tell(outcome, &report.status));
                }
            }
            Fate::Failed => {
                recipient.status = RecipientStatus::Failed;
                if notify.failure {
                    told.push(tell(dsn::Outcome::Failed, &report.status));
                }
            }
            Fate::Later if schedule.is_over(first_tried_ms, now_ms) => {
                recipient.status = RecipientStatus::Failed;
                if notify.failure {
                    // RFC 3463, 3.5: delivery time expired. What was said last stands beside it.
                    told.push(tell(dsn::Outcome::Expired, "4.4.7"));
                }
            }
            Fate::Later => {
                if notify.delay && !recipient.is_delay_told && Schedule::is_delayed(first_tried_ms, now_ms) {
                    recipient.is_delay_told = true;
                    let retry_until_ms = schedule.end_ms(first_tried_ms);
                    told.push(tell(dsn::Outcome::Delayed { retry_until_ms }, &report.status));
                }
            }
        }
    }
    // RFC 5321, 4.5.5: nobody is told about a message with a null sender.
    if row.envelope.mail_from.is_empty() {
        told.clear();
    }
    let mut pending = recipients.iter().filter(|recipient| recipient.status == RecipientStatus::Pending);
    let next = match pending.next() {
        None => Next::Done,
        Some(first) => Next::Retry {
            due: schedule.next_try_ms(first.first_tried_ms.unwrap_or(now_ms), now_ms, chance),
            error: first.last_reply.clone(),
        },
    };
    Judgement { recipients, next, told }
}

/// What the sender wants to hear about a recipient. Unasked, of failures (RFC 3461, 4.1).
fn wanted(recipient: &OutgoingRecipient) -> Notify {
    let asked = recipient.notify.as_deref().and_then(Notify::parse);
    asked.unwrap_or(Notify { success: false, failure: true, delay: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::queue::claim::Claim;
    use crate::types::blob_id::BlobHash;
    use crate::types::envelope::OutgoingEnvelope;
    use crate::types::id::{AccountId, Id};

    const HOUR: i64 = 3_600_000;
    const SCHEDULE: Schedule = Schedule { first_wait_ms: 300_000, give_up_after_ms: 120 * HOUR };

    fn row(recipients: &[(&str, Option<&str>)]) -> OutgoingRow {
        OutgoingRow {
            claim: Claim { lane: 0, id: Id(1), attempts: 1 },
            tries: 1,
            created_at: 0,
            account: AccountId(Id(7)),
            submission: Id(0),
            domain: "remote.test".to_owned(),
            envelope: OutgoingEnvelope {
                mail_from: "alice@example.test".to_owned(),
                env_id: None,
                ret: None,
                smtputf8: false,
                body_8bit: false,
                delivery_id: "d".to_owned(),
            },
            recipients: recipients
                .iter()
                .map(|(address, notify)| OutgoingRecipient {
                    notify: notify.map(str::to_owned),
                    ..OutgoingRecipient::new((*address).to_owned())
                })
                .collect(),
            body_hash: BlobHash::of(b""),
            size: 0,
        }
    }

    fn result(code: u16, enhanced: Option<EnhancedCode>) -> Report {
        let result = RecipientResult { code, enhanced, text: "words".to_owned() };
        Report::of_result("mx.test", &result)
    }

    fn said(judgement: &Judgement) -> Vec<(usize, dsn::Outcome, &str)> {
        judgement.told.iter().map(|told| (told.place, told.outcome, told.status.as_str())).collect()
    }

    #[test]
    fn each_recipient_has_its_own_fate() {
        let row = row(&[("a@remote.test", None), ("b@remote.test", None), ("c@remote.test", None)]);
        let reports =
            [(0, result(250, None)), (1, result(451, None)), (2, result(550, Some(EnhancedCode(5, 1, 1))))];
        let judged = judge(&row, &reports, &SCHEDULE, 1_000, 0.5);
        let statuses: Vec<RecipientStatus> = judged.recipients.iter().map(|r| r.status).collect();
        assert_eq!(statuses, [RecipientStatus::Delivered, RecipientStatus::Pending, RecipientStatus::Failed]);
        assert_eq!(said(&judged), [(2, dsn::Outcome::Failed, "5.1.1")]);
        assert_eq!(judged.recipients[2].last_reply, "550 5.1.1 words");
        assert!(matches!(judged.next, Next::Retry { due: 301_000, error } if error == "451 words"));
    }

    #[test]
    fn a_delivery_that_takes_too_long_expires() {
        let mut row = row(&[("a@remote.test", None)]);
        row.recipients[0].first_tried_ms = Some(0);
        let report = [(0, result(451, None))];
        let judged = judge(&row, &report, &SCHEDULE, 120 * HOUR - 1, 0.5);
        assert!(matches!(judged.next, Next::Retry { due, .. } if due == 120 * HOUR));
        let judged = judge(&row, &report, &SCHEDULE, 120 * HOUR, 0.5);
        assert!(matches!(judged.next, Next::Done));
        assert_eq!(said(&judged), [(0, dsn::Outcome::Expired, "4.4.7")]);
        // The time counts from the first try, not from the day on which it was queued.
        row.recipients[0].first_tried_ms = None;
        assert!(matches!(judge(&row, &report, &SCHEDULE, 500 * HOUR, 0.5).next, Next::Retry { .. }));
    }

    #[test]
    fn senders_hear_what_they_asked_for() {
        let failure = [(0, result(550, None))];
        for (notify, hears) in
            [(None, true), (Some("NEVER"), false), (Some("SUCCESS"), false), (Some("FAILURE"), true)]
        {
            let judged = judge(&row(&[("a@remote.test", notify)]), &failure, &SCHEDULE, 0, 0.5);
            assert_eq!(!judged.told.is_empty(), hears, "{notify:?}");
        }
        let mut delayed = row(&[("a@remote.test", Some("DELAY,FAILURE"))]);
        delayed.recipients[0].first_tried_ms = Some(0);
        let report = [(0, result(451, None))];
        assert!(judge(&delayed, &report, &SCHEDULE, 4 * HOUR - 1, 0.5).told.is_empty());
        let judged = judge(&delayed, &report, &SCHEDULE, 4 * HOUR, 0.5);
        assert_eq!(said(&judged), [(0, dsn::Outcome::Delayed { retry_until_ms: 120 * HOUR }, "4.0.0")]);
        delayed.recipients = judged.recipients;
        assert!(judge(&delayed, &report, &SCHEDULE, 5 * HOUR, 0.5).told.is_empty(), "told once");
        let mut unasked = row(&[("a@remote.test", None)]);
        unasked.recipients[0].first_tried_ms = Some(0);
        assert!(judge(&unasked, &report, &SCHEDULE, 5 * HOUR, 0.5).told.is_empty());
    }

    #[test]
    fn success_is_told_by_the_last_who_knows_the_extension() {
        let asked = row(&[("a@remote.test", Some("SUCCESS"))]);
        let taken = |offers_dsn| [(0, Report { offers_dsn, ..result(250, Some(EnhancedCode(2, 0, 0))) })];
        let judged = judge(&asked, &taken(false), &SCHEDULE, 0, 0.5);
        assert_eq!(said(&judged), [(0, dsn::Outcome::Relayed, "2.0.0")]);
        assert!(judge(&asked, &taken(true), &SCHEDULE, 0, 0.5).told.is_empty(), "the peer tells");
        let here = [(0, Report::delivered_here())];
        assert_eq!(said(&judge(&asked, &here, &SCHEDULE, 0, 0.5)), [(0, dsn::Outcome::Delivered, "2.1.5")]);
        for unasked in [None, Some("NEVER"), Some("FAILURE,DELAY")] {
            let row = row(&[("a@remote.test", unasked)]);
            assert!(judge(&row, &here, &SCHEDULE, 0, 0.5).told.is_empty(), "{unasked:?}");
        }
    }

    #[test]
    fn nobody_is_told_about_a_null_sender() {
        let mut bounce = row(&[("a@remote.test", Some("FAILURE"))]);
        bounce.envelope.mail_from.clear();
        assert!(judge(&bounce, &[(0, result(550, None))], &SCHEDULE, 0, 0.5).told.is_empty());
    }
}
