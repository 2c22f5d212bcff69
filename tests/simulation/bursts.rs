//! The last word: a second after the last of many messages each gateway knows its sequence, of each member who is there.
//!
//! Played at the end of calm worlds with notices: to each session many messages come at once, so that newer notices replace those that
//! wait, and then none.

use std::collections::VecDeque;

use task_engine::model::outcome::RecipientOutcome;
use task_engine::model::priority::Priority;

use super::world::{MILLI, World};

const STEPS: usize = 12;
const MESSAGES_A_STEP: usize = 3;
const KNOWN_WITHIN: u64 = 1_000 * MILLI;

impl World {
    /// See the module.
    pub fn play_bursts(&mut self) {
        if self.plan.notice_above() == 0 {
            return;
        }
        let before = self.missed();
        let conflated = self.recipients_ended(RecipientOutcome::Conflated);
        let mut messages = Vec::new();
        for _ in 0..STEPS {
            for session in 0..self.sessions.len() {
                messages.extend((0..MESSAGES_A_STEP).map(|_| self.publish(session)));
            }
            let dt = self.rng.within(0, 3) * MILLI;
            self.step(dt);
        }
        let bound = self.settle_bound();
        self.run_until(bound, "a burst is taken", |world| world.intake.iter().all(VecDeque::is_empty));
        let until = self.now.0 + KNOWN_WITHIN;
        while self.now.0 < until {
            let dt = self.rng.within(1, 20) * MILLI;
            self.step(dt.min(until - self.now.0));
        }
        // What yields, or was refused lately and holds a part of a small window, is told elsewhere or later.
        if self.missed() == before {
            messages.into_iter().for_each(|message| self.check_known(message));
            self.tally.notices.bursts += 1;
            self.tally.notices.conflated_in_bursts += self.recipients_ended(RecipientOutcome::Conflated) - conflated;
        }
        self.run_until(bound, "a burst settles", Self::is_quiet);
    }

    /// Recipients, gateways of recipients at several, and sessions that did not get what others did.
    fn missed(&self) -> [u64; 3] {
        let copies = self.shards.iter().map(|shard| shard.activity().copies_missed).sum();
        [self.troubles(), copies, self.waits_cut()]
    }

    fn check_known(&self, message: (usize, i64)) {
        // What is fleeting may be dropped, as it comes or later; and one protocol after the other takes its time.
        let event = self.oracle.by_key.get(&message).copied();
        let Some(event) = event.filter(|event| self.oracle.events[*event].class != Some(Priority::Fleeting)) else {
            return;
        };
        let sender = self.oracle.events[event].sender.filter(|_| !self.oracle.echoes);
        for user in self.sessions[message.0].members.iter().copied().filter(|user| Some(*user) != sender) {
            for gateway in
                self.users[user].at().iter().filter(|gateway| self.serves(*gateway) && self.speaks_its_best(*gateway))
            {
                assert!(
                    self.oracle.knows_at(event, user, gateway, self.takes_notices(gateway)),
                    "gateway {gateway} does not know of event {event} of session {}, of user {user}, a second after the last message",
                    message.0
                );
            }
        }
    }

    /// How often sessions that were refused were given up so that others could go on.
    pub fn waits_cut(&self) -> u64 {
        self.shards.iter().map(|shard| shard.activity().refused_waits_cut).sum()
    }
}
