//! What was asked of each consumer and has not come: when to ask for more, and how much.
//!
//! Promises that no more is asked for than the window leaves room for, that there is always some asked for while there
//! is room (pulls overlap, so no event waits for the next one), that a pull is followed by the next before it expires, since the
//! server may say nothing then (2.9.10 does not when an event comes at that moment, which then waited for five seconds more), that
//! pulls that show no sign of life are replaced, and that an event larger than a pull's bytes does not stand in the way of all others: it is asked for alone.
//! Pure: time comes in, asks go out.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::model::limits::{JETSTREAM_ASKED_EVENTS, JETSTREAM_PULL_BYTES};

/// How long a pull stands at the server at the most, and how often the server says meanwhile that it does.
const EXPIRES_MAX: Duration = Duration::from_secs(30);
const HEARTBEAT_MAX: Duration = Duration::from_secs(5);
/// At the least: what a server and the way to it need.
const EXPIRES_MIN: Duration = Duration::from_millis(900);
/// So long before a pull expires the next one is made; but at the most this part of its time. More than a look at silence may be late.
const RENEWED_BEFORE: Duration = Duration::from_millis(1500);
const RENEWED_PART: u32 = 4;
/// So long after it expired a pull is forgotten without a word.
const EXPIRED_GRACE: Duration = Duration::from_millis(500);
/// What a heartbeat may be late.
const HEARTBEAT_GRACE: Duration = Duration::from_secs(1);
/// The wait before another try of what the server refused, and before a pull that is much smaller than it could be.
const PAUSE: Duration = Duration::from_millis(10);
const REFUSED_PAUSE: Duration = Duration::from_millis(500);

/// One pull to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge::nats) struct Ask {
    /// The reader's number of the consumer.
    pub consumer: u32,
    /// Of the pull; its answers come back with it.
    pub id: u32,
    /// How many events.
    pub batch: u32,
    /// How many bytes; none: one event, whatever its size.
    pub bytes: Option<usize>,
    /// For how long.
    pub standing: Standing,
}

/// How long pulls stand. One that its reader does not answer for draws redeliveries for no longer than `ack_wait`, and a
/// missing heartbeat is noticed before an event that is due comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge::nats) struct Standing {
    pub expires: Duration,
    pub heartbeat: Duration,
}

impl Standing {
    /// Of a consumer with this `ack_wait`.
    pub(super) fn of(ack_wait: Duration) -> Self {
        let expires = ack_wait.clamp(EXPIRES_MIN, EXPIRES_MAX);
        Self { expires, heartbeat: HEARTBEAT_MAX.min(expires / 3) }
    }

    /// Two heartbeats missed, and some for the way.
    fn silent_for(self) -> Duration {
        self.heartbeat * 2 + HEARTBEAT_GRACE
    }
}

/// What a consumer's pulls may be.
#[derive(Clone, Copy, Debug)]
pub(in crate::edge::nats) struct Terms {
    /// Events out and asked for at once.
    pub window: u32,
    /// Events of one pull; what the consumer allows.
    pub batch_max: u32,
    /// Bytes of one pull; the same.
    pub bytes_max: usize,
    /// How long one stands.
    pub standing: Standing,
    /// Not before then: whoever takes over waits for what its predecessor had not settled.
    pub from: Option<Instant>,
}

/// The server's word on a pull: a status line and its headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::edge::nats) struct Status {
    pub code: u16,
    pub text: String,
    /// So many events of the pull will not come.
    pub pending: Option<u32>,
}

/// What a status means for the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A pull ended or stands; more is asked for when it is time.
    Fine,
    /// The consumer has to be looked at anew.
    Lost(String),
}

#[derive(Debug)]
struct Pull {
    id: u32,
    batch: u32,
    /// What of it has not come.
    left: u32,
    renew_at: Instant,
    until: Instant,
    /// It is about to expire: another takes its place.
    is_old: bool,
}

/// The pulls of one consumer over one connection.
#[derive(Debug)]
pub(super) struct Pulls {
    terms: Terms,
    asked: u32,
    /// Of these, those of old pulls.
    old: u32,
    /// In the order in which the server serves them: one event each, in turn.
    pulls: VecDeque<Pull>,
    next_id: u32,
    sign: Instant,
    not_before: Option<Instant>,
    /// The next event did not fit into a pull.
    is_large: bool,
    /// What of the window is ours.
    share: u32,
    /// Pulls made since that was last asked.
    made: u64,
}

impl Pulls {
    pub(super) fn new(terms: Terms, now: Instant) -> Self {
        let (pulls, not_before) = (VecDeque::new(), terms.from);
        let share = terms.window;
        Self { terms, asked: 0, old: 0, pulls, next_id: 0, sign: now, not_before, is_large: false, share, made: 0 }
    }

    /// How many events may still come.
    pub(super) fn asked(&self) -> u32 {
        self.asked
    }

    /// How many pulls stand.
    pub(super) fn standing(&self) -> u64 {
        self.pulls.len() as u64
    }

    /// How many were made since this was last asked.
    pub(super) fn take_made(&mut self) -> u64 {
        std::mem::take(&mut self.made)
    }

    /// Events out and asked for at once, of all instances.
    pub(super) fn window(&self) -> u32 {
        self.terms.window
    }

    /// Only so much of the window is for us.
    pub(super) fn set_share(&mut self, share: u32) {
        self.share = share.clamp(1, self.terms.window.max(1));
    }

