//! Promise: a dead letter that is answered for is in the stream once, with all that is known of it; `task-engine dlq`
//! lists it, shows it, sends its event again exactly once however often it is run, and drops it.

#![allow(deprecated, reason = "the sync nats client publishes for the tests")]

use crate::dlq_support::{NatsVersion, TOPIC, World, event, letter, origin};
use prost::Message;
use task_engine::edge::dead_letters::letter::StoredLetter;
use task_engine::edge::dead_letters::stream::LetterStream;
use task_engine::edge::nats::wire::Wire;
use task_engine::engine::adapters::dead_letters_of;
use task_engine::model::proto::event::PushEvent;
use task_engine::ports::{LookupError, Origin};

#[test]
fn dead_letters_are_kept_in_the_stream() {
    kept_on(NatsVersion::Installed);
}

#[test]
fn dead_letters_are_kept_in_the_stream_of_the_current_server() {
    kept_on(NatsVersion::Current);
}

fn kept_on(version: NatsVersion) {
    let world = World::start(version, true, "jetstream");
    world.stream("EVENTS", &[TOPIC]);
    world.stream("EVENTS_DLQ", &["EVENTS_DLQ.>"]);
    let mut writer = world.writer();
    writer.ping().expect("the stream is there");
    let letters = [
        (letter("undecodable", b"\xff\xfe not an event".to_vec(), None), origin(3)),
        (letter("lookup_failed", event(1), None), origin(4)),
        (letter("inbox_conflict", event(2), Some("o'br\u{ef}en\r\n")), origin(5)),
    ];
    // Written again, as when an answer was lost: it is kept once.
    for _ in 0..2 {
        assert_eq!(writer.write(&letters), [Ok(()), Ok(()), Ok(())]);
    }
    assert_eq!(world.messages("EVENTS_DLQ"), 3);
    listing_selects(&world);
    showing_tells_all(&world);
    replaying_publishes_once(&world, &mut *writer);
    a_replay_waits_for_its_stream(&world, &mut *writer);
    dropping_asks_before_all(&world);
    deleting_what_is_gone_is_good(&world);
    a_letter_that_is_too_large_goes_to_the_file(&world, &mut *writer);
}

/// Two people replay or drop at once.
fn deleting_what_is_gone_is_good(world: &World) {
    let settings = dead_letters_of(&world.config());
    let mut wire = Wire::connect(&settings.nats, "test").expect("a connection");
    let stream = LetterStream::of("EVENTS");
    for sequence in [99, 3, 1] {
        assert_eq!(stream.delete(&mut wire, sequence).expect("an answer"), Ok(()));
    }
}

fn listing_selects(world: &World) {
    assert_eq!(world.ids(&[]), ["1", "2", "3"]);
    assert_eq!(world.ids(&["--reason", "lookup_failed"]), ["2"]);
    assert_eq!(world.ids(&["3", "1"]), ["3", "1"]);
    assert_eq!(world.ids(&["--newer-than", "1h"]).len(), 3);
    assert!(world.ids(&["--older-than", "1h"]).is_empty());
    assert!(world.ids(&["--newer-than", "1h", "--reason", "no_such"]).is_empty());
    let table = world.dlq(&["list"]);
    assert_eq!(table.code, 0);
    assert!(table.out.starts_with("ID  STORED"), "{}", table.out);
    assert!(table.out.contains("it was undecodable really") && table.out.ends_with("3 letters in stream EVENTS_DLQ\n"));
    let wrong = world.dlq(&["list", "--older-than", "yesterday"]);
    assert!(wrong.code == 2 && wrong.err.contains("\"yesterday\" is not a time; write one such as 30s"), "{wrong:?}");
}

fn showing_tells_all(world: &World) {
    let shown = &world.dlq_json(&["show", "3"])[0];
    let expected = serde_json::json!({
        "id": "3", "reason": "inbox_conflict", "detail": "it was inbox_conflict\nreally", "subject": TOPIC,
        "sequence": 5, "deliveries": 2, "tries": 4, "recipient": "o'br\u{ef}en\r\n",
        "published": "2023-11-14T22:13:20Z",
    });
    for (key, value) in expected.as_object().expect("an object") {
        assert_eq!(&shown[key], value, "{key}: {shown}");
    }
    assert_eq!(shown["event"]["content"], "message 2");
    let text = world.dlq(&["show", "1"]);
    assert!(text.code == 0 && text.out.contains("no PushEvent; its bytes: \\xff\\xfe not an event"), "{text:?}");
    let missing = world.dlq(&["show", "99"]);
    assert!(missing.code == 1 && missing.err.contains("no dead letter 99 in stream EVENTS_DLQ"), "{missing:?}");
}

