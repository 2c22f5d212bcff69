//! `task-engine setup`: the stream, its consumers and the dead-letter stream.
//!
//! Promises to make what is missing, to change nothing that exists but to say what differs, and that a second run does
//! nothing. With `change` a consumer of the old ack policy is replaced by one that begins at its first unsettled event. With
//! `dry_run` nothing is made or changed at all.

#![expect(clippy::disallowed_methods, reason = "`task-engine setup` is a command that waits for the broker")]

use std::thread;
use std::time::{Duration, Instant};

use super::api::{
    ApiError, ConsumerConfig, ConsumerInfo, FROM_SEQUENCE, StreamConfig, StreamInfo, code, consumer_info, covers,
    create_consumer, delete_consumer, stream_info,
};
use super::client::Api;
use super::plan::{ConsumerPlan, ReaderPlan};
use super::prepare::{differences_of, wanted};
use super::usable::{cannot_be_owned, is_of_old_policy, remedy, unusable};
use crate::config::{self, ConsumerMode, NatsConfig, Partitioner};
use crate::edge::nats::wire::Wire;
use crate::model::limits::REPEAT_WINDOW_AGE;

/// How long events stay in the stream: longer than any outage that is to be survived.
pub const MAX_AGE: Duration = Duration::from_secs(72 * 3600);
/// How long dead letters stay, for somebody to look at them.
pub const DEAD_LETTER_MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a dead letter that is written twice is known.
pub const DEAD_LETTER_DUPLICATES: Duration = Duration::from_secs(2 * 3600);
/// The same for events, by their `Nats-Msg-Id`.
const DUPLICATES: Duration = Duration::from_secs(120);
/// How long pulls of instances that were just stopped may still be listed.
const READ_PATIENCE: Duration = Duration::from_secs(3);
const READ_LOOK: Duration = Duration::from_millis(100);
/// How often a consumer that was deleted is tried to be made again.
const MAKE_TRIES: u32 = 5;
const MAKE_PAUSE: Duration = Duration::from_secs(1);

/// What to set up, beside what the configuration of the source says.
#[derive(Clone, Debug)]
pub struct SetupPlan {
    /// How long events stay in a stream that is made.
    pub max_age: Duration,
    /// On how many servers a stream that is made is kept.
    pub replicas: u32,
    /// Replace consumers of the old ack policy.
    pub change: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// The dead-letter stream of an event stream.
pub fn dead_letter_stream(stream: &str) -> String {
    format!("{stream}_DLQ")
}

/// Where the owners of an event stream's partitions leave what a successor may need.
pub fn owners_stream(stream: &str) -> String {
    format!("{stream}_OWN")
}

/// Sets up; each thing that was looked at is said in a line. False when something that exists cannot be used.
///
/// With `consumer.mode: core` only the dead-letter stream is set up, when there is JetStream.
///
/// # Errors
/// What is wrong and what to check, in words without secrets.
pub fn setup(
    nats: &NatsConfig,
    consumer: &config::ConsumerConfig,
    plan: SetupPlan,
    say: &mut dyn FnMut(String),
) -> Result<bool, String> {
    let wire = Wire::connect(nats, "setup").map_err(|error| error.to_string())?;
    let at = wire.server().to_owned();
    let api = Api { wire, timeout: nats.timeout };
    let owned = if consumer.is_owned() { vec![consumer.stream.clone(), consumer.input_stream()] } else { Vec::new() };
    let mut setup = Setup { api, plan: &plan, owned, say, is_usable: true };
    setup.all(consumer).map_err(|why| format!("NATS at {at}: {why}"))?;
    Ok(setup.is_usable)
}

struct Setup<'a> {
    api: Api,
    plan: &'a SetupPlan,
    /// The streams whose partitions have owners.
    owned: Vec<String>,
    say: &'a mut dyn FnMut(String),
    is_usable: bool,
}

