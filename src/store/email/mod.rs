//! Emails (RFC 8621, 4): an immutable row each, and a narrow membership table for what can change.
//!
//! `place` is the one way in which an Email's mailboxes and keywords come to be, change and go: it
//! keeps the membership rows, the keywords, the thread counts, the mailbox counters and the change
//! log together.

pub mod counters;
pub mod delete;
pub mod insert;
pub mod place;
pub mod query;
pub mod read;
pub mod trash;
