//! Whether events can be read through what stands at the server: a stream's subjects, and a consumer's configuration.
//!
//! Promises words with the name of the thing, what is wrong with it and what to do. Pure: what the server said comes in.

use super::api::{ConsumerConfig, ConsumerInfo, StreamConfig, covers};
use super::plan::{ConsumerPlan, ReaderPlan, named, named_input};
use super::pulls::Standing;
use crate::model::ownership::Generation;

/// Each event is acknowledged by itself.
pub(super) const ACK_POLICY: &str = "explicit";
const OLD_ACK_POLICY: &str = "all";
/// The description of a consumer that an owner of partitions made.
pub(super) const MADE_BY_OWNER: &str = "of a partition that has an owner (task-engine, consumer.ownership etcd)";
const OWNERS_REMEDY: &str = "with consumer.ownership none here too its events would be pushed twice; set consumer.ownership etcd, or, to go \
     back to none for good, stop all instances, delete these consumers (nats consumer rm) and start: what the stream still holds \
     is then pushed again";
/// Events stay until a bound of the stream is reached, whoever acknowledged them.
pub(super) const LIMITS: &str = "limits";

/// Why a stream never has an event for one of the consumers. What comes of other streams has their subjects.
pub(super) fn unfed(plan: &ReaderPlan, stream: &StreamConfig) -> Option<String> {
    if stream.mirror.is_some() || !stream.sources.is_empty() {
        return None;
    }
    let is_taken = |wanted: &str| stream.subjects.iter().any(|pattern| covers(pattern, wanted));
    let missing = plan.consumers.iter().find(|consumer| !is_taken(&consumer.filter))?;
    Some(format!(
        "stream {} takes {}, and {} is needed: events are not stored and never come; add the subject to the stream",
        plan.stream,
        stream.subjects.join(", "),
        missing.filter
    ))
}

/// Why no consumer may be made anew: one of these names is of a partition that has an owner, who deleted it.
pub(super) fn has_owners(plan: &ReaderPlan, names: &[String]) -> Option<String> {
    let generation = |name: &String| match plan.is_input {
        true => named_input(&plan.durable, name),
        false => named(&plan.durable, name).map(|(_, generation)| generation),
    };
    let is_owners = |name: &&String| generation(name).is_some_and(|generation| generation != Generation::default());
    let name = names.iter().find(is_owners)?;
    Some(format!(
        "the partitions of stream {} have owners: consumer {name} is theirs, and {OWNERS_REMEDY}",
        plan.stream
    ))
}

/// Why the partitions of a stream cannot have owners.
pub(super) fn cannot_be_owned(stream: &StreamConfig) -> Option<String> {
    if stream.retention.is_empty() || stream.retention == LIMITS {
        return None;
    }
    let StreamConfig { name, retention, .. } = stream;
    Some(format!(
        "stream {name} has retention {retention}, and consumer.ownership etcd needs {LIMITS}: who takes a partition over reads \
         it through a consumer that begins in the middle of the stream, which {retention} does not allow or does not keep \
         events for; set consumer.ownership none, or make the stream anew with retention {LIMITS}"
    ))
}

/// Which consumer delivers nothing since somebody paused it.
pub(super) fn paused(plan: &ReaderPlan, infos: &[ConsumerInfo]) -> Option<String> {
    let ((_, consumer), _) = plan.read().zip(infos).find(|(_, info)| info.paused)?;
    let (stream, name) = (&plan.stream, &consumer.name);
    Some(format!(
        "consumer {name} of stream {stream} is paused: no event comes until its pause is over; to end it now: nats \
         consumer resume {stream} {name}"
    ))
}

/// Why a consumer is not read, with its name and what to do.
pub(super) fn refusal(plan: &ReaderPlan, consumer: &ConsumerPlan, config: &ConsumerConfig) -> Option<String> {
    let why = unusable(plan, consumer, config)?;
    Some(format!("consumer {} of stream {} cannot be used: {why}{}", consumer.name, plan.stream, remedy(config)))
}

/// What to do about one that cannot be used, where that is not said yet.
pub(super) fn remedy(config: &ConsumerConfig) -> &'static str {
    if is_of_old_policy(config) || config.description == MADE_BY_OWNER {
        ""
    } else {
        "; delete it, or set consumer.durable"
    }
}

/// Whether it acknowledges as engines up to 2026-11-27 had partitions do it.
pub(super) fn is_of_old_policy(config: &ConsumerConfig) -> bool {
    config.ack_policy == OLD_ACK_POLICY
}

/// Why events must not be read through it.
pub(super) fn unusable(plan: &ReaderPlan, consumer: &ConsumerPlan, config: &ConsumerConfig) -> Option<String> {
    if !config.deliver_subject.is_empty() {
        return Some("it is a push consumer".to_owned());
    }
    if !plan.is_owned && config.description == MADE_BY_OWNER {
        return Some(format!("an instance with consumer.ownership etcd made it: {OWNERS_REMEDY}"));
    }
    if is_of_old_policy(config) {
        return Some(format!(
            "its ack policy is {OLD_ACK_POLICY}, and {ACK_POLICY} is needed: with {OLD_ACK_POLICY}, a message that is deleted \
             or expires takes the unsettled ones before it along; stop all instances and run task-engine setup \
             --config FILE --change, which keeps what is unsettled"
        ));
    }
    if config.ack_policy != ACK_POLICY {
        return Some(format!("its ack policy is {}, and {ACK_POLICY} is needed", config.ack_policy));
    }
    if config.headers_only {
        return Some("it is headers_only: events would come without their payload".to_owned());
    }
    // No filter at all is the whole stream. What a filter leaves out would never be read; and a partition's consumer
    // that brings another one's sessions would bring them to a shard that is not theirs.
    let wanted = &consumer.filter;
    let single = [config.filter_subject.clone()];
    let filters = if config.filter_subjects.is_empty() { &single[..] } else { &config.filter_subjects };
    let is_filtered = filters.iter().any(|filter| !filter.is_empty());
    if let Some(apart) = &plan.apart
        && (!is_filtered || filters.iter().any(|filter| covers(filter, apart)))
    {
        let is_for = words_of(filters);
        return Some(format!(
            "it is for {is_for}, and another consumer reads {apart}: its events would be pushed twice"
        ));
    }
    let is_good = match plan.is_ordered() {
        true => filters == [wanted.clone()],
        false => !is_filtered || filters.iter().any(|filter| covers(filter, wanted)),
    };
    if !is_good {
        return Some(format!("it is for {}, and {wanted} is needed", words_of(filters)));
    }
    let expires = Standing::of(plan.ack_wait).expires;
    if config.max_expires > 0 && u128::from(config.max_expires) < expires.as_nanos() {
        return Some(format!("its max_expires is below {expires:?}"));
    }
    None
}

fn words_of(filters: &[String]) -> String {
    let all = filters.join(", ");
    if all.is_empty() { "all subjects".to_owned() } else { all }
}
