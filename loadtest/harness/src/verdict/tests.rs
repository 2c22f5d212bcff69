//! Each fault is counted exactly once, under its own name, and is said in words.

use std::sync::Arc;

use prost::Message as _;
use task_engine::model::proto::event::PushEvent;

use super::*;
use crate::gateways::{Answer, Checked};
use crate::workload::{Misbehaving, SessionGroup, Workload};

mod notices;
mod shed;

/// One session of `user-0` (who sends) to `user-3` of eight users on two gateways: users 1 and 3 are at gateway-1.
fn world(change: impl FnOnce(&mut Workload)) -> Arc<World> {
    let mut workload = Workload::find("mixed").expect("it is there");
    (workload.users, workload.gateways) = (8, 2);
    workload.sessions = vec![SessionGroup { count: 1, members: 4, share: 1, ..SessionGroup::default() }];
    change(&mut workload);
    World::new(&workload)
}

struct Bench {
    world: Arc<World>,
    verdict: Arc<Verdict>,
    events: Vec<PushEvent>,
}

impl Bench {
    /// With so many messages sent, each meant for instant 1,000.
    fn with(messages: u32, change: impl FnOnce(&mut Workload)) -> Self {
        let world = world(change);
        let verdict = Verdict::new(world.clone());
        let mut payload = Vec::new();
        let mut next = |_| {
            verdict.next_event(0, 1_000, &mut payload);
            PushEvent::decode(payload.as_slice()).expect("an event")
        };
        let events = (0..messages).map(&mut next).collect();
        Self { world, verdict, events }
    }

    fn new(messages: u32) -> Self {
        Self::with(messages, |_| {})
    }

    /// Message `number` comes to `user` at `gateway`, with that changed; as a gateway does, it asks first.
    fn comes_as(&self, number: usize, user: u32, gateway: u32, change: impl FnOnce(&mut PushEvent)) -> Answer {
        let mut event = self.events[number].clone();
        change(&mut event);
        self.comes_once(&event, user, gateway, None)
    }

    /// One message that comes to these users, as it is.
    fn comes_for_all(&self, event: &PushEvent, users: &[(u32, u32)]) {
        let checked = Checked::default();
        for (user, gateway) in users {
            self.comes_once(event, *user, *gateway, Some(&checked));
        }
    }

    fn comes_once(&self, event: &PushEvent, user: u32, gateway: u32, checked: Option<&Checked>) -> Answer {
        let (gateway, user): (Arc<str>, _) = (World::gateway_name(gateway).into(), World::user_name(user));
        let answer = if self.verdict.is_connected(&gateway, &user) { Answer::Delivered } else { Answer::Refused };
        self.verdict.push(&Seen {
            gateway: &gateway,
            stream: 1,
            order: 0,
            at: 5_000_000,
            answer,
            recipient: &user,
            session: &event.session_id,
            msg_id: event.msg_id,
            seq_id: event.seq_id,
            from: &event.from_username,
            content: &event.content,
            kind: &event.r#type,
            timestamp: event.timestamp,
            message: None,
            checked,
        });
        answer
    }

    fn comes(&self, number: usize, user: u32, gateway: u32) -> Answer {
        self.comes_as(number, user, gateway, |_| {})
    }

    fn all_come(&self) {
        for number in 0..self.events.len() {
            for user in 1..4 {
                self.comes(number, user, user % 2);
            }
        }
    }
}

/// What there is to find when nothing is wrong.
fn clean(expected: u64) -> VerdictCounts {
    VerdictCounts { expected, delivered: expected, is_clean: true, ..VerdictCounts::default() }
}

fn without_cases(mut counts: VerdictCounts) -> VerdictCounts {
    counts.cases.clear();
    counts
}

#[test]
fn all_that_came_once_in_order_is_clean() {
    let bench = Bench::new(20);
    assert_eq!(bench.verdict.progress(), Progress { events: 20, expected: 60, delivered: 0 });
    bench.all_come();
    assert_eq!(bench.verdict.findings(), clean(60));
    assert_eq!(bench.verdict.progress(), Progress { events: 20, expected: 60, delivered: 60 });
    let latency = bench.verdict.take_recent();
    assert_eq!(latency.len(), 60);
    assert!((4_990_000..5_010_000).contains(&latency.max()), "from 1,000 to 5,000,000 ns: {}", latency.max());
    assert_eq!(bench.verdict.take_recent().len(), 0);
}

