//! How far the reading back of a repeat window is.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::calls::BatchNo;
use super::pulls::Terms;
use crate::model::limits::REPEAT_WINDOW_AGE;

/// How often one is begun elsewhere at the most: a round trip or two each.
const TRIES: u32 = 8;
/// An age that no search goes below.
const SHORTEST: Duration = Duration::from_millis(1);

/// How far one is.
#[derive(Debug)]
pub(super) struct ReadBack {
    /// The stream sequence at which it begins; none: where [`Self::age`] says.
    pub(super) from: Option<u64>,
    /// Up to which the shard was told.
    pub(super) seen_to: u64,
    /// Up to which stream sequence events are settled.
    pub(super) to: u64,
    /// How many follow after that.
    pub(super) ahead: u64,
    /// How the partition is pulled from afterwards.
    pub(super) terms: Option<Terms>,
    /// When it began, by both clocks.
    pub(super) begun: Option<(Instant, SystemTime)>,
    /// How far back it goes.
    pub(super) age: Duration,
    /// How often it was begun elsewhere, and the ages that were found too short and too long.
    tries: u32,
    short: Duration,
    long: Option<Duration>,
    /// The request for its consumer.
    pub(super) asked: Option<BatchNo>,
    /// The consumer, once it stands.
    pub(super) name: String,
    /// Events that are still to come.
    pub(super) left: u64,
    /// Events that the shard was not told of.
    pub(super) payloads: Vec<Bytes>,
    /// All that was to come has; or that it will not.
    pub(super) end: Option<bool>,
}

impl ReadBack {
    /// Without terms it is read while another has the partition.
    pub(super) fn new(from: Option<u64>, to: u64, ahead: u64, terms: Option<Terms>) -> Self {
        Self {
            from,
            seen_to: from.map_or(0, |from| from - 1),
            to,
            ahead,
            terms,
            begun: None,
            age: REPEAT_WINDOW_AGE,
            tries: 0,
            short: Duration::ZERO,
            long: None,
            asked: None,
            name: String::new(),
            left: 0,
            payloads: Vec::new(),
            end: None,
        }
    }

    /// Whether to begin elsewhere than where so many events follow, of which `wanted` are wanted and no more than `most`: first in
    /// proportion, then, as events do not come at one rate, halfway by order of magnitude.
    pub(super) fn begins_elsewhere(&mut self, events: u64, wanted: u64, most: u64) -> bool {
        if self.from.is_some() {
            // So much came since that it is no tail.
            return events > most && self.from.take().is_some();
        }
        let is_enough = events >= wanted / 2 || self.long.is_none();
        if self.tries >= TRIES || (events <= most && is_enough) {
            return false;
        }
        self.tries += 1;
        if events > most {
            self.long = Some(self.age);
        } else {
            self.short = self.age;
        }
        let in_proportion = self.age.mul_f64(wanted as f64 / events.max(1) as f64);
        let (short, long) = (self.short.max(SHORTEST), self.long.unwrap_or(self.age));
        let halfway = Duration::from_secs_f64((short.as_secs_f64() * long.as_secs_f64()).sqrt());
        self.age = if self.tries == 1 { in_proportion } else { halfway };
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::edge::nats::jetstream::pulls::Standing;

    /// How many events it ends with, and after how many tries, when so many came since so long ago.
    fn found(since: impl Fn(Duration) -> u64) -> (u64, u32) {
        let (standing, window) = (Standing::of(Duration::from_secs(10)), 100);
        let terms = Terms { window, batch_max: 1, bytes_max: 1, standing, from: None::<Instant> };
        let mut back = ReadBack::new(None, 1, 0, Some(terms));
        while back.begins_elsewhere(since(back.age), 8192, 10_240) {}
        (since(back.age), back.tries)
    }

    #[test]
    fn a_tail_that_is_too_long_is_read_as_a_whole_window_is() {
        let mut back = ReadBack::new(Some(7), 30_000, 0, None);
        assert!(!back.begins_elsewhere(10_240, 8192, 10_240) && back.from == Some(7));
        assert!(back.begins_elsewhere(10_241, 8192, 10_240) && back.from.is_none());
        assert!(!back.begins_elsewhere(8192, 8192, 10_240));
    }

    #[test]
    fn of_too_many_about_as_many_are_read_as_are_wanted_however_they_came() {
        for few in [0, 1, 8192, 10_240] {
            assert_eq!(found(|_| few), (few, 0));
        }
        assert_eq!(found(|age| age.as_millis() as u64), (8192, 1), "at one rate");
        // All within the last second, and since then none.
        let burst = |age: Duration| (age.as_millis() as u64).saturating_sub(50).min(1000) * 50;
        let (events, tries) = found(burst);
        assert!((4096..=10_240).contains(&events) && tries <= TRIES, "{events} after {tries}");
        // At one instant: nothing can be cut.
        let (events, tries) = found(|age| if age > Duration::from_millis(50) { 50_000 } else { 0 });
        assert!((events == 0 || events == 50_000) && tries == TRIES, "{events} after {tries}");
    }
}
