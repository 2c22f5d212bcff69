//! Orders about partitions that have owners, and what is said of them: what follows at once. What takes time is `steps.rs`.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::JetFeed;
use super::owned::{Held, Of, Stage};
use super::steps::CLOSE_PATIENCE;
use crate::model::ownership::{Break, Generation, Settled, ShardOrder, ShardWord};
use crate::ports::permit::boottime;
use crate::push::facts::Input;

/// How often what is settled above a hole is said.
const HOLD_LOOK: Duration = Duration::from_millis(250);

/// The first step of a close.
fn unsubscribing() -> Stage {
    Stage::Unsubscribing { ping: None, until: Instant::now() + CLOSE_PATIENCE }
}

impl JetFeed {
    /// Takes an order; what is to be written follows.
    pub(super) fn take_order(&mut self, order: ShardOrder) {
        if self.owned.is_none() {
            return;
        }
        let partition = order.partition();
        let Some(at) = self.plan.place(partition) else {
            tracing::error!(partition = partition.0, "JetStream: an order for a partition that does not exist");
            return;
        };
        self.stop_reading_ahead(at);
        match order {
            ShardOrder::Prepare { generation, .. } => self.look_ahead(at, generation),
            ShardOrder::Open { generation, settled, .. } => self.order_open(at, generation, settled),
            ShardOrder::Close { .. } => self.order_close(at),
            ShardOrder::Reopen { .. } => self.order_reopen(at),
            ShardOrder::Drop { .. } => self.order_drop(at),
        }
    }

    fn order_open(&mut self, at: usize, generation: Generation, settled: Settled) {
        let Some(owned) = &mut self.owned else { return };
        let place = &mut owned.places[at];
        let is_same = place.generation == generation;
        match place.stage {
            Stage::Open if is_same => return self.say(ShardWord::Opened { partition: self.plan.partition(at) }),
            Stage::ToOpen | Stage::Informing { .. } | Stage::ReadingBack(_) | Stage::Starting(_) if is_same => return,
            _ => {}
        }
        self.stop_pulling(at);
        let Some(owned) = &mut self.owned else { return };
        let place = &mut owned.places[at];
        (place.generation, place.is_informed, place.is_holed) = (generation, false, false);
        place.wish = settled;
        self.flight.open(at, &place.wish, 0);
        owned.set(at, Stage::ToOpen);
        let partition = self.plan.partition(at);
        owned.untold.push_back(Input::Stay(partition));
        self.plan.consumers[at].name = self.plan.name_of(partition, generation);
    }

    fn order_close(&mut self, at: usize) {
        let Some(owned) = &mut self.owned else { return };
        match owned.places[at].stage {
            Stage::Absent => tracing::warn!(
                partition = self.plan.partition(at).0,
                "JetStream: a partition that is not here is to be closed"
            ),
            ref stage if stage.is_closing() => {}
            Stage::Broken => {
                owned.places[at].is_holed = true;
                owned.set(at, unsubscribing());
            }
            // Not a delivery of it came: its consumer is as it was.
            Stage::ToOpen | Stage::Informing { .. } if !owned.places[at].is_informed && self.flight.out(at) == 0 => {
                self.stop_pulling(at);
                self.closed(at, true);
            }
            _ => {
                self.stop_pulling(at);
                if let Some(owned) = &mut self.owned {
                    owned.set(at, unsubscribing());
                }
            }
        }
    }

    fn order_reopen(&mut self, at: usize) {
        let Some(owned) = &mut self.owned else { return };
        let has_told = match owned.places[at].stage {
            Stage::Unsubscribing { .. } => false,
            Stage::Absent => {
                let generation = owned.places[at].generation;
                if let Some(settled) = owned.places[at].closed.take() {
                    self.order_open(at, generation, settled);
                }
                return;
            }
            ref stage if stage.is_closing() => true,
            _ => return,
        };
        if has_told {
            owned.untold.push_back(Input::Stay(self.plan.partition(at)));
        }
        owned.set(at, Stage::Reopening { has_heard: false });
    }

    fn order_drop(&mut self, at: usize) {
        self.stop_pulling(at);
        self.tell_leave(at);
        self.let_waiting_go(at);
        if let Some(mover) = &mut self.mover {
            mover.is_dropped = mover.under_way() > 0;
            mover.forget();
        }
        self.flight.close(at);
        self.forget_place(at);
    }

    /// Nothing more is asked of a partition, and nothing that comes is taken in once the server knows.
    pub(super) fn stop_pulling(&mut self, at: usize) {
        let Some(owned) = &mut self.owned else { return };
        if let Some(session) = &mut self.session {
            session.close(at);
        }
        if let Stage::ReadingBack(back) = &owned.places[at].stage
            && back.begun.is_some()
        {
            owned.reading_back = owned.reading_back.saturating_sub(1);
            self.lines.unsubscribe(owned.sid(at, Of::Window));
        }
        if matches!(
            owned.places[at].stage,
            Stage::Informing { .. } | Stage::ReadingBack(_) | Stage::Starting(_) | Stage::Open
        ) {
            self.lines.unsubscribe(owned.sid(at, Of::Pulls));
        }
    }