#[test]
fn what_never_came_is_lost() {
    let bench = Bench::new(2);
    bench.comes(0, 1, 1);
    bench.comes(0, 2, 0);
    bench.comes(0, 3, 1);
    bench.comes(1, 1, 1);
    bench.comes(1, 2, 0);
    let findings = bench.verdict.findings();
    assert_eq!(findings.cases, ["lost: session-0 message 1 to user-3, who is at gateway-1"]);
    let counts = VerdictCounts { delivered: 5, lost: 1, is_clean: false, ..clean(6) };
    assert_eq!(without_cases(findings), counts);
}

#[test]
fn what_came_again_is_repeated() {
    let bench = Bench::new(2);
    bench.all_come();
    bench.comes(0, 2, 0);
    let findings = bench.verdict.findings();
    assert_eq!(findings.cases, ["repeated: session-0 message 0 to user-2 at gateway-0"]);
    assert_eq!(without_cases(findings), VerdictCounts { repeated: 1, is_clean: false, ..clean(6) });
    assert_eq!(bench.verdict.wrong_so_far(), 1);
}

#[test]
fn what_came_after_a_later_one_is_out_of_order() {
    let bench = Bench::new(2);
    for (number, user) in [(1, 2), (0, 1), (1, 1), (0, 3), (1, 3), (0, 2)] {
        bench.comes(number, user, user % 2);
    }
    let findings = bench.verdict.findings();
    assert_eq!(findings.cases, ["out of order: session-0 message 0 to user-2 at gateway-0, after a later one"]);
    assert_eq!(without_cases(findings), VerdictCounts { out_of_order: 1, is_clean: false, ..clean(6) });
}

#[test]
fn what_came_to_somebody_else_or_elsewhere_is_misdelivered() {
    for (user, gateway, why, offline) in [
        (1, 0, "the user is not connected there", 0),
        (4, 0, "the user is not in the session", 0),
        (0, 0, "the user is its sender", 0),
        (9, 0, "there is no such user", 0),
        (3, 1, "the user is offline", 50),
    ] {
        let bench = Bench::with(1, |it| it.offline_percent = offline);
        let expected = u64::from(bench.world.expected(0));
        for user in (1..4).filter(|user| bench.world.is_judged(*user)) {
            bench.comes(0, user, bench.world.place(user).current);
        }
        bench.comes(0, user, gateway);
        let findings = bench.verdict.findings();
        assert_eq!(findings.cases, [format!("misdelivered: session-0 to user-{user} at gateway-{gateway}: {why}")]);
        assert_eq!(without_cases(findings), VerdictCounts { misdelivered: 1, is_clean: false, ..clean(expected) });
    }
}

