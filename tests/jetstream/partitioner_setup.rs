//! With the partitioner on, `setup`, the start and the configuration say what has to stand, and what cannot stand beside it; a dead
//! letter that is replayed goes the way of any other event.
#![allow(deprecated)]

use task_engine::cli::dead_letter_store::{DeadLetterStore, Selection};
use task_engine::config::{self, Assignment, Flags};
use task_engine::ports::intake::Moves;

use crate::jetstream_support::{
    NatsVersion, ask, client, event, on_both_servers, server, set_up, settings, started, until, with_rights,
};
use crate::partitioner_support::{assert_moved, moving, publish_twice, ready, stored, until_all_moved};

on_both_servers! {
    setup_makes_the_input_stream_and_its_consumer
    a_stream_that_takes_the_plain_topic_is_in_the_way
    a_replayed_letter_is_moved_although_its_event_was
    who_may_not_publish_to_partitions_is_told_and_settles_nothing
    narrow_rights_are_enough_to_move
}

fn setup_makes_the_input_stream_and_its_consumer(version: NatsVersion) {
    let server = server(version);
    let settings = moving(&server);
    let client = client(&server);
    let (dry, is_usable) = set_up(&settings, true).expect("a dry run");
    assert!(is_usable && ask(&client, "$JS.API.STREAM.NAMES", "")["total"] == 0, "{dry:?}");
    assert!(dry.iter().any(|line| line.starts_with("would make stream STREAM_IN (subjects events,")), "{dry:?}");
    assert!(dry.iter().any(|line| line.contains("would make consumer engine-in of stream STREAM_IN")), "{dry:?}");
    // An engine that starts before it says what to do.
    let taking = started(&settings, 1);
    taking.until_waiting(&["stream STREAM_IN does not exist", "run task-engine setup"]);
    assert!(set_up(&settings, false).expect("a run").1);
    taking.until_ready();
    let info = ask(&client, "$JS.API.STREAM.INFO.STREAM", "");
    assert_eq!(
        (&info["config"]["subjects"][0], &info["config"]["duplicate_window"]),
        (&"events.*".into(), &300_000_000_000_u64.into())
    );
    let info = ask(&client, "$JS.API.STREAM.INFO.STREAM_IN", "");
    assert_eq!((&info["config"]["subjects"][0], &info["config"]["retention"]), (&"events".into(), &"limits".into()));
    let (again, is_usable) = set_up(&settings, false).expect("a second run");
    assert!(is_usable && !again.iter().any(|line| line.starts_with("made") || line.contains("left as")), "{again:?}");
    taking.stop();
}

fn a_stream_that_takes_the_plain_topic_is_in_the_way(version: NatsVersion) {
    let server = server(version);
    let before = settings(&server, Assignment::Queue);
    assert!(set_up(&before, false).expect("setup").1);
    let (lines, is_usable) = set_up(&moving(&server), false).expect("setup");
    let all = lines.join("\n");
    assert!(!is_usable, "{all}");
    for words in [
        "stream STREAM_IN cannot be made: stream STREAM takes events itself",
        "let the instances settle what stream STREAM holds and stop them",
        "set its subjects to events.* by hand, run setup again",
    ] {
        assert!(all.contains(words), "{words}: {all}");
    }
    // As it says.
    let client = client(&server);
    let mut config = ask(&client, "$JS.API.STREAM.INFO.STREAM", "")["config"].clone();
    config["subjects"] = serde_json::json!(["events.*"]);
    assert!(ask(&client, "$JS.API.STREAM.UPDATE.STREAM", config.to_string())["error"].is_null());
    assert!(set_up(&moving(&server), false).expect("setup").1);
}

