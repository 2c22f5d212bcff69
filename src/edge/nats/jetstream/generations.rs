//! The consumers of partitions that have owners, over a blocking connection for a thread that may wait: which there are, where each
//! stands, made, deleted; and what owners leave for each other in the stream beside.
//!
//! Promises that all requests of a call are under way at once (64 creations in a cluster take as long as a few); that each has an
//! answer of its own, and is never tried again here; that to create or delete the same again is no error; and that a connection
//! that failed is opened anew at the next call. Refuses to decide which generation is next, or when.

mod probe;

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use super::api::{
    ApiError, ConsumerConfig, ConsumerInfo, ConsumerNames, FROM_SEQUENCE, Request, StreamConfig, code, consumer_info,
    create_consumer, delete_consumer, read, stored_message, stream_info,
};
use super::client::asked;
use super::plan::{ConsumerPlan, ReaderPlan, named, named_input};
use super::prepare::wanted;
use super::setup::owners_stream;
use super::usable::cannot_be_owned;
use crate::config::{self, Current, NatsConfig, Partitioner};
use crate::edge::nats::protocol::ErrorKind;
use crate::edge::nats::wire::{Answer, Wire, WireError};
use crate::model::ids::Partition;
use crate::model::ownership::Generation;

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// It is done, and this came of it.
    Done(T),
    /// What it is about is not there.
    Absent,
    /// The server does not do it, in its words, or in ours with what to do.
    Refused(String),
    /// It may or may not be done: no answer in time, or no connection.
    NoAnswer(String),
}

impl<T> Outcome<T> {
    /// What came of it, if it is done.
    pub fn done(self) -> Option<T> {
        if let Self::Done(done) = self { Some(done) } else { None }
    }

    fn of(answer: Result<T, ApiError>) -> Self {
        match answer {
            Ok(done) => Self::Done(done),
            Err(ApiError::Refused {
                code: code::CONSUMER_NOT_FOUND | code::NO_MESSAGE | code::STREAM_NOT_FOUND,
                ..
            }) => Self::Absent,
            Err(error @ (ApiError::Refused { .. } | ApiError::Forbidden(_))) => Self::Refused(error.to_string()),
            Err(error) => Self::NoAnswer(error.to_string()),
        }
    }
}

/// Where a generation stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Every event of the partition up to this stream sequence is settled; what is before its start counts as settled.
    pub floor: u64,
    /// Events that it delivered and that are not acknowledged.
    pub pending: u64,
    /// How often it delivered: 0 is never.
    pub delivered: u64,
    /// Events of the partition that it has not delivered.
    pub to_come: u64,
    /// The first stream sequence that it delivers.
    pub start: u64,
    /// When it was made, as Unix nanoseconds by the server's clock: one that was deleted and made again differs in it.
    pub created: u64,
}

/// What is to be known of the event stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFacts {
    /// When it was made, by the server's words: another stream of this name has another time, and its sequences mean nothing
    /// to this one's.
    pub created: String,
    /// The first sequence that it holds.
    pub first: u64,
    /// The last sequence.
    pub last: u64,
    /// On how many servers it is kept.
    pub replicas: u32,
    /// Why its partitions cannot have owners.
    pub unusable: Option<String>,
}

/// Which generation of which partition.
pub type Which = (Partition, Generation);

/// See the module.
pub struct Generations {
    nats: Current<NatsConfig>,
    patience: Duration,
    plan: ReaderPlan,
    /// The partitioner's input stream, which is the partition behind the others.
    input: Option<ReaderPlan>,
    partitions: u32,
    topic: String,
    own: String,
    wire: Option<Wire>,
}

impl Generations {
    /// Of the configured stream. An answer that does not come within `patience` is none.
    pub fn new(nats: impl Into<Current<NatsConfig>>, consumer: &config::ConsumerConfig, patience: Duration) -> Self {
        let mut plan = ReaderPlan::owned(consumer, 1, consumer.partitions).remove(0);
        plan.consumers = Vec::new();
        let (topic, own) = (consumer.topic.clone(), owners_stream(&consumer.stream));
        let moves = consumer.partitioner == Partitioner::On;
        let input = moves.then(|| ReaderPlan::owned_input(consumer, 0));
        let nats = nats.into();
        Self { nats, patience, plan, input, partitions: consumer.partitions, topic, own, wire: None }
    }

