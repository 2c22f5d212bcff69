//! The sessions one shard is home to: their members, the order of their events, and how they are grouped by gateway.
//!
//! Promises that a session with anything in flight keeps its place, and that the others make room for new ones (the
//! one longest unused first, by a clock hand) within [`SESSIONS_MAX`] and [`MEMBER_PLACES_MAX`]; that groups are kept
//! ready for the sessions in use within [`LAYOUT_BYTES_MAX`]; and that one session keeps at most [`RETIRED_LISTS_MAX`]
//! replaced lists.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::model::ids::{GatewayIx, Nanos, SessionId, SessionIx, UserIx};
use crate::model::limits::{LAYOUT_BYTES_MAX, LAYOUTS_LOOKED_AT, MEMBER_PLACES_MAX, RETIRED_LISTS_MAX, SESSIONS_MAX};
use crate::model::prefetch::{prefetch, prefetch_all};
use crate::push::bundle::EventIx;
use crate::push::lanes::SessionLane;
use crate::push::layout::Layout;
use crate::push::notices::SessionNotices;
use crate::push::pauses::Pauses;
use crate::push::users::{SetIx, Users};

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

/// What went wrong with a session's lookups of members.
#[derive(Debug, Default)]
pub struct Trouble {
    /// When the latest failed, alone or in a set.
    pub failed_at: Option<Nanos>,
    /// How often in a row it failed alone.
    pub failures: u32,
    /// Its list was empty this often in a row.
    pub empties: u32,
    /// It was blamed for a failure since it last succeeded; until this time the next one ends its events at once.
    pub refused: Option<Nanos>,
    /// The order of its event at the front, while its events are counted as waiting, for a first member or as refused.
    pub waits_as: Option<u64>,
    /// They are counted as refused.
    pub waits_as_refused: bool,
    /// How many were counted, and their bytes.
    pub events: usize,
    /// See [`events`](Self::events).
    pub bytes: usize,
}

/// How the lookups for a session stand.
#[derive(Debug, Default)]
pub struct Lookups {
    /// Its members are being asked for.
    pub is_asking: bool,
    /// Lookups that were refused for the event at the front.
    pub tries: u32,
    /// What went wrong with its latest lookups of members; none while they succeed.
    pub trouble: Option<Box<Trouble>>,
    /// Route asks that the event at the front waits for.
    pub awaited_asks: u32,
    /// It waits to be asked for.
    pub is_wanted: bool,
    /// It waits for that among those of many members.
    pub is_wanted_alone: bool,
    /// They are asked for ahead of its events.
    pub is_ahead: bool,
    /// Where it has a place in the queues for that, a bit each; a place means nothing when it does not wait there.
    pub places: u8,
}

/// What was used of a session since room was last looked for.
#[derive(Debug)]
pub struct InUse {
    /// Its layout.
    pub layout: bool,
    session: bool,
    /// It stands in the queue of those that have a layout.
    in_laid: bool,
}

/// Members, ascending, and before which place in the order of arrivals events were sent without the gateway that they came to.
#[derive(Debug, Default)]
struct Joined(Vec<(UserIx, u64)>);

/// One session.
#[derive(Debug)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Who is told.
    pub members: Option<MemberList>,
    /// How its lookups stand.
    pub lookups: Lookups,
    /// Events that are not bundled yet, in arrival order.
    pub waiting: VecDeque<EventIx>,
    /// Events that are bundled and not ended: their users keep their places.
    pub in_flight: u32,
    /// The members by gateway, as they were last grouped.
    pub layout: Option<Box<Layout>>,
    /// Bundles by gateway.
    pub lanes: Vec<SessionLane>,
    /// Members whose messages wait for their place in the order; ascending.
    pub held: Vec<UserIx>,
    /// What is known of it where its members may be told by notices: in most sessions they are not.
    pub notices: Option<Box<SessionNotices>>,
    /// Members who came to another gateway as well while something was in flight: in most sessions nobody does.
    joined: Option<Box<Joined>>,
    /// Lists that were replaced while their users were in flight.
    retired: Vec<Arc<[UserIx]>>,
    /// Why its events wait though all is known.
    pub pauses: Pauses,
    /// What was used of it lately.
    pub in_use: InUse,
}

impl Session {
    fn new(id: SessionId) -> Self {
        Self {
            id,
            members: None,
            lookups: Lookups::default(),
            waiting: VecDeque::new(),
            in_flight: 0,
            layout: None,
            lanes: Vec::new(),
            held: Vec::new(),
            notices: None,
            joined: None,
            retired: Vec::new(),
            pauses: Pauses::default(),
            in_use: InUse { layout: false, session: true, in_laid: false },
        }
    }

