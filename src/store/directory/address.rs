//! Where the mail for an address goes, and the addresses of an account.
//!
//! An address is kept in its key form (`Address::to_string`). An account has one primary address,
//! which is its name, and any number of aliases; an alias may name several accounts. Each address of
//! an account has an Identity (RFC 8621, 6) with `is_own_address`, made and destroyed with it.

use std::collections::{BTreeSet, HashMap};

use crate::store::Store;
use crate::store::db::{Conn, sql};
use crate::store::directory::{DirectoryError, domain};
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::types::address::Address;
use crate::types::id::{AccountId, Id};
use crate::types::object_type::ObjectType;

/// An account that gets mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolvedAccount {
    /// The account.
    pub account: AccountId,
    /// Bytes that it may keep; 0 is without limit.
    pub quota_bytes: i64,
    /// Bytes that it keeps.
    pub used_bytes: i64,
}

/// Where the mail for an address goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// To these accounts, at least one.
    Accounts(Vec<ResolvedAccount>),
    /// The domain is ours, the user is nobody.
    UnknownUser,
    /// The domain is not ours.
    NotLocal,
}

/// Where the mail for an address goes: to those who have it, else those who have it without its tag,
/// else the postmaster (RFC 5321, 4.5.1: never refused) or the catch-all of its domain.
pub async fn resolve(conn: &mut Conn, address: &Address) -> Result<Resolved, StoreError> {
    let mut accounts = accounts_of(conn, &address.to_string()).await?;
    if accounts.is_empty()
        && let Some(untagged) = address.without_tag()
    {
        accounts = accounts_of(conn, &untagged.to_string()).await?;
    }
    if accounts.is_empty() {
        let Some(domain) = domain::get(conn, address.domain()).await? else {
            return Ok(Resolved::NotLocal);
        };
        accounts.extend(fallback(address, &domain));
    }
    let accounts = quotas_of(conn, &accounts).await?;
    Ok(if accounts.is_empty() { Resolved::UnknownUser } else { Resolved::Accounts(accounts) })
}

/// `resolve` for many addresses, each looked up once; one answer for each, in order.
pub async fn resolve_many(conn: &mut Conn, addresses: &[Address]) -> Result<Vec<Resolved>, StoreError> {
    let mut keys = BTreeSet::new();
    let mut domains = BTreeSet::new();
    for address in addresses {
        keys.insert(address.to_string());
        keys.extend(address.without_tag().map(|untagged| untagged.to_string()));
        domains.insert(address.domain().to_owned());
    }
    let mut by_key: HashMap<String, Vec<AccountId>> = HashMap::new();
    for key in keys {
        let accounts = accounts_of(conn, &key).await?;
        if !accounts.is_empty() {
            by_key.insert(key, accounts);
        }
    }
    let domains: HashMap<String, domain::Domain> = domain::by_names(conn, domains.into_iter().collect())
        .await?
        .into_iter()
        .map(|domain| (domain.name.clone(), domain))
        .collect();
    let wanted: Vec<Option<Vec<AccountId>>> = addresses
        .iter()
        .map(|address| {
            let domain = domains.get(address.domain())?;
            let untagged = || by_key.get(&address.without_tag()?.to_string());
            let named = by_key.get(&address.to_string()).or_else(untagged).cloned();
            Some(named.unwrap_or_else(|| fallback(address, domain).into_iter().collect()))
        })
        .collect();
    let accounts: BTreeSet<AccountId> = wanted.iter().flatten().flatten().copied().collect();
    let quotas: HashMap<AccountId, ResolvedAccount> =
        quotas_of(conn, &accounts.into_iter().collect::<Vec<_>>())
            .await?
            .into_iter()
            .map(|resolved| (resolved.account, resolved))
            .collect();
    let resolved = wanted.into_iter().map(|accounts| {
        let Some(accounts) = accounts else { return Resolved::NotLocal };
        let found: Vec<_> = accounts.iter().filter_map(|account| quotas.get(account).copied()).collect();
        if found.is_empty() { Resolved::UnknownUser } else { Resolved::Accounts(found) }
    });
    Ok(resolved.collect())
}

