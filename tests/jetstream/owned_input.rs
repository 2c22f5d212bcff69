//! The input stream as a partition that has an owner: one reader moves it at a time, a close says whether a successor has anything to
//! look for, and neither a forced change of owner, nor a permit that ends, nor a dead connection reorders or repeats what is stored.
#![allow(deprecated)]

use std::sync::Arc;
use std::time::Duration;

use harness::servers::Nats;
use task_engine::config::{Config, Ownership};
use task_engine::edge::nats::jetstream::generations::{Generations, Outcome};
use task_engine::model::ids::{Partition, ShardId};
use task_engine::model::ownership::{Generation, Settled, ShardOrder, ShardWord};
use task_engine::ports::intake::Moves;
use task_engine::ports::permit::{Permit, boottime};
use testkit::taking::Taking;

use crate::jetstream_support::{
    NatsVersion, PARTITIONS, PATIENCE, ask, client, on_both_servers, server, set_up, started, until,
};
use crate::partitioner_support::{assert_moved, bound, moving, publish_twice, stored_count, until_settled};

on_both_servers! {
    a_clean_close_leaves_nothing_to_look_for
    two_at_once_store_nothing_twice_and_nothing_out_of_order
    what_a_full_stream_does_not_take_is_left_to_the_next_owner
    without_a_permit_nothing_is_published
    a_deleted_consumer_is_told_and_the_next_generation_goes_on
    a_killed_server_stores_each_event_once
    what_is_dropped_is_somebody_elses
    its_generations_are_found_beside_those_of_partitions
}

const SESSIONS: u64 = 17;
/// The input stream: behind the partitions.
const INPUT: Partition = Partition(PARTITIONS);

fn owned(version: NatsVersion) -> (Nats, Config, nats::Connection) {
    let server = server(version);
    let mut settings = moving(&server);
    settings.consumer.ownership = Ownership::Etcd;
    let (lines, is_usable) = set_up(&settings, false).expect("setup");
    assert!(is_usable, "{lines:?}");
    let made = generations(&settings).create(&[(INPUT, Generation(0), 1)]);
    assert!(matches!(made[..], [Outcome::Done(_)]), "setup leaves it to its owner: {made:?}");
    let client = client(&server);
    (server, settings, client)
}

fn order(taking: &Taking, order: ShardOrder) {
    until("the reader takes orders", || taking.partitions.order(ShardId(0), order.clone()).is_ok());
}

fn word(taking: &Taking) -> ShardWord {
    loop {
        match taking.word() {
            // It is said again after each reconnect.
            ShardWord::Waits { .. } | ShardWord::Opened { .. } => {}
            other => return other,
        }
    }
}

fn open(taking: &Taking, generation: u32, settled: Settled) {
    order(taking, ShardOrder::Open { partition: INPUT, generation: Generation(generation), settled });
    let opened = ShardWord::Opened { partition: INPUT };
    until("it is open", || taking.try_word().is_some_and(|word| word == opened));
}

fn close(taking: &Taking) -> (Settled, bool) {
    order(taking, ShardOrder::Close { partition: INPUT });
    match word(taking) {
        ShardWord::Closed { partition: INPUT, settled, is_clean } => (settled, is_clean),
        other => panic!("{other:?}"),
    }
}

fn generations(settings: &Config) -> Generations {
    Generations::new(settings.nats.clone(), &settings.consumer, PATIENCE)
}

/// The next generation behind what is settled, as an owner makes it; the last one is deleted.
fn make(settings: &Config, generation: u32, settled: &Settled) {
    let mut all = generations(settings);
    let last = all.delete(&[(INPUT, Generation(generation - 1))]);
    assert!(matches!(last[0], Outcome::Done(()) | Outcome::Absent), "{last:?}");
    let made = all.create(&[(INPUT, Generation(generation), settled.floor + 1)]);
    assert!(matches!(made[0], Outcome::Done(_)), "{made:?}");
}

/// What an owner does of the input stream: deliveries that were lost with a connection, or that a killed server forgot, need the next
/// generation.
struct Owner<'a> {
    settings: &'a Config,
    taking: &'a Taking,
    generation: u32,
}

