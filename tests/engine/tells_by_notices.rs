//! In a session of more than `gateway.notice_above` members a gateway that announces `notice` is told the highest sequence of messages
//! whose contents are in `t_message_content`; one that does not, and whatever has no content there, gets messages in full. With real
//! servers, real rows and real gRPC gateways, one of which is cut off meanwhile.

use harness::gateways::{Answer, Gateway, KeptNotice, Log, Protocols};
use mysql::prelude::Queryable;
use testkit::engine::{World, got};

const KEYS: &str = "inbox:\n  rows_up_to: 20\ngateway:\n  notice_above: 30\n  delivery_timeout: 20s\n";
const SESSION: &str = "group:1";
/// Users at each gateway, and without one.
const USERS: usize = 40;

fn names(at: &str) -> Vec<String> {
    (0..USERS).map(|user| format!("{at}-{user}")).collect()
}

/// Users at `notices`, which takes them, at `full`, which does not, and offline.
fn world() -> (World, [Gateway; 2]) {
    let world = World::start();
    let notices = world.gateway("notices", Protocols { batch: true, ..Protocols::NOTICE });
    let full = world.gateway("full", Protocols::GROUP);
    for at in ["notices", "full"] {
        names(at).iter().for_each(|user| world.route(user, at));
    }
    let members: Vec<_> = ["notices", "full", "offline"].iter().flat_map(|at| names(at)).collect();
    world.members(SESSION, &members);
    (world, [notices, full])
}

/// The contents of these messages are kept, as whoever publishes keeps them.
fn keep(world: &World, messages: impl Iterator<Item = i64>) {
    let insert = "INSERT INTO t_message_content (msg_id, session_id, sender_username, seq_id, content) VALUES (?, ?, 'x', ?, 'x')";
    let rows = messages.map(|msg_id| (msg_id, SESSION, msg_id));
    world.maria.connect().expect("MariaDB answers").exec_batch(insert, rows).expect("rows");
}

fn told(log: &Log, user: &str) -> Vec<KeptNotice> {
    log.notices().into_iter().filter(|notice| notice.recipient == user && notice.answer == Answer::Delivered).collect()
}

#[test]
fn notices_stand_for_kept_messages_where_a_gateway_takes_them() {
    let (world, [gateway, _full]) = world();
    let engine = world.engine(2, KEYS);
    let publisher = world.publisher();
    keep(&world, 1..=300);
    publisher.publish(SESSION, "system", 1..=300);
    let metrics = engine.wait_ended(300);
    let all = 300 * USERS as u64;
    let [delivered, noticed, conflated, readable] =
        ["delivered", "noticed", "conflated", "readable"].map(|end| metrics.recipients(end));
    assert_eq!((delivered, noticed + conflated, readable), (all, all, all), "{}", metrics.numbers());
    assert!(noticed > 0 && metrics.recipients("stored") == 0, "{}", metrics.numbers());
    for user in names("notices") {
        let told = told(&world.log, &user);
        assert!(
            told.iter().all(|notice| &*notice.gateway == "notices" && notice.max_seq_id == notice.msg_id),
            "{told:?}"
        );
        assert!(told.is_sorted_by_key(|notice| notice.max_seq_id), "{user}: {told:?}");
        assert_eq!(told.last().map(|notice| notice.max_seq_id), Some(300), "{user} knows the last one");
        assert!(got(&world.log.records(), SESSION, &user).is_empty(), "nothing was pushed in full");
    }
    for user in names("full") {
        assert_eq!(got(&world.log.records(), SESSION, &user), (1..=300).collect::<Vec<_>>());
        assert!(told(&world.log, &user).is_empty(), "it never announced them");
    }

    // Without a content in the store nobody could read it.
    publisher.publish(SESSION, "system", 301..=301);
    engine.wait_ended(301);
    keep(&world, 302..=302);
    publisher.publish(SESSION, "system", 302..=302);
    let metrics = engine.wait_ended(302);
    assert_eq!(metrics.of("notices_without_content_total", ""), 1, "{}", metrics.numbers());
    assert_eq!(metrics.recipients("stored"), USERS as u64, "who is offline has a row of it");
    for user in names("notices") {
        assert_eq!(got(&world.log.records(), SESSION, &user), [301]);
        assert_eq!(told(&world.log, &user).last().map(|notice| notice.max_seq_id), Some(302));
    }
    assert!(gateway.notices() > 0);
    engine.stop_clean();
}

#[test]
fn a_gateway_that_is_cut_off_amid_notices_is_told_the_last_sequence() {
    let (world, [gateway, _full]) = world();
    let engine = world.engine(1, KEYS);
    let publisher = world.publisher();
    keep(&world, 1..=400);
    for cut in 0..4 {
        let first = 100 * cut + 1;
        publisher.publish(SESSION, "system", first..first + 50);
        gateway.cut_streams();
        publisher.publish(SESSION, "system", first + 50..first + 100);
    }
    let metrics = engine.wait_ended(400);
    let reached = ["delivered", "noticed", "conflated"].map(|end| metrics.recipients(end)).iter().sum::<u64>();
    assert_eq!(reached, 2 * 400 * USERS as u64, "{}", metrics.numbers());
    for user in names("notices") {
        // What was not answered came again, so a sequence may have come twice, but never a lower one after a higher one on one stream.
        let highest = told(&world.log, &user).iter().map(|notice| notice.max_seq_id).max();
        assert_eq!(highest, Some(400), "{user}");
    }
    engine.stop_clean();
}
