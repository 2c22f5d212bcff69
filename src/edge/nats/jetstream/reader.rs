//! The reader of a JetStream connection: events into the lanes in order, statuses to the pulls, and new pulls.
//!
//! Promises that it never waits for a lane with events unread behind it: what came is noted at once, so that its work
//! is reported to the server while it waits, and that nothing is asked for as long as something waits for its lane.

#![expect(
    clippy::disallowed_methods,
    reason = "the reader's thread: a full lane makes it wait, which is the backpressure"
)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};

use super::ack_subject;
use super::api::ConsumerInfo;
use super::connect::Arrival;
use super::desk::Desk;
use super::flight::Places;
use super::pulls::{Heard, Pulls, Terms};
use super::share::{self, Ours, Share};
use super::writer::Wanted;
use crate::edge::nats::link::{Feed, FeedState, PulledOver};
use crate::ports::{DeliveryTag, Intake};
use crate::telemetry::log_limiter::LogLimiter;

/// Arrivals taken in with one lock.
const BURST: usize = 512;
/// The waits of a reader that has nothing to take: for a lane, for room in the window, for nothing.
const LANE_LOOK: Duration = Duration::from_millis(1);
const ROOM_LOOK: Duration = Duration::from_millis(4);
const IDLE_LOOK: Duration = Duration::from_millis(100);
/// How often pulls are looked at that say nothing.
const SILENCE_LOOK: Duration = Duration::from_secs(1);

/// Reads until the keeper gives no more connections, then hands in the rest.
pub(in crate::edge::nats) fn run(intake: &Intake, desk: &Desk, feeds: &Receiver<Feed>) {
    let mut hand =
        Hand { intake, desk, waiting: VecDeque::new(), stray: LogLimiter::default(), others: LogLimiter::default() };
    for mut feed in feeds {
        if let Some(PulledOver { terms, asks, found }) = feed.take_pulls() {
            let mut reading = Reading::new(&mut hand, terms, asks);
            reading.arrivals = found;
            // Never reported as in work, so that they are at once.
            reading.take_in(Instant::now(), 0);
            reading.run(&mut feed);
        }
        hand.put_all();
    }
}

/// Events that are noted and not in their lanes.
struct Hand<'a> {
    intake: &'a Intake,
    desk: &'a Desk,
    waiting: VecDeque<(Bytes, DeliveryTag)>,
    stray: LogLimiter,
    others: LogLimiter,
}

impl Hand<'_> {
    /// Puts in what the lanes take.
    fn put(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut burst = self.intake.burst();
        while let Some((payload, tag)) = self.waiting.pop_front() {
            // A refusal is counted where it is made; the event stays noted and is given back at the end.
            let put = match self.desk.plan.own {
                Some(shard) => burst.try_put_to(shard, payload, tag),
                None => burst.try_put(payload, tag),
            };
            if let Err(payload) = put {
                self.waiting.push_front((payload, tag));
                return;
            }
        }
    }

    fn put_all(&mut self) {
        loop {
            self.put();
            if self.waiting.is_empty() {
                return;
            }
            std::thread::sleep(LANE_LOOK);
        }
    }
}

/// One connection's reading.
struct Reading<'a, 'b> {
    hand: &'a mut Hand<'b>,
    asks: Sender<Wanted>,
    pulls: Vec<Pulls>,
    /// Consumers to be asked for more, each once.
    hungry: VecDeque<usize>,
    is_listed: Vec<bool>,
    asked: u64,
    arrivals: Vec<Arrival>,
    looked: Instant,
    /// Of a queue's window.
    share: Share,
    /// The most that we had since the last look at the consumer was asked for; none while none is.
    looking: Option<Ours>,
    trouble: Option<String>,
}

impl<'a, 'b> Reading<'a, 'b> {
    fn new(hand: &'a mut Hand<'b>, terms: Vec<Terms>, asks: Sender<Wanted>) -> Self {
        let (now, count) = (Instant::now(), terms.len());
        Self {
            hand,
            asks,
            pulls: terms.into_iter().map(|terms| Pulls::new(terms, now)).collect(),
            hungry: (0..count).collect(),
            is_listed: vec![true; count],
            asked: 0,
            arrivals: Vec::with_capacity(BURST),
            looked: now,
            share: Share::default(),
            looking: None,
            trouble: None,
        }
    }

    fn run(mut self, feed: &mut Feed) {
        loop {
            let arrivals = &mut self.arrivals;
            let moved = feed.take_arrivals(BURST, |arrival| arrivals.push(arrival));
            let now = Instant::now();
            if moved > 0 {
                self.take_in(now, self.hand.desk.now());
            }
            self.hand.put();
            if self.hand.waiting.is_empty() && !self.hand.desk.is_leaving() {
                self.ask(now);
            }
            if now.saturating_duration_since(self.looked) >= SILENCE_LOOK {
                self.looked = now;
                self.look_at_silence(now);
            }
            if let Some(why) = self.trouble.take() {
                feed.progress.lose(why);
            }
            self.hand.desk.set_asked(self.asked, moved as u64);
            let wait = match (self.hand.waiting.is_empty(), self.hungry.is_empty()) {
                (false, _) => LANE_LOOK,
                (true, false) => ROOM_LOOK,
                (true, true) => IDLE_LOOK,
            };
            if moved == 0 && feed.wait(wait) == FeedState::Over {
                self.hand.desk.set_asked(0, 0);
                return;
            }
        }
    }

