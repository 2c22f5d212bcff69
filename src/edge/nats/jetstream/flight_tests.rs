//! What is said of events when, without a server.

use super::*;

fn reply(stream: u64, consumer: u64, deliveries: u64) -> String {
    format!("$JS.ACK.S.C.{deliveries}.{stream}.{consumer}.1700000000000000000.0")
}

struct Try(Flight);

impl Try {
    fn new(is_ordered: bool) -> Self {
        Self(Flight::new(2, is_ordered))
    }

    fn take(&mut self, stream: u64, consumer: u64, deliveries: u64) -> u64 {
        self.take_again(stream, consumer, deliveries).expect("it is not out")
    }

    fn take_again(&mut self, stream: u64, consumer: u64, deliveries: u64) -> Option<u64> {
        self.take_reply(reply(stream, consumer, deliveries))
    }

    fn take_reply(&mut self, reply: String) -> Option<u64> {
        let (_, _, delivery) = ack_subject::parse(&reply).expect("an ack subject");
        self.0.insert(0, &delivery, (Bytes::from(reply.clone()), None), 0)
    }

    fn settle(&mut self, number: u64, how: Disposition) -> Vec<String> {
        let mut lines = Lines::default();
        self.0.settle(number, how, &mut lines);
        said(&mut lines)
    }
}

/// Each publish as `stream-sequence word`.
fn said(lines: &mut Lines) -> Vec<String> {
    let wire = lines.take_text();
    let parts: Vec<_> = wire.split("\r\n").collect();
    let one = |pair: &[&str]| format!("{} {}", pair[0].split('.').nth(5).expect("a sequence"), pair[1]);
    parts.chunks_exact(2).map(one).collect()
}