#[test]
fn what_is_not_as_it_was_published_is_corrupt() {
    type Change = fn(&mut PushEvent);
    let changes: [(Change, &str); 9] = [
        (|event| event.msg_id += 1, "its msg_id is another one's"),
        (|event| event.from_username = "user-5".into(), "its sender is not who sent it"),
        (|event| event.session_id = "session-1".into(), "there is no such session"),
        (|event| event.seq_id += 1, "its seq_id is another one's"),
        (|event| event.r#type = "texu".into(), "its type is not what was published"),
        (|event| event.timestamp += 1, "its timestamp is not what was published"),
        (|event| event.content.truncate(40), "its content is too short"),
        (|event| event.content.replace_range(0..1, "1"), "its content does not match its checksum"),
        (|event| event.content.replace_range(100..101, "?"), "its content was changed behind the checksum"),
    ];
    for (change, why) in changes {
        let bench = Bench::new(1);
        bench.all_come();
        bench.comes_as(0, 1, 1, change);
        let findings = bench.verdict.findings();
        assert!(findings.cases[0].starts_with("corrupt: ") && findings.cases[0].ends_with(why), "{findings:?}");
        assert_eq!(without_cases(findings), VerdictCounts { corrupt: 1, is_clean: false, ..clean(3) });
    }
    let (bench, later) = (Bench::new(1), Bench::new(2));
    bench.all_come();
    bench.comes_as(0, 1, 1, |event| event.clone_from(&later.events[1]));
    let findings = bench.verdict.findings();
    assert_eq!(findings.cases, ["corrupt: session-0 to user-1 at gateway-1: it was never sent"]);
}

#[test]
fn one_message_for_many_is_judged_for_each() {
    let bench = Bench::new(3);
    let all = [(1, 1), (2, 0), (3, 1)];
    bench.comes_for_all(&bench.events[0], &all);
    let changed = PushEvent { content: bench.events[1].content.replace(':', ";"), ..bench.events[1].clone() };
    bench.comes_for_all(&changed, &all);
    // Not connected there, and again.
    bench.comes_for_all(&bench.events[1], &[(1, 1), (2, 1), (3, 1), (3, 1)]);
    let findings = without_cases(bench.verdict.findings());
    let counts = VerdictCounts { delivered: 5, corrupt: 3, misdelivered: 1, repeated: 1, lost: 4, ..findings.clone() };
    assert_eq!(findings, counts);
}

#[test]
fn what_cannot_be_read_is_corrupt() {
    let bench = Bench::new(1);
    bench.all_come();
    bench.verdict.unreadable(&World::gateway_name(1).into());
    let findings = bench.verdict.findings();
    assert_eq!(findings.cases, ["corrupt: a request to gateway-1 cannot be read"]);
    assert_eq!(without_cases(findings), VerdictCounts { corrupt: 1, is_clean: false, ..clean(3) });
}

#[test]
fn what_a_user_who_moved_away_did_not_take_is_refused_and_no_fault() {
    let bench = Bench::with(2, |it| it.gateways = 3);
    let from = bench.world.place(1).current;
    bench.world.places().begin_move(1, 2);
    assert_eq!(bench.comes(0, 1, from), Answer::Delivered, "just before the move is done");
    bench.world.places().end_move(1);
    assert_eq!(bench.comes(1, 1, from), Answer::Refused);
    assert_eq!(bench.comes(1, 1, 2), Answer::Delivered);
    for number in 0..2 {
        for user in 2..4 {
            bench.comes(number, user, bench.world.place(user).current);
        }
    }
    assert_eq!(bench.verdict.findings(), VerdictCounts { refused: 1, ..clean(6) });
    assert_eq!(bench.comes(1, 1, 0), Answer::Refused);
    assert_eq!(bench.verdict.findings().misdelivered, 1, "it was never there");
}

#[test]
fn pushes_at_deaf_and_refusing_gateways_are_excused() {
    for (how, answer) in [(How::Deaf, Answer::Delivered), (How::Refusing, Answer::Refused)] {
        let bench = Bench::with(2, |it| it.misbehaving = vec![Misbehaving { gateway: 1, how, ms: 0 }]);
        assert_eq!(bench.comes(0, 1, 1), answer);
        assert_eq!(bench.comes(0, 2, 0), Answer::Delivered);
        assert_eq!(bench.comes(1, 2, 0), Answer::Delivered);
        assert_eq!(bench.verdict.findings(), VerdictCounts { excused: 1, ..clean(2) }, "{how:?}");
    }
}

#[test]
fn a_row_is_as_good_as_a_push() {
    let bench = Bench::new(2);
    bench.comes(0, 1, 1);
    bench.comes(0, 2, 0);
    bench.comes(1, 1, 1);
    bench.comes(1, 2, 0);
    let row = |number: usize, user| bench.verdict.stored("session-0", user, bench.events[number].msg_id);
    row(0, "user-3");
    row(1, "user-3");
    row(0, "user-1");
    assert_eq!(bench.verdict.findings(), VerdictCounts { delivered: 4, stored: 3, ..clean(6) });
    for (session, user) in [("session-0", "user-0"), ("session-0", "user-5"), ("session-7", "user-1")] {
        bench.verdict.stored(session, user, bench.events[0].msg_id);
    }
    let findings = bench.verdict.findings();
    assert_eq!((findings.misdelivered, findings.is_clean, findings.cases.len()), (3, false, 3));
}

#[test]
fn whoever_cannot_be_reached_is_owed_a_row_by_an_engine_that_has_an_inbox() {
    let offline = || Bench::with(2, |it| it.offline_percent = 50);
    let refusing = || Bench::with(2, |it| it.misbehaving = vec![Misbehaving { gateway: 1, how: How::Refusing, ms: 0 }]);
    for (bench, place) in [(offline(), "offline"), (refusing(), "at gateway-1")] {
        let (expected, is_judged) = (u64::from(bench.world.expected(0)), |user: &u32| bench.world.is_judged(*user));
        for number in 0..2 {
            (1..4).filter(is_judged).for_each(|user| _ = bench.comes(number, user, bench.world.place(user).current));
        }
        let unreached: Vec<u32> = (1..4).filter(|user| !is_judged(user)).collect();
        assert_eq!(bench.verdict.findings(), clean(2 * expected), "another engine owes nothing");
        bench.verdict.expect_rows();
        for user in &unreached {
            bench.verdict.stored("session-0", &World::user_name(*user), bench.events[0].msg_id);
        }
        let (findings, rows) = (bench.verdict.findings(), unreached.len() as u64);
        assert_eq!((findings.stored, findings.lost, findings.is_clean), (rows, rows, false));
        let words = format!("lost: session-0 message 1 to user-{}, who is {place}", unreached[0]);
        assert_eq!(findings.cases[0], words);
        for user in &unreached {
            bench.verdict.stored("session-0", &World::user_name(*user), bench.events[1].msg_id);
        }
        assert!(bench.verdict.findings().is_clean);
    }
}

#[test]
fn repeats_are_allowed_where_streams_are_cut_and_only_there() {
    let bench = Bench::with(1, |it| it.misbehaving = vec![Misbehaving { gateway: 1, how: How::Flapping, ms: 9 }]);
    bench.all_come();
    bench.comes(0, 3, 1);
    assert_eq!(bench.verdict.findings(), VerdictCounts { repeated: 1, may_repeat: true, ..clean(3) });
    bench.comes(0, 2, 0);
    let findings = bench.verdict.findings();
    assert_eq!((findings.repeated, findings.is_clean), (2, false));
    assert_eq!(findings.cases, ["repeated: session-0 message 0 to user-2 at gateway-0"]);
}

#[test]
fn only_the_first_ten_cases_are_said() {
    let bench = Bench::new(7);
    bench.comes(0, 1, 0);
    let findings = bench.verdict.findings();
    assert_eq!((findings.lost, findings.misdelivered, findings.cases.len()), (21, 1, CASES_SHOWN));
    assert!(findings.cases[0].starts_with("misdelivered"));
    assert!(findings.cases[1..].iter().all(|case| case.starts_with("lost: ")), "{findings:?}");
}

#[test]
fn many_threads_lose_no_count() {
    let bench = Bench::with(200, |it| it.sessions[0].members = 8);
    std::thread::scope(|scope| {
        for user in 1..8 {
            let bench = &bench;
            scope.spawn(move || {
                for number in 0..200 {
                    bench.comes(number, user, user % 2);
                }
            });
        }
    });
    assert_eq!(bench.verdict.findings(), clean(200 * 7));
    assert_eq!(bench.verdict.take_recent().len(), 200 * 7);
}

#[test]
fn latencies_are_kept_by_group_and_sum_up_to_all() {
    let world = world(|it| {
        let group = |count, members| SessionGroup { count, members, share: 1, ..SessionGroup::default() };
        it.sessions = vec![group(2, 4), group(1, 8)];
    });
    let verdict = Verdict::new(world.clone());
    // Sessions 0 and 1 wait for 4 and 3 ms, session 2 of the other group for 1 ms.
    for (session, intended) in [(0, 1_000_000), (1, 2_000_000), (2, 4_000_000)] {
        let mut payload = Vec::new();
        verdict.next_event(session, intended, &mut payload);
        let event = PushEvent::decode(payload.as_slice()).expect("an event");
        let bench = Bench { world: world.clone(), verdict: verdict.clone(), events: vec![event] };
        for user in world.members(session).skip(1) {
            bench.comes(0, user, user % 2);
        }
    }
    let groups = verdict.take_recent_by_group();
    let near = |nanos: u64, ms: u64| nanos.abs_diff(ms * 1_000_000) < 10_000;
    assert_eq!(groups.iter().map(Histogram::len).collect::<Vec<_>>(), [6, 7]);
    assert!(near(groups[0].min(), 3) && near(groups[0].max(), 4), "{:?}", (groups[0].min(), groups[0].max()));
    assert!(near(groups[1].min(), 1) && near(groups[1].max(), 1), "{:?}", (groups[1].min(), groups[1].max()));
    let all = sum(groups);
    assert_eq!((all.len(), verdict.progress().delivered), (13, 13));
    assert!(near(all.min(), 1) && near(all.max(), 4));
    assert_eq!(verdict.take_recent().len(), 0);
}

#[test]
fn each_gateway_of_a_user_is_to_get_each_message() {
    let bench = Bench::with(2, |it| (it.gateways, it.devices) = (3, 2.0));
    let at = |user: u32| [user % 3, (user + 1) % 3];
    for (number, user) in (0..2).flat_map(|number| (1..4).map(move |user| (number, user))) {
        for gateway in at(user) {
            assert_eq!(bench.comes(number, user, gateway), Answer::Delivered);
        }
    }
    assert_eq!(bench.verdict.findings(), clean(12));
    assert_eq!(bench.comes(0, 1, 0), Answer::Refused);
    assert_eq!(bench.verdict.findings().misdelivered, 1, "it is not there");
    bench.comes(1, 1, 2);
    assert_eq!(bench.verdict.findings().cases[1], "repeated: session-0 message 1 to user-1 at gateway-2");

    let bench = Bench::with(2, |it| (it.gateways, it.devices) = (3, 2.0));
    (1..4).for_each(|user| _ = bench.comes(1, user, at(user)[0]));
    (1..4).for_each(|user| _ = bench.comes(0, user, at(user)[1]));
    assert_eq!(bench.verdict.findings().out_of_order, 0, "another gateway's order is its own");
    bench.comes(0, 1, at(1)[0]);
    let findings = bench.verdict.findings();
    assert_eq!((findings.out_of_order, findings.lost, bench.verdict.copies_missing()), (1, 5, 5));
    assert_eq!(findings.cases[1], "lost: session-0 message 0 to user-2, who is at gateway-2");
    for user in 1..4 {
        (0..2).for_each(|at| bench.verdict.stored("session-0", &World::user_name(user), bench.events[at].msg_id));
    }
    assert_eq!(bench.verdict.findings().lost, 0, "a row is there whatever the gateways did");
}

#[test]
fn nobody_gets_a_row_of_a_message_whose_content_is_kept() {
    let bench = Bench::with(2, |it| it.offline_percent = 50);
    let is_judged = |user: &u32| bench.world.is_judged(*user);
    let offline: Vec<u32> = (1..4).filter(|user| !is_judged(user)).collect();
    bench.verdict.expect_rows();
    bench.verdict.keeps_content(0, 0);
    for number in 0..2 {
        (1..4).filter(is_judged).for_each(|user| _ = bench.comes(number, user, bench.world.place(user).current));
    }
    let row = |number: usize, user: &u32| {
        bench.verdict.stored("session-0", &World::user_name(*user), bench.events[number].msg_id);
    };
    offline.iter().for_each(|user| row(1, user));
    let findings = bench.verdict.findings();
    assert_eq!((findings.readable, findings.stored, findings.lost), (offline.len() as u64, offline.len() as u64, 0));
    assert!(findings.is_clean, "{findings:?}");
    row(0, &offline[0]);
    let findings = bench.verdict.findings();
    assert_eq!((findings.misdelivered, findings.is_clean), (1, false));
}
