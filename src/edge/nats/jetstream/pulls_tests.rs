use super::*;

const STANDING: Standing = Standing { expires: EXPIRES_MAX, heartbeat: HEARTBEAT_MAX };

fn pulls(window: u32, now: Instant) -> Pulls {
    let (batch_max, bytes_max, standing) = (u32::MAX, usize::MAX, STANDING);
    Pulls::new(Terms { window, batch_max, bytes_max, standing, from: None }, now)
}

fn status(code: u16, text: &str, pending: Option<u32>) -> Status {
    Status { code, text: text.to_owned(), pending }
}

#[test]
fn pulls_overlap_and_stay_in_the_window() {
    let now = Instant::now();
    let mut pulls = pulls(100, now);
    let bytes = Some(JETSTREAM_PULL_BYTES);
    assert_eq!(pulls.ask(3, 0, now), Some(Ask { consumer: 3, id: 0, batch: 50, bytes, standing: STANDING }));
    assert_eq!(pulls.ask(3, 0, now), None);
    for out in 1..=25 {
        pulls.delivered(now);
        assert!(out < 25 || pulls.is_hungry());
    }
    assert_eq!(pulls.ask(3, 25, now).map(|ask| ask.batch), Some(25));
    for _ in 0..50 {
        pulls.delivered(now);
    }
    assert_eq!(pulls.ask(3, 75, now).map(|ask| ask.batch), Some(25), "no more than the window has room for");
    assert_eq!(pulls.ask(3, 100, now), None);
}

#[test]
fn a_full_window_is_asked_for_again_without_a_pull_for_each_event() {
    let now = Instant::now();
    let mut pulls = pulls(100, now);
    assert_eq!(pulls.ask(0, 99, now), None);
    assert_eq!(pulls.ask(0, 99, now + PAUSE).map(|ask| ask.batch), Some(1));
    assert_eq!(pulls.ask(0, 98, now + PAUSE), None, "one is on its way");
}

#[test]
fn a_window_of_one_works() {
    let now = Instant::now();
    let mut pulls = pulls(1, now);
    assert_eq!(pulls.ask(0, 0, now).map(|ask| ask.batch), Some(1));
    pulls.delivered(now);
    assert_eq!(pulls.ask(0, 1, now), None);
    assert_eq!(pulls.ask(0, 0, now).map(|ask| ask.batch), Some(1));
}

#[test]
fn a_status_ends_its_own_pull() {
    let now = Instant::now();
    let mut pulls = pulls(100, now);
    pulls.ask(0, 0, now);
    (0..30).for_each(|_| pulls.delivered(now));
    assert_eq!(pulls.hear(0, &status(100, "Idle Heartbeat", None), now), Heard::Fine);
    assert_eq!(pulls.asked(), 20);
    assert_eq!(pulls.hear(7, &status(408, "Request Timeout", Some(9)), now), Heard::Fine);
    assert_eq!(pulls.asked(), 20, "not one of ours");
    assert_eq!(pulls.hear(0, &status(408, "Request Timeout", Some(20)), now), Heard::Fine);
    assert_eq!(pulls.asked(), 0);
    assert!(pulls.ask(0, 0, now).is_some());
}

#[test]
fn statuses_that_need_a_look_say_so() {
    let now = Instant::now();
    for (code, text) in [
        (409, "Consumer Deleted"),
        (409, "Consumer is push based"),
        (409, "Exceeded MaxRequestMaxBytes of 100"),
        (503, ""),
        (400, "Bad Request"),
    ] {
        let mut pulls = pulls(100, now);
        pulls.ask(0, 0, now);
        assert!(matches!(pulls.hear(0, &status(code, text, None), now), Heard::Lost(_)), "{code} {text}");
    }
    for text in ["Exceeded MaxWaiting", "Leadership Change", "Server Shutdown", "Exceeded MaxAckPending"] {
        let mut pulls = pulls(100, now);
        pulls.ask(0, 0, now);
        assert_eq!(pulls.hear(0, &status(409, text, None), now), Heard::Fine);
        assert_eq!(pulls.ask(0, 0, now), None, "{text}: a pause first");
        assert!(pulls.ask(0, 0, now + REFUSED_PAUSE).is_some());
    }
}

