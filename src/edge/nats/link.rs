//! The one place that knows the `nats` crate (0.26, deprecated upstream, asked for by name).
//!
//! Its holes and what is done about each:
//! - `connect` has no deadline, and the timeout of `flush_timeout` is for writing only: it waits for its PONG for ever.
//!   So both are called by a thread of their own, on which the keeper waits for as long as it likes.
//! - It gives up after 60 tries to reconnect, and its receivers then block for ever: there is no maximum.
//! - A host name that does not resolve makes it spin: the delay callback sleeps itself.
//! - `unsubscribe` (and `drain`) forget the subscription before the server hears of it, so what the server sends in
//!   between is thrown away: see [`leave`].
//! - `dropped_messages` leaves out messages with headers; the error callback is called for each: that is what we count.

#![expect(clippy::disallowed_methods, reason = "the client's own thread, between its attempts")]
#![allow(deprecated)]

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Select, Sender, TryRecvError, bounded};
use nats::{Connection, Message, Subscription};

use super::jetstream::connect::{self, Arrival, Opened};
use super::jetstream::{Desk, Terms, Wanted, is_of_probe};
use super::server;
use crate::config::{NatsAuth, NatsConfig};
use crate::model::limits::NATS_PENDING_MESSAGES;
use crate::ports::Intake;
use crate::ports::intake::DropReason;
use crate::telemetry::log_limiter::LogLimiter;

/// Messages taken from one subscription before the next one has its turn and the shards are woken.
const BURST: usize = 256;
/// What the client holds of publishes while it reconnects: nothing, as it would send what fitted of a batch. (Its
/// default is 8 MiB a connection.)
const PUBLISH_BUFFER: usize = 0;
/// Nobody listens here; see [`leave`].
const NOWHERE: &str = "_INBOX.task-engine.nowhere";

/// What a connection's callbacks have seen.
#[derive(Debug)]
pub(super) struct LinkState {
    connected: AtomicBool,
    connections: AtomicU32,
    closed: AtomicBool,
    dropped: AtomicU64,
    refusal: Mutex<Option<String>>,
    nudge: Sender<()>,
}

impl LinkState {
    pub(super) fn new(nudge: Sender<()>) -> Self {
        Self {
            connected: AtomicBool::new(true),
            connections: AtomicU32::new(0),
            closed: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            refusal: Mutex::default(),
            nudge,
        }
    }

    /// Whether the client has a connection.
    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    /// How often the client has reconnected.
    pub(super) fn reconnects(&self) -> u32 {
        self.connections.load(Ordering::Acquire)
    }

    /// Whether the client has ended for good.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The connection is of no use any more, and why.
    pub(super) fn lose(&self, why: String) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        self.changed();
    }

    /// Why the connection is of no use, if that was found out: the server's refusal of a subscription, or what
    /// [`lose`](Self::lose) was told.
    pub(super) fn take_refusal(&self) -> Option<String> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn changed(&self) {
        // Full means that the keeper will look anyway.
        let _ = self.nudge.try_send(());
    }
}

/// What a connection is opened with.
pub(super) struct LinkPlan {
    /// The section of the configuration, with only the servers that answered just now.
    pub(super) nats: NatsConfig,
    pub(super) subjects: Vec<String>,
    pub(super) queue_group: String,
    pub(super) reader: u16,
    pub(super) state: Arc<LinkState>,
    pub(super) intake: Intake,
    pub(super) voices: Arc<Voices>,
    /// With JetStream; `subjects` and `queue_group` mean nothing then.
    pub(super) desk: Option<Arc<Desk>>,
}

/// What is said of all of a keeper's connections together.
#[derive(Debug, Default)]
pub(super) struct Voices {
    slow: LogLimiter,
    said: LogLimiter,
}

/// Why a connection could not be opened.
pub(super) enum OpenError {
    /// The client's words.
    Client(io::Error),
    /// Ours: what is wrong and what to do.
    Words(String),
}

/// A call for the link thread to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// A round trip to the server.
    Pulse,
    /// Have the server send no more, and wait until all that it sent is in the feed.
    Leave,
}

/// The keeper's end of a link thread. When it is dropped, the thread ends as soon as its present call does.
pub(super) struct Link {
    pub(super) opened: Receiver<Result<Subscriptions, OpenError>>,
    pub(super) asks: Sender<Ask>,
    pub(super) replies: Receiver<(Ask, io::Result<()>)>,
}

