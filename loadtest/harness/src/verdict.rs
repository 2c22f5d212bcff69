//! The verdict by identity: each (session, message, recipient) is expected exactly once, in order, unchanged, at the gateway
//! that the user is connected to, and at each of several.
//!
//! Promises exact counts of what was lost, repeated, out of order, misdelivered or corrupt, and the first ten cases in words,
//! in a bit or two a push: messages carry what must be known of them, so that nothing has to be looked up. A row in the inbox
//! is as good as a push; of an engine that has an inbox, whoever cannot be reached must have one, and must not where the content of
//! the message is kept. A fleeting message may be shed, and the engine must have counted that; no other may. Of each class the engine
//! must have ended as many events as were published. Whoever a notice told of a sequence knows each message up to it. Refuses to judge pushes at
//! gateways that are deaf or refuse everybody: they are counted as excused.

mod book;
mod classes;
mod copies;
mod counts;
mod judge;
mod message;
mod notices;
mod shed;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use task_engine::model::priority::Priority;

use self::book::Book;
pub use self::counts::VerdictCounts;
use self::judge::Fault;
use self::message::Messages;
pub use self::message::key_of as message_key;
pub use self::shed::ShedByEngine;
use crate::gateways::{Noticed, Recorder, Seen};
use crate::guests::is_guest;
use crate::workload::How;
use crate::world::World;

const CASES_SHOWN: usize = 10;
/// Latencies from a microsecond to two minutes, to three digits.
const LATENCY_NANOS: (u64, u64, u8) = (1_000, 120_000_000_000, 3);

/// Keeps the books; gateways tell it every push.
#[derive(Debug)]
pub struct Verdict {
    world: Arc<World>,
    books: Vec<Mutex<Book>>,
    messages: Messages,
    /// By gateway: whether a push may come there again, since it cuts its streams.
    may_repeat_at: Vec<bool>,
    /// Whether whoever cannot be reached must have a row in the inbox.
    owes_rows: AtomicBool,
    /// Whether gateways announced notices.
    takes_notices: AtomicBool,
    counts: Counts,
    /// By group of sessions: the latencies since they were last taken.
    recent: Vec<Mutex<Histogram<u64>>>,
    /// The same by class of messages; empty where they say none.
    recent_by_class: Vec<Mutex<Histogram<u64>>>,
    shed_by_engine: Mutex<ShedByEngine>,
    /// Events that the engine ended, by class; none when it does not say.
    ended_by_class: Mutex<Option<[u64; Priority::COUNT]>>,
    /// Recipients who were told by notices as the engine counts them; none when it does not say.
    told_by_engine: Mutex<Option<[u64; 2]>>,
    cases: Mutex<Vec<String>>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Events that were published.
    pub events: u64,
    /// Pushes that are to come of them.
    pub expected: u64,
    /// Of these, those that came, or whose recipients a notice told of.
    pub delivered: u64,
}

#[derive(Debug, Default)]
struct Counts {
    events: AtomicU64,
    expected: AtomicU64,
    delivered: AtomicU64,
    repeated: AtomicU64,
    /// Of the repeated ones, those that no cut stream explains.
    repeated_without_cause: AtomicU64,
    out_of_order: AtomicU64,
    misdelivered: AtomicU64,
    corrupt: AtomicU64,
    refused: AtomicU64,
    excused: AtomicU64,
    stored: AtomicU64,
    not_taken: AtomicU64,
    noticed: AtomicU64,
    conflated: AtomicU64,
    /// The most notices of one session that one stream had without an answer.
    notices_at_once: AtomicU64,
}

