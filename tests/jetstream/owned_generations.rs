//! The consumers of partitions that have owners: made, looked at, listed and deleted, many at once; what owners leave for each other;
//! and which right is missing.
#![allow(deprecated)]

use std::time::{Duration, Instant};

use harness::servers::Nats;
use task_engine::config::{Assignment, Config, Ownership};
use task_engine::edge::nats::jetstream::generations::{Generations, Outcome, Standing, StreamFacts};
use task_engine::edge::nats::jetstream::setup::MAX_AGE;
use task_engine::model::ids::Partition;
use task_engine::model::ownership::Generation;

use crate::jetstream_support::{
    NatsVersion, PATIENCE, ask, client, consumer, on_both_servers, publish, server, set_up, settings, started,
    with_rights,
};
use crate::owned_partitions::owned;

on_both_servers! {
    generations_are_made_once_and_begin_where_they_are_told
    sixty_four_are_made_and_deleted_at_once
    a_proof_is_that_it_exists_and_that_a_word_was_stored
    what_is_kept_is_the_latest_of_each_partition
    each_missing_right_is_named
    a_stream_that_forgets_what_is_acknowledged_is_refused
    setup_makes_the_owners_stream_once
    without_ownership_beside_owners_nothing_is_read_or_made
    a_server_that_is_away_is_no_answer_and_then_all_goes_on
}

fn of(settings: &Config) -> Generations {
    Generations::new(settings.nats.clone(), &settings.consumer, PATIENCE)
}

fn generations_are_made_once_and_begin_where_they_are_told(version: NatsVersion) {
    let (_server, settings, client) = owned(version);
    let mut generations = of(&settings);
    publish(&client, "events.1", "s", 0..10);
    publish(&client, "events.2", "s", 0..10);
    let (p, g) = (Partition(1), Generation(7));
    let first = generations.create(&[(p, g, 5)]);
    let [Outcome::Done(Standing { floor: 4, start: 5, created, .. })] = first[..] else { panic!("{first:?}") };
    assert!(created > 1_700_000_000_000_000_000, "{created}");
    assert_eq!(generations.create(&[(p, g, 5)]), first, "it is the same one");
    let config = consumer(&client, "engine-1-g7")["config"].clone();
    assert_eq!((&config["opt_start_seq"], &config["filter_subject"]), (&5.into(), &"events.1".into()));
    assert_eq!(config["ack_wait"], consumer(&client, "engine-1")["config"]["ack_wait"]);
    let other = generations.create(&[(p, g, 6), (Partition(2), Generation(1), 1)]);
    assert!(matches!(&other[0], Outcome::Refused(_)), "{other:?}");
    assert!(matches!(other[1], Outcome::Done(_)), "each has an answer of its own");
    let standing = generations.standing(&[(p, g), (p, Generation(8)), (p, Generation(0))]);
    assert!(matches!(
        standing[0],
        Outcome::Done(Standing { floor: 4, pending: 0, delivered: 0, to_come: 6, start: 5, created: of }) if of == created
    ));
    assert_eq!(standing[1], Outcome::Absent);
    assert!(matches!(
        standing[2],
        Outcome::Done(Standing { floor: 0, pending: 0, delivered: 0, to_come: 10, start: 1, .. })
    ));
    let all: Vec<_> =
        [(0, 0), (1, 0), (1, 7), (2, 0), (2, 1), (3, 0)].map(|(p, g)| (Partition(p), Generation(g))).into();
    assert_eq!(generations.names(), Outcome::Done(all));
    // One after the other: a server that has two such requests at once may do both.
    assert_eq!(generations.delete(&[(p, g)]), [Outcome::Done(())]);
    assert_eq!(generations.delete(&[(p, g)]), [Outcome::Absent]);
    assert_eq!(generations.standing(&[(p, g)]), [Outcome::Absent]);
    let Outcome::Done(facts) = generations.stream() else { panic!("it is there") };
    assert_eq!((facts.first, facts.last, facts.replicas, &facts.unusable), (1, 20, 1, &None));
    assert!(!facts.created.is_empty());
}

