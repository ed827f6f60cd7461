//! Email: its methods and properties (RFC 8621, 4).

pub mod draft;
pub mod draft_body;
pub mod draft_headers;
