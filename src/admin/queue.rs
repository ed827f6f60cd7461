//! The queues of mail: listing, showing, retrying, holding, dropping.

use crate::admin::audit::About;
use crate::admin::request::{AdminError, QueueItem, QueueName, QueueRow};
use crate::admin::{Office, PAGE};
use crate::bus::Queue;
use crate::store::cluster::{self, QueueEntry};
use crate::store::queue::{claim, incoming, outgoing};
use crate::types::date::utc_date;
use crate::types::id::Id;

/// Rows that a listing shows at most: more than anybody reads.
pub const MAX_LISTED: usize = 10_000;
/// Octets of a message's header that are shown.
const MAX_HEADER_SHOWN: usize = 64 << 10;

/// All rows, the oldest first.
pub async fn list(
    office: &Office,
    queue: Option<QueueName>,
    failed_only: bool,
) -> Result<Vec<QueueRow>, AdminError> {
    let which = Which { queue, failed_only, ..Which::default() };
    let (mut rows, mut next) = list_page(office, &which, None, MAX_LISTED).await?;
    while let Some(place) = next.filter(|_| rows.len() < MAX_LISTED) {
        let more = list_page(office, &which, Some(place), MAX_LISTED - rows.len()).await?;
        rows.extend(more.0);
        next = more.1;
    }
    rows.sort_by(|a, b| a.created_at.cmp(&b.created_at));
    Ok(rows)
}

/// A place in the list of all rows of all queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    queue: QueueName,
    lane: i64,
    id: Id,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let queue = match self.queue {
            QueueName::Incoming => 'i',
            QueueName::Outgoing => 'o',
        };
        write!(f, "{queue}{}-{}", self.lane, self.id)
    }
}

impl std::str::FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Place, ()> {
        let (queue, rest) = match text.split_at_checked(1).ok_or(())? {
            ("i", rest) => (QueueName::Incoming, rest),
            ("o", rest) => (QueueName::Outgoing, rest),
            _ => return Err(()),
        };
        let (lane, id) = rest.rsplit_once('-').ok_or(())?;
        Ok(Place { queue, lane: lane.parse().map_err(|_| ())?, id: id.parse().map_err(|_| ())? })
    }
}

/// Rows after a place, in no order that says anything, and where they end when there may be more: no more
/// rows are looked through for a page than so many, and it may be empty.
pub async fn list_page(
    office: &Office,
    which: &Which,
    after: Option<Place>,
    limit: usize,
) -> Result<(Vec<QueueRow>, Option<Place>), AdminError> {
    let (mut rows, mut looked_at) = (Vec::new(), 0);
    for queue in [QueueName::Incoming, QueueName::Outgoing] {
        let is_done = after.is_some_and(|after| queue < after.queue);
        if is_done || which.queue.is_some_and(|wanted| wanted != queue) {
            continue;
        }
        let mut place = after.filter(|after| after.queue == queue).map_or((-1, Id(0)), |of| (of.lane, of.id));
        loop {
            let page = page(office, queue, place, PAGE).await?;
            let is_last = page.len() < PAGE;
            looked_at += page.len();
            for entry in page {
                let is_wanted = which.has(queue, &entry);
                if is_wanted && rows.len() == limit {
                    return Ok((rows, Some(Place { queue, lane: place.0, id: place.1 })));
                }
                place = (entry.lane, entry.id);
                if is_wanted {
                    rows.push(row(queue, entry));
                }
            }
            if is_last {
                break;
            }
            if looked_at >= MAX_LISTED {
                return Ok((rows, Some(Place { queue, lane: place.0, id: place.1 })));
            }
        }
    }
    Ok((rows, None))
}

async fn page(
    office: &Office,
    queue: QueueName,
    after: (i64, Id),
    limit: usize,
) -> Result<Vec<QueueEntry>, AdminError> {
    let mut snapshot = office.store.read().await?;
    Ok(match queue {
        QueueName::Incoming => cluster::incoming_list(&mut snapshot, after, limit).await?,
        QueueName::Outgoing => cluster::outgoing_list(&mut snapshot, after, limit).await?,
    })
}