/// Where the mail for a bare `postmaster` goes (RFC 5321, 4.5.1): to that of the oldest domain that
/// has one.
pub async fn resolve_bare_postmaster(conn: &mut Conn) -> Result<Resolved, StoreError> {
    let account = sql("select postmaster_account_id from domain where postmaster_account_id > 0 \
                       order by created_at, name limit 1")
    .value::<AccountId>(conn)
    .await?;
    let accounts = quotas_of(conn, account.as_slice()).await?;
    Ok(if accounts.is_empty() { Resolved::UnknownUser } else { Resolved::Accounts(accounts) })
}

fn fallback(address: &Address, domain: &domain::Domain) -> Option<AccountId> {
    let postmaster = domain.postmaster.filter(|_| address.local() == "postmaster");
    postmaster.or(domain.catch_all)
}

async fn accounts_of(conn: &mut Conn, key: &str) -> Result<Vec<AccountId>, StoreError> {
    sql("select account_id from address where address = $1").bind(key).column(conn).await
}

async fn quotas_of(conn: &mut Conn, accounts: &[AccountId]) -> Result<Vec<ResolvedAccount>, StoreError> {
    let mut found = Vec::with_capacity(accounts.len());
    // One by one: each is in a shard of its own, and nearly always there is one.
    for account in accounts.iter().copied().collect::<BTreeSet<_>>() {
        let resolved =
            sql("select id, quota_bytes, used_bytes from account where id = $1 and removed_at = 0")
                .bind(account)
                .first(conn, |row| {
                    Ok(ResolvedAccount {
                        account: row.get(0)?,
                        quota_bytes: row.get(1)?,
                        used_bytes: row.get(2)?,
                    })
                })
                .await?;
        found.extend(resolved);
    }
    Ok(found)
}

/// The account whose name, that is, whose primary address this is.
pub async fn account_by_primary(conn: &mut Conn, address: &Address) -> Result<Option<AccountId>, StoreError> {
    sql("select account_id from address where address = $1 and is_primary = 1")
        .bind(address.to_string())
        .value(conn)
        .await
}

/// The addresses of an account in key form: what it may send as. They are read from its Identities,
/// which stand beside its data.
pub async fn addresses_of(conn: &mut Conn, account: AccountId) -> Result<Vec<String>, StoreError> {
    sql("select email from identity where account_id = $1 and is_own_address = 1 order by id")
        .bind(account)
        .column(conn)
        .await
}

/// The addresses, in key form, of all accounts to which a login may write, with their account.
pub async fn addresses_of_login(conn: &mut Conn, login: Id) -> Result<Vec<(AccountId, String)>, StoreError> {
    let accounts = sql("select account_id from access where login_id = $1 and is_read_only = 0")
        .bind(login)
        .column::<AccountId>(conn)
        .await?;
    let mut addresses = Vec::new();
    for account in accounts.into_iter().collect::<BTreeSet<_>>() {
        let own = addresses_of(conn, account).await?;
        addresses.extend(own.into_iter().map(|address| (account, address)));
    }
    Ok(addresses)
}

/// Whether an address can be given out: it needs no quotes, and its domain is ours.
pub(super) async fn check_new(
    conn: &mut Conn,
    address: &Address,
) -> Result<Result<(), DirectoryError>, StoreError> {
    if Address::parse(&address.to_string()).as_ref() != Ok(address) {
        return Ok(Err(DirectoryError::AddressNeedsQuotes));
    }
    Ok(match domain::get(conn, address.domain()).await? {
        Some(_) => Ok(()),
        None => Err(DirectoryError::NoSuchDomain),
    })
}

