//! The longest turn of a shard while one event of a session of 50,000 passes: what the other sessions of the shard wait
//! for at the most. `cold`: nothing is known of session, users and routes; `ready`: all is known and grouped; `moved`: one
//! member's route has changed since; `away`: all have left, so routes are asked for again and each member gets an inbox row. `cargo bench --bench turns` prints them.
//!
//! Promises the least of several runs for each turn, so that what else the machine does counts little. The world answers
//! all at once (16 MGETs and all gateways in one turn), which is worse than sockets do. Not in it: sockets.

mod support;

use std::time::Duration;

use support::Clock;
use support::world::{Shape, World};
use task_engine::ports::Protocol;

const GATEWAYS: usize = 8;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let is_bench = args.iter().any(|arg| arg == "--bench");
    if !is_bench && !args.iter().all(|arg| arg.starts_with('-') && arg != "--list") {
        return;
    }
    let (recipients, runs) = if is_bench { (50_000, 7) } else { (2_000, 1) };
    println!("{:8}  {:6}  {:>5}  {:>12}  {:>12}  {:>7}", "protocol", "", "turns", "longest, us", "all, us", "longest");
    for protocol in [Protocol::Stream, Protocol::Batch] {
        let shape = Shape::alone(recipients, GATEWAYS, protocol);
        let cold = || (0..runs).map(|_| turns(&mut World::cold(shape, 1, recipients + 1))).collect();
        report(protocol, "cold", cold());
        let mut world = World::warm(shape, 1);
        report(protocol, "ready", (0..runs).map(|_| turns(&mut world)).collect());
        let moved = |world: &mut World| {
            world.move_user(false);
            turns(world)
        };
        report(protocol, "moved", (0..runs).map(|_| moved(&mut world)).collect());
        let offline = |world: &mut World| {
            world.go_offline();
            turns(world)
        };
        report(protocol, "away", (0..runs).map(|_| offline(&mut world)).collect());
    }
}

/// How long each turn took from the event's arrival to its end.
fn turns(world: &mut World) -> Vec<Duration> {
    let mut turns = Vec::new();
    world.feed_events();
    while !world.is_quiet() {
        let mut clock = Clock::default();
        world.turn(&mut clock);
        world.answer();
        turns.push(clock.took());
    }
    turns
}

fn report(protocol: Protocol, case: &str, runs: Vec<Vec<Duration>>) {
    let turns = runs.iter().map(Vec::len).max().unwrap_or(0);
    let least = |turn| runs.iter().filter_map(|run| run.get(turn)).min().copied().unwrap_or_default();
    let all: Vec<_> = (0..turns).map(|turn| least(turn).as_nanos() as f64 / 1e3).collect();
    let (at, longest) = all.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or_default();
    let sum: f64 = all.iter().sum();
    println!("{:8}  {case:6}  {turns:>5}  {longest:>12.1}  {sum:>12.1}  turn {:>2}", protocol.label(), at + 1);
}
