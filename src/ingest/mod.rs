//! The ingest role: takes accepted messages from the incoming queue into mailboxes.
//!
//! A row is claimed, its sender is checked, the message is parsed once, and each recipient's account
//! files it in a transaction of its own, at most once (`delivered`). The row goes when all have it.
//! Doing a row twice changes nothing, so a worker that dies, or whose lease ends, leaves nothing to
//! repair. A message that cannot be filed after many tries is set aside with its reason.

pub mod authenticate;
pub mod file;
pub mod report;
#[cfg(test)]
mod tests;
pub mod vacation;
pub mod worker;
