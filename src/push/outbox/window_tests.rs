use std::collections::VecDeque;

use bytes::Bytes;

use super::*;
use crate::model::gateway::Protocol;
use crate::model::ids::{GatewayIx, StreamNo};
use crate::model::limits::STREAM_UNSENT_BYTES_MAX;
use crate::model::protobuf::{put_grpc_head, put_varint};
use crate::push::bundle::{Bundle, BundleEnd};
use crate::push::facts::{Output, StreamFact};
use crate::push::outbox::answers_tests::{bundle, record};
use crate::push::outbox::{Effects, Outbox, OutboxSettings};

/// Recipients of each item.
const ITEM: usize = 13;
const STEP: Duration = Duration::from_micros(50);
const TARGET: Duration = Duration::from_millis(2);

/// A gateway at the end of a way, which answers so many recipients a second, each item whole.
struct Gateway {
    rate: u64,
    way: Duration,
    /// When the answer of each item is here.
    answers: VecDeque<Nanos>,
    free_at: Nanos,
}

impl Gateway {
    fn takes(&mut self, now: Nanos) {
        let begins = self.free_at.max(now.after(self.way / 2));
        self.free_at = begins.after(Duration::from_nanos(ITEM as u64 * 1_000_000_000 / self.rate));
        self.answers.push_back(self.free_at.after(self.way / 2));
    }

    fn has_answered(&mut self, now: Nanos) -> bool {
        self.answers.pop_front_if(|at| *at <= now).is_some()
    }
}

/// So much waits that each turn fills the window: recipients answered in its last 2 s of 5, and the most that was unanswered then
/// outside of the time in which pushes go alone.
fn flooded(window: &mut Window, gateway: &mut Gateway) -> (u64, u64) {
    let (mut now, mut answered, mut most) = (Nanos(1), 0, 0);
    let second = |second| Nanos(1).after(Duration::from_secs(second));
    while now < second(5) {
        now = now.after(STEP);
        while gateway.has_answered(now) {
            window.left(ITEM);
            answered += if now > second(3) { ITEM as u64 } else { 0 };
        }
        window.note_answers(0, now);
        while window.room(now).is_none_or(|room| room > 0) && gateway.answers.len() < 100_000 {
            window.written(ITEM);
            gateway.takes(now);
        }
        window.note_turn(gateway.answers.len(), 0, true, now);
        most = most.max(if now > second(3) { window.written - window.left } else { 0 });
    }
    (answered / 2, most)
}

fn gateway(rate: u64, way: Duration) -> Gateway {
    Gateway { rate, way, answers: VecDeque::new(), free_at: Nanos(0) }
}

#[test]
fn a_gateway_stays_busy_and_holds_what_it_answers_in_time() {
    for (rate, way_micros) in
        [(20_000, 200), (40_000, 300), (100_000, 1_000), (400_000, 200), (40_000, 20_000), (5_000, 40_000)]
    {
        let way = Duration::from_micros(way_micros);
        let (answered, most) = flooded(&mut Window::new(TARGET), &mut gateway(rate, way));
        assert!(answered * 100 >= rate * 97, "{rate} a second over {way:?}: {answered} were answered");
        // One item alone takes its own time besides the way; the steps are seen as well.
        let alone = way + Duration::from_nanos(ITEM as u64 * 1_000_000_000 / rate) + 3 * STEP;
        let in_time = TARGET.max(alone * ROUND_TRIPS_MIN as u32).as_secs_f64() * rate as f64;
        let allowed = (in_time * 1.1) as u64 + BURST_MAX + ITEM as u64;
        assert!(most <= allowed, "{rate} a second over {way:?}: {most} unanswered, {allowed} are in time");
    }
}

#[test]
fn a_gateway_that_becomes_slower_or_faster_is_followed() {
    let (mut window, way) = (Window::new(TARGET), Duration::from_micros(200));
    for rate in [400_000, 40_000, 400_000] {
        window.lost_stream();
        (window.pace.since, window.full) = (Nanos(0), None);
        let (answered, most) = flooded(&mut window, &mut gateway(rate, way));
        assert!(answered * 100 >= rate * 97, "{rate} a second: {answered} were answered");
        assert!(most <= rate / 250 + 2 * BURST_MAX, "{rate} a second: {most} unanswered");
    }
}

