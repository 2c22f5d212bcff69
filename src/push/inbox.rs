//! Last step for whoever could not be reached: their rows go to the inbox, one ask an event, and the event is settled
//! only after the commit.
//!
//! Promises that a session's later events never wait for it; that a store whose every ask fails costs time and no tries,
//! whatever it says; that one user whose row is refused costs nobody else's ([`pieces`]), and becomes a dead letter of his own
//! when that has happened more than `max_retry` times while other rows were stored; and that so does one whose place in the
//! inbox another message holds. Asks, and rows, under way are bounded ([`STORE_ASKS_IN_FLIGHT`](crate::model::limits::STORE_ASKS_IN_FLIGHT),
//! [`STORE_ROWS_IN_FLIGHT`](crate::model::limits::STORE_ROWS_IN_FLIGHT)); the rest waits here, bounded as events in flight are.
//! Refuses to promise any order of rows: readers sort them by their sequence.

mod pieces;

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use crate::model::delivery::{InboxRows, LookupError};
use crate::model::ids::{SessionId, SessionIx, UserIx};
use crate::model::names::NameList;
use crate::model::outcome::{EventEnd, RecipientEnd};
use crate::push::Push;
use crate::push::bundle::EventIx;
use crate::push::dead_letters::Missing;
use crate::push::evidence::Blame;
use crate::push::facts::{AskNo, Output};
use crate::push::ledger::Owed;

pub use self::pieces::InboxAsks;
pub(super) use self::pieces::retry_pause;
use self::pieces::{Asked, Piece, Verdict};

/// Which recipients get a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboxStore {
    /// Nobody.
    Off,
    /// Whoever could not be reached.
    Offline,
    /// Everyone but the sender.
    All,
}

impl Owed {
    /// Who gets a row.
    fn users(&self) -> impl Iterator<Item = UserIx> {
        let (everyone, sender) = match &self.everyone {
            Some((everyone, sender)) => (&everyone[..], *sender),
            None => (&[][..], None),
        };
        let unreached = if self.everyone.is_none() { &self.unreached[..] } else { &[] };
        let of_unreached = unreached.iter().map(|(user, _)| *user);
        everyone.iter().copied().filter(move |user| Some(*user) != sender).chain(of_unreached)
    }

    /// Names who gets a row, once some are to be asked for without the others.
    fn name_users(&mut self) -> Box<[UserIx]> {
        self.unreached.sort_unstable_by_key(|(user, _)| *user);
        self.users().collect()
    }

    /// Why users of a piece could not be reached; those who were are left out.
    fn unreached_of(&mut self, piece: &Piece) -> Vec<(UserIx, RecipientEnd)> {
        let Some(users) = &piece.users else { return std::mem::take(&mut self.unreached) };
        let why = |user: &UserIx| {
            let place = self.unreached.binary_search_by_key(user, |(user, _)| *user).ok()?;
            Some(self.unreached[place])
        };
        users.iter().filter_map(why).collect()
    }
}

impl Push {
    /// With `inbox.store: all`, everyone but the sender is to get a row of an event that is being bundled.
    pub(super) fn owe_everyone(&mut self, at: SessionIx, event: EventIx, sender: Option<UserIx>) {
        if self.cx.settings.inbox != InboxStore::All {
            return;
        }
        let members = &self.resolve.sessions[at].members.as_ref().expect("members come before bundles").users;
        if members.len() > usize::from(sender.is_some()) {
            self.ledger[event].owed_mut().everyone = Some((members.clone(), sender));
        }
    }

    /// The same for an event that is for these members only.
    pub(super) fn owe(&mut self, event: EventIx, users: &[UserIx]) {
        if self.cx.settings.inbox == InboxStore::All && !users.is_empty() {
            self.ledger[event].owed_mut().everyone = Some((users.into(), None));
        }
    }

    /// Sends the asks that are due, bounded in number and size.
    pub(super) fn ask_inbox(&mut self) {
        let retries = (self.cx.settings.max_retry, self.cx.settings.retry_interval);
        while let Some((piece, why)) = self.ledger.inbox.judged(retries, self.cx.now) {
            self.rows_refused(piece, why);
        }
        if let Some(ask) = self.ledger.inbox.next_probe(self.cx.now) {
            let rows = InboxRows { session: SessionId::default(), msg_id: 0, seq_id: 0, users: NameList::new() };
            self.cx.out.push(Output::Store { ask, rows });
        }
        // They are to be given back, and the answer to a trial would hold them up.
        if self.cx.is_retreating && self.ledger.inbox.is_away() {
            return;
        }
        while let Some((piece, is_trial)) = self.ledger.inbox.next(self.cx.now) {
            let event = &self.ledger[piece.event];
            let owed = event.owed.as_ref().expect("who owes nothing does not wait");
            let rows = InboxRows {
                session: event.arrival.session_id().into(),
                msg_id: event.arrival.msg_id,
                seq_id: event.arrival.seq_id,
                users: match &piece.users {
                    None => owed.users().map(|user| self.resolve.users.text(user)).collect(),
                    Some(users) => users.iter().map(|user| self.resolve.users.text(*user)).collect(),
                },
            };
            self.cx.activity.store_asks += 1;
            self.cx.activity.store_rows += rows.users.len() as u64;
            let ask = self.ledger.inbox.sent(piece, rows.users.len(), is_trial, self.cx.now);
            self.cx.out.push(Output::Store { ask, rows });
        }
    }