#[test]
fn a_pull_that_came_to_its_end_is_followed_by_the_next_at_once() {
    let now = Instant::now();
    let mut pulls = pulls(100, now);
    let batch = pulls.ask(0, 0, now).expect("there is room").batch;
    (0..batch).for_each(|_| pulls.delivered(now));
    assert_eq!(pulls.hear(0, &status(409, "Batch Completed", Some(0)), now), Heard::Fine);
    assert_eq!((pulls.asked(), pulls.ask(0, batch, now).map(|ask| ask.batch)), (0, Some(50)));
    (0..40).for_each(|_| pulls.delivered(now));
    assert_eq!(pulls.hear(1, &status(409, "Message Size Exceeds MaxBytes", Some(10)), now), Heard::Fine);
    let ask = pulls.ask(0, 0, now).expect("no pause");
    assert_eq!(ask.batch, 50, "it fits a pull of its own");
}

#[test]
fn what_is_larger_than_a_pull_is_asked_for_alone_and_then_all_is_as_before() {
    let now = Instant::now();
    let mut pulls = pulls(100, now);
    pulls.ask(0, 0, now);
    assert_eq!(pulls.hear(0, &status(409, "Message Size Exceeds MaxBytes", Some(50)), now), Heard::Fine);
    let ask = pulls.ask(0, 0, now).expect("no pause");
    assert_eq!((ask.batch, ask.bytes), (1, None));
    pulls.delivered(now);
    assert_eq!(pulls.ask(0, 1, now).map(|ask| (ask.batch, ask.bytes)), Some((50, Some(JETSTREAM_PULL_BYTES))));
}

#[test]
fn pulls_are_served_in_turn_and_none_outlives_its_events() {
    let now = Instant::now();
    let mut pulls = pulls(100, now);
    for _ in 0..10_000 {
        pulls.ask(0, 0, now);
        pulls.delivered(now);
        assert!(pulls.asked() <= 50 && pulls.pulls.len() <= 8, "{pulls:?}");
        assert_eq!(pulls.pulls.iter().map(|pull| pull.left).sum::<u32>(), pulls.asked());
    }
    pulls.expire(now + EXPIRES_MAX * 2);
    assert_eq!((pulls.asked(), pulls.pulls.len()), (0, 0));
}

#[test]
fn a_pull_is_followed_by_the_next_before_it_expires_and_the_window_is_kept() {
    let now = Instant::now();
    let at = |millis: u64| now + Duration::from_millis(millis);
    let mut pulls = pulls(100, now);
    pulls.ask(0, 0, now);
    (0..5).for_each(|_| pulls.delivered(now));
    pulls.expire(at(28_499));
    assert!(!pulls.is_hungry());
    pulls.expire(at(28_500));
    assert!(pulls.is_hungry());
    assert_eq!(pulls.ask(0, 5, at(28_500)).map(|ask| ask.batch), Some(50), "of 100, 5 are out and 45 may come");
    assert_eq!((pulls.asked(), pulls.standing(), pulls.is_hungry()), (95, 2, false));
    pulls.delivered(at(28_600));
    assert_eq!((pulls.asked(), pulls.old), (94, 44), "the older one is served first");
    // Its end may be said, or not.
    pulls.expire(at(30_501));
    assert_eq!((pulls.asked(), pulls.standing(), pulls.old), (50, 1, 0));
    assert_eq!(pulls.hear(0, &status(408, "Request Timeout", Some(44)), at(30_600)), Heard::Fine);
    assert_eq!(pulls.asked(), 50);
}

#[test]
fn a_pull_stands_no_longer_than_an_event_may_be_out() {
    for (ack_wait, expires, heartbeat) in [(30_000, 30_000, 5_000), (600_000, 30_000, 5_000), (2_000, 2_000, 666)] {
        let standing = Standing::of(Duration::from_millis(ack_wait));
        assert_eq!((standing.expires.as_millis(), standing.heartbeat.as_millis()), (expires, heartbeat));
        assert!(standing.heartbeat * 2 <= standing.expires, "servers refuse a longer one");
    }
    assert_eq!(Standing::of(Duration::from_millis(1)).expires, EXPIRES_MIN);
}

#[test]
fn silence_is_answered_with_new_pulls() {
    let now = Instant::now();
    let mut pulls = pulls(100, now);
    pulls.ask(0, 0, now);
    assert!(!pulls.is_silent(now + HEARTBEAT_MAX * 2));
    assert!(pulls.is_silent(now + STANDING.silent_for()));
    assert!(pulls.ask(0, 0, now + STANDING.silent_for()).is_some());
}
