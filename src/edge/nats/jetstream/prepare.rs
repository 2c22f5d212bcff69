//! What has to stand before the first pull of a connection: the stream, the consumers, and what the last owner left.
//!
//! Promises to make a consumer that is missing and to change none that is there: what differs from the configuration
//! is said, and what cannot work with it is refused. A partition's consumer with unsettled events that are not here is
//! left alone for ack_wait: then these come first, and what was published since follows; `resume` brings them in order.

use std::time::{Duration, Instant};

use super::JetFeed;
use super::api::{
    ApiError, ConsumerConfig, ConsumerInfo, ConsumerNames, FROM_SEQUENCE, Request, StreamInfo, code, consumer_info,
    create_consumer, one, stream_info,
};
use super::plan::{ConsumerPlan, ReaderPlan};
use super::pulls::{Standing, Terms};
use super::usable::{self, ACK_POLICY, MADE_BY_OWNER, refusal};
use crate::edge::nats::connection::Connection;
use crate::edge::nats::feed::drive;

/// What the server may be late with redelivering.
const TAKE_OVER_MARGIN: Duration = Duration::from_millis(250);
/// So many times its ack_wait more it may take until all that was out has come again. 2.9.10 may deliver one the second time only.
const RESUMED_WITHIN: u32 = 2;
/// Acks that were sent a moment ago may not be worked off yet: how often that is waited for, and how long.
const SETTLE_LOOKS: u32 = 5;
const SETTLE_LOOK: Duration = Duration::from_millis(50);

/// What a connection may do.
#[derive(Debug)]
pub(super) struct Prepared {
    pub terms: Vec<Terms>,
    /// The shortest of its consumers.
    pub ack_wait: Duration,
}

/// Looks at the stream and the consumers, and makes those that are missing.
///
/// # Errors
/// What is wrong and what to do.
pub(super) async fn prepare(feed: &mut JetFeed, connection: &mut Connection) -> Result<Prepared, String> {
    let plan = feed.plan.clone();
    let ask = Request { subject: stream_info(&plan.stream), body: String::new() };
    let stream = match one(feed.call_all::<StreamInfo>(connection, &[ask]).await) {
        Ok(info) => info.config,
        Err(error) if error.is(code::STREAM_NOT_FOUND) => {
            return Err(format!("stream {} does not exist: run task-engine setup --config FILE", plan.stream));
        }
        Err(error) => return Err(error.to_string()),
    };
    let unfed = usable::unfed(&plan, &stream);
    if plan.is_owned {
        // Who owns partitions makes their consumers, and says which are to be read.
        if let Some(why) = usable::cannot_be_owned(&stream) {
            return Err(why);
        }
        feed.unfed = unfed;
        return Ok(Prepared { terms: Vec::new(), ack_wait: plan.ack_wait });
    }
    let infos = consumers(feed, connection, &plan, unfed.as_deref()).await?;
    // What is in the stream is read all the same.
    feed.unfed = unfed.or_else(|| usable::paused(&plan, &infos));
    let missing = take_over(feed, connection, &plan, &infos).await?;
    Ok(terms(feed, &plan, &infos, &missing))
}

/// How each consumer is pulled from.
fn terms(feed: &mut JetFeed, plan: &ReaderPlan, infos: &[ConsumerInfo], missing: &[u64]) -> Prepared {
    let mut prepared = Prepared { terms: Vec::with_capacity(infos.len()), ack_wait: plan.ack_wait };
    let mut differences = Vec::new();
    for (at, ((consumer, info), &missing)) in plan.consumers.iter().zip(infos).zip(missing).enumerate() {
        differences.extend(differences_of(plan, consumer, &info.config));
        let ack_wait = ack_wait_of(&info.config, plan.ack_wait);
        prepared.ack_wait = prepared.ack_wait.min(ack_wait.0);
        let again_at = Instant::now() + ack_wait.1 + TAKE_OVER_MARGIN;
        let from = (missing > 0).then_some(again_at);
        let terms = terms_of(plan, &info.config);
        // There must be room for all that is out, also if its reader had more.
        let window = if missing > 0 { terms.window.max(info.num_ack_pending as u32) } else { terms.window };
        prepared.terms.push(Terms { from, window, ..terms });
        feed.resume.begin(at, missing, again_at, again_at + ack_wait.1 * RESUMED_WITHIN);
    }
    feed.say_differences(&differences);
    let waited_for = missing.iter().filter(|&&missing| missing > 0).count();
    if waited_for > 0 {
        tracing::info!(
            reader = plan.reader,
            consumers = waited_for,
            "JetStream: an owner left unsettled events; they are waited for, so that they come first"
        );
    }
    prepared
}

