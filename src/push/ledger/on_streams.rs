//! Pushes that ended at their deadline and that their gateways may still read, since their stream is not cut yet.
//!
//! Promises that their event is not settled before: once it is, its partition may go to another instance, which pushes later events of the
//! session over other streams. Rows and counts do not wait for it.

use crate::model::outcome::EventOutcome;
use crate::push::bundle::EventIx;
use crate::push::ledger::Ledger;

impl Ledger {
    /// Whether an event's end waits until no gateway can read its pushes any more; it is kept.
    #[inline]
    pub(in crate::push) fn ends_later(&mut self, at: EventIx, end: EventOutcome) -> bool {
        let progress = &mut self[at].progress;
        let is_later = progress.on_streams > 0;
        if is_later {
            progress.ends = Some(end);
        }
        is_later
    }

    /// A push of an event that had ended is read by nobody any more. The event's end, when it waited for that.
    pub(in crate::push) fn off_stream(&mut self, at: EventIx) -> Option<EventOutcome> {
        let progress = &mut self[at].progress;
        progress.on_streams -= 1;
        if progress.on_streams == 0 { progress.ends.take() } else { None }
    }
}
