//! A partition that goes, without a source.

use prost::Message;

use super::*;
use crate::model::delivery::{Disposition, Settled};
use crate::model::names::{NameList, Route, RouteList};
use crate::model::proto::event::PushEvent;
use crate::push::facts::{Input, Output};
use crate::push::retreat::tests::{flush, push, take};

const GOES: Partition = Partition(3);

fn tag(number: u64) -> DeliveryTag {
    DeliveryTag { reader: 0, number }
}

fn payload(session: &str, msg_id: i64) -> bytes::Bytes {
    let event = PushEvent { msg_id, session_id: session.to_owned(), r#type: "text".to_owned(), ..PushEvent::default() };
    event.encode_to_vec().into()
}

fn settled(out: &[Output], wanted: Disposition) -> Vec<u64> {
    let each = out.iter().filter_map(|output| match output {
        Output::Settle(Settled { tag, how }) if *how == wanted => Some(tag.number),
        _ => None,
    });
    each.collect()
}

/// Answers what is asked: each session has one member, at a gateway that nobody serves.
fn answer(push: &mut Push, out: Vec<Output>) {
    for output in out {
        match output {
            Output::AskMembers { ask, sessions, .. } => {
                let lists = sessions.iter().map(|_| ["ann"].into_iter().collect::<NameList>()).collect();
                push.take(Input::Members { ask, answer: Ok(lists) });
            }
            Output::AskRoutes { ask, users } => {
                let mut list = RouteList::new();
                users.iter().for_each(|_| list.push(Route::Gateway("gw-1")));
                push.take(Input::Routes { ask, answer: Ok(list) });
            }
            _ => {}
        }
    }
}

fn leave(push: &mut Push, numbers: std::ops::Range<u64>) {
    push.take(Input::Leave { partition: GOES, tags: numbers.map(tag).collect() });
}

#[test]
fn what_nobody_was_pushed_is_left_in_the_order_of_arrival_and_what_is_half_done_ends_here() {
    let mut push = push();
    take(&mut push, "begun", 1, 1);
    for round in 0..4 {
        let out = flush(&mut push, round);
        answer(&mut push, out);
    }
    assert_eq!(push.recipients_in_flight(), 1, "a bundle is on its way");
    take(&mut push, "stays", 1, 50);
    for (session, msg_id, number) in [("waits", 1, 2), ("waits", 2, 3), ("also", 1, 4), ("waits", 1, 5)] {
        take(&mut push, session, msg_id, number);
    }
    leave(&mut push, 1..20);
    let out = flush(&mut push, 5);
    assert_eq!(settled(&out, Disposition::Nak), [2, 5, 3, 4], "with the repeat of the first");
    // What was in the lane meanwhile, and a repeat of what has begun.
    take(&mut push, "waits", 3, 6);
    take(&mut push, "begun", 1, 7);
    let out = flush(&mut push, 6);
    assert_eq!((settled(&out, Disposition::Nak), push.events_in_flight()), (vec![6, 7], 2));
    push.take(Input::Stay(GOES));
    take(&mut push, "waits", 3, 8);
    assert_eq!((settled(&flush(&mut push, 7), Disposition::Nak), push.events_in_flight()), (vec![], 3));
}

#[test]
fn what_is_known_from_before_is_a_repeat_and_a_replay_never_is() {
    let mut push = push();
    push.take(Input::Known(vec![payload("s", 7), bytes::Bytes::from_static(b"\xff")]));
    take(&mut push, "s", 7, 1);
    assert_eq!(settled(&flush(&mut push, 1), Disposition::Ack), [1]);
    push.take(Input::Replayed(tag(2)));
    take(&mut push, "s", 7, 2);
    assert_eq!((settled(&flush(&mut push, 2), Disposition::Ack), push.events_in_flight()), (vec![], 1));
    take(&mut push, "s", 7, 3);
    assert_eq!(settled(&flush(&mut push, 3), Disposition::Ack), [3], "the next copy is a repeat as before");
    // One that is given back comes again under another tag.
    push.take(Input::Replayed(tag(4)));
    push.take(Input::Leave { partition: GOES, tags: vec![tag(4)] });
    take(&mut push, "s", 7, 4);
    assert_eq!(settled(&flush(&mut push, 4), Disposition::Nak), [4]);
    assert!(push.intake.replayed.is_empty(), "nothing is kept of it");
}
