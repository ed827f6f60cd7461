//! The standard methods (RFC 8620, 5), written once. A type says what its objects are and how they
//! are read and written; account checks, limits, states, property filters, creation ids and the
//! shapes of answers are here.

pub mod changes;
pub mod get;
pub mod patch;
pub mod query;
pub mod set;
