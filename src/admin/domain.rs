//! Domains, their DKIM keys and their DNS records.

use crate::admin::audit::About;
use crate::admin::request::{AdminError, CheckedRecord, DnsRecord, DomainAdded, DomainRow, RecordState};
use crate::admin::{Office, about, account_of};
use crate::dns::{Dns, DnsError};
use crate::mail::dkim::{KeyKind, generate};
use crate::mail::dkim_keys;
use crate::store::db::Conn;
use crate::store::directory::account;
use crate::store::directory::domain::{self, Domain, NewDomain};
use crate::types::date::utc_date;
use crate::types::scope::Reach;

pub async fn add(
    office: &Office,
    name: String,
    postmaster: Option<String>,
    catch_all: Option<String>,
) -> Result<DomainAdded, AdminError> {
    let subject = About::domain(&name);
    let act = async {
        // Named accounts are looked up first, so that a typing error leaves nothing behind.
        let mut snapshot = office.store.read().await?;
        if domain::get(&mut snapshot, &name).await?.is_some() {
            return Err(AdminError::conflict(format!("{name}: the domain is there already")));
        }
        let postmaster = match postmaster {
            Some(address) => Some(account_of(&mut snapshot, &address).await?),
            None => None,
        };
        let catch_all = match catch_all {
            Some(address) => Some(account_of(&mut snapshot, &address).await?),
            None => None,
        };
        drop(snapshot);
        let day = utc_date(office.store.clock().now_ms()).get(..10).unwrap_or_default().replace('-', "");
        let keys = tokio::task::spawn_blocking(move || {
            [(KeyKind::Rsa, format!("rsa-{day}")), (KeyKind::Ed25519, format!("ed25519-{day}"))]
                .map(|(kind, selector)| generate(kind, &selector))
                .into_iter()
                .collect::<Result<Vec<_>, _>>()
        });
        let keys =
            keys.await.map_err(|error| AdminError::failed(format!("DKIM keys cannot be made: {error}")))?;
        let keys = keys.map_err(|error| AdminError::failed(format!("DKIM keys cannot be made: {error}")))?;
        let new = NewDomain { name: name.clone(), dkim_keys: dkim_keys::to_json(&keys) };
        let name = domain::add(&office.store, new).await.map_err(about(&name))?;
        if let Some(account) = postmaster {
            domain::set_postmaster(&office.store, name.clone(), account).await.map_err(about(&name))?;
        }
        if catch_all.is_some() {
            domain::set_catch_all(&office.store, name.clone(), catch_all).await.map_err(about(&name))?;
        }
        show(office, name).await
    };
    office.audited("add domain", subject, act).await
}

pub async fn show(office: &Office, name: String) -> Result<DomainAdded, AdminError> {
    let mut snapshot = office.store.read().await?;
    let found = domain::get(&mut snapshot, &name).await?;
    let Some(found) = found else {
        return Err(no_such_domain(&name));
    };
    let records = records(office, &found)?;
    Ok(DomainAdded { domain: found.name, records })
}

pub async fn list(office: &Office) -> Result<Vec<DomainRow>, AdminError> {
    let mut snapshot = office.store.read().await?;
    let domains = domain::list(&mut snapshot).await?;
    rows(&mut snapshot, domains).await
}

/// Domains within a reach, by name, after one; and the last one when there are more.
pub async fn list_page(
    office: &Office,
    reach: &Reach,
    after: Option<&str>,
    limit: usize,
) -> Result<(Vec<DomainRow>, Option<String>), AdminError> {
    let mut snapshot = office.store.read().await?;
    let mut domains = match reach {
        Reach::All => domain::page(&mut snapshot, after.unwrap_or_default(), limit + 1).await?,
        Reach::Domain(name) => domain::by_names(&mut snapshot, vec![name.clone()]).await?,
        Reach::Login | Reach::Account(_) => Vec::new(),
    };
    let has_more = domains.len() > limit;
    domains.truncate(limit);
    let last = domains.last().map(|domain| domain.name.clone()).filter(|_| has_more);
    Ok((rows(&mut snapshot, domains).await?, last))
}

/// One domain.
pub async fn get(office: &Office, name: &str) -> Result<DomainRow, AdminError> {
    let mut snapshot = office.store.read().await?;
    let found = domain::by_names(&mut snapshot, vec![name.to_owned()]).await?;
    rows(&mut snapshot, found).await?.pop().ok_or_else(|| no_such_domain(name))
}

async fn rows(snapshot: &mut Conn, domains: Vec<Domain>) -> Result<Vec<DomainRow>, AdminError> {
    let ids: Vec<_> =
        domains.iter().flat_map(|domain| [domain.postmaster, domain.catch_all]).flatten().collect();
    let names = account::names(snapshot, &ids).await?;
    let rows = domains
        .into_iter()
        .map(|domain| DomainRow {
            postmaster: domain.postmaster.and_then(|id| names.get(&id).cloned()),
            catch_all: domain.catch_all.and_then(|id| names.get(&id).cloned()),
            created_at: utc_date(domain.created_at),
            domain: domain.name,
        })
        .collect();
    Ok(rows)
}