/// How a consumer is pulled from that nobody left anything in.
pub(super) fn terms_of(plan: &ReaderPlan, config: &ConsumerConfig) -> Terms {
    let window = u32::try_from(config.max_ack_pending).ok().filter(|&most| most > 0);
    Terms {
        window: plan.window.min(window.unwrap_or(u32::MAX)),
        batch_max: if config.max_batch > 0 { config.max_batch } else { u32::MAX },
        bytes_max: if config.max_bytes > 0 { config.max_bytes as usize } else { usize::MAX },
        standing: Standing::of(ack_wait_of(config, plan.ack_wait).0),
        from: None,
    }
}

/// The shortest and the longest wait before the server delivers again.
fn ack_wait_of(config: &ConsumerConfig, planned: Duration) -> (Duration, Duration) {
    let wait = if config.ack_wait == 0 { planned } else { Duration::from_nanos(config.ack_wait) };
    let all = config.backoff.iter().map(|&nanos| Duration::from_nanos(nanos));
    (all.clone().fold(wait, Duration::min), all.fold(wait, Duration::max))
}

/// `unfed`: why none is to be made.
async fn consumers(
    feed: &mut JetFeed,
    connection: &mut Connection,
    plan: &ReaderPlan,
    unfed: Option<&str>,
) -> Result<Vec<ConsumerInfo>, String> {
    let stream = &plan.stream;
    let asks: Vec<_> = plan.consumers.iter().map(|consumer| consumer_info(stream, &consumer.name)).collect();
    let mut found = feed.call_all::<ConsumerInfo>(connection, &asks).await.map_err(|error| error.to_string())?;
    let is_missing = |answer: &Result<ConsumerInfo, ApiError>| {
        answer.as_ref().is_err_and(|error| error.is(code::CONSUMER_NOT_FOUND))
    };
    let missing: Vec<usize> = (0..found.len()).filter(|&at| is_missing(&found[at])).collect();
    if !missing.is_empty() {
        if let Some(why) = unfed {
            return Err(why.to_owned());
        }
        not_owned(feed, connection, plan).await?;
        tracing::info!(reader = plan.reader, consumers = missing.len(), "JetStream: consumers are made on {stream}");
    }
    let creates: Vec<_> =
        missing.iter().map(|&at| create_consumer(stream, &wanted(plan, &plan.consumers[at]))).collect();
    let made = feed.call_all::<ConsumerInfo>(connection, &creates).await.map_err(|error| error.to_string())?;
    for (at, answer) in missing.into_iter().zip(made) {
        found[at] = answer;
    }
    let mut infos = Vec::with_capacity(found.len());
    for (consumer, answer) in plan.consumers.iter().zip(found) {
        let info = answer.map_err(|error| format!("consumer {} of stream {stream}: {error}", consumer.name))?;
        if let Some(why) = refusal(plan, consumer, &info.config) {
            return Err(why);
        }
        infos.push(info);
    }
    Ok(infos)
}

/// Finds out whether what is missing was deleted by owners of the partitions. Who may not ask for names does not know.
async fn not_owned(feed: &mut JetFeed, connection: &mut Connection, plan: &ReaderPlan) -> Result<(), String> {
    let mut all = ConsumerNames::default();
    while let Some(ask) = all.ask(&plan.stream) {
        let page = match feed.call_all(connection, &[ask]).await {
            Ok(mut pages) => pages.pop().unwrap_or(Err(ApiError::NobodyAnswers)),
            Err(ApiError::Forbidden(_)) => return Ok(()),
            Err(error) => Err(error),
        };
        all.take(page.map_err(|error| error.to_string())?);
    }
    usable::has_owners(plan, &all.names).map_or(Ok(()), Err)
}

