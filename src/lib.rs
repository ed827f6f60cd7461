//! Postrider: a JMAP-first mail backend. One binary, from a laptop to a cluster.
//!
//! ```text
//! SMTP in -> receive -> [incoming] -> ingest -> store + blob -> bus -> push -> EventSource, WebSocket
//! HTTP    -> http -> jmap ------------------------^   |   \-> [index] -> index
//!                                                     v
//!                                                [outgoing] -> deliver -> SMTP out      [..] = queue rows
//! ```
//!
//! ARCHITECTURE.md walks one message through this picture.

pub mod admin; // administrative acts, whoever asks for them: a command or the REST API
pub mod app; // every part of a running server, built once
pub mod blob; // messages and uploads as immutable objects named by their hash
pub mod bus; // events between the parts of a server: states, woken workers
pub mod cache; // what is read most, kept in memory
pub mod callback; // posts to URLs that others have given: push services, webhooks
pub mod cli; // the commands
pub mod config; // the configuration file and its environment variables
pub mod deliver; // takes the outgoing queue to other servers
pub mod dns; // MX, address and TXT look-ups
pub mod events; // takes events of mail to the logs of their domains, and to webhooks
pub mod http; // the router and its endpoints
pub mod https; // asks other services over HTTP
pub mod index; // full-text search
pub mod ingest; // takes the incoming queue into mailboxes
pub mod jmap; // JMAP methods, RFC 8620 and RFC 8621
pub mod listen; // accepts connections until the server stops
pub mod mail; // message code without I/O: parse, compose
pub mod push; // tells connected clients what has changed
pub mod receive; // the SMTP servers
pub mod smtp; // the SMTP protocol: commands, replies, data, client
pub mod store; // the only owner of SQL
pub mod sweep; // housekeeping: what is kept for a time only
pub mod types; // values: ids, states, keywords, addresses, dates
pub mod vapid; // the key by which push services know this server
pub mod web_push; // takes the push queue to the devices of users
