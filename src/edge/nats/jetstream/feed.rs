//! JetStream over a reader's connection: pulls out, events into the lanes, settlements back, on one shard.
//!
//! Promises that it never waits for a lane with events unread behind it: what came is noted at once, so that its work is
//! reported to the server while it waits, and that nothing is asked for as long as something waits for its lane; that a
//! settlement leaves with the next write; and that settlements outlast the connection they came over.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::api::{AT_ONCE, ApiError, Request, pull_subject, read};
use super::lines::Lines;
use super::looks::Looks;
use super::mover::Mover;
use super::owned::LOOK;
use super::prepare::prepare;
use super::session::Session;
use super::{ADVISORIES, ANSWERS, JetFeed, PUBLISHED, PULLS, READ_BACK, given_up, pulls, rights, stored};
use crate::config::NatsConfig;
use crate::edge::nats::connection::{Connection, Heard};
use crate::edge::nats::control::{Mail, Phase};
use crate::edge::nats::feed::{End, Feed, LANE_LOOK, LEAVE_DEADLINE, drive, round_trip};
use crate::edge::nats::protocol::subscribe;
use crate::edge::nats::server;
use crate::edge::random::random;
use crate::push::facts::Input;

/// What waits for room in the window is looked at so often.
const ROOM_LOOK: Duration = Duration::from_millis(4);
/// Bytes to be written beyond which no more mail is taken.
pub(super) const OUT_BYTES_MAX: usize = 256 * 1024;
/// How long pulls that stand may go on delivering once nothing is asked for any more, and how long they must be quiet:
/// what is under way when they are ended comes again only after ack_wait.
const PULLS_DEADLINE: Duration = Duration::from_secs(1);
const PULLS_QUIET: Duration = Duration::from_millis(50);
/// Differences that are said one by one.
const DIFFERENCES_SAID: usize = 8;

impl JetFeed {
    /// Many requests and their answers, in the order of the requests. The outer error holds for all.
    pub(super) async fn call_all<T: for<'de> serde::Deserialize<'de>>(
        &mut self,
        connection: &mut Connection,
        requests: &[Request],
    ) -> Result<Vec<Result<T, ApiError>>, ApiError> {
        let mut answers = Vec::with_capacity(requests.len());
        for some in requests.chunks(AT_ONCE) {
            let (now, timeout) = (Instant::now(), self.nats.timeout);
            let inbox = self.answers_to();
            let batch = self.calls.begin(some, &inbox, (now, timeout), &mut self.lines);
            let mut taken = None;
            let is_over = |feed: &mut Self, _: &Connection| {
                taken = feed.calls.take(batch, Instant::now());
                taken.is_some() || feed.refused.why.is_some()
            };
            let driven = drive(self, connection, now + timeout, is_over).await;
            if let Some(text) = self.refused.why.take() {
                return Err(ApiError::Forbidden(text));
            }
            if let Err(End::Lost(why)) = driven {
                return Err(ApiError::Broken(why));
            }
            let taken = taken.or_else(|| self.calls.take(batch, Instant::now()));
            let taken = taken.unwrap_or(Err(ApiError::TooLate(timeout)))?;
            if taken.contains(&Err(ApiError::NobodyAnswers)) {
                return Err(ApiError::NobodyAnswers);
            }
            answers.extend(taken.into_iter().map(|answer| answer.and_then(|bytes| read(&bytes))));
        }
        Ok(answers)
    }

    pub(super) fn answers_to(&self) -> String {
        format!("{}.a", self.inbox)
    }

    pub(super) fn say_differences(&mut self, all: &[String]) {
        if all.is_empty() || std::mem::replace(&mut self.voices.has_said_differences, true) {
            return;
        }
        for difference in all.iter().take(DIFFERENCES_SAID) {
            tracing::warn!("JetStream: {difference}; it is used as it is, what exists is never changed");
        }
        if all.len() > DIFFERENCES_SAID {
            tracing::warn!("JetStream: {} more differences", all.len() - DIFFERENCES_SAID);
        }
    }

    /// Answers what can be answered at once, and keeps what was settled.
    fn take_mail(&mut self) {
        while let Ok(mail) = self.control.inbox.try_recv() {
            match mail {
                Mail::Settled(settled) => self.unsaid.push_back(settled),
                Mail::Order(order) => self.take_order(order),
                Mail::WhereFrom(tag, then) => {
                    then(self.flight.origin(tag.number, |consumer| self.plan.consumers[consumer].filter.clone()));
                }
            }
        }
    }

