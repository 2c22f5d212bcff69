//! The sessions one shard is home to: their members, the order of their events, and how they are grouped by gateway.
//!
//! Promises that a session with anything in flight keeps its place, and that the others make room for new ones (the
//! one longest unused first, by a clock hand) within [`SESSIONS_MAX`] and [`MEMBER_PLACES_MAX`]; and that one session
//! keeps at most [`RETIRED_LISTS_MAX`] replaced lists.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::ids::{GatewayIx, Nanos, SessionId, SessionIx, UserIx};
use crate::limits::{MEMBER_PLACES_MAX, RETIRED_LISTS_MAX, SESSIONS_MAX};
use crate::push::bundle::EventIx;
use crate::push::layout::Layout;
use crate::push::users::Users;

/// A session's members, ascending by place.
#[derive(Debug)]
pub struct MemberList {
    /// The members; shared with the events that owe each of them a row.
    pub users: Arc<[UserIx]>,
    /// Equal answers have equal fingerprints.
    pub fingerprint: u64,
    /// When they were asked for.
    pub asked_at: Nanos,
}

/// Bundles of one session to one gateway, counted; they end in the order they were made.
#[derive(Clone, Copy, Debug)]
pub struct SessionLane {
    /// The gateway.
    pub gateway: GatewayIx,
    /// Bundles made.
    pub sent: u32,
    /// Bundles ended.
    pub done: u32,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Who is told.
    pub members: Option<MemberList>,
    /// Its members are being asked for.
    pub is_asking: bool,
    /// Lookups that were refused for the event at the front.
    pub tries: u32,
    /// Events that are not bundled yet, in arrival order.
    pub waiting: VecDeque<EventIx>,
    /// Route asks that the event at the front waits for.
    pub awaited_asks: u32,
    /// Events that are bundled and not ended: their users keep their places.
    pub in_flight: u32,
    /// The members by gateway, as they were last grouped.
    pub layout: Option<Layout>,
    /// Bundles by gateway.
    pub lanes: Vec<SessionLane>,
    /// Members whose messages wait for their place in the order; ascending.
    pub held: Vec<UserIx>,
    /// Lists that were replaced while their users were in flight.
    retired: Vec<Arc<[UserIx]>>,
    /// Its events wait until none is in flight.
    pub is_paused: bool,
    is_used: bool,
}

impl Session {
    fn new(id: SessionId) -> Self {
        Self {
            id,
            members: None,
            is_asking: false,
            tries: 0,
            waiting: VecDeque::new(),
            awaited_asks: 0,
            in_flight: 0,
            layout: None,
            lanes: Vec::new(),
            held: Vec::new(),
            retired: Vec::new(),
            is_paused: false,
            is_used: true,
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight == 0 && !self.is_asking && self.held.is_empty()
    }

    /// Whether it keeps so many replaced lists that those must be let go first: a busy session whose list changes all the
    /// time would else keep them all, for there is always something in flight.
    pub fn is_full(&self) -> bool {
        self.retired.len() >= RETIRED_LISTS_MAX && self.in_flight > 0
    }

    /// The lane to a gateway, made when missing; looked for at `hint` first.
    pub fn lane(&mut self, gateway: GatewayIx, hint: u32) -> usize {
        let hint = hint as usize;
        if self.lanes.get(hint).is_some_and(|lane| lane.gateway == gateway) {
            return hint;
        }
        self.lanes.iter().position(|lane| lane.gateway == gateway).unwrap_or_else(|| {
            self.lanes.push(SessionLane { gateway, sent: 0, done: 0 });
            self.lanes.len() - 1
        })
    }

    /// Whether all bundles to a gateway up to `until` have ended.
    pub fn has_done(&self, gateway: GatewayIx, until: u32) -> bool {
        let lane = self.lanes.iter().find(|lane| lane.gateway == gateway);
        lane.is_none_or(|lane| lane.done.wrapping_sub(until) as i32 >= 0)
    }
}

/// All sessions of a shard.
#[derive(Debug, Default)]
pub struct Sessions {
    by_id: HashTable<u32>,
    hasher: FixedState,
    all: Vec<Session>,
    free: Vec<u32>,
    hand: usize,
    member_places: usize,
}

impl std::ops::Index<SessionIx> for Sessions {
    type Output = Session;
    fn index(&self, at: SessionIx) -> &Session {
        &self.all[at.0 as usize]
    }
}

impl std::ops::IndexMut<SessionIx> for Sessions {
    fn index_mut(&mut self, at: SessionIx) -> &mut Session {
        &mut self.all[at.0 as usize]
    }
}

impl Sessions {
    /// How many are kept.
    pub fn kept(&self) -> usize {
        self.all.len() - self.free.len()
    }

    /// What [`of`](Self::of) and the repeats know an id by.
    pub fn hash(&self, id: &[u8]) -> u64 {
        self.hasher.hash_one(id)
    }

    /// The session of an id (UTF-8) and its hash, made when it is not kept.
    pub fn of(&mut self, id: &[u8], hash: u64, users: &mut Users) -> SessionIx {
        if let Some(&at) = self.by_id.find(hash, |&at| self.all[at as usize].id.as_bytes() == id) {
            self.all[at as usize].is_used = true;
            return SessionIx(at);
        }
        self.make_room(users);
        let session = Session::new(String::from_utf8_lossy(id).into());
        let at = match self.free.pop() {
            Some(at) => {
                self.all[at as usize] = session;
                at
            }
            None => {
                self.all.push(session);
                (self.all.len() - 1) as u32
            }
        };
        let (hasher, all) = (&self.hasher, &self.all);
        self.by_id.insert_unique(hash, at, |&at| hasher.hash_one(all[at as usize].id.as_bytes()));
        SessionIx(at)
    }

    /// Sets who is in a session; an equal list only has its age renewed.
    pub fn set_members(&mut self, at: SessionIx, new: MemberList, users: &mut Users) {
        let session = &mut self.all[at.0 as usize];
        self.member_places += new.users.len();
        if let Some(layout) = &mut session.layout {
            layout.is_stale = true;
            layout.is_of_old_list = true;
        }
        if let Some(old) = session.members.replace(new) {
            self.member_places -= old.users.len();
            session.retired.push(old.users);
        }
        self.release_retired(at, users);
    }

    /// Forgets the users of replaced lists once nothing in flight names them.
    pub fn release_retired(&mut self, at: SessionIx, users: &mut Users) {
        let session = &mut self.all[at.0 as usize];
        if session.in_flight == 0 {
            for list in session.retired.drain(..) {
                users.unname(&list);
            }
        }
    }

    fn make_room(&mut self, users: &mut Users) {
        let mut looked_at = 0;
        while (self.kept() >= SESSIONS_MAX || self.member_places > MEMBER_PLACES_MAX) && looked_at < 2 * self.all.len()
        {
            self.hand = (self.hand + 1) % self.all.len();
            looked_at += 1;
            let session = &mut self.all[self.hand];
            if session.is_idle() && !std::mem::take(&mut session.is_used) && !session.id.is_empty() {
                self.forget(self.hand as u32, users);
            }
        }
    }

    fn forget(&mut self, at: u32, users: &mut Users) {
        let session = std::mem::replace(&mut self.all[at as usize], Session::new(SessionId::default()));
        let hash = self.hash(session.id.as_bytes());
        if let Ok(entry) = self.by_id.find_entry(hash, |&found| found == at) {
            entry.remove();
        }
        if let Some(members) = session.members {
            self.member_places -= members.users.len();
            users.unname(&members.users);
        }
        for list in session.retired {
            users.unname(&list);
        }
        self.free.push(at);
    }
}
