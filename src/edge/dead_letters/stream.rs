//! Dead letters in a JetStream stream: `<stream>_DLQ`, subjects `<stream>_DLQ.<reason>`.
//!
//! Promises that a letter counts as kept only when the stream has confirmed it, and that a confirmation of an earlier
//! copy counts only while that copy is there (it may have been replayed and dropped meanwhile) and is of the same event. Refuses to make or
//! change the stream: `task-engine setup` does.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use super::letter::StoredLetter;
use crate::edge::nats::wire::{Answer, Request, Wire, WireError};
use crate::model::limits::MSG_ID_HEADER;

/// JetStream's numbers for what is not there, and for a message that is over the stream's own bound.
mod code {
    pub(super) const NO_MESSAGE: u64 = 10_037;
    pub(super) const NOT_ENABLED_FOR_ACCOUNT: u64 = 10_039;
    pub(super) const MESSAGE_TOO_LARGE: u64 = 10_054;
    pub(super) const NO_STREAM: u64 = 10_059;
    pub(super) const NOT_ENABLED: u64 = 10_076;
}

/// What became of a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// The stream has it.
    Stored,
    /// There is no such stream, or no JetStream.
    NoStream,
    /// It is over what the server or the stream takes.
    TooLarge,
    /// Not now; why.
    Failed(String),
}

#[derive(Debug, Default, Deserialize)]
struct ApiAnswer {
    error: Option<ApiFault>,
    #[serde(default)]
    stream: String,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    message: Option<StoredMessage>,
    state: Option<StreamState>,
}

#[derive(Debug, Deserialize)]
struct ApiFault {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

#[derive(Debug, Deserialize)]
struct StoredMessage {
    seq: u64,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

/// How full a stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct StreamState {
    /// Messages in it.
    pub messages: u64,
}

/// The dead-letter stream of an event stream.
#[derive(Clone, Debug)]
pub struct LetterStream {
    name: String,
}

impl LetterStream {
    /// Of this event stream.
    pub fn of(stream: &str) -> Self {
        Self { name: format!("{stream}_DLQ") }
    }

    /// Its name; also what its subjects begin with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Publishes all and waits for the stream's word on each. `may_be_kept` tells which were published before without a word
    /// from the stream.
    ///
    /// # Errors
    /// When the connection is lost; letters may be in the stream then, and are stored once all the same when they are
    /// published again.
    pub fn publish(
        &self,
        wire: &mut Wire,
        letters: &[StoredLetter],
        may_be_kept: impl Fn(&StoredLetter) -> bool,
    ) -> Result<Vec<Published>, WireError> {
        let most = wire.max_payload;
        let requests: Vec<Request<'_>> = letters.iter().map(|letter| self.request(letter)).collect();
        let (fitting, mut ends): (Vec<Request<'_>>, Vec<Published>) = (
            requests.iter().filter(|request| request.size() <= most).cloned().collect(),
            requests.iter().map(|_| Published::TooLarge).collect(),
        );
        let answers = wire.call_all(&fitting)?;
        let places = (0..requests.len()).filter(|at| requests[*at].size() <= most).collect::<Vec<_>>();
        for (at, answer) in places.into_iter().zip(answers) {
            ends[at] = match self.judge(answer) {
                Judged::End(end) => end,
                Judged::Repeat(copy) => {
                    // Without a number of its own an event cannot be told from one with the same bytes, such as its replay,
                    // whose first letter is taken out now: the copy is of that one, unless it was published by ourselves.
                    let is_same = letters[at].sequence.is_some() || may_be_kept(&letters[at]);
                    self.repeat(wire, &letters[at], is_same.then_some(copy))?
                }
            };
        }
        Ok(ends)
    }

