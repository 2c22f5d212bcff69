//! Which rows are asked for next, and what follows from a failure: the rows of one event are asked for as a set (a piece),
//! and a piece that fails is asked again in halves, down to one user.
//!
//! Promises that while every ask fails no user is blamed and one piece at a time is asked; that a piece is halved only when
//! something that was asked after its last failure was answered; that a piece has rows of one event only, and nobody joins
//! one that failed; that a user is charged only with a failure that came after another one of his own (that of a set may be another
//! user's), when something succeeded in between and that was known when his row was asked for again: so one outage, however late
//! its answers, charges nobody; that a failure is charged only when something that was asked after it was answered, and no probe failed in between; that a full queue before the store is no failure; that what was blamed takes few places at the store
//! ([`STORE_SUSPECTS_IN_FLIGHT`]); and that pieces are bounded ([`STORE_PIECES_MAX`](crate::model::limits::STORE_PIECES_MAX)).

mod failing;
mod owners;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use hashbrown::HashMap;

use crate::model::ids::{Nanos, UserIx};
use crate::model::limits::{
    QUEUE_FULL_PAUSE, STORE_ASKS_AT_FULL_QUEUE, STORE_ASKS_IN_FLIGHT, STORE_AWAY_PAUSE, STORE_RETRY_PAUSE_MAX,
    STORE_ROWS_IN_FLIGHT, STORE_SUSPECTS_IN_FLIGHT,
};
use crate::push::bundle::EventIx;
use crate::push::evidence::{Blame, Evidence, Known};
use crate::push::facts::AskNo;
use crate::push::inbox::pieces::owners::Owners;
use crate::push::urgent_first::UrgentFirst;

/// Pieces that are halved on a probe's word only: enough to find one that is stored where each holds a user whose row is not.
const HALVED_IN_VAIN_MAX: usize = 64;
/// See [`InboxAsks::next_trial`].
const NEXT_IS_A_SUSPECT: usize = 2;
/// Events looked at for one whose first user does not fail.
const NEWCOMERS_LOOKED_AT: usize = 1024;

/// Rows of one event that are asked for together.
#[derive(Debug)]
pub struct Piece {
    /// The event.
    pub event: EventIx,
    /// Whose rows; none: all that the event owes, before anything failed.
    pub users: Option<Box<[UserIx]>>,
    /// How often it was asked for and blamed, which only one user alone is.
    pub tries: u32,
    failed: Option<Nanos>,
    /// It failed though the store was there.
    is_suspect: bool,
    /// It failed itself, not only the piece that it is a half of.
    has_failed: bool,
}

impl Piece {
    fn whole(event: EventIx) -> Self {
        Self { event, users: None, tries: 0, failed: None, is_suspect: false, has_failed: false }
    }

    /// Pieces that begin with the same user count as one failure: most often one user is what is wrong with all of them.
    fn key(&self) -> Option<UserIx> {
        self.users.as_ref().and_then(|users| users.first().copied())
    }
}

/// A piece at the store.
#[derive(Debug)]
pub struct Asked {
    /// The piece.
    pub piece: Piece,
    rows: usize,
    /// When it was sent.
    pub sent_at: Nanos,
    is_trial: bool,
    /// What was known against it then.
    known: Known,
}

/// One user whose row failed again.
#[derive(Debug)]
struct Accused {
    piece: Piece,
    why: String,
    owner: u64,
}

/// What follows from a failure.
#[derive(Debug)]
pub enum Verdict {
    /// It is asked again later; whose fault it was.
    Waits(Blame),
    /// It became two pieces.
    Halved(EventIx),
}

