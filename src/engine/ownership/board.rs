//! What an operator sees of ownership: the part of `/readyz`, and the numbers.
//!
//! Promises that a thread which published nothing for a while is not taken for one that works.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::ownership::Boottime;
use crate::ownership::facts::{Move, MoveKind};
use crate::ownership::status::Status;
use crate::ports::Health;
use crate::ports::permit::boottime;
use crate::telemetry::metrics::{BUCKETS, Line, Meter, Value, table};

/// A thread that has published nothing for so long stands still.
const STALE: Duration = Duration::from_secs(3);
/// The reasons of [`Break`](crate::model::ownership::Break), in its order.
const BREAKS: [&str; 4] = ["hole", "silence", "reconnected", "deleted"];

/// How long moves took.
#[derive(Clone, Debug)]
struct Times {
    sum: f64,
    buckets: [u64; BUCKETS.len() + 1],
}

impl Default for Times {
    fn default() -> Self {
        Self { sum: 0.0, buckets: [0; BUCKETS.len() + 1] }
    }
}

impl Times {
    fn add(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.sum += seconds;
        self.buckets[BUCKETS.partition_point(|bound| *bound < seconds)] += 1;
    }

    fn value(&self) -> Value {
        let bounds = BUCKETS.into_iter().chain([f64::INFINITY]);
        Value::Histogram { sum: self.sum, buckets: bounds.zip(self.buckets).collect() }
    }
}

/// See the module. One for a process, also for one without ownership, of which nothing is ever published.
#[derive(Debug, Default)]
pub struct Board {
    status: Mutex<Option<(Status, Boottime)>>,
    /// Moves in and out, by [`MoveKind`].
    times: Mutex<[[Times; 3]; 2]>,
    shut_nanos: AtomicU64,
}

impl Board {
    pub(super) fn publish(&self, status: Status, now: Boottime) {
        *self.status() = Some((status, now));
    }

    pub(super) fn moved(&self, moved: &Move) {
        self.times()[usize::from(!moved.is_in)][moved.kind as usize].add(moved.took);
    }

    pub(super) fn shut_for(&self, time: Duration) {
        self.shut_nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The part `ownership` of `/readyz`.
    pub fn health(&self) -> Health {
        match &*self.status() {
            None => Health::Waiting("the thread that owns partitions has not begun".to_owned()),
            Some((status, at)) => health(status, boottime().since(*at)),
        }
    }

    /// What was last published.
    pub fn last(&self) -> Option<Status> {
        self.status().as_ref().map(|(status, _)| status.clone())
    }

    fn status(&self) -> MutexGuard<'_, Option<(Status, Boottime)>> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn times(&self) -> MutexGuard<'_, [[Times; 3]; 2]> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn health(status: &Status, age: Duration) -> Health {
    if age > STALE {
        return Health::Waiting(format!(
            "the thread that owns partitions has not moved for {:.1} s",
            age.as_secs_f64()
        ));
    }
    let (is_ready, line) = status.line();
    let said = |word: &str| line.strip_prefix(word).map(str::to_owned);
    match (is_ready, said("degraded: ")) {
        (false, _) => Health::Waiting(said("waiting: ").unwrap_or(line)),
        (true, Some(why)) => Health::Degraded(why),
        (true, None) => Health::Says(line),
    }
}

/// Puts the numbers on the page.
pub fn register(meter: &Meter, board: &Arc<Board>) {
    type Lines = fn(&Status) -> Vec<Line>;
    let rows: [(_, Lines); 10] = [
        (&table::PARTITIONS, |status| numbered(Status::PHASES.into_iter().zip(status.by_state.map(u64::from)))),
        (&table::PARTITION_OWNER_EPOCH, |status| {
            let held = status.held.iter().filter(|held| held.state == "owned");
            held.map(|held| (vec![held.name()], Value::Number(held.epoch))).collect()
        }),
        (&table::PARTITION_MOVES, moves),
        (&table::MOVES_CALLED_OFF, |status| one(status.counts.called_off)),
        (&table::GENERATIONS_BROKEN, |status| numbered(BREAKS.into_iter().zip(status.counts.broken))),
        (&table::PERMIT_SECONDS, |status| {
            let left = ["etcd", "nats"].into_iter().zip(status.permit);
            left.map(|(by, left)| (vec![by.to_owned()], Value::Real(left.as_secs_f64()))).collect()
        }),
        (&table::FENCED, |status| one(status.counts.fenced)),
        (&table::PLAN_VERSION, |status| one(status.plan.as_ref().map_or(0, |(version, _)| *version))),
        (&table::ETCD_REQUESTS, |status| {
            let each = status.etcd.iter();
            each.map(|(op, result, count)| (vec![(*op).to_owned(), (*result).to_owned()], Value::Number(*count)))
                .collect()
        }),
        (&table::PROOFS, |status| numbered(["held", "failed"].into_iter().zip(status.proofs))),
    ];
    for (metric, read) in rows {
        let board = board.clone();
        meter.register_lines(metric, move || board.status().as_ref().map_or_else(Vec::new, |(status, _)| read(status)));
    }
    for (metric, way) in [(&table::PARTITION_PAUSE_SECONDS, 0), (&table::PARTITION_DRAIN_SECONDS, 1)] {
        let board = board.clone();
        meter.register_lines(metric, move || {
            let is_used = board.status().is_some();
            let times = board.times();
            let each = MoveKind::ALL.into_iter().zip(&times[way]).filter(|_| is_used);
            each.map(|(kind, times)| (vec![kind.label().to_owned()], times.value())).collect()
        });
    }
    let board = board.clone();
    meter.register_lines(&table::GATE_SHUT_SECONDS, move || {
        let shut = Duration::from_nanos(board.shut_nanos.load(Ordering::Relaxed)).as_secs_f64();
        board.status().iter().map(|_| (Vec::new(), Value::Real(shut))).collect()
    });
}

fn one(number: u64) -> Vec<Line> {
    vec![(Vec::new(), Value::Number(number))]
}

fn numbered(all: impl Iterator<Item = (&'static str, u64)>) -> Vec<Line> {
    all.map(|(label, number)| (vec![label.to_owned()], Value::Number(number))).collect()
}

fn moves(status: &Status) -> Vec<Line> {
    let ways = ["in", "out"].into_iter().zip(status.counts.moves);
    let each = ways
        .flat_map(|(way, counts)| MoveKind::ALL.into_iter().zip(counts).map(move |(kind, count)| (way, kind, count)));
    each.map(|(way, kind, count)| (vec![kind.label().to_owned(), way.to_owned()], Value::Number(count))).collect()
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
