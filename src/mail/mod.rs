//! Message code without I/O: reading, writing and changing messages.

pub mod auth_results;
pub mod compose;
pub mod compose_parts;
pub mod dkim;
pub mod encode_body;
pub mod field_lines;
pub mod header_text;
pub mod reencode;
