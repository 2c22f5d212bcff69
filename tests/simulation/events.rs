//! Publishers: ordinary events, repeats, and payloads that can never be pushed.

use bytes::Bytes;
use prost::Message;
use task_engine::ids::Partition;
use task_engine::proto::event::PushEvent;
use task_engine::proto::gateway::{PushMessage, SessionMeta};

use super::world::World;

/// Partitions, as configured.
pub const PARTITIONS: u32 = 64;

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

    /// Publishes a new event of a session.
    pub fn publish(&mut self, session: usize) -> (usize, i64) {
        let msg_id = self.sessions[session].next_msg;
        self.sessions[session].next_msg += self.sessions[session].msg_step;
        // Resonance's sequences have gaps, and two messages may have the same.
        self.sessions[session].next_seq += i64::from(!self.rng.chance(50)) * self.rng.pick(&[1, 1, 1, 3]);
        let mut event = PushEvent {
            msg_id,
            seq_id: self.sessions[session].next_seq,
            session_id: self.sessions[session].id.clone(),
            from_username: self.sender(session),
            to_username: self.sessions[session].id.clone(),
            content: "x".repeat(self.rng.below(40)),
            r#type: "text".into(),
            timestamp: 1_700_000_000,
            ..PushEvent::default()
        };
        if self.rng.chance(10) {
            event.content = "y".repeat(70_000);
        }
        if self.rng.chance(300) {
            event.session_name = "Team".into();
            event.session_type = 2;
            event.trace_headers.insert("traceparent".into(), "00-1".into());
        }
        let payload = Bytes::from(event.encode_to_vec());
        self.sessions[session].published.push((msg_id, payload.clone()));
        self.put_into_stream(self.sessions[session].home, payload, Some((session, msg_id)));
        (session, msg_id)
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
        let (msg_id, payload) = published[published.len() - 1 - back].clone();
        self.put_into_stream(self.sessions[session].home, payload, Some((session, msg_id)));
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

    /// The shard of a session.
    pub fn home_of(&self, session_id: &str) -> usize {
        let partition = Partition::of(session_id.as_bytes(), PARTITIONS);
        usize::from(task_engine::ids::ShardId::of_partition(partition, self.plan.shards).0)
    }
}
