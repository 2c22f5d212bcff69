//! What the core is told of the streams that it dialled: opened or not, taken, answered in pieces of any length, closed.

use bytes::Bytes;
use task_engine::ports::Protocol;
use task_engine::push::facts::{Input, StreamEnd, StreamFact};

use super::Dialled;
use crate::simulation::plan::{Fault, Mutant};
use crate::simulation::world::World;

impl World {
    /// Facts about the streams of a shard.
    pub fn feed_streams(&mut self, shard: usize) {
        for at in 0..self.conns.len() {
            if self.conns[at].shard == shard && !self.conns[at].is_over {
                self.feed_stream(at);
            }
        }
    }

    fn feed_stream(&mut self, at: usize) {
        let conn = &self.conns[at];
        let gateway = &self.gateways[conn.gateway];
        if !conn.is_open {
            if conn.ready_at <= self.now {
                self.feed_dialled(at);
            }
            return;
        }
        if conn.dialled == Dialled::OpensUnimplemented && self.rng.chance(300) {
            return self.close(at, StreamEnd::Unimplemented);
        }
        // A response that has begun goes on.
        let is_new = conn.fed_bytes == 0 && conn.answers.is_empty() && conn.protocol != Protocol::Unary;
        if gateway.not_now_until > self.now && is_new {
            let end = match self.rng.below(2) {
                0 => StreamEnd::NotOpened("gRPC status 14".into()),
                _ => StreamEnd::Unheard("gRPC status 13".into()),
            };
            return self.close(at, end);
        }
        if gateway.mute_until > self.now || gateway.deaf_until > self.now {
            return;
        }
        if self.fault(Fault::Gateways, 10) {
            let (number, input) = (self.conns[at].number, self.conns[at].fact(StreamFact::GoingAway));
            self.trace.line(self.now, || format!("stream {number}: its connection takes no new ones"));
            self.feed(self.conns[at].shard, input);
            if is_new && self.rng.chance(300) {
                return self.close(at, StreamEnd::NotOpened("the goodbye crossed the request".into()));
            }
        }
        self.feed_taken(at);
        if self.conns[at].protocol == Protocol::Unary {
            self.feed_replies(at);
        } else {
            self.feed_answers(at);
        }
        let conn = &self.conns[at];
        let is_all_answered = conn.requests.is_empty() && conn.calls.is_empty() && conn.replies.is_empty();
        if conn.is_half_closed && is_all_answered && conn.answers.is_empty() && !conn.must_be_cut {
            self.close(at, StreamEnd::Finished);
        }
    }

    fn feed_dialled(&mut self, at: usize) {
        match self.conns[at].dialled {
            Dialled::Refused => self.close(at, StreamEnd::NotOpened("refused".into())),
            Dialled::Unimplemented => self.close(at, StreamEnd::Unimplemented),
            Dialled::Opens | Dialled::OpensUnimplemented => {
                self.conns[at].is_open = true;
                let (shard, input) = (self.conns[at].shard, self.conns[at].fact(StreamFact::Opened));
                self.feed(shard, input);
            }
        }
    }

    fn feed_taken(&mut self, at: usize) {
        let most = self.conns[at].untaken;
        let taken = if self.is_calm { most } else { self.rng.below(most + 1) };
        if taken > 0 {
            self.conns[at].untaken -= taken;
            let (shard, input) = (self.conns[at].shard, self.conns[at].fact(StreamFact::Taken(taken)));
            self.feed(shard, input);
        }
    }

    fn feed_answers(&mut self, at: usize) {
        while !self.conns[at].answers.is_empty() {
            let most = self.conns[at].answers.len();
            let length = if self.is_calm || self.rng.chance(400) { most } else { 1 + self.rng.below(most) };
            let conn = &mut self.conns[at];
            let piece = Bytes::from(conn.answers.drain(..length).collect::<Vec<_>>());
            conn.fed_bytes += length;
            let (shard, input) = (conn.shard, conn.fact(StreamFact::Answers(piece)));
            self.feed_answer(shard, input);
            let conn = &mut self.conns[at];
            let mut all = Vec::new();
            while conn.marks.front().is_some_and(|(end, _)| *end <= conn.fed_bytes) {
                let (end, answers) = conn.marks.pop_front().expect("looked at above");
                if conn.garbage_at.is_none_or(|garbage| end < garbage) {
                    if self.plan.mutant != Some(Mutant::NoRoundTrips) {
                        self.oracle.frame_answered(conn.number, self.now);
                    }
                    all.extend(answers);
                }
            }
            self.oracle.all_answered(all);
            conn.must_be_cut |= conn.garbage_at.is_some_and(|garbage| conn.fed_bytes >= garbage);
            if self.rng.chance(500) && !self.is_calm {
                return;
            }
        }
    }

    /// How many of the recipients that it is about had ended before.
    fn feed_answer(&mut self, shard: usize, input: Input) {
        let before = self.shards[shard].activity().answered_late;
        self.feed(shard, input);
        self.oracle.late_answers = self.shards[shard].activity().answered_late - before;
    }

    fn feed_replies(&mut self, at: usize) {
        while !self.conns[at].replies.is_empty() && (self.is_calm || self.rng.chance(700)) {
            let pick = self.rng.below(self.conns[at].replies.len());
            let conn = &mut self.conns[at];
            let reply = conn.settle_unimplemented(pick);
            let is_ok = reply.answer.is_ok();
            let fact = StreamFact::CallAnswered { call: reply.call, answer: reply.answer };
            let (shard, input) = (conn.shard, conn.fact(fact));
            self.feed_answer(shard, input);
            let conn = &mut self.conns[at];
            conn.must_be_cut |= reply.is_fatal;
            if !conn.must_be_cut {
                let oracle = &mut self.oracle;
                let note = |answer| if is_ok { oracle.answered(answer) } else { oracle.denied(answer) };
                reply.answers.into_iter().for_each(note);
            }
        }
    }
}
