//! What must hold of notices: the sequence that they say never goes backwards in a session, in the order of its events, and is not
//! below their message's; in a world in which no gateway was late, full or gone, each member who was undisturbed knows each message, or
//! a sequence that is not below it; and where nothing fails and nobody moves, each recipient ends once, as what it was told.

use std::collections::{BTreeMap, HashMap, HashSet};

use task_engine::model::outcome::RecipientOutcome;
use task_engine::model::proto::gateway::SessionNotice;

use super::rounds::Rounds;
use super::{Event, Oracle};
use crate::simulation::plan::Ending;
use crate::simulation::world::World;

/// Gateways of a world at the most.
const GATEWAYS: usize = 8;

/// What notices said.
#[derive(Debug, Default)]
pub struct Notices {
    /// By session: the highest sequence by the order of the event.
    said: HashMap<usize, BTreeMap<u64, i64>>,
    /// By session, user and gateway: the highest that was told.
    told: HashMap<(usize, usize, usize), i64>,
    /// The highest that was pushed in full.
    pushed: HashMap<(usize, usize, usize), i64>,
    /// Events and users who were told of them by their own notices.
    noticed: HashSet<(usize, usize)>,
    /// What is under way.
    pub(super) rounds: Rounds,
}

impl Notices {
    /// The next engine knows nothing.
    pub fn restart(&mut self) {
        self.said.clear();
        self.rounds = Rounds::default();
    }
}

impl Oracle {
    /// The event of this engine that came last with this id.
    pub fn last_of(&self, session: usize, msg_id: i64) -> &Event {
        &self.events[self.place_of(session, msg_id)]
    }

    /// Its number.
    pub(super) fn place_of(&self, session: usize, msg_id: i64) -> usize {
        let is_it = |(_, event): &(usize, &Event)| event.session == session && event.message.msg_id == msg_id;
        let known = self.events.iter().enumerate().filter(is_it).max_by_key(|(_, event)| (event.engine, event.order));
        known.expect("a notice is about an event").0
    }

    /// Whether no event of its session was taken after this one.
    pub fn is_newest(&self, session: usize, order: u64) -> bool {
        !self.events.iter().any(|event| event.session == session && event.order > order)
    }

    /// A notice came; its msg_id and sequence, and the order of its event.
    pub fn note_notice(&mut self, session: usize, notice: &SessionNotice) -> ((i64, i64), u64) {
        let event = self.last_of(session, notice.msg_id);
        let (order, seq_id) = (event.order, event.message.seq_id);
        assert!(notice.max_seq_id >= seq_id, "a notice is below its message: {notice:?}, {seq_id}");
        let said = self.notices.said.entry(session).or_default();
        let before = said.range(..order).next_back().map(|(_, highest)| *highest);
        let after = said.range(order + 1..).next().map(|(_, highest)| *highest);
        assert!(before.is_none_or(|before| before <= notice.max_seq_id), "{notice:?} goes backwards from {before:?}");
        assert!(after.is_none_or(|after| after >= notice.max_seq_id), "{after:?} went backwards from {notice:?}");
        said.insert(order, notice.max_seq_id);
        ((notice.msg_id, seq_id), order)
    }

    /// A user was told so by the notice of an event.
    pub fn told_highest(&mut self, event: usize, user: usize, gateway: usize, highest: i64) {
        let told = self.notices.told.entry((self.events[event].session, user, gateway)).or_insert(highest);
        *told = highest.max(*told);
        self.notices.noticed.insert((event, user));
    }

    /// A user was pushed an event in full; a notice of it that came before, on a stream that ended unanswered, is not what counts.
    pub fn pushed_in_full(&mut self, event: usize, user: usize, gateway: usize) {
        self.notices.noticed.remove(&(event, user));
        let Event { session, ref message, .. } = self.events[event];
        let pushed = self.notices.pushed.entry((session, user, gateway)).or_insert(message.seq_id);
        *pushed = message.seq_id.max(*pushed);
    }

    /// Whether a gateway was told of an event for a user; or, if it takes notices, of a sequence that is not below it. A message in full
    /// says a sequence as well, and may stand where a notice was to stand for others; whoever sent it knows it.
    pub fn knows_at(&self, event: usize, user: usize, gateway: usize, takes_notices: bool) -> bool {
        let Event { session, message, .. } = &self.events[event];
        let key = (*session, user, gateway);
        let is_known = |of: &HashMap<_, i64>| of.get(&key).is_some_and(|highest| *highest >= message.seq_id);
        let is_told = is_known(&self.notices.told) || self.is_told_at(event, user, gateway);
        is_told || (takes_notices && (is_known(&self.notices.pushed) || self.has_sent_since(event, user)))
    }