#[test]
fn an_urgent_push_waits_for_few_answers_of_a_slow_gateway() {
    for (rate, way_micros) in [(6_500, 200), (650, 200), (130, 1_000)] {
        let way = Duration::from_micros(way_micros);
        let (answered, most) = flooded(&mut Window::new(TARGET), &mut gateway(rate, way));
        assert!(answered * 100 >= rate * 90, "{rate} a second over {way:?}: {answered} were answered");
        let items = most.div_ceil(ITEM as u64);
        assert!(items <= ROUND_TRIPS_MIN + 2, "{rate} a second over {way:?}: {items} items unanswered");
    }
}

#[test]
fn a_gateway_that_seldom_has_a_processor_has_something_to_do_then() {
    // It answers all it has, each 5 ms, but for the pushes that go alone: these are answered at once.
    let mut window = Window::new(TARGET);
    let (mut now, mut answered) = (Nanos(1), 0);
    for step in 0..100_000 {
        now = now.after(STEP);
        let waits = window.unanswered();
        if waits > 0 && (step % 100 == 0 || waits == 1) {
            window.left(waits);
            answered += waits as u64;
        }
        window.note_answers(0, now);
        while window.room(now).is_some_and(|room| room > 0) {
            window.written(1);
        }
        window.note_turn(window.unanswered(), 0, true, now);
    }
    assert!(answered / 5 >= BURST_MAX * 200 * 9 / 10, "{answered} in 5 s");
}

#[test]
fn the_round_trip_ends_with_the_first_answer() {
    let mut window = Window::new(TARGET);
    let mut now = Nanos(1);
    for _ in 0..ALONE_TIMES {
        window.written(ITEM);
        window.note_turn(1, 0, true, now);
        for answers in 1..=ITEM {
            now = now.after(STEP);
            if answers == ITEM {
                window.left(ITEM);
            }
            window.note_answers(answers % ITEM, now);
        }
    }
    assert_eq!(window.round_trip.shortest(), Some(STEP.as_nanos() as u64));
    assert_eq!(window.burst.best(), 1);
}

#[test]
fn without_a_target_nothing_is_held_back() {
    let mut window = Window::new(Duration::ZERO);
    window.written(1_000_000);
    window.note_turn(1, 0, true, Nanos(1));
    assert_eq!(window.room(Nanos(1)), None);
}

#[test]
fn nothing_is_learnt_of_the_pace_where_nothing_was_held_back() {
    let mut window = Window::new(TARGET);
    let mut now = Nanos(1);
    for _ in 0..1_000 {
        window.written(ITEM);
        window.note_turn(1, 0, false, now);
        now = now.after(Duration::from_millis(1));
        window.left(ITEM);
        window.note_answers(0, now);
    }
    assert_eq!((window.room(now), window.pace.now), (Some(FIRST_LIMIT), 0));
    assert_eq!(window.round_trip.shortest(), Some(1_000_000));
}

#[test]
fn pushes_go_alone_until_a_few_have_come_back_and_again_every_ten_seconds() {
    let mut window = Window::new(TARGET);
    let mut now = Nanos(1);
    let mut goes_alone = |now: Nanos| {
        window.written(ITEM);
        let is_alone = window.room(now) == Some(0);
        window.note_turn(1, 0, true, now);
        window.left(ITEM);
        window.note_answers(0, now.after(STEP));
        is_alone
    };
    for time in 0..20 {
        assert_eq!(goes_alone(now), time < ALONE_TIMES, "push {time}");
        now = now.after(STEP);
    }
    let next = Nanos(ROUND_TRIP_FORGOTTEN.as_nanos() as u64);
    goes_alone(next);
    for (into, is_alone) in
        [(1, true), (3, true), (4, true), (5, false), (10_001, true), (10_004, true), (20_101, false)]
    {
        assert_eq!(goes_alone(Nanos(0).after(Duration::from_millis(into + 10_000))), is_alone, "{into} ms later");
    }
}

#[test]
fn what_a_stream_that_is_gone_had_on_it_does_not_count() {
    let mut window = Window::new(TARGET);
    window.written(ITEM);
    assert_eq!(window.room(Nanos(1)), Some(0), "nothing is known: one goes alone");
    window.lost_stream();
    assert_eq!(window.room(Nanos(1)), Some(1));
}

