//! In a session of many members, or with many messages, who is connected is told the highest sequence and not the content.
//!
//! Promises that an event becomes a notice only when its content was seen in the store, and is pushed in full when that is not
//! known soon; that to a gateway that answered a notice of the session at most one more is sent before that is answered, while no
//! message of the session is pushed in full between them and nobody of it leaves that gateway: of the others the newest waits here, in the place of the older
//! ones; that the sequence never goes backwards in a session; and that what waits is sent before anything that is pushed in full,
//! and before a member who moves is held. Refuses to
//! replace what was sent, and to guess what a gateway understands: its answers tell.
//!
//! A gateway's lane counts what ends in the order in which it was sent, so what waits here is on no lane, and has no bundles: what is
//! replaced costs neither.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::model::ids::{GatewayIx, Nanos, SessionIx};
use crate::model::limits::{NOTICE_HOT_MEMBERS, NOTICE_HOT_RATE, NOTICE_WAIT_PART};
use crate::model::outcome::RecipientOutcome;
use crate::model::priority::Priority;
use crate::push::Push;
use crate::push::bundle::{Bundle, EventIx, Group, SKIP_NONE};
use crate::push::layout::LaidGroup;
use crate::push::ledger::Content;

/// Contents of one session that are looked for ahead of the event at its front.
const CONTENTS_AHEAD: usize = 64;
const SECOND: Duration = Duration::from_secs(1);

/// An event that waits for a gateway's answer to an earlier one's notice.
#[derive(Debug)]
struct Waiting {
    gateway: GatewayIx,
    event: EventIx,
    /// Its groups there, and who is left out of each.
    groups: Vec<(Arc<Group>, u32)>,
    since: Nanos,
}

/// How many messages of a session came in this second, and in the one before.
#[derive(Debug, Default)]
struct Rate {
    from: Nanos,
    messages: u32,
    is_high: bool,
}

/// What is known of a session whose members may be told by notices.
#[derive(Debug, Default)]
pub struct SessionNotices {
    /// The highest sequence of what was pushed.
    highest: Option<i64>,
    rate: Rate,
    /// The order of the event at the front whose content is looked for, and since when it waits for that.
    front: (u64, Nanos),
    /// Gateways that answered for a notice when they were last sent one.
    takers: Vec<GatewayIx>,
    waiting: Vec<Waiting>,
}

/// Sessions that are looked at when their time comes.
#[derive(Debug, Default)]
pub(super) struct NoticesDue(VecDeque<(Nanos, SessionIx)>);

impl Rate {
    fn note(&mut self, now: Nanos) {
        let passed = now.since(self.from);
        if passed >= SECOND {
            self.is_high = passed < SECOND * 2 && self.messages > NOTICE_HOT_RATE;
            (self.from, self.messages) = (now, 0);
        }
        self.messages = self.messages.saturating_add(1);
    }

    fn is_high(&self, now: Nanos) -> bool {
        let was_high = self.is_high && now.since(self.from) < SECOND;
        was_high || self.messages > NOTICE_HOT_RATE
    }
}

impl SessionNotices {
    /// Nothing of it refers to these gateways any more: whoever has their places next has answered nothing.
    pub(super) fn forget_gateways(&mut self, is_one: impl Fn(GatewayIx) -> bool) {
        self.takers.retain(|taker| !is_one(*taker));
    }
}

impl Push {
    fn notice_wait(&self) -> Duration {
        self.cx.settings.delivery_timeout / NOTICE_WAIT_PART
    }

    /// Whether the event at the front of its session waits until it is known whether its content is kept; where there are notices.
    #[inline(never)]
    pub(super) fn awaits_content(&mut self, at: SessionIx, event: EventIx, members: usize) -> bool {
        let now = self.cx.now;
        if self.ledger[event].progress.content == Content::NotAsked && !self.is_notable(at, event, members) {
            self.ledger[event].progress.content = Content::NotKept;
        }
        match self.ledger[event].progress.content {
            Content::Kept | Content::NotKept => return false,
            Content::NotAsked => self.ask_ahead(at),
            Content::Asked => {}
        }
        let order = self.ledger[event].order;
        let notices = self.resolve.sessions[at].notices.get_or_insert_default();
        if notices.front.0 != order {
            notices.front = (order, now);
            self.dispatch.notices_due.0.push_back((now.after(self.notice_wait()), at));
        }
        let since = self.resolve.sessions[at].notices.as_ref().map_or(now, |notices| notices.front.1);
        if now.since(since) >= self.notice_wait() || self.ledger.content.is_away() {
            self.ledger[event].progress.content = Content::NotKept;
            self.cx.activity.notices_without_content += 1;
            return false;
        }
        true
    }

