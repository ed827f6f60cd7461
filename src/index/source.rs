//! The texts of messages, read from the store a bounded amount at a time: for the worker that puts
//! them into the index, and for searching directly what waits in the index queue.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use crate::blob::BlobError;
use crate::blob::Blobs;
use crate::index::document::matches;
use crate::index::query::TextQuery;
use crate::index::{Found, Index, IndexError, Operation};
use crate::mail::scan::scan;
use crate::mail::text::{SearchText, search_text};
use crate::store::Store;
use crate::store::email::read;
use crate::store::error::StoreError;
use crate::types::blob_id::BlobHash;
use crate::types::id::{AccountId, Id};

/// Octets of messages that are read at once; a larger message is read alone.
const CHUNK_LEN: i64 = 16 << 20;
/// Messages that are read at once.
const CHUNK_EMAILS: usize = 256;

/// Messages that are read for one text because the index cannot tell whether they match.
const MAX_POSSIBLE: usize = 10_000;

/// An Email whose message cannot be read: its object is missing or corrupt, or out of reach for now.
/// The index has nothing of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unreadable {
    /// Whose it is.
    pub account: AccountId,
    /// Which.
    pub email: Id,
    /// What is wrong.
    pub why: String,
    /// Whether it is the place of large messages that is out of reach, and nothing wrong with this one.
    pub is_temporary: bool,
}

/// The texts of some Emails of one account.
struct Texts<'a> {
    source: Source<'a>,
    account: AccountId,
    left: VecDeque<(Id, BlobHash, i64)>,
}

/// Texts that were read, and Emails that were not.
type Chunk = (Vec<(Id, SearchText)>, Vec<Unreadable>);

impl Texts<'_> {
    /// The next chunk; `None` when there is no more.
    async fn next(&mut self) -> Result<Option<Chunk>, IndexError> {
        let mut taken = Vec::new();
        let mut length = 0;
        while let Some((_, _, size)) = self.left.front() {
            length += size;
            if taken.len() >= CHUNK_EMAILS || (length > CHUNK_LEN && !taken.is_empty()) {
                break;
            }
            taken.extend(self.left.pop_front().map(|(email, hash, _)| (email, hash)));
        }
        if taken.is_empty() {
            return Ok(None);
        }
        let hashes: Vec<BlobHash> = taken.iter().map(|(_, hash)| *hash).collect();
        let mut unreadable = Vec::new();
        let mut raw = Vec::new();
        match self.source.blobs.read_many(self.account, &hashes).await {
            Ok(read) => raw.extend(
                taken.iter().filter_map(|(email, hash)| read.get(hash).map(|raw| (*email, raw.clone()))),
            ),
            Err(error @ BlobError::Store(_)) => return Err(error.into()),
            // One message that cannot be read must not keep the others out, nor must all large ones keep
            // out the small ones while their place is out of reach.
            Err(_) => {
                for (email, hash) in &taken {
                    match self.source.blobs.read(self.account, hash).await {
                        Ok(read) => raw.extend(read.map(|read| (*email, read))),
                        Err(error @ BlobError::Store(_)) => return Err(error.into()),
                        Err(error) => {
                            let is_temporary = error.is_temporary();
                            let unreadable_now = self.unreadable(*email, error.to_string());
                            unreadable.push(Unreadable { is_temporary, ..unreadable_now });
                        }
                    }
                }
            }
        }
        if raw.len() + unreadable.len() < taken.len() {
            self.find_vanished(&taken, &raw, &mut unreadable).await?;
        }
        let work =
            move || raw.into_iter().map(|(email, raw)| (email, search_text(&raw, &scan(&raw)))).collect();
        Ok(Some((aside(work).await?, unreadable)))
    }

    /// A blob that is not there is no fault when its Email has been destroyed meanwhile.
    async fn find_vanished(
        &self,
        taken: &[(Id, BlobHash)],
        raw: &[(Id, bytes::Bytes)],
        unreadable: &mut Vec<Unreadable>,
    ) -> Result<(), IndexError> {
        let known: HashSet<Id> =
            raw.iter().map(|(email, _)| *email).chain(unreadable.iter().map(|u| u.email)).collect();
        let absent: Vec<Id> =
            taken.iter().map(|(email, _)| *email).filter(|email| !known.contains(email)).collect();
        let mut snapshot = self.source.store.read().await?;
        for row in read::rows(&mut snapshot, self.account, &absent).await? {
            unreadable.push(self.unreadable(row.id, "its blob is missing".to_owned()));
        }
        Ok(())
    }

    fn unreadable(&self, email: Id, why: String) -> Unreadable {
        Unreadable { account: self.account, email, why, is_temporary: false }
    }
}

/// Runs what would keep an async thread busy: parsing, scanning.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, IndexError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| IndexError::Fault(error.to_string()))
}

impl From<BlobError> for IndexError {
    fn from(error: BlobError) -> IndexError {
        IndexError::Messages(error.to_string())
    }
}

