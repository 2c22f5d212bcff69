//! Fourth step: the event at the front of its session becomes a bundle for each group of recipients.
//!
//! Promises that a session's events pass lookups and bundling in the order they arrived, also when the second finds
//! its cache warm and the first does not.

pub(super) mod fences;

use std::sync::Arc;

use crate::model::ids::{GatewayIx, SessionIx, UserIx};
use crate::model::limits::EVENTS_IN_FLIGHT_MAX;
use crate::model::outcome::RecipientOutcome;
use crate::model::priority::{Priority, ShedReason};
use crate::push::Push;
use crate::push::admission::Admission;
use crate::push::bundle::{Bundle, EventIx, Group, SKIP_NONE, prefetch_group};
use crate::push::context::Settings;
use crate::push::dispatch::fences::Fences;
use crate::push::inbox::InboxStore;
use crate::push::layout::{Grouper, KnownGateways, LaidGroup, Layout, Place, Several};
use crate::push::notices::NoticesDue;
use crate::push::pauses::LineOf;
use crate::push::turn::{Line, Stalled};
use crate::push::users::RouteState;
use crate::telemetry::metrics::Stage;

/// How many groups ahead the memory of one is asked for.
const GROUPS_FORESEEN: usize = 4;

/// What is between known recipients and bundles.
#[derive(Debug)]
pub(super) struct Dispatch {
    pub(super) grouper: Grouper,
    /// Users whose messages wait for their place in the order.
    pub(super) fences: Fences,
    /// What each gateway holds of this shard's events.
    pub(super) admission: Admission,
    /// Sessions that wait for a turn.
    pub(super) line: Line,
    /// Sessions that wait for room.
    pub(super) stalled: Stalled,
    /// Sessions that wait for contents, and for answers to notices.
    pub(super) notices_due: NoticesDue,
}

impl Dispatch {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            grouper: Grouper::of(settings.group_users_max),
            fences: Fences::default(),
            admission: Admission::new(settings.events_window.min(EVENTS_IN_FLIGHT_MAX)),
            line: Line::default(),
            stalled: Stalled::default(),
            notices_due: NoticesDue::default(),
        }
    }
}

impl Push {
    /// Takes a session's events as far as what is known allows.
    pub(super) fn advance(&mut self, at: SessionIx) {
        let mut has_advanced = false;
        while let Some(&event) = self.resolve.sessions[at].waiting.front() {
            if self.resolve.sessions[at].is_full() {
                self.resolve.sessions[at].pauses.is_paused = true;
                return;
            }
            if !self.resolve.has_members(at, event, &self.ledger, &self.cx) {
                return;
            }
            if self.resolve.sessions[at].lookups.awaited_asks > 0 {
                return;
            }
            let members = self.resolve.sessions[at].members.as_ref().map_or(0, |list| list.users.len());
            debug_assert!(members > 0, "an empty list is not kept");
            let known = &mut self.ledger[event];
            if known.members_known == known.arrived {
                known.members_known = self.cx.now;
            }
            let line = self.line_of(at, event, members);
            if self.cx.rules.notice_above > 0 && self.awaits_content(at, event, members) {
                return;
            }
            if self.cx.budget.recipients_left == 0 || !self.dispatch.line.has_share(line) {
                return self.defer(at, has_advanced);
            }
            if self.is_too_late(event) {
                self.shed_late(at, event, members as u32);
                continue;
            }
            let left = self.cx.budget.recipients_left;
            self.cx.budget.recipients_left = left.saturating_sub(members);
            self.dispatch.line.take_share(line, members);
            has_advanced = true;
            // Asked once an event: what is laid out needs neither a look at each route nor to be laid out again.
            let is_laid_out = self.resolve.is_laid_out(at, self.delivery.gateways.lists_epoch());
            let are_routes_known = is_laid_out && self.resolve.is_tracking;
            if !are_routes_known && !self.resolve.has_routes(at, self.ledger[event].first_ask, &self.cx) {
                return;
            }
            if !self.has_recipient_room(line) {
                self.dispatch.line.give_share_back(line, members);
                if are_routes_known {
                    self.cx.budget.recipients_left = left;
                }
                return self.stall(at, line);
            }
            self.resolve.sessions[at].waiting.pop_front();
            self.resolve.sessions[at].lookups.tries = 0;
            self.resolve.sessions[at].in_use.layout = true;
            if !is_laid_out {
                self.lay_out(at, event);
            }
            if self.ledger[event].arrival.has_only() {
                self.bundle_only(at, event);
            } else {
                self.bundle(at, event, members as u32);
            }
        }
    }

