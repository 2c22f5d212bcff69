//! A gateway that takes pushes and is silent, or answers too late, gets each push a few times, whatever the rate: what is sent
//! again ends at its deadline without a further cut. One that answers again is served at once, in order.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use prost::Message;
use task_engine::model::outcome::RecipientOutcome;
use task_engine::model::proto::gateway::{GroupAnswer, PushBatchResponse, PushMessageResponse, PushResponse};
use task_engine::ports::Protocol;
use testkit::table::{Table, only};

const PROTOCOLS: [Protocol; 5] =
    [Protocol::Stream, Protocol::StreamMany, Protocol::Batch, Protocol::Group, Protocol::Unary];
const STEP_MILLIS: u64 = 20;
/// Twelve and a half a second.
const EVENT_EVERY: u64 = 4;
const COPIES_MAX: usize = 3;
/// In half a minute. There were twenty times as many.
const CUTS_MAX: usize = 8;

/// Calls of one session are made one after the other.
const SESSIONS: i64 = 16;

fn session_of(msg_id: i64) -> String {
    format!("s{}", msg_id % SESSIONS)
}

/// A gateway that answers what it got when `due` says, by the time it got it and when it answers the one before.
struct World<Due: Fn(u64, Option<u64>) -> Option<u64>> {
    table: Table,
    protocol: Protocol,
    due: Due,
    streams_seen: usize,
    /// What is on the stream without an answer: when it is due, and the msg_id, or the batch_id.
    owed: VecDeque<(Option<u64>, i64)>,
    copies: BTreeMap<i64, usize>,
    /// First copies, as they came.
    firsts: Vec<i64>,
    events: i64,
}

impl<Due: Fn(u64, Option<u64>) -> Option<u64>> World<Due> {
    fn new(protocol: Protocol, due: Due) -> Self {
        let mut table = Table::with_timeout(&["ann"], &[("ann", "A")], Duration::from_secs(10));
        table.list("A", only(protocol));
        let (owed, copies, firsts) = (VecDeque::new(), BTreeMap::new(), Vec::new());
        Self { table, protocol, due, streams_seen: 0, owed, copies, firsts, events: 0 }
    }

    fn millis(&self) -> u64 {
        self.table.now.0 / 1_000_000
    }

    fn run(&mut self, seconds: u64, has_events: bool) {
        for step in 0..seconds * 1000 / STEP_MILLIS {
            if has_events && step % EVENT_EVERY == 0 {
                self.events += 1;
                self.table.arrive(&session_of(self.events), self.events);
                self.table.run();
            }
            self.read();
            self.answer();
            self.table.pass(STEP_MILLIS);
            self.read();
        }
        self.table.check();
    }

    fn read(&mut self) {
        if self.streams_seen != self.table.cut.len() {
            self.streams_seen = self.table.cut.len();
            self.owed.clear();
        }
        if !self.table.links.contains_key("A") {
            return;
        }
        let ids = match self.protocol {
            // Open calls are shown as long as they are open.
            Protocol::Unary => self.table.open_calls("A").split_off(self.owed.len()),
            _ => self.table.pushed_ids("A"),
        };
        for id in &ids {
            let copies = self.copies.entry(*id).or_default();
            *copies += 1;
            if *copies == 1 {
                self.firsts.push(*id);
            }
        }
        let ids = match self.protocol {
            Protocol::StreamMany | Protocol::Batch | Protocol::Group => {
                self.table.take_batches("A").into_iter().map(|batch| batch as i64).collect()
            }
            _ => ids,
        };
        for id in ids {
            let last = self.owed.back().and_then(|(due, _)| *due);
            let due = (self.due)(self.millis(), last);
            self.owed.push_back((due, id));
        }
    }

    fn answer(&mut self) {
        let now = self.millis();
        while let Some((Some(due), id)) = self.owed.front().copied()
            && due <= now
        {
            self.owed.pop_front();
            match self.protocol {
                Protocol::Stream => self.table.answer("A", &PushMessageResponse { msg_id: id, ..Default::default() }),
                Protocol::StreamMany => self.table.answer("A", &PushResponse { msg_id: id, ..Default::default() }),
                Protocol::Batch => {
                    self.table.answer("A", &PushBatchResponse { batch_id: id as u64, ..Default::default() })
                }
                Protocol::Group => self.table.answer("A", &GroupAnswer { frame_id: id as u64, ..Default::default() }),
                Protocol::Unary => {
                    let answer = PushResponse { msg_id: id, ..Default::default() };
                    self.table.answer_call("A", Ok(answer.encode_to_vec()));
                }
            }
            self.read();
        }
    }

