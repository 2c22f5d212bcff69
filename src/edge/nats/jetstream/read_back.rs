//! The repeat window of a partition, read back from the stream when the partition comes here.
//!
//! Promises that the shard knows of what was settled in the last minutes before the first event of the partition comes, as far as it
//! can be read within [`BUDGET`]; what could not is counted, and the partition is opened all the same. Reads through a consumer
//! that the server forgets by itself, without acks; no more of them at once than a few, since they count towards `max_consumers`.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::JetFeed;
use super::ack_subject;
use super::api::{ConsumerInfo, consumer_info, create_ephemeral, delete_consumer, pull_subject, read_one};
use super::owned::{Of, Stage};
use super::window::ReadBack;
use crate::edge::nats::protocol::Message;
use crate::model::ownership::Generation;
use crate::push::facts::Input;

/// How long it may take; then the partition is opened without the rest.
const BUDGET: Duration = Duration::from_millis(500);
/// Events that are read at the most: of more, the latest.
pub(super) const EVENTS_MAX: u64 = 8192;
/// Events that the shard is told at once.
const TOLD_AT_ONCE: usize = 512;
/// The server forgets the consumer when it was not used for so long, if we could not say so.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);

impl JetFeed {
    pub(super) fn step_reading_back(&mut self, at: usize, now: Instant) {
        let Some(owned) = &mut self.owned else { return };
        let Some(back) = owned.places[at].back() else { return };
        if back.begun.is_none() {
            // A tail is short, and waited for.
            if owned.reading_back >= owned.reading_back_max && (back.from.is_none() || back.terms.is_none()) {
                return;
            }
            owned.reading_back += 1;
            back.begun = Some((now, SystemTime::now()));
            return self.ask_for_window(at, now);
        }
        let began = back.begun.map_or(now, |(began, _)| began);
        if let Some(batch) = back.asked
            && let Some(answers) = self.calls.take(batch, now)
        {
            back.asked = None;
            match read_one::<ConsumerInfo>(answers) {
                Ok(info) => self.window_stands(at, info, now),
                Err(error) => self.window_ended(at, false, &error.to_string()),
            }
            return self.take_window(at);
        }
        if now >= began + BUDGET {
            self.window_ended(at, false, "it took too long");
        }
        self.take_window(at);
    }

    fn window_ended(&mut self, at: usize, is_whole: bool, why: &str) {
        let Some(owned) = &mut self.owned else { return };
        let Some(back) = owned.places[at].back() else { return };
        let is_first = back.end.is_none();
        back.end.get_or_insert(is_whole);
        // What is read ahead in vain is read once it is opened.
        if !is_whole && is_first && back.terms.is_some() {
            self.note_partial(at, why);
        }
    }

    fn note_partial(&self, at: usize, why: &str) {
        self.intake.note_partial_window();
        if let Some(left_out) = self.voices.windows.allow() {
            tracing::warn!(
                partition = at,
                left_out,
                "JetStream: the repeat window of a partition could not be read back whole, so a copy of an event of the last \
                 minutes may be pushed again: {why}"
            );
        }
    }

    /// Whether the user may not publish to a subject that only a repeat window needs; then none is read back.
    pub(super) fn hears_of_window(&mut self, subject: &str, text: &str) -> bool {
        let Some(owned) = &self.owned else { return false };
        let stream = &self.plan.stream;
        let rest = subject.strip_prefix("$JS.API.CONSUMER.").unwrap_or_default();
        let named = |what: &str| rest.strip_prefix(what)?.strip_prefix(stream.as_str())?.strip_prefix('.');
        if named("DELETE.").is_some() {
            return true;
        }
        let is_pull = named("MSG.NEXT.").is_some_and(|name| self.plan.consumer(name).is_none());
        if !is_pull && rest != format!("CREATE.{stream}") {
            return false;
        }
        for at in owned.busy.iter().copied().collect::<Vec<_>>() {
            self.window_ended(at, false, text);
        }
        true
    }

