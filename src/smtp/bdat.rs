//! Messages that come in BDAT chunks (RFC 3030, 2).
//!
//! A chunk is framed by its length, so no byte in it can end it: bare CR and LF are kept as they
//! are here, and become CRLF when the message leaves by DATA (`smtp::data::DataEncoder`). A chunk
//! that is not wanted is still read, since its octets are on their way already.

use bytes::{Buf, Bytes, BytesMut};

use crate::smtp::data::DataError;

/// Collects the chunks of one transaction. Memory: at most `limit` octets.
#[derive(Debug)]
pub struct ChunkCollector {
    body: BytesMut,
    /// Octets of the current chunk still to come.
    remaining: u64,
    last: bool,
    limit: u64,
    too_large: bool,
    discard: bool,
}

/// What a finished chunk was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    /// Not the last one.
    More,
    /// The last one: the message.
    Last(Bytes),
}

impl ChunkCollector {
    /// For a message of at most `limit` octets.
    pub fn new(limit: u64) -> Self {
        ChunkCollector {
            body: BytesMut::new(),
            remaining: 0,
            last: false,
            limit,
            too_large: false,
            discard: false,
        }
    }

    /// For a chunk that has no transaction: it is read and dropped.
    pub fn discarding() -> Self {
        ChunkCollector { discard: true, ..ChunkCollector::new(0) }
    }

    /// Octets kept so far.
    pub fn buffered(&self) -> usize {
        self.body.len()
    }

    /// Drops what was kept and keeps nothing more; chunks are still read to their ends.
    pub fn give_up(&mut self) {
        self.discard = true;
        self.body = BytesMut::new();
    }

    /// Starts a chunk of `size` octets. `Flood` when it is more than `swallow` octets above what
    /// can be kept: such a connection is closed rather than read on.
    pub fn begin(&mut self, size: u64, last: bool, swallow: u64) -> Result<(), DataError> {
        (self.remaining, self.last) = (size, last);
        let total = (self.body.len() as u64).saturating_add(size);
        if total > self.limit {
            self.too_large = true;
            self.body = BytesMut::new();
        }
        if total > self.limit.saturating_add(swallow) {
            return Err(DataError::Flood);
        }
        Ok(())
    }

    /// Takes what belongs to the chunk off the front of `input`. `None`: more bytes are needed.
    pub fn push(&mut self, input: &mut BytesMut) -> Option<Result<Chunk, DataError>> {
        let here = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(input.len());
        if self.discard || self.too_large {
            input.advance(here);
        } else {
            self.body.extend_from_slice(&input.split_to(here));
        }
        self.remaining -= here as u64;
        if self.remaining > 0 {
            return None;
        }
        Some(if self.too_large && !self.discard {
            Err(DataError::TooLarge)
        } else if self.last {
            Ok(Chunk::Last(std::mem::take(&mut self.body).freeze()))
        } else {
            Ok(Chunk::More)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_make_a_message_of_any_bytes() {
        let mut collector = ChunkCollector::new(100);
        let mut input = BytesMut::from(&b"a\n.\nBDAT"[..]);
        assert_eq!(collector.begin(4, false, 0), Ok(()));
        assert_eq!(collector.push(&mut input), Some(Ok(Chunk::More)));
        assert_eq!(&input[..], b"BDAT");
        let mut input = BytesMut::from(&b"\0\r"[..]);
        assert_eq!(collector.begin(3, true, 0), Ok(()));
        assert_eq!(collector.push(&mut input), None);
        input.extend_from_slice(b"xNOOP");
        assert_eq!(collector.push(&mut input), Some(Ok(Chunk::Last(Bytes::from_static(b"a\n.\n\0\rx")))));
        assert_eq!(&input[..], b"NOOP");
    }

    #[test]
    fn an_empty_last_chunk_ends_the_message() {
        let mut collector = ChunkCollector::new(100);
        assert_eq!(collector.begin(0, true, 0), Ok(()));
        assert_eq!(collector.push(&mut BytesMut::new()), Some(Ok(Chunk::Last(Bytes::new()))));
    }

    #[test]
    fn too_large_is_read_to_its_end_and_absurd_is_not() {
        let mut collector = ChunkCollector::new(3);
        assert_eq!(collector.begin(4, true, 10), Ok(()));
        let mut input = BytesMut::from(&b"abcdNOOP"[..]);
        assert_eq!(collector.push(&mut input), Some(Err(DataError::TooLarge)));
        assert_eq!(&input[..], b"NOOP");
        assert_eq!(ChunkCollector::new(3).begin(u64::MAX, true, 10), Err(DataError::Flood));
    }

    #[test]
    fn a_chunk_without_a_transaction_is_dropped() {
        let mut collector = ChunkCollector::discarding();
        assert_eq!(collector.begin(4, true, 10), Ok(()));
        let mut input = BytesMut::from(&b"abcdNOOP"[..]);
        assert_eq!(collector.push(&mut input), Some(Ok(Chunk::Last(Bytes::new()))));
        assert_eq!(&input[..], b"NOOP");
    }
}
