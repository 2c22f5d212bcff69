//! Requests to JetStream's API and their answers, as text.
//!
//! Promises to say what an error means and what to check. Reads only the fields that are needed and never sends back
//! what it read: a client that updates a stream drops the fields it does not know.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Requests under way at once.
pub(super) const AT_ONCE: usize = 256;

/// Codes of the server's API errors.
pub(super) mod code {
    pub const CONSUMER_NOT_FOUND: u64 = 10_014;
    pub const NO_MESSAGE: u64 = 10_037;
    pub const STREAM_NOT_FOUND: u64 = 10_059;
    pub const SUBJECTS_OVERLAP: u64 = 10_065;
    pub const NOT_ENABLED_FOR_ACCOUNT: u64 = 10_039;
    pub const NOT_ENABLED: u64 = 10_076;
}

/// Why a request has no good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ApiError {
    /// Nobody listens: no JetStream.
    NobodyAnswers,
    /// No answer within this time.
    TooLate(Duration),
    /// The server did not let us.
    Forbidden(String),
    /// JetStream's own refusal.
    Refused { code: u64, text: String },
    /// The connection or the answer is broken.
    Broken(String),
}

impl ApiError {
    pub(super) fn is(&self, wanted: u64) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == wanted)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NobodyAnswers | Self::Refused { code: code::NOT_ENABLED | code::NOT_ENABLED_FOR_ACCOUNT, .. } => f
                .write_str(
                    "JetStream is not enabled; give the server a jetstream block (nats-server -js) and, when it has \
                     accounts, enable it for ours",
                ),
            Self::TooLate(time) => write!(
                f,
                "JetStream does not answer within {time:?}; check the server's load, that its cluster has a leader, \
                 and that the user may publish to $JS.API.> and subscribe to _INBOX.>"
            ),
            Self::Forbidden(text) => {
                write!(
                    f,
                    "{text}; the user must be allowed to publish to $JS.API.> and $JS.ACK.> and to subscribe to _INBOX.>"
                )
            }
            Self::Refused { code: 0, text } => f.write_str(text),
            Self::Refused { code, text } => write!(f, "JetStream refuses: {text} (error {code})"),
            Self::Broken(text) => write!(f, "JetStream's answer cannot be used: {text}"),
        }
    }
}

pub(super) struct Request {
    pub subject: String,
    pub body: String,
}

#[derive(Deserialize)]
struct Refusal {
    error: Option<RefusalBody>,
}

#[derive(Deserialize)]
struct RefusalBody {
    #[serde(default)]
    code: u64,
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// An answer's content, or the refusal in it.
pub(super) fn read<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, ApiError> {
    let broken = |error: serde_json::Error| ApiError::Broken(error.to_string());
    let refusal: Refusal = serde_json::from_slice(bytes).map_err(broken)?;
    if let Some(error) = refusal.error {
        let code = if error.err_code == 0 { error.code } else { error.err_code };
        return Err(ApiError::Refused { code, text: error.description });
    }
    serde_json::from_slice(bytes).map_err(broken)
}

/// The answer to a single request.
pub(super) fn one<T>(answers: Result<Vec<Result<T, ApiError>>, ApiError>) -> Result<T, ApiError> {
    answers.and_then(|mut all| all.pop().unwrap_or(Err(ApiError::NobodyAnswers)))
}

/// The same, read.
pub(super) fn read_one<T: for<'de> Deserialize<'de>>(
    answers: Result<Vec<Result<Bytes, ApiError>>, ApiError>,
) -> Result<T, ApiError> {
    one(answers).and_then(|bytes| read(&bytes))
}

/// What makes a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StreamConfig {
    pub name: String,
    #[serde(default)]
    pub subjects: Vec<String>,
    #[serde(default)]
    pub retention: String,
    #[serde(default)]
    pub storage: String,
    #[serde(default)]
    pub discard: String,
    /// Nanoseconds; 0 is for ever.
    #[serde(default)]
    pub max_age: u64,
    #[serde(default)]
    pub max_msgs: i64,
    #[serde(default)]
    pub max_bytes: i64,
    #[serde(default)]
    pub num_replicas: u32,
    #[serde(default)]
    pub duplicate_window: u64,
    /// 0: any number.
    #[serde(default, skip_serializing_if = "is_without_bound")]
    pub max_msgs_per_subject: i64,
    /// Bytes of a message with its headers; 0 and below: the server's own bound.
    #[serde(default, skip_serializing)]
    pub max_msg_size: i64,
    /// What it takes from other streams comes under subjects that are not its own.
    #[serde(default, skip_serializing)]
    pub mirror: Option<serde_json::Value>,
    #[serde(default, skip_serializing)]
    pub sources: Vec<serde_json::Value>,
}

