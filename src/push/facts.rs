//! What goes into the push path and what comes out of it: facts in, intentions out. Nothing else crosses that line.

use bytes::Bytes;

use crate::model::delivery::{DeadLetter, DeliveryTag, InboxRows, LookupError, MessageKey, Settled};
use crate::model::ends::{EndsAsked, RememberedEnd};
use crate::model::gateway::{Endpoint, GatewayRecord, Protocol};
use crate::model::ids::{GatewayId, GatewayIx, Partition, SessionId, ShardId, StreamNo};
use crate::model::names::{NameList, RouteList};
use crate::model::priority::Said;
use crate::model::tap::{TapRules, TappedEvent};
use crate::model::trace::EndedTrace;
use crate::push::bundle::{Bundle, BundleResult};
use crate::push::tune::Tune;

/// Numbers an ask, so that its answer finds who waits.
pub type AskNo = u64;

/// A queue on the way to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Of [`Output::AskMembers`].
    Members,
    /// Of [`Output::Store`].
    Inbox,
    /// Of [`Output::FindContent`].
    Content,
    /// Of [`Output::PublishLetter`].
    DeadLetters,
}

/// A fact. The pump hands each to [`Push::take`](crate::push::Push::take).
#[derive(Debug)]
pub enum Input {
    /// An event arrived for this (home) shard.
    Event {
        /// The PushEvent as it came.
        payload: Bytes,
        /// How the source knows it.
        tag: DeliveryTag,
        /// What its publisher said of its class.
        said: Said,
    },
    /// The answer to [`Output::AskMembers`], in the order of its sessions.
    Members {
        /// Which ask.
        ask: AskNo,
        /// One list a session.
        answer: Result<Vec<NameList>, LookupError>,
    },
    /// The answer to [`Output::AskRoutes`], in the order of its users.
    Routes {
        /// Which ask.
        ask: AskNo,
        /// One route a user.
        answer: Result<RouteList, LookupError>,
    },
    /// The answer to [`Output::Store`]: the users whose place in the inbox another message holds; all others have their
    /// row.
    Stored {
        /// Which ask.
        ask: AskNo,
        /// See above.
        answer: Result<NameList, LookupError>,
    },
    /// The answer to [`Output::FindContent`]: whether the content is kept.
    ContentFound {
        /// Which ask.
        ask: AskNo,
        /// See above.
        answer: Result<bool, LookupError>,
    },
    /// The answer to [`Output::PublishLetter`].
    LetterPublished {
        /// Which ask.
        ask: AskNo,
        /// Whether the letter is kept.
        answer: Result<(), LookupError>,
    },
    /// Nobody was asked, and no answer will come: the queue before the store's threads is full. It says nothing of the store,
    /// nor of what was to be asked.
    NotAsked {
        /// Which queue.
        of: Queue,
        /// Which ask.
        ask: AskNo,
    },
    /// The route of a user may have changed: what is known of it holds no longer.
    RouteChanged(Box<str>),
    /// Any route may have changed unseen (the tracking connection was lost): all are asked again when next needed.
    RoutesUnknown,
    /// Whether the store tells each change from now on; until it says so, a route is only good for the events that
    /// asked for it.
    RoutesTracked(bool),
    /// The registry lists this gateway (owner shard), new or changed.
    GatewayListed(GatewayRecord),
    /// The registry lists this gateway no longer (every shard: routes to it are asked again).
    GatewayGone(GatewayId),
    /// What happened to a gateway's stream (owner shard).
    Stream {
        /// Which gateway.
        gateway: GatewayIx,
        /// Which of its streams; facts about an older one are dropped.
        stream: StreamNo,
        /// What happened.
        fact: StreamFact,
    },
    /// A bundle from its home shard to this (owner) shard.
    Bundle(Bundle),
    /// A bundle's result from its owner shard back to this (home) shard.
    Result(BundleResult),
    /// These events, as they came, were settled before this shard had their partition: a copy of one is a repeat.
    Known(Vec<Bytes>),
    /// The event with this tag comes next and counts as new, whatever is known of it: a person had it published again.
    Replayed(DeliveryTag),
    /// A partition goes elsewhere. Of its events, which are these and no others, those that no recipient was pushed yet are
    /// given back; the others end here.
    Leave {
        /// Which.
        partition: Partition,
        /// All of its events that have no end.
        tags: Vec<DeliveryTag>,
    },
    /// Nothing of this partition is given back any more: it is gone, or stays.
    Stay(Partition),
    /// Whether what only a store that is away can end is given back to its source, now and until it is said otherwise:
    /// others may reach that store. What is on its way to gateways ends here.
    Retreat(bool),
    /// What is remembered of these ends; answered by [`Output::Ends`] in the same turn.
    AskEnds {
        /// Which ask.
        ask: AskNo,
        /// Which ends.
        asked: Box<EndsAsked>,
    },
    /// From now on these times and counts hold, also for what is under way.
    Tune(Box<Tune>),
    /// Somebody looks on at some events from now on; or nobody does any more.
    Tap(Option<Box<TapRules>>),
    /// Intake is over; what is in flight ends. After the drain deadline comes [`Input::CutOff`].
    Stopping,
    /// The drain deadline passed: whatever has no end yet ends as `cut_by_stop` and is given back to its source.
    CutOff,
}