/// Gives an address to the account of the transaction, and the Identity that goes with it.
pub(super) async fn insert(tx: &mut Tx, address: &Address, is_primary: bool) -> Result<(), StoreError> {
    sql("insert into address (address, account_id, domain, is_primary, created_at) \
         values ($1, $2, $3, $4, $5)")
    .bind(address.to_string())
    .bind(tx.account())
    .bind(address.domain())
    .bind(is_primary)
    .bind(tx.now_ms())
    .run(tx)
    .await?;
    let identity = tx.new_id();
    sql("insert into identity \
         (account_id, id, name, email, text_signature, html_signature, is_own_address) \
         values ($1, $2, '', $3, '', '', 1)")
    .bind(tx.account())
    .bind(identity)
    .bind(address.to_string())
    .run(tx)
    .await?;
    tx.created(ObjectType::Identity, identity);
    Ok(())
}

/// Gives an account one address more. Another account may have it too, unless it is its name.
pub async fn alias_add(store: &Store, alias: Address, account: AccountId) -> Result<(), DirectoryError> {
    store
        .write(account, async move |tx: &mut Tx| {
            if let Err(refusal) = check_new(tx, &alias).await? {
                return Ok(Err(refusal));
            }
            let is_taken = sql("select account_id from address where address = $1 \
                                and (is_primary = 1 or account_id = $2)")
            .bind(alias.to_string())
            .bind(account)
            .value::<AccountId>(tx)
            .await?;
            if is_taken.is_some() {
                return Ok(Err(DirectoryError::AddressTaken));
            }
            insert(tx, &alias, false).await?;
            Ok(Ok(()))
        })
        .await?
}

/// Takes an alias away from an account, and its Identity.
pub async fn alias_remove(store: &Store, alias: Address, account: AccountId) -> Result<(), DirectoryError> {
    store
        .write(account, async move |tx: &mut Tx| {
            let touched =
                sql("delete from address where address = $1 and account_id = $2 and is_primary = 0")
                    .bind(alias.to_string())
                    .bind(account)
                    .run(tx)
                    .await?;
            if touched == 0 {
                return Ok(Err(DirectoryError::NoSuchAlias));
            }
            identities_remove(tx, &alias).await?;
            Ok(Ok(()))
        })
        .await?
}

/// Takes away what an account could send as with an address that it has no more: the Identity of the
/// address, and those that clients have made of it, with a tag or without.
async fn identities_remove(tx: &mut Tx, alias: &Address) -> Result<(), StoreError> {
    let account = tx.account();
    let is_alias = |email: &str| {
        let Ok(address) = Address::parse(email) else { return false };
        address == *alias || address.without_tag().as_ref() == Some(alias)
    };
    let all = sql("select id, email, is_own_address from identity where account_id = $1")
        .bind(account)
        .all(tx, |row| Ok((row.get::<Id>(0)?, row.text(1)?.to_owned(), row.get::<bool>(2)?)))
        .await?;
    let own_left: Vec<Address> = all
        .iter()
        .filter(|(_, email, is_own)| *is_own && *email != alias.to_string())
        .filter_map(|(_, email, _)| Address::parse(email).ok())
        .collect();
    // `a+b@x` may be an alias of its own, or `a@x` stay when it goes.
    let is_covered = |email: &str| {
        let address = Address::parse(email).ok();
        address.is_some_and(|address| {
            own_left.iter().any(|own| address == *own || address.without_tag().as_ref() == Some(own))
        })
    };
    let gone: Vec<Id> = all
        .iter()
        .filter(
            |(_, email, is_own)| {
                if *is_own { *email == alias.to_string() } else { is_alias(email) && !is_covered(email) }
            },
        )
        .map(|(id, ..)| *id)
        .collect();
    sql("delete from identity where account_id = $1 and id = any($2)")
        .bind(account)
        .bind(&gone)
        .run(tx)
        .await?;
    for identity in gone {
        tx.destroyed(ObjectType::Identity, identity);
    }
    Ok(())
}

