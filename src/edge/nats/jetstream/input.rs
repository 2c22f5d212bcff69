//! The input stream: what is moved over a connection, and the input stream as a partition that has an owner.
//!
//! Promises of an input stream that has an owner: its connection stands as long as it is open and no longer; nothing is published
//! without a permit, and what was published and has no answer when the permit ends, or when the stream goes elsewhere, is taken out of
//! the socket with the connection (it is reset, also when the process is killed); and that a close which calls itself clean left nothing
//! that a successor has to look for.

use std::time::{Duration, Instant};

use super::JetFeed;
use super::api::{ConsumerInfo, code, consumer_info, one};
use super::feed::OUT_BYTES_MAX;
use super::mover::Mover;
use super::owned::{Of, Stage};
use super::stored;
use crate::edge::nats::connection::Connection;
use crate::edge::nats::feed::drive;
use crate::model::limits::USER_TIMEOUT_OWNED;
use crate::model::ownership::Break;

/// How long it may take at a stop or a close to move what is held; at a stop half of it for the answers that are still to come then.
const MOVES_DEADLINE: Duration = Duration::from_secs(1);
/// The place of the input stream among the consumers of its reader.
const INPUT: usize = 0;

impl JetFeed {
    /// Moves what the partitioner has to move; `unsent` bytes wait to be written already.
    pub(super) fn move_events(&mut self, now: Instant, unsent: usize) {
        let now = self.nanos(now);
        let Some(mover) = self.mover.as_mut().filter(|_| self.intake.permit().holds()) else { return };
        let out = (&mut self.lines, OUT_BYTES_MAX.saturating_sub(unsent));
        if mover.work(now, &self.inbox, out, &mut self.flight) {
            (self.is_unconfirmed, self.confirms) = (true, None);
        }
    }

    /// Why the connection is of no use: a publish has no answer.
    pub(super) fn unanswered(&mut self, now: Instant) -> Option<String> {
        let now = self.nanos(now);
        let mover = self.mover.as_mut().filter(|_| !self.is_opening)?;
        if mover.is_stale() {
            return Some(format!("what may be stored in stream {} is to be looked for again", mover.stream));
        }
        let (stream, limit) = (&mover.stream.clone(), self.nats.timeout);
        mover.is_silent(now).then(|| format!("stream {stream} did not confirm an event within {limit:?}"))
    }

    /// What is held is moved, unless the stream takes nothing, and what is under way is waited for: so that whoever comes next
    /// finds nothing unsettled, or need not look for it.
    pub(super) async fn finish_moves(&mut self, connection: &mut Connection) {
        if self.mover.is_none() {
            return;
        }
        let is_moved = |feed: &mut Self, _: &Connection| {
            feed.flight.is_empty() || feed.mover.as_ref().is_none_or(|mover| mover.unfed().is_some())
        };
        let moved = drive(self, connection, Instant::now() + MOVES_DEADLINE, is_moved).await;
        self.mover.iter_mut().for_each(Mover::stop);
        let is_over = |feed: &mut Self, _: &Connection| feed.mover.as_ref().is_none_or(|mover| mover.under_way() == 0);
        if moved.is_ok() {
            let _ = drive(self, connection, Instant::now() + MOVES_DEADLINE / 2, is_over).await;
        }
        self.move_events(Instant::now(), 0);
        self.mover.iter_mut().for_each(Mover::forget);
    }

    fn input_stage(&self) -> Option<&Stage> {
        self.owned.as_ref().filter(|_| self.mover.is_some()).map(|owned| &owned.places[INPUT].stage)
    }

    /// Whether a connection is wanted: of an input stream that has an owner only while it is here.
    pub(super) fn is_input_wanted(&self) -> bool {
        self.input_stage().is_none_or(|stage| !matches!(stage, Stage::Absent | Stage::Broken))
    }

    /// Why the connection of an input stream that has an owner is to be given up at once, with all that it holds.
    pub(super) fn abandons(&mut self) -> Option<String> {
        let is_to_open = matches!(self.input_stage()?, Stage::ToOpen) && !self.is_opening;
        let mover = self.mover.as_mut()?;
        if mover.under_way() > 0 && !self.intake.permit().holds() {
            return Some(
                "the permit is over while publishes have no answer; they are looked for when it is given again"
                    .to_owned(),
            );
        }
        let why = "it is given up with what it holds, and the input stream is opened over another connection";
        (std::mem::take(&mut mover.is_dropped) || is_to_open).then(|| why.to_owned())
    }

    /// Opens an input stream that has an owner over a new connection, if it is to be read and is not being closed.
    ///
    /// # Errors
    /// What is wrong and what to do.
    pub(super) async fn open_input(&mut self, connection: &mut Connection, is_read: bool) -> Result<(), String> {
        // What is confirmed needs no orderly end of the connection; what is not must not arrive after one.
        connection.resets_when_closed(USER_TIMEOUT_OWNED);
        let Some(owned) = &mut self.owned else { return Ok(()) };
        if !is_read || !matches!(owned.places[INPUT].stage, Stage::ToOpen) {
            return Ok(());
        }
        owned.places[INPUT].opening += 1;
        // No partition's repeat window is read for it: what is moved is pushed by whoever owns its partition.
        owned.places[INPUT].knows_window = true;
        let subject = format!("{}.p.{}.{INPUT}.*", self.inbox, owned.places[INPUT].opening);
        self.lines.subscribe(&subject, owned.sid(INPUT, Of::Pulls));
        owned.set(INPUT, Stage::Informing { batch: None, at: Instant::now() });
        let (stream, consumer) = (self.plan.stream.clone(), self.plan.consumers[INPUT].name.clone());
        match one(self.call_all::<ConsumerInfo>(connection, &[consumer_info(&stream, &consumer)]).await) {
            Ok(info) if matches!(self.input_stage(), Some(Stage::Informing { .. })) => {
                self.informed(INPUT, &info, Instant::now());
            }
            Err(error) if error.is(code::CONSUMER_NOT_FOUND) => self.broken(INPUT, Break::Deleted),
            Err(error) => return Err(error.to_string()),
            Ok(_) => {}
        }
        match self.input_stage() {
            Some(Stage::Starting(_)) => stored::open(self, connection, false).await,
            _ if self.is_input_wanted() => Ok(()),
            _ => Err(format!("consumer {consumer} of stream {stream} is not read")),
        }
    }

    /// Nothing more comes: what is held is moved, unless that takes too long or cannot be. Then what is not under way is left to
    /// whoever takes the stream, and what is has its answer or ends with the connection.
    pub(super) fn drain_input(&mut self, is_connected: bool, now: Instant) {
        let Some(mover) = &mut self.mover else { return };
        let ends_at = *mover.drains_until.get_or_insert(now + MOVES_DEADLINE);
        if is_connected && now < ends_at && mover.unfed().is_none() {
            return;
        }
        mover.stop();
        if is_connected && mover.under_way() > 0 {
            return;
        }
        mover.forget();
        self.flight.numbers(INPUT).into_iter().for_each(|number| self.flight.leave(number));
    }

    /// Whether whoever takes it over after this close need not look for what somebody before us had published: `to_come` events
    /// were not delivered here.
    pub(super) fn is_looked_for(&mut self, at: usize, to_come: u64) -> bool {
        let (floor, seen) = (self.flight.settled(at).floor, self.flight.seen(at));
        self.mover.as_ref().is_none_or(|mover| to_come == 0 || seen == 0 || !mover.suspects_above(floor))
    }
}
