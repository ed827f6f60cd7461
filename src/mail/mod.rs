//! Message code: reading, writing and changing messages. No I/O, no store, no protocol.
//!
//! A message is scanned once, at ingest, into a `structure::Structure`: offsets into its octets
//! and what lists need, small enough to be kept beside the metadata. Everything else of an Email
//! is derived from the structure and the octets when it is asked for.
//!
//! Input is hostile. All work here is linear in the octets, nothing recurses, depth and number of
//! parts are bounded, and what lies beyond a bound is kept as an opaque part: no message is
//! refused. Text that leaves this module is Unicode without NUL.

pub mod arf_read;
pub mod auth_results;
pub mod auto_reply;
pub mod base_subject;
pub mod body;
pub mod body_lists;
pub mod body_part;
pub mod charset;
pub mod clean_html;
pub mod compose;
pub mod compose_parts;
pub mod dkim;
pub mod dkim_keys;
pub mod dsn;
pub mod dsn_read;
pub mod encode_body;
pub mod encoded_word;
pub mod entity_header;
pub mod field_lines;
pub mod fields;
pub mod header_text;
pub mod headers;
pub mod html;
pub mod list_properties;
pub mod mdn_read;
pub mod notice;
pub mod parameters;
pub mod parse;
pub mod preview;
pub mod reencode;
pub mod scan;
pub mod seven_bit;
pub mod sort_key;
pub mod structure;
pub mod text;
pub mod thread;
pub mod transfer;
