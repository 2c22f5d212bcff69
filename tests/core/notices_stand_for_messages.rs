//! Promise: in a session of more than `gateway.notice_above` members a gateway that understands notices gets one in the place of a
//! message whose content is kept, at most one a round trip, and each member who stays learns of the highest sequence; whatever else
//! happens, messages are pushed in full.

use task_engine::model::limits::CONTENT_ASKS_IN_FLIGHT;
use task_engine::model::outcome::RecipientOutcome;
use task_engine::model::priority::{Priority, PriorityRules, Said};
use task_engine::model::proto::gateway::group_push::What;
use task_engine::model::proto::gateway::{GroupAnswer, GroupFailure, GroupFrame, PushBatchResponse, SessionNotice};
use task_engine::ports::{LookupError, Protocol, Protocols};
use task_engine::push::RecipientRules;
use task_engine::push::facts::{Input, StreamEnd, StreamFact};
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

/// The first message is answered, and four more wait behind the notice that stands for them.
fn burst() -> Table {
    let mut table = table(NOTICES);
    kept(&mut table, 1);
    serve(&mut table, "A");
    for msg_id in 2..=5 {
        kept(&mut table, msg_id);
    }
    table
}

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
    let mut table = burst();
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
fn the_few_who_are_left_at_a_gateway_get_each_message_in_full() {
    for left in [1, 2, 7] {
        let mut table = table(NOTICES);
        kept(&mut table, 1);
        assert_eq!(serve(&mut table, "A"), [(10, 1)], "it takes notices");
        (left..MEMBERS).for_each(|user| table.moves(&name(user), "B"));
        kept(&mut table, 2);
        while !(serve(&mut table, "A").is_empty() && serve(&mut table, "B").is_empty()) {}
        (3..=8).for_each(|msg_id| kept(&mut table, msg_id));
        let mut got = serve(&mut table, "A");
        while got.len() < 6 {
            let more = serve(&mut table, "A");
            assert!(!more.is_empty(), "{left} of them got {got:?} alone");
            got.extend(more);
        }
        assert_eq!(got, (3..=8).map(|msg_id| (0, msg_id)).collect::<Vec<_>>(), "{left}");
        table.check();
    }
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

/// Reads what is on a stream of protocol `batch`, and answers it: the users who got each message.
fn serve_batch(table: &mut Table) -> Vec<(i64, usize)> {
    let mut got: Vec<(i64, usize)> = Vec::new();
    for msg_id in table.pushed_ids("A") {
        match got.last_mut().filter(|(last, _)| *last == msg_id) {
            Some((_, users)) => *users += 1,
            None => got.push((msg_id, 1)),
        }
    }
    for batch_id in table.take_batches("A") {
        table.answer("A", &PushBatchResponse { batch_id, failures: Vec::new() });
    }
    got
}

#[test]
fn a_gateway_that_does_not_know_the_rpc_gets_all_in_full_by_the_next_one() {
    let mut table = table(NOTICES);
    kept(&mut table, 1);
    kept(&mut table, 2);
    table.fact("A", StreamFact::Closed(StreamEnd::Unimplemented));
    assert_eq!(table.links["A"].protocol, Protocol::Batch);
    assert_eq!(serve_batch(&mut table), [(1, MEMBERS), (2, MEMBERS)]);
    for msg_id in 3..=5 {
        kept(&mut table, msg_id);
    }
    assert_eq!(serve_batch(&mut table), [(3, MEMBERS), (4, MEMBERS), (5, MEMBERS)], "nothing waits for an answer");
    assert_eq!((ends(&table), table.push.events_in_flight()), ([5 * ALL, 0, 0], 0));
    table.check();
}

/// It answered notices, and its successor under the same id does not know them: what was replaced until then is read from the store.
#[test]
fn an_older_gateway_under_the_same_id_gets_what_waited_in_full() {
    let mut table = burst();
    table.fact("A", StreamFact::Closed(StreamEnd::Unimplemented));
    assert_eq!(serve_batch(&mut table), [(2, MEMBERS)]);
    assert_eq!(serve_batch(&mut table), [(5, MEMBERS)]);
    assert_eq!((ends(&table), table.push.events_in_flight()), ([2 * ALL, ALL, 2 * ALL], 0));
    table.check();
}

#[test]
fn a_cut_stream_loses_neither_the_notice_on_it_nor_the_one_that_waits() {
    for end in
        [StreamEnd::Broken("reset".into()), StreamEnd::NotOpened("refused".into()), StreamEnd::Unheard("reset".into())]
    {
        let mut table = table(NOTICES);
        kept(&mut table, 1);
        serve(&mut table, "A");
        for msg_id in 2..=5 {
            kept(&mut table, msg_id);
        }
        assert_eq!(read(&table.take_frames("A")), [(20, 2)]);
        table.fact("A", StreamFact::Closed(end));
        let mut got = Vec::new();
        for _ in 0..40 {
            got.extend(serve(&mut table, "A"));
            table.pass(20);
        }
        assert_eq!(got, [(20, 2), (50, 5)]);
        assert_eq!((ends(&table), table.push.events_in_flight()), ([0, 3 * ALL, 2 * ALL], 0));
        table.check();
    }
}

#[test]
fn whoever_a_gateway_refuses_is_looked_for_again_or_reads_the_content() {
    for (error, in_full, readable) in [("user not connected", 1, 0), ("write tcp: broken pipe", 0, 1)] {
        let mut table = table(NOTICES);
        kept(&mut table, 1);
        serve(&mut table, "A");
        // Nobody has said so yet.
        table.routes.insert(name(3), "B".to_owned());
        kept(&mut table, 2);
        let frames: Vec<GroupFrame> = table.take_frames("A");
        assert_eq!(read(&frames), [(20, 2)]);
        let failure = GroupFailure { push: 0, places: vec![3], error: error.into() };
        table.answer("A", &GroupAnswer { frame_id: frames[0].frame_id, failures: vec![failure], ..Default::default() });
        assert_eq!(serve(&mut table, "B"), [(0, 2)][..in_full]);
        assert_eq!(ends(&table), [in_full as u64, 2 * ALL - 1, 0]);
        assert_eq!(table.ended(RecipientOutcome::Readable), readable);
        assert_eq!(table.push.events_in_flight(), 0);
        table.check();
    }
}

/// Each part of the timeout one notice more, and then nobody waits for it any longer.
#[test]
fn a_gateway_that_does_not_answer_holds_a_bounded_number_of_notices() {
    let mut table = table(NOTICES);
    kept(&mut table, 1);
    serve(&mut table, "A");
    let mut written = 0;
    for msg_id in 2..=200 {
        kept(&mut table, msg_id);
        table.pass(20);
        written += read(&table.take_frames("A")).len();
    }
    // Its first deadline was 200 × 20 ms ago; streams that do not answer are opened again, and it takes notices no more.
    assert!(written < 199 / 2, "{written} notices of 199 messages");
    table.pass(20_000);
    assert_eq!(table.push.events_in_flight(), 0);
    let [delivered, noticed, conflated] = ends(&table);
    let readable = table.ended(RecipientOutcome::Readable);
    assert_eq!((delivered, noticed), (0, ALL));
    assert_eq!(conflated + readable, 199 * ALL, "each learns of the newest by its content");
    table.check();
}

/// Nobody is at the first one any more, its place goes to the next that comes, and that has answered nothing.
#[test]
fn a_gateway_in_the_place_of_a_forgotten_one_gets_all_in_full() {
    let mut table = table(NOTICES);
    kept(&mut table, 1);
    serve(&mut table, "A");
    table.fact("A", StreamFact::Closed(StreamEnd::Finished));
    table.unlist("A");
    table.routes.clear();
    (0..MEMBERS).for_each(|user| table.push.take(Input::RouteChanged(name(user).into())));
    table.pass(400_000);
    assert_eq!(table.push.activity().gateways_forgotten, 1);
    table.list("C", only(Protocol::Group));
    (0..MEMBERS).for_each(|user| table.moves(&name(user), "C"));
    for msg_id in 2..=5 {
        kept(&mut table, msg_id);
    }
    assert_eq!(serve(&mut table, "C"), [(0, 2), (0, 3), (0, 4), (0, 5)], "nothing waits for an answer");
    assert_eq!(ends(&table), [4 * ALL, ALL, 0]);
    table.check();
}

#[test]
fn the_contents_that_an_urgent_message_waits_for_are_looked_for_first() {
    let rules = RecipientRules { rows_up_to: 2, notice_above: 4, ..RecipientRules::default() };
    let classes = PriorityRules { header: "Priority".into(), ..PriorityRules::default() };
    let mut table = Table::with_priorities(classes, usize::MAX, InboxStore::Offline, 16 * 1024);
    table.push = table.push.with_recipient_rules(rules);
    table.members = (0..MEMBERS).map(name).collect();
    table.routes.extend((0..MEMBERS).map(|user| (name(user), "A".to_owned())));
    table.list("A", NOTICES);
    for session in 0..CONTENT_ASKS_IN_FLIGHT + 9 {
        table.arrive_as(&format!("s{session}"), 1, Said::Nothing);
    }
    table.arrive_as("calls", 1, Said::Nothing);
    table.run();
    table.arrive_as("calls", 2, Said::Class(Priority::Urgent));
    table.run();
    assert_eq!(table.contents.len(), CONTENT_ASKS_IN_FLIGHT);
    table.find(Ok(true));
    let last = table.contents.back().map(|(_, message)| message.session.to_string());
    assert_eq!(last.as_deref(), Some("calls"), "it goes before the nine");
}
