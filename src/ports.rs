//! What can be injected into an engine: where events come from, who is in a session, where a user is connected, which
//! gateways there are, where the unreached are remembered, and where dead letters go. The built-in NATS, MySQL, Redis
//! and etcd adapters stand behind the same traits, so what they can do, yours can.
//!
//! Refuses to know any client library: a port speaks in names, lists and [`LookupError`]s.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use crate::ids::{GatewayId, SessionId, ShardId};
use crate::names::NameList;
use crate::redact;
pub use crate::shard::intake::{Intake, Offer};
pub use crate::shard::registry::RegistrySink;
pub use crate::shard::routes_port::{RouteAsk, RoutesPort};

/// A future that stays on the shard that made it.
pub type LocalFuture<T> = Pin<Box<dyn Future<Output = T>>>;
/// A future of the control thread.
pub type ControlFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Why a lookup has no answer. It only says what happened: whose fault that is, the core decides by what happens to other
/// asks of the same store. Where one is refused for good (a letter, rows), its port says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupError {
    /// No answer came: not connected, too slow, the connection broke.
    Unavailable(String),
    /// The store answered with an error, whatever it says.
    Rejected(String),
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) | Self::Rejected(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for LookupError {}

/// What a source is told of an event it handed in: the reader it came through and the reader's own number for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DeliveryTag {
    /// Which of the source's readers.
    pub reader: u16,
    /// The reader's number for the event.
    pub number: u64,
}

/// What an event's end means to its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettleAs {
    /// Each of its recipients has its end: the source may forget it.
    Done,
    /// It can never be pushed and is in the dead letters: it must not come again.
    Terminated,
    /// The engine stops before it could end: it is to come again, here or elsewhere.
    GivenBack,
}

/// The settlement of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Which event.
    pub tag: DeliveryTag,
    /// How it ended.
    pub how: SettleAs,
}

/// Where an event came from, for its dead letter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The subject it was published on.
    pub subject: String,
    /// Its sequence number in its stream; none when the broker keeps nothing.
    pub stream_sequence: Option<u64>,
    /// How often the broker delivered it; 1 the first time, 0 when it does not say.
    pub deliveries: u64,
    /// When the broker took it, in nanoseconds since 1970 by the broker's clock; none when it does not say.
    pub published_unix_nanos: Option<u64>,
}

/// Where events come from.
pub trait Source: Send + 'static {
    /// Starts the reader threads; each hands its events to a clone of `intake` in the order it got them. Must not
    /// block: a broker that is away is the readers' business (say so with [`Intake::report`] and keep trying).
    ///
    /// # Errors
    /// Only what no retry can mend (a thread that cannot be started).
    fn start(self: Box<Self>, intake: Intake) -> std::io::Result<Box<dyn RunningSource>>;
}

/// The readers of a started source.
pub trait RunningSource: Send + Sync + 'static {
    /// These events have their ends; called from the shards, must not block.
    fn settle(&self, settled: &[Settled]);
    /// Where an event that is not settled came from; called from the shards, must not block.
    fn origin(&self, tag: DeliveryTag) -> Origin {
        let _ = tag;
        Origin::default()
    }
    /// Whether what is given back now is delivered again, and not to this process: nothing is read any more since the
    /// intake was [shut](Intake::shut), and the broker keeps what is unsettled. Until it is so, the engine keeps what it has.
    fn may_give_back(&self) -> bool {
        false
    }
    /// Stops reading; what was read and not yet handed in is still handed in. Returns when no event will follow.
    /// Settlements are taken after it, until [`finish`](Self::finish).
    fn stop(&self);
    /// All shards have ended: what is not settled by now is given back. Returns when the last settlement has left, or
    /// could not within the source's own deadline. By default there is nobody to tell.
    fn finish(&self) {}
}

/// Who is in a session.
pub trait Members: Send + Sync + 'static {
    /// A reader for one lookup thread.
    fn open(&self) -> Box<dyn MemberReader>;
}

/// One lookup thread's way to the member store. It may block, and has its own deadlines.
pub trait MemberReader: Send {
    /// The members of each session, in the order asked; a session nobody knows has none, and is asked for again until
    /// `members.empty_wait` is over.
    ///
    /// An ask for no session is a probe: do the nearest real thing (read one row of the same table) and answer with an
    /// empty list, or with the error that any other ask would have. A session is blamed for failing only when others, or a
    /// probe, succeed.
    ///
    /// # Errors
    /// See [`LookupError`]; it then holds for all sessions of this ask, which are asked for again in parts.
    fn members(&mut self, sessions: &[SessionId]) -> Result<Vec<NameList>, LookupError>;

    /// Asks the store for a sign of life; `/readyz` waits for the first good one. Called when no lookup came for a
    /// while, so an outage (and its end) is noticed without traffic. By default a probe.
    ///
    /// # Errors
    /// See [`LookupError`].
    fn ping(&mut self) -> Result<(), LookupError> {
        self.members(&[]).map(drop)
    }
}

/// Rows for the inbox: one message that these users have not got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxRows {
    /// Its session.
    pub session: SessionId,
    /// Its id.
    pub msg_id: i64,
    /// Its sequence number in the session.
    pub seq_id: i64,
    /// Whose inboxes, each once.
    pub users: NameList,
}

/// Where messages for users who could not be reached are remembered.
pub trait Inbox: Send + Sync + 'static {
    /// A writer for one thread.
    fn open(&self) -> Box<dyn InboxWriter>;
}

/// One thread's way to the inbox. It may block, and has its own deadlines.
pub trait InboxWriter: Send {
    /// Commits all rows; those that are there already (same owner, session, sequence and message) are good. One answer
    /// for each element, in order: the users whose place (owner, session, sequence) another message holds: they got no
    /// row. What is answered with `Ok` is durable.
    fn store(&mut self, batch: &[InboxRows]) -> Vec<Result<NameList, LookupError>>;