    fn settle(&mut self) {
        while self.lines.bytes() < OUT_BYTES_MAX
            && let Some(settled) = self.unsaid.pop_front()
        {
            self.flight.settle_all(&settled, &mut self.lines);
            (self.is_unconfirmed, self.confirms) = (true, None);
        }
        for reply in self.owned.iter_mut().flat_map(|owned| owned.owed_acks.drain(..)) {
            self.lines.put(&reply, None, b"+ACK");
            (self.is_unconfirmed, self.confirms) = (true, None);
        }
    }

    /// Once nothing is read any more, the connection may be closed only when the server has all that was said: what a socket
    /// holds when it is closed may be lost.
    fn confirm(&mut self, connection: &mut Connection) {
        if !self.is_unconfirmed || self.session.is_some() {
            return;
        }
        let ping = *self.confirms.get_or_insert_with(|| connection.ping());
        if connection.has_answered(ping) {
            (self.is_unconfirmed, self.confirms) = (false, None);
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
            while let Some((payload, tag, passage)) = waiting.pop_front() {
                if !self.replays.is_empty() && self.replays.contains(&tag.number) {
                    let shard = self.plan.own.unwrap_or_else(|| self.intake.home_of(&payload));
                    if self.intake.tell(shard, Input::Replayed(tag)).is_err() {
                        waiting.push_front((payload, tag, passage));
                        break;
                    }
                    self.replays.remove(&tag.number);
                }
                burst.on(passage);
                // A refusal is counted where it is made; the event stays noted and is given back at the end.
                let put = match self.plan.own {
                    Some(shard) => burst.try_put_to(shard, payload, tag),
                    None => burst.try_put(payload, tag),
                };
                if let Err(payload) = put {
                    waiting.push_front((payload, tag, passage));
                    break;
                }
            }
        }
    }

    fn ask(&mut self, now: Instant) {
        let Some(session) = self.session.as_mut().filter(|_| self.waiting.is_empty() && !self.has_left) else { return };
        let (flight, plan, lines, inbox) = (&self.flight, &self.plan, &mut self.lines, &self.inbox);
        let owned = self.owned.as_ref();
        session.ask(
            now,
            |consumer| flight.out_of_generation(consumer),
            |ask| {
                let name = &plan.consumers[ask.consumer as usize].name;
                let subject = pull_subject(&plan.stream, name);
                // The last two say whose pull it is.
                let reply = match owned.map(|owned| owned.places[ask.consumer as usize].opening) {
                    Some(opening) => format!("{inbox}.p.{opening}.{}.{}", ask.consumer, ask.id),
                    None => format!("{inbox}.p.{}.{}", ask.consumer, ask.id),
                };
                lines.put(subject.as_bytes(), Some(reply.as_bytes()), pulls::body(ask).as_bytes());
            },
        );
    }

    fn subscribe(&mut self, connection: &mut Connection, is_read: bool) -> Result<(), String> {
        let words = |error| format!("a subject cannot be subscribed to: {error}");
        let (pulls, answers) = (format!("{}.p.*.*", self.inbox), format!("{}.a.*", self.inbox));
        let advisories = given_up::subject(&self.plan.stream);
        let (published, read_back) = (format!("{}.m.*.*.*", self.inbox), format!("{}.r", self.inbox));
        let moves = [(&published, PUBLISHED), (&read_back, READ_BACK)].into_iter().filter(|_| self.mover.is_some());
        let all = [(&pulls, PULLS), (&answers, ANSWERS), (&advisories, ADVISORIES)].into_iter().chain(moves);
        // Each partition that has an owner is subscribed to by itself.
        let pulls_now = is_read && self.owned.is_none();
        for (subject, number) in all.filter(|(_, number)| pulls_now || *number != PULLS) {
            subscribe(&mut connection.out, subject.as_bytes(), None, number).map_err(words)?;
        }
        Ok(())
    }

    /// Why the connection is of no use, once all that the server refuses of what was written is known.
    fn refused_for_good(&mut self, connection: &mut Connection) -> Option<String> {
        self.refused.why.as_ref()?;
        let ping = *self.refused.until.get_or_insert_with(|| connection.ping());
        if connection.has_answered(ping) { self.refused.why.take() } else { None }
    }