impl Link {
    /// Starts the thread, which connects, subscribes, and makes sure that the server knows.
    pub(super) fn open(plan: LinkPlan) -> io::Result<Self> {
        let (open, opened) = bounded(1);
        let (asks, asked) = bounded::<Ask>(1);
        let (reply, replies) = bounded(1);
        thread::Builder::new().name(format!("nats-link-{}", plan.reader)).spawn(move || {
            let connection = match connect(&plan) {
                Ok((connection, subscriptions)) => open.send(Ok(subscriptions)).is_ok().then_some(connection),
                Err(error) => {
                    let _ = open.send(Err(error));
                    None
                }
            };
            let Some(connection) = connection else { return };
            for ask in asked {
                let result = match ask {
                    Ask::Pulse => connection.flush_timeout(plan.nats.timeout),
                    Ask::Leave => leave(&connection, plan.subscriptions(), plan.nats.timeout),
                };
                if reply.send((ask, result)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { opened, asks, replies })
    }
}

impl LinkPlan {
    /// How many subscriptions messages come over; they are the connection's first.
    fn subscriptions(&self) -> usize {
        if self.desk.is_some() { 1 } else { self.subjects.len() }
    }
}

fn connect(plan: &LinkPlan) -> Result<(Connection, Subscriptions), OpenError> {
    let urls: Vec<String> = plan.nats.servers.iter().map(ToString::to_string).collect();
    let connection = options(plan).connect(urls.join(",")).map_err(OpenError::Client)?;
    if let Some(desk) = &plan.desk {
        let opened =
            connect::open(&connection, desk, plan.nats.timeout, &plan.state, &plan.intake).map_err(OpenError::Words)?;
        return Ok((connection, Subscriptions { all: opened.inbox.iter().cloned().collect(), opened: Some(opened) }));
    }
    let all = subscribe(&connection, plan).map_err(OpenError::Client)?;
    Ok((connection, Subscriptions { all, opened: None }))
}

fn subscribe(connection: &Connection, plan: &LinkPlan) -> io::Result<Vec<Subscription>> {
    let mut all = Vec::with_capacity(plan.subjects.len());
    for subject in &plan.subjects {
        let subscription = connection.queue_subscribe(subject, &plan.queue_group)?;
        subscription.set_message_limits(NATS_PENDING_MESSAGES);
        all.push(subscription);
    }
    connection.flush_timeout(plan.nats.timeout)?;
    Ok(all)
}

/// Options that only say who we are.
pub(super) fn plain_options(auth: &NatsAuth) -> nats::Options {
    match auth {
        NatsAuth::User { username, password } => nats::Options::with_user_pass(username, password.reveal()),
        NatsAuth::Token(token) => nats::Options::with_token(token.reveal()),
        NatsAuth::None => nats::Options::new(),
    }
}

fn options(plan: &LinkPlan) -> nats::Options {
    let (options, wait) = (plain_options(&plan.nats.auth), plan.nats.reconnect_delay);
    let (lost, back, over, error) = (plan.state.clone(), plan.state.clone(), plan.state.clone(), plan.state.clone());
    let (intake, reader) = (plan.intake.clone(), plan.reader);
    let (voices, desk) = (plan.voices.clone(), plan.desk.clone());
    let who = server::who(&plan.nats.auth);
    options
        .with_name(&format!("{} reader {reader}", plan.nats.name))
        .max_reconnects(None)
        .reconnect_buffer_size(PUBLISH_BUFFER)
        .reconnect_delay_callback(move |tries| {
            thread::sleep(super::keeper::backoff(wait, tries));
            Duration::ZERO
        })
        .disconnect_callback(move || {
            lost.connected.store(false, Ordering::Release);
            lost.changed();
        })
        .reconnect_callback(move || {
            back.connections.fetch_add(1, Ordering::AcqRel);
            back.connected.store(true, Ordering::Release);
            back.changed();
        })
        .close_callback(move || {
            over.closed.store(true, Ordering::Release);
            over.changed();
        })
        // Called with the client's locks held: it must not call the client.
        .error_callback(move |problem| {
            let text = problem.to_string();
            if text.starts_with("slow consumer detected") {
                intake.dropped(DropReason::ClientLimit, 1);
                error.dropped.fetch_add(1, Ordering::Relaxed);
                if let Some(left_out) = voices.slow.allow() {
                    tracing::warn!(
                        reader,
                        limit = NATS_PENDING_MESSAGES,
                        left_out,
                        "NATS: the shards are paused and the client is full: events are dropped"
                    );
                }
                return;
            }
            if let Some(left_out) = voices.said.allow() {
                tracing::warn!(reader, left_out, "NATS says: {text}");
            }
            if let Some(why) = refusal(&text, &who, desk.as_deref()) {
                error.lose(why);
            }
        })
}

/// Why nothing can be read or acknowledged, when the server's error says that.
fn refusal(text: &str, who: &str, desk: Option<&Desk>) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let subject = text.split('"').nth(1).unwrap_or(text);
    // Nothing depends on advisories.
    if lower.contains("permissions violation for subscription") && !text.contains("$JS.EVENT.") {
        return Some(format!("{who} may not subscribe to {subject}; check the user's permissions ({text})"));
    }
    let desk = desk.filter(|_| lower.contains("permissions violation for publish") && subject.starts_with("$JS."))?;
    if subject.starts_with("$JS.ACK.") && !is_of_probe(subject) {
        desk.note_refused_ack(subject);
    }
    let right = if subject.starts_with("$JS.ACK.") { "$JS.ACK.>" } else { "$JS.API.>" };
    Some(format!("{who} may not publish to {subject}: grant the user publish on {right} ({text})"))
}

/// Has the server end the subscriptions while the client still knows them, so that all it sent until then arrives.
///
/// The client has no call for that. It writes a subject as it is, so one publish to nobody carries the UNSUB lines;
/// our subscriptions are the only ones of the connection, hence numbers 1 to n. A server that forbids us to publish
/// answers with an error that changes nothing. The flush ends when the server has worked all of it off.
fn leave(connection: &Connection, subscriptions: usize, write_timeout: Duration) -> io::Result<()> {
    let unsubscribe: String = (1..=subscriptions).map(|number| format!("UNSUB {number}\r\n")).collect();
    connection.publish(&format!("{NOWHERE} 0\r\n\r\n{unsubscribe}PUB {NOWHERE}"), "")?;
    connection.flush_timeout(write_timeout)
}

/// A connection's subscriptions: while they are held, the client renews them with each reconnect.
pub(super) struct Subscriptions {
    all: Vec<Subscription>,
    /// With JetStream.
    opened: Option<Opened>,
}

impl Subscriptions {
    /// What arrives on them.
    pub(super) fn feed(&self, state: Arc<LinkState>) -> Feed {
        let open: Vec<_> = self.all.iter().map(|subscription| subscription.receiver().clone()).collect();
        Feed {
            open,
            pulls: self.opened.as_ref().map(|opened| PulledOver {
                terms: opened.terms.clone(),
                asks: opened.asks.clone(),
                found: opened.found.clone(),
            }),
            progress: Arc::new(Progress { state, taken: AtomicU64::new(0), given_up: AtomicBool::new(false) }),
        }
    }

    /// How many messages wait.
    pub(super) fn waiting(&self) -> usize {
        self.all.iter().map(|subscription| subscription.receiver().len()).sum()
    }

    /// Ends them, from another thread: a write that hangs holds the client's lock.
    pub(super) fn give_up(self, progress: &Progress) {
        progress.end();
        // Without a thread the subscriptions are ended here.
        drop(thread::Builder::new().name("nats-close".to_owned()).spawn(move || drop(self)));
    }
}

/// What the keeper and the reader of one connection share.
#[derive(Debug)]
pub(super) struct Progress {
    state: Arc<LinkState>,
    taken: AtomicU64,
    given_up: AtomicBool,
}

impl Progress {
    /// What was sent is there: its reader may end when it has taken it.
    pub(super) fn end(&self) {
        self.given_up.store(true, Ordering::Release);
    }

    /// See [`LinkState::lose`].
    pub(super) fn lose(&self, why: String) {
        self.state.lose(why);
    }

    /// Grows when messages arrive.
    pub(super) fn arrived(&self, waiting: usize) -> u64 {
        self.taken.load(Ordering::Acquire) + self.state.dropped.load(Ordering::Relaxed) + waiting as u64
    }
}

/// Whether more may come of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FeedState {
    Open,
    Over,
}

/// What is pulled over a JetStream connection, and how.
pub(super) struct PulledOver {
    pub(super) terms: Vec<Terms>,
    pub(super) asks: Sender<Wanted>,
    /// Events that came another way, to be taken before all others.
    pub(super) found: Vec<Arrival>,
}

/// The reader's end of a connection's subscriptions.
pub(super) struct Feed {
    open: Vec<Receiver<Message>>,
    pulls: Option<PulledOver>,
    pub(super) progress: Arc<Progress>,
}

impl Feed {
    /// Takes what is there, some of each subscription; returns how many that were.
    pub(super) fn take_burst(&mut self, mut each: impl FnMut(Vec<u8>)) -> usize {
        self.take(BURST, |message| each(message.data))
    }

