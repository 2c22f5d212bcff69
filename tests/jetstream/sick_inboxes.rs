//! JetStream, and an instance whose inbox takes no rows while its members still answer: it gives back what owes rows.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use harness::servers::NatsVersion;
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};

use crate::jetstream_support::on_both_servers;
use crate::scene::{ALL_OPEN, SESSIONS, Scene, jetstream, partition_of};
use testkit::engine::{Process, SECRETS, eventually, got};

on_both_servers! {
    one_that_was_alone_and_holds_the_whole_window_gives_it_back
    one_of_two_gives_back_its_part
}

/// `ack_wait` is 2 s.
const SOON: Duration = Duration::from_secs(20);

/// Root's connection, and a user `sick` whose right to write to the inbox can be taken while it is connected.
fn root(scene: &Scene) -> Conn {
    let root = OptsBuilder::new().ip_or_hostname(Some("127.0.0.1")).tcp_port(scene.world.maria.port());
    let mut root = Conn::new(root.user(Some("root")).prefer_socket(false)).expect("root may connect");
    for statement in [
        &format!("CREATE USER sick@'%' IDENTIFIED BY '{}'", SECRETS[2]),
        "GRANT SELECT ON resonance.t_session_member TO sick@'%'",
        "GRANT SELECT, INSERT, UPDATE ON resonance.t_inbox TO sick@'%'",
    ] {
        root.query_drop(statement).expect("a statement");
    }
    root
}

/// A third member of each session, who is nowhere connected.
fn add_offline_members(scene: &Scene) {
    for session in 0..SESSIONS {
        scene.world.members(&format!("group:{session}"), &[format!("c{session}")]);
    }
}

fn rows(root: &mut Conn) -> i64 {
    root.query_first("SELECT COUNT(*) FROM resonance.t_inbox").expect("an answer").expect("a row")
}

/// Waits until each event has its row, and all is settled.
fn until_stored(scene: &Scene, root: &mut Conn, events: i64, engines: &[&Process]) {
    let began = Instant::now();
    while rows(root) < events {
        let said = || engines.iter().map(|engine| engine.output()).collect::<Vec<_>>().join("\n---\n");
        assert!(began.elapsed() < SOON, "{} rows of {events}\n{}", rows(root), said());
        std::thread::park_timeout(Duration::from_millis(20));
    }
    scene.until_settled("d");
    assert_eq!(rows(root), events, "each once");
}

/// Both connected members of each session got each event; how many pushes came twice.
fn repeated(scene: &Scene, events: i64) -> usize {
    let records = scene.world.log.records();
    let seen: BTreeSet<_> = records.iter().map(|record| (record.msg_id, record.recipient.clone())).collect();
    assert_eq!(seen.len() as i64, events * 2, "each was pushed to both");
    records.len() - seen.len()
}

fn one_that_was_alone_and_holds_the_whole_window_gives_it_back(version: NatsVersion) {
    let scene = Scene::start(version);
    add_offline_members(&scene);
    let mut root = root(&scene);
    let sick = scene.instance_of("sick", &jetstream("queue"), ALL_OPEN);
    sick.engine.wait_ready();
    root.query_drop("REVOKE INSERT ON resonance.t_inbox FROM sick@'%'").expect("revoked");
    scene.publish(1..601);
    sick.engine.wait_metrics("it takes no more", |metrics| {
        metrics.of("events_arrived_total", "") >= 256 && metrics.of("intake_open", "") == 0
    });
    let healthy = scene.instance(&jetstream("queue"), ALL_OPEN);
    healthy.engine.wait_ready();
    until_stored(&scene, &mut root, 600, &[&sick.engine, &healthy.engine]);
    let metrics = sick.engine.metrics();
    assert!(metrics.events("settled") == 0 && !sick.engine.is_ready(), "{}", metrics.numbers());
    // What was pushed before it was given back may be pushed again, and nothing else.
    assert!(repeated(&scene, 600) as u64 <= metrics.recipients("delivered"), "{}", metrics.numbers());
    root.query_drop("GRANT INSERT ON resonance.t_inbox TO sick@'%'").expect("granted");
    sick.engine.wait_ready();
    healthy.engine.stop_clean();
    scene.publish(601..701);
    until_stored(&scene, &mut root, 700, &[&sick.engine]);
    repeated(&scene, 700);
    sick.engine.stop_clean();
}

fn one_of_two_gives_back_its_part(version: NatsVersion) {
    let scene = Scene::start(version);
    add_offline_members(&scene);
    let mut root = root(&scene);
    let sick = scene.instance_of("sick", &jetstream("queue"), ALL_OPEN);
    let healthy = scene.instance(&jetstream("queue"), ALL_OPEN);
    [&sick, &healthy].iter().for_each(|instance| instance.engine.wait_ready());
    // Rows that are there already are updated, so this is needed as well.
    root.query_drop("REVOKE UPDATE ON resonance.t_inbox FROM sick@'%'").expect("revoked");
    let mut to = 1;
    eventually("the sick one took some", || {
        scene.publish(to..to + 100);
        to += 100;
        sick.engine.metrics().of("events_in_flight", "") > 20
    });
    until_stored(&scene, &mut root, to - 1, &[&sick.engine, &healthy.engine]);
    let metrics = sick.engine.metrics();
    assert!(repeated(&scene, to - 1) as u64 <= metrics.recipients("delivered"), "{}", metrics.numbers());
    healthy.engine.stop_clean();
    sick.engine.terminate();
}

/// Partitions, alone: what was pushed and owes rows is kept, what waits behind it comes again, and nobody is told twice.
#[test]
fn partitions_come_again_in_order() {
    let scene = Scene::start(NatsVersion::Current);
    add_offline_members(&scene);
    let mut root = root(&scene);
    let sick = scene.instance_of("sick", &jetstream("partitioned"), ALL_OPEN);
    sick.engine.wait_ready();
    root.query_drop("REVOKE INSERT ON resonance.t_inbox FROM sick@'%'").expect("revoked");
    scene.publish_on(1..201, partition_of);
    sick.engine.wait_metrics("it takes no more", |metrics| {
        metrics.recipients("delivered") >= 400 && metrics.of("intake_open", "") == 0
    });
    scene.publish_on(201..301, partition_of);
    root.query_drop("GRANT INSERT ON resonance.t_inbox TO sick@'%'").expect("granted");
    sick.engine.wait_ready();
    let began = Instant::now();
    while rows(&mut root) < 300 {
        assert!(began.elapsed() < SOON, "{} rows\n{}", rows(&mut root), sick.engine.output());
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let records = scene.world.log.records();
    for session in 0..SESSIONS {
        let each = got(&records, &format!("group:{session}"), &format!("a{session}"));
        let all: Vec<i64> = (1..301).filter(|msg_id| *msg_id as usize % SESSIONS == session).collect();
        assert_eq!(each, all, "each once and in order: whoever was reached is not told again");
    }
    sick.engine.stop_clean();
}
