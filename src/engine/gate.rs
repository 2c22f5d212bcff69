//! Whether this instance takes events: it does not while it cannot work, so that one that can gets them.
//!
//! Promises that nothing is read before each store that events need has answered once; that a store which is away for
//! longer than `consumer.ack_wait` shuts the intake, and that what waits for it is then given back where the broker keeps
//! it; and that the intake opens again by itself once all stores have answered for a while, which is the longer the sooner
//! the last opening was followed by another outage. Tells a stop which stores are away. Refuses to judge stores: it hears
//! what their asks and pings say.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::admin::HealthCheck;
use crate::model::backoff::Backoff;
use crate::ports::Health;
use crate::ports::intake::Intake;
use crate::ports::mailbox::FactSender;
use crate::push::facts::Input;
use crate::push::retreat::Away;
use crate::shard::pump::Shared;

/// How often stores are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// A store that was there so short a time ago is, so that no answer falls between two looks.
pub(super) const MOMENT: Duration = Duration::from_millis(250);
/// A store that is away for a shorter time does not disturb the calm: rows that are slow or refused, which wait in this very
/// process, say now and then that it is.
const AWAY_AT_A_LOOK: Duration = Duration::from_secs(1);
/// A stop does not wait for a store that is away for so long.
const AWAY_AT_A_STOP: Duration = Duration::from_secs(1);
/// How long all stores must have answered before events are taken again: at first, and at the most.
const CALM: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// An intake that stayed open for so long begins with the shortest wait again.
const STEADY: Duration = Duration::from_secs(60);

/// What a store is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Members and routes.
    Lookups,
    /// Rows.
    Inbox,
    /// The gateways: their first list; later what is known is kept.
    FirstAnswer,
    /// Dead letters: events are taken without them.
    Letters,
}

impl Need {
    /// A registry that was read and lists nobody has answered: users without a gateway still get their rows.
    fn is_met_by(self, health: &Health) -> bool {
        match health {
            Health::Ready | Health::Says(_) => true,
            Health::Degraded(_) => self == Self::FirstAnswer,
            Health::Waiting(_) => false,
        }
    }
}

pub(super) struct Store {
    pub name: &'static str,
    pub need: Need,
    pub health: HealthCheck,
}

/// How long a store has been away, as far as it matters.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    has_answered: bool,
    away_since: Option<Instant>,
}

impl Seen {
    fn look(&mut self, now: Instant, is_there: bool) {
        self.has_answered |= is_there;
        self.away_since = if is_there { None } else { self.away_since.or(Some(now)) };
    }

    fn is_away_for(&self, now: Instant, long: Duration) -> bool {
        self.away_since.is_some_and(|since| now.saturating_duration_since(since) >= long)
    }
}

/// The decision; pure.
#[derive(Debug)]
struct Gate {
    needs: Vec<Need>,
    seen: Vec<Seen>,
    /// A store may be away for so long.
    limit: Duration,
    is_open: bool,
    has_been_open: bool,
    changed_at: Instant,
    /// Since when all stores have answered.
    calm_since: Option<Instant>,
    calm: Duration,
}

impl Gate {
    fn new(needs: Vec<Need>, limit: Duration, now: Instant) -> Self {
        Self {
            seen: vec![Seen::default(); needs.len()],
            needs,
            limit,
            is_open: false,
            has_been_open: false,
            changed_at: now,
            calm_since: None,
            calm: CALM.first,
        }
    }

    /// Looks at all stores; whether events may be taken.
    fn look(&mut self, now: Instant, is_there: &[bool]) -> bool {
        for (seen, is_there) in self.seen.iter_mut().zip(is_there) {
            seen.look(now, *is_there);
        }
        let is_calm = self.culprits(now, AWAY_AT_A_LOOK).next().is_none();
        self.calm_since = if is_calm { self.calm_since.or(Some(now)) } else { None };
        let has_calmed = |calm| self.calm_since.is_some_and(|since| now.saturating_duration_since(since) >= calm);
        let is_open = match (self.is_open, self.has_been_open) {
            (true, _) | (false, false) => self.culprits(now, self.limit).next().is_none(),
            (false, true) => has_calmed(self.calm),
        };
        if is_open != self.is_open {
            if !is_open {
                let was_steady = now.saturating_duration_since(self.changed_at) >= STEADY;
                self.calm = if was_steady { CALM.first } else { CALM.following(self.calm) };
            }
            self.is_open = is_open;
            self.has_been_open |= is_open;
            self.changed_at = now;
        }
        is_open
    }

