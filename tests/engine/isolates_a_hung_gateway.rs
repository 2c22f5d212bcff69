//! A gateway that hangs, deaf or not even reading, hurts only its own users: everybody else, also in the same sessions,
//! gets each message promptly, and its own recipients end as `timed_out` after gateway.delivery_timeout.

use std::time::{Duration, Instant};

use harness::gateways::{Behaviour, Gateway, Protocols};
use testkit::engine::{PATIENCE, World, got};

const BURST: i64 = 20;
/// gateway.delivery_timeout: who waited for a hung gateway waited this long.
const TIMEOUT: Duration = Duration::from_secs(1);

#[test]
fn a_hung_gateway_delays_nobody_else() {
    let world = World::start();
    let gateways = ["gw-good", "gw-deaf", "gw-stuck"].map(|id| world.gateway(id, Protocols::STREAM));
    let [_, deaf, stuck] = &gateways;
    let homes = [("anna", "gw-good"), ("bert", "gw-deaf"), ("carl", "gw-stuck")];
    homes.iter().for_each(|(user, gateway)| world.route(user, gateway));
    world.members("group:1", &["anna", "bert", "carl"]);
    let engine = world.engine(2, "gateway:\n  delivery_timeout: 1s\n");
    let publisher = world.publisher();
    // All three streams are open before two gateways hang.
    publisher.publish("group:1", "system", [1]);
    assert!(world.log.wait_for(3, PATIENCE).is_ok(), "{}", engine.output());
    engine.wait_ended(1);
    deaf.behave(Behaviour::Deaf);
    stuck.behave(Behaviour::Stuck);

    // Before, while and after the hung gateways' recipients time out.
    let (mut last, mut longest) = (1, Duration::ZERO);
    let until = Instant::now() + PATIENCE;
    while engine.metrics().unreached("timed_out") < 40 * BURST as u64 {
        assert!(Instant::now() < until, "they never time out\n{}", engine.metrics().numbers());
        let began = Instant::now();
        publisher.publish("group:1", "system", last + 1..=last + BURST);
        last += BURST;
        let came = world.log.wait(PATIENCE, |records| got(records, "group:1", "anna").len() as i64 == last);
        assert!(came.is_ok(), "anna waits\n{}\n{}", engine.metrics().numbers(), engine.output());
        longest = longest.max(began.elapsed());
    }
    assert!(longest < TIMEOUT, "the good gateway's user waited {longest:?}");
    assert_eq!(got(&world.log.records(), "group:1", "anna"), (1..=last).collect::<Vec<_>>());

    let late = (last as u64 - 1) * 2;
    let metrics = engine.wait_ended(last as u64);
    assert_eq!(metrics.unreached("timed_out"), late, "{}", metrics.numbers());
    assert_eq!(metrics.recipients("delivered"), last as u64 + 2, "{}", metrics.numbers());
    assert_eq!(metrics.events("settled"), last as u64);

    recovers(&world, &gateways, &publisher, last + 1, &engine);
    println!("{last} messages, the good gateway's user waited {longest:?} at most; {late} recipients timed out");
    engine.stop_clean();
}

/// A gateway that hung and answers again gets what is new.
fn recovers(
    world: &World,
    gateways: &[Gateway],
    publisher: &testkit::engine::Publisher,
    msg_id: i64,
    engine: &testkit::engine::Process,
) {
    gateways.iter().for_each(|gateway| gateway.behave(Behaviour::Prompt));
    publisher.publish("group:1", "system", [msg_id]);
    for user in ["anna", "bert", "carl"] {
        let came = world.log.wait(PATIENCE, |records| got(records, "group:1", user).last() == Some(&msg_id));
        assert!(came.is_ok(), "{user}\n{}\n{}", engine.metrics().numbers(), engine.output());
    }
    let metrics = engine.wait_ended(msg_id as u64);
    assert_eq!(metrics.recipients("delivered"), msg_id as u64 + 4, "{}", metrics.numbers());
}