impl Verdict {
    /// Empty books for a world.
    pub fn new(world: Arc<World>) -> Arc<Self> {
        let workload = world.workload();
        let flaps = |gateway| workload.misbehaviour_of(gateway).is_some_and(|it| it.how == How::Flapping);
        let flapping: Vec<bool> = (0..workload.gateways).map(flaps).collect();
        // What a cut stream left unanswered may come again where the user has moved to.
        let anywhere = workload.moves_per_second > 0 && flapping.contains(&true);
        Arc::new(Self {
            books: (0..world.sessions()).map(|_| Mutex::default()).collect(),
            messages: Messages::new(workload.content_bytes),
            may_repeat_at: flapping.into_iter().map(|flaps| flaps || anywhere).collect(),
            owes_rows: AtomicBool::new(false),
            takes_notices: AtomicBool::new(false),
            counts: Counts::default(),
            recent: workload.sessions.iter().map(|_| Mutex::new(histogram())).collect(),
            recent_by_class: Priority::ALL
                .iter()
                .filter(|_| workload.has_classes())
                .map(|_| Mutex::new(histogram()))
                .collect(),
            shed_by_engine: Mutex::default(),
            ended_by_class: Mutex::default(),
            told_by_engine: Mutex::default(),
            cases: Mutex::default(),
            world,
        })
    }

    /// Enters a session's next message into the books and writes its PushEvent into `payload` in place of what is there;
    /// `intended_nanos` is the instant on [`clock::now`](crate::clock::now) that it is meant to be sent at. Gives the
    /// message's number in its session.
    pub fn next_event(&self, session: usize, intended_nanos: u64, payload: &mut Vec<u8>) -> u32 {
        let number = self.enter(session, intended_nanos);
        self.counts.events.fetch_add(1, Ordering::Relaxed);
        self.counts.expected.fetch_add(self.world.expected(session).into(), Ordering::Relaxed);
        self.messages.encode(session, self.world.sender(session), number, intended_nanos, payload);
        number
    }

    /// The broker did not take this message: nobody is to get it.
    pub fn not_taken(&self, session: usize, number: u32) {
        if self.books.get(session).is_some_and(|book| lock(book).strike_out(number)) {
            self.counts.not_taken.fetch_add(1, Ordering::Relaxed);
            self.counts.expected.fetch_sub(self.world.expected(session).into(), Ordering::Relaxed);
        }
    }

    /// From now on whoever cannot be reached (offline, or at a gateway that is deaf or refuses everybody) must have a row.
    pub fn expect_rows(&self) {
        self.owes_rows.store(true, Ordering::Relaxed);
    }

    /// The content of this message is kept: nobody may get a row.
    pub fn keeps_content(&self, session: usize, number: u32) {
        lock(&self.books[session]).keep_content(number);
    }

    /// A row of the inbox: this recipient has the message there, whether or not it was pushed as well.
    pub fn stored(&self, session_name: &str, user_name: &str, msg_id: i64) {
        if is_guest(user_name) {
            return;
        }
        let world = &self.world;
        let place = world.session_of(session_name).zip(world.user_of(user_name)).and_then(|(session, user)| {
            let number = message::number_of(session, msg_id).filter(|number| !self.is_fleeting(session, *number))?;
            let member = world.member_number(session, user).filter(|member| *member > 0)?;
            let mut book = lock(&self.books[session]);
            if book.is_readable(number) {
                return None;
            }
            if !self.is_owed(user) {
                return Some(());
            }
            // Whoever reads it there has it, whatever the gateways did.
            (0..world.devices(user))
                .try_for_each(|device| book.take(number, self.slot(member, device), self.slots(session)).map(|_| ()))
        });
        self.counts.stored.fetch_add(1, Ordering::Relaxed);
        if place.is_none() {
            self.counts.misdelivered.fetch_add(1, Ordering::Relaxed);
            self.say(format!("a row that nobody asked for: {session_name} message {msg_id} to {user_name}"));
        }
    }

    /// How many places a message of a session has in the book: one for each connection of each member.
    fn slots(&self, session: usize) -> u32 {
        self.world.members_count(session) * self.world.devices_max()
    }

    fn slot(&self, member: u32, device: u32) -> u32 {
        member * self.world.devices_max() + device
    }

    /// What it is the verdict on.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// How far it is; cheap.
    pub fn progress(&self) -> Progress {
        let Counts { events, expected, delivered, .. } = &self.counts;
        // In this order: what is read as delivered was expected before.
        let delivered = delivered.load(Ordering::Acquire);
        Progress { events: events.load(Ordering::Relaxed), expected: expected.load(Ordering::Acquire), delivered }
    }