    async fn confirmed(&mut self, connection: &mut Connection) -> Result<(), String> {
        let (deadline, timeout) = (Instant::now() + self.nats.timeout, self.nats.timeout);
        // Before the PING: its answer says that all of it was worked off.
        self.lines.append_to(&mut connection.out);
        let answered = round_trip(self, connection, deadline).await;
        if let Some(text) = self.refused.why.take() {
            return Err(ApiError::Forbidden(text).to_string());
        }
        match answered {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("does not answer within {timeout:?}; check its load")),
            Err(End::Lost(why)) => Err(why),
            Err(End::Moves) => Err("the server is about to end".to_owned()),
        }
    }

    async fn prepared(&mut self, connection: &mut Connection, is_read: bool) -> Result<(), String> {
        self.subscribe(connection, is_read)?;
        self.confirmed(connection).await?;
        // Also when only acks are left: what the server knows of its deliveries decides which may be written.
        let prepared = prepare(self, connection).await?;
        // An event whose ack is refused comes again for ever: none is asked for before it is known that acks pass.
        for (subject, word) in rights::probe(&self.plan, is_read) {
            self.lines.put(subject.as_bytes(), None, word.as_bytes());
        }
        self.confirmed(connection).await?;
        match &self.owned {
            None => stored::open(self, connection, prepared.terms.iter().any(|terms| terms.from.is_some())).await?,
            Some(_) if self.mover.is_some() => self.open_input(connection, is_read).await?,
            Some(_) => {}
        }
        let now = Instant::now();
        self.looks = Looks::new(prepared.ack_wait, now);
        self.owned.iter_mut().for_each(|owned| owned.lost_at = None);
        self.session = is_read.then(|| match &self.owned {
            Some(owned) => Session::of_none(owned.places.len()),
            None => Session::new(prepared.terms, now),
        });
        Ok(())
    }
}

impl Feed for JetFeed {
    // Two that pull at once for one reader would lose a partition's order.
    const MAY_OVERLAP: bool = false;

    fn uses(&mut self, nats: Arc<NatsConfig>) {
        self.nats = nats;
    }

    async fn open(&mut self, connection: &mut Connection, is_read: bool) -> Result<(), String> {
        self.lost();
        self.inbox = format!("_INBOX.{:016x}{:016x}", random(), random());
        (self.is_opening, self.has_left) = (true, false);
        let opened = self.prepared(connection, is_read).await;
        self.is_opening = false;
        opened
    }

    /// Nothing is pulled before the old connection is left.
    fn opened(&mut self) {}