impl Setup<'_> {
    fn all(&mut self, consumer: &config::ConsumerConfig) -> Result<(), String> {
        let is_core = consumer.mode == ConsumerMode::Core;
        let mut readers = Vec::new();
        if !is_core {
            let moves = consumer.partitioner == Partitioner::On;
            // As long as an owner of partitions remembers events: what it knows no more is no copy for the stream either.
            let duplicates = if moves { REPEAT_WINDOW_AGE } else { DUPLICATES };
            let stream =
                self.stream_config(&consumer.stream, consumer.stream_subjects(), self.plan.max_age, duplicates);
            let stands = self.stream(&stream).map_err(|error| error.to_string())?;
            let mut plans = ReaderPlan::all(consumer, 1, consumer.partitions);
            // Consumers of a stream that does not take their subjects would never have anything to deliver.
            let is_stream_usable = self.is_usable;
            let is_owned = consumer.is_owned();
            for plan in plans.iter().filter(|_| is_stream_usable && !is_owned) {
                self.consumers(plan, stands)?;
            }
            if is_owned {
                // One that nobody knows the story of is fenced before it is read, and the name of an old generation would be used twice.
                self.say(format!("consumers of stream {}: owners make those of their partitions", consumer.stream));
            }
            if moves {
                plans.extend(self.input(consumer)?);
            }
            readers = plans;
            if is_owned {
                self.stream(&self.owners_stream(&consumer.stream)).map_err(|error| error.to_string())?;
            }
        }
        let name = dead_letter_stream(&consumer.stream);
        let subjects = vec![format!("{name}.>")];
        let dead = self.stream_config(&name, subjects, DEAD_LETTER_MAX_AGE, DEAD_LETTER_DUPLICATES);
        match self.stream(&dead) {
            Err(ApiError::NobodyAnswers | ApiError::Refused { code: code::NOT_ENABLED_FOR_ACCOUNT, .. }) if is_core => {
                self.say("JetStream is not enabled: dead letters go to a local file; nothing to set up".to_owned());
                Ok(())
            }
            other => other.map(drop).map_err(|error| error.to_string()),
        }?;
        readers.iter().try_for_each(|plan| self.rights(plan))
    }

    /// The stream of the plain topic, and the consumer that the partitioner reads.
    fn input(&mut self, consumer: &config::ConsumerConfig) -> Result<Option<ReaderPlan>, String> {
        let (topic, stream, name) = (&consumer.topic, &consumer.stream, consumer.input_stream());
        let words = |error: ApiError| error.to_string();
        let main = match self.api.call::<StreamInfo>(stream_info(stream), String::new()) {
            Ok(info) => info.config.subjects,
            Err(error) if error.is(code::STREAM_NOT_FOUND) => Vec::new(),
            Err(error) => return Err(words(error)),
        };
        if main.iter().any(|pattern| covers(pattern, topic)) {
            self.is_usable = false;
            self.say(format!(
                "stream {name} cannot be made: stream {stream} takes {topic} itself (its subjects are {}), as without the \
                 partitioner. To go over: let the instances settle what stream {stream} holds and stop them, set its subjects to \
                 {topic}.* by hand, run setup again, and start the instances; what is published meanwhile is refused to its publishers",
                main.join(", ")
            ));
            return Ok(None);
        }
        let wanted = self.stream_config(&name, vec![topic.clone()], self.plan.max_age, DUPLICATES);
        let (was_usable, stands) = (self.is_usable, self.stream(&wanted).map_err(words)?);
        let plan = ReaderPlan::input(consumer, 0);
        if was_usable == self.is_usable && !consumer.is_owned() {
            self.consumers(&plan, stands)?;
        }
        self.say(format!(
            "publishers publish on {topic}; who writes {topic}.<partition> itself beside the partitioner loses the order of its sessions"
        ));
        Ok((was_usable == self.is_usable && stands).then_some(plan))
    }

    /// What an engine of this user needs beside the API that made all this.
    fn rights(&mut self, plan: &ReaderPlan) -> Result<(), String> {
        match self.api.probe_rights(plan) {
            Err(error @ ApiError::Forbidden(_)) => {
                self.is_usable = false;
                self.say(format!("the user cannot be used: {error}"));
                Ok(())
            }
            other => other.map_err(|error| error.to_string()),
        }
    }

    fn stream_config(
        &self,
        name: &str,
        subjects: Vec<String>,
        max_age: Duration,
        duplicates: Duration,
    ) -> StreamConfig {
        StreamConfig {
            name: name.to_owned(),
            subjects,
            retention: "limits".to_owned(),
            storage: "file".to_owned(),
            discard: "old".to_owned(),
            max_age: max_age.as_nanos() as u64,
            max_msgs: -1,
            max_bytes: -1,
            num_replicas: self.plan.replicas,
            duplicate_window: duplicates.min(max_age).as_nanos() as u64,
            max_msgs_per_subject: -1,
            max_msg_size: 0,
            mirror: None,
            sources: Vec::new(),
        }
    }

    /// Of each subject only the latest counts: a sign of life of an instance, how far a partition is settled. Each generation and each
    /// instance has a subject of its own, so they end in time; as late as the events of which they tell.
    fn owners_stream(&self, stream: &str) -> StreamConfig {
        let name = owners_stream(stream);
        let subjects = vec![format!("{name}.>")];
        let of_all = self.stream_config(&name, subjects, self.plan.max_age, DUPLICATES);
        StreamConfig { max_msgs_per_subject: 1, ..of_all }
    }

    /// Whether the stream stands when this returns: it does not after a dry run that would make it.
    fn stream(&mut self, wanted: &StreamConfig) -> Result<bool, ApiError> {
        let name = &wanted.name;
        match self.api.call::<StreamInfo>(stream_info(name), String::new()) {
            Ok(info) => {
                self.compare(wanted, &info.config);
                Ok(true)
            }
            Err(error) if error.is(code::STREAM_NOT_FOUND) => {
                let latest = if wanted.max_msgs_per_subject == 1 { "the latest of each subject " } else { "" };
                let age = humantime::format_duration(Duration::from_nanos(wanted.max_age));
                let what = format!(
                    "stream {name} (subjects {}, file storage, limits retention, kept {latest}for {age}, replicas {})",
                    wanted.subjects.join(", "),
                    wanted.num_replicas,
                );
                if self.plan.dry_run {
                    self.say(format!("would make {what}"));
                    return Ok(false);
                }
                let body = serde_json::to_string(wanted).map_err(|error| ApiError::Broken(error.to_string()))?;
                match self.api.call::<StreamInfo>(format!("$JS.API.STREAM.CREATE.{name}"), body) {
                    Ok(_) => self.say(format!("made {what}")),
                    Err(error) if error.is(code::SUBJECTS_OVERLAP) => {
                        self.say_who_has(wanted)?;
                        return Ok(false);
                    }
                    Err(error) => return Err(error),
                }
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// A subject belongs to one stream.
    fn say_who_has(&mut self, wanted: &StreamConfig) -> Result<(), ApiError> {
        #[derive(serde::Deserialize)]
        struct Names {
            streams: Option<Vec<String>>,
        }
        self.is_usable = false;
        for subject in &wanted.subjects {
            let body = serde_json::json!({ "subject": subject }).to_string();
            let Names { streams } = self.api.call("$JS.API.STREAM.NAMES".to_owned(), body)?;
            for other in streams.unwrap_or_default() {
                self.say(format!(
                    "stream {} cannot be made: stream {other} takes {subject}, or some of it; take that out of stream \
                     {other}, or set consumer.stream to {other}",
                    wanted.name
                ));
            }
        }
        Ok(())
    }

    fn compare(&mut self, wanted: &StreamConfig, has: &StreamConfig) {
        let name = &wanted.name;
        let covers = |subject: &String| has.subjects.iter().any(|pattern| covers(pattern, subject));
        if !wanted.subjects.iter().all(covers) {
            self.is_usable = false;
            self.say(format!(
                "stream {name} exists and cannot be used: it takes {}, and {} is needed; add the subject to it",
                has.subjects.join(", "),
                wanted.subjects.join(", ")
            ));
            return;
        }
        if self.owned.contains(name)
            && let Some(why) = cannot_be_owned(has)
        {
            self.is_usable = false;
            return self.say(why);
        }
        let mut differences = Vec::new();
        let mut differs = |what: &str, has: String, want: String| {
            if has != want {
                differences.push(format!("{what} is {has} (setup would make it {want})"));
            }
        };
        let time = |nanos: u64| match nanos {
            0 => "without end".to_owned(),
            nanos => humantime::format_duration(Duration::from_nanos(nanos)).to_string(),
        };
        differs("subjects", has.subjects.join(", "), wanted.subjects.join(", "));
        differs("retention", has.retention.clone(), wanted.retention.clone());
        differs("storage", has.storage.clone(), wanted.storage.clone());
        differs("discard", has.discard.clone(), wanted.discard.clone());
        differs("max_age", time(has.max_age), time(wanted.max_age));
        differs("max_msgs", has.max_msgs.to_string(), wanted.max_msgs.to_string());
        let bound = |most: i64| if most > 0 { most.to_string() } else { "any number".to_owned() };
        differs("max_msgs_per_subject", bound(has.max_msgs_per_subject), bound(wanted.max_msgs_per_subject));
        differs("max_bytes", has.max_bytes.to_string(), wanted.max_bytes.to_string());
        differs("replicas", has.num_replicas.to_string(), wanted.num_replicas.to_string());
        differs("duplicate_window", time(has.duplicate_window), time(wanted.duplicate_window));
        let differences = differences.join("; ");
        self.say(match differences.is_empty() {
            true => format!("stream {name} exists"),
            false => format!("stream {name} exists and is left as it is: {differences}"),
        });
    }

    fn consumers(&mut self, plan: &ReaderPlan, stands: bool) -> Result<(), String> {
        let stream = &plan.stream;
        let words = |error: ApiError| error.to_string();
        let asks: Vec<_> = plan.consumers.iter().map(|consumer| consumer_info(stream, &consumer.name)).collect();
        let found = match stands {
            true => self.api.call_all::<ConsumerInfo>(&asks).map_err(words)?,
            false => Vec::new(),
        };
        let mut missing: Vec<_> = plan.consumers.iter().skip(found.len()).collect();
        let mut as_wanted = 0;
        for (consumer, answer) in plan.consumers.iter().zip(found) {
            let name = &consumer.name;
            let info = match answer {
                Ok(info) => info,
                Err(error) if error.is(code::CONSUMER_NOT_FOUND) => {
                    missing.push(consumer);
                    continue;
                }
                Err(error) => return Err(format!("consumer {name} of stream {stream}: {error}")),
            };
            if self.plan.change && is_of_old_policy(&info.config) && self.change(plan, consumer, &info)? {
                continue;
            }
            if let Some(why) = unusable(plan, consumer, &info.config) {
                self.is_usable = false;
                self.say(format!("consumer {name} exists and cannot be used: {why}{}", remedy(&info.config)));
                continue;
            }
            let differences = differences_of(plan, consumer, &info.config);
            as_wanted += u32::from(differences.is_empty());
            differences.into_iter().for_each(|difference| self.say(format!("{difference}; left as it is")));
        }
        if as_wanted > 0 {
            self.say(format!("consumers of stream {stream}: {as_wanted} exist"));
        }
        if missing.is_empty() {
            return Ok(());
        }
        if stands && let Some(why) = self.api.owners_of(plan).map_err(words)? {
            self.is_usable = false;
            self.say(why);
            return Ok(());
        }
        let names = match missing.as_slice() {
            [one] => format!("consumer {}", one.name),
            [first, .., last] => format!("{} consumers, {} to {}", missing.len(), first.name, last.name),
            [] => String::new(),
        };
        if self.plan.dry_run {
            self.say(format!("would make {names} of stream {stream}"));
            return Ok(());
        }
        let creates: Vec<_> = missing.iter().map(|consumer| create_consumer(stream, &wanted(plan, consumer))).collect();
        for answer in self.api.call_all::<ConsumerInfo>(&creates).map_err(words)? {
            answer.map_err(words)?;
        }
        self.say(format!("made {names} of stream {stream}"));
        Ok(())
    }

    /// Replaces a consumer of the old ack policy, which a server does not change: the new one begins behind the last event
    /// that the old one had acknowledged with all before it. False when something else is wrong with it.
    fn change(&mut self, plan: &ReaderPlan, consumer: &ConsumerPlan, info: &ConsumerInfo) -> Result<bool, String> {
        let (stream, name) = (&plan.stream, &consumer.name);
        let wanted = wanted(plan, consumer);
        let as_changed = ConsumerConfig { ack_policy: wanted.ack_policy.clone(), ..info.config.clone() };
        if unusable(plan, consumer, &as_changed).is_some() {
            return Ok(false);
        }
        let info = self.until_unread(stream, name, info.clone())?;
        if info.num_waiting > 0 {
            self.is_usable = false;
            self.say(format!("consumer {name} is being read: stop all instances, then change it"));
            return Ok(true);
        }
        let from = info.ack_floor.stream_seq + 1;
        let what = format!(
            "consumer {name} of stream {stream} from ack policy {} to {}: deleted, and made again from sequence {from}; \
             {} delivered and unsettled events come again",
            info.config.ack_policy, wanted.ack_policy, info.num_ack_pending
        );
        if self.plan.dry_run {
            self.say(format!("would change {what}"));
            return Ok(true);
        }
        let wanted = ConsumerConfig { deliver_policy: FROM_SEQUENCE.to_owned(), opt_start_seq: from, ..wanted };
        self.replace(stream, &wanted)?;
        self.say(format!("changed {what}"));
        Ok(true)
    }

    /// The consumer once nobody reads it, or when that took too long.
    fn until_unread(&mut self, stream: &str, name: &str, mut info: ConsumerInfo) -> Result<ConsumerInfo, String> {
        let until = Instant::now() + READ_PATIENCE;
        while info.num_waiting > 0 && Instant::now() < until {
            thread::sleep(READ_LOOK);
            let ask = consumer_info(stream, name);
            info = self.api.call(ask.subject, ask.body).map_err(|error| format!("consumer {name}: {error}"))?;
        }
        Ok(info)
    }

    fn replace(&mut self, stream: &str, wanted: &ConsumerConfig) -> Result<(), String> {
        #[derive(serde::Deserialize)]
        struct Deleted {}
        let name = &wanted.durable_name;
        let delete = delete_consumer(stream, name);
        let Deleted {} = self
            .api
            .call(delete.subject, delete.body)
            .map_err(|error| format!("consumer {name} of stream {stream} could not be deleted: {error}"))?;
        let mut tries = 1;
        loop {
            let create = create_consumer(stream, wanted);
            match self.api.call::<ConsumerInfo>(create.subject, create.body) {
                Ok(_) => return Ok(()),
                Err(error) if tries >= MAKE_TRIES => {
                    return Err(format!(
                        "consumer {name} of stream {stream} was deleted and could not be made again: {error}; make it by \
                         hand before an engine does, with ack_policy {}, filter_subject {}, deliver_policy \
                         {FROM_SEQUENCE} and opt_start_seq {}",
                        wanted.ack_policy, wanted.filter_subject, wanted.opt_start_seq
                    ));
                }
                Err(_) => thread::sleep(MAKE_PAUSE),
            }
            tries += 1;
        }
    }

    fn say(&mut self, line: String) {
        (self.say)(line);
    }
}
