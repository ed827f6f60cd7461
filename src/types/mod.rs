//! Values that every part of the program shares: ids, states, keywords, addresses, dates, the
//! clock. No I/O, no knowledge of any store or protocol engine.

pub mod address;
pub mod blob_id;
pub mod callback_url;
pub mod clock;
pub mod connections;
pub mod date;
pub mod duration;
pub mod envelope;
pub mod event;
pub mod id;
pub mod keyword;
pub mod network;
pub mod object_type;
pub mod scope;
pub mod secret;
pub mod size;
pub mod state;
