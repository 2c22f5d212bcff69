//! What one push of a single chat costs the core, where each event is of another session and some sixteen thousand are in flight:
//! what it meets has left the nearest caches since. `cargo bench --bench single_chats` prints it as the core is, and with what watches
//! it (the recorder of `why`, push latency, traces that are told of nothing).
//!
//! Promises rounds in turns, and the least and the median of each case, so that what else the machine does counts little; events are
//! looked ahead at as the pump does. Not in it: sockets.

mod support;

use std::time::Duration;

use support::Clock;
use support::world::{Shape, WATCHED, World};
use task_engine::ports::Protocol;

const GATEWAYS: usize = 8;
/// Of 512 events each.
const TURNS_IN_FLIGHT: usize = 32;
const EVENTS_A_ROUND: u64 = 128 * 1024;
const ROUNDS: usize = 40;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let is_bench = args.iter().any(|arg| arg == "--bench");
    if !is_bench && !args.iter().all(|arg| arg.starts_with('-') && arg != "--list") {
        return;
    }
    let (events, rounds) = if is_bench { (EVENTS_A_ROUND, ROUNDS) } else { (2_048, 1) };
    let mut worlds =
        WATCHED.map(|(_, watched)| World::new(Shape::alone(1, GATEWAYS, Protocol::Stream)).watched(watched));
    let mut took = WATCHED.map(|_| Vec::new());
    for _ in 0..rounds {
        for (world, took) in worlds.iter_mut().zip(&mut took) {
            let mut clock = Clock::default();
            world.push_events_in_flight(events, TURNS_IN_FLIGHT, &mut clock);
            took.push(clock.took());
        }
    }
    println!("{:10}  {:>9}  {:>10}  {:>7}", "watched by", "least, ns", "median, ns", "to none");
    let nanos = |took: &Duration| took.as_nanos() as f64 / events as f64;
    let least_of_none = took[0].iter().min().map_or(0.0, nanos);
    for ((name, _), mut took) in WATCHED.into_iter().zip(took) {
        took.sort_unstable();
        let (least, median) = (nanos(&took[0]), nanos(&took[took.len() / 2]));
        println!("{name:10}  {least:9.1}  {median:10.1}  {:7.3}", least / least_of_none);
    }
}