impl Owner<'_> {
    /// Does what the reader's words ask for.
    fn mind(&mut self) {
        while let Some(word) = self.taking.try_word() {
            if let ShardWord::Broken { settled, .. } = word {
                self.generation += 1;
                make(self.settings, self.generation, &settled);
                let generation = Generation(self.generation);
                order(self.taking, ShardOrder::Open { partition: INPUT, generation, settled });
            }
        }
    }

    fn until_settled(&mut self, client: &nats::Connection) {
        until("all of the input stream is settled", || {
            self.mind();
            let name = Generation(self.generation).input_consumer_name("engine");
            let info = ask(client, &format!("$JS.API.CONSUMER.INFO.STREAM_IN.{name}"), "");
            info["num_ack_pending"] == 0 && info["num_pending"] == 0
        });
    }
}

fn is_connected(client: &nats::Connection, name: &str) -> bool {
    ask(client, &format!("$JS.API.CONSUMER.INFO.STREAM_IN.{name}"), "")["num_waiting"] != 0
}

fn a_clean_close_leaves_nothing_to_look_for(version: NatsVersion) {
    let (_server, settings, client) = owned(version);
    let (first, second) = (started(&settings, 1), started(&settings, 1));
    first.until_ready();
    assert!(!is_connected(&client, "engine-in"), "nobody owns it");
    let mut settled = Settled::default();
    for round in 0..4 {
        let taking = if round % 2 == 0 { &first } else { &second };
        open(taking, 0, settled);
        publish_twice(&client, SESSIONS, round * 400..round * 400 + 400);
        until("it is at work", || stored_count(&client) > round * 400 + 50);
        let is_clean;
        (settled, is_clean) = close(taking);
        assert!(is_clean && settled.above.is_empty(), "round {round}: {settled:?}");
        let info = ask(&client, "$JS.API.CONSUMER.INFO.STREAM_IN.engine-in", "");
        assert_eq!((&info["num_ack_pending"], &info["ack_floor"]["stream_seq"]), (&0.into(), &settled.floor.into()));
    }
    open(&first, 0, settled);
    until_settled(&client, "engine-in");
    assert_moved(&client, SESSIONS, 0..1600);
    first.stop();
    second.stop();
}

fn two_at_once_store_nothing_twice_and_nothing_out_of_order(version: NatsVersion) {
    let (_server, settings, client) = owned(version);
    let (first, second) = (started(&settings, 1), started(&settings, 1));
    open(&first, 0, Settled::default());
    publish_twice(&client, SESSIONS, 0..1000);
    until("it is at work", || stored_count(&client) > 100);
    // By force: the other one has a consumer of its own, which begins with the first event again, and nobody tells the first.
    let made = generations(&settings).create(&[(INPUT, Generation(1), 1)]);
    assert!(matches!(made[0], Outcome::Done(_)), "{made:?}");
    open(&second, 1, Settled::default());
    publish_twice(&client, SESSIONS, 1000..3000);
    ["engine-in", "engine-in-g1"].into_iter().for_each(|name| until_settled(&client, name));
    assert_moved(&client, SESSIONS, 0..3000);
    assert!(second.moves(Moves::Copies) >= 3000, "it read all of them");
    first.stop();
    second.stop();
}

fn what_a_full_stream_does_not_take_is_left_to_the_next_owner(version: NatsVersion) {
    let (_server, settings, client) = owned(version);
    bound(&client, 50);
    let (first, second) = (started(&settings, 1), started(&settings, 1));
    open(&first, 0, Settled::default());
    publish_twice(&client, SESSIONS, 0..400);
    first.until_waiting(&["takes no events"]);
    let (settled, is_clean) = close(&first);
    assert!(!is_clean && settled.floor < 800, "{settled:?}");
    bound(&client, -1);
    make(&settings, 1, &settled);
    open(&second, 1, settled);
    until_settled(&client, "engine-in-g1");
    assert_moved(&client, SESSIONS, 0..400);
    let (_, is_clean) = close(&second);
    assert!(is_clean, "all that the first may have published was passed");
    first.stop();
    second.stop();
}

fn without_a_permit_nothing_is_published(version: NatsVersion) {
    let (_server, settings, client) = owned(version);
    let permit = Arc::new(Permit::not_given());
    let taking = Taking::with_permit(&settings, PARTITIONS, 1, permit.clone());
    let hour = || boottime().after(Duration::from_secs(3600)).0;
    permit.set(hour());
    open(&taking, 0, Settled::default());
    let (mut last, mut owner) = (0, Owner { settings: &settings, taking: &taking, generation: 0 });
    for round in 0..3 {
        publish_twice(&client, SESSIONS, round * 2000..(round + 1) * 2000);
        until("it is at work", || {
            owner.mind();
            stored_count(&client) > last + 100
        });
        permit.set(0);
        // What was in the socket is stored or reset by now: a round trip of ours is behind it, and another connection is open.
        until("nothing more is stored", || {
            let before = stored_count(&client);
            std::thread::park_timeout(Duration::from_millis(300));
            last = stored_count(&client);
            last == before
        });
        permit.set(hour());
    }
    owner.until_settled(&client);
    assert_moved(&client, SESSIONS, 0..6000);
    let (_, is_clean) = close(&taking);
    assert!(is_clean, "nothing is in doubt");
    taking.stop();
}

