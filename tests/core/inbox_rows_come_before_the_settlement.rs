//! Whoever could not be reached has a committed row in the inbox, or a dead letter, before the event is settled; and the
//! session's later events do not wait for that.

use prost::Message;
use task_engine::model::limits::{RETIRED_LISTS_MAX, STORE_ASKS_IN_FLIGHT};
use task_engine::model::outcome::RecipientOutcome;
use task_engine::model::proto::event::PushEvent;
use task_engine::model::proto::gateway::PushMessageResponse;
use task_engine::ports::{Disposition, LookupError, Protocols};
use task_engine::push::inbox::InboxStore;
use testkit::table::Table;

fn ok(msg_id: i64) -> PushMessageResponse {
    PushMessageResponse { msg_id, seq_id: 0, error: String::new() }
}

fn away() -> LookupError {
    LookupError::Unavailable("away".into())
}

fn no() -> LookupError {
    LookupError::Rejected("no".into())
}

/// ann is at A, bob is offline.
fn table(inbox: InboxStore) -> Table {
    let mut table = Table::with_inbox(&["ann", "bob"], &[("ann", "A")], inbox);
    table.list("A", Protocols::STREAM);
    table
}

fn users(rows: &task_engine::ports::InboxRows) -> Vec<String> {
    let mut users = rows.users.iter().map(str::to_owned).collect::<Vec<_>>();
    users.sort_unstable();
    users
}

#[test]
fn who_gets_a_row_is_as_configured() {
    for (inbox, sender, expected) in [
        (InboxStore::Off, "system", vec![]),
        (InboxStore::Offline, "system", vec!["bob"]),
        (InboxStore::Offline, "bob", vec![]),
        (InboxStore::All, "system", vec!["ann", "bob"]),
        (InboxStore::All, "ann", vec!["bob"]),
        (InboxStore::All, "bob", vec!["ann"]),
    ] {
        let mut table = table(inbox);
        table.event_from(sender, 7);
        if sender != "ann" {
            assert!(table.stores.is_empty(), "{inbox:?} {sender}: ann has no answer yet");
            table.answer("A", &ok(7));
        }
        table.check();
        if expected.is_empty() {
            assert!(table.stores.is_empty(), "{inbox:?} {sender}");
        } else {
            assert_eq!((table.stores.len(), table.settled.len()), (1, 0), "{inbox:?} {sender}");
            let rows = table.store(Ok(&[]));
            assert_eq!(
                (users(&rows), &*rows.session, rows.msg_id, rows.seq_id),
                (expected.iter().map(|name| (*name).to_owned()).collect(), "s", 7, 70)
            );
        }
        table.check();
        assert_eq!(table.settled_as, [(0, Disposition::Ack)], "{inbox:?} {sender}");
        let stored = u64::from(expected.contains(&"bob"));
        assert_eq!(
            table.ended(RecipientOutcome::Stored),
            stored,
            "{inbox:?} {sender}: delivered ones end as delivered"
        );
        let offline = u64::from(sender != "bob");
        assert_eq!(table.push.counts().unreached_by[RecipientOutcome::Offline as usize], offline, "{inbox:?} {sender}");
    }
}

#[test]
fn every_way_of_not_being_reached_is_stored_and_counted() {
    let refused = |error: &str| PushMessageResponse { error: error.into(), ..ok(1) };
    for (why, routes, answer) in [
        (RecipientOutcome::Offline, vec![], None),
        (RecipientOutcome::NotConnected, vec![("ann", "A")], Some(refused("user not connected"))),
        (RecipientOutcome::Refused, vec![("ann", "A")], Some(refused("broken pipe"))),
        (RecipientOutcome::TimedOut, vec![("ann", "A")], None),
        (RecipientOutcome::TimedOut, vec![("ann", "unknown")], None),
    ] {
        let mut table = Table::with_inbox(&["ann"], &routes, InboxStore::Offline);
        table.list("A", Protocols::STREAM);
        table.event(1);
        answer.iter().for_each(|answer| table.answer("A", answer));
        table.pass(1_040);
        assert_eq!((table.stores.len(), table.settled.len(), table.push.recipients_in_flight()), (1, 0, 1), "{why:?}");
        table.store(Ok(&[]));
        table.check();
        assert_eq!(
            (table.ended(RecipientOutcome::Stored), table.ended(why), table.settled.len()),
            (1, 0, 1),
            "{why:?}"
        );
        assert_eq!(table.push.counts().unreached_by[why as usize], 1, "{why:?}");
    }
}

