//! The ledger, per recipient: the results of a turn's events come home, each bundle's lane moves on, the recipients and
//! then the event get their end, and the source is told.
//!
//! Not in it: the mesh that carries results, and results with failures (a user who moved is held and looked up again).

mod support;

use support::Clock;
use support::world::{Shape, World};

fn main() {
    support::run("ledger", |cases| {
        for fan_out in cases.pick(&[1, 10, 100, 1_000, 10_000][..], &[1, 1_000]) {
            for gateways in cases.pick(&[1, 8, 64, 256][..], &[8]) {
                let mut world = World::new(Shape::home_only(*fan_out, *gateways));
                let recipients = world.turn_events() * *fan_out as u64;
                cases.case(format!("fan-out-{fan_out}/gateways-{gateways}"), recipients, |clock| {
                    assert_eq!(world.feed_events(), recipients);
                    world.turn(&mut Clock::default());
                    world.answer();
                    world.turn(clock);
                    world.answer();
                    assert!(world.is_quiet());
                });
            }
        }
    });
}
