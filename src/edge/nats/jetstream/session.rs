//! What is pulled over one connection: how much of each consumer was asked for, and of whom to ask more.

use std::collections::VecDeque;
use std::time::Instant;

use super::pulls::{Ask, Heard, Pulls, Status, Terms};
use super::share::{Ours, Share};

/// The pulls of all consumers of a reader.
#[derive(Debug)]
pub(super) struct Session {
    pulls: Vec<Pulls>,
    /// Consumers to be asked for more, each once.
    hungry: VecDeque<usize>,
    is_listed: Vec<bool>,
    asked: u64,
    /// Of a queue's window.
    share: Share,
    /// The most that we had since the last look at the consumer was asked for; none while none is.
    looking: Option<Ours>,
}

impl Session {
    pub(super) fn new(terms: Vec<Terms>, now: Instant) -> Self {
        let count = terms.len();
        Self {
            pulls: terms.into_iter().map(|terms| Pulls::new(terms, now)).collect(),
            hungry: (0..count).collect(),
            is_listed: vec![true; count],
            asked: 0,
            share: Share::default(),
            looking: None,
        }
    }

    /// How many events may still come.
    pub(super) fn asked(&self) -> u64 {
        self.asked
    }

    /// Whether more is to be asked for.
    pub(super) fn is_hungry(&self) -> bool {
        !self.hungry.is_empty()
    }

    /// An event of a consumer came.
    pub(super) fn delivered(&mut self, consumer: usize, now: Instant) {
        self.change(consumer, |pulls| pulls.delivered(now));
    }

    /// What the server says of a pull.
    pub(super) fn hear(&mut self, consumer: usize, pull: u32, status: &Status, now: Instant) -> Heard {
        if consumer >= self.pulls.len() {
            return Heard::Fine;
        }
        self.change(consumer, |pulls| pulls.hear(pull, status, now))
    }

    /// Pulls for which there is room beside the events that are `out` of a consumer, each handed to `write`.
    pub(super) fn ask(&mut self, now: Instant, out: impl Fn(usize) -> u32, mut write: impl FnMut(Ask)) {
        for _ in 0..self.hungry.len() {
            let Some(consumer) = self.hungry.pop_front() else { return };
            self.is_listed[consumer] = false;
            let out = out(consumer);
            if let Some(ask) = self.change(consumer, |pulls| pulls.ask(consumer as u32, out, now)) {
                write(ask);
            }
        }
    }

    /// Forgets pulls that are over or dead; calls `silent` for each consumer of which nothing is heard.
    pub(super) fn look_at_silence(&mut self, now: Instant, mut silent: impl FnMut(usize)) {
        for consumer in 0..self.pulls.len() {
            let is_silent = self.change(consumer, |pulls| {
                pulls.expire(now);
                pulls.is_silent(now)
            });
            if is_silent {
                silent(consumer);
            }
        }
    }

    /// A look at a queue's consumer is asked for. One that was lost is asked for anew.
    pub(super) fn look_at_share(&mut self, out: u32) {
        self.looking = Some(self.ours(out));
        self.pulls[0].take_made();
    }

    /// The answer; what we had more of meanwhile, before or now, is no sign of others.
    pub(super) fn hear_share(&mut self, waiting: u64, pending: u64, out: u32) {
        let Some(before) = self.looking.take() else { return };
        // A pull that was made meanwhile may have been seen by the look, and may be over by now.
        let pulls = before.pulls + self.pulls[0].take_made();
        let ours = Ours { pulls, events: before.events.max(self.ours(out).events) };
        let window = self.pulls[0].window();
        self.share.look(waiting, pending, ours, window);
        let share = self.share.of(window);
        self.change(0, |pulls| pulls.set_share(share));
    }

    fn ours(&self, out: u32) -> Ours {
        Ours { pulls: self.pulls[0].standing(), events: u64::from(out) + u64::from(self.pulls[0].asked()) }
    }

    /// Changes one consumer's pulls and keeps the sum and the list of the hungry right.
    fn change<T>(&mut self, consumer: usize, change: impl FnOnce(&mut Pulls) -> T) -> T {
        let pulls = &mut self.pulls[consumer];
        let before = u64::from(pulls.asked());
        let result = change(pulls);
        self.asked = self.asked - before + u64::from(pulls.asked());
        if pulls.is_hungry() && !std::mem::replace(&mut self.is_listed[consumer], true) {
            self.hungry.push_back(consumer);
        }
        result
    }
}
