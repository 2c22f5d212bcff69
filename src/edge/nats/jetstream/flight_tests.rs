//! What may be acknowledged when, without a server.

use super::*;

fn reply(stream: u64, consumer: u64, deliveries: u64) -> String {
    format!("$JS.ACK.S.C.{deliveries}.{stream}.{consumer}.1700000000000000000.0")
}

struct Try(Flight);

impl Try {
    fn new(is_cumulative: bool) -> Self {
        Self(Flight::new(2, is_cumulative))
    }

    fn take(&mut self, stream: u64, consumer: u64, deliveries: u64) -> u64 {
        let reply = reply(stream, consumer, deliveries);
        let (_, _, delivery) = ack_subject::parse(&reply).expect("an ack subject");
        self.0.insert(0, &delivery, (reply.clone(), None), 0)
    }

    fn settle(&mut self, number: u64, how: SettleAs) -> Vec<String> {
        let mut lines = Lines::default();
        self.0.settle(number, how, &mut lines);
        self.0.floors(&mut lines);
        said(&mut lines)
    }
}

/// Each publish as `stream-sequence word`.
fn said(lines: &mut Lines) -> Vec<String> {
    let mut wire = String::new();
    let _ = lines.write(|subject, payload| {
        wire = format!("PUB {subject} {}\r\n{payload}\r\n", payload.len());
        Ok::<(), ()>(())
    });
    let parts: Vec<_> = wire.split("\r\n").collect();
    let one = |pair: &[&str]| format!("{} {}", pair[0].split('.').nth(5).expect("a sequence"), pair[1]);
    parts.chunks_exact(2).map(one).collect()
}

#[test]
fn explicit_acks_leave_in_any_order_and_once() {
    let mut flight = Try::new(false);
    let (one, two, three) = (flight.take(1, 1, 1), flight.take(2, 2, 1), flight.take(3, 3, 1));
    assert_eq!(flight.settle(two, SettleAs::Done), ["2 +ACK"]);
    assert_eq!(flight.settle(two, SettleAs::Done), [""; 0], "its number is spent");
    assert_eq!(flight.settle(one, SettleAs::Terminated), ["1 +TERM"]);
    assert_eq!(flight.settle(three, SettleAs::GivenBack), [r#"3 -NAK {"delay": 500000000}"#]);
    assert_eq!(flight.0.out(0), 0);
    let four = flight.take(4, 4, 1);
    assert!(![one, two, three].contains(&four), "a slot is used again under another number");
}

#[test]
fn a_cumulative_ack_waits_for_all_before_it() {
    let mut flight = Try::new(true);
    let numbers: Vec<u64> = (1..=5).map(|at| flight.take(at * 10, at, 1)).collect();
    assert_eq!(flight.settle(numbers[1], SettleAs::Done), [""; 0]);
    assert_eq!(flight.settle(numbers[2], SettleAs::Terminated), [""; 0]);
    assert_eq!(flight.settle(numbers[0], SettleAs::Done), ["30 +ACK"]);
    assert_eq!(flight.settle(numbers[4], SettleAs::Done), [""; 0]);
    assert_eq!(flight.0.out(0), 2, "settled but not acknowledged is still out");
    let mut lines = Lines::default();
    assert_eq!(flight.0.give_back(&mut lines), 1);
    assert_eq!(said(&mut lines), [r#"40 -NAK {"delay": 500000000}"#]);
}

#[test]
fn a_repeat_of_what_is_out_is_acknowledged_as_its_first_delivery() {
    let mut flight = Try::new(true);
    let (one, two) = (flight.take(1, 1, 1), flight.take(2, 2, 1));
    let again = flight.take(1, 3, 2);
    let mut lines = Lines::default();
    flight.0.settle(one, SettleAs::Done, &mut lines);
    flight.0.floors(&mut lines);
    let mut subject = String::new();
    let _ = lines.write(|written, _| {
        subject = written.to_owned();
        Ok::<(), ()>(())
    });
    assert_eq!(subject, reply(1, 1, 1));
    assert_eq!(flight.settle(again, SettleAs::Done), ["1 +ACK", "1 +ACK"], "the last ack once more, and its own");
    assert_eq!(flight.settle(two, SettleAs::Done), ["2 +ACK"]);
    assert_eq!(flight.0.out(0), 0);
}

#[test]
fn nothing_past_a_loss_is_acknowledged_before_the_lost_came_again() {
    let mut flight = Try::new(true);
    let one = flight.take(1, 1, 1);
    // 2 and 3 were sent and lost; 4 comes first all the same.
    assert_eq!(flight.0.take_over(0, 3, (3, 3)), 2);
    let four = flight.take(4, 4, 1);
    assert_eq!(flight.settle(four, SettleAs::Done), [""; 0]);
    assert_eq!(flight.settle(one, SettleAs::Done), ["1 +ACK"]);
    let two = flight.take(2, 5, 2);
    assert_eq!(flight.settle(two, SettleAs::Done), [""; 0]);
    let three = flight.take(3, 6, 2);
    assert_eq!(flight.settle(three, SettleAs::Done), ["4 +ACK"]);
}

#[test]
fn a_gap_in_the_deliveries_is_a_loss() {
    let mut flight = Try::new(true);
    assert_eq!(flight.0.take_over(0, 0, (0, 0)), 0);
    let one = flight.take(1, 1, 1);
    let three = flight.take(3, 3, 1);
    assert_eq!(flight.settle(one, SettleAs::Done), ["1 +ACK"]);
    assert_eq!(flight.settle(three, SettleAs::Done), [""; 0]);
    assert!(flight.0.is_missing_some(0));
    // Somebody else got and settled 2: the server says so.
    assert_eq!(flight.0.take_over(0, 1, (3, 3)), 0);
    let mut lines = Lines::default();
    flight.0.floors(&mut lines);
    assert_eq!(said(&mut lines), ["3 +ACK"]);
}

#[test]
fn what_the_server_forgot_is_acknowledged_only_when_it_has_come_again() {
    let mut flight = Try::new(true);
    let numbers: Vec<u64> = (1..=4).map(|at| flight.take(at, at, 1)).collect();
    assert_eq!(flight.settle(numbers[0], SettleAs::Done), ["1 +ACK"]);
    assert_eq!(flight.0.take_over(0, 1, (2, 2)), 0);
    assert_eq!(flight.0.out(0), 1);
    numbers[2..].iter().for_each(|&number| assert_eq!(flight.settle(number, SettleAs::Done), [""; 0]));
    assert_eq!(flight.settle(numbers[1], SettleAs::Done), ["2 +ACK"]);
    let again = flight.take(3, 3, 1);
    assert_eq!(flight.settle(again, SettleAs::Done), ["3 +ACK"]);
    // Also what was acknowledged already.
    assert_eq!(flight.0.take_over(0, 0, (1, 1)), 0);
    let mut lines = Lines::default();
    flight.0.repeat_floors(&mut lines);
    assert!(lines.is_empty());
}

#[test]
fn what_stays_in_work_is_reported_and_what_is_given_back_is_not() {
    let mut flight = Try::new(true);
    let (_, two) = (flight.take(1, 1, 1), flight.take(2, 2, 1));
    flight.settle(two, SettleAs::GivenBack);
    let mut lines = Lines::default();
    assert_eq!(flight.0.progress(0, 100, 0, 7, &mut lines), 0);
    assert_eq!(said(&mut lines), ["1 +WPI"]);
    flight.0.progress(0, 100, 6, 8, &mut lines);
    assert!(lines.is_empty(), "touched a moment ago");
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
