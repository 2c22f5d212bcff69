//! An outbox without anything to do: what the table of gateways has to know to leave it alone, and to forget it.

use crate::model::ids::{Nanos, StreamNo};
use crate::push::outbox::{Link, Outbox, Stream};

impl Outbox {
    /// The same, of whose streams none has a number that an earlier gateway's stream at this place had.
    pub fn after(self, last_stream: StreamNo) -> Self {
        Self { stream: Stream { last_stream, ..self.stream }, ..self }
    }

    /// The newest stream's number.
    pub fn last_stream(&self) -> StreamNo {
        self.stream.last_stream
    }

    /// Time alone changes nothing here: there is nothing to send and no stream. A pause before the next try that is over
    /// while nothing waits is no pause.
    pub(super) fn is_resting(&mut self, now: Nanos) -> bool {
        if self.queue.is_empty() && matches!(self.stream.link, Link::Backoff { until } if until <= now) {
            self.stream.link = Link::Closed;
        }
        self.queue.is_empty() && self.stream.link == Link::Closed
    }

    /// Whether it need not be looked at until something happens to it.
    pub fn may_sleep(&self) -> bool {
        self.queue.is_empty() && self.stream.link == Link::Closed && !self.is_changed
    }

    /// Time alone changes nothing here soon: nothing is to be sent or answered, and a stream that is open stays so for minutes.
    pub fn is_quiet(&self) -> bool {
        let stays =
            matches!(self.stream.link, Link::Open { .. }) && self.peer.unlisted_at.is_none() && !self.is_stopping;
        self.queue.is_empty() && !self.is_changed && (stays || self.stream.link == Link::Closed)
    }

    /// The registry does not list the gateway, and has not for so long that its last address is not used any more.
    pub(super) fn is_gone(&self, now: Nanos) -> bool {
        self.peer.unlisted_at.is_some_and(|at| now.since(at) >= self.settings.forget_after)
    }

    /// Whether nothing is lost when it is forgotten.
    pub fn may_be_forgotten(&self, now: Nanos) -> bool {
        self.may_sleep() && (self.peer.record.is_none() || self.is_gone(now))
    }

    /// The last time it had something to do, as far as it is known.
    pub fn moved_at(&self) -> Nanos {
        self.moved_at
    }
}
