//! What a reader of a stream does now and then: report work, look for pulls that are dead, for others that read the same,
//! and whether what stands at the server still brings the events.
//!
//! Promises that what is in work for half of ack_wait is reported; that a stream which does not take the events, a consumer
//! that is paused, and one that was changed or is gone are noticed within [`FIT_LOOK`], with no other sign than that nothing
//! comes. Changes nothing at the server. A consumer through which events must not be read ends the connection; of the others
//! what is in the stream is read all the same.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::JetFeed;
use super::api::{
    AT_ONCE, ApiError, ConsumerInfo, Request, StreamConfig, StreamInfo, code, consumer_info, read, read_one,
    stream_info,
};
use super::calls::BatchNo;
use super::owned::Stage;
use super::usable::{paused, refusal, unfed};
use crate::model::ownership::Break;

/// Slots of a queue's flight that are looked at between two writes.
const SLOTS_AT_ONCE: usize = 4096;
/// Bytes of reports after which a look goes on later.
const REPORT_BYTES: usize = 64 * 1024;
/// How often pulls are looked at that say nothing or end soon, and who else reads; but so often while one stands that lasts long enough.
const SILENCE_LOOK: Duration = Duration::from_secs(1);
const LOOKS_A_PULL: u32 = 8;
/// How often what stands at the server is looked at; while nothing comes, so that what is mended is seen.
const FIT_LOOK: Duration = Duration::from_secs(10);
const UNFED_LOOK: Duration = Duration::from_secs(2);
/// With nothing out and nothing to look at.
const IDLE_LOOK: Duration = Duration::from_secs(3600);

/// A consumer that is asked for, and which opening of it.
type Asked = (usize, u64);

/// Which answer is waited for, to know whether the server's side is as it was.
#[derive(Debug)]
enum Fit {
    Rests,
    Stream(BatchNo),
    Consumers { batch: BatchNo, stream: Box<StreamConfig>, infos: Vec<ConsumerInfo>, all: Vec<Asked> },
}

/// When what is looked at next.
#[derive(Debug)]
pub(super) struct Looks {
    ack_wait: Duration,
    work_at: Instant,
    silence_at: Instant,
    share: Option<BatchNo>,
    fit_at: Instant,
    fit: Fit,
}

impl Looks {
    /// Of a connection that was just opened, with the shortest `ack_wait` of its consumers.
    pub(super) fn new(ack_wait: Duration, now: Instant) -> Self {
        let (work_at, fit_at) = (now, now + FIT_LOOK);
        let silence_at = now + Self::silence_every(ack_wait);
        Self { ack_wait, work_at, silence_at, share: None, fit_at, fit: Fit::Rests }
    }

    fn silence_every(ack_wait: Duration) -> Duration {
        SILENCE_LOOK.min(ack_wait / LOOKS_A_PULL)
    }

    /// No answer comes any more.
    pub(super) fn forget(&mut self) {
        (self.share, self.fit) = (None, Fit::Rests);
    }

    pub(super) fn next_due(&self, is_idle: bool) -> Instant {
        let next = self.silence_at.min(self.fit_at);
        if is_idle { next } else { next.min(self.work_at) }
    }

    /// Looked at ten times in ack_wait: what is not past half now would be past six tenths the next time.
    fn work_every(&self) -> Duration {
        (self.ack_wait / 10).clamp(Duration::from_millis(20), Duration::from_secs(1))
    }
}

impl JetFeed {
    /// Does what is due.
    pub(super) fn look(&mut self, now: Instant) {
        if now >= self.looks.work_at {
            self.looks.work_at = now + self.looks.work_every();
            // What a store that is away holds up is somebody else's to do, if somebody is there.
            if !self.control.has_left() || self.mover.is_some() {
                self.report_work(now);
            }
        }
        self.look_at_holds(now);
        if self.session.is_none() {
            self.looks.silence_at = now + IDLE_LOOK;
            self.looks.fit_at = now + IDLE_LOOK;
            return;
        }
        self.look_at_resume(now);
        self.hear_share(now);
        if now >= self.looks.silence_at {
            self.looks.silence_at = now + Looks::silence_every(self.looks.ack_wait);
            self.look_at_silence(now);
        }
        self.look_at_fit(now);
    }

    fn report_work(&mut self, now: Instant) {
        let millis = self.millis(now);
        let before = millis.saturating_sub((self.looks.ack_wait / 2).as_millis() as u64);
        if self.plan.is_ordered() {
            for consumer in self.flight.due(before) {
                self.flight.progress_in_order(consumer, millis, &mut self.lines);
                if self.lines.bytes() >= REPORT_BYTES {
                    // The others are due still.
                    self.looks.work_at = now;
                    return;
                }
            }
            return;
        }
        let mut from = 0;
        loop {
            from = self.flight.progress(from, SLOTS_AT_ONCE, before, millis, &mut self.lines);
            if from == 0 {
                return;
            }
            if self.lines.bytes() >= REPORT_BYTES {
                self.looks.work_at = now;
                return;
            }
        }
    }

    fn look_at_silence(&mut self, now: Instant) {
        let Some(session) = &mut self.session else { return };
        let mut silent = Vec::new();
        session.look_at_silence(now, |consumer| silent.push(consumer));
        let plan = &self.plan;
        if plan.is_owned {
            return silent.into_iter().for_each(|at| self.broken(at, Break::Silence));
        }
        for consumer in silent {
            let consumer = &plan.consumers[consumer].name;
            tracing::warn!(reader = plan.reader, consumer, "JetStream: a pull stays without a heartbeat; asked again");
        }
        if plan.is_ordered() {
            return self.look_for_others();
        }
        let ask = consumer_info(&plan.stream, &plan.consumers[0].name);
        session.look_at_share(self.flight.out(0));
        self.looks.share = Some(self.begin(&[ask], now));
    }