    /// The same with all that came with it.
    pub(super) fn take_arrivals(&mut self, most: usize, mut each: impl FnMut(Arrival)) -> usize {
        self.take(most, |message| each(message.into()))
    }

    /// What is pulled over it, and how; to be taken once, by its reader.
    pub(super) fn take_pulls(&mut self) -> Option<PulledOver> {
        self.pulls.take()
    }

    fn take(&mut self, most: usize, mut each: impl FnMut(Message)) -> usize {
        let mut moved = 0;
        self.open.retain(|messages| {
            for _ in 0..most {
                match messages.try_recv() {
                    Ok(message) => {
                        moved += 1;
                        each(message);
                    }
                    Err(TryRecvError::Empty) => return true,
                    Err(TryRecvError::Disconnected) => return false,
                }
            }
            true
        });
        self.progress.taken.fetch_add(moved as u64, Ordering::Release);
        moved
    }

    /// Waits until there is something to take, at most for `timeout`.
    pub(super) fn wait(&self, timeout: Duration) -> FeedState {
        // Looked at first: what was put in before it was given up is still taken.
        let given_up = self.progress.given_up.load(Ordering::Acquire);
        if self.open.is_empty() {
            return FeedState::Over;
        }
        let mut select = Select::new();
        for messages in &self.open {
            select.recv(messages);
        }
        match select.ready_timeout(timeout) {
            Err(_) if given_up => FeedState::Over,
            _ => FeedState::Open,
        }
    }
}
