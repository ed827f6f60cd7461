//! `postrider demo`: a server on the embedded default with two accounts and some mail.

pub mod mail;
pub mod page;
