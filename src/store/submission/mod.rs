//! Email submissions (RFC 8621, 7): what was sent, to whom, and what became of it.
//!
//! A submission is a record. The deliveries are rows of the outgoing queue, which name it; they go on
//! when the record is destroyed, and results for a record that is gone are nobody's.

pub mod note;
pub mod query;
pub mod result;

use serde_json::Value as Json;

pub use self::result::{Delivered, Report, record_complaint, record_report};
use crate::mail::thread::ThreadKeys;
use crate::store::blob::{self, BlobSource};
use crate::store::db::{Conn, sql};
use crate::store::error::StoreError;
use crate::store::queue::outgoing;
use crate::store::submission::note::Note;
use crate::store::submission::result::{DeliveryStatuses, Merging, canceled};
use crate::store::tx::Tx;
use crate::store::value::Row;
use crate::types::blob_id::BlobId;
use crate::types::event::{EventData, EventKind};
use crate::types::id::{AccountId, Id};
use crate::types::object_type::ObjectType;

/// Whether a submission can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UndoStatus {
    /// It may be.
    Pending,
    /// A worker has tried to send it: it is too late.
    Final,
    /// It was.
    Canceled,
}

impl UndoStatus {
    /// The value of the property.
    pub fn as_str(self) -> &'static str {
        match self {
            UndoStatus::Pending => "pending",
            UndoStatus::Final => "final",
            UndoStatus::Canceled => "canceled",
        }
    }

    /// The status of a value.
    pub fn named(name: &str) -> Option<UndoStatus> {
        [UndoStatus::Pending, UndoStatus::Final, UndoStatus::Canceled]
            .into_iter()
            .find(|status| status.as_str() == name)
    }

    /// The number that stands for it on disk.
    fn number(self) -> i64 {
        match self {
            UndoStatus::Pending => 1,
            UndoStatus::Final => 2,
            UndoStatus::Canceled => 3,
        }
    }

    fn of_number(number: i64) -> Result<UndoStatus, StoreError> {
        [UndoStatus::Pending, UndoStatus::Final, UndoStatus::Canceled]
            .into_iter()
            .find(|status| status.number() == number)
            .ok_or_else(|| StoreError::corrupt_value("undo status of a submission", &number))
    }
}

/// A submission as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Submission {
    /// Its id.
    pub id: Id,
    /// The Identity that it was sent with.
    pub identity_id: Id,
    /// The Email that was sent; it may be gone.
    pub email_id: Id,
    /// The thread of that Email.
    pub thread_id: Id,
    /// The Envelope as clients see it.
    pub envelope: Json,
    /// When it is or was released, in milliseconds since 1970.
    pub send_at: i64,
    /// Whether it can be taken back.
    pub undo_status: UndoStatus,
    /// What became of it, for each recipient.
    pub delivery_status: DeliveryStatuses,
    /// Delivery status notifications that came back, the oldest first.
    pub dsn_blob_ids: Vec<BlobId>,
    /// Message disposition notifications that came back, the oldest first.
    pub mdn_blob_ids: Vec<BlobId>,
}

/// What a new submission is made of.
#[derive(Clone, Debug)]
pub struct NewSubmission<'a> {
    /// The Identity.
    pub identity_id: Id,
    /// The Email.
    pub email_id: Id,
    /// Its thread.
    pub thread_id: Id,
    /// The Envelope as clients see it.
    pub envelope: &'a Json,
    /// The recipients, as in the Envelope.
    pub recipients: &'a [String],
    /// Those of them for whom nothing is queued, with what is said of them.
    pub settled: &'a [(String, &'static str, Delivered)],
    /// When it is released, in milliseconds since 1970.
    pub send_at: i64,
    /// Message-ID of the message, without angle brackets.
    pub message_id: &'a str,
}

// Each statement is a text of the program: one that is made at run time is planned anew each time.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select id, identity_id, email_id, thread_id, envelope, send_at, undo_status, delivery_status, \
             dsn_blob_ids, mdn_blob_ids from submission where account_id = $1",
            $rest
        )
    };
}

