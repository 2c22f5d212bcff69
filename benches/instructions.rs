//! Instructions that a recipient and an event cost the pure core, counted by callgrind: the same on a busy machine as on an
//! idle one, so it is what to compare two versions by. `make instructions` runs it.
//!
//! Promises to count the engine only (callgrind collects inside `task_engine_turn` alone) and only what each further
//! event costs (the difference of two run lengths, so that neither start nor first lookups count). Refuses to run
//! without valgrind: exit code 2. In `cargo test` it only sees to it that the counted runs work.
//!
//! Five tables: by fan-out and protocol; by fan-out and gateways; and what a route change before each event costs, when
//! it is one of a member (`member`: looked up, the session grouped again), and when it is one of somebody else
//! (`elsewhere`: `ready` and the change itself); a bundle's hop over the mesh (`mesh`); and what it costs to watch single chats
//! (`watched`): with `recorder`, `admin.push_latency` and `tracing`, of which no event is told. Words after `--` choose tables:
//! `make instructions ARGS=grouping`.
//!
//! Not in it: what `core` leaves out too (sockets, HTTP/2, the mesh), and how long an instruction takes.

mod support;

use std::path::Path;
use std::process::{Command, ExitCode};

use support::Clock;
use support::hop::Hops;
use support::world::{Shape, WATCHED, Watched, World};
use task_engine::ports::Protocol;

/// Asks this program to be what valgrind runs: the fields of a [`Case`], and events.
const COUNTED_RUN: &str = "--counted-run";
const FAN_OUTS: [usize; 3] = [1, 100, 1_000];
const GATEWAYS: usize = 8;
/// Shards, and bundles a turn, of the hops over the mesh.
const HOPS: [(usize, usize); 6] = [(2, 1), (2, 64), (2, 1024), (4, 1), (4, 64), (4, 1024)];
/// Asks this program for hops: shards, bundles a turn, turns.
const COUNTED_HOPS: &str = "--counted-hops";
/// Recipients of the shorter run, about; the longer one has three times as many.
const RECIPIENTS: usize = 16 * 1024;
/// Events of the shorter run at the least.
const EVENTS_MIN: u64 = 2;

/// Which route changes before each event, one event a turn; `Full` is turns full of events and no change.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    Full,
    Ready,
    Elsewhere,
    Member,
}

const CHANGES: [(&str, Change); 4] =
    [("full", Change::Full), ("ready", Change::Ready), ("elsewhere", Change::Elsewhere), ("member", Change::Member)];

/// What is counted.
#[derive(Clone, Copy, Debug)]
struct Case {
    fan_out: usize,
    gateways: usize,
    protocol: Protocol,
    change: Change,
    watched: Watched,
}

impl Case {
    fn new(fan_out: usize, gateways: usize, protocol: Protocol) -> Self {
        Self { fan_out, gateways, protocol, change: Change::Full, watched: WATCHED[0].1 }
    }

    fn run(self, events: u64) {
        let shape = Shape::alone(self.fan_out, self.gateways, self.protocol);
        if self.change == Change::Full {
            return World::new(shape).watched(self.watched).push_events(events, &mut Clock::default());
        }
        let mut world = World::warm(shape, 1);
        for _ in 0..events {
            if self.change != Change::Ready {
                world.move_user(self.change == Change::Elsewhere);
            }
            world.push_events(1, &mut Clock::default());
        }
    }

    fn args(self) -> [String; 5] {
        let change = CHANGES.into_iter().find(|(_, change)| *change == self.change).map_or("", |(word, _)| word);
        let watched = WATCHED.into_iter().find(|(_, watched)| *watched == self.watched).map_or("", |(word, _)| word);
        let [fan_out, gateways] = [self.fan_out, self.gateways].map(|number| number.to_string());
        [fan_out, gateways, self.protocol.label().to_owned(), change.to_owned(), watched.to_owned()]
    }

    fn of_args(args: &[String]) -> Self {
        let [fan_out, gateways, protocol, change, watched] = args else {
            panic!("FAN_OUT GATEWAYS PROTOCOL CHANGE WATCHED")
        };
        Self {
            fan_out: fan_out.parse().expect("a number"),
            gateways: gateways.parse().expect("a number"),
            protocol: if protocol == "batch" { Protocol::Batch } else { Protocol::Stream },
            change: CHANGES.into_iter().find(|(word, _)| word == change).expect("a change").1,
            watched: WATCHED.into_iter().find(|(word, _)| word == watched).expect("what watches").1,
        }
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == COUNTED_RUN) {
        let (events, case) = args[1..].split_last().expect("a case and events");
        Case::of_args(case).run(events.parse().expect("a number"));
        return ExitCode::SUCCESS;
    }
    if args.first().is_some_and(|arg| arg == COUNTED_HOPS) {
        let numbers: Vec<u64> = args[1..].iter().map(|arg| arg.parse().expect("a number")).collect();
        let [shards, bundles, turns] = numbers[..] else { panic!("SHARDS BUNDLES TURNS") };
        Hops::new(shards as usize).run(turns, bundles as usize);
        return ExitCode::SUCCESS;
    }
    if args.iter().any(|arg| arg == "--bench") {
        let words: Vec<_> = args.iter().filter(|arg| !arg.starts_with('-')).map(String::as_str).collect();
        return report(count_all(&words));
    }
    // `cargo test` with a filter wants other tests, and with --list no run.
    if args.iter().all(|arg| arg.starts_with('-') && arg != "--list") {
        FAN_OUTS.into_iter().for_each(|fan_out| Case::new(fan_out, GATEWAYS, Protocol::Batch).run(2));
        CHANGES.into_iter().for_each(|(_, change)| Case { change, ..Case::new(10, GATEWAYS, Protocol::Batch) }.run(2));
        WATCHED
            .into_iter()
            .for_each(|(_, watched)| Case { watched, ..Case::new(1, GATEWAYS, Protocol::Stream) }.run(2));
        HOPS.into_iter().for_each(|(shards, bundles)| Hops::new(shards).run(2, bundles));
        println!("bench instructions ... ok");
    }
    ExitCode::SUCCESS
}

