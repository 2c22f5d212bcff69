//! The partitioner over a reader's connection: what its core is told of events and answers, and what it wants written.
//!
//! Promises that publishes leave many in one write, beside the pulls and acks of the input stream, and that their answers come to
//! an inbox of this connection: an answer over an older one says nothing. Which event goes when is the core's to say.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Deserialize;

use super::flight::Flight;
use super::lines::Lines;
use crate::config::ConsumerConfig;
use crate::edge::nats::protocol::{Headers, Message};
use crate::model::delivery::{DeadLetter, Disposition};
use crate::model::ids::Nanos;
use crate::model::limits::{LETTER_ASKS_IN_FLIGHT, MSG_ID_HEADER};
use crate::partitioner::{Answer, Arrived, Carried, IN_HEADER, Opened, Partitioner, Settings, Ticket};
use crate::ports::LetterPost;
use crate::ports::intake::PartitionerCounts;
use crate::ports::mailbox::{FactSender, Mailbox, Wake, mailbox};
use crate::push::facts::Input;
use crate::telemetry::log_limiter::LogLimiter;

/// Words of a refusal that are kept.
const WORDS_CHARS_MAX: usize = 200;

/// What a stream says to a publish.
#[derive(Deserialize)]
struct PubAck<'a> {
    #[serde(default, borrow)]
    stream: std::borrow::Cow<'a, str>,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// How a read-back goes.
#[derive(Debug, Default)]
pub(super) struct Back {
    /// Messages of the present pull.
    pub heard: u64,
    /// The server has no more.
    pub is_over: bool,
}

/// See the module.
pub(in crate::edge::nats) struct Mover {
    core: Partitioner,
    /// The partitioned stream.
    pub(super) stream: String,
    pub(super) topic: String,
    pub(super) partitions: u32,
    /// `<topic>.<partition>` of each.
    subjects: Vec<Box<str>>,
    pub(super) back: Back,
    /// Until when what is held is moved while the input stream is closed.
    pub(super) drains_until: Option<Instant>,
    /// The input stream is somebody else's: the connection is given up with what it holds.
    pub(super) is_dropped: bool,
    letters: Option<LetterPost>,
    facts: (FactSender, Mailbox),
    ends: Vec<(u64, Disposition)>,
    reply: Vec<u8>,
    counts: Arc<PartitionerCounts>,
    /// Why nothing is stored.
    refusal: String,
    unfed: Option<String>,
    said: LogLimiter,
    foreign_said: u64,
}

impl Mover {
    /// For this consumer; `answer_within`: how long a publish may be without an answer.
    pub(in crate::edge::nats) fn new(
        consumer: &ConsumerConfig,
        answer_within: Duration,
        letters: Option<LetterPost>,
        wake: Arc<Wake>,
        counts: Arc<PartitionerCounts>,
    ) -> Self {
        let ConsumerConfig { partitions, max_retry, retry_interval, .. } = *consumer;
        let subject = |partition| format!("{}.{partition}", consumer.topic).into_boxed_str();
        Self {
            core: Partitioner::new(Settings { partitions, max_retry, retry_interval, answer_within }),
            stream: consumer.stream.clone(),
            topic: consumer.topic.clone(),
            partitions,
            subjects: (0..partitions).map(subject).collect(),
            back: Back::default(),
            drains_until: None,
            is_dropped: false,
            letters,
            facts: mailbox(LETTER_ASKS_IN_FLIGHT * 2, wake),
            ends: Vec::new(),
            reply: Vec::new(),
            counts,
            refusal: String::new(),
            unfed: None,
            said: LogLimiter::default(),
            foreign_said: 0,
        }
    }

    /// See [`Partitioner::opened`].
    pub(super) fn tell_opened(&mut self, opened: Opened) {
        self.core.opened(opened);
    }

    /// See [`Partitioner::reads_back_behind`].
    pub(super) fn reads_back_behind(&self) -> Option<u64> {
        self.core.reads_back_behind()
    }

    /// See [`Partitioner::read_back_begins`].
    pub(super) fn read_back_begins(&mut self) {
        self.core.read_back_begins();
    }

    /// See [`Partitioner::read_back_done`].
    pub(super) fn read_back_done(&mut self, now: Nanos) {
        self.core.read_back_done(now);
    }

    /// See [`Partitioner::took_over`].
    pub(super) fn took_over(&mut self) {
        self.core.took_over();
    }

