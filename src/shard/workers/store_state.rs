//! What all store threads have in common: how the store is (for `/readyz` and the log), and the way of an answer into
//! a shard's mailbox.
//!
//! Promises that a change is said once, that a fault which comes and goes does not flood the log, and that an answer is
//! handed in or counted as dropped. Refuses to wait for ever on a shard that stands still.

#![expect(
    clippy::disallowed_methods,
    reason = "a thread of blocking calls leaves an ask to those that have a connection"
)]

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::model::limits::{HEARTBEAT_STALE_AFTER, WITHOUT_CONNECTION_PAUSE};
use crate::ports::mailbox::FactSender;
use crate::ports::{Health, LookupError};
use crate::push::facts::Input;
use crate::telemetry::log_limiter::LogLimiter;

/// How long a thread may be without an ask before it pings the store.
pub(super) const PING_IDLE: Duration = Duration::from_secs(5);
/// The same while the store is away: how soon /readyz sees that it is back.
pub(super) const PING_AWAY: Duration = Duration::from_millis(500);
/// How long a thread holds an answer for a full mailbox; a shard that takes nothing for that long fails /livez.
pub(super) const ANSWER_DEADLINE: Duration = HEARTBEAT_STALE_AFTER;
/// How often it looks whether there is room again.
const ANSWER_RETRY: Duration = Duration::from_millis(1);

#[derive(Debug)]
struct Known {
    health: Health,
    /// The latest ask was answered with an error.
    is_refused: bool,
}

/// What the threads of one store share.
#[derive(Debug)]
pub(super) struct StoreState {
    /// The store's name in log lines.
    name: &'static str,
    health: Mutex<Known>,
    /// Threads whose latest ask or ping got as far as the store.
    reaching: AtomicUsize,
    dropped: AtomicU64,
    drop_warning: LogLimiter,
    away_warning: LogLimiter,
    back_line: LogLimiter,
}

impl StoreState {
    /// A store that has not answered yet.
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            health: Mutex::new(Known {
                health: Health::Waiting(format!("{name}: the store has not answered yet")),
                is_refused: false,
            }),
            reaching: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            drop_warning: LogLimiter::new(),
            away_warning: LogLimiter::new(),
            back_line: LogLimiter::new(),
        }
    }

    /// What the latest ask or ping of any thread said of the store; waiting until the first.
    pub(super) fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).health.clone()
    }

    /// Answers given up because a shard took nothing for five seconds.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Keeps the outcome for /readyz and says a change; true when the store is away. A store that answers one ask with an
    /// error is there; one that answers two with errors and none without in between is not.
    pub(super) fn note(&self, error: Option<&LookupError>) -> bool {
        let mut known = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let was_refused = std::mem::replace(&mut known.is_refused, matches!(error, Some(LookupError::Rejected(_))));
        let Known { health, .. } = &mut *known;
        let now = match error {
            None => Health::Ready,
            Some(LookupError::Rejected(_)) if !was_refused && *health == Health::Ready => Health::Ready,
            Some(LookupError::Rejected(why) | LookupError::NotReached(why) | LookupError::Unavailable(why)) => {
                Health::Waiting(why.clone())
            }
        };
        if *health != now {
            let gate = if now == Health::Ready { &self.back_line } else { &self.away_warning };
            if let Some(left_out) = gate.allow() {
                match &now {
                    Health::Waiting(why) | Health::Degraded(why) => tracing::warn!(left_out, "{}: {why}", self.name),
                    Health::Ready | Health::Says(_) => tracing::info!("{}: the store answers", self.name),
                }
            }
            health.clone_from(&now);
        }
        now != Health::Ready
    }

    /// Hands an answer in; holds it for at most `patience` when the mailbox is full.
    pub(super) fn answer(&self, reply: &FactSender, fact: Input, patience: Duration) {
        let Err(mut fact) = reply.try_send(fact) else { return };
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            thread::park_timeout(ANSWER_RETRY);
            match reply.try_send(fact) {
                Ok(()) => return,
                Err(back) => fact = back,
            }
        }
        self.dropped.fetch_add(1, Ordering::Relaxed);
        if let Some(left_out) = self.drop_warning.allow() {
            let name = self.name;
            tracing::warn!(left_out, "{name}: a shard took no facts for {patience:?}; its answer was dropped");
        }
    }
}

/// Whether one thread gets as far as the store. One without a connection fails at once: if it took the next ask as soon as
/// it may, it would draw most of them away from those that have one.
#[derive(Debug)]
pub(super) struct Reach<'a> {
    state: &'a StoreState,
    is_reaching: bool,
}

impl<'a> Reach<'a> {
    /// A thread that has not asked yet.
    pub(super) fn new(state: &'a StoreState) -> Self {
        Self { state, is_reaching: false }
    }

    /// What the thread's latest ask or ping, or each ask of a batch, ended with.
    pub(super) fn note<'e>(&mut self, errors: impl IntoIterator<Item = Option<&'e LookupError>>) {
        let is_lost = |error: Option<&LookupError>| matches!(error, Some(LookupError::NotReached(_)));
        let now = !errors.into_iter().any(is_lost);
        match (std::mem::replace(&mut self.is_reaching, now), now) {
            (false, true) => _ = self.state.reaching.fetch_add(1, Ordering::AcqRel),
            (true, false) => _ = self.state.reaching.fetch_sub(1, Ordering::AcqRel),
            _ => {}
        }
    }

    /// Before the next ask is taken: one without a connection waits a while, and for as long as others have one until it
    /// has one, too. While nobody has one each takes asks, so that the core hears of it.
    pub(super) fn before_next(&mut self, mut ping: impl FnMut() -> Result<(), LookupError>) {
        while !self.is_reaching {
            thread::sleep(WITHOUT_CONNECTION_PAUSE);
            if self.state.reaching.load(Ordering::Acquire) == 0 {
                return;
            }
            self.note([ping().err().as_ref()]);
        }
    }
}

impl Drop for Reach<'_> {
    fn drop(&mut self) {
        self.note([Some(&LookupError::NotReached(String::new()))]);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ports::mailbox::{Wake, mailbox};

    #[test]
    fn an_answer_that_finds_no_room_until_its_deadline_is_counted() {
        let (sender, facts) = mailbox(1, Arc::new(Wake::default()));
        sender.try_send(Input::RoutesUnknown).expect("room");
        let state = StoreState::new("members");
        state.answer(&sender, Input::Members { ask: 1, answer: Ok(Vec::new()) }, Duration::from_millis(5));
        assert_eq!(state.dropped(), 1);
        assert!(matches!(facts.try_next(), Some(Input::RoutesUnknown)));
    }
}
