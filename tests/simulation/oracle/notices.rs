//! What must hold of notices: the sequence that they say never goes backwards in a session, in the order of its events, and is not
//! below their message's; and in a world in which no gateway was late, full or gone, each member who was undisturbed knows each message, or
//! a sequence that is not below it.

use std::collections::{BTreeMap, HashMap};

use task_engine::model::outcome::RecipientOutcome;
use task_engine::model::proto::gateway::SessionNotice;

use super::{Event, Oracle};
use crate::simulation::world::World;

/// What notices said.
#[derive(Debug, Default)]
pub struct Notices {
    /// By session: the highest sequence by the order of the event.
    said: HashMap<usize, BTreeMap<u64, i64>>,
    /// By session and user: the highest that was told.
    told: HashMap<(usize, usize), i64>,
}

impl Notices {
    /// The next engine knows nothing.
    pub fn restart(&mut self) {
        self.said.clear();
    }
}

impl Oracle {
    /// The event of this engine that came last with this id.
    pub fn last_of(&self, session: usize, msg_id: i64) -> &Event {
        let is_it = |event: &&Event| event.session == session && event.message.msg_id == msg_id;
        let known = self.events.iter().filter(is_it).max_by_key(|event| (event.engine, event.order));
        known.expect("a notice is about an event")
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

    /// A user was told so by a notice.
    pub fn told_highest(&mut self, event: usize, user: usize, highest: i64) {
        let told = self.notices.told.entry((self.events[event].session, user)).or_insert(highest);
        *told = highest.max(*told);
    }

    fn knows(&self, event: usize, user: usize) -> bool {
        let Event { session, message, sender, .. } = &self.events[event];
        let is_told = self.notices.told.get(&(*session, user)).is_some_and(|highest| *highest >= message.seq_id);
        is_told || *sender == Some(user) || (0..8).any(|place| self.deliveries.contains_key(&(event, user, place)))
    }
}

impl World {
    /// At the end of a run.
    pub fn check_all_know(&self) {
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
        if self.plan.notice_above() == 0 || self.oracle.engine > 0 || troubles.into_iter().any(|end| ended(end) > 0) {
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
                    !is_there || self.oracle.knows(number, user),
                    "user {user}, whom nothing had disturbed, knows nothing of event {number}: no notice in its stead"
                );
            }
        }
    }
}
