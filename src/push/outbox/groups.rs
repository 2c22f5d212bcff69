//! Protocol `group`: which lists of users the gateway of a stream was told, and which form each bundle takes on it.
//!
//! Promises that a push refers to a list only as it was last said; that a list is said anew, changed or left only while no earlier
//! event of its session is unanswered (a push to a list that the gateway forgot is not delivered, and what comes later must not
//! pass it); and that what is kept is bounded by what the gateway keeps. Refuses to know streams and answers: `answers` reads those.

mod answers;
mod frame;
mod list;

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::model::ids::Nanos;
use crate::model::limits::{BATCH_FRAME_BYTES, GROUP_MEMBERS_KEPT_MAX, GROUPS_FORGOTTEN_AFTER};
use crate::push::bundle::{SKIP_NONE, SessionKey};
use crate::push::outbox::encode::{Made, Names, made_with};
use crate::push::outbox::groups::frame::Frame;
use crate::push::outbox::groups::list::{Difference, List, Order};
use crate::push::outbox::{Counted, Item};

/// Sessions looked at for one whose lists can be forgotten.
const SESSIONS_LOOKED_AT: usize = 8;

/// How an item was written.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    /// The id of its list; 0: its users were named.
    list: u32,
    /// Its list was said in the same frame.
    is_said: bool,
    /// A notice was written in the place of the message.
    pub(super) is_notice: bool,
    /// The gateway does not know the list: it was not delivered.
    pub(super) is_unknown: bool,
    /// How often that was so although the list was said.
    unknown_times: u8,
    /// Where the places of its list stand in its group, when they are not the same.
    order: Option<Arc<Order>>,
}

/// What the gateway was told of one session, and what is unanswered of it.
#[derive(Debug)]
struct Session {
    /// By the number of the part.
    lists: Vec<Option<List>>,
    /// The event that was written last.
    event: Made,
    /// Pushes of it to lists that are unanswered.
    of_event: u32,
    /// The same of earlier events.
    of_older: u32,
    /// How many of those were not delivered and wait to be written again.
    returned: u32,
    /// The frame in which users of it were named last.
    named_in: u64,
    used_at: Nanos,
    is_used: bool,
}

/// How a bundle is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Not in this frame.
    NotNow,
    /// With its users' names.
    Names,
    /// To its list as the gateway has it.
    Known,
    /// To its list, which is changed first.
    Changed,
    /// To its list, which is said first.
    Said,
}

/// What became of an item that was to go into a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Put {
    /// It is in it.
    Written,
    /// It has no place in this frame, nor has what comes later of its session; other sessions' items may.
    Waits,
    /// The frame is full.
    Full,
}

/// The lists of one stream.
#[derive(Debug, Default)]
pub(super) struct Groups {
    sessions: HashMap<SessionKey, Session>,
    /// Each session once, those that were not used for longest first.
    by_age: VecDeque<SessionKey>,
    /// Users in all lists.
    members: usize,
    last_list: u32,
    /// The gateway understands notices.
    takes_notices: bool,
    /// The gateway does not know lists, however often they are said: users are named until the stream ends.
    is_in_vain: bool,
    frame: Frame,
    /// Sessions of which nothing more goes into the frame.
    waiting: Vec<SessionKey>,
}

impl Session {
    fn new(event: Made, now: Nanos) -> Self {
        let (lists, named_in) = (Vec::new(), 0);
        Self { lists, event, of_event: 0, of_older: 0, returned: 0, named_in, used_at: now, is_used: true }
    }

    /// Whether pushes of other events than this one are unanswered.
    fn has_older(&self, event: Made) -> bool {
        self.of_older > 0 || (self.of_event > 0 && self.event != event)
    }

    fn is_unanswered(&self) -> bool {
        self.of_event + self.of_older > 0
    }

