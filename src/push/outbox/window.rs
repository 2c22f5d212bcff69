//! How much of a stream may be unanswered, so that an urgent push does not stand behind more of the others than its gateway answers in
//! a given time.
//!
//! Promises that a gateway stays busy: what may be unanswered is what it answers, at its best pace of late, in the time that is aimed
//! at, and that time is several round trips at the least. So a gateway whose answers take long by their way alone loses nothing. The
//! round trip is that of a push that is alone on the stream; every ten seconds all streams are held to one push for some round trips, at
//! the same time, so that none sees what another one has waiting at the same gateway or machine. Refuses to measure a pace where nothing was held
//! back: a gateway that is sent little says nothing of how much it takes.

use std::time::Duration;

use crate::model::ids::Nanos;

/// Recipients that may be unanswered at the least, so that a gateway that is seldom given a processor has something to do then.
const FEW: usize = 64;
/// Before anything was measured.
const FIRST_LIMIT: usize = 4 * FEW;
/// Recipients that are so few that their answer shows the way alone.
const LONE: usize = 16;
/// The time that is aimed at is as many round trips at the least: a gateway that answers only when it has worked off all that it
/// got is idle for one of them.
const ROUND_TRIPS_MIN: u64 = 4;
/// A pace is measured over this time.
const MEASURED_FOR: Duration = Duration::from_millis(20);
/// The best pace of one or two of these counts.
const PACE_FORGOTTEN: Duration = Duration::from_millis(250);
/// The shortest round trip of this period and the one before counts.
const ROUND_TRIP_FORGOTTEN: Duration = Duration::from_secs(10);
/// At the begin of a period pushes go alone for so many round trips, and no longer than this.
const ALONE_TIMES: u32 = 4;
const ALONE_FOR: Duration = Duration::from_millis(100);

/// What was unanswered at the end of a turn, and is waited for.
#[derive(Clone, Copy, Debug)]
struct Probe {
    /// It is over when so many have left the stream.
    until: u64,
    at: Nanos,
}

/// Since when the window is full.
#[derive(Clone, Copy, Debug)]
struct Full {
    since: Nanos,
    left: u64,
}

/// Recipients answered a second: the best of this period, and of the one before.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    now: u64,
    before: u64,
    since: Nanos,
}

/// Nanoseconds: the shortest of this period, and of the one before.
#[derive(Clone, Copy, Debug, Default)]
struct RoundTrip {
    now: Option<u64>,
    before: Option<u64>,
    /// How many were seen in this period.
    times: u32,
    period: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Window {
    /// None: there is no window.
    target: Option<Duration>,
    /// Recipients that were written to the stream, and those that have left it, counted over its life.
    written: u64,
    left: u64,
    /// What `written` was at the end of the last turn.
    noted: u64,
    lone: Option<Probe>,
    full: Option<Full>,
    pace: Pace,
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
            pace: Pace::default(),
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

    /// The stream is gone; its gateway is the same.
    pub(super) fn lost_stream(&mut self) {
        (self.written, self.left, self.noted, self.lone, self.full) = (0, 0, 0, None, None);
    }

    /// How many recipients more may be on the stream before those that are not urgent are held back; none: there is no bound.
    pub(super) fn room(&self, now: Nanos) -> Option<usize> {
        Some(self.limit(now)?.saturating_sub(self.unanswered()))
    }

    /// Recipients on the stream.
    pub(super) fn unanswered(&self) -> usize {
        (self.written - self.left) as usize
    }

    fn limit(&self, now: Nanos) -> Option<usize> {
        let target = self.target?;
        if self.round_trip.is_wanted(now) {
            return Some(1);
        }
        let pace = self.pace.now.max(self.pace.before);
        if pace == 0 {
            return Some(FIRST_LIMIT);
        }
        let round_trips = self.round_trip.shortest().unwrap_or(0).saturating_mul(ROUND_TRIPS_MIN);
        let aimed_at = u128::from(round_trips).max(target.as_nanos());
        let most = u128::from(pace) * aimed_at / 1_000_000_000;
        Some((most.min(u128::from(u32::MAX)) as usize).max(FEW))
    }

    /// A turn has written all that it may: so many items are on the stream, and some were held back for the window, or none.
    pub(super) fn note_turn(&mut self, items: usize, is_full: bool, now: Nanos) {
        let is_more = self.written != std::mem::replace(&mut self.noted, self.written);
        if self.target.is_none() {
            return;
        }
        let is_alone = items == 1 || self.unanswered() <= LONE;
        if is_more && is_alone && self.lone.is_none() {
            self.lone = Some(Probe { until: self.written, at: now });
        }
        match is_full && !self.round_trip.is_wanted(now) {
            true => drop(self.full.get_or_insert(Full { since: now, left: self.left })),
            false => self.full = None,
        }
    }

    /// Answers were read.
    pub(super) fn note_answers(&mut self, now: Nanos) {
        if let Some(lone) = self.lone.take_if(|lone| self.left >= lone.until) {
            self.round_trip.note((now.since(lone.at).as_nanos() as u64).max(1), now);
        }
        if let Some(full) = self.full.take_if(|full| now.since(full.since) >= MEASURED_FOR) {
            let nanos = now.since(full.since).as_nanos() as u64;
            self.pace.note((self.left - full.left).saturating_mul(1_000_000_000) / nanos, now);
        }
    }
}

impl Pace {
    fn note(&mut self, measured: u64, now: Nanos) {
        if now.since(self.since) >= PACE_FORGOTTEN {
            *self = Self { now: 0, before: self.now, since: now };
        }
        self.now = self.now.max(measured).max(1);
    }
}

impl RoundTrip {
    fn shortest(&self) -> Option<u64> {
        self.now.into_iter().chain(self.before).min()
    }

    /// Whether pushes are to go alone: little is known, or it is time to look again.
    fn is_wanted(&self, now: Nanos) -> bool {
        let (period, into) = period_of(now);
        let is_enough = self.times >= ALONE_TIMES;
        match self.before {
            None => !is_enough,
            Some(_) => into < ALONE_FOR && !(is_enough && self.period == period),
        }
    }

    fn note(&mut self, took: u64, now: Nanos) {
        let (period, _) = period_of(now);
        if period != self.period && (self.before.is_some() || self.times >= ALONE_TIMES) {
            *self = Self { now: None, before: self.now, times: 0, period };
        }
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
