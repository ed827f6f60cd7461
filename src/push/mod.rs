//! Tells connected clients that the state of types has changed (RFC 8620, 7). Says what changed and
//! no more: nothing here reads objects or runs methods.

pub mod event_source;
pub mod hub;
#[cfg(test)]
mod hub_tests;
mod look;
#[cfg(test)]
mod look_tests;
pub mod online;
