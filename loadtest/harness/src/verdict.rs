//! The verdict by identity: each (session, message, recipient) is expected exactly once, in order, unchanged, at the gateway
//! that the user is connected to, and at each of several.
//!
//! Promises exact counts of what was lost, repeated, out of order, misdelivered or corrupt, and the first ten cases in words,
//! in a bit or two a push: messages carry what must be known of them, so that nothing has to be looked up. A row in the inbox
//! is as good as a push; of an engine that has an inbox, whoever cannot be reached must have one, and must not where the content of
//! the message is kept. A fleeting message may be shed, and the engine must have counted that; no other may. Of each class the engine
//! must have ended as many events as were published. Refuses to judge pushes at
//! gateways that are deaf or refuse everybody: they are counted as excused.

mod book;
mod classes;
mod counts;
mod message;
mod shed;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use task_engine::model::priority::Priority;

use self::book::{Book, Came};
pub use self::counts::VerdictCounts;
use self::message::Messages;
pub use self::message::key_of as message_key;
pub use self::shed::ShedByEngine;
use crate::gateways::{Answer, Recorder, Seen};
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
    counts: Counts,
    /// By group of sessions: the latencies since they were last taken.
    recent: Vec<Mutex<Histogram<u64>>>,
    /// The same by class of messages; empty where they say none.
    recent_by_class: Vec<Mutex<Histogram<u64>>>,
    shed_by_engine: Mutex<ShedByEngine>,
    /// Events that the engine ended, by class; none when it does not say.
    ended_by_class: Mutex<Option<[u64; Priority::COUNT]>>,
    cases: Mutex<Vec<String>>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Events that were published.
    pub events: u64,
    /// Pushes that are to come of them.
    pub expected: u64,
    /// Of these, those that came.
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
}

/// What is wrong with a push.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Repeated { message: u32 },
    OutOfOrder { message: u32 },
    Misdelivered(&'static str),
    Corrupt(&'static str),
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
            counts: Counts::default(),
            recent: workload.sessions.iter().map(|_| Mutex::new(histogram())).collect(),
            recent_by_class: Priority::ALL
                .iter()
                .filter(|_| workload.has_classes())
                .map(|_| Mutex::new(histogram()))
                .collect(),
            shed_by_engine: Mutex::default(),
            ended_by_class: Mutex::default(),
            cases: Mutex::default(),
            world,
        })
    }

    /// Enters a session's next message into the books and writes its PushEvent into `payload` in place of what is there;
    /// `intended_nanos` is the instant on [`clock::now`](crate::clock::now) that it is meant to be sent at. Gives the
    /// message's number in its session.
    pub fn next_event(&self, session: usize, intended_nanos: u64, payload: &mut Vec<u8>) -> u32 {
        let number = lock(&self.books[session]).enter(self.slots(session));
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
        let of_classes: Vec<String> = self.shed_fault().into_iter().chain(self.classes_fault()).collect();
        let is_clean = lost == 0 && self.wrong_so_far() == 0 && of_classes.is_empty();
        cases.extend(of_classes);
        let count = |count: &AtomicU64| count.load(Ordering::Acquire);
        let (counts, progress) = (&self.counts, self.progress());
        VerdictCounts {
            expected: progress.expected,
            delivered: progress.delivered,
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

    fn judge(&self, seen: &Seen<'_>) -> Result<(), Fault> {
        let (world, counts) = (&self.world, &self.counts);
        let session = world.session_of(seen.session).ok_or(Fault::Corrupt("there is no such session"))?;
        let user = world.user_of(seen.recipient).ok_or(Fault::Misdelivered("there is no such user"))?;
        let member = world.member_number(session, user).ok_or(Fault::Misdelivered("the user is not in the session"))?;
        if member == 0 {
            return Err(Fault::Misdelivered("the user is its sender"));
        }
        let place = world.place(user);
        if place.is_offline {
            return Err(Fault::Misdelivered("the user is offline"));
        }
        let gateway = world.gateway_of(seen.gateway);
        let at = gateway.and_then(|gateway| Some((gateway, world.places().device_at(user, gateway)?)));
        let (gateway, device) = at.ok_or(Fault::Misdelivered("the user is not connected there"))?;
        if world.places().is_excused(gateway) {
            counts.excused.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        if seen.answer == Answer::Refused {
            counts.refused.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let read = self.messages.read(session, seen.content).map_err(Fault::Corrupt)?;
        if seen.msg_id != message::msg_id(session, read.number) {
            return Err(Fault::Corrupt("its msg_id is another one's"));
        }
        if world.user_of(seen.from) != Some(world.sender(session)) {
            return Err(Fault::Corrupt("its sender is not who sent it"));
        }
        if seen.seq_id != i64::from(read.number) + 1 {
            return Err(Fault::Corrupt("its seq_id is another one's"));
        }
        if seen.kind != message::KIND {
            return Err(Fault::Corrupt("its type is not what was published"));
        }
        if seen.timestamp != message::timestamp(read.intended_nanos) {
            return Err(Fault::Corrupt("its timestamp is not what was published"));
        }
        let came = lock(&self.books[session]).take(read.number, self.slot(member, device), self.slots(session));
        let came = came.ok_or(Fault::Corrupt("it was never sent"))?;
        if came == Came::Again {
            let message = read.number;
            counts.repeated.fetch_add(1, Ordering::Relaxed);
            return if self.may_repeat_at[gateway as usize] { Ok(()) } else { Err(Fault::Repeated { message }) };
        }
        let took = seen.at.saturating_sub(read.intended_nanos);
        lock(&self.recent[world.group_of(session)]).saturating_record(took);
        if let Some(class) = world.class_of(session, read.number) {
            lock(&self.recent_by_class[class as usize]).saturating_record(took);
        }
        counts.delivered.fetch_add(1, Ordering::Release);
        if came == Came::Late { Err(Fault::OutOfOrder { message: read.number }) } else { Ok(()) }
    }

    #[cold]
    fn note(&self, fault: Fault, seen: &Seen<'_>) {
        let Seen { gateway, recipient, session, .. } = seen;
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
            self.note(fault, seen);
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