    /// The stores for whose sake nothing is taken when one may be away for `long`.
    fn culprits(&self, now: Instant, long: Duration) -> impl Iterator<Item = usize> + '_ {
        let is_culprit = move |(need, seen): (&Need, &Seen)| match need {
            Need::Letters => false,
            Need::FirstAnswer => !seen.has_answered,
            Need::Lookups | Need::Inbox => !seen.has_answered || seen.is_away_for(now, long),
        };
        let all = self.needs.iter().zip(&self.seen).enumerate();
        all.filter(move |(_, pair)| is_culprit(*pair)).map(|(at, _)| at)
    }

    /// What a stop does not wait for.
    fn away(&self, now: Instant) -> Away {
        let is_away = |need| {
            let mut all = self.needs.iter().zip(&self.seen);
            all.any(|(of, seen)| *of == need && seen.is_away_for(now, AWAY_AT_A_STOP))
        };
        Away { lookups: is_away(Need::Lookups), inbox: is_away(Need::Inbox), letters: is_away(Need::Letters) }
    }
}

/// The thread that looks, until it is told that the engine has ended.
pub(super) struct GateThread {
    is_over: Arc<AtomicBool>,
}

impl GateThread {
    /// Starts it; `intake` is shut until the stores have answered.
    pub(super) fn start(
        stores: Vec<Store>,
        limit: Duration,
        intake: Intake,
        shards: Vec<FactSender>,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let gate = Gate::new(stores.iter().map(|store| store.need).collect(), limit, Instant::now());
        let told = vec![false; shards.len()];
        let keeper = Keeper { stores, gate, intake, shards, told, shared, is_over: is_over.clone() };
        thread::Builder::new().name("gate".to_owned()).spawn(move || keeper.run())?;
        Ok(Self { is_over })
    }

    pub(super) fn stop(&self) {
        self.is_over.store(true, Ordering::Release);
    }
}

struct Keeper {
    stores: Vec<Store>,
    gate: Gate,
    intake: Intake,
    shards: Vec<FactSender>,
    /// Which shards were told to give back what waits.
    told: Vec<bool>,
    shared: Arc<Shared>,
    is_over: Arc<AtomicBool>,
}

impl Keeper {
    fn run(mut self) {
        while !self.is_over.load(Ordering::Acquire) {
            self.look(Instant::now());
            thread::park_timeout(LOOK);
        }
    }

    fn look(&mut self, now: Instant) {
        let healths: Vec<Health> = self.stores.iter().map(|store| (store.health)()).collect();
        let is_there: Vec<bool> =
            self.stores.iter().zip(&healths).map(|(store, health)| store.need.is_met_by(health)).collect();
        let is_open = self.gate.look(now, &is_there);
        self.shared.stop.set_away(self.gate.away(now));
        match (self.intake.is_open(), is_open) {
            (true, false) => {
                let why = self.why(now, &healths);
                let limit = self.gate.limit;
                tracing::warn!("no events are taken any more: a store was away for {limit:?}: {why}");
                self.intake.shut(why);
            }
            (false, true) if self.tell(false) => {
                tracing::info!("events are taken: all stores that they need answer");
                self.intake.open();
            }
            (false, false) => {
                self.intake.shut(self.why(now, &healths));
                // What is given back too soon would come again to this process.
                if self.shared.source.get().is_some_and(|source| source.may_give_back()) {
                    self.tell(true);
                }
            }
            _ => {}
        }
    }

    /// Who is away, in words.
    fn why(&self, now: Instant, healths: &[Health]) -> String {
        let mut away: Vec<usize> = self.gate.culprits(now, self.gate.limit).collect();
        if away.is_empty() {
            away = self.gate.culprits(now, Duration::ZERO).collect();
        }
        let words = away.into_iter().map(|at| match &healths[at] {
            Health::Waiting(why) | Health::Degraded(why) => format!("{} ({why})", self.stores[at].name),
            Health::Ready | Health::Says(_) => format!("{} (answers again)", self.stores[at].name),
        });
        let mut words: Vec<String> = words.collect();
        // Each shard has its way to the routes.
        words.dedup();
        let words = words.join("; ");
        match words.is_empty() {
            true => format!(
                "the stores that were away answer again; reading begins when they have done so for {:?}",
                self.gate.calm
            ),
            false => words,
        }
    }

    /// Tells all shards; false when one has no room for it now.
    fn tell(&mut self, is_retreating: bool) -> bool {
        for (shard, told) in self.shards.iter().zip(&mut self.told) {
            if *told != is_retreating && shard.try_send(Input::Retreat(is_retreating)).is_ok() {
                *told = is_retreating;
            }
        }
        self.told.iter().all(|told| *told == is_retreating)
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