fn row(queue: QueueName, entry: QueueEntry) -> QueueRow {
    let state = match (entry.is_held, entry.is_leased) {
        (true, _) if entry.last_error.starts_with(claim::HELD) => "held",
        (true, _) => "failed",
        (false, true) => "claimed",
        (false, false) => "waiting",
    };
    QueueRow {
        id: entry.id.to_string(),
        message: entry.message,
        queue,
        state: state.to_owned(),
        destination: entry.destination,
        sender: entry.sender,
        recipients: entry.recipients,
        size: u64::try_from(entry.size).unwrap_or(0),
        attempts: u64::try_from(entry.tries).unwrap_or(0),
        created_at: utc_date(entry.created_at),
        due_at: (!entry.is_held && !entry.is_leased).then(|| utc_date(entry.due)),
        reason: (!entry.last_error.is_empty()).then_some(entry.last_error),
    }
}

/// The queue and entry of an id: that of the entry, or that of its message when it is the only one of
/// it that is left.
async fn find(office: &Office, text: &str) -> Result<(QueueName, QueueEntry), AdminError> {
    let none = || AdminError::not_found(format!("{text} is in no queue")).see("postrider queue list");
    let id: Id = text.parse().map_err(|_| none())?;
    let mut snapshot = office.store.read().await?;
    if let Some(entry) = cluster::incoming_entry(&mut snapshot, id).await? {
        return Ok((QueueName::Incoming, entry));
    }
    if let Some(entry) = cluster::outgoing_entry(&mut snapshot, id).await? {
        return Ok((QueueName::Outgoing, entry));
    }
    std::mem::drop(snapshot);
    let mut found = of_message(office, text).await?;
    match (found.pop(), found.is_empty()) {
        (None, _) => Err(none()),
        (Some(only), true) => Ok(only),
        (Some((_, last)), false) => {
            let ids = found.iter().map(|(_, entry)| entry.id.to_string());
            let ids: Vec<String> = ids.chain([last.id.to_string()]).collect();
            Err(AdminError::conflict(format!("{text} is a message with several entries: {}", ids.join(", "))))
        }
    }
}

/// The entries of a message, found by looking at all.
async fn of_message(office: &Office, message: &str) -> Result<Vec<(QueueName, QueueEntry)>, AdminError> {
    let mut found = Vec::new();
    for queue in [QueueName::Incoming, QueueName::Outgoing] {
        let mut after = (-1, Id(0));
        loop {
            let page = page(office, queue, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = (last.lane, last.id);
            found.extend(
                page.into_iter().filter(|entry| entry.message == message).map(|entry| (queue, entry)),
            );
        }
    }
    Ok(found)
}

pub async fn show(office: &Office, text: &str) -> Result<QueueItem, AdminError> {
    let (queue, entry) = find(office, text).await?;
    let content = match (queue, entry.account) {
        (QueueName::Outgoing, Some(account)) => office.blobs.read(account, &entry.body_hash).await?,
        _ => match incoming::body_of(&mut *office.store.read().await?, entry.lane, entry.id).await? {
            Some(body) => Some(body),
            None => Some(office.blobs.read_unchecked(&entry.body_hash).await?),
        },
    };
    let content = content.unwrap_or_default();
    let shown = content.get(..MAX_HEADER_SHOWN).unwrap_or(&content);
    let end = shown.windows(4).position(|octets| octets == b"\r\n\r\n").unwrap_or(shown.len());
    let headers = String::from_utf8_lossy(shown.get(..end).unwrap_or_default()).replace("\r\n", "\n");
    Ok(QueueItem { row: row(queue, entry), headers })
}

pub async fn retry(office: &Office, text: &str) -> Result<String, AdminError> {
    let subject = About::server(text);
    let act = async {
        let (queue, entry) = find(office, text).await?;
        if claim::release(&office.store, of_name(queue), entry.lane, entry.id).await? {
            return Ok(format!("{text} is tried now"));
        }
        Err(AdminError::conflict(format!("{text} is being tried at this moment, or is done")))
    };
    office.audited("retry queued mail", subject, act).await
}

pub async fn drop(office: &Office, text: &str) -> Result<String, AdminError> {
    let subject = About::server(text);
    let act = async {
        let (queue, entry) = find(office, text).await?;
        let is_gone = match queue {
            // A staged object has no reference left and goes with the next sweep.
            QueueName::Incoming => {
                let discarded = incoming::discard(&office.store, entry.lane, entry.id).await?;
                discarded != incoming::Discarded::NotFound
            }
            QueueName::Outgoing => outgoing::discard(&office.store, entry.lane, entry.id).await?,
        };
        if is_gone {
            return Ok(format!("{text} is dropped"));
        }
        Err(AdminError::conflict(format!("{text} is done already")))
    };
    office.audited("drop queued mail", subject, act).await
}

/// Sets a row aside until somebody retries or drops it.
pub async fn hold(office: &Office, text: &str) -> Result<String, AdminError> {
    let act = async {
        let (queue, entry) = find(office, text).await?;
        if claim::set_aside(&office.store, of_name(queue), entry.lane, entry.id).await? {
            return Ok(format!("{text} is held; `postrider queue retry` lets it go on"));
        }
        Err(AdminError::conflict(format!("{text} is being tried at this moment, or is done")))
    };
    office.audited("hold queued mail", About::server(text), act).await
}

/// What is done to many rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bulk {
    /// They are tried now.
    Retry,
    /// They are set aside.
    Hold,
    /// They are removed.
    Drop,
}