    /// The shard is at its bound: events that waited for a lookup together must not all be on their way at once.
    fn stall(&mut self, at: SessionIx, line: LineOf) {
        let pauses = &mut self.resolve.sessions[at].pauses;
        if pauses.stalled_in & line.bit() == 0 {
            pauses.stalled_in |= line.bit();
            self.dispatch.stalled.push_back(at, line);
        }
    }

    /// Sessions that waited for room go on, in turn, while there is some.
    pub(super) fn resume_stalled(&mut self) {
        while !self.cx.is_cut_off
            && let Some((at, line)) = self.next_with_room()
        {
            self.resolve.sessions[at].pauses.stalled_in &= !line.bit();
            self.advance(at);
        }
    }

    fn next_with_room(&mut self) -> Option<(SessionIx, LineOf)> {
        let line = self.dispatch.stalled.lines().find(|line| self.has_recipient_room(*line))?;
        self.dispatch.stalled.pop_front(line).map(|at| (at, line))
    }

    fn lay_out(&mut self, at: SessionIx, event: EventIx) {
        if let Some(layout) = &mut self.resolve.sessions[at].layout
            && !layout.is_stale
            && layout.is_cut_for(self.delivery.gateways.lists_epoch())
            && layout.held.is_empty()
            && layout.still_holds(&self.resolve.users)
        {
            layout.epoch = self.resolve.users.epoch();
            return;
        }
        let old = self.resolve.sessions.take_layout(at);
        if let Some(old) = &old {
            self.hold_moved(at, old);
        }
        let session = &mut self.resolve.sessions[at];
        let members = session.members.as_ref().expect("members come before routes");
        let layout = self.dispatch.grouper.group(
            &members.users,
            &session.held,
            &self.resolve.users,
            &self.delivery.gateways,
            &mut session.lanes,
        );
        if let Some(old) = old.filter(|_| !layout.several.is_empty()) {
            self.note_joined(at, &old, &layout, self.ledger[event].order);
        }
        self.resolve.sessions.set_layout(at, Box::new(layout));
    }

    /// Users who are no longer where something unanswered was sent for them wait until it has ended. So do those who
    /// left the session: they may be back, elsewhere, before it has.
    fn hold_moved(&mut self, at: SessionIx, old: &Layout) {
        let session = &self.resolve.sessions[at];
        if session.in_flight == 0 {
            return;
        }
        let members = &session.members.as_ref().expect("members come before routes").users;
        let is_busy = |gateway| session.lanes.iter().any(|lane| lane.gateway == gateway && lane.sent != lane.done);
        let is_moved = |user: UserIx, gateway| {
            let has_left = old.is_of_old_list && members.binary_search(&user).is_err();
            has_left || !self.resolve.users.is_at(user, gateway)
        };
        let mut moved = Vec::new();
        for LaidGroup { group, gateway } in old.groups.iter().filter(|laid| is_busy(laid.gateway)) {
            let gone = group.users.iter().filter(|user| is_moved(**user, *gateway));
            moved.extend(gone.map(|user| (*user, *gateway)));
        }
        let released = old.released.iter().filter(|(user, gateway)| is_busy(*gateway) && is_moved(*user, *gateway));
        moved.extend(released);
        if old.may_have_several() {
            return self.hold_each_moved(at, old, moved);
        }
        for (user, gateway) in moved {
            self.hold(at, user, &[gateway], &[]);
        }
    }

    /// The same where users may have left one gateway of several, or several.
    #[inline(never)]
    fn hold_each_moved(&mut self, at: SessionIx, old: &Layout, mut moved: Vec<(UserIx, GatewayIx)>) {
        moved.sort_unstable();
        for of_user in moved.chunk_by(|one, other| one.0 == other.0) {
            let left = of_user.iter().map(|(_, gateway)| *gateway).collect::<Vec<_>>();
            self.hold(at, of_user[0].0, &left, &old.gateways_of(of_user[0].0));
        }
    }

    /// Members who are at one more gateway than before wait for nothing, but what was sent without it (before the event of this
    /// order) while something is under way is not offered to it later.
    #[inline(never)]
    fn note_joined(&mut self, at: SessionIx, old: &Layout, new: &Layout, order: u64) {
        if self.resolve.sessions[at].in_flight == 0 {
            return;
        }
        let has_joined = |several: &&Several| {
            let was_there = old.gateways_of(several.user);
            let set = self.resolve.users.gateways_of(several.set);
            !was_there.is_empty() && set.iter().any(|gateway| !was_there.contains(gateway))
        };
        let changed = new.several.iter().filter(|several| old.several.binary_search(several).is_err());
        let joined = changed.filter(has_joined).map(|several| several.user).collect::<Vec<_>>();
        if !joined.is_empty() {
            self.resolve.sessions[at].note_joined(joined, order);
        }
    }

