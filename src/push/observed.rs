//! How long after the publication of its event a push was answered.
//!
//! Promises that an event costs a look at whether that is wanted where it is not. Refuses a clock: what the wall
//! clock showed at the start of time is a fact, told now and then, as a clock is set right while an engine runs.

use std::time::Duration;

use crate::model::ids::Nanos;
use crate::model::priority::Priority;
use crate::model::publication::Published;
use crate::model::push_latency::PushLatency;
use crate::push::Push;
use crate::push::bundle::{Bundle, Times};
use crate::push::context::Context;

impl Context {
    /// A gateway took an event for so many recipients.
    #[inline]
    fn note_latency(&mut self, class: Priority, published: Published, at: Nanos, recipients: u32) {
        let took = published.age_nanos_at(self.unix_at(at));
        if let Some(latency) = &mut self.observed.latency {
            latency.record(class, took, u64::from(recipients));
        }
    }

    /// How long that was after the event's publication.
    pub(super) fn latency_of(&self, published: Published, at: Nanos) -> Option<Duration> {
        published.age_at(self.unix_at(at))
    }

    fn unix_at(&self, at: Nanos) -> u64 {
        self.observed.unix_zero.saturating_add(at.0)
    }
}

impl Push {
    /// The same, which records how long after its publication each push is answered.
    pub fn with_push_latency(mut self, is_wanted: bool) -> Self {
        self.cx.observed.latency = is_wanted.then(Box::default);
        self
    }

    /// What the wall clock showed when the time of this engine began.
    pub fn set_unix_zero(&mut self, unix_nanos: u64) {
        self.cx.observed.unix_zero = unix_nanos;
    }

    /// When the events were published that are taken next, as their source knows it.
    #[inline]
    pub fn set_published(&mut self, published: Published) {
        self.cx.observed.published = published;
    }

    /// How long pushes took since the start; nothing where nobody wants to know.
    pub fn push_latency(&self) -> Option<&PushLatency> {
        self.cx.observed.latency.as_deref()
    }

    /// A bundle's result is home: what is seen of its push.
    #[inline]
    pub(super) fn note_answered(&mut self, bundle: &Bundle, times: Times, delivered: u32) {
        if self.cx.observed.latency.is_none() {
            return;
        }
        let known = &self.ledger[bundle.event];
        let (class, published) = (known.class, known.published);
        let answered_at = times.answered_at(bundle.made_at).unwrap_or(self.cx.now);
        self.cx.note_latency(class, published, answered_at, delivered);
    }
}
