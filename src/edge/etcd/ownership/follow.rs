//! The keys below the root, followed: all at one revision, then each change once and in order.
//!
//! Promises that the watch begins behind the revision that was listed, and that whatever ends it (a cut, a compaction, an etcd that
//! does not answer, one without a leader, a watch that tells no progress when it is asked to) is told as [`Fact::WatchLost`], as the last fact of this watch.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{EventType, WatchOptions, WatchResponse};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, interval_at, sleep_until, timeout};

use super::super::{ANSWER_BYTES_MAX, end_of, list_keys, words};
use super::session::{Line, Session, looks};
use super::{KEYS_MAX, state};
use crate::ownership::facts::Fact;
use crate::ownership::keys::{KeyState, Revision};

/// How often a watch is asked for its progress, and etcd for a read beside it: that needs a leader, which progress does not.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Lists and watches until that is over.
pub(super) async fn follow(line: Line, root: Arc<str>, patience: Duration, tell: UnboundedSender<Fact>) {
    if let Ok(Some(session)) = timeout(patience, line.session()).await {
        let why = tokio::select! {
            why = follow_one(&session, &root, patience, &tell) => why,
            why = session.over() => Why::Connection(why),
        };
        match why {
            Why::Connection(why) => session.end(why),
            Why::Watch(why) => tracing::info!("partition ownership: {why}; all keys are read again"),
        }
    }
    let _ = tell.send(Fact::WatchLost);
}

/// Why a watch is over.
enum Why {
    /// The connection is of no more use.
    Connection(String),
    /// Only the watch is.
    Watch(String),
}

async fn follow_one(session: &Session, root: &str, patience: Duration, tell: &UnboundedSender<Fact>) -> Why {
    let (all, revision) = match list_keys(&session.client, root, patience, KEYS_MAX).await {
        Ok(listed) => listed,
        Err(why) => return Why::Connection(format!("the keys cannot be listed: {why}")),
    };
    let keys = all.into_iter().filter_map(|kv| state(root, kv)).collect();
    let _ = tell.send(Fact::Listed { revision, keys });
    tokio::select! {
        why = watch(session, root, revision + 1, patience, tell) => why,
        why = looks(session, root, LOOK_EVERY, patience) => Why::Connection(why),
    }
}

async fn watch(session: &Session, root: &str, from: Revision, patience: Duration, tell: &UnboundedSender<Fact>) -> Why {
    // Without fragments: what one transaction wrote is in one response.
    let options = WatchOptions::new().with_range(end_of(root)).with_start_revision(from).with_progress_notify();
    let mut watcher = session.client.watch_client().max_decoding_message_size(ANSWER_BYTES_MAX);
    let stream = match timeout(patience, watcher.watch(root, Some(options))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Why::Connection(words(&error)),
        Err(_) => return Why::Connection(format!("no watch within {patience:?}")),
    };
    let (mut asks, mut answers) = stream.split();
    let mut looks = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
    // Until when something must come: at first the word that it has begun, then what it is asked for now and then.
    let mut due = Some(Instant::now() + patience);
    loop {
        let response = tokio::select! {
            response = answers.message() => response,
            () = late(due) => return Why::Connection(format!("the watch told nothing within {patience:?}")),
            _ = looks.tick(), if due.is_none() => match timeout(patience, asks.request_progress()).await {
                Ok(Ok(())) => {
                    due = Some(Instant::now() + patience);
                    continue;
                }
                Ok(Err(error)) => return Why::Connection(words(&error)),
                Err(_) => return Why::Connection(format!("the watch took no request within {patience:?}")),
            },
        };
        due = None;
        let response = match response {
            Ok(Some(response)) => response,
            Ok(None) => return Why::Connection("the watch ended".to_owned()),
            Err(error) => return Why::Connection(words(&error)),
        };
        if response.canceled() {
            return match response.compact_revision() {
                0 => Why::Connection(format!("the watch was cancelled: {}", response.cancel_reason())),
                compacted => {
                    Why::Watch(format!("etcd has compacted up to {compacted} what the watch had not told yet"))
                }
            };
        }
        let Some(header) = response.header() else { return Why::Connection("a watch without a head".to_owned()) };
        // Progress is told for the connection's sake alone: older etcds tell it before the events that it covers.
        if !response.events().is_empty() {
            let _ = tell.send(Fact::Watched { revision: header.revision(), changes: changes(root, &response) });
        }
    }
}

async fn late(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}

fn changes(root: &str, response: &WatchResponse) -> Vec<(Revision, KeyState)> {
    let each = response.events().iter().filter_map(|event| {
        let kv = event.kv()?.clone();
        let at = kv.mod_revision();
        let state = state(root, kv)?;
        let state = match event.event_type() {
            EventType::Put => state,
            EventType::Delete => KeyState { value: None, mod_revision: 0, create_revision: 0, ..state },
        };
        Some((at, state))
    });
    each.collect()
}
