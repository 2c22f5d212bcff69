//! Remembers the latest ends that were not `delivered`, and one of [`SAMPLE`] that were, for `task-engine why`.
//!
//! Promises bounded memory ([`ENDS_MAX`] entries of fixed size, made as they come) and a bounded look through it, and that nothing of a
//! message is kept: sessions and users as hashes, ids, times, the end and the gateway. Repeats and skipped senders are no ends that
//! anybody asks for, and would push out those that are; a row in the inbox is found there.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use crate::model::ends::{End, EndsAsked, RememberedEnd};
use crate::model::ids::{GatewayId, GatewayIx, UserIx};
use crate::model::outcome::{EventOutcome, RecipientOutcome};
use crate::model::priority::ShedReason;
use crate::push::Push;
use crate::push::bundle::{EventIx, Group, Refusal};
use crate::push::facts::{AskNo, Output};
use crate::push::layout::KnownGateways;

/// Ends that are remembered.
pub const ENDS_MAX: usize = 64 * 1024;
/// Of so many recipients that were delivered one is remembered.
pub const SAMPLE: u32 = 1024;
/// Ends of one answer, the latest first.
const ANSWER_MAX: usize = 64;
/// The hash of nobody: an end of all recipients.
const ALL: u64 = 0;

#[derive(Debug)]
struct Entry {
    session: u64,
    user: u64,
    remembered: RememberedEnd,
}

/// See the module.
#[derive(Debug)]
pub struct Recorder {
    /// Half of each entry's session: most of a look reads nothing else.
    prints: Vec<u32>,
    entries: Vec<Entry>,
    /// The oldest, once it is full.
    oldest: usize,
    until_sample: u32,
    /// Ends of recipients that were recorded so far.
    recorded: [u64; RecipientOutcome::COUNT],
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            prints: Vec::new(),
            entries: Vec::new(),
            oldest: 0,
            until_sample: SAMPLE,
            recorded: [0; RecipientOutcome::COUNT],
        }
    }
}

fn hash(name: &[u8]) -> u64 {
    FixedState::default().hash_one(name).max(ALL + 1)
}

impl Recorder {
    fn keep(&mut self, entry: Entry) {
        let print = entry.session as u32;
        if let End::Recipient(end) = entry.remembered.end {
            self.recorded[end as usize] += 1;
        }
        if self.entries.len() < ENDS_MAX {
            self.prints.push(print);
            return self.entries.push(entry);
        }
        self.prints[self.oldest] = print;
        self.entries[self.oldest] = entry;
        self.oldest = (self.oldest + 1) % ENDS_MAX;
    }

    /// Whether one of so many that were delivered is remembered.
    fn is_sample(&mut self, delivered: u32) -> bool {
        let is_due = delivered >= self.until_sample;
        self.until_sample = if is_due { SAMPLE } else { self.until_sample - delivered };
        is_due
    }

    /// The latest that fit, the latest first.
    fn find(&self, asked: &EndsAsked) -> Vec<RememberedEnd> {
        let (session, user) = (hash(asked.session.as_bytes()), hash(asked.user.as_bytes()));
        let fits = |at: &usize| {
            let entry = &self.entries[*at];
            entry.session == session
                && (entry.user == user || entry.user == ALL)
                && asked.msg_id.is_none_or(|msg_id| msg_id == entry.remembered.msg_id)
        };
        let (newer, older) = self.prints.split_at(self.oldest);
        let of = |prints: &'_ [u32], first: usize| {
            let places = prints.iter().enumerate().filter(|(_, print)| **print == session as u32);
            places.map(|(at, _)| at + first).collect::<Vec<_>>()
        };
        let places = of(newer, 0).into_iter().rev().chain(of(older, self.oldest).into_iter().rev());
        places.filter(fits).take(ANSWER_MAX).map(|at| self.entries[at].remembered.clone()).collect()
    }
}

impl Push {
    /// The same with a memory of ends.
    pub fn with_recorder(mut self, is_on: bool) -> Self {
        self.recorder = is_on.then(Box::default);
        self.ledger.late_ends = is_on.then(Vec::new);
        self
    }

    /// Some recipients of an event could not be reached, at `gateway` where one was known.
    pub(super) fn end_unreached(
        &mut self,
        event: EventIx,
        users: &[UserIx],
        why: RecipientOutcome,
        gateway: Option<GatewayIx>,
    ) {
        let ended = self.ledger.end_unreached(event, users, why, &self.cx);
        if self.cx.observed.tap.is_some() {
            self.tap_missed(event, &ended, why, gateway);
        }
        if self.recorder.is_some() {
            let gateway = gateway.map(|gateway| self.delivery.gateways.id(gateway));
            ended.iter().for_each(|user| self.record(event, Some(*user), End::Recipient(why), gateway.clone()));
        }
    }

    /// The same of a fleeting event, whose recipients are dropped.
    pub(super) fn shed_unreached(&mut self, event: EventIx, users: &[UserIx], why: ShedReason) {
        let shed = self.ledger.shed_unreached(event, users, why);
        if self.cx.observed.tap.is_some() {
            self.tap_missed(event, &shed, RecipientOutcome::Shed, None);
        }
        if self.recorder.is_some() {
            shed.iter().for_each(|user| self.record(event, Some(*user), End::Recipient(RecipientOutcome::Shed), None));
        }
    }

