//! Ends of what never was an event in flight: refused, not taken, a repeat of what was settled.

use super::settled_as;
use crate::model::delivery::{DeliveryTag, Disposition, Settled};
use crate::model::outcome::EventOutcome;
use crate::push::context::Context;
use crate::push::facts::Output;
use crate::push::ledger::Ledger;

impl Ledger {
    /// What was refused ends.
    pub(in crate::push) fn end_refused(&mut self, at: u32, end: EventOutcome, cx: &mut Context) {
        let refused = self.refused.remove(at);
        self.payload_bytes -= refused.payload.len();
        self.counts.events_ended[end as usize] += 1;
        cx.out.push(Output::Settle(Settled { tag: refused.tag, how: settled_as(end) }));
    }

    /// An event that is not taken is to come again.
    pub(in crate::push) fn give_back(&mut self, tag: DeliveryTag, end: EventOutcome, cx: &mut Context) {
        self.counts.events_arrived += 1;
        self.counts.events_ended[end as usize] += 1;
        cx.out.push(Output::Settle(Settled { tag, how: Disposition::Nak }));
    }

    /// A repeat of an event that was settled has its end at once.
    pub(in crate::push) fn end_repeat(&mut self, tag: DeliveryTag, cx: &mut Context) {
        self.counts.events_ended[EventOutcome::Repeat as usize] += 1;
        cx.out.push(Output::Settle(Settled { tag, how: Disposition::Ack }));
    }
}