fn a_deleted_consumer_is_told_and_the_next_generation_goes_on(version: NatsVersion) {
    let (_server, settings, client) = owned(version);
    let taking = started(&settings, 1);
    open(&taking, 0, Settled::default());
    publish_twice(&client, SESSIONS, 0..1000);
    until("it is at work", || stored_count(&client) > 100);
    generations(&settings).delete(&[(INPUT, Generation(0))]);
    // Which sign of it is seen first depends on what was under way.
    let ShardWord::Broken { partition: INPUT, settled, .. } = word(&taking) else { panic!("it is gone") };
    make(&settings, 1, &settled);
    open(&taking, 1, settled);
    publish_twice(&client, SESSIONS, 1000..1200);
    until_settled(&client, "engine-in-g1");
    assert_moved(&client, SESSIONS, 0..1200);
    taking.stop();
}

fn a_killed_server_stores_each_event_once(version: NatsVersion) {
    let (server, settings, client) = owned(version);
    let taking = started(&settings, 1);
    open(&taking, 0, Settled::default());
    publish_twice(&client, SESSIONS, 0..1000);
    until("it is at work", || stored_count(&client) > 100);
    server.kill9();
    taking.until_waiting(&["check"]);
    server.restart().expect("it comes back");
    let client = crate::jetstream_support::client(&server);
    let mut owner = Owner { settings: &settings, taking: &taking, generation: 0 };
    owner.until_settled(&client);
    assert_moved(&client, SESSIONS, 0..1000);
    taking.stop();
}

fn what_is_dropped_is_somebody_elses(version: NatsVersion) {
    let (_server, settings, client) = owned(version);
    let (first, second) = (started(&settings, 1), started(&settings, 1));
    open(&first, 0, Settled::default());
    publish_twice(&client, SESSIONS, 0..1000);
    until("it is at work", || stored_count(&client) > 100);
    order(&first, ShardOrder::Drop { partition: INPUT });
    until("its connection is closed", || !is_connected(&client, "engine-in"));
    make(&settings, 1, &Settled::default());
    open(&second, 1, Settled::default());
    until_settled(&client, "engine-in-g1");
    assert_moved(&client, SESSIONS, 0..1000);
    assert_eq!(first.try_word(), None, "nothing more is said of it");
    first.stop();
    second.stop();
}

fn its_generations_are_found_beside_those_of_partitions(version: NatsVersion) {
    let (_server, settings, client) = owned(version);
    let mut all = generations(&settings);
    let Outcome::Done(facts) = all.probe_rights("one") else { panic!("all rights are there") };
    assert!(facts.created.contains("its input stream 20"), "{}", facts.created);
    publish_twice(&client, SESSIONS, 0..5);
    let made = all.create(&[(INPUT, Generation(3), 4), (Partition(0), Generation(0), 1)]);
    assert!(matches!(&made[0], Outcome::Done(made) if (made.floor, made.to_come) == (3, 7)), "{made:?}");
    let (found, word) = all.prove("one", &[(INPUT, Generation(3)), (Partition(0), Generation(0))]);
    assert!(
        matches!(found[..], [Outcome::Done(_), Outcome::Done(_)]) && word == Outcome::Done(()),
        "{found:?} {word:?}"
    );
    let Outcome::Done(names) = all.names() else { panic!("they are listed") };
    let of_input: Vec<_> = names.iter().filter(|(partition, _)| *partition == INPUT).map(|(_, g)| g.0).collect();
    assert_eq!(
        (of_input, names.len()),
        (vec![0, 3], 3),
        "setup makes the one of the input stream, owners make the others"
    );
    let _ = ask(&client, "$JS.API.STREAM.DELETE.STREAM_IN", "");
    let without = generations(&settings).probe_rights("one");
    assert!(
        matches!(&without, Outcome::Refused(why) if why.contains("stream STREAM_IN does not exist")),
        "{without:?}"
    );
}
