//! Asks all shards what they remember of ends.
//!
//! Promises a bounded number of asks at once, each with a deadline, and no lock on a shard's way but when it answers one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout_at};

use crate::model::ends::{EndsAsked, RememberedEnd};
use crate::model::ids::Nanos;
use crate::ports::mailbox::FactSender;
use crate::push::facts::{AskNo, Input};

/// Asks under way at once.
const ASKS_MAX: usize = 8;
/// How long a shard has for its answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a shard remembers, and when it said so.
type Answer = (Vec<RememberedEnd>, Nanos);

/// What all shards remember.
#[derive(Clone, Debug, Default)]
pub struct EndsTold {
    /// The ends of each, and its time when it answered.
    pub of_shards: Vec<Answer>,
    /// Shards that did not answer in time.
    pub silent: usize,
}

/// See the module.
#[derive(Clone)]
pub struct EndsDesk(Arc<Desk>);

struct Desk {
    /// None when nothing is remembered.
    senders: Option<Vec<FactSender>>,
    waiting: Mutex<(AskNo, HashMap<AskNo, UnboundedSender<Answer>>)>,
}

impl EndsDesk {
    /// For these shards; for none where nothing is remembered.
    pub fn new(senders: Option<Vec<FactSender>>) -> Self {
        Self(Arc::new(Desk { senders, waiting: Mutex::default() }))
    }

    /// Whether anything is remembered.
    pub fn is_on(&self) -> bool {
        self.0.senders.is_some()
    }

    /// Asks them all. None when too many ask at once.
    pub async fn ask(&self, asked: &EndsAsked) -> Option<EndsTold> {
        let senders = self.0.senders.as_deref().unwrap_or_default();
        let (tell, mut told) = unbounded_channel();
        let asks: Vec<AskNo> = {
            let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.1.len() >= ASKS_MAX * senders.len().max(1) {
                return None;
            }
            let first = waiting.0;
            waiting.0 += senders.len() as AskNo;
            let asks = (first..waiting.0).collect::<Vec<_>>();
            waiting.1.extend(asks.iter().map(|ask| (*ask, tell.clone())));
            asks
        };
        drop(tell);
        // Also when whoever asks is gone before the answers are there.
        let _forgets = Forgets(&self.0, &asks);
        for (sender, ask) in senders.iter().zip(&asks) {
            let fact = Input::AskEnds { ask: *ask, asked: Box::new(asked.clone()) };
            if sender.try_send(fact).is_err() {
                self.0.forget(*ask);
            }
        }
        let (deadline, mut of_shards) = (Instant::now() + PATIENCE, Vec::new());
        while let Ok(Some(answer)) = timeout_at(deadline, told.recv()).await {
            of_shards.push(answer);
        }
        Some(EndsTold { silent: senders.len() - of_shards.len(), of_shards })
    }

    /// A shard answers.
    pub fn answered(&self, ask: AskNo, ends: Vec<RememberedEnd>, now: Nanos) {
        if let Some(tell) = self.0.forget(ask) {
            // Nobody may wait any more.
            let _ = tell.send((ends, now));
        }
    }
}

impl Desk {
    fn forget(&self, ask: AskNo) -> Option<UnboundedSender<Answer>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&ask)
    }
}

struct Forgets<'a>(&'a Desk, &'a [AskNo]);

impl Drop for Forgets<'_> {
    fn drop(&mut self) {
        self.1.iter().for_each(|ask| drop(self.0.forget(*ask)));
    }
}
