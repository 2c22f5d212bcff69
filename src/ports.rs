//! What can be injected into an engine: where events come from, who is in a session, where a user is connected, which
//! gateways there are, where the unreached are remembered, and where dead letters go. The built-in NATS, MySQL, Redis
//! and etcd adapters stand behind the same traits, so what they can do, yours can.
//!
//! Refuses to know any client library: a port speaks in names, lists and [`LookupError`]s.

pub mod ends;
pub mod intake;
pub mod mailbox;
pub mod ownership;
pub mod permit;
pub mod registry;
pub mod route_queue;
pub mod tap;
pub mod traces;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub use crate::model::delivery::{
    DeadLetter, DeliveryTag, Disposition, InboxRows, LookupError, MessageKey, Origin, Settled,
};
pub use crate::model::gateway::{Endpoint, GatewayRecord, Protocol, Protocols};
use crate::model::ids::{SessionId, ShardId};
use crate::model::names::NameList;
pub use crate::ports::intake::{Intake, Offer};
use crate::ports::mailbox::FactSender;
pub use crate::ports::registry::RegistrySink;
pub use crate::ports::route_queue::{RouteAsk, RouteQueue};
use crate::push::facts::AskNo;

/// A way to the dead letters: the ask's number, the letter, where its event came from, and where the answer goes
/// ([`Input::LetterPublished`](crate::push::facts::Input)). Never waits; gives the number back when there is no room.
pub type LetterPost = Arc<dyn Fn(AskNo, DeadLetter, Origin, FactSender) -> Result<(), AskNo> + Send + Sync>;
/// A future that stays on the shard that made it.
pub type LocalFuture<T> = Pin<Box<dyn Future<Output = T>>>;
/// A future of the control thread.
pub type ControlFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Where events come from.
pub trait Source: Send + 'static {
    /// Its readers that run on shards, if it has any; asked for before it is started.
    fn shard_readers(&self) -> Option<Arc<dyn ShardReaders>> {
        None
    }
    /// The way to the dead letters, for what it reads and can never hand in; called before it is started. By default it has no
    /// such events.
    fn letters_go_to(&self, letters: LetterPost) {
        drop(letters);
    }
    /// Starts the reader threads; each hands its events to a clone of `intake` in the order it got them. Must not
    /// block: a broker that is away is the readers' business (say so with [`Intake::report`] and keep trying).
    ///
    /// # Errors
    /// Only what no retry can mend (a thread that cannot be started).
    fn start(self: Box<Self>, intake: Intake) -> std::io::Result<Box<dyn RunningSource>>;
}

/// Readers that run on the shards themselves, each on its shard's own ring.
pub trait ShardReaders: Send + Sync + 'static {
    /// Runs on each shard for as long as the shard does, and after that until the source is closed: the last settlements
    /// leave when all shards have ended. Hands events to a clone of `intake`, and never waits for room in a lane: the shard
    /// that would make it is this one.
    fn serve(&self, shard: ShardId, intake: Intake) -> LocalFuture<()>;
}

/// The readers of a started source.
pub trait RunningSource: Send + Sync + 'static {
    /// These events have their ends; called from the shards, must not block.
    fn settle(&self, settled: &[Settled]);
    /// Tells where an event that is not settled came from, now or soon; called from the shards, must not block. `then` must
    /// be called: an event waits for it.
    fn with_origin(&self, tag: DeliveryTag, then: Box<dyn FnOnce(Origin) + Send>) {
        let _ = tag;
        then(Origin::default());
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

    /// Rows left out so far because they name no user that an event could carry.
    fn rows_skipped(&self) -> u64 {
        0
    }

    /// Pages of large lists that were looked at so far for whether they changed.
    fn pages_checked(&self) -> u64 {
        0
    }

    /// Pages of large lists that were read so far.
    fn pages_read(&self) -> u64 {
        0
    }
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

/// Where messages for users who could not be reached are remembered.
pub trait Inbox: Send + Sync + 'static {
    /// A writer for one thread.
    fn open(&self) -> Box<dyn InboxWriter>;

    /// A reader of contents for one thread, asked for with `inbox.rows_up_to`. By default there is none: then whoever could not
    /// be reached gets a row, however large the session.
    fn open_contents(&self) -> Option<Box<dyn ContentReader>> {
        None
    }
}

/// One thread's way to the contents of messages. It may block, and has its own deadlines.
pub trait ContentReader: Send {
    /// Whether the content of each message is kept where whoever could not be reached finds it by session and sequence. One
    /// answer for each, in order.
    fn are_kept(&mut self, messages: &[MessageKey]) -> Vec<Result<bool, LookupError>>;

    /// Asks the store for a sign of life, for `/readyz`; called when nothing was looked for for a while.
    ///
    /// # Errors
    /// See [`LookupError`].
    fn ping(&mut self) -> Result<(), LookupError> {
        Ok(())
    }
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
    fn serve(&self, port: RouteQueue) -> LocalFuture<()>;
}

/// Which gateways there are.
pub trait Registry: Send + 'static {
    /// Runs on the control thread (Tokio, current thread) for as long as the engine does.
    fn run(self: Box<Self>, sink: RegistrySink) -> ControlFuture<()>;
}

/// What one part of the engine says of itself on `/readyz?verbose`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Works.
    Ready,
    /// Works, and says how.
    Says(String),
    /// Does not, and why, with the address and what to check.
    Waiting(String),
    /// Does not, and why; the engine takes events all the same, as few of them need it.
    Degraded(String),
}
