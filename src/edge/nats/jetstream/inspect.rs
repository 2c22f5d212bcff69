//! Whether JetStream has what reading needs, for `task-engine doctor`: streams, consumers, their bounds, and what the user may do.
//!
//! Promises to make and change nothing; `setup` and the engine's start do that.

use serde::Deserialize;

use super::api::{ApiError, ConsumerInfo, StreamConfig, StreamInfo, code, consumer_info, stream_info};
use super::client::Api;
use super::plan::ReaderPlan;
use super::prepare::differences_of;
use super::setup::{dead_letter_stream, owners_stream};
use super::usable::{LIMITS, cannot_be_owned, paused, refusal, unfed};
use crate::config::{Config, ConsumerConfig, Partitioner};
use crate::edge::nats::wire::Wire;
use crate::model::finding::{Check, Findings};

/// What there is of an account; negative: without a bound.
#[derive(Deserialize)]
struct Account {
    #[serde(default)]
    storage: u64,
    #[serde(default)]
    consumers: i64,
    limits: AccountLimits,
}

#[derive(Deserialize)]
struct AccountLimits {
    #[serde(default)]
    max_storage: i64,
    #[serde(default)]
    max_consumers: i64,
}

/// A part of the disk that an account may use, in percent, above which it is told.
const STORAGE_PERCENT_MAX: u64 = 90;

/// Looks at what the connection reaches.
pub fn look(wire: Wire, config: &Config, found: &mut Findings<'_>) {
    let (consumer, timeout) = (&config.consumer, config.nats.timeout);
    let mut look = Look { api: Api { wire, timeout }, consumer, found };
    if let Err(error) = look.all() {
        look.failed(&error);
    }
}

struct Look<'a, 'b> {
    api: Api,
    consumer: &'a ConsumerConfig,
    found: &'a mut Findings<'b>,
}

impl Look<'_, '_> {
    fn failed(&mut self, error: &ApiError) {
        let check = match error {
            ApiError::Forbidden(_) => Check::NatsPermissions,
            ApiError::NobodyAnswers | ApiError::TooLate(_) => Check::NatsJetStream,
            ApiError::Refused { code: code::NOT_ENABLED | code::NOT_ENABLED_FOR_ACCOUNT, .. } => Check::NatsJetStream,
            ApiError::Refused { .. } => Check::NatsStream,
            ApiError::Broken(_) => Check::NatsJetStream,
        };
        self.found.fail_in_words(check, &error.to_string());
    }

    fn all(&mut self) -> Result<(), ApiError> {
        self.found.begin(Check::NatsStream);
        let consumer = self.consumer;
        let mut plans = match consumer.is_owned() {
            true => ReaderPlan::owned(consumer, 1, consumer.partitions),
            false => ReaderPlan::all(consumer, 1, consumer.partitions),
        };
        if consumer.partitioner == Partitioner::On {
            let input = if consumer.is_owned() { ReaderPlan::owned_input } else { ReaderPlan::input };
            plans.push(input(consumer, plans.len() as u16));
        }
        let mut streams = Vec::new();
        for plan in &plans {
            let stream = self.stream(&plan.stream)?;
            let wrong = stream.as_ref().and_then(|stream| unfed(plan, stream).or_else(|| self.not_to_be_owned(stream)));
            if let Some(why) = &wrong {
                self.found.fail_in_words(Check::NatsStream, why);
            }
            streams.push(stream.filter(|_| wrong.is_none()));
        }
        if consumer.is_owned() {
            streams.push(self.stream(&owners_stream(&consumer.stream))?);
        }
        self.found.ok(Check::NatsJetStream, "JetStream answers");
        if streams.iter().any(Option::is_none) {
            // What else is missing, setup makes with it.
            return Ok(());
        }
        let names: Vec<_> = plans.iter().map(|plan| plan.stream.as_str()).collect();
        self.found.ok(Check::NatsStream, format!("{} takes what is published", names.join(", ")));
        self.bounds(streams.iter().flatten());
        self.found.begin(Check::NatsConsumers);
        for plan in plans.iter().filter(|_| !consumer.is_owned()) {
            self.consumers(plan)?;
        }
        self.account()?;
        self.dead_letters()?;
        self.rights(&plans)
    }