    /// Notes what came, with one lock.
    fn take_in(&mut self, now: Instant, millis: u64) {
        let desk = self.hand.desk;
        let mut arrivals = std::mem::take(&mut self.arrivals);
        let (mut flight, mut places) = (desk.flight(), Places::default());
        for arrival in arrivals.drain(..) {
            let Arrival { subject, reply, data, status } = arrival;
            if let Some(status) = status {
                self.hear(&subject, &status, now);
                continue;
            }
            if reply.is_none() && subject.ends_with(share::LOOK) {
                let out = u64::from(flight.out(0));
                self.hear_look(&data, out);
                continue;
            }
            let known = reply.as_deref().and_then(ack_subject::parse).and_then(|(stream, consumer, delivery)| {
                let is_ours = stream == desk.plan.stream;
                desk.plan.consumer(consumer).filter(|_| is_ours).map(|consumer| (consumer, delivery))
            });
            if let Some((_, delivery)) = known.filter(|(_, delivery)| delivery.deliveries > 1) {
                desk.note_comes_again(delivery.stream_sequence);
            }
            let (Some((consumer, delivery)), Some(reply)) = (known, reply) else {
                if let Some(left_out) = self.hand.stray.allow() {
                    tracing::warn!(
                        subject,
                        left_out,
                        "JetStream: received a message that is not a task-engine event; left alone"
                    );
                }
                continue;
            };
            let is_planned = subject == desk.plan.consumers[consumer].filter;
            let subject = (!is_planned).then(|| subject.into_boxed_str());
            if let Some(number) = flight.insert(consumer, &delivery, (reply, subject), millis, &mut places) {
                let tag = DeliveryTag { reader: desk.plan.reader, number };
                self.hand.waiting.push_back((Bytes::from(data), tag));
            }
            self.change(consumer, |pulls| pulls.delivered(now));
        }
        drop(flight);
        self.arrivals = arrivals;
    }

    /// The status of a pull; its subject ends with the consumer and the pull.
    fn hear(&mut self, subject: &str, status: &super::pulls::Status, now: Instant) {
        let mut tokens = subject.rsplit('.').map(str::parse::<u32>);
        let (Some(Ok(id)), Some(Ok(consumer))) = (tokens.next(), tokens.next()) else { return };
        if consumer as usize >= self.pulls.len() {
            return;
        }
        if let Heard::Lost(why) = self.change(consumer as usize, |pulls| pulls.hear(id, status, now)) {
            let name = &self.hand.desk.plan.consumers[consumer as usize].name;
            self.trouble = Some(format!("consumer {name}: {why}"));
        }
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

    fn ask(&mut self, now: Instant) {
        for _ in 0..self.hungry.len() {
            let Some(consumer) = self.hungry.pop_front() else { return };
            self.is_listed[consumer] = false;
            let out = self.hand.desk.flight().out(consumer);
            let asks = self.asks.clone();
            self.change(consumer, |pulls| {
                if let Some(ask) = pulls.ask(consumer as u32, out, now)
                    && asks.try_send(Wanted::Pull(ask)).is_err()
                {
                    pulls.unsaid(ask);
                }
            });
        }
    }

    fn look_at_silence(&mut self, now: Instant) {
        let plan = &self.hand.desk.plan;
        for consumer in 0..self.pulls.len() {
            let is_silent = self.change(consumer, |pulls| {
                pulls.expire(now);
                pulls.is_silent(now)
            });
            if is_silent {
                let consumer = &plan.consumers[consumer].name;
                tracing::warn!(
                    reader = plan.reader,
                    consumer,
                    "JetStream: a pull stays without a heartbeat; asked again"
                );
            }
        }
        match plan.is_ordered() {
            true => self.look_for_others(),
            false => self.look_at_share(),
        }
    }

    /// Two that read one partition lose its order.
    fn look_for_others(&self) {
        let plan = &self.hand.desk.plan;
        for (at, consumer) in plan.consumers.iter().enumerate() {
            let elsewhere = self.hand.desk.flight().take_elsewhere(at);
            if elsewhere > 0
                && let Some(left_out) = self.hand.others.allow()
            {
                tracing::warn!(
                    reader = plan.reader,
                    consumer = consumer.name,
                    elsewhere,
                    left_out,
                    "JetStream: events of a partition were delivered to somebody else, so their order is not kept; does \
                     another instance read it?"
                );
            }
        }
    }

    /// Has the writer ask how much of a queue's window is out, and how many pulls stand.
    fn look_at_share(&mut self) {
        let ours = self.ours(u64::from(self.hand.desk.flight().out(0)));
        self.pulls[0].take_made();
        // A look that was lost is asked for anew.
        if self.asks.try_send(Wanted::Look).is_ok() {
            self.looking = Some(ours);
        }
    }

    fn ours(&self, out: u64) -> Ours {
        Ours { pulls: self.pulls[0].standing(), events: out + u64::from(self.pulls[0].asked()) }
    }

    /// The answer; what we had more of meanwhile, before or now, is no sign of others.
    fn hear_look(&mut self, answer: &[u8], out: u64) {
        let (Some(before), Ok(info)) = (self.looking.take(), serde_json::from_slice::<ConsumerInfo>(answer)) else {
            return;
        };
        // A pull that was made meanwhile may have been seen by the look, and may be over by now.
        let pulls = before.pulls + self.pulls[0].take_made();
        let ours = Ours { pulls, events: before.events.max(self.ours(out).events) };
        let window = self.pulls[0].window();
        self.share.look(info.num_waiting, info.num_ack_pending, ours, window);
        let share = self.share.of(window);
        self.change(0, |pulls| pulls.set_share(share));
    }
}