/// What is read of a stream.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct StreamInfo {
    pub config: StreamConfig,
    /// When it was made.
    #[serde(default)]
    pub created: String,
    #[serde(default)]
    pub state: StreamState,
}

/// What a stream holds.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct StreamState {
    #[serde(default)]
    pub first_seq: u64,
    #[serde(default)]
    pub last_seq: u64,
}

/// What makes a consumer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ConsumerConfig {
    #[serde(default)]
    pub durable_name: String,
    /// For people, and to tell what an owner of partitions made.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(default)]
    pub deliver_policy: String,
    #[serde(default)]
    pub ack_policy: String,
    /// Nanoseconds.
    #[serde(default)]
    pub ack_wait: u64,
    /// -1: without end.
    #[serde(default)]
    pub max_deliver: i64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub filter_subject: String,
    #[serde(default)]
    pub replay_policy: String,
    #[serde(default)]
    pub max_ack_pending: i64,
    #[serde(default, skip_serializing)]
    pub deliver_subject: String,
    #[serde(default, skip_serializing)]
    pub filter_subjects: Vec<String>,
    #[serde(default, skip_serializing)]
    pub max_batch: u32,
    #[serde(default, skip_serializing)]
    pub max_expires: u64,
    /// Of one pull.
    #[serde(default, skip_serializing)]
    pub max_bytes: u64,
    /// Events come without their payload.
    #[serde(default, skip_serializing)]
    pub headers_only: bool,
    /// It is deleted when it was unused for so many nanoseconds.
    #[serde(default, skip_serializing)]
    pub inactive_threshold: u64,
    #[serde(default, skip_serializing)]
    pub backoff: Vec<u64>,
    /// With [`FROM_SEQUENCE`]: the first event that it delivers.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub opt_start_seq: u64,
}

/// The deliver policy of a consumer that begins at `opt_start_seq`.
pub(super) const FROM_SEQUENCE: &str = "by_start_sequence";

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_without_bound(number: &i64) -> bool {
    *number <= 0
}

/// Where a consumer is.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Sequences {
    #[serde(default)]
    pub stream_seq: u64,
    /// Deliveries, of which each has its number.
    #[serde(default)]
    pub consumer_seq: u64,
}

/// What is read of a consumer.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ConsumerInfo {
    #[serde(default)]
    pub name: String,
    /// When it was made, by the server's clock, as RFC 3339.
    #[serde(default)]
    pub created: String,
    pub config: ConsumerConfig,
    /// Events that it has not delivered.
    #[serde(default)]
    pub num_pending: u64,
    #[serde(default)]
    pub delivered: Sequences,
    /// All up to here is settled.
    #[serde(default)]
    pub ack_floor: Sequences,
    #[serde(default)]
    pub num_ack_pending: u64,
    /// Pulls that stand, of all instances.
    #[serde(default)]
    pub num_waiting: u64,
    /// It delivers nothing for a while; servers since 2.11.
    #[serde(default)]
    pub paused: bool,
}

