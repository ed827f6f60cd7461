//! Who is here: domains, accounts, addresses, logins and what they may reach.
//!
//! A login is who signs in, an account is whose data it is; `access` says which login reaches which
//! account. Functions that take a `Store` are whole transactions with their checks; what they refuse
//! is a `DirectoryError`. Whatever a login may do is remembered elsewhere for a while, so each change
//! of a login, its password, its tokens or its access is told on the bus after the commit.

pub mod access;
pub mod account;
pub mod address;
pub mod domain;
#[cfg(test)]
pub mod fixture;
pub mod login;
pub mod password;
pub mod removal;
pub mod sign_in;
#[cfg(test)]
mod sign_in_tests;
pub mod token;

use std::fmt;

use crate::store::error::StoreError;

/// Why a change of the directory was refused.
#[derive(Clone, Debug)]
pub enum DirectoryError {
    /// The text is no domain name.
    NotADomain,
    /// The address can only be written in quotes, which many senders cannot.
    AddressNeedsQuotes,
    /// The domain is not one of this server.
    NoSuchDomain,
    /// The domain is there already.
    DomainExists,
    /// The domain still has addresses.
    DomainHasAddresses,
    /// The address is in use already.
    AddressTaken,
    /// The account has no such alias.
    NoSuchAlias,
    /// There is no such account.
    NoSuchAccount,
    /// There is no such login.
    NoSuchLogin,
    /// The login has no such token.
    NoSuchToken,
    /// The login has no such access.
    NoSuchAccess,
    /// The access of a login to its own account cannot be revoked.
    OwnAccount,
    /// The store failed.
    Store(StoreError),
}

impl From<StoreError> for DirectoryError {
    fn from(error: StoreError) -> DirectoryError {
        match error {
            StoreError::NoSuchAccount => DirectoryError::NoSuchAccount,
            error => DirectoryError::Store(error),
        }
    }
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DirectoryError::NotADomain => "this is no domain name",
            DirectoryError::AddressNeedsQuotes => "the part before the @ needs quotes; choose a plainer one",
            DirectoryError::NoSuchDomain => "the domain is not one of this server; add it first",
            DirectoryError::DomainExists => "the domain is there already",
            DirectoryError::DomainHasAddresses => {
                "the domain still has addresses; remove its accounts and aliases first"
            }
            DirectoryError::AddressTaken => "the address is in use already",
            DirectoryError::NoSuchAlias => "there is no such alias",
            DirectoryError::NoSuchAccount => "there is no such account",
            DirectoryError::NoSuchLogin => "there is no such login",
            DirectoryError::NoSuchToken => "there is no such token",
            DirectoryError::NoSuchAccess => "the login has no access to this account",
            DirectoryError::OwnAccount => {
                "a login keeps the access to its own account; remove the account instead"
            }
            DirectoryError::Store(error) => return error.fmt(f),
        })
    }
}

impl std::error::Error for DirectoryError {}
