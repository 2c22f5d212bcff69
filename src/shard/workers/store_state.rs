//! What all store threads have in common: how the store is (for `/readyz` and the log), and the way of an answer into
//! a shard's mailbox.
//!
//! Promises that a change is said once, that a fault which comes and goes does not flood the log, and that an answer is
//! handed in or counted as dropped. Refuses to wait for ever on a shard that stands still.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::model::limits::HEARTBEAT_STALE_AFTER;
use crate::ports::mailbox::FactSender;
use crate::ports::{Health, LookupError};
use crate::push::facts::Input;
use crate::telemetry::log_limiter::Quiet;

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
    dropped: AtomicU64,
    drop_warning: Quiet,
    away_warning: Quiet,
    back_line: Quiet,
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
            dropped: AtomicU64::new(0),
            drop_warning: Quiet::new(),
            away_warning: Quiet::new(),
            back_line: Quiet::new(),
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
            Some(LookupError::Rejected(why) | LookupError::Unavailable(why)) => Health::Waiting(why.clone()),
        };
        if *health != now {
            let gate = if now == Health::Ready { &self.back_line } else { &self.away_warning };
            if let Some(left_out) = gate.may_say() {
                match &now {
                    Health::Waiting(why) | Health::Degraded(why) => tracing::warn!(left_out, "{}: {why}", self.name),
                    Health::Ready => tracing::info!("{}: the store answers", self.name),
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
        if let Some(left_out) = self.drop_warning.may_say() {
            let name = self.name;
            tracing::warn!(left_out, "{name}: a shard took no facts for {patience:?}; its answer was dropped");
        }
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