    fn note_written(&mut self, event: Made, now: Nanos) {
        if self.event != event {
            self.of_older += std::mem::take(&mut self.of_event);
            self.event = event;
        }
        self.of_event += 1;
        (self.used_at, self.is_used) = (now, true);
    }

    fn note_answered(&mut self, event: Made) {
        // Of an event that was written, passed and written again, some count as older: no more than there are of all.
        let is_of_event = self.event == event && self.of_event > 0;
        let count = if is_of_event { &mut self.of_event } else { &mut self.of_older };
        debug_assert!(*count > 0, "an answer is to something that was written");
        *count = count.saturating_sub(1);
    }
}

impl Groups {
    /// The stream is gone, and with it all that its gateway was told.
    pub(super) fn clear(&mut self) {
        self.sessions.clear();
        self.by_age.clear();
        (self.members, self.last_list, self.is_in_vain) = (0, 0, false);
        self.frame.clear();
    }

    /// Begins a frame.
    fn begin(&mut self, frame_id: u64, takes_notices: bool) {
        self.takes_notices = takes_notices;
        self.frame.begin(frame_id);
        self.waiting.clear();
    }

    /// Writes an item into the frame that was begun, if it has a place there. Of so many users a list is worth it and possible.
    fn put(&mut self, item: &mut Item, worth: &RangeInclusive<usize>, now: Nanos, counted: &mut Counted) -> Put {
        let members_max = *worth.end();
        let key = item.bundle.session_key();
        if self.waiting.contains(&key) {
            return Put::Waits;
        }
        let form = self.form_of(item, worth);
        if form == Form::NotNow {
            self.waiting.push(key);
            return Put::Waits;
        }
        if !self.has_room_for(item, form) {
            return Put::Full;
        }
        item.written.is_unknown = false;
        match form {
            Form::NotNow => {}
            Form::Names => self.put_names(item),
            Form::Known => self.put_push(item, false, now, counted),
            Form::Changed => {
                // Without room the gateway is told a few more than it keeps, and may forget.
                self.make_room(item, members_max.min(GROUP_MEMBERS_KEPT_MAX), counted);
                self.change(item, counted);
                self.forget_parts_beyond(item, counted);
                self.put_push(item, false, now, counted);
            }
            Form::Said if self.make_room(item, members_max.min(GROUP_MEMBERS_KEPT_MAX), counted) => {
                self.say(item, now, counted);
                self.forget_parts_beyond(item, counted);
                self.put_push(item, true, now, counted);
            }
            Form::Said => self.put_names(item),
        }
        Put::Written
    }

    fn form_of(&self, item: &Item, worth: &RangeInclusive<usize>) -> Form {
        let (bundle, users) = (&item.bundle, item.bundle.group.users.len());
        let session = self.sessions.get(&bundle.session_key());
        let is_held = session.is_some_and(|session| session.has_older(made_with(bundle)));
        if !bundle.group.is_worth_a_list(*worth.start()) || users > *worth.end() {
            return if is_held { Form::NotNow } else { Form::Names };
        }
        let list = session.and_then(|session| session.lists.get(bundle.group.part as usize)?.as_ref());
        let known = list.filter(|list| list.is_known);
        // Singles come after all pushes of their frame, and changes before them.
        let has_names = session.map_or(self.frame.has_singles(), |session| session.named_in == self.frame.id());
        match known {
            Some(_) if has_names => Form::NotNow,
            Some(list) if Arc::ptr_eq(&list.group, &bundle.group) => Form::Known,
            Some(list) if list.is_used_in(self.frame.id()) => Form::NotNow,
            // Of a list that is the only one, nobody passes to another one: what is changed after a push that the gateway
            // did not know is not known either.
            Some(list) if is_held && (bundle.group.is_part || list.group.is_part) => Form::NotNow,
            Some(_) => Form::Changed,
            None if is_held || has_names || list.is_some_and(|list| list.is_used_in(self.frame.id())) => Form::NotNow,
            None => Form::Said,
        }
    }

