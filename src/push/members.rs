//! Second step: who is in the session. One lookup a session in flight however many events wait, many sessions a query.
//!
//! Promises that a store that is away costs its waiters time and nothing else, and that one session the store refuses
//! does not fail the others of its query: they are asked again one by one.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::time::Duration;

use hashbrown::HashMap;

use crate::ids::{Nanos, SessionIx, UserIx};
use crate::limits::{MEMBER_QUERIES_IN_FLIGHT, MEMBER_QUERY_SESSIONS, NAME_BYTES_MAX, STORE_AWAY_PAUSE};
use crate::names::NameList;
use crate::outcome::EventEnd;
use crate::ports::LookupError;
use crate::push::Push;
use crate::push::bundle::EventIx;
use crate::push::facts::{AskNo, Output};
use crate::push::sessions::MemberList;

/// The lookups of members.
#[derive(Debug, Default)]
pub struct MemberAsks {
    wanted: VecDeque<SessionIx>,
    wanted_alone: VecDeque<SessionIx>,
    wanted_later: VecDeque<(Nanos, SessionIx)>,
    asked: HashMap<AskNo, (Vec<SessionIx>, Nanos)>,
    /// Answers whose names are not all known yet; these and what is asked are bounded together.
    learning: VecDeque<Learning>,
    store_away_until: Nanos,
    next_no: AskNo,
}

/// An answer on its way into the table of users.
#[derive(Debug, Default)]
struct Learning {
    sessions: Vec<SessionIx>,
    lists: Vec<NameList>,
    asked_at: Nanos,
    /// The list that is being taken, its fingerprint, and how many of its names are known and as whom.
    list: usize,
    fingerprint: u64,
    names: usize,
    users: Vec<UserIx>,
    is_odd: bool,
}

impl MemberAsks {
    /// Whether names wait for a turn.
    pub fn is_learning(&self) -> bool {
        !self.learning.is_empty()
    }
}

/// What an event needs of its session's list.
fn is_fresh(list: &MemberList, arrived: Nanos, now: Nanos, ttl: Duration) -> bool {
    list.asked_at >= arrived || now.since(list.asked_at) <= ttl
}

impl Push {
    /// Whether the session's members are known well enough for an event; if not, they are being asked for.
    pub(super) fn has_members(&mut self, at: SessionIx, event: EventIx) -> bool {
        let session = &mut self.sessions[at];
        let arrived = self.ledger[event].arrived;
        if session.members.as_ref().is_some_and(|list| is_fresh(list, arrived, self.now, self.settings.members_ttl)) {
            return true;
        }
        if !session.is_asking {
            session.is_asking = true;
            self.members.wanted.push_back(at);
        }
        false
    }

    /// Sends the asks that are due, bounded in number and size.
    pub(super) fn ask_members(&mut self) {
        let asks = &mut self.members;
        while asks.wanted_later.front().is_some_and(|(due, _)| *due <= self.now) {
            let (_, session) = asks.wanted_later.pop_front().expect("looked at above");
            asks.wanted_alone.push_back(session);
        }
        while asks.asked.len() + asks.learning.len() < MEMBER_QUERIES_IN_FLIGHT && self.now >= asks.store_away_until {
            let batch = match asks.wanted_alone.pop_front() {
                Some(session) => vec![session],
                None => asks.wanted.drain(..asks.wanted.len().min(MEMBER_QUERY_SESSIONS)).collect(),
            };
            if batch.is_empty() {
                break;
            }
            let ask = asks.next_no;
            asks.next_no += 1;
            self.activity.member_queries += 1;
            self.activity.member_query_sessions += batch.len() as u64;
            let sessions = batch.iter().map(|at| self.sessions[*at].id.clone()).collect();
            asks.asked.insert(ask, (batch, self.now));
            self.out.push(Output::AskMembers { ask, sessions });
        }
    }

