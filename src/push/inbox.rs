//! Last step for whoever could not be reached: their rows go to the inbox, one ask an event, and the event is settled
//! only after the commit.
//!
//! Promises that a session's later events never wait for it; that a store that is away costs time and no tries; that a
//! store that refuses an ask more than `max_retry` times puts the event into the dead letters; and that a recipient
//! whose place in the inbox another message holds becomes a dead letter of its own. Asks, and rows, under way are
//! bounded ([`STORE_ASKS_IN_FLIGHT`], [`STORE_ROWS_IN_FLIGHT`]); the rest waits here, bounded as events in flight are.
//! Refuses to promise any order of rows: readers sort them by their sequence.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::ids::{Nanos, SessionIx, UserIx};
use crate::limits::{STORE_ASKS_IN_FLIGHT, STORE_AWAY_PAUSE, STORE_ROWS_IN_FLIGHT};
use crate::names::NameList;
use crate::outcome::{EventEnd, RecipientEnd};
use crate::ports::{InboxRows, LookupError};
use crate::push::Push;
use crate::push::bundle::EventIx;
use crate::push::facts::{AskNo, Output};
use crate::push::ledger::Owed;

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

/// The asks to the inbox.
#[derive(Debug, Default)]
pub struct InboxAsks {
    wanted: VecDeque<EventIx>,
    wanted_later: VecDeque<(Nanos, EventIx)>,
    /// The event and its rows.
    asked: HashMap<AskNo, (EventIx, usize)>,
    rows_asked: usize,
    store_away_until: Nanos,
    next_no: AskNo,
}

impl InboxAsks {
    /// An event whose pushes have ended owes rows.
    pub fn want(&mut self, event: EventIx) {
        self.wanted.push_back(event);
    }
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
}

impl Push {
    /// With `inbox.store: all`, everyone but the sender is to get a row of an event that is being bundled.
    pub(super) fn owe_everyone(&mut self, at: SessionIx, event: EventIx, sender: Option<UserIx>) {
        if self.settings.inbox != InboxStore::All {
            return;
        }
        let members = &self.sessions[at].members.as_ref().expect("members come before bundles").users;
        if members.len() > usize::from(sender.is_some()) {
            self.ledger[event].owed_mut().everyone = Some((members.clone(), sender));
        }
    }

    /// Sends the asks that are due, bounded in number and size.
    pub(super) fn ask_inbox(&mut self) {
        let asks = &mut self.inbox;
        while asks.wanted_later.front().is_some_and(|(due, _)| *due <= self.now) {
            let (_, event) = asks.wanted_later.pop_front().expect("looked at above");
            asks.wanted.push_back(event);
        }
        let may_ask =
            |asks: &InboxAsks| asks.asked.len() < STORE_ASKS_IN_FLIGHT && asks.rows_asked < STORE_ROWS_IN_FLIGHT;
        while may_ask(asks) && self.now >= asks.store_away_until {
            let Some(at) = asks.wanted.pop_front() else { break };
            let event = &self.ledger[at];
            let owed = event.owed.as_ref().expect("who owes nothing does not wait");
            let rows = InboxRows {
                session: event.arrival.session_id().into(),
                msg_id: event.arrival.msg_id,
                seq_id: event.arrival.seq_id,
                users: owed.users().map(|user| self.users.text(user)).collect(),
            };
            let ask = asks.next_no;
            asks.next_no += 1;
            asks.asked.insert(ask, (at, rows.users.len()));
            asks.rows_asked += rows.users.len();
            self.activity.store_asks += 1;
            self.activity.store_rows += rows.users.len() as u64;
            self.out.push(Output::Store { ask, rows });
        }
    }

    /// Takes an answer.
    pub(super) fn store_answered(&mut self, ask: AskNo, answer: Result<NameList, LookupError>) {
        let Some((at, rows)) = self.inbox.asked.remove(&ask) else { return };
        self.inbox.rows_asked -= rows;
        match answer {
            Ok(conflicts) => match self.conflicting(at, &conflicts) {
                Ok(conflicts) => self.rows_stored(at, &conflicts),
                Err(why) => self.rows_refused(at, why),
            },
            Err(LookupError::Unavailable(why)) => {
                self.warn("inbox_unavailable", || why);
                self.inbox.store_away_until = self.now.after(STORE_AWAY_PAUSE);
                self.inbox.wanted.push_front(at);
            }
            Err(LookupError::Rejected(why)) => self.rows_refused(at, why),
        }
    }

    /// The users of a conflict answer, ascending; an answer about anyone who was not asked for fits no ask.
    fn conflicting(&self, at: EventIx, conflicts: &NameList) -> Result<Vec<UserIx>, String> {
        if conflicts.is_empty() {
            return Ok(Vec::new());
        }
        let mut asked = self.ledger[at].owed.as_ref().map(|owed| owed.users().collect::<Vec<_>>()).unwrap_or_default();
        asked.sort_unstable();
        let mut users = Vec::with_capacity(conflicts.len());
        for name in conflicts.iter() {
            let user = self.users.find(name).filter(|user| asked.binary_search(user).is_ok());
            users.push(user.ok_or_else(|| "the inbox answered for a user that it was not asked about".to_owned())?);
        }
        users.sort_unstable();
        users.dedup();
        Ok(users)
    }

    /// The rows are committed, but for these users.
    fn rows_stored(&mut self, at: EventIx, conflicts: &[UserIx]) {
        let owed = self.ledger[at].owed.as_mut().expect("its rows were stored");
        let unreached = std::mem::take(&mut owed.unreached);
        owed.letters = conflicts.len() as u32;
        let mut reasons = vec![None; conflicts.len()];
        let mut stored = 0;
        for (user, why) in unreached {
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
            self.bury_recipient(at, *user, why);
        }
        if conflicts.is_empty() {
            self.end_event(at, EventEnd::Settled);
        }
    }

    fn rows_refused(&mut self, at: EventIx, why: String) {
        let event = &mut self.ledger[at];
        let owed = event.owed_mut();
        owed.tries += 1;
        let tries = owed.tries;
        let detail = format!("session {}: {why}", event.arrival.session_id());
        if tries <= self.settings.max_retry {
            self.warn("inbox_refused", || detail);
            self.inbox.wanted_later.push_back((self.now.after(self.settings.retry_interval), at));
        } else {
            self.bury_event(at, EventEnd::InboxRejected, detail, tries);
        }
    }
}
