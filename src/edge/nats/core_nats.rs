//! Core NATS: what the server sends is put into the lanes, in order.
//!
//! Promises that what one connection delivers is handed in in that order, after all that the one before it had delivered;
//! that no more than [`NATS_PENDING_MESSAGES`] events and [`NATS_PENDING_BYTES`] wait here for their lanes, beyond which
//! nothing is read; and that a connection which the server cuts for that is counted and said. The broker keeps nothing, so
//! there is nothing to acknowledge.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::connection::{Connection, Heard};
use super::feed::{End, Feed, LANE_LOOK, LEAVE_DEADLINE, round_trip};
use super::protocol::{ErrorKind, Marks, published, subscribe, unsubscribe};
use super::server;
use crate::config::NatsConfig;
use crate::model::ids::ShardId;
use crate::model::limits::{NATS_PENDING_BYTES, NATS_PENDING_MESSAGES};
use crate::model::priority::Said;
use crate::ports::intake::Passage;
use crate::ports::{DeliveryTag, Intake};
use crate::push::facts::Input;
use crate::telemetry::log_limiter::LogLimiter;

/// When there is nothing to do.
const IDLE_LOOK: Duration = Duration::from_secs(3600);

/// What one reader subscribes to.
#[derive(Clone, Debug)]
pub(super) struct CorePlan {
    pub reader: u16,
    /// Whose all events are; none when their sessions decide.
    pub own: Option<ShardId>,
    pub subjects: Vec<String>,
    pub queue_group: String,
}

/// Reads core NATS.
pub(super) struct CoreFeed {
    plan: CorePlan,
    nats: Arc<NatsConfig>,
    intake: Intake,
    next: u64,
    waiting: Waiting,
    /// While a connection is opened, what it brings is put aside: what the one before it brought comes first.
    early: Option<Waiting>,
    said: LogLimiter,
    slow: LogLimiter,
    is_moving: bool,
}

/// Events that were read and are not in their lanes.
#[derive(Default)]
struct Waiting {
    plain: Queue,
    urgent: Queue,
}

/// Those of one way.
#[derive(Default)]
struct Queue {
    events: VecDeque<Bytes>,
    bytes: usize,
    /// How many have gone from the front.
    gone: u64,
    /// Of which of all something is known, ascending; and what.
    marked: VecDeque<(u64, Mark)>,
}

/// What is known of an event beside its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark {
    is_replay: bool,
    passage: Passage,
}

impl Mark {
    const NONE: Self = Self { is_replay: false, passage: Passage::plain(Said::Nothing) };
}

impl Queue {
    fn push(&mut self, payload: Bytes, mark: Mark) {
        if mark != Mark::NONE {
            self.marked.push_back((self.gone + self.events.len() as u64, mark));
        }
        self.bytes += payload.len();
        self.events.push_back(payload);
    }

    /// What is known of the one at the front.
    fn mark(&self) -> Mark {
        self.marked.front().filter(|(of, _)| *of == self.gone).map_or(Mark::NONE, |(_, mark)| *mark)
    }

    /// The one at the front, with so many bytes, has gone.
    fn has_gone(&mut self, bytes: usize) {
        if self.marked.front().is_some_and(|(of, _)| *of == self.gone) {
            self.marked.pop_front();
        }
        self.gone += 1;
        self.bytes -= bytes;
    }

    /// Behind these come those.
    fn append(&mut self, mut others: Self) {
        while let Some(payload) = others.events.pop_front() {
            let (mark, bytes) = (others.mark(), payload.len());
            others.has_gone(bytes);
            self.push(payload, mark);
        }
    }
}

impl Waiting {
    fn push(&mut self, payload: Bytes, mark: Mark) {
        self.on_way(mark.passage.goes_first).push(payload, mark);
    }

    fn on_way(&mut self, goes_first: bool) -> &mut Queue {
        if goes_first { &mut self.urgent } else { &mut self.plain }
    }

