use super::*;

const ONE: usize = 1;

fn start() -> (Resume, Instant) {
    (Resume::default(), Instant::now())
}

fn event(of: &mut Resume, sequence: u64) -> bool {
    of.hold(ONE, (sequence, sequence + 100), &Bytes::from_static(b"event"), Some(b"headers"))
}

#[test]
fn with_nothing_missing_nothing_is_held() {
    let (mut resume, now) = start();
    resume.begin(ONE, 0, now, now + LOOK);
    assert!(!event(&mut resume, 1));
    assert_eq!(resume.next_due(now), None);
}

#[test]
fn all_of_a_consumer_is_held_in_the_order_of_the_stream_and_no_other() {
    let (mut resume, now) = start();
    resume.begin(ONE, 2, now + LOOK, now + LOOK * 9);
    for sequence in [5, 3, 9] {
        assert!(event(&mut resume, sequence));
    }
    assert!(!resume.hold(2, (1, 1), &Bytes::new(), None));
    let held: Vec<_> = resume.gates[&ONE].held.iter().map(|((sequence, _), held)| (*sequence, held.number)).collect();
    assert_eq!(held, [(3, 103), (5, 105), (9, 109)]);
}

#[test]
fn the_server_is_asked_when_all_came_and_else_after_a_while() {
    let (mut resume, now) = start();
    resume.begin(ONE, 2, now + LOOK, now + LOOK * 9);
    event(&mut resume, 1);
    assert_eq!(resume.next_due(now), Some(now + LOOK * 2));
    event(&mut resume, 2);
    assert_eq!(resume.next_due(now), Some(now));
    // An answer that tells of another one begins the count anew.
    assert!(!resume.hear(ONE, 3, 2, now));
    assert_eq!(resume.next_due(now), Some(now + LOOK));
    event(&mut resume, 3);
    assert_eq!(resume.next_due(now), Some(now));
    assert!(resume.hear(ONE, 3, 3, now));
}

#[test]
fn a_connection_that_is_lost_forgets_what_it_asked_and_keeps_what_it_holds() {
    let (mut resume, now) = start();
    resume.begin(ONE, 1, now, now + LOOK);
    event(&mut resume, 7);
    resume.lost();
    resume.begin(ONE, 0, now + LOOK, now + LOOK * 3);
    assert_eq!(resume.gates[&ONE].held.len(), 1);
    assert_eq!(resume.next_due(now), Some(now), "it is asked whether that is all");
}
