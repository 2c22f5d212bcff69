//! With `consumer.assignment: partitioned` the real process reads each partition's subject on the shard that owns it, and
//! keeps each session's order.

use harness::gateways::Protocols;
use harness::publisher::Subject;
use prost::Message;
use testkit::engine::{PATIENCE, SUBJECT, World, event, got};

const SESSIONS: usize = 40;
const MESSAGES: i64 = 25;

#[test]
fn every_partition_is_read_in_order() {
    let world = World::start();
    let gateway = world.gateway("gw-1", Protocols::STREAM);
    world.route("ann", "gw-1");
    let sessions: Vec<String> = (0..SESSIONS).map(|session| format!("single:{session}")).collect();
    sessions.iter().for_each(|session| world.members(session, &["ann", "bob"]));
    let engine = world.engine(2, "consumer:\n  assignment: partitioned\n  partitions: 16\n");
    let publisher = world.publisher();
    let subjects = Subject::Partitioned { topic: SUBJECT.to_owned(), partitions: 16 };
    for msg_id in 1..=MESSAGES {
        for session in &sessions {
            publisher.send_to(&subjects.of(session), &event(session, "bob", msg_id).encode_to_vec());
        }
    }
    publisher.flush();
    let all = SESSIONS as u64 * MESSAGES as u64;
    gateway.wait("all pushes", PATIENCE, |gateway| gateway.pushes() == all).expect("they come");
    let metrics = engine.wait_ended(all);
    for shard in ["0", "1"] {
        let label = format!("shard=\"{shard}\"");
        assert!(metrics.of("events_arrived_total", &label) > 0, "shard {shard}:\n{}", metrics.numbers());
    }
    let records = world.log.records();
    for session in &sessions {
        assert_eq!(got(&records, session, "ann"), (1..=MESSAGES).collect::<Vec<_>>(), "{session}");
    }
    engine.stop_clean();
}
