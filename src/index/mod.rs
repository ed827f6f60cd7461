//! Full-text search: what can be found, in queries and messages alike, and the engines that find it.

pub mod document;
pub mod fold;
pub mod query;
pub mod snippet;
pub mod token;