fn read_submission(row: &Row<'_>) -> Result<Submission, StoreError> {
    let id: Id = row.get(0)?;
    fn json<T: serde::de::DeserializeOwned>(id: Id, what: &str, text: &str) -> Result<T, StoreError> {
        serde_json::from_str(text)
            .map_err(|error| StoreError::corrupt_value(&format!("{what} of submission {id}"), &error))
    }
    Ok(Submission {
        id,
        identity_id: row.get(1)?,
        email_id: row.get(2)?,
        thread_id: row.get(3)?,
        envelope: json(id, "envelope", row.text(4)?)?,
        send_at: row.get(5)?,
        undo_status: UndoStatus::of_number(row.get(6)?)?,
        delivery_status: json(id, "delivery_status", row.text(7)?)?,
        dsn_blob_ids: json(id, "dsn_blob_ids", row.text(8)?)?,
        mdn_blob_ids: json(id, "mdn_blob_ids", row.text(9)?)?,
    })
}

fn to_text<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, StoreError> {
    let written = serde_json::to_string(value);
    written.map_err(|error| StoreError::Engine(format!("a submission cannot be written: {error}").into()))
}

/// By which submissions find the reports about them.
fn message_id_hash(message_id: &str) -> i64 {
    ThreadKeys::new("", [message_id], [], []).message_id_hashes.first().copied().unwrap_or_default()
}

/// The submissions of these ids, as far as they exist, in no order.
pub async fn by_ids(conn: &mut Conn, account: AccountId, ids: &[Id]) -> Result<Vec<Submission>, StoreError> {
    sql(select!(" and id = any($2)")).bind(account).bind(ids).all(conn, read_submission).await
}

/// The newest submissions of the account, at most `limit`.
pub async fn newest(
    conn: &mut Conn,
    account: AccountId,
    limit: usize,
) -> Result<Vec<Submission>, StoreError> {
    sql(select!(" order by send_at desc, id desc limit $2"))
        .bind(account)
        .bind(limit as i64)
        .all(conn, read_submission)
        .await
}

async fn by_id(conn: &mut Conn, account: AccountId, id: Id) -> Result<Option<Submission>, StoreError> {
    sql(select!(" and id = $2")).bind(account).bind(id).first(conn, read_submission).await
}

/// The submission that a report is about, by the ENVID with which it was sent (the submission's id,
/// unless the client chose another) or else by the Message-ID of what was sent.
pub async fn of_report(
    conn: &mut Conn,
    account: AccountId,
    env_id: Option<&str>,
    message_id: Option<&str>,
) -> Result<Option<Id>, StoreError> {
    if let Some(id) = env_id.and_then(|env_id| env_id.parse::<Id>().ok()) {
        let found = sql("select id from submission where account_id = $1 and id = $2")
            .bind(account)
            .bind(id)
            .value(conn)
            .await?;
        if found.is_some() {
            return Ok(found);
        }
    }
    let Some(message_id) = message_id else { return Ok(None) };
    // A message may be sent several times: the last one is the likeliest.
    sql("select id from submission where account_id = $1 and message_id_hash = $2 order by id desc limit 1")
        .bind(account)
        .bind(message_id_hash(message_id))
        .value(conn)
        .await
}

/// Makes the record of a submission; the caller queues the deliveries under its id.
pub async fn insert(tx: &mut Tx, new: &NewSubmission<'_>) -> Result<Submission, StoreError> {
    let mut delivery_status = result::queued(new.recipients);
    let mut merging = Merging::of(&mut delivery_status);
    for (address, reply, delivered) in new.settled {
        let _is_new = merging.enter(address, reply, *delivered);
    }
    let has_left = new.settled.len() == new.recipients.len();
    let submission = Submission {
        id: tx.new_id(),
        identity_id: new.identity_id,
        email_id: new.email_id,
        thread_id: new.thread_id,
        envelope: new.envelope.clone(),
        send_at: new.send_at,
        undo_status: if has_left { UndoStatus::Final } else { UndoStatus::Pending },
        delivery_status,
        dsn_blob_ids: Vec::new(),
        mdn_blob_ids: Vec::new(),
    };
    sql("insert into submission (account_id, id, identity_id, email_id, thread_id, envelope, send_at, \
         undo_status, delivery_status, dsn_blob_ids, mdn_blob_ids, message_id_hash) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, '[]', '[]', $10)")
    .bind(tx.account())
    .bind(submission.id)
    .bind(submission.identity_id)
    .bind(submission.email_id)
    .bind(submission.thread_id)
    .bind(to_text(&submission.envelope)?)
    .bind(submission.send_at)
    .bind(submission.undo_status.number())
    .bind(to_text(&submission.delivery_status)?)
    .bind(message_id_hash(new.message_id))
    .run(tx)
    .await?;
    tx.created(ObjectType::EmailSubmission, submission.id);
    Ok(submission)
}