    /// Asks the store for a sign of life, for `/readyz`; called when there was nothing to store for a while.
    ///
    /// # Errors
    /// See [`LookupError`].
    fn ping(&mut self) -> Result<(), LookupError> {
        Ok(())
    }
}

/// An event, or one recipient of it, that can never be pushed or stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Why, as the metric's label.
    pub reason: &'static str,
    /// More, for a person.
    pub detail: String,
    /// The event's bytes as they came.
    pub payload: Bytes,
    /// When only this recipient is concerned.
    pub recipient: Option<Box<str>>,
    /// How often the engine tried.
    pub tries: u32,
}

/// Where dead letters go.
pub trait DeadLetters: Send + Sync + 'static {
    /// A writer for one thread.
    fn open(&self) -> Box<dyn DeadLetterWriter>;
}

/// One thread's way to the dead letters. It may block, and has its own deadlines.
pub trait DeadLetterWriter: Send {
    /// Writes all letters; one answer each, in order. What is answered with `Ok` is durable. The same letter may be
    /// written twice when an answer was lost; a store that can tell keeps one.
    fn write(&mut self, letters: &[(DeadLetter, Origin)]) -> Vec<Result<(), LookupError>>;

    /// Asks the store for a sign of life; called when there was no letter for a while. A store that is away
    /// ([`LookupError::Unavailable`]) shows in `/readyz?verbose`; with one that would refuse each letter for good
    /// ([`LookupError::Rejected`]) `/readyz` fails.
    ///
    /// # Errors
    /// See [`LookupError`].
    fn ping(&mut self) -> Result<(), LookupError> {
        Ok(())
    }
}

/// Where users are connected.
pub trait Routes: Send + Sync + 'static {
    /// Runs on each shard for as long as the shard does: take asks from the port, answer them, say what changed. An ask for
    /// no users is a probe: do the nearest real thing (read a few keys) and answer with an empty list, or with the error.
    fn serve(&self, port: RoutesPort) -> LocalFuture<()>;
}

/// Which gateways there are.
pub trait Registry: Send + 'static {
    /// Runs on the control thread (Tokio, current thread) for as long as the engine does.
    fn run(self: Box<Self>, sink: RegistrySink) -> ControlFuture<()>;
}

/// What a gateway understands, best first: `batch`, `stream`, `unary`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `PushBatch`: many pushes a frame, one answer a batch.
    Batch,
    /// `PushMessage`: a stream, one answer a request.
    Stream,
    /// `Push`: one call a message.
    Unary,
}

impl Protocol {
    /// The word of `push_protocols` and of metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Stream => "stream",
            Self::Unary => "unary",
        }
    }
}

/// The protocols of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Protocols {
    /// Speaks `PushBatch`.
    pub batch: bool,
    /// Speaks `PushMessage`.
    pub stream: bool,
    /// Speaks `Push`.
    pub unary: bool,
}

impl Protocols {
    /// What a gateway that announces nothing speaks.
    pub const STREAM: Self = Self { batch: false, stream: true, unary: false };

    /// Reads the comma list of the registry's `push_protocols`; unknown words are passed over, and a list without a
    /// known word means `stream`.
    pub fn parse(list: &str) -> Self {
        let has = |word: &str| list.split(',').any(|item| item.trim().eq_ignore_ascii_case(word));
        let all = Self { batch: has("batch"), stream: has("stream"), unary: has("unary") };
        if all.best().is_some() { all } else { Self::STREAM }
    }

    /// The best that is left.
    pub fn best(self) -> Option<Protocol> {
        match self {
            Self { batch: true, .. } => Some(Protocol::Batch),
            Self { stream: true, .. } => Some(Protocol::Stream),
            Self { unary: true, .. } => Some(Protocol::Unary),
            _ => None,
        }
    }
}

/// Where a gateway listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// A host name or an IP address (IPv6 without brackets).
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl Endpoint {
    /// Reads `grpc://host:port`, `http://host:port` or `host:port`; IPv6 addresses in brackets.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        // Whoever wrote a user into it may have written a password.
        let shown = redact::address(text);
        if shown != text {
            return Err(format!("endpoint {shown:?} names a user; write host:port"));
        }
        let rest = match text.split_once("://") {
            Some(("grpc" | "http", rest)) => rest,
            Some((scheme, _)) => return Err(format!("endpoint {text:?}: scheme {scheme:?} is not grpc or http")),
            None => text,
        };
        let rest = rest.trim_end_matches('/');
        let (host, port) = rest.rsplit_once(':').ok_or(format!("endpoint {text:?} has no port"))?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().map_err(|_| format!("endpoint {text:?}: {port:?} is no port"))?;
        if host.is_empty() || host.contains(['/', '@', ' ']) || port == 0 {
            return Err(format!("endpoint {text:?} is not host:port"));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// One gateway of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayRecord {
    /// The id that routes name.
    pub gateway_id: GatewayId,
    /// Addresses of the same gateway, tried in order.
    pub endpoints: Vec<Endpoint>,
    /// What it announced.
    pub protocols: Protocols,
}

/// What one part of the engine says of itself on `/readyz?verbose`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Works.
    Ready,
    /// Does not, and why, with the address and what to check.
    Waiting(String),
    /// Does not, and why; the engine takes events all the same, as few of them need it.
    Degraded(String),
}

/// Which shard a thing belongs to, for names of threads and metrics.
pub fn shard_name(shard: ShardId) -> String {
    format!("shard-{shard}")
}
