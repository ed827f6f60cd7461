//! The log of administrative acts: who did what to what, and what came of it. An act is entered before it is
//! begun, so that none is missing whatever happens meanwhile.

use crate::admin::Office;
use crate::admin::request::{AdminError, AuditRow};
use crate::store::audit::{self, Entry, Page};
use crate::types::address::normalize_domain;
use crate::types::date::utc_date;
use crate::types::id::Id;

/// Entries that a listing shows at most.
const MAX_LISTED: usize = 1_000;
/// Characters that are kept of what an act was about, and of why it was refused.
const MAX_TEXT: usize = 500;

/// What an act is about.
#[derive(Clone, Debug)]
pub struct About {
    /// Empty for the server.
    domain: String,
    object: String,
}

impl About {
    /// A domain.
    pub fn domain(name: &str) -> About {
        About { domain: normalize_domain(name).unwrap_or_default(), object: name.to_owned() }
    }

    /// An address: an account, a login, an alias.
    pub fn address(text: &str) -> About {
        let domain = text.rsplit_once('@').and_then(|(_, domain)| normalize_domain(domain));
        About { domain: domain.unwrap_or_default(), object: text.to_owned() }
    }

    /// Something of the server.
    pub fn server(text: &str) -> About {
        About { domain: String::new(), object: text.to_owned() }
    }

    /// And something beside it.
    pub fn with(mut self, more: &str) -> About {
        if !more.is_empty() {
            self.object = format!("{} ({more})", self.object);
        }
        self
    }
}

impl Office {
    /// Enters an act, carries it out, and enters what came of it.
    pub(in crate::admin) async fn audited<T>(
        &self,
        act: &'static str,
        about: About,
        carry_out: impl Future<Output = Result<T, AdminError>>,
    ) -> Result<T, AdminError> {
        self.audited_as(act, about, carry_out, |_| "done".to_owned()).await
    }

    /// The same, with what is entered when it was carried out.
    pub(in crate::admin) async fn audited_as<T>(
        &self,
        act: &'static str,
        about: About,
        carry_out: impl Future<Output = Result<T, AdminError>>,
        tell: impl Fn(&T) -> String,
    ) -> Result<T, AdminError> {
        let About { domain, object } = about;
        let cut = |text: &str| -> String { text.chars().filter(|c| *c != '\0').take(MAX_TEXT).collect() };
        let new = Entry {
            id: self.store.ids().make(),
            created_at: self.store.clock().now_ms(),
            domain: domain.clone(),
            actor: self.actor.to_string(),
            act: act.to_owned(),
            object: cut(&object),
            outcome: "begun".to_owned(),
        };
        let id = new.id;
        audit::begin(&self.store, new).await?;
        let outcome = carry_out.await;
        let told = match &outcome {
            Ok(done) => tell(done),
            Err(error) => cut(&error.message),
        };
        tracing::info!(actor = &*self.actor, act, object, outcome = told, "an administrative act");
        if let Err(error) = audit::end(&self.store, domain, id, told).await {
            tracing::warn!(%error, "the outcome of an act is missing from the audit log");
        }
        outcome
    }
}

/// Entries about a domain, or all, the newest first, from before one on; and where to go on, if there is more.
pub async fn list(
    office: &Office,
    domain: Option<String>,
    before: Option<Id>,
    limit: usize,
) -> Result<(Vec<AuditRow>, Option<String>), AdminError> {
    let limit = limit.clamp(1, MAX_LISTED);
    let mut snapshot = office.store.read().await?;
    let page = Page { before: before.unwrap_or(Id(i64::MAX)), limit: limit + 1 };
    let mut found = match domain {
        Some(domain) => {
            let name = normalize_domain(&domain)
                .ok_or_else(|| AdminError::invalid(format!("{domain:?} is no domain name")))?;
            audit::of_domain(&mut snapshot, &name, page).await?
        }
        None => audit::all(&mut snapshot, page).await?,
    };
    let has_more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| has_more).map(|entry| entry.id.to_string());
    let row = |entry: Entry| AuditRow {
        id: entry.id.to_string(),
        at: utc_date(entry.created_at),
        actor: entry.actor,
        act: entry.act,
        object: entry.object,
        domain: entry.domain,
        outcome: entry.outcome,
    };
    Ok((found.into_iter().map(row).collect(), next))
}
