//! Gateways that hang, or that nobody knows, hold a part of their shard, however many they are and however small their
//! events: the shard goes on taking events, and a gateway that answers gets its own at once.

use bytes::Bytes;
use task_engine::model::limits::{EVENTS_IN_FLIGHT_MAX, GROUP_USERS_MAX, QUIET_GATEWAY_PART, TURN_EVENTS_MAX};
use task_engine::model::outcome::RecipientOutcome;
use task_engine::model::proto::gateway::PushMessageResponse;
use task_engine::ports::Protocols;
use task_engine::push::facts::StreamFact;
use testkit::table::{Table, frame};

/// Milliseconds between two batches of arrivals.
const BATCH_MILLIS: u64 = 20;

/// One-to-one sessions of users on `hung` gateways and of bob, who is on one that answers.
struct Flood {
    table: Table,
    hung: Vec<String>,
    window: usize,
    next_msg_id: i64,
    for_bob: u64,
    most_in_flight: usize,
}

impl Flood {
    fn new(hung: &[&str], window: usize) -> Self {
        let routes = hung.iter().map(|gateway| (*gateway, *gateway)).chain([("bob", "well")]).collect::<Vec<_>>();
        let mut table = Table::with_window(&routes, window);
        // Each user's session has the user's name, and each user of a gateway that hangs the gateway's.
        table.members_of = routes.iter().map(|(user, _)| ((*user).into(), vec![(*user).into()])).collect();
        for gateway in hung.iter().chain(&["well"]).filter(|gateway| **gateway != "nowhere") {
            table.list(gateway, Protocols::STREAM);
        }
        let hung = hung.iter().map(|gateway| (*gateway).to_owned()).collect();
        Self { table, hung, window, next_msg_id: 1, for_bob: 0, most_in_flight: 0 }
    }

    /// Half of the events are for bob.
    fn run(&mut self, events_a_second: u64, seconds: u64) {
        for _ in 0..seconds * 1000 / BATCH_MILLIS {
            for event in 0..events_a_second * BATCH_MILLIS / 1000 {
                let is_bobs = event % 2 == 0;
                let hung = self.hung[event as usize / 2 % self.hung.len()].clone();
                self.for_bob += u64::from(is_bobs);
                self.table.arrive(if is_bobs { "bob" } else { &hung }, self.next_msg_id);
                self.next_msg_id += 1;
            }
            self.table.run();
            self.answer();
            self.look();
            self.table.pass(BATCH_MILLIS);
        }
    }

    fn answer(&mut self) {
        let answers = self.table.pushed_ids("well").into_iter();
        let answers = answers.flat_map(|msg_id| frame(&PushMessageResponse { msg_id, ..Default::default() }));
        let answers = answers.collect::<Vec<u8>>();
        if !answers.is_empty() {
            self.table.fact("well", StreamFact::Answers(Bytes::from(answers)));
        }
    }

    fn look(&mut self) {
        let in_flight = self.table.push.events_in_flight();
        self.most_in_flight = self.most_in_flight.max(in_flight);
        assert_eq!(self.table.push.room(), TURN_EVENTS_MAX, "{in_flight} events in flight at {:?}", self.table.now);
        assert!(in_flight < self.window, "{in_flight} of {} events in flight", self.window);
        assert_eq!(self.table.ended(RecipientOutcome::Delivered), self.for_bob, "bob has all of his");
        self.table.check();
    }
}

#[test]
fn one_or_many_at_once_at_a_one_to_one_flood() {
    for hung in [&["A"][..], &["nowhere"], &["A", "C", "nowhere"]] {
        let mut flood = Flood::new(hung, EVENTS_IN_FLIGHT_MAX);
        flood.run(20_000, 2);
        flood.run(50_000, 2);
        let overflowed = flood.table.ended(RecipientOutcome::OutboxFull);
        assert!(overflowed > 0, "{hung:?}");
        assert!(flood.most_in_flight < EVENTS_IN_FLIGHT_MAX / 2, "{hung:?}: {}", flood.most_in_flight);
        flood.table.pass(11_000);
        assert_eq!(flood.table.push.events_in_flight(), 0, "{hung:?}");
        let timed_out = flood.table.ended(RecipientOutcome::TimedOut);
        assert_eq!(overflowed + timed_out + flood.for_bob, flood.next_msg_id as u64 - 1, "{hung:?}");
    }
}

#[test]
fn where_the_source_lets_fewer_out_they_hold_fewer() {
    let mut flood = Flood::new(&["A", "C"], 8 * 1024);
    flood.run(20_000, 3);
    assert!(flood.table.ended(RecipientOutcome::OutboxFull) > 0);
}

/// A moment of silence while the shard is half full: the gateway may hold a 64th of the events, which are few, but events are
/// counted by what they are, not by the parts that a large group is cut into.
#[test]
fn a_large_group_is_one_event_however_many_parts_it_has() {
    let window = 4 * 1024;
    let users = (0..20_000).map(|number| format!("u{number}")).collect::<Vec<_>>();
    assert!(users.len() / GROUP_USERS_MAX > window / QUIET_GATEWAY_PART, "each event has more parts than that");
    let routes = users.iter().map(|user| (user.as_str(), "A")).chain([("bob", "well")]).collect::<Vec<_>>();
    let mut table = Table::with_window(&routes, window);
    table.members_of = [("bob".to_owned(), vec!["bob".to_owned()]), ("big".to_owned(), users.clone())].into();
    ["A", "well"].iter().for_each(|gateway| table.list(gateway, Protocols::STREAM));
    let mut come = |session: &str, events: std::ops::Range<i64>, millis| {
        events.for_each(|msg_id| table.arrive(session, msg_id));
        table.run();
        while table.push.has_more() {
            table.run();
        }
        table.pass(millis);
        (table.push.recipients_in_flight(), table.ended(RecipientOutcome::OutboxFull))
    };
    assert_eq!(come("big", 0..1, 20), (users.len(), 0));
    come("bob", 0..window as i64 / 2, 300);
    assert_eq!(come("big", 1..2, 20).1, 0, "it holds one event of one session");
}
