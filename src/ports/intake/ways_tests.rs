//! Order on two ways, with one thread step by step and with two.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::ports::DeliveryTag;
use crate::ports::intake::{Handed, IntakeLane};
use crate::ports::permit::Permit;

const PATIENCE: Duration = Duration::from_secs(30);

/// One shard, whose urgent events are of type `call`.
fn intake() -> (Intake, IntakeLane) {
    let rules = PriorityRules {
        header: "P".into(),
        types: vec![("call".into(), Priority::Urgent)],
        ..PriorityRules::default()
    };
    let (intake, mut lanes) =
        Intake::with_permit(vec![Arc::default()], 64, Arc::default(), Arc::new(Permit::default()), rules);
    (intake, lanes.remove(0))
}

fn event(session: u8, number: u32, is_call: bool) -> Bytes {
    let kind: &[u8] = if is_call { b"call" } else { b"text" };
    let session = [b'a' + session / 26, b'a' + session % 26];
    [&[0x1a, 2][..], &session, &[0x3a, 4], kind, &[0x32, 4], &number.to_le_bytes()].concat().into()
}

/// The session of an event, and its number in it.
fn of(payload: &[u8]) -> ([u8; 2], u32) {
    let number = payload[12..16].try_into().expect("four bytes");
    ([payload[2], payload[3]], u32::from_le_bytes(number))
}

/// What a reader of NATS does.
#[derive(Default)]
struct Reader {
    waiting: [VecDeque<(Bytes, Passage)>; 2],
    next: HashMap<u8, u32>,
}

impl Reader {
    fn hear(&mut self, intake: &Intake, session: u8, is_call: bool) -> Passage {
        let number = self.next.entry(session).or_default();
        let payload = event(session, *number, is_call);
        *number += 1;
        let passage = intake.passage(None, &payload, Said::Nothing);
        self.waiting[usize::from(passage.goes_first)].push_back((payload, passage));
        passage
    }

