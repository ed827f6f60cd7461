//! Email: its methods and properties (RFC 8621, 4).

pub mod copy;
pub mod create;
pub mod draft;
pub mod draft_body;
pub mod draft_headers;
pub mod get;
pub mod import;
pub mod parse;
pub mod properties;
pub mod push;
pub mod query;
pub mod set;
pub mod text_search;
pub mod view;
