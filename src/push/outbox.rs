//! Fifth step, on the gateway's owner shard: the outbox of one gateway, its one stream, and the answers.
//!
//! Promises that what a gateway has not answered is kept, in order, and sent again first on the next stream; that an
//! answer is only ever counted for the request it belongs to; and that a gateway that hangs holds a bounded number of
//! recipients for a bounded time. Refuses to wait for anything: [`Outbox::take`], [`Outbox::tick`] and
//! [`Outbox::flush`] return at once.
//!
//! `queue` holds the bundles, `scheduling` has small groups go before the parts of large ones, `urgent` urgent bundles before others, `encode` writes frames
//! (`groups` those of protocol `group`), `answers` reads what comes back, `link`
//! opens, closes and reopens the stream, `late` ends what has waited too long (`fleeting` what is worth nothing by then), `poison` finds the push that breaks it.

mod answers;
#[cfg(test)]
mod answers_tests;
mod elsewhere;
#[cfg(test)]
mod elsewhere_tests;
mod encode;
mod fleeting;
#[cfg(test)]
mod fleeting_tests;
mod groups;
#[cfg(test)]
mod groups_tests;
mod item;
mod late;
mod link;
mod passing;
mod poison;
mod queue;
mod rest;
mod scheduling;
mod urgent;
mod window;

use std::collections::VecDeque;
use std::time::Duration;

use thin_vec::ThinVec;

use crate::model::gateway::{GatewayRecord, Protocol};
use crate::model::ids::{GatewayId, GatewayIx, Nanos, StreamNo, fnv1a32};
use crate::model::limits::OUTBOX_MOVING_WITHIN;
use crate::model::outcome::RecipientOutcome;
use crate::model::priority::Priority;
use crate::push::bundle::{Bundle, BundleEnd, BundleResult, Refusal, Times};
use crate::push::facts::Output;
use crate::push::outbox::elsewhere::Elsewhere;
use crate::push::outbox::encode::Encoder;
use crate::push::outbox::groups::{Groups, Written};
use crate::push::outbox::link::Link;
use crate::push::outbox::poison::{PoisonIsolation, Unrest};
use crate::push::outbox::queue::Queue;
use crate::telemetry::metrics::GatewayRow;

/// Of a gateway's text in the log.
const REFUSAL_BYTES_SHOWN: usize = 256;

/// What an outbox depends on besides facts.
#[derive(Clone, Debug)]
pub struct OutboxSettings {
    /// `gateway.delivery_timeout`.
    pub delivery_timeout: Duration,
    /// `registry.forget_after`.
    pub forget_after: Duration,
    /// Users of a group below which a list of them is not worth it.
    pub group_users_min: usize,
    /// `priority.stream_target`, where events have classes.
    pub stream_target: Option<Duration>,
    /// `priority.fleeting_ttl`; zero: a fleeting push is never too late.
    pub fleeting_ttl: Duration,
}

#[cfg(test)]
impl OutboxSettings {
    /// Without classes, and with time for everything.
    pub(in crate::push) fn patient() -> Self {
        Self {
            delivery_timeout: Duration::from_secs(3600),
            forget_after: Duration::ZERO,
            group_users_min: 8,
            stream_target: None,
            fleeting_ttl: Duration::ZERO,
        }
    }
}

/// What an outbox wants done.
#[derive(Debug, Default)]
pub struct Effects {
    /// Intentions.
    pub outputs: Vec<Output>,
    /// Bundles that ended.
    pub results: VecDeque<BundleResult>,
    /// How many nanoseconds bundles waited to be written.
    pub outbox_waits: Vec<u64>,
    /// How many they then waited for their last answer.
    pub gateway_waits: Vec<u64>,
    /// Something to tell the operator.
    pub warning: Option<(&'static str, String)>,
    /// What to count.
    pub counted: Counted,
}

impl Effects {
    /// What a gateway's error says of those it is against; what is not one of the words that are agreed on is told.
    fn refusal_of(&mut self, error: &[u8]) -> Refusal {
        let refusal = answers::refusal_of(error);
        if refusal == Refusal::Other {
            self.note_refusal(error);
        }
        refusal
    }