    /// Asks for the memory that taking an event reads first.
    pub fn prefetch_lists(&self) {
        prefetch(self.id.as_ptr());
        prefetch(self.lanes.as_ptr());
        if let Some(members) = &self.members {
            prefetch(members.users.as_ptr());
        }
        if let Some(layout) = &self.layout {
            prefetch_all(&**layout);
        }
    }

    /// Nothing refers to its place. A lookup comes back to it also when its events were given back meanwhile.
    fn is_idle(&self) -> bool {
        let is_awaited = self.lookups.is_asking || self.lookups.awaited_asks > 0;
        self.waiting.is_empty() && self.in_flight == 0 && !is_awaited && self.held.is_empty()
    }

    /// Whether it keeps so many replaced lists that those must be let go first: a busy session whose list changes all the
    /// time would else keep them all, for there is always something in flight.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.retired.len() >= RETIRED_LISTS_MAX && self.in_flight > 0
    }

    /// The lane to a gateway, made when missing; looked for at `hint` first.
    #[inline]
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

    /// Members came to another gateway as well; events before `order` were sent without it.
    pub fn note_joined(&mut self, users: impl IntoIterator<Item = UserIx>, order: u64) {
        let joined = &mut self.joined.get_or_insert_default().0;
        joined.extend(users.into_iter().map(|user| (user, order)));
        // The last of each counts.
        joined.sort_unstable_by_key(|(user, order)| (*user, u64::MAX - order));
        joined.dedup_by_key(|(user, _)| *user);
    }

    /// Whether the event of this order was sent before the user came to another gateway, which may have had a later one since.
    pub fn is_before_joining(&self, user: UserIx, order: u64) -> bool {
        let Some(joined) = &self.joined else { return false };
        let place = joined.0.binary_search_by_key(&user, |(user, _)| *user);
        place.is_ok_and(|place| order < joined.0[place].1)
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
    /// Sessions with a layout; some may have lost it.
    laid: VecDeque<SessionIx>,
    layout_bytes: usize,
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

    /// Whether one more takes no other's place.
    pub fn has_room(&self) -> bool {
        self.kept() < SESSIONS_MAX && self.member_places <= MEMBER_PLACES_MAX
    }

    /// What [`of`](Self::of) and the repeats know an id by.
    pub fn hash(&self, id: &[u8]) -> u64 {
        self.hasher.hash_one(id)
    }

    /// A session whose id may have this hash: good enough for what memory is asked for, and for nothing else.
    #[inline]
    pub fn guess(&self, hash: u64) -> Option<SessionIx> {
        self.by_id.find(hash, |_| true).map(|&at| SessionIx(at))
    }

    /// The session of an id (UTF-8) and its hash, if it is kept.
    pub fn find(&self, id: &[u8], hash: u64) -> Option<SessionIx> {
        self.by_id.find(hash, |&at| self.all[at as usize].id.as_bytes() == id).map(|&at| SessionIx(at))
    }

    /// The session of an id (UTF-8) and its hash, made when it is not kept.
    #[inline]
    pub fn of(&mut self, id: &[u8], hash: u64, users: &mut Users) -> SessionIx {
        if let Some(at) = self.find(id, hash) {
            self[at].in_use.session = true;
            return at;
        }
        self.make_room(users);
        let session = Session::new(String::from_utf8_lossy(id).into());
        let at = match self.free.pop() {
            Some(at) => {
                let in_laid = self.all[at as usize].in_use.in_laid;
                self.all[at as usize] = session;
                self.all[at as usize].in_use.in_laid = in_laid;
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

    /// Takes a session's layout away.
    pub fn take_layout(&mut self, at: SessionIx) -> Option<Box<Layout>> {
        let layout = self[at].layout.take()?;
        self.layout_bytes -= layout.bytes;
        Some(layout)
    }

    /// Sets a session's layout, which it had none of; others that are not in use make room.
    pub fn set_layout(&mut self, at: SessionIx, layout: Box<Layout>) {
        self.make_layout_room();
        self.layout_bytes += layout.bytes;
        let session = &mut self[at];
        session.layout = Some(layout);
        session.in_use.layout = true;
        if !std::mem::replace(&mut session.in_use.in_laid, true) {
            self.laid.push_back(at);
        }
    }

    /// Layouts and notices of so many sessions from a place on refer to these gateways no longer; the place to go on from, none at
    /// the end.
    pub fn forget_gateways(
        &mut self,
        from: usize,
        most: usize,
        is_one: impl Fn(GatewayIx) -> bool,
        users: &Users,
    ) -> Option<usize> {
        let until = self.all.len().min(from + most);
        for session in &mut self.all[from..until] {
            if let Some(layout) = &mut session.layout {
                layout.forget_gateways(&is_one, users);
            }
            if let Some(notices) = &mut session.notices {
                notices.forget_gateways(&is_one);
            }
        }
        (until < self.all.len()).then_some(until)
    }

    /// The sets of gateways that layouts refer to.
    pub fn sets_in_use(&self) -> impl Iterator<Item = SetIx> {
        let layouts = self.all.iter().filter_map(|session| session.layout.as_ref());
        layouts.flat_map(|layout| layout.several.iter().map(|several| several.set))
    }

    /// Without a layout a session needs no lanes either, as long as nothing of it is in flight.
    fn make_layout_room(&mut self) {
        for _ in 0..LAYOUTS_LOOKED_AT {
            if self.layout_bytes <= LAYOUT_BYTES_MAX {
                break;
            }
            let Some(at) = self.laid.pop_front() else { break };
            let session = &mut self[at];
            if !session.is_idle() || std::mem::take(&mut session.in_use.layout) {
                self.laid.push_back(at);
                continue;
            }
            session.in_use.in_laid = false;
            session.lanes = Vec::new();
            self.take_layout(at);
        }
    }

    /// Forgets the users of replaced lists once nothing in flight names them.
    #[inline]
    pub fn release_retired(&mut self, at: SessionIx, users: &mut Users) {
        let session = &mut self.all[at.0 as usize];
        if session.in_flight == 0 && session.joined.is_some() {
            session.joined = None;
        }
        // Almost always there is none, and to drain an empty list is not free.
        if session.in_flight == 0 && !session.retired.is_empty() {
            for list in session.retired.drain(..) {
                users.unname(&list);
            }
        }
    }

    fn make_room(&mut self, users: &mut Users) {
        let mut looked_at = 0;
        while !self.has_room() && looked_at < 2 * self.all.len() {
            self.hand = (self.hand + 1) % self.all.len();
            looked_at += 1;
            let session = &mut self.all[self.hand];
            if session.is_idle() && !std::mem::take(&mut session.in_use.session) && !session.id.is_empty() {
                self.forget(self.hand as u32, users);
            }
        }
    }

    fn forget(&mut self, at: u32, users: &mut Users) {
        self.take_layout(SessionIx(at));
        let session = std::mem::replace(&mut self.all[at as usize], Session::new(SessionId::default()));
        self.all[at as usize].in_use.in_laid = session.in_use.in_laid;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_make_room_for_each_other_but_never_one_in_flight() {
        let (mut sessions, mut users) = (Sessions::default(), Users::default());
        let mut lay_out = |sessions: &mut Sessions, id: &str| {
            let at = sessions.of(id.as_bytes(), sessions.hash(id.as_bytes()), &mut users);
            sessions.set_layout(at, Box::new(Layout { bytes: LAYOUT_BYTES_MAX / 2, ..Layout::default() }));
            at
        };
        let busy = lay_out(&mut sessions, "busy");
        sessions[busy].in_flight = 1;
        sessions[busy].lane(GatewayIx(3), 0);
        let others = (0..10).map(|n| lay_out(&mut sessions, &n.to_string())).collect::<Vec<_>>();
        let laid = others.iter().filter(|at| sessions[**at].layout.is_some()).count();
        assert_eq!((laid, sessions.layout_bytes), (2, LAYOUT_BYTES_MAX / 2 * 3), "one beyond the bound at the most");
        assert!(sessions[others[9]].layout.is_some(), "the last one");
        assert!(sessions[busy].layout.is_some() && sessions[busy].lanes.len() == 1);
        assert_eq!(sessions.laid.len(), 3, "nothing is looked at twice for nothing");
        assert_eq!(sessions.take_layout(others[9]).map(|layout| layout.bytes), Some(LAYOUT_BYTES_MAX / 2));
        assert_eq!(sessions.layout_bytes, LAYOUT_BYTES_MAX);
    }

    #[test]
    fn a_session_that_a_lookup_will_come_back_to_keeps_its_place() {
        let (mut sessions, mut users) = (Sessions::default(), Users::default());
        let mut of =
            |sessions: &mut Sessions, id: &str| sessions.of(id.as_bytes(), sessions.hash(id.as_bytes()), &mut users);
        let at = of(&mut sessions, "its event was given back");
        let other = of(&mut sessions, "nothing waits for it");
        sessions[at].lookups.awaited_asks = 1;
        sessions.member_places = MEMBER_PLACES_MAX + 1;
        let next = of(&mut sessions, "new");
        assert_eq!((next, &*sessions[at].id), (other, "its event was given back"));
    }
}
