//! What a gateway does with what it is sent: it reads the real frames, tells the users that are connected to it, and
//! answers in its protocol; sometimes it answers something that cannot be.

use bytes::Bytes;
use prost::Message;
use task_engine::model::ids::Nanos;
use task_engine::model::proto::gateway::{
    PushBatchRequest, PushBatchResponse, PushMessage, PushMessageRequest, PushMessageResponse, PushRequest,
    PushResponse,
};
use task_engine::ports::Protocol;
use task_engine::push::facts::{CallError, StreamEnd};
use testkit::frames::{frame, next_frame};

mod groups;

use super::events::number_of;
use super::gateways::Reply;
use super::oracle::{Answer, Outcome, Push};
use super::plan::Fault;
use super::world::World;

const NOT_CONNECTED: &str = "user not connected";
const SEND_FAILED: &str = "write tcp: broken pipe";

impl World {
    /// Gateways read and answer.
    pub fn run_gateways(&mut self) {
        for at in 0..self.conns.len() {
            let conn = &self.conns[at];
            let deaf_until: Nanos = self.gateways[conn.gateway].deaf_until;
            if conn.is_over || !conn.is_open || deaf_until > self.now {
                continue;
            }
            let most = if self.is_calm { usize::MAX } else { self.rng.pick(&[0, 1, 3, 10, 500]) };
            let is_strange = self.is_strange(at) && self.conns[at].protocol != Protocol::Unary;
            if is_strange && self.rng.chance(100) {
                // Nobody asked.
                self.answer(
                    at,
                    frame(&PushMessageResponse { msg_id: 1 << 51, ..Default::default() }),
                    Vec::new(),
                    true,
                );
            }
            for _ in 0..most {
                if !self.serve_one(at) {
                    break;
                }
            }
        }
    }

    /// Whether its gateway answers what was not asked.
    fn is_strange(&self, at: usize) -> bool {
        self.gateways[self.conns[at].gateway].strange_until > self.now
    }

    /// Whether this answer is to be none: most are, of a strange gateway.
    fn is_garbage(&mut self, at: usize, thousandths: u64) -> bool {
        let is_strange = self.is_strange(at) && self.rng.chance(900);
        self.fault(Fault::Serving, thousandths) || is_strange
    }

    /// The engine is gone: of what is on the wire, gateways read some, or all, or nothing.
    pub fn let_gateways_read_on(&mut self) {
        for at in 0..self.conns.len() {
            if self.conns[at].is_over || !self.conns[at].is_open {
                continue;
            }
            let most = self.rng.pick(&[0, 1, 5, usize::MAX]);
            (0..most).take_while(|_| self.serve_one(at)).for_each(drop);
        }
    }

    fn serve_one(&mut self, at: usize) -> bool {
        match self.conns[at].protocol {
            Protocol::Group => self.serve_groups(at),
            Protocol::StreamMany => self.serve_many(at),
            Protocol::Stream => self.serve_stream(at),
            Protocol::Batch => self.serve_batch(at),
            Protocol::Unary => self.serve_call(at),
        }
    }

    /// Some messages break the handler, each time.
    fn breaks_at(&self, message: &PushMessage) -> bool {
        let may_break = self.plan.roughness > 1 && !self.is_calm && !self.plan.off.contains(&Fault::Serving);
        may_break && message.msg_id.rem_euclid(31) == 7
    }

    /// The headers go with the first answer: before it, nobody knows who ended the stream.
    fn break_handler(&mut self, at: usize) {
        let end = match self.conns[at].answered_bytes {
            0 => StreamEnd::Unheard("INTERNAL".into()),
            _ => StreamEnd::Broken("INTERNAL".into()),
        };
        self.close(at, end);
    }