    /// The gateway's own words for why it refused a push.
    fn note_refusal(&mut self, error: &[u8]) {
        self.warning.get_or_insert_with(|| {
            let words = String::from_utf8_lossy(&error[..error.len().min(REFUSAL_BYTES_SHOWN)]);
            let words = if words.is_empty() { "it did not say why".into() } else { words };
            ("gateway_refused", format!("it refused a push: {words}"))
        });
    }
}

/// What outboxes count of [`Activity`](crate::telemetry::metrics::Activity). It is added there after each fact: all of that would
/// cost more than the fact.
#[derive(Debug, Default)]
pub struct Counted {
    /// Streams that were opened.
    pub stream_opens: u64,
    /// Streams that ended before their time.
    pub stream_breaks: u64,
    /// Answers that did not fit.
    pub answer_mismatches: u64,
    /// Recipients that were answered for after their end.
    pub answered_late: u64,
    /// Recipients that were written again.
    pub resent_recipients: u64,
    /// Bytes of frames.
    pub frame_bytes: u64,
    /// Lists of users said to gateways, and changes of them.
    pub groups_said: u64,
    /// See `groups_said`.
    pub group_changes: u64,
    /// Lists that gateways were told to forget.
    pub groups_forgotten: u64,
    /// Pushes to lists that their gateway did not know.
    pub groups_unknown: u64,
    /// Notices in the place of messages.
    pub notices_sent: u64,
}

/// A bundle on its way. It is moved several times, so it has 128 bytes at the most: what has more is copied by a call.
#[derive(Debug)]
struct Item {
    bundle: Bundle,
    /// The next recipient to write: its place, and where its name starts in the group's wire.
    write_place: u32,
    write_at: u32,
    /// The next recipient to be answered.
    answer_place: u32,
    refused: ThinVec<(u32, Refusal)>,
    /// Microseconds from when its bundle was made until it was written last, at least 1; 0: it never was, or is being written for the first
    /// time. See `written_at`.
    written_after: u32,
    /// Unary only: how often the gateway failed with it, and how many pushes had been answered when it first did.
    failures: u8,
    completed_before: u32,
    /// Its result is already home: a call that was answered out of turn, or what is late. Its place is kept.
    is_done: bool,
    /// It is late, and the stream may still answer it: nobody else's answer may be taken for its own. Its event's shard hears of its end
    /// once more when that is over.
    is_owed: bool,
    /// Urgent items that come do not pass it; where there are classes.
    is_ahead: bool,
    /// Protocol `group` only: how it was written.
    written: Written,
}

/// The outbox of one gateway.
#[derive(Debug)]
pub struct Outbox {
    settings: OutboxSettings,
    peer: Peer,
    queue: Queue,
    stream: Stream,
    health: Health,
    /// The last time an answer came that fitted, or the outbox had been empty.
    moved_at: Nanos,
    delivered: u64,
    unreached: u64,
    is_changed: bool,
    is_stopping: bool,
}

/// The gateway, as the registry lists it.
#[derive(Debug)]
struct Peer {
    id: GatewayId,
    id_hash: u32,
    record: Option<GatewayRecord>,
    unlisted_at: Option<Nanos>,
    refused_protocols: Vec<Protocol>,
    /// When it last refused calls as not implemented after it had answered some.
    left_unary_at: Option<Nanos>,
    elsewhere: Elsewhere,
}

/// The one stream, and what is on it.
#[derive(Debug)]
struct Stream {
    link: Link,
    /// It is to be opened though nothing is to be sent.
    is_wanted: bool,
    last_stream: StreamNo,
    /// Something was answered on this stream, and it fitted.
    has_answered: bool,
    /// Unary only: calls that were refused as not implemented since one was answered otherwise.
    not_implemented: u8,
    /// Unary only: no calls before this.
    calls_from: Nanos,
    /// What the gateway was told of groups.
    groups: Groups,
    /// Frames of `batch` and `group` that wait for their answer: how many items each.
    batches: VecDeque<(u64, usize)>,
    next_batch: u64,
    encoder: Encoder,
    partial: Vec<u8>,
    unsent_bytes: usize,
}

/// What the gateway's breaks and answers have shown.
#[derive(Debug, Default)]
struct Health {
    /// Since the last answer that was checked.
    failures_in_row: u32,
    suspect: PoisonIsolation,
    unrest: Unrest,
    /// Pushes that got all their answers, counted round.
    completed: u32,
}

impl Outbox {
    /// An empty one.
    pub fn new(id: GatewayId, settings: OutboxSettings) -> Self {
        let id_hash = fnv1a32(id.as_bytes());
        Self {
            peer: Peer {
                id,
                id_hash,
                record: None,
                unlisted_at: None,
                refused_protocols: Vec::new(),
                left_unary_at: None,
                elsewhere: Elsewhere::default(),
            },
            queue: Queue::new(settings.stream_target),
            settings,
            stream: Stream {
                link: Link::Closed,
                is_wanted: false,
                last_stream: StreamNo(0),
                has_answered: false,
                not_implemented: 0,
                calls_from: Nanos(0),
                groups: Groups::default(),
                batches: VecDeque::new(),
                next_batch: 1,
                encoder: Encoder::default(),
                partial: Vec::new(),
                unsent_bytes: 0,
            },
            health: Health::default(),
            moved_at: Nanos(0),
            delivered: 0,
            unreached: 0,
            is_changed: false,
            is_stopping: false,
        }
    }

