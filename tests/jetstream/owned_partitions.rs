//! Partitions that have owners: a reader reads what it is told and nothing else; a close leaves a successor exactly what is not
//! settled, and says so; what is behind a hole is not handed in.
#![allow(deprecated)]

use std::time::Instant;

use task_engine::config::{Assignment, Ownership};
use task_engine::edge::nats::jetstream::generations::{Generations, Outcome};
use task_engine::model::ids::{Partition, ShardId};
use task_engine::model::ownership::{Break, Generation, Settled, ShardOrder, ShardWord};
use task_engine::ports::{DeliveryTag, Disposition};
use task_engine::push::facts::Input;

use crate::jetstream_support::{
    ACK_WAIT, NatsVersion, PATIENCE, Taking, client, consumer, numbers, on_both_servers, publish, server, set_up,
    settings, started, until,
};
use harness::servers::Nats;
use task_engine::config::Config;

on_both_servers! {
    what_is_opened_is_read_and_nothing_else
    a_clean_close_is_seen_as_such_and_the_next_owner_goes_on_at_once
    a_delivery_that_went_elsewhere_while_it_was_closed_is_seen
    what_is_left_at_a_close_comes_to_the_next_owner_and_what_was_settled_does_not
    a_close_is_taken_back_while_nothing_was_left
    a_stolen_event_is_a_hole_and_nothing_behind_it_is_handed_in
    a_deleted_consumer_is_told_and_what_is_out_is_not_handed_in_twice
    a_new_leader_is_told
    what_is_dropped_is_forgotten
    what_is_settled_above_a_hole_is_told
    what_is_settled_while_a_push_holds_up_a_close_is_told
    a_close_without_a_server_says_what_is_settled_here
}

pub const P: Partition = Partition(1);

/// A server on which setup ran, for partitions that have owners, with the first generation of each.
pub fn owned(version: NatsVersion) -> (Nats, Config, nats::Connection) {
    let server = server(version);
    let mut settings = settings(&server, Assignment::Partitioned);
    settings.consumer.ownership = Ownership::Etcd;
    assert!(set_up(&settings, false).expect("setup").1);
    let first: Vec<_> =
        (0..settings.consumer.partitions).map(|partition| (Partition(partition), Generation(0), 1)).collect();
    let made = generations(&settings).create(&first);
    assert!(made.iter().all(|made| matches!(made, Outcome::Done(_))), "{made:?}");
    let client = client(&server);
    (server, settings, client)
}

pub fn open(taking: &Taking, generation: u32, settled: Settled) {
    order(taking, ShardOrder::Open { partition: P, generation: Generation(generation), settled });
    assert_eq!(taking.word(), ShardWord::Opened { partition: P });
}

pub fn order(taking: &Taking, order: ShardOrder) {
    until("the reader takes orders", || taking.partitions.order(ShardId(0), order.clone()).is_ok());
}

/// Closes it; what is left of the events that the shard has is given back.
pub fn close(taking: &Taking) -> (Settled, bool) {
    order(taking, ShardOrder::Close { partition: P });
    closed(taking)
}

pub fn closed(taking: &Taking) -> (Settled, bool) {
    loop {
        taking.facts();
        match taking.word() {
            ShardWord::Waits { .. } => {}
            ShardWord::Closed { partition: P, settled, is_clean } => return (settled, is_clean),
            other => panic!("{other:?}"),
        }
    }
}

/// What the shard is told to leave.
pub fn told_to_leave(taking: &Taking) -> Vec<DeliveryTag> {
    let mut tags = None;
    until("the shard is told", || {
        tags = tags.take().or_else(|| {
            taking.facts().into_iter().find_map(|fact| match fact {
                Input::Leave { partition: P, tags } => Some(tags),
                _ => None,
            })
        });
        tags.is_some()
    });
    tags.expect("waited for")
}

pub fn generations(settings: &Config) -> Generations {
    Generations::new(settings.nats.clone(), &settings.consumer, PATIENCE)
}

pub fn floor(floor: u64) -> Settled {
    Settled { floor, above: Vec::new() }
}