impl ConsumerInfo {
    /// Every event up to this stream sequence is settled.
    pub(super) fn settled_to(&self) -> u64 {
        self.ack_floor.stream_seq.max(self.config.opt_start_seq.saturating_sub(1))
    }
}

/// Whether a stream's or consumer's subject takes another: `*` is one token, `>` at the end is one or more.
pub(super) fn covers(pattern: &str, subject: &str) -> bool {
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

/// Asks for a stream.
pub(super) fn stream_info(stream: &str) -> String {
    format!("$JS.API.STREAM.INFO.{stream}")
}

/// Asks for a consumer.
pub(super) fn consumer_info(stream: &str, consumer: &str) -> Request {
    Request { subject: format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}"), body: String::new() }
}

pub(super) fn delete_consumer(stream: &str, consumer: &str) -> Request {
    Request { subject: format!("$JS.API.CONSUMER.DELETE.{stream}.{consumer}"), body: String::new() }
}

/// Makes a consumer that is not there. Servers before 2.10 do not know `action` and would change one that is: so it is
/// looked for first, and instances that race make the same.
pub(super) fn create_consumer(stream: &str, config: &ConsumerConfig) -> Request {
    let body = serde_json::json!({ "stream_name": stream, "config": config, "action": "create" });
    let subject = format!("$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{}", config.durable_name);
    Request { subject, body: body.to_string() }
}

/// Makes a consumer without a name of ours, which the server forgets when it is unused for the time that its configuration says.
pub(super) fn create_ephemeral(stream: &str, config: &serde_json::Value) -> Request {
    let body = serde_json::json!({ "stream_name": stream, "config": config }).to_string();
    Request { subject: format!("$JS.API.CONSUMER.CREATE.{stream}"), body }
}

/// The names of a stream's consumers, from this place on.
pub(super) fn consumer_names(stream: &str, offset: usize) -> Request {
    Request { subject: format!("$JS.API.CONSUMER.NAMES.{stream}"), body: format!(r#"{{"offset":{offset}}}"#) }
}

/// A page of the names of a stream's consumers.
#[derive(Debug, Deserialize)]
pub(super) struct NamesPage {
    /// On all pages.
    total: usize,
    consumers: Option<Vec<String>>,
}

/// The names of a stream's consumers, page by page: each [`ask`](Self::ask) is answered before the next one.
#[derive(Debug, Default)]
pub(super) struct ConsumerNames {
    pub names: Vec<String>,
    is_whole: bool,
}

impl ConsumerNames {
    /// Asks for the next page; none when there is no further one.
    pub(super) fn ask(&self, stream: &str) -> Option<Request> {
        (!self.is_whole).then(|| consumer_names(stream, self.names.len()))
    }

    pub(super) fn take(&mut self, page: NamesPage) {
        let names = page.consumers.unwrap_or_default();
        let is_last = names.is_empty();
        self.names.extend(names);
        self.is_whole = is_last || self.names.len() >= page.total;
    }
}

/// One message of a stream: the one that `which` says.
pub(super) fn stored_message(stream: &str, which: &serde_json::Value) -> Request {
    Request { subject: format!("$JS.API.STREAM.MSG.GET.{stream}"), body: which.to_string() }
}

/// Where a consumer is pulled from.
pub(super) fn pull_subject(stream: &str, consumer: &str) -> String {
    format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}")
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn a_subject_takes_what_it_matches() {
        for (pattern, subject) in
            [("a.b", "a.b"), ("a.*", "a.b"), ("a.>", "a.b.c"), ("a.>", "a.*"), (">", "a"), ("a.*", "a.*")]
        {
            assert!(covers(pattern, subject), "{pattern} {subject}");
        }
        for (pattern, subject) in [("a.b", "a.*"), ("a.*", "a"), ("a.*", "a.b.c"), ("a.>", "a"), ("a.*", "a.>")] {
            assert!(!covers(pattern, subject), "{pattern} {subject}");
        }
    }
}
