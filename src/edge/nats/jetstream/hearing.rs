//! What comes over a JetStream connection: events, words on pulls, answers, advisories, refusals.

use std::time::Instant;

use bytes::Bytes;

use super::ack_subject;
use super::api::ApiError;
use super::flight::Came;
use super::given_up;
use super::owned::{Of, Stage};
use super::pulls::{Heard as HeardOfPull, Status};
use super::rights;
use super::{ADVISORIES, ANSWERS, JetFeed, PUBLISHED, PULLS, READ_BACK};
use crate::edge::nats::connection::Heard;
use crate::edge::nats::protocol::{ErrorKind, Headers, Marks, Message, ServerError, published};
use crate::edge::nats::server;
use crate::model::ownership::Break;
use crate::ports::DeliveryTag;
use crate::push::facts::Input;

/// Events that are known to be settled, told at once.
const KNOWN_AT_ONCE: usize = 256;
/// Refused acks that are remembered until their event comes again.
const REFUSED_ACKS_KEPT: usize = 1 << 16;

impl JetFeed {
    pub(super) fn hear(&mut self, chunk: &Bytes, heard: Heard<'_>, now: Instant) {
        match heard {
            Heard::Message(message) => match message.sid {
                ANSWERS => self.hear_answer(chunk, &message),
                PUBLISHED => {
                    let now = self.nanos(now);
                    self.mover.iter_mut().for_each(|mover| mover.hear(&message, now));
                }
                READ_BACK => self.mover.iter_mut().for_each(|mover| mover.hear_back(&message)),
                ADVISORIES => given_up::hear(message.payload, &self.plan, &self.intake, &self.voices.given_up),
                PULLS => self.hear_pulled(chunk, &message, now),
                _ => self.hear_owned(chunk, &message, now),
            },
            Heard::Refused(error) => self.hear_refusal(&error),
            Heard::LameDuck => self.is_moving = true,
        }
    }

    fn hear_answer(&mut self, chunk: &Bytes, message: &Message<'_>) {
        let number =
            std::str::from_utf8(message.subject).ok().and_then(|subject| subject.rsplit('.').next()?.parse().ok());
        let Some(number) = number else { return };
        let answer = match status_of(message) {
            Some(Status { code: 503, .. }) => Err(ApiError::NobodyAnswers),
            _ => Ok(chunk.slice_ref(message.payload)),
        };
        self.calls.hear(number, answer);
    }

    fn hear_pulled(&mut self, chunk: &Bytes, message: &Message<'_>, now: Instant) {
        self.last_arrival = now;
        // A publisher may set headers of these names as well; but its events have a subject to be acknowledged with.
        match (message.reply, message.headers) {
            (None, Some(_)) if let Some(status) = status_of(message) => self.hear_status(message.subject, &status, now),
            (Some(reply), _) => self.hear_event(chunk, message, reply, now),
            (None, _) => self.say_stray(message.subject),
        }
    }

    fn hear_event(&mut self, chunk: &Bytes, message: &Message<'_>, reply: &[u8], now: Instant) {
        let known =
            std::str::from_utf8(reply).ok().and_then(ack_subject::parse).and_then(|(stream, consumer, delivery)| {
                let is_ours = stream == self.plan.stream;
                self.plan.consumer(consumer).filter(|_| is_ours).map(|consumer| (consumer, delivery))
            });
        let Some((consumer, delivery)) = known else { return self.say_stray(message.subject) };
        if delivery.deliveries > 1 && !self.refused.acks.is_empty() {
            self.refused.acks.remove(&delivery.stream_sequence);
            self.control.set_refused_acks(self.refused.acks.len() as u64);
        }
        let is_planned = message.subject == self.plan.consumers[consumer].filter.as_bytes();
        let subject = (!is_planned).then(|| String::from_utf8_lossy(message.subject).into_owned().into_boxed_str());
        let (reply, millis) = (chunk.slice_ref(reply), self.millis(now));
        if let Some(number) = self.flight.insert(consumer, &delivery, (reply, subject), millis) {
            let (payload, sequence) = (chunk.slice_ref(message.payload), delivery.stream_sequence);
            if !self.resume.hold(consumer, (sequence, number), &payload, message.headers) {
                self.take_new(number, sequence, payload, message.headers);
            }
        }
        if let Some(session) = &mut self.session {
            session.delivered(consumer, now);
        }
    }

