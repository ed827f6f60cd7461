//! A unit of work: what `Store::write` runs inside a transaction.
//!
//! A unit is owned and repeatable (it may run again after a failed commit or a deadlock), and waits
//! for nothing but its own statements.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tokio::sync::oneshot;

use crate::store::error::StoreError;
use crate::store::tx::{Scope, Tx};

/// How urgent a unit of work is: somebody waits for interactive ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Urgency {
    /// A client waits for the answer.
    Interactive,
    /// After those, but ahead of all else: mail that another server hands in, leases, outcomes.
    Soon,
    /// Ingest, sweeps, queues.
    Background,
}

/// What a unit of work is: `async move |tx: &mut Tx| { … Ok(value) }`. The trait exists because a
/// bound on async closures cannot ask that their futures are `Send`.
pub trait Unit<'a, T>: FnOnce(&'a mut Tx) -> <Self as Unit<'a, T>>::Future {
    /// The future of one run.
    type Future: Future<Output = Result<T, StoreError>> + Send + 'a;
}

impl<'a, T, F, Fut> Unit<'a, T> for F
where
    F: FnOnce(&'a mut Tx) -> Fut,
    Fut: Future<Output = Result<T, StoreError>> + Send + 'a,
{
    type Future = Fut;
}

/// A unit of any type, as a writer holds it.
pub trait Work: Send {
    /// Runs the unit once, keeping its result.
    fn run(&mut self, tx: &mut Tx) -> Result<(), StoreError>;
    /// Tells the caller: of the kept result, or of the failure.
    fn finish(self: Box<Self>, failure: Option<StoreError>);
    /// Whether the caller has left.
    fn is_abandoned(&self) -> bool;
    /// For logs.
    fn name(&self) -> &'static str;
}

/// A unit, what it is about, and who waits for its result.
pub struct Job<F, T> {
    scope: Scope,
    unit: F,
    result: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Job<F, T> {
    /// A job, and where its result will be told.
    pub fn new(scope: Scope, unit: F) -> (Job<F, T>, oneshot::Receiver<Result<T, StoreError>>) {
        let (reply, receiver) = oneshot::channel();
        (Job { scope, unit, result: None, reply }, receiver)
    }
}

impl<F, T> Work for Job<F, T>
where
    F: for<'a> Unit<'a, T> + Clone + Send,
    T: Send,
{
    fn run(&mut self, tx: &mut Tx) -> Result<(), StoreError> {
        let unit = self.unit.clone();
        let scope = self.scope;
        let mut whole = pin!(async {
            tx.start(scope).await?;
            let result = unit(tx).await?;
            tx.finish().await?;
            Ok(result)
        });
        let mut context = Context::from_waker(Waker::noop());
        // A panic inside is undone with the savepoint; what the unit owned is dropped.
        match std::panic::catch_unwind(AssertUnwindSafe(|| whole.as_mut().poll(&mut context))) {
            Ok(Poll::Ready(Ok(result))) => {
                self.result = Some(result);
                Ok(())
            }
            Ok(Poll::Ready(Err(error))) => Err(error),
            Ok(Poll::Pending) => Err(StoreError::UnitWaited),
            Err(_) => Err(StoreError::UnitPanicked),
        }
    }

    fn finish(self: Box<Self>, failure: Option<StoreError>) {
        let outcome = match (failure, self.result) {
            (Some(error), _) => Err(error),
            (None, Some(result)) => Ok(result),
            (None, None) => Err(StoreError::Closed),
        };
        // The caller may have left meanwhile; the work is done all the same.
        let _ = self.reply.send(outcome);
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn name(&self) -> &'static str {
        std::any::type_name::<F>()
    }
}