fn what_is_opened_is_read_and_nothing_else(version: NatsVersion) {
    let (_server, settings, client) = owned(version);
    let taking = started(&settings, 2);
    publish(&client, "events.1", "s", 0..5);
    publish(&client, "events.2", "s", 100..105);
    order(&taking, ShardOrder::Open { partition: P, generation: Generation(0), settled: Settled::default() });
    assert_eq!(taking.word(), ShardWord::Opened { partition: P });
    let events = taking.take_many(5);
    assert_eq!(numbers(&events), (0..5).collect::<Vec<_>>());
    assert_eq!(consumer(&client, "engine-2")["num_waiting"], 0);
    taking.settle(&events, Disposition::Ack);
    until("all is acknowledged", || consumer(&client, "engine-1")["num_ack_pending"] == 0);
    let other = ShardOrder::Open { partition: Partition(2), generation: Generation(0), settled: Settled::default() };
    taking.partitions.order(ShardId(1), other).expect("it takes orders");
    assert_eq!(numbers(&taking.take_many(5)), (100..105).collect::<Vec<_>>());
    taking.stop();
}

fn a_clean_close_is_seen_as_such_and_the_next_owner_goes_on_at_once(version: NatsVersion) {
    let (_server, settings, client) = owned(version);
    let (first, second) = (started(&settings, 1), started(&settings, 1));
    let (mut next, mut last) = (0, 0);
    for round in 0..4 {
        let (gives, takes) = if round % 2 == 0 { (&first, &second) } else { (&second, &first) };
        publish(&client, "events.1", "s", next..next + 20);
        // Of another partition: a server of 2.9 counts them as delivered.
        publish(&client, "events.2", "s", 0..50);
        open(gives, 0, floor(last));
        let events = gives.take_many(20);
        assert_eq!(numbers(&events), (next..next + 20).collect::<Vec<_>>());
        next += 20;
        gives.settle(&events, Disposition::Ack);
        let began = Instant::now();
        assert_eq!(close(gives), (floor(last + 20), true));
        open(takes, 0, floor(last + 20));
        println!("{version:?}: closed here and opened there in {:?}", began.elapsed());
        assert!(began.elapsed() < ACK_WAIT / 2, "{:?}", began.elapsed());
        assert!(close(takes).1, "nothing came");
        last += 70;
    }
    first.stop();
    second.stop();
}

fn a_delivery_that_went_elsewhere_while_it_was_closed_is_seen(version: NatsVersion) {
    let (_server, settings, client) = owned(version);
    let taking = started(&settings, 1);
    open(&taking, 0, Settled::default());
    publish(&client, "events.1", "s", 1..11);
    let events = taking.take_many(10);
    order(&taking, ShardOrder::Close { partition: P });
    told_to_leave(&taking);
    let thief = client.subscribe("thief").expect("subscribed");
    let next = "$JS.API.CONSUMER.MSG.NEXT.STREAM.engine-1";
    client.publish_with_reply_or_headers(next, Some("thief"), None, "1").expect("published");
    publish(&client, "events.1", "s", 11..12);
    let stolen = thief.next_timeout(PATIENCE).expect("nobody else asks");
    stolen.respond("+ACK").expect("acknowledged");
    taking.settle(&events, Disposition::Ack);
    assert_eq!(closed(&taking), (floor(10), false), "though nothing is pending");
    taking.stop();
}