    fn append(&mut self, others: Self) {
        self.plain.append(others.plain);
        self.urgent.append(others.urgent);
    }

    fn is_empty(&self) -> bool {
        self.plain.events.is_empty() && self.urgent.events.is_empty()
    }

    fn is_full(&self) -> bool {
        self.plain.events.len() + self.urgent.events.len() >= NATS_PENDING_MESSAGES
            || self.plain.bytes + self.urgent.bytes >= NATS_PENDING_BYTES
    }
}

impl CoreFeed {
    pub(super) fn new(plan: CorePlan, nats: Arc<NatsConfig>, intake: Intake) -> Self {
        Self {
            plan,
            nats,
            intake,
            next: 0,
            waiting: Waiting::default(),
            early: None,
            said: LogLimiter::default(),
            slow: LogLimiter::default(),
            is_moving: false,
        }
    }

    /// Puts in what the lanes take.
    fn put(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut burst = self.intake.burst();
        for goes_first in [true, false] {
            let waiting = self.waiting.on_way(goes_first);
            while let Some(payload) = waiting.events.pop_front() {
                let tag = DeliveryTag { reader: self.plan.reader, number: self.next };
                let (mark, bytes) = (waiting.mark(), payload.len());
                if mark.is_replay {
                    let shard = self.plan.own.unwrap_or_else(|| self.intake.home_of(&payload));
                    if self.intake.tell(shard, Input::Replayed(tag)).is_err() {
                        waiting.events.push_front(payload);
                        break;
                    }
                }
                burst.on(mark.passage);
                // A refusal is counted where it is made.
                let put = match self.plan.own {
                    Some(shard) => burst.try_put_to(shard, payload, tag),
                    None => burst.try_put(payload, tag),
                };
                if let Err(payload) = put {
                    waiting.events.push_front(payload);
                    break;
                }
                self.next += 1;
                waiting.has_gone(bytes);
            }
            // What a pause had let grow.
            waiting.events.shrink_to(LANE_KEPT);
        }
    }

    /// Whether the server confirmed that nothing follows.
    async fn left(&mut self, connection: &mut Connection, deadline: Instant) -> bool {
        loop {
            match round_trip(self, connection, deadline).await {
                Ok(is_left) => return is_left,
                // It is about to end anyway.
                Err(End::Moves) => {}
                Err(End::Lost(_)) => return false,
            }
        }
    }

    fn say_cut_off(&self, connection: &Connection) {
        self.intake.note_cut_off();
        tracing::warn!(
            reader = self.plan.reader,
            "NATS at {}: the server cut the connection after nothing was read for a while: what it held is lost, and not \
             counted",
            connection.at
        );
    }

    fn hear_refusal(&mut self, text: &str) {
        if let Some(left_out) = self.said.allow() {
            tracing::warn!(reader = self.plan.reader, left_out, "NATS says: {text}");
        }
    }
}

/// Room for events that wait which is kept when nothing waits.
const LANE_KEPT: usize = 1024;

impl Feed for CoreFeed {
    const MAY_OVERLAP: bool = true;

    fn uses(&mut self, nats: Arc<NatsConfig>) {
        self.nats = nats;
    }