    fn has_room_for(&self, item: &Item, form: Form) -> bool {
        let bundle = &item.bundle;
        let names = if form == Form::Known { 0 } else { bundle.group.wire.len() };
        let message = if self.is_notice(item) { 0 } else { bundle.message.len() };
        self.frame.is_empty() || self.frame.len() + names + message <= BATCH_FRAME_BYTES
    }

    fn is_notice(&self, item: &Item) -> bool {
        self.takes_notices && item.bundle.notice > 0
    }

    fn put_names(&mut self, item: &mut Item) {
        (item.written.list, item.written.order, item.written.is_notice) = (0, None, false);
        if let Some(session) = self.sessions.get_mut(&item.bundle.session_key()) {
            session.named_in = self.frame.id();
        }
        self.frame.put_single(Names::of(item), &item.bundle);
    }

    fn put_push(&mut self, item: &mut Item, is_said: bool, now: Nanos, counted: &mut Counted) {
        item.written.is_notice = self.is_notice(item);
        let bundle = &item.bundle;
        let Some(session) = self.sessions.get_mut(&bundle.session_key()) else { return };
        session.note_written(made_with(bundle), now);
        let Some(Some(list)) = session.lists.get_mut(bundle.group.part as usize) else { return };
        list.used_in = self.frame.id();
        (item.written.list, item.written.is_said) = (list.id, is_said);
        item.written.order.clone_from(&list.order);
        if item.written.is_notice {
            // The sender as well: it may stand for a message that somebody else sent.
            counted.notices_sent += 1;
            return self.frame.put_notice(list, 0..item.answer_place, bundle);
        }
        let is_skipped_later = bundle.skip != SKIP_NONE && bundle.skip >= item.answer_place;
        let except = (0..item.answer_place).chain(is_skipped_later.then_some(bundle.skip));
        self.frame.put_push(list, except, &bundle.message);
    }

    /// Says what of the list is other now; a part whose users have mostly changed is said anew.
    fn change(&mut self, item: &Item, counted: &mut Counted) {
        let group = &item.bundle.group;
        let Some(session) = self.sessions.get_mut(&item.bundle.session_key()) else { return };
        let is_free = !session.has_older(made_with(&item.bundle));
        let Some(Some(list)) = session.lists.get_mut(group.part as usize) else { return };
        self.members = self.members + group.users.len() - list.group.users.len();
        let difference = Difference::between(list, group);
        match difference.is_large() && is_free {
            true => {
                list.replace(group.clone());
                self.frame.put_list(list);
                counted.groups_said += 1;
            }
            false if difference.is_none() => list.group = group.clone(),
            false => {
                list.apply(&difference, group.clone());
                self.frame.put_change(list, &difference);
                counted.group_changes += 1;
            }
        }
    }

    fn say(&mut self, item: &Item, now: Nanos, counted: &mut Counted) {
        let (key, group) = (item.bundle.session_key(), &item.bundle.group);
        let event = made_with(&item.bundle);
        let session = self.sessions.entry(key).or_insert_with(|| {
            self.by_age.push_back(key);
            Session::new(event, now)
        });
        let at = group.part as usize;
        if session.lists.len() <= at {
            session.lists.resize_with(at + 1, || None);
        }
        let place = &mut session.lists[at];
        self.members += group.users.len();
        let list = match place.take() {
            Some(mut list) => {
                self.members -= list.group.users.len();
                list.replace(group.clone());
                list
            }
            None => {
                self.last_list += 1;
                List::new(self.last_list, group.clone())
            }
        };
        self.frame.put_list(&list);
        *place = Some(list);
        counted.groups_said += 1;
    }

