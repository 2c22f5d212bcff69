//! The steps of partitions that are opened or closed, each done when what it waits for is there.

use std::mem;
use std::time::{Duration, Instant};

use super::JetFeed;
use super::api::{ConsumerInfo, code, consumer_info, read_one};
use super::lines::Lines;
use super::owned::{Account, LOOK, Of, Stage};
use super::prepare::terms_of;
use super::usable::refusal;
use super::window::ReadBack;
use crate::edge::nats::connection::Connection;
use crate::model::ownership::{Break, ShardWord};

/// How long the server may take to confirm that nothing more comes, to confirm acks and to tell that it knows them; then it may not have.
pub(super) const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
/// The wait before a consumer is asked for again when there was no answer.
const INFO_PAUSE: Duration = Duration::from_millis(200);

/// Waits for the server to know all acks. After a hole the next generation begins behind what is said here: then it need not.
/// Nor where the server has been away for as long already: the next generation can be made elsewhere.
fn confirming(is_holed: bool, lost_at: Option<Instant>, now: Instant) -> Stage {
    let until = if is_holed { now } else { lost_at.unwrap_or(now) + CLOSE_PATIENCE };
    Stage::Confirming { ping: None, until }
}

impl JetFeed {
    /// Goes on with all of which something can be done; without a connection only what needs none.
    pub(super) fn step_all(&mut self, mut connection: Option<&mut Connection>, now: Instant) {
        self.tell_untold();
        let Some(owned) = self.owned.as_ref().filter(|owned| !owned.busy.is_empty()) else { return };
        for at in owned.busy.iter().copied().collect::<Vec<_>>() {
            // What follows at once is not waited for: a move costs no more than its round trips.
            while self.steps(at, connection.as_deref_mut(), now) {}
        }
        self.tell_untold();
    }

    /// One step; whether it led to another stage.
    fn steps(&mut self, at: usize, connection: Option<&mut Connection>, now: Instant) -> bool {
        let stage = |feed: &Self| feed.owned.as_ref().map(|owned| mem::discriminant(&owned.places[at].stage));
        let before = stage(self);
        self.step(at, connection, now);
        stage(self) != before
    }

    /// Without a connection: what is closed may end here, and then the server was not told of all that was settled. What it was not
    /// told of others comes again, and is acknowledged then.
    pub(super) fn step_alone(&mut self, now: Instant) {
        if self.owned.as_ref().is_some_and(|owned| owned.is_closing()) {
            let mut unheard = Lines::default();
            for settled in self.unsaid.drain(..) {
                self.flight.settle_all(&settled, &mut unheard);
            }
        }
        self.step_all(None, now);
    }

    /// Nothing is read any more over this connection.
    pub(super) fn leave_all(&mut self) {
        let places = self.owned.as_ref().map_or(0, |owned| owned.places.len());
        (0..places).for_each(|at| {
            self.stop_reading_ahead(at);
            self.stop_pulling(at);
        });
    }

