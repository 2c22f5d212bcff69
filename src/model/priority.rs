//! The classes of events, and the rules by which an event gets its class.
//!
//! Promises that the rules are pure: the same event and the same size of its session give the same class. Without rules every event
//! is [`Normal`](Priority::Normal), and nothing asks for its class.

use std::time::Duration;

use super::outcome::{EventOutcome, RecipientOutcome, labelled};
use super::stage::BUCKETS;

labelled! {
    /// The class of an event: who goes first, and who yields.
    #[derive(Default)]
    Priority {
        /// Goes first and is never shed.
        Urgent = "urgent",
        /// What has no other class.
        #[default]
        Normal = "normal",
        /// Goes last, and yields where gateways have half of what they may.
        Bulk = "bulk",
        /// As bulk, and worthless when it is late: it is dropped instead of stored.
        Fleeting = "fleeting",
    }
}

labelled! {
    /// Why a fleeting event, or recipients of one, were dropped.
    ShedReason {
        /// Bulk and fleeting events had their half of what the shard may have in flight.
        Shard = "shard",
        /// What the recipients' gateway may hold of the shard was taken.
        Gateway = "gateway",
        /// The gateway's outbox was full.
        Outbox = "outbox",
        /// It waited for longer than `priority.fleeting_ttl`.
        Late = "late",
    }
}

impl Priority {
    /// Whether it yields where gateways have half of what they may.
    #[inline]
    pub const fn yields(self) -> bool {
        matches!(self, Self::Bulk | Self::Fleeting)
    }

    /// The class of a word, as a header or the configuration has it; small and capital letters are alike.
    pub fn of_word(word: &[u8]) -> Option<Self> {
        Self::ALL.iter().copied().find(|class| class.label().as_bytes().eq_ignore_ascii_case(word))
    }
}

/// What the publisher said of an event's class, in a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Said {
    /// Nothing.
    #[default]
    Nothing,
    /// This one.
    Class(Priority),
    /// A word that names no class.
    Unknown,
}

impl Said {
    /// What the value of a header says; blanks around it do not count.
    pub fn of_header(value: &[u8]) -> Self {
        Priority::of_word(value.trim_ascii()).map_or(Self::Unknown, Self::Class)
    }
}

/// How events get their class: what was said, then the type, then the size of the session, then the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriorityRules {
    /// `priority.header`; empty: none.
    pub header: String,
    /// `priority.types`: the class by PushEvent.type.
    pub types: Vec<(String, Priority)>,
    /// `priority.members_above`: the class of sessions with more members, the largest bound first.
    pub members_above: Vec<(u32, Priority)>,
    /// What comes over `consumer.urgent_topic` is urgent; its reader says so.
    pub has_urgent_topic: bool,
    /// `priority.default`.
    pub default: Priority,
    /// `priority.fleeting_ttl`; zero: a fleeting event is never too late.
    pub fleeting_ttl: Duration,
    /// `priority.stream_target`; zero: what is not urgent is written as fast as its gateway takes it.
    pub stream_target: Duration,
}

impl PriorityRules {
    /// Whether there is any rule. Else every event is normal, and nothing is done about classes.
    pub fn is_on(&self) -> bool {
        let has_rules = !self.header.is_empty() || !self.types.is_empty() || !self.members_above.is_empty();
        has_rules || self.has_urgent_topic || self.default != Priority::Normal
    }

    /// The class by what is known of the event alone.
    pub fn of_event(&self, said: Said, kind: &[u8]) -> Option<Priority> {
        if let Said::Class(class) = said {
            return Some(class);
        }
        self.types.iter().find(|(of, _)| of.as_bytes() == kind).map(|(_, class)| *class)
    }

    /// The class by how many members the session has.
    pub fn of_members(&self, members: usize) -> Priority {
        let above = self.members_above.iter().find(|(bound, _)| members > *bound as usize);
        above.map_or(self.default, |(_, class)| *class)
    }

    /// Whether an event can be of this class.
    pub fn can_give(&self, class: Priority) -> bool {
        let by_type = self.types.iter().map(|(_, class)| *class);
        let by_members = self.members_above.iter().map(|(_, class)| *class);
        let by_topic = self.has_urgent_topic.then_some(Priority::Urgent);
        let mut all = by_type.chain(by_members).chain(by_topic).chain([self.default]);
        !self.header.is_empty() || all.any(|given| given == class)
    }
}

/// Ends by class, and what was shed. Only events that got a class are counted: no repeats, and nothing that was refused as it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassCounts {
    /// Events by class and end.
    pub events_ended: [[u64; EventOutcome::COUNT]; Priority::COUNT],
    /// Recipients by class and end.
    pub recipients_ended: [[u64; RecipientOutcome::COUNT]; Priority::COUNT],
    /// Fleeting events that were dropped whole, by reason.
    pub events_shed: [u64; ShedReason::COUNT],
    /// Recipients that were dropped, by reason; those of an event that was dropped before its members were known are not.
    pub recipients_shed: [u64; ShedReason::COUNT],
    /// Events whose header named no class.
    pub unknown_said: u64,
    /// How long events took, from their arrival until all of their recipients had ended.
    pub latency: [ClassLatency; Priority::COUNT],
}

