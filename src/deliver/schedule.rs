//! When a delivery is tried again, and when it is given up. Pure: times and chance come in.
//!
//! The wait after a try is as long as the delivery has been tried already, within bounds: so waits
//! double, and what is known is the time of the first try alone. Counting tries would count
//! those of workers that died, too.

/// No wait is longer than this, however long a delivery has been tried, in milliseconds.
const LONGEST_WAIT_MS: i64 = 4 * 3_600_000;
/// After this the sender is told of a delay, if the sender wants to hear of it (RFC 5321, 4.5.4.1
/// advises retries for days; users want to know within hours).
const DELAY_TOLD_AFTER_MS: i64 = 4 * 3_600_000;

/// How long to wait between tries and how long to try.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Schedule {
    /// The wait after the first try, in milliseconds; later ones grow from it.
    pub first_wait_ms: i64,
    /// How long a delivery is tried, in milliseconds.
    pub give_up_after_ms: i64,
}

impl Schedule {
    /// When to try again after a try at `now_ms` that failed for the time being. `chance` is from 0 to
    /// 1 and moves the wait by a tenth to either side, so that what failed together does not come
    /// back together. The last try is made when the time is over.
    pub fn next_try_ms(&self, first_tried_ms: i64, now_ms: i64, chance: f64) -> i64 {
        let first_wait_ms = self.first_wait_ms.max(1);
        let tried_for_ms = now_ms.saturating_sub(first_tried_ms);
        let wait_ms = tried_for_ms.clamp(first_wait_ms, first_wait_ms.max(LONGEST_WAIT_MS));
        let moved_ms = (wait_ms as f64 * (0.9 + 0.2 * chance.clamp(0.0, 1.0))) as i64;
        let last_try_ms = first_tried_ms.saturating_add(self.give_up_after_ms);
        now_ms.saturating_add(moved_ms).min(last_try_ms.max(now_ms.saturating_add(1)))
    }

    /// Whether the time for a delivery is over, so that a try that fails is the last.
    pub fn is_over(&self, first_tried_ms: i64, now_ms: i64) -> bool {
        now_ms.saturating_sub(first_tried_ms) >= self.give_up_after_ms
    }

    /// When the time for a delivery is over, in milliseconds since 1970.
    pub fn end_ms(&self, first_tried_ms: i64) -> i64 {
        first_tried_ms.saturating_add(self.give_up_after_ms)
    }

    /// Whether a delivery takes so long that its sender is to be told.
    pub fn is_delayed(first_tried_ms: i64, now_ms: i64) -> bool {
        now_ms.saturating_sub(first_tried_ms) >= DELAY_TOLD_AFTER_MS
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: i64 = 60_000;
    const DAY: i64 = 24 * 60 * MINUTE;
    const SCHEDULE: Schedule = Schedule { first_wait_ms: 5 * MINUTE, give_up_after_ms: 5 * DAY };

    #[test]
    fn waits_double_up_to_hours_for_five_days() {
        let (mut now, mut waits) = (0, Vec::new());
        while !SCHEDULE.is_over(0, now) {
            let next = SCHEDULE.next_try_ms(0, now, 0.5);
            waits.push((next - now) / MINUTE);
            now = next;
        }
        assert_eq!(&waits[..8], [5, 5, 10, 20, 40, 80, 160, 240]);
        assert_eq!(now, 5 * DAY, "the last try is made when the time is over");
        assert!(waits.len() > 30 && waits.len() < 45, "{}", waits.len());
    }

    #[test]
    fn a_delay_is_told_after_hours() {
        assert!(!Schedule::is_delayed(0, 4 * 60 * MINUTE - 1));
        assert!(Schedule::is_delayed(0, 4 * 60 * MINUTE));
    }

    proptest! {
        #[test]
        fn a_next_try_is_later_and_in_time(
            first in 1_i64..10 * DAY, end in 1_i64..10 * DAY, tried in 0_i64..20 * DAY, chance in 0.0..1.0
        ) {
            let schedule = Schedule { first_wait_ms: first, give_up_after_ms: end };
            let next = schedule.next_try_ms(0, tried, chance);
            prop_assert!(next > tried);
            prop_assert!(next <= schedule.end_ms(0).max(tried + 1));
        }
    }
}
