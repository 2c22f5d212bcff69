//! Lookups and rows that fail, with stores in a closure: who is blamed, and what those who fail may hold.

mod many;
mod one_outage;
mod shared_users;

use std::time::Duration;

use prost::Message;

use super::*;
use crate::model::delivery::LookupError;
use crate::model::ids::{Nanos, ShardId};
use crate::model::names::{NameList, Route};
use crate::model::proto::event::PushEvent;
use crate::push::facts::{Input, Output, Queue};
use crate::push::inbox::InboxStore;

const STEP: u64 = 20;

/// What a store says: after how many milliseconds, and what.
type Said = Option<(u64, Input)>;

struct Core {
    push: Push,
    millis: u64,
    due: Vec<(u64, Input)>,
    letters: Vec<(&'static str, String)>,
    number: i64,
}

impl Core {
    fn new(max_retry: u32, inbox: InboxStore) -> Self {
        Self::with(max_retry, inbox, false)
    }

    fn with(max_retry: u32, inbox: InboxStore, caches_routes: bool) -> Self {
        let settings = Settings {
            shard: ShardId(0),
            shards: 1,
            events_window: 256,
            group_users_max: 256,
            members_ttl: Duration::ZERO,
            empty_wait: Duration::from_secs(5),
            caches_routes,
            delivery_timeout: Duration::from_secs(10),
            registry_forget_after: Duration::from_secs(300),
            gateway_table: TableBounds::default(),
            max_retry,
            retry_interval: Duration::from_secs(1),
            inbox,
        };
        Self { push: Push::new(settings), millis: 0, due: Vec::new(), letters: Vec::new(), number: 0 }
    }

    /// The route store tells what changes: a known route is not asked for again.
    fn tracking(max_retry: u32) -> Self {
        let mut core = Self::with(max_retry, InboxStore::Off, true);
        core.push.take(Input::RoutesTracked(true));
        core
    }

    fn publish(&mut self, session: &str) {
        self.number += 1;
        let event = PushEvent {
            msg_id: self.number,
            seq_id: self.number,
            session_id: session.to_owned(),
            r#type: "text".to_owned(),
            ..PushEvent::default()
        };
        let tag = DeliveryTag { reader: 0, number: self.number as u64 };
        self.push.take(Input::Event {
            payload: event.encode_to_vec().into(),
            tag,
            said: crate::model::priority::Said::Nothing,
        });
    }

    /// One turn; `store` may answer for a store, else each works: a session's member is named as it is, nobody is online.
    fn turn(&mut self, store: &mut dyn FnMut(u64, &Output) -> Said) {
        self.millis += STEP;
        self.push.set_now(Nanos(self.millis * 1_000_000));
        let (due, later) = std::mem::take(&mut self.due).into_iter().partition(|(due, _)| *due <= self.millis);
        self.due = later;
        let due: Vec<(u64, Input)> = due;
        due.into_iter().for_each(|(_, input)| self.push.take(input));
        let mut out = Vec::new();
        self.push.flush(&mut out);
        for output in out {
            if let Output::PublishLetter { letter, .. } = &output {
                self.letters.push((letter.reason, letter.detail.clone()));
            }
            let said = store(self.millis, &output).or_else(|| works(&output));
            self.due.extend(said.map(|(after, input)| (self.millis + after, input)));
        }
    }

    fn letters_of(&self, reason: &str) -> usize {
        self.letters.iter().filter(|(of, _)| *of == reason).count()
    }
}

fn works(output: &Output) -> Said {
    let input = match output {
        Output::AskMembers { ask, sessions, .. } => {
            let lists = sessions.iter().map(|id| [&**id].into_iter().collect::<NameList>()).collect();
            Input::Members { ask: *ask, answer: Ok(lists) }
        }
        Output::AskRoutes { ask, users } => {
            Input::Routes { ask: *ask, answer: Ok(users.iter().map(|_| Route::Offline).collect()) }
        }
        Output::Store { ask, .. } => Input::Stored { ask: *ask, answer: Ok(NameList::new()) },
        Output::PublishLetter { ask, .. } => Input::LetterPublished { ask: *ask, answer: Ok(()) },
        _ => return None,
    };
    Some((STEP, input))
}

fn refused() -> LookupError {
    LookupError::Rejected("1105: as told".to_owned())
}

fn members_refused(ask: u64) -> Input {
    Input::Members { ask, answer: Err(refused()) }
}

fn is_bad(sessions: &[crate::model::ids::SessionId]) -> bool {
    sessions.iter().any(|id| id.starts_with("bad"))
}

/// A store that refuses who is bad twice, and then everybody for three seconds: it dies under the second try.
#[derive(Default)]
struct DiesUnderATry {
    bad_asks: u32,
    away_since: Option<u64>,
}

impl DiesUnderATry {
    fn refuses(&mut self, millis: u64, is_bad: bool) -> bool {
        self.bad_asks += u32::from(is_bad);
        if is_bad && self.bad_asks <= 2 {
            self.away_since = (self.bad_asks == 2).then_some(millis);
            return true;
        }
        self.away_since.is_some_and(|since| millis >= since && millis < since + 3_000)
    }