fn report(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("instructions: {what}");
            ExitCode::from(2)
        }
    }
}

fn count_all(words: &[&str]) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| format!("no folder for callgrind's file: {error}"))?;
    let is_wanted = |table: &str| words.is_empty() || words.contains(&table);
    let count = |case| per_event(folder.path(), case);
    let protocols = [Protocol::Stream, Protocol::Batch];
    if is_wanted("fan-out") {
        println!("{:8}  {:>8}  {:>14}  {:>16}", "protocol", "fan-out", "an event", "a recipient");
        for (protocol, fan_out) in protocols.into_iter().flat_map(|p| FAN_OUTS.map(|f| (p, f))) {
            let an_event = count(Case::new(fan_out, GATEWAYS, protocol))?;
            println!("{:8}  {fan_out:>8}  {an_event:>14.0}  {:>16.1}", protocol.label(), an_event / fan_out as f64);
        }
        println!("instructions inside the core, {GATEWAYS} gateways, all lookups cached\n");
    }
    if is_wanted("gateways") {
        println!("{:8}  {:>8}  {:>10}  {:>10}  {:>10}  {:>10}", "protocol", "fan-out", 1, 8, 64, 256);
        for (protocol, fan_out) in protocols.into_iter().flat_map(|p| [1, 10, 100, 1_000, 10_000].map(|f| (p, f))) {
            print!("{:8}  {fan_out:>8}", protocol.label());
            for gateways in [1, 8, 64, 256] {
                print!("  {:>10.1}", count(Case::new(fan_out, gateways, protocol))? / fan_out as f64);
            }
            println!();
        }
        println!("instructions per recipient inside the core, by gateways\n");
    }
    if is_wanted("grouping") {
        println!("{:>8}  {:>12}  {:>12}  {:>12}", "members", "ready", "elsewhere", "member");
        for fan_out in [10, 100, 1_000, 50_000] {
            print!("{fan_out:>8}");
            for (_, change) in &CHANGES[1..] {
                print!("  {:>12.0}", count(Case { change: *change, ..Case::new(fan_out, GATEWAYS, Protocol::Batch) })?);
            }
            println!();
        }
        println!(
            "instructions per event inside the core, batch, {GATEWAYS} gateways, by the route change before it; one event per turn"
        );
    }
    if is_wanted("watched") {
        println!("{:8}  {:>14}  {:>14}", "by", "an event", "more");
        let mut unwatched = None;
        for (word, watched) in WATCHED {
            let an_event = count(Case { watched, ..Case::new(1, GATEWAYS, Protocol::Stream) })?;
            println!("{word:8}  {an_event:>14.1}  {:>14.1}", an_event - *unwatched.get_or_insert(an_event));
        }
        println!("instructions per event inside the core, single chats, stream, by what the core is watched by\n");
    }
    if is_wanted("mesh") {
        println!("{:>6}  {:>14}  {:>12}", "shards", "bundles a turn", "a bundle");
        for (shards, bundles) in HOPS {
            let [few, many] = [10_u64, 30].map(|turns| {
                let numbers = [shards as u64, bundles as u64, turns].map(|number| number.to_string());
                count_run(folder.path(), std::iter::once(COUNTED_HOPS.to_owned()).chain(numbers))
            });
            println!("{shards:>6}  {bundles:>14}  {:>12.1}", (many? - few?) as f64 / (20 * bundles) as f64);
        }
        println!("instructions of the mesh, from the send to the fact; with one shard there is no hop");
    }
    Ok(())
}

/// What each further event of a case costs.
fn per_event(folder: &Path, case: Case) -> Result<f64, String> {
    let short = ((RECIPIENTS / case.fan_out) as u64).max(EVENTS_MIN);
    let long = 3 * short;
    let [few, many] = [short, long].map(|events| count(folder, case, events));
    Ok((many? - few?) as f64 / (long - short) as f64)
}

/// The instructions of one run.
fn count(folder: &Path, case: Case, events: u64) -> Result<u64, String> {
    count_run(folder, std::iter::once(COUNTED_RUN.to_owned()).chain(case.args()).chain([events.to_string()]))
}

fn count_run(folder: &Path, args: impl Iterator<Item = String>) -> Result<u64, String> {
    let file = folder.join("callgrind.out");
    let this = std::env::current_exe().map_err(|error| format!("this program's path: {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=task_engine_turn", "--toggle-collect=task_engine_hop"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(this)
        .args(args)
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err("valgrind is not installed; install the package `valgrind` (apt-get install valgrind)".into());
        }
        Err(error) => return Err(format!("valgrind did not start: {error}")),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("the run under valgrind failed ({}):\n{said}", output.status));
    }
    let written = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let total = written.lines().find_map(|line| line.strip_prefix("summary:").or(line.strip_prefix("totals:")));
    match total.and_then(|total| total.trim().parse().ok()) {
        None | Some(0) => {
            Err("callgrind counted nothing: is task_engine_turn (benches/support/world.rs) still there?".into())
        }
        Some(instructions) => Ok(instructions),
    }
}