    fn step(&mut self, at: usize, connection: Option<&mut Connection>, now: Instant) {
        let Some(owned) = &mut self.owned else { return };
        let is_connected = connection.is_some();
        match &mut owned.places[at].stage {
            Stage::ToLookAhead(generation) => {
                let generation = *generation;
                self.step_to_look_ahead(at, generation, now);
            }
            Stage::LookingAhead(_) => self.step_looking_ahead(at, now),
            Stage::ToOpen => self.step_to_open(at, is_connected, now),
            Stage::Informing { .. } => self.step_informing(at, now),
            Stage::ReadingBack(_) | Stage::ReadingAhead(_) => self.step_reading_back(at, now),
            Stage::Starting(_) => self.step_starting(at, now),
            Stage::Unsubscribing { ping, until } => {
                let is_late = now >= *until;
                let is_over = match connection {
                    None => true,
                    Some(connection) => {
                        let ping = *ping.get_or_insert_with(|| {
                            self.lines.append_to(&mut connection.out);
                            connection.ping()
                        });
                        connection.has_answered(ping)
                    }
                };
                if is_late && !is_over {
                    // What may still come is not read here, and is the next owner's.
                    owned.places[at].is_holed = true;
                }
                if is_over || is_late {
                    self.begin_drain(at);
                }
            }
            Stage::Draining => {
                self.drain_input(is_connected, now);
                if self.flight.out(at) == 0
                    && let Some(owned) = &mut self.owned
                {
                    owned.set(at, confirming(owned.places[at].is_holed, owned.lost_at, now));
                }
            }
            Stage::Confirming { ping, until } => {
                let (mut is_over, is_late) = (false, now >= *until);
                if let Some(connection) = connection {
                    let ping = *ping.get_or_insert_with(|| {
                        self.lines.append_to(&mut connection.out);
                        connection.ping()
                    });
                    is_over = connection.has_answered(ping);
                }
                if is_late || (is_over && (owned.places[at].is_holed || self.flight.has_left(at))) {
                    self.closed(at, false);
                } else if is_over {
                    owned.set(at, Stage::Checking { batch: None, at: now, until: now + CLOSE_PATIENCE });
                }
            }
            Stage::Checking { .. } => self.step_checking(at, is_connected, now),
            Stage::Reopening { .. } => self.step_reopening(at),
            Stage::Absent | Stage::Open | Stage::Broken => {}
        }
    }

    /// It goes on here: once the shard knows, and has said all that it settled meanwhile.
    fn step_reopening(&mut self, at: usize) {
        let Some(owned) = &mut self.owned else { return };
        let shard = self.plan.own.filter(|_| owned.untold.is_empty());
        let Stage::Reopening { has_heard } = &mut owned.places[at].stage else { return };
        if !mem::replace(has_heard, shard.is_some_and(|shard| self.intake.has_heard_all(shard)))
            || !self.unsaid.is_empty()
        {
            return;
        }
        self.flight.set_leaving(at, false);
        let is_whole = !owned.places[at].is_holed && !self.flight.has_left(at);
        owned.set(at, Stage::ToOpen);
        if !is_whole {
            self.broken(at, Break::Hole);
        }
    }

    fn step_to_open(&mut self, at: usize, is_connected: bool, now: Instant) {
        let Some(owned) = &mut self.owned else { return };
        if !is_connected || self.session.is_none() || self.has_left {
            return;
        }
        owned.places[at].opening += 1;
        let subject = format!("{}.p.{}.{at}.*", self.inbox, owned.places[at].opening);
        self.lines.subscribe(&subject, owned.sid(at, Of::Pulls));
        let batch = Some(self.ask_for(at, now));
        if let Some(owned) = &mut self.owned {
            owned.set(at, Stage::Informing { batch, at: now });
        }
    }

    fn ask_for(&mut self, at: usize, now: Instant) -> super::calls::BatchNo {
        let ask = consumer_info(&self.plan.stream, &self.plan.consumers[at].name);
        self.begin(&[ask], now)
    }

    fn step_informing(&mut self, at: usize, now: Instant) {
        let Some(owned) = &self.owned else { return };
        let Stage::Informing { batch, at: ask_at } = owned.places[at].stage else { return };
        let Some(batch) = batch else {
            if now >= ask_at {
                let batch = Some(self.ask_for(at, now));
                self.set_stage(at, Stage::Informing { batch, at: now });
            }
            return;
        };
        let Some(answers) = self.calls.take(batch, now) else { return };
        match read_one::<ConsumerInfo>(answers) {
            Ok(info) => self.informed(at, &info, now),
            Err(error) if error.is(code::CONSUMER_NOT_FOUND) || error.is(code::STREAM_NOT_FOUND) => {
                self.broken(at, Break::Deleted);
            }
            Err(error) => {
                if let Some(left_out) = self.voices.refused.allow() {
                    let consumer = &self.plan.consumers[at].name;
                    tracing::warn!(reader = self.plan.reader, consumer, left_out, "JetStream: {error}");
                }
                self.set_stage(at, Stage::Informing { batch: None, at: now + INFO_PAUSE });
            }
        }
    }

