//! JMAP (RFC 8620, RFC 8621): requests, the method table, one file or folder a type.
//!
//! `request` runs calls in order, `method` is the table of all methods, `standard` holds the methods
//! that every type has, written once. A type says what its objects are.

pub mod arguments;
pub mod blob;
pub mod call;
pub mod capability;
pub mod email;
pub mod error;
#[cfg(test)]
pub mod fixture;
pub mod i_json;
pub mod identity;
pub mod limits;
pub mod mailbox;
pub mod method;
pub mod push_subscription;
#[cfg(test)]
mod push_subscription_tests;
pub mod quota;
mod reference;
pub mod request;
pub mod session;
pub mod snippet;
pub mod standard;
pub mod submission;
pub mod thread;
#[cfg(test)]
mod transaction_tests;
pub mod vacation;
