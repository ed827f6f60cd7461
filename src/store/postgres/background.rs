//! How many of those for whom nobody waits use the database at a time.
//!
//! Each takes a connection, of which they have half at the most. But a database that is busy makes those
//! wait for whom somebody waits, and does not get more done the more it is given: so there are fewer while
//! it answers slowly. How fast it answers is told by a statement that has nothing to do, the `begin` of a
//! read. As long as somebody waits in this process, less is slow than when there are workers only.
//!
//! Turns may be held by those who wait for something else than the database as a whole: a lock, a node
//! that is lost. They hold up neither those who go first, who have turns of their own beside the others,
//! nor anybody for ever: while no turn is over there is one more every moment.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::store::unit::Urgency;

/// The limit is looked at so often, after so many answers at least; it is halved, or grows by one if more
/// was wanted. So whoever begins to work begins slowly.
const STEP: Duration = Duration::from_millis(100);
const STEP_ANSWERS: u32 = 16;
/// It grows after so many looks in a row that found fast answers, while somebody waits in this process.
const GROWS_AFTER: u32 = 5;
/// Answers are slow that take so many times as long as in calm, and this much longer. The first pair counts
/// while somebody waits in this process, the other else.
const SLOW_FOR_CLIENTS: (f64, Duration) = (1.3, Duration::ZERO);
const SLOW_FOR_WORKERS: (f64, Duration) = (3.0, Duration::from_micros(500));
/// Somebody waits in this process when somebody has waited within this time.
const LATELY: Duration = Duration::from_secs(1);
/// It is calm when no turn has been taken for so long.
const CALM_AFTER: Duration = Duration::from_millis(50);
/// What an answer takes in calm is the mean of so many. With fewer, the fastest that was seen stands for it.
const CALM_ANSWERS: u32 = 256;
/// Turns that there always are: queues move on however slow the database is.
const LEAST: usize = 2;
/// After so many looks in a row that found slow answers, with no more turns taken than the least, it is not the
/// workers that make them slow, and there may never be a calm that tells so. From then on each further
/// one forgives answers that take this part longer. As soon as they take less, that is forgiven no more.
const FORGIVES_AFTER: u32 = 10;
const FORGIVEN: f64 = 1.0 / 100.0;
/// After so many turns of those that go first, one of the others has its turn.
const FIRST_IN_A_ROW: u32 = 3;
/// Turns beside the others, for those alone that go first.
const FOR_FIRST: usize = 1;
/// When none of the others' turns was over and nothing was answered for so long there is one more.
const STALLED: Duration = Duration::from_secs(1);

/// The turns.
pub struct Background(Mutex<State>);

struct State {
    limit: Limit,
    taken: usize,
    /// Of those for who goes first.
    taken_by_first: usize,
    /// When the last one was over, of those for who goes first or not, and of the others.
    over: Instant,
    other_over: Instant,
    first: VecDeque<oneshot::Sender<Turn>>,
    others: VecDeque<oneshot::Sender<Turn>>,
    first_in_a_row: u32,
}

/// How many there are. Means are geometric: a few answers take very much longer than all others, and say
/// nothing.
struct Limit {
    most: usize,
    now: usize,
    /// Whether more was wanted since the last look.
    is_wanted: bool,
    /// Looks in a row that found fast answers.
    fast: u32,
    /// Looks in a row that found slow ones, with no more turns taken than the least.
    slow_at_least: u32,
    /// How much slower answers may be than in calm, as a logarithm, since it is not because of the workers.
    forgiven: f64,
    /// The most turns that were taken since the last look.
    busiest: usize,
    /// The logarithm of what an answer takes in calm, in seconds; none before the first.
    calm: Option<f64>,
    /// How many answers that is the mean of, until there are enough.
    calm_answers: u32,
    /// Sum of the logarithms, and number, of the answers since the last look.
    latest: (f64, u32),
    looked: Instant,
    /// When somebody waited last.
    waited: Option<Instant>,
}

impl Limit {
    /// Of workers who take so many turns at the most.
    fn new(most: usize, at: Instant) -> Limit {
        metrics::gauge!("postrider_background_turns").set(LEAST as f64);
        Limit {
            most: most.max(LEAST),
            now: LEAST,
            is_wanted: false,
            fast: 0,
            slow_at_least: 0,
            forgiven: 0.0,
            busiest: 0,
            calm: None,
            calm_answers: 0,
            latest: (0.0, 0),
            looked: at,
            waited: None,
        }
    }