#[test]
fn later_events_of_the_session_do_not_wait_for_a_store() {
    let mut table = table(InboxStore::Offline);
    for msg_id in 1..=3 {
        table.event(msg_id);
        table.answer("A", &ok(msg_id));
    }
    assert_eq!((table.pushed_ids("A"), table.stores.len(), table.settled.len()), (vec![1, 2, 3], 3, 0));
    let last = table.stores.pop_back().expect("three");
    table.stores.push_front(last);
    assert_eq!(table.store(Ok(&[])).msg_id, 3);
    assert_eq!(table.settled, [2], "each for itself");
}

#[test]
fn an_inbox_that_is_away_costs_time_and_no_tries() {
    let mut table = table(InboxStore::Offline);
    table.event_from("ann", 1);
    for _ in 0..10 {
        table.store(Err(away()));
        assert!(table.stores.is_empty(), "not at once");
        table.pass(1_020);
        assert_eq!((table.stores.len(), table.settled.len()), (1, 0));
    }
    table.store(Ok(&[]));
    assert_eq!((table.settled_as.clone(), table.ended(RecipientOutcome::Stored)), (vec![(0, Disposition::Ack)], 1));
    table.check();
}

/// The store answers for the rows it is asked for, all of them refused that name one of these; until nothing is asked for
/// any more, and nothing comes for a while. Probes are answered.
fn serve(table: &mut Table, bad: &[&str]) -> usize {
    let mut asks = 0;
    for _ in 0..200 {
        table.pass(20);
        while !table.probes.is_empty() {
            table.probe(Ok(()));
        }
        while let Some((_, rows)) = table.stores.front() {
            let is_bad = rows.users.iter().any(|user| bad.contains(&user));
            table.store(if is_bad { Err(no()) } else { Ok(&[]) });
            asks += 1;
        }
    }
    asks
}

#[test]
fn an_inbox_that_refuses_everything_is_away_and_no_letter_is_published() {
    for (probe, error) in [(Err(away()), no()), (Err(no()), no()), (Err(no()), away())] {
        let mut table = Table::with_inbox(&["ann", "bob", "cat"], &[], InboxStore::Offline);
        for msg_id in 1..=20 {
            table.event(msg_id);
        }
        for _ in 0..500 {
            table.pass(20);
            while !table.stores.is_empty() {
                table.store(Err(error.clone()));
            }
            while !table.probes.is_empty() {
                table.probe(probe.clone());
            }
        }
        assert_eq!((table.letters.len(), table.settled.len(), table.push.events_in_flight()), (0, 0, 20));
        let asks = table.push.activity().store_asks;
        assert!((30..=40).contains(&asks), "one a second once it is known to be away: {asks}");
        serve(&mut table, &[]);
        assert_eq!((table.ended(RecipientOutcome::Stored), table.settled.len()), (60, 20));
        table.check();
    }
}

