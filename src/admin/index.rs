//! The full-text index: orders to make it anew.

use crate::admin::audit::About;
use crate::admin::request::{AdminError, IndexQueued};
use crate::admin::{Office, account_of};
use crate::index::rebuild::queue_page;
use crate::store::directory;
use crate::store::error::StoreError;
use crate::store::queue::index;
use crate::types::id::Id;

pub async fn queue(office: &Office, account: &str, after: Option<String>) -> Result<IndexQueued, AdminError> {
    let subject = About::address(account);
    let is_first = after.is_none();
    let act = async {
        let account = account_of(&mut *office.store.read().await?, account).await?;
        let after = match after {
            Some(after) => {
                after.parse().map_err(|_| AdminError::invalid(format!("{after} is no id of an Email")))?
            }
            None => Id::default(),
        };
        let queued = queue_page(&office.store, account, after).await?;
        let last = queued.last().map(ToString::to_string);
        Ok(IndexQueued { count: queued.len() as u64, last })
    };
    // One entry for the whole account, of which this is a page.
    if is_first { office.audited("index again", subject, act).await } else { act.await }
}

pub async fn waiting(office: &Office, account: &str) -> Result<u64, AdminError> {
    let mut snapshot = office.store.read().await?;
    let account = account_of(&mut snapshot, account).await?;
    let lane = directory::account::lane(&mut snapshot, account).await?.ok_or(StoreError::NoSuchAccount)?;
    let count = index::count(&mut snapshot, lane, account).await?;
    Ok(u64::try_from(count).unwrap_or(0))
}