    /// All generations that exist, ascending.
    pub fn names(&mut self) -> Outcome<Vec<Which>> {
        let (stream, partitions) = (self.plan.stream.clone(), self.partitions);
        let of_partition =
            |(partition, generation): Which| (partition.0 < partitions).then_some((partition, generation));
        let mut all = match self.names_in(&stream, |durable, name| named(durable, name).and_then(of_partition)) {
            Outcome::Done(all) => all,
            other => return other,
        };
        if let Some(stream) = self.input.as_ref().map(|input| input.stream.clone()) {
            let of_input = |durable: &str, name: &str| {
                named_input(durable, name).map(|generation| (Partition(partitions), generation))
            };
            match self.names_in(&stream, of_input) {
                Outcome::Done(input) => all.extend(input),
                other => return other,
            }
        }
        all.sort_unstable();
        all.dedup();
        Outcome::Done(all)
    }

    fn names_in(&mut self, stream: &str, named: impl Fn(&str, &str) -> Option<Which>) -> Outcome<Vec<Which>> {
        let mut all = ConsumerNames::default();
        while let Some(ask) = all.ask(stream) {
            match self.ask_one(ask) {
                Ok(page) => all.take(page),
                Err(error) => return Outcome::of(Err(error)),
            }
        }
        Outcome::Done(all.names.iter().filter_map(|name| named(&self.plan.durable, name)).collect())
    }

    /// Where each of these stands.
    pub fn standing(&mut self, of: &[Which]) -> Vec<Outcome<Standing>> {
        let asks = of.iter().map(|which| self.look_at(*which)).collect();
        let answers = self.ask::<ConsumerInfo>(asks);
        answers.into_iter().map(|answer| Outcome::of(answer.map(|info| standing_of(&info)))).collect()
    }

    /// Makes each of these, to begin at this stream sequence. One that was made so before is good.
    pub fn create(&mut self, of: &[(Partition, Generation, u64)]) -> Vec<Outcome<Standing>> {
        let asks = of.iter().map(|&(partition, generation, start)| {
            let config = self.config((partition, generation), start);
            create_consumer(&self.plan_of(partition).stream, &config)
        });
        let asks = asks.collect();
        let made = self.ask::<ConsumerInfo>(asks);
        made.into_iter().map(|answer| Outcome::of(answer.map(|info| standing_of(&info)))).collect()
    }

    /// Deletes each of these; [`Outcome::Absent`] is as good as done.
    pub fn delete(&mut self, of: &[Which]) -> Vec<Outcome<()>> {
        let delete = |which: &Which| delete_consumer(&self.plan_of(which.0).stream, &self.name(*which));
        let asks = of.iter().map(delete).collect();
        let gone = self.ask::<serde::de::IgnoredAny>(asks);
        gone.into_iter().map(|answer| Outcome::of(answer.map(drop))).collect()
    }

    /// A proof that this side of the cluster still decides: each of these generations exists, and a word of this instance was
    /// stored by as many servers as keep the stream; both asked at once, over one connection. The last answer is the word's.
    pub fn prove(&mut self, instance: &str, of: &[Which]) -> (Vec<Outcome<Standing>>, Outcome<()>) {
        let mut asks: Vec<_> = of.iter().map(|which| self.look_at(*which)).collect();
        asks.push(Request { subject: instance_subject(&self.own, instance), body: String::new() });
        let mut answers = self.ask_bytes(asks);
        let word = answers.pop().unwrap_or(Err(ApiError::NobodyAnswers)).and_then(|bytes| stored(&self.own, &bytes));
        let standing = answers.into_iter().map(|answer| {
            Outcome::of(answer.and_then(|bytes| read::<ConsumerInfo>(&bytes)).map(|info| standing_of(&info)))
        });
        (standing.collect(), Outcome::of(word))
    }