impl From<StoreError> for IndexError {
    fn from(error: StoreError) -> IndexError {
        IndexError::Messages(error.to_string())
    }
}

/// Where messages are read.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// Emails and their blobs' names.
    pub store: &'a Store,
    /// Messages.
    pub blobs: &'a Blobs,
}

impl<'a> Source<'a> {
    /// Begins to read these Emails, as far as they exist.
    async fn texts(self, account: AccountId, emails: &[Id]) -> Result<Texts<'a>, IndexError> {
        let mut snapshot = self.store.read().await?;
        let rows = read::rows(&mut snapshot, account, emails).await?;
        let left = rows.into_iter().map(|row| (row.id, row.blob_hash, row.size)).collect();
        Ok(Texts { source: self, account, left })
    }

    /// Brings the index up to what the store has of these Emails: those that exist are put into
    /// it, all others removed. When it returns, searches see it (so only then the rows of
    /// the index queue may go). Those that cannot be read are returned.
    pub async fn update(
        self,
        index: &Index,
        emails: &[(AccountId, Id)],
    ) -> Result<Vec<Unreadable>, IndexError> {
        let mut accounts: BTreeMap<AccountId, BTreeSet<Id>> = BTreeMap::new();
        for (account, email) in emails {
            accounts.entry(*account).or_default().insert(*email);
        }
        let mut all_unreadable = Vec::new();
        let mut batch = Vec::new();
        let mut length = 0;
        for (account, mut absent) in accounts {
            let wanted: Vec<Id> = absent.iter().copied().collect();
            let mut texts = self.texts(account, &wanted).await?;
            while let Some((texts, unreadable)) = texts.next().await? {
                all_unreadable.extend(unreadable);
                for (email, text) in texts {
                    absent.remove(&email);
                    length += text.body.len();
                    batch.push(Operation::Put { account, email, text: Box::new(text) });
                }
                if length > CHUNK_LEN as usize {
                    index.apply(std::mem::take(&mut batch)).await?;
                    length = 0;
                }
            }
            batch.extend(absent.into_iter().map(|email| Operation::Delete { account, email }));
        }
        if !batch.is_empty() {
            index.apply(batch).await?;
        }
        Ok(all_unreadable)
    }

    /// All Emails of the account that match, for each query: from the index, and by direct scan of
    /// `waiting`, the Emails in the index queue. The caller reads `waiting` before it calls, so
    /// that what leaves the queue meanwhile is in the index already. Ids in ascending order; an
    /// Email destroyed just now may be among them.
    pub async fn search(
        self,
        index: &Index,
        account: AccountId,
        waiting: &[Id],
        queries: &[TextQuery],
    ) -> Result<Vec<Vec<Id>>, IndexError> {
        let waiting: BTreeSet<Id> = waiting.iter().copied().collect();
        let mut found = Vec::with_capacity(queries.len());
        for query in queries {
            let Found { mut certain, mut possible } = index.search(account, query).await?;
            certain.retain(|id| !waiting.contains(id));
            possible.retain(|id| !waiting.contains(id));
            if possible.len() > MAX_POSSIBLE {
                return Err(IndexError::TooBroad);
            }
            for more in self.scan(account, &possible, std::slice::from_ref(query)).await? {
                certain.extend(more);
            }
            found.push(certain);
        }
        let waiting: Vec<Id> = waiting.into_iter().collect();
        for (ids, more) in found.iter_mut().zip(self.scan(account, &waiting, queries).await?) {
            ids.extend(more);
            ids.sort_unstable();
        }
        Ok(found)
    }

    /// Of these Emails, those that match, for each query: read directly, without the index. Ids in
    /// ascending order of each chunk read.
    pub async fn scan(
        self,
        account: AccountId,
        emails: &[Id],
        queries: &[TextQuery],
    ) -> Result<Vec<Vec<Id>>, IndexError> {
        let mut found = vec![Vec::new(); queries.len()];
        if emails.is_empty() || queries.is_empty() {
            return Ok(found);
        }
        let mut texts = self.texts(account, emails).await?;
        let queries: Arc<[TextQuery]> = queries.into();
        while let Some((texts, unreadable)) = texts.next().await? {
            for Unreadable { email, why, is_temporary, .. } in unreadable {
                // It may match: an answer without it would be wrong, and only until it is back.
                if is_temporary {
                    return Err(IndexError::Messages(why));
                }
                tracing::warn!(%account, %email, why, "message cannot be searched");
            }
            let queries = queries.clone();
            let scanned = aside(move || {
                let matching = |query: &TextQuery| -> Vec<Id> {
                    texts.iter().filter(|(_, text)| matches(text, query)).map(|(email, _)| *email).collect()
                };
                queries.iter().map(matching).collect::<Vec<_>>()
            });
            for (ids, more) in found.iter_mut().zip(scanned.await?) {
                ids.extend(more);
            }
        }
        Ok(found)
    }
}

/// What the tests of this folder share.
#[cfg(test)]
pub mod testing {
    use super::*;
    use crate::store::blob::BlobSource;
    use crate::store::db::sql;
    use crate::store::tx::Tx;

