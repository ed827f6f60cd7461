//! API keys, which the code and the commands call tokens: `pr_` and 32 random bytes in base32, of which
//! the store keeps a hash only. A token stands for its login, as far as its rights go, until it expires
//! or is revoked; wherever a password is asked for, it is taken for one.

use bytes::Bytes;

use crate::bus::Event;
use crate::store::Store;
use crate::store::db::{Conn, sql};
use crate::store::directory::DirectoryError;
use crate::store::directory::access;
use crate::store::directory::login::{self, Login};
use crate::store::error::StoreError;
use crate::store::push_subscription::{self, Credential};
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::store::value::Row;
use crate::types::id::Id;
use crate::types::scope::{Reach, Rights, Scopes};

const PREFIX: &str = "pr_";
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// 32 bytes in base32 without padding.
const SECRET_CHARACTERS: usize = 52;
/// How much older than the truth `last_used_at` may be.
const LAST_USED_PRECISION_MS: i64 = 3_600_000;

/// A token as its login sees it in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: Id,
    /// What its owner calls it.
    pub name: String,
    /// In milliseconds since 1970.
    pub created_at: i64,
    /// In milliseconds since 1970; 0 when it does not expire.
    pub expires_at: i64,
    /// In milliseconds since 1970, to the hour; 0 when it was never used.
    pub last_used_at: i64,
    /// What it is good for.
    pub rights: Rights,
}

/// A token that somebody has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundToken {
    /// Its id.
    pub id: Id,
    /// Whom it stands for.
    pub login: Login,
    /// In milliseconds since 1970; 0 when it does not expire.
    pub expires_at: i64,
    /// In milliseconds since 1970, to the hour.
    pub last_used_at: i64,
    /// What it is good for.
    pub rights: Rights,
}

/// A token just made. The secret is shown once and kept nowhere.
#[derive(Clone)]
pub struct NewToken {
    /// Its id.
    pub id: Id,
    /// What the client sends after `Bearer`.
    pub secret: String,
}

fn make_secret() -> String {
    let random: [u8; 32] = rand::random();
    let mut secret = String::with_capacity(PREFIX.len() + SECRET_CHARACTERS);
    secret.push_str(PREFIX);
    let (mut held, mut bits) = (0_u32, 0);
    for byte in random {
        held = (held << 8) | u32::from(byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            secret.push(char::from(ALPHABET[(held >> bits & 31) as usize]));
        }
    }
    // 256 bits are 51 characters of five bits and one of one bit.
    secret.push(char::from(ALPHABET[(held << (5 - bits) & 31) as usize]));
    secret
}

/// The secret has 256 random bits, so that a plain hash is as good as a slow one.
fn hash_of(secret: &str) -> Bytes {
    Bytes::copy_from_slice(blake3::hash(secret.as_bytes()).as_bytes())
}

/// Whether a text has the form of a token's secret.
pub fn is_secret(text: &str) -> bool {
    text.starts_with(PREFIX) && text.len() == PREFIX.len() + SECRET_CHARACTERS
}

/// What a new token shall be.
#[derive(Clone, Debug, Default)]
pub struct TokenWanted {
    /// What its owner calls it.
    pub name: String,
    /// In milliseconds since 1970, 0 for never.
    pub expires_at: i64,
    /// What it is good for.
    pub rights: Rights,
}

/// Makes a token of a login. One account that it is for must be one that the login may use.
pub async fn add(store: &Store, login: Id, wanted: TokenWanted) -> Result<NewToken, DirectoryError> {
    let secret = make_secret();
    let secret_hash = hash_of(&secret);
    let id = store
        .write_plain(Urgency::Interactive, async move |tx: &mut Tx| {
            if login::by_id(tx, login).await?.is_none() {
                return Ok(Err(DirectoryError::NoSuchLogin));
            }
            let TokenWanted { name, expires_at, rights } = wanted;
            let (account, domain) = rights.reach.columns();
            if let Reach::Account(account) = rights.reach
                && !access::accounts_of_login(tx, login).await?.iter().any(|found| found.id == account)
            {
                return Ok(Err(DirectoryError::NoSuchAccess));
            }
            let id = tx.new_id();
            sql("insert into token (id, login_id, secret_hash, name, created_at, expires_at, scopes, \
                 account_id, domain) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)")
            .bind(id)
            .bind(login)
            .bind(secret_hash.clone())
            .bind(name)
            .bind(tx.now_ms())
            .bind(expires_at)
            .bind(rights.scopes.bits())
            .bind(account)
            .bind(domain)
            .run(tx)
            .await?;
            sql("insert into token_secret (secret_hash, login_id, token_id) values ($1, $2, $3)")
                .bind(secret_hash)
                .bind(login)
                .bind(id)
                .run(tx)
                .await?;
            tx.publish_after_commit(Event::LoginChanged { login });
            Ok(Ok(id))
        })
        .await??;
    Ok(NewToken { id, secret })
}