/// The accounts that have this alias.
pub async fn accounts_of_alias(conn: &mut Conn, alias: &Address) -> Result<Vec<AccountId>, StoreError> {
    sql("select account_id from address where address = $1 and is_primary = 0 order by account_id")
        .bind(alias.to_string())
        .column(conn)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::change::{ChangesSince, changes_since, state_of};
    use crate::store::directory::fixture::Fixture;
    use crate::store::directory::{access, account};
    use crate::store::identity::{self, Identity};

    fn parse(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    /// Local parts of those who get the mail, or why nobody does; asked one by one and all at once.
    async fn resolved(fixture: &Fixture, asked: &[&str], names: &[(AccountId, &str)]) -> Vec<String> {
        let addresses: Vec<Address> = asked.iter().map(|text| parse(text)).collect();
        let mut snapshot = fixture.store.read().await.unwrap();
        let many = resolve_many(&mut snapshot, &addresses).await.unwrap();
        let mut shown = Vec::new();
        for (address, from_many) in addresses.iter().zip(many) {
            let alone = resolve(&mut snapshot, address).await.unwrap();
            assert_eq!(alone, from_many, "{address}");
            shown.push(match alone {
                Resolved::NotLocal => "not local".to_owned(),
                Resolved::UnknownUser => "unknown".to_owned(),
                Resolved::Accounts(accounts) => {
                    let name = |found: &ResolvedAccount| {
                        names.iter().find(|(account, _)| *account == found.account).unwrap().1
                    };
                    accounts.iter().map(name).collect::<Vec<_>>().join(" ")
                }
            });
        }
        shown
    }

    #[tokio::test]
    async fn mail_finds_its_accounts() {
        let fixture = Fixture::new().await;
        fixture.domain("other.test").await;
        let store = &fixture.store;
        let alice = fixture.account("alice@example.test").await.account;
        let bob = fixture.account("bob@example.test").await.account;
        let names = [(alice, "alice"), (bob, "bob")];
        alias_add(store, parse("team@example.test"), alice).await.unwrap();
        alias_add(store, parse("team@example.test"), bob).await.unwrap();
        alias_add(store, parse("bob+special@example.test"), alice).await.unwrap();
        let asked = [
            "ALICE@example.test",
            "alice+news@example.test",
            "bob+special@example.test",
            "bob+other@example.test",
            "team@example.test",
            "team+x@example.test",
            "postmaster@example.test",
            "nobody@example.test",
            "nobody@other.test",
            "alice@elsewhere.test",
        ];
        let expected = [
            "alice",
            "alice",
            "alice",
            "bob",
            "alice bob",
            "alice bob",
            "alice",
            "unknown",
            "unknown",
            "not local",
        ];
        assert_eq!(resolved(&fixture, &asked, &names).await, expected);

        domain::set_catch_all(store, "example.test".to_owned(), Some(bob)).await.unwrap();
        domain::set_catch_all(store, "other.test".to_owned(), Some(bob)).await.unwrap();
        let asked = ["nobody@example.test", "postmaster@example.test", "postmaster@other.test"];
        assert_eq!(resolved(&fixture, &asked, &names).await, ["bob", "alice", "bob"]);
        let mut snapshot = store.read().await.unwrap();
        let Resolved::Accounts(found) = resolve_bare_postmaster(&mut snapshot).await.unwrap() else {
            panic!("a bare postmaster is always accepted");
        };
        assert_eq!(found[0].account, alice);
    }

    #[tokio::test]
    async fn identities_follow_aliases() {
        let fixture = Fixture::new().await;
        let store = &fixture.store;
        let alice = fixture.account("alice@example.test").await;
        let alias = parse("team@example.test");
        let mut snapshot = store.read().await.unwrap();
        let before = state_of(&mut snapshot, alice.account, ObjectType::Identity).await.unwrap();
        drop(snapshot);
        alias_add(store, alias.clone(), alice.account).await.unwrap();
        let made = ["team@example.test", "Team+x@Example.test", "alice+team@example.test"];
        let unit = async move |tx: &mut Tx| {
            let mut ids = Vec::new();
            for email in made {
                let new = Identity {
                    id: Id(0),
                    name: "made".to_owned(),
                    email: email.to_owned(),
                    reply_to: None,
                    bcc: None,
                    text_signature: String::new(),
                    html_signature: String::new(),
                    is_own_address: false,
                };
                ids.push(identity::insert(tx, &new).await?);
            }
            Ok(ids)
        };
        let made = store.write(alice.account, unit).await.unwrap();
        let mut snapshot = store.read().await.unwrap();
        assert_eq!(
            addresses_of_login(&mut snapshot, alice.login).await.unwrap(),
            [
                (alice.account, "alice@example.test".to_owned()),
                (alice.account, "team@example.test".to_owned())
            ]
        );
        let ChangesSince::Known { changes, new_state, .. } =
            changes_since(&mut snapshot, alice.account, ObjectType::Identity, before, 10).await.unwrap()
        else {
            panic!("the state is known");
        };
        assert_eq!(changes.created.len(), 4);
        drop(snapshot);
        alias_remove(store, alias.clone(), alice.account).await.unwrap();
        let mut snapshot = store.read().await.unwrap();
        let since = changes_since(&mut snapshot, alice.account, ObjectType::Identity, new_state, 10).await;
        let Ok(ChangesSince::Known { changes: after, .. }) = since else { panic!("the state is known") };
        let mut destroyed = after.destroyed;
        destroyed.sort();
        let mut expected: Vec<Id> = changes.created.into_iter().filter(|id| *id != made[2]).collect();
        expected.sort();
        assert_eq!(destroyed, expected, "what was made of the alias goes with it");
        assert!(accounts_of_alias(&mut snapshot, &alias).await.unwrap().is_empty());
        drop(snapshot);
        let again = alias_remove(store, alias, alice.account).await;
        assert!(matches!(again, Err(DirectoryError::NoSuchAlias)));
        let name = alias_remove(store, parse("alice@example.test"), alice.account).await;
        assert!(matches!(name, Err(DirectoryError::NoSuchAlias)), "a name is no alias");
    }

    #[tokio::test]
    async fn a_name_is_nobody_elses_alias() {
        let fixture = Fixture::new().await;
        fixture.account("alice@example.test").await;
        let bob = fixture.account("bob@example.test").await.account;
        for (alias, refused) in [
            ("alice@example.test", "in use"),
            ("bob@example.test", "in use"),
            ("x@elsewhere.test", "not one of this server"),
        ] {
            let error = alias_add(&fixture.store, parse(alias), bob).await.unwrap_err();
            assert!(error.to_string().contains(refused), "{alias}: {error}");
        }
    }

    #[tokio::test]
    async fn a_login_sends_only_for_accounts_it_writes_to() {
        let fixture = Fixture::new().await;
        let alice = fixture.account("alice@example.test").await;
        let bob = fixture.account("bob@example.test").await.account;
        access::grant(&fixture.store, alice.login, bob, true).await.unwrap();
        account::set_quota(&fixture.store, bob, 5).await.unwrap();
        let mut snapshot = fixture.store.read().await.unwrap();
        assert_eq!(addresses_of_login(&mut snapshot, alice.login).await.unwrap().len(), 1);
        drop(snapshot);
        access::grant(&fixture.store, alice.login, bob, false).await.unwrap();
        let mut snapshot = fixture.store.read().await.unwrap();
        assert_eq!(addresses_of_login(&mut snapshot, alice.login).await.unwrap().len(), 2);
        let Resolved::Accounts(found) = resolve(&mut snapshot, &parse("bob@example.test")).await.unwrap()
        else {
            panic!("bob is there");
        };
        assert_eq!((found[0].quota_bytes, found[0].used_bytes), (5, 0));
    }
}