    /// Keeps how far partitions are settled, for whoever takes one over after a crash. Old and late words do no harm: what is
    /// settled stays so.
    pub fn keep(&mut self, all: &[(Which, String)]) -> Vec<Outcome<()>> {
        let ask = |(which, text): &(Which, String)| Request {
            subject: partition_subject(&self.own, *which),
            body: text.clone(),
        };
        let answers = self.ask_bytes(all.iter().map(ask).collect());
        let own = self.own.clone();
        answers.into_iter().map(|answer| Outcome::of(answer.and_then(|bytes| stored(&own, &bytes)))).collect()
    }

    /// What was kept last of each of these.
    pub fn kept(&mut self, of: &[Which]) -> Vec<Outcome<Vec<u8>>> {
        let ask = |which: &Which| {
            let which = serde_json::json!({ "last_by_subj": partition_subject(&self.own, *which) });
            stored_message(&self.own, &which)
        };
        let answers = self.ask_bytes(of.iter().map(ask).collect());
        answers.into_iter().map(|answer| Outcome::of(answer.and_then(|bytes| kept(&bytes)))).collect()
    }

    /// What the event stream is.
    pub fn stream(&mut self) -> Outcome<StreamFacts> {
        self.facts_of(&self.plan.stream.clone())
    }

    fn facts_of(&mut self, stream: &str) -> Outcome<StreamFacts> {
        #[derive(Deserialize)]
        struct Info {
            created: String,
            config: StreamConfig,
            #[serde(default)]
            state: State,
        }
        #[derive(Default, Deserialize)]
        struct State {
            #[serde(default)]
            first_seq: u64,
            #[serde(default)]
            last_seq: u64,
        }
        let ask = Request { subject: stream_info(stream), body: String::new() };
        Outcome::of(self.ask_one::<Info>(ask).map(|info| StreamFacts {
            created: info.created,
            first: info.state.first_seq,
            last: info.state.last_seq,
            replicas: info.config.num_replicas,
            unusable: cannot_be_owned(&info.config),
        }))
    }

    /// Whose stream, window and names a partition's consumers have.
    fn plan_of(&self, partition: Partition) -> &ReaderPlan {
        self.input.as_ref().filter(|_| partition.0 == self.partitions).unwrap_or(&self.plan)
    }

    fn look_at(&self, which: Which) -> Request {
        consumer_info(&self.plan_of(which.0).stream, &self.name(which))
    }

    fn name(&self, (partition, generation): Which) -> String {
        self.plan_of(partition).name_of(partition, generation)
    }

    fn config(&self, which: Which, start: u64) -> ConsumerConfig {
        let plan = self.plan_of(which.0);
        let filter = match plan.is_input {
            true => self.topic.clone(),
            false => format!("{}.{}", self.topic, which.0.0),
        };
        let wanted = wanted(plan, &ConsumerPlan { name: self.name(which), filter });
        match start {
            0 | 1 => wanted,
            start => ConsumerConfig { deliver_policy: FROM_SEQUENCE.to_owned(), opt_start_seq: start, ..wanted },
        }
    }

    fn ask_one<T: for<'de> Deserialize<'de>>(&mut self, request: Request) -> Result<T, ApiError> {
        self.ask(vec![request]).pop().unwrap_or(Err(ApiError::NobodyAnswers))
    }

    fn ask<T: for<'de> Deserialize<'de>>(&mut self, requests: Vec<Request>) -> Vec<Result<T, ApiError>> {
        let answers = self.ask_bytes(requests).into_iter();
        answers.map(|answer| answer.and_then(|bytes| read(&bytes))).collect()
    }

    /// All at once; an answer for each.
    fn ask_bytes(&mut self, requests: Vec<Request>) -> Vec<Result<Vec<u8>, ApiError>> {
        if requests.is_empty() {
            return Vec::new();
        }
        let all = |error: ApiError| requests.iter().map(|_| Err(error.clone())).collect();
        let wire = match self.wire.take().filter(|wire| !wire.is_doubtful) {
            Some(wire) => wire,
            None => {
                let nats = NatsConfig { timeout: self.patience, ..NatsConfig::clone(&self.nats.now()) };
                match Wire::connect(&nats, "owner") {
                    Ok(wire) => wire,
                    Err(error) => return all(ApiError::Broken(error.to_string())),
                }
            }
        };
        let wire = self.wire.insert(wire);
        let asks: Vec<_> = requests.iter().map(asked).collect();
        match wire.call_all(&asks) {
            Ok(answers) => {
                let timeout = self.patience;
                let each = answers.into_iter().map(|answer| match answer {
                    Some(Answer::Message(bytes)) => Ok(bytes),
                    Some(Answer::NobodyListens) => Err(ApiError::NobodyAnswers),
                    None => Err(ApiError::TooLate(timeout)),
                });
                each.collect()
            }
            Err(error) => {
                let answers = refused(wire, &requests, &error);
                self.wire = None;
                answers
            }
        }
    }
}

