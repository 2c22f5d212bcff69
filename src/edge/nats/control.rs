//! What other threads tell the reader of a shard, and what it tells them.
//!
//! Promises that nobody waits here for a socket but a stop, which has a deadline; and that the reader sleeps until it is
//! told something.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use crate::model::ownership::ShardOrder;
use crate::ports::mailbox::Wake;
use crate::ports::{DeliveryTag, Origin, Settled};

/// How far a reader is to go. It only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Phase {
    /// Read.
    Reading,
    /// Read nothing more; hand in what was read, and go on to acknowledge.
    Leaving,
    /// All shards have ended: give back what is not settled.
    Finishing,
    /// End.
    Closed,
}

/// What a reader is told.
pub(super) enum Mail {
    /// These events have their ends.
    Settled(Box<[Settled]>),
    /// Somebody wants to know where an event came from.
    WhereFrom(DeliveryTag, Box<dyn FnOnce(Origin) + Send>),
    /// A partition is to be opened or closed.
    Order(ShardOrder),
}

/// The way to one reader, and back.
pub(super) struct Control {
    phase: AtomicU8,
    wake: Arc<Wake>,
    mail: Sender<Mail>,
    pub(super) inbox: Receiver<Mail>,
    /// It reads nothing since the intake is shut, and the broker knows.
    has_left: AtomicBool,
    /// Settlements that the server refused.
    refused_acks: AtomicU64,
    handed_in: (Sender<()>, Receiver<()>),
    finished: (Sender<()>, Receiver<()>),
}

impl Control {
    /// For a reader that is told no more than `capacity` things before it looks; none: what it is told is bounded by what it has
    /// out and by those who tell it.
    pub(super) fn new(capacity: Option<usize>) -> Self {
        let (mail, inbox) = capacity.map_or_else(unbounded, bounded);
        Self {
            phase: AtomicU8::new(Phase::Reading as u8),
            wake: Arc::default(),
            mail,
            inbox,
            has_left: AtomicBool::new(false),
            refused_acks: AtomicU64::new(0),
            handed_in: bounded(1),
            finished: bounded(1),
        }
    }

    /// Puts something in without waiting.
    ///
    /// # Errors
    /// Gives it back when there is no room.
    pub(super) fn tell(&self, mail: Mail) -> Result<(), Mail> {
        let told = self.mail.try_send(mail).map_err(crossbeam_channel::TrySendError::into_inner);
        self.wake.wake();
        told
    }

    /// What wakes the reader.
    pub(super) fn wake(&self) -> Arc<Wake> {
        self.wake.clone()
    }

    /// Goes on to a phase, unless it is past it.
    pub(super) fn go(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        self.wake.wake();
    }

    /// How far the reader is to go.
    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Reading,
            1 => Phase::Leaving,
            2 => Phase::Finishing,
            _ => Phase::Closed,
        }
    }

    /// The reader is about to sleep: it must look at its phase and its mail once more after this.
    pub(super) fn falling_asleep(&self, waker: &Waker) {
        self.wake.falling_asleep(waker);
    }

    /// The reader is awake.
    pub(super) fn awake(&self) {
        self.wake.awake();
    }

    /// Whether nothing is read since the intake was shut, and the broker keeps what is unsettled.
    pub(super) fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Acquire)
    }

    /// See [`has_left`](Self::has_left).
    pub(super) fn set_left(&self, has_left: bool) {
        self.has_left.store(has_left, Ordering::Release);
    }

    /// How many settlements the server refused to hear.
    pub(super) fn refused_acks(&self) -> u64 {
        self.refused_acks.load(Ordering::Acquire)
    }

    /// See [`refused_acks`](Self::refused_acks).
    pub(super) fn set_refused_acks(&self, refused: u64) {
        self.refused_acks.store(refused, Ordering::Release);
    }

    /// All that was read is handed in, and nothing follows.
    pub(super) fn note_handed_in(&self) {
        let _ = self.handed_in.0.try_send(());
    }

    /// Waits for that; false when the deadline came first.
    pub(super) fn wait_handed_in(&self, deadline: Instant) -> bool {
        self.handed_in.1.recv_deadline(deadline).is_ok()
    }

    /// The last settlement has left.
    pub(super) fn note_finished(&self) {
        let _ = self.finished.0.try_send(());
    }

    /// Waits for that; false when the deadline came first.
    pub(super) fn wait_finished(&self, deadline: Instant) -> bool {
        self.finished.1.recv_deadline(deadline).is_ok()
    }
}
