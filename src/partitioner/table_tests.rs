//! Single promises, one step after the other.

use std::collections::HashSet;
use std::time::Duration;

use prost::Message as _;

use super::*;
use crate::model::proto::event::PushEvent;

const MS: u64 = 1_000_000;

fn event(session: &str, msg_id: i64) -> Vec<u8> {
    PushEvent { msg_id, session_id: session.to_owned(), ..PushEvent::default() }.encode_to_vec()
}

const OPENED: Opened = Opened {
    created: String::new(),
    message_bytes_max: 0,
    first: 0,
    floor: 0,
    delivered: 0,
    newest: 0,
    last: 0,
    look_is_good_for: Duration::from_secs(100),
};

fn partitioner() -> Partitioner {
    let settings = Settings {
        partitions: 8,
        max_retry: 2,
        retry_interval: Duration::from_secs(1),
        answer_within: Duration::from_secs(5),
    };
    let mut partitioner = Partitioner::new(settings);
    let opened = Opened { created: "2026".into(), message_bytes_max: 1000, first: 1, ..OPENED };
    partitioner.opened(opened);
    partitioner.read_back_done(Nanos(0));
    partitioner
}

fn take(partitioner: &mut Partitioner, seq: u64, payload: Vec<u8>) {
    take_with(partitioner, seq, payload, Carried::default());
}

fn take_with(partitioner: &mut Partitioner, seq: u64, payload: Vec<u8>, carried: Carried) {
    partitioner.take(Arrived { key: seq, seq, payload: payload.into(), carried });
}

fn publish(partitioner: &mut Partitioner, at: u64) -> Option<(Ticket, String)> {
    let publish = partitioner.next_publish(Nanos(at * MS))?;
    Some((publish.ticket, String::from_utf8_lossy(publish.head).into_owned()))
}

fn tickets(partitioner: &mut Partitioner, at: u64) -> Vec<Ticket> {
    std::iter::from_fn(|| publish(partitioner, at)).map(|(ticket, _)| ticket).collect()
}

fn stored(partitioner: &mut Partitioner, ticket: Ticket, seq: u64, at: u64) {
    partitioner.hear(ticket, &Answer::Stored { seq, is_copy: false }, Nanos(at * MS));
}

fn refused(partitioner: &mut Partitioner, ticket: Ticket, at: u64) {
    partitioner.hear(ticket, &Answer::Refused("no"), Nanos(at * MS));
}

fn ends(partitioner: &mut Partitioner) -> Vec<(u64, Disposition)> {
    let mut ends = Vec::new();
    partitioner.take_ends(&mut ends);
    ends
}

/// Sessions of so many slots, no two of one.
fn sessions(count: usize) -> Vec<String> {
    let mut slots = HashSet::new();
    let all = (0..).map(|number| format!("s{number}"));
    all.filter(|session| slots.insert(slot_of_session(fnv1a32(session.as_bytes()), 0))).take(count).collect()
}

#[test]
fn one_of_a_session_is_under_way_and_many_of_others() {
    let mut all = partitioner();
    let names = sessions(2);
    for seq in 1..=3 {
        take(&mut all, seq, event(&names[0], seq as i64));
    }
    take(&mut all, 4, event(&names[1], 4));
    let first = tickets(&mut all, 0);
    assert_eq!(first.iter().map(|ticket| ticket.seq).collect::<Vec<_>>(), [1, 4]);
    stored(&mut all, first[0], 1, 1);
    assert_eq!(ends(&mut all), [(1, Disposition::Ack)]);
    assert_eq!(tickets(&mut all, 1).iter().map(|ticket| ticket.seq).collect::<Vec<_>>(), [2]);
    assert_eq!((all.waiting(), all.under_way(), all.counts().moved), (3, 2, 1));
}