    /// See [`Partitioner::is_stale`].
    pub(super) fn is_stale(&self) -> bool {
        self.core.is_stale()
    }

    /// A message of a read-back.
    pub(super) fn hear_back(&mut self, message: &Message<'_>) {
        let headers = message.headers.map(Headers::of).unwrap_or_default();
        // A message that is stored with a status of its own is an event all the same: it has a subject to be acknowledged with.
        if headers.status.is_some() && message.reply.is_none() {
            self.back.is_over = true;
            return;
        }
        self.back.heard += 1;
        let seq = headers.get(IN_HEADER).and_then(|seq| std::str::from_utf8(seq).ok()?.parse().ok());
        if let (Some(seq), Some(id)) = (seq, headers.get(MSG_ID_HEADER)) {
            self.core.read_back(seq, id);
        }
    }

    /// An event of the input stream came, which the flight knows by `number`.
    pub(super) fn take(&mut self, number: u64, seq: u64, payload: Bytes, headers: Option<&[u8]>) {
        let mut carried = Carried::default();
        if let Some(block) = headers {
            Headers::of(block).iter().for_each(|(name, value)| carried.add(name, value));
        }
        self.core.take(Arrived { key: number, seq, payload, carried });
    }

    /// An answer to a publish.
    pub(super) fn hear(&mut self, message: &Message<'_>, now: Nanos) {
        let Some(ticket) = ticket_of(message.subject) else { return };
        let status = message.headers.and_then(|block| Headers::of(block).status);
        if status.is_some_and(|status| status.code == 503) {
            return self.is_refused(ticket, "no stream takes its subject, or its leader is being chosen", false, now);
        }
        let Ok(ack) = serde_json::from_slice::<PubAck<'_>>(message.payload) else {
            return self.is_refused(ticket, "the answer is not from JetStream", false, now);
        };
        match ack.error {
            Some(Refusal { err_code, description }) => {
                self.is_refused(ticket, &format!("{description} (error {err_code})"), true, now);
            }
            None if ack.stream != self.stream => {
                let words = format!("stream {} takes its subject", ack.stream);
                self.is_refused(ticket, &words, false, now);
            }
            None => self.core.hear(ticket, &Answer::Stored { seq: ack.seq, is_copy: ack.duplicate }, now),
        }
    }

    fn is_refused(&mut self, ticket: Ticket, words: &str, by_stream: bool, now: Nanos) {
        self.refusal = words.chars().take(WORDS_CHARS_MAX).collect();
        let answer = if by_stream { Answer::Refused(&self.refusal) } else { Answer::Nobody(&self.refusal) };
        self.core.hear(ticket, &answer, now);
    }

    /// Writes what is to be written, as long as `lines` holds less than `room`. True when something has its end.
    pub(super) fn work(&mut self, now: Nanos, inbox: &str, out: (&mut Lines, usize), flight: &mut Flight) -> bool {
        let (lines, room) = out;
        self.move_letters(now, flight);
        self.core.take_ends(&mut self.ends);
        let has_ends = !self.ends.is_empty();
        for (number, how) in self.ends.drain(..) {
            flight.settle(number, how, lines);
        }
        while lines.bytes() < room
            && let Some(publish) = self.core.next_publish(now)
        {
            let Some(subject) = self.subjects.get(publish.partition.0 as usize) else { continue };
            let Ticket { slot, seq, attempt } = publish.ticket;
            self.reply.clear();
            self.reply.extend_from_slice(inbox.as_bytes());
            self.reply.extend_from_slice(b".m");
            for number in [u64::from(slot), seq, u64::from(attempt)] {
                self.reply.push(b'.');
                self.reply.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            }
            lines.put_with_block(subject.as_bytes(), &self.reply, publish.head, publish.payload);
        }
        self.tell();
        has_ends
    }

    fn move_letters(&mut self, now: Nanos, flight: &Flight) {
        while let Some(fact) = self.facts.1.try_next() {
            match fact {
                Input::LetterPublished { ask, answer } => self.core.lettered(ask, answer.is_ok(), now),
                Input::NotAsked { ask, .. } => self.core.lettered(ask, false, now),
                _ => {}
            }
        }
        while let Some(letter) = self.core.next_letter(now) {
            let origin = flight.origin(letter.key, |_| self.topic.clone());
            if let Some(left_out) = self.said.allow() {
                let (reason, sequence, detail) = (letter.reason.label(), letter.seq, &letter.detail);
                tracing::warn!(reason, sequence, left_out, "partitioner: an event goes to the dead letters: {detail}");
            }
            let dead = DeadLetter {
                reason: letter.reason.label(),
                detail: letter.detail,
                payload: letter.payload,
                recipient: None,
                tries: letter.tries,
            };
            let sent = self.letters.as_ref().map(|post| post(letter.ask, dead, origin, self.facts.0.clone()));
            if !matches!(sent, Some(Ok(()))) {
                self.core.lettered(letter.ask, false, now);
            }
        }
    }

    fn tell(&mut self) {
        let counts = self.core.counts();
        self.counts.set(&counts, self.core.waiting() as u64);
        if counts.foreign > self.foreign_said
            && let Some(left_out) = self.said.allow()
        {
            self.foreign_said = counts.foreign;
            tracing::warn!(
                stream = self.stream,
                messages = counts.foreign,
                left_out,
                "partitioner: somebody else writes the partitioned stream, so the order of its sessions is not kept: with \
                 consumer.partitioner on, publishers publish on the plain topic only; is there another partitioner?"
            );
        }
        match (self.core.is_refused_by_stream(), &self.unfed) {
            (true, None) => {
                let (stream, why) = (&self.stream, &self.refusal);
                self.unfed = Some(format!(
                    "stream {stream} takes no events ({why}): they wait in {stream}_IN until it does; check its limits and its leader"
                ));
            }
            (false, Some(_)) => self.unfed = None,
            _ => {}
        }
    }

    /// Why nothing is moved.
    pub(super) fn unfed(&self) -> Option<&str> {
        self.unfed.as_deref()
    }

    /// See [`Partitioner::is_silent`].
    pub(super) fn is_silent(&mut self, now: Nanos) -> bool {
        self.core.is_silent(now)
    }

    /// See [`Partitioner::next_due`].
    pub(super) fn next_due(&self) -> Option<Nanos> {
        self.core.next_due()
    }

    /// The connection is gone.
    pub(super) fn lost(&mut self) {
        self.core.lost();
    }

    /// Publishes nothing more.
    pub(super) fn stop(&mut self) {
        self.core.stop();
    }

    /// Publishes without an answer.
    pub(super) fn under_way(&self) -> usize {
        self.core.under_way()
    }

    /// See [`Partitioner::suspects_above`].
    pub(super) fn suspects_above(&self, floor: u64) -> bool {
        self.core.suspects_above(floor)
    }

    /// All that it holds was given back.
    pub(super) fn forget(&mut self) {
        self.drains_until = None;
        self.core.forget();
        self.tell();
    }
}

