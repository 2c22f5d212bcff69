//! The reference engine on real servers: each event reaches each member's gateway once and in order, by each protocol, also
//! when a user has moved; and a stop finishes what was read.

use harness::gateways::{Behaviour, Gateway, GatewayOptions, Protocols};

use crate::engine_support::{Bed, Engine, SOON};

#[test]
fn each_member_gets_each_message_once_and_in_order_by_each_protocol() {
    // g3 announces everything and knows only unary: the engine steps down twice.
    let protocols = [Protocols::STREAM, Protocols::BATCH, Protocols::UNARY, Protocols::UNARY];
    let number = std::sync::atomic::AtomicUsize::new(0);
    let bed = Bed::start(&protocols, |known| {
        let is_last = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 3;
        if is_last { Protocols::ALL.announcement() } else { known.announcement() }
    });
    let users: Vec<String> = (0..40).map(|user| format!("user{user}")).collect();
    let mut members: Vec<&str> = users.iter().map(String::as_str).collect();
    for (number, user) in users.iter().enumerate() {
        bed.route(user, &format!("g{}", number % 4));
    }
    members.extend(["sender", "gone"]);
    bed.members("group", &members);
    bed.members("pair", &["sender", "user2"]);
    let engine = Engine::start("reference", 2, &bed);
    bed.publish("group", "sender", (1..=200).chain([200, 1]));
    bed.publish("pair", "sender", 1001..=1050);
    for user in &users {
        bed.delivered("group", user, 1..=200);
    }
    bed.delivered("pair", "user2", 1001..=1050);
    engine.terminate();
    let words = engine.last_words();
    assert!(words.contains("252 events, 8050 pushes delivered, 200 offline, 0 failed, 0 unreached"), "{words}");
    assert!(words.contains("2 passed over, 0 failed, 0 dropped"), "{words}");
    assert_eq!(bed.log.records().len(), 8050);
    let message = bed.log.records().into_iter().find_map(|record| record.message).unwrap();
    assert_eq!((message.seq_id - message.msg_id, message.timestamp, &*message.r#type), (7, 1_732_000_000, "text"));
    assert_eq!(message.session_meta.map(|meta| (meta.name, meta.r#type)), Some(("name".into(), 2)));
}

#[test]
fn a_user_who_moved_gets_the_rest_at_the_other_gateway_in_order() {
    for protocols in [Protocols::STREAM, Protocols::BATCH, Protocols::UNARY] {
        let bed = Bed::start(&[protocols, protocols], Protocols::announcement);
        bed.members("s", &["sender", "anna", "ben"]);
        bed.route("anna", "g0");
        bed.route("ben", "g0");
        let engine = Engine::start("reference", 2, &bed);
        bed.publish("s", "sender", 1..=50);
        bed.delivered("s", "anna", 1..=50);
        bed.gateways[0].refuse(["anna"]);
        // The gateway knows before Redis does: what comes in between is refused, asked again, and sent when it is known.
        bed.route("anna", "g1");
        bed.publish("s", "sender", 51..=300);
        bed.delivered("s", "anna", 1..=300);
        bed.delivered("s", "ben", 1..=300);
        assert!(bed.gateways[1].pushes() == 250 && bed.log.records().len() >= 601, "refused at least once");
        engine.terminate();
        let words = engine.last_words();
        assert!(words.contains("600 pushes delivered, 0 offline, 0 failed, 0 unreached"), "{words}");
    }
}

#[test]
fn a_cut_stream_loses_nothing_and_a_stop_finishes_what_was_read() {
    for protocols in [Protocols::STREAM, Protocols::BATCH, Protocols::UNARY] {
        let bed = Bed::start(&[protocols], Protocols::announcement);
        bed.members("s", &["sender", "anna"]);
        bed.route("anna", "g0");
        let engine = Engine::start("reference", 2, &bed);
        bed.gateways[0].behave(Behaviour::Deaf);
        bed.publish("s", "sender", 1..=100);
        bed.log.wait_for(1, SOON).unwrap();
        bed.gateways[0].cut_streams();
        // Sent again after the cut, and held again: a stop now has all of it before it.
        bed.gateways[0].wait("sent again", SOON, |gateway| gateway.streams() >= 2).unwrap();
        engine.terminate();
        bed.gateways[0].behave(Behaviour::Prompt);
        let words = engine.last_words();
        assert!(words.contains("100 events, 100 pushes delivered, 0 offline, 0 failed, 0 unreached"), "{words}");
        let mut taken = bed.log.delivered("s", "anna");
        assert_eq!(taken.last(), Some(&100));
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken, (1..=100).collect::<Vec<_>>());
    }
}

#[test]
fn a_gateway_that_is_registered_late_still_gets_what_waits_and_one_that_never_comes_is_given_up() {
    let bed = Bed::start(&[Protocols::STREAM], Protocols::announcement);
    bed.members("s", &["sender", "anna", "ben"]);
    bed.route("anna", "late");
    bed.route("ben", "g0");
    let engine = Engine::start("reference", 2, &bed);
    bed.publish("s", "sender", 1..=20);
    bed.delivered("s", "ben", 1..=20);
    let late = Gateway::start(GatewayOptions::new("late", bed.log.clone())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut etcd = etcd_client::Client::connect([bed.etcd.addr()], None).await.unwrap();
        let value = format!(r#"{{"id":"late","metadata":null,"endpoints":["grpc://{}"]}}"#, late.addr());
        etcd.put("/resonance/services/gateway-service/late", value, None).await.unwrap();
    });
    bed.delivered("s", "anna", 1..=20);
    bed.route("ben", "never");
    bed.gateways[0].refuse(["ben"]);
    bed.publish("s", "sender", 21..=22);
    bed.delivered("s", "anna", 1..=22);
    engine.terminate();
    let words = engine.last_words();
    assert!(words.contains("42 pushes delivered, 0 offline, 0 failed, 2 unreached"), "{words}");
}