    /// Some recipients of what was sent (an event to a group, but to the one who is skipped) were delivered, or told so by a notice.
    #[inline]
    pub(super) fn record_reached(
        &mut self,
        (event, group, skip): (EventIx, &Group, u32),
        refused: &[(u32, Refusal)],
        reached: u32,
        end: RecipientOutcome,
    ) {
        let Some(recorder) = &mut self.recorder else { return };
        if !recorder.is_sample(reached) {
            return;
        }
        let is_refused = |place: u32| refused.iter().any(|(refused, _)| *refused == place);
        let mut places = 0..group.users.len() as u32;
        let Some(place) = places.find(|place| *place != skip && !is_refused(*place)) else { return };
        let (user, gateway) = (group.users[place as usize], self.delivery.gateways.id(group.gateway));
        self.record(event, Some(user), End::Recipient(end), Some(gateway));
    }

    /// An event ends otherwise than by the ends of its recipients.
    pub(super) fn record_event(&mut self, event: EventIx, end: EventOutcome) {
        if self.recorder.is_some() && !matches!(end, EventOutcome::Settled | EventOutcome::Repeat) {
            self.record(event, None, End::Event(end), None);
        }
    }

    /// What the dead letters took, or did not, of recipients whose rows the inbox did not take.
    pub(super) fn record_late_ends(&mut self) {
        let ends = self.ledger.late_ends.as_mut().map(std::mem::take).unwrap_or_default();
        for (event, user, end) in ends {
            self.record(event, Some(user), End::Recipient(end), None);
        }
    }

    fn record(&mut self, event: EventIx, user: Option<UserIx>, end: End, gateway: Option<GatewayId>) {
        let Some(recorder) = &mut self.recorder else { return };
        let of = &self.ledger[event];
        let user = user.map_or(ALL, |user| hash(self.resolve.users.text(user).as_bytes()));
        let remembered =
            RememberedEnd { msg_id: of.arrival.msg_id, end, gateway, arrived: of.arrived, ended: self.cx.now };
        recorder.keep(Entry { session: hash(of.arrival.session_id_bytes()), user, remembered });
    }

    /// How many recipients were recorded with this end so far; none where nothing is remembered.
    pub fn recorded(&self, end: RecipientOutcome) -> Option<u64> {
        self.recorder.as_ref().map(|recorder| recorder.recorded[end as usize])
    }

    /// Answers what is asked of the memory.
    pub(super) fn recall(&mut self, ask: AskNo, asked: &EndsAsked) {
        let ends = self.recorder.as_ref().map(|recorder| recorder.find(asked)).unwrap_or_default();
        self.cx.out.push(Output::Ends { ask, ends });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::Nanos;

    fn entry(session: &str, user: Option<&str>, msg_id: i64, end: End) -> Entry {
        let remembered = RememberedEnd { msg_id, end, gateway: None, arrived: Nanos(1), ended: Nanos(msg_id as u64) };
        Entry { session: hash(session.as_bytes()), user: user.map_or(ALL, |user| hash(user.as_bytes())), remembered }
    }

    fn asked(user: &str, msg_id: Option<i64>) -> EndsAsked {
        EndsAsked { session: "s".into(), user: user.into(), msg_id }
    }

    #[test]
    fn the_latest_ends_are_found_by_session_user_and_message() {
        let (mut recorder, offline) = (Recorder::default(), End::Recipient(RecipientOutcome::Offline));
        for msg_id in 1..=3 {
            recorder.keep(entry("s", Some("u"), msg_id, offline));
            recorder.keep(entry("s", Some("v"), msg_id, offline));
            recorder.keep(entry("t", Some("u"), msg_id, offline));
        }
        recorder.keep(entry("s", None, 9, End::Event(EventOutcome::NoMembers)));
        let found =
            |user: &str, msg_id| recorder.find(&asked(user, msg_id)).iter().map(|end| end.msg_id).collect::<Vec<_>>();
        assert_eq!(found("u", None), [9, 3, 2, 1]);
        assert_eq!(
            (found("u", Some(2)), found("nobody", Some(9)), found("nobody", Some(1))),
            (vec![2], vec![9], vec![])
        );
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes_first() {
        let mut recorder = Recorder::default();
        let ends = ENDS_MAX as i64 + 10;
        for msg_id in 0..ends {
            recorder.keep(entry("s", Some("u"), msg_id, End::Recipient(RecipientOutcome::Offline)));
        }
        assert_eq!((recorder.entries.len(), recorder.prints.len()), (ENDS_MAX, ENDS_MAX));
        let found = recorder.find(&asked("u", None));
        assert_eq!((found.len(), found[0].msg_id, found[63].msg_id), (ANSWER_MAX, ends - 1, ends - 64));
        assert!(recorder.find(&asked("u", Some(9))).is_empty() && !recorder.find(&asked("u", Some(10))).is_empty());
        assert!(size_of::<Entry>() <= 80, "{} bytes an end", size_of::<Entry>());
    }

    #[test]
    fn one_of_so_many_deliveries_is_a_sample() {
        let mut recorder = Recorder::default();
        let samples = (0..4 * SAMPLE).filter(|_| recorder.is_sample(1)).count();
        assert_eq!(samples, 4);
        assert!(recorder.is_sample(SAMPLE * 3));
    }
}
