//! The repeat window of a partition that comes is read back before its first event; and a reader of owned partitions settles and
//! pulls only while its instance has a permit.
#![allow(deprecated)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::servers::{Nats, NatsOptions};
use task_engine::config::{Assignment, Config, Ownership};
use task_engine::edge::nats::jetstream::generations::{Generations, Outcome};
use task_engine::model::ids::Partition;
use task_engine::model::ownership::{Generation, Settled, ShardOrder, ShardWord};
use task_engine::ports::Disposition;
use task_engine::ports::permit::{Permit, boottime};
use task_engine::push::facts::Input;
use testkit::nats::user;

use crate::jetstream_support::{
    NatsVersion, PARTITIONS, PATIENCE, Taking, ask, client, consumer, numbers, on_both_servers, publish, ready, set_up,
    settings, started, until,
};
use crate::owned_partitions::{P, order, owned};

on_both_servers! {
    eight_thousand_events_are_known_before_the_first_one_comes
    what_is_read_while_another_has_it_is_not_read_again
    of_more_the_latest_are_known
    who_may_not_read_it_back_opens_all_the_same_and_it_is_counted
    nothing_is_pulled_or_acknowledged_without_a_permit
    a_replay_is_told_to_the_shard_before_its_event
}

/// Publishes so many to a stream that has some, and lets a generation begin behind them; what follows is not settled.
fn with_window(client: &nats::Connection, settings: &Config, (before, count): (u64, u64), ahead: u64) {
    publish(client, "events.1", "s", 0..count);
    publish(client, "events.2", "s", 0..10);
    let mut generations = Generations::new(settings.nats.clone(), &settings.consumer, PATIENCE);
    assert!(matches!(generations.create(&[(P, Generation(1), before + count + 1)])[..], [Outcome::Done(_)]));
    publish(client, "events.1", "s", count..count + ahead);
}

/// The events that the shard was told of since this was last asked.
fn known(taking: &Taking) -> Vec<u64> {
    let told = taking.facts().into_iter().filter_map(|fact| match fact {
        Input::Known(payloads) => Some(payloads),
        _ => None,
    });
    told.flatten().map(|payload| testkit::events::session_and_number(&payload).1).collect()
}

/// Opens a generation, and counts what the shard is told until that is done.
fn known_after_opening(taking: &Taking, generation: u32) -> (Vec<u64>, Duration) {
    order(taking, ShardOrder::Open { partition: P, generation: Generation(generation), settled: Settled::default() });
    let (began, mut told) = (Instant::now(), Vec::new());
    let mut take = || told.extend(known(taking));
    let mut word = None;
    until("it is open", || {
        take();
        word = taking.try_word();
        word.is_some()
    });
    assert_eq!(word, Some(ShardWord::Opened { partition: P }));
    // All of it was told before the word.
    take();
    (told, began.elapsed())
}

fn eight_thousand_events_are_known_before_the_first_one_comes(version: NatsVersion) {
    let (_server, settings, client) = owned(version);
    with_window(&client, &settings, (0, 8192 - 5), 20_000);
    let taking = started(&settings, 1);
    taking.until_ready();
    let (known, took) = known_after_opening(&taking, 1);
    println!("{version:?}: {} events read back in {took:?}", known.len());
    assert!(known.iter().copied().eq(0..8187), "{}", known.len());
    assert_eq!(numbers(&taking.take_many(5))[..5], (8187..8192).collect::<Vec<_>>());
    assert_eq!(taking.intake.counts().partial_windows(), 0, "however much is to come");
    until("what read it back is gone", || {
        let names = ask(&client, "$JS.API.CONSUMER.NAMES.STREAM", "");
        names["total"] == 5
    });
    taking.stop();
}

fn what_is_read_while_another_has_it_is_not_read_again(version: NatsVersion) {
    let (_server, settings, client) = owned(version);
    with_window(&client, &settings, (0, 3000), 7);
    let taking = started(&settings, 1);
    taking.until_ready();
    let prepare = || order(&taking, ShardOrder::Prepare { partition: P, generation: Generation(1) });
    let mut told = Vec::new();
    prepare();
    until("the window is read", || {
        told.extend(known(&taking));
        told.len() >= 3000
    });
    assert!(told.iter().copied().eq(0..3000), "what is not settled is not told: {}", told.len());
    // It is not to come after all, and then it is.
    order(&taking, ShardOrder::Drop { partition: P });
    prepare();
    let mut generations = Generations::new(settings.nats.clone(), &settings.consumer, PATIENCE);
    assert!(matches!(generations.create(&[(P, Generation(2), 3018)])[..], [Outcome::Done(_)]));
    publish(&client, "events.1", "s", 3007..3010);
    let (tail, _) = known_after_opening(&taking, 2);
    assert_eq!(tail, (3000..3007).collect::<Vec<_>>());
    assert_eq!(numbers(&taking.take_many(3)), [3007, 3008, 3009]);
    assert_eq!(taking.intake.counts().partial_windows(), 0);
    until("what read it is gone", || ask(&client, "$JS.API.CONSUMER.NAMES.STREAM", "")["total"] == 6);
    taking.stop();
}