/// What the asks have shown of the store.
#[derive(Debug)]
struct Store {
    evidence: Evidence,
    /// When an ask failed last that was not blamed.
    away_since: Option<Nanos>,
    away_until: Nanos,
    pause: Duration,
    /// The one piece that is asked while the store is away, and how many there were.
    trial: Option<AskNo>,
    trials: usize,
    /// The latest trial was of one of whom nothing is known.
    was_newcomer: bool,
    /// Pieces halved because a probe was answered, since any piece was stored.
    halved_in_vain: usize,
    probe: Option<(AskNo, Nanos)>,
    probe_due: Nanos,
    /// When a probe failed last.
    probe_failed: Option<Nanos>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            evidence: Evidence::default(),
            away_since: None,
            away_until: Nanos(0),
            pause: STORE_AWAY_PAUSE.first,
            trial: None,
            trials: 0,
            was_newcomer: false,
            halved_in_vain: 0,
            probe: None,
            probe_due: Nanos(0),
            probe_failed: None,
        }
    }
}

/// What is under way, and what may be.
#[derive(Debug)]
struct Room {
    rows_asked: usize,
    suspects_asked: usize,
    /// Nothing is asked until then: the queue before the store's threads was full.
    full_until: Nanos,
    /// Asks that may be under way: fewer after the queue was full.
    asks_max: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { rows_asked: 0, suspects_asked: 0, full_until: Nanos(0), asks_max: STORE_ASKS_IN_FLIGHT }
    }
}

/// The asks to the inbox.
#[derive(Debug, Default)]
pub struct InboxAsks {
    /// Events, and the first user of each.
    wanted: UrgentFirst<(EventIx, Option<UserIx>)>,
    /// Pieces that failed and were not blamed: they wait for a sign of life of the store.
    failed: VecDeque<Piece>,
    /// Pieces that were blamed, in whole or in part.
    suspects: VecDeque<Piece>,
    /// One user each, who failed again: charged with it once the store is seen alive. In the order of their failures.
    accused: VecDeque<Accused>,
    later: BTreeMap<(Nanos, AskNo), Piece>,
    asked: HashMap<AskNo, Asked>,
    /// All pieces that failed and have no end, by [`Piece::key`].
    owners: Owners,
    pieces: usize,
    /// Events with users who were charged and have no end, and how many.
    blamed: HashMap<EventIx, u32>,
    store: Store,
    room: Room,
    next_no: AskNo,
}

/// How long one that was blamed so often waits: four times as long each time, up to a minute. A row that somebody locks for
/// a minute is no letter with the retries of the default configuration. No [`Backoff`](crate::model::backoff::Backoff): it doubles.
pub fn retry_pause(interval: Duration, tries: u32) -> Duration {
    let grown = interval.saturating_mul(4_u32.saturating_pow(tries));
    grown.min(STORE_RETRY_PAUSE_MAX.max(interval))
}

impl InboxAsks {
    /// An event whose pushes have ended owes rows, the first one to this user.
    pub fn want(&mut self, event: EventIx, first: Option<UserIx>, is_urgent: bool) {
        self.wanted.push_back((event, first), is_urgent);
    }

    fn take_number(&mut self) -> AskNo {
        self.next_no += 1;
        self.next_no - 1
    }

    /// Whether all that was asked since a failure that nobody is blamed for has failed, as far as it is known.
    pub fn is_away(&self) -> bool {
        self.store
            .away_since
            .is_some_and(|since| self.store.evidence.blame(Some(since), self.owners.unproven()) == Blame::Store)
    }

    /// The events of which rows are at the store now.
    pub fn at_store(&self) -> HashSet<EventIx> {
        self.asked.values().map(|asked| asked.piece.event).collect()
    }

    /// Nothing is asked any more for these events, of which no rows are at the store.
    pub fn forget(&mut self, events: &HashSet<EventIx>) {
        self.wanted.retain(|(event, _)| !events.contains(event));
        let mut forgotten = Vec::new();
        for queue in [&mut self.failed, &mut self.suspects] {
            let (gone, kept): (VecDeque<_>, _) =
                std::mem::take(queue).into_iter().partition(|piece| events.contains(&piece.event));
            *queue = kept;
            forgotten.extend(gone);
        }
        let (gone, kept): (VecDeque<_>, _) =
            std::mem::take(&mut self.accused).into_iter().partition(|accused| events.contains(&accused.piece.event));
        self.accused = kept;
        forgotten.extend(gone.into_iter().map(|accused| accused.piece));
        let (gone, kept): (BTreeMap<_, _>, _) =
            std::mem::take(&mut self.later).into_iter().partition(|(_, piece)| events.contains(&piece.event));
        self.later = kept;
        forgotten.extend(gone.into_values());
        forgotten.iter().for_each(|piece| self.end(piece));
    }

