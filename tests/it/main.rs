//! Black-box tests: they start the built program, speak to it over real sockets, and assert what a
//! user or another server would notice. One binary, so that a build links once.

#![allow(clippy::cloned_ref_to_slice_refs, reason = "a list of one id is compared as a list")]

mod architecture;
mod blobs;
mod commands;
mod conformance;
mod core;
mod core_query;
mod core_read;
mod core_request;
mod core_session;
mod core_write;
mod corpus;
mod crash;
mod credentials;
mod durability;
mod email_body;
mod email_conditions;
mod email_get;
mod email_headers;
mod email_import;
mod email_places;
mod email_query;
mod email_set;
mod end_to_end;
mod event_source;
mod foreign_clients;
mod hostile;
mod identity;
mod import;
mod invariants;
mod isolation;
mod mailbox;
mod mailbox_rules;
mod mailbox_sharing;
mod notification;
mod object_store;
mod queue;
mod quota;
mod receive;
mod receive_protocol;
mod redis;
mod running;
mod snippet;
mod state_property;
mod submission;
mod support;
mod thread;
mod tickets;
mod tls;
mod vacation;
