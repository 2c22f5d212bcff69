//! Last step for whoever could not be reached: their rows go to the inbox, one ask an event, and the event is settled
//! only after the commit.
//!
//! Promises that a session's later events never wait for it; that a store whose every ask fails costs time and no tries,
//! whatever it says; that one user whose row is refused costs nobody else's ([`InboxAsks`](crate::push::inbox::InboxAsks)), and becomes a dead letter of his own
//! when that has happened more than `max_retry` times while other rows were stored; and that so does one whose place in the
//! inbox another message holds. Asks, and rows, under way are bounded ([`STORE_ASKS_IN_FLIGHT`](crate::model::limits::STORE_ASKS_IN_FLIGHT),
//! [`STORE_ROWS_IN_FLIGHT`](crate::model::limits::STORE_ROWS_IN_FLIGHT)); the rest waits here, bounded as events in flight are.
//! Refuses to promise any order of rows: readers sort them by their sequence.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;

use crate::model::delivery::{InboxRows, LookupError};
use crate::model::ids::{SessionId, UserIx};
use crate::model::limits::REFUSED_WAITS_PART;
use crate::model::names::NameList;
use crate::model::outcome::RecipientOutcome;
use crate::push::bundle::EventIx;
use crate::push::context::Context;
use crate::push::dead_letters::Missing;
use crate::push::evidence::Blame;
use crate::push::facts::{AskNo, Output};
use crate::push::inbox::{Asked, InboxStore, Piece, Verdict};
use crate::push::ledger::Ledger;
use crate::push::users::Users;

impl Ledger {
    /// With `inbox.store: all`, everyone but the sender is to get a row of an event that is being bundled.
    pub(in crate::push) fn owe_everyone(
        &mut self,
        event: EventIx,
        members: &Arc<[UserIx]>,
        sender: Option<UserIx>,
        cx: &Context,
    ) {
        if cx.settings.inbox != InboxStore::All || !self.stores_rows(event, cx) {
            return;
        }
        if members.len() > usize::from(sender.is_some()) {
            self[event].owed_mut().everyone = Some((members.clone(), sender));
        }
    }

    /// The same for an event that is for these members only.
    pub(in crate::push) fn owe(&mut self, event: EventIx, users: &[UserIx], cx: &Context) {
        if cx.settings.inbox == InboxStore::All && self.stores_rows(event, cx) && !users.is_empty() {
            self[event].owed_mut().everyone = Some((users.into(), None));
        }
    }

    /// Sends the asks that are due, bounded in number and size.
    pub(in crate::push) fn ask_inbox(&mut self, users: &Users, cx: &mut Context) {
        let retries = (cx.settings.max_retry, cx.settings.retry_interval);
        let blamed_max = cx.settings.events_window / REFUSED_WAITS_PART;
        while let Some((piece, why)) = self.inbox.judged(retries, blamed_max, cx.now) {
            self.rows_refused(piece, why, cx);
        }
        if let Some(ask) = self.inbox.next_probe(cx.now) {
            let rows = InboxRows { session: SessionId::default(), msg_id: 0, seq_id: 0, users: NameList::new() };
            cx.out.push(Output::Store { ask, rows });
        }
        // They are to be given back, and the answer to a trial would hold them up.
        if cx.is_retreating && self.inbox.is_away() {
            return;
        }
        while let Some((piece, is_trial)) = self.inbox.next(cx.now) {
            let event = &self[piece.event];
            let owed = event.owed.as_ref().expect("who owes nothing does not wait");
            let rows = InboxRows {
                session: event.arrival.session_id().into(),
                msg_id: event.arrival.msg_id,
                seq_id: event.arrival.seq_id,
                users: match &piece.users {
                    None => owed.users().map(|user| users.text(user)).collect(),
                    Some(of_piece) => of_piece.iter().map(|user| users.text(*user)).collect(),
                },
            };
            cx.activity.store_asks += 1;
            cx.activity.store_rows += rows.users.len() as u64;
            let ask = self.inbox.sent(piece, rows.users.len(), is_trial, cx.now);
            cx.out.push(Output::Store { ask, rows });
        }
    }

