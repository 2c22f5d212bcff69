//! How facts reach a shard's pump: from other threads ([`Mailbox`]) and from tasks of the same shard ([`LocalFacts`]).
//!
//! Promises that a sender never waits, that a fact put in while the pump falls asleep wakes it, and that one wake
//! serves however many facts came before it was seen. Refuses to drop: a full mailbox gives the fact back.

/// What [`wake`] is made of.
mod atomics {
    pub use std::sync::atomic::{AtomicBool, Ordering, fence};

    pub use atomic_waker::AtomicWaker;
}
mod wake;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use crossbeam_channel::{Receiver, Sender};

pub use self::wake::Wake;
use crate::push::facts::Input;

/// The shard's end of its mailbox.
#[derive(Debug)]
pub struct Mailbox {
    facts: Receiver<Input>,
}

/// Any thread's end of a shard's mailbox.
#[derive(Clone, Debug)]
pub struct FactSender {
    facts: Sender<Input>,
    capacity: usize,
    wake: Arc<Wake>,
}

/// A mailbox that holds `capacity` facts and wakes `wake`. Its memory is that of the facts which wait: made for all that it may
/// hold, those of some shards were most of what a process at rest takes. Senders that come at the same instant may each put one
/// fact more into a mailbox that is full.
pub fn mailbox(capacity: usize, wake: Arc<Wake>) -> (FactSender, Mailbox) {
    let (sender, facts) = crossbeam_channel::unbounded();
    (FactSender { facts: sender, capacity, wake }, Mailbox { facts })
}

impl FactSender {
    /// Puts a fact in without waiting.
    ///
    /// # Errors
    /// Gives the fact back when the mailbox is full. A shard that is gone takes everything and forgets it.
    pub fn try_send(&self, fact: Input) -> Result<(), Input> {
        if self.facts.len() >= self.capacity {
            return Err(fact);
        }
        if self.facts.send(fact).is_ok() {
            self.wake.wake();
        }
        Ok(())
    }
}

impl Mailbox {
    /// The next fact, if there is one.
    pub fn try_next(&self) -> Option<Input> {
        self.facts.try_recv().ok()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }
}

/// Where the tasks of a shard put facts for the pump of the same shard. Not bounded by itself: each task has at most
/// one unread chunk or one answer per ask in it.
#[derive(Clone, Default)]
pub struct LocalFacts(Rc<LocalQueue>);

#[derive(Default)]
struct LocalQueue {
    facts: RefCell<Vec<Input>>,
    pump: Cell<Option<Waker>>,
}

impl LocalFacts {
    /// Puts a fact in and wakes the pump.
    pub fn push(&self, fact: Input) {
        self.0.facts.borrow_mut().push(fact);
        self.nudge();
    }

    /// Wakes the pump without a fact.
    pub fn nudge(&self) {
        if let Some(waker) = self.0.pump.take() {
            waker.wake();
        }
    }

    /// Swaps all facts out into `into`, which must be empty.
    pub fn take_all(&self, into: &mut Vec<Input>) {
        debug_assert!(into.is_empty());
        std::mem::swap(&mut *self.0.facts.borrow_mut(), into);
    }

    /// The pump is about to sleep; true when there is nothing to do.
    pub fn falling_asleep(&self, waker: &Waker) -> bool {
        self.0.pump.set(Some(waker.clone()));
        self.0.facts.borrow().is_empty()
    }
}
