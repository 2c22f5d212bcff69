//! What the broker does: stores, delivers, answers; and what it tells whoever connects.

use std::time::Duration;

use bytes::Bytes;

use super::{ACK_WAIT, Down, OUT_MAX, Stored, Up, WINDOW, World};
use crate::model::ids::Nanos;
use crate::partitioner::Opened;

impl World {
    /// What the partitioned stream says to a publish; none: nothing.
    fn store(&mut self, id: &[u8], seq_in: u64, payload: &Bytes) -> Option<Result<(u64, bool), bool>> {
        if self.now < self.hole_until {
            return if self.is_hole_silent { None } else { Some(Err(false)) };
        }
        if let Some((seq, at)) = self.ids.get(id).filter(|(_, at)| self.now - at <= WINDOW) {
            let _ = at;
            return Some(Ok((*seq, true)));
        }
        if self.now < self.full_until {
            return Some(Err(true));
        }
        let seq = self.stored.len() as u64 + 1;
        self.ids.insert(id.to_vec(), (seq, self.now));
        self.stored.push(Stored { at: self.now, seq_in, id: id.to_vec(), payload: payload.clone() });
        Some(Ok((seq, false)))
    }

    pub(super) fn broker(&mut self) {
        let due: Vec<_> = self.zombies.extract_if(.., |zombie| zombie.0 <= self.now).collect();
        for (_, id, seq, payload) in due {
            self.store(&id, seq, &payload);
        }
        for at in 0..self.instances.len() {
            while self.instances[at].up.front().is_some_and(|(due, _)| *due <= self.now) {
                let Some((_, sent)) = self.instances[at].up.pop_front() else { break };
                match sent {
                    Up::End { seq, generation } if generation == self.consumer.generation => {
                        self.consumer.settle(seq);
                    }
                    Up::End { .. } => {}
                    Up::Publish { ticket, id, payload } => {
                        let answer = match self.store(&id, ticket.seq, &payload) {
                            None => continue,
                            Some(Ok((seq, is_copy))) => Down::Stored(ticket, seq, is_copy),
                            Some(Err(true)) => Down::Refused(ticket),
                            Some(Err(false)) => Down::Nobody(ticket),
                        };
                        self.say(at, answer);
                    }
                }
            }
            self.deliver(at);
        }
    }

    fn say(&mut self, at: usize, what: Down) {
        let due = self.now + self.random.below(12);
        let down = &mut self.instances[at].down;
        let due = due.max(down.back().map_or(0, |last| last.0));
        down.push_back((due, what));
    }

    fn deliver(&mut self, at: usize) {
        let instance = &self.instances[at];
        let is_reader = instance.is_connected && instance.generation == self.consumer.generation;
        if !is_reader || self.now < instance.pulls_from || instance.held.len() >= OUT_MAX {
            return;
        }
        let again = self.consumer.pending.iter().filter(|(_, due)| **due <= self.now).map(|(seq, _)| *seq);
        let mut out: Vec<u64> = again.collect();
        let room = OUT_MAX.saturating_sub(self.consumer.pending.len());
        for _ in 0..room.min(8) {
            if self.consumer.next > self.input.len() as u64 {
                break;
            }
            out.push(self.consumer.next);
            self.consumer.next += 1;
        }
        for seq in out {
            self.consumer.pending.insert(seq, self.now + ACK_WAIT);
            self.say(at, Down::Event(seq));
        }
    }

    pub(super) fn connect(&mut self, at: usize) {
        let floor = self.consumer.floor();
        let behind = self.instances[at].core.reads_back_behind();
        let instance = &mut self.instances[at];
        instance.core.opened(Opened {
            created: "sim".to_owned(),
            message_bytes_max: 1 << 20,
            first: 1,
            floor,
            delivered: self.consumer.next - 1,
            newest: self.input.len() as u64,
            last: self.stored.len() as u64,
            look_is_good_for: Duration::from_millis(WINDOW / 2),
        });
        let is_elsewhere = |seq: &u64| !instance.held.contains_key(seq);
        let is_missing = self.consumer.pending.keys().any(is_elsewhere);
        // A consumer that was made anew says nothing of what its predecessor had out.
        let is_takeover = is_missing || (instance.is_new && instance.generation > 0);
        instance.pulls_from = if is_missing { self.now + ACK_WAIT + 100 } else { 0 };
        (instance.is_connected, instance.is_new) = (true, false);
        if !self.mutant.no_read_back && (is_takeover || behind.is_some()) {
            let since = self.input.get(floor as usize).map_or(u64::MAX, |input| input.at.saturating_sub(5_000));
            instance.core.read_back_begins();
            for (seq, stored) in (1..).zip(&self.stored) {
                let is_read = if is_takeover { stored.at >= since } else { behind.is_some_and(|behind| seq > behind) };
                if is_read {
                    instance.core.read_back(stored.seq_in, &stored.id);
                }
            }
        }
        if is_takeover && !self.mutant.trusts_the_dead {
            instance.core.took_over();
        }
        instance.core.read_back_done(Nanos(self.now * 1_000_000));
    }
}
