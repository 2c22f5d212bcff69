//! Promise: a hundred rotations of the log under load lose no line. The lines that are counted are numbered: a gateway is called once
//! for each event, and the HTTP/2 below says of each call which number its stream has.

use std::collections::BTreeSet;
use std::path::Path;

use harness::gateways::Protocols;
use testkit::engine::{World, eventually};

const ROTATIONS: usize = 100;
const EVENTS_A_ROTATION: i64 = 20;

/// The numbers of streams that were begun, by what a file says.
fn begun(file: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(file).expect("a log");
    let number = |line: &str| {
        let (_, rest) = line.split_once("send frame=Headers { stream_id: StreamId(")?;
        rest.split_once(')')?.0.parse().ok()
    };
    text.lines().filter_map(number).collect()
}

#[test]
fn a_hundred_rotations_under_load_lose_no_line() {
    let world = World::start();
    let gateway = world.gateway("gw-1", Protocols::UNARY);
    world.route("ann", "gw-1");
    world.members("s", &["ann"]);
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("engine.log");
    let rotated = |number: usize| folder.path().join(format!("engine.log.{number}"));
    let more = format!("log:\n  output: {}\n  format: text\n  filter: h2=debug\n", log.display());
    let engine = world.engine(1, &more);
    let (publisher, mut last) = (world.publisher(), 0);
    for number in 0..ROTATIONS {
        publisher.publish("s", "system", last + 1..=last + EVENTS_A_ROTATION);
        last += EVENTS_A_ROTATION;
        std::fs::rename(&log, rotated(number)).expect("rotated");
        engine.send(libc::SIGHUP);
        eventually("the new file is open", || log.exists());
    }
    let metrics = engine.wait_ended(last as u64);
    assert_eq!(metrics.recipients("delivered"), last as u64, "{}", metrics.numbers());
    assert_eq!(metrics.of("log_lines_dropped_total", ""), 0, "{}", metrics.numbers());
    let (status, _) = engine.terminate();
    assert_eq!(status.code(), Some(0), "{}", std::fs::read_to_string(&log).unwrap_or_default());
    assert_eq!(gateway.accepted(), 1, "one connection numbers them all");
    let files: Vec<_> = (0..ROTATIONS).map(rotated).chain([log]).collect();
    let all: Vec<Vec<u64>> = files.iter().map(|file| begun(file)).collect();
    let with_lines = all.iter().filter(|numbers| !numbers.is_empty()).count();
    assert!(with_lines > ROTATIONS / 4, "the load went on over rotations: {with_lines} files");
    let found: BTreeSet<u64> = all.into_iter().flatten().collect();
    let missing: Vec<u64> =
        (0..last as u64).map(|call| 2 * call + 1).filter(|number| !found.contains(number)).collect();
    assert!(missing.is_empty(), "lines of these streams are lost: {missing:?}");
}
