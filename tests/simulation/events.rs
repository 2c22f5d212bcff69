//! Publishers: ordinary events, repeats, and payloads that can never be pushed.

use bytes::Bytes;
use prost::Message;
use task_engine::model::ids::Partition;
use task_engine::model::proto::event::PushEvent;
use task_engine::model::proto::gateway::{PushMessage, SessionMeta};
use task_engine::push::facts::Input;

use super::world::{MILLI, World};

/// Partitions, as configured.
pub const PARTITIONS: u32 = 64;

/// The timestamp of each session's first event; those after it count on, so that every event can be told by it.
const FIRST_TIMESTAMP: i64 = 1_700_000_000;

/// What an event is known by in its session, from its message.
pub fn number_of(message: &PushMessage) -> i64 {
    message.timestamp - FIRST_TIMESTAMP
}

/// A parent that its publisher records.
pub const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Whether the engine can know the event again.
pub fn has_id(payload: &Bytes) -> bool {
    PushEvent::decode(payload.clone()).expect("made by `publish`").msg_id != 0
}

/// The message that a gateway must get for an event's payload.
pub fn message_of(payload: &Bytes) -> PushMessage {
    let event = PushEvent::decode(payload.clone()).expect("made by `publish`");
    let has_meta = !event.session_name.is_empty() || event.session_type != 0;
    PushMessage {
        msg_id: event.msg_id,
        seq_id: event.seq_id,
        session_id: event.session_id,
        from_username: event.from_username,
        to_username: event.to_username,
        content: event.content,
        r#type: event.r#type,
        timestamp: event.timestamp,
        session_meta: has_meta.then_some(SessionMeta { name: event.session_name, r#type: event.session_type }),
        from_device: event.from_device,
        trace_headers: event.trace_headers,
    }
}

impl World {
    /// Publishes what the plan's rate asks for in one step.
    pub fn publish_some(&mut self) {
        let mut rate = self.plan.rate;
        if self.broker.entries.len() >= self.plan.events {
            return;
        }
        while rate > 0 {
            if self.rng.chance(rate.min(1000)) {
                match self.rng.below(20) {
                    0 => self.publish_bad(),
                    1..=3 => self.publish_again(),
                    _ => {
                        let session = self.rng.below(self.sessions.len());
                        self.publish(session);
                    }
                }
            }
            rate = rate.saturating_sub(1000);
        }
    }

    /// Publishes a new event of a session; gives what the world knows it by.
    pub fn publish(&mut self, session: usize) -> (usize, i64) {
        let number = self.sessions[session].published.len() as i64;
        let (msg_id, seq_id, kind) = self.next_id(session);
        let mut event = PushEvent {
            msg_id,
            seq_id,
            session_id: self.sessions[session].id.clone(),
            from_username: self.sender(session),
            to_username: self.sessions[session].id.clone(),
            content: "x".repeat(self.rng.below(40)),
            r#type: kind.into(),
            timestamp: FIRST_TIMESTAMP + number,
            from_device: if number % 3 == 0 { format!("device-{number}") } else { String::new() },
            ..PushEvent::default()
        };
        // Not when all is well: a large group of one gateway may not have it within the shortest delivery timeout.
        if self.rng.chance(10) && !self.is_calm {
            event.content = "y".repeat(70_000);
        }
        if self.rng.chance(300) {
            event.session_name = "Team".into();
            event.session_type = 2;
            let parent = if number % 2 == 0 { SAMPLED } else { "00-1" };
            event.trace_headers.insert("traceparent".into(), parent.into());
        }
        let payload = Bytes::from(event.encode_to_vec());
        self.sessions[session].published.push(payload.clone());
        self.sessions[session].ids.insert((msg_id, seq_id, kind));
        self.put_into_stream(self.sessions[session].home, payload, Some((session, number)));
        (session, number)
    }

    /// What tells the next event from others: mostly a msg_id of its own; else none, or that of the message before with another
    /// type or sequence, as a recall has.
    fn next_id(&mut self, session: usize) -> (i64, i64, &'static str) {
        let last = self.sessions[session].last_id;
        // What a notice is about is told by its msg_id alone.
        let may_share = self.plan.notice_above() == 0;
        let is_fresh = |world: &Self, id| may_share && !world.sessions[session].ids.contains(&id);
        match (self.rng.below(12), last) {
            (0, _) => return (0, self.sessions[session].next_seq, "typing"),
            (1, Some((msg_id, seq_id))) => {
                let id = (msg_id, seq_id, self.rng.pick(&["recall", "edit", "Text", ""]));
                if is_fresh(self, id) {
                    return id;
                }
            }
            (2, Some((msg_id, seq_id))) => {
                let id = (msg_id, seq_id + 1_000_000, "text");
                if is_fresh(self, id) {
                    return id;
                }
            }
            _ => {}
        }
        let known = &mut self.sessions[session];
        // An event with the id 0 has none, so it is no message that could be known again.
        known.next_msg += known.msg_step * (1 + i64::from(known.next_msg + known.msg_step == 0));
        let msg_id = known.next_msg;
        // Resonance's sequences have gaps, and two messages may have the same.
        let step = i64::from(!self.rng.chance(50)) * self.rng.pick(&[1, 1, 1, 3]);
        let known = &mut self.sessions[session];
        known.next_seq += step;
        known.last_id = Some((msg_id, known.next_seq));
        (msg_id, known.next_seq, "text")
    }

    fn sender(&mut self, session: usize) -> String {
        let members = &self.sessions[session].members;
        match self.rng.below(4) {
            0 => "system".into(),
            1 => self.users[self.rng.below(self.users.len())].name.clone(),
            _ if members.is_empty() => "system".into(),
            _ => self.users[members[self.rng.below(members.len())]].name.clone(),
        }
    }

    fn publish_again(&mut self) {
        let session = self.rng.below(self.sessions.len());
        let published = &self.sessions[session].published;
        if published.is_empty() {
            return;
        }
        let back = self.rng.below(published.len().min(6));
        let number = published.len() - 1 - back;
        let payload = published[number].clone();
        if has_id(&payload) {
            self.put_into_stream(self.sessions[session].home, payload, Some((session, number as i64)));
        }
    }

    fn publish_bad(&mut self) {
        let msg_id = self.broker.entries.len() as i64;
        let event = PushEvent { msg_id, from_username: "system".into(), ..PushEvent::default() };
        let session_id = match self.rng.below(5) {
            0 => String::new(),
            1 => "s".repeat(65),
            2 => "é".repeat(300),
            _ => "cut".into(),
        };
        let is_cut = session_id == "cut";
        let mut payload = PushEvent { session_id, ..event }.encode_to_vec();
        if is_cut {
            payload.truncate(payload.len() - 1);
            payload.extend([0xff, 0xff]);
        }
        let home = self.rng.below(self.shards.len());
        self.put_into_stream(home, Bytes::from(payload), None);
    }

    /// In some worlds partitions come from elsewhere: a shard is told now and then of an event that another instance settled.
    pub fn tell_known_some(&mut self) {
        if !self.plan.has_comings() || !(self.now.0 / MILLI).is_multiple_of(3) {
            return;
        }
        let session = (self.now.0 / MILLI) as usize % self.sessions.len();
        let event = PushEvent {
            msg_id: i64::MIN + (self.now.0 / MILLI) as i64,
            session_id: self.sessions[session].id.clone(),
            r#type: "elsewhere".to_owned(),
            ..PushEvent::default()
        };
        self.feed(self.sessions[session].home, Input::Known(vec![event.encode_to_vec().into()]));
    }

    /// The shard of a session.
    pub fn home_of(&self, session_id: &str) -> usize {
        let partition = Partition::of(session_id.as_bytes(), PARTITIONS);
        usize::from(task_engine::model::ids::ShardId::of_partition(partition, self.plan.shards).0)
    }
}