    /// Takes an answer.
    pub(super) fn store_answered(&mut self, ask: AskNo, answer: Result<NameList, LookupError>) {
        let is_good = answer.as_ref().is_ok_and(NameList::is_empty);
        if self.ledger.inbox.probe_answered(ask, is_good, self.cx.now) {
            if let Err(why) = answer {
                self.cx.warn("inbox_unavailable", || why.to_string());
            }
            return;
        }
        let Some(asked) = self.ledger.inbox.take(ask) else { return };
        let conflicts = answer.map_err(|why| why.to_string());
        match conflicts.and_then(|names| self.conflicting(&asked.piece, &names)) {
            Ok(conflicts) => {
                self.ledger.inbox.stored(&asked);
                self.rows_stored(&asked.piece, &conflicts);
            }
            Err(why) => self.rows_failed(asked, why),
        }
    }

    /// The users of a conflict answer, ascending; an answer about anyone who was not asked for fits no ask.
    fn conflicting(&self, piece: &Piece, conflicts: &NameList) -> Result<Vec<UserIx>, String> {
        if conflicts.is_empty() {
            return Ok(Vec::new());
        }
        let mut asked = match (&piece.users, &self.ledger[piece.event].owed) {
            (Some(users), _) => users.to_vec(),
            (None, Some(owed)) => owed.users().collect(),
            (None, None) => Vec::new(),
        };
        asked.sort_unstable();
        let mut users = Vec::with_capacity(conflicts.len());
        for name in conflicts.iter() {
            let user = self.resolve.users.find(name).filter(|user| asked.binary_search(user).is_ok());
            users.push(user.ok_or_else(|| "the inbox answered for a user that it was not asked about".to_owned())?);
        }
        users.sort_unstable();
        users.dedup();
        Ok(users)
    }

    /// The rows of a piece are committed, but for these users.
    fn rows_stored(&mut self, piece: &Piece, conflicts: &[UserIx]) {
        let at = piece.event;
        let owed = self.ledger[at].owed.as_mut().expect("its rows were stored");
        owed.pieces -= 1;
        owed.letters += conflicts.len() as u32;
        let mut reasons = vec![None; conflicts.len()];
        let mut stored = 0;
        for (user, why) in owed.unreached_of(piece) {
            match conflicts.binary_search(&user) {
                Ok(place) => reasons[place] = Some(why),
                Err(_) => {
                    stored += 1;
                    self.ledger.counts.unreached_by[why as usize] += 1;
                }
            }
        }
        self.end_recipients(at, RecipientEnd::Stored, stored);
        for (user, why) in conflicts.iter().zip(reasons) {
            let detail = format!("another message has sequence {} in this inbox", self.ledger[at].arrival.seq_id);
            let end = RecipientEnd::InboxConflict;
            self.bury_recipient(at, *user, Missing { why, end, detail, tries: 1 + piece.tries });
        }
        self.try_end_owing(at);
    }

    /// An event that owed rows ends when each has its end.
    pub(super) fn try_end_owing(&mut self, at: EventIx) {
        if self.ledger[at].owed.as_ref().is_none_or(|owed| owed.pieces == 0 && owed.letters == 0) {
            self.end_event(at, EventEnd::Settled);
        }
    }

    fn rows_failed(&mut self, mut asked: Asked, why: String) {
        let at = asked.piece.event;
        if asked.piece.users.is_none() {
            asked.piece.users = Some(self.ledger[at].owed_mut().name_users());
        }
        let detail = format!("session {}: {why}", self.ledger[at].arrival.session_id());
        let first = asked.piece.users.iter().flatten().next();
        let owner = first.map_or(0, |user| FixedState::default().hash_one(self.resolve.users.text(*user)));
        match self.ledger.inbox.failed(asked, (&detail, owner), self.cx.now) {
            Verdict::Waits(Blame::Store) => self.cx.warn("inbox_unavailable", || detail),
            Verdict::Waits(Blame::Ask) => self.cx.warn("inbox_refused", || detail),
            Verdict::Halved(event) => {
                self.ledger[event].owed_mut().pieces += 1;
                self.cx.warn("inbox_refused", || format!("{detail}; its rows are asked for in parts"));
            }
        }
    }

    /// The rows of a piece are given up.
    fn rows_refused(&mut self, piece: Piece, detail: String) {
        let at = piece.event;
        let owed = self.ledger[at].owed_mut();
        owed.pieces -= 1;
        let reasons = owed.unreached_of(&piece);
        let (end, tries) = (RecipientEnd::InboxRejected, piece.tries);
        self.cx.warn(end.label(), || detail.clone());
        for user in piece.users.iter().flatten().copied() {
            self.ledger[at].owed_mut().letters += 1;
            let why = reasons.iter().find(|(of, _)| *of == user).map(|(_, why)| *why);
            self.bury_recipient(at, user, Missing { why, end, detail: detail.clone(), tries });
        }
    }
}