/// The connection was lost, or the user may not ask one of these: of the others nothing is known.
fn refused(wire: &Wire, requests: &[Request], error: &WireError) -> Vec<Result<Vec<u8>, ApiError>> {
    let kind = wire.refusal.as_ref().map(|refusal| &refusal.kind);
    let each = requests.iter().map(|request| match kind {
        Some(ErrorKind::MayNotPublish { subject }) if *subject == request.subject => {
            let what = format!("the user may not publish to {subject}: grant it ({error})");
            Err(ApiError::Refused { code: 0, text: what })
        }
        _ => Err(ApiError::Broken(error.to_string())),
    });
    each.collect()
}

fn standing_of(info: &ConsumerInfo) -> Standing {
    // Of a consumer that begins later a server of 2.9 says 0 until its first ack.
    let floor = info.ack_floor.stream_seq.max(info.config.opt_start_seq.saturating_sub(1));
    let (pending, delivered, to_come) = (info.num_ack_pending, info.delivered.consumer_seq, info.num_pending);
    let created = humantime::parse_rfc3339(&info.created).ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let created = created.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0));
    Standing { floor, pending, delivered, to_come, start: info.config.opt_start_seq.max(1), created }
}

fn instance_subject(own: &str, instance: &str) -> String {
    format!("{own}.instance.{instance}")
}

fn partition_subject(own: &str, (partition, generation): Which) -> String {
    format!("{own}.partition.{}.{}", partition.0, generation.0)
}

/// Whether the owners' stream has stored it.
fn stored(own: &str, bytes: &[u8]) -> Result<(), ApiError> {
    #[derive(Deserialize)]
    struct Stored {
        #[serde(default)]
        stream: String,
    }
    let Stored { stream } = read(bytes)?;
    if stream == own { Ok(()) } else { Err(ApiError::Broken(format!("stream {stream} took it instead of {own}"))) }
}

fn kept(bytes: &[u8]) -> Result<Vec<u8>, ApiError> {
    #[derive(Deserialize)]
    struct Got {
        message: Message,
    }
    #[derive(Deserialize)]
    struct Message {
        #[serde(default)]
        data: String,
    }
    let broken = |why: String| ApiError::Refused { code: 0, text: format!("what is kept of a partition: {why}") };
    let Got { message } = read(bytes)?;
    BASE64.decode(message.data).map_err(|error| broken(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_its_partition_and_its_generation_or_is_not_ours() {
        for which in
            [(Partition(0), Generation(0)), (Partition(63), Generation(7)), (Partition(9), Generation(u32::MAX))]
        {
            let name = which.1.consumer_name("my-g1", which.0);
            assert_eq!(named("my-g1", &name), Some(which), "{name}");
        }
        for name in [
            "my",
            "my-",
            "my-x",
            "my-1-g",
            "my-1-g0",
            "my-01",
            "my-1-g01",
            "my-1-h2",
            "other-1",
            "my-probe-a",
            "my-1-g9999999999",
        ] {
            assert_eq!(named("my", name), None, "{name}");
        }
    }

    #[test]
    fn what_is_kept_is_read_as_it_was_written_and_nothing_is_no_error() {
        let got = serde_json::json!({ "message": { "data": BASE64.encode("a text") } }).to_string();
        assert_eq!(kept(got.as_bytes()), Ok(b"a text".to_vec()));
        let why = kept(br#"{"message":{"data":"-"}}"#).expect_err("no base64").to_string();
        assert!(why.contains("what is kept of a partition"), "{why}");
        let absent = br#"{"error":{"code":404,"err_code":10037,"description":"no message found"}}"#;
        assert_eq!(Outcome::of(kept(absent)), Outcome::Absent);
    }
}