/// The consumer as we make it.
pub(super) fn wanted(plan: &ReaderPlan, consumer: &ConsumerPlan) -> ConsumerConfig {
    ConsumerConfig {
        durable_name: consumer.name.clone(),
        description: if plan.is_owned { MADE_BY_OWNER.to_owned() } else { String::new() },
        deliver_policy: "all".to_owned(),
        ack_policy: ACK_POLICY.to_owned(),
        ack_wait: plan.ack_wait.as_nanos() as u64,
        max_deliver: -1,
        filter_subject: consumer.filter.clone(),
        replay_policy: "instant".to_owned(),
        max_ack_pending: i64::from(plan.window),
        deliver_subject: String::new(),
        filter_subjects: Vec::new(),
        max_batch: 0,
        max_expires: 0,
        max_bytes: 0,
        headers_only: false,
        inactive_threshold: 0,
        backoff: Vec::new(),
        opt_start_seq: 0,
    }
}

/// What is not as configured, a line each.
pub(super) fn differences_of(plan: &ReaderPlan, consumer: &ConsumerPlan, config: &ConsumerConfig) -> Vec<String> {
    let wanted = wanted(plan, consumer);
    let mut all = Vec::new();
    let mut differs = |what: &str, has: String, want: String| {
        if has != want {
            all.push(format!("consumer {}: {what} is {has}, configured is {want}", consumer.name));
        }
    };
    let seconds = |nanos: u64| format!("{:?}", Duration::from_nanos(nanos));
    differs("ack_wait", seconds(config.ack_wait), seconds(wanted.ack_wait));
    differs("max_ack_pending", config.max_ack_pending.to_string(), wanted.max_ack_pending.to_string());
    let filter = |config: &ConsumerConfig| match config.filter_subjects.is_empty() {
        true => format!("{:?}", config.filter_subject),
        false => format!("{:?}", config.filter_subjects),
    };
    differs("filter_subject", filter(config), filter(&wanted));
    // A consumer that was changed begins where the old one ended.
    if !config.deliver_policy.is_empty() && config.deliver_policy != FROM_SEQUENCE {
        differs("deliver_policy", config.deliver_policy.clone(), wanted.deliver_policy.clone());
    }
    if config.inactive_threshold > 0 {
        let what =
            "inactive_threshold (the server deletes it when it was unused for so long; all events then come anew)";
        differs(what, seconds(config.inactive_threshold), "none".to_owned());
    }
    if config.max_deliver > 0 {
        let what = "max_deliver (the server gives an event up after so many deliveries)";
        differs(what, config.max_deliver.to_string(), "no limit".to_owned());
    }
    all
}

/// Takes each consumer over: how many of its events were delivered to somebody, are not settled, and not here.
async fn take_over(
    feed: &mut JetFeed,
    connection: &mut Connection,
    plan: &ReaderPlan,
    infos: &[ConsumerInfo],
) -> Result<Vec<u64>, String> {
    let take_over = |feed: &mut JetFeed, at: usize, info: &ConsumerInfo| {
        feed.flight.take_over(at, info.num_ack_pending, info.delivered.stream_seq)
    };
    let mut missing: Vec<u64> = infos.iter().enumerate().map(|(at, info)| take_over(feed, at, info)).collect();
    for _ in 0..SETTLE_LOOKS {
        let late: Vec<usize> =
            (0..missing.len()).filter(|&at| missing[at] > 0 && feed.flight.has_acknowledged(at)).collect();
        if late.is_empty() {
            break;
        }
        // What was acknowledged a moment ago may not be counted yet.
        let _ = drive(feed, connection, Instant::now() + SETTLE_LOOK, |_, _| false).await;
        let asks: Vec<_> = late.iter().map(|&at| consumer_info(&plan.stream, &plan.consumers[at].name)).collect();
        let answers = feed.call_all::<ConsumerInfo>(connection, &asks).await.map_err(|error| error.to_string())?;
        for (at, answer) in late.into_iter().zip(answers) {
            missing[at] = take_over(feed, at, &answer.map_err(|error| error.to_string())?);
        }
    }
    Ok(missing)
}
