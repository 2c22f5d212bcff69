use crate::gateways::Noticed;

use super::*;

impl Bench {
    /// One whose gateways announce notices.
    fn noticing(messages: u32) -> Self {
        let world = world(|_| {});
        let verdict = Verdict::new(world.clone());
        verdict.expect_notices();
        let mut payload = Vec::new();
        let mut next = |number: u32| {
            verdict.next_event(0, 1_000_000 * u64::from(number), &mut payload);
            PushEvent::decode(payload.as_slice()).expect("an event")
        };
        let events = (0..messages).map(&mut next).collect();
        Self { world, verdict, events }
    }

    /// A notice of message `number` comes to `user` at `gateway`, which says that there are so many.
    fn notice_comes(&self, number: usize, up_to: i64, user: u32, gateway: u32) {
        self.notice_comes_with(number, up_to, user, gateway, 0);
    }

    fn notice_comes_with(&self, number: usize, max_seq_id: i64, user: u32, gateway: u32, unanswered: u32) {
        let (gateway, recipient): (Arc<str>, _) = (World::gateway_name(gateway).into(), World::user_name(user));
        let answer = if self.verdict.is_connected(&gateway, &recipient) { Answer::Delivered } else { Answer::Refused };
        self.verdict.notice(&Noticed {
            gateway: &gateway,
            at: 12_500_000,
            answer,
            recipient: &recipient,
            session: &self.events[number].session_id,
            max_seq_id,
            msg_id: self.events[number].msg_id,
            unanswered,
        });
    }
}

#[test]
fn whoever_knows_the_last_sequence_has_lost_nothing() {
    let bench = Bench::noticing(10);
    for user in 1..4 {
        bench.comes(0, user, user % 2);
        bench.notice_comes(3, 4, user, user % 2);
        bench.notice_comes(9, 10, user, user % 2);
    }
    // Who sends is told as well, and is no recipient.
    bench.notice_comes(9, 10, 0, 0);
    let findings = bench.verdict.findings();
    let expected =
        VerdictCounts { delivered: 3, noticed: 6, conflated: 21, notices_at_once: 1, last_known_ms: 4, ..clean(30) };
    assert_eq!(findings, expected);
    assert_eq!(bench.verdict.progress(), Progress { events: 10, expected: 30, delivered: 30 });
    let latency = bench.verdict.take_recent();
    // In full, of each notice its own message, and the oldest of those that it alone tells of.
    assert_eq!(latency.len(), 3 + 6 + 6);
    assert!(
        (11_400_000..11_600_000).contains(&latency.max()),
        "message 1 was known by the notice of 3: {}",
        latency.max()
    );
}

#[test]
fn what_no_notice_tells_of_is_lost() {
    let bench = Bench::noticing(5);
    for user in 1..4 {
        bench.notice_comes(if user == 2 { 3 } else { 4 }, if user == 2 { 4 } else { 5 }, user, user % 2);
    }
    let findings = bench.verdict.findings();
    assert_eq!(findings.cases, ["lost: session-0 message 4 to user-2, who is at gateway-0"]);
    assert_eq!((findings.lost, findings.noticed, findings.conflated, findings.is_clean), (1, 3, 11, false));
}

#[test]
fn an_engine_that_counts_otherwise_is_found_out() {
    let bench = Bench::noticing(2);
    (1..4).for_each(|user| bench.notice_comes(1, 2, user, user % 2));
    assert_eq!(bench.verdict.told_by_notices(), Some([3, 3]));
    bench.verdict.notices_by_engine([3, 3]);
    assert!(bench.verdict.findings().is_clean);
    bench.verdict.notices_by_engine([3, 6]);
    let findings = bench.verdict.findings();
    assert!(!findings.is_clean && findings.cases[0].contains("the engine counts 3 and 6"), "{:?}", findings.cases);
    assert_eq!(Bench::new(1).verdict.told_by_notices(), None, "there are none");
}

#[test]
fn notices_that_cannot_be_are_told() {
    let bench = Bench::noticing(5);
    bench.notice_comes(4, 5, 1, 1);
    for (number, up_to, user, gateway, words) in [
        (2, 3, 1, 1, "repeated: session-0 message 2 to user-1"),
        (4, 4, 2, 0, "below that of its message"),
        (4, 6, 2, 0, "is that of no message"),
        (4, 5, 7, 1, "the user is not in the session"),
        (4, 5, 2, 1, "the user is not connected there"),
    ] {
        bench.notice_comes(number, up_to, user, gateway);
        let cases = bench.verdict.findings().cases;
        assert!(cases.iter().any(|case| case.contains(words)), "{words}: {cases:?}");
    }
    bench.notice_comes_with(4, 5, 3, 1, 2);
    assert_eq!(bench.verdict.findings().notices_at_once, 3);
    let none_announced = Bench::new(1);
    none_announced.notice_comes(0, 1, 1, 1);
    assert!(none_announced.verdict.findings().cases[0].contains("no gateway announced those"));
}