    /// What the server says of a consumer before the first pull.
    pub(super) fn informed(&mut self, at: usize, info: &ConsumerInfo, now: Instant) {
        let consumer = self.plan.consumers[at].clone();
        if let Some(why) = refusal(&self.plan, &consumer, &info.config) {
            tracing::warn!(reader = self.plan.reader, "JetStream: {why}");
            return self.broken(at, Break::Deleted);
        }
        let Some(owned) = &mut self.owned else { return };
        let place = &mut owned.places[at];
        let account = Account { delivered: info.delivered.consumer_seq, pending: info.num_ack_pending };
        if let Some(why) = place.fault(account, (self.flight.seen(at), self.flight.out_of_generation(at))) {
            return self.broken(at, why);
        }
        if !place.is_informed {
            place.wish.floor = place.wish.floor.max(info.settled_to());
            place.is_informed = true;
            self.flight.open(at, &place.wish, info.delivered.consumer_seq);
        }
        let terms = terms_of(&self.plan, &info.config);
        let stage = match place.needs_window() {
            true => {
                let (to, from) = (place.wish.floor, place.window_from(place.wish.floor));
                Stage::ReadingBack(Box::new(ReadBack::new(from, to, info.num_pending, Some(terms))))
            }
            false => Stage::Starting(Some(terms)),
        };
        owned.set(at, stage);
        let differences = super::prepare::differences_of(&self.plan, &consumer, &info.config);
        self.say_differences(&differences);
        self.step_reading_back(at, now);
    }

    /// Waits until the shard was told what it has to know; then it is asked for.
    fn step_starting(&mut self, at: usize, now: Instant) {
        let (Some(owned), Some(session)) = (&mut self.owned, &mut self.session) else { return };
        if let Some(terms) = owned.start_of(at) {
            session.open(at, terms, now);
        }
    }

    /// Of what was asked for, the first pull is out.
    pub(super) fn step_started(&mut self) {
        let (Some(owned), Some(session)) = (&self.owned, &self.session) else { return };
        if owned.busy.is_empty() {
            return;
        }
        let is_out = |at: &usize| matches!(owned.places[*at].stage, Stage::Starting(None)) && session.has_asked(*at);
        for at in owned.busy.iter().copied().filter(is_out).collect::<Vec<_>>() {
            self.set_stage(at, Stage::Open);
            self.say(ShardWord::Opened { partition: self.plan.partition(at) });
        }
    }

    /// Whether the server knows exactly what was settled: nothing is pending, and it delivered no more than came.
    fn step_checking(&mut self, place: usize, is_connected: bool, now: Instant) {
        let Some(owned) = &self.owned else { return };
        let Stage::Checking { batch, at, until } = owned.places[place].stage else { return };
        if now >= until {
            return self.closed(place, false);
        }
        let Some(batch) = batch else {
            if now >= at && is_connected {
                let batch = Some(self.ask_for(place, now));
                self.set_stage(place, Stage::Checking { batch, at, until });
            }
            return;
        };
        let Some(answers) = self.calls.take(batch, now) else { return };
        let info = read_one::<ConsumerInfo>(answers).ok();
        let waiting = info.as_ref().map_or(0, |info| info.num_pending);
        let account =
            info.map(|info| Account { delivered: info.delivered.consumer_seq, pending: info.num_ack_pending });
        match account.and_then(|account| account.is_clean(self.flight.seen(place))) {
            Some(is_clean) => {
                let is_clean = is_clean && self.is_looked_for(place, waiting);
                self.closed(place, is_clean);
            }
            None => self.set_stage(place, Stage::Checking { batch: None, at: now + LOOK, until }),
        }
    }

    pub(super) fn set_stage(&mut self, at: usize, stage: Stage) {
        if let Some(owned) = &mut self.owned {
            owned.set(at, stage);
        }
    }
}