/// Writes what changes of a submission as time goes on.
async fn update(tx: &mut Tx, submission: &Submission) -> Result<(), StoreError> {
    sql("update submission set undo_status = $3, delivery_status = $4, dsn_blob_ids = $5, \
         mdn_blob_ids = $6 where account_id = $1 and id = $2")
    .bind(tx.account())
    .bind(submission.id)
    .bind(submission.undo_status.number())
    .bind(to_text(&submission.delivery_status)?)
    .bind(to_text(&submission.dsn_blob_ids)?)
    .bind(to_text(&submission.mdn_blob_ids)?)
    .run(tx)
    .await?;
    tx.updated(ObjectType::EmailSubmission, submission.id, 0);
    Ok(())
}

/// Takes a submission back, when no worker has had any part of it in hand; whether it did.
pub async fn cancel(tx: &mut Tx, submission: &mut Submission) -> Result<bool, StoreError> {
    if submission.undo_status != UndoStatus::Pending || !outgoing::cancel(tx, submission.id).await? {
        return Ok(false);
    }
    submission.undo_status = UndoStatus::Canceled;
    canceled(&mut submission.delivery_status);
    update(tx, submission).await?;
    let account = tx.account();
    let told = Noted::of(tx, account, submission.clone()).await?.told();
    tx.note_event(EventKind::Canceled, submission.id, told);
    Ok(true)
}