    /// Forgets lists that are not used until the gateway can keep another one.
    fn make_room(&mut self, item: &Item, members_max: usize, counted: &mut Counted) -> bool {
        let (key, group) = (item.bundle.session_key(), &item.bundle.group);
        let place = self.sessions.get(&key).and_then(|session| session.lists.get(group.part as usize)?.as_ref());
        let more = group.users.len().saturating_sub(place.map_or(0, |list| list.group.users.len()));
        for _ in 0..SESSIONS_LOOKED_AT {
            if self.members + more <= members_max {
                return true;
            }
            let Some(oldest) = self.by_age.pop_front() else { break };
            let Some(session) = self.sessions.get_mut(&oldest) else { continue };
            let was_used = std::mem::take(&mut session.is_used);
            match was_used || session.is_unanswered() || oldest == key {
                true => self.by_age.push_back(oldest),
                false => self.forget(oldest, counted),
            }
        }
        self.members + more <= members_max
    }

    /// Looks at one session, whether it has not been used for long.
    fn forget_oldest(&mut self, now: Nanos, counted: &mut Counted) {
        let Some(oldest) = self.by_age.pop_front() else { return };
        let Some(session) = self.sessions.get(&oldest) else { return };
        match session.is_unanswered() || now.since(session.used_at) < GROUPS_FORGOTTEN_AFTER {
            true => self.by_age.push_back(oldest),
            false => self.forget(oldest, counted),
        }
    }

    fn forget(&mut self, key: SessionKey, counted: &mut Counted) {
        let Some(session) = self.sessions.remove(&key) else { return };
        self.forget_lists(&session.lists, counted);
    }

    fn forget_lists(&mut self, lists: &[Option<List>], counted: &mut Counted) {
        for list in lists.iter().flatten() {
            self.members -= list.group.users.len();
            self.frame.put_forget(list.id);
            counted.groups_forgotten += 1;
        }
    }

    /// With the last of a session's parts: lists of a cut into more parts are not used any more.
    fn forget_parts_beyond(&mut self, item: &Item, counted: &mut Counted) {
        let (group, frame) = (&item.bundle.group, self.frame.id());
        let Some(session) = self.sessions.get_mut(&item.bundle.session_key()) else { return };
        let first = group.part as usize + 1;
        let is_used = |list: &List| list.is_used_in(frame);
        if group.has_more_parts || session.lists.len() <= first || session.lists[first..].iter().flatten().any(is_used)
        {
            return;
        }
        let left_over = session.lists.split_off(first);
        self.forget_lists(&left_over, counted);
    }

    /// Whether a list of this id was ever said on the stream.
    fn was_said(&self, list: u32) -> bool {
        (1..=self.last_list).contains(&list)
    }

    /// The list is known to its gateway no more.
    fn lose(&mut self, item: &Item) {
        let session = self.sessions.get_mut(&item.bundle.session_key());
        let list = session.and_then(|session| session.lists.get_mut(item.bundle.group.part as usize)?.as_mut());
        if let Some(list) = list.filter(|list| list.id == item.written.list) {
            list.is_known = false;
        }
    }

    /// A push to a list is answered; true when it is to be written again, which it is after all others of its session.
    fn settle(&mut self, item: &Item) -> bool {
        let is_returned = item.written.is_unknown && !item.is_done;
        if item.written.list > 0
            && let Some(session) = self.sessions.get_mut(&item.bundle.session_key())
        {
            match is_returned {
                true => session.returned += 1,
                false => session.note_answered(made_with(&item.bundle)),
            }
        }
        is_returned
    }

    /// Whether what was returned of its session can be written again: nothing of it is on the stream.
    fn is_all_returned(&self, item: &Item) -> bool {
        let session = self.sessions.get(&item.bundle.session_key());
        session.is_none_or(|session| session.of_event + session.of_older == session.returned)
    }

    /// What was returned waits in the queue again, or has ended.
    pub(super) fn note_left(&mut self, item: &Item) {
        if let Some(session) = self.sessions.get_mut(&item.bundle.session_key()) {
            session.returned = session.returned.saturating_sub(1);
            session.note_answered(made_with(&item.bundle));
        }
    }
}
