//! What a gateway does with frames of protocol `group`: it keeps lists, forgets some, mistakes versions, and answers by place.

use std::collections::BTreeMap;

use task_engine::model::proto::gateway::group_push::What;
use task_engine::model::proto::gateway::{GroupAnswer, GroupFailure, GroupFrame, PushMessage};
use testkit::frames::{frame, next_frame};

use super::{NOT_CONNECTED, SEND_FAILED};
use crate::simulation::oracle::{Answer, Outcome};
use crate::simulation::plan::{Fault, Mutant};
use crate::simulation::world::World;

impl World {
    pub(super) fn serve_groups(&mut self, at: usize) -> bool {
        let Some(request) = next_frame::<GroupFrame>(&mut self.conns[at].requests) else { return false };
        if self.messages_of(&request).iter().any(|message| self.breaks_at(message)) {
            self.break_handler(at);
            return false;
        }
        let forgets_at_once = self.rng.chance(200);
        if !forgets_at_once {
            self.forget_lists(at);
        }
        for change in request.changes {
            let conn = &mut self.conns[at];
            let is_right = conn.said_groups.change(change.clone()) && conn.groups.change(change);
            assert!(is_right, "changes of lists are as the protocol has them");
        }
        if forgets_at_once {
            self.forget_lists(at);
        }
        let mut answers = Vec::new();
        let mut answer = GroupAnswer { frame_id: request.frame_id, ..Default::default() };
        let mut told = Vec::new();
        for push in &request.pushes {
            let what = push.what.as_ref().expect("a push has a message or a notice");
            let message = &self.message_of(what);
            let notice = self.check_notice(at, what);
            let conn = &mut self.conns[at];
            let said =
                conn.said_groups.users(push.group_id, push.version).expect("a push means a list as it was said last");
            assert!(push.except.is_sorted() && push.except.last().is_none_or(|last| (*last as usize) < said.len()));
            let meant: Vec<_> = (0..).zip(said.to_vec()).filter(|(place, _)| !push.except.contains(place)).collect();
            let Some(users) = conn.groups.users(push.group_id, push.version) else {
                if !answer.unknown_groups.contains(&push.group_id) {
                    answer.unknown_groups.push(push.group_id);
                }
                told.push(0);
                self.know_none(at, &meant, message);
                continue;
            };
            assert!(
                meant.iter().all(|(place, user)| users[*place as usize] == *user),
                "the list is the one that was said"
            );
            told.push(users.len());
            let number = told.len() as u32 - 1;
            if notice.is_some() {
                answer.failures.extend(self.tell_sender(number, &meant, message));
            }
            let meant = meant.into_iter().filter(|(_, name)| notice.is_none() || self.is_told(name, message));
            let meant = meant.collect::<Vec<_>>();
            self.conns[at].notice = notice;
            answer.failures.extend(self.tell_places(at, number, meant, message, &mut answers));
            self.conns[at].notice = None;
        }
        for single in &request.singles {
            assert!(!single.to_usernames.is_empty(), "a push names someone");
            told.push(single.to_usernames.len());
            let meant = (0..).zip(single.to_usernames.iter().cloned()).collect();
            let message = single.message.as_ref().expect("a push has a message");
            let number = told.len() as u32 - 1;
            answer.failures.extend(self.tell_places(at, number, meant, message, &mut answers));
        }
        let is_garbage = self.is_garbage(at, 6);
        if is_garbage {
            self.spoil(&mut answer, &told);
        }
        self.answer_frame(at, &answer, answers, is_garbage);
        true
    }

    fn answer_frame(&mut self, at: usize, answer: &GroupAnswer, answers: Vec<Answer>, is_garbage: bool) {
        if self.plan.mutant != Some(Mutant::NoRoundTrips) {
            return self.answer(at, frame(answer), answers, is_garbage);
        }
        answers.into_iter().for_each(|answer| self.oracle.answered(answer));
        self.oracle.frame_answered(self.conns[at].number, self.now);
    }

    /// The world answers before the gateway has looked at a frame.
    pub fn answer_early(&mut self, at: usize, frame_id: u64) {
        if self.plan.mutant == Some(Mutant::NoRoundTrips) {
            self.answer(at, frame(&GroupAnswer { frame_id, ..Default::default() }), Vec::new(), false);
        }
    }

    /// Lists are forgotten, or their versions are mistaken; by some gateways all the time.
    fn forget_lists(&mut self, at: usize) {
        let forgets_much = self.conns[at].gateway % 3 == 2;
        let is_rough = self.plan.roughness > 0 && !self.is_calm && !self.plan.off.contains(&Fault::Serving);
        let is_often = is_rough && forgets_much && self.rng.chance(300);
        if !is_often && !self.fault(Fault::Serving, 20) {
            return;
        }
        let ids = self.conns[at].groups.ids();
        let picked: Vec<_> = ids.into_iter().filter(|_| self.rng.chance(500)).collect();
        let is_mistaken = self.rng.chance(300);
        let number = self.conns[at].number;
        self.trace.line(self.now, || format!("stream {number}: lists {picked:?} are forgotten ({is_mistaken})"));
        let groups = &mut self.conns[at].groups;
        match is_mistaken {
            true => groups.misremember(|id| picked.contains(&id)),
            false => groups.forget(|id| picked.contains(&id)),
        }
    }

