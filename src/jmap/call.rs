//! What a method call has at hand: the server's parts, the caller, the request around it.

use std::collections::HashMap;

use crate::blob::Blobs;
use crate::cache::Cache;
use crate::index::Index;
use crate::jmap::arguments::Arguments;
use crate::jmap::capability::Capability;
use crate::jmap::error::MethodError;
use crate::store::Store;
use crate::store::blob::Reader;
use crate::store::directory::access::AccessibleAccount;
use crate::store::mailbox::Viewer;
use crate::types::blob_id::BlobId;
use crate::types::id::{AccountId, Id};
use crate::types::network::Network;
use crate::types::scope::{Scope, Scopes};

/// The parts of the server that methods work on. Cheap to clone.
#[derive(Clone)]
pub struct Jmap {
    /// Metadata.
    pub store: Store,
    /// Messages and uploads.
    pub blobs: Blobs,
    /// Full text.
    pub index: Index,
    /// Immutable data of Emails, and rate counters.
    pub cache: Cache,
    /// Name of this server in Message-IDs and Received lines.
    pub hostname: std::sync::Arc<str>,
    /// Octets of the largest message and upload.
    pub max_upload: usize,
    /// Recipients that an account may send to in an hour.
    pub recipients_per_hour: u64,
    /// The public key of our pushes, in base64url (RFC 9749).
    pub push_key: std::sync::Arc<str>,
    /// Networks beside the public internet to which pushes may go.
    pub push_networks: std::sync::Arc<[Network]>,
}

/// An account that a login may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountAccess {
    /// Its id.
    pub id: AccountId,
    /// The login.
    pub login_id: Id,
    /// Its primary address.
    pub name: String,
    /// Whether it may only be read, as far as mail and settings go.
    pub is_read_only: bool,
    /// Whether mail may be sent from it.
    pub may_send: bool,
    /// Whether it is the login's own.
    pub is_personal: bool,
}

impl AccountAccess {
    /// Of a login, as the directory has it, for one who comes in with these scopes.
    pub fn of(login_id: Id, account: AccessibleAccount, scopes: Scopes) -> AccountAccess {
        let AccessibleAccount { id, name, is_read_only, is_personal } = account;
        AccountAccess {
            id,
            login_id,
            name,
            is_read_only: is_read_only || !scopes.has(Scope::Write),
            may_send: !is_read_only && scopes.has(Scope::Send),
            is_personal,
        }
    }

    /// Whether something may be uploaded to it: to be stored, or to be sent.
    pub fn may_upload(&self) -> bool {
        !self.is_read_only || self.may_send
    }

    /// The login as one who looks at the account's mailboxes.
    pub fn viewer(&self) -> Viewer {
        Viewer { login_id: self.login_id, is_owner: self.is_personal }
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The login.
    pub login_id: Id,
    /// The token by which it has come in; 0 for the password.
    pub token_id: Id,
    /// When that ends, in milliseconds since 1970; 0 for never.
    pub expires_at: i64,
    /// Its name, an address.
    pub username: String,
    /// What its credential is good for.
    pub scopes: Scopes,
    /// Its accounts, its own first.
    pub accounts: Vec<AccountAccess>,
}

impl Caller {
    /// The access to an account, if there is any.
    pub fn account(&self, id: AccountId) -> Option<&AccountAccess> {
        self.accounts.iter().find(|account| account.id == id)
    }
}

/// A method call under way.
pub struct Call<'a> {
    /// The parts of the server.
    pub jmap: &'a Jmap,
    /// Who calls.
    pub caller: &'a Caller,
    /// The capabilities that the request named.
    pub using: &'a [Capability],
    /// Creation id -> id, over all calls of the request (RFC 8620, 3.3).
    pub created_ids: &'a mut HashMap<String, String>,
    /// Responses of implicit calls, to follow this one's.
    pub implicit: Vec<(&'static str, Body)>,
}

/// The arguments of a response.
#[derive(Debug, Clone)]
pub enum Body {
    /// A value.
    Json(serde_json::Value),
    /// JSON text, where building a value would only cost time.
    Text(String),
}

/// What a method answers.
pub type MethodResult = Result<Body, MethodError>;

impl Call<'_> {
    /// Takes `accountId`, which must be an account of the caller.
    pub fn account(&self, arguments: &mut Arguments) -> Result<AccountAccess, MethodError> {
        let id = arguments.required_string("accountId")?;
        self.accessible(&id).ok_or(MethodError::AccountNotFound)
    }

    /// Takes `accountId`, which must be an account that the caller may change.
    pub fn writable_account(&self, arguments: &mut Arguments) -> Result<AccountAccess, MethodError> {
        let account = self.account(arguments)?;
        if account.is_read_only { Err(MethodError::AccountReadOnly) } else { Ok(account) }
    }

    /// Takes `accountId`, which must be an account from which the caller may send.
    pub fn sending_account(&self, arguments: &mut Arguments) -> Result<AccountAccess, MethodError> {
        let account = self.account(arguments)?;
        if account.may_send { Ok(account) } else { Err(MethodError::AccountReadOnly) }
    }

    /// Takes `accountId`, which must be an account to which the caller may upload.
    pub fn uploading_account(&self, arguments: &mut Arguments) -> Result<AccountAccess, MethodError> {
        let account = self.account(arguments)?;
        if account.may_upload() { Ok(account) } else { Err(MethodError::AccountReadOnly) }
    }

    /// Takes `fromAccountId`, which must be an account of the caller.
    pub fn from_account(&self, arguments: &mut Arguments) -> Result<AccountAccess, MethodError> {
        let id = arguments.required_string("fromAccountId")?;
        self.accessible(&id).ok_or(MethodError::FromAccountNotFound)
    }

    /// The account of a shown id, when it is the caller's.
    pub fn accessible(&self, id: &str) -> Option<AccountAccess> {
        let id = id.parse().ok()?;
        self.caller.account(id).cloned()
    }

    /// An id as a client gave it: `#key` stands for what an earlier call created.
    pub fn resolve_id(&self, given: &str) -> Option<Id> {
        let shown = match given.strip_prefix('#') {
            Some(key) => self.created_ids.get(key)?,
            None => given,
        };
        // Zero is the id of nothing; in the store it stands for all mail and for the top.
        shown.parse().ok().filter(|id| *id != Id::default())
    }

    /// A blob id as a client gave it, `#key` included.
    pub fn resolve_blob_id(&self, given: &str) -> Option<BlobId> {
        match given.strip_prefix('#') {
            Some(key) => self.created_ids.get(key)?.parse().ok(),
            None => given.parse().ok(),
        }
    }

    /// The caller as a reader of an account's blobs.
    pub fn reader(&self, account: &AccountAccess) -> Reader {
        Reader::login(account.id, self.caller.login_id)
    }
}