fn of_more_the_latest_are_known(version: NatsVersion) {
    let (_server, settings, client) = owned(version);
    // Not one rate: it is begun later in proportion until it fits.
    publish(&client, "events.1", "s", 0..3000);
    std::thread::park_timeout(Duration::from_secs(1));
    with_window(&client, &settings, (3000, 20_000), 5);
    let taking = started(&settings, 1);
    taking.until_ready();
    let (known, took) = known_after_opening(&taking, 1);
    println!("{version:?}: of 23,000 events {} read back in {took:?}", known.len());
    if taking.intake.counts().partial_windows() > 0 {
        // On a machine that has no time the search for where to begin is broken off, counted.
        return taking.stop();
    }
    assert_eq!(known.last(), Some(&19_999), "the latest");
    assert!(
        known.windows(2).all(|two| two[0] < two[1]) && known.len() >= 8192 / 2 && known.len() <= 8192 + 8192 / 4,
        "{}",
        known.len()
    );
    taking.stop();
}

fn who_may_not_read_it_back_opens_all_the_same_and_it_is_counted(version: NatsVersion) {
    let config = r#"authorization { users: [
        { user: admin, password: admin },
        { user: engine, password: s3cret, permissions: { publish: { deny: "$JS.API.CONSUMER.CREATE.STREAM" } } } ] }"#;
    let options = NatsOptions { version, jetstream: true, config: config.to_owned(), ..NatsOptions::default() };
    let server = Nats::start(&options).expect("nats-server starts");
    let mut settings = settings(&server, Assignment::Partitioned);
    settings.consumer.ownership = Ownership::Etcd;
    settings.nats.auth = user("admin", "admin");
    assert!(set_up(&settings, false).expect("setup").1);
    let client = nats::Options::with_user_pass("admin", "admin").connect(server.url()).expect("a client");
    with_window(&client, &settings, (0, 20), 5);
    settings.nats.auth = user("engine", "s3cret");
    let taking = started(&settings, 1);
    let (known, took) = known_after_opening(&taking, 1);
    assert!(known.is_empty() && took < Duration::from_secs(5), "{known:?} {took:?}");
    assert_eq!(numbers(&taking.take_many(5)), (20..25).collect::<Vec<_>>());
    assert_eq!(taking.intake.counts().partial_windows(), 1);
    taking.stop();
}

fn nothing_is_pulled_or_acknowledged_without_a_permit(version: NatsVersion) {
    const HOUR: u64 = 3_600_000_000_000;
    let (_server, settings, client) = owned(version);
    let permit = Arc::new(Permit::not_given());
    let taking = Taking::with_permit(&settings, PARTITIONS, 1, permit.clone());
    publish(&client, "events.1", "s", 0..10);
    order(&taking, ShardOrder::Open { partition: P, generation: Generation(0), settled: Settled::default() });
    std::thread::park_timeout(Duration::from_millis(500));
    assert!(taking.try_word().is_none() && taking.take().is_empty());
    assert_eq!(consumer(&client, "engine-1")["num_waiting"], 0);
    permit.set(boottime().0 + HOUR);
    let events = taking.take_many(10);
    assert_eq!(taking.word(), ShardWord::Opened { partition: P });
    permit.set(boottime().0 + 1);
    taking.settle(&events, Disposition::Ack);
    // Reports of work would be said meanwhile as well: they would keep the server from sending anew.
    std::thread::park_timeout(Duration::from_millis(800));
    assert_eq!(consumer(&client, "engine-1")["num_ack_pending"], 10);
    let began = Instant::now();
    permit.set(boottime().0 + HOUR);
    until("all is acknowledged", || consumer(&client, "engine-1")["num_ack_pending"] == 0);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    taking.stop();
}

fn a_replay_is_told_to_the_shard_before_its_event(version: NatsVersion) {
    for assignment in [Assignment::Queue, Assignment::Partitioned] {
        let (server, settings) = ready(version, assignment);
        let client = client(&server);
        let taking = started(&settings, 1);
        let subject = if assignment == Assignment::Queue { "events" } else { "events.1" };
        publish(&client, subject, "s", 0..3);
        let first = taking.take_many(3);
        assert!(taking.facts().is_empty());
        let mut headers = nats::HeaderMap::new();
        headers.insert("Task-Engine-Replay", "1".to_owned());
        let event = crate::jetstream_support::event("s", 1);
        client.publish_with_reply_or_headers(subject, None, Some(&headers), event).expect("published");
        let replayed = taking.take_many(1);
        let told = taking.facts();
        assert!(matches!(told[..], [Input::Replayed(tag)] if tag == replayed[0].1), "{told:?}");
        taking.settle(&first, Disposition::Ack);
        taking.stop();
    }
    let _ = Partition(0);
}