    /// An answer took so long, while so many turns were taken, in calm or not.
    fn note(&mut self, took: Duration, taken: usize, is_calm: bool, urgency: Urgency, at: Instant) {
        self.busiest = self.busiest.max(taken);
        if urgency == Urgency::Interactive {
            self.waited = Some(at);
        }
        let took = took.as_secs_f64().max(1e-9).ln();
        let calm = self.calm.get_or_insert(took);
        if is_calm {
            self.calm_answers = (self.calm_answers + 1).min(CALM_ANSWERS);
            *calm += (took - *calm) / f64::from(self.calm_answers);
            self.forgiven -= self.forgiven / f64::from(CALM_ANSWERS);
        }
        self.latest = (self.latest.0 + took, self.latest.1 + 1);
        if self.latest.1 >= STEP_ANSWERS && at.duration_since(self.looked) >= STEP {
            self.look(at);
        }
    }

    fn look(&mut self, at: Instant) {
        let (sum, count) = std::mem::take(&mut self.latest);
        let latest = sum / f64::from(count.max(1));
        self.looked = at;
        let calm = self.calm.get_or_insert(latest);
        if self.calm_answers < CALM_ANSWERS {
            *calm = calm.min(latest);
        }
        let has_client = self.waited.is_some_and(|waited| at.duration_since(waited) < LATELY);
        let (times, longer) = if has_client { SLOW_FOR_CLIENTS } else { SLOW_FOR_WORKERS };
        let is_slow = latest.exp() > (*calm + self.forgiven).exp() * times + longer.as_secs_f64();
        let busiest = std::mem::take(&mut self.busiest);
        self.slow_at_least = if is_slow && busiest <= LEAST { self.slow_at_least + 1 } else { 0 };
        if self.slow_at_least >= FORGIVES_AFTER {
            self.forgiven += FORGIVEN;
        } else if !is_slow {
            self.forgiven = self.forgiven.min((latest - *calm).max(0.0));
        }
        let is_wanted = std::mem::take(&mut self.is_wanted);
        if is_slow {
            self.now = (self.now / 2).max(LEAST);
            self.fast = 0;
        } else if is_wanted {
            self.fast += 1;
            if !has_client || self.fast >= GROWS_AFTER {
                self.now = (self.now + 1).min(self.most);
                self.fast = 0;
            }
        }
        metrics::gauge!("postrider_background_turns").set(self.now as f64);
    }

    /// No turn has been over for so long: those who hold them wait for something else.
    fn stalled(&mut self, at: Instant) {
        self.looked = at;
        self.now = (self.now + 1).min(self.most);
        metrics::gauge!("postrider_background_turns").set(self.now as f64);
    }
}

/// A turn; it is over when this is dropped.
pub struct Turn {
    /// Gone when it has been given on.
    of: Option<Arc<Background>>,
    /// Whether it is one of those for who goes first.
    is_for_first: bool,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(background) = self.of.take() {
            let mut state = background.state();
            if self.is_for_first {
                state.taken_by_first -= 1;
            } else {
                state.taken -= 1;
                state.other_over = Instant::now();
            }
            state.over = Instant::now();
            state.give(&background);
        }
    }
}

impl State {
    /// Gives what turns there are to those who wait.
    fn give(&mut self, background: &Arc<Background>) {
        let turn = |is_for_first| Turn { of: Some(background.clone()), is_for_first };
        while self.taken < self.limit.now
            && let Some(waiting) = self.next()
        {
            match waiting.send(turn(false)) {
                Ok(()) => self.taken += 1,
                // Whoever it was has left.
                Err(mut turn) => turn.of = None,
            }
        }
        while self.taken_by_first < FOR_FIRST
            && let Some(waiting) = next_of(&mut self.first)
        {
            match waiting.send(turn(true)) {
                Ok(()) => self.taken_by_first += 1,
                Err(mut turn) => turn.of = None,
            }
        }
        self.limit.busiest = self.limit.busiest.max(self.taken);
        self.limit.is_wanted |= !(self.first.is_empty() && self.others.is_empty());
    }

    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        if self.first_in_a_row < FIRST_IN_A_ROW
            && let Some(first) = next_of(&mut self.first)
        {
            self.first_in_a_row += 1;
            return Some(first);
        }
        self.first_in_a_row = 0;
        next_of(&mut self.others).or_else(|| next_of(&mut self.first))
    }
}

/// The next who has not left.
fn next_of(waiting: &mut VecDeque<oneshot::Sender<Turn>>) -> Option<oneshot::Sender<Turn>> {
    std::iter::from_fn(|| waiting.pop_front()).find(|waiting| !waiting.is_closed())
}