/// When others than urgent pushes, which come without end in several items a millisecond, are written for the first time.
fn others_go_after(gateway: &mut Gateway, items: usize) -> Option<Duration> {
    let mut window = Window::new(TARGET);
    let begin = Nanos(0).after(Duration::from_secs(3));
    let mut now = begin;
    for step in 0..20_000 {
        now = now.after(STEP);
        while gateway.has_answered(now) {
            window.left(ITEM);
        }
        window.note_answers(0, now);
        if window.room(now).is_none_or(|room| room > 0) && step > 0 {
            return Some(now.since(begin));
        }
        if step % 20 == 0 {
            for _ in 0..items {
                window.written(ITEM);
                gateway.takes(now);
            }
        }
        window.note_turn(gateway.answers.len(), 0, true, now);
    }
    None
}

#[test]
fn urgent_pushes_without_end_keep_the_others_back_for_a_tenth_of_a_second() {
    for (rate, way_micros, items) in [(400_000, 1_100, 2), (400_000, 20_000, 2), (400_000, 150_000, 10)] {
        let way = Duration::from_micros(way_micros);
        let after = others_go_after(&mut gateway(rate, way), items).unwrap_or(Duration::MAX);
        let allowed = ALONE_FOR + 2 * (way + MEASURED_FOR);
        assert!(after >= ALONE_FOR && after <= allowed, "{items} items a ms over {way:?}: after {after:?}");
    }
}

#[test]
fn a_flood_goes_alone_every_ten_seconds() {
    let (mut window, mut gateway) = (Window::new(TARGET), gateway(40_000, Duration::from_micros(300)));
    flooded(&mut window, &mut gateway);
    let next = Nanos(0).after(ROUND_TRIP_FORGOTTEN);
    assert_eq!(window.limit(next), Some(1));
    assert_ne!(window.limit(next.after(ALONE_FOR)), Some(1));
}

/// An outbox on protocol `stream` whose frames are so large that each turn writes one.
struct Slow {
    outbox: Outbox,
    now: Nanos,
    unsent: usize,
}

const STREAM: StreamNo = StreamNo(1);
const MSG_ID: i64 = 7;

impl Slow {
    fn new() -> Self {
        let delivery_timeout = Duration::from_secs(1);
        let settings = OutboxSettings { delivery_timeout, stream_target: Some(TARGET), ..OutboxSettings::patient() };
        let mut slow = Self { outbox: Outbox::new("gateway".into(), settings), now: Nanos(1), unsent: 0 };
        slow.outbox.list(record(Protocol::Stream), slow.now);
        slow.put(Bundle { message: vec![0; STREAM_UNSENT_BYTES_MAX].into(), ..bundle(MSG_ID) });
        slow.turn(0);
        slow.take(StreamFact::Opened);
        slow
    }

    fn put(&mut self, bundle: Bundle) {
        assert!(self.outbox.put(Bundle { made_at: self.now, ..bundle }, self.now).is_ok());
    }

    fn take(&mut self, fact: StreamFact) {
        self.outbox.take(STREAM, fact, self.now, &mut Effects::default());
    }

    /// A turn so many microseconds later: how many frames it writes.
    fn turn(&mut self, micros: u64) -> usize {
        self.now = self.now.after(Duration::from_micros(micros));
        let unsent = std::mem::take(&mut self.unsent);
        self.take(StreamFact::Taken(unsent));
        let mut effects = Effects::default();
        self.outbox.flush(GatewayIx(0), self.now, &mut effects);
        let sent =
            effects.outputs.iter().map(|output| if let Output::Send { chunk, .. } = output { chunk.len() } else { 0 });
        self.unsent = sent.clone().sum();
        sent.filter(|bytes| *bytes > 0).count()
    }

    /// An answer so many microseconds later.
    fn answer(&mut self, micros: u64) {
        self.now = self.now.after(Duration::from_micros(micros));
        let (mut answer, mut bytes) = (vec![1 << 3], Vec::new());
        put_varint(&mut answer, MSG_ID as u64);
        put_grpc_head(&mut bytes, answer.len());
        bytes.extend(answer);
        self.take(StreamFact::Answers(Bytes::from(bytes)));
    }

    fn window(&self) -> &Window {
        assert!(self.outbox.has_order_in_its_books());
        &self.outbox.queue.passing.as_ref().expect("there are classes").window
    }
}

