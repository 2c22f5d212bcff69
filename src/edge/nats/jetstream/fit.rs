//! Whether what stands at the server still brings the events: looked at again for as long as a connection lasts.
//!
//! Promises that a stream that does not take the events, a consumer that is paused, and one that was changed or is gone
//! are noticed within [`LOOK_EVERY`], with no other sign than that nothing comes. Changes nothing. A consumer through which
//! events must not be read ends the connection; of the others what is in the stream is read all the same.
#![allow(deprecated)]

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use nats::Connection;

use super::api::{Api, ApiError, ConsumerInfo, StreamInfo, code, consumer_info, stream_info};
use super::desk::{Desk, ReaderPlan};
use super::usable::{paused, refusal, unfed};
use crate::edge::nats::link::LinkState;

/// How often it is looked at, and how often while nothing can come.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const UNFED_LOOK: Duration = Duration::from_secs(2);

/// What a look saw.
enum Seen {
    /// All is well; or why nothing comes.
    Stands(Option<String>),
    /// It has to be prepared anew.
    Lost(String),
    /// The server did not say.
    Nothing,
}

/// Looks until the connection is given up.
pub(super) fn watch(
    connection: Connection,
    timeout: Duration,
    desk: Arc<Desk>,
    state: Arc<LinkState>,
    over: Receiver<()>,
) -> std::io::Result<()> {
    thread::Builder::new().name(format!("nats-look-{}", desk.plan.reader)).spawn(move || {
        // A refusal is for the keeper.
        let api = Api { connection: &connection, timeout, forbidden: &|| None };
        loop {
            let wait = if desk.unfed().is_some() { UNFED_LOOK } else { LOOK_EVERY };
            if over.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            // What is out is acknowledged over this connection, whatever else is wrong.
            if desk.is_leaving() {
                continue;
            }
            match look(&api, &desk.plan) {
                Seen::Stands(why) => desk.set_unfed(why),
                Seen::Lost(why) => return state.lose(why),
                Seen::Nothing => {}
            }
        }
    })?;
    Ok(())
}

fn look(api: &Api<'_>, plan: &ReaderPlan) -> Seen {
    let stream = &plan.stream;
    let config = match api.call::<StreamInfo>(stream_info(stream), String::new()) {
        Ok(info) => info.config,
        Err(error) if error.is(code::STREAM_NOT_FOUND) => {
            return Seen::Lost(format!("stream {stream} is not there any more"));
        }
        Err(_) => return Seen::Nothing,
    };
    let asks: Vec<_> = plan.consumers.iter().map(|consumer| consumer_info(stream, &consumer.name)).collect();
    let Ok(answers) = api.call_all::<ConsumerInfo>(&asks) else { return Seen::Nothing };
    let mut infos = Vec::with_capacity(answers.len());
    for (consumer, answer) in plan.consumers.iter().zip(answers) {
        let info: Result<ConsumerInfo, ApiError> = answer;
        match info {
            Ok(info) => match refusal(plan, consumer, &info.config) {
                Some(why) => return Seen::Lost(why),
                None => infos.push(info),
            },
            Err(error) if error.is(code::CONSUMER_NOT_FOUND) => {
                return Seen::Lost(format!("consumer {} of stream {stream} is not there any more", consumer.name));
            }
            Err(_) => return Seen::Nothing,
        }
    }
    Seen::Stands(unfed(plan, &config).or_else(|| paused(plan, &infos)))
}