impl Background {
    /// At most so many at a time, two at least, and one more of those that go first.
    pub fn new(most: usize) -> Arc<Background> {
        let now = Instant::now();
        Arc::new(Background(Mutex::new(State {
            limit: Limit::new(most, now),
            taken: 0,
            taken_by_first: 0,
            over: now,
            other_over: now,
            first: VecDeque::new(),
            others: VecDeque::new(),
            first_in_a_row: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn, which who is interactive does not need. Nobody who has one may wait for another.
    pub async fn turn(self: &Arc<Self>, urgency: Urgency) -> Option<Turn> {
        let mut turn = {
            let mut state = self.state();
            let (give, turn) = oneshot::channel();
            match urgency {
                Urgency::Interactive => return None,
                Urgency::Soon => state.first.push_back(give),
                Urgency::Background => state.others.push_back(give),
            }
            state.give(self);
            turn
        };
        loop {
            match tokio::time::timeout(STALLED, &mut turn).await {
                Ok(turn) => return turn.ok(),
                Err(_) => self.look_for_stall(),
            }
        }
    }

    fn look_for_stall(self: &Arc<Self>) {
        let mut state = self.state();
        let now = Instant::now();
        if now.duration_since(state.other_over.max(state.limit.looked)) >= STALLED {
            state.limit.stalled(now);
            state.give(self);
        }
    }

    /// A statement that has nothing to do was answered after so long.
    pub fn note(self: &Arc<Self>, took: Duration, urgency: Urgency) {
        let mut state = self.state();
        let now = Instant::now();
        let taken = state.taken;
        let is_calm = taken + state.taken_by_first == 0 && now.duration_since(state.over) > CALM_AFTER;
        state.limit.note(took, taken, is_calm, urgency, now);
        state.give(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers that come one after the other.
    struct Answers<'a> {
        limit: &'a mut Limit,
        at: Instant,
    }

    impl Answers<'_> {
        /// So many, 5 ms apart, to clients or to workers, who take all turns and want more; what the limit is then.
        fn come(&mut self, took_us: u64, count: usize, urgency: Urgency, is_calm: bool) -> usize {
            for _ in 0..count {
                let taken = if is_calm { 0 } else { self.limit.now };
                self.comes(took_us, taken, urgency, is_calm);
            }
            self.limit.now
        }

        fn comes(&mut self, took_us: u64, taken: usize, urgency: Urgency, is_calm: bool) {
            self.at += Duration::from_millis(5);
            self.limit.is_wanted |= !is_calm;
            self.limit.note(Duration::from_micros(took_us), taken, is_calm, urgency, self.at);
        }
    }

    #[test]
    fn there_are_fewer_while_answers_are_slower_than_in_calm_and_more_again_after() {
        let background = Background::new(8);
        let mut state = background.state();
        let mut answers = Answers { limit: &mut state.limit, at: Instant::now() };
        let client = Urgency::Interactive;
        assert_eq!(answers.come(200, 300, client, true), 2, "nobody wants more");
        assert_eq!(answers.come(250, 210, client, false), 4, "one after the other");
        assert_eq!(answers.come(250, 600, client, false), 8);
        // A single slow one says nothing.
        answers.come(4_000, 1, client, false);
        assert_eq!(answers.come(200, 100, client, false), 8);
        assert_eq!(answers.come(500, 100, client, false), 2, "and never none");
        assert_eq!(answers.come(200, 1_000, client, false), 8);
        // What was calm does not rise with what is busy,
        answers.come(400, 100, client, false);
        assert_eq!(answers.come(400, 200, client, false), 2);
        // nor with those who still hold the turns that they took before,
        for _ in 0..3_000 {
            answers.comes(400, 5, client, false);
        }
        assert_eq!(answers.limit.now, 2);
        // unless all is slow for long though there are so few: then it is not because of the workers.
        let most = (0..3_000).map(|_| answers.come(400, 1, client, false)).max();
        assert_eq!(most, Some(8));
        assert!(answers.limit.forgiven < 0.5, "{}", answers.limit.forgiven);
        // That ends with it.
        answers.come(200, 100, client, false);
        assert!(answers.limit.forgiven < 0.1, "{}", answers.limit.forgiven);
        assert_eq!(answers.come(400, 100, client, false), 2);
    }

    #[test]
    fn with_workers_only_the_database_may_be_busier() {
        let background = Background::new(8);
        let mut state = background.state();
        let mut answers = Answers { limit: &mut state.limit, at: Instant::now() };
        answers.come(200, 300, Urgency::Interactive, true);
        assert_eq!(answers.come(800, 400, Urgency::Background, false), 8);
        answers.come(800, 1, Urgency::Interactive, false);
        assert!(
            answers.come(800, 90, Urgency::Background, false) < 8,
            "somebody has waited within the second"
        );
        assert_eq!(answers.come(800, 500, Urgency::Background, false), 8);
        assert!(answers.come(2_000, 100, Urgency::Background, false) < 8);
    }

    #[test]
    fn without_a_calm_the_fastest_answers_stand_for_it() {
        let background = Background::new(8);
        let mut state = background.state();
        let mut answers = Answers { limit: &mut state.limit, at: Instant::now() };
        answers.come(5_000, 1, Urgency::Background, false);
        assert_eq!(answers.come(300, 300, Urgency::Background, false), 8);
        assert!(answers.come(3_000, 100, Urgency::Background, false) < 8);
    }

    /// Polls once: whether the turn is there.
    async fn now<T>(turn: impl Future<Output = T> + Unpin) -> Option<T> {
        tokio::time::timeout(Duration::from_millis(5), turn).await.ok()
    }

    #[tokio::test]
    async fn turns_that_are_too_many_are_not_given_again() {
        let background = Background::new(2);
        let one = background.turn(Urgency::Background).await;
        let two = background.turn(Urgency::Background).await;
        assert!(background.turn(Urgency::Interactive).await.is_none(), "it needs none");
        background.state().limit.now = 1;
        let mut three = Box::pin(background.turn(Urgency::Background));
        assert!(now(&mut three).await.is_none());
        drop(one);
        assert!(now(&mut three).await.is_none(), "one is left, and is taken");
        drop(two);
        assert!(now(&mut three).await.is_some());
    }

    #[tokio::test]
    async fn who_has_left_holds_up_nobody_and_those_who_go_first_do_not_go_for_ever() {
        let background = Background::new(2);
        background.state().limit.now = 1;
        let held = background.turn(Urgency::Background).await;
        let of_first = background.turn(Urgency::Soon).await;
        let mut left = Box::pin(background.turn(Urgency::Soon));
        assert!(now(&mut left).await.is_none());
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for urgency in [Urgency::Background, Urgency::Background].into_iter().chain([Urgency::Soon; 6]) {
            let (background, order) = (background.clone(), order.clone());
            tasks.push(tokio::spawn(async move {
                let turn = background.turn(urgency).await;
                order.lock().unwrap().push(urgency);
                drop(turn);
            }));
            tokio::task::yield_now().await;
        }
        drop(left);
        drop(held);
        for task in tasks {
            task.await.unwrap();
        }
        drop(of_first);
        let others: Vec<usize> =
            (0..8).filter(|at| order.lock().unwrap()[*at] == Urgency::Background).collect();
        assert_eq!(others, [3, 7]);
        // A turn that came for whom has just left is not lost.
        let held = background.turn(Urgency::Background).await;
        let mut left = Box::pin(background.turn(Urgency::Background));
        assert!(now(&mut left).await.is_none());
        drop(held);
        drop(left);
        assert!(now(Box::pin(background.turn(Urgency::Background))).await.is_some());
    }

    /// Somebody holds all turns and waits for a node that is lost.
    #[tokio::test]
    async fn those_who_go_first_wait_for_nobody_else_and_all_others_not_for_ever() {
        let background = Background::new(8);
        let held = [background.turn(Urgency::Background).await, background.turn(Urgency::Background).await];
        let first = tokio::time::timeout(Duration::from_millis(5), background.turn(Urgency::Soon)).await;
        assert!(first.is_ok());
        drop(first);
        // Leases are renewed meanwhile.
        let renewals = tokio::spawn({
            let background = background.clone();
            async move {
                loop {
                    drop(background.turn(Urgency::Soon).await);
                    tokio::time::sleep(STALLED / 10).await;
                }
            }
        });
        let other = tokio::time::timeout(10 * STALLED, background.turn(Urgency::Background)).await;
        assert!(other.is_ok());
        assert_eq!(background.state().limit.now, 3);
        renewals.abort();
        drop(held);
    }

    /// Gives and leaves at the same moment, on several threads, lose no turn.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn who_leaves_while_its_turn_comes_takes_none_along() {
        let background = Background::new(2);
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..2_000_u64 {
            let background = background.clone();
            tasks.spawn(async move {
                let urgency = if number % 2 == 0 { Urgency::Soon } else { Urgency::Background };
                let patience = Duration::from_micros(number % 97 * 10);
                let turn = tokio::time::timeout(patience, background.turn(urgency)).await;
                tokio::task::yield_now().await;
                drop(turn);
            });
        }
        while tasks.join_next().await.is_some() {}
        let state = background.state();
        assert_eq!((state.taken, state.taken_by_first), (0, 0));
    }
}
