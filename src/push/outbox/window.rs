//! How much of a stream may be unanswered, so that an urgent push does not stand behind more of the others than its gateway answers in
//! a given time.
//!
//! Promises that a gateway stays busy: what may be unanswered is what it answers, at its best pace of late, in the time that is aimed
//! at, and that time is several round trips at the least. So a gateway whose answers take long by their way alone loses nothing. The
//! round trip is that of a push that is alone on the stream; every ten seconds all streams are held to one push for some round trips, at
//! the same time, so that none sees what another one has waiting at the same gateway or machine. Where urgent pushes, which nothing holds, leave
//! none alone in that time, the first one behind others has to do. Refuses to measure a pace where nothing was held back: a gateway that is
//! sent little says nothing of how much it takes.

use std::time::Duration;

use crate::model::ids::Nanos;

/// A gateway that is seldom given a processor answers much at once. Twice that may be unanswered, so that it has something to do then,
/// but no more recipients than this for that reason.
const BURST_MAX: u64 = 64;
/// Recipients, before anything was measured.
const FIRST_LIMIT: usize = 16;
/// Recipients that are so few that their answer shows the way alone.
const LONE: usize = 16;
/// The time that is aimed at is as many round trips at the least: a gateway that answers only when it has worked off all that it
/// got is idle for one of them.
const ROUND_TRIPS_MIN: u64 = 4;
/// A pace is measured over this time.
const MEASURED_FOR: Duration = Duration::from_millis(20);
/// The best pace, and the largest burst, of one or two of these counts.
const BEST_FORGOTTEN: Duration = Duration::from_millis(250);
/// The shortest round trip of this period and the one before counts.
const ROUND_TRIP_FORGOTTEN: Duration = Duration::from_secs(10);
/// At the begin of a period, and from when a gateway's first pushes are held back, pushes go alone for so many round trips, and no longer
/// than this.
const ALONE_TIMES: u32 = 4;
const ALONE_FOR: Duration = Duration::from_millis(100);

/// What was written in a turn, whose first answer is waited for: a gateway may work for long on all of it.
#[derive(Clone, Copy, Debug)]
struct Probe {
    /// It is over when so many were answered.
    until: u64,
    at: Nanos,
    /// Nothing else was on the stream.
    is_by_itself: bool,
}

/// What was answered since the window is full, counted from an answer to an answer.
#[derive(Clone, Copy, Debug)]
struct Full {
    /// None: nothing was answered since.
    since: Option<Nanos>,
    answered: u64,
}

/// The largest value of this period, and of the one before.
#[derive(Clone, Copy, Debug, Default)]
struct Best {
    now: u64,
    before: u64,
    since: Nanos,
}

/// Nanoseconds: the shortest of the pushes that were by themselves on the stream for a while, and of the while before.
#[derive(Clone, Copy, Debug, Default)]
struct Lately {
    now: Option<u64>,
    before: Option<u64>,
    times: u32,
    since: Nanos,
}

/// Nanoseconds: the shortest of this period, and of the one before.
#[derive(Clone, Copy, Debug, Default)]
struct RoundTrip {
    now: Option<u64>,
    before: Option<u64>,
    /// How many were seen in this period; the first few are all of the period of the last of them.
    times: u32,
    period: u64,
    /// When a push was first held back.
    held_since: Option<Nanos>,
    lately: Lately,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Window {
    /// None: there is no window.
    target: Option<Duration>,
    /// Recipients that were written to the stream, and those that have left it, counted over its life.
    written: u64,
    left: u64,
    /// What `written` was at the end of the last turn, the item that was begun included.
    noted: u64,
    lone: Option<Probe>,
    full: Option<Full>,
    /// Recipients answered a second.
    pace: Best,
    /// Recipients whose answers were read at once.
    burst: Best,
    /// Recipients that were answered when answers were last read: those that have left, and of the item at the front some.
    answered: u64,
    round_trip: RoundTrip,
}

impl Window {
    /// One that aims at this time; zero: none.
    pub(super) fn new(target: Duration) -> Self {
        Self {
            target: (!target.is_zero()).then_some(target),
            written: 0,
            left: 0,
            noted: 0,
            lone: None,
            full: None,
            pace: Best::default(),
            burst: Best::default(),
            answered: 0,
            round_trip: RoundTrip::default(),
        }
    }

    /// An item of so many recipients is on the stream.
    pub(super) fn written(&mut self, recipients: usize) {
        self.written += recipients as u64;
    }

    /// One has left it.
    pub(super) fn left(&mut self, recipients: usize) {
        self.left += recipients as u64;
    }

    /// The first item that is not written whole has left, with nothing on the stream: what was answered of it counts as an item.
    pub(super) fn left_begun(&mut self) {
        self.left = self.left.max(self.answered);
        (self.written, self.noted) = (self.left, self.left);
    }

    /// The stream is gone; its gateway is the same.
    pub(super) fn lost_stream(&mut self) {
        (self.written, self.left, self.noted, self.answered) = (0, 0, 0, 0);
        (self.lone, self.full) = (None, None);
    }

    /// How many recipients more may be on the stream before those that are not urgent are held back; none: there is no bound.
    pub(super) fn room(&self, now: Nanos) -> Option<usize> {
        // Of an item that is not written whole some may be answered.
        let unanswered = self.written.saturating_sub(self.answered.max(self.left));
        Some(self.limit(now)?.saturating_sub(unanswered as usize))
    }

    /// Recipients on the stream, each item's until all of it is answered.
    pub(super) fn unanswered(&self) -> usize {
        (self.written - self.left) as usize
    }

