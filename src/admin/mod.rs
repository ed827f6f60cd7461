//! Carries administrative requests out, in the process that owns the data folder.

pub mod access;
pub mod account;
pub mod alias;
pub mod audit;
pub mod domain;
pub mod import;
pub mod index;
pub mod queue;
pub mod request;
pub mod token;

use std::sync::Arc;

use crate::admin::request::{AdminError, AdminRequest, AdminResponse, Quota, Refusal};
use crate::blob::{BlobError, Blobs};
use crate::config::Config;
use crate::dns::Dns;
use crate::store::Store;
use crate::store::db::Conn;
use crate::store::directory::login::{self, Login};
use crate::store::directory::{DirectoryError, address};
use crate::store::error::StoreError;
use crate::types::address::Address;
use crate::types::id::AccountId;

/// Rows that one statement of a listing reads.
const PAGE: usize = 1_000;

/// What administrative acts need of a server. Cheap to clone.
#[derive(Clone)]
pub struct Office {
    store: Store,
    blobs: Blobs,
    hostname: String,
    public_url: Option<String>,
    /// Octets; `None` is no limit.
    default_quota: Option<u64>,
    /// Who acts, for the audit log.
    actor: Arc<str>,
    /// Asked for the records of domains; absent where there is none.
    dns: Option<Dns>,
}

impl Office {
    /// Over the store and the blobs of a server.
    pub fn new(store: Store, blobs: Blobs, config: &Config) -> Office {
        Office {
            store,
            blobs,
            hostname: config.hostname.clone(),
            public_url: config.public_url.clone(),
            default_quota: config.default_quota,
            actor: "command line".into(),
            dns: None,
        }
    }

    /// The same, which can ask the DNS.
    pub fn with_dns(self, dns: Dns) -> Office {
        Office { dns: Some(dns), ..self }
    }

    /// The same, for somebody else who acts.
    pub fn of_actor(&self, actor: &str) -> Office {
        Office { actor: actor.into(), ..self.clone() }
    }

    /// Carries a request out.
    pub async fn answer(&self, request: AdminRequest) -> Result<AdminResponse, AdminError> {
        match request {
            AdminRequest::DomainAdd { domain, postmaster, catch_all } => {
                domain::add(self, domain, postmaster, catch_all).await.map(AdminResponse::DomainAdded)
            }
            AdminRequest::DomainList => domain::list(self).await.map(AdminResponse::Domains),
            AdminRequest::DomainShow { domain } => {
                domain::show(self, domain).await.map(AdminResponse::DomainAdded)
            }
            AdminRequest::DomainCheck { domain } => {
                domain::check(self, domain).await.map(AdminResponse::DomainChecked)
            }
            AdminRequest::DomainSet { domain, postmaster, catch_all } => {
                let catch_all = catch_all.map(|account| (account != "none").then_some(account));
                domain::set(self, domain, postmaster, catch_all).await.map(AdminResponse::Done)
            }
            AdminRequest::DomainRemove { domain } => {
                domain::remove(self, domain).await.map(AdminResponse::Done)
            }
            AdminRequest::AccountAdd { address, password, quota } => {
                account::add(self, &address, password, quota).await.map(AdminResponse::Done)
            }
            AdminRequest::AccountList => account::list(self).await.map(AdminResponse::Accounts),
            AdminRequest::AccountRemove { address } => {
                account::remove(self, &address).await.map(AdminResponse::Done)
            }
            AdminRequest::AccountPassword { address, password } => {
                account::set_password(self, &address, password).await.map(AdminResponse::Done)
            }
            AdminRequest::AccountQuota { address, quota } => {
                account::set_quota(self, &address, quota).await.map(AdminResponse::Done)
            }
            AdminRequest::AliasAdd { alias, accounts } => {
                alias::add(self, &alias, &accounts).await.map(AdminResponse::Done)
            }
            AdminRequest::AliasList => alias::list(self).await.map(AdminResponse::Aliases),
            AdminRequest::AliasRemove { alias, accounts } => {
                alias::remove(self, &alias, &accounts).await.map(AdminResponse::Done)
            }
            AdminRequest::AccessGrant { login, account, read_only } => {
                access::grant(self, &login, &account, read_only).await.map(AdminResponse::Done)
            }
            AdminRequest::AccessList => access::list(self).await.map(AdminResponse::Accesses),
            AdminRequest::AccessRevoke { login, account } => {
                access::revoke(self, &login, &account).await.map(AdminResponse::Done)
            }
            AdminRequest::TokenAdd { login, name, lifetime_ms, scopes, account, domain } => {
                let wanted = token::Wanted { name, lifetime_ms, scopes, account, domain };
                token::add(self, &login, wanted).await.map(AdminResponse::TokenAdded)
            }
            AdminRequest::TokenList { login } => {
                token::list(self, login.as_deref()).await.map(AdminResponse::Tokens)
            }
            AdminRequest::TokenRevoke { id } => token::revoke(self, &id).await.map(AdminResponse::Done),
            AdminRequest::QueueList { queue, failed_only } => {
                queue::list(self, queue, failed_only).await.map(AdminResponse::Queue)
            }
            AdminRequest::QueueShow { id } => {
                queue::show(self, &id).await.map(|item| AdminResponse::QueueItem(Box::new(item)))
            }
            AdminRequest::QueueRetry { id } => queue::retry(self, &id).await.map(AdminResponse::Done),
            AdminRequest::QueueDrop { id } => queue::drop(self, &id).await.map(AdminResponse::Done),
            AdminRequest::QueueHold { id } => queue::hold(self, &id).await.map(AdminResponse::Done),
            AdminRequest::AuditList { domain, limit, before } => {
                let before = before.map(|id| id.parse()).transpose();
                let before =
                    before.map_err(|_| AdminError::invalid("before: the id of an entry is wanted"))?;
                audit::list(self, domain, before, limit).await.map(|(rows, _)| AdminResponse::Audit(rows))
            }
            AdminRequest::IndexQueue { account, after } => {
                index::queue(self, &account, after).await.map(AdminResponse::IndexQueued)
            }
            AdminRequest::IndexWaiting { account } => {
                index::waiting(self, &account).await.map(AdminResponse::IndexWaiting)
            }
            AdminRequest::ImportKnown { account, keys } => {
                import::known(self, &account, keys).await.map(AdminResponse::Known)
            }
            AdminRequest::Import { account, messages, begins } => {
                import::file(self, &account, messages, begins).await.map(AdminResponse::Imported)
            }
        }
    }