#[test]
fn copies_are_published_once_and_what_has_no_id_is_no_copy() {
    let mut all = partitioner();
    let replay = |name: &[u8]| {
        let mut carried = Carried::default();
        carried.add(name, b"1");
        carried
    };
    take(&mut all, 1, event("s", 7));
    take(&mut all, 2, event("s", 7));
    take(&mut all, 3, event("s", 0));
    take(&mut all, 4, event("s", 0));
    take_with(&mut all, 5, event("s", 7), replay(b"task-engine-replay"));
    let for_one =
        PushEvent { msg_id: 9, session_id: "s".into(), only_usernames: vec!["u".into()], ..PushEvent::default() };
    take(&mut all, 6, for_one.encode_to_vec());
    take(&mut all, 7, for_one.encode_to_vec());
    let (mut seqs, mut ids) = (Vec::new(), HashSet::new());
    while let Some((ticket, head)) = publish(&mut all, 0) {
        seqs.push(ticket.seq);
        assert!(head.contains(&format!("\r\nTask-Engine-In: {}\r\n", ticket.seq)), "{head}");
        let id = head.lines().nth(1).expect("an id").to_owned();
        assert_eq!(id.len() == "Nats-Msg-Id: ".len() + 32, ticket.seq == 1, "{id}");
        assert!(ticket.seq == 1 || id == format!("Nats-Msg-Id: in-2026-{}", ticket.seq), "{id}");
        ids.insert(id);
        stored(&mut all, ticket, ticket.seq, 0);
    }
    assert_eq!((seqs.as_slice(), ids.len()), (&[1, 3, 4, 5, 6, 7][..], 6));
    assert_eq!((all.counts().moved, all.counts().copies), (6, 1));
    assert_eq!(ends(&mut all).len(), 7);
}

#[test]
fn a_copy_that_the_stream_knows_is_one_and_an_own_second_try_is_not() {
    let mut all = partitioner();
    take(&mut all, 1, event("s", 1));
    let ticket = tickets(&mut all, 0)[0];
    all.hear(ticket, &Answer::Stored { seq: 5, is_copy: true }, Nanos(0));
    take(&mut all, 2, event("s", 2));
    tickets(&mut all, 0);
    all.lost();
    all.opened(Opened { created: "2026".into(), message_bytes_max: 1000, first: 1, delivered: 2, ..OPENED });
    assert_eq!(tickets(&mut all, 1), [], "what is in doubt is looked for first");
    all.read_back_begins();
    all.read_back_done(Nanos(0));
    let again = tickets(&mut all, 1)[0];
    assert_eq!((again.seq, again.attempt), (2, 2));
    all.hear(again, &Answer::Stored { seq: 6, is_copy: true }, Nanos(MS));
    assert_eq!((all.counts().moved, all.counts().copies), (1, 1));
}

#[test]
fn what_is_found_where_it_would_be_is_not_published_again() {
    let mut all = partitioner();
    take(&mut all, 1, event("s", 0));
    take(&mut all, 2, event("t", 2));
    let (_, head) = publish(&mut all, 0).expect("there is one");
    tickets(&mut all, 0);
    all.lost();
    assert_eq!(all.reads_back_behind(), Some(0));
    all.read_back_begins();
    let id = head.lines().nth(1).and_then(|line| line.strip_prefix("Nats-Msg-Id: ")).expect("an id");
    all.read_back(1, id.as_bytes());
    // Of another input stream, of somebody else, and of another event.
    for foreign in [&b"in-2025-2"[..], b"replay-2", b"", &[b'0'; 32]] {
        all.read_back(2, foreign);
    }
    all.read_back_done(Nanos(0));
    assert_eq!(ends(&mut all), [(1, Disposition::Ack)]);
    assert_eq!(tickets(&mut all, 1).iter().map(|ticket| (ticket.seq, ticket.attempt)).collect::<Vec<_>>(), [(2, 2)]);
    // A takeover finds what its predecessor moved before the events come.
    all.read_back_begins();
    all.read_back(3, b"in-2026-3");
    all.read_back_done(Nanos(0));
    take(&mut all, 3, event("u", 0));
    assert_eq!((tickets(&mut all, 1), ends(&mut all)), (vec![], vec![(3, Disposition::Ack)]));
}

