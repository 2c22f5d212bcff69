//! Whether the user may do what an owner needs, tried once at the start: a right that is missing would else be noticed at the first
//! takeover.
//!
//! Promises to leave nothing behind but a word of this instance, and to name the right that is missing.

use std::time::{Duration, Instant};

use super::{Generations, Outcome, StreamFacts, instance_subject, stored};
use crate::edge::nats::jetstream::api::{
    ApiError, ConsumerInfo, Request, code, consumer_info, consumer_names, create_ephemeral, delete_consumer,
};
use crate::model::ids::Partition;
use crate::model::ownership::Generation;

/// A probe that we could not delete is gone after this.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);
/// A partition that cannot pass on so many events a second, however fast the engine is, is worth a line.
const RATE_MIN: f64 = 1_000.0;

impl Generations {
    /// Tries them, and gives what the event stream is. [`Outcome::Absent`]: it is not there. [`Outcome::Refused`]: which right is
    /// missing, or which stream, and what to do; nothing can be owned then.
    pub fn probe_rights(&mut self, instance: &str) -> Outcome<StreamFacts> {
        let mut facts = match self.usable(&self.plan.stream.clone()) {
            Outcome::Done(facts) => facts,
            other => return other,
        };
        if let Some(input) = self.input.as_ref().map(|input| input.stream.clone()) {
            match self.usable(&input) {
                // Sequences of another input stream of this name mean as little as those of another event stream.
                Outcome::Done(of_input) => {
                    facts.created = format!("{}, its input stream {}", facts.created, of_input.created)
                }
                Outcome::Absent => {
                    let why = format!("stream {input} does not exist: run task-engine setup --config FILE");
                    return Outcome::Refused(why);
                }
                other => return other,
            }
        }
        if let Err(error) = self.try_all(instance) {
            return Outcome::of(Err(error));
        }
        self.warn_of_a_far_server();
        Outcome::Done(facts)
    }

    /// Says when the way to NATS and the window of a partition together bound its rate more than one would guess.
    fn warn_of_a_far_server(&mut self) {
        let (asked, stream) = (Instant::now(), self.plan.stream.clone());
        if let Outcome::Done(_) = self.facts_of(&stream)
            && let Some(line) = far_server(self.plan.window, asked.elapsed())
        {
            tracing::warn!("{line}");
        }
    }

    fn usable(&mut self, stream: &str) -> Outcome<StreamFacts> {
        match self.facts_of(stream) {
            Outcome::Done(StreamFacts { unusable: Some(why), .. }) => Outcome::Refused(why),
            other => other,
        }
    }

    fn try_all(&mut self, instance: &str) -> Result<(), ApiError> {
        let stream = self.plan.stream.clone();
        let first = format!("{}.0", self.topic);
        self.try_generation(&stream, &first, instance)?;
        if let Some(input) = self.input.as_ref().map(|input| input.stream.clone()) {
            let topic = self.topic.clone();
            self.try_generation(&input, &topic, instance)?;
        }
        // A repeat window's, and what the partitioner looks back with.
        let made = self.try_one::<ConsumerInfo>(create_ephemeral(&stream, &probe(&first, "none")))?;
        self.try_one::<serde::de::IgnoredAny>(delete_consumer(&stream, &made.name))?;
        self.try_owners_stream(instance)
    }

    /// A generation: made, looked at, listed, deleted.
    fn try_generation(&mut self, stream: &str, filter: &str, instance: &str) -> Result<(), ApiError> {
        let name = format!("{}-probe-{instance}", self.plan.durable);
        let mut durable = probe(filter, "explicit");
        durable["durable_name"] = name.as_str().into();
        let subject = format!("$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{name}");
        let body = serde_json::json!({ "stream_name": stream, "config": durable }).to_string();
        self.try_one::<ConsumerInfo>(Request { subject, body })?;
        self.try_one::<ConsumerInfo>(consumer_info(stream, &name))?;
        self.try_one::<serde::de::IgnoredAny>(consumer_names(stream, 0))?;
        self.try_one::<serde::de::IgnoredAny>(delete_consumer(stream, &name)).map(drop)
    }

    /// The owners' stream: written, read.
    fn try_owners_stream(&mut self, instance: &str) -> Result<(), ApiError> {
        let own = self.own.clone();
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

/// What to say of a window that is short for this way.
fn far_server(window: u32, answered_in: Duration) -> Option<String> {
    let rate_max = f64::from(window) / answered_in.as_secs_f64();
    (rate_max < RATE_MIN).then(|| {
        format!(
            "NATS answers after {:.0} ms, and {window} events of a partition may be unacknowledged at once: no partition can pass on \
             more than about {rate_max:.0} events a second. Raise consumer.max_ack_pending (all partitions share it), or run the \
             engine nearer to NATS",
            answered_in.as_secs_f64() * 1_000.0
        )
    })
}

fn probe(filter: &str, ack_policy: &str) -> serde_json::Value {
    serde_json::json!({
        "deliver_policy": "new", "filter_subject": filter, "replay_policy": "instant", "ack_policy": ack_policy,
        "inactive_threshold": FORGOTTEN_AFTER.as_nanos() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_window_over_a_long_way_is_said_with_the_rate_and_the_key() {
        let line = far_server(16, Duration::from_millis(80)).expect("200 events a second");
        for word in ["80 ms", "16 events", "200 events a second", "consumer.max_ack_pending"] {
            assert!(line.contains(word), "{line}");
        }
        assert_eq!(far_server(16, Duration::from_millis(15)), None);
        assert_eq!(far_server(128, Duration::from_millis(80)), None);
        assert_eq!(far_server(16, Duration::ZERO), None);
    }
}