    fn note_life(&mut self) {
        if self.store.away_since.is_some() && !self.is_away() {
            self.store.away_since = None;
            self.store.pause = STORE_AWAY_PAUSE.first;
        }
    }

    /// Whether nothing failed that is asked again or told apart by a probe; the store is there.
    pub fn is_at_rest(&self) -> bool {
        let waits = !self.suspects.is_empty() || !self.accused.is_empty() || !self.later.is_empty();
        !waits && self.store.probe.is_none() && !self.is_away()
    }

    /// The number of a probe that is to be sent now, one at a time: while the store is away, and before one that was blamed
    /// is asked for again when nothing was answered since.
    pub fn next_probe(&mut self, now: Nanos) -> Option<AskNo> {
        while self.later.first_key_value().is_some_and(|((due, _), _)| *due <= now) {
            self.suspects.extend(self.later.pop_first().map(|(_, piece)| piece));
        }
        let is_unproven = self.is_suspect_unproven() || self.is_accused_unproven();
        let is_wanted = if self.is_away() { now >= self.store.probe_due } else { is_unproven };
        if self.store.probe.is_some() || !is_wanted || now < self.room.full_until {
            return None;
        }
        let ask = self.take_number();
        self.store.probe = Some((ask, now));
        Some(ask)
    }

    /// Whether nothing that was asked since the next suspect failed has been answered: its next failure would tell nothing.
    fn is_suspect_unproven(&self) -> bool {
        self.room.suspects_asked < STORE_SUSPECTS_IN_FLIGHT
            && self.suspects.front().is_some_and(|piece| self.store.evidence.blame(piece.failed, 1) == Blame::Store)
    }

    /// Whether nothing tells yet if the oldest charge holds.
    fn is_accused_unproven(&self) -> bool {
        self.accused.front().is_some_and(|accused| self.store.evidence.blame(accused.piece.failed, 1) == Blame::Store)
    }

    /// Takes a probe's answer; false when this is none.
    pub fn probe_answered(&mut self, ask: AskNo, is_good: bool, now: Nanos) -> bool {
        let Some((_, sent_at)) = self.store.probe.filter(|(probe, _)| *probe == ask) else { return false };
        self.store.probe = None;
        if is_good {
            self.store.evidence.probe_answered(sent_at);
            self.note_life();
        } else {
            self.store.evidence.failed(now);
            (self.store.away_since, self.store.probe_failed) = (Some(now), Some(now));
        }
        self.store.probe_due = if self.is_away() { now.after(self.store.pause) } else { now };
        true
    }

    /// The piece to be asked for now, and whether it is the one that is tried while the store is away.
    pub fn next(&mut self, now: Nanos) -> Option<(Piece, bool)> {
        if self.asked.len() >= self.room.asks_max
            || self.room.rows_asked >= STORE_ROWS_IN_FLIGHT
            || now < self.room.full_until
        {
            return None;
        }
        if self.is_away() {
            if self.store.trial.is_some() || now < self.store.away_until {
                return None;
            }
            return self.next_trial().map(|piece| (piece, true));
        }
        let may_ask = self.room.suspects_asked < STORE_SUSPECTS_IN_FLIGHT && !self.is_suspect_unproven();
        let suspect = if may_ask { self.suspects.pop_front() } else { None };
        let piece = suspect.or_else(|| self.failed.pop_front());
        piece.or_else(|| self.next_wanted()).map(|piece| (piece, false))
    }

    fn next_wanted(&mut self) -> Option<Piece> {
        self.wanted.pop_front().map(|(event, _)| Piece::whole(event))
    }