fn a_replayed_letter_is_moved_although_its_event_was(version: NatsVersion) {
    let (server, settings) = ready(version);
    let client = client(&server);
    let taking = started(&settings, 1);
    let payload = event("s", 7);
    ask(&client, "events", &payload);
    until_all_moved(&client);
    // As the engine wrote it a moment after the event was moved.
    let mut headers = nats::HeaderMap::default();
    headers.insert("Nats-Msg-Id", "1-lookup_failed-0");
    headers.insert("Resonance-Reason", "lookup_failed");
    headers.insert("Resonance-Subject", "events.1");
    client
        .publish_with_reply_or_headers("STREAM_DLQ.lookup_failed", None, Some(&headers), &payload)
        .expect("published");
    client.flush().expect("flushed");
    let mut store = DeadLetterStore::open(&settings, None).expect("the stream is there");
    until("the letter is there", || store.list(&Selection::default(), false).expect("a list").len() == 1);
    let done = store.replay(&Selection::default(), false).expect("a replay");
    assert_eq!((done.replayed.len(), done.failed.len()), (1, 0), "{done:?}");
    until_all_moved(&client);
    let all = stored(&client);
    assert!(all.len() == 2 && all.iter().all(|stored| stored.payload == payload));
    assert!(all[1].headers.contains("Task-Engine-Replay: replay-1-lookup_failed-0"), "{:?}", all[1].headers);
    assert_eq!((taking.moves(Moves::Moved), taking.moves(Moves::Copies)), (2, 0));
    taking.stop();
}

fn who_may_not_publish_to_partitions_is_told_and_settles_nothing(version: NatsVersion) {
    let (_server, settings, client) = with_rights(version, r#"{ deny: "events.*" }"#, moving);
    publish_twice(&client, 3, 0..10);
    let taking = started(&settings, 1);
    taking.until_waiting(&["user engine may not publish to events.", "grant the user publish on events.*"]);
    let info = ask(&client, "$JS.API.CONSUMER.INFO.STREAM_IN.engine-in", "");
    assert_eq!((&info["ack_floor"]["stream_seq"], taking.moves(Moves::Moved)), (&0.into(), 0));
    assert!(taking.letters.lock().expect("no panic").is_empty());
    taking.stop();
}

fn narrow_rights_are_enough_to_move(version: NatsVersion) {
    let read = |stream: &str, consumer: &str| {
        format!(
            r#""$JS.API.STREAM.INFO.{stream}", "$JS.API.CONSUMER.INFO.{stream}.{consumer}",
            "$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}", "$JS.ACK.{stream}.{consumer}.*.*.*.*.*", "#
        )
    };
    // The last line is for what is looked for after a crash.
    let rights = format!(
        r#"{{ allow: [ {} {} "events.*",
        "$JS.API.STREAM.MSG.GET.STREAM_IN", "$JS.API.CONSUMER.CREATE.STREAM", "$JS.API.CONSUMER.DELETE.STREAM.*" ] }}"#,
        read("STREAM", "*"),
        read("STREAM_IN", "engine-in"),
    );
    let (_server, settings, client) = with_rights(version, &rights, moving);
    for round in 0..2 {
        let taking = started(&settings, 1);
        publish_twice(&client, 3, round * 1000..round * 1000 + 1000);
        until("it is at work", || taking.moves(Moves::Moved) > 10);
        // As in a crash.
        drop(taking);
    }
    let taking = started(&settings, 1);
    until_all_moved(&client);
    assert_moved(&client, 3, 0..2000);
    taking.until_ready();
    taking.stop();
}

#[test]
fn the_configuration_says_what_it_needs_and_what_it_means_for_publishers() {
    let parse = |text: &str| config::parse("task.yaml", text, [], &Flags::default());
    for wrong in [
        "consumer:\n  partitioner: on\n",
        "consumer:\n  partitioner: on\n  mode: jetstream\n",
        "consumer:\n  partitioner: on\n  assignment: partitioned\n",
    ] {
        let said = parse(wrong).expect_err("it cannot be on").to_string();
        assert!(
            said.contains("consumer.partitioner: needs consumer.mode jetstream and consumer.assignment partitioned"),
            "{said}"
        );
    }
    let right = "consumer:\n  partitioner: on\n  mode: jetstream\n  assignment: partitioned\n  topic: t\n";
    let notes = parse(right).expect("it can be on").notes;
    let said = notes.iter().map(|note| note.line("task.yaml")).collect::<String>();
    for words in [
        "consumer.partitioner: publishers publish on t only",
        "one that writes t.<partition> itself would race the partitioner",
        "Stream RESONANCE must not take t itself, as RESONANCE_IN does",
        "set its subjects to t.* by hand, and run task-engine setup",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(parse("consumer:\n  partitioner: off\n").expect("as before").notes.is_empty());
}
