//! Signing in, over HTTP and SMTP alike: passwords and API tokens, with limits on failures.
//!
//! A password that was verified is remembered for a day (by a keyed hash, never itself), so that not every
//! request pays for argon2, nor all clients at once when a server that they were connected to starts anew.
//! What is remembered is void once the login's version moves on, which every node sees in the database.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::cache::{Cache, Rate, Verified};
use crate::store::Store;
use crate::store::directory::access::{AccessibleAccount, accounts_of_login};
use crate::store::directory::login::{self, Login};
use crate::store::directory::password;
use crate::store::directory::token::{self, FoundToken};
use crate::store::error::StoreError;
use crate::types::address::Address;
use crate::types::id::Id;
use crate::types::scope::Rights;

/// How long a verified password is remembered.
const REMEMBERED_MS: i64 = 24 * 3_600_000;
/// Failures are counted over this time.
const FAILURE_WINDOW_MS: i64 = 15 * 60_000;
/// Failed sign-ins from one address within the window.
const FAILURES_PER_ADDRESS: u64 = 100;
/// Failed sign-ins of one login from one address within the window.
const FAILURES_PER_LOGIN: u64 = 20;
/// Passwords that are verified at a time: each takes a core and 19 MiB for a while.
const VERIFIED_AT_ONCE: usize = 2;
/// Passwords that may wait to be verified.
const WAITING: usize = 200;

/// Why nobody is signed in.
#[derive(Clone, Debug)]
pub enum SignInError {
    /// The credentials are wrong: which of them is not told.
    Refused,
    /// Too many failures: try again later.
    TooMany {
        /// After so many seconds at the latest.
        retry_after_seconds: u64,
    },
    /// Too busy to verify passwords right now.
    Busy,
    /// The store failed.
    Store(StoreError),
}

impl From<StoreError> for SignInError {
    fn from(error: StoreError) -> SignInError {
        SignInError::Store(error)
    }
}

/// Who has signed in, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entered {
    /// The login.
    pub login: Login,
    /// The token; 0 for the password.
    pub token_id: Id,
    /// When it ends, in milliseconds since 1970; 0 for never.
    pub expires_at: i64,
    /// What it is good for.
    pub rights: Rights,
    /// The accounts that the login may use.
    pub accounts: Vec<AccessibleAccount>,
}

impl Entered {
    fn by_password(login: Login, accounts: Vec<AccessibleAccount>) -> Entered {
        Entered { login, token_id: Id(0), expires_at: 0, rights: Rights::default(), accounts }
    }
}

