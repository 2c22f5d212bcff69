//! Promise: in a session of more than `gateway.notice_above` members a gateway that understands notices gets one in the place of a
//! message whose content is kept, at most one a round trip, and each member who stays learns of the highest sequence; whatever else
//! happens, messages are pushed in full.

use task_engine::model::outcome::RecipientOutcome;
use task_engine::model::proto::gateway::group_push::What;
use task_engine::model::proto::gateway::{GroupAnswer, GroupFailure, GroupFrame, SessionNotice};
use task_engine::ports::{LookupError, Protocol, Protocols};
use task_engine::push::RecipientRules;
use task_engine::push::facts::{StreamEnd, StreamFact};
use task_engine::push::inbox::InboxStore;
use testkit::frames::only;
use testkit::table::Table;

const MEMBERS: usize = 12;
const NOTICES: Protocols = Protocols {
    notice: true,
    ..Protocols { batch: true, group: Some(std::num::NonZeroU32::MAX), ..Protocols::STREAM }
};

fn name(user: usize) -> String {
    format!("user-{user:02}")
}

/// Twelve members at gateway A, whose messages wait for the test's answers about their contents.
fn table(protocols: Protocols) -> Table {
    let names: Vec<_> = (0..MEMBERS).map(name).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let routes: Vec<_> = names.iter().map(|user| (*user, "A")).collect();
    let rules = RecipientRules { rows_up_to: 2, notice_above: 4, ..RecipientRules::default() };
    let mut table = Table::with_rules(&names, &routes, InboxStore::Offline, rules);
    table.list("A", protocols);
    table.list("B", protocols);
    table
}

/// An event whose content is kept.
fn kept(table: &mut Table, msg_id: i64) {
    table.event(msg_id);
    table.find(Ok(true));
}

/// What the frames on a gateway's stream say: messages as their id, notices as their highest sequence and id.
fn read(frames: &[GroupFrame]) -> Vec<(i64, i64)> {
    let pushes = frames.iter().flat_map(|frame| &frame.pushes);
    let said = pushes.map(|push| match &push.what {
        Some(What::Message(message)) => (0, message.msg_id),
        Some(What::Notice(SessionNotice { session_id, max_seq_id, msg_id })) => {
            assert_eq!(session_id, "s");
            (*max_seq_id, *msg_id)
        }
        None => panic!("a push has a message or a notice"),
    });
    let singles = frames.iter().flat_map(|frame| &frame.singles);
    said.chain(singles.map(|single| (0, single.message.as_ref().expect("a message").msg_id))).collect()
}

/// Reads what is on the stream, and answers it.
fn serve(table: &mut Table, gateway: &str) -> Vec<(i64, i64)> {
    let frames: Vec<GroupFrame> = table.take_frames(gateway);
    for frame in &frames {
        table.answer(gateway, &GroupAnswer { frame_id: frame.frame_id, ..Default::default() });
    }
    read(&frames)
}

fn ends(table: &Table) -> [u64; 3] {
    [RecipientOutcome::Delivered, RecipientOutcome::Noticed, RecipientOutcome::Conflated].map(|end| table.ended(end))
}

const ALL: u64 = MEMBERS as u64;

#[test]
fn a_burst_costs_a_gateway_one_notice_a_round_trip() {
    let mut table = table(NOTICES);
    kept(&mut table, 1);
    assert_eq!(serve(&mut table, "A"), [(10, 1)]);
    assert_eq!((ends(&table), table.settled.len()), ([0, ALL, 0], 1));
    for msg_id in 2..=50 {
        kept(&mut table, msg_id);
    }
    let first = serve(&mut table, "A");
    assert_eq!(first, [(20, 2)], "the others wait for its answer");
    assert_eq!(ends(&table), [0, 2 * ALL, 47 * ALL]);
    assert_eq!(serve(&mut table, "A"), [(500, 50)], "and the last one stands for them");
    assert_eq!((ends(&table), table.settled.len(), table.push.events_in_flight()), ([0, 3 * ALL, 47 * ALL], 50, 0));
    assert_eq!(table.push.activity().notices_conflated, 47);
    table.check();
}

#[test]
fn the_sequence_never_goes_backwards() {
    let mut table = table(NOTICES);
    for msg_id in [9, 3, 7, 8] {
        kept(&mut table, msg_id);
        assert_eq!(serve(&mut table, "A"), [(90, msg_id)]);
    }
}

#[test]
fn who_does_not_understand_notices_gets_all_in_full() {
    for protocols in [only(Protocol::Group), Protocols { notice: false, ..NOTICES }] {
        let mut table = table(protocols);
        for msg_id in 1..=20 {
            kept(&mut table, msg_id);
        }
        let got = serve(&mut table, "A");
        assert_eq!(got, (1..=20).map(|msg_id| (0, msg_id)).collect::<Vec<_>>());
        assert_eq!(ends(&table), [20 * ALL, 0, 0]);
        table.check();
    }
}