#[test]
fn one_bad_member_has_a_letter_and_all_others_have_their_rows() {
    for (inbox, is_kept) in [(InboxStore::Offline, true), (InboxStore::Offline, false), (InboxStore::All, true)] {
        let members = (0..500).map(|user| format!("u{user}")).collect::<Vec<_>>();
        let members = members.iter().map(String::as_str).collect::<Vec<_>>();
        let mut table = Table::with_inbox(&members, &[("u7", "A")], inbox);
        table.list("A", Protocols::STREAM);
        table.event(1);
        table.answer("A", &ok(1));
        let bad = if inbox == InboxStore::All { ["u7"] } else { ["u77"] };
        let asks = serve(&mut table, &bad);
        assert!(asks < 60, "{asks}");
        assert_eq!((table.letters.len(), table.settled.len(), table.push.events_in_flight()), (1, 0, 1));
        let letter = if is_kept { table.publish_letter(Ok(())) } else { lose(&mut table) };
        let of_store = format!("{}; session s: no", if bad == ["u7"] { "delivered" } else { "offline" });
        assert_eq!((letter.reason, letter.recipient.as_deref(), letter.tries), ("inbox_rejected", Some(bad[0]), 3));
        assert_eq!(letter.detail, of_store);
        let rejected = u64::from(bad != ["u7"]);
        let end = if is_kept { RecipientOutcome::InboxRejected } else { RecipientOutcome::DeadLetterLost };
        let stored = 499 - rejected;
        assert_eq!((table.ended(end), table.ended(RecipientOutcome::Stored)), (rejected, stored), "{inbox:?}");
        let its = table.settled_as.iter().filter(|(tag, _)| *tag == 0).collect::<Vec<_>>();
        assert_eq!((its, table.ended(RecipientOutcome::Delivered)), (vec![&(0, Disposition::Ack)], 1));
        assert_eq!(table.push.activity().letters_lost, u64::from(!is_kept));
        table.check();
    }
}

/// The dead letters refuse this one letter, and take others meanwhile.
fn lose(table: &mut Table) -> task_engine::ports::DeadLetter {
    loop {
        let letter = table.publish_letter(Err(no()));
        if table.push.activity().letters_lost > 0 {
            return letter;
        }
        // Another one is taken before it comes again.
        table.payload(bytes::Bytes::from_static(b"\xff\xff"));
        for _ in 0..1_000 {
            if table.letters.len() == 2 {
                break;
            }
            table.pass(20);
        }
        let of_another = table.letters.iter().position(|(_, _, letter)| letter.recipient.is_none());
        let other = table.letters.remove(of_another.expect("it is asked for")).expect("just seen");
        table.letters.push_front(other);
        table.publish_letter(Ok(()));
    }
}

#[test]
fn a_row_that_is_locked_for_a_minute_holds_nobody_and_is_no_letter() {
    let mut table = Table::with_inbox(&["ann", "bob", "cat", "dan"], &[], InboxStore::Offline);
    table.event(1);
    let mut good = 0;
    while good < 3 {
        table.pass(20);
        (0..table.probes.len()).for_each(|_| table.probe(Ok(())));
        if let Some((_, rows)) = table.stores.front() {
            let is_locked = rows.users.iter().any(|user| user == "bob");
            good += if is_locked { 0 } else { rows.users.len() };
            table.store(if is_locked { Err(away()) } else { Ok(&[]) });
        }
        assert!(table.now.0 < 2_000_000_000, "the others wait");
    }
    assert_eq!(table.ended(RecipientOutcome::Stored), 3);
    serve(&mut table, &[]);
    assert_eq!((table.ended(RecipientOutcome::Stored), table.letters.len(), table.settled.len()), (4, 0, 1));
    table.check();
}

#[test]
fn conflicts_are_told_by_piece() {
    let mut table = Table::with_inbox(&["ann", "bob", "cat", "dan"], &[], InboxStore::Offline);
    table.event(1);
    for _ in 0..400 {
        table.pass(20);
        (0..table.probes.len()).for_each(|_| table.probe(Ok(())));
        if let Some((_, rows)) = table.stores.front() {
            let names = users(rows);
            let is_bad = names.iter().any(|user| user == "bob");
            let held = names.iter().any(|user| user == "dan");
            table.store(if is_bad { Err(no()) } else { Ok(if held { &["dan"] } else { &[] }) });
        }
    }
    let mut letters = [table.publish_letter(Ok(())), table.publish_letter(Ok(()))];
    letters.sort_by_key(|letter| letter.reason);
    let told = letters.iter().map(|letter| (letter.reason, letter.recipient.as_deref())).collect::<Vec<_>>();
    assert_eq!(told, [("inbox_conflict", Some("dan")), ("inbox_rejected", Some("bob"))]);
    assert_eq!((table.ended(RecipientOutcome::Stored), table.settled_as.clone()), (2, vec![(0, Disposition::Ack)]));
    table.check();
}

