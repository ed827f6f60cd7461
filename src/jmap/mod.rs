//! jmap

pub mod email;