fn what_is_left_at_a_close_comes_to_the_next_owner_and_what_was_settled_does_not(version: NatsVersion) {
    let (_server, settings, client) = owned(version);
    let (first, second) = (started(&settings, 1), started(&settings, 1));
    open(&first, 0, Settled::default());
    publish(&client, "events.1", "s", 1..21);
    let events = first.take_many(20);
    first.settle(&events[..5], Disposition::Ack);
    first.settle(&events[8..12], Disposition::Ack);
    order(&first, ShardOrder::Close { partition: P });
    let mut tags = told_to_leave(&first);
    tags.sort_by_key(|tag| tag.number);
    let open_ones = [&events[5..8], &events[12..]].concat();
    let mut want: Vec<_> = open_ones.iter().map(|(_, tag)| *tag).collect();
    want.sort_by_key(|tag| tag.number);
    assert_eq!(tags, want);
    // One of them is half done, and ends; nobody was pushed the others.
    first.settle(&open_ones[1..], Disposition::Nak);
    std::thread::park_timeout(std::time::Duration::from_millis(200));
    assert_eq!(first.try_word(), None, "one is half done");
    first.settle(&open_ones[..1], Disposition::Ack);
    let (settled, is_clean) = closed(&first);
    assert_eq!((&settled, is_clean), (&Settled { floor: 6, above: vec![9, 10, 11, 12] }, false));
    let mut generations = generations(&settings);
    assert!(matches!(generations.create(&[(P, Generation(1), 7)])[..], [Outcome::Done(_)]));
    assert_eq!(generations.delete(&[(P, Generation(0))]), [Outcome::Done(())]);
    open(&second, 1, settled);
    let rest = second.take_many(10);
    assert_eq!(numbers(&rest), [7, 8, 13, 14, 15, 16, 17, 18, 19, 20]);
    let known: usize = second.facts().iter().map(|fact| if let Input::Known(all) = fact { all.len() } else { 0 }).sum();
    assert_eq!(known, 6 + 4, "the repeat window up to the floor, and what was settled above it");
    second.settle(&rest, Disposition::Ack);
    until("all is acknowledged", || {
        let info = consumer(&client, "engine-1-g1");
        info["num_ack_pending"] == 0 && info["ack_floor"]["stream_seq"] == 20
    });
    assert_eq!(close(&second), (floor(20), true));
    first.stop();
    second.stop();
}

fn a_close_is_taken_back_while_nothing_was_left(version: NatsVersion) {
    let (_server, settings, client) = owned(version);
    let taking = started(&settings, 1);
    open(&taking, 0, Settled::default());
    publish(&client, "events.1", "s", 0..10);
    let events = taking.take_many(10);
    for way in 0..2 {
        order(&taking, ShardOrder::Close { partition: P });
        assert_eq!(told_to_leave(&taking).len(), 10, "{way}");
        order(&taking, ShardOrder::Reopen { partition: P });
        until("the shard is told", || taking.facts().iter().any(|fact| matches!(fact, Input::Stay(P))));
        assert_eq!(taking.word(), ShardWord::Opened { partition: P });
    }
    publish(&client, "events.1", "s", 10..15);
    assert_eq!(numbers(&taking.take_many(5)), (10..15).collect::<Vec<_>>());
    // What was given back meanwhile comes in no order that is known: from a new generation.
    order(&taking, ShardOrder::Close { partition: P });
    told_to_leave(&taking);
    taking.settle(&events[3..4], Disposition::Nak);
    order(&taking, ShardOrder::Reopen { partition: P });
    let mut word = None;
    until("a word", || {
        taking.facts();
        word = word.take().or_else(|| taking.try_word()).filter(|word| !matches!(word, ShardWord::Waits { .. }));
        word.is_some()
    });
    assert_eq!(word, Some(ShardWord::Broken { partition: P, settled: floor(0), why: Break::Hole }));
    taking.stop();
}

