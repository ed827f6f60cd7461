//! How much memory the messages on their way may take, all connections together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The whole.
#[derive(Debug)]
pub struct BodyMemory {
    limit: usize,
    used: AtomicUsize,
}

impl BodyMemory {
    /// So many octets.
    pub fn new(limit: usize) -> Self {
        BodyMemory { limit, used: AtomicUsize::new(0) }
    }
}

/// What one connection holds of it; given back when dropped.
#[derive(Debug)]
pub struct Share {
    whole: Arc<BodyMemory>,
    held: usize,
}

impl Share {
    /// Nothing yet.
    pub fn new(whole: Arc<BodyMemory>) -> Self {
        Share { whole, held: 0 }
    }

    /// Makes the share as large as what is held now. False, with nothing changed: there is not
    /// enough left.
    pub fn resize(&mut self, octets: usize) -> bool {
        if octets > self.held {
            let more = octets - self.held;
            let before = self.whole.used.fetch_add(more, Ordering::Relaxed);
            if before.saturating_add(more) > self.whole.limit {
                self.whole.used.fetch_sub(more, Ordering::Relaxed);
                return false;
            }
        } else {
            self.whole.used.fetch_sub(self.held - octets, Ordering::Relaxed);
        }
        self.held = octets;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_bounded_together_and_given_back() {
        let whole = Arc::new(BodyMemory::new(10));
        let (mut one, mut two) = (Share::new(Arc::clone(&whole)), Share::new(Arc::clone(&whole)));
        assert!(one.resize(6) && !two.resize(5) && two.resize(4));
        assert!(one.resize(3) && two.resize(7));
        drop(one);
        assert!(two.resize(10) && !two.resize(11));
    }
}
