//! Looks ahead: asks for the memory that a few events or results will need before the first of them is taken.
//!
//! Where each event is of another session, it meets some thirty cache lines that no cache holds. Met one after the other they
//! cost more than all that is done with them; asked for together they come while something else is done. Promises that
//! nothing but time depends on it: what it finds may be wrong, and nobody asks it.

use std::sync::Arc;

use bytes::Bytes;

use crate::ids::{SessionIx, UserIx};
use crate::limits::FORESEEN_MAX;
use crate::push::Push;
use crate::push::bundle::{BundleResult, Group};
use crate::push::ingest;
use crate::push::repeats::Home;

/// Cache lines of the machines that servers are made of.
const LINE_BYTES: usize = 64;

/// Asks for the first line of what is there, and goes on. Where the language has no word for it, nothing happens.
#[inline(always)]
pub fn prefetch<T>(at: *const T) {
    ask::<false>(at.cast());
}

/// The same for what will be written: a line that another core had is taken from it now, and not when it is written.
#[inline(always)]
pub fn prefetch_to_write<T>(at: *const T) {
    ask::<true>(at.cast());
}

#[inline(always)]
fn ask<const TO_WRITE: bool>(at: *const i8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; it reads nothing that can be seen, and any address is allowed.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_ET0, _MM_HINT_T0, _mm_prefetch};
        if TO_WRITE { _mm_prefetch::<_MM_HINT_ET0>(at) } else { _mm_prefetch::<_MM_HINT_T0>(at) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Asks for all lines of a value.
#[inline(always)]
pub fn prefetch_all<T>(value: &T) {
    prefetch_lines(std::ptr::from_ref(value).cast(), size_of::<T>());
}

#[inline(always)]
fn prefetch_lines(start: *const u8, bytes: usize) {
    for at in (0..bytes).step_by(LINE_BYTES) {
        prefetch(start.wrapping_add(at));
    }
}

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
            let hash = self.sessions.hash(head.session_id);
            self.repeats.prefetch(Home::of(hash, head.msg_id));
            *guess = Guess { session: self.sessions.guess(hash), sender: self.users.guess(head.from_username) };
            found += 1;
        }
        let guesses = &guesses[..found];
        for guess in guesses {
            if let Some(at) = guess.session {
                prefetch_all(&self.sessions[at]);
            }
            if let Some(user) = guess.sender {
                self.users.prefetch(user);
            }
        }
        for guess in guesses {
            if let Some(at) = guess.session {
                self.sessions[at].prefetch_lists();
            }
            if let Some(user) = guess.sender {
                prefetch(self.users.wire(user).as_ptr());
            }
        }
        for guess in guesses {
            let layout = guess.session.and_then(|at| self.sessions[at].layout.as_ref());
            layout.inspect(|layout| prefetch(layout.groups.as_ptr()));
        }
        for guess in guesses {
            let layout = guess.session.and_then(|at| self.sessions[at].layout.as_ref());
            for laid in layout.iter().flat_map(|layout| layout.groups.iter().take(2)) {
                prefetch_group(&laid.group);
            }
        }
    }

    /// This result is taken soon.
    pub(super) fn foresee_result(&self, result: &BundleResult) {
        self.ledger.prefetch(result.bundle.event);
        prefetch_group(&result.bundle.group);
        prefetch_all(&self.sessions[result.bundle.session]);
    }

    /// This result, of which [`foresee_result`](Self::foresee_result) was told a while ago, is taken soon.
    pub(super) fn foresee_lists(&self, result: &BundleResult) {
        let session = &self.sessions[result.bundle.session];
        prefetch(session.lanes.as_ptr());
        self.ledger.prefetch_payload(result.bundle.event);
    }
}
