//! Several records claim the gateway's id, and no stream opens at the addresses of the one written last.
//!
//! Promises that the addresses of the others are tried then, and that the one written last is tried again after a pause that
//! grows, so that it is used as soon as it answers. Refuses to leave an address where a stream opened for one that ended: whoever
//! answers is the gateway.

use std::time::Duration;

use crate::model::gateway::Endpoint;
use crate::model::ids::Nanos;
use crate::model::limits::OTHER_RECORDS_PAUSE;
use crate::push::outbox::Peer;

/// Which addresses are used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Elsewhere {
    /// Those of the other records.
    is_used: bool,
    /// When the first record's are tried again, and how long that pause was.
    until: Nanos,
    pause: Duration,
}

impl Peer {
    /// Where the next stream is tried.
    pub(super) fn endpoints(&self) -> Option<Vec<Endpoint>> {
        let record = self.record.as_ref()?;
        Some(if self.elsewhere.is_used { record.others.clone() } else { record.endpoints.clone() })
    }

    /// The record changed; true when the addresses in use are in none any more.
    pub(super) fn look_at_others(&mut self, is_change: bool) -> bool {
        let has_others = self.record.as_ref().is_some_and(|record| !record.others.is_empty());
        let is_lost = self.elsewhere.is_used && !has_others;
        if is_change || is_lost {
            self.elsewhere = Elsewhere::default();
        }
        is_lost
    }

    /// No stream could be opened; true when other addresses are tried next.
    pub(super) fn try_elsewhere(&mut self, now: Nanos) -> bool {
        if self.record.as_ref().is_none_or(|record| record.others.is_empty()) {
            return false;
        }
        self.refused_protocols.clear();
        let Elsewhere { is_used, pause, .. } = self.elsewhere;
        let pause = if is_used { pause } else { OTHER_RECORDS_PAUSE.following(pause) };
        self.elsewhere = Elsewhere { is_used: !is_used, until: now.after(pause), pause };
        true
    }

    /// A stream opened.
    pub(super) fn is_reached(&mut self) {
        if !self.elsewhere.is_used {
            self.elsewhere = Elsewhere::default();
        }
    }

    /// Whether the first record's addresses are to be tried again.
    pub(super) fn is_return_due(&self, now: Nanos) -> bool {
        self.elsewhere.is_used && self.elsewhere.until <= now
    }

    /// They are tried next.
    pub(super) fn try_first_record(&mut self) {
        self.refused_protocols.clear();
        self.elsewhere.is_used = false;
    }
}
