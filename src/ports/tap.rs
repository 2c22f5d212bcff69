//! Lets somebody look on at events: asks all shards to tell of some, keeps what they tell until it is read, and has it end.
//!
//! Promises one tap at a time; that it ends when its time is over, when it is stopped, and [`LEASE`] after it was last read; that no more
//! than [`LINES_KEPT`] events wait; and that a shard which tells of one waits for nobody. What is left out is counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::model::tap::{TAPPED_A_SECOND, TapRules, TappedEvent};
use crate::ports::mailbox::FactSender;
use crate::push::facts::Input;

/// The longest that one may last.
pub const LASTS_MAX: Duration = Duration::from_secs(600);
/// One that is not read for so long is over.
pub const LEASE: Duration = Duration::from_secs(10);
/// Events that wait to be read, of the two seconds between two reads and some more.
const LINES_KEPT: usize = 512;

/// Why there is no tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapRefused {
    /// There is another one, for so long at the most.
    Taken(Duration),
    /// Contents are not to be told.
    Contents,
}

/// What was told since it was last read.
#[derive(Debug, Default)]
pub struct TapRead {
    /// The events, in the order of their ends as far as one shard goes.
    pub events: Vec<TappedEvent>,
    /// Others that were too many.
    pub left_out: u64,
    /// Nothing more comes.
    pub is_over: bool,
}

/// See the module.
#[derive(Clone)]
pub struct TapDesk(Arc<Desk>);

struct Desk {
    shards: Vec<FactSender>,
    may_tell_contents: bool,
    told: (Sender<Box<TappedEvent>>, Receiver<Box<TappedEvent>>),
    /// Events that found no room.
    lost: AtomicU64,
    running: Mutex<Option<Running>>,
}

struct Running {
    rules: TapRules,
    until: Instant,
    read_at: Instant,
    /// The second in which the last event ended that was handed out, and how many of it were.
    second: (u64, u32),
}

impl Running {
    fn is_over(&self, now: Instant) -> bool {
        now >= self.until || now.saturating_duration_since(self.read_at) >= LEASE
    }
}

impl TapDesk {
    /// For these shards.
    pub fn new(shards: Vec<FactSender>, may_tell_contents: bool) -> Self {
        let (told, running) = (bounded(LINES_KEPT), Mutex::default());
        Self(Arc::new(Desk { shards, may_tell_contents, told, lost: AtomicU64::new(0), running }))
    }

    /// Begins, and gives it its number; `rules.lasts` is how long it is to last, at most [`LASTS_MAX`].
    ///
    /// # Errors
    /// See [`TapRefused`].
    pub fn start(&self, rules: TapRules) -> Result<u64, TapRefused> {
        if rules.wants_content && !self.0.may_tell_contents {
            return Err(TapRefused::Contents);
        }
        let now = Instant::now();
        let mut running = self.running();
        if let Some(other) = running.as_ref().filter(|other| !other.is_over(now)) {
            return Err(TapRefused::Taken(other.until.saturating_duration_since(now)));
        }
        // What is left of the one before.
        self.0.told.1.try_iter().for_each(drop);
        self.0.lost.store(0, Ordering::Relaxed);
        let until = now + rules.lasts.min(LASTS_MAX);
        // No other one of this engine, or of one that ran here before, has it.
        let number = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        let rules = TapRules { number, ..rules };
        self.renew(&rules, until - now);
        *running = Some(Running { rules, until, read_at: now, second: (0, 0) });
        Ok(number)
    }

    /// What was told meanwhile; nothing where there is no such tap (any more).
    pub fn read(&self, number: u64) -> Option<TapRead> {
        let now = Instant::now();
        let mut slot = self.running();
        let running = slot.as_mut().filter(|running| running.rules.number == number)?;
        let mut read = TapRead { left_out: self.0.lost.swap(0, Ordering::Relaxed), ..TapRead::default() };
        for event in self.0.told.1.try_iter().filter(|event| event.tap == number) {
            read.left_out += event.left_out;
            let second = event.ended.0 / 1_000_000_000;
            if second > running.second.0 {
                running.second = (second, 0);
            }
            if running.second.1 < TAPPED_A_SECOND {
                running.second.1 += 1;
                read.events.push(*event);
            } else {
                read.left_out += 1;
            }
        }
        read.is_over = running.is_over(now);
        running.read_at = now;
        match read.is_over {
            true => self.end(&mut slot),
            false => self.renew(&running.rules, running.until.saturating_duration_since(now)),
        }
        Some(read)
    }