    fn serve_stream(&mut self, at: usize) -> bool {
        let Some(request) = next_frame::<PushMessageRequest>(&mut self.conns[at].requests) else { return false };
        let message = request.message.expect("a request has a message");
        if self.breaks_at(&message) {
            self.break_handler(at);
            return false;
        }
        let answer = self.tell(at, &request.to_username, &message, true);
        let error = match answer.outcome {
            Outcome::Delivered => "",
            Outcome::NotConnected => NOT_CONNECTED,
            Outcome::Other => SEND_FAILED,
        };
        let is_garbage = self.is_garbage(at, 3);
        let wrong = if is_garbage { 1 << 50 } else { 0 };
        if is_garbage && self.rng.chance(300) {
            // The right one comes first, and then one too many.
            let right = PushMessageResponse { msg_id: message.msg_id, seq_id: message.seq_id, error: error.into() };
            self.answer(at, frame(&right), vec![answer], false);
            let extra = PushMessageResponse { msg_id: message.msg_id ^ wrong, ..right };
            self.answer(at, frame(&extra), Vec::new(), true);
            return true;
        }
        let response =
            PushMessageResponse { msg_id: message.msg_id ^ wrong, seq_id: message.seq_id, error: error.into() };
        self.answer(at, frame(&response), vec![answer], is_garbage);
        true
    }

    fn serve_many(&mut self, at: usize) -> bool {
        let Some(push) = next_frame::<PushRequest>(&mut self.conns[at].requests) else { return false };
        if push.message.as_ref().is_some_and(|message| self.breaks_at(message)) {
            self.break_handler(at);
            return false;
        }
        let mut answers = Vec::new();
        let mut response = self.serve_push(at, &push, &mut answers);
        let is_garbage = self.is_garbage(at, 6);
        if is_garbage {
            match self.rng.below(2) {
                0 => response.msg_id ^= 1 << 50,
                _ => response.failed_usernames.push("nobody".into()),
            }
        }
        self.answer(at, frame(&response), answers, is_garbage);
        true
    }

    fn serve_batch(&mut self, at: usize) -> bool {
        let Some(request) = next_frame::<PushBatchRequest>(&mut self.conns[at].requests) else { return false };
        if request.pushes.iter().flat_map(|push| &push.message).any(|message| self.breaks_at(message)) {
            self.break_handler(at);
            return false;
        }
        let mut answers = Vec::new();
        let mut failures = Vec::new();
        for push in &request.pushes {
            let response = self.serve_push(at, push, &mut answers);
            if !response.error.is_empty() || !response.failed_usernames.is_empty() {
                failures.push(response);
            }
        }
        let mut batch_id = request.batch_id;
        let is_garbage = self.is_garbage(at, 6);
        if is_garbage {
            let stranger =
                |msg_id| PushResponse { msg_id, error: String::new(), failed_usernames: vec!["nobody".into()] };
            match self.rng.below(3) {
                0 => batch_id += 1,
                1 => failures.push(stranger(1 << 50)),
                _ => {
                    let message = request.pushes[0].message.as_ref().expect("a push has a message");
                    let mut known = stranger(message.msg_id);
                    known.failed_usernames.insert(0, request.pushes[0].to_usernames[0].clone());
                    failures.push(known);
                }
            }
        }
        self.answer(at, frame(&PushBatchResponse { batch_id, failures }), answers, is_garbage);
        true
    }

    fn serve_call(&mut self, at: usize) -> bool {
        if self.conns[at].calls.is_empty() {
            return false;
        }
        let pick = self.rng.below(self.conns[at].calls.len());
        let (call, request) = self.conns[at].calls.swap_remove(pick);
        let gateway = self.conns[at].gateway;
        let code = |code: i32| Err(CallError { code, message: "failed".into() });
        if !self.speaks_unary(gateway) {
            self.conns[at].replies.push(Reply { call, answer: code(12), answers: Vec::new(), is_fatal: true });
            return true;
        }
        let is_not_now = self.gateways[gateway].not_now_until > self.now;
        if is_not_now || self.fault(Fault::Serving, 5) {
            let answer = code(self.rng.pick(&[8, 14, 13]));
            self.conns[at].replies.push(Reply { call, answer, answers: Vec::new(), is_fatal: false });
            return true;
        }
        let mut bytes = request.to_vec();
        let push = next_frame::<PushRequest>(&mut bytes).expect("a call has one frame");
        let mut answers = Vec::new();
        let mut response = self.serve_push(at, &push, &mut answers);
        let mut is_fatal = self.is_garbage(at, 6);
        let answer = match self.rng.below(4) {
            // It failed after it had told some.
            kind @ (0 | 1) if is_fatal => {
                is_fatal = false;
                code([14, 13][kind])
            }
            kind => {
                if is_fatal && kind == 2 {
                    response.msg_id ^= 1 << 50;
                } else if is_fatal {
                    response.failed_usernames = vec![push.to_usernames[0].clone(), "nobody".into()];
                }
                Ok(Bytes::from(response.encode_to_vec()))
            }
        };
        self.conns[at].replies.push(Reply { call, answer, answers, is_fatal });
        true
    }

