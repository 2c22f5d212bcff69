//! The ports inside one process: for `make demo`, examples and tests, where no server runs.
//!
//! Promises what the real adapters promise: a publisher's events keep their order, a full engine makes the publisher
//! wait, a stop hands in all that was accepted, and a changed member, route or gateway is seen by the next lookup.
//! Refuses to forget a change of a route: changes of one user that were not yet told become one.

mod writers;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use atomic_waker::AtomicWaker;
use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::model::ids::{GatewayId, SessionId};
use crate::model::limits::INTAKE_LANE_EVENTS;
use crate::model::names::{NameList, Route, RouteList};
use crate::model::priority::Said;
use crate::ports::{
    ControlFuture, DeliveryTag, GatewayRecord, Health, Intake, LocalFuture, LookupError, MemberReader, Members,
    Registry, RegistrySink, RouteQueue, Routes, RunningSource, Settled, Source,
};

pub use writers::{InboxRow, MemoryDeadLetters, MemoryInbox};

/// How often an idle reader looks whether it is to stop.
const STOP_POLL: Duration = Duration::from_millis(20);
/// How long a stop waits for the shards to make room for what was accepted.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// A source that is fed by [`Publisher`]s.
#[derive(Debug)]
pub struct MemorySource {
    events: Receiver<(Bytes, Said)>,
    gate: Arc<Gate>,
}

/// Feeds an [`MemorySource`], from any thread.
#[derive(Clone, Debug)]
pub struct Publisher {
    events: Sender<(Bytes, Said)>,
    gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    /// Publishers hold it while they send, so that whoever closes it knows that all that was accepted is sent.
    closed: RwLock<bool>,
    /// Set after `closed`, for the reader: it must not wait for a lock that full publishers hold.
    all_sent: AtomicBool,
    settled: AtomicU64,
}

/// The source takes no more events: it was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceStopped;

impl fmt::Display for SourceStopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the source in memory was stopped")
    }
}

impl std::error::Error for SourceStopped {}

impl MemorySource {
    /// A source and what feeds it.
    pub fn new() -> (Self, Publisher) {
        let (sender, events) = bounded(INTAKE_LANE_EVENTS);
        let gate = Arc::new(Gate::default());
        (Self { events, gate: gate.clone() }, Publisher { events: sender, gate })
    }
}

impl Publisher {
    /// Publishes one PushEvent; waits for as long as the engine takes no more.
    ///
    /// # Errors
    /// When the source was stopped: the event will not be pushed.
    pub fn publish(&self, payload: Vec<u8>) -> Result<(), SourceStopped> {
        self.publish_as(payload, Said::Nothing)
    }

    /// The same for an event whose class is said, as other publishers say it in the header of `priority.header`.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn publish_as(&self, payload: Vec<u8>, said: Said) -> Result<(), SourceStopped> {
        let closed = self.gate.closed.read().unwrap_or_else(PoisonError::into_inner);
        if *closed {
            return Err(SourceStopped);
        }
        self.events.send((payload.into(), said)).map_err(|_| SourceStopped)
    }

    /// How many events the engine has settled.
    pub fn settled(&self) -> u64 {
        self.gate.settled.load(Ordering::Acquire)
    }
}

impl Source for MemorySource {
    fn start(self: Box<Self>, intake: Intake) -> io::Result<Box<dyn RunningSource>> {
        let (ended, end) = bounded::<()>(0);
        let gate = self.gate.clone();
        intake.report(0, Health::Ready);
        let reader_intake = intake.clone();
        thread::Builder::new().name("memory-read".to_owned()).spawn(move || {
            let _ended = ended;
            read(&self, &reader_intake);
        })?;
        Ok(Box::new(RunningMemory { gate, intake, end }))
    }
}

