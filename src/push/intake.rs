//! The intake stage: what came, told apart from what came before.

use crate::model::delivery::DeliveryTag;
use crate::push::context::Context;
use crate::push::ingest::Arrival;
use crate::push::ledger::Ledger;
use crate::push::repeats::{Key, Repeats, Seen, fingerprint};

/// The state of the intake. What an event's bytes say is read by [`ingest`](super::ingest), which keeps none.
#[derive(Debug, Default)]
pub(super) struct Intake {
    pub(super) repeats: Repeats,
}

impl Intake {
    /// What an event is known by; `hash` is that of its session id.
    #[inline]
    pub(super) fn key_of(arrival: &Arrival, hash: u64) -> Key {
        match arrival.has_only() {
            true => Key::NONE,
            false => Key::of(hash, arrival.msg_id, arrival.seq_id, arrival.kind_bytes()),
        }
    }

    /// Whether an event came before. If so, it has its end here, or joins the first one if that is in flight.
    #[inline]
    pub(super) fn is_repeat(
        &mut self,
        arrival: &Arrival,
        key: Key,
        tag: DeliveryTag,
        ledger: &mut Ledger,
        cx: &mut Context,
    ) -> bool {
        match self.repeats.look(key, cx.now, |event| ledger.has(event, key)) {
            Seen::First => false,
            Seen::InFlight(event) => {
                compare_repeat(arrival, ledger[event].arrival.message_bytes() == arrival.message_bytes(), cx);
                ledger.join(event, tag, cx);
                true
            }
            Seen::Settled(first) => {
                compare_repeat(arrival, first == fingerprint(arrival.message_bytes()), cx);
                ledger.end_repeat(tag, cx);
                true
            }
        }
    }
}

/// A repeat is not pushed, whatever it says; when it says something else, its publisher uses an id twice.
fn compare_repeat(repeat: &Arrival, is_same: bool, cx: &mut Context) {
    if is_same {
        return;
    }
    cx.activity.repeats_that_differ += 1;
    cx.warn("repeat_differs", || {
        format!(
            "session {:?}: an event with msg_id {}, seq_id {} and type {:?} came again with another content, and was \
             not pushed: check that its publisher gives each event an id of its own",
            repeat.session_id(),
            repeat.msg_id,
            repeat.seq_id,
            String::from_utf8_lossy(repeat.kind_bytes())
        )
    });
}