/// Verifies credentials. Clones share limits and memory.
#[derive(Clone)]
pub struct SignIn {
    store: Store,
    cache: Cache,
    key: Arc<[u8; 32]>,
    verifying: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl SignIn {
    /// Over a store. The key is that by which passwords are remembered, the same in all processes that
    /// share a cache.
    pub fn new(store: Store, cache: Cache, key: [u8; 32]) -> SignIn {
        SignIn {
            store,
            cache,
            key: Arc::new(key),
            verifying: Arc::new(Semaphore::new(VERIFIED_AT_ONCE)),
            waiting: Arc::new(Semaphore::new(WAITING)),
        }
    }

    /// Signs in with an address and a password, or one of the login's tokens in its place: a program that
    /// knows of passwords only is given one of its own.
    pub async fn with_password(&self, name: &str, given: &str, from: IpAddr) -> Result<Entered, SignInError> {
        let Ok(address) = Address::parse(name) else {
            return self.refuse("", from).await;
        };
        let name = address.to_string();
        if token::is_secret(given) {
            let found = self.token(given).await?.filter(|found| found.login.name == name);
            return match found {
                Some(found) => Ok(found),
                None => self.refuse_token(from).await,
            };
        }
        let mut snapshot = self.store.read().await?;
        let found = login::verify_data(&mut snapshot, &name).await?;
        let accounts = match &found {
            Some(data) => accounts_of_login(&mut snapshot, data.login.id).await?,
            None => Vec::new(),
        };
        drop(snapshot);
        let key = self.remembered_as(&name, given);
        if let (Some(data), Some(verified)) = (&found, self.cache.verified(&key).await)
            && verified == (Verified { login: data.login.id, version: data.login.version })
        {
            return Ok(Entered::by_password(data.login.clone(), accounts));
        }
        // A new password begins with a clean sheet: who has just got one may use it at once.
        let tried = format!("{name} {}", found.as_ref().map_or(0, |data| data.login.version));
        self.check_failures(&tried, from).await?;
        let Ok(place) = self.waiting.clone().try_acquire_owned() else { return Err(SignInError::Busy) };
        let Ok(turn) = self.verifying.clone().acquire_owned().await else { return Err(SignInError::Busy) };
        // Others of the same burst may have failed meanwhile.
        self.check_failures(&tried, from).await?;
        let stored = found.as_ref().map(|data| data.password_hash.clone());
        let given = given.to_owned();
        // An unknown name costs as much time as a wrong password.
        // Whoever leaves now leaves the work behind, and with it the place and the turn.
        let is_right = password::verify_aside(given, stored, (place, turn)).await;
        let is_right = is_right.ok_or(SignInError::Busy)?;
        match found.filter(|_| is_right) {
            Some(data) => {
                let verified = Verified { login: data.login.id, version: data.login.version };
                self.cache.remember_verified(key, verified, REMEMBERED_MS).await;
                // It has taken its time, in which much may have changed.
                let accounts = accounts_of_login(&mut *self.store.read().await?, data.login.id).await?;
                Ok(Entered::by_password(data.login, accounts))
            }
            None => self.refuse(&tried, from).await,
        }
    }

    /// Signs in with an API token.
    pub async fn with_token(&self, secret: &str, from: IpAddr) -> Result<Entered, SignInError> {
        match self.token(secret).await? {
            Some(found) => Ok(found),
            None => self.refuse_token(from).await,
        }
    }

    async fn token(&self, secret: &str) -> Result<Option<Entered>, StoreError> {
        let now_ms = self.store.clock().now_ms();
        let mut snapshot = self.store.read().await?;
        let Some(found) = token::find(&mut snapshot, secret, now_ms).await? else { return Ok(None) };
        let accounts = accounts_of_login(&mut snapshot, found.login.id).await?;
        drop(snapshot);
        token::note_use(&self.store, &found).await?;
        let FoundToken { id, login, expires_at, rights, .. } = found;
        Ok(Some(Entered { login, token_id: id, expires_at, rights, accounts }))
    }

    /// Nobody guesses a token: failures are counted by address alone.
    async fn refuse_token(&self, from: IpAddr) -> Result<Entered, SignInError> {
        self.check_failures("", from).await?;
        self.refuse("", from).await
    }

    async fn check_failures(&self, name: &str, from: IpAddr) -> Result<(), SignInError> {
        if self.failures(name, from, 0).await {
            let retry_after_seconds = FAILURE_WINDOW_MS as u64 / 1000;
            return Err(SignInError::TooMany { retry_after_seconds });
        }
        Ok(())
    }

    async fn refuse(&self, name: &str, from: IpAddr) -> Result<Entered, SignInError> {
        self.failures(name, from, 1).await;
        Err(SignInError::Refused)
    }

    /// Counts failures; whether there are too many. A login is counted together with the address:
    /// an attacker elsewhere does not lock its owner out.
    async fn failures(&self, name: &str, from: IpAddr, by: u64) -> bool {
        let address = network_of(from);
        let of_address = self.cache.rate_add(Rate::FailuresOfAddress, &address, FAILURE_WINDOW_MS, by).await;
        let key = format!("{name} {address}");
        let of_login = self.cache.rate_add(Rate::FailuresOfLogin, &key, FAILURE_WINDOW_MS, by).await;
        of_address >= FAILURES_PER_ADDRESS || (!name.is_empty() && of_login >= FAILURES_PER_LOGIN)
    }

    fn remembered_as(&self, name: &str, given: &str) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(given.as_bytes());
        *hasher.finalize().as_bytes()
    }
}

/// One host: an IPv4 address, or the /64 that an IPv6 host can choose addresses in.
fn network_of(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}