    pub(super) fn take_new(&mut self, number: u64, sequence: u64, payload: Bytes, headers: Option<&[u8]>) {
        match &mut self.mover {
            Some(mover) => mover.take(number, sequence, payload, headers),
            None => self.note_new(number, payload, headers),
        }
    }

    fn note_new(&mut self, number: u64, payload: Bytes, headers: Option<&[u8]>) {
        let tag = DeliveryTag { reader: self.plan.reader, number };
        let marks = Marks::of(headers, self.intake.class_header());
        let passage = match self.plan.is_urgent {
            true => self.intake.urgent_passage(self.plan.own, &payload),
            false => self.intake.passage(self.plan.own, &payload, marks.said),
        };
        let passage = match self.intake.reads_published() {
            true => passage.published(published(headers).or_else(|| self.flight.stored(number))),
            false => passage,
        };
        self.waiting.push((payload, tag, passage));
        if marks.is_replay {
            self.replays.insert(number);
        }
    }

    /// What came over the subscription of a partition that has an owner.
    fn hear_owned(&mut self, chunk: &Bytes, message: &Message<'_>, now: Instant) {
        let Some((at, of)) = self.owned.as_ref().and_then(|owned| owned.place_of(message.sid)) else { return };
        if of == Of::Window {
            return self.hear_window(at, chunk, message);
        }
        let is_read = self.owned.as_ref().is_some_and(|owned| {
            matches!(owned.places[at].stage, Stage::Open | Stage::Starting(_) | Stage::Unsubscribing { .. })
        });
        if !is_read {
            return;
        }
        self.last_arrival = now;
        match (message.reply, message.headers) {
            (None, Some(_)) if let Some(status) = status_of(message) => {
                self.hear_owned_status(at, message.subject, &status, now)
            }
            (Some(reply), _) => self.hear_owned_event(at, chunk, message, reply, now),
            (None, _) => self.say_stray(message.subject),
        }
    }

    fn hear_owned_event(&mut self, at: usize, chunk: &Bytes, message: &Message<'_>, reply: &[u8], now: Instant) {
        let consumer = &self.plan.consumers[at];
        let known = std::str::from_utf8(reply).ok().and_then(ack_subject::parse);
        let known = known.filter(|(stream, name, _)| *stream == self.plan.stream && *name == consumer.name);
        let Some((_, _, delivery)) = known else { return self.say_stray(message.subject) };
        let is_planned = message.subject == consumer.filter.as_bytes();
        let subject = (!is_planned).then(|| String::from_utf8_lossy(message.subject).into_owned().into_boxed_str());
        let (reply, millis) = (chunk.slice_ref(reply), self.millis(now));
        match self.flight.insert_owned(at, &delivery, (reply.clone(), subject), millis) {
            Came::New(number) => {
                let payload = chunk.slice_ref(message.payload);
                self.take_new(number, delivery.stream_sequence, payload, message.headers);
            }
            Came::Out => {}
            Came::Settled => self.acknowledge_at_once(reply, chunk, message),
            Came::BehindHole => return self.broken(at, Break::Hole),
        }
        if let Some(session) = &mut self.session {
            session.delivered(at, now);
        }
    }

    /// An earlier owner, or this one, settled it; a copy that comes now must be known as such.
    fn acknowledge_at_once(&mut self, reply: Bytes, chunk: &Bytes, message: &Message<'_>) {
        let Some(owned) = &mut self.owned else { return };
        owned.owed_acks.push(reply);
        let payload = chunk.slice_ref(message.payload);
        match owned.untold.back_mut() {
            Some(Input::Known(payloads)) if payloads.len() < KNOWN_AT_ONCE => payloads.push(payload),
            _ => owned.untold.push_back(Input::Known(vec![payload])),
        }
    }