    fn request<'a>(&self, letter: &'a StoredLetter) -> Request<'a> {
        Request {
            subject: format!("{}.{}", self.name, letter.reason),
            headers: letter.headers(),
            payload: &letter.payload,
        }
    }

    fn judge(&self, answer: Option<Answer>) -> Judged {
        let bytes = match answer {
            None => {
                return Judged::End(Published::Failed(
                    "the server did not confirm in time; check its load and the network".to_owned(),
                ));
            }
            Some(Answer::NobodyListens) => return Judged::End(Published::NoStream),
            Some(Answer::Message(bytes)) => bytes,
        };
        let Ok(answer) = serde_json::from_slice::<ApiAnswer>(&bytes) else {
            return Judged::End(Published::Failed("the answer is not from JetStream".to_owned()));
        };
        Judged::End(match answer.error {
            Some(fault) if fault.err_code == code::MESSAGE_TOO_LARGE => Published::TooLarge,
            Some(fault) => Published::Failed(fault.description),
            // Another stream takes these subjects: nobody would look for the letter there.
            None if answer.stream != self.name => Published::NoStream,
            None if answer.duplicate => return Judged::Repeat(answer.seq),
            None => Published::Stored,
        })
    }

    /// The stream had this letter inside its window. If that copy is gone (replayed and dropped), or is of another event, it
    /// is written anew, under another id.
    fn repeat(&self, wire: &mut Wire, letter: &StoredLetter, copy: Option<u64>) -> Result<Published, WireError> {
        match copy.map(|sequence| self.get(wire, sequence)).transpose()? {
            Some(Ok(Some(_))) => return Ok(Published::Stored),
            Some(Ok(None)) | None => {}
            Some(Err(why)) => return Ok(Published::Failed(why)),
        }
        let mut request = self.request(letter);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        for (name, value) in &mut request.headers {
            if *name == MSG_ID_HEADER {
                *value = format!("{value}-{now}");
            }
        }
        let answer = wire.call(request)?;
        Ok(match self.judge(Some(answer)) {
            Judged::End(end) => end,
            Judged::Repeat(_) => Published::Stored,
        })
    }

    /// How full it is; none when it is not there, or there is no JetStream.
    ///
    /// # Errors
    /// When the connection is lost; inside, what JetStream refuses.
    pub fn state(&self, wire: &mut Wire) -> Result<Result<Option<StreamState>, String>, WireError> {
        let answer = self.api(wire, &format!("STREAM.INFO.{}", self.name), "")?;
        Ok(answer.map(|answer| answer.and_then(|answer| answer.state)))
    }

    /// The letter of this number.
    ///
    /// # Errors
    /// See [`state`](Self::state).
    pub fn get(
        &self,
        wire: &mut Wire,
        sequence: u64,
    ) -> Result<Result<Option<(u64, StoredLetter)>, String>, WireError> {
        self.message(wire, &format!(r#"{{"seq":{sequence}}}"#))
    }

    /// The first letter from this number on, of this reason or of any.
    ///
    /// # Errors
    /// See [`state`](Self::state).
    pub fn next(
        &self,
        wire: &mut Wire,
        from: u64,
        reason: Option<&str>,
    ) -> Result<Result<Option<(u64, StoredLetter)>, String>, WireError> {
        let subject = format!("{}.{}", self.name, reason.unwrap_or(">"));
        let subject = serde_json::Value::from(subject);
        self.message(wire, &format!(r#"{{"seq":{from},"next_by_subj":{subject}}}"#))
    }

    fn message(&self, wire: &mut Wire, ask: &str) -> Result<Result<Option<(u64, StoredLetter)>, String>, WireError> {
        let answer = self.api(wire, &format!("STREAM.MSG.GET.{}", self.name), ask)?;
        Ok(answer.and_then(|answer| {
            let Some(message) = answer.and_then(|answer| answer.message) else { return Ok(None) };
            let decode = |text: &str| BASE64.decode(text).map_err(|error| format!("a stored message: {error}"));
            let (block, payload) = (decode(&message.hdrs)?, decode(&message.data)?);
            let kept = StoredLetter::read(&String::from_utf8_lossy(&block), payload.into());
            Ok(Some((message.seq, kept)))
        }))
    }

    /// Takes the letter of this number out; one that is gone is good.
    ///
    /// # Errors
    /// See [`state`](Self::state).
    pub fn delete(&self, wire: &mut Wire, sequence: u64) -> Result<Result<(), String>, WireError> {
        let ask = format!(r#"{{"seq":{sequence},"no_erase":true}}"#);
        let answer = self.api(wire, &format!("STREAM.MSG.DELETE.{}", self.name), &ask)?.map(drop);
        // What a server says of one that is gone differs from version to version, and from store to store.
        match answer {
            Err(why) if self.get(wire, sequence)? != Ok(None) => Ok(Err(why)),
            _ => Ok(Ok(())),
        }
    }

    /// One request to JetStream; none when what it is about is not there.
    fn api(&self, wire: &mut Wire, what: &str, ask: &str) -> Result<Result<Option<ApiAnswer>, String>, WireError> {
        let subject = format!("$JS.API.{what}");
        let answer = wire.call(Request { subject, headers: Vec::new(), payload: ask.as_bytes() })?;
        let Answer::Message(bytes) = answer else { return Ok(Ok(None)) };
        let Ok(answer) = serde_json::from_slice::<ApiAnswer>(&bytes) else {
            return Ok(Err("the answer is not from JetStream".to_owned()));
        };
        let absent = [code::NO_MESSAGE, code::NO_STREAM, code::NOT_ENABLED, code::NOT_ENABLED_FOR_ACCOUNT];
        Ok(match &answer.error {
            Some(fault) if absent.contains(&fault.err_code) => Ok(None),
            Some(fault) => Err(format!("stream {}: {} ({})", self.name, fault.description, fault.err_code)),
            None => Ok(Some(answer)),
        })
    }

    /// Publishes an event to its stream; true when that confirmed it, false when it does not take its subject.
    ///
    /// # Errors
    /// When the connection is lost; inside, what JetStream refuses.
    pub fn replay(wire: &mut Wire, stream: &str, request: Request<'_>) -> Result<Result<bool, String>, WireError> {
        let Answer::Message(bytes) = wire.call(request)? else { return Ok(Ok(false)) };
        Ok(match serde_json::from_slice::<ApiAnswer>(&bytes) {
            Ok(ApiAnswer { error: Some(fault), .. }) => Err(fault.description),
            Ok(answer) if answer.stream == stream => Ok(true),
            Ok(answer) if !answer.stream.is_empty() => {
                Err(format!("stream {} took it, and the engine reads {stream}", answer.stream))
            }
            _ => Err("the answer is not from JetStream".to_owned()),
        })
    }
}

/// The stream's word on a letter.
enum Judged {
    End(Published),
    /// It had that letter before, under this number.
    Repeat(u64),
}