#[test]
fn who_has_another_message_in_its_place_becomes_a_dead_letter() {
    for (inbox, conflicts) in
        [(InboxStore::Offline, vec!["bob"]), (InboxStore::All, vec!["ann"]), (InboxStore::All, vec!["bob", "ann"])]
    {
        let mut table = table(inbox);
        table.event(1);
        table.answer("A", &ok(1));
        table.store(Ok(&conflicts));
        let mut named = Vec::new();
        for left in (0..conflicts.len()).rev() {
            assert!(table.settled.is_empty(), "{conflicts:?}: settled only after all letters are kept");
            table.publish_letter(Err(away()));
            table.pass(220);
            let letter = table.publish_letter(Ok(()));
            assert_eq!((letter.reason, letter.tries), ("inbox_conflict", 1));
            named.push(letter.recipient.expect("it is about someone"));
            assert_eq!(table.settled.len(), usize::from(left == 0));
        }
        named.sort_unstable();
        let mut expected = conflicts.clone();
        expected.sort_unstable();
        assert_eq!(named.iter().map(|name| &**name).collect::<Vec<_>>(), expected);
        let of_bob = u64::from(conflicts.contains(&"bob"));
        assert_eq!(
            (table.ended(RecipientOutcome::InboxConflict), table.ended(RecipientOutcome::Delivered)),
            (of_bob, 1)
        );
        assert_eq!(table.ended(RecipientOutcome::Stored), 1 - of_bob);
        assert_eq!(table.settled_as, [(0, Disposition::Ack)]);
        table.check();
    }
}

#[test]
fn an_answer_about_someone_who_was_not_asked_for_is_a_refusal() {
    for stranger in ["zoe", "ann"] {
        let mut table = table(InboxStore::Offline);
        table.event_from("ann", 1);
        table.store(Ok(&[stranger]));
        assert_eq!((table.settled.len(), table.letters.len()), (0, 0), "{stranger}");
        table.pass(220);
        table.store(Ok(&[]));
        assert_eq!(table.settled, [0], "{stranger}");
    }
}

#[test]
fn asks_under_way_are_bounded_and_all_come_to_their_turn() {
    let mut table = Table::with_inbox(&["bob"], &[], InboxStore::Offline);
    let events = STORE_ASKS_IN_FLIGHT as i64 + 100;
    (0..events).for_each(|msg_id| {
        table.event(msg_id);
    });
    assert_eq!((table.stores.len(), table.push.events_in_flight() as i64), (STORE_ASKS_IN_FLIGHT, events));
    while !table.stores.is_empty() {
        table.store(Ok(&[]));
        assert!(table.stores.len() <= STORE_ASKS_IN_FLIGHT);
    }
    assert_eq!((table.settled.len() as i64, table.push.events_in_flight()), (events, 0));
    table.check();
}

#[test]
fn who_left_the_session_meanwhile_is_still_named_rightly() {
    let mut table = Table::with_inbox(&["bob", "cat"], &[], InboxStore::Offline);
    table.event(1);
    table.store(Err(away()));
    table.members = vec!["dan".into()];
    table.probe(Ok(()));
    table.pass(120);
    table.event(2);
    table.pass(120);
    let rows = [table.store(Ok(&[])), table.store(Ok(&[]))];
    let by_event = |msg_id| users(rows.iter().find(|rows| rows.msg_id == msg_id).expect("a row"));
    assert_eq!((by_event(1), by_event(2)), (vec!["bob".to_owned(), "cat".to_owned()], vec!["dan".to_owned()]));
    assert_eq!(table.push.kept().1, 1, "and forgotten after that");
}

/// As `task-engine dlq replay` publishes it.
fn replay_for(msg_id: i64, users: &[&str]) -> bytes::Bytes {
    let event = PushEvent {
        msg_id,
        seq_id: msg_id * 10,
        session_id: "s".into(),
        from_username: "system".into(),
        content: "hello".into(),
        only_usernames: users.iter().map(|user| (*user).to_owned()).collect(),
        ..PushEvent::default()
    };
    bytes::Bytes::from(event.encode_to_vec())
}

