//! A user who moved is found: what the old gateway refused goes to the one that Redis names now, once and in order.

use std::time::Duration;

use harness::gateways::{Answer, Behaviour, Protocols};
use testkit::engine::{PATIENCE, World, got};

#[test]
fn what_the_old_gateway_refused_reaches_the_new_one_once_and_in_order() {
    let world = World::start();
    let [old, new] = ["gw-old", "gw-new"].map(|id| world.gateway(id, Protocols::STREAM));
    for user in ["anna", "bert", "gone"] {
        world.route(user, "gw-old");
    }
    world.members("group:1", &["anna", "bert", "gone"]);
    // Without tracking the engine learns of a move only from a refusal or a new lookup, so each push below is refused
    // by the old gateway or goes to the new one: both ways are walked.
    let engine = world.engine(2, "");
    let publisher = world.publisher();
    publisher.publish("group:1", "system", 1..=20);
    engine.wait_ended(20);

    // Anna moves and the old gateway knows it before Redis tells; "gone" leaves without a new route.
    old.refuse(["anna", "gone"]);
    world.route("anna", "gw-new");
    publisher.publish("group:1", "system", 21..=100);
    let metrics = engine.wait_ended(100);

    let all: Vec<i64> = (1..=100).collect();
    let records = world.log.records();
    for user in ["anna", "bert"] {
        assert_eq!(got(&records, "group:1", user), all, "{user}\n{}", metrics.numbers());
    }
    let on_new = records.iter().filter(|record| &*record.gateway == new.id());
    assert!(on_new.clone().count() >= 80, "what was published after the move is on the new gateway");
    assert!(on_new.clone().all(|record| record.recipient == "anna" && record.answer == Answer::Delivered));
    assert_eq!(got(&records, "group:1", "gone"), (1..=20).collect::<Vec<_>>());
    assert_eq!(metrics.unreached("not_connected"), 80, "{}", metrics.numbers());
    assert_eq!(metrics.recipients("delivered"), 220, "{}", metrics.numbers());
    engine.stop_clean();
}

#[test]
fn a_refusal_that_comes_before_the_route_changes_is_asked_again() {
    let world = World::start();
    let [old, new] = ["gw-old", "gw-new"].map(|id| world.gateway(id, Protocols::STREAM));
    world.route("anna", "gw-old");
    world.members("single:1", &["anna", "bert"]);
    let engine = world.engine(1, "routes:\n  cache: \"off\"\n");
    let publisher = world.publisher();
    publisher.publish("single:1", "bert", [1]);
    assert!(world.log.wait_for(1, PATIENCE).is_ok(), "{}", engine.output());
    engine.wait_ended(1);

    // Events 2 to 50 are on their way to the old gateway, unanswered, when the user moves: the refusals come after it.
    old.behave(Behaviour::Stuck);
    publisher.publish("single:1", "bert", 2..=50);
    engine.wait_metrics("the pushes wait at the old gateway", |metrics| metrics.of("outbox_recipients", "") == 49);
    old.refuse(["anna"]);
    world.route("anna", "gw-new");
    publisher.publish("single:1", "bert", 51..=60);
    // One refusal after the other: what was published after the move must wait for all of them.
    old.behave(Behaviour::Slow(Duration::from_millis(5)));
    let metrics = engine.wait_ended(60);

    let records = world.log.records();
    assert_eq!(got(&records, "single:1", "anna"), (1..=60).collect::<Vec<_>>(), "{}", metrics.numbers());
    assert_eq!(new.pushes(), 59, "all but the first");
    assert_eq!(metrics.recipients("delivered"), 60, "{}", metrics.numbers());
    assert_eq!(metrics.of("rerouted_recipients_total", ""), 49, "{}", metrics.numbers());
    engine.stop_clean();
}
