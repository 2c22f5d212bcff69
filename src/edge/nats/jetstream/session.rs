//! What is pulled over one connection: how much of each consumer was asked for, and of whom to ask more.

use std::collections::VecDeque;
use std::time::Instant;

use super::pulls::{Ask, Heard, Pulls, Status, Terms};
use super::share::{Ours, Share};

/// The pulls of all consumers of a reader.
#[derive(Debug)]
pub(super) struct Session {
    /// None: it is not read.
    pulls: Vec<Option<Pulls>>,
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
            pulls: terms.into_iter().map(|terms| Some(Pulls::new(terms, now))).collect(),
            hungry: (0..count).collect(),
            is_listed: vec![true; count],
            asked: 0,
            share: Share::default(),
            looking: None,
        }
    }

    /// Of so many consumers, none of which is read yet.
    pub(super) fn of_none(consumers: usize) -> Self {
        Self {
            pulls: (0..consumers).map(|_| None).collect(),
            hungry: VecDeque::new(),
            is_listed: vec![false; consumers],
            asked: 0,
            share: Share::default(),
            looking: None,
        }
    }

    /// A consumer is read from now on.
    pub(super) fn open(&mut self, consumer: usize, terms: Terms, now: Instant) {
        self.close(consumer);
        self.pulls[consumer] = Some(Pulls::new(terms, now));
        if !std::mem::replace(&mut self.is_listed[consumer], true) {
            self.hungry.push_back(consumer);
        }
    }

    /// Nothing more is asked of a consumer, and nothing that was asked is waited for.
    pub(super) fn close(&mut self, consumer: usize) {
        if let Some(pulls) = self.pulls[consumer].take() {
            self.asked -= u64::from(pulls.asked());
        }
    }

    /// Whether something was asked of a consumer since it is read.
    pub(super) fn has_asked(&self, consumer: usize) -> bool {
        self.pulls[consumer].as_ref().is_some_and(|pulls| pulls.asked() > 0)
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
        self.change(consumer, |pulls| pulls.hear(pull, status, now)).unwrap_or(Heard::Fine)
    }

    /// Pulls for which there is room beside the events that are `out` of a consumer, each handed to `write`.
    pub(super) fn ask(&mut self, now: Instant, out: impl Fn(usize) -> u32, mut write: impl FnMut(Ask)) {
        for _ in 0..self.hungry.len() {
            let Some(consumer) = self.hungry.pop_front() else { return };
            self.is_listed[consumer] = false;
            let out = out(consumer);
            if let Some(Some(ask)) = self.change(consumer, |pulls| pulls.ask(consumer as u32, out, now)) {
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
            if is_silent == Some(true) {
                silent(consumer);
            }
        }
    }

    /// A look at a queue's consumer is asked for. One that was lost is asked for anew.
    pub(super) fn look_at_share(&mut self, out: u32) {
        let Some(Some(pulls)) = self.pulls.first_mut() else { return };
        self.looking = Some(ours(pulls, out));
        pulls.take_made();
    }

    /// The answer; what we had more of meanwhile, before or now, is no sign of others.
    pub(super) fn hear_share(&mut self, waiting: u64, pending: u64, out: u32) {
        let (Some(before), Some(Some(pulls))) = (self.looking.take(), self.pulls.first_mut()) else { return };
        // A pull that was made meanwhile may have been seen by the look, and may be over by now.
        let made = before.pulls + pulls.take_made();
        let ours = Ours { pulls: made, events: before.events.max(ours(pulls, out).events) };
        let window = pulls.window();
        self.share.look(waiting, pending, ours, window);
        let share = self.share.of(window);
        self.change(0, |pulls| pulls.set_share(share));
    }

    /// Changes one consumer's pulls, if it is read, and keeps the sum and the list of the hungry right.
    fn change<T>(&mut self, consumer: usize, change: impl FnOnce(&mut Pulls) -> T) -> Option<T> {
        let pulls = self.pulls[consumer].as_mut()?;
        let before = u64::from(pulls.asked());
        let result = change(pulls);
        self.asked = self.asked - before + u64::from(pulls.asked());
        if pulls.is_hungry() && !std::mem::replace(&mut self.is_listed[consumer], true) {
            self.hungry.push_back(consumer);
        }
        Some(result)
    }
}

fn ours(pulls: &Pulls, out: u32) -> Ours {
    Ours { pulls: pulls.standing(), events: u64::from(out) + u64::from(pulls.asked()) }
}