    pub(super) fn begin(&mut self, requests: &[Request], now: Instant) -> BatchNo {
        let inbox = self.answers_to();
        self.calls.begin(requests, &inbox, (now, self.nats.timeout), &mut self.lines)
    }

    /// How much of a queue's window is out, and how many pulls stand.
    fn hear_share(&mut self, now: Instant) {
        let Some(answers) = self.looks.share.and_then(|batch| self.calls.take(batch, now)) else { return };
        self.looks.share = None;
        let info = read_one::<ConsumerInfo>(answers).ok();
        let (Some(info), Some(session)) = (info, &mut self.session) else { return };
        session.hear_share(info.num_waiting, info.num_ack_pending, self.flight.out(0));
    }

    /// Two that read one partition lose its order.
    fn look_for_others(&mut self) {
        for (at, consumer) in self.plan.consumers.iter().enumerate() {
            let elsewhere = self.flight.take_elsewhere(at);
            if elsewhere > 0
                && let Some(left_out) = self.voices.others.allow()
            {
                tracing::warn!(
                    reader = self.plan.reader,
                    consumer = consumer.name,
                    elsewhere,
                    left_out,
                    "JetStream: events of a partition were delivered to somebody else, so their order is not kept; does \
                     another instance read it?"
                );
            }
        }
    }

    fn look_at_fit(&mut self, now: Instant) {
        match std::mem::replace(&mut self.looks.fit, Fit::Rests) {
            Fit::Rests if now >= self.looks.fit_at => {
                self.looks.fit_at = now + FIT_LOOK;
                let subject = stream_info(&self.plan.stream);
                self.looks.fit = Fit::Stream(self.begin(&[Request { subject, body: String::new() }], now));
            }
            Fit::Rests => {}
            Fit::Stream(batch) => match self.calls.take(batch, now) {
                None => self.looks.fit = Fit::Stream(batch),
                Some(answers) => self.hear_stream(answers, now),
            },
            Fit::Consumers { batch, stream, infos, all } => match self.calls.take(batch, now) {
                None => self.looks.fit = Fit::Consumers { batch, stream, infos, all },
                Some(answers) => self.hear_consumers(answers, stream, (infos, all), now),
            },
        }
    }

    /// An answer that does not come says nothing.
    fn hear_stream(&mut self, answers: Result<Vec<Result<Bytes, ApiError>>, ApiError>, now: Instant) {
        match read_one::<StreamInfo>(answers) {
            Ok(info) => {
                let all = self.plan.read().map(|(at, _)| (at, self.opening(at))).collect();
                self.ask_consumers(Box::new(info.config), (Vec::new(), all), now);
            }
            Err(error) if error.is(code::STREAM_NOT_FOUND) => {
                self.refused.why = Some(format!("stream {} is not there any more", self.plan.stream));
            }
            Err(_) => {}
        }
    }

    /// `all` are the consumers that are read, of which the first so many are known.
    fn ask_consumers(
        &mut self,
        stream: Box<StreamConfig>,
        (infos, all): (Vec<ConsumerInfo>, Vec<Asked>),
        now: Instant,
    ) {
        let left = all.iter().skip(infos.len()).take(AT_ONCE).map(|(at, _)| &self.plan.consumers[*at]);
        let asks: Vec<_> = left.map(|consumer| consumer_info(&self.plan.stream, &consumer.name)).collect();
        if asks.is_empty() {
            self.unfed = unfed(&self.plan, &stream).or_else(|| paused(&self.plan, &infos));
            self.looks.fit_at = now + if self.unfed.is_some() { UNFED_LOOK } else { FIT_LOOK };
            return;
        }
        let batch = self.begin(&asks, now);
        self.looks.fit = Fit::Consumers { batch, stream, infos, all };
    }

    fn hear_consumers(
        &mut self,
        answers: Result<Vec<Result<Bytes, ApiError>>, ApiError>,
        stream: Box<StreamConfig>,
        (mut infos, all): (Vec<ConsumerInfo>, Vec<Asked>),
        now: Instant,
    ) {
        let Ok(answers) = answers else { return };
        for answer in answers {
            let (at, opening) = all[infos.len()];
            let consumer = &self.plan.consumers[at];
            if consumer.name.is_empty() || self.opening(at) != opening {
                // It was closed meanwhile, or is another one: the answer is of no use.
                return;
            }
            match answer.and_then(|bytes| read::<ConsumerInfo>(&bytes)) {
                Ok(info) => match refusal(&self.plan, consumer, &info.config) {
                    Some(why) => return self.refused.why = Some(why),
                    None => infos.push(info),
                },
                Err(error) if error.is(code::CONSUMER_NOT_FOUND) && self.plan.is_owned => {
                    return self.is_gone(at);
                }
                Err(error) if error.is(code::CONSUMER_NOT_FOUND) => {
                    let why =
                        format!("consumer {} of stream {} is not there any more", consumer.name, self.plan.stream);
                    return self.refused.why = Some(why);
                }
                Err(_) => return,
            }
        }
        self.ask_consumers(stream, (infos, all), now);
    }

    fn opening(&self, at: usize) -> u64 {
        self.owned.as_ref().map_or(0, |owned| owned.places[at].opening)
    }

    fn is_gone(&mut self, at: usize) {
        let is_open = self.owned.as_ref().is_some_and(|owned| matches!(owned.places[at].stage, Stage::Open));
        if is_open {
            self.broken(at, Break::Deleted);
        }
    }
}
