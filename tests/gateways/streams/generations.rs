//! Each generation of Resonance's gateways is served without a word in its registration: whoever is connected gets each message once,
//! whoever is not is told apart and gets a row.

use mysql::prelude::Queryable;
use testkit::engine::World;

use super::peer::{ABSENT, Generation, Manner, Peer};

const GENERATIONS: [(Generation, &str); 3] =
    [(Generation::Seed, "seed"), (Generation::V010, "v010"), (Generation::Today, "today")];
const MESSAGES: i64 = 20;

#[test]
fn each_generation_of_gateways_is_spoken_to_as_it_speaks() {
    let world = World::start();
    let peers = GENERATIONS.map(|(generation, name)| {
        let peer = Peer::start(Manner::Of(generation));
        // As Resonance's gateways register: no gateway_id, no protocols.
        let value = format!(
            r#"{{"id":"{name}","name":"gateway-service","version":"1","metadata":{{}},"endpoints":["grpc://{}"]}}"#,
            peer.address
        );
        world.register(name, &value);
        peer
    });
    let engine = world.engine(1, "");
    let publisher = world.publisher();
    for (round, (_, name)) in (1..).zip(GENERATIONS) {
        let (anna, cleo) = (format!("anna-{name}"), format!("cleo-{name}"));
        [ABSENT, &anna, &cleo].iter().for_each(|user| world.route(user, name));
        let session = format!("group:{name}");
        world.members(&session, &[ABSENT, &anna, &cleo]);
        publisher.publish(&session, "system", 1..=MESSAGES);
        // Before the next one takes the absent user's route.
        let metrics = engine.wait_ended(round * MESSAGES as u64);
        assert_eq!(metrics.recipients("delivered"), 2 * round * MESSAGES as u64, "{name}: {}", metrics.numbers());
        assert_eq!(metrics.recipients("stored"), round * MESSAGES as u64, "{name}: {}", metrics.numbers());
    }
    for ((_, name), peer) in GENERATIONS.iter().zip(&peers) {
        let taken = ["anna", "cleo"].map(|user| peer.seen.taken(&format!("{user}-{name}")));
        assert_eq!((taken, peer.seen.most_copies()), ([MESSAGES as usize; 2], 1), "{name}");
    }
    let owners: Vec<String> = world
        .maria
        .connect()
        .expect("MariaDB answers")
        .query("SELECT DISTINCT owner_username FROM t_inbox")
        .expect("rows");
    assert_eq!(owners, [ABSENT]);
    engine.stop_clean();
}