#[test]
fn what_was_looked_for_long_ago_is_looked_for_again() {
    let mut all = partitioner();
    let names = sessions(3);
    take(&mut all, 1, event(&names[0], 1));
    let ticket = tickets(&mut all, 0)[0];
    stored(&mut all, ticket, 7, 0);
    // A link that breaks, and a stream that then takes nothing for long.
    take(&mut all, 2, event(&names[1], 2));
    tickets(&mut all, 0);
    all.lost();
    assert_eq!(all.reads_back_behind(), Some(7));
    all.read_back_begins();
    all.read_back_done(Nanos(0));
    let again = tickets(&mut all, 1)[0];
    refused(&mut all, again, 2);
    assert_eq!((tickets(&mut all, 100_001), all.is_stale()), (vec![], true));
    all.lost();
    assert_eq!(all.reads_back_behind(), Some(7));
    all.read_back_begins();
    all.read_back_done(Nanos(100_002 * MS));
    assert_eq!((tickets(&mut all, 100_003).len(), all.is_stale()), (1, false));
    // What a predecessor had out may come from it still.
    all.opened(Opened { created: "2026".into(), message_bytes_max: 1000, newest: 9, last: 50, ..OPENED });
    all.took_over();
    all.read_back_done(Nanos(200_000 * MS));
    take(&mut all, 10, event(&names[2], 10));
    assert_eq!(tickets(&mut all, 400_000).len(), 1, "nobody had it");
    take(&mut all, 9, event("late", 9));
    assert_eq!((tickets(&mut all, 400_000), all.is_stale()), (vec![], true));
    all.lost();
    assert_eq!(all.reads_back_behind(), Some(7), "the one from before, and 50 of this one");
}

#[test]
fn what_has_no_partition_is_a_letter_and_ends_when_that_is_kept() {
    let mut all = partitioner();
    take(&mut all, 1, b"\xff\xff".to_vec());
    take(&mut all, 2, event("", 2));
    take(&mut all, 3, event("s", 3));
    assert_eq!(tickets(&mut all, 0).len(), 1);
    let letters: Vec<Letter> = std::iter::from_fn(|| all.next_letter(Nanos(0))).collect();
    assert_eq!(letters.iter().map(|letter| letter.seq).collect::<Vec<_>>(), [1, 2]);
    assert!(letters.iter().all(|letter| letter.reason == NotMoved::Unpartitionable));
    all.lettered(letters[0].ask, true, Nanos(0));
    all.lettered(letters[1].ask, false, Nanos(0));
    assert_eq!((ends(&mut all), all.next_letter(Nanos(0))), (vec![(1, Disposition::Term)], None));
    let again = all.next_letter(Nanos(1000 * MS)).expect("tried again");
    all.lettered(again.ask, true, Nanos(1000 * MS));
    assert_eq!((ends(&mut all), all.counts().letters), (vec![(2, Disposition::Term)], 2));
}

#[test]
fn no_header_that_servers_act_on_goes_along_and_none_that_is_ours() {
    let mut carried = Carried::default();
    for name in ["Nats-Rollup", "nats-ttl", "NATS-EXPECTED-STREAM", "Nats-Msg-Id", "task-engine-in", "a\r\nb", ""] {
        carried.add(name.as_bytes(), b"all");
    }
    carried.add(b"Trace", b"a\r\nNats-Rollup: all");
    assert!(carried.is_empty());
    carried.add(b"Trace", b"a: \xff");
    let mut all = partitioner();
    take_with(&mut all, 1, event("s", 0), carried);
    let (_, head) = publish(&mut all, 0).expect("there is one");
    assert_eq!(head, "NATS/1.0\r\nNats-Msg-Id: in-2026-1\r\nTask-Engine-In: 1\r\nTrace: a: \u{fffd}\r\n\r\n");
}

#[test]
fn what_is_too_large_goes_without_its_headers_or_not_at_all() {
    let of = |payload: usize, header: usize| {
        let mut all = partitioner();
        let mut carried = Carried::default();
        carried.add(b"Trace", &vec![b'x'; header]);
        let content = "c".repeat(payload);
        let event = PushEvent { content, session_id: "s".into(), ..PushEvent::default() };
        take_with(&mut all, 1, event.encode_to_vec(), carried);
        let head = publish(&mut all, 0).map(|(_, head)| head);
        (head, all.next_letter(Nanos(0)).map(|letter| letter.detail), all.counts().stripped)
    };
    let (head, letter, stripped) = of(500, 100);
    assert!(head.is_some_and(|head| head.contains("Trace")) && letter.is_none() && stripped == 0);
    let (head, letter, stripped) = of(500, 500);
    assert!(head.is_some_and(|head| !head.contains("Trace")) && letter.is_none() && stripped == 1);
    let (head, letter, _) = of(1000, 0);
    assert!(head.is_none());
    assert!(letter.is_some_and(|detail| detail.contains("are over the 1000 that the server and the stream take")));
}

