//! The SMTP servers: mail from other servers (`Role::Mx`) and from our own users
//! (`Role::Submission`).
//!
//! ```text
//! listener -> connection -> session (what the bytes mean)
//!                        -> intake  (what the store says)
//! ```
//!
//! A session is a state machine without I/O: it is given bytes and says what is to be done next. A
//! connection feeds it and does that. `250` goes out only after the queue row is durable.
//!
//! Not here: what becomes of a message after its 250 (`ingest/`, `deliver/`).

pub mod body_memory;
pub mod connection;
pub mod intake;
pub mod listener;
pub mod policy;
pub mod proxy;
pub mod received;
pub mod server;
pub mod session;
pub mod submitted;
#[cfg(test)]
mod tests;