    /// The gateway's id.
    pub fn id(&self) -> &GatewayId {
        &self.peer.id
    }

    /// FNV-1a of the id.
    pub fn id_hash(&self) -> u32 {
        self.peer.id_hash
    }

    /// Recipients queued or unanswered.
    pub fn backlog(&self) -> usize {
        self.queue.backlog
    }

    /// What the metric page says of it.
    pub fn row(&self, now: Nanos) -> GatewayRow {
        let oldest = self.queue.oldest().map_or(Duration::ZERO, |made_at| now.since(made_at));
        GatewayRow {
            gateway: self.peer.id.clone(),
            state: self.state(),
            backlog_recipients: self.queue.backlog as u64,
            oldest_push_seconds: oldest.as_secs(),
            delivered: self.delivered,
            timed_out: self.unreached,
        }
    }

    /// Whether it ever had anything to do here.
    pub fn is_used(&self) -> bool {
        self.peer.record.is_some() || self.queue.front_no > 0 || !self.queue.is_empty()
    }

    /// Marks it as changed; true when it was not.
    pub fn note_change(&mut self) -> bool {
        !std::mem::replace(&mut self.is_changed, true)
    }

    /// Takes a bundle, unless the outbox is full.
    ///
    /// # Errors
    /// The bundle's result: its recipients end as `outbox_full`.
    #[inline(always)]
    pub fn put(&mut self, bundle: Bundle, now: Nanos) -> Result<(), Box<BundleResult>> {
        if self.is_full(bundle.class, bundle.recipients(), now) {
            self.unreached += bundle.recipients() as u64;
            return Err(Box::new(BundleResult::turned_away(bundle, RecipientOutcome::OutboxFull)));
        }
        if self.queue.is_empty() {
            self.moved_at = now;
        }
        self.queue.backlog += bundle.recipients();
        self.queue.backlog_bytes += bundle.load().bytes;
        self.note_fleeting(&bundle);
        self.enqueue(bundle, now);
        Ok(())
    }

    /// A gateway that moves may have a long queue (its senders are held back by the shard's own bound); one that does
    /// not may have only the short one, so that it never holds what the others need.
    #[inline]
    fn is_full(&self, class: Priority, more: usize, now: Nanos) -> bool {
        if self.queue.backlog == 0 {
            return false;
        }
        let after = self.queue.backlog + more;
        let (most, recipients, bytes) = Self::bounds_of(class);
        let is_long = after > recipients || self.queue.backlog_bytes > bytes;
        let is_moving = self.queue.oldest().is_some_and(|made_at| now.since(made_at) < OUTBOX_MOVING_WITHIN);
        after > most || (is_long && !is_moving)
    }