    /// Takes an answer.
    pub(super) fn members_answered(&mut self, ask: AskNo, answer: Result<Vec<NameList>, LookupError>) {
        let Some((sessions, asked_at)) = self.members.asked.remove(&ask) else { return };
        match answer {
            Ok(lists) if lists.len() == sessions.len() => {
                self.members.learning.push_back(Learning { sessions, lists, asked_at, ..Learning::default() });
                self.learn_members();
            }
            Ok(lists) => {
                let why = format!("the member store answered {} lists to {} sessions", lists.len(), sessions.len());
                self.members_refused(sessions, &why);
            }
            Err(LookupError::Unavailable(why)) => {
                self.warn("members_unavailable", || why);
                self.members.store_away_until = self.now.after(STORE_AWAY_PAUSE);
                for at in sessions.into_iter().rev() {
                    self.members.wanted.push_front(at);
                }
            }
            Err(LookupError::Rejected(why)) => self.members_refused(sessions, &why),
        }
    }

    /// Makes known what was answered, as far as the turn allows.
    pub(super) fn learn_members(&mut self) {
        if self.is_cut_off {
            self.members.learning.clear();
        }
        while let Some(mut learning) = self.members.learning.pop_front() {
            while let Some(&at) = learning.sessions.get(learning.list) {
                if !self.learn_list(at, &mut learning) {
                    return self.members.learning.push_front(learning);
                }
                learning.list += 1;
                self.advance(at);
            }
        }
    }

    /// One session's list; false when the turn is over before it.
    fn learn_list(&mut self, at: SessionIx, learning: &mut Learning) -> bool {
        let list = &learning.lists[learning.list];
        let session = &mut self.sessions[at];
        if learning.names == 0 {
            learning.fingerprint = self.hasher.hash_one(list.parts());
            if let Some(known) = &mut session.members
                && known.fingerprint == learning.fingerprint
            {
                known.asked_at = learning.asked_at;
                session.is_asking = false;
                session.tries = 0;
                return true;
            }
            learning.users = Vec::with_capacity(list.len());
        }
        let names = (list.len() - learning.names).min(self.turn.names_left);
        self.turn.names_left -= names;
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
        self.take_members(at, std::mem::take(&mut learning.users), learning.fingerprint, learning.asked_at);
        if std::mem::take(&mut learning.is_odd) {
            let id = self.sessions[at].id.clone();
            self.warn("bad_member_name", || {
                format!("session {id}: a member's name is empty or over {NAME_BYTES_MAX} bytes")
            });
        }
        true
    }

    fn take_members(&mut self, at: SessionIx, mut users: Vec<UserIx>, fingerprint: u64, asked_at: Nanos) {
        let session = &mut self.sessions[at];
        session.is_asking = false;
        session.tries = 0;
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

    fn members_refused(&mut self, sessions: Vec<SessionIx>, why: &str) {
        if sessions.len() > 1 {
            self.members.wanted_alone.extend(sessions);
            return;
        }
        for at in sessions {
            let id = self.sessions[at].id.clone();
            self.warn("members_refused", || format!("session {id}: {why}"));
            self.sessions[at].is_asking = false;
            if self.lookup_refused(at, why) {
                self.sessions[at].is_asking = true;
                self.members.wanted_later.push_back((self.now.after(self.settings.retry_interval), at));
            } else {
                self.advance(at);
            }
        }
    }

    /// Counts a refused lookup against the event at the front; false when it was one too many and the event goes to the
    /// dead letters. The session goes on without it.
    pub(super) fn lookup_refused(&mut self, at: SessionIx, why: &str) -> bool {
        let session = &mut self.sessions[at];
        session.tries += 1;
        if session.tries <= self.settings.max_retry {
            return true;
        }
        session.tries = 0;
        if let Some(event) = session.waiting.pop_front() {
            let detail = format!("session {}: {why}", self.sessions[at].id);
            self.bury_event(event, EventEnd::LookupFailed, detail, self.settings.max_retry + 1);
        }
        false
    }
}
