//! How many units for which nobody waits run at a time.
//!
//! Each takes a connection, of which they have half at the most. But a database that is busy makes those
//! wait for whom somebody waits, and does not get more done the more it is given: so there are fewer while
//! it answers slowly. How fast it answers is told by a statement that has nothing to do, the `begin` of a
//! read.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The limit moves by one at most so often.
const STEP: Duration = Duration::from_millis(100);
/// An answer that takes so many times as long as the best one is slow,
const SLOW: f64 = 3.0;
/// and this much longer: the best may be very fast.
const SLACK: Duration = Duration::from_micros(500);
/// The best time is forgotten by this part with each answer: networks and databases change.
const FORGOTTEN: f64 = 1.0 / 10_000.0;
/// The weight of an answer in the mean of the latest.
const WEIGHT: f64 = 1.0 / 16.0;

/// The turns of these units.
pub struct Background {
    turns: Semaphore,
    limit: Mutex<Limit>,
}

/// How many there are.
struct Limit {
    most: usize,
    now: usize,
    /// Turns to be taken away when they come back.
    owed: usize,
    /// In seconds; 0 before the first answer.
    best: f64,
    latest: f64,
    moved: Instant,
}

impl Limit {
    /// An answer took so long; whether a turn is to be given (`Some(true)`) or taken.
    fn note(&mut self, took: Duration, at: Instant) -> Option<bool> {
        let took = took.as_secs_f64();
        if self.best == 0.0 {
            (self.best, self.latest) = (took, took);
        }
        self.best = took.min(self.best * (1.0 + FORGOTTEN));
        self.latest += (took - self.latest) * WEIGHT;
        if at.duration_since(self.moved) < STEP {
            return None;
        }
        let is_slow = self.latest > self.best * SLOW + SLACK.as_secs_f64();
        let change = if is_slow { self.now > 1 } else { self.now < self.most };
        if !change {
            return None;
        }
        self.moved = at;
        if is_slow {
            self.now -= 1
        } else {
            self.now += 1
        }
        Some(!is_slow)
    }
}

/// A turn; it is over when this is dropped.
pub struct Turn<'a> {
    background: &'a Background,
    permit: Option<SemaphorePermit<'a>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut limit = self.background.limit.lock().unwrap_or_else(PoisonError::into_inner);
        if limit.owed > 0
            && let Some(permit) = self.permit.take()
        {
            limit.owed -= 1;
            permit.forget();
        }
    }
}

impl Background {
    /// At most so many at a time, one at least.
    pub fn new(most: usize) -> Background {
        let most = most.max(1);
        let limit = Limit { most, now: most, owed: 0, best: 0.0, latest: 0.0, moved: Instant::now() };
        Background { turns: Semaphore::new(most), limit: Mutex::new(limit) }
    }

    /// Waits for a turn.
    pub async fn turn(&self) -> Option<Turn<'_>> {
        let permit = self.turns.acquire().await.ok()?;
        Some(Turn { background: self, permit: Some(permit) })
    }

    /// A statement that has nothing to do was answered after so long.
    pub fn note(&self, took: Duration) {
        let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        match limit.note(took, Instant::now()) {
            None => {}
            Some(true) if limit.owed > 0 => limit.owed -= 1,
            Some(true) => self.turns.add_permits(1),
            Some(false) => limit.owed += 1 - self.turns.forget_permits(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_fewer_while_answers_are_slow_and_more_again_after() {
        let background = Background::new(8);
        let mut limit = background.limit.lock().unwrap();
        let mut at = Instant::now();
        let mut answers = |limit: &mut Limit, took_us: u64, count: usize| {
            for _ in 0..count {
                at += Duration::from_millis(10);
                limit.note(Duration::from_micros(took_us), at);
            }
        };
        answers(&mut limit, 200, 100);
        assert_eq!(limit.now, 8);
        // A single slow one says nothing.
        answers(&mut limit, 5_000, 1);
        answers(&mut limit, 200, 20);
        assert_eq!(limit.now, 8);
        answers(&mut limit, 4_000, 50);
        assert!((3..=5).contains(&limit.now), "{}", limit.now);
        answers(&mut limit, 4_000, 500);
        assert_eq!(limit.now, 1, "never none");
        answers(&mut limit, 200, 200);
        assert_eq!(limit.now, 8);
        // A database that is far away is not a slow one.
        answers(&mut limit, 2_000, 50_000);
        assert_eq!(limit.now, 8);
    }

    #[tokio::test]
    async fn turns_that_are_owed_are_taken_when_they_come_back() {
        let background = Background::new(2);
        background.limit.lock().unwrap().moved = Instant::now() - 2 * STEP;
        background.note(Duration::from_micros(100));
        let (one, two) = (background.turn().await.unwrap(), background.turn().await.unwrap());
        let slow = || {
            background.limit.lock().unwrap().moved = Instant::now() - 2 * STEP;
            background.note(Duration::from_millis(50));
        };
        slow();
        assert_eq!((background.turns.available_permits(), background.limit.lock().unwrap().owed), (0, 1));
        drop(one);
        assert_eq!((background.turns.available_permits(), background.limit.lock().unwrap().owed), (0, 0));
        drop(two);
        assert_eq!(background.turns.available_permits(), 1);
        slow();
        assert_eq!(background.turns.available_permits(), 1, "one is left");
    }
}