    /// Ends it before its time.
    pub fn stop(&self, number: u64) {
        let mut slot = self.running();
        if slot.as_ref().is_some_and(|running| running.rules.number == number) {
            self.end(&mut slot);
        }
    }

    /// A shard tells of an event. Never waits.
    pub fn tell(&self, event: Box<TappedEvent>) {
        if let Err(lost) = self.0.told.0.try_send(event) {
            self.0.lost.fetch_add(1 + lost.into_inner().left_out, Ordering::Relaxed);
        }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A shard whose mailbox is full hears of it at the next read, or ends by itself.
    fn renew(&self, rules: &TapRules, left: Duration) {
        let rules = TapRules { lasts: left.min(LEASE), ..rules.clone() };
        self.tell_shards(|| Input::Tap(Some(Box::new(rules.clone()))));
    }

    fn end(&self, slot: &mut Option<Running>) {
        *slot = None;
        self.tell_shards(|| Input::Tap(None));
    }

    fn tell_shards(&self, fact: impl Fn() -> Input) {
        self.0.shards.iter().for_each(|shard| drop(shard.try_send(fact())));
    }
}

impl Default for TapDesk {
    /// Of no shard.
    fn default() -> Self {
        Self::new(Vec::new(), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::Nanos;
    use crate::model::outcome::EventOutcome;
    use crate::model::priority::Priority;

    fn rules() -> TapRules {
        TapRules { number: 0, session: None, user: None, lasts: Duration::from_secs(60), wants_content: false }
    }

    fn event(tap: u64, second: u64) -> Box<TappedEvent> {
        Box::new(TappedEvent {
            tap,
            session: "s".into(),
            msg_id: 1,
            from: "f".into(),
            class: Priority::Normal,
            end: EventOutcome::Settled,
            arrived_unix_nanos: 0,
            ended: Nanos(second * 1_000_000_000),
            took: Duration::ZERO,
            pushes: Vec::new(),
            misses: Vec::new(),
            content: None,
            left_out: 0,
        })
    }

    #[test]
    fn one_looks_on_at_a_time_and_contents_need_leave() {
        let desk = TapDesk::default();
        assert_eq!(desk.start(TapRules { wants_content: true, ..rules() }), Err(TapRefused::Contents));
        let one = desk.start(rules()).expect("nobody else");
        assert!(matches!(desk.start(rules()), Err(TapRefused::Taken(left)) if left > Duration::from_secs(50)));
        assert!(desk.read(one + 1).is_none() && desk.read(one).is_some_and(|read| !read.is_over));
        desk.stop(one + 1);
        assert!(desk.start(rules()).is_err(), "another one's");
        desk.stop(one);
        assert!(desk.start(rules()).is_ok_and(|two| two != one) && desk.read(one).is_none());
    }

    #[test]
    fn what_is_told_is_bounded_in_number_and_by_the_second_and_the_rest_is_counted() {
        let desk = TapDesk::default();
        let tap = desk.start(rules()).expect("nobody else");
        (0..LINES_KEPT + 7).for_each(|_| desk.tell(event(tap, 5)));
        let read = desk.read(tap).expect("it runs");
        assert_eq!((read.events.len(), read.left_out), (TAPPED_A_SECOND as usize, (LINES_KEPT + 7) as u64 - 100));
        desk.tell(event(tap - 1, 6));
        (0..3).for_each(|_| desk.tell(event(tap, 6)));
        let read = desk.read(tap).expect("it runs");
        assert_eq!((read.events.len(), read.left_out), (3, 0), "a late word for another tap is none");
    }

    #[test]
    fn one_that_is_over_is_read_once_more() {
        let desk = TapDesk::default();
        let tap = desk.start(TapRules { lasts: Duration::ZERO, ..rules() }).expect("nobody else");
        desk.tell(event(tap, 1));
        let read = desk.read(tap).expect("the last time");
        assert!(read.is_over && read.events.len() == 1 && desk.read(tap).is_none());
        assert!(desk.start(rules()).is_ok());
    }
}
