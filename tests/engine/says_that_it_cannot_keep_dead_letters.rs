//! Promise: where the file of dead letters cannot be opened the engine is not ready and says what to change; an event that
//! can never be pushed is lost and counted there, and holds neither the events after it nor a stop. In a file that is nearly
//! full, what does not fit is lost alone.

use std::time::Instant;

use harness::gateways::Protocols;
use task_engine::model::limits::LETTER_FILE_BYTES_MAX;
use testkit::engine::{PATIENCE, World, eventually, got};

#[test]
fn engine_says_that_it_cannot_keep_dead_letters() {
    let world = World::start();
    let _gateway = world.gateway("gw-1", Protocols::STREAM);
    world.route("bob", "gw-1");
    world.members("group:1", &["bob"]);
    let engine = world.engine_not_ready(1, "dead_letters:\n  path: /nonexistent/letters.jsonl\n");
    eventually("only the dead letters are missing", || {
        engine.page("/readyz?verbose").is_some_and(|(status, text)| {
            let bad: Vec<&str> = text.lines().filter(|line| line.starts_with("[-]")).collect();
            status == 503 && bad.len() == 1 && bad[0].contains("dead_letters.path") && bad[0].contains("/nonexistent")
        })
    });
    let publisher = world.publisher();
    publisher.send(b"\xff");
    publisher.publish("group:1", "system", 1..=3);
    let metrics = engine.wait_ended(4);
    assert_eq!((metrics.events("dead_letter_lost"), metrics.of("dead_letters_rejected_total", "")), (1, 1));
    assert_eq!(got(&world.log.records(), "group:1", "bob"), [1, 2, 3]);
    let began = Instant::now();
    publisher.send(b"\xff\xff");
    publisher.flush();
    engine.wait_metrics("it is read", |metrics| metrics.of("events_arrived_total", "") == 5);
    engine.stop_clean();
    assert!(began.elapsed() < PATIENCE / 2, "the stop does not wait for the file: {:?}", began.elapsed());
}

#[test]
fn a_letter_that_the_file_has_no_room_for_is_the_only_one_that_is_lost() {
    let world = World::start();
    // Room for many small letters and no large one; zeroes are a line that is no letter.
    let used = LETTER_FILE_BYTES_MAX - 60_000;
    std::fs::File::create(world.letters()).and_then(|file| file.set_len(used)).expect("a file with a hole");
    let engine = world.engine(1, "");
    let publisher = world.publisher();
    let small = |from: u8| (from..from + 40).for_each(|number| publisher.send(&[0xff, number]));
    small(0);
    publisher.send(&[0xff; 200_000]);
    small(40);
    publisher.flush();
    let metrics = engine.wait_ended(81);
    assert_eq!((metrics.events("dead_letter_lost"), metrics.events("undecodable")), (1, 80), "{}", engine.output());
    let kept = std::fs::metadata(world.letters()).expect("a file").len() - used;
    assert!(kept > 80 * 100 && kept < 60_000, "{kept} bytes of 80 letters");
    engine.stop_clean();
}
