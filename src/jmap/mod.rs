//! jmap
