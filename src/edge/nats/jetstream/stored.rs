//! What the partitioner has to know before it publishes anything over a new connection: what the streams say of themselves, and
//! which of the events in doubt are stored.
//!
//! Promises that what is stored is found however long ago its publish was: an owner that died is read from a moment before its
//! first unsettled event was published, an own connection that was lost from what was known to be stored before. Only headers
//! are read, through a consumer that the server forgets by itself.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::JetFeed;
use super::api::{
    ApiError, ConsumerInfo, Request, StreamConfig, StreamInfo, code, consumer_info, covers, create_ephemeral,
    delete_consumer, one, pull_subject, stored_message, stream_info,
};
use super::mover::Back;
use crate::edge::nats::connection::Connection;
use crate::edge::nats::feed::{End, drive};
use crate::model::limits::REPEAT_WINDOW_AGE;
use crate::partitioner::Opened;

/// Messages of one pull.
const BATCH: u64 = 4096;
/// How far apart the clocks of two streams' leaders may be, and the copies of an event.
const BEFORE: Duration = Duration::from_secs(5);
/// What an owner that died wrote last may still be on its way into the stream: it is looked for no sooner. Its events are not
/// delivered before ack_wait is over in any case.
const SETTLED_AFTER: Duration = Duration::from_secs(1);
/// How long a look is good at the least: what was on its way then has arrived since.
const LOOK_MIN: Duration = Duration::from_secs(30);
/// How long the consumer may be unused until the server forgets it.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// From where the partitioned stream is read.
enum From {
    Behind(u64),
    Time(String),
}

/// Looks at the streams, and reads back what is in doubt; `is_missing` when events are out that are not here. Of an input stream that
/// has an owner it is seen here whether somebody else may have published what is to come.
///
/// # Errors
/// What is wrong and what to do.
pub(super) async fn open(feed: &mut JetFeed, connection: &mut Connection, is_missing: bool) -> Result<(), String> {
    let Some(mover) = &mut feed.mover else { return Ok(()) };
    let (stream, topic, partitions) = (mover.stream.clone(), mover.topic.clone(), mover.partitions);
    let (input, consumer) = (feed.plan.stream.clone(), feed.plan.consumers[0].name.clone());
    let streams: Vec<_> =
        [&stream, &input].map(|name| Request { subject: stream_info(name), body: String::new() }).into();
    let words = |error: ApiError| error.to_string();
    let mut infos = Vec::new();
    for (name, answer) in
        [&stream, &input].into_iter().zip(feed.call_all::<StreamInfo>(connection, &streams).await.map_err(words)?)
    {
        infos.push(answer.map_err(|error| match error.is(code::STREAM_NOT_FOUND) {
            true => format!("stream {name} does not exist: run task-engine setup --config FILE"),
            false => error.to_string(),
        })?);
    }
    let info =
        one(feed.call_all::<ConsumerInfo>(connection, &[consumer_info(&input, &consumer)]).await).map_err(words)?;
    let (main, first) = (&infos[0], &infos[1]);
    check(&main.config, &topic, partitions)?;
    say_window(&main.config);
    let floor = info.ack_floor.stream_seq.max(info.config.opt_start_seq.saturating_sub(1));
    let (floor, is_takeover) = match &feed.owned {
        None => (floor, is_missing),
        // A generation that delivered nothing says nothing of what was out of the one before; another one was closed clean.
        Some(owned) => {
            (floor.max(owned.places[0].wish.floor), info.delivered.consumer_seq == 0 && info.num_pending > 0)
        }
    };
    let opened = Opened {
        created: first.created.chars().filter(char::is_ascii_alphanumeric).collect(),
        message_bytes_max: message_bytes_max(connection, &main.config),
        first: first.state.first_seq,
        floor,
        delivered: info.delivered.stream_seq,
        newest: first.state.last_seq,
        last: main.state.last_seq,
        look_is_good_for: LOOK_MIN.max(Duration::from_nanos(main.config.duplicate_window) / 2),
    };
    let Some(mover) = &mut feed.mover else { return Ok(()) };
    mover.tell_opened(opened);
    let behind = mover.reads_back_behind();
    if is_takeover {
        mover.took_over();
    }
    // An owner is asked to open no sooner than the last one's sockets are dead.
    if is_takeover && feed.owned.is_none() {
        match drive(feed, connection, Instant::now() + SETTLED_AFTER, |_, _| false).await {
            Ok(_) | Err(End::Moves) => {}
            Err(End::Lost(why)) => return Err(why),
        }
    }
    let from = match (is_takeover, behind) {
        (true, _) => first_unsettled(feed, connection, &input, &topic, floor + 1).await?.map(From::Time),
        (false, behind) => behind.map(From::Behind),
    };
    if let Some(from) = from {
        read(feed, connection, (&stream, &topic), &from).await?;
    }
    let now = feed.nanos(Instant::now());
    if let Some(mover) = &mut feed.mover {
        mover.read_back_done(now);
    }
    Ok(())
}

