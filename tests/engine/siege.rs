//! What somebody bad costs a running engine: how much memory it takes, and how long a user elsewhere waits meanwhile.

use std::time::{Duration, Instant};

use harness::gateways::{Gateway, Protocols};
use testkit::engine::{PATIENCE, Process, Publisher, World, got};

/// A user of a good gateway.
const GOOD: &str = "good";
const SESSION: &str = "group:good";
/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// An engine with a good gateway, whose user gets one message after the other.
pub struct Siege<'a> {
    world: &'a World,
    pub engine: &'a Process,
    publisher: Publisher,
    _gateway: &'a Gateway,
    sent: i64,
}

/// What it took.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Bytes that the engine had more at the most than before.
    pub grown: u64,
    /// The longest that the good user waited for a message.
    pub slowest: Duration,
    pub took: Duration,
}

/// The good user and its gateway.
pub fn good_gateway(world: &World) -> Gateway {
    let gateway = world.gateway("gw-good", Protocols::BATCH);
    world.route(GOOD, "gw-good");
    world.members(SESSION, &[GOOD]);
    gateway
}

/// Bytes of memory that the engine holds.
pub fn resident(engine: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", engine.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kilobytes * 1024
}

impl<'a> Siege<'a> {
    pub fn of(world: &'a World, engine: &'a Process, gateway: &'a Gateway) -> Self {
        let mut siege = Self { world, engine, publisher: world.publisher(), _gateway: gateway, sent: 0 };
        // What is made once, at the first push.
        siege.push(&mut 0);
        siege
    }

    /// A message to the good user; how long it took.
    fn push(&mut self, most: &mut u64) -> Duration {
        self.sent += 1;
        let began = Instant::now();
        self.publisher.publish(SESSION, "system", [self.sent]);
        while got(&self.world.log.records(), SESSION, GOOD).last() != Some(&self.sent) {
            *most = resident(self.engine).max(*most);
            assert!(began.elapsed() < PATIENCE, "the good user waits for ever\n{}", self.engine.output());
            std::thread::park_timeout(LOOK);
        }
        began.elapsed()
    }

    /// Pushes on until it is over, and for so long at least. `before` is what the engine had before.
    pub fn watch(&mut self, before: u64, least: Duration, mut is_over: impl FnMut() -> bool) -> Cost {
        let (began, mut most, mut slowest) = (Instant::now(), 0, Duration::ZERO);
        loop {
            slowest = self.push(&mut most).max(slowest);
            most = resident(self.engine).max(most);
            if is_over() && began.elapsed() >= least {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "it is never over\n{}", self.engine.output());
            std::thread::park_timeout(LOOK);
        }
        Cost { grown: most.saturating_sub(before), slowest, took: began.elapsed() }
    }
}

/// Judges, and prints a line of the table.
pub fn judge(what: &str, cost: Cost, grown_max: u64, slowest_max: Duration) {
    let Cost { grown, slowest, took } = cost;
    println!("| {what} | {:.1} MiB | {slowest:.1?} | {took:.1?} |", grown as f64 / f64::from(1 << 20));
    assert!(grown <= grown_max, "{what}: {grown} bytes more, and {grown_max} are the bound");
    assert!(slowest <= slowest_max, "{what}: the good user waited for {slowest:?}");
}
