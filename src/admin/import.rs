//! Files messages that were kept elsewhere: no delivery, no vacation reply, no sender check.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::admin::audit::About;
use crate::admin::request::{AdminError, ImportItem, ImportOutcome};
use crate::admin::{Office, account_of};
use crate::blob::prepared::PreparedBlob;
use crate::jmap::limits::MAX_MAILBOXES;
use crate::mail::parse::parse;
use crate::store::blob::BlobSource;
use crate::store::directory::account;
use crate::store::email::insert::{NewEmail, NewPlace, insert};
use crate::store::error::StoreError;
use crate::store::mailbox::{self, NewMailbox};
use crate::store::queue::delivered;
use crate::store::tx::Tx;
use crate::types::id::Id;

/// Messages that one transaction files: people who use the account wait for no more.
const PER_TRANSACTION: usize = 16;

/// Names that mail programs give to mailboxes of a role (RFC 8621, 2), in lower case.
const ROLE_NAMES: [(&str, &str); 18] = [
    ("inbox", "inbox"),
    ("drafts", "drafts"),
    ("draft", "drafts"),
    ("sent", "sent"),
    ("sent items", "sent"),
    ("sent messages", "sent"),
    ("sent mail", "sent"),
    ("archive", "archive"),
    ("archives", "archive"),
    ("junk", "junk"),
    ("junk e-mail", "junk"),
    ("junk email", "junk"),
    ("spam", "junk"),
    ("bulk mail", "junk"),
    ("trash", "trash"),
    ("bin", "trash"),
    ("deleted items", "trash"),
    ("deleted messages", "trash"),
];

/// Which of these keys the account has filed.
pub async fn known(office: &Office, text: &str, keys: Vec<String>) -> Result<Vec<bool>, AdminError> {
    let mut snapshot = office.store.read().await?;
    let account = account_of(&mut snapshot, text).await?;
    let filed: HashSet<String> = delivered::filed(&mut snapshot, account, &keys).await?.into_iter().collect();
    Ok(keys.iter().map(|key| filed.contains(key)).collect())
}

/// A message made ready outside the transaction.
struct Ready {
    item: ImportItem,
    blob: PreparedBlob,
    email: NewEmail,
}

/// Files messages, those of keys that are known left out.
pub async fn file(
    office: &Office,
    text: &str,
    items: Vec<ImportItem>,
    begins: bool,
) -> Result<Vec<ImportOutcome>, AdminError> {
    let act = file_all(office, text, items);
    // One entry for all that is imported.
    if begins { office.audited("import mail", About::address(text), act).await } else { act.await }
}

async fn file_all(
    office: &Office,
    text: &str,
    items: Vec<ImportItem>,
) -> Result<Vec<ImportOutcome>, AdminError> {
    let account = account_of(&mut *office.store.read().await?, text).await?;
    let mut blobs = Vec::with_capacity(items.len());
    for item in &items {
        blobs.push(office.blobs.prepare(item.raw.clone()).await?);
    }
    let ready = tokio::task::spawn_blocking(move || {
        items
            .into_iter()
            .zip(blobs)
            .map(|(item, blob)| {
                let email = NewEmail::of(&parse(&item.raw), blob.hash(), item.received_at_ms);
                Ready { item, blob, email }
            })
            .collect::<Vec<Ready>>()
    });
    let ready =
        ready.await.map_err(|error| AdminError::failed(format!("a message cannot be read: {error}")))?;
    let ready = Arc::new(ready);
    let mut outcomes = Vec::with_capacity(ready.len());
    for start in (0..ready.len()).step_by(PER_TRANSACTION) {
        let ready = ready.clone();
        let filed = office
            .store
            .write_in_background(account, async move |tx: &mut Tx| {
                let mut mailboxes = HashMap::new();
                let mut outcomes = Vec::with_capacity(PER_TRANSACTION);
                for message in ready.iter().skip(start).take(PER_TRANSACTION) {
                    outcomes.push(file_one(tx, message, &mut mailboxes).await?);
                }
                Ok(outcomes)
            })
            .await?;
        outcomes.extend(filed);
    }
    Ok(outcomes)
}

async fn file_one(
    tx: &mut Tx,
    message: &Ready,
    known: &mut HashMap<Vec<String>, Option<Id>>,
) -> Result<ImportOutcome, StoreError> {
    // Before the key is written: what found no room is to be imported by a later run.
    if !account::has_room(tx, message.email.size).await? {
        return Ok(ImportOutcome::Failed("the account's quota is reached".to_owned()));
    }
    let mut mailboxes = Vec::with_capacity(message.item.mailboxes.len());
    for path in &message.item.mailboxes {
        let id = match known.get(path) {
            Some(id) => *id,
            None => {
                let id = mailbox_of_path(tx, path).await?;
                known.insert(path.clone(), id);
                id
            }
        };
        match id {
            Some(id) if !mailboxes.contains(&id) => mailboxes.push(id),
            Some(_) => {}
            None => {
                let text = format!("the account has {MAX_MAILBOXES} mailboxes already");
                return Ok(ImportOutcome::Failed(text));
            }
        }
    }
    if mailboxes.is_empty() {
        return Ok(ImportOutcome::Failed("no mailbox is named".to_owned()));
    }
    if !delivered::is_first_for_ever(tx, &message.item.key).await? {
        return Ok(ImportOutcome::AlreadyThere);
    }
    let place = NewPlace { mailboxes, keywords: message.item.keywords.clone(), is_delivery: false };
    let inserted = insert(tx, &message.email, &place).await?;
    message.blob.reference(tx, BlobSource::Email, inserted.email_id, 0).await?;
    Ok(ImportOutcome::Imported)
}

