//! Instructions a recipient and an event cost the pure core, counted by callgrind: the same on a busy machine as on an
//! idle one, so it is what to compare two versions by. `make instructions` runs it.
//!
//! Promises to count the engine only (callgrind collects inside `task_engine_turn` alone) and only what each further
//! event costs (the difference of two run lengths, so that neither start nor first lookups count). Refuses to run
//! without valgrind: exit code 2. In `cargo test` it only sees to it that the counted runs work.
//!
//! Not in it: what `core` leaves out too (sockets, HTTP/2, the mesh), and how long an instruction takes.

mod support;

use std::path::Path;
use std::process::{Command, ExitCode};

use support::Clock;
use support::world::{Shape, World};
use task_engine::ports::Protocol;

/// Asks this program to be what valgrind runs: fan-out, protocol, events.
const COUNTED_RUN: &str = "--counted-run";
const FAN_OUTS: [usize; 3] = [1, 100, 1_000];
const PROTOCOLS: [Protocol; 2] = [Protocol::Stream, Protocol::Batch];
const GATEWAYS: usize = 8;
/// Recipients of the shorter run, about; the longer one has three times as many.
const RECIPIENTS: usize = 16 * 1024;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == COUNTED_RUN) {
        counted_run(&args[1..]);
        return ExitCode::SUCCESS;
    }
    if args.iter().any(|arg| arg == "--bench") {
        return report(count_all());
    }
    // `cargo test` with a filter wants other tests, and with --list no run.
    if args.iter().all(|arg| arg.starts_with('-') && arg != "--list") {
        FAN_OUTS.into_iter().for_each(|fan_out| run(fan_out, Protocol::Batch, 2));
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

fn run(fan_out: usize, protocol: Protocol, events: u64) {
    World::new(Shape::alone(fan_out, GATEWAYS, protocol)).push_events(events, &mut Clock::default());
}

fn counted_run(args: &[String]) {
    let [fan_out, protocol, events] = args else { panic!("{COUNTED_RUN} FAN_OUT PROTOCOL EVENTS") };
    let protocol = PROTOCOLS.into_iter().find(|known| known.label() == protocol).expect("stream or batch");
    run(fan_out.parse().expect("a number"), protocol, events.parse().expect("a number"));
}

fn count_all() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| format!("no folder for callgrind's file: {error}"))?;
    println!("{:8}  {:>8}  {:>14}  {:>16}", "protocol", "fan-out", "an event", "a recipient");
    for protocol in PROTOCOLS {
        for fan_out in FAN_OUTS {
            let short = (RECIPIENTS / fan_out).max(1) as u64;
            let long = 3 * short;
            let [few, many] = [short, long].map(|events| count(folder.path(), fan_out, protocol, events));
            let per_event = (many? - few?) as f64 / (long - short) as f64;
            println!("{:8}  {fan_out:>8}  {per_event:>14.0}  {:>16.1}", protocol.label(), per_event / fan_out as f64);
        }
    }
    println!("instructions inside the core, {GATEWAYS} gateways, all lookups cached");
    Ok(())
}

/// The instructions of one run.
fn count(folder: &Path, fan_out: usize, protocol: Protocol, events: u64) -> Result<u64, String> {
    let file = folder.join("callgrind.out");
    let this = std::env::current_exe().map_err(|error| format!("this program's path: {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=task_engine_turn"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(this)
        .args([COUNTED_RUN, &fan_out.to_string(), protocol.label(), &events.to_string()])
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