    /// Stores the row and the blob of an Email, and nothing else.
    pub async fn add(source: Source<'_>, account: AccountId, raw: String) -> Id {
        let size = raw.len() as i64;
        let blob = source.blobs.prepare(raw.into()).await.unwrap();
        let email = source.store.ids().make();
        let insert = async move |tx: &mut Tx| {
            let account = tx.account();
            sql("insert into email (account_id, id, thread_id, blob_hash, size, received_at, sent_at, \
                 has_attachment, from_key, to_key, subject_key, list_properties) \
                 values ($1, $2, $2, $3, $4, 0, 0, 0, '', '', '', '{}')")
            .bind(account)
            .bind(email)
            .bind(blob.hash())
            .bind(size)
            .run(tx)
            .await?;
            blob.reference(tx, BlobSource::Email, email, 0).await
        };
        source.store.write(account, insert).await.unwrap();
        email
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::query::Field;
    use crate::store::db::sql;
    use crate::store::testing::store_in;
    use crate::store::tx::Tx;
    use crate::store::unit::Urgency;
    use crate::types::clock::Clock;

    struct Bench {
        folder: tempfile::TempDir,
        store: Store,
        blobs: Blobs,
        index: Index,
        account: AccountId,
    }

    impl Bench {
        async fn new() -> Bench {
            let folder = tempfile::tempdir().unwrap();
            let at = |name: &str| folder.path().join(name);
            let store = store_in(folder.path(), Clock::system());
            let blobs = crate::blob::testing::blobs_in(folder.path(), store.clone());
            let index = Index::in_folder(&at("index")).unwrap();
            let id = store.ids().make();
            let insert = async move |tx: &mut Tx| {
                sql("insert into account (id, name, created_at, lane, epoch) values ($1, 'a', 0, 0, 1)")
                    .bind(id)
                    .run(tx)
                    .await
            };
            store.write_plain(Urgency::Interactive, insert).await.unwrap();
            Bench { folder, store, blobs, index, account: AccountId(id) }
        }

        fn source(&self) -> Source<'_> {
            Source { store: &self.store, blobs: &self.blobs }
        }

        async fn add(&self, raw: String) -> Id {
            testing::add(self.source(), self.account, raw).await
        }

        async fn destroy(&self, email: Id) {
            let delete = async move |tx: &mut Tx| {
                let account = tx.account();
                sql("delete from email where account_id = $1 and id = $2")
                    .bind(account)
                    .bind(email)
                    .run(tx)
                    .await
            };
            self.store.write(self.account, delete).await.unwrap();
        }

        async fn update(&self, emails: &[Id]) -> Vec<Unreadable> {
            let emails: Vec<_> = emails.iter().map(|email| (self.account, *email)).collect();
            self.source().update(&self.index, &emails).await.unwrap()
        }

        async fn search(&self, waiting: &[Id], text: &str) -> Vec<Id> {
            let query = TextQuery::parse(Field::Text, text);
            let found = self.source().search(&self.index, self.account, waiting, &[query]).await.unwrap();
            found.into_iter().flatten().collect()
        }
    }

    #[tokio::test]
    async fn what_waits_is_found_and_what_is_gone_is_not() {
        let bench = Bench::new().await;
        let first = bench.add("Subject: first thing\r\n\r\nbody".into()).await;
        let second = bench.add(format!("Subject: second thing\r\n\r\n{}", "large ".repeat(40_000))).await;
        assert_eq!(bench.search(&[], "thing").await, []);
        assert_eq!(bench.search(&[first, second], "thing").await, [first, second]);
        assert_eq!(bench.update(&[first]).await, []);
        assert_eq!(bench.search(&[second], "thing").await, [first, second]);
        assert_eq!(bench.update(&[first, second]).await, []);
        assert_eq!(bench.search(&[], "thing").await, [first, second]);
        assert_eq!(bench.search(&[], "large").await, [second]);
        bench.destroy(first).await;
        assert_eq!(bench.search(&[first], "thing").await, [second]);
        assert_eq!(bench.update(&[first]).await, []);
        assert_eq!(bench.search(&[], "thing").await, [second]);
    }

    #[tokio::test]
    async fn a_message_that_cannot_be_read_keeps_no_other_out() {
        let bench = Bench::new().await;
        let large = |word: &str| format!("Subject: {word}\r\n\r\n{}", "text ".repeat(40_000));
        let broken = bench.add(large("broken")).await;
        let mut folders = vec![bench.folder.path().join("blobs")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => std::fs::remove_file(path).unwrap(),
                }
            }
        }
        let sound = bench.add(large("sound")).await;
        let unreadable = bench.update(&[broken, sound]).await;
        assert_eq!(unreadable.iter().map(|one| one.email).collect::<Vec<_>>(), [broken]);
        assert_eq!(bench.search(&[], "text").await, [sound]);
        assert_eq!(bench.search(&[broken, sound], "text").await, [sound]);
    }
}