/// Destroys the records of these submissions and lets go of the reports about them. Deliveries are
/// not touched.
pub async fn delete(tx: &mut Tx, gone: &[Submission]) -> Result<(), StoreError> {
    let ids: Vec<Id> = gone.iter().map(|submission| submission.id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    sql("delete from submission where account_id = $1 and id = any($2)")
        .bind(tx.account())
        .bind(&ids)
        .run(tx)
        .await?;
    note::delete(tx, &ids).await?;
    let reports = gone.iter().flat_map(|submission| {
        let ids = submission.dsn_blob_ids.iter().chain(&submission.mdn_blob_ids);
        ids.map(|blob_id| (blob_id.hash, submission.id))
    });
    let reports: Vec<_> = reports.collect();
    blob::reference_remove(tx, BlobSource::Submission, &reports).await?;
    for id in ids {
        tx.destroyed(ObjectType::EmailSubmission, id);
    }
    Ok(())
}

/// Writes what a try of deliver came to, for some recipients of a submission, and that it cannot be
/// taken back any more: address, reply, and how far the message has come. A recipient whose fate is
/// known keeps it. Nothing happens for a submission that is gone (or 0, which is none); else it is told, with
/// its note.
///
/// Replies have the form of RFC 8621, 7: one line, starting with the code.
pub async fn record_results<A, R>(
    tx: &mut Tx,
    submission: Id,
    results: &[(A, R, Delivered)],
) -> Result<Option<Noted>, StoreError>
where
    A: AsRef<str> + Sync,
    R: AsRef<str> + Sync,
{
    let account = tx.account();
    let Some(mut submission) = by_id(tx, account, submission).await? else { return Ok(None) };
    let before = submission.clone();
    submission.undo_status = UndoStatus::Final;
    let mut merging = Merging::of(&mut submission.delivery_status);
    for (address, reply, delivered) in results {
        let _is_new = merging.enter(address.as_ref(), reply.as_ref(), *delivered);
    }
    if submission != before {
        update(tx, &submission).await?;
    }
    Noted::of(tx, account, submission).await.map(Some)
}

/// A submission with what its sender has noted of it.
#[derive(Clone, Debug)]
pub struct Noted {
    submission: Submission,
    note: Note,
}

impl Noted {
    /// Reads the note of a submission.
    pub async fn of(
        conn: &mut Conn,
        account: AccountId,
        submission: Submission,
    ) -> Result<Noted, StoreError> {
        let note = note::of(conn, account, &[submission.id]).await?.pop();
        Ok(Noted { submission, note: note.map(|(_, note)| note).unwrap_or_default() })
    }

    /// What events tell of it.
    pub fn told(&self) -> EventData {
        let Noted { submission, note } = self;
        EventData {
            send_id: Some(submission.id),
            message_id: Some(submission.email_id),
            thread_id: Some(submission.thread_id),
            tags: note.tags.clone(),
            metadata: note.metadata.clone(),
            ..EventData::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::change::{ChangesSince, changes_since, state_of};
    use crate::store::directory::fixture::Fixture;
    use crate::store::submission::result::Displayed;
    use crate::types::blob_id::BlobHash;

    const RECIPIENTS: [&str; 2] = ["Bob@Remote.TEST", "carol@other.test"];

    async fn stored(fixture: &Fixture, account: AccountId, id: Id) -> Submission {
        let mut snapshot = fixture.store.read().await.unwrap();
        by_ids(&mut snapshot, account, &[id]).await.unwrap().remove(0)
    }

    async fn submit(fixture: &Fixture, account: AccountId) -> Submission {
        let unit = async move |tx: &mut Tx| {
            let envelope = serde_json::json!({"mailFrom": {}, "rcptTo": []});
            let recipients = RECIPIENTS.map(str::to_owned);
            let new = NewSubmission {
                identity_id: Id(1),
                email_id: Id(2),
                thread_id: Id(3),
                envelope: &envelope,
                recipients: &recipients,
                settled: &[],
                send_at: 5,
                message_id: "m@x",
            };
            insert(tx, &new).await
        };
        fixture.store.write(account, unit).await.unwrap()
    }

    async fn record(
        fixture: &Fixture,
        account: AccountId,
        id: Id,
        results: &[(&str, &str, Delivered)],
    ) -> i64 {
        let results: Vec<_> = results
            .iter()
            .map(|(address, reply, delivered)| (address.to_string(), reply.to_string(), *delivered))
            .collect();
        let unit = async move |tx: &mut Tx| record_results(tx, id, &results).await;
        fixture.store.write(account, unit).await.unwrap();
        let mut snapshot = fixture.store.read().await.unwrap();
        state_of(&mut snapshot, account, ObjectType::EmailSubmission).await.unwrap().modseq
    }

    #[tokio::test]
    async fn results_make_a_submission_final_and_are_changes() {
        let fixture = Fixture::new().await;
        let account = fixture.account("alice@example.test").await.account;
        let submission = submit(&fixture, account).await;
        assert_eq!(stored(&fixture, account, submission.id).await, submission);
        let id = submission.id;
        let first =
            record(&fixture, account, id, &[("bob@remote.test", "450 4.2.0 Later\r\n", Delivered::Queued)])
                .await;
        let found = stored(&fixture, account, id).await;
        assert_eq!(found.undo_status, UndoStatus::Final);
        let status = &found.delivery_status["Bob@Remote.TEST"];
        assert_eq!((status.smtp_reply.as_str(), status.delivered), ("450 4.2.0 Later", Delivered::Queued));
        assert_eq!(found.delivery_status["carol@other.test"], submission.delivery_status["carol@other.test"]);

        let same = [
            ("bob@remote.test", "450 4.2.0 Later", Delivered::Queued),
            ("x@y.test", "250 x", Delivered::Yes),
        ];
        assert_eq!(record(&fixture, account, id, &same).await, first, "nothing new is no change");
        let more = [
            ("Bob@Remote.TEST", "550 5.1.1 No", Delivered::No),
            ("carol@other.test", "250 2.0.0 OK", Delivered::Unknown),
        ];
        assert!(record(&fixture, account, id, &more).await > first);
        record(&fixture, account, id, &[("bob@remote.test", "250 2.0.0 OK", Delivered::Yes)]).await;
        let found = stored(&fixture, account, id).await;
        let delivered: Vec<_> = found.delivery_status.values().map(|status| status.delivered).collect();
        assert_eq!(delivered, [Delivered::No, Delivered::Unknown], "what is final stays");
        record(&fixture, account, Id(0), &more).await;
    }

    #[tokio::test]
    async fn a_report_finds_its_submission() {
        let fixture = Fixture::new().await;
        let account = fixture.account("alice@example.test").await.account;
        let other = fixture.account("bob@example.test").await.account;
        let first = submit(&fixture, account).await.id;
        let second = submit(&fixture, account).await.id;
        let mut snapshot = fixture.store.read().await.unwrap();
        let envid = first.to_string();
        for (account, env_id, message_id, wanted) in [
            (account, Some(envid.as_str()), Some("other@x"), Some(first)),
            (account, Some("theirs"), Some("m@x"), Some(second)),
            (account, None, Some("m@x"), Some(second)),
            (account, Some(second.to_string().as_str()), None, Some(second)),
            (account, None, None, None),
            (account, None, Some("none@x"), None),
            (other, Some(envid.as_str()), Some("m@x"), None),
        ] {
            assert_eq!(of_report(&mut snapshot, account, env_id, message_id).await.unwrap(), wanted);
        }
    }

    #[tokio::test]
    async fn reports_are_kept_with_what_they_say() {
        let fixture = Fixture::new().await;
        let account = fixture.account("alice@example.test").await.account;
        let id = submit(&fixture, account).await.id;
        let enter = async |number: u8, report: Report| {
            let unit =
                async move |tx: &mut Tx| record_report(tx, id, BlobHash([number; 32]), 10, &report).await;
            fixture.store.write(account, unit).await.unwrap()
        };
        let failed = vec![("bob@remote.test".to_owned(), "550 5.1.1 Unknown".to_owned(), Delivered::No)];
        assert!(enter(1, Report::Dsn(failed.clone())).await);
        assert!(!enter(1, Report::Dsn(failed.clone())).await, "the same report twice");
        assert!(enter(2, Report::Mdn(vec!["CAROL@other.test".to_owned()])).await);
        let found = stored(&fixture, account, id).await;
        assert_eq!(found.dsn_blob_ids, [BlobId::whole(BlobHash([1; 32]))]);
        assert_eq!(found.mdn_blob_ids, [BlobId::whole(BlobHash([2; 32]))]);
        assert_eq!(found.delivery_status["Bob@Remote.TEST"].delivered, Delivered::No);
        assert_eq!(found.delivery_status["carol@other.test"].displayed, Displayed::Yes);
        assert_eq!(found.undo_status, UndoStatus::Pending);
        let references = async || {
            let mut snapshot = fixture.store.read().await.unwrap();
            let rows = sql(
                "select size from blob_reference where account_id = $1 and source = 3 and object_id = $2",
            );
            rows.bind(account).bind(id).column::<i64>(&mut snapshot).await.unwrap().len()
        };
        assert_eq!(references().await, 2);
        let unit = async move |tx: &mut Tx| delete(tx, &[found]).await;
        fixture.store.write(account, unit).await.unwrap();
        assert_eq!(references().await, 0);
        assert!(!enter(3, Report::Dsn(failed)).await);
        let mut snapshot = fixture.store.read().await.unwrap();
        let state = state_of(&mut snapshot, account, ObjectType::EmailSubmission).await.unwrap();
        let since = crate::types::state::State { modseq: 1, ..state };
        let changes =
            changes_since(&mut snapshot, account, ObjectType::EmailSubmission, since, 10).await.unwrap();
        let ChangesSince::Known { changes, .. } = changes else { panic!("{changes:?}") };
        assert!(changes.created.is_empty() && changes.destroyed.is_empty(), "made and destroyed since");
    }

    #[tokio::test]
    async fn reports_are_bounded() {
        let fixture = Fixture::new().await;
        let account = fixture.account("alice@example.test").await.account;
        let id = submit(&fixture, account).await.id;
        let unit = async move |tx: &mut Tx| {
            let mut entered = 0;
            for number in 0..120 {
                let report = Report::Mdn(Vec::new());
                entered += u32::from(record_report(tx, id, BlobHash([number; 32]), 1, &report).await?);
            }
            Ok(entered)
        };
        assert_eq!(fixture.store.write(account, unit).await.unwrap(), 100);
    }
}