    /// A quota as the store has it: 0 is no limit.
    fn quota_bytes(&self, quota: Option<Quota>) -> i64 {
        let octets = match quota {
            Some(Quota::Unlimited) => None,
            Some(Quota::Octets(octets)) => Some(octets),
            None => self.default_quota,
        };
        octets.map_or(0, |octets| i64::try_from(octets).unwrap_or(i64::MAX))
    }
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> AdminError {
        let refusal = if error.is_temporary() { Refusal::Unavailable } else { Refusal::Failed };
        AdminError::new(refusal, format!("the store failed: {error}"))
    }
}

impl From<DirectoryError> for AdminError {
    fn from(error: DirectoryError) -> AdminError {
        let refusal = match &error {
            DirectoryError::NotADomain | DirectoryError::AddressNeedsQuotes => Refusal::Invalid,
            DirectoryError::DomainExists
            | DirectoryError::DomainHasAddresses
            | DirectoryError::AddressTaken
            | DirectoryError::OwnAccount => Refusal::Conflict,
            DirectoryError::NoSuchDomain
            | DirectoryError::NoSuchAlias
            | DirectoryError::NoSuchAccount
            | DirectoryError::NoSuchLogin
            | DirectoryError::NoSuchToken
            | DirectoryError::NoSuchAccess => Refusal::NotFound,
            DirectoryError::Store(error) if error.is_temporary() => Refusal::Unavailable,
            DirectoryError::Store(_) => Refusal::Failed,
        };
        AdminError::new(refusal, error.to_string())
    }
}

impl From<BlobError> for AdminError {
    fn from(error: BlobError) -> AdminError {
        let refusal = if error.is_temporary() { Refusal::Unavailable } else { Refusal::Failed };
        AdminError::new(refusal, format!("the folder of messages failed: {error}"))
    }
}

/// An error that says whose it is.
fn about(what: &str) -> impl Fn(DirectoryError) -> AdminError {
    move |error| {
        let mut error = AdminError::from(error);
        error.message = format!("{what}: {}", error.message);
        error
    }
}