#[test]
fn a_gateway_that_announces_notices_no_more_gets_messages_in_full_at_once() {
    let mut table = table(NOTICES);
    kept(&mut table, 1);
    serve(&mut table, "A");
    table.list("A", Protocols { notice: false, ..NOTICES });
    table.fact("A", StreamFact::Closed(StreamEnd::Finished));
    for msg_id in 2..=4 {
        kept(&mut table, msg_id);
    }
    table.pass(20);
    let mut got = Vec::new();
    for _ in 0..4 {
        got.extend(serve(&mut table, "A"));
    }
    assert_eq!(got, [(0, 2), (0, 4)], "what was replaced before its answer told is read from the store");
    kept(&mut table, 5);
    kept(&mut table, 6);
    assert_eq!(serve(&mut table, "A"), [(0, 5), (0, 6)]);
    table.check();
}

#[test]
fn a_content_that_is_not_there_or_not_found_in_time_is_pushed_in_full() {
    let mut table = table(NOTICES);
    table.event(1);
    assert!(table.take_frames::<GroupFrame>("A").is_empty(), "not before it is known");
    table.find(Ok(false));
    assert_eq!(serve(&mut table, "A"), [(0, 1)]);
    table.event(2);
    table.pass(200);
    assert_eq!(serve(&mut table, "A"), [(0, 2)], "an eighth of the delivery timeout");
    table.find(Ok(true));
    kept(&mut table, 3);
    assert_eq!(serve(&mut table, "A"), [(30, 3)]);
    assert_eq!(table.push.activity().notices_without_content, 2);
    table.event(4);
    table.find(Err(LookupError::Unavailable("no answer in time".into())));
    table.pass(200);
    assert!(serve(&mut table, "A").contains(&(0, 4)), "the store is away");
    table.check();
}

#[test]
fn the_newest_is_sent_although_the_one_before_it_is_not_answered() {
    let mut table = table(NOTICES);
    kept(&mut table, 1);
    serve(&mut table, "A");
    for msg_id in 2..=5 {
        kept(&mut table, msg_id);
    }
    assert_eq!(read(&table.take_frames("A")), [(20, 2)]);
    table.pass(200);
    assert_eq!(read(&table.take_frames("A")), [(50, 5)], "an eighth of the delivery timeout, and no answer");
}

#[test]
fn what_is_pushed_in_full_goes_behind_what_waits() {
    let mut table = table(NOTICES);
    for msg_id in 1..=4 {
        kept(&mut table, msg_id);
        if msg_id == 1 {
            serve(&mut table, "A");
        }
    }
    // Without an id nobody finds it in the store: it is pushed in full.
    table.event(0);
    assert_eq!(serve(&mut table, "A"), [(20, 2), (40, 4), (0, 0)]);
    table.check();
}

#[test]
fn who_moves_gets_what_waited_for_the_gateway_he_left() {
    let mut table = table(NOTICES);
    for msg_id in 1..=3 {
        kept(&mut table, msg_id);
        if msg_id == 1 {
            serve(&mut table, "A");
        }
    }
    table.moves(&name(5), "B");
    kept(&mut table, 4);
    let frames: Vec<GroupFrame> = table.take_frames("A");
    assert_eq!(read(&frames), [(20, 2), (30, 3)], "what waited goes before he is held");
    for frame in &frames {
        table.answer("A", &GroupAnswer { frame_id: frame.frame_id, ..Default::default() });
    }
    assert_eq!(serve(&mut table, "A"), [(40, 4)]);
    assert_eq!(serve(&mut table, "B"), [(0, 4)]);
    table.check();
    assert_eq!(table.push.events_in_flight(), 0);
}

#[test]
fn the_sender_gets_the_notice_that_stands_for_what_others_sent() {
    let mut table = table(NOTICES);
    kept(&mut table, 1);
    serve(&mut table, "A");
    kept(&mut table, 2);
    kept(&mut table, 3);
    table.event_from(&name(0), 4);
    table.find(Ok(true));
    serve(&mut table, "A");
    let frames: Vec<GroupFrame> = table.take_frames("A");
    assert_eq!(read(&frames), [(40, 4)]);
    assert!(frames[0].pushes[0].except.is_empty(), "who sent 4 learns of 3");
    let failure = GroupFailure { push: 0, places: vec![0], error: "user not connected".into() };
    table.answer("A", &GroupAnswer { frame_id: frames[0].frame_id, failures: vec![failure], ..Default::default() });
    assert_eq!((ends(&table), table.ended(RecipientOutcome::SkippedSender)), ([0, 2 * ALL + ALL - 1, ALL], 1));
    table.check();
}