    fn put(&mut self, intake: &Intake, most: usize) {
        let mut burst = intake.burst();
        for waiting in self.waiting.iter_mut().rev() {
            for _ in 0..most {
                let Some((payload, passage)) = waiting.pop_front() else { break };
                if let Err(payload) = burst.on(passage).try_put(payload, DeliveryTag { reader: 0, number: 0 }) {
                    waiting.push_front((payload, passage));
                    break;
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.waiting.iter().all(VecDeque::is_empty)
    }
}

/// What a shard does.
#[derive(Default)]
struct Shard {
    next: HashMap<[u8; 2], u32>,
    came_first: usize,
    all: usize,
}

impl Shard {
    fn take(&mut self, lane: &IntakeLane, urgent: usize, plain: usize) {
        let first: Vec<_> = std::iter::from_fn(|| lane.try_urgent()).take(urgent).collect();
        let then: Vec<_> = std::iter::from_fn(|| lane.try_plain()).take(plain).collect();
        for Handed { payload, passage, .. } in first.into_iter().chain(then) {
            let (session, number) = of(&payload);
            let next = self.next.entry(session).or_default();
            assert_eq!(*next, number, "session {session:?}");
            *next += 1;
            self.all += 1;
            self.came_first += usize::from(passage.goes_first);
            lane.arrived(passage);
        }
    }
}

#[test]
fn an_urgent_event_passes_what_waits_of_other_sessions_and_nothing_of_its_own() {
    let ((intake, lane), mut reader, mut shard) = (intake(), Reader::default(), Shard::default());
    for session in 0..100 {
        assert!(!reader.hear(&intake, session, false).goes_first);
    }
    assert!(!reader.hear(&intake, 7, true).goes_first, "of its own session one waits");
    assert!(reader.hear(&intake, 200, true).goes_first);
    assert!(reader.hear(&intake, 200, false).goes_first, "what follows in that session is behind it");
    assert!(!reader.hear(&intake, 201, false).goes_first);
    reader.put(&intake, usize::MAX);
    assert_eq!((lane.len(), lane.is_held_up(0, 0), lane.is_held_up(0, 1)), (104, true, false));
    shard.take(&lane, usize::MAX, 0);
    assert_eq!((shard.all, shard.came_first), (2, 2));
    shard.take(&lane, usize::MAX, usize::MAX);
    assert_eq!((shard.all, lane.is_empty()), (104, true));
    assert!(reader.hear(&intake, 7, true).goes_first, "nothing waits any more");
}

#[test]
fn what_a_publisher_says_wins_over_the_type_and_what_is_left_counts_no_more() {
    let (intake, _lane) = intake();
    let call = event(1, 0, true);
    let text = event(1, 0, false);
    let passage = |payload: &Bytes, said| intake.passage(Some(ShardId(0)), payload, said);
    let bulk = passage(&call, Said::Class(Priority::Bulk));
    assert!(!bulk.goes_first && !passage(&text, Said::Class(Priority::Urgent)).goes_first, "behind the bulk one");
    intake.left(None, &call, bulk);
    intake.left(Some(ShardId(0)), &text, bulk);
    assert!(passage(&text, Said::Class(Priority::Urgent)).goes_first);
    let bytes = Bytes::from_static(b"\x1a\x7fno event");
    assert_eq!(intake.passage(None, &bytes, Said::Unknown), Passage::plain(Said::Unknown));
}

#[test]
fn what_comes_over_a_subject_of_urgent_events_passes_its_own_session_and_each_subject_keeps_its_order() {
    let ((intake, lane), mut reader) = (intake(), Reader::default());
    let urgent = |number| {
        let payload = event(7, number, false);
        let passage = intake.urgent_passage(None, &payload);
        assert!(intake.burst().on(passage).try_put(payload, DeliveryTag { reader: 1, number: 1 }).is_ok());
        passage
    };
    assert!(!reader.hear(&intake, 7, false).goes_first);
    let passage = urgent(100);
    assert!(passage.goes_first && passage.said == Said::Class(Priority::Urgent));
    assert!(!reader.hear(&intake, 7, true).goes_first, "behind what waits of its own subject");
    reader.put(&intake, usize::MAX);
    let (first, then) = (lane.try_urgent().expect("the urgent one"), lane.try_plain().expect("the plain one"));
    assert_eq!((of(&first.payload).1, of(&then.payload).1), (100, 0));
    lane.arrived(then.passage);
    let last = lane.try_plain().expect("the last one");
    lane.arrived(last.passage);
    assert!(
        reader.hear(&intake, 7, false).goes_first,
        "with what is urgent of its session, behind nothing of its subject"
    );
    reader.put(&intake, usize::MAX);
    lane.arrived(first.passage);
    urgent(101);
    let all = std::iter::from_fn(|| lane.try_urgent()).map(|handed| of(&handed.payload).1).collect::<Vec<_>>();
    assert_eq!((all, lane.is_empty()), (vec![2, 101], true));
}

#[test]
fn without_rules_there_is_one_way_and_nothing_is_counted() {
    let (intake, lanes) = Intake::new(vec![Arc::default()], 64, Arc::default());
    let urgent = Said::Class(Priority::Urgent);
    assert_eq!(intake.passage(None, &event(0, 0, true), urgent), Passage::plain(urgent));
    assert!(lanes[0].ways.is_none());
}

#[test]
fn order_holds_whatever_the_steps() {
    let mut random = 0x2545_f491_u32;
    let mut below = |bound: u32| {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        random % bound
    };
    let mut came_first = 0;
    for _ in 0..200 {
        let ((intake, lane), mut reader, mut shard) = (intake(), Reader::default(), Shard::default());
        let mut heard = 0;
        for _ in 0..400 {
            match below(3) {
                0 => {
                    reader.hear(&intake, below(20) as u8, below(4) == 0);
                    heard += 1;
                }
                1 => reader.put(&intake, below(4) as usize),
                _ => shard.take(&lane, below(3) as usize, below(3) as usize),
            }
        }
        reader.put(&intake, usize::MAX);
        shard.take(&lane, usize::MAX, usize::MAX);
        assert_eq!(shard.all, heard);
        came_first += shard.came_first;
    }
    assert!(came_first > 1_000, "{came_first}");
}

#[test]
fn order_holds_between_a_reader_and_a_shard_that_run_at_once() {
    const EVENTS: usize = 100_000;
    let (intake, lane) = intake();
    let mut shard = Shard::default();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut reader = Reader::default();
            for number in 0..EVENTS {
                reader.hear(&intake, (number * 7 % 50) as u8, number % 3 == 0);
                reader.put(&intake, usize::MAX);
            }
            while !reader.is_empty() {
                reader.put(&intake, usize::MAX);
                std::thread::yield_now();
            }
        });
        let until = Instant::now() + PATIENCE;
        while shard.all < EVENTS {
            shard.take(&lane, 16, 16);
            assert!(Instant::now() < until, "{} of {EVENTS}", shard.all);
        }
    });
    assert!(shard.came_first > 0);
}