/// What happened to one stream. For `unary`, the "stream" is the HTTP/2 connection that carries the calls.
#[derive(Debug)]
pub enum StreamFact {
    /// It can be written to.
    Opened,
    /// The connection took this many of the bytes it was sent (they left our queue for HTTP/2).
    Taken(usize),
    /// Bytes of the answer stream, as they came: gRPC frames, cut anywhere.
    Answers(Bytes),
    /// The answer to [`Output::Call`]: the bytes of a PushResponse message (no gRPC head), or the gRPC status.
    CallAnswered {
        /// Which call.
        call: u32,
        /// Its end.
        answer: Result<Bytes, CallError>,
    },
    /// Its connection takes no new streams (GOAWAY): what was sent is still answered, what comes next wants another one.
    GoingAway,
    /// It is over; nothing follows.
    Closed(StreamEnd),
}

/// Why a unary call has no PushResponse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallError {
    /// The gRPC status code; OK when what came is no PushResponse that can be read.
    pub code: i32,
    /// Its message.
    pub message: String,
}

/// Why a stream is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// We half-closed it and the gateway answered all and closed it too.
    Finished,
    /// It never opened (no address, refused, timed out, no HTTP/2), or whoever answered said "not now" before any response began
    /// (UNAVAILABLE, RESOURCE_EXHAUSTED, HTTP 503): nothing that was sent has been looked at.
    NotOpened(String),
    /// It ended before any response began (no headers without a status, no data): whether what was sent is the cause, or whoever
    /// is between, cannot be seen from here.
    Unheard(String),
    /// The gateway does not know the rpc (UNIMPLEMENTED): the next protocol is tried at once.
    Unimplemented,
    /// Any other end after the gateway's response had begun, with what is known: reset, GOAWAY, end of file, a gRPC status.
    Broken(String),
}

/// An intention. The pump carries each out; none is ever refused or answered in place.
#[derive(Debug)]
pub enum Output {
    /// Look up the members of these sessions, in one query.
    AskMembers {
        /// Its number.
        ask: AskNo,
        /// At most [`MEMBER_QUERY_SESSIONS`](crate::model::limits::MEMBER_QUERY_SESSIONS); none is a probe.
        sessions: Vec<SessionId>,
        /// It failed before, or is large: it may take its time, and must not hold up others.
        is_suspect: bool,
    },
    /// Look up the routes of these users, in one MGET.
    AskRoutes {
        /// Its number.
        ask: AskNo,
        /// At most [`MGET_KEYS`](crate::model::limits::MGET_KEYS); none is a probe.
        users: NameList,
    },
    /// Connect to a gateway and open its stream.
    Open {
        /// Which gateway.
        gateway: GatewayIx,
        /// The new stream's number.
        stream: StreamNo,
        /// Its id, for names in logs.
        gateway_id: GatewayId,
        /// Where, in this order.
        endpoints: Vec<Endpoint>,
        /// Which rpc.
        protocol: Protocol,
    },
    /// Write these bytes (whole gRPC frames) to the stream; reported back by [`StreamFact::Taken`].
    Send {
        /// Which gateway.
        gateway: GatewayIx,
        /// Which stream.
        stream: StreamNo,
        /// The frames.
        chunk: Bytes,
    },
    /// Make a unary `Push` call on this connection.
    Call {
        /// Which gateway.
        gateway: GatewayIx,
        /// Which connection.
        stream: StreamNo,
        /// Its number, unique on this connection while it is open.
        call: u32,
        /// One gRPC frame (head and PushRequest).
        request: Bytes,
    },
    /// Half-close: no more requests; answers still come; then [`StreamEnd::Finished`].
    Finish {
        /// Which gateway.
        gateway: GatewayIx,
        /// Which stream.
        stream: StreamNo,
    },
    /// Drop the connection at once; no fact about it follows.
    Cut {
        /// Which gateway.
        gateway: GatewayIx,
        /// Which stream.
        stream: StreamNo,
    },
    /// Hand a bundle to the shard that owns its gateway.
    ToOwner(ShardId, Bundle),
    /// Hand a result back to the shard whose event it is.
    ToHome(ShardId, BundleResult),
    /// Write these rows into the inbox.
    Store {
        /// Its number.
        ask: AskNo,
        /// Which rows. No users: a probe, whose answer is empty when the store could take rows.
        rows: InboxRows,
    },
    /// Look whether the content of this message is kept, so that nobody who could not be reached needs a row.
    FindContent {
        /// Its number.
        ask: AskNo,
        /// Which message.
        message: MessageKey,
    },
    /// Write this dead letter.
    PublishLetter {
        /// Its number.
        ask: AskNo,
        /// The event it is about (not settled before [`Input::LetterPublished`]).
        tag: DeliveryTag,
        /// What it says.
        letter: DeadLetter,
    },
    /// The event has its end: the source is told.
    Settle(Settled),
    /// The answer to [`Input::AskEnds`].
    Ends {
        /// Which ask.
        ask: AskNo,
        /// The latest first.
        ends: Vec<RememberedEnd>,
    },
    /// An event has ended of which those are told who look at traces.
    Tell(Box<EndedTrace>),
    /// An event has ended at which somebody looks on.
    Tapped(Box<TappedEvent>),
    /// Something an operator should read; the core says a reason at most once in ten seconds.
    Warn {
        /// What, as the metric's label.
        reason: &'static str,
        /// One example.
        detail: String,
    },
}
