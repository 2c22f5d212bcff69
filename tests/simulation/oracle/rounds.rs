//! At most one notice of a session is under way to a gateway: the next one is written when that is answered.
//!
//! Looked at where frames are written, in worlds without faults, for sessions whose members stay where they are, and where the shard of
//! the session owns the stream: what it knows is then known here. Before a gateway has answered the first notice the engine does not know
//! whether it takes them; what is pushed in full sends what waits before it; and nothing waits longer than its part of the delivery
//! timeout.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use task_engine::model::ids::Nanos;
use task_engine::model::limits::NOTICE_WAIT_PART;
use task_engine::model::priority::Priority;
use task_engine::model::proto::gateway::GroupFrame;
use task_engine::model::proto::gateway::group_push::What;
use task_engine::ports::Protocol;
use testkit::frames::next_frame;

use super::{Event, Oracle};
use crate::simulation::world::World;

/// A notice that is under way for longer is not looked at: its event may have waited for its content, and others meanwhile for nothing.
const LOOKED_AT_WITHIN: Duration = Duration::from_millis(100);

/// By the number of the stream.
#[derive(Debug, Default)]
pub struct Rounds(HashMap<usize, OnStream>);

/// Frames without an answer: of each push to a session its event, or none when it was in full.
#[derive(Debug, Default)]
struct OnStream {
    frames: VecDeque<Vec<(usize, Option<usize>)>>,
    sessions: HashMap<usize, Round>,
}

#[derive(Debug, Default)]
struct Round {
    /// Since when the gateway is known to take notices of the session.
    taker_since: Option<Nanos>,
    /// The events of notices without an answer.
    under_way: Vec<usize>,
}

impl Oracle {
    /// The answer to the oldest frame of a stream was read.
    pub fn frame_answered(&mut self, stream: usize, now: Nanos) {
        let Some(stream) = self.notices.rounds.0.get_mut(&stream) else { return };
        for (session, event) in stream.frames.pop_front().into_iter().flatten() {
            let round = stream.sessions.entry(session).or_default();
            match event {
                Some(event) => {
                    let place = round.under_way.iter().position(|other| *other == event);
                    if let Some(place) = place {
                        round.under_way.swap_remove(place);
                    }
                    round.taker_since.get_or_insert(now);
                }
                None => round.taker_since = None,
            }
        }
    }

    fn write(&mut self, stream: usize, session: usize, event: Option<usize>) {
        let stream = self.notices.rounds.0.entry(stream).or_default();
        stream.frames.back_mut().expect("a frame was begun").push((session, event));
        let round = stream.sessions.entry(session).or_default();
        match event {
            Some(event) => round.under_way.push(event),
            None => round.taker_since = None,
        }
    }

    /// The notice that one of this event would be the second beside, if the gateway is known to take them.
    fn round_of(&self, stream: usize, session: usize, event: usize) -> Option<Option<usize>> {
        let round = self.notices.rounds.0.get(&stream)?.sessions.get(&session)?;
        let since = round.taker_since?;
        let is_known = self.events[event].arrived > since;
        is_known.then(|| round.under_way.iter().copied().find(|other| *other != event))
    }

    /// The event of its session that was taken next.
    fn after(&self, event: usize) -> Option<&Event> {
        let Event { session, order, .. } = self.events[event];
        let later = self.events.iter().filter(|other| other.session == session && other.order > order);
        later.min_by_key(|other| other.order)
    }
}

impl World {
    /// Frames are written to a stream.
    pub fn note_written(&mut self, at: usize, chunk: &Bytes) {
        if self.plan.notice_above() == 0 || self.conns[at].protocol != Protocol::Group {
            return;
        }
        let stream = self.conns[at].number;
        let mut bytes = chunk.to_vec();
        while let Some(frame) = next_frame::<GroupFrame>(&mut bytes) {
            self.oracle.notices.rounds.0.entry(stream).or_default().frames.push_back(Vec::new());
            let mut in_full = Vec::new();
            for what in frame.pushes.iter().filter_map(|push| push.what.as_ref()) {
                match what {
                    What::Message(message) => in_full.push(self.session_of[&message.session_id]),
                    What::Notice(notice) => {
                        let session = self.session_of[&notice.session_id];
                        let event = self.oracle.place_of(session, notice.msg_id);
                        self.check_round(at, session, event);
                        self.oracle.write(stream, session, Some(event));
                    }
                }
            }
            let singles = frame.singles.iter().filter_map(|single| single.message.as_ref());
            in_full.extend(singles.map(|message| self.session_of[&message.session_id]));
            in_full.into_iter().for_each(|session| self.oracle.write(stream, session, None));
            self.answer_early(at, frame.frame_id);
        }
    }

    fn check_round(&mut self, at: usize, session: usize, event: usize) {
        let (stream, shard) = (self.conns[at].number, self.conns[at].shard);
        let known = &self.sessions[session];
        let are_at_rest = known.members.iter().all(|user| !self.users[*user].is_disturbed) && known.changed.is_empty();
        let is_watched =
            self.plan.roughness == 0 && known.home == shard && known.members.len() > self.plan.notice_above();
        // To whoever is alone there what he sends himself is not sent, and takes no place.
        let gateway = self.conns[at].gateway;
        let here = known.members.iter().filter(|user| self.users[**user].at().has(gateway)).count();
        let is_watched = is_watched && here > 1;
        if !is_watched || !are_at_rest || self.oracle.has_restarted() {
            return;
        }
        let Some(under_way) = self.oracle.round_of(stream, session, event) else { return };
        self.tally.notices.rounds += 1;
        let Some(older) = under_way else { return };
        let waited = self.now.since(self.oracle.events[older].arrived);
        // What waited was the newest: a notice after it would have taken its place.
        let sends_all = self.oracle.after(event).is_some_and(|later| self.is_in_full(later));
        assert!(
            sends_all || waited >= LOOKED_AT_WITHIN.min(self.plan.delivery_timeout / NOTICE_WAIT_PART),
            "two notices of session {session} are under way on stream {stream}: of event {event}, and of event {older}, which came \
             {waited:?} ago"
        );
    }

    /// Whether it is pushed in full, whatever its gateway takes.
    fn is_in_full(&self, event: &Event) -> bool {
        let message = &event.message;
        let is_of_class = !matches!(event.class, Some(Priority::Urgent | Priority::Fleeting));
        let is_kept = self.is_content_kept(event.session, message.seq_id, message.msg_id);
        !is_of_class || !is_kept || message.msg_id == 0 || event.take > 0
    }
}