    /// Ends the turn: opens a stream if one is needed and writes what the stream takes.
    pub fn flush(&mut self, at: GatewayIx, now: Nanos, effects: &mut Effects) {
        self.is_changed = false;
        self.link_up(at, now, effects);
        if let Link::Open { stream, protocol } = self.stream.link {
            self.shed_late(now, effects);
            match protocol {
                Protocol::Group => self.write_groups(at, stream, now, effects),
                Protocol::StreamMany => self.write_stream_many(at, stream, now, effects),
                Protocol::Stream => self.write_stream(at, stream, now, effects),
                Protocol::Batch => self.write_batches(at, stream, now, effects),
                Protocol::Unary => self.make_calls(at, stream, now, effects),
            }
            self.note_flushed(now);
        }
        self.link_down(at, now, effects);
    }

    /// The part of [`flush`](Self::flush) that writes nothing: for an outbox that has to wait for its turn.
    pub fn look_after_link(&mut self, at: GatewayIx, now: Nanos, effects: &mut Effects) {
        self.link_up(at, now, effects);
        self.link_down(at, now, effects);
    }

    /// Ends what has waited too long. True when the outbox wants to be flushed.
    pub fn tick(&mut self, now: Nanos, effects: &mut Effects) -> bool {
        if self.is_resting(now) {
            return false;
        }
        self.shed_late(now, effects);
        self.expire(now, effects);
        self.is_link_due(now)
    }

    /// The item at the front ends without (all) its answers; false when its result was home already.
    fn end_front(&mut self, end: RecipientOutcome, effects: &mut Effects) -> bool {
        let Some(item) = self.queue.pop_front() else { return false };
        !item.is_done && self.end_item(item, end, effects)
    }

    /// An item that is in the queue no more.
    fn end_item(&mut self, item: Item, end: RecipientOutcome, effects: &mut Effects) -> bool {
        // What is dropped for its age says nothing of the gateway.
        self.unreached += if end == RecipientOutcome::Shed { 0 } else { u64::from(item.unanswered()) };
        self.delivered += u64::from(item.answered()) - item.refused.len() as u64;
        let times = Times::of(item.bundle.made_at, item.is_begun().then(|| item.written_at()), None);
        let (from, refused, is_on_stream) = (item.answer_place, item.refused.into_iter().collect(), item.is_owed);
        let end = BundleEnd::Unanswered { from, refused, end, is_on_stream };
        let bundle = item.bundle.as_it_was_sent(item.written.is_notice);
        effects.results.push_back(BundleResult { bundle, end, times });
        true
    }

    /// The item at the front has all its answers.
    #[inline]
    fn complete_front(&mut self, now: Nanos, effects: &mut Effects) {
        if self.queue.front().is_some_and(|front| front.is_done) {
            return self.complete_front_late(effects);
        }
        let Some(item) = self.queue.pop_front() else { return };
        self.complete(item, now, effects);
    }

    #[cold]
    fn complete_front_late(&mut self, effects: &mut Effects) {
        if let Some(item) = self.queue.pop_front() {
            self.complete_late(item, effects);
        }
    }

    /// Inlined, so that an item is moved from its queue to the results at once.
    #[inline(always)]
    fn complete(&mut self, item: Item, now: Nanos, effects: &mut Effects) {
        self.delivered += (item.bundle.recipients() - item.refused.len()) as u64;
        self.moved_at = now;
        self.note_completed();
        effects.gateway_waits.push(now.nanos_since(item.written_at()));
        // The group goes home with its result.
        if let Some(keeps) = self.keeps_lists() {
            item.bundle.group.say_keeps_lists(keeps);
        }
        let times = Times::of(item.bundle.made_at, Some(item.written_at()), Some(now));
        let bundle = item.bundle.as_it_was_sent(item.written.is_notice);
        let end = BundleEnd::Answered(item.refused.into_iter().collect());
        effects.results.push_back(BundleResult { bundle, end, times });
    }

    fn note_completed(&mut self) {
        self.health.completed = self.health.completed.wrapping_add(1);
        self.health.suspect.answered();
    }
}