/// The last three tokens of the subject that an answer came to.
fn ticket_of(subject: &[u8]) -> Option<Ticket> {
    let mut tokens = subject.rsplit(|byte| *byte == b'.').map(number);
    let (attempt, seq, slot) = (tokens.next()??, tokens.next()??, tokens.next()??);
    Some(Ticket { slot: u16::try_from(slot).ok()?, seq, attempt: u32::try_from(attempt).ok()? })
}

fn number(digits: &[u8]) -> Option<u64> {
    let digit = |value: u64, byte: &u8| {
        byte.is_ascii_digit().then(|| value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))).flatten()
    };
    (!digits.is_empty()).then(|| digits.iter().try_fold(0, digit)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuzzed_ticket() {
        crate::fuzz::run("ack_subject", 20_000, |bytes| {
            let Some(Ticket { slot, seq, attempt }) = ticket_of(bytes) else { return };
            let again = format!("_INBOX.x.m.{slot}.{seq}.{attempt}");
            assert_eq!(ticket_of(again.as_bytes()), Some(Ticket { slot, seq, attempt }));
        });
    }

    #[test]
    fn an_answer_says_what_it_is_for() {
        let ticket = |slot, seq, attempt| Some(Ticket { slot, seq, attempt });
        assert_eq!(ticket_of(b"_INBOX.x.m.4095.18446744073709551615.1"), ticket(4095, u64::MAX, 1));
        for subject in
            ["_INBOX.x.m.70000.1.1", "_INBOX.x.m.1.x.1", "1.1", "_INBOX.x.m.1.18446744073709551616.1", "1..1"]
        {
            assert_eq!(ticket_of(subject.as_bytes()), None, "{subject}");
        }
    }
}
