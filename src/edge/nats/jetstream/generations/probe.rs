//! Whether the user may do what an owner needs, tried once at the start: a right that is missing would else be noticed at the first
//! takeover.
//!
//! Promises to leave nothing behind but a word of this instance, and to name the right that is missing.

use std::time::Duration;

use super::{Generations, Outcome, StreamFacts, instance_subject, stored};
use crate::edge::nats::jetstream::api::{
    ApiError, ConsumerInfo, Request, code, consumer_info, consumer_names, create_ephemeral, delete_consumer,
};
use crate::model::ids::Partition;
use crate::model::ownership::Generation;

/// A probe that we could not delete is gone after this.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);

impl Generations {
    /// Tries them, and gives what the event stream is. [`Outcome::Absent`]: it is not there. [`Outcome::Refused`]: which right is
    /// missing, or which stream, and what to do; nothing can be owned then.
    pub fn probe_rights(&mut self, instance: &str) -> Outcome<StreamFacts> {
        let facts = match self.stream() {
            Outcome::Done(facts) => facts,
            other => return other,
        };
        match &facts.unusable {
            Some(why) => Outcome::Refused(why.clone()),
            None => Outcome::of(self.try_all(instance).map(|()| facts)),
        }
    }

    fn try_all(&mut self, instance: &str) -> Result<(), ApiError> {
        let (stream, own) = (self.plan.stream.clone(), self.own.clone());
        let name = format!("{}-probe-{instance}", self.plan.durable);
        let filter = format!("{}.0", self.topic);
        let config = |ack_policy: &str| {
            serde_json::json!({
                "deliver_policy": "new", "filter_subject": filter, "replay_policy": "instant", "ack_policy": ack_policy,
                "inactive_threshold": FORGOTTEN_AFTER.as_nanos() as u64,
            })
        };
        // A generation: made, looked at, listed, deleted.
        let mut durable = config("explicit");
        durable["durable_name"] = name.as_str().into();
        let subject = format!("$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{name}");
        let body = serde_json::json!({ "stream_name": stream, "config": durable }).to_string();
        self.try_one::<ConsumerInfo>(Request { subject, body })?;
        self.try_one::<ConsumerInfo>(consumer_info(&stream, &name))?;
        self.try_one::<serde::de::IgnoredAny>(consumer_names(&stream, 0))?;
        self.try_one::<serde::de::IgnoredAny>(delete_consumer(&stream, &name))?;
        // A repeat window's.
        let made = self.try_one::<ConsumerInfo>(create_ephemeral(&stream, &config("none")))?;
        self.try_one::<serde::de::IgnoredAny>(delete_consumer(&stream, &made.name))?;
        // The owners' stream: written, read.
        let word = Request { subject: instance_subject(&own, instance), body: String::new() };
        match self.ask_bytes(vec![word]).pop().unwrap_or(Err(ApiError::NobodyAnswers)) {
            // Nobody takes its subjects.
            Err(ApiError::NobodyAnswers) => {
                let text = format!("stream {own} does not exist: run task-engine setup --config FILE");
                return Err(ApiError::Refused { code: 0, text });
            }
            answer => answer.and_then(|bytes| stored(&own, &bytes))?,
        }
        match self.kept(&[(Partition(0), Generation::default())]).pop() {
            Some(Outcome::Refused(text)) => Err(ApiError::Refused { code: 0, text }),
            Some(Outcome::NoAnswer(why)) => Err(ApiError::Broken(why)),
            _ => Ok(()),
        }
    }

    fn try_one<T: for<'de> serde::Deserialize<'de>>(&mut self, request: Request) -> Result<T, ApiError> {
        let subject = request.subject.clone();
        self.ask_one(request).map_err(|error| match error {
            ApiError::Refused { code: code::CONSUMER_NOT_FOUND, text } => {
                ApiError::Broken(format!("{subject}: {text}, though it was made a moment ago"))
            }
            error => error,
        })
    }
}
