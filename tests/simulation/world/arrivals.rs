//! Events are handed to a shard, and what it makes of each is checked at once: taken, a repeat, joined, or given back.

use task_engine::model::limits::REPEAT_WINDOW_AGE;
use task_engine::model::outcome::EventOutcome;
use task_engine::model::priority::{Priority, ShedReason};
use task_engine::model::trace::{EndedTrace, TRACED_PUSHES_MAX};
use task_engine::push::facts::Input;

use super::{Arrival, World};
use crate::simulation::events;

impl World {
    pub(super) fn feed_events(&mut self, shard: usize) {
        if self.is_cut_off {
            return;
        }
        if self.is_crowded {
            return self.feed_crowd(shard);
        }
        let room = match self.retreat_until {
            Some(_) => usize::MAX,
            None => self.shards[shard].room(),
        };
        let room = room.min(1 + self.rng.below(8));
        for _ in 0..room {
            let Some(arrival) = self.intake[shard].pop_front() else { return };
            self.feed_event(shard, arrival);
        }
    }

    pub fn feed_event(&mut self, shard: usize, arrival: Arrival) {
        let number = arrival.tag.number;
        if self.is_past_repeat_window(&arrival) {
            let tag = &mut self.oracle.tags[number as usize];
            (tag.is_taken, tag.is_settled) = (true, true);
            self.broker.entries[tag.entry].is_settled = true;
            return;
        }
        if self.oracle.tags[number as usize].is_taken {
            // Which of its settlements is meant is known only when those so far have been heard.
            self.flush(shard);
        }
        // What waits for a turn has its turn first: what it ends is not this event's.
        while self.shards[shard].has_more() {
            self.flush(shard);
        }
        let entered = self.shards[shard].events_entered();
        self.oracle.tags[number as usize].handed_in();
        self.trace.line(self.now, || format!("event tag {number} {:?}", arrival.key));
        let given_back = self.given_back(shard);
        let shed = self.shed(shard);
        let Some(key) = arrival.key else {
            self.feed(shard, Input::Event { payload: arrival.payload, tag: arrival.tag, said: arrival.said });
            self.bad_taken += u64::from(self.given_back(shard) == given_back);
            return;
        };
        let before = (self.shards[shard].events_in_flight(), self.shards[shard].payload_bytes_in_flight());
        self.feed(shard, Input::Event { payload: arrival.payload.clone(), tag: arrival.tag, said: arrival.said });
        let after = (self.shards[shard].events_in_flight(), self.shards[shard].payload_bytes_in_flight());
        if self.given_back(shard) > given_back {
            self.next_order += 1;
            self.oracle.tags[number as usize].is_turned_away = true;
            return self.oracle.turned_away(key, self.next_order);
        }
        let class = self.class_of(&arrival);
        if self.shed(shard) > shed {
            assert_eq!(class, Some(Priority::Fleeting), "tag {number} {key:?} was dropped as it came");
            return self.oracle.dropped(number as usize, key);
        }
        // Ends do not tell: an older event may end as a new one is taken, and with it the repeats that joined it.
        let is_repeat = self.shards[shard].events_entered() == entered;
        // A repeat that joins is in flight, and holds no bytes.
        let has_joined = is_repeat && after.0 > before.0 && after.1 == before.1;
        let known = self.oracle.by_key.get(&key).copied().filter(|event| self.oracle.is_of_this_engine(*event));
        let has_id = events::has_id(&arrival.payload);
        if has_joined {
            let is_in_flight = known.is_some_and(|event| !self.oracle.events[event].is_settled);
            return assert!(is_in_flight, "tag {number} {key:?} joined nothing");
        }
        if is_repeat {
            assert!(has_id, "tag {number} {key:?} ended as a repeat and has no id");
            return assert!(known.is_some(), "tag {number} {key:?} ended as a repeat and is none");
        }
        let must_be_known = has_id && known.is_some_and(|event| self.oracle.must_be_known(event));
        assert!(!must_be_known, "tag {number} {key:?} is a repeat and was taken as a new event");
        self.note_event(key, &arrival);
    }

    /// Events that the shard dropped as they came.
    fn shed(&self, shard: usize) -> u64 {
        self.shards[shard].by_class().events_shed[ShedReason::Shard as usize]
    }

    /// The class of an event, unless the size of its session decides that.
    fn class_of(&self, arrival: &Arrival) -> Option<Priority> {
        let kind = events::message_of(&arrival.payload).r#type;
        self.plan.priorities().of_event(arrival.said, kind.as_bytes())
    }

    fn given_back(&self, shard: usize) -> u64 {
        self.shards[shard].counts().events_ended[EventOutcome::GivenBack as usize]
    }

    /// A repeat so late that it counts as a new event: the world's publishers do not send it, so that a key is one
    /// event.
    fn is_past_repeat_window(&self, arrival: &Arrival) -> bool {
        let known = arrival.key.and_then(|key| self.oracle.by_key.get(&key)).map(|event| &self.oracle.events[*event]);
        known.is_some_and(|event| event.is_settled && self.now.since(event.settled_at) >= REPEAT_WINDOW_AGE)
    }

    pub fn note_event(&mut self, key: (usize, i64), arrival: &Arrival) {
        self.next_order += 1;
        let mut message = events::message_of(&arrival.payload);
        if !self.plan.echoes() {
            message.from_device.clear();
        }
        if !self.plan.traces() {
            message.trace_headers.clear();
        }
        message.trace_headers.retain(|_, parent| parent == events::SAMPLED);
        let sender = self.user_of.get(&message.from_username).copied();
        let event = self.oracle.take_event(key, message, sender, self.next_order, self.now);
        self.oracle.events[event].class = self.class_of(arrival);
        let take = self.oracle.events[event].take;
        self.oracle.tags[arrival.tag.number as usize].event = Some((event, take));
    }

    /// What is told of an event nests in time and is bounded.
    pub fn check_told(&self, told: &EndedTrace) {
        assert!(self.plan.traces(), "nobody wants to know");
        let (members_known, routes_known) = told.resolved.unwrap_or((told.arrived, told.arrived));
        let mut times = vec![told.arrived, members_known, routes_known, told.ended_at];
        assert!(times.is_sorted(), "{told:?}");
        for push in &told.pushes {
            times =
                vec![routes_known, push.made_at, push.written_at.unwrap_or(push.made_at), push.ended_at, told.ended_at];
            assert!(times.is_sorted() && push.missed <= push.recipients, "{told:?}");
        }
        assert!(told.pushes.len() <= TRACED_PUSHES_MAX && told.ended_at <= self.now, "{told:?}");
    }
}
