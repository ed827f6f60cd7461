//! Black-box tests: they start the built program, speak to it over real sockets, and assert what a
//! user or another server would notice. One binary, so that a build links once.

#![allow(clippy::cloned_ref_to_slice_refs, reason = "a list of one id is compared as a list")]

mod architecture;
mod blobs;
mod commands;
mod core;
mod corpus;
mod crash;
mod credentials;
mod durability;
mod email_get;
mod email_query;
mod email_set;
mod end_to_end;
mod event_source;
mod hostile;
mod import;
mod invariants;
mod isolation;
mod mailbox;
mod receive;
mod running;
mod state_property;
mod submission;
mod support;
mod tls;