#[test]
fn one_that_is_refused_alone_is_a_letter_and_its_session_goes_on() {
    let mut all = partitioner();
    let names = sessions(2);
    take(&mut all, 1, event(&names[0], 1));
    take(&mut all, 2, event(&names[0], 2));
    let (mut at, mut rounds) = (0, 0);
    while all.counts().refused < 10 && all.letters.waiting() == 0 {
        rounds += 1;
        take(&mut all, 10 + rounds, event(&names[1], rounds as i64));
        let out = tickets(&mut all, at);
        let (bad, rest): (Vec<_>, Vec<_>) = out.into_iter().partition(|ticket| ticket.seq == 1);
        bad.into_iter().for_each(|ticket| refused(&mut all, ticket, at));
        rest.into_iter().for_each(|ticket| stored(&mut all, ticket, ticket.seq, at));
        at += 70;
    }
    // Again after 100 ms, as others were stored meanwhile after 1 s, and after 2 s.
    assert!(all.counts().refused == 4 && (44..50).contains(&rounds), "{rounds} {:?}", all.counts());
    let letter = all.next_letter(Nanos(at * MS)).expect("it is given up");
    assert_eq!((letter.seq, letter.reason, letter.tries), (1, NotMoved::NotTaken, 4));
    assert!(letter.detail.contains("the stream refuses it and takes others: no"));
    assert_eq!(tickets(&mut all, at).iter().map(|ticket| ticket.seq).collect::<Vec<_>>(), [2]);
}

#[test]
fn while_the_stream_takes_nothing_one_at_a_time_finds_out() {
    let mut all = partitioner();
    let names = sessions(50);
    for (seq, name) in (1..).zip(&names) {
        take(&mut all, seq, event(name, seq as i64));
    }
    let out = tickets(&mut all, 0);
    assert_eq!(out.len(), 50);
    out.into_iter().for_each(|ticket| refused(&mut all, ticket, 1));
    let (mut probes, mut at, mut asked) = (0, 1, HashSet::new());
    while at < 60_000 {
        let out = tickets(&mut all, at);
        assert!(out.len() <= 1 && all.is_refused_by_stream());
        for ticket in out {
            asked.insert(ticket.seq);
            probes += 1;
            refused(&mut all, ticket, at);
        }
        at += 10;
    }
    assert!((50..80).contains(&probes) && asked.len() == 50, "{probes} {}", asked.len());
    assert_eq!((all.counts().letters, all.next_letter(Nanos(at * MS))), (0, None));
    at += 2000;
    let probe = tickets(&mut all, at)[0];
    stored(&mut all, probe, 1, at);
    assert!(!all.is_refused_by_stream());
    assert_eq!(tickets(&mut all, at).len(), 49, "all follow at once");
}

#[test]
fn nobody_is_blamed_for_a_stream_that_is_not_there() {
    let mut all = partitioner();
    let names = sessions(2);
    take(&mut all, 1, event(&names[0], 1));
    for round in 0..20 {
        let at = round * 70_000;
        for ticket in tickets(&mut all, at) {
            all.hear(ticket, &Answer::Nobody("nobody listens"), Nanos(at * MS));
        }
        take(&mut all, 10 + round, event(&names[1], 10 + round as i64));
        for ticket in tickets(&mut all, at + 1) {
            stored(&mut all, ticket, ticket.seq, at + 1);
        }
    }
    assert_eq!(all.next_letter(Nanos(u64::MAX)), None);
}