#[test]
fn a_replay_for_one_is_pushed_and_stored_for_nobody_else() {
    for inbox in [InboxStore::Offline, InboxStore::All] {
        let mut table = Table::with_inbox(&["ann", "bob", "cat"], &[("ann", "A"), ("cat", "A")], inbox);
        table.list("A", Protocols::STREAM);
        table.event(1);
        table.answer("A", &ok(1));
        table.answer("A", &ok(1));
        table.store(Ok(&[]));
        assert_eq!((table.pushed("A").len(), table.settled.len()), (2, 1));
        for (user, is_there) in [("bob", false), ("cat", true), ("zoe", false), ("system", false), ("bob", false)] {
            let before = table.push.counts().recipients_arrived;
            let tag = table.payload(replay_for(1, &[user, user]));
            let pushed = table.pushed("A").into_iter().map(|(user, _)| user).collect::<Vec<_>>();
            assert_eq!(pushed, if is_there { vec![user.to_owned()] } else { Vec::new() }, "{inbox:?} {user}");
            if is_there {
                table.answer("A", &ok(1));
            }
            let is_member = matches!(user, "bob" | "cat");
            if is_member && (!is_there || inbox == InboxStore::All) {
                assert_eq!(users(&table.store(Ok(&[]))), [user], "{inbox:?}");
            }
            assert!(table.stores.is_empty() && table.settled.contains(&tag), "{inbox:?} {user}");
            assert_eq!(table.push.counts().recipients_arrived - before, u64::from(is_member));
            table.check();
        }
        let repeat = table.event(1);
        assert!(table.settled.contains(&repeat) && table.pushed("A").is_empty(), "the original is still known");
        table.payload(replay_for(2, &["bob"]));
        table.store(Ok(&[]));
        table.event(2);
        assert_eq!(table.pushed("A").len(), 2, "and a replay makes nothing a repeat");
    }
}

#[test]
fn a_replay_for_one_keeps_that_ones_order() {
    let mut table = Table::with_inbox(&["ann", "cat"], &[("ann", "A"), ("cat", "A")], InboxStore::Offline);
    table.list("A", Protocols::STREAM);
    table.event(1);
    table.payload(replay_for(9, &["cat"]));
    table.event(2);
    let mut got = Vec::new();
    for _ in 0..20 {
        let pushed = table.pushed("A");
        if pushed.is_empty() {
            break;
        }
        let ids = pushed.iter().map(|(_, msg_id)| *msg_id).collect::<Vec<_>>();
        got.extend(pushed);
        ids.iter().for_each(|msg_id| table.answer("A", &ok(*msg_id)));
    }
    let of = |user: &str| got.iter().filter(|(of, _)| of == user).map(|(_, id)| *id).collect::<Vec<_>>();
    assert_eq!((of("ann"), of("cat")), (vec![1, 2], vec![1, 9, 2]));
    assert_eq!(table.settled.len(), 3);
    table.check();
}

#[test]
fn a_session_whose_list_changes_all_the_time_keeps_few_old_lists() {
    let mut table = Table::with_inbox(&["u0"], &[], InboxStore::Offline);
    let events = RETIRED_LISTS_MAX as i64 + 20;
    for msg_id in 0..events {
        table.members = vec![format!("u{msg_id}")];
        table.event(msg_id);
        table.pass(120);
    }
    assert_eq!(table.stores.len(), RETIRED_LISTS_MAX, "the rest waits until none is in flight");
    assert_eq!((table.push.kept().1, table.push.events_in_flight() as i64), (RETIRED_LISTS_MAX + 1, events));
    let mut stored = Vec::new();
    while !table.stores.is_empty() {
        stored.push(table.store(Ok(&[])).msg_id);
    }
    assert_eq!((stored, table.push.events_in_flight()), ((0..events).collect(), 0));
    assert_eq!(table.push.kept().1, 1);
    table.check();
}
