//! The clock as a value: code that needs the time is handed one, so that tests can set it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the time in milliseconds since 1970, UTC.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// `None` is the system's clock.
    fixed: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Clock { fixed: None }
    }

    /// A clock that stands still until it is advanced.
    pub fn fixed(now_ms: i64) -> Self {
        Clock { fixed: Some(Arc::new(AtomicI64::new(now_ms))) }
    }

    /// Moves a fixed clock; the system's clock is left alone.
    pub fn advance_ms(&self, by_ms: i64) {
        if let Some(now) = &self.fixed {
            now.fetch_add(by_ms, Ordering::SeqCst);
        }
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        match &self.fixed {
            Some(now) => now.load(Ordering::SeqCst),
            None => {
                #[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
                let now = SystemTime::now();
                now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
            }
        }
    }
}