#[test]
fn what_the_input_stream_dropped_is_counted_once() {
    let mut all = partitioner();
    let opened = |first, floor, delivered| Opened {
        created: "2026".into(),
        message_bytes_max: 1000,
        first,
        floor,
        delivered,
        ..OPENED
    };
    take(&mut all, 1, event("s", 1));
    take(&mut all, 4, event("s", 4));
    assert_eq!(all.counts().gap, 2);
    all.opened(opened(10, 4, 4));
    assert_eq!(all.counts().gap, 7);
    all.opened(opened(10, 4, 4));
    take(&mut all, 10, event("s", 10));
    take(&mut all, 2, event("s", 2));
    assert_eq!(all.counts().gap, 7);
    let mut late = partitioner();
    late.opened(opened(100, 150, 170));
    take(&mut late, 171, event("s", 171));
    assert_eq!(late.counts().gap, 0, "what is settled may be gone");
}

#[test]
fn others_that_write_the_stream_are_seen() {
    let mut all = partitioner();
    let names = sessions(3);
    for (seq, name) in (1..).zip(&names) {
        take(&mut all, seq, event(name, seq as i64));
    }
    // Answers may come in another order, and numbers are given to others meanwhile.
    let out = tickets(&mut all, 0);
    stored(&mut all, out[1], 12, 0);
    stored(&mut all, out[0], 11, 0);
    stored(&mut all, out[2], 13, 0);
    assert_eq!(all.counts().foreign, 0);
    take(&mut all, 4, event("s", 4));
    let out = tickets(&mut all, 0);
    stored(&mut all, out[0], 20, 0);
    assert_eq!(all.counts().foreign, 6);
}

#[test]
fn a_publish_without_an_answer_is_noticed() {
    let mut all = partitioner();
    let names = sessions(2);
    take(&mut all, 1, event(&names[0], 1));
    let first = tickets(&mut all, 0);
    take(&mut all, 2, event(&names[1], 2));
    tickets(&mut all, 3000);
    assert_eq!(all.next_due(), Some(Nanos(5000 * MS)));
    assert!(!all.is_silent(Nanos(4999 * MS)) && all.is_silent(Nanos(5000 * MS)));
    stored(&mut all, first[0], 1, 5000);
    assert!(!all.is_silent(Nanos(7999 * MS)) && all.is_silent(Nanos(8000 * MS)));
}

#[test]
fn a_session_in_two_places_is_the_one_that_a_decoder_takes() {
    let twice = [event("first", 1), event("last", 0)].concat();
    assert_eq!(Read::of(&twice).map(|read| read.session), Some(&b"last"[..]));
    assert!(Read::of(&event("s", -1)).is_some_and(|read| read.has_id));
    assert_eq!(Read::of(&[0x18, 1]), None, "a number where the session is to be");
    assert_eq!(Read::of(&[0x1a, 1, 0xff]), None, "no text");
}

#[test]
fn fuzzed_moved_event() {
    crate::fuzz::run("event", 20_000, |bytes| {
        let read = Read::of(bytes);
        if let Ok(event) = PushEvent::decode(bytes) {
            let read = read.expect("what decodes is read");
            let wanted = (event.session_id.as_bytes(), event.msg_id != 0 && event.only_usernames.is_empty());
            assert_eq!((read.session, read.has_id), wanted);
        }
        let id = MessageId::of_payload(bytes);
        let mut text = Vec::new();
        id.write("2026", &mut text);
        assert_eq!(MessageId::parse(&text, "2026"), Some(id));
    });
}

#[test]
fn a_letter_that_was_not_kept_before_all_was_given_back_is_wanted_again() {
    let mut all = partitioner();
    let large = PushEvent { msg_id: 7, content: "c".repeat(2000), session_id: "s".into(), ..PushEvent::default() };
    take(&mut all, 1, large.encode_to_vec());
    assert_eq!(tickets(&mut all, 0), []);
    let first = all.next_letter(Nanos(0)).expect("it is too large");
    all.forget();
    assert_eq!(all.waiting(), 0);
    take(&mut all, 1, large.encode_to_vec());
    assert_eq!(tickets(&mut all, 0), []);
    let second = all.next_letter(Nanos(0)).expect("it is no copy of one that was moved");
    // The answer to the first comes late.
    all.lettered(first.ask, true, Nanos(0));
    assert_eq!(ends(&mut all), []);
    all.lettered(second.ask, true, Nanos(0));
    assert_eq!(ends(&mut all), [(1, Disposition::Term)]);
}
