//! What was asked of each consumer and has not come: when to ask for more, and how much.
//!
//! Promises that no more is asked for than the window leaves room for, that there is always some asked for while there
//! is room (pulls overlap, so no event waits for the next one), that pulls that show no sign of life are replaced, and
//! that an event larger than a pull's bytes does not stand in the way of all others: it is asked for alone.
//! Pure: time comes in, asks go out.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::model::limits::{JETSTREAM_ASKED_EVENTS, JETSTREAM_PULL_BYTES};

/// How long a pull stands at the server at the most, and how often the server says meanwhile that it does.
const EXPIRES_MAX: Duration = Duration::from_secs(30);
const HEARTBEAT_MAX: Duration = Duration::from_secs(5);
/// At the least: what a server and the way to it need.
const EXPIRES_MIN: Duration = Duration::from_millis(900);
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
    until: Instant,
}

/// The pulls of one consumer over one connection.
#[derive(Debug)]
pub(super) struct Pulls {
    terms: Terms,
    asked: u32,
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
        Self { terms, asked: 0, pulls, next_id: 0, sign: now, not_before, is_large: false, share, made: 0 }
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
        pull.left -= 1;
        if pull.left > 0 {
            self.pulls.push_back(pull);
        }
    }

    /// Whether it is time to look at [`ask`](Self::ask).
    pub(super) fn is_hungry(&self) -> bool {
        self.asked <= self.target() / 2
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
        let batch = (target - self.asked).min(room).min(batch_max);
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
        self.pulls.push_back(Pull { id, batch, left: batch, until: now + self.terms.standing.expires + HEARTBEAT_MAX });
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
        self.asked = 0;
        self.pulls.clear();
        true
    }

    /// Forgets pulls that must have expired: their last word may have been lost.
    pub(super) fn expire(&mut self, now: Instant) {
        self.pulls.retain(|pull| {
            let is_over = pull.until < now;
            self.asked -= if is_over { pull.left } else { 0 };
            !is_over
        });
    }

    /// Gives what the pull had asked for, if it was still open.
    fn end(&mut self, id: u32) -> Option<u32> {
        let at = self.pulls.iter().position(|pull| pull.id == id)?;
        let pull = self.pulls.remove(at)?;
        self.asked -= pull.left;
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
mod tests {
    use super::*;

    const STANDING: Standing = Standing { expires: EXPIRES_MAX, heartbeat: HEARTBEAT_MAX };

    fn pulls(window: u32, now: Instant) -> Pulls {
        let (batch_max, bytes_max, standing) = (u32::MAX, usize::MAX, STANDING);
        Pulls::new(Terms { window, batch_max, bytes_max, standing, from: None }, now)
    }

    fn status(code: u16, text: &str, pending: Option<u32>) -> Status {
        Status { code, text: text.to_owned(), pending }
    }

    #[test]
    fn pulls_overlap_and_stay_in_the_window() {
        let now = Instant::now();
        let mut pulls = pulls(100, now);
        let bytes = Some(JETSTREAM_PULL_BYTES);
        assert_eq!(pulls.ask(3, 0, now), Some(Ask { consumer: 3, id: 0, batch: 50, bytes, standing: STANDING }));
        assert_eq!(pulls.ask(3, 0, now), None);
        for out in 1..=25 {
            pulls.delivered(now);
            assert!(out < 25 || pulls.is_hungry());
        }
        assert_eq!(pulls.ask(3, 25, now).map(|ask| ask.batch), Some(25));
        for _ in 0..50 {
            pulls.delivered(now);
        }
        assert_eq!(pulls.ask(3, 75, now).map(|ask| ask.batch), Some(25), "no more than the window has room for");
        assert_eq!(pulls.ask(3, 100, now), None);
    }

    #[test]
    fn a_full_window_is_asked_for_again_without_a_pull_for_each_event() {
        let now = Instant::now();
        let mut pulls = pulls(100, now);
        assert_eq!(pulls.ask(0, 99, now), None);
        assert_eq!(pulls.ask(0, 99, now + PAUSE).map(|ask| ask.batch), Some(1));
        assert_eq!(pulls.ask(0, 98, now + PAUSE), None, "one is on its way");
    }

    #[test]
    fn a_window_of_one_works() {
        let now = Instant::now();
        let mut pulls = pulls(1, now);
        assert_eq!(pulls.ask(0, 0, now).map(|ask| ask.batch), Some(1));
        pulls.delivered(now);
        assert_eq!(pulls.ask(0, 1, now), None);
        assert_eq!(pulls.ask(0, 0, now).map(|ask| ask.batch), Some(1));
    }

    #[test]
    fn a_status_ends_its_own_pull() {
        let now = Instant::now();
        let mut pulls = pulls(100, now);
        pulls.ask(0, 0, now);
        (0..30).for_each(|_| pulls.delivered(now));
        assert_eq!(pulls.hear(0, &status(100, "Idle Heartbeat", None), now), Heard::Fine);
        assert_eq!(pulls.asked(), 20);
        assert_eq!(pulls.hear(7, &status(408, "Request Timeout", Some(9)), now), Heard::Fine);
        assert_eq!(pulls.asked(), 20, "not one of ours");
        assert_eq!(pulls.hear(0, &status(408, "Request Timeout", Some(20)), now), Heard::Fine);
        assert_eq!(pulls.asked(), 0);
        assert!(pulls.ask(0, 0, now).is_some());
    }

    #[test]
    fn statuses_that_need_a_look_say_so() {
        let now = Instant::now();
        for (code, text) in [
            (409, "Consumer Deleted"),
            (409, "Consumer is push based"),
            (409, "Exceeded MaxRequestMaxBytes of 100"),
            (503, ""),
            (400, "Bad Request"),
        ] {
            let mut pulls = pulls(100, now);
            pulls.ask(0, 0, now);
            assert!(matches!(pulls.hear(0, &status(code, text, None), now), Heard::Lost(_)), "{code} {text}");
        }
        for text in ["Exceeded MaxWaiting", "Leadership Change", "Server Shutdown", "Exceeded MaxAckPending"] {
            let mut pulls = pulls(100, now);
            pulls.ask(0, 0, now);
            assert_eq!(pulls.hear(0, &status(409, text, None), now), Heard::Fine);
            assert_eq!(pulls.ask(0, 0, now), None, "{text}: a pause first");
            assert!(pulls.ask(0, 0, now + REFUSED_PAUSE).is_some());
        }
    }

    #[test]
    fn a_pull_that_came_to_its_end_is_followed_by_the_next_at_once() {
        let now = Instant::now();
        let mut pulls = pulls(100, now);
        let batch = pulls.ask(0, 0, now).expect("there is room").batch;
        (0..batch).for_each(|_| pulls.delivered(now));
        assert_eq!(pulls.hear(0, &status(409, "Batch Completed", Some(0)), now), Heard::Fine);
        assert_eq!((pulls.asked(), pulls.ask(0, batch, now).map(|ask| ask.batch)), (0, Some(50)));
        (0..40).for_each(|_| pulls.delivered(now));
        assert_eq!(pulls.hear(1, &status(409, "Message Size Exceeds MaxBytes", Some(10)), now), Heard::Fine);
        let ask = pulls.ask(0, 0, now).expect("no pause");
        assert_eq!(ask.batch, 50, "it fits a pull of its own");
    }

    #[test]
    fn what_is_larger_than_a_pull_is_asked_for_alone_and_then_all_is_as_before() {
        let now = Instant::now();
        let mut pulls = pulls(100, now);
        pulls.ask(0, 0, now);
        assert_eq!(pulls.hear(0, &status(409, "Message Size Exceeds MaxBytes", Some(50)), now), Heard::Fine);
        let ask = pulls.ask(0, 0, now).expect("no pause");
        assert_eq!((ask.batch, ask.bytes), (1, None));
        pulls.delivered(now);
        assert_eq!(pulls.ask(0, 1, now).map(|ask| (ask.batch, ask.bytes)), Some((50, Some(JETSTREAM_PULL_BYTES))));
    }

    #[test]
    fn pulls_are_served_in_turn_and_none_outlives_its_events() {
        let now = Instant::now();
        let mut pulls = pulls(100, now);
        for _ in 0..10_000 {
            pulls.ask(0, 0, now);
            pulls.delivered(now);
            assert!(pulls.asked() <= 50 && pulls.pulls.len() <= 8, "{pulls:?}");
            assert_eq!(pulls.pulls.iter().map(|pull| pull.left).sum::<u32>(), pulls.asked());
        }
        pulls.expire(now + EXPIRES_MAX * 2);
        assert_eq!((pulls.asked(), pulls.pulls.len()), (0, 0));
    }

    #[test]
    fn a_pull_stands_no_longer_than_an_event_may_be_out() {
        for (ack_wait, expires, heartbeat) in [(30_000, 30_000, 5_000), (600_000, 30_000, 5_000), (2_000, 2_000, 666)] {
            let standing = Standing::of(Duration::from_millis(ack_wait));
            assert_eq!((standing.expires.as_millis(), standing.heartbeat.as_millis()), (expires, heartbeat));
            assert!(standing.heartbeat * 2 <= standing.expires, "servers refuse a longer one");
        }
        assert_eq!(Standing::of(Duration::from_millis(1)).expires, EXPIRES_MIN);
    }

    #[test]
    fn silence_is_answered_with_new_pulls() {
        let now = Instant::now();
        let mut pulls = pulls(100, now);
        pulls.ask(0, 0, now);
        assert!(!pulls.is_silent(now + HEARTBEAT_MAX * 2));
        assert!(pulls.is_silent(now + STANDING.silent_for()));
        assert!(pulls.ask(0, 0, now + STANDING.silent_for()).is_some());
    }
}