    /// The gateway does not know the list of these users.
    fn know_none(&mut self, at: usize, meant: &[(u32, String)], message: &PushMessage) {
        for (_, name) in meant {
            let (event, user) = self.known(name, message);
            self.oracle.not_known(event, user, self.conns[at].gateway);
        }
    }

    fn tell_places(
        &mut self,
        at: usize,
        push: u32,
        meant: Vec<(u32, String)>,
        message: &PushMessage,
        answers: &mut Vec<Answer>,
    ) -> Vec<GroupFailure> {
        let mut failed: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        let count = meant.len();
        for (place, name) in meant {
            let answer = self.tell(at, &name, message, true);
            answers.push(answer);
            match answer.outcome {
                Outcome::Delivered => {}
                Outcome::NotConnected => failed.entry(NOT_CONNECTED).or_default().push(place),
                Outcome::Other => failed.entry(SEND_FAILED).or_default().push(place),
            }
        }
        let is_all = count > 0 && failed.len() == 1 && failed.values().all(|places| places.len() == count);
        let says_all = is_all && self.rng.chance(500);
        let failures = failed.into_iter().map(|(error, places)| {
            let places = if says_all { Vec::new() } else { places };
            GroupFailure { push, places, error: error.to_owned() }
        });
        failures.collect()
    }

    /// Makes an answer that cannot be.
    fn spoil(&mut self, answer: &mut GroupAnswer, told: &[usize]) {
        let failure = |push, place| GroupFailure { push, places: vec![place], error: "lost".into() };
        match self.rng.below(4) {
            0 => answer.frame_id += 1,
            1 => answer.failures.push(failure(told.len() as u32, 0)),
            2 => answer.unknown_groups.push(u32::MAX),
            _ => answer.failures.push(failure(0, 1 << 20)),
        }
    }
}

/// The messages that a frame brings, or that its notices are about.
impl World {
    fn messages_of(&self, frame: &GroupFrame) -> Vec<PushMessage> {
        let of_pushes = frame.pushes.iter().filter_map(|push| push.what.as_ref()).map(|what| self.message_of(what));
        of_pushes.chain(frame.singles.iter().filter_map(|single| single.message.clone())).collect()
    }

    fn message_of(&self, what: &What) -> PushMessage {
        match what {
            What::Message(message) => message.clone(),
            What::Notice(notice) => {
                let session = self.session_of[&notice.session_id];
                self.oracle.last_of(session, notice.msg_id).message.clone()
            }
        }
    }

    /// What a notice says is the highest sequence, if this is one: only who understands it gets it, and only of what was seen in the store.
    fn check_notice(&mut self, at: usize, what: &What) -> Option<i64> {
        let What::Notice(notice) = what else { return None };
        let gateway = self.conns[at].gateway;
        assert!(self.gateways[gateway].took_notices, "gateway {gateway} never announced notices");
        let session = self.session_of[&notice.session_id];
        let (key, order) = self.oracle.note_notice(session, notice);
        assert!(
            self.is_readable(session, key.1, key.0),
            "a notice of {key:?} (order {order}), whose content was not seen"
        );
        Some(notice.max_seq_id)
    }

    /// Whether the world loses the notice of the last message of its session.
    fn loses(&self, message: &PushMessage) -> bool {
        let session = self.session_of[&message.session_id];
        let order = self.oracle.last_of(session, message.msg_id).order;
        self.plan.mutant == Some(Mutant::LastNoticeLost) && self.is_calm && self.oracle.is_newest(session, order)
    }

    fn is_told(&self, name: &str, message: &PushMessage) -> bool {
        !self.is_no_recipient(name, message) && !self.loses(message)
    }

    fn is_no_recipient(&self, name: &str, message: &PushMessage) -> bool {
        let (event, user) = self.known(name, message);
        !self.oracle.echoes && self.oracle.events[event].sender == Some(user)
    }

    /// The sender gets a notice as well; that it could not be reached says nothing.
    fn tell_sender(&mut self, push: u32, meant: &[(u32, String)], message: &PushMessage) -> Option<GroupFailure> {
        let (place, _) = *meant.iter().find(|(_, name)| self.is_no_recipient(name, message))?;
        let is_gone = self.rng.chance(300);
        is_gone.then(|| GroupFailure { push, places: vec![place], error: NOT_CONNECTED.to_owned() })
    }
}
