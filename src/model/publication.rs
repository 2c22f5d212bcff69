//! When an event was published, as far as somebody said so.
//!
//! Promises never to guess: a number counts as a time only where its size leaves no doubt of its unit, and a time that lies in the
//! future is none.

use std::num::NonZeroU64;
use std::ops::Range;
use std::time::Duration;

/// The header in which a publisher may say when it published an event: Unix time in milliseconds, or in nanoseconds.
pub const PUBLISHED_HEADER: &str = "Resonance-Published";
/// Numbers that are milliseconds of Unix time: from 2001 to 2286. One in seconds, or in microseconds, is another size.
const MILLIS: Range<u64> = 1_000_000_000_000..10_000_000_000_000;
/// The same in nanoseconds; a `u64` ends in 2554.
const NANOS: Range<u64> = 1_000_000_000_000_000_000..10_000_000_000_000_000_000;
const NANOS_A_MILLI: u64 = 1_000_000;
/// So far another host's clock may be ahead of ours: the push counts as having taken no time.
const AHEAD_MAX: Duration = Duration::from_secs(60);

/// When an event was published; nothing when nobody said so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published(Option<NonZeroU64>);

impl Published {
    /// Nobody said it.
    pub const UNKNOWN: Self = Self(None);

    /// At this Unix time.
    pub const fn at_nanos(unix_nanos: u64) -> Self {
        Self(NonZeroU64::new(unix_nanos))
    }

    /// What the header's value says; blanks around it do not count.
    pub fn of_header(value: &[u8]) -> Self {
        let value = value.trim_ascii();
        let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(value).ok().filter(|_| is_number).and_then(|text| text.parse().ok());
        match number {
            Some(millis) if MILLIS.contains(&millis) => Self::at_nanos(millis * NANOS_A_MILLI),
            Some(nanos) if NANOS.contains(&nanos) => Self::at_nanos(nanos),
            _ => Self::UNKNOWN,
        }
    }

    /// What the event's own `timestamp` says, where it is in milliseconds.
    pub fn of_timestamp(timestamp: i64) -> Self {
        let millis = u64::try_from(timestamp).ok().filter(|millis| MILLIS.contains(millis));
        millis.map_or(Self::UNKNOWN, |millis| Self::at_nanos(millis * NANOS_A_MILLI))
    }

    /// This, or what `other` says where this is unknown.
    #[must_use]
    pub fn or_else(self, other: impl FnOnce() -> Self) -> Self {
        if self.0.is_some() { self } else { other() }
    }

    /// How long ago that was at this Unix time. Nothing when it is unknown, or further in the future than clocks are apart.
    pub fn age_at(self, unix_nanos: u64) -> Option<Duration> {
        self.age_nanos_at(unix_nanos).map(Duration::from_nanos)
    }

    /// The same in nanoseconds, for each push.
    #[inline]
    pub fn age_nanos_at(self, unix_nanos: u64) -> Option<u64> {
        let published = self.0?.get();
        let is_ahead = published.saturating_sub(unix_nanos) > AHEAD_MAX.as_nanos() as u64;
        (!is_ahead).then(|| unix_nanos.saturating_sub(published))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_700_000_000_123;
    const NANO: u64 = MILLI * NANOS_A_MILLI;

    #[test]
    fn a_header_is_milliseconds_or_nanoseconds_and_nothing_else() {
        for (value, want) in [
            ("1700000000123", Published::at_nanos(NANO)),
            (" 1700000000123\t", Published::at_nanos(NANO)),
            ("1700000000123000456", Published::at_nanos(NANO + 456)),
            ("1700000000", Published::UNKNOWN),
            ("1700000000123000", Published::UNKNOWN),
            ("1700000000.123", Published::UNKNOWN),
            ("+1700000000123", Published::UNKNOWN),
            ("-1700000000123", Published::UNKNOWN),
            ("2023-11-14T22:13:20Z", Published::UNKNOWN),
            ("99999999999999999999999", Published::UNKNOWN),
            ("0", Published::UNKNOWN),
            ("", Published::UNKNOWN),
            ("\u{661}700000000123", Published::UNKNOWN),
        ] {
            assert_eq!(Published::of_header(value.as_bytes()), want, "{value:?}");
        }
    }

    #[test]
    fn a_timestamp_counts_where_it_is_in_milliseconds() {
        for (timestamp, want) in [
            (MILLI as i64, Published::at_nanos(NANO)),
            (1_000_000_000_000, Published::at_nanos(1_000_000_000_000_000_000)),
            (999_999_999_999, Published::UNKNOWN),
            (9_999_999_999_999, Published::at_nanos(9_999_999_999_999_000_000)),
            (10_000_000_000_000, Published::UNKNOWN),
            (1_700_000_000, Published::UNKNOWN),
            (NANO as i64, Published::UNKNOWN),
            (0, Published::UNKNOWN),
            (-1_700_000_000_123, Published::UNKNOWN),
            (i64::MAX, Published::UNKNOWN),
        ] {
            assert_eq!(Published::of_timestamp(timestamp), want, "{timestamp}");
        }
    }

    #[test]
    fn the_first_who_says_it_is_believed() {
        let said = Published::of_header(b"1700000000123");
        assert_eq!(said.or_else(|| panic!("not asked")), said);
        assert_eq!(Published::of_header(b"soon").or_else(|| said), said);
        assert_eq!(Published::UNKNOWN.or_else(|| Published::UNKNOWN), Published::UNKNOWN);
        assert_eq!(size_of::<Published>(), 8, "each event carries one");
    }

    #[test]
    fn what_lies_in_the_future_took_no_time_or_is_unknown() {
        let published = Published::at_nanos(NANO);
        let at = |offset: i64| published.age_at((NANO as i64 + offset) as u64);
        assert_eq!(at(5_000_000), Some(Duration::from_millis(5)));
        assert_eq!(at(0), Some(Duration::ZERO));
        assert_eq!(at(-60_000_000_000), Some(Duration::ZERO));
        assert_eq!(at(-60_000_000_001), None);
        assert_eq!(Published::UNKNOWN.age_at(NANO), None);
    }
}
