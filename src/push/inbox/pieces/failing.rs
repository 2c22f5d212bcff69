//! What follows from a failure: whose fault it was, what is asked again in halves, and who is charged once too often.
//!
//! Promises what [`pieces`](super) does of failures. Refuses to choose what is asked next.

use std::time::Duration;

use super::{Accused, Asked, HALVED_IN_VAIN_MAX, InboxAsks, NEXT_IS_A_SUSPECT, Piece, Verdict, retry_pause};
use crate::model::ids::Nanos;
use crate::model::limits::{STORE_AWAY_PAUSE, STORE_PIECES_MAX};
use crate::push::evidence::Blame;

impl InboxAsks {
    /// A piece, whose users are named, failed; why, for a person, and the hash of its first user's name.
    pub fn failed(&mut self, asked: Asked, (why, owner): (&str, u64), now: Nanos) -> Verdict {
        let Asked { mut piece, is_trial, known, .. } = asked;
        let users = piece.users.as_ref().map_or(0, |users| users.len());
        debug_assert!(users > 0, "a piece that failed names its users");
        let before = piece.failed.replace(now);
        let is_first = !std::mem::replace(&mut piece.has_failed, true);
        if before.is_none() {
            self.begin(&piece);
        }
        let was_away = self.is_away();
        self.store.evidence.failed(now);
        let unproven = self.owners.unproven();
        let blame = if users == 1 { known.blame(unproven) } else { self.store.evidence.blame(before, unproven) };
        if blame == Blame::Store {
            self.store.away_since = Some(now);
            self.wait(is_trial || !was_away, now);
        }
        // To ask in halves blames nobody, so a probe's answer is enough for it, however many fail: a half that is stored
        // tells more than the probe. When none is, it was in vain.
        let may_halve =
            users > 1 && self.pieces < STORE_PIECES_MAX && self.store.evidence.blame(before, 1) == Blame::Ask;
        if may_halve && (blame == Blame::Ask || self.store.halved_in_vain < HALVED_IN_VAIN_MAX) {
            if blame == Blame::Store {
                self.store.halved_in_vain += 1;
                (self.store.pause, self.store.away_until) = (STORE_AWAY_PAUSE.first, now.after(STORE_AWAY_PAUSE.first));
                (self.store.trials, self.store.was_newcomer) = (NEXT_IS_A_SUSPECT, true);
            }
            return self.halve(piece);
        }
        if blame == Blame::Store {
            if piece.is_suspect { &mut self.suspects } else { &mut self.failed }.push_back(piece);
            return Verdict::Waits(blame);
        }
        piece.is_suspect = true;
        if users == 1 && is_first {
            // Before, it was a set that failed, and that may be another user's doing.
            self.suspects.push_back(piece);
        } else if users == 1 {
            if known.is_by_ask()
                && let Some(user) = piece.key()
            {
                self.owners.prove(user);
            }
            self.accused.push_back(Accused { piece, why: why.to_owned(), owner });
        } else {
            // There are too many pieces.
            let number = self.take_number();
            self.later.insert((now.after(STORE_AWAY_PAUSE.longest), number), piece);
        }
        Verdict::Waits(blame)
    }

    /// Charges whoever failed before something that was answered was asked for; the next one who was charged too often, and
    /// why. `retries` is how often one user is asked for again and the first pause. A probe is enough here, however many
    /// fail: that others are stored was seen before. One that failed voids the charge. Whoever ended so within the last minute
    /// ends with the first charge: his next rows must not wait for minutes each; and so does whoever is charged while more than
    /// `blamed_max` events wait for such rows.
    pub fn judged(
        &mut self,
        (max_retry, interval): (u32, Duration),
        blamed_max: usize,
        now: Nanos,
    ) -> Option<(Piece, String)> {
        while let Some(accused) = self.accused.front() {
            let is_void = self.store.probe_failed >= accused.piece.failed;
            if !is_void && self.is_accused_unproven() {
                break;
            }
            let Accused { mut piece, why, owner } = self.accused.pop_front()?;
            if is_void {
                self.suspects.push_back(piece);
                continue;
            }
            if piece.tries == 0 {
                *self.blamed.entry(piece.event).or_default() += 1;
            }
            piece.tries += 1;
            let is_over = self.blamed.len() > blamed_max || self.owners.is_refused(owner, now);
            if piece.tries > max_retry || is_over {
                self.owners.remember_refused(owner, now);
                self.end(&piece);
                return Some((piece, why));
            }
            let number = self.take_number();
            self.later.insert((now.after(retry_pause(interval, piece.tries)), number), piece);
        }
        None
    }

    /// The halves go before what else waits, so that few pieces come of one.
    fn halve(&mut self, piece: Piece) -> Verdict {
        self.end(&piece);
        let Piece { event, users, failed, .. } = piece;
        let users = users.unwrap_or_default();
        let (left, right) = users.split_at(users.len() / 2);
        for half in [right, left] {
            let half = Piece { event, users: Some(half.into()), tries: 0, failed, is_suspect: true, has_failed: false };
            self.begin(&half);
            self.suspects.push_front(half);
        }
        Verdict::Halved(event)
    }

    /// A piece failed for the first time.
    fn begin(&mut self, piece: &Piece) {
        self.pieces += 1;
        if let Some(key) = piece.key() {
            self.owners.begin(key);
        }
    }

    /// A piece is asked for no more.
    pub(super) fn end(&mut self, piece: &Piece) {
        if piece.failed.is_none() {
            return;
        }
        self.pieces -= 1;
        if let Some(key) = piece.key() {
            self.owners.end(key);
        }
        if piece.tries > 0
            && let Some(blamed) = self.blamed.get_mut(&piece.event)
        {
            *blamed -= 1;
            if *blamed == 0 {
                self.blamed.remove(&piece.event);
            }
        }
    }
}