    fn bundle(&mut self, at: SessionIx, event: EventIx, members: u32) {
        let known = &self.ledger[event];
        self.cx.stages.record(Stage::Members, known.members_known.nanos_since(known.arrived));
        self.cx.stages.record(Stage::Routes, self.cx.now.nanos_since(known.members_known));
        self.ledger.enter_recipients(event, members, self.cx.now);
        self.note_size(at, event);
        self.resolve.sessions[at].in_flight += 1;
        // One more than there are, so that ends on the way do not end the event before all bundles are made.
        self.ledger[event].progress.pending = 1;

        let layout = self.resolve.sessions[at].layout.take().expect("laid out by the caller");
        let sender = self.resolve.sender(at, self.ledger[event].arrival.from_username_bytes());
        let skipped = sender.filter(|_| !self.cx.rules.echo_sender);
        let sender_place = skipped.map(|user| (user, layout.place_of(user, self.resolve.users.route(user))));
        // With a row of its own it is as any other.
        let has_row = self.cx.rules.sender_row && self.cx.settings.inbox == InboxStore::All;
        self.ledger[event].progress.echoed = sender.filter(|_| skipped.is_none() && !has_row);
        if skipped.is_some() {
            self.ledger.end_recipients(event, RecipientOutcome::SkippedSender, 1);
        }
        let members = &self.resolve.sessions[at].members.as_ref().expect("members come before bundles").users;
        self.ledger.owe_everyone(event, members, sender.filter(|_| !has_row), &self.cx);
        self.ledger.enter_copies(event, &layout.several, skipped);
        let in_a_round = self.gateways_in_a_round(at, event, &layout.groups);
        for (index, laid) in layout.groups.iter().enumerate() {
            layout.groups.get(index + GROUPS_FORESEEN).inspect(|later| prefetch_group(&later.group));
            let skip = match sender_place {
                Some((_, Place::InGroup { group, at })) if group == index => at,
                Some((user, Place::InGroups)) => laid.place_of(user),
                _ => SKIP_NONE,
            };
            if laid.group.users.len() == 1 && skip != SKIP_NONE {
                continue;
            }
            self.ledger[event].progress.pending += 1;
            match in_a_round.contains(&laid.gateway) {
                true => self.wait_in_place(at, event, laid.group.clone(), skip),
                false => self.send_bundle(event, laid.group.clone(), skip, 0),
            }
        }
        self.end_unconnected(event, skipped, &layout);
        for user in layout.held.iter().filter(|user| Some(**user) != skipped) {
            self.hold_event(at, *user, event);
        }
        self.resolve.sessions[at].layout = Some(layout);
        self.try_release_all(at);
        self.bundle_ended(event);
    }

    /// The same for an event that is for some members only: nobody else is a recipient of it. Each is held, so that what
    /// was sent to them before comes first and what follows comes later, as if they had moved.
    fn bundle_only(&mut self, at: SessionIx, event: EventIx) {
        let arrival = &self.ledger[event].arrival;
        let sender = self.resolve.sender(at, arrival.from_username_bytes());
        let members = &self.resolve.sessions[at].members.as_ref().expect("members come before bundles").users;
        let named = arrival.only_usernames().filter_map(|name| self.resolve.users.find(name));
        let mut users = named.filter(|user| members.binary_search(user).is_ok()).collect::<Vec<_>>();
        users.sort_unstable();
        users.dedup();
        let mut owed = users.clone();
        users.retain(|user| Some(*user) != sender);
        if !self.cx.rules.sender_row {
            owed.clone_from(&users);
        }
        self.ledger.enter_recipients(event, users.len() as u32, self.cx.now);
        self.note_size(at, event);
        self.resolve.sessions[at].in_flight += 1;
        self.ledger[event].progress.pending = 1;
        self.ledger.owe(event, &owed, &self.cx);
        for user in users {
            let is_held = self.resolve.sessions[at].held.binary_search(&user).is_ok();
            match self.resolve.users.route(user) {
                _ if is_held => self.hold_event(at, user, event),
                RouteState::At(_) | RouteState::AtEach(_) => {
                    self.hold_behind(at, user, &self.resolve.users.gateways(user));
                    self.hold_event(at, user, event);
                }
                RouteState::Bad => self.end_unreached(event, &[user], RecipientOutcome::BadRoute, None),
                RouteState::NoPlace => self.end_unreached(event, &[user], RecipientOutcome::GatewayTableFull, None),
                RouteState::Offline | RouteState::Unknown | RouteState::Asked => {
                    self.end_unreached(event, &[user], RecipientOutcome::Offline, None)
                }
            }
        }
        self.try_release_all(at);
        self.bundle_ended(event);
    }

