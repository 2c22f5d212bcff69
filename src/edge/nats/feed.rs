//! What a reader does over a connection: read core NATS, or pull from JetStream and acknowledge.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::connection::Connection;
use crate::config::NatsConfig;
use crate::edge::alarm::Alarm;
use crate::edge::pace;

/// How soon to look again whether a full lane has room: a lane holds some 30 ms of a reader's top speed.
pub(super) const LANE_LOOK: Duration = Duration::from_millis(1);
/// How long the server may take to work off our leaving.
pub(super) const LEAVE_DEADLINE: Duration = Duration::from_secs(2);

/// What ends the use of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It is of no use any more, and why.
    Lost(String),
    /// Its server is about to end.
    Moves,
}

/// The part of a reader that knows what is read. Its [`Reader`](super::reader::Reader) keeps the connection.
pub(super) trait Feed {
    /// Whether a new connection may be opened before the old one is left: what comes twice is the broker's to tell apart.
    const MAY_OVERLAP: bool;

    /// The next connection is opened by what this section says: what servers say over it is shown without its secrets.
    fn uses(&mut self, nats: Arc<NatsConfig>);

    /// Subscribes over a connection that was just logged in, and prepares what has to stand. Returns when the server has
    /// confirmed that events will come (or, when nothing `is_read`, that acks will pass).
    async fn open(&mut self, connection: &mut Connection, is_read: bool) -> Result<(), String>;

    /// The connection that was opened last is the only one now: what it brought while it was opened follows.
    fn opened(&mut self);

    /// Moves what can be moved: mail, events into lanes, what was read, what is due. Ready when something was read, and when
    /// the connection is to be given up.
    fn poll_turn(&mut self, cx: &mut Context<'_>, connection: &mut Connection) -> Poll<Result<(), End>>;

    /// When to look again although nothing came.
    fn next_due(&self, now: Instant) -> Instant;

    /// Has the server send nothing more; all that it had sent is here when this returns, unless it does not answer in time.
    async fn leave(&mut self, connection: &mut Connection);

    /// The connection is gone, or the opening of one was broken off.
    fn lost(&mut self);

    /// Without a connection: takes mail, hands in what waits.
    fn idle(&mut self);

    /// Whether all that was read is handed in.
    fn is_handed_in(&self) -> bool;

    /// Whether a connection is needed although nothing is read.
    fn has_acks(&self) -> bool;

    /// All shards have ended: gives back what is not settled. False when the server did not confirm it in time.
    async fn finish(&mut self, connection: &mut Connection) -> bool;

    /// Why nothing comes although the connection stands.
    fn unfed(&self) -> Option<&str>;

    /// What is read, for the log.
    fn what(&self) -> String;

    /// Whether it has anything to read: without, no connection is kept for it.
    fn is_wanted(&self) -> bool {
        true
    }

    /// Whether nothing is to be read while a store is away that events need.
    fn needs_stores(&self) -> bool {
        true
    }
}

/// Runs turns until `done`; false when the deadline came first.
pub(super) async fn drive<F: Feed>(
    feed: &mut F,
    connection: &mut Connection,
    deadline: Instant,
    mut done: impl FnMut(&mut F, &Connection) -> bool,
) -> Result<bool, End> {
    let mut alarm = Alarm::default();
    loop {
        if done(feed, connection) {
            return Ok(true);
        }
        let now = Instant::now();
        if now >= deadline {
            return Ok(false);
        }
        poll_fn(|cx| match feed.poll_turn(cx, connection) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => alarm.poll(cx, feed.next_due(now).min(deadline)).map(Ok),
        })
        .await?;
        pace::yield_now().await;
    }
}

/// Waits until the server has worked off all that was written, and takes what it had sent until then.
pub(super) async fn round_trip<F: Feed>(
    feed: &mut F,
    connection: &mut Connection,
    deadline: Instant,
) -> Result<bool, End> {
    let ping = connection.ping();
    drive(feed, connection, deadline, |_, connection| connection.has_answered(ping)).await
}