/// Whether the partitioned stream can be moved to.
fn check(main: &StreamConfig, topic: &str, partitions: u32) -> Result<(), String> {
    let is_taken = |wanted: &str| main.subjects.iter().any(|pattern| covers(pattern, wanted));
    let missing = (0..partitions).map(|partition| format!("{topic}.{partition}")).find(|subject| !is_taken(subject));
    match missing {
        None => Ok(()),
        Some(subject) => Err(format!(
            "stream {} takes {}, and {subject} is needed: the partitioner has nowhere to move events to; set its subjects to \
             {topic}.*",
            main.name,
            main.subjects.join(", ")
        )),
    }
}

fn say_window(main: &StreamConfig) {
    if Duration::from_nanos(main.duplicate_window) < REPEAT_WINDOW_AGE {
        tracing::info!(
            "JetStream: stream {} knows message ids for {:?}, shorter than the {REPEAT_WINDOW_AGE:?} that setup makes it: a copy \
             that comes later after a takeover is pushed again unless the engine remembers its event",
            main.name,
            Duration::from_nanos(main.duplicate_window),
        );
    }
}

fn message_bytes_max(connection: &Connection, main: &StreamConfig) -> usize {
    let server = connection.info.as_ref().map_or(0, |info| info.max_payload);
    let stream = usize::try_from(main.max_msg_size).unwrap_or(0);
    [server, stream].into_iter().filter(|most| *most > 0).min().unwrap_or(usize::MAX)
}

/// A moment before the first event that is not settled was published; none when there is none.
async fn first_unsettled(
    feed: &mut JetFeed,
    connection: &mut Connection,
    input: &str,
    topic: &str,
    from: u64,
) -> Result<Option<String>, String> {
    #[derive(Deserialize)]
    struct Got {
        message: Stored,
    }
    #[derive(Deserialize)]
    struct Stored {
        time: String,
    }
    let ask = stored_message(input, &serde_json::json!({ "seq": from, "next_by_subj": topic }));
    match one(feed.call_all::<Got>(connection, &[ask]).await) {
        Ok(Got { message: Stored { time } }) => {
            let time = humantime::parse_rfc3339(&time).map_err(|error| format!("the time of a message: {error}"))?;
            Ok(Some(humantime::format_rfc3339_nanos(time.checked_sub(BEFORE).unwrap_or(time)).to_string()))
        }
        Err(error) if error.is(code::NO_MESSAGE) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

async fn read(
    feed: &mut JetFeed,
    connection: &mut Connection,
    (stream, topic): (&str, &str),
    from: &From,
) -> Result<(), String> {
    let began = Instant::now();
    let mut config = serde_json::json!({
        "ack_policy": "none", "replay_policy": "instant", "filter_subject": format!("{topic}.*"), "headers_only": true,
        "inactive_threshold": FORGOTTEN_AFTER.as_nanos() as u64, "mem_storage": true,
    });
    match from {
        From::Behind(seq) => {
            config["deliver_policy"] = "by_start_sequence".into();
            config["opt_start_seq"] = (seq + 1).into();
        }
        From::Time(time) => {
            config["deliver_policy"] = "by_start_time".into();
            config["opt_start_time"] = time.as_str().into();
        }
    }
    let made = one(feed.call_all::<ConsumerInfo>(connection, &[create_ephemeral(stream, &config)]).await);
    let made = made.map_err(|error| format!("what is in stream {stream} cannot be read back: {error}"))?;
    if let Some(mover) = &mut feed.mover {
        mover.read_back_begins();
    }
    let (mut left, timeout) = (made.num_pending, feed.nats.timeout);
    while left > 0 {
        let batch = left.min(BATCH);
        let heard = pull(feed, connection, (stream, &made.name), batch, timeout).await?;
        left = if heard == 0 { 0 } else { left.saturating_sub(heard) };
    }
    let delete = delete_consumer(stream, &made.name);
    // The server forgets it by itself.
    let _ = feed.call_all::<serde_json::Value>(connection, &[delete]).await;
    let (messages, took) = (made.num_pending, began.elapsed());
    tracing::info!(messages, ?took, "partitioner: looked in stream {stream} for what was published and not confirmed");
    Ok(())
}

/// One pull; gives how many messages it brought.
async fn pull(
    feed: &mut JetFeed,
    connection: &mut Connection,
    (stream, consumer): (&str, &str),
    batch: u64,
    timeout: Duration,
) -> Result<u64, String> {
    let (subject, reply) = (pull_subject(stream, consumer), format!("{}.r", feed.inbox));
    let body = serde_json::json!({ "batch": batch, "no_wait": true }).to_string();
    feed.lines.put(subject.as_bytes(), Some(reply.as_bytes()), body.as_bytes());
    if let Some(mover) = &mut feed.mover {
        mover.back = Back::default();
    }
    let is_over = |feed: &mut JetFeed, _: &Connection| {
        feed.mover.as_ref().is_none_or(|mover| mover.back.is_over || mover.back.heard >= batch)
    };
    match drive(feed, connection, Instant::now() + timeout, is_over).await {
        Ok(true) => Ok(feed.mover.as_ref().map_or(0, |mover| mover.back.heard)),
        Ok(false) => Err(format!("stream {stream} was not read back within {timeout:?}; check the server's load")),
        Err(End::Lost(why)) => Err(why),
        Err(End::Moves) => Err("the server is about to end".to_owned()),
    }
}