    fn ask_for_window(&mut self, at: usize, now: Instant) {
        let Some(owned) = &mut self.owned else { return };
        let Some(back) = owned.places[at].back() else { return };
        let (policy, key, begin): (_, _, serde_json::Value) = match back.from {
            Some(from) => ("by_start_sequence", "opt_start_seq", from.into()),
            None => {
                let since = back.begun.map_or_else(SystemTime::now, |(_, began)| began) - back.age;
                ("by_start_time", "opt_start_time", humantime::format_rfc3339_millis(since).to_string().into())
            }
        };
        let config = serde_json::json!({
            "deliver_policy": policy,
            (key): begin,
            "ack_policy": "none",
            "replay_policy": "instant",
            "filter_subject": self.plan.consumers[at].filter,
            "inactive_threshold": FORGOTTEN_AFTER.as_nanos() as u64,
            "mem_storage": true,
            "num_replicas": 1,
        });
        let batch = self.begin(&[create_ephemeral(&self.plan.stream, &config)], now);
        if let Some(owned) = &mut self.owned
            && let Some(back) = owned.places[at].back()
        {
            back.asked = Some(batch);
        }
    }

    /// The consumer stands: is it too much, another one begins later; the last of it is read in any case.
    fn window_stands(&mut self, at: usize, info: ConsumerInfo, now: Instant) {
        let Some(owned) = &mut self.owned else { return };
        let sid = owned.sid(at, Of::Window);
        let opening = owned.places[at].opening;
        let Some(back) = owned.places[at].back() else { return };
        let (events, most) = (info.num_pending.saturating_sub(back.ahead), EVENTS_MAX + EVENTS_MAX / 4);
        if back.begins_elsewhere(events, EVENTS_MAX, most) {
            self.end_window_consumer(&info.name);
            return self.ask_for_window(at, now);
        }
        back.name = info.name;
        back.left = events.min(most);
        match events {
            0 => return self.window_ended(at, true, ""),
            count if count > most => self.note_partial(at, "too many events came within a moment"),
            _ => {}
        }
        let Some(owned) = &mut self.owned else { return };
        let Some(back) = owned.places[at].back() else { return };
        let subject = format!("{}.k.{opening}.{at}", self.inbox);
        self.lines.subscribe(&subject, sid);
        let next = pull_subject(&self.plan.stream, &back.name);
        let body = format!(r#"{{"batch":{},"expires":{}}}"#, back.left, BUDGET.as_nanos());
        self.lines.put(next.as_bytes(), Some(subject.as_bytes()), body.as_bytes());
    }

    fn end_window_consumer(&mut self, name: &str) {
        let delete = delete_consumer(&self.plan.stream, name);
        // Nobody waits for its answer.
        let reply = format!("{}.none", self.answers_to());
        self.lines.put(delete.subject.as_bytes(), Some(reply.as_bytes()), delete.body.as_bytes());
    }

    /// An event of the window came, or a word that no more do.
    pub(super) fn hear_window(&mut self, at: usize, chunk: &Bytes, message: &Message<'_>) {
        let Some(owned) = &mut self.owned else { return };
        let Some(back) = owned.places[at].back() else { return };
        if back.end.is_some() {
            return;
        }
        let reply = message.reply.and_then(|reply| std::str::from_utf8(reply).ok());
        let Some((_, _, delivery)) = reply.and_then(ack_subject::parse) else {
            return self.window_ended(at, false, "the server ended it");
        };
        if delivery.stream_sequence <= back.to {
            back.seen_to = delivery.stream_sequence;
            back.payloads.push(chunk.slice_ref(message.payload));
        }
        back.left = back.left.saturating_sub(1);
        let is_over = back.left == 0 || delivery.stream_sequence >= back.to;
        if is_over || back.payloads.len() >= TOLD_AT_ONCE {
            let payloads = std::mem::take(&mut back.payloads);
            owned.untold.push_back(Input::Known(payloads));
        }
        if is_over {
            self.window_ended(at, true, "");
        }
    }

    /// When it has ended, the partition is pulled from, if it is here.
    fn take_window(&mut self, at: usize) {
        let Some(owned) = &mut self.owned else { return };
        let Some(back) = owned.places[at].back() else { return };
        let Some(is_whole) = back.end else { return };
        let known_to = if is_whole { back.to } else { back.seen_to };
        let terms = back.terms.take();
        self.end_window(at, known_to);
        let Some(owned) = &mut self.owned else { return };
        if let Stage::ReadingAhead(_) = owned.places[at].stage {
            return owned.set(at, Stage::Absent);
        }
        owned.places[at].knows_window = true;
        owned.set(at, Stage::Starting(terms));
    }

    /// What was read is told.
    fn end_window(&mut self, at: usize, known_to: u64) {
        let Some(owned) = &mut self.owned else { return };
        let Some(back) = owned.places[at].back() else { return };
        let (name, payloads) = (std::mem::take(&mut back.name), std::mem::take(&mut back.payloads));
        if !payloads.is_empty() {
            owned.untold.push_back(Input::Known(payloads));
        }
        owned.places[at].known_to = known_to;
        owned.reading_back = owned.reading_back.saturating_sub(1);
        self.lines.unsubscribe(owned.sid(at, Of::Window));
        if !name.is_empty() {
            self.end_window_consumer(&name);
        }
    }

    /// The partition will probably come here: what is settled of it by now can be read while another still has it. Without a connection
    /// it is read once it is opened, as whatever cannot be read now.
    pub(super) fn look_ahead(&mut self, at: usize, generation: Generation) {
        let is_read = self.session.is_some() && self.mover.is_none() && !self.has_left;
        if let Some(owned) = self.owned.as_mut().filter(|owned| is_read && owned.places[at].stage.is_elsewhere()) {
            owned.ahead.asked(Instant::now());
            owned.set(at, Stage::ToLookAhead(generation));
        }
    }

    pub(super) fn step_to_look_ahead(&mut self, at: usize, generation: Generation, now: Instant) {
        if self.owned.as_mut().is_some_and(|owned| owned.ahead.begins(now)) {
            let ask = consumer_info(&self.plan.stream, &self.plan.name_of(self.plan.partition(at), generation));
            let batch = self.begin(&[ask], now);
            self.set_stage(at, Stage::LookingAhead(batch));
        }
    }

    pub(super) fn step_looking_ahead(&mut self, at: usize, now: Instant) {
        let Some(owned) = &mut self.owned else { return };
        let Stage::LookingAhead(batch) = owned.places[at].stage else { return };
        let Some(answers) = self.calls.take(batch, now) else { return };
        let info = read_one::<ConsumerInfo>(answers).ok();
        let place = &mut owned.places[at];
        // No further: the shard would take what is not settled for a copy when it comes.
        let to = info.as_ref().map_or(0, ConsumerInfo::settled_to);
        if to == 0 || to == place.known_to {
            return owned.set(at, Stage::Absent);
        }
        let ahead = info.map_or(0, |info| info.num_pending + info.num_ack_pending);
        let back = ReadBack::new(place.window_from(to), to, ahead, None);
        place.opening += 1;
        owned.set(at, Stage::ReadingAhead(Box::new(back)));
    }

    /// The partition comes, or does not: what was read ahead counts.
    pub(super) fn stop_reading_ahead(&mut self, at: usize) {
        let Some(owned) = &mut self.owned else { return };
        if let Stage::ReadingAhead(back) = &owned.places[at].stage
            && back.begun.is_some()
        {
            let seen_to = back.seen_to;
            self.end_window(at, seen_to);
        }
        let Some(owned) = &mut self.owned else { return };
        if owned.places[at].stage.is_elsewhere() {
            owned.set(at, Stage::Absent);
        }
    }
}