fn read(source: &MemorySource, intake: &Intake) {
    let mut number = 0;
    loop {
        // Looked at before the channel: an empty one is then empty for good.
        let all_sent = source.gate.all_sent.load(Ordering::Acquire);
        let first = match source.events.recv_timeout(STOP_POLL) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) if !all_sent && !intake.is_stopping() => continue,
            Err(_) => return,
        };
        let mut burst = intake.burst();
        for (payload, said) in std::iter::once(first).chain(source.events.try_iter()) {
            // A refusal is counted where it is made; the rest is read on, so that it is counted too.
            burst.on(intake.passage(None, &payload, said)).put(payload, DeliveryTag { reader: 0, number });
            number += 1;
        }
    }
}

struct RunningMemory {
    gate: Arc<Gate>,
    intake: Intake,
    end: Receiver<()>,
}

impl RunningSource for RunningMemory {
    fn settle(&self, tags: &[Settled]) {
        self.gate.settled.fetch_add(tags.len() as u64, Ordering::AcqRel);
    }

    fn stop(&self) {
        // The lock is free once the reader has made room for the publishers that wait; a thread of its own, since the
        // shards may make none.
        let gate = self.gate.clone();
        let closer = thread::Builder::new().name("memory-stop".to_owned()).spawn(move || {
            *gate.closed.write().unwrap_or_else(PoisonError::into_inner) = true;
            gate.all_sent.store(true, Ordering::Release);
        });
        let in_time = self.end.recv_timeout(STOP_DEADLINE) == Err(RecvTimeoutError::Disconnected);
        if !in_time || closer.is_err() {
            self.intake.stop();
            let _ = self.end.recv_timeout(STOP_DEADLINE);
        }
    }
}

/// Who is in a session, in memory; clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryMembers(Arc<RwLock<HashMap<String, NameList>>>);

impl MemoryMembers {
    /// Nobody is in any session.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on these are the session's members.
    pub fn set<S: AsRef<str>>(&self, session: &str, members: impl IntoIterator<Item = S>) {
        let members = members.into_iter().collect();
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(session.to_owned(), members);
    }

    /// From now on the session has no members.
    pub fn remove(&self, session: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(session);
    }
}

impl Members for MemoryMembers {
    fn open(&self) -> Box<dyn MemberReader> {
        Box::new(self.clone())
    }
}

impl MemberReader for MemoryMembers {
    fn members(&mut self, sessions: &[SessionId]) -> Result<Vec<NameList>, LookupError> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Ok(sessions.iter().map(|session| all.get(&**session).cloned().unwrap_or_default()).collect())
    }
}

/// Where users are connected, in memory; clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryRoutes(Arc<RouteTable>);

#[derive(Debug, Default)]
struct RouteTable {
    /// By user the gateways, the newest first.
    routes: RwLock<HashMap<String, Vec<String>>>,
    shards: Mutex<Vec<Weak<Changes>>>,
}

/// Changed users that one shard was not yet told of: no more than there are users.
#[derive(Debug, Default)]
struct Changes {
    users: Mutex<HashSet<String>>,
    waker: AtomicWaker,
}

impl MemoryRoutes {
    /// Everybody is offline.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on the user is connected to this gateway.
    pub fn set(&self, username: &str, gateway_id: &str) {
        self.set_each(username, [gateway_id]);
    }

    /// From now on the user is connected to each of these gateways, of which the first is the newest.
    pub fn set_each<S: Into<String>>(&self, username: &str, gateway_ids: impl IntoIterator<Item = S>) {
        let gateways = gateway_ids.into_iter().map(Into::into).collect();
        self.0.write().insert(username.to_owned(), gateways);
        self.0.tell(username);
    }

    /// From now on the user is offline.
    pub fn remove(&self, username: &str) {
        self.0.write().remove(username);
        self.0.tell(username);
    }
}

impl RouteTable {
    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<String, Vec<String>>> {
        self.routes.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, username: &str) {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        shards.retain(|shard| {
            let Some(changes) = shard.upgrade() else { return false };
            changes.users.lock().unwrap_or_else(PoisonError::into_inner).insert(username.to_owned());
            changes.waker.wake();
            true
        });
    }

