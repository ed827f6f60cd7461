//! Delivery reports that come back, entered into the submission that they are about (RFC 8621, 7).

use crate::mail::dsn_read::{Action, ReturnedDsn, ReturnedRecipient, read_dsn};
use crate::store::error::StoreError;
use crate::store::submission::of_report;
use crate::store::submission::result::{Delivered, Report, record_report};
use crate::store::tx::Tx;
use crate::types::blob_id::BlobHash;

/// The report that a message is. Reports have a null sender (RFC 3464, 2): nothing else is one.
pub fn read(mail_from: &str, message: &[u8]) -> Option<ReturnedDsn> {
    if mail_from.is_empty() { read_dsn(message) } else { None }
}

/// Enters a report, in the transaction that files it. One that is about nothing we know is mail like
/// any other.
pub async fn enter(tx: &mut Tx, dsn: &ReturnedDsn, blob: BlobHash, size: i64) -> Result<(), StoreError> {
    let account = tx.account();
    let (env_id, message_id) = (dsn.envelope_id.as_deref(), dsn.message_id.as_deref());
    let Some(submission) = of_report(tx, account, env_id, message_id).await? else { return Ok(()) };
    let told = dsn.recipients.iter().filter_map(outcome).collect();
    record_report(tx, submission, blob, size, &Report::Dsn(told)).await?;
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
