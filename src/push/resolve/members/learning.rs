//! Member lists that were answered become known, as far as a turn allows.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use crate::model::ids::{Nanos, SessionIx, UserIx};
use crate::model::limits::NAME_BYTES_MAX;
use crate::model::names::NameList;
use crate::push::context::Context;
use crate::push::ledger::Ledger;
use crate::push::resolve::Resolve;
use crate::push::sessions::MemberList;

/// An answer on its way into the table of users.
#[derive(Debug, Default)]
pub(super) struct Learning {
    pub(super) sessions: Vec<SessionIx>,
    pub(super) lists: Vec<NameList>,
    pub(super) asked_at: Nanos,
    /// The list that is being taken, its fingerprint, and how many of its names are known and as whom.
    pub(super) list: usize,
    pub(super) fingerprint: u64,
    pub(super) names: usize,
    pub(super) users: Vec<UserIx>,
    pub(super) is_odd: bool,
}

impl Resolve {
    /// Makes the next session's members known, as far as the turn allows; that session may go on.
    pub(in crate::push) fn learn_next(&mut self, ledger: &mut Ledger, cx: &mut Context) -> Option<SessionIx> {
        if cx.is_cut_off {
            self.members.learning.clear();
        }
        while let Some(mut learning) = self.members.learning.pop_front() {
            let Some(&at) = learning.sessions.get(learning.list) else { continue };
            let is_known = self.learn_list(at, &mut learning, ledger, cx);
            learning.list += usize::from(is_known);
            self.members.learning.push_front(learning);
            return is_known.then_some(at);
        }
        None
    }

    /// One session's list; false when the turn is over before it.
    fn learn_list(&mut self, at: SessionIx, learning: &mut Learning, ledger: &mut Ledger, cx: &mut Context) -> bool {
        let list = &learning.lists[learning.list];
        if list.is_empty() {
            self.list_was_empty(at, learning.asked_at, ledger, cx);
            return true;
        }
        let session = &mut self.sessions[at];
        if learning.names == 0 {
            learning.fingerprint = FixedState::default().hash_one(list.parts());
            if let Some(known) = &mut session.members
                && known.fingerprint == learning.fingerprint
            {
                known.asked_at = learning.asked_at;
                self.members_are_known(at);
                return true;
            }
            learning.users = Vec::with_capacity(list.len());
        }
        let names = (list.len() - learning.names).min(cx.budget.names_left);
        cx.budget.names_left -= names;
        for at in learning.names..learning.names + names {
            let name = list.get(at);
            match name.len() {
                1..=NAME_BYTES_MAX => learning.users.push(self.users.name(name)),
                _ => learning.is_odd = true,
            }
        }
        learning.names += names;
        if learning.names < list.len() {
            return false;
        }
        learning.names = 0;
        self.take_members(at, std::mem::take(&mut learning.users), learning.fingerprint, learning.asked_at, ledger, cx);
        if std::mem::take(&mut learning.is_odd) {
            let id = self.sessions[at].id.clone();
            cx.warn("bad_member_name", || {
                format!("session {id}: a member's name is empty or over {NAME_BYTES_MAX} bytes")
            });
        }
        true
    }

    fn take_members(
        &mut self,
        at: SessionIx,
        mut users: Vec<UserIx>,
        fingerprint: u64,
        asked_at: Nanos,
        ledger: &mut Ledger,
        cx: &mut Context,
    ) {
        if users.is_empty() {
            return self.list_was_empty(at, asked_at, ledger, cx);
        }
        self.members_are_known(at);
        users.sort_unstable();
        let mut repeated = Vec::new();
        users.dedup_by(|later, earlier| {
            let is_same = later == earlier;
            if is_same {
                repeated.push(*later);
            }
            is_same
        });
        self.users.unname(&repeated);
        let members = MemberList { users: users.into(), fingerprint, asked_at };
        self.sessions.set_members(at, members, &mut self.users);
    }
}