    /// The latencies of what came since the last call, in nanoseconds, by group of sessions.
    pub fn take_recent_by_group(&self) -> Vec<Histogram<u64>> {
        self.recent.iter().map(take).collect()
    }

    /// The same by class of messages, as [`Priority::ALL`] has them; none where messages say no class.
    pub fn take_recent_by_class(&self) -> Vec<Histogram<u64>> {
        self.recent_by_class.iter().map(take).collect()
    }

    /// The same of all groups together.
    pub fn take_recent(&self) -> Histogram<u64> {
        sum(self.take_recent_by_group())
    }

    /// Faults that are known so far; what is lost is known only at the end.
    pub fn wrong_so_far(&self) -> u64 {
        let Counts { repeated_without_cause, out_of_order, misdelivered, corrupt, .. } = &self.counts;
        [repeated_without_cause, out_of_order, misdelivered, corrupt]
            .map(|count| count.load(Ordering::Relaxed))
            .iter()
            .sum()
    }

    /// The verdict, once nothing is under way.
    pub fn findings(&self) -> VerdictCounts {
        let mut cases = lock(&self.cases).clone();
        let lost = (0..self.books.len()).map(|session| self.lost(session, &mut cases)).sum();
        let of_engine = self.shed_fault().into_iter().chain(self.classes_fault()).chain(self.notices_fault());
        let of_engine: Vec<String> = of_engine.collect();
        let is_clean = lost == 0 && self.wrong_so_far() == 0 && of_engine.is_empty();
        cases.extend(of_engine);
        let count = |count: &AtomicU64| count.load(Ordering::Acquire);
        let (counts, progress) = (&self.counts, self.progress());
        let (noticed, conflated) = (count(&counts.noticed), count(&counts.conflated));
        VerdictCounts {
            expected: progress.expected,
            delivered: progress.delivered.saturating_sub(noticed + conflated),
            noticed,
            conflated,
            notices_at_once: count(&counts.notices_at_once),
            last_known_ms: self.last_known_ms(),
            lost,
            repeated: count(&counts.repeated),
            out_of_order: count(&counts.out_of_order),
            misdelivered: count(&counts.misdelivered),
            corrupt: count(&counts.corrupt),
            refused: count(&counts.refused),
            excused: count(&counts.excused),
            stored: count(&counts.stored),
            readable: (0..self.books.len()).map(|session| self.readable(session)).sum(),
            shed: self.fleeting_recipients_missing(|user| self.world.is_judged(user)),
            not_taken_events: count(&counts.not_taken),
            may_repeat: self.may_repeat_at.contains(&true),
            is_clean,
            cases,
        }
    }

    /// How many recipients of a session read a message by its content.
    fn readable(&self, session: usize) -> u64 {
        match lock(&self.books[session]).readable() {
            0 => 0,
            messages => u64::from(messages) * u64::from(self.world.offline_members(session)),
        }
    }

    /// What a session is missing; while there is room, in words.
    fn lost(&self, session: usize, cases: &mut Vec<String>) -> u64 {
        let book = lock(&self.books[session]);
        let (expected, readable) = (u64::from(book.expected()), u64::from(book.readable()));
        let due =
            (expected - readable) * u64::from(self.owed(session)) + readable * u64::from(self.world.expected(session));
        // What came of a message before the broker said that it did not take it is more than was expected.
        let lost = due.saturating_sub(book.came()).saturating_sub(self.fleeting_pushes_missing(session, &book));
        if lost == 0 {
            return 0;
        }
        let is_owed_at_all = |message: &u32| !book.is_struck_out(*message) && !self.is_fleeting(session, *message);
        for message in (0..book.sent()).filter(is_owed_at_all) {
            for number in 1..self.world.members_count(session) {
                let user = self.world.member(session, number);
                let is_owed = if book.is_readable(message) { self.world.is_judged(user) } else { self.is_owed(user) };
                for device in (0..self.world.devices(user)).filter(|_| is_owed) {
                    if cases.len() >= CASES_SHOWN {
                        return lost;
                    }
                    if !book.has(message, self.slot(number, device), self.slots(session)) {
                        cases.push(self.describe_lost(session, message, user, device));
                    }
                }
            }
        }
        lost
    }