    async fn open(&mut self, connection: &mut Connection, _is_read: bool) -> Result<(), String> {
        for (at, subject) in self.plan.subjects.iter().enumerate() {
            let group = Some(self.plan.queue_group.as_bytes());
            subscribe(&mut connection.out, subject.as_bytes(), group, at as u64 + 1)
                .map_err(|error| format!("consumer.topic or consumer.queue_group cannot be subscribed to: {error}"))?;
        }
        let deadline = Instant::now() + self.nats.timeout;
        self.early = Some(Waiting::default());
        match round_trip(self, connection, deadline).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                Err(format!("does not answer the subscription within {:?}; check its load", self.nats.timeout))
            }
            Err(End::Lost(why)) => Err(why),
            Err(End::Moves) => Err("the server is about to end".to_owned()),
        }
    }

    fn opened(&mut self) {
        self.waiting.append(self.early.take().unwrap_or_default());
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>, connection: &mut Connection) -> Poll<Result<(), End>> {
        self.put();
        let is_full = self.waiting.is_full();
        connection.pause(is_full);
        if is_full && let Some(left_out) = self.slow.allow() {
            tracing::warn!(
                reader = self.plan.reader,
                limit = NATS_PENDING_MESSAGES,
                left_out,
                "NATS: the shards are paused and the reader is full: nothing is read; what the server cannot hold meanwhile is lost"
            );
        }
        let waiting = self.early.as_mut().unwrap_or(&mut self.waiting);
        let (intake, own) = (&self.intake, self.plan.own);
        let (mut refused, mut is_moving, mut stray) = (None, false, None);
        let ours = 1..=self.plan.subjects.len() as u64;
        let turn = connection.poll_turn(cx, &mut |chunk: &Bytes, heard: Heard<'_>| match heard {
            Heard::Message(message) if ours.contains(&message.sid) => {
                let Marks { is_replay, said } = Marks::of(message.headers, intake.class_header());
                let passage = intake.passage(own, message.payload, said);
                let passage = match intake.reads_published() {
                    true => passage.published(published(message.headers)),
                    false => passage,
                };
                waiting.push(chunk.slice_ref(message.payload), Mark { is_replay, passage });
            }
            Heard::Message(message) => stray = Some(message.sid),
            Heard::Refused(error) => refused = Some(error),
            Heard::LameDuck => is_moving = true,
        });
        self.put();
        self.is_moving |= is_moving;
        if let Some(subscription) = stray
            && let Some(left_out) = self.said.allow()
        {
            let reader = self.plan.reader;
            tracing::warn!(
                reader,
                subscription,
                left_out,
                "NATS: received a message for no subscription of ours; left alone"
            );
        }
        if let Some(error) = refused {
            let text = server::mask(&self.nats.auth, &error.words);
            self.hear_refusal(&text);
            if let ErrorKind::MayNotSubscribe { subject, .. } = &error.kind {
                let who = server::who(&self.nats.auth);
                return Poll::Ready(Err(End::Lost(server::may_not_subscribe(&who, subject, &text))));
            }
        }
        match turn {
            Poll::Ready(Err(why)) => {
                if connection.was_cut_off() {
                    self.say_cut_off(connection);
                }
                Poll::Ready(Err(End::Lost(server::mask(&self.nats.auth, &why))))
            }
            _ if std::mem::take(&mut self.is_moving) => Poll::Ready(Err(End::Moves)),
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn next_due(&self, now: Instant) -> Instant {
        now + if self.waiting.is_empty() { IDLE_LOOK } else { LANE_LOOK }
    }

    async fn leave(&mut self, connection: &mut Connection) {
        for at in 0..self.plan.subjects.len() {
            unsubscribe(&mut connection.out, at as u64 + 1, None);
        }
        let deadline = Instant::now() + LEAVE_DEADLINE;
        // Of the next connection, if one is opened already.
        let early = self.early.take();
        let left = self.left(connection, deadline).await;
        self.early = early;
        if !left {
            tracing::warn!(reader = self.plan.reader, "NATS at {}: no answer while leaving", connection.at);
        }
    }

    fn lost(&mut self) {
        self.opened();
    }

    fn idle(&mut self) {
        self.put();
    }

    fn is_handed_in(&self) -> bool {
        self.waiting.is_empty()
    }

    fn has_acks(&self) -> bool {
        false
    }

    async fn finish(&mut self, _connection: &mut Connection) -> bool {
        true
    }

    fn unfed(&self) -> Option<&str> {
        None
    }

    fn what(&self) -> String {
        format!("subscribed to {} subjects", self.plan.subjects.len())
    }
}
