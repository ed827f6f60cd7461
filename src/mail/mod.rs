//! Message code without I/O: reading, writing and changing messages.

pub mod auth_results;
pub mod dkim;
pub mod field_lines;
pub mod reencode;