    fn describe_lost(&self, session: usize, message: u32, user: u32, device: u32) -> String {
        let place = self.world.place(user);
        let at = self.world.gateways_of(user, place.current).nth(device as usize).map(World::gateway_name);
        let place = if place.is_offline { "offline".to_owned() } else { format!("at {}", at.unwrap_or_default()) };
        let (session, user) = (World::session_name(session), World::user_name(user));
        format!("lost: {session} message {message} to {user}, who is {place}")
    }

    /// How many pushes or rows each of a session's messages must have.
    fn owed(&self, session: usize) -> u32 {
        if !self.owes_rows.load(Ordering::Relaxed) {
            return self.world.expected(session);
        }
        match self.world.devices_max() {
            1 => self.world.members_count(session) - 1,
            _ => self.world.members(session).skip(1).map(|user| self.world.devices(user)).sum(),
        }
    }

    fn is_owed(&self, user: u32) -> bool {
        self.owes_rows.load(Ordering::Relaxed) || self.world.is_judged(user)
    }

    #[cold]
    fn note(&self, fault: Fault, (gateway, recipient, session): (&str, &str, &str)) {
        let counts = &self.counts;
        let (count, words) = match fault {
            Fault::Repeated { message } => (
                &counts.repeated_without_cause,
                format!("repeated: {session} message {message} to {recipient} at {gateway}"),
            ),
            Fault::OutOfOrder { message } => (
                &counts.out_of_order,
                format!("out of order: {session} message {message} to {recipient} at {gateway}, after a later one"),
            ),
            Fault::Misdelivered(why) => {
                (&counts.misdelivered, format!("misdelivered: {session} to {recipient} at {gateway}: {why}"))
            }
            Fault::Corrupt(why) => (&counts.corrupt, format!("corrupt: {session} to {recipient} at {gateway}: {why}")),
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.say(words);
    }

    fn say(&self, words: String) {
        let mut cases = lock(&self.cases);
        if cases.len() < CASES_SHOWN {
            cases.push(words);
        }
    }
}

impl Recorder for Verdict {
    fn push(&self, seen: &Seen<'_>) {
        if let Err(fault) = self.judge(seen) {
            self.note(fault, (&seen.gateway[..], seen.recipient, seen.session));
        }
    }

    fn notice(&self, told: &Noticed<'_>) {
        if let Err(fault) = self.judge_notice(told) {
            self.note(fault, (&told.gateway[..], told.recipient, told.session));
        }
    }

    fn unreadable(&self, gateway: &Arc<str>) {
        self.counts.corrupt.fetch_add(1, Ordering::Relaxed);
        self.say(format!("corrupt: a request to {gateway} cannot be read"));
    }

    fn is_connected(&self, gateway: &str, user: &str) -> bool {
        let world = &self.world;
        let (Some(gateway), Some(user)) = (world.gateway_of(gateway), world.user_of(user)) else { return false };
        let refuses_all = || world.workload().misbehaviour_of(gateway).is_some_and(|it| it.how == How::Refusing);
        world.places().is_connected(user, gateway) && !(world.places().is_excused(gateway) && refuses_all())
    }
}

fn histogram() -> Histogram<u64> {
    let (low, high, digits) = LATENCY_NANOS;
    Histogram::new_with_bounds(low, high, digits).expect("constants that the crate takes")
}

/// What is in it; from now on it is empty.
fn take(recent: &Mutex<Histogram<u64>>) -> Histogram<u64> {
    // Made before the lock is taken: gateways wait for it.
    let empty = histogram();
    std::mem::replace(&mut *lock(recent), empty)
}

/// Of [`histogram`]s, which all have the same bounds.
pub fn sum(histograms: Vec<Histogram<u64>>) -> Histogram<u64> {
    let add = |mut sum: Histogram<u64>, other: Histogram<u64>| {
        sum.add(&other).expect("histograms of the same bounds");
        sum
    };
    histograms.into_iter().reduce(add).unwrap_or_else(histogram)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