    fn hear_owned_status(&mut self, at: usize, subject: &[u8], status: &Status, now: Instant) {
        let pull = std::str::from_utf8(subject).ok().and_then(|subject| subject.rsplit('.').next()?.parse().ok());
        let (Some(pull), Some(session)) = (pull, &mut self.session) else { return };
        let is_led_anew = status.code == 409 && status.text.to_ascii_lowercase().contains("leadership change");
        if is_led_anew {
            return self.broken(at, Break::Silence);
        }
        if let HeardOfPull::Lost(_) = session.hear(at, pull, status, now) {
            self.broken(at, Break::Deleted);
        }
    }

    /// The status of a pull; its subject ends with the consumer and the pull.
    fn hear_status(&mut self, subject: &[u8], status: &Status, now: Instant) {
        let Ok(subject) = std::str::from_utf8(subject) else { return };
        let mut tokens = subject.rsplit('.').map(str::parse::<u32>);
        let (Some(Ok(pull)), Some(Ok(consumer))) = (tokens.next(), tokens.next()) else { return };
        let Some(session) = &mut self.session else { return };
        if let HeardOfPull::Lost(why) = session.hear(consumer as usize, pull, status, now) {
            let name = &self.plan.consumers[consumer as usize].name;
            self.refused.why = Some(format!("consumer {name}: {why}"));
        }
    }

    fn hear_refusal(&mut self, error: &ServerError) {
        let text = server::mask(&self.nats.auth, &error.words);
        if let Some(left_out) = self.voices.refused.allow() {
            tracing::warn!(reader = self.plan.reader, left_out, "NATS says: {text}");
        }
        let who = server::who(&self.nats.auth);
        match &error.kind {
            // Nothing depends on advisories.
            ErrorKind::MayNotSubscribe { subject, .. } if !subject.starts_with("$JS.EVENT.") => {
                self.refused.why = Some(server::may_not_subscribe(&who, subject, &text));
            }
            ErrorKind::MayNotPublish { subject } if self.hears_of_window(subject, &text) => {}
            ErrorKind::MayNotPublish { subject } => {
                self.note_refused_ack(subject);
                if let Some(why) = rights::missing(subject, &who, &text) {
                    self.refused.why = Some(why);
                }
                if let Some(topic) = self.mover.as_ref().map(|mover| &mover.topic)
                    && subject.starts_with(topic.as_str())
                {
                    let why =
                        format!("{who} may not publish to {subject}: grant the user publish on {topic}.* ({text})");
                    self.refused.why = Some(why);
                }
            }
            _ => {}
        }
    }

    /// What was settled with it is so for us alone. A refused word on an event that is still out changes nothing.
    fn note_refused_ack(&mut self, subject: &str) {
        let ack = ack_subject::parse(subject).filter(|_| !rights::is_of_probe(subject));
        let Some((_, consumer, delivery)) = ack else { return };
        let Some(consumer) = self.plan.consumer(consumer) else { return };
        let sequence = delivery.stream_sequence;
        if !self.flight.sequences(consumer).contains(&sequence) && self.refused.acks.len() < REFUSED_ACKS_KEPT {
            self.refused.acks.insert(sequence);
            self.control.set_refused_acks(self.refused.acks.len() as u64);
        }
    }

    fn say_stray(&self, subject: &[u8]) {
        if let Some(left_out) = self.voices.stray.allow() {
            let subject = String::from_utf8_lossy(subject);
            tracing::warn!(%subject, left_out, "JetStream: received a message that is not a task-engine event; left alone");
        }
    }
}

fn status_of(message: &Message<'_>) -> Option<Status> {
    let headers = Headers::of(message.headers?);
    let status = headers.status?;
    let pending = headers.get("Nats-Pending-Messages").and_then(|count| std::str::from_utf8(count).ok()?.parse().ok());
    Some(Status { code: status.code, text: status.description.to_owned(), pending })
}
