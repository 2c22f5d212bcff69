//! Order, end to end, with 1, 2 and 4 shards: while every gateway's streams are cut again and again, each user gets each
//! session's messages in the order they were published, and none is lost. Only what a cut stream left unanswered may
//! come twice.

use harness::gateways::{Gateway, Protocols};
use testkit::engine::{PATIENCE, Process, World, got};

const SESSIONS: usize = 6;
const BURST: i64 = 50;
const BURSTS: i64 = 6;

#[test]
fn order_is_kept_with_1_2_and_4_shards_while_streams_break() {
    let world = World::start();
    let gateways = [("gw-stream", Protocols::STREAM), ("gw-batch", Protocols::BATCH), ("gw-unary", Protocols::UNARY)]
        .map(|(id, protocols)| world.gateway(id, protocols));
    for user in 0..6 {
        world.route(&format!("user-{user}"), gateways[user % 3].id());
    }
    for shards in [1, 2, 4] {
        for session in 0..SESSIONS {
            let members: Vec<String> = (0..6).map(|user| format!("user-{user}")).collect();
            world.members(&name(shards, session), &members);
        }
    }
    for shards in [1, 2, 4] {
        let engine = world.engine(shards, "");
        run(&world, &gateways, shards, &engine);
        engine.stop_clean();
    }
}

fn name(shards: u16, session: usize) -> String {
    format!("group:{shards}-{session}")
}

fn run(world: &World, gateways: &[Gateway], shards: u16, engine: &Process) {
    let publisher = world.publisher();
    let before = world.log.records().len();
    for burst in 0..BURSTS {
        let seen: Vec<u64> = gateways.iter().map(Gateway::pushes).collect();
        for msg_id in burst * BURST + 1..=(burst + 1) * BURST {
            (0..SESSIONS).for_each(|session| publisher.publish(&name(shards, session), "system", [msg_id]));
        }
        // In the middle of the burst: some of it has come, some is on the stream, some is to come.
        for (gateway, seen) in gateways.iter().zip(seen) {
            gateway.wait("the burst has begun", PATIENCE, |gateway| gateway.pushes() > seen + 20).expect("it begins");
            gateway.cut_streams();
        }
    }
    let all = (BURSTS * BURST) as u64 * SESSIONS as u64;
    let metrics = engine.wait_ended(all);
    assert_eq!(metrics.recipients("delivered"), all * 6, "{}", metrics.numbers());
    assert!(metrics.of("gateway_breaks_total", "") > 0, "streams were cut:\n{}", metrics.numbers());

    let records = &world.log.records()[before..];
    let mut repeats = 0;
    for session in 0..SESSIONS {
        for user in 0..6 {
            let got = got(records, &name(shards, session), &format!("user-{user}"));
            let who = format!("{shards} shards, session {session}, user {user}");
            repeats += assert_in_order(&got, BURSTS * BURST, &who);
        }
    }
    let resent = metrics.of("resent_recipients_total", "");
    assert!(repeats <= resent, "{shards} shards: {repeats} repeats, but only {resent} were sent again after a cut");
    println!("{shards} shards: {} pushes in order, {repeats} repeated after cuts", records.len());
}

/// A cut stream is taken up at an earlier message and goes on from there without a gap; gives the number of repeats.
fn assert_in_order(got: &[i64], last: i64, who: &str) -> u64 {
    let mut newest = 0;
    let mut previous = 0;
    let mut repeats = 0;
    for msg_id in got {
        assert!(*msg_id <= newest + 1, "{who}: {msg_id} came before {}: {got:?}", newest + 1);
        assert!(*msg_id == previous + 1 || *msg_id <= newest, "{who}: {msg_id} after {previous}: {got:?}");
        repeats += u64::from(*msg_id <= newest);
        (newest, previous) = (newest.max(*msg_id), *msg_id);
    }
    assert_eq!(newest, last, "{who}: lost the last ones");
    repeats
}
