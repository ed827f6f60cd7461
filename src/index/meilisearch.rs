//! The index in Meilisearch, which several processes share: one index, or one on each of several
//! instances among which the accounts are divided.
//!
//! What a document holds, and what a search asks, stands in `term`. Meilisearch is used for what it
//! keeps durably and answers exactly: the set of documents that a filter matches.
//!
//! Invariants:
//! - a batch is applied when its tasks have succeeded, and only then;
//! - an index is searched only once every Email of the store is in it, or in the queue: a document says
//!   so, which each search wants to see. An instance that has lost its data, or was put in another's
//!   place, therefore answers nothing instead of too little, and is filled anew;
//! - an instance that does not answer is left alone for a moment, and costs nobody a second wait;
//! - the version of terms and settings is in the name of the index: a new one is filled beside the old.

mod http;
mod term;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{join_all, try_join_all};
use meilisearch_sdk::client::Client;
use meilisearch_sdk::documents::{DocumentDeletionQuery, DocumentsQuery};
use meilisearch_sdk::errors::{Error, ErrorCode, ErrorType};
use meilisearch_sdk::settings::{
    FilterFeatureModes, FilterFeatures, FilterableAttribute, FilterableAttributesSettings, Settings,
};
use meilisearch_sdk::task_info::TaskInfo;
use meilisearch_sdk::tasks::Task;
use serde::{Deserialize, Serialize};

use crate::config::engine::MeilisearchUrl;
use crate::index::meilisearch::http::Http;
use crate::index::meilisearch::term::Condition;
use crate::index::query::TextQuery;
use crate::index::{Found, IndexError, Operation};
use crate::mail::text::SearchText;
use crate::types::id::{AccountId, Id};
use crate::types::secret::Secret;

/// The version of terms and settings. A change of either takes the next number.
const VERSION: &str = "v1";
/// The name of the document that says that every Email of the store is in the index or in its queue, to
/// which the installation's name is added: others may share the index.
const FILLED: &str = "filled_";
/// Likewise the one that says who fills the index, and when that was last heard of.
const FILLING: &str = "filling_";
/// After so long a silence another process fills the index, in milliseconds.
const FILLER_SILENT_MS: i64 = 60_000;
/// How long an instance is left alone that did not answer.
const LEFT_ALONE: Duration = Duration::from_secs(1);
/// How often a task is asked after: soon at first, then less often.
const FIRST_LOOK: Duration = Duration::from_millis(10);
const LAST_LOOK: Duration = Duration::from_millis(200);
/// Octets of terms that are sent at once; an instance takes 100 MB if it is not told otherwise.
const PAYLOAD_LEN: usize = 16 << 20;

/// An index in Meilisearch. Clones share it.
#[derive(Clone)]
pub struct MeilisearchIndex(Arc<[Instance]>);

/// What is said of the index as a whole.
#[derive(Clone, Copy)]
enum Mark {
    Filled,
    Filling,
}

/// One of the instances among which accounts are divided.
struct Instance {
    /// For errors: the address without anything secret.
    address: String,
    client: Client<Http>,
    uid: String,
    /// Whose marks count.
    installation: String,
    /// Whether the index is known to be there, with its settings.
    is_prepared: AtomicBool,
    /// Since when it does not answer, and why.
    down: Mutex<Option<(Instant, String)>>,
}

/// An Email, or one of the documents `FILLED` and `FILLING`.
#[derive(Serialize, Default)]
struct Document {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    /// Of one attribute.
    #[serde(flatten)]
    terms: BTreeMap<String, BTreeSet<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<String>,
    /// Who fills the index, and when that was last so.
    #[serde(skip_serializing_if = "Option::is_none")]
    filler: Option<(u32, i64)>,
}

#[derive(Deserialize)]
struct FoundDocument {
    id: String,
    #[serde(default)]
    filler: Option<(u32, i64)>,
}

/// What is sent of a batch to one instance, in this order.
enum Step {
    Put(Vec<Document>),
    Delete(Vec<String>),
    DeleteAccount(AccountId),
}

