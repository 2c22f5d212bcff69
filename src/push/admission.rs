//! What each gateway holds of this (home) shard's events: the bundles sent to it that have no end.
//!
//! Promises that gateways which do not move never hold so much, each alone or all together, that the shard stops taking
//! events for the others. It is counted here and not in the outbox, because the bound that stops intake is the home
//! shard's, whichever shards own the gateways. Urgent bundles may go beyond a gateway's part, by a reserve that has the same three
//! bounds. Refuses to hold back a gateway that moves: the shard's own bounds do that, by pausing intake.

use crate::model::ids::{GatewayIx, Nanos};
use crate::model::limits::{
    BULK_YIELDS_PART, EVENTS_IN_FLIGHT_MAX, GATEWAY_PROMPT_WITHIN, GATEWAY_QUIET_AFTER, LATE_GATEWAYS_PART,
    OUTBOX_MOVING_WITHIN, PAYLOAD_BYTES_IN_FLIGHT_MAX, QUIET_GATEWAY_PART, RECIPIENTS_IN_FLIGHT_MAX,
    SILENT_GATEWAY_FLOOR_PART, SILENT_GATEWAY_PART, SILENT_GATEWAYS_PART, SOMEONE_IS_PROMPT_WITHIN,
    URGENT_RESERVE_PART,
};

/// What is held: of the shard's three bounds, each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Bundles, but of an event's parts of one large group only the last.
    pub events: usize,
    /// Their recipients.
    pub recipients: usize,
    /// Their payload bytes.
    pub bytes: usize,
}

impl Load {
    /// What the bounds of a shard are.
    pub(super) const OF_SHARD: Self =
        Self { events: EVENTS_IN_FLIGHT_MAX, recipients: RECIPIENTS_IN_FLIGHT_MAX, bytes: PAYLOAD_BYTES_IN_FLIGHT_MAX };

    pub(super) fn add(&mut self, other: Self) {
        self.events += other.events;
        self.recipients += other.recipients;
        self.bytes += other.bytes;
    }

    pub(super) fn remove(&mut self, other: Self) {
        self.events -= other.events;
        self.recipients -= other.recipients;
        self.bytes -= other.bytes;
    }

    pub(super) fn without(mut self, other: Self) -> Self {
        self.remove(other);
        self
    }

    pub(super) fn is_below(self, bound: Self) -> bool {
        self.events < bound.events && self.recipients < bound.recipients && self.bytes < bound.bytes
    }

    pub(super) fn part(self, part: usize) -> Self {
        Self { events: self.events / part, recipients: self.recipients / part, bytes: self.bytes / part }
    }
}

/// How a gateway takes what it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Responsiveness {
    /// Nothing says that it does not move.
    #[default]
    Moving,
    /// It has not answered for a moment.
    Quiet,
    /// It answers, but what it answers is old.
    Late,
    /// It has not answered for long: it hangs, or cannot be reached, or is unknown.
    Silent,
}

#[derive(Clone, Debug, Default)]
struct Share {
    load: Load,
    pace: Responsiveness,
    /// The last answer, or when it had nothing to answer.
    answered_at: Nanos,
    /// Nothing without an end is older, or a part of a large group that lets small ones go before it.
    oldest: Nanos,
    is_watched: bool,
}

impl Share {
    fn pace_at(&self, now: Nanos) -> Responsiveness {
        let quiet = now.since(self.answered_at);
        if quiet >= OUTBOX_MOVING_WITHIN {
            Responsiveness::Silent
        } else if now.since(self.oldest) >= OUTBOX_MOVING_WITHIN {
            Responsiveness::Late
        } else if quiet >= GATEWAY_QUIET_AFTER {
            Responsiveness::Quiet
        } else {
            Responsiveness::Moving
        }
    }
}

/// The shares of all gateways.
#[derive(Debug)]
pub struct Admission {
    all: Vec<Share>,
    watched: Vec<GatewayIx>,
    /// The sums of those that are late and silent.
    late: Load,
    silent: Load,
    /// The last answer to something young.
    prompt_at: Option<Nanos>,
    /// What the shard may have in flight.
    capacity: Load,
    /// What urgent bundles hold beyond the parts of their gateways, and what they may.
    reserved: Load,
    reserve: Load,
}

impl Admission {
    /// Of a shard that has at most this many events in flight, by its own bound or its source's.
    pub fn new(events: usize) -> Self {
        let capacity = Load { events, ..Load::OF_SHARD };
        let part = capacity.part(URGENT_RESERVE_PART);
        Self {
            all: Vec::new(),
            watched: Vec::new(),
            late: Load::default(),
            silent: Load::default(),
            prompt_at: None,
            capacity,
            reserved: Load::default(),
            reserve: Load { events: part.events.max(1), ..part },
        }
    }