/// Which rows.
#[derive(Clone, Debug, Default)]
pub struct Which {
    /// Those of this queue.
    pub queue: Option<QueueName>,
    /// Those that were set aside.
    pub failed_only: bool,
    /// Those to be sent to this domain.
    pub destination: Option<String>,
    /// Those whose last error contains this text.
    pub reason: Option<String>,
}

/// Does something to all outgoing rows to a destination, or with a reason; to how many it did.
pub async fn all_of(office: &Office, bulk: Bulk, which: Which) -> Result<u64, AdminError> {
    let name = match bulk {
        Bulk::Retry => "retry queued mail",
        Bulk::Hold => "hold queued mail",
        Bulk::Drop => "drop queued mail",
    };
    let said = [("to", &which.destination), ("because of", &which.reason)];
    let said = said.iter().filter_map(|(word, text)| Some(format!("{word} {}", text.as_ref()?)));
    let subject = About::server(&format!("all {}", said.collect::<Vec<_>>().join(" ")));
    let act = async {
        let (mut count, mut after) = (0, (-1, Id(0)));
        loop {
            let page = page(office, QueueName::Outgoing, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(count) };
            after = (last.lane, last.id);
            for entry in page.iter().filter(|entry| which.has(QueueName::Outgoing, entry)) {
                let store = &office.store;
                let is_done = match bulk {
                    Bulk::Retry => claim::release(store, Queue::Outgoing, entry.lane, entry.id).await?,
                    Bulk::Hold => claim::set_aside(store, Queue::Outgoing, entry.lane, entry.id).await?,
                    Bulk::Drop => {
                        outgoing::discard_waiting(store, entry.lane, entry.id, &entry.last_error).await?
                    }
                };
                count += u64::from(is_done);
            }
        }
    };
    office.audited_as(name, subject, act, |count| format!("done to {count}")).await
}

impl Which {
    fn has(&self, queue: QueueName, entry: &QueueEntry) -> bool {
        let is_to = |domain: &String| {
            entry.destination.as_ref().is_some_and(|destination| destination.eq_ignore_ascii_case(domain))
        };
        self.queue.is_none_or(|wanted| wanted == queue)
            && (entry.is_held || !self.failed_only)
            && self.destination.as_ref().is_none_or(is_to)
            && self.reason.as_ref().is_none_or(|reason| entry.last_error.contains(reason))
    }
}

fn of_name(queue: QueueName) -> Queue {
    match queue {
        QueueName::Incoming => Queue::Incoming,
        QueueName::Outgoing => Queue::Outgoing,
    }
}