    fn find(&self, users: &NameList) -> RouteList {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let mut list = RouteList::new();
        for user in users.iter() {
            match routes.get(user) {
                Some(gateways) if !gateways.is_empty() => list.push_gateways(gateways.iter().map(String::as_str)),
                _ => list.push(Route::Offline),
            }
        }
        list
    }
}

impl Changes {
    fn poll_take(&self, context: &mut Context<'_>) -> Poll<HashSet<String>> {
        self.waker.register(context.waker());
        let changed = std::mem::take(&mut *self.users.lock().unwrap_or_else(PoisonError::into_inner));
        if changed.is_empty() { Poll::Pending } else { Poll::Ready(changed) }
    }
}

impl Routes for MemoryRoutes {
    fn serve(&self, port: RouteQueue) -> LocalFuture<()> {
        let table = self.0.clone();
        let changes = Arc::new(Changes::default());
        table.shards.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&changes));
        Box::pin(async move {
            // Changes are told from here on, so what is answered may be kept.
            port.set_tracking(true);
            port.report(Health::Ready);
            loop {
                let mut next = pin!(port.next());
                let ask = poll_fn(|context| {
                    while let Poll::Ready(users) = changes.poll_take(context) {
                        users.iter().for_each(|user| port.changed(user));
                    }
                    next.as_mut().poll(context)
                })
                .await;
                port.answer(ask.ask, Ok(table.find(&ask.users)));
            }
        })
    }
}

/// Which gateways there are, in memory; clones share it. At most one engine runs on it.
#[derive(Clone, Debug, Default)]
pub struct MemoryRegistry(Arc<GatewayTable>);

#[derive(Debug, Default)]
struct GatewayTable {
    gateways: Mutex<(BTreeMap<GatewayId, GatewayRecord>, BTreeSet<GatewayId>)>,
    waker: AtomicWaker,
}

impl MemoryRegistry {
    /// No gateway is listed.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on this gateway is listed, in place of an earlier record of the same id.
    pub fn set(&self, record: GatewayRecord) {
        let mut gateways = self.0.gateways.lock().unwrap_or_else(PoisonError::into_inner);
        gateways.1.insert(record.gateway_id.clone());
        gateways.0.insert(record.gateway_id.clone(), record);
        self.0.waker.wake();
    }

    /// From now on this gateway is not listed.
    pub fn remove(&self, gateway_id: &str) {
        let mut gateways = self.0.gateways.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((id, _)) = gateways.0.remove_entry(gateway_id) {
            gateways.1.insert(id);
        }
        self.0.waker.wake();
    }
}

impl GatewayTable {
    fn all(&self) -> Vec<GatewayRecord> {
        let mut gateways = self.gateways.lock().unwrap_or_else(PoisonError::into_inner);
        gateways.1.clear();
        gateways.0.values().cloned().collect()
    }

    /// The changed gateways; one without a record is gone.
    fn poll_changes(&self, context: &mut Context<'_>) -> Poll<Vec<(GatewayId, Option<GatewayRecord>)>> {
        self.waker.register(context.waker());
        let mut gateways = self.gateways.lock().unwrap_or_else(PoisonError::into_inner);
        let (records, changed) = &mut *gateways;
        if changed.is_empty() {
            return Poll::Pending;
        }
        Poll::Ready(std::mem::take(changed).into_iter().map(|id| (id.clone(), records.get(&id).cloned())).collect())
    }
}

impl Registry for MemoryRegistry {
    fn run(self: Box<Self>, sink: RegistrySink) -> ControlFuture<()> {
        Box::pin(async move {
            sink.replace_all(self.0.all());
            sink.report(Health::Ready);
            loop {
                for (id, record) in poll_fn(|context| self.0.poll_changes(context)).await {
                    match record {
                        Some(record) => sink.upsert(record),
                        None => sink.remove(&id),
                    }
                }
            }
        })
    }
}
