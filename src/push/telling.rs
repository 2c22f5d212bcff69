//! What is kept of the sight of events: how long pushes took, which events are told of, and what is known of their pushes.
//!
//! Promises plain values and bounds. What is done with them stands in [`observed`](super::observed) and [`traces`](super::traces).

use std::time::Duration;

use crate::model::ids::Nanos;
use crate::model::outcome::RecipientOutcome;
use crate::model::publication::Published;
use crate::model::push_latency::PushLatency;
use crate::model::tap::TappedMiss;
use crate::model::trace::{TRACED_PUSHES_MAX, TracedPush};
use crate::push::bundle::Times;
use crate::push::ingest::Arrival;
use crate::push::tap::Tap;

/// What is seen of events.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// How long pushes take; nothing where nobody wants to know.
    pub(super) latency: Option<Box<PushLatency>>,
    /// The wall clock's time, in nanoseconds since 1970, when the time of this engine began.
    pub(super) unix_zero: u64,
    /// When the event was published that is taken next.
    pub(super) published: Published,
    /// Which events are told of; nothing where none is.
    pub(super) telling: Option<Box<Telling>>,
    /// Whoever looks on at some of them; mostly nobody.
    pub(super) tap: Option<Box<Tap>>,
}

impl Observed {
    /// Whether pushes are looked at.
    #[inline]
    pub(super) fn looks_at_pushes(&self) -> bool {
        self.telling.is_some() || self.tap.is_some()
    }

    /// When an event was published, as its source or it itself says; asked for only where that is wanted.
    #[inline]
    pub(super) fn published_of(&self, arrival: &Arrival) -> Published {
        if self.latency.is_none() {
            return Published::UNKNOWN;
        }
        self.published.or_else(|| Published::of_timestamp(arrival.timestamp()))
    }
}

/// Which events a shard tells of, besides those that their publisher records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceRules {
    /// Those that took longer than this; zero: none for that.
    pub slow_after: Duration,
    /// As many spans a second at the most, one second with another.
    pub spans_per_second: u32,
}

/// The rules, and what is left of this second.
#[derive(Debug)]
pub(super) struct Telling {
    /// In nanoseconds, as it is compared for each push; the largest number where none is slow.
    slow_after_nanos: u64,
    spans_per_second: i64,
    /// What is told of one event may be more than is left; the next ones pay for it.
    spans_left: i64,
    second: Nanos,
}

/// The pushes of an event that is to be told of.
#[derive(Debug, Default)]
pub struct Pushes {
    pub(super) told: Vec<TracedPush>,
    pub(super) left_out: u32,
    /// Recipients that could not be reached, for whoever looks on.
    pub(super) misses: Vec<TappedMiss>,
}

impl Pushes {
    /// Keeps one, or counts it.
    pub(super) fn keep(&mut self, push: TracedPush) {
        if self.told.len() == TRACED_PUSHES_MAX {
            self.left_out += 1;
        } else {
            self.told.push(push);
        }
    }
}

/// What the home shard knows of a push that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) times: Times,
    /// Recipients that have their end by it as delivered.
    pub(super) delivered: u32,
    /// Recipients that the gateway did not take it for.
    pub(super) missed: u32,
    pub(super) unanswered: Option<RecipientOutcome>,
}

impl Telling {
    pub(super) fn new(rules: TraceRules) -> Self {
        let slow_after = Some(rules.slow_after).filter(|after| !after.is_zero());
        let nanos = slow_after.and_then(|after| u64::try_from(after.as_nanos()).ok());
        let spans_per_second = i64::from(rules.spans_per_second);
        let slow_after_nanos = nanos.unwrap_or(u64::MAX);
        Self { slow_after_nanos, spans_per_second, spans_left: spans_per_second, second: Nanos(0) }
    }

    /// Whether an event that arrived then is slow.
    pub(super) fn is_slow(&self, arrived: Nanos, now: Nanos) -> bool {
        now.nanos_since(arrived) > self.slow_after_nanos
    }

    /// Whether so many spans may be told.
    pub(super) fn may_tell(&mut self, spans: u32, now: Nanos) -> bool {
        let seconds = now.since(self.second).as_secs();
        if seconds > 0 {
            let each = self.spans_per_second;
            self.spans_left = self.spans_left.saturating_add(each.saturating_mul(seconds as i64)).min(each);
            self.second = self.second.after(Duration::from_secs(seconds));
        }
        let may = self.spans_left > 0;
        self.spans_left -= if may { i64::from(spans) } else { 0 };
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_bounded_by_the_second_and_what_was_too_much_is_paid_for() {
        let mut telling = Telling::new(TraceRules { slow_after: Duration::ZERO, spans_per_second: 10 });
        let at = |millis: u64| Nanos(millis * 1_000_000);
        assert!(!telling.is_slow(at(0), at(100_000)), "none is slow");
        assert!(telling.may_tell(4, at(0)) && telling.may_tell(25, at(10)), "the one that begins is told whole");
        assert!(!telling.may_tell(1, at(999)) && !telling.may_tell(1, at(1_500)));
        assert!(telling.may_tell(1, at(2_000)), "29 of 30");
        assert!(!telling.may_tell(1, at(2_999)));
        assert!(telling.may_tell(10, at(60_000)) && !telling.may_tell(1, at(60_500)), "rest is not saved up");
        let slow = Telling::new(TraceRules { slow_after: Duration::from_millis(5), spans_per_second: 1 });
        assert!(!slow.is_slow(at(10), at(15)) && slow.is_slow(at(10), at(16)));
    }
}