/// The tokens of a login, expired ones included.
pub async fn list(conn: &mut Conn, login: Id) -> Result<Vec<Token>, StoreError> {
    sql("select id, name, created_at, expires_at, last_used_at, scopes, account_id, domain from token \
         where login_id = $1 order by id")
    .bind(login)
    .all(conn, |row| {
        Ok(Token {
            id: row.get(0)?,
            name: row.get(1)?,
            created_at: row.get(2)?,
            expires_at: row.get(3)?,
            last_used_at: row.get(4)?,
            rights: rights_at(row, 5)?,
        })
    })
    .await
}

/// Rights, of three columns from one on.
pub(in crate::store) fn rights_at(row: &Row<'_>, at: usize) -> Result<Rights, StoreError> {
    Ok(Rights {
        scopes: Scopes::from_bits(row.get(at)?),
        reach: Reach::from_columns(row.get(at + 1)?, row.get(at + 2)?),
    })
}

/// The login of a token.
pub async fn owner(conn: &mut Conn, token: Id) -> Result<Option<Id>, StoreError> {
    sql("select login_id from token where id = $1").bind(token).everywhere().value(conn).await
}

/// When a token of a login expires, in milliseconds since 1970, 0 for never, and what it is good for;
/// `None` when it has expired, or is none.
pub async fn in_force(
    conn: &mut Conn,
    login: Id,
    token: Id,
    now_ms: i64,
) -> Result<Option<(i64, Rights)>, StoreError> {
    sql("select expires_at, scopes, account_id, domain from token \
         where login_id = $1 and id = $2 and (expires_at = 0 or expires_at > $3)")
    .bind(login)
    .bind(token)
    .bind(now_ms)
    .first(conn, |row| Ok((row.get(0)?, rights_at(row, 1)?)))
    .await
}

/// The tokens that are for a domain, each with its login.
pub async fn of_domain(conn: &mut Conn, domain: &str) -> Result<Vec<(Id, Id)>, StoreError> {
    sql("select login_id, id from token where domain = $1 and domain <> ''")
        .bind(domain)
        .everywhere()
        .all(conn, |row| Ok((row.get(0)?, row.get(1)?)))
        .await
}

/// Revokes a token of a login. From the commit on it counts nowhere.
pub async fn revoke(store: &Store, login: Id, token: Id) -> Result<(), DirectoryError> {
    store
        .write_plain(Urgency::Interactive, async move |tx: &mut Tx| {
            let secret = sql("delete from token where login_id = $1 and id = $2 returning secret_hash")
                .bind(login)
                .bind(token)
                .value::<Bytes>(tx)
                .await?;
            let Some(secret) = secret else { return Ok(Err(DirectoryError::NoSuchToken)) };
            sql("delete from token_secret where secret_hash = $1").bind(secret).run(tx).await?;
            push_subscription::delete_of(tx, Credential { login, token }).await?;
            // Voids the tickets that were made with it.
            sql("update login set version = version + 1 where id = $1").bind(login).run(tx).await?;
            tx.publish_after_commit(Event::LoginChanged { login });
            Ok(Ok(()))
        })
        .await?
}

/// The token of a secret, unless it has expired.
pub async fn find(conn: &mut Conn, secret: &str, now_ms: i64) -> Result<Option<FoundToken>, StoreError> {
    if !is_secret(secret) {
        return Ok(None);
    }
    let found = sql("select login_id, token_id from token_secret where secret_hash = $1")
        .bind(hash_of(secret))
        .first(conn, |row| Ok((row.get::<Id>(0)?, row.get::<Id>(1)?)))
        .await?;
    let Some((login, token)) = found else { return Ok(None) };
    sql("select t.id, l.id, l.name, l.version, t.expires_at, t.last_used_at, t.scopes, t.account_id, t.domain from token t \
         join login l on l.id = t.login_id \
         where t.login_id = $1 and t.id = $2 and (t.expires_at = 0 or t.expires_at > $3)")
    .bind(login)
    .bind(token)
    .bind(now_ms)
    .first(conn, |row| {
        Ok(FoundToken {
            id: row.get(0)?,
            login: Login { id: row.get(1)?, name: row.get(2)?, version: row.get(3)? },
            expires_at: row.get(4)?,
            last_used_at: row.get(5)?,
            rights: rights_at(row, 6)?,
        })
    })
    .await
}