    /// What of it was not handed in is left to whoever takes it.
    fn let_waiting_go(&mut self, at: usize) {
        let numbers: HashSet<u64> = self.flight.numbers(at).into_iter().collect();
        for (payload, tag, passage) in self.waiting.take_out(|tag| numbers.contains(&tag.number)) {
            self.replays.remove(&tag.number);
            self.flight.leave(tag.number);
            self.intake.left(self.plan.own, &payload, passage);
        }
    }

    fn tell_leave(&mut self, at: usize) {
        let reader = self.plan.reader;
        let tag = |number| crate::ports::DeliveryTag { reader, number };
        let tags = self.flight.numbers(at).into_iter().map(tag).collect();
        self.flight.set_leaving(at, true);
        if let Some(owned) = &mut self.owned {
            owned.untold.push_back(Input::Leave { partition: self.plan.partition(at), tags });
        }
    }

    /// Nothing more of it comes: what waits is left, and what no recipient was pushed.
    pub(super) fn begin_drain(&mut self, at: usize) {
        self.let_waiting_go(at);
        self.tell_leave(at);
        self.mover.iter_mut().for_each(|mover| mover.drains_until = None);
        if let Some(owned) = &mut self.owned {
            owned.set(at, Stage::Draining);
        }
    }

    /// It is closed.
    pub(super) fn closed(&mut self, at: usize, is_clean: bool) {
        let settled = self.flight.settled(at);
        self.flight.close(at);
        if let Some(owned) = &mut self.owned {
            let place = &mut owned.places[at];
            if place.knows_window {
                place.known_to = settled.floor;
            }
            owned.untold.push_back(Input::Stay(self.plan.partition(at)));
        }
        self.forget_place(at);
        if let Some(owned) = &mut self.owned {
            owned.places[at].closed = Some(settled.clone());
        }
        self.say(ShardWord::Closed { partition: self.plan.partition(at), settled, is_clean });
    }

    fn forget_place(&mut self, at: usize) {
        let Some(owned) = &mut self.owned else { return };
        owned.set(at, Stage::Absent);
        let place = &mut owned.places[at];
        (place.is_informed, place.is_holed, place.knows_window) = (false, false, false);
        (place.wish, place.held, place.closed) = (Settled::default(), None, None);
        self.plan.consumers[at].name = String::new();
    }

    /// Deliveries of it may be lost, or the consumer is gone.
    pub(super) fn broken(&mut self, at: usize, why: Break) {
        let Some(owned) = &mut self.owned else { return };
        if owned.places[at].stage.is_closing() {
            owned.places[at].is_holed = true;
            return;
        }
        if owned.places[at].stage.is_elsewhere() || matches!(owned.places[at].stage, Stage::Broken) {
            return;
        }
        let partition = self.plan.partition(at);
        tracing::warn!(
            reader = self.plan.reader,
            partition = partition.0,
            consumer = self.plan.consumers[at].name,
            "JetStream: {why}"
        );
        self.stop_pulling(at);
        self.flight.forget_generation(at);
        let settled = self.flight.settled(at);
        if let Some(owned) = &mut self.owned {
            owned.set(at, Stage::Broken);
        }
        self.say(ShardWord::Broken { partition, settled, why });
    }

    pub(super) fn say(&self, word: ShardWord) {
        if let (Some(hearer), Some(shard)) = (self.hearer.get(), self.plan.own) {
            hearer(shard, word);
        }
    }

    /// Tells the shard what there is room for.
    pub(super) fn tell_untold(&mut self) {
        let (Some(owned), Some(shard)) = (&mut self.owned, self.plan.own) else { return };
        if self.mover.is_some() {
            // The events of the input stream are no shard's.
            return owned.untold.clear();
        }
        while let Some(fact) = owned.untold.pop_front() {
            if let Err(fact) = self.intake.tell(shard, fact) {
                owned.untold.push_front(fact);
                return;
            }
        }
    }

    /// Now and then: says what is settled above an event that holds the floor, for whoever comes after a crash; and that it is over.
    pub(super) fn look_at_holds(&mut self, now: Instant) {
        let Some(owned) = self.owned.as_mut().filter(|owned| now >= owned.hold_at) else { return };
        owned.hold_at = now + HOLD_LOOK;
        let (mut words, now_boot) = (Vec::new(), boottime());
        for (at, place) in owned.places.iter_mut().enumerate() {
            // Also while it is being closed: a stop may end before the push that holds the floor does.
            if !matches!(place.stage, Stage::Open | Stage::Draining) {
                continue;
            }
            let waits = self.flight.out(at) > 0 || self.flight.has_left(at);
            let before = place.held.take();
            if !waits && before.is_none() {
                continue;
            }
            let (partition, settled) = (self.plan.partition(at), self.flight.settled(at));
            let mut say = |oldest| words.push(ShardWord::Waits { partition, settled: settled.clone(), oldest });
            place.held = match before {
                Some(held) if waits && held.settled.floor == settled.floor => {
                    if !held.is_said || held.settled != settled {
                        say(Some(held.since));
                    }
                    Some(Held { settled, since: held.since, is_said: true })
                }
                before => {
                    if before.is_some_and(|held| held.is_said) {
                        say(None);
                    }
                    waits.then_some(Held { settled, since: now_boot, is_said: false })
                }
            };
        }
        words.into_iter().for_each(|word| self.say(word));
    }
}