impl ClassCounts {
    /// All of these as well.
    pub fn add(&mut self, other: &Self) {
        let add = |to: &mut [u64], from: &[u64]| to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        for class in 0..Priority::COUNT {
            add(&mut self.events_ended[class], &other.events_ended[class]);
            add(&mut self.recipients_ended[class], &other.recipients_ended[class]);
            self.latency[class].add(&other.latency[class]);
        }
        add(&mut self.events_shed, &other.events_shed);
        add(&mut self.recipients_shed, &other.recipients_shed);
        self.unknown_said += other.unknown_said;
    }
}

/// The bounds of [`BUCKETS`] in nanoseconds.
const BUCKET_NANOS: [u64; BUCKETS.len()] = {
    let mut nanos = [0; BUCKETS.len()];
    let mut at = 0;
    while at < nanos.len() {
        nanos[at] = (BUCKETS[at] * 1e9 + 0.5) as u64;
        at += 1;
    }
    nanos
};

#[inline]
fn bucket_of_nanos(nanos: u64) -> usize {
    BUCKET_NANOS.partition_point(|bound| *bound < nanos)
}

/// How long events of a class took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassLatency {
    /// How many fell at or below each bound of [`BUCKETS`] and above the one before; the last is above all.
    pub buckets: [u64; BUCKETS.len() + 1],
    /// All of them together. A busy shard adds thousands of seconds each second, of which 64 bits hold some months only.
    pub nanos: u128,
}

impl ClassLatency {
    /// So many that took so many nanoseconds, for the price of one.
    #[inline]
    pub fn record_nanos(&mut self, nanos: u64, count: u64) {
        self.buckets[bucket_of_nanos(nanos)] += count;
        self.nanos += u128::from(nanos) * u128::from(count);
    }

    /// The place of the bucket that it falls into.
    pub fn bucket_of(took: Duration) -> usize {
        bucket_of_nanos(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX))
    }

    /// All of these as well.
    pub fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(to, from)| *to += from);
        self.nanos += other.nanos;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> PriorityRules {
        PriorityRules {
            header: "P".into(),
            types: vec![("call".into(), Priority::Urgent), ("typing".into(), Priority::Fleeting)],
            members_above: vec![(500, Priority::Bulk), (10, Priority::Normal)],
            has_urgent_topic: false,
            default: Priority::Urgent,
            fleeting_ttl: Duration::ZERO,
            stream_target: Duration::ZERO,
        }
    }

    #[test]
    fn a_value_falls_at_or_below_its_bound() {
        for (at, bound) in BUCKETS.into_iter().enumerate() {
            let bound = Duration::from_secs_f64(bound);
            assert_eq!(ClassLatency::bucket_of(bound), at, "{bound:?}");
            assert_eq!(ClassLatency::bucket_of(bound + Duration::from_nanos(1)), at + 1, "{bound:?}");
        }
        assert_eq!(ClassLatency::bucket_of(Duration::MAX), BUCKETS.len());
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rules = rules();
        assert_eq!(rules.of_event(Said::of_header(b" Bulk "), b"call"), Some(Priority::Bulk), "the header");
        assert_eq!(rules.of_event(Said::Nothing, b"call"), Some(Priority::Urgent), "the type");
        assert_eq!(rules.of_event(Said::of_header(b"Urgent!"), b"typing"), Some(Priority::Fleeting), "an unknown word");
        assert_eq!(rules.of_event(Said::Nothing, b"text"), None);
        let by_members =
            [(501, Priority::Bulk), (500, Priority::Normal), (11, Priority::Normal), (10, Priority::Urgent)];
        for (members, class) in by_members {
            assert_eq!(rules.of_members(members), class, "{members} members");
        }
    }

    #[test]
    fn what_two_shards_counted_is_added_up() {
        let mut counts = [ClassCounts::default(); 2];
        for (counts, millis) in counts.iter_mut().zip([3, 200_000]) {
            counts.events_ended[Priority::Bulk as usize][EventOutcome::Settled as usize] = 2;
            counts.recipients_shed[ShedReason::Late as usize] = millis;
            counts.latency[Priority::Urgent as usize].record_nanos(millis * 1_000_000, 1);
            counts.unknown_said = 1;
        }
        let [mut all, other] = counts;
        all.add(&other);
        assert_eq!(all.events_ended[Priority::Bulk as usize][EventOutcome::Settled as usize], 4);
        assert_eq!((all.recipients_shed[ShedReason::Late as usize], all.unknown_said), (200_003, 2));
        let ClassLatency { buckets, nanos } = all.latency[Priority::Urgent as usize];
        let at_5_millis = BUCKETS.iter().position(|bound| *bound == 0.005).expect("a bound");
        assert_eq!((buckets[at_5_millis], buckets[BUCKETS.len()], nanos), (1, 1, 200_003_000_000));
    }

    #[test]
    fn without_rules_nothing_is_on() {
        assert!(!PriorityRules::default().is_on());
        let late = PriorityRules { fleeting_ttl: Duration::from_secs(1), ..PriorityRules::default() };
        assert!(!late.is_on(), "nothing is fleeting");
        assert!(rules().is_on());
        let by_topic = PriorityRules { has_urgent_topic: true, ..PriorityRules::default() };
        assert!(by_topic.is_on() && by_topic.can_give(Priority::Urgent) && !by_topic.can_give(Priority::Bulk));
    }
}