    fn limit(&self, now: Nanos) -> Option<usize> {
        let target = self.target?;
        if self.round_trip.is_wanted(now) {
            return Some(1);
        }
        if self.pace.best() == 0 {
            return Some(FIRST_LIMIT);
        }
        let round_trips = self.round_trip.usual().saturating_mul(ROUND_TRIPS_MIN);
        let aimed_at = u128::from(round_trips).max(target.as_nanos());
        let in_time = u128::from(self.pace.best()) * aimed_at / 1_000_000_000;
        let burst = (2 * self.burst.best()).clamp(1, BURST_MAX);
        Some(in_time.max(u128::from(burst)).min(u128::from(u32::MAX)) as usize)
    }

    /// A turn has written all that it may: so many items are on the stream whole, then one of so many recipients that is begun, or none
    /// (0); and some were held back for the window, or none.
    pub(super) fn note_turn(&mut self, items: usize, begun: usize, is_full: bool, now: Nanos) {
        // An item is timed from its first byte: when its last one is written, answers may be here.
        let before = std::mem::replace(&mut self.noted, self.written + begun as u64);
        if self.target.is_none() {
            return;
        }
        if is_full {
            self.round_trip.held_since.get_or_insert(now);
        }
        let is_wanted = self.round_trip.is_wanted(now);
        let is_by_itself = items + usize::from(begun > 0) == 1;
        let is_alone = is_by_itself || self.unanswered() + begun <= LONE;
        // A time that is too long is better than none: with none, urgent pushes alone would be more than may be unanswered.
        let has_to_do = !is_wanted && self.round_trip.shortest().is_none();
        if self.noted > before && (is_alone || has_to_do) && self.lone.is_none() {
            self.lone = Some(Probe { until: before + 1, at: now, is_by_itself });
        }
        match is_full && !is_wanted {
            true => drop(self.full.get_or_insert(Full { since: None, answered: self.answered })),
            false => self.full = None,
        }
    }

    /// Answers were read, so many of them for recipients of the item at the front.
    pub(super) fn note_answers(&mut self, of_front: usize, now: Nanos) {
        let before = self.answered;
        self.answered = before.max(self.left + of_front as u64);
        if self.answered == before {
            return;
        }
        self.burst.note(self.answered - before, now);
        if let Some(lone) = self.lone.take_if(|lone| self.answered >= lone.until) {
            let took = now.nanos_since(lone.at).max(1);
            self.round_trip.note(took, now);
            if lone.is_by_itself {
                self.round_trip.lately.note(took, now);
            }
        }
        self.measure_pace(now);
    }

    fn measure_pace(&mut self, now: Nanos) {
        let Some(full) = self.full.as_mut() else { return };
        if full.since.is_some_and(|since| now.since(since) < MEASURED_FOR) {
            return;
        }
        let answered = self.answered - std::mem::replace(&mut full.answered, self.answered);
        if let Some(since) = full.since.replace(now) {
            self.pace.note(answered.saturating_mul(1_000_000_000) / now.nanos_since(since), now);
        }
    }
}

impl Best {
    fn best(&self) -> u64 {
        self.now.max(self.before)
    }

    fn note(&mut self, measured: u64, now: Nanos) {
        if now.since(self.since) >= BEST_FORGOTTEN {
            *self = Self { now: 0, before: self.now, since: now };
        }
        self.now = self.now.max(measured).max(1);
    }
}

impl Lately {
    fn shortest(&self) -> Option<u64> {
        self.before.map(|before| self.now.map_or(before, |now| now.min(before)))
    }

    fn note(&mut self, took: u64, now: Nanos) {
        if self.times >= ALONE_TIMES && now.since(self.since) >= BEST_FORGOTTEN {
            *self = Self { before: self.now, ..Self::default() };
        }
        if self.times == 0 {
            self.since = now;
        }
        self.now = Some(self.now.map_or(took, |known| known.min(took)));
        self.times += 1;
    }
}

impl RoundTrip {
    /// The shortest, but no shorter than any push by itself lately: a gateway that takes longer than it did, for each push or each
    /// frame, would be held to so little that it never showed more than one can be answered in a round trip.
    fn usual(&self) -> u64 {
        self.shortest().unwrap_or(0).max(self.lately.shortest().unwrap_or(0))
    }

    fn shortest(&self) -> Option<u64> {
        self.now.into_iter().chain(self.before).min()
    }

    /// Whether pushes are to go alone: little is known, or it is time to look again.
    fn is_wanted(&self, now: Nanos) -> bool {
        let (period, into) = period_of(now);
        let is_first = self.before.is_none() && self.times < ALONE_TIMES;
        let is_begin = into < ALONE_FOR || (is_first && self.held_since.is_none_or(|at| now.since(at) < ALONE_FOR));
        is_begin && !(self.times >= ALONE_TIMES && self.period == period)
    }

    fn note(&mut self, took: u64, now: Nanos) {
        let (period, _) = period_of(now);
        if period != self.period && (self.before.is_some() || self.times >= ALONE_TIMES) {
            *self = Self { now: None, before: self.now, times: 0, ..*self };
        }
        self.period = period;
        self.now = Some(self.now.map_or(took, |known| known.min(took)));
        self.times += 1;
    }
}

/// All streams have the same periods.
fn period_of(now: Nanos) -> (u64, Duration) {
    let nanos = ROUND_TRIP_FORGOTTEN.as_nanos() as u64;
    (now.0 / nanos, Duration::from_nanos(now.0 % nanos))
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