    /// Whether a gateway may be sent one more bundle, of a class that yields to others or not, while the shard has this much in
    /// flight.
    #[inline]
    pub fn admit(&self, at: GatewayIx, yields: bool, in_flight: Load, now: Nanos) -> bool {
        let Some(share) = self.all.get(at.0 as usize).filter(|share| share.load.recipients > 0) else { return true };
        // What yields has half of everything.
        let capacity = if yields { self.capacity.part(BULK_YIELDS_PART) } else { self.capacity };
        match share.pace {
            Responsiveness::Moving => true,
            Responsiveness::Quiet => {
                // Few events with many recipients are what one outbox may hold before it moves.
                let small =
                    Load { events: capacity.events / QUIET_GATEWAY_PART, ..capacity.part(SILENT_GATEWAYS_PART) };
                in_flight.is_below(capacity.part(2)) || share.load.is_below(small)
            }
            Responsiveness::Late => {
                // When all are late there is nobody to protect, and to pause intake is better than to overflow.
                let is_anyone_prompt = self.prompt_at.is_some_and(|at| now.since(at) < SOMEONE_IS_PROMPT_WITHIN);
                let mut held = self.late;
                held.add(self.silent);
                !is_anyone_prompt || held.is_below(capacity.part(LATE_GATEWAYS_PART))
            }
            Responsiveness::Silent => {
                let is_small = share.load.events < capacity.events / SILENT_GATEWAY_FLOOR_PART;
                if is_small && in_flight.events < capacity.events - capacity.events / SILENT_GATEWAYS_PART {
                    return true;
                }
                share.load.events < capacity.events / SILENT_GATEWAY_PART
                    && self.silent.is_below(capacity.part(SILENT_GATEWAYS_PART))
            }
        }
    }

    /// Whether an urgent bundle may go to a gateway that is not to be sent more.
    #[inline]
    pub fn has_reserve(&self) -> bool {
        self.reserved.is_below(self.reserve)
    }

    /// A bundle that is sent goes by the reserve, until it has its end.
    #[inline]
    pub fn take_reserve(&mut self, load: Load) {
        self.reserved.add(load);
    }

    /// It has its end.
    #[inline]
    pub fn give_reserve_back(&mut self, load: Load) {
        self.reserved.remove(load);
    }

    /// A bundle goes to a gateway.
    #[inline]
    pub fn sent(&mut self, at: GatewayIx, load: Load, now: Nanos) {
        let place = at.0 as usize;
        if place >= self.all.len() {
            self.all.resize(place + 1, Share::default());
        }
        let share = &mut self.all[place];
        if share.load.recipients == 0 {
            (share.pace, share.answered_at, share.oldest) = (Responsiveness::Moving, now, now);
            if !std::mem::replace(&mut share.is_watched, true) {
                self.watched.push(at);
            }
        }
        share.load.add(load);
        let pace = share.pace;
        if let Some(sum) = self.sum_of(pace) {
            sum.add(load);
        }
    }

    /// A bundle that was made at `made_at` has its end, by a gateway's answer or without.
    #[inline]
    pub fn ended(&mut self, at: GatewayIx, load: Load, made_at: Nanos, is_answered: bool, now: Nanos) {
        let share = &mut self.all[at.0 as usize];
        share.load.remove(load);
        let pace = share.pace;
        if is_answered {
            share.answered_at = now;
            share.oldest = share.oldest.max(made_at);
        }
        if let Some(sum) = self.sum_of(pace) {
            sum.remove(load);
        }
        if is_answered {
            if now.since(made_at) < GATEWAY_PROMPT_WITHIN {
                self.prompt_at = Some(now);
            }
            if pace != Responsiveness::Moving {
                self.look_at(at, now);
            }
        }
    }

    /// Time has passed: looks at the gateways that hold something.
    pub fn tick(&mut self, now: Nanos) {
        let mut watched = std::mem::take(&mut self.watched);
        watched.retain(|at| {
            let share = &mut self.all[at.0 as usize];
            share.is_watched = share.load.recipients > 0;
            share.is_watched
        });
        for at in &watched {
            self.look_at(*at, now);
        }
        self.watched = watched;
    }

    fn look_at(&mut self, at: GatewayIx, now: Nanos) {
        let share = &mut self.all[at.0 as usize];
        let (load, to) = (share.load, share.pace_at(now));
        let from = std::mem::replace(&mut share.pace, to);
        if from == to {
            return;
        }
        if let Some(sum) = self.sum_of(from) {
            sum.remove(load);
        }
        if let Some(sum) = self.sum_of(to) {
            sum.add(load);
        }
    }