fn a_stolen_event_is_a_hole_and_nothing_behind_it_is_handed_in(version: NatsVersion) {
    let (_server, settings, client) = owned(version);
    let taking = started(&settings, 1);
    open(&taking, 0, Settled::default());
    publish(&client, "events.1", "s", 1..6);
    let events = taking.take_many(5);
    taking.settle(&events[1..2], Disposition::Ack);
    // Somebody reads the same, as an old owner might: some go there.
    let thief = client.subscribe("thief").expect("subscribed");
    let next = "$JS.API.CONSUMER.MSG.NEXT.STREAM.engine-1";
    client.publish_with_reply_or_headers(next, Some("thief"), None, r#"{"batch":200}"#).expect("published");
    client.flush().expect("flushed");
    publish(&client, "events.1", "s", 6..206);
    let settled = loop {
        match taking.word() {
            ShardWord::Broken { partition: P, settled, why: Break::Hole } => break settled,
            ShardWord::Waits { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(settled, Settled { floor: 0, above: vec![2] });
    let stolen = thief.next_timeout(PATIENCE).expect("stolen");
    let first_stolen = testkit::events::session_and_number(&stolen.data).1;
    std::thread::park_timeout(std::time::Duration::from_millis(200));
    let more = numbers(&taking.take());
    assert_eq!(more, (6..first_stolen).collect::<Vec<_>>(), "behind the hole nothing is handed in");
    // Its own next generation: what is out joins, the rest comes in order.
    let mut generations = generations(&settings);
    assert!(matches!(generations.create(&[(P, Generation(1), 1)])[..], [Outcome::Done(_)]));
    assert_eq!(generations.delete(&[(P, Generation(0))]), [Outcome::Done(())]);
    taking.settle(&events[..1], Disposition::Ack);
    order(&taking, ShardOrder::Open { partition: P, generation: Generation(1), settled });
    assert_eq!(taking.word(), ShardWord::Opened { partition: P });
    let rest = taking.take_many(206 - first_stolen as usize);
    assert_eq!(numbers(&rest), (first_stolen..206).collect::<Vec<_>>());
    taking.settle(&events[2..], Disposition::Ack);
    taking.settle(&rest, Disposition::Ack);
    let missing = (6..first_stolen).count() as u64;
    until("all but those in between is acknowledged", || {
        consumer(&client, "engine-1-g1")["num_ack_pending"].as_u64() == Some(missing)
    });
    taking.stop();
}

fn a_deleted_consumer_is_told_and_what_is_out_is_not_handed_in_twice(version: NatsVersion) {
    let (_server, settings, client) = owned(version);
    let taking = started(&settings, 1);
    open(&taking, 0, Settled::default());
    publish(&client, "events.1", "s", 1..11);
    let events = taking.take_many(10);
    taking.settle(&events[..3], Disposition::Ack);
    let mut generations = generations(&settings);
    until("three are acknowledged", || {
        generations.standing(&[(P, Generation(0))])[0].clone().done().is_some_and(|standing| standing.floor == 3)
    });
    assert_eq!(generations.delete(&[(P, Generation(0))]), [Outcome::Done(())]);
    assert_eq!(taking.word(), ShardWord::Broken { partition: P, settled: floor(3), why: Break::Deleted });
    taking.settle(&events[5..6], Disposition::Ack);
    // Somebody opens what does not exist.
    order(&taking, ShardOrder::Open { partition: P, generation: Generation(4), settled: floor(3) });
    let ShardWord::Broken { settled, why: Break::Deleted, .. } = taking.word() else { panic!("it is not there") };
    assert_eq!(settled, Settled { floor: 3, above: vec![6] });
    assert!(matches!(generations.create(&[(P, Generation(5), 4)])[..], [Outcome::Done(_)]));
    open(&taking, 5, settled);
    publish(&client, "events.1", "s", 11..13);
    let rest = taking.take_many(2);
    assert_eq!(numbers(&rest), [11, 12], "what is out, or was settled, does not come again");
    let half: Vec<_> = [&events[3..5], &events[6..], &rest[..]].concat();
    taking.settle(&half, Disposition::Ack);
    until("all is acknowledged", || consumer(&client, "engine-1-g5")["ack_floor"]["stream_seq"] == 12);
    assert_eq!(close(&taking), (floor(12), true));
    taking.stop();
}

fn a_new_leader_is_told(version: NatsVersion) {
    let (_server, settings, client) = owned(version);
    // Whoever may read the API sees where answers go, and may send there.
    let pulls = client.subscribe("$JS.API.CONSUMER.MSG.NEXT.>").expect("subscribed");
    let taking = started(&settings, 1);
    open(&taking, 0, Settled::default());
    // Whether pulls are allowed is tried without a place to send to.
    let reply = pulls.timeout_iter(PATIENCE).find_map(|pull| pull.reply).expect("a pull");
    send_status(&settings, &reply, b"NATS/1.0 409 Leadership Change\r\n\r\n");
    assert_eq!(taking.word(), ShardWord::Broken { partition: P, settled: floor(0), why: Break::Silence });
    taking.stop();
}

/// A message without a payload and with these headers, as a server sends it.
fn send_status(settings: &Config, subject: &str, headers: &[u8]) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(settings.nats.servers[0].at.to_string()).expect("connected");
    let head = "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n";
    write!(stream, "{head}HPUB {subject} {} {}\r\n", headers.len(), headers.len()).expect("written");
    stream.write_all(headers).expect("written");
    stream.write_all(b"\r\nPING\r\n").expect("written");
    let mut heard = Vec::new();
    while !heard.windows(4).any(|window| window == b"PONG") {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).expect("read");
        assert!(count > 0, "{}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&piece[..count]);
    }
}

fn what_is_dropped_is_forgotten(version: NatsVersion) {
    let (_server, settings, client) = owned(version);
    let taking = started(&settings, 1);
    open(&taking, 0, Settled::default());
    publish(&client, "events.1", "s", 1..11);
    let events = taking.take_many(10);
    order(&taking, ShardOrder::Drop { partition: P });
    assert_eq!(told_to_leave(&taking).len(), 10);
    taking.settle(&events, Disposition::Ack);
    publish(&client, "events.1", "s", 11..21);
    std::thread::park_timeout(ACK_WAIT / 4);
    assert!(taking.take().is_empty());
    let info = consumer(&client, "engine-1");
    assert_eq!((&info["num_ack_pending"], &info["ack_floor"]["stream_seq"]), (&10.into(), &0.into()), "{info}");
    taking.stop();
}

fn what_is_settled_above_a_hole_is_told(version: NatsVersion) {
    let (_server, settings, client) = owned(version);
    let taking = started(&settings, 1);
    open(&taking, 0, Settled::default());
    publish(&client, "events.1", "s", 1..11);
    let events = taking.take_many(10);
    taking.settle(&events[2..6], Disposition::Ack);
    let settled = Settled { floor: 0, above: vec![3, 4, 5, 6] };
    loop {
        match taking.word() {
            ShardWord::Waits { partition: P, settled: said, oldest: Some(_) } if said == settled => break,
            ShardWord::Waits { partition: P, settled: said, .. } => assert!(said.above.is_empty(), "{said:?}"),
            word => panic!("{word:?}"),
        }
    }
    let mut generations = generations(&settings);
    assert_eq!(generations.kept(&[(P, Generation(0))]), [Outcome::Absent]);
    assert_eq!(generations.keep(&[((P, Generation(0)), "a text".to_owned())]), [Outcome::Done(())]);
    assert_eq!(
        generations.kept(&[(P, Generation(0)), (P, Generation(1))]),
        [Outcome::Done(b"a text".to_vec()), Outcome::Absent]
    );
    taking.settle(&events[..2], Disposition::Ack);
    assert_eq!(closed_after(&taking, &events[6..]), (floor(10), true));
    taking.stop();
}

fn what_is_settled_while_a_push_holds_up_a_close_is_told(version: NatsVersion) {
    let (_server, settings, client) = owned(version);
    let taking = started(&settings, 1);
    open(&taking, 0, Settled::default());
    publish(&client, "events.1", "s", 1..6);
    let events = taking.take_many(5);
    order(&taking, ShardOrder::Close { partition: P });
    told_to_leave(&taking);
    taking.settle(&events[1..4], Disposition::Ack);
    let settled = Settled { floor: 0, above: vec![2, 3, 4] };
    // Nothing but these words comes until the first push ends.
    until(
        "it is told",
        || matches!(taking.word(), ShardWord::Waits { partition: P, settled: said, oldest: Some(_) } if said == settled),
    );
    taking.settle(&events[..1], Disposition::Ack);
    taking.settle(&events[4..], Disposition::Ack);
    assert_eq!(closed(&taking), (floor(5), true));
    taking.stop();
}

fn closed_after(taking: &Taking, events: &[(u64, DeliveryTag)]) -> (Settled, bool) {
    order(taking, ShardOrder::Close { partition: P });
    taking.settle(events, Disposition::Ack);
    closed(taking)
}

fn a_close_without_a_server_says_what_is_settled_here(version: NatsVersion) {
    let (server, settings, client) = owned(version);
    let taking = started(&settings, 1);
    open(&taking, 0, Settled::default());
    publish(&client, "events.1", "s", 1..11);
    let events = taking.take_many(10);
    server.kill9();
    order(&taking, ShardOrder::Close { partition: P });
    told_to_leave(&taking);
    taking.settle(&events[..7], Disposition::Ack);
    taking.settle(&events[7..], Disposition::Nak);
    assert_eq!(closed(&taking), (floor(7), false));
    taking.stop();
}