fn now_nanos() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    since.expect("after 1970").as_nanos() as u64
}

fn replaying_publishes_once(world: &World, writer: &mut dyn task_engine::ports::DeadLetterWriter) {
    let client = world.client();
    let subscription = client.subscribe(TOPIC).expect("a subscription");
    client.flush().expect("the server knows it");
    let replayed = world.dlq(&["replay", "--reason", "lookup_failed"]);
    assert_eq!((replayed.code, replayed.out.as_str()), (0, "1 letter replayed\n"), "{replayed:?}");
    let message = subscription.next_timeout(crate::dlq_support::PATIENCE).expect("the event");
    assert_eq!(message.data, event(1));
    let headers = message.headers.expect("headers");
    assert!(headers.get("Task-Engine-Replay").is_some(), "it counts as new, whatever an engine knows");
    let id = headers.get("Nats-Msg-Id").cloned().expect("an id");
    assert!(id.starts_with("replay-4-lookup_failed-"), "{id}");
    assert_eq!((world.messages("EVENTS"), world.ids(&[])), (1, vec!["1".to_owned(), "3".to_owned()]));
    let again = world.dlq(&["replay", "--reason", "lookup_failed"]);
    assert!(again.code == 0 && again.out.starts_with("0 letters replayed: none"), "{again:?}");
    // The same event is a letter again inside the stream's window: it is there again, and its replay, broken off
    // before the letter was taken out or not, is one event.
    assert_eq!(writer.write(&[(letter("lookup_failed", event(1), None), origin(4))]), [Ok(())]);
    assert_eq!(world.ids(&["--reason", "lookup_failed"]).len(), 1, "a repeat of a letter that is gone is kept");
    assert_eq!(world.dlq(&["replay", "--reason", "lookup_failed"]).code, 0);
    assert_eq!(world.messages("EVENTS"), 2, "it is another letter, of another failure");
    // One recipient's letter is replayed for that one; for everyone not before the event is forgotten.
    let soon = world.dlq(&["replay", "3", "--everyone"]);
    assert!(soon.code == 1 && soon.err.contains("would take it for a repeat; run this again in 5m"), "{soon:?}");
    assert_eq!((world.messages("EVENTS"), world.ids(&[])), (2, vec!["1".to_owned(), "3".to_owned()]));
    let subscription = client.subscribe(TOPIC).expect("a subscription");
    client.flush().expect("the server knows it");
    let one = world.dlq(&["replay", "3"]);
    assert_eq!((one.code, one.out.as_str()), (0, "1 letter replayed, 1 of them for one recipient each\n"), "{one:?}");
    let message = subscription.next_timeout(crate::dlq_support::PATIENCE).expect("the event");
    let replayed = PushEvent::decode(&*message.data).expect("an event");
    assert_eq!((replayed.only_usernames.clone(), replayed.msg_id), (vec!["o'br\u{ef}en\r\n".to_owned()], 2));
    assert_eq!(PushEvent { only_usernames: Vec::new(), ..replayed }.encode_to_vec(), event(2));
    assert_eq!((world.messages("EVENTS"), world.ids(&[])), (3, vec!["1".to_owned()]));
    let (letter, an_hour_ago) = (letter("inbox_conflict", event(2), Some("bob")), now_nanos() - 3_600_000_000_000);
    let settings = dead_letters_of(&world.config());
    let mut wire = Wire::connect(&settings.nats, "test").expect("a connection");
    let kept = [StoredLetter::of(&letter, &origin(5), an_hour_ago)];
    LetterStream::of("EVENTS").publish(&mut wire, &kept, |_| true).expect("published");
    let id = world.ids(&["--reason", "inbox_conflict"]).remove(0);
    assert_eq!(world.dlq_json(&["replay", &id, "--everyone"])[0]["replayed"], serde_json::json!([id]));
    assert_eq!((world.messages("EVENTS"), world.ids(&[])), (4, vec!["1".to_owned()]));
}