impl MeilisearchIndex {
    /// An index at an address. Nothing is asked yet: an instance may be down while we start.
    pub fn open(
        url: &MeilisearchUrl,
        key: Option<&Secret>,
        installation: &str,
    ) -> Result<MeilisearchIndex, IndexError> {
        let http = Http::new(key).map_err(IndexError::Open)?;
        let instances = url.instances.iter().map(|address| Instance {
            address: address.clone(),
            client: Client::new_with_client(address, None::<String>, http.clone()),
            uid: format!("{}_{VERSION}", url.index),
            installation: installation.to_owned(),
            is_prepared: AtomicBool::new(false),
            down: Mutex::default(),
        });
        Ok(MeilisearchIndex(instances.collect()))
    }

    /// See `Index::needs_rebuild`.
    pub async fn needs_rebuild(&self) -> Result<bool, IndexError> {
        let asked = self.0.iter().map(|instance| async move {
            instance.prepare().await?;
            instance.find(&format!("mark = {}", instance.name_of(Mark::Filled))).await
        });
        Ok(try_join_all(asked).await?.iter().any(Vec::is_empty))
    }

    /// See `Index::may_rebuild`.
    pub async fn may_rebuild(&self, filler: u32, now_ms: i64) -> Result<bool, IndexError> {
        let Some(first) = self.0.first() else { return Ok(false) };
        first.prepare().await?;
        let current = async || -> Result<Option<(u32, i64)>, IndexError> {
            let found = first.find(&format!("mark = {}", first.name_of(Mark::Filling))).await?;
            Ok(found.first().and_then(|document| document.filler))
        };
        match current().await? {
            Some((other, since)) if other != filler && since > now_ms - FILLER_SILENT_MS => return Ok(false),
            _ => {}
        }
        let filling = Document { filler: Some((filler, now_ms)), ..first.mark(Mark::Filling) };
        first.apply(vec![Step::Put(vec![filling])]).await?;
        // Of two that came at the same time the later one stands.
        Ok(current().await?.is_some_and(|(who, _)| who == filler))
    }

    /// See `Index::rebuild_queued`.
    pub async fn rebuild_queued(&self) -> Result<(), IndexError> {
        let marked = self.0.iter().map(|instance| async move {
            instance.apply(vec![Step::Put(vec![instance.mark(Mark::Filled)])]).await
        });
        try_join_all(marked).await?;
        Ok(())
    }

    /// See `Index::apply`.
    pub async fn apply(&self, batch: Vec<Operation>) -> Result<(), IndexError> {
        let mut batches: BTreeMap<usize, Vec<Operation>> = BTreeMap::new();
        for operation in batch {
            batches.entry(self.place_of(operation.account())).or_default().push(operation);
        }
        let applied = batches.into_iter().map(|(place, batch)| async move {
            // Terms are made off the threads that serve.
            let steps = tokio::task::spawn_blocking(move || steps(batch));
            let steps = steps.await.map_err(|error| IndexError::Fault(error.to_string()))?;
            self.0[place].apply(steps).await
        });
        join_all(applied).await.into_iter().collect()
    }

    /// See `Index::search`.
    pub async fn search(&self, account: AccountId, query: &TextQuery) -> Result<Found, IndexError> {
        let Some(conditions) = term::conditions(account, query) else { return Ok(Found::default()) };
        let instance = &self.0[self.place_of(account)];
        let emails = async |condition: Option<Condition>| match condition {
            Some(condition) => instance.emails(account, &condition).await,
            None => Ok(Vec::new()),
        };
        let (certain, possible) = (emails(conditions.certain), emails(conditions.possible));
        let (certain, mut possible) = tokio::try_join!(certain, possible)?;
        possible.retain(|id| certain.binary_search(id).is_err());
        Ok(Found { certain, possible })
    }

    fn place_of(&self, account: AccountId) -> usize {
        let hash = blake3::hash(&account.get().to_be_bytes());
        let number =
            hash.as_bytes().iter().take(8).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
        (number % self.0.len() as u64) as usize
    }
}

#[cfg(test)]
impl MeilisearchIndex {
    /// Removes it, as a loss of all data does.
    pub async fn remove(&self) {
        for instance in self.0.iter() {
            let task = instance.client.delete_index(&instance.uid).await.expect("Meilisearch answers");
            instance.finished(task).await.expect("the index is removed");
        }
    }
}

impl Instance {
    fn name_of(&self, mark: Mark) -> String {
        let name = match mark {
            Mark::Filled => FILLED,
            Mark::Filling => FILLING,
        };
        format!("{name}{}", self.installation)
    }

