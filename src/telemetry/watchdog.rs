//! Whether every shard still moves.
//!
//! Promises that a shard which stands still for [`HEARTBEAT_STALE_AFTER`] fails `/livez`, named, with for how long, and
//! is logged once; glommio can park with work to do and sleep for ever, and nothing else would notice. Refuses wall clocks
//! (a set clock is no standstill), and to blame a shard for a time in which the whole process did not run.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use crate::model::ids::ShardId;
use crate::model::ids::shard_name;
use crate::model::limits::HEARTBEAT_STALE_AFTER;

/// How often the watchdog looks.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two looks that are further apart than this, nobody looked: the process was stopped or starved.
const LOOK_GAP: Duration = Duration::from_secs(3);
/// The beat of a shard that has ended as it should.
const ENDED: u64 = u64::MAX;

#[derive(Debug, Default)]
#[repr(align(128))] // a pair of cache lines: shards beat without disturbing each other
struct Beat(AtomicU64);

#[derive(Debug)]
struct Seen {
    beat: u64,
    changed: Instant,
    reported: bool,
}

#[derive(Debug)]
struct Notes {
    shards: Vec<Seen>,
    looked: Instant,
}

/// The beats of all shards.
#[derive(Debug)]
pub struct Heartbeats {
    beats: Box<[Beat]>,
    notes: Mutex<Notes>,
    stale_after: Duration,
}

/// A shard that stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standstill {
    /// Which.
    pub shard: ShardId,
    /// For how long.
    pub since: Duration,
}

impl fmt::Display for Standstill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has not moved for {:.1} s", shard_name(self.shard), self.since.as_secs_f64())
    }
}

impl Heartbeats {
    /// For so many shards; each must beat within [`HEARTBEAT_STALE_AFTER`] from now, and go on.
    pub fn new(shards: u16) -> Arc<Self> {
        Self::with_stale_after(shards, HEARTBEAT_STALE_AFTER, Instant::now())
    }

    /// The same with another patience, counted from `now`.
    pub fn with_stale_after(shards: u16, stale_after: Duration, now: Instant) -> Arc<Self> {
        let seen = || Seen { beat: 0, changed: now, reported: false };
        Arc::new(Self {
            beats: (0..shards).map(|_| Beat::default()).collect(),
            notes: Mutex::new(Notes { shards: (0..shards).map(|_| seen()).collect(), looked: now }),
            stale_after,
        })
    }

    /// The shard moves. Called by that shard only, at every tick of its timer: one load and one store.
    pub fn beat(&self, shard: ShardId) {
        let beat = &self.beats[usize::from(shard.0)].0;
        beat.store(beat.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// The shard has ended as it should and will not beat again.
    pub fn ended(&self, shard: ShardId) {
        self.beats[usize::from(shard.0)].0.store(ENDED, Ordering::Relaxed);
    }

    /// How often each shard has beaten so far; [`None`] for one that has ended as it should.
    pub fn beats(&self) -> impl Iterator<Item = Option<u64>> + '_ {
        let beats = self.beats.iter().map(|beat| beat.0.load(Ordering::Relaxed));
        beats.map(|beat| (beat != ENDED).then_some(beat))
    }

    /// Notes who moved since the last look and says who stands still.
    pub fn look(&self, now: Instant) -> Vec<Standstill> {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let unseen = now.saturating_duration_since(notes.looked);
        let forgive = if unseen > LOOK_GAP { unseen } else { Duration::ZERO };
        notes.looked = notes.looked.max(now);
        let mut standing = Vec::new();
        for (at, (seen, beat)) in notes.shards.iter_mut().zip(&self.beats).enumerate() {
            let shard = ShardId(at as u16);
            let beat = beat.0.load(Ordering::Relaxed);
            if beat != seen.beat || beat == ENDED {
                if seen.reported && beat != ENDED {
                    let stood = now.saturating_duration_since(seen.changed);
                    tracing::warn!(shard = at, "{} moves again after {:.1} s", shard_name(shard), stood.as_secs_f64());
                }
                *seen = Seen { beat, changed: now, reported: false };
                continue;
            }
            seen.changed += forgive;
            let since = now.saturating_duration_since(seen.changed);
            if since >= self.stale_after {
                let standstill = Standstill { shard, since };
                if !std::mem::replace(&mut seen.reported, true) {
                    tracing::error!(shard = at, "{standstill}: /livez fails until it moves");
                }
                standing.push(standstill);
            }
        }
        standing
    }
}

/// The thread that looks once a second. Dropping it stops and joins the thread.
#[derive(Debug)]
pub struct Watchdog {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts it; after every look it calls `then` (the meter's fold, say).
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(heartbeats: Arc<Heartbeats>, mut then: impl FnMut() + Send + 'static) -> std::io::Result<Self> {
        let (stop, stopped) = bounded::<()>(0);
        let thread = std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
            loop {
                heartbeats.look(Instant::now());
                then();
                match stopped.recv_timeout(LOOK_EVERY) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ShardId = ShardId(0);
    const B: ShardId = ShardId(1);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_shard_that_stands_still_is_named_and_recovers() {
        let start = Instant::now();
        let heartbeats = Heartbeats::with_stale_after(2, 5 * SECOND, start);
        for second in 1..=6 {
            heartbeats.beat(A);
            let standing = heartbeats.look(start + second * SECOND);
            assert_eq!(standing.is_empty(), second < 5, "second {second}: {standing:?}");
        }
        let standing = heartbeats.look(start + 7 * SECOND);
        assert_eq!(standing, [Standstill { shard: B, since: 7 * SECOND }]);
        assert_eq!(standing[0].to_string(), "shard-1 has not moved for 7.0 s");
        heartbeats.beat(B);
        assert_eq!(heartbeats.look(start + 8 * SECOND), []);
    }

    #[test]
    fn a_time_in_which_nobody_looked_is_not_the_shards() {
        let start = Instant::now();
        let heartbeats = Heartbeats::with_stale_after(1, 5 * SECOND, start);
        assert_eq!(heartbeats.look(start + SECOND), []);
        assert_eq!(heartbeats.look(start + 100 * SECOND), []);
        assert_eq!(heartbeats.look(start + 103 * SECOND), []);
        assert_eq!(heartbeats.look(start + 105 * SECOND), [Standstill { shard: A, since: 6 * SECOND }]);
    }

    #[test]
    fn a_shard_that_has_ended_is_not_missed() {
        let start = Instant::now();
        let heartbeats = Heartbeats::with_stale_after(1, SECOND, start);
        heartbeats.ended(A);
        assert_eq!(heartbeats.look(start + 2 * SECOND), []);
        assert_eq!(heartbeats.look(start + 4 * SECOND), []);
    }

    #[test]
    fn the_watchdog_looks_at_once_and_stops_when_dropped() {
        let (told, looks) = bounded(1);
        let watchdog = Watchdog::start(Heartbeats::new(1), move || {
            let _ = told.try_send(());
        })
        .unwrap();
        looks.recv_timeout(10 * SECOND).expect("a look");
        drop(watchdog);
        // The thread owned the sender: once the thread is joined, the channel ends.
        while looks.try_recv().is_ok() {}
        assert_eq!(looks.try_recv(), Err(crossbeam_channel::TryRecvError::Disconnected));
    }
}
