//! The whole pure core, per recipient: a shard that is home to all sessions and owns all gateways, from an event's
//! bytes to its end, with every lookup cached. The world around it (stores, streams, gateways) is not timed.
//!
//! Not in it: anything with a socket or a thread, so neither HTTP/2 nor the kernel; the mesh; lookups.

mod support;

use support::world::{Shape, World};
use task_engine::ports::Protocol;

fn main() {
    support::run("core", |cases| {
        for protocol in [Protocol::Stream, Protocol::Batch] {
            for fan_out in cases.pick(&[1, 10, 100, 1_000, 10_000][..], &[1, 1_000]) {
                for gateways in cases.pick(&[1, 8, 64, 256][..], &[1, 64]) {
                    let shape = Shape::alone(*fan_out, *gateways, protocol);
                    let mut world = World::new(shape);
                    let events = world.turn_events();
                    cases.case(shape.name(), events * *fan_out as u64, |clock| world.push_events(events, clock));
                }
            }
        }
    });
}
