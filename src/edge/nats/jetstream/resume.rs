//! What somebody else had out of a partition, or what a lost connection took along, comes first and in stream order.
//!
//! The server delivers again in the order in which it notices that it has to: what it could not hand to a connection that was gone,
//! then what is due, and later what it took out for a pull that nobody answers for any more (nats-server 2.9.10: `didNotDeliver`,
//! `loopAndGatherMsgs`). So from the take-over on the events of such a partition are held, until the server says that all that it
//! delivered is here; then they are handed on in the order of the stream. Held is no more than was asked for, and no longer than
//! [`Gate::until`]: an event that is at another reader does not come.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::JetFeed;
use super::api::{ConsumerInfo, consumer_info, read_one};
use super::calls::BatchNo;

/// How often the server is asked what is out, when less has come than it said.
const LOOK: Duration = Duration::from_millis(250);

/// An event that is noted and waits for those before it.
struct Held {
    number: u64,
    payload: Bytes,
    headers: Option<Bytes>,
}

/// One partition whose events are held.
struct Gate {
    /// By place in the stream. Two have one place only when the stream was made anew.
    held: BTreeMap<(u64, u64), Held>,
    /// So many have to come, as the server said last; and how many of them came since.
    missing: u64,
    came: u64,
    /// What is asked: the answer, and what was here then.
    asked: Option<(BatchNo, HashSet<u64>)>,
    look_at: Instant,
    /// When it is given up.
    until: Instant,
}

impl Gate {
    fn next_due(&self, now: Instant) -> Instant {
        match (&self.asked, self.came >= self.missing) {
            (None, true) => now,
            _ => self.look_at.min(self.until),
        }
    }
}

/// The partitions of a reader whose events are held.
#[derive(Default)]
pub(super) struct Resume {
    gates: BTreeMap<usize, Gate>,
}

impl Resume {
    /// Of a consumer `missing` events are out that are not here; they come `from` then on, and have to by `until`.
    pub(super) fn begin(&mut self, consumer: usize, missing: u64, from: Instant, until: Instant) {
        if missing == 0 && !self.gates.contains_key(&consumer) {
            return;
        }
        let held = self.gates.remove(&consumer).map(|gate| gate.held).unwrap_or_default();
        let gate = Gate { held, missing, came: 0, asked: None, look_at: from + LOOK, until };
        self.gates.insert(consumer, gate);
    }

    /// No answer comes any more.
    pub(super) fn lost(&mut self) {
        self.gates.values_mut().for_each(|gate| gate.asked = None);
    }

    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        self.gates.values().map(|gate| gate.next_due(now)).min()
    }

    /// Holds a new event, if its consumer's are; true when it does.
    pub(super) fn hold(
        &mut self,
        consumer: usize,
        (sequence, number): (u64, u64),
        payload: &Bytes,
        headers: Option<&[u8]>,
    ) -> bool {
        let Some(gate) = self.gates.get_mut(&consumer) else { return false };
        gate.came += 1;
        let held = Held { number, payload: payload.clone(), headers: headers.map(Bytes::copy_from_slice) };
        gate.held.insert((sequence, number), held);
        true
    }

    /// The server says how many are out, of which `here` are here for sure; true when that is all.
    fn hear(&mut self, consumer: usize, pending: u64, here: u64, now: Instant) -> bool {
        let Some(gate) = self.gates.get_mut(&consumer) else { return false };
        gate.missing = pending.saturating_sub(here);
        (gate.came, gate.look_at) = (0, now + LOOK);
        gate.missing == 0
    }
}

impl JetFeed {
    /// Asks whether all has come, where that may be, and hands on what need not wait any longer.
    pub(super) fn look_at_resume(&mut self, now: Instant) {
        if self.resume.gates.is_empty() {
            return;
        }
        let due: Vec<usize> =
            self.resume.gates.iter().filter(|(_, gate)| gate.next_due(now) <= now).map(|(at, _)| *at).collect();
        for consumer in due {
            self.look_at_gate(consumer, now);
        }
        let asked: Vec<_> =
            self.resume.gates.iter().filter_map(|(at, gate)| Some((*at, gate.asked.as_ref()?.0))).collect();
        for (consumer, batch) in asked {
            self.hear_what_is_out(consumer, batch, now);
        }
    }

    fn look_at_gate(&mut self, consumer: usize, now: Instant) {
        let name = &self.plan.consumers[consumer].name;
        let Some(gate) = self.resume.gates.get_mut(&consumer) else { return };
        if now >= gate.until {
            tracing::warn!(
                reader = self.plan.reader,
                consumer = name,
                missing = gate.missing,
                held = gate.held.len(),
                "JetStream: events of a partition that were delivered to somebody else did not come again, and the others do not \
                 wait for them any longer: their order is not kept; does another instance read it?"
            );
            return self.hand_on(consumer);
        }
        gate.look_at = now + self.nats.timeout;
        let ask = consumer_info(&self.plan.stream, name);
        let here = self.flight.sequences(consumer);
        let batch = self.begin(&[ask], now);
        if let Some(gate) = self.resume.gates.get_mut(&consumer) {
            gate.asked = Some((batch, here));
        }
    }

    fn hear_what_is_out(&mut self, consumer: usize, batch: BatchNo, now: Instant) {
        let Some(answers) = self.calls.take(batch, now) else { return };
        let Some(gate) = self.resume.gates.get_mut(&consumer) else { return };
        let Some((_, before)) = gate.asked.take() else { return };
        gate.look_at = now + LOOK;
        let Ok(info) = read_one::<ConsumerInfo>(answers) else { return };
        // What was here before and is here now was out when the server looked, and here.
        let here = self.flight.sequences(consumer).intersection(&before).count() as u64;
        if self.resume.hear(consumer, info.num_ack_pending, here, now) {
            self.hand_on(consumer);
        }
    }

    fn hand_on(&mut self, consumer: usize) {
        let Some(gate) = self.resume.gates.remove(&consumer) else { return };
        for ((sequence, _), Held { number, payload, headers }) in gate.held {
            self.take_new(number, sequence, payload, headers.as_deref());
        }
    }
}

#[cfg(test)]
#[path = "resume_tests.rs"]
mod tests;
