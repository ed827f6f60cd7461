//! Message code without I/O: reading, writing and changing messages.

pub mod auth_results;
pub mod auto_reply;
pub mod compose;
pub mod compose_parts;
pub mod dkim;
pub mod dsn;
pub mod dsn_read;
pub mod encode_body;
pub mod entity_header;
pub mod field_lines;
pub mod header_text;
pub mod reencode;
pub mod seven_bit;