/// The letter stays until the engine's own stream has its event.
fn a_replay_waits_for_its_stream(world: &World, writer: &mut dyn task_engine::ports::DeadLetterWriter) {
    let left = world.ids(&[]);
    let jetstream = nats::jetstream::new(world.client());
    jetstream.delete_stream("EVENTS").expect("it is gone");
    assert_eq!(writer.write(&[(letter("lookup_failed", event(7), None), origin(7))]), [Ok(())]);
    let away = world.dlq(&["replay", "--reason", "lookup_failed"]);
    assert!(away.code == 1 && away.err.contains("no stream takes") && away.err.contains("EVENTS"), "{away:?}");
    world.stream("ELSE", &[TOPIC]);
    let other = world.dlq(&["replay", "--reason", "lookup_failed"]);
    assert!(other.code == 1 && other.err.contains("stream ELSE took it"), "{other:?}");
    jetstream.delete_stream("ELSE").expect("it is gone");
    world.stream("EVENTS", &[TOPIC]);
    assert_eq!(world.dlq(&["replay", "--reason", "lookup_failed"]).code, 0);
    assert_eq!((world.messages("EVENTS"), world.ids(&[])), (1, left));
}

fn dropping_asks_before_all(world: &World) {
    let all = world.dlq(&["drop"]);
    assert!(all.code == 2 && all.err.contains("--yes"), "{all:?}");
    assert_eq!(world.ids(&[]), ["1"]);
    let missing = world.dlq(&["drop", "77"]);
    assert!(missing.code == 1 && missing.err.contains("77"), "{missing:?}");
    let missing = world.dlq(&["replay", "77"]);
    assert!(missing.code == 1 && missing.err.contains("not there") && missing.err.contains("77"), "{missing:?}");
    let none = world.dlq(&["replay", "--reason", "bogus"]);
    assert!(none.code == 0 && none.out.contains("0 letters replayed: none") && none.out.contains("bogus"), "{none:?}");
    assert_eq!(world.dlq(&["drop", "--older-than", "1h"]).out, "0 letters dropped\n");
    assert_eq!(world.dlq(&["drop", "--yes"]).out, "1 letter dropped\n");
    assert_eq!(world.messages("EVENTS_DLQ"), 0);
    assert_eq!(world.dlq(&["list"]).out, "no dead letters (stream EVENTS_DLQ)\n");
}

fn a_letter_that_is_too_large_goes_to_the_file(world: &World, writer: &mut dyn task_engine::ports::DeadLetterWriter) {
    // As large as the server lets an event be: with the letter's headers it is over that.
    let large = (letter("too_large", vec![b'x'; 1 << 20], None), origin(9));
    let small = (letter("undecodable", b"x".to_vec(), None), origin(10));
    let answers: Vec<Result<(), LookupError>> = writer.write(&[large, small]);
    assert_eq!(answers, [Ok(()), Ok(())]);
    assert_eq!(world.messages("EVENTS_DLQ"), 1);
    let list = world.dlq(&["list"]);
    assert!(list.err.contains("letters in the file"), "{list:?}");
    let file = world.file();
    let in_file = world.ids(&["--file", file.to_str().expect("UTF-8")]);
    assert!(in_file.len() == 1 && in_file[0].starts_with("9-too_large-"), "{in_file:?}");
}

/// With core NATS an event has no number, and a replay that fails has the letter of what was replayed, byte for byte: it may
/// come before that one is taken out.
#[test]
fn a_replay_that_fails_at_once_has_a_letter_of_its_own() {
    let world = World::start(NatsVersion::default(), true, "core");
    world.stream("EVENTS_DLQ", &["EVENTS_DLQ.>"]);
    let mut writer = world.writer();
    let broken = [(letter("undecodable", b"\xff".to_vec(), None), Origin::default())];
    assert_eq!(writer.write(&broken), [Ok(())]);
    let first = world.ids(&[]);
    let client = world.client();
    let engine = client.subscribe(TOPIC).expect("a subscription");
    client.flush().expect("the server knows it");
    let replay = std::thread::scope(|scope| {
        let replay = scope.spawn(|| world.dlq(&["replay"]));
        engine.next_timeout(crate::dlq_support::PATIENCE).expect("the event");
        assert_eq!(writer.write(&broken), [Ok(())]);
        replay.join().expect("it ends")
    });
    assert_eq!(replay.code, 0, "{replay:?}");
    let left = world.ids(&[]);
    assert!(left.len() == 1 && left != first, "{left:?}");
    // Two such events are two letters, and one letter with a number is one however often it is written.
    assert_eq!(writer.write(&[broken[0].clone(), broken[0].clone()]), [Ok(()), Ok(())]);
    let numbered = [(letter("undecodable", b"\xff".to_vec(), None), origin(3))];
    assert_eq!([writer.write(&numbered), writer.write(&numbered)], [[Ok(())], [Ok(())]]);
    assert_eq!(world.ids(&[]).len(), 4);
}
