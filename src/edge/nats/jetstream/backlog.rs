//! How many events the broker holds for the engine, by the consumers' own figures: such as were not delivered, and such as were
//! delivered and are not settled.
//!
//! Promises a thread and a connection of its own, so that nothing is asked on the way of an event and the figures are true also
//! while a shard stands still; at most [`ASKS_AT_ONCE`] requests per [`ASK_EVERY`], however many partitions there are; and that
//! nothing is told while the broker does not answer. The figures are those of the whole stream, so all instances tell the same.
//! Changes nothing at the server.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde::Deserialize;

use super::api::{ApiError, ConsumerInfo, ConsumerNames, Request, code, consumer_info};
use super::client::Api;
use super::plan::{ReaderPlan, named, named_input};
use crate::config::{ConsumerConfig, Current, NatsConfig, Partitioner};
use crate::edge::nats::wire::Wire;
use crate::ports::intake::{Backlog, Backlogs, StreamPart};
use crate::telemetry::logging::warn_limited;

/// How often the figures are read, unless there are so many consumers that it takes longer.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Requests that are sent at once, and how long after that the next ones are.
const ASKS_AT_ONCE: usize = 4;
const ASK_EVERY: Duration = Duration::from_secs(1);

/// The thread. It ends when this is dropped, after the request that it waits for.
pub(in crate::edge::nats) struct BacklogThread {
    _stop: Sender<()>,
}

impl BacklogThread {
    /// Begins to look at the consumers of this configuration.
    ///
    /// # Errors
    /// When the machine refuses a thread.
    pub fn start(nats: &Current<NatsConfig>, consumer: &ConsumerConfig, told: Arc<Backlogs>) -> io::Result<Self> {
        let (stop, stopped) = bounded(0);
        let asker = Asker { nats: nats.clone(), api: None, stopped, asked_at: None };
        let parts = Part::all(consumer);
        thread::Builder::new().name("nats-backlog".to_owned()).spawn(move || look(&parts, asker, &told))?;
        Ok(Self { _stop: stop })
    }
}

/// Why there are no figures.
enum NoFigures {
    /// The engine ends.
    Stopped,
    /// A consumer is not there: what is told stays as it was, as another one is being made.
    Gone,
    Failed(ApiError),
}

impl From<ApiError> for NoFigures {
    fn from(error: ApiError) -> Self {
        match error.is(code::CONSUMER_NOT_FOUND) {
            true => Self::Gone,
            false => Self::Failed(error),
        }
    }
}

fn look(parts: &[Part], mut asker: Asker, told: &Backlogs) {
    // No consumer is there before the readers have made them.
    let mut pause = ASK_EVERY;
    loop {
        let began = Instant::now();
        if asker.wait(pause).is_err() {
            return;
        }
        for part in parts {
            match part.backlog(&mut asker) {
                Ok(backlog) => told.set(part.of, Some(backlog)),
                Err(NoFigures::Gone) => {}
                Err(NoFigures::Stopped) => return,
                Err(NoFigures::Failed(error)) => {
                    told.set(part.of, None);
                    asker.api = None;
                    // That the server is away is said by those who read.
                    if matches!(error, ApiError::Forbidden(_)) {
                        warn_limited("backlog_unknown", format_args!("the stream's backlog is unknown: {error}"));
                    }
                }
            }
        }
        pause = LOOK_EVERY.saturating_sub(began.elapsed());
    }
}

/// What some of the consumers read.
struct Part {
    of: StreamPart,
    /// As one reader that has all of them.
    plan: ReaderPlan,
}

impl Part {
    fn all(consumer: &ConsumerConfig) -> Vec<Self> {
        let (is_owned, partitions) = (consumer.is_owned(), consumer.partitions);
        let topics = if is_owned { ReaderPlan::owned } else { ReaderPlan::all };
        let of = |plan: &ReaderPlan| if plan.is_urgent { StreamPart::Urgent } else { StreamPart::Topic };
        let mut all: Vec<_> =
            topics(consumer, 1, partitions).into_iter().map(|plan| Self { of: of(&plan), plan }).collect();
        if consumer.partitioner == Partitioner::On {
            let input = if is_owned { ReaderPlan::owned_input } else { ReaderPlan::input };
            all.push(Self { of: StreamPart::Input, plan: input(consumer, 0) });
        }
        all
    }

    fn backlog(&self, asker: &mut Asker) -> Result<Backlog, NoFigures> {
        let asks: Vec<_> = self.names(asker)?.iter().map(|name| consumer_info(&self.plan.stream, name)).collect();
        let mut sum = Backlog::default();
        for some in asks.chunks(ASKS_AT_ONCE) {
            for info in asker.ask::<ConsumerInfo>(some)? {
                let ConsumerInfo { num_pending, num_ack_pending, .. } = info?;
                sum.pending += num_pending;
                sum.unsettled += num_ack_pending;
            }
        }
        Ok(sum)
    }

    /// The consumers: where partitions have owners, the newest generation of each.
    fn names(&self, asker: &mut Asker) -> Result<Vec<String>, NoFigures> {
        let ReaderPlan { consumers, durable, stream, is_input, is_owned, .. } = &self.plan;
        if !is_owned {
            return Ok(consumers.iter().map(|consumer| consumer.name.clone()).collect());
        }
        let mut all = ConsumerNames::default();
        while let Some(ask) = all.ask(stream) {
            for page in asker.ask(&[ask])? {
                all.take(page?);
            }
        }
        let which = |name: &String| match is_input {
            true => named_input(durable, name).map(|generation| (0, generation)),
            false => named(durable, name).map(|(partition, generation)| (partition.0, generation)),
        };
        let mut generations: Vec<_> = all.names.iter().filter_map(which).collect();
        generations.retain(|(partition, _)| (*partition as usize) < consumers.len());
        generations.sort_unstable();
        let newest: BTreeMap<_, _> = generations.into_iter().collect();
        if newest.len() < consumers.len() {
            return Err(NoFigures::Gone);
        }
        let name = |(partition, generation): (u32, _)| {
            let first = self.plan.partition(partition as usize);
            self.plan.name_of(first, generation)
        };
        Ok(newest.into_iter().map(name).collect())
    }
}

/// The way to the server, and its pace.
struct Asker {
    nats: Current<NatsConfig>,
    api: Option<Api>,
    stopped: Receiver<()>,
    asked_at: Option<Instant>,
}

impl Asker {
    fn wait(&self, pause: Duration) -> Result<(), NoFigures> {
        match self.stopped.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Err(NoFigures::Stopped),
        }
    }

    /// Asks when it is time to.
    fn ask<T: for<'de> Deserialize<'de>>(
        &mut self,
        requests: &[Request],
    ) -> Result<Vec<Result<T, ApiError>>, NoFigures> {
        let since = self.asked_at.map_or(ASK_EVERY, |at| at.elapsed());
        self.wait(ASK_EVERY.saturating_sub(since))?;
        let api = match &mut self.api {
            Some(api) => api,
            none => {
                let nats = self.nats.now();
                let wire = Wire::connect(&nats, "backlog").map_err(|error| ApiError::Broken(error.to_string()))?;
                none.insert(Api { wire, timeout: nats.timeout })
            }
        };
        self.asked_at = Some(Instant::now());
        Ok(api.call_all(requests)?)
    }
}