    /// In a large session whoever cannot be reached may read the content of a message that has an id.
    fn note_size(&mut self, at: SessionIx, event: EventIx) {
        let members = self.resolve.sessions[at].members.as_ref().map_or(0, |list| list.users.len());
        let known = &mut self.ledger[event];
        known.progress.reads_content = self.cx.rules.reads_content(members) && known.arrival.msg_id != 0;
        if self.resolve.sessions[at].notices.is_some() {
            self.begin_notices(at, event);
        }
    }

    /// Sends one bundle on a lane of the event's session; whoever made it pending has counted it.
    pub(super) fn send_bundle(&mut self, event: EventIx, group: Arc<Group>, skip: u32, attempt: u8) {
        if self.is_too_late(event) {
            // It waited for its users, who had moved.
            return self.end_yielded(event, &group, skip, ShedReason::Late);
        }
        let known = &self.ledger[event];
        let gateway = group.gateway;
        let (class, notice) = (known.class, known.progress.notice);
        if class.yields() && self.yields_to_others() && !self.goes_as_notice(event, &group) {
            return self.end_yielded(event, &group, skip, ShedReason::Shard);
        }
        let is_reserved = !self.is_admitted(gateway, class);
        if is_reserved && !self.has_reserve(class) {
            return self.end_not_admitted(event, &group, skip);
        }
        let session = &mut self.resolve.sessions[known.session];
        let lane = session.lane(gateway, group.lane);
        session.lanes[lane].sent = session.lanes[lane].sent.wrapping_add(1);
        let bundle = Bundle {
            home: self.cx.settings.shard,
            event,
            session: known.session,
            msg_id: known.arrival.msg_id,
            message: known.arrival.message(),
            group,
            skip,
            attempt,
            fences_before: self.dispatch.fences.raised(),
            class,
            age_millis: if class == Priority::Fleeting { self.age_millis(event) } else { 0 },
            is_reserved,
            notice,
            made_at: self.cx.now,
        };
        self.dispatch.admission.sent(gateway, bundle.load(), self.cx.now);
        if is_reserved {
            self.dispatch.admission.take_reserve(bundle.load());
        }
        self.delivery.send(bundle, &mut self.cx);
    }

    /// The gateway does not move, and what it may hold then is full: its recipients are not reached. No lane counts the
    /// bundle, for it ends before those made earlier.
    fn end_not_admitted(&mut self, event: EventIx, group: &Group, skip: u32) {
        let (admission, now) = (&self.dispatch.admission, self.cx.now);
        self.delivery.warn_of("gateway_overflow", group.gateway, &mut self.cx, || {
            let pace = admission.describe(group.gateway, now);
            format!("{pace}, and it holds all that it may: what comes for it is not pushed")
        });
        self.end_yielded(event, group, skip, ShedReason::Gateway);
    }

    fn end_yielded(&mut self, event: EventIx, group: &Group, skip: u32, why: ShedReason) {
        let (before, after) = match skip {
            SKIP_NONE => (&group.users[..], &[][..]),
            skip => (&group.users[..skip as usize], &group.users[skip as usize + 1..]),
        };
        for users in [before, after] {
            if !users.is_empty() {
                self.end_turned_away(event, users, why);
            }
        }
        self.bundle_ended(event);
    }

    fn end_unconnected(&mut self, event: EventIx, sender: Option<UserIx>, layout: &Layout) {
        let lists = [
            (&layout.offline, RecipientOutcome::Offline),
            (&layout.bad, RecipientOutcome::BadRoute),
            (&layout.no_place, RecipientOutcome::GatewayTableFull),
        ];
        for (list, end) in lists {
            let of_sender = sender.and_then(|user| list.binary_search(&user).ok());
            let (before, after) = match of_sender {
                Some(at) => (&list[..at], &list[at + 1..]),
                None => (&list[..], &[][..]),
            };
            for users in [before, after] {
                if !users.is_empty() {
                    self.end_unreached(event, users, end, None);
                }
            }
        }
    }
}