    /// Takes an answer. The event that is to end for it, if one is.
    pub(in crate::push) fn store_answered(
        &mut self,
        ask: AskNo,
        answer: Result<NameList, LookupError>,
        users: &Users,
        cx: &mut Context,
    ) -> Option<EventIx> {
        let is_good = answer.as_ref().is_ok_and(NameList::is_empty);
        if self.inbox.probe_answered(ask, is_good, cx.now) {
            if let Err(why) = answer {
                cx.warn("inbox_unavailable", || why.to_string());
            }
            return None;
        }
        let asked = self.inbox.take(ask)?;
        if let Err(LookupError::NotReached(why)) = &answer {
            self.inbox.not_reached(asked, cx.now);
            cx.warn("inbox_unavailable", || why.clone());
            return None;
        }
        let conflicts = answer.map_err(|why| why.to_string());
        match conflicts.and_then(|names| self.conflicting(&asked.piece, &names, users)) {
            Ok(conflicts) => {
                self.inbox.stored(&asked);
                self.content.rows_stored(asked.sent_at);
                self.rows_stored(&asked.piece, &conflicts)
            }
            Err(why) => {
                self.rows_failed(asked, why, users, cx);
                None
            }
        }
    }

    /// The users of a conflict answer, ascending; an answer about anyone who was not asked for fits no ask.
    fn conflicting(&self, piece: &Piece, conflicts: &NameList, users: &Users) -> Result<Vec<UserIx>, String> {
        if conflicts.is_empty() {
            return Ok(Vec::new());
        }
        let mut asked = match (&piece.users, &self[piece.event].owed) {
            (Some(of_piece), _) => of_piece.to_vec(),
            (None, Some(owed)) => owed.users().collect(),
            (None, None) => Vec::new(),
        };
        asked.sort_unstable();
        let mut found = Vec::with_capacity(conflicts.len());
        for name in conflicts.iter() {
            let user = users.find(name).filter(|user| asked.binary_search(user).is_ok());
            found.push(user.ok_or_else(|| "the inbox answered for a user that it was not asked about".to_owned())?);
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// The rows of a piece are committed, but for these users.
    fn rows_stored(&mut self, piece: &Piece, conflicts: &[UserIx]) -> Option<EventIx> {
        let at = piece.event;
        let owed = self[at].owed.as_mut().expect("its rows were stored");
        owed.pieces -= 1;
        owed.letters += conflicts.len() as u32;
        let mut reasons = vec![None; conflicts.len()];
        let mut stored = 0;
        for (user, why) in owed.unreached_of(piece.users.as_deref()) {
            match conflicts.binary_search(&user) {
                Ok(place) => reasons[place] = Some(why),
                Err(_) => {
                    stored += 1;
                    self.counts.unreached_by[why as usize] += 1;
                }
            }
        }
        self.end_recipients(at, RecipientOutcome::Stored, stored);
        for (user, why) in conflicts.iter().zip(reasons) {
            let detail = format!("another message has sequence {} in this inbox", self[at].arrival.seq_id);
            let end = RecipientOutcome::InboxConflict;
            self.publish_letter_of_recipient(at, *user, Missing { why, end, detail, tries: 1 + piece.tries });
        }
        self.owes_nothing(at).then_some(at)
    }

    /// An event that owed rows is to end when each has its end.
    pub(super) fn owes_nothing(&self, at: EventIx) -> bool {
        self[at].owed.as_ref().is_none_or(|owed| owed.pieces == 0 && owed.letters == 0)
    }

    fn rows_failed(&mut self, mut asked: Asked, why: String, users: &Users, cx: &mut Context) {
        let at = asked.piece.event;
        if asked.piece.users.is_none() {
            asked.piece.users = Some(self[at].owed_mut().name_users());
        }
        let detail = format!("session {}: {why}", self[at].arrival.session_id());
        let first = asked.piece.users.iter().flatten().next();
        let owner = first.map_or(0, |user| FixedState::default().hash_one(users.text(*user)));
        match self.inbox.failed(asked, (&detail, owner), cx.now) {
            Verdict::Waits(Blame::Store) => cx.warn("inbox_unavailable", || detail),
            Verdict::Waits(Blame::Ask) => cx.warn("inbox_refused", || detail),
            Verdict::Halved(event) => {
                self[event].owed_mut().pieces += 1;
                cx.warn("inbox_refused", || format!("{detail}; its rows are asked for in parts"));
            }
        }
    }

    /// The rows of a piece are given up.
    fn rows_refused(&mut self, piece: Piece, detail: String, cx: &mut Context) {
        let at = piece.event;
        let owed = self[at].owed_mut();
        owed.pieces -= 1;
        let reasons = owed.unreached_of(piece.users.as_deref());
        let (end, tries) = (RecipientOutcome::InboxRejected, piece.tries);
        cx.warn(end.label(), || detail.clone());
        for user in piece.users.iter().flatten().copied() {
            self[at].owed_mut().letters += 1;
            let why = reasons.iter().find(|(of, _)| *of == user).map(|(_, why)| *why);
            self.publish_letter_of_recipient(at, user, Missing { why, end, detail: detail.clone(), tries });
        }
    }
}
