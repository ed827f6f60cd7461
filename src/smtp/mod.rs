//! The SMTP protocol, for both sides: what a line means, what an answer looks like, where a
//! message ends.
//!
//! Not here: sockets of a server, accounts, queues, policy (`receive/`), and the choice of whom to
//! call (`deliver/`).
//!
//! Invariants:
//! - The parsers are plain state machines over bytes: never async, never panicking, and the same
//!   bytes give the same result however they were cut into packets.
//! - Only CRLF ends a line and only `CRLF . CRLF` ends a message (RFC 5321, 2.3.8 and 4.1.1.4).
//!   Bytes that another server might read differently are refused, never repaired on the way in.
//! - Every buffer has a bound; what lies beyond it is swallowed and counted.

pub mod bdat;
pub mod client;
pub mod command;
pub mod data;
pub mod line;
pub mod parameters;
pub mod path;
pub mod reply;
pub mod sasl;
pub mod stream;
pub mod xtext;