fn sixty_four_are_made_and_deleted_at_once(version: NatsVersion) {
    let server = server(version);
    let mut settings = settings(&server, Assignment::Partitioned);
    (settings.consumer.ownership, settings.consumer.partitions) = (Ownership::Etcd, 64);
    assert!(set_up(&settings, false).expect("setup").1);
    let mut generations = of(&settings);
    let all: Vec<_> = (0..64).map(|partition| (Partition(partition), Generation(1))).collect();
    let began = Instant::now();
    assert!(generations.standing(&all).iter().all(|standing| *standing == Outcome::Absent));
    let made = generations.create(&all.iter().map(|(p, g)| (*p, *g, 1)).collect::<Vec<_>>());
    assert!(made.iter().all(|made| matches!(made, Outcome::Done(_))), "{made:?}");
    assert!(generations.delete(&all).iter().all(|gone| *gone == Outcome::Done(())));
    println!("{version:?}: 64 looked for, made and deleted in {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let Outcome::Done(names) = generations.names() else { panic!("listed") };
    assert_eq!(names, [], "setup makes none: owners do");
}

fn a_proof_is_that_it_exists_and_that_a_word_was_stored(version: NatsVersion) {
    let (_server, settings, client) = owned(version);
    let mut generations = of(&settings);
    let all = [(Partition(0), Generation(0)), (Partition(1), Generation(3))];
    let (standing, word) = generations.prove("a", &all);
    assert!(
        matches!(standing[..], [Outcome::Done(_), Outcome::Absent]) && word == Outcome::Done(()),
        "{standing:?} {word:?}"
    );
    for _ in 0..5 {
        generations.prove("a", &all);
    }
    generations.prove("b", &[]);
    let info = ask(&client, "$JS.API.STREAM.INFO.STREAM_OWN", "");
    assert_eq!(info["state"]["messages"], 2, "the latest word of each instance: {info}");
    ask(&client, "$JS.API.STREAM.DELETE.STREAM_OWN", "");
    let (_, word) = generations.prove("a", &all);
    assert!(matches!(word, Outcome::NoAnswer(_)), "nobody stores it: {word:?}");
}

fn what_is_kept_is_the_latest_of_each_partition(version: NatsVersion) {
    let (_server, settings, _client) = owned(version);
    let mut generations = of(&settings);
    let words = [(1, "five"), (2, ""), (1, "eight")]
        .map(|(partition, text)| ((Partition(partition), Generation(3)), text.to_owned()));
    assert!(generations.keep(&words).iter().all(|kept| *kept == Outcome::Done(())));
    let kept = generations.kept(&[1, 2, 3].map(|partition| (Partition(partition), Generation(3))));
    assert_eq!(kept, [Outcome::Done(b"eight".to_vec()), Outcome::Done(Vec::new()), Outcome::Absent]);
}

fn with_owners(server: &Nats) -> Config {
    let mut settings = settings(server, Assignment::Partitioned);
    settings.consumer.ownership = Ownership::Etcd;
    settings
}

fn each_missing_right_is_named(version: NatsVersion) {
    let (server, settings, _client) = with_rights(version, r#"{ allow: ">" }"#, with_owners);
    assert!(matches!(of(&settings).probe_rights("node-1"), Outcome::Done(StreamFacts { unusable: None, .. })));
    let client = nats::Options::with_user_pass("admin", "admin").connect(server.url()).expect("a client");
    let names = ask(&client, "$JS.API.CONSUMER.NAMES.STREAM", "");
    assert_eq!(names["total"], 0, "nothing is left behind: {names}");
    for denied in [
        "$JS.API.STREAM.INFO.STREAM",
        "$JS.API.CONSUMER.DURABLE.CREATE.STREAM.engine-probe-node-1",
        "$JS.API.CONSUMER.INFO.STREAM.engine-probe-node-1",
        "$JS.API.CONSUMER.NAMES.STREAM",
        "$JS.API.CONSUMER.DELETE.STREAM.engine-probe-node-1",
        "$JS.API.CONSUMER.CREATE.STREAM",
        "STREAM_OWN.instance.node-1",
        "$JS.API.STREAM.MSG.GET.STREAM_OWN",
    ] {
        let (_server, settings, _client) = with_rights(version, &format!(r#"{{ deny: "{denied}" }}"#), with_owners);
        let said = of(&settings).probe_rights("node-1");
        let Outcome::Refused(why) = said else { panic!("{denied}: {said:?}") };
        assert!(why.contains(denied) && why.contains("may not publish") && !why.contains("s3cret"), "{denied}: {why}");
    }
    ask(&client, "$JS.API.STREAM.DELETE.STREAM_OWN", "");
    let said = of(&settings).probe_rights("node-1");
    let without = "stream STREAM_OWN does not exist: run task-engine setup --config FILE";
    assert_eq!(said, Outcome::Refused(without.to_owned()));
    ask(&client, "$JS.API.STREAM.DELETE.STREAM", "");
    assert_eq!(of(&settings).probe_rights("node-1"), Outcome::Absent);
}

fn a_stream_that_forgets_what_is_acknowledged_is_refused(version: NatsVersion) {
    for retention in ["workqueue", "interest"] {
        let server = server(version);
        let client = client(&server);
        let mut settings = settings(&server, Assignment::Partitioned);
        let stream =
            format!(r#"{{"name":"STREAM","subjects":["events.*"],"retention":"{retention}","storage":"file"}}"#);
        assert!(ask(&client, "$JS.API.STREAM.CREATE.STREAM", stream)["error"].is_null());
        assert!(set_up(&settings, true).expect("a dry run").1, "without owners it is good");
        settings.consumer.ownership = Ownership::Etcd;
        let words = format!("stream STREAM has retention {retention}, and consumer.ownership etcd needs limits");
        let (lines, is_usable) = set_up(&settings, true).expect("a dry run");
        assert!(!is_usable && lines.iter().any(|line| line.starts_with(&words)), "{lines:?}");
        let said = of(&settings).probe_rights("a");
        assert!(matches!(&said, Outcome::Refused(why) if why.starts_with(&words)), "{said:?}");
        let taking = crate::jetstream_support::started(&settings, 1);
        taking.until_waiting(&[&words]);
        taking.stop();
    }
}

fn setup_makes_the_owners_stream_once(version: NatsVersion) {
    let server = server(version);
    let mut settings = settings(&server, Assignment::Partitioned);
    settings.consumer.ownership = Ownership::Etcd;
    let (dry, _) = set_up(&settings, true).expect("a dry run");
    let line = "would make stream STREAM_OWN (subjects STREAM_OWN.>, file storage, limits retention, kept the latest of each \
                subject for ";
    assert!(dry.iter().any(|said| said.starts_with(line)), "{dry:?}");
    set_up(&settings, false).expect("a run");
    let (again, is_usable) = set_up(&settings, false).expect("a second run");
    assert!(is_usable && again.contains(&"stream STREAM_OWN exists".to_owned()), "{again:?}");
    let info = ask(&client(&server), "$JS.API.STREAM.INFO.STREAM_OWN", "");
    // Each generation has a subject: without an end the stream would grow with each crash.
    let nanos = MAX_AGE.as_nanos() as u64;
    assert_eq!(
        (&info["config"]["max_msgs_per_subject"], &info["config"]["max_age"]),
        (&1.into(), &nanos.into()),
        "{info}"
    );
}

fn without_ownership_beside_owners_nothing_is_read_or_made(version: NatsVersion) {
    let (_server, settings, client) = owned(version);
    let mut generations = of(&settings);
    publish(&client, "events.1", "s", 0..10);
    let mut beside = settings.clone();
    beside.consumer.ownership = Ownership::None;
    let refuses = |words: &str| {
        let taking = started(&beside, 1);
        taking.until_waiting(&[words, "set consumer.ownership etcd"]);
        let (lines, is_usable) = set_up(&beside, false).expect("the server answers");
        assert!(!is_usable && lines.iter().any(|line| line.contains(words)), "{lines:?}");
        assert!(taking.take().is_empty());
        taking.stop();
    };
    refuses("an instance with consumer.ownership etcd made it");
    // As after a crash: the first generation of a partition is gone, and must not come back.
    assert!(matches!(generations.create(&[(Partition(1), Generation(1), 1)])[..], [Outcome::Done(_)]));
    let first: Vec<_> =
        (0..settings.consumer.partitions).map(|partition| (Partition(partition), Generation(0))).collect();
    generations.delete(&first);
    refuses("the partitions of stream STREAM have owners: consumer engine-1-g1 is theirs");
    assert_eq!(generations.names(), Outcome::Done(vec![(Partition(1), Generation(1))]));
    // The way back to none.
    generations.delete(&[(Partition(1), Generation(1))]);
    assert!(set_up(&beside, false).expect("setup").1);
    let taking = started(&beside, 1);
    taking.until_ready();
    assert_eq!(taking.take_many(10).len(), 10);
    taking.stop();
}

fn a_server_that_is_away_is_no_answer_and_then_all_goes_on(version: NatsVersion) {
    let (server, settings, _client) = owned(version);
    let mut generations = of(&settings);
    let all = [(Partition(0), Generation(0)), (Partition(1), Generation(0))];
    assert!(generations.standing(&all).iter().all(|one| matches!(one, Outcome::Done(_))));
    server.kill9();
    for _ in 0..2 {
        assert!(generations.standing(&all).iter().all(|one| matches!(one, Outcome::NoAnswer(_))));
    }
    server.restart().expect("it comes back");
    crate::jetstream_support::until("it answers", || {
        generations.standing(&all).iter().all(|one| matches!(one, Outcome::Done(_)))
    });
}