    fn mark(&self, mark: Mark) -> Document {
        let name = self.name_of(mark);
        Document { id: name.clone(), mark: Some(name), ..Document::default() }
    }

    /// Makes the index, or brings its settings up to ours, once.
    async fn prepare(&self) -> Result<(), IndexError> {
        self.check()?;
        if self.is_prepared.load(Ordering::Acquire) {
            return Ok(());
        }
        match self.heard(self.client.get_raw_index(&self.uid).await) {
            Ok(_) => {}
            Err(Failure::NoIndex) => {
                let created = self.heard(self.client.create_index(&self.uid, Some("id")).await)?;
                match self.finished(created).await {
                    // Another process was a moment faster.
                    Ok(()) | Err(Failure::Refused { code: ErrorCode::IndexAlreadyExists, .. }) => {}
                    Err(failure) => return Err(failure.into()),
                }
            }
            Err(failure) => return Err(failure.into()),
        }
        let set = self.heard(self.client.index(&self.uid).set_settings(&settings()).await)?;
        self.finished(set).await?;
        self.is_prepared.store(true, Ordering::Release);
        Ok(())
    }

    async fn apply(&self, steps: Vec<Step>) -> Result<(), IndexError> {
        self.prepare().await?;
        let index = self.client.index(&self.uid);
        let mut tasks = Vec::new();
        for step in steps {
            let sent = match step {
                Step::Put(documents) => index.add_or_replace(&documents, Some("id")).await,
                Step::Delete(ids) => index.delete_documents(&ids).await,
                Step::DeleteAccount(account) => {
                    let filter = format!("account = \"{account}\"");
                    let mut query = DocumentDeletionQuery::new(&index);
                    query.with_filter(&filter);
                    index.delete_documents_with(&query).await
                }
            };
            tasks.push(self.heard(sent)?);
        }
        for task in tasks {
            self.finished(task).await?;
        }
        Ok(())
    }