    fn serve_push(&mut self, at: usize, push: &PushRequest, answers: &mut Vec<Answer>) -> PushResponse {
        let message = push.message.as_ref().expect("a push has a message");
        let mut response = PushResponse { msg_id: message.msg_id, error: String::new(), failed_usernames: Vec::new() };
        assert!(!push.to_usernames.is_empty(), "a push names someone");
        if self.fault(Fault::Serving, 4) {
            response.error = "overloaded".into();
            for name in &push.to_usernames {
                let (event, user) = self.known(name, message);
                self.users[user].is_disturbed = true;
                let gateway = self.conns[at].gateway;
                self.oracle.refuse(event, user, gateway);
                answers.push(Answer { event, user, gateway, outcome: Outcome::Other });
            }
            return response;
        }
        for name in &push.to_usernames {
            let answer = self.tell(at, name, message, false);
            answers.push(answer);
            if answer.outcome != Outcome::Delivered {
                response.failed_usernames.push(name.clone());
            }
        }
        if !response.failed_usernames.is_empty() && self.rng.chance(500) {
            response.error = NOT_CONNECTED.into();
        }
        response
    }

    /// The event and the user that a request names; what was pushed is what was published.
    fn known(&self, name: &str, message: &PushMessage) -> (usize, usize) {
        let session = self.session_of[&message.session_id];
        let event = self.oracle.by_key[&(session, number_of(message))];
        assert_eq!(self.oracle.events[event].message, *message, "the message is the event's");
        let user = *self.user_of.get(name).unwrap_or_else(|| panic!("{name:?} is no user"));
        assert!(self.sessions[session].ever.contains(&user), "user {user} was never in session {session}");
        (event, user)
    }

    fn tell(&mut self, at: usize, name: &str, message: &PushMessage, may_fail: bool) -> Answer {
        let (event, user) = self.known(name, message);
        let (gateway, conn) = (self.conns[at].gateway, self.conns[at].number);
        let is_meant = self.users[user].was_at.contains(&gateway);
        assert!(is_meant, "misdelivery: event {event} came to gateway {gateway} for user {user}, who was never there");
        let is_here = self.users[user].at().has(gateway);
        let outcome = if !is_here || self.fault(Fault::Serving, 8) {
            Outcome::NotConnected
        } else if may_fail && self.fault(Fault::Serving, 8) {
            Outcome::Other
        } else {
            Outcome::Delivered
        };
        self.trace
            .line(self.now, || format!("gateway {gateway}, stream {conn}: event {event} for user {user}: {outcome:?}"));
        if outcome == Outcome::Delivered {
            let is_disturbed = self.users[user].is_disturbed;
            self.oracle.deliver(Push { event, user, gateway, conn, is_disturbed, now: self.now });
            match self.conns[at].notice {
                Some(highest) => self.oracle.told_highest(event, user, gateway, highest),
                None => self.oracle.pushed_in_full(event, user, gateway),
            }
        } else {
            self.users[user].is_disturbed = true;
            self.oracle.refuse(event, user, gateway);
        }
        Answer { event, user, gateway, outcome }
    }

    fn answer(&mut self, at: usize, mut bytes: Vec<u8>, answers: Vec<Answer>, is_garbage: bool) {
        if is_garbage && self.rng.chance(300) {
            bytes[0] = 1;
        }
        let conn = &mut self.conns[at];
        conn.answered_bytes += bytes.len();
        conn.answers.extend(bytes);
        conn.marks.push_back((conn.answered_bytes, answers));
        if is_garbage && conn.garbage_at.is_none() {
            conn.garbage_at = Some(conn.answered_bytes);
        }
    }
}