#[test]
fn explicit_acks_leave_in_any_order_and_once() {
    let mut flight = Try::new(false);
    let (one, two, three) = (flight.take(1, 1, 1), flight.take(2, 2, 1), flight.take(3, 3, 1));
    assert_eq!(flight.settle(two, Disposition::Ack), ["2 +ACK"]);
    assert_eq!(flight.settle(two, Disposition::Ack), [""; 0], "its number is spent");
    assert_eq!(flight.settle(one, Disposition::Term), ["1 +TERM"]);
    assert_eq!(flight.settle(three, Disposition::Nak), [r#"3 -NAK {"delay": 500000000}"#]);
    assert_eq!(flight.0.out(0), 0);
    let four = flight.take(4, 4, 1);
    assert!(![one, two, three].contains(&four), "a slot is used again under another number");
}

#[test]
fn partitions_are_acknowledged_one_by_one_as_well() {
    let mut flight = Try::new(true);
    let numbers: Vec<u64> = (1..=5).map(|at| flight.take(at * 10, at, 1)).collect();
    assert_eq!(flight.settle(numbers[1], Disposition::Ack), ["20 +ACK"], "it says nothing of what stands before it");
    assert_eq!(flight.settle(numbers[4], Disposition::Term), ["50 +TERM"]);
    assert_eq!(flight.0.out(0), 3);
    assert_eq!(flight.take_again(30, 6, 2), None, "it is out");
    let mut lines = Lines::default();
    assert_eq!(flight.0.give_back(&mut lines), 3);
    let words = said(&mut lines);
    let sequences: Vec<_> = words.iter().map(|word| word.split(' ').next().expect("a sequence")).collect();
    assert_eq!(sequences, ["10", "30", "40"], "in stream order");
    assert_eq!(flight.settle(numbers[2], Disposition::Ack), [""; 0]);
}

#[test]
fn what_a_partition_gives_back_at_the_end_leaves_in_stream_order() {
    let mut flight = Try::new(true);
    let numbers: Vec<u64> = (1..=4).map(|at| flight.take(at, at, 1)).collect();
    assert_eq!(flight.settle(numbers[3], Disposition::Nak).len(), 1, "before the end at once");
    flight.0.end();
    assert_eq!(flight.settle(numbers[2], Disposition::Nak), [""; 0]);
    assert_eq!(flight.settle(numbers[1], Disposition::Term), ["2 +TERM"]);
    let mut lines = Lines::default();
    assert_eq!(flight.0.give_back(&mut lines), 2);
    assert_eq!(said(&mut lines), [1, 3].map(|at| format!(r#"{at} -NAK {{"delay": 500000000}}"#)));
}

#[test]
fn what_somebody_else_gets_is_noticed() {
    let mut flight = Try::new(true);
    flight.take(7, 7, 1);
    flight.take(8, 8, 1);
    assert_eq!(flight.0.take_elsewhere(0), 0, "where the first one stands says nothing");
    flight.take(11, 11, 1);
    assert_eq!((flight.0.take_elsewhere(0), flight.0.take_elsewhere(0)), (2, 0));
    flight.0.take_over(0, 0, 20);
    flight.take(21, 30, 1);
    assert_eq!(flight.0.take_elsewhere(0), 0, "another connection");
}

#[test]
fn whoever_takes_over_knows_how_many_are_elsewhere() {
    let mut flight = Try::new(true);
    assert_eq!(flight.0.take_over(0, 3, 3), 3, "a predecessor's");
    let numbers: Vec<u64> = (4..=8).map(|at| flight.take(at, at, 1)).collect();
    assert_eq!(flight.take_again(4, 9, 2), None);
    assert_eq!(flight.0.take_over(0, 5, 8), 0, "each of them is here");
    assert_eq!(flight.0.take_over(0, 6, 9), 1, "one was lost on its way");
    // The server forgot its newest deliveries: they come again, and then they count.
    assert_eq!(flight.0.take_over(0, 3, 6), 0);
    assert_eq!(flight.settle(numbers[4], Disposition::Ack), [""; 0]);
    assert_eq!(flight.settle(numbers[2], Disposition::Ack), ["6 +ACK"]);
    let again = flight.take(8, 8, 1);
    assert_eq!(flight.settle(again, Disposition::Ack), ["8 +ACK"]);
    // One that the server forgot and that is still in hand when it comes again stays one event.
    assert_eq!((flight.0.take_over(0, 3, 6), flight.0.sequences(0).len()), (1, 2), "4 and 5, and 6 is done");
    let mut lines = Lines::default();
    flight.0.progress_in_order(0, 9, &mut lines);
    assert_eq!(said(&mut lines), ["4 +WPI", "5 +WPI"]);
    assert_eq!(flight.take_again(7, 7, 1), None);
    assert_eq!(flight.settle(numbers[3], Disposition::Ack), ["7 +ACK"]);
    let mut queue = Try::new(false);
    assert_eq!((queue.0.take_over(0, 9, 9), queue.take(1, 1, 1)), (0, 0), "others of a queue keep what they have");
}

#[test]
fn work_of_a_partition_is_reported_as_a_whole_and_in_order() {
    let mut flight = Try::new(true);
    let one = flight.take(1, 1, 1);
    let two = flight.take(2, 2, 1);
    flight.settle(one, Disposition::Ack);
    // Takes the first one's place.
    flight.take(3, 3, 1);
    assert!(flight.0.due(0).contains(&0) && !flight.0.due(0).contains(&1));
    let mut lines = Lines::default();
    flight.0.progress_in_order(0, 7, &mut lines);
    assert_eq!(said(&mut lines), ["2 +WPI", "3 +WPI"]);
    assert!(flight.0.due(6).is_empty(), "touched a moment ago");
    flight.settle(two, Disposition::Nak);
    flight.0.progress_in_order(0, 9, &mut lines);
    assert_eq!(said(&mut lines), ["3 +WPI"]);
}

#[test]
fn work_of_a_queue_is_reported_when_it_is_due() {
    let mut flight = Try::new(false);
    let (_, two) = (flight.take(1, 1, 1), flight.take(2, 2, 1));
    flight.settle(two, Disposition::Nak);
    let mut lines = Lines::default();
    assert_eq!(flight.0.progress(0, 100, 0, 7, &mut lines), 0);
    assert_eq!(said(&mut lines), ["1 +WPI"]);
    flight.0.progress(0, 100, 6, 8, &mut lines);
    assert_eq!(lines.bytes(), 0, "touched a moment ago");
}

#[test]
fn an_origin_tells_the_delivery() {
    let mut flight = Try::new(false);
    let number = flight.take(12, 34, 2);
    let want = Origin {
        subject: "events.0".to_owned(),
        stream_sequence: Some(12),
        deliveries: 2,
        published_unix_nanos: Some(1_700_000_000_000_000_000),
    };
    assert_eq!(flight.0.origin(number, |consumer| format!("events.{consumer}")), want);
    assert_eq!(flight.0.origin(number + 1, |_| String::new()), Origin::default());
}

#[test]
fn what_is_out_and_delivered_again_is_one_event() {
    for is_ordered in [false, true] {
        let mut flight = Try::new(is_ordered);
        let numbers: Vec<u64> = (1..=3).map(|at| flight.take(at, at, 1)).collect();
        flight.0.take_over(0, 3, 3);
        // All of a window again, and one that another had, in one burst; each twice.
        let another = flight.take_reply(reply(4, 4, 2));
        assert!(another.is_some());
        for (at, delivery) in [(1, 5), (2, 6), (3, 7), (4, 8), (1, 9), (4, 10)] {
            assert_eq!(flight.take_reply(reply(at, delivery, 3)), None);
        }
        assert_eq!((flight.0.out(0), flight.0.sequences(0).len()), (4, 4));
        assert_eq!(flight.0.origin(numbers[0], |_| String::new()).deliveries, 3, "the latest delivery's word counts");
        assert_eq!(flight.settle(numbers[0], Disposition::Ack), ["1 +ACK"]);
        assert_eq!(flight.0.take_elsewhere(0), 0);
        // Its ack was lost: it is a repeat, and the core knows it.
        assert!(flight.take_again(1, 11, 4).is_some());
    }
}

#[test]
fn a_server_that_forgot_its_deliveries_brings_no_second_copy_and_a_new_stream_brings_new_events() {
    let mut flight = Try::new(false);
    let numbers: Vec<u64> = (1..=3).map(|at| flight.take(at, at, 1)).collect();
    assert_eq!(flight.take_again(2, 2, 1), None, "delivered for the first time, as the server thinks");
    let of_new_stream = "$JS.ACK.S.C.1.3.1.1800000000000000000.0".to_owned();
    let new = flight.take_reply(of_new_stream);
    assert!(new.is_some_and(|number| !numbers.contains(&number)), "stored at another time");
    assert_eq!(flight.0.out(0), 4);
}