    /// Whether an event is to be a notice, if its content is kept.
    fn is_notable(&mut self, at: SessionIx, event: EventIx, members: usize) -> bool {
        let (rules, now) = (&self.cx.rules, self.cx.now);
        let yields = self.ledger[event].class == Priority::Bulk && self.yields_to_others();
        let is_large = members > rules.notice_above;
        if !rules.reads_content(members) || (!is_large && !yields && members <= NOTICE_HOT_MEMBERS) {
            return false;
        }
        let notices = self.resolve.sessions[at].notices.get_or_insert_default();
        let is_hot = members > NOTICE_HOT_MEMBERS && notices.rate.is_high(now);
        (is_large || is_hot || yields) && self.may_be_notice(event)
    }

    fn may_be_notice(&self, event: EventIx) -> bool {
        let known = &self.ledger[event];
        let is_of_class = matches!(known.class, Priority::Normal | Priority::Bulk);
        is_of_class && known.arrival.msg_id != 0 && !known.arrival.has_only()
    }

    /// Looks for the contents of the event at the front and of those behind it: one by one, each would cost a round trip.
    fn ask_ahead(&mut self, at: SessionIx) {
        for index in 0..CONTENTS_AHEAD.min(self.resolve.sessions[at].waiting.len()) {
            let event = self.resolve.sessions[at].waiting[index];
            if self.ledger[event].progress.content == Content::NotAsked && self.may_be_notice(event) {
                self.ledger.look_for_content(event, self.resolve.is_hurried(at));
            }
        }
    }

    /// A session has an urgent event from now on: what it waits for to know of contents is asked before others.
    pub(super) fn hurry_contents(&mut self, at: SessionIx) {
        for index in 0..CONTENTS_AHEAD.min(self.resolve.sessions[at].waiting.len()) {
            self.ledger.hurry_content(self.resolve.sessions[at].waiting[index]);
        }
    }

    /// It is known whether the content of an event that is not bundled is kept.
    pub(super) fn go_on_with(&mut self, event: EventIx) {
        let at = self.ledger[event].session;
        if self.resolve.sessions[at].waiting.front() == Some(&event) {
            self.advance(at);
        }
    }

    /// Sessions whose time has come: what waited for a content is pushed in full, and what waited for an answer is sent without it.
    pub(super) fn look_at_notices_due(&mut self) {
        if self.cx.is_cut_off {
            return;
        }
        while self.dispatch.notices_due.0.front().is_some_and(|(due, _)| *due <= self.cx.now)
            && let Some((_, at)) = self.dispatch.notices_due.0.pop_front()
        {
            // The place may be another session's by now: to look at that does no harm.
            let waiting_since = self.cx.now.before(self.notice_wait());
            self.send_waiting(at, |waiting| waiting.since <= waiting_since);
            if !self.resolve.sessions[at].waiting.is_empty() {
                self.advance(at);
            }
        }
    }

    /// An event is about to be bundled: notes its sequence, and whether it is a notice. Before one in full goes what waits.
    #[inline(never)]
    pub(super) fn begin_notices(&mut self, at: SessionIx, event: EventIx) {
        let known = &self.ledger[event];
        let is_kept = known.progress.content == Content::Kept && self.may_be_notice(event);
        let (seq_id, now) = (known.arrival.seq_id, self.cx.now);
        let Some(notices) = &mut self.resolve.sessions[at].notices else { return };
        notices.rate.note(now);
        let highest = notices.highest.map_or(seq_id, |highest| highest.max(seq_id));
        notices.highest = Some(highest);
        // What does not fit is pushed in full.
        let ahead = highest.checked_sub(seq_id).and_then(|ahead| u32::try_from(ahead).ok());
        let notice = ahead.filter(|_| is_kept).and_then(|ahead| ahead.checked_add(1)).unwrap_or(0);
        self.ledger[event].progress.notice = notice;
        if notice == 0 {
            self.send_waiting(at, |_| true);
        }
    }

    /// The gateways for which an event that is being bundled waits until what is under way to them is answered; none where its group
    /// is so small that its users are named, who get each message in full. For no other one may anything older go on waiting.
    pub(super) fn gateways_in_a_round(
        &mut self,
        at: SessionIx,
        event: EventIx,
        groups: &[LaidGroup],
    ) -> Vec<GatewayIx> {
        let session = &self.resolve.sessions[at];
        let Some(notices) = session.notices.as_ref().filter(|_| self.ledger[event].progress.notice > 0) else {
            return Vec::new();
        };
        let is_busy =
            |gateway: &&GatewayIx| session.lanes.iter().any(|lane| lane.gateway == **gateway && lane.sent != lane.done);
        let is_listed =
            |gateway: &&GatewayIx| groups.iter().any(|laid| laid.gateway == **gateway && self.is_listed(&laid.group));
        let in_a_round: Vec<_> = notices.takers.iter().filter(is_busy).filter(is_listed).copied().collect();
        self.send_waiting(at, |waiting| !in_a_round.contains(&waiting.gateway));
        in_a_round
    }

