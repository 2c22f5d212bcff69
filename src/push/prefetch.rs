//! Looks ahead: asks for the memory that a few events or results will need before the first of them is taken.
//!
//! Where each event is of another session, it meets some thirty cache lines that no cache holds. Met one after the other they
//! cost more than all that is done with them; asked for together they come while something else is done. Promises that
//! nothing but time depends on it: what it finds may be wrong, and nobody asks it.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::ids::{SessionIx, UserIx};
use crate::model::limits::FORESEEN_MAX;
use crate::model::prefetch::{prefetch, prefetch_all, prefetch_lines, prefetch_to_write};
use crate::push::Push;
use crate::push::bundle::{BundleResult, Group};
use crate::push::ingest;
use crate::push::repeats::Home;

/// Asks for a group, and for its count of owners, which is written: it stands before it.
pub fn prefetch_group(group: &Arc<Group>) {
    let start = Arc::as_ptr(group);
    prefetch_to_write(start.cast::<usize>().wrapping_sub(2));
    prefetch_all(&**group);
}

/// A longer event is read for longer anyway.
const PAYLOAD_BYTES_FORESEEN: usize = 512;

/// What was guessed of an event.
#[derive(Clone, Copy, Default)]
struct Guess {
    session: Option<SessionIx>,
    sender: Option<UserIx>,
}

impl Push {
    /// These events are taken next: at most [`FORESEEN_MAX`] are looked at.
    pub fn foresee<'a>(&self, payloads: impl Iterator<Item = &'a Bytes> + Clone) {
        let mut guesses = [Guess::default(); FORESEEN_MAX];
        let mut found = 0;
        for payload in payloads.clone().take(FORESEEN_MAX) {
            prefetch_lines(payload.as_ptr(), payload.len().min(PAYLOAD_BYTES_FORESEEN));
        }
        for (guess, payload) in guesses.iter_mut().zip(payloads) {
            let head = ingest::head(payload);
            let hash = self.resolve.sessions.hash(head.session_id);
            self.intake.repeats.prefetch(Home::of(hash, head.msg_id));
            *guess = Guess {
                session: self.resolve.sessions.guess(hash),
                sender: self.resolve.users.guess(head.from_username),
            };
            found += 1;
        }
        let guesses = &guesses[..found];
        for guess in guesses {
            if let Some(at) = guess.session {
                prefetch_all(&self.resolve.sessions[at]);
            }
            if let Some(user) = guess.sender {
                self.resolve.users.prefetch(user);
            }
        }
        for guess in guesses {
            if let Some(at) = guess.session {
                self.resolve.sessions[at].prefetch_lists();
            }
            if let Some(user) = guess.sender {
                prefetch(self.resolve.users.wire(user).as_ptr());
            }
        }
        for guess in guesses {
            let layout = guess.session.and_then(|at| self.resolve.sessions[at].layout.as_ref());
            layout.inspect(|layout| prefetch(layout.groups.as_ptr()));
        }
        for guess in guesses {
            let layout = guess.session.and_then(|at| self.resolve.sessions[at].layout.as_ref());
            for laid in layout.iter().flat_map(|layout| layout.groups.iter().take(2)) {
                prefetch_group(&laid.group);
            }
        }
    }

    /// This result is taken soon.
    pub(super) fn foresee_result(&self, result: &BundleResult) {
        self.ledger.prefetch(result.bundle.event);
        prefetch_group(&result.bundle.group);
        prefetch_all(&self.resolve.sessions[result.bundle.session]);
    }

    /// This result, of which [`foresee_result`](Self::foresee_result) was told a while ago, is taken soon.
    pub(super) fn foresee_lists(&self, result: &BundleResult) {
        let session = &self.resolve.sessions[result.bundle.session];
        prefetch(session.lanes.as_ptr());
        self.ledger.prefetch_payload(result.bundle.event);
    }
}
