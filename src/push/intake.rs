//! The intake stage: what came, told apart from what came before.

use bytes::Bytes;

use crate::model::delivery::DeliveryTag;
use crate::push::Push;
use crate::push::context::Context;
use crate::push::ingest::{self, Arrival};
use crate::push::ledger::Ledger;
use crate::push::repeats::{Key, Repeats, Seen, fingerprint};

/// The state of the intake. What an event's bytes say is read by [`ingest`](super::ingest), which keeps none.
#[derive(Debug, Default)]
pub(super) struct Intake {
    pub(super) repeats: Repeats,
    /// Events that come next and count as new.
    pub(super) replayed: Vec<DeliveryTag>,
}

impl Intake {
    /// What an event is known by; `hash` is that of its session id. A replay, like one for some members, is no repeat of its
    /// event nor makes later copies of that repeats.
    #[inline]
    pub(super) fn key_of(&mut self, arrival: &Arrival, hash: u64, tag: DeliveryTag) -> Key {
        let is_replay = !self.replayed.is_empty() && self.forget_replay(tag);
        if is_replay || arrival.has_only() { Key::NONE } else { key_by_its_bytes(arrival, hash) }
    }

    /// An event has come; whether it is a replay.
    #[cold]
    pub(super) fn forget_replay(&mut self, tag: DeliveryTag) -> bool {
        let at = self.replayed.iter().position(|replayed| *replayed == tag);
        at.map(|at| self.replayed.swap_remove(at)).is_some()
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
                compare_repeat(arrival, ledger[event].arrival.compared_bytes() == arrival.compared_bytes(), cx);
                ledger.join(event, tag, cx);
                true
            }
            Seen::Settled(first) => {
                compare_repeat(arrival, first == fingerprint(arrival.compared_bytes()), cx);
                ledger.end_repeat(tag, cx);
                true
            }
        }
    }
}

#[inline]
fn key_by_its_bytes(arrival: &Arrival, hash: u64) -> Key {
    Key::of(hash, arrival.msg_id, arrival.seq_id, arrival.kind_bytes())
}

impl Push {
    /// Events that were entered so far: what came and is neither a repeat, nor refused, nor dropped, nor given back.
    pub fn events_entered(&self) -> u64 {
        self.ledger.newest_order()
    }

    /// See [`Input::Known`](crate::push::facts::Input::Known). What is known already stays as it is. A partition comes here: what its
    /// events will need is looked up, and the streams are opened that this shard owns.
    pub(super) fn know(&mut self, payloads: Vec<Bytes>) {
        let passes_on = self.cx.passes_on();
        for arrival in payloads.into_iter().filter_map(|payload| ingest::read_for(payload, passes_on).ok()) {
            if arrival.has_only() {
                continue;
            }
            let hash = self.resolve.sessions.hash(arrival.session_id_bytes());
            let key = key_by_its_bytes(&arrival, hash);
            self.intake.repeats.know(key, fingerprint(arrival.compared_bytes()), self.cx.now);
            self.resolve.warm(arrival.session_id(), hash, &mut self.cx);
        }
        self.delivery.gateways.open_ahead(self.cx.now);
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