    /// An event, counted as pending, waits for a gateway's answer; what waited before has its end, if it is another event.
    pub(super) fn wait_in_place(&mut self, at: SessionIx, event: EventIx, group: Arc<Group>, skip: u32) {
        let (now, gateway) = (self.cx.now, group.gateway);
        let Some(notices) = &mut self.resolve.sessions[at].notices else { return };
        let place = notices.waiting.iter_mut().find(|waiting| waiting.gateway == gateway);
        let replaced = match place {
            Some(waiting) if waiting.event == event => {
                waiting.groups.push((group, skip));
                return;
            }
            Some(waiting) => {
                let groups = std::mem::replace(&mut waiting.groups, vec![(group, skip)]);
                Some((std::mem::replace(&mut waiting.event, event), groups))
            }
            None => {
                notices.waiting.push(Waiting { gateway, event, groups: vec![(group, skip)], since: now });
                self.dispatch.notices_due.0.push_back((now.after(self.notice_wait()), at));
                None
            }
        };
        if let Some((older, groups)) = replaced {
            self.cx.activity.notices_conflated += 1;
            for (group, skip) in groups {
                self.end_conflated(older, &group, skip);
            }
        }
    }

    /// A newer notice goes to all of them that are still there.
    fn end_conflated(&mut self, event: EventIx, group: &Group, skip: u32) {
        let users = group.users.len() as u32;
        let ended = users - u32::from(skip != SKIP_NONE);
        let ended = self.ledger.newly_delivered((event, group, skip), &[], users, ended);
        if ended > 0 {
            self.ledger.end_recipients(event, RecipientOutcome::Conflated, ended);
            self.record_reached((event, group, skip), &[], ended, RecipientOutcome::Conflated);
        }
        self.bundle_ended(event);
    }

    /// Sends what waits for gateways' answers, where that is so.
    pub(super) fn send_all_waiting(&mut self, at: SessionIx) {
        if self.resolve.sessions[at].notices.is_some() {
            self.send_waiting(at, |_| true);
        }
    }

    fn send_waiting(&mut self, at: SessionIx, goes: impl Fn(&Waiting) -> bool) {
        let Some(notices) = &mut self.resolve.sessions[at].notices else { return };
        let all: Vec<_> = notices.waiting.extract_if(.., |waiting| goes(waiting)).collect();
        for Waiting { event, groups, .. } in all {
            for (group, skip) in groups {
                self.send_bundle(event, group, skip, 0);
            }
        }
    }

    /// A bundle has its end, in a session with notices: when nothing is under way to its gateway, what waits for it is sent.
    #[inline(never)]
    pub(super) fn end_round(&mut self, bundle: &Bundle, is_answered: bool) {
        let (at, gateway) = (bundle.session, bundle.group.gateway);
        if is_answered && self.ledger[bundle.event].progress.notice > 0 {
            self.note_taker(at, &bundle.group, bundle.notice > 0);
        }
        let session = &self.resolve.sessions[at];
        let is_over = session.lanes.iter().any(|lane| lane.gateway == gateway && lane.sent == lane.done);
        if is_over {
            self.send_waiting(at, |waiting| waiting.gateway == gateway);
        }
    }

    /// Whether a gateway that keeps lists is told one of these users, and of what it gets then: else it is told their names, and gets
    /// messages in full, whatever it understands.
    fn is_listed(&self, group: &Group) -> bool {
        group.is_worth_a_list(self.cx.settings.group_users_min().max(2))
    }

    /// A gateway answered for an event that was to be a notice: whether it was one is how the next ones are sent.
    fn note_taker(&mut self, at: SessionIx, group: &Group, is_notice: bool) {
        if !self.is_listed(group) {
            return;
        }
        let Some(notices) = &mut self.resolve.sessions[at].notices else { return };
        let place = notices.takers.iter().position(|taker| *taker == group.gateway);
        match (place, is_notice) {
            (None, true) => notices.takers.push(group.gateway),
            (Some(place), false) => {
                notices.takers.swap_remove(place);
            }
            _ => {}
        }
    }

    /// Whether an event goes to a group as a notice, as far as it is known: that costs little, and yields to nobody.
    pub(super) fn goes_as_notice(&self, event: EventIx, group: &Group) -> bool {
        let known = &self.ledger[event];
        known.progress.notice > 0
            && self.is_listed(group)
            && self.resolve.sessions[known.session]
                .notices
                .as_ref()
                .is_some_and(|notices| notices.takers.contains(&group.gateway))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_high_above_its_bound_and_until_the_second_after() {
        let millis = |millis: u64| Nanos(millis * 1_000_000);
        let mut rate = Rate::default();
        let mut come = |from: u64, messages: u64| {
            (0..messages).for_each(|message| rate.note(millis(from + message)));
            rate.is_high(millis(from + messages))
        };
        assert!(!come(10_000, u64::from(NOTICE_HOT_RATE)), "not above it");
        assert!(come(10_100, 1), "above it");
        assert!(come(11_000, 1), "it was a second ago");
        assert!(!come(12_100, 1), "and is not any more");
        assert!(come(13_200, u64::from(NOTICE_HOT_RATE) + 1));
        assert!(!come(20_000, 1), "long ago");
    }
}