    /// An event came.
    pub(super) fn delivered(&mut self, now: Instant) {
        self.sign = now;
        self.is_large = false;
        let Some(mut pull) = self.pulls.pop_front() else { return };
        self.asked -= 1;
        self.old -= u32::from(pull.is_old);
        pull.left -= 1;
        if pull.left > 0 {
            self.pulls.push_back(pull);
        }
    }

    /// Whether it is time to look at [`ask`](Self::ask).
    pub(super) fn is_hungry(&self) -> bool {
        self.asked - self.old <= self.target() / 2
    }

    fn target(&self) -> u32 {
        (self.share / 2).clamp(1, JETSTREAM_ASKED_EVENTS)
    }

    /// The next pull, when there is room for one beside the events that are `out`.
    pub(super) fn ask(&mut self, consumer: u32, out: u32, now: Instant) -> Option<Ask> {
        if !self.is_hungry() || self.not_before.is_some_and(|time| now < time) {
            return None;
        }
        let target = self.target();
        let room = self.share.saturating_sub(out).saturating_sub(self.asked);
        let batch_max = if self.is_large { 1 } else { self.terms.batch_max };
        let batch = (target + self.old - self.asked).min(room).min(batch_max);
        // Settling one by one must not make a pull of each.
        let is_worth_it = batch >= (target / 4).max(1).min(batch_max);
        let is_idle = self.asked == 0 && now.saturating_duration_since(self.sign) >= PAUSE;
        if batch == 0 || !(is_worth_it || is_idle) {
            return None;
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        if self.asked == 0 {
            self.sign = now;
        }
        self.asked += batch;
        self.made += 1;
        let expires = self.terms.standing.expires;
        let renew_at = now + expires - RENEWED_BEFORE.min(expires / RENEWED_PART);
        let until = now + expires + EXPIRED_GRACE;
        self.pulls.push_back(Pull { id, batch, left: batch, renew_at, until, is_old: false });
        let bytes = (!self.is_large).then_some(self.terms.bytes_max.min(JETSTREAM_PULL_BYTES));
        Some(Ask { consumer, id, batch, bytes, standing: self.terms.standing })
    }

    /// Hears what the server says of pull `id`.
    pub(super) fn hear(&mut self, id: u32, status: &Status, now: Instant) -> Heard {
        self.sign = now;
        let text = status.text.to_ascii_lowercase();
        match status.code {
            100 => return Heard::Fine,
            404 | 408 => {
                self.end(id);
            }
            409 if text.contains("deleted") || text.contains("push based") => {
                return Heard::Lost(format!("the consumer is not there any more ({})", status.text));
            }
            // Its bounds were changed since it was looked at.
            409 if text.contains("exceeded maxrequest") => {
                return Heard::Lost(format!("the consumer refuses a pull ({})", status.text));
            }
            409 => {
                let batch = self.end(id);
                let is_too_large = text.contains("maxbytes");
                self.is_large |= is_too_large && status.pending.is_some() && status.pending == batch;
                // A pull with all its events or bytes has come to its normal end (servers since 2.10 say so); the rest
                // is the server having no time for us.
                if !is_too_large && !text.contains("batch completed") {
                    self.not_before = Some(now + REFUSED_PAUSE);
                }
            }
            503 => return Heard::Lost("no responder for the consumer (is JetStream enabled?)".to_owned()),
            code => {
                self.end(id);
                self.not_before = Some(now + REFUSED_PAUSE);
                return Heard::Lost(format!("a pull was refused: {code} {}", status.text));
            }
        }
        Heard::Fine
    }

    /// Forgets pulls that are dead without a word; true when there were some.
    pub(super) fn is_silent(&mut self, now: Instant) -> bool {
        if self.asked == 0 || now.saturating_duration_since(self.sign) < self.terms.standing.silent_for() {
            return false;
        }
        (self.asked, self.old) = (0, 0);
        self.pulls.clear();
        true
    }

    /// Sees which pulls are about to expire, and forgets those that must have: their last word may have been lost.
    pub(super) fn expire(&mut self, now: Instant) {
        self.pulls.retain(|pull| pull.until >= now);
        self.pulls.iter_mut().for_each(|pull| pull.is_old = now >= pull.renew_at);
        self.count();
    }

    fn count(&mut self) {
        let left = |is_counted: fn(&&Pull) -> bool| self.pulls.iter().filter(is_counted).map(|pull| pull.left).sum();
        (self.asked, self.old) = (left(|_| true), left(|pull| pull.is_old));
    }

    /// Gives what the pull had asked for, if it was still open.
    fn end(&mut self, id: u32) -> Option<u32> {
        let at = self.pulls.iter().position(|pull| pull.id == id)?;
        let pull = self.pulls.remove(at)?;
        self.count();
        Some(pull.batch)
    }
}

/// What is asked: the body of a pull.
pub(super) fn body(ask: Ask) -> String {
    let Standing { expires, heartbeat } = ask.standing;
    let (batch, expires, heartbeat) = (ask.batch, expires.as_nanos(), heartbeat.as_nanos());
    let bytes = ask.bytes.map_or(String::new(), |bytes| format!(r#""max_bytes":{bytes},"#));
    format!(r#"{{"batch":{batch},{bytes}"expires":{expires},"idle_heartbeat":{heartbeat}}}"#)
}

#[cfg(test)]
#[path = "pulls_tests.rs"]
mod tests;