    /// Somebody bad gets an event, and somebody good one each 100 ms for ten seconds.
    fn meets(core: &mut Core, mut store: impl FnMut(&mut Self, u64, &Output) -> Said) {
        let mut dies = Self::default();
        core.publish("bad0");
        for step in 0..500 {
            if step % 5 == 1 {
                core.publish("good0");
            }
            core.turn(&mut |millis, output| store(&mut dies, millis, output));
        }
        assert!(dies.away_since.is_some(), "it was asked for twice");
    }
}

/// So many sessions fail, each failure takes so long, and each gets an event every 200 ms for two minutes, as ten others do.
fn most_held(bad: usize, took: u64, from: usize) -> (usize, usize, Core) {
    let mut core = Core::new(3, InboxStore::Off);
    let mut store = |_: u64, output: &Output| match output {
        Output::AskMembers { ask, sessions, .. } if is_bad(sessions) => Some((took, members_refused(*ask))),
        _ => None,
    };
    let (mut held, mut published) = (0, 0);
    for step in 0..6_000 {
        if step % 10 == 0 {
            (0..bad).for_each(|n| core.publish(&format!("bad{n}")));
            (0..10).for_each(|n| core.publish(&format!("good{n}")));
            published += 10;
        }
        core.turn(&mut store);
        if step > from {
            held = held.max(core.push.events_in_flight());
        }
    }
    (held, published, core)
}

#[test]
fn a_session_whose_lookups_fail_holds_few_events_and_stops_nobody() {
    // Until it is blamed for the first time its events are not counted; a slow one takes three asks to that.
    for (took, from) in [(STEP, 0), (5_000, 1_500)] {
        let (held, published, core) = most_held(1, took, from);
        let pushed = core.push.counts().events_ended[EventOutcome::Settled as usize];
        println!("took {took}: at most {held} events held, {pushed} of {published} pushed");
        assert!(held < 256 / 4 + 30, "took {took}: {held} held");
        assert!(pushed as usize + 20 >= published, "{pushed} of {published}");
        assert!(core.letters.iter().all(|(reason, detail)| *reason == "lookup_failed" && detail.contains("bad0")));
    }
}

#[test]
fn many_sessions_whose_lookups_fail_hold_a_part_of_the_window_together() {
    // Forty slow ones are asked one at a time: it is a minute until each is blamed.
    let (held, published, core) = most_held(40, 1_000, 5_000);
    let pushed = core.push.counts().events_ended[EventOutcome::Settled as usize];
    println!("at most {held} events held, {pushed} of {published} pushed");
    // The part, the letters that are on their way, and the others.
    assert!(held < 256 / 4 + 40 + 20, "{held} held");
    assert!(pushed as usize + 20 >= published, "{pushed} of {published}");
    assert!(core.letters.iter().all(|(reason, detail)| *reason == "lookup_failed" && detail.contains("session bad")));
}

#[test]
fn an_outage_costs_a_session_that_was_refused_before_no_event_once_it_works() {
    let mut core = Core::new(1, InboxStore::Off);
    let mut store = |millis: u64, output: &Output| match output {
        Output::AskMembers { ask, sessions, .. } => match millis {
            0..20_000 => is_bad(sessions).then(|| (STEP, members_refused(*ask))),
            20_000..60_000 => Some((STEP, members_refused(*ask))),
            _ => None,
        },
        _ => None,
    };
    let mut letters = 0;
    for step in 0..6_000 {
        if step % 50 == 0 && step < 2_500 {
            core.publish("bad0");
            core.publish("good0");
        }
        core.turn(&mut store);
        if step == 1_000 {
            letters = core.letters.len();
            assert!(letters > 10, "{letters}");
        }
    }
    // One that was under way may have been told before.
    assert!(core.letters.len() <= letters + 1, "{letters}, then {:?}", core.letters);
    assert_eq!(core.push.events_in_flight(), 0);
}

#[test]
fn a_session_that_failed_once_is_not_charged_for_an_outage() {
    let mut core = Core::new(0, InboxStore::Off);
    DiesUnderATry::meets(&mut core, |dies, millis, output| {
        let Output::AskMembers { ask, sessions, .. } = output else { return None };
        dies.refuses(millis, is_bad(sessions)).then(|| (STEP, members_refused(*ask)))
    });
    assert_eq!(core.letters, [], "an outage is no letter");
}

#[test]
fn a_lone_session_that_fails_on_a_quiet_shard_ends() {
    let mut core = Core::new(3, InboxStore::Off);
    let mut store = |_: u64, output: &Output| match output {
        Output::AskMembers { ask, sessions, .. } if is_bad(sessions) => Some((STEP, members_refused(*ask))),
        _ => None,
    };
    core.publish("bad0");
    (0..500).for_each(|_| core.turn(&mut store));
    assert_eq!((core.letters_of("lookup_failed"), core.push.events_in_flight()), (1, 0));
}

#[test]
fn five_sessions_that_fail_end_when_others_succeed() {
    let mut core = Core::new(3, InboxStore::Off);
    let mut store = |_: u64, output: &Output| match output {
        Output::AskMembers { ask, sessions, .. } if is_bad(sessions) => Some((STEP, members_refused(*ask))),
        _ => None,
    };
    (0..8).for_each(|n| core.publish(&format!("bad{n}")));
    for step in 0..1_500 {
        if step % 10 == 0 {
            core.publish("good0");
        }
        core.turn(&mut store);
    }
    assert_eq!(core.letters_of("lookup_failed"), 8);
}

#[test]
fn a_user_whose_route_failed_once_is_not_charged_for_an_outage() {
    let mut core = Core::new(0, InboxStore::Off);
    DiesUnderATry::meets(&mut core, |dies, millis, output| {
        let Output::AskRoutes { ask, users } = output else { return None };
        let is_refused = dies.refuses(millis, users.iter().any(|user| user.starts_with("bad")));
        is_refused.then(|| (STEP, Input::Routes { ask: *ask, answer: Err(refused()) }))
    });
    let counts = core.push.counts();
    let bad = counts.unreached_by[crate::model::outcome::RecipientOutcome::BadRoute as usize];
    assert_eq!((bad, core.push.events_in_flight()), (0, 0), "an outage is no bad route");
}

#[test]
fn a_row_that_failed_once_is_not_charged_for_an_outage() {
    let mut core = Core::new(0, InboxStore::Offline);
    DiesUnderATry::meets(&mut core, |dies, millis, output| {
        let Output::Store { ask, rows } = output else { return None };
        let is_refused = dies.refuses(millis, rows.users.iter().any(|user| user.starts_with("bad")));
        is_refused.then(|| (STEP, Input::Stored { ask: *ask, answer: Err(refused()) }))
    });
    assert_eq!((core.letters.len(), core.push.events_in_flight()), (0, 0), "an outage is no letter");
}

/// The queue of the store's threads is full for one event's rows each time it is asked for, while others are stored.
#[test]
fn rows_that_meet_a_full_queue_are_no_letters() {
    let mut core = Core::new(3, InboxStore::Offline);
    let mut refusals = 0;
    let mut store = |millis: u64, output: &Output| {
        let Output::Store { ask, rows } = output else { return None };
        let is_full = millis < 200_000 && rows.users.iter().any(|user| user == "good7");
        is_full.then(|| {
            refusals += 1;
            (STEP, not_asked_of_inbox(*ask))
        })
    };
    core.publish("good7");
    for step in 0..12_000 {
        if step % 5 == 1 {
            core.publish("good0");
        }
        core.turn(&mut store);
    }
    assert!(refusals > 3, "{refusals}");
    assert_eq!((core.letters.len(), core.push.events_in_flight() < 5), (0, true), "{:?}", core.letters);
}

#[test]
fn an_owner_whose_rows_are_refused_holds_few_events_once_one_was_given_up() {
    let mut core = Core::new(3, InboxStore::Offline);
    let mut store = |_: u64, output: &Output| {
        let Output::Store { ask, rows } = output else { return None };
        let is_refused = rows.users.iter().any(|user| user.starts_with("bad"));
        is_refused.then(|| (STEP, Input::Stored { ask: *ask, answer: Err(refused()) }))
    };
    let mut held = 0;
    for step in 0..15_000 {
        if step % 5 == 0 {
            core.publish("bad0");
            core.publish("good0");
        }
        core.turn(&mut store);
        if step > 7_000 {
            held = held.max(core.push.events_in_flight());
        }
    }
    println!("at most {held} events held");
    assert!(held < 60, "{held}");
    assert!(core.letters.iter().all(|(reason, detail)| *reason == "inbox_rejected" && detail.contains("bad0")));
}

/// The queues are full for every other ask, whoever asks; one session fails meanwhile.
#[test]
fn full_queues_before_members_and_letters_cost_nothing_but_time() {
    let mut core = Core::new(0, InboxStore::Off);
    core.push = core.push.with_final_letters(true);
    let (mut asks, mut refusals) = (0, 0);
    let mut store = |_: u64, output: &Output| {
        let (of, ask) = match output {
            Output::AskMembers { ask, .. } => (Queue::Members, *ask),
            Output::PublishLetter { ask, .. } => (Queue::DeadLetters, *ask),
            _ => return None,
        };
        asks += 1;
        if asks % 2 == 0 {
            refusals += 1;
            return Some((STEP, Input::NotAsked { of, ask }));
        }
        match output {
            Output::AskMembers { sessions, .. } if is_bad(sessions) => Some((STEP, members_refused(ask))),
            _ => None,
        }
    };
    core.publish("bad0");
    for step in 0..1_000 {
        if step % 7 == 0 {
            core.publish("good0");
            core.publish("good1");
        }
        core.turn(&mut store);
    }
    (0..200).for_each(|_| core.turn(&mut |_, _| None));
    let ended = &core.push.counts().events_ended;
    assert!(refusals > 100 && core.push.activity().asks_not_taken == refusals, "{refusals}");
    assert_eq!(ended[EventOutcome::DeadLetterLost as usize], 0);
    assert!(core.letters.iter().all(|(_, detail)| detail.contains("bad0")), "{:?}", core.letters);
    assert_eq!((core.letters.is_empty(), core.push.events_in_flight()), (false, 0));
}

fn not_reached() -> LookupError {
    LookupError::NotReached("1040: too many connections".to_owned())
}

/// Each store has threads without a connection: of each kind of ask two of three never leave, all of one session's, and all of
/// everybody's for a while.
#[test]
fn asks_that_never_left_cost_nothing_but_time() {
    let mut core = Core::new(0, InboxStore::Offline);
    core.push = core.push.with_final_letters(true);
    let mut asks = 0;
    let mut store = |millis: u64, output: &Output| {
        asks += 1;
        let is_lost = |is_his: bool| (is_his && millis < 60_000) || asks % 3 != 0 || (20_000..25_000).contains(&millis);
        let input = match output {
            Output::AskMembers { ask, sessions, .. } if is_lost(is_bad(sessions)) => {
                Input::Members { ask: *ask, answer: Err(not_reached()) }
            }
            Output::AskRoutes { ask, users } if is_lost(users.iter().any(|user| user == "good7")) => {
                Input::Routes { ask: *ask, answer: Err(not_reached()) }
            }
            Output::Store { ask, rows } if is_lost(rows.users.iter().any(|user| user == "good8")) => {
                Input::Stored { ask: *ask, answer: Err(not_reached()) }
            }
            Output::PublishLetter { ask, .. } if is_lost(false) => {
                Input::LetterPublished { ask: *ask, answer: Err(not_reached()) }
            }
            _ => return None,
        };
        Some((STEP, input))
    };
    for step in 0..5_000 {
        if step % 10 == 0 && step < 3_500 {
            ["bad0", "good0", "good1", "good7", "good8"].iter().for_each(|session| core.publish(session));
        }
        core.turn(&mut store);
    }
    let ended = &core.push.counts().events_ended;
    assert_eq!((core.letters.len(), core.push.events_in_flight()), (0, 0), "{:?}", core.letters.first());
    assert_eq!(ended[EventOutcome::Settled as usize], 5 * 350);
}

fn not_asked_of_inbox(ask: u64) -> Input {
    Input::NotAsked { of: Queue::Inbox, ask }
}

#[test]
fn a_probe_that_fails_is_said_in_the_words_of_its_store() {
    let (mut core, mut said) = (Core::new(3, InboxStore::Off), Vec::new());
    core.publish("s");
    for _ in 0..1_500 {
        core.turn(&mut |_, output| match output {
            Output::AskMembers { ask, .. } => Some((STEP, members_refused(*ask))),
            Output::Warn { reason: "members_unavailable", detail } => {
                said.push(detail.clone());
                None
            }
            _ => None,
        });
    }
    assert_eq!(said[0], "session s: 1105: as told");
    assert!(said[1..].iter().any(|detail| detail.starts_with("1105: as told")), "{said:?}");
}
