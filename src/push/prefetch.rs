//! Looks ahead: asks for the memory that a few events or results will need before the first of them is taken.
//!
//! Where each event is of another session, it meets some thirty cache lines that no cache holds. Met one after the other they
//! cost more than all that is done with them; asked for together they come while something else is done. Promises that
//! nothing but time depends on it: what it finds may be wrong, and nobody asks it.

use bytes::Bytes;

use crate::model::ids::{SessionIx, UserIx};
use crate::model::limits::PREFETCH_EVENTS_MAX;
use crate::model::prefetch::{prefetch, prefetch_all, prefetch_lines};
use crate::push::Push;
use crate::push::bundle::{BundleResult, prefetch_group};
use crate::push::ingest;
use crate::push::repeats::Home;

/// A longer event is read for longer anyway.
const PREFETCH_PAYLOAD_BYTES: usize = 512;

/// What an event's session and sender are looked for by.
#[derive(Clone, Copy, Default)]
struct Hashes {
    session: u64,
    sender: u64,
}

/// What was guessed of an event.
#[derive(Clone, Copy, Default)]
struct Guess {
    session: Option<SessionIx>,
    sender: Option<UserIx>,
}

impl Push {
    /// These events are taken next: at most [`PREFETCH_EVENTS_MAX`] are looked at.
    ///
    /// A pass does one short thing for all of them, so that the processor is at the next one while it waits for this one's memory.
    pub fn prefetch_events<'a>(&self, payloads: impl Iterator<Item = &'a Bytes> + Clone) {
        let mut hashes = [Hashes::default(); PREFETCH_EVENTS_MAX];
        let mut guesses = [Guess::default(); PREFETCH_EVENTS_MAX];
        let mut found = 0;
        for payload in payloads.clone().take(PREFETCH_EVENTS_MAX) {
            prefetch_lines(payload.as_ptr(), payload.len().min(PREFETCH_PAYLOAD_BYTES));
        }
        for (hashes, payload) in hashes.iter_mut().zip(payloads) {
            let head = ingest::head(payload);
            let session = self.resolve.sessions.hash(head.session_id);
            self.intake.repeats.prefetch(Home::of(session, head.msg_id));
            *hashes = Hashes { session, sender: self.resolve.users.hash(head.from_username) };
            found += 1;
        }
        self.ledger.prefetch_next(found);
        let (hashes, guesses) = (&hashes[..found], &mut guesses[..found]);
        for (guess, hashes) in guesses.iter_mut().zip(hashes) {
            guess.session = self.resolve.sessions.guess(hashes.session);
            guess.session.inspect(|at| prefetch_all(&self.resolve.sessions[*at]));
        }
        for (guess, hashes) in guesses.iter_mut().zip(hashes) {
            guess.sender = self.resolve.users.guess(hashes.sender);
            guess.sender.inspect(|user| self.resolve.users.prefetch(*user));
        }
        let guesses = &*guesses;
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
    pub(super) fn prefetch_result(&self, result: &BundleResult) {
        self.ledger.prefetch(result.bundle.event);
        prefetch_group(&result.bundle.group);
        prefetch_all(&self.resolve.sessions[result.bundle.session]);
    }

    /// This result, of which [`prefetch_result`](Self::prefetch_result) was told a while ago, is taken soon.
    pub(super) fn prefetch_result_lists(&self, result: &BundleResult) {
        let session = &self.resolve.sessions[result.bundle.session];
        prefetch(session.lanes.as_ptr());
        self.ledger.prefetch_payload(result.bundle.event);
    }
}