    /// Whether a user has sent a message of the session that is not below an event.
    fn has_sent_since(&self, event: usize, user: usize) -> bool {
        let Event { session, message, .. } = &self.events[event];
        let is_own = |own: &Event| own.session == *session && own.sender == Some(user);
        self.events.iter().any(|own| is_own(own) && own.message.seq_id >= message.seq_id)
    }

    fn knows(&self, event: usize, user: usize, takes_notices: impl Fn(usize) -> bool) -> bool {
        let is_pushed = |place| self.deliveries.contains_key(&(event, user, place));
        let is_sender = self.events[event].sender == Some(user);
        let knows_at = |gateway| is_pushed(gateway) || self.knows_at(event, user, gateway, takes_notices(gateway));
        is_sender || (0..GATEWAYS).any(knows_at)
    }

    /// Whether an engine died.
    pub fn has_restarted(&self) -> bool {
        self.engine > 0
    }
}

impl World {
    /// Recipients who were not reached for what their gateways, or their number, did.
    pub fn troubles(&self) -> u64 {
        let ended = |end: RecipientOutcome| {
            self.shards.iter().map(|push| push.counts().unreached_by[end as usize]).sum::<u64>()
        };
        let troubles = [
            RecipientOutcome::TimedOut,
            RecipientOutcome::OutboxFull,
            RecipientOutcome::Yielded,
            RecipientOutcome::BrokeStream,
            RecipientOutcome::GatewayTableFull,
        ];
        troubles.into_iter().map(ended).sum()
    }

    /// At the end of a run.
    pub fn check_all_know(&self) {
        if self.plan.notice_above() == 0 || self.oracle.has_restarted() || self.troubles() > 0 {
            return;
        }
        for number in 0..self.oracle.events.len() {
            let event = &self.oracle.events[number];
            let session = &self.sessions[event.session];
            let is_seen = self.is_readable(event.session, event.message.seq_id, event.message.msg_id);
            if !event.is_done || !is_seen || !session.changed.is_empty() {
                continue;
            }
            for user in session.members.iter().copied() {
                let known = &self.users[user];
                let is_there = !known.is_disturbed && known.was_at.len() == 1;
                let is_there =
                    is_there && known.was_at.iter().all(|gateway| known.at().has(*gateway) && self.serves(*gateway));
                assert!(
                    !is_there || self.oracle.knows(number, user, |gateway| self.takes_notices(gateway)),
                    "user {user}, whom nothing had disturbed, knows nothing of event {number}: no notice in its stead"
                );
            }
        }
    }

    /// At the end of a run in which nothing failed and nobody moved: who was told in full, by a notice, and by that of a newer message, is
    /// what the engine counted.
    pub fn check_account(&mut self) {
        let plan = &self.plan;
        let is_plain = plan.is_still() && plan.devices() == 1 && plan.ending == Ending::Calm;
        let shed = self.recipients_ended(RecipientOutcome::Shed);
        if plan.notice_above() == 0 || !is_plain || self.troubles() + shed > 0 {
            return;
        }
        let [mut delivered, mut noticed, mut conflated] = [0; 3];
        for (number, event) in self.oracle.events.iter().enumerate().filter(|(_, event)| event.is_done) {
            for user in self.sessions[event.session].members.iter().copied() {
                let is_meant = self.oracle.echoes || event.sender != Some(user);
                if !is_meant || self.users[user].at().iter().next().is_none() {
                    continue;
                }
                let is_noticed = self.oracle.notices.noticed.contains(&(number, user));
                let is_told = self.oracle.is_answered(number, user);
                noticed += u64::from(is_noticed);
                delivered += u64::from(is_told && !is_noticed);
                conflated += u64::from(!is_told);
            }
        }
        let counted = [RecipientOutcome::Delivered, RecipientOutcome::Noticed, RecipientOutcome::Conflated]
            .map(|end| self.recipients_ended(end));
        assert_eq!(
            counted,
            [delivered, noticed, conflated],
            "an account of notices: delivered, noticed and conflated as counted, and as gateways saw them"
        );
        self.tally.notices.accounts += u64::from(conflated > 0);
    }
}