    fn told(&self) -> String {
        let most = self.copies.values().max().copied().unwrap_or(0);
        let sum = self.copies.values().sum::<usize>();
        format!(
            "{:?}: {} events, {sum} copies, at most {most} of one, {} cuts, {} delivered, {} timed out",
            self.protocol,
            self.events,
            self.table.cut.len(),
            self.table.ended(RecipientOutcome::Delivered),
            self.table.ended(RecipientOutcome::TimedOut),
        )
    }

    /// What ended at its deadline holds its event until its stream is cut, at the latest.
    fn expect_all_settled(&mut self) {
        self.run(10, false);
        assert_eq!(self.table.push.events_in_flight(), 0, "{}", self.told());
    }

    fn expect_few(&self) {
        let told = self.told();
        println!("{told}");
        assert!(self.copies.values().all(|copies| *copies <= COPIES_MAX), "{told}");
        assert!(self.table.cut.len() <= CUTS_MAX, "{told}");
        for session in 0..SESSIONS {
            let own = self.firsts.iter().filter(|id| **id % SESSIONS == session);
            assert!(own.is_sorted(), "{told}");
        }
    }
}

#[test]
fn no_answers_at_all() {
    for protocol in PROTOCOLS {
        let mut world = World::new(protocol, |_, _| None);
        world.run(30, true);
        world.run(12, false);
        assert_eq!(world.table.ended(RecipientOutcome::TimedOut), world.events as u64, "{}", world.told());
        world.expect_all_settled();
        world.expect_few();
    }
}

#[test]
fn answers_later_than_the_timeout() {
    for protocol in PROTOCOLS {
        let mut world = World::new(protocol, |at, _| Some(at + 11_000));
        world.run(30, true);
        world.run(32, false);
        world.expect_few();
        assert_eq!(world.table.push.events_in_flight(), 0, "{}", world.told());
    }
}

#[test]
fn answers_just_within_it() {
    for protocol in [Protocol::Stream, Protocol::Batch] {
        let mut world = World::new(protocol, |at, _| Some(at + 9_000));
        world.run(30, true);
        world.run(12, false);
        world.expect_few();
        assert_eq!(world.table.ended(RecipientOutcome::Delivered), world.events as u64, "{}", world.told());
    }
}

/// It hangs for 14 s and a bit; then it reads what is on its stream and answers each within the time of a far network.
#[test]
fn answers_again() {
    for protocol in PROTOCOLS {
        for (until, takes) in [(14_340, 0), (14_340, 100), (25_000, 300)] {
            let mut world = World::new(protocol, move |at, _| Some(at.max(until) + takes));
            world.run(until / 1000, true);
            let reached_before = world.events as u64;
            // What is young enough is not lost, and what comes is pushed at once.
            world.run(3, true);
            assert!(world.table.push.events_in_flight() <= 80, "{}", world.told());
            world.run(5, true);
            world.run(2, false);
            world.expect_few();
            let told = format!("{until} {takes}: {}", world.told());
            assert_eq!(world.table.push.events_in_flight(), 0, "{told}");
            let delivered = world.table.ended(RecipientOutcome::Delivered);
            assert!(delivered >= world.events as u64 - reached_before + 100, "{told}");
        }
    }
}

/// A gateway that answers, but four a second of the twelve that come: its queue grows until the oldest are late.
#[test]
fn answers_too_slowly() {
    for protocol in [Protocol::Stream, Protocol::Batch] {
        let mut world = World::new(protocol, |at, last| Some(last.map_or(at, |last| at.max(last)) + 250));
        world.run(60, true);
        world.run(32, false);
        println!("{}", world.told());
        assert!(world.copies.values().all(|copies| *copies <= COPIES_MAX), "{}", world.told());
        assert_eq!(world.table.push.recipients_in_flight(), 0, "{}", world.told());
        world.expect_all_settled();
    }
}
