//! What a table is made of: settings, events, and what a probe answers.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use task_engine::model::ids::ShardId;
use task_engine::model::proto::event::PushEvent;
use task_engine::ports::LookupError;
use task_engine::push::facts::Input;
use task_engine::push::inbox::InboxStore;
use task_engine::push::{Push, Settings, TraceRules};

use super::Table;

pub(super) fn settings(delivery_timeout: Duration, inbox: InboxStore) -> Settings {
    Settings {
        shard: ShardId(0),
        shards: 1,
        events_window: usize::MAX,
        group_users_max: task_engine::model::limits::GROUP_USERS_MAX,
        members_ttl: Duration::from_millis(100),
        empty_wait: Duration::from_secs(5),
        caches_routes: true,
        delivery_timeout,
        registry_forget_after: Duration::from_secs(300),
        gateway_table: task_engine::push::TableBounds::default(),
        max_retry: 2,
        retry_interval: Duration::from_millis(50),
        inbox,
    }
}

/// A probe fails with a store that is away, and not with one that refuses an ask.
pub(super) fn probe_of(errors: &mut VecDeque<LookupError>) -> Result<(), LookupError> {
    match errors.front() {
        Some(LookupError::Unavailable(_)) => errors.pop_front().map_or(Ok(()), Err),
        _ => Ok(()),
    }
}

pub(super) fn event(session: &str, sender: &str, msg_id: i64) -> Bytes {
    let event = PushEvent {
        msg_id,
        seq_id: msg_id * 10,
        session_id: session.into(),
        from_username: sender.into(),
        content: "hello".into(),
        ..PushEvent::default()
    };
    Bytes::from(event.encode_to_vec())
}

impl Table {
    /// One shard that tells of events by these rules and records how long pushes take.
    pub fn with_traces(members: &[&str], routes: &[(&str, &str)], rules: TraceRules) -> Self {
        let mut table = Self::new(members, routes);
        let settings = settings(Duration::from_secs(1), InboxStore::Off);
        table.push = Push::new(settings).with_push_latency(true).with_traces(Some(rules));
        table.push.take(Input::RoutesTracked(true));
        table
    }
}
