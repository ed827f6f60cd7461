//! The other processes on the bus. One that is not heard of any more may have lost its connection
//! while ours is well: what it publishes is then missing here, and nothing else would show it.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// Each says so often that it is there.
pub const BEAT_EVERY: Duration = Duration::from_secs(1);
/// Who has not been heard for so long is silent.
const SILENT_AFTER: Duration = Duration::from_millis(2_500);
/// Who has been silent for so long has died without a good-bye.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// All that have been heard of.
#[derive(Default, Debug)]
pub struct Nodes(HashMap<String, Node>);

#[derive(Debug)]
struct Node {
    heard_at: Instant,
    silent_since: Option<Instant>,
}

impl Nodes {
    /// A process is there.
    pub fn heard(&mut self, origin: &str) {
        let now = Instant::now();
        match self.0.get_mut(origin) {
            Some(node) => *node = Node { heard_at: now, silent_since: None },
            None => {
                self.0.insert(origin.to_owned(), Node { heard_at: now, silent_since: None });
            }
        }
    }

    /// A process has left.
    pub fn left(&mut self, origin: &str) {
        self.0.remove(origin);
    }

    /// Gives all time to be heard: this process heard nobody for a while.
    pub fn wait_anew(&mut self) {
        for node in self.0.values_mut() {
            node.heard_at = Instant::now();
        }
    }

    /// How many are silent.
    pub fn silent(&mut self) -> usize {
        let now = Instant::now();
        self.0.retain(|_, node| {
            if now.duration_since(node.heard_at) > SILENT_AFTER {
                node.silent_since.get_or_insert(now);
            }
            node.silent_since.is_none_or(|since| now.duration_since(since) < FORGET_AFTER)
        });
        self.0.values().filter(|node| node.silent_since.is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_not_heard_is_silent_until_heard_gone_or_forgotten() {
        let mut nodes = Nodes::default();
        for origin in ["a", "b"] {
            nodes.heard(origin);
        }
        tokio::time::advance(BEAT_EVERY * 2).await;
        nodes.heard("a");
        assert_eq!(nodes.silent(), 0);
        tokio::time::advance(BEAT_EVERY).await;
        assert_eq!(nodes.silent(), 1, "b");
        nodes.heard("b");
        assert_eq!(nodes.silent(), 0);
        nodes.left("b");
        tokio::time::advance(BEAT_EVERY * 3).await;
        assert_eq!(nodes.silent(), 1, "a, not b which said good-bye");
        nodes.wait_anew();
        assert_eq!(nodes.silent(), 1, "a was not heard");
        tokio::time::advance(FORGET_AFTER).await;
        assert_eq!(nodes.silent(), 0, "a is dead");
    }
}