/// Notes that a token was used, at most once an hour: most calls write nothing.
pub async fn note_use(store: &Store, token: &FoundToken) -> Result<(), StoreError> {
    let now_ms = store.clock().now_ms();
    if now_ms - token.last_used_at < LAST_USED_PRECISION_MS {
        return Ok(());
    }
    let (id, login) = (token.id, token.login.id);
    store
        .write_plain(Urgency::Background, async move |tx: &mut Tx| {
            sql("update token set last_used_at = $3 where login_id = $1 and id = $2 and last_used_at < $4")
                .bind(login)
                .bind(id)
                .bind(now_ms)
                .bind(now_ms - LAST_USED_PRECISION_MS + 1)
                .run(tx)
                .await?;
            Ok(())
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::directory::fixture::Fixture;
    use crate::types::scope::Scope;

    fn named(name: &str, expires_at: i64) -> TokenWanted {
        TokenWanted { name: name.to_owned(), expires_at, rights: Rights::default() }
    }

    #[tokio::test]
    async fn a_token_has_the_rights_that_it_was_made_with() {
        let fixture = Fixture::new().await;
        let store = &fixture.store;
        let alice = fixture.account("alice@example.test").await;
        let bob = fixture.account("bob@example.test").await;
        let all = [
            Rights::default(),
            Rights { scopes: Scopes::of(&[Scope::Read]), reach: Reach::Account(alice.account) },
            Rights { scopes: Scopes::of(&[Scope::Admin]), reach: Reach::Domain("example.test".to_owned()) },
            Rights { scopes: Scopes::of(&[Scope::Send, Scope::Admin]), reach: Reach::All },
        ];
        let now = store.clock().now_ms();
        for rights in &all {
            let wanted = TokenWanted { rights: rights.clone(), ..TokenWanted::default() };
            let made = add(store, alice.login, wanted).await.unwrap();
            let mut snapshot = store.read().await.unwrap();
            let found = find(&mut snapshot, &made.secret, now).await.unwrap().unwrap();
            assert_eq!(&found.rights, rights);
            let in_force = in_force(&mut snapshot, alice.login, made.id, now).await.unwrap();
            assert_eq!(in_force, Some((0, rights.clone())));
        }
        let mut snapshot = store.read().await.unwrap();
        let listed = list(&mut snapshot, alice.login).await.unwrap();
        assert_eq!(listed.into_iter().map(|token| token.rights).collect::<Vec<_>>(), all);
        drop(snapshot);
        let others = Rights { reach: Reach::Account(bob.account), ..Rights::default() };
        let wanted = TokenWanted { rights: others, ..TokenWanted::default() };
        assert!(matches!(add(store, alice.login, wanted).await, Err(DirectoryError::NoSuchAccess)));
    }

    #[tokio::test]
    async fn a_token_stands_for_its_login_until_it_is_revoked() {
        let fixture = Fixture::new().await;
        let (store, login) = (&fixture.store, fixture.account("alice@example.test").await.login);
        let token = add(store, login, named("laptop", 0)).await.unwrap();
        assert!(token.secret.starts_with("pr_"));
        assert_eq!(token.secret.len(), 55);
        let now = store.clock().now_ms();
        let mut snapshot = store.read().await.unwrap();
        let found = find(&mut snapshot, &token.secret, now).await.unwrap().unwrap();
        assert_eq!((found.id, found.login.name.as_str()), (token.id, "alice@example.test"));
        let other = format!("{}a", &token.secret[..54]);
        let other = if other == token.secret { format!("{}b", &token.secret[..54]) } else { other };
        for wrong in ["", "pr_", other.as_str(), &token.secret[3..]] {
            assert_eq!(find(&mut snapshot, wrong, now).await.unwrap(), None, "{wrong}");
        }
        drop(snapshot);
        assert!(matches!(revoke(store, Id(7), token.id).await, Err(DirectoryError::NoSuchToken)));
        let mut snapshot = store.read().await.unwrap();
        assert_eq!(owner(&mut snapshot, token.id).await.unwrap(), Some(login));
        drop(snapshot);

        let mut events = store.bus().subscribe();
        revoke(store, login, token.id).await.unwrap();
        assert_eq!(events.recv().await, Ok(Event::LoginChanged { login }));
        let mut snapshot = store.read().await.unwrap();
        assert_eq!(find(&mut snapshot, &token.secret, now).await.unwrap(), None);
    }

    #[tokio::test]
    async fn an_expired_token_is_none() {
        let fixture = Fixture::new().await;
        let login = fixture.account("alice@example.test").await.login;
        let now = fixture.store.clock().now_ms();
        let token = add(&fixture.store, login, named("week", now + 10)).await.unwrap();
        let mut snapshot = fixture.store.read().await.unwrap();
        assert!(find(&mut snapshot, &token.secret, now + 9).await.unwrap().is_some());
        assert!(find(&mut snapshot, &token.secret, now + 10).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn its_last_use_is_noted_once_an_hour() {
        let fixture = Fixture::new().await;
        let (store, login) = (&fixture.store, fixture.account("alice@example.test").await.login);
        let secret = add(store, login, named("laptop", 0)).await.unwrap().secret;
        let start = store.clock().now_ms();
        for (after_ms, noted) in [(0, start), (60_000, start), (3_600_000, start + 3_600_000)] {
            fixture.clock.advance_ms(start + after_ms - store.clock().now_ms());
            let mut snapshot = store.read().await.unwrap();
            let found = find(&mut snapshot, &secret, store.clock().now_ms()).await.unwrap().unwrap();
            drop(snapshot);
            note_use(store, &found).await.unwrap();
            let mut snapshot = store.read().await.unwrap();
            assert_eq!(list(&mut snapshot, login).await.unwrap()[0].last_used_at, noted);
        }
    }
}
