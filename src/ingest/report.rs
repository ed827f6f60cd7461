//! Reports that come back, entered into the submission that they are about (RFC 8621, 7): delivery
//! status notifications, notifications that a message was displayed, and complaints.

use crate::mail::arf_read::{ReturnedComplaint, read_complaint};
use crate::mail::dsn_read::{Action, ReturnedDsn, ReturnedRecipient, read_dsn};
use crate::mail::mdn_read::{ReturnedMdn, read_mdn};
use crate::store::error::StoreError;
use crate::store::submission::of_report;
use crate::store::submission::result::{Delivered, Report, record_complaint, record_report};
use crate::store::tx::Tx;
use crate::types::blob_id::BlobHash;

/// A report about a message that was sent from here, or so it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Returned {
    /// What became of it (RFC 3464).
    Dsn(ReturnedDsn),
    /// What a recipient did with it (RFC 8098).
    Mdn(ReturnedMdn),
    /// A recipient calls it unwanted (RFC 5965).
    Complaint(ReturnedComplaint),
}

/// The report that a message is. Servers send theirs with a null sender (RFC 3464, 2): nothing else is
/// one. The programs of users often cannot.
pub fn read(mail_from: &str, message: &[u8]) -> Option<Returned> {
    let dsn = if mail_from.is_empty() { read_dsn(message) } else { None };
    let mdn = || read_mdn(message).map(Returned::Mdn);
    dsn.map(Returned::Dsn).or_else(mdn).or_else(|| read_complaint(message).map(Returned::Complaint))
}

/// Enters a report, in the transaction that files it. One that is about nothing we know is mail like
/// any other.
pub async fn enter(tx: &mut Tx, returned: &Returned, blob: BlobHash, size: i64) -> Result<(), StoreError> {
    let account = tx.account();
    let (env_id, message_id, report) = match returned {
        Returned::Dsn(dsn) => {
            let told = dsn.recipients.iter().filter_map(outcome).collect();
            (dsn.envelope_id.as_deref(), dsn.message_id.as_deref(), Report::Dsn(told))
        }
        Returned::Mdn(mdn) => {
            let seen_by = if mdn.is_displayed { mdn.recipients.clone() } else { Vec::new() };
            (None, mdn.message_id.as_deref(), Report::Mdn(seen_by))
        }
        Returned::Complaint(complaint) => {
            let (env_id, message_id) = (complaint.envelope_id.as_deref(), complaint.message_id.as_deref());
            if let Some(submission) = of_report(tx, account, env_id, message_id).await? {
                record_complaint(tx, submission, &complaint.recipients, &complaint.kind).await?;
            }
            return Ok(());
        }
    };
    let Some(submission) = of_report(tx, account, env_id, message_id).await? else { return Ok(()) };
    record_report(tx, submission, blob, size, &report).await?;
    Ok(())
}

/// What a report says for good of a recipient, by the address to which the message was sent.
fn outcome(recipient: &ReturnedRecipient) -> Option<(String, String, Delivered)> {
    let (code, delivered) = match recipient.action {
        Action::Failed => ("550", Delivered::No),
        Action::Delivered => ("250", Delivered::Yes),
        _ => return None,
    };
    let address = recipient.original_address.as_ref().unwrap_or(&recipient.address).clone();
    let text = recipient.diagnostic.as_deref().unwrap_or("reported by the receiving side");
    Some((address, format!("{code} {} {text}", recipient.status), delivered))
}