    fn sum_of(&mut self, pace: Responsiveness) -> Option<&mut Load> {
        match pace {
            Responsiveness::Moving | Responsiveness::Quiet => None,
            Responsiveness::Late => Some(&mut self.late),
            Responsiveness::Silent => Some(&mut self.silent),
        }
    }

    /// Since when a gateway holds nothing, as far as is known; none while it holds something.
    pub fn empty_since(&self, at: GatewayIx) -> Option<Nanos> {
        match self.all.get(at.0 as usize) {
            Some(share) if share.load.recipients > 0 => None,
            Some(share) => Some(share.answered_at),
            None => Some(Nanos(0)),
        }
    }

    /// How a gateway is doing, in words.
    pub fn describe(&self, at: GatewayIx, now: Nanos) -> String {
        let Some(share) = self.all.get(at.0 as usize) else { return String::new() };
        match share.pace {
            Responsiveness::Late => format!("it answers what is {:.1?} old", now.since(share.oldest)),
            _ => format!("no answer for {:.1?}", now.since(share.answered_at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Load = Load { events: 1, recipients: 1, bytes: 100 };

    /// Sends each event to the gateway that `pick` names, at `rate` per second, and lets the first `hung` gateways answer
    /// nothing and the others at once; what was in flight at the most, and what the others were refused.
    fn flood(hung: u32, gateways: u32, rate: u64, seconds: u64) -> (usize, usize) {
        let mut admission = Admission::new(EVENTS_IN_FLIGHT_MAX);
        let (mut in_flight, mut most, mut refused) = (Load::default(), 0, 0);
        for event in 0..rate * seconds {
            let now = Nanos(event * (1_000_000_000 / rate));
            let at = GatewayIx((event % u64::from(gateways)) as u32);
            if event % (rate / 50) == 0 {
                admission.tick(now);
            }
            let is_hung = at.0 < hung;
            if !admission.admit(at, false, in_flight, now) {
                refused += usize::from(!is_hung);
                continue;
            }
            admission.sent(at, ONE, now);
            if is_hung {
                in_flight.add(ONE);
                most = most.max(in_flight.events);
            } else {
                admission.ended(at, ONE, now, true, now);
            }
        }
        (most, refused)
    }

    #[test]
    fn gateways_that_hang_leave_the_others_a_part_of_the_shard_at_any_rate() {
        for hung in [1, 3, 7] {
            for rate in [20_000, 50_000, 200_000] {
                let (most, refused) = flood(hung, 8, rate, 5);
                assert!(most <= EVENTS_IN_FLIGHT_MAX * 3 / 4, "{hung} hung, {rate}/s: {most} events in flight");
                assert_eq!(refused, 0, "{hung} hung, {rate}/s: of the others");
            }
        }
    }

    #[test]
    fn what_is_sent_and_has_ended_leaves_nothing() {
        let mut admission = Admission::new(8);
        let at = GatewayIx(3);
        let second = |second: u64| Nanos(second * 1_000_000_000);
        admission.sent(at, ONE, second(0));
        admission.tick(second(2));
        assert_eq!(admission.silent, ONE);
        assert!(!admission.admit(at, false, ONE, second(2)), "an eighth of eight");
        admission.sent(at, ONE, second(2));
        admission.ended(at, ONE, second(0), true, second(2));
        assert_eq!((admission.silent, admission.late), (Load::default(), ONE), "it moves, but late");
        admission.ended(at, ONE, second(2), false, second(3));
        admission.tick(second(3));
        assert_eq!((admission.silent, admission.late, admission.watched.len()), (Load::default(), Load::default(), 0));
    }

    #[test]
    fn the_reserve_has_each_of_the_bounds_and_comes_back() {
        let part = Load::OF_SHARD.part(URGENT_RESERVE_PART);
        let (recipients, bytes) = (Load { recipients: 64, ..ONE }, Load { bytes: 16 * 1024, ..ONE });
        let part_of = Load { events: 0, bytes: 0, ..recipients };
        let cases = [
            (EVENTS_IN_FLIGHT_MAX, ONE, part.events),
            (EVENTS_IN_FLIGHT_MAX, recipients, part.recipients / 64),
            (EVENTS_IN_FLIGHT_MAX, part_of, part.recipients / 64),
            (EVENTS_IN_FLIGHT_MAX, bytes, part.bytes / bytes.bytes),
            (64, ONE, 4),
            (8, ONE, 1),
        ];
        for (window, load, bundles) in cases {
            let mut admission = Admission::new(window);
            let mut sent = 0;
            while admission.has_reserve() {
                admission.take_reserve(load);
                sent += 1;
            }
            assert_eq!(sent, bundles, "{load:?} of {window} events");
            (0..sent).for_each(|_| admission.give_reserve_back(load));
            assert_eq!((admission.has_reserve(), admission.reserved), (true, Load::default()));
        }
    }
}