    fn poll_turn(&mut self, cx: &mut Context<'_>, connection: &mut Connection) -> Poll<Result<(), End>> {
        let now = Instant::now();
        self.take_mail();
        if let Some(why) = self.abandons() {
            return Poll::Ready(Err(End::Lost(why)));
        }
        if !self.is_opening {
            // What an owner may not do any more waits, and goes on when it may.
            let may = self.intake.permit().poll(cx).is_ready();
            if may && connection.out.len() < OUT_BYTES_MAX {
                self.settle();
                self.look(now);
                self.move_events(now, connection.out.len());
            }
            if self.owned.is_some() {
                self.step_all(Some(connection), now);
            }
            self.put();
            if may {
                self.ask(now);
                self.step_started();
            }
        }
        self.lines.append_to(&mut connection.out);
        self.confirm(connection);
        let turn = connection.poll_turn(cx, &mut |chunk: &Bytes, heard: Heard<'_>| self.hear(chunk, heard, now));
        self.flight.forget_places();
        self.confirm(connection);
        if !self.is_opening {
            self.put();
            if let Some(why) = self.refused_for_good(connection) {
                return Poll::Ready(Err(End::Lost(why)));
            }
        }
        match turn {
            // Only with nothing left to read: the answer may lie there.
            Poll::Pending if let Some(why) = self.unanswered(now) => Poll::Ready(Err(End::Lost(why))),
            Poll::Ready(Err(why)) => Poll::Ready(Err(End::Lost(server::mask(&self.nats.auth, &why)))),
            _ if std::mem::take(&mut self.is_moving) => Poll::Ready(Err(End::Moves)),
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn next_due(&self, now: Instant) -> Instant {
        if !self.waiting.is_empty() {
            return now + LANE_LOOK;
        }
        let steps = self.owned.as_ref().map(|owned| match owned.busy.is_empty() && owned.untold.is_empty() {
            true => owned.hold_at.max(now + ROOM_LOOK),
            false => owned.ahead.next_due().map_or(now + LOOK, |due| due.min(now + LOOK)),
        });
        let is_hungry = self.session.as_ref().is_some_and(Session::is_hungry) && !self.has_left;
        // Without a permit nothing is due: who gives it wakes us.
        let looks = match self.intake.permit().holds() {
            true => self.looks.next_due(self.flight.is_empty()),
            false => now + LOOK,
        };
        let next = if is_hungry { looks.min(now + ROOM_LOOK) } else { looks };
        let next = steps.map_or(next, |steps| steps.min(next));
        let next = self.resume.next_due(now).map_or(next, |due| next.min(due));
        let moves = self.mover.as_ref().and_then(|mover| mover.next_due());
        let next = moves.map_or(next, |due| next.min(self.epoch + Duration::from_nanos(due.0)));
        next.max(now + LANE_LOOK)
    }

    async fn leave(&mut self, connection: &mut Connection) {
        self.has_left = true;
        if self.control.phase() > Phase::Reading {
            self.flight.end();
        }
        // What the server has on its way for a subscription that ends is lost until ack_wait.
        let is_over = |feed: &mut Self, _: &Connection| {
            let asked = feed.session.as_ref().map_or(0, Session::asked);
            asked == 0 || feed.last_arrival.elapsed() >= PULLS_QUIET
        };
        self.last_arrival = Instant::now();
        let over = drive(self, connection, Instant::now() + PULLS_DEADLINE, is_over).await;
        match &self.owned {
            None => self.lines.unsubscribe(PULLS),
            Some(_) => self.leave_all(),
        }
        self.lines.append_to(&mut connection.out);
        let left = match over {
            Ok(_) | Err(End::Moves) => round_trip(self, connection, Instant::now() + LEAVE_DEADLINE).await,
            Err(lost) => Err(lost),
        };
        if !matches!(left, Ok(true) | Err(End::Moves)) {
            tracing::warn!(reader = self.plan.reader, "NATS at {}: no answer while leaving", connection.at);
        }
        self.session = None;
    }

    fn lost(&mut self) {
        self.calls.clear();
        self.lines = Lines::default();
        self.mover.iter_mut().for_each(Mover::lost);
        self.session = None;
        self.looks.forget();
        self.resume.lost();
        (self.refused.why, self.refused.until) = (None, None);
        (self.is_unconfirmed, self.confirms) = (false, None);
        self.is_opening = false;
        if let Some(owned) = &mut self.owned {
            owned.lost();
        }
    }

    fn idle(&mut self) {
        self.put();
        self.take_mail();
        if self.owned.is_some() {
            self.step_alone(Instant::now());
        }
    }

    fn is_handed_in(&self) -> bool {
        self.waiting.is_empty()
    }

    fn has_acks(&self) -> bool {
        !self.flight.is_empty() || self.is_unconfirmed || self.owned.as_ref().is_some_and(|owned| owned.is_any())
    }

    async fn finish(&mut self, connection: &mut Connection) -> bool {
        self.finish_moves(connection).await;
        self.flight.end();
        self.take_mail();
        while !self.unsaid.is_empty() {
            self.settle();
            self.lines.append_to(&mut connection.out);
        }
        let given_back = self.flight.give_back(&mut self.lines);
        if given_back > 0 {
            tracing::info!(reader = self.plan.reader, given_back, "JetStream: unsettled events are given back");
        }
        self.lines.append_to(&mut connection.out);
        let is_done = matches!(round_trip(self, connection, Instant::now() + self.nats.timeout).await, Ok(true));
        self.is_unconfirmed &= !is_done;
        is_done
    }

    fn unfed(&self) -> Option<&str> {
        self.mover.as_ref().and_then(Mover::unfed).or(self.unfed.as_deref())
    }

    fn what(&self) -> String {
        match &self.mover {
            Some(mover) => format!("JetStream: moving events from {} to {}", self.plan.stream, mover.stream),
            None => format!("JetStream: reading {}", self.plan.stream),
        }
    }

    fn needs_stores(&self) -> bool {
        self.mover.is_none()
    }

    fn is_wanted(&self) -> bool {
        self.is_input_wanted()
    }
}
