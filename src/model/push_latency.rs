//! How long pushes take from the publication of their event until their gateway has answered, by class.

use super::priority::{ClassLatency, Priority};

/// One histogram a class. Each recipient that a gateway took the message for counts once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushLatency {
    /// By class.
    pub by_class: [ClassLatency; Priority::COUNT],
    /// Recipients of events of which nobody said when they were published.
    pub unknown: u64,
}

impl PushLatency {
    /// So many recipients of an event of this class were answered for so long after it was published.
    #[inline]
    pub fn record(&mut self, class: Priority, took_nanos: Option<u64>, recipients: u64) {
        match took_nanos {
            Some(nanos) => self.by_class[class as usize].record_nanos(nanos, recipients),
            None => self.unknown += recipients,
        }
    }

    /// All of these as well.
    pub fn add(&mut self, other: &Self) {
        for (to, from) in self.by_class.iter_mut().zip(&other.by_class) {
            to.add(from);
        }
        self.unknown += other.unknown;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stage::BUCKETS;

    #[test]
    fn recipients_count_each_and_what_is_unknown_is_in_no_bucket() {
        let (mut one, mut other) = (PushLatency::default(), PushLatency::default());
        one.record(Priority::Urgent, Some(5_000_000), 3);
        one.record(Priority::Urgent, None, 7);
        other.record(Priority::Urgent, Some(500_000_000_000), 1);
        other.record(Priority::Bulk, None, 1);
        one.add(&other);
        let ClassLatency { buckets, nanos } = one.by_class[Priority::Urgent as usize];
        let at_5_millis = BUCKETS.iter().position(|bound| *bound == 0.005).expect("a bound");
        assert_eq!((buckets[at_5_millis], buckets[BUCKETS.len()], buckets.iter().sum::<u64>()), (3, 1, 4));
        assert_eq!((nanos, one.unknown), (500_015_000_000, 8));
        assert_eq!(one.by_class[Priority::Bulk as usize], ClassLatency::default());
    }
}
