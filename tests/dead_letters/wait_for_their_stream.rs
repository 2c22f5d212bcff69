//! Promise: with JetStream, a letter whose stream is not there, or whose server is away, is answered as unavailable with
//! what to do, and goes through when it is back; nothing is written elsewhere meanwhile.

use std::sync::Arc;

use crate::dlq_support::{NatsVersion, World, event, eventually, letter, origin};
use task_engine::engine::adapters::dead_letter_store_of;
use task_engine::ports::mailbox::{Mailbox, Wake, mailbox};
use task_engine::ports::{Health, LookupError};
use task_engine::push::facts::Input;
use task_engine::shard::workers::writers::DeadLetterThread;

fn next(facts: &Mailbox) -> Result<(), LookupError> {
    let mut found = None;
    eventually("an answer", || {
        found = facts.try_next();
        found.is_some()
    });
    match found {
        Some(Input::LetterPublished { answer, .. }) => answer,
        other => panic!("not an answer: {other:?}"),
    }
}

#[test]
fn dead_letters_wait_for_their_stream() {
    waiting_on(NatsVersion::Installed);
}

#[test]
fn dead_letters_wait_for_their_stream_on_the_current_server() {
    waiting_on(NatsVersion::Current);
}

fn waiting_on(version: NatsVersion) {
    let world = World::start(version, true, "jetstream");
    let thread = DeadLetterThread::start(dead_letter_store_of(&world.config())).expect("a thread");
    let (sender, facts) = mailbox(8, Arc::new(Wake::default()));
    let publish = |ask| thread.publish(ask, letter("lookup_failed", event(1), None), origin(1), sender.clone());

    publish(1).expect("room");
    let why = next(&facts).expect_err("there is no stream").to_string();
    assert!(why.contains("EVENTS_DLQ") && why.contains("task-engine setup"), "{why}");
    assert!(matches!(thread.health(), Health::Degraded(_)), "events are taken all the same");
    let list = world.dlq(&["list"]);
    assert!(list.code == 1 && list.err.contains("task-engine setup"), "{list:?}");

    world.stream("EVENTS_DLQ", &["EVENTS_DLQ.>"]);
    eventually("it is seen without a letter", || thread.health() == Health::Ready);
    publish(2).expect("room");
    assert_eq!(next(&facts), Ok(()));

    world.nats.kill9();
    publish(3).expect("room");
    let why = next(&facts).expect_err("the server is away").to_string();
    assert!(why.contains(&world.nats.addr()) && why.contains("nats.url"), "{why}");
    let list = world.dlq(&["list"]);
    assert!(list.code == 1 && list.err.contains(&world.nats.addr()), "{list:?}");
    world.nats.restart().expect("NATS again");
    publish(4).expect("room");
    assert_eq!(next(&facts), Ok(()));
    assert_eq!(world.messages("EVENTS_DLQ"), 1, "the same letter, kept once over a restart");

    world.nats.stop().expect("it hangs");
    publish(5).expect("room");
    let why = next(&facts).expect_err("the server hangs").to_string();
    assert!(why.contains("did not confirm in time") && why.contains("EVENTS_DLQ"), "{why}");
    world.nats.cont().expect("it goes on");
    publish(6).expect("room");
    assert_eq!(next(&facts), Ok(()));
    assert_eq!((thread.published("lookup_failed"), thread.published("other")), (3, 0));
    assert!(!world.file().exists());
}