    /// The Emails of an account for which a condition holds, in ascending order of their ids.
    async fn emails(&self, account: AccountId, condition: &Condition) -> Result<Vec<Id>, IndexError> {
        self.prepare().await?;
        let filled = self.name_of(Mark::Filled);
        let mut filter = format!("mark = {filled} OR (account = \"{account}\"");
        if !condition.is_always() {
            let _ = write!(filter, " AND {}", condition.filter(&term::attribute_of(account)));
        }
        filter.push(')');
        let found = self.find(&filter).await?;
        let mut is_filled = false;
        let mut ids = Vec::with_capacity(found.len());
        for document in found {
            match document.id.split_once('-').map(|(_, email)| email.parse::<Id>()) {
                Some(Ok(email)) => ids.push(email),
                _ => is_filled |= document.id == filled,
            }
        }
        if !is_filled {
            let why = format!("{}: the index is being filled anew; try again later", self.address);
            return Err(IndexError::Engine(why));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    async fn find(&self, filter: &str) -> Result<Vec<FoundDocument>, IndexError> {
        let index = self.client.index(&self.uid);
        let mut query = DocumentsQuery::new(&index);
        query.with_filter(filter).with_fields(["id", "filler"]).with_limit(u32::MAX as usize);
        Ok(self.heard(index.get_documents_with::<FoundDocument>(&query).await)?.results)
    }

    /// Waits until a task has succeeded.
    async fn finished(&self, task: TaskInfo) -> Result<(), Failure> {
        let mut pause = FIRST_LOOK;
        loop {
            match self.heard(self.client.get_task(&task).await)? {
                Task::Succeeded { .. } => return Ok(()),
                Task::Failed { content } => {
                    return self.heard(Err(Error::Meilisearch(content.error)));
                }
                Task::Enqueued { .. } | Task::Processing { .. } => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(LAST_LOOK);
        }
    }

    /// An error when it did not answer a moment ago.
    fn check(&self) -> Result<(), Failure> {
        match &*self.down.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((since, why)) if since.elapsed() < LEFT_ALONE => Err(Failure::Down(why.clone())),
            _ => Ok(()),
        }
    }

    /// Notes what an answer says of the instance.
    fn heard<T>(&self, answer: Result<T, Error>) -> Result<T, Failure> {
        let failure = match answer {
            Ok(value) => {
                self.note(None);
                return Ok(value);
            }
            Err(Error::Meilisearch(error)) => {
                self.note(None);
                match error.error_code {
                    ErrorCode::IndexNotFound => Failure::NoIndex,
                    code => {
                        let why = format!("{}: {}", self.address, error.error_message);
                        let is_ours = error.error_type == ErrorType::InvalidRequest;
                        Failure::Refused { code, why, is_ours }
                    }
                }
            }
            Err(error) => {
                let why = format!("{}: {error}", self.address);
                self.note(Some(why.clone()));
                Failure::Down(why)
            }
        };
        // Whatever was refused, the index may be another one than it was.
        self.is_prepared.store(false, Ordering::Release);
        Err(failure)
    }

    fn note(&self, down: Option<String>) {
        let mut place = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*place, &down) {
            (None, Some(why)) => tracing::warn!(why, "Meilisearch does not answer: texts cannot be searched"),
            (Some(_), None) => tracing::info!(instance = self.address, "Meilisearch is back"),
            _ => {}
        }
        let up = if down.is_none() { 1.0 } else { 0.0 };
        metrics::gauge!("postrider_search_up", "instance" => self.address.clone()).set(up);
        *place = down.map(|why| (Instant::now(), why));
    }
}

/// Why a request to an instance came to nothing.
#[derive(Debug)]
enum Failure {
    /// It did not answer.
    Down(String),
    /// It has no such index.
    NoIndex,
    /// It said no.
    Refused {
        code: ErrorCode,
        why: String,
        /// Whether it says that what we sent is wrong.
        is_ours: bool,
    },
}

impl From<Failure> for IndexError {
    fn from(failure: Failure) -> IndexError {
        match failure {
            Failure::Down(why) => IndexError::Engine(why),
            Failure::NoIndex => {
                IndexError::Engine("the index is gone; it is made and filled anew".to_owned())
            }
            Failure::Refused { why, is_ours: true, .. } => IndexError::Fault(why),
            Failure::Refused { why, .. } => IndexError::Engine(why),
        }
    }
}

/// Nothing is searched in Meilisearch's own manner: no attribute is.
///
/// Comparison makes it keep the terms in levels, over which it finds a beginning. Without them it walks
/// from the first term of an attribute (1.5 million terms: 24 ms for each beginning instead of 1 ms).
fn settings() -> Settings {
    let attributes = FilterableAttributesSettings {
        attribute_patterns: vec!["account".to_owned(), "mark".to_owned(), format!("{}*", term::ATTRIBUTES)],
        features: FilterFeatures {
            facet_search: false,
            filter: FilterFeatureModes { equality: true, comparison: true },
        },
    };
    Settings::new()
        .with_filterable_attributes_advanced([FilterableAttribute::Settings(attributes)])
        .with_searchable_attributes(None::<&str>)
        .with_displayed_attributes(["id", "filler"])
}

/// What a batch comes to: of several changes of an Email the last.
fn steps(batch: Vec<Operation>) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut changes: BTreeMap<(AccountId, Id), Option<Box<SearchText>>> = BTreeMap::new();
    for operation in batch {
        match operation {
            Operation::Put { account, email, text } => {
                changes.insert((account, email), Some(text));
            }
            Operation::Delete { account, email } => {
                changes.insert((account, email), None);
            }
            Operation::DeleteAccount { account } => {
                push_changes(std::mem::take(&mut changes), &mut steps);
                steps.push(Step::DeleteAccount(account));
            }
        }
    }
    push_changes(changes, &mut steps);
    steps
}

fn push_changes(changes: BTreeMap<(AccountId, Id), Option<Box<SearchText>>>, steps: &mut Vec<Step>) {
    let (mut documents, mut length, mut deleted) = (Vec::new(), 0, Vec::new());
    for ((account, email), text) in changes {
        let id = format!("{account}-{email}");
        let Some(text) = text else {
            deleted.push(id);
            continue;
        };
        let terms = term::terms(account, &text);
        let terms = BTreeMap::from([(term::attribute_of(account), terms)]);
        length += terms.values().flatten().map(|term| term.len() + 3).sum::<usize>();
        documents.push(Document { id, account: Some(account.to_string()), terms, ..Document::default() });
        if length > PAYLOAD_LEN {
            steps.push(Step::Put(std::mem::take(&mut documents)));
            length = 0;
        }
    }
    if !documents.is_empty() {
        steps.push(Step::Put(documents));
    }
    if !deleted.is_empty() {
        steps.push(Step::Delete(deleted));
    }
}