#[test]
fn the_round_trip_begins_with_the_first_byte() {
    // The last turn for an item comes before the first answer, and after it.
    let mut slow = Slow::new();
    assert_eq!([slow.turn(0), slow.turn(300), slow.turn(600)], [1, 1, 1]);
    slow.answer(100);
    assert_eq!(slow.window().round_trip.shortest(), Some(1_000_000));
    let mut slow = Slow::new();
    assert_eq!([slow.turn(0), slow.turn(300)], [1, 1]);
    slow.answer(700);
    assert_eq!(slow.turn(10), 1);
    slow.answer(290);
    slow.answer(710);
    let round_trip = &slow.window().round_trip;
    assert_eq!((round_trip.shortest(), round_trip.times), (Some(1_000_000), 1));
}

#[test]
fn what_was_answered_of_a_push_that_ends_half_written_does_not_count_for_the_next() {
    let mut slow = Slow::new();
    assert_eq!([slow.turn(0), slow.turn(300)], [1, 1]);
    slow.answer(700);
    slow.answer(300);
    slow.now = slow.now.after(Duration::from_secs(3));
    let mut effects = Effects::default();
    slow.outbox.tick(slow.now, &mut effects);
    assert!(matches!(effects.results[0].end, BundleEnd::Unanswered { from: 2, .. }));
    slow.put(Bundle { skip: 1, ..bundle(MSG_ID) });
    assert_eq!(slow.turn(100), 1);
    assert_eq!(slow.window().room(slow.now), Some(0), "two wait for their answers, and few have come back");
    slow.answer(900);
    assert_eq!((slow.window().round_trip.now, slow.window().round_trip.times), (Some(900_000), 2));
}

/// A gateway to which each frame costs the same, however much is in it, one after the other; or which answers each so much later.
struct Framed {
    cost: Duration,
    /// When each frame is answered, and its items.
    frames: VecDeque<(Nanos, usize)>,
}

const LARGE_ITEM: usize = 100;

/// How long it takes for so many items after the gateway was fast, and was sent little, for a second; none: more than 8 s.
fn burst_after_a_trickle(cost: Duration, is_pipelined: bool, count: usize) -> Option<Duration> {
    let (mut window, mut now) = (Window::new(TARGET), Nanos(0).after(Duration::from_millis(10_300)));
    let (begin, burst_at) = (now, now.after(Duration::from_secs(1)));
    let mut gateway = Framed { cost: Duration::from_micros(300), frames: VecDeque::new() };
    let (mut waiting, mut answered, mut next_of_trickle) = (0, 0, begin);
    while now.since(burst_at) < Duration::from_secs(8) {
        now = now.after(STEP);
        if now >= burst_at && gateway.cost != cost {
            (gateway.cost, waiting, answered) = (cost, count, 0);
        } else if now < burst_at && now >= next_of_trickle {
            (waiting, next_of_trickle) = (waiting + 1, next_of_trickle.after(Duration::from_millis(20)));
        }
        while let Some((_, items)) = gateway.frames.pop_front_if(|(at, _)| *at <= now) {
            window.left(items * LARGE_ITEM);
            answered += items;
        }
        window.note_answers(0, now);
        if now > burst_at && answered >= count {
            return Some(now.since(burst_at));
        }
        let mut written = 0;
        while waiting > 0 && window.room(now).is_none_or(|room| room > 0) {
            window.written(LARGE_ITEM);
            (waiting, written) = (waiting - 1, written + 1);
        }
        if written > 0 {
            let begins = gateway.frames.back().map_or(now, |(at, _)| if is_pipelined { now } else { now.max(*at) });
            gateway.frames.push_back((begins.after(gateway.cost), written));
        }
        let items = gateway.frames.iter().map(|(_, items)| items).sum();
        window.note_turn(items, 0, waiting > 0, now);
    }
    None
}

#[test]
fn a_gateway_whose_frames_take_longer_than_before_is_sent_more_in_each() {
    for (millis, is_pipelined) in [(2, false), (5, false), (20, false), (100, false), (20, true), (100, true)] {
        let cost = Duration::from_millis(millis);
        let took = burst_after_a_trickle(cost, is_pipelined, 600).unwrap_or(Duration::MAX);
        let allowed = 30 * cost + Duration::from_millis(500);
        assert!(took <= allowed, "{cost:?} a frame (side by side: {is_pipelined}): {took:?}, allowed {allowed:?}");
    }
}