    /// The first one of whose user nothing is known: it tells most of the store.
    fn next_newcomer(&mut self) -> Option<Piece> {
        let is_newcomer = |(_, first): &(EventIx, Option<UserIx>)| !first.is_some_and(|user| self.owners.fails(user));
        let at = self.wanted.iter().take(NEWCOMERS_LOOKED_AT).position(is_newcomer)?;
        self.wanted.remove(at).map(|(event, _)| Piece::whole(event))
    }

    /// Every other time somebody of whom nothing is known, else of each kind in turn: what can never succeed must not keep
    /// the others from showing that the store is there.
    fn next_trial(&mut self) -> Option<Piece> {
        self.store.was_newcomer = !self.store.was_newcomer;
        if self.store.was_newcomer
            && let Some(piece) = self.next_newcomer()
        {
            return Some(piece);
        }
        for kind in 0..3 {
            let piece = match (self.store.trials + kind) % 3 {
                0 => self.failed.pop_front(),
                1 => self.next_wanted(),
                NEXT_IS_A_SUSPECT => self.suspects.pop_front(),
                _ => None,
            };
            if piece.is_some() {
                self.store.trials = (self.store.trials + kind + 1) % 3;
                return piece;
            }
        }
        None
    }

    /// A piece goes to the store; its number.
    pub fn sent(&mut self, piece: Piece, rows: usize, is_trial: bool, now: Nanos) -> AskNo {
        let ask = self.take_number();
        self.room.rows_asked += rows;
        self.room.suspects_asked += usize::from(piece.is_suspect);
        if is_trial {
            self.store.trial = Some(ask);
        }
        let known = self.store.evidence.known(piece.failed);
        self.asked.insert(ask, Asked { piece, rows, sent_at: now, is_trial, known });
        ask
    }

    /// An answer came; what it is about.
    pub fn take(&mut self, ask: AskNo) -> Option<Asked> {
        let asked = self.asked.remove(&ask)?;
        self.room.rows_asked -= asked.rows;
        self.room.suspects_asked -= usize::from(asked.piece.is_suspect);
        if asked.is_trial {
            self.store.trial = None;
        }
        Some(asked)
    }

    /// A piece has its rows.
    pub fn stored(&mut self, asked: &Asked) {
        self.store.halved_in_vain = 0;
        self.room.asks_max = (self.room.asks_max + 1).min(STORE_ASKS_IN_FLIGHT);
        self.store.evidence.answered(asked.sent_at);
        self.end(&asked.piece);
        self.note_life();
    }

    /// An ask found the queue full: the piece, or the probe, goes back to where it was, as it was, and the next asks are fewer.
    pub fn not_asked(&mut self, ask: AskNo, now: Nanos) {
        if self.store.probe.is_some_and(|(probe, _)| probe == ask) {
            self.store.probe = None;
        } else if let Some(Asked { piece, .. }) = self.take(ask) {
            self.put_back(piece);
        } else {
            return;
        }
        if now >= self.room.full_until {
            self.room.asks_max = (self.room.asks_max / 2).max(STORE_ASKS_AT_FULL_QUEUE);
        }
        self.room.full_until = now.after(QUEUE_FULL_PAUSE);
    }

    /// A piece goes back to where it was, as it was.
    fn put_back(&mut self, piece: Piece) {
        match piece.failed {
            _ if piece.is_suspect => self.suspects.push_front(piece),
            Some(_) => self.failed.push_front(piece),
            None => self.wanted.push_front((piece.event, None)),
        }
    }

    /// An ask never left, for want of a connection: that says nothing of its rows. Nothing but one trial at a time is asked
    /// until something is answered.
    pub fn not_reached(&mut self, Asked { piece, is_trial, .. }: Asked, now: Nanos) {
        let was_away = self.is_away();
        self.store.away_since = Some(now);
        self.wait(is_trial || !was_away, now);
        self.put_back(piece);
    }

    /// The store is away, as far as it is known; `is_longer`: and the next trial later than the one before.
    fn wait(&mut self, is_longer: bool, now: Nanos) {
        if is_longer {
            self.store.away_until = now.after(self.store.pause);
            self.store.pause = STORE_AWAY_PAUSE.following(self.store.pause);
        }
    }
}

#[cfg(test)]
mod tests;
