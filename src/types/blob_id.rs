//! Blob ids.