fn parse_address(text: &str) -> Result<Address, AdminError> {
    Address::parse(text).map_err(|error| AdminError::invalid(format!("{text}: {error}")))
}

/// The account of a primary address.
async fn account_of(conn: &mut Conn, text: &str) -> Result<AccountId, AdminError> {
    let found = address::account_by_primary(conn, &parse_address(text)?).await?;
    found.ok_or_else(|| {
        AdminError::not_found(format!("there is no account {text}")).see("postrider account list")
    })
}

/// The login of an address.
async fn login_of(conn: &mut Conn, text: &str) -> Result<Login, AdminError> {
    let found = login::by_name(conn, &parse_address(text)?.to_string()).await?;
    found.ok_or_else(|| {
        AdminError::not_found(format!("there is no login {text}")).see("postrider account list")
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::admin::request::DomainAdded;
    use crate::config::settings::Settings;
    use crate::store::testing::store_in;
    use crate::types::clock::Clock;
    use crate::types::secret::Secret;

    /// A store with the domain example.test and the account alice@example.test.
    pub struct Fixture {
        _folder: tempfile::TempDir,
        pub clock: Clock,
        pub store: Store,
        pub office: Office,
        pub account: AccountId,
    }

    impl Fixture {
        pub async fn new() -> Fixture {
            let folder = tempfile::tempdir().unwrap();
            let clock = Clock::fixed(1_767_225_600_000);
            let store = store_in(folder.path(), clock.clone());
            let blobs = crate::blob::testing::blobs_in(folder.path(), store.clone());
            let vars = [("POSTRIDER_HOSTNAME".into(), "mail.example.test".into())];
            let config = Config::from_settings(&Settings::gather(None, vars.into_iter()).unwrap()).unwrap();
            let office = Office::new(store.clone(), blobs, &config);
            // Keys of RSA take seconds to make in a debug build: the domain gets none.
            let domain = crate::store::directory::domain::NewDomain {
                name: "example.test".into(),
                dkim_keys: "[]".into(),
            };
            crate::store::directory::domain::add(&store, domain).await.unwrap();
            let address = "alice@example.test".to_owned();
            let password = Secret::new("secret");
            office
                .answer(AdminRequest::AccountAdd { address: address.clone(), password, quota: None })
                .await
                .unwrap();
            let account = account_of(&mut store.read().await.unwrap(), &address).await.unwrap();
            Fixture { _folder: folder, clock, store, office, account }
        }

        async fn ask(&self, request: AdminRequest) -> AdminResponse {
            self.office.answer(request).await.unwrap()
        }

        async fn refused(&self, request: AdminRequest) -> String {
            self.office.answer(request).await.expect_err("refused").message
        }
    }

    #[tokio::test]
    async fn a_domain_has_two_keys_and_its_records() {
        let fixture = Fixture::new().await;
        let request =
            AdminRequest::DomainAdd { domain: "other.test".into(), postmaster: None, catch_all: None };
        let AdminResponse::DomainAdded(DomainAdded { records, .. }) = fixture.ask(request.clone()).await
        else {
            panic!("no records")
        };
        let values: Vec<_> =
            records.iter().map(|record| (record.r#type.as_str(), record.value.as_str())).collect();
        assert!(values.contains(&("MX", "10 mail.example.test.")), "{values:?}");
        let keys = values.iter().filter(|(_, value)| value.starts_with("v=DKIM1; k=")).count();
        assert_eq!(keys, 2, "{values:?}");
        assert!(fixture.refused(request).await.contains("there already"));
        let none = AdminRequest::DomainAdd {
            domain: "third.test".into(),
            postmaster: Some("nobody@example.test".into()),
            catch_all: None,
        };
        assert!(fixture.refused(none).await.contains("no account nobody@example.test"));
        let AdminResponse::Domains(rows) = fixture.ask(AdminRequest::DomainList).await else {
            panic!("no list")
        };
        let shown: Vec<_> = rows.iter().map(|row| (row.domain.as_str(), row.postmaster.as_deref())).collect();
        assert_eq!(shown, [("example.test", Some("alice@example.test")), ("other.test", None)]);
    }

    #[tokio::test]
    async fn accounts_aliases_and_access_are_listed() {
        let fixture = Fixture::new().await;
        let (alice, bob) = ("alice@example.test".to_owned(), "bob@example.test".to_owned());
        let add = AdminRequest::AccountAdd {
            address: bob.clone(),
            password: Secret::new("x"),
            quota: Some(Quota::Octets(5)),
        };
        fixture.ask(add.clone()).await;
        assert!(fixture.refused(add).await.contains("in use"));
        let AdminResponse::Accounts(rows) = fixture.ask(AdminRequest::AccountList).await else {
            panic!("no list")
        };
        let shown: Vec<_> = rows.iter().map(|row| (row.address.as_str(), row.quota)).collect();
        assert_eq!(shown, [("alice@example.test", None), ("bob@example.test", Some(5))]);

        let alias = "team@example.test".to_owned();
        fixture
            .ask(AdminRequest::AliasAdd { alias: alias.clone(), accounts: vec![alice.clone(), bob.clone()] })
            .await;
        let AdminResponse::Aliases(rows) = fixture.ask(AdminRequest::AliasList).await else {
            panic!("no list")
        };
        assert_eq!(rows.iter().map(|row| row.accounts.len()).collect::<Vec<_>>(), [2]);
        fixture.ask(AdminRequest::AliasRemove { alias: alias.clone(), accounts: vec![] }).await;
        assert!(
            fixture.refused(AdminRequest::AliasRemove { alias, accounts: vec![] }).await.contains("no alias")
        );

        let grant = AdminRequest::AccessGrant { login: alice.clone(), account: bob.clone(), read_only: true };
        fixture.ask(grant).await;
        let AdminResponse::Accesses(rows) = fixture.ask(AdminRequest::AccessList).await else {
            panic!("no list")
        };
        let shown: Vec<_> =
            rows.iter().map(|row| (row.login.as_str(), row.account.as_str(), row.read_only)).collect();
        assert_eq!(shown, [("alice@example.test", "bob@example.test", true)]);
        fixture.ask(AdminRequest::AccessRevoke { login: alice, account: bob.clone() }).await;
        fixture.ask(AdminRequest::AccountRemove { address: bob.clone() }).await;
        assert!(fixture.refused(AdminRequest::AccountRemove { address: bob }).await.contains("no account"));
    }

    #[tokio::test]
    async fn tokens_are_told_once_and_can_be_revoked() {
        let fixture = Fixture::new().await;
        let login = "alice@example.test".to_owned();
        let add = |scopes: &[&str], account: Option<&str>, domain: Option<&str>| AdminRequest::TokenAdd {
            login: login.clone(),
            name: "backup".into(),
            lifetime_ms: Some(1_000),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            account: account.map(str::to_owned),
            domain: domain.map(str::to_owned),
        };
        for (wrong, why) in [
            (add(&["everything"], None, None), "no scope"),
            (add(&["admin"], None, None), "domain *"),
            (add(&[], Some("nobody@example.test"), None), "no account"),
            (add(&[], Some(&login), Some("*")), "not both"),
            (add(&["send"], None, Some("elsewhere.test")), "no domain"),
        ] {
            let told = fixture.refused(wrong).await;
            assert!(told.contains(why), "{told}");
        }
        let AdminResponse::TokenAdded(added) = fixture.ask(add(&["read"], Some(&login), None)).await else {
            panic!("no token")
        };
        let AdminResponse::Tokens(rows) = fixture.ask(AdminRequest::TokenList { login: None }).await else {
            panic!("no list")
        };
        let shown: Vec<_> =
            rows.iter().map(|row| (row.id.as_str(), row.name.as_str(), row.expires_at.as_deref())).collect();
        assert_eq!(shown, [(added.id.as_str(), "backup", Some("2026-01-01T00:00:01Z"))]);
        let rights: Vec<_> = rows.iter().map(|row| (&row.scopes[..], row.account.as_deref())).collect();
        assert_eq!(rights, [(&["read".to_owned()][..], Some(login.as_str()))]);
        fixture.ask(AdminRequest::TokenRevoke { id: added.id.clone() }).await;
        assert!(fixture.refused(AdminRequest::TokenRevoke { id: added.id }).await.contains("no token"));
        assert!(
            fixture.refused(AdminRequest::TokenRevoke { id: "rubbish".into() }).await.contains("no token")
        );
    }
}