pub async fn set(
    office: &Office,
    name: String,
    postmaster: Option<String>,
    catch_all: Option<Option<String>>,
) -> Result<String, AdminError> {
    let nobody = || "nobody".to_owned();
    let changes = [
        ("postmaster", postmaster.clone()),
        ("catch-all", catch_all.clone().map(|to| to.unwrap_or_else(nobody))),
    ];
    let changes = changes.into_iter().filter_map(|(what, to)| Some(format!("{what} {}", to?)));
    let subject = About::domain(&name).with(&changes.collect::<Vec<_>>().join(", "));
    let act = async {
        let mut snapshot = office.store.read().await?;
        if domain::get(&mut snapshot, &name).await?.is_none() {
            return Err(no_such_domain(&name));
        }
        let postmaster = match postmaster {
            Some(address) => Some(account_of(&mut snapshot, &address).await?),
            None => None,
        };
        let catch_all = match catch_all {
            Some(Some(address)) => Some(Some(account_of(&mut snapshot, &address).await?)),
            Some(None) => Some(None),
            None => None,
        };
        drop(snapshot);
        if let Some(account) = postmaster {
            domain::set_postmaster(&office.store, name.clone(), account).await.map_err(about(&name))?;
        }
        if let Some(account) = catch_all {
            domain::set_catch_all(&office.store, name.clone(), account).await.map_err(about(&name))?;
        }
        Ok(format!("{name} is changed; `postrider domain list` shows it"))
    };
    office.audited("change domain", subject, act).await
}

/// The error of a domain that is none of this server.
pub fn no_such_domain(name: &str) -> AdminError {
    AdminError::not_found(format!("there is no domain {name}")).see("postrider domain list")
}

pub async fn remove(office: &Office, name: String) -> Result<String, AdminError> {
    let subject = About::domain(&name);
    let act = async {
        if domain::get(&mut *office.store.read().await?, &name).await?.is_none() {
            return Err(no_such_domain(&name));
        }
        domain::remove(&office.store, name.clone()).await.map_err(about(&name))?;
        Ok(format!("{name} is no longer a domain of this server"))
    };
    office.audited("remove domain", subject, act).await
}

/// What the DNS of a domain must say, and what it says.
pub async fn check(office: &Office, name: String) -> Result<Vec<CheckedRecord>, AdminError> {
    let Some(dns) = &office.dns else {
        return Err(AdminError::failed("no DNS server is known here; set `dns` to one"));
    };
    let records = show(office, name).await?.records;
    let checks = records.into_iter().map(|record| check_record(dns, record));
    Ok(futures_util::future::join_all(checks).await)
}

async fn check_record(dns: &Dns, record: DnsRecord) -> CheckedRecord {
    let asked = match record.r#type.as_str() {
        "MX" => dns.mail_hosts(&record.name).await,
        "TXT" => dns.txt(&record.name).await,
        _ => dns.services(&record.name).await,
    };
    let (mut found, is_unknown) = match asked {
        Ok(found) => (found, false),
        Err(DnsError::NotFound) => (Vec::new(), false),
        Err(DnsError::Temporary(_)) => (Vec::new(), true),
    };
    // Other texts stand beside an SPF record; the beginning says what a text is for.
    if record.r#type == "TXT" {
        let kind = record.value.split([';', ' ']).next().unwrap_or_default().to_ascii_lowercase();
        found.retain(|text| text.to_ascii_lowercase().starts_with(&kind));
    }
    let plain = |text: &str| -> String {
        text.chars()
            .filter(|c| !c.is_whitespace())
            .collect::<String>()
            .trim_end_matches(['.', ';'])
            .to_owned()
    };
    let wanted = plain(&record.value);
    let state = if found.iter().any(|text| plain(text).eq_ignore_ascii_case(&wanted)) {
        RecordState::Set
    } else if is_unknown {
        RecordState::Unknown
    } else if found.is_empty() {
        RecordState::Missing
    } else {
        RecordState::Differs
    };
    CheckedRecord { record, state, found }
}

/// What the DNS of a domain must say, so that mail comes in and goes out well.
fn records(office: &Office, domain: &Domain) -> Result<Vec<DnsRecord>, AdminError> {
    let name = &domain.name;
    let host = &office.hostname;
    let record =
        |name: String, r#type: &str, value: String| DnsRecord { name, r#type: r#type.to_owned(), value };
    let mut records = vec![
        record(name.clone(), "MX", format!("10 {host}.")),
        // RFC 7208, 3: who may send for the domain.
        record(name.clone(), "TXT", "v=spf1 mx -all".to_owned()),
    ];
    let keys = dkim_keys::from_json(&domain.dkim_keys)
        .map_err(|error| AdminError::failed(format!("{name}: {error}")))?;
    for key in keys {
        records.push(record(format!("{}._domainkey.{name}", key.selector), "TXT", key.txt_record));
    }
    // RFC 7489, 6.3.
    let policy = format!("v=DMARC1; p=quarantine; rua=mailto:postmaster@{name}");
    records.push(record(format!("_dmarc.{name}"), "TXT", policy));
    // RFC 8620, 2.2: how clients find the server.
    if let Some(authority) = office.public_url.as_deref().and_then(|url| url.strip_prefix("https://")) {
        let authority = authority.split('/').next().unwrap_or_default();
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "443"));
        records.push(record(format!("_jmap._tcp.{name}"), "SRV", format!("0 1 {port} {host}.")));
    }
    Ok(records)
}