    fn dead_letters(&mut self) -> Result<(), ApiError> {
        self.found.begin(Check::NatsDeadLetters);
        let letters = dead_letter_stream(&self.consumer.stream);
        match self.api.call::<StreamInfo>(stream_info(&letters), String::new()) {
            Ok(_) => self.found.ok(Check::NatsDeadLetters, format!("stream {letters}")),
            Err(error) if error.is(code::STREAM_NOT_FOUND) => self.found.fail(
                Check::NatsDeadLetters,
                format!("there is no stream {letters}: events that can never be pushed wait for it"),
                "run task-engine setup --config FILE",
            ),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The configuration of a stream, if it is there.
    fn stream(&mut self, name: &str) -> Result<Option<StreamConfig>, ApiError> {
        match self.api.call::<StreamInfo>(stream_info(name), String::new()) {
            Ok(info) => Ok(Some(info.config)),
            Err(error) if error.is(code::STREAM_NOT_FOUND) => {
                let what = format!("stream {name} does not exist");
                self.found.fail(
                    Check::NatsStream,
                    what,
                    "check consumer.stream, or run task-engine setup --config FILE",
                );
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn not_to_be_owned(&self, stream: &StreamConfig) -> Option<String> {
        self.consumer.is_owned().then(|| cannot_be_owned(stream)).flatten()
    }

    /// Whether the stream lets events go that nobody has settled, for the sake of room.
    fn bounds<'a>(&mut self, streams: impl Iterator<Item = &'a StreamConfig>) {
        let loses = |stream: &StreamConfig| {
            let is_bounded = stream.max_msgs > 0 || stream.max_bytes > 0 || stream.max_msgs_per_subject > 1;
            let drops_old = stream.discard != "new" && (stream.retention.is_empty() || stream.retention == LIMITS);
            (is_bounded && drops_old).then(|| stream.name.clone())
        };
        let losing: Vec<_> = streams.filter_map(loses).collect();
        if !losing.is_empty() {
            self.found.warn(
                Check::NatsLimits,
                format!(
                    "{} drops its oldest events when it is full, also those that are not settled",
                    losing.join(", ")
                ),
                "bound the stream by max_age alone, or set discard: new, so that publishers are told",
            );
        }
    }

    fn consumers(&mut self, plan: &ReaderPlan) -> Result<(), ApiError> {
        let stream = &plan.stream;
        let asks: Vec<_> = plan.consumers.iter().map(|consumer| consumer_info(stream, &consumer.name)).collect();
        let answers = self.api.call_all::<ConsumerInfo>(&asks)?;
        let (mut infos, mut missing, mut wrong) = (Vec::new(), 0, Vec::new());
        let mut differences = Vec::new();
        for (consumer, answer) in plan.consumers.iter().zip(answers) {
            match answer {
                Ok(info) => {
                    let why = refusal(plan, consumer, &info.config);
                    // Of one that is not read nothing else matters.
                    if why.is_none() {
                        differences.extend(differences_of(plan, consumer, &info.config));
                    }
                    wrong.extend(why);
                    infos.push(info);
                }
                Err(error) if error.is(code::CONSUMER_NOT_FOUND) => missing += 1,
                Err(error) => return Err(error),
            }
        }
        if missing == 0 {
            wrong.extend(paused(plan, &infos));
        }
        match wrong.first() {
            Some(why) => self.found.fail_in_words(Check::NatsConsumers, &with_number(why, wrong.len())),
            None if missing > 0 => {
                let what = format!(
                    "{} of stream {stream} are there; the engine makes the other {missing} when it starts",
                    infos.len()
                );
                self.found.ok(Check::NatsConsumers, what);
            }
            None => self.found.ok(Check::NatsConsumers, format!("{} of stream {stream}", infos.len())),
        }
        self.differences(differences);
        Ok(())
    }

    /// What is not as configured; a server does what its consumer says.
    fn differences(&mut self, all: Vec<String>) {
        let advice = "write the same value in the configuration, or change the consumer (nats consumer edit)";
        let kinds =
            [(Check::NatsAckWait, "ack_wait"), (Check::NatsLimits, "max_ack_pending"), (Check::NatsConsumers, "")];
        let mut left = all;
        for (check, key) in kinds {
            let (of_this, others): (Vec<_>, Vec<_>) = left.into_iter().partition(|one| one.contains(key));
            left = others;
            match of_this.first() {
                Some(one) => self.found.warn(check, with_number(one, of_this.len()), advice),
                None if check == Check::NatsAckWait => self.found.ok(check, "as configured"),
                None => {}
            }
        }
    }

    /// What the account may use. Who may not ask is not told.
    fn account(&mut self) -> Result<(), ApiError> {
        self.found.begin(Check::NatsLimits);
        let account = match self.api.call::<Account>("$JS.API.INFO".to_owned(), String::new()) {
            Ok(account) => account,
            Err(ApiError::Forbidden(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let AccountLimits { max_storage, max_consumers } = account.limits;
        let most = u64::try_from(max_storage).unwrap_or(0);
        if most > 0 && account.storage * 100 >= most * STORAGE_PERCENT_MAX {
            self.found.warn(
                Check::NatsLimits,
                format!("JetStream uses {} of the {most} bytes that this account may have on disk", account.storage),
                "raise the account's max_file, or drop what no stream needs: publishes are refused when it is full",
            );
        } else if max_consumers > 0 && account.consumers >= max_consumers {
            let what = format!("the account has {} consumers, and may have {max_consumers}", account.consumers);
            self.found.warn(Check::NatsLimits, what, "raise the account's max_consumers");
        } else {
            self.found.ok(Check::NatsLimits, "no bound is near");
        }
        Ok(())
    }

    /// Acks and pulls: what is forbidden is said at once.
    fn rights(&mut self, plans: &[ReaderPlan]) -> Result<(), ApiError> {
        self.found.begin(Check::NatsPermissions);
        let read: Vec<_> = plans.iter().filter(|plan| !plan.is_owned).collect();
        for plan in &read {
            self.api.probe_rights(plan)?;
        }
        // Owners make their consumers; what they may do with them shows when there are some.
        let what = if read.is_empty() { "JetStream may be asked" } else { "events may be pulled and acknowledged" };
        self.found.ok(Check::NatsPermissions, what);
        Ok(())
    }
}

fn with_number(first: &str, all: usize) -> String {
    match all {
        0 | 1 => first.to_owned(),
        all => format!("{first} (and {} more like it)", all - 1),
    }
}
