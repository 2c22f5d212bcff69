//! One shard's numbers at one instant, and their fixed flattening to words.
//!
//! Promises that a field added here is read, written and shown on the metric page without a line anywhere else.
//! Refuses labels that come from outside: every array is as long as a closed list of `outcome`.

use crate::model::outcome::Counts;
use crate::model::outcome::{EventEnd, Lane, RecipientEnd};

/// How a number moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only up, until the process ends.
    Counter,
    /// Up and down.
    Gauge,
}

/// A number of a shard without labels of its own: how it is shown.
#[derive(Clone, Copy, Debug)]
pub struct Scalar {
    /// How it moves.
    pub kind: Kind,
    /// The name on the metric page, without prefix and `_total`.
    pub name: &'static str,
    /// What it means: the field's own documentation.
    pub help: &'static str,
    /// Reads it.
    pub read: fn(&ShardSnapshot) -> u64,
}

macro_rules! snapshot {
    ($($(#[doc = $help:literal])+ $kind:ident $name:ident,)+) => {
        /// One shard's numbers at one instant. Counters count since the shard started.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct ShardSnapshot {
            /// Arrivals and ends.
            pub counts: Counts,
            /// Times a full lane was met, by lane.
            pub lane_full: [u64; Lane::COUNT],
            $($(#[doc = $help])+ pub $name: u64,)+
        }

        /// All numbers without labels of their own, in the order of the metric page.
        pub const SCALARS: &[Scalar] = &[$(Scalar {
            kind: Kind::$kind,
            name: stringify!($name),
            help: concat!($($help),+),
            read: |snapshot| snapshot.$name,
        },)+];

        impl ShardSnapshot {
            /// Every number, always in the same order.
            fn numbers(&self) -> impl Iterator<Item = &u64> {
                let counts = &self.counts;
                [&counts.events_arrived, &counts.recipients_arrived]
                    .into_iter()
                    .chain(&counts.events_ended)
                    .chain(&counts.recipients_ended)
                    .chain(&counts.unreached_by)
                    .chain(&self.lane_full)
                    .chain([$(&self.$name,)+])
            }

            /// The same, to be written.
            fn numbers_mut(&mut self) -> impl Iterator<Item = &mut u64> {
                let counts = &mut self.counts;
                [&mut counts.events_arrived, &mut counts.recipients_arrived]
                    .into_iter()
                    .chain(&mut counts.events_ended)
                    .chain(&mut counts.recipients_ended)
                    .chain(&mut counts.unreached_by)
                    .chain(&mut self.lane_full)
                    .chain([$(&mut self.$name,)+])
            }
        }

        impl Default for ShardSnapshot {
            fn default() -> Self {
                Self {
                    counts: Counts::default(),
                    lane_full: [0; Lane::COUNT],
                    $($name: 0,)+
                }
            }
        }
    };
}

snapshot! {
    /// Events that arrived and have no end yet.
    Gauge events_in_flight,
    /// Recipients of bundled events that have no end yet.
    Gauge recipients_in_flight,
    /// Payload bytes of the events in flight.
    Gauge payload_in_flight_bytes,
    /// Sessions whose member list is kept.
    Gauge sessions_cached,
    /// Users that have a place in the shard's table.
    Gauge users_known,
    /// Gateways that have a place in the shard's table.
    Gauge gateways_known,
    /// Gateways that had nothing to do for long, were not listed, and are known no longer.
    Counter gateways_forgotten,
    /// Gateway streams of this shard that are open.
    Gauge gateway_streams_open,
    /// Recipients that wait in the outboxes of this shard's gateways, unsent or unanswered.
    Gauge outbox_recipients,
    /// Member queries sent.
    Counter member_queries,
    /// Sessions asked for in member queries.
    Counter member_query_sessions,
    /// Lookups of single sessions and users that had failed in a set, or alone.
    Counter lookups_alone,
    /// Probes of the member and route stores, sent when a lookup failed and nothing else could tell whether they answer.
    Counter lookup_probes,
    /// Events that wait because the member list of their session was empty when it was asked for.
    Gauge events_without_members,
    /// Events without members that went to the dead letters before members.empty_wait, because too many waited.
    Counter empty_waits_cut,
    /// Events that wait although the member lookups of their session fail while others succeed.
    Gauge events_refused_members,
    /// Events of such sessions that went to the dead letters before consumer.max_retry, because too many waited.
    Counter refused_waits_cut,
    /// Asks that found the queue before the threads of a store full (members, inbox, dead letters), and wait for room.
    Counter asks_not_taken,
    /// MGETs sent.
    Counter mgets,
    /// Routes asked for in MGETs.
    Counter mget_keys,
    /// Route changes that the store told.
    Counter route_changes,
    /// Bytes of gRPC frames written.
    Counter frame_bytes,
    /// Gateway streams opened.
    Counter gateway_opens,
    /// Gateway streams that broke or could not be opened.
    Counter gateway_breaks,
    /// Answers of a gateway that match no request.
    Counter answers_mismatched,
    /// Recipients sent again on a new stream because the old one broke before they were answered.
    Counter resent_recipients,
    /// Recipients sent to another gateway because the user had moved.
    Counter rerouted_recipients,
    /// Repeats of an event (same session, msg_id, seq_id and type) whose message is another one; they are not pushed.
    Counter repeats_that_differ,
    /// Turns of the pump.
    Counter turns,
}

/// How many words a snapshot is.
pub const WORDS: usize = 2 + EventEnd::COUNT + 2 * RecipientEnd::COUNT + Lane::COUNT + SCALARS.len();

impl ShardSnapshot {
    /// All numbers as words.
    pub fn flatten(&self) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        for (word, number) in words.iter_mut().zip(self.numbers()) {
            *word = *number;
        }
        words
    }

    /// Reads what [`flatten`](Self::flatten) wrote.
    pub fn unflatten(words: &[u64; WORDS]) -> Self {
        let mut snapshot = Self::default();
        for (number, word) in snapshot.numbers_mut().zip(words) {
            *number = *word;
        }
        snapshot
    }

    /// Checks the conservation law: arrivals = endings + in flight, for events and for recipients.
    ///
    /// # Errors
    /// Both sides of the one that does not hold.
    pub fn check_conservation(&self) -> Result<(), String> {
        let counts = &self.counts;
        let sides = [
            ("events", counts.events_arrived, counts.events_ended.iter().sum::<u64>(), self.events_in_flight),
            ("recipients", counts.recipients_arrived, counts.recipients_ended.iter().sum(), self.recipients_in_flight),
        ];
        for (what, arrived, ended, in_flight) in sides {
            if arrived != ended + in_flight {
                return Err(format!("{what}: {arrived} arrived, but {ended} ended and {in_flight} are in flight"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_its_own_word() {
        let words: [u64; WORDS] = std::array::from_fn(|at| at as u64 + 1);
        let mut snapshot = ShardSnapshot::unflatten(&words);
        assert_eq!(snapshot.flatten(), words);
        assert_eq!((snapshot.numbers().count(), snapshot.numbers_mut().count()), (WORDS, WORDS));
        assert_eq!((snapshot.counts.events_arrived, snapshot.counts.recipients_arrived), (1, 2));
        assert_eq!(snapshot.turns, WORDS as u64);
    }

    #[test]
    fn an_imbalance_is_named_with_both_sides() {
        let mut snapshot = ShardSnapshot::default();
        assert_eq!(snapshot.check_conservation(), Ok(()));
        snapshot.counts.recipients_arrived = 3;
        snapshot.counts.recipients_ended[RecipientEnd::Offline as usize] = 1;
        snapshot.recipients_in_flight = 1;
        let error = snapshot.check_conservation().unwrap_err();
        assert_eq!(error, "recipients: 3 arrived, but 1 ended and 1 are in flight");
    }
}