/// The mailbox of a path of names, made if it is missing; `None` when the account has too many. A
/// name at the top that programs give to a role means the mailbox of that role, whatever its name.
async fn mailbox_of_path(tx: &mut Tx, path: &[String]) -> Result<Option<Id>, StoreError> {
    let account = tx.account();
    let mut parent_id = Id(0);
    for (depth, name) in path.iter().enumerate() {
        let lower = name.to_lowercase();
        let role = ROLE_NAMES.iter().find(|(name, _)| depth == 0 && *name == lower).map(|(_, role)| *role);
        let by_role = match role {
            Some(role) => mailbox::id_by_role(tx, account, role).await?,
            None => None,
        };
        let found = match by_role {
            Some(id) => Some(id),
            None => mailbox::id_by_name(tx, account, parent_id, name).await?,
        };
        parent_id = match found {
            Some(id) => id,
            None if mailbox::ids(tx, account).await?.len() >= MAX_MAILBOXES => return Ok(None),
            None => {
                let new = NewMailbox { parent_id, name, role, sort_order: 10 };
                mailbox::insert(tx, &new).await?
            }
        };
    }
    Ok((parent_id != Id(0)).then_some(parent_id))
}

#[cfg(test)]
mod tests {
    use crate::admin::request::AdminResponse;
    use bytes::Bytes;

    use crate::admin::request::{AdminRequest, ImportItem, ImportOutcome, Quota};
    use crate::admin::tests::Fixture;
    use crate::store::testing::OWNER;
    use crate::store::{email, mailbox};

    fn item(key: &str, mailbox: &[&str], raw: &'static str) -> ImportItem {
        ImportItem {
            mailboxes: vec![mailbox.iter().map(|name| (*name).to_owned()).collect()],
            keywords: vec!["$seen".into(), "work".into()],
            received_at_ms: 1_131_624_000_000,
            key: key.into(),
            size: raw.len() as u64,
            raw: Bytes::from_static(raw.as_bytes()),
        }
    }

    async fn import(fixture: &Fixture, messages: Vec<ImportItem>) -> Vec<ImportOutcome> {
        let account = "alice@example.test".to_owned();
        match fixture.office.answer(AdminRequest::Import { account, messages, begins: false }).await {
            Ok(AdminResponse::Imported(outcomes)) => outcomes,
            other => panic!("{other:?}"),
        }
    }

    const RAW: &str = "From: a@b.test\r\nSubject: x\r\n\r\nbody\r\n";

    #[tokio::test]
    async fn messages_are_filed_once_and_in_their_mailboxes() {
        let fixture = Fixture::new().await;
        let messages = vec![
            item("k1", &["INBOX"], RAW),
            item("k2", &["Work", "2005"], RAW),
            item("k1", &["Inbox"], RAW),
        ];
        assert_eq!(
            import(&fixture, messages).await,
            [ImportOutcome::Imported, ImportOutcome::Imported, ImportOutcome::AlreadyThere]
        );
        // Longer than an ordinary delivery is remembered.
        fixture.clock.advance_ms(100 * 86_400_000);
        while crate::store::queue::delivered::trim(&fixture.store, fixture.account).await.unwrap() {}
        assert_eq!(
            import(&fixture, vec![item("k2", &["Work", "2005"], RAW)]).await,
            [ImportOutcome::AlreadyThere]
        );

        let mut snapshot = fixture.store.read().await.unwrap();
        let mailboxes = mailbox::all(&mut snapshot, fixture.account, OWNER).await.unwrap();
        let find = |name: &str| mailboxes.iter().find(|mailbox| mailbox.name == name).unwrap();
        assert_eq!(find("Inbox").counts.total_emails, 1);
        assert_eq!((find("2005").parent_id, find("2005").counts.total_emails), (find("Work").id, 1));
        assert_eq!(find("2005").counts.unread_emails, 0);
        let ids = email::read::ids(&mut snapshot, fixture.account, 10).await.unwrap();
        let rows = email::read::rows(&mut snapshot, fixture.account, &ids).await.unwrap();
        assert_eq!(rows.len(), 2);
        assert!(rows.iter().all(|row| row.received_at == 1_131_624_000_000));
    }

    #[tokio::test]
    async fn known_keys_are_told_apart() {
        let fixture = Fixture::new().await;
        import(&fixture, vec![item("k1", &["Sent Items"], RAW)]).await;
        let request = AdminRequest::ImportKnown {
            account: "alice@example.test".into(),
            keys: vec!["k0".into(), "k1".into()],
        };
        let answer = fixture.office.answer(request).await;
        assert!(matches!(answer, Ok(AdminResponse::Known(known)) if known == [false, true]));
        let mailboxes =
            mailbox::all(&mut fixture.store.read().await.unwrap(), fixture.account, OWNER).await.unwrap();
        let sent = mailboxes.iter().find(|mailbox| mailbox.role.as_deref() == Some("sent")).unwrap();
        assert_eq!(sent.counts.total_emails, 1, "a name of a role means the mailbox of the role");
    }

    #[tokio::test]
    async fn what_finds_no_room_is_imported_when_there_is() {
        let fixture = Fixture::new().await;
        let quota = async |quota| {
            let address = "alice@example.test".to_owned();
            fixture.office.answer(AdminRequest::AccountQuota { address, quota }).await.unwrap();
        };
        quota(Quota::Octets(10)).await;
        let outcomes = import(&fixture, vec![item("k1", &["Inbox"], RAW)]).await;
        assert!(matches!(outcomes.as_slice(), [ImportOutcome::Failed(why)] if why.contains("quota")));
        quota(Quota::Unlimited).await;
        assert_eq!(import(&fixture, vec![item("k1", &["Inbox"], RAW)]).await, [ImportOutcome::Imported]);
    }
}
