//! A town of a million users in 100,000 sessions of 100 members: what the first event of each session costs the pure core
//! (nobody and nothing is known before it), and the memory that it has taken when all are known. `cargo bench --bench
//! town` prints both, and fails when the memory is over [`BYTES_MAX`].
//!
//! Promises that memory is counted as the core asked for it and, beside that, as the process has it (RSS, which the
//! allocator and the bench itself are in). Not in it: the stores, which answer at once; MySQL, Redis, sockets.

mod support;

use support::world::{Shape, World};
use support::{Clock, allocations};
use task_engine::ports::Protocol;

const SESSIONS: usize = 100_000;
const MEMBERS: usize = 100;
const USERS: usize = 1_000_000;
const GATEWAYS: usize = 8;
/// What the whole town may take.
const BYTES_MAX: i64 = 200 << 20;

/// What a town took.
struct Taken {
    bytes: i64,
    rss_bytes: i64,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if !args.iter().any(|arg| arg == "--bench") {
        if args.iter().all(|arg| arg.starts_with('-') && arg != "--list") {
            build(100, 100, 1_000);
            println!("bench town ... ok");
        }
        return;
    }
    let all = build(SESSIONS, MEMBERS, USERS);
    println!(
        "the same with half of the members in each session, then with half of the users (in memory that is there):"
    );
    let fewer_members = build(SESSIONS, MEMBERS / 2, USERS);
    let fewer_users = build(SESSIONS, MEMBERS, USERS / 2);
    let a_membership = (all.bytes - fewer_members.bytes) as f64 / (SESSIONS * MEMBERS / 2) as f64;
    let a_user = (all.bytes - fewer_users.bytes) as f64 / (USERS / 2) as f64;
    let rest = all.bytes as f64 - a_user * USERS as f64 - a_membership * (SESSIONS * MEMBERS) as f64;
    println!("bytes: {a_user:.1} a user, {a_membership:.1} a membership, {:.0} a session", rest / SESSIONS as f64);
    assert!(all.bytes <= BYTES_MAX && all.rss_bytes <= BYTES_MAX, "over {} MiB", BYTES_MAX >> 20);
}

/// Each session once.
fn build(sessions: usize, members: usize, users: usize) -> Taken {
    let (bytes, rss) = (allocations::bytes_of_this_thread(), rss_bytes());
    let shape = Shape::alone(members - 1, GATEWAYS, Protocol::Stream);
    let mut world = World::cold(shape, sessions, users);
    let mut clock = Clock::default();
    world.push_events(sessions as u64, &mut clock);
    assert!(world.is_quiet());
    assert_eq!(world.push().kept(), (sessions, users));
    let taken = Taken { bytes: allocations::bytes_of_this_thread() - bytes, rss_bytes: rss_bytes() - rss };
    let (activity, each) = (world.push().activity(), sessions as f64);
    println!("{users} users in {sessions} sessions of {members} members");
    println!(
        "  first events: {:.2} us, {:.2} allocations per event; {} member queries of {:.0} sessions, {} MGETs of {:.0} keys",
        clock.took().as_secs_f64() * 1e6 / each,
        clock.allocations() as f64 / each,
        activity.member_queries,
        activity.member_query_sessions as f64 / activity.member_queries as f64,
        activity.mgets,
        activity.mget_keys as f64 / activity.mgets as f64,
    );
    let mib = |bytes: i64| bytes as f64 / f64::from(1 << 20);
    println!(
        "  memory: {:.1} MiB asked for; the process has {:.1} MiB more than before",
        mib(taken.bytes),
        mib(taken.rss_bytes)
    );
    taken
}

/// Bytes of this process in memory.
fn rss_bytes() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line of Linux");
    let kib = line.split_whitespace().next().and_then(|number| number.parse::<i64>().ok()).expect("a number of KiB");
    kib * 1024
}
