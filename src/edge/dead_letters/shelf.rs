//! Dead letters as `task-engine dlq` works on them, wherever they are kept.
//!
//! Promises that a letter is taken out only after its replay was confirmed, that a replay which was broken off can be
//! run again (the same letter is published under the same message id), and that of one event one copy is shown.
//! A letter about one recipient is replayed for him alone, unless told otherwise.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use prost::Message as _;

use super::file::{FileError, LetterFile};
use super::letter::{Kept, MSG_ID};
use super::stream::LetterStream;
use super::wire::{Request, Wire, WireError, WireSettings};
use crate::config::{Assignment, Config, ConsumerMode};
use crate::edge::dead_letters_of;
use crate::ids::Partition;
use crate::limits::{LETTER_FILE_BYTES_MAX, REPEAT_WINDOW_AGE};
use crate::proto::event::PushEvent;
use crate::push::wire::{Fields, put_varint};

/// How long after a letter was written its event may be settled.
const SETTLE_GRACE: Duration = Duration::from_secs(10);
/// Letters of a file that are taken out at once, after their replay.
const REMOVE_AT_ONCE: usize = 256;

/// Which letters are meant; all that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// These ids; empty: any.
    pub ids: Vec<String>,
    /// Of this reason.
    pub reason: Option<String>,
    /// Buried longer ago than this.
    pub older_than: Option<Duration>,
    /// Buried since.
    pub newer_than: Option<Duration>,
}

impl Selection {
    /// Whether nothing is left out.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    fn takes(&self, entry: &Entry, now: SystemTime) -> bool {
        let buried = SystemTime::UNIX_EPOCH + Duration::from_nanos(entry.letter.last_unix_nanos);
        let age = now.duration_since(buried).unwrap_or_default();
        (self.ids.is_empty() || self.ids.contains(&entry.id))
            && self.reason.as_ref().is_none_or(|reason| *reason == entry.letter.reason)
            && self.older_than.is_none_or(|bound| age >= bound)
            && self.newer_than.is_none_or(|bound| age < bound)
    }
}

/// One letter on the shelf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is asked for by: the number in the stream, or the key in the file.
    pub id: String,
    /// What it says.
    pub letter: Kept,
    /// The payload's size; the payload itself may be left out of a list.
    pub payload_bytes: usize,
}

/// What a replay did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Published, confirmed, and taken out.
    pub replayed: Vec<String>,
    /// Of those, the ones that were published for one recipient only.
    pub one_recipient: Vec<String>,
    /// Left where they are; why.
    pub failed: Vec<(String, String)>,
}

/// Why the shelf cannot be worked on; in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShelfError(pub String);

impl std::fmt::Display for ShelfError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<WireError> for ShelfError {
    fn from(error: WireError) -> Self {
        Self(error.to_string())
    }
}

impl From<FileError> for ShelfError {
    fn from(error: FileError) -> Self {
        Self(error.to_string())
    }
}

enum Place {
    Stream(LetterStream, Box<Wire>),
    File(LetterFile),
}

/// Where letters are kept, opened for the command line.
pub struct Shelf {
    place: Place,
    wire: WireSettings,
    mode: ConsumerMode,
    assignment: Assignment,
    partitions: u32,
    topic: String,
    /// The stream that the engine reads.
    stream: String,
    /// What the person at the terminal should know besides.
    pub notes: Vec<String>,
}

impl Shelf {
    /// The file when one is named; else what the configuration says: the stream, or (core NATS without one) the file.
    ///
    /// # Errors
    /// When NATS does not answer, or a stream must be there and is not.
    pub fn open(config: &Config, file: Option<&std::path::Path>) -> Result<Self, ShelfError> {
        let settings = dead_letters_of(config);
        let own = LetterFile::new(file.unwrap_or(&settings.path), LETTER_FILE_BYTES_MAX);
        let mut notes = Vec::new();
        let place = if file.is_some() {
            Place::File(own)
        } else {
            let stream = LetterStream::of(&settings.stream);
            let mut wire = Wire::connect(&settings.wire)?;
            match stream.state(&mut wire)?.map_err(ShelfError)? {
                Some(_) => {
                    if own.path().exists() {
                        let path = own.path().display();
                        notes.push(format!("there are letters in the file {path} too: see them with --file {path}"));
                    }
                    Place::Stream(stream, Box::new(wire))
                }
                None if settings.needs_stream => {
                    let name = stream.name();
                    return Err(ShelfError(format!("there is no stream {name}; `task-engine setup` makes it")));
                }
                None => Place::File(own),
            }
        };
        let consumer = &config.consumer;
        Ok(Self {
            place,
            wire: settings.wire,
            mode: consumer.mode,
            assignment: consumer.assignment,
            partitions: consumer.partitions,
            topic: consumer.topic.clone(),
            stream: settings.stream,
            notes,
        })
    }

    /// Where it is, for a person.
    pub fn place(&self) -> String {
        match &self.place {
            Place::Stream(stream, _) => format!("stream {}", stream.name()),
            Place::File(file) => format!("file {}", file.path().display()),
        }
    }

    /// The letters that are meant, oldest first; without payloads unless asked for.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn list(&mut self, selection: &Selection, with_payloads: bool) -> Result<Vec<Entry>, ShelfError> {
        let now = SystemTime::now();
        let mut entries = Vec::new();
        let mut take = |id: String, mut letter: Kept| {
            let payload_bytes = letter.payload.len();
            if !with_payloads {
                letter.payload = bytes::Bytes::new();
            }
            let entry = Entry { id, letter, payload_bytes };
            if selection.takes(&entry, now) {
                entries.push(entry);
            }
        };
        match &mut self.place {
            Place::Stream(stream, wire) => {
                for ask in stream_asks(selection) {
                    match ask {
                        StreamAsk::One(sequence) => {
                            if let Some((at, letter)) = stream.get(wire, sequence)?.map_err(ShelfError)? {
                                take(at.to_string(), letter);
                            }
                        }
                        StreamAsk::All => {
                            let (mut from, reason) = (1, selection.reason.as_deref());
                            while let Some((at, letter)) = stream.next(wire, from, reason)?.map_err(ShelfError)? {
                                take(at.to_string(), letter);
                                from = at + 1;
                            }
                        }
                    }
                }
            }
            Place::File(file) => {
                let notes = file.read(|letter| take(letter.key.clone(), letter))?;
                if notes.broken_lines > 0 {
                    let (path, count) = (file.path().display(), notes.broken_lines);
                    self.notes
                        .push(format!("{path}: {count} line(s) are no letter (torn by a crash?) and passed over"));
                }
                entries = latest_of_each(entries);
            }
        }
        Ok(entries)
    }

    /// Publishes the letters' events where they were published first, and takes out what was confirmed.
    ///
    /// # Errors
    /// When the letters cannot be read or taken out; each letter's own failure is in the answer.
    pub fn replay(&mut self, selection: &Selection, for_everyone: bool) -> Result<Replayed, ShelfError> {
        let is_file = matches!(self.place, Place::File(_));
        let entries = self.list(selection, is_file)?;
        let mut done = Replayed::default();
        let mut confirmed = HashSet::new();
        let mut own = if is_file { Some(Wire::connect(&self.wire)?) } else { None };
        for entry in entries {
            let is_for_one = entry.letter.recipient.is_some() && !for_everyone;
            if !is_for_one && let Some(wait) = wait_before_replay(&entry.letter, SystemTime::now()) {
                let why = format!(
                    "its event was settled a moment ago, so the engine would take it for a repeat; run this again in {}",
                    humantime::format_duration(Duration::from_secs(wait.as_secs() + 1))
                );
                done.failed.push((entry.id, why));
                continue;
            }
            match self.replay_one(&entry, is_for_one, own.as_mut())? {
                Ok(()) => {
                    confirmed.insert(entry.id.clone());
                    if is_for_one {
                        done.one_recipient.push(entry.id.clone());
                    }
                    done.replayed.push(entry.id);
                }
                Err(why) => done.failed.push((entry.id, why)),
            }
            if confirmed.len() >= if is_file { REMOVE_AT_ONCE } else { 1 } {
                self.remove(&std::mem::take(&mut confirmed))?;
            }
        }
        self.remove(&confirmed)?;
        Ok(done)
    }

    /// Takes letters out; gives how many.
    ///
    /// # Errors
    /// When that fails; some may be out then.
    pub fn remove(&mut self, ids: &HashSet<String>) -> Result<u64, ShelfError> {
        match &mut self.place {
            _ if ids.is_empty() => Ok(0),
            Place::File(file) => Ok(file.remove(ids)?),
            Place::Stream(stream, wire) => {
                for sequence in ids.iter().filter_map(|id| id.parse().ok()) {
                    stream.delete(wire, sequence)?.map_err(ShelfError)?;
                }
                Ok(ids.len() as u64)
            }
        }
    }

    fn replay_one(
        &mut self,
        entry: &Entry,
        is_for_one: bool,
        own: Option<&mut Wire>,
    ) -> Result<Result<(), String>, ShelfError> {
        let mut letter = entry.letter.clone();
        let wire = match (&mut self.place, own) {
            (Place::Stream(stream, wire), _) => {
                let sequence = entry.id.parse().unwrap_or_default();
                let Some((_, whole)) = stream.get(wire, sequence)?.map_err(ShelfError)? else {
                    return Ok(Err("it is gone: someone else replayed or dropped it".to_owned()));
                };
                letter = whole;
                &mut **wire
            }
            (Place::File(_), Some(wire)) => wire,
            (Place::File(_), None) => return Ok(Err("no connection".to_owned())),
        };
        let Some(subject) = subject_of(&letter, &self.topic, self.assignment, self.partitions) else {
            return Ok(Err("it does not say where it was published".to_owned()));
        };
        if let Some(recipient) = letter.recipient.as_deref().filter(|_| is_for_one) {
            match only_for(&letter.payload, recipient) {
                Some(payload) => letter.payload = payload.into(),
                None => return Ok(Err("it names a recipient, and its event is none; drop it".to_owned())),
            }
        } else if let Some(payload) = for_all(&letter.payload) {
            letter.payload = payload.into();
        }
        let key = if letter.key.is_empty() { &entry.id } else { &letter.key };
        let to_all = if letter.recipient.is_some() && !is_for_one { "everyone-" } else { "" };
        let headers = vec![(MSG_ID, format!("replay-{to_all}{key}"))];
        let request = Request { subject: subject.clone(), headers, payload: &letter.payload };
        if request.size() > wire.max_payload {
            return Ok(Err(format!("{} bytes are over the server's max_payload", request.size())));
        }
        Ok(match self.mode {
            ConsumerMode::JetStream => match LetterStream::replay(wire, &self.stream, request)? {
                Ok(true) => Ok(()),
                Ok(false) => Err(format!("no stream takes {subject}; is stream {} away?", self.stream)),
                Err(why) => Err(why),
            },
            ConsumerMode::Core if wire.publish(request)? => Ok(()),
            ConsumerMode::Core => Err(format!("nobody listens on {subject}: is an engine running?")),
        })
    }
}

/// PushEvent.only_usernames, with its wire type.
const ONLY_USERNAMES: u32 = 15;
const ONLY_USERNAMES_TAG: u8 = 15 << 3 | 2;

/// The event without the list of those it is for; none when there is no such list, or no event.
fn for_all(payload: &[u8]) -> Option<Vec<u8>> {
    let mut event = Vec::with_capacity(payload.len());
    let mut fields = Fields::new(payload);
    while let Some(field) = fields.next_field().ok()? {
        if field.number != ONLY_USERNAMES {
            event.extend_from_slice(&payload[field.start..field.end]);
        }
    }
    (event.len() < payload.len()).then_some(event)
}

/// The event for this recipient alone, its other bytes as they came; none when it is no event.
fn only_for(payload: &[u8], recipient: &str) -> Option<Vec<u8>> {
    PushEvent::decode(payload).ok()?;
    let mut event = for_all(payload).unwrap_or_else(|| payload.to_vec());
    event.push(ONLY_USERNAMES_TAG);
    put_varint(&mut event, recipient.len() as u64);
    event.extend_from_slice(recipient.as_bytes());
    Some(event)
}

/// A letter about one recipient is of an event that was settled: as long as the engine remembers that, the event would be
/// settled again without a push when it comes for everyone, and the letter would be gone. For that recipient alone it is
/// never a repeat. What is in the dead letters as a whole is not remembered.
fn wait_before_replay(letter: &Kept, now: SystemTime) -> Option<Duration> {
    letter.recipient.as_ref()?;
    let buried = SystemTime::UNIX_EPOCH + Duration::from_nanos(letter.last_unix_nanos);
    let age = now.duration_since(buried).unwrap_or_default();
    (REPEAT_WINDOW_AGE + SETTLE_GRACE).checked_sub(age).filter(|wait| !wait.is_zero())
}

enum StreamAsk {
    One(u64),
    All,
}

/// Ids that are no numbers are nobody's in a stream.
fn stream_asks(selection: &Selection) -> Vec<StreamAsk> {
    if selection.ids.is_empty() {
        return vec![StreamAsk::All];
    }
    selection.ids.iter().filter_map(|id| id.parse().ok()).map(StreamAsk::One).collect()
}

/// The same letter may have been written twice, when the first answer was lost.
fn latest_of_each(entries: Vec<Entry>) -> Vec<Entry> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut kept: Vec<Entry> = Vec::new();
    for entry in entries {
        match places.get(&entry.id) {
            Some(at) => kept[*at] = entry,
            None => {
                places.insert(entry.id.clone(), kept.len());
                kept.push(entry);
            }
        }
    }
    kept
}

/// Where the event is to be published: where it was, unless that follows from the configuration. Core NATS's reader does
/// not always say where, and of another number of partitions nobody may read the one it was in.
fn subject_of(letter: &Kept, topic: &str, assignment: Assignment, partitions: u32) -> Option<String> {
    let rest = letter.subject.strip_prefix(topic);
    let is_of_topic = rest.is_some_and(|rest| {
        rest.is_empty() || rest.strip_prefix('.').is_some_and(|number| number.parse::<u32>().is_ok())
    });
    if !letter.subject.is_empty() && !is_of_topic {
        return Some(letter.subject.clone());
    }
    let session = PushEvent::decode(&*letter.payload).map(|event| event.session_id).unwrap_or_default();
    match assignment {
        Assignment::Queue => Some(topic.to_owned()),
        Assignment::Partitioned if session.is_empty() => {
            Some(letter.subject.clone()).filter(|subject| !subject.is_empty())
        }
        Assignment::Partitioned => Some(format!("{topic}.{}", Partition::of(session.as_bytes(), partitions).0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::{DeadLetter, Origin};

    #[test]
    fn a_replay_for_one_names_him_and_changes_nothing_else() {
        let mut event = PushEvent { msg_id: 7, session_id: "s".to_owned(), ..PushEvent::default() };
        let payload = event.encode_to_vec();
        let once = only_for(&payload, "bob").expect("an event");
        assert!(once.starts_with(&payload));
        event.only_usernames = vec!["bob".to_owned()];
        assert_eq!(PushEvent::decode(&*once), Ok(event.clone()));
        let again = only_for(&once, "ann").expect("an event");
        event.only_usernames = vec!["ann".to_owned()];
        assert_eq!(PushEvent::decode(&*again), Ok(event), "the list is replaced");
        assert_eq!((for_all(&again), for_all(&payload)), (Some(payload), None));
        assert_eq!(only_for(b"\xff\xff", "bob"), None);
    }

    #[test]
    fn one_recipients_letter_is_replayed_when_its_event_is_no_repeat_any_more() {
        let letter = |recipient: Option<&str>| DeadLetter {
            reason: "inbox_conflict",
            detail: String::new(),
            payload: Default::default(),
            recipient: recipient.map(Into::into),
            tries: 1,
        };
        let buried = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let nanos = 1_700_000_000_000_000_000;
        let wait = |recipient, after| {
            wait_before_replay(&Kept::of(&letter(recipient), &Origin::default(), nanos), buried + after)
        };
        assert_eq!(wait(None, Duration::ZERO), None);
        assert_eq!(wait(Some("u"), Duration::from_secs(1)), Some(REPEAT_WINDOW_AGE + Duration::from_secs(9)));
        assert_eq!(wait(Some("u"), REPEAT_WINDOW_AGE + SETTLE_GRACE), None);
    }

    #[test]
    fn a_letter_goes_to_where_the_engine_reads_now() {
        let of = |subject: &str, session_id: &str, assignment| {
            let event = PushEvent { session_id: session_id.to_owned(), ..PushEvent::default() };
            let letter = DeadLetter {
                reason: "lookup_failed",
                detail: String::new(),
                payload: event.encode_to_vec().into(),
                recipient: None,
                tries: 1,
            };
            let origin = Origin { subject: subject.to_owned(), ..Origin::default() };
            subject_of(&Kept::of(&letter, &origin, 1), "events", assignment, 4)
        };
        let right = format!("events.{}", Partition::of(b"s", 4).0);
        for (subject, session, assignment, expected) in [
            ("events", "s", Assignment::Queue, Some("events")),
            ("events.63", "s", Assignment::Queue, Some("events")),
            ("", "s", Assignment::Queue, Some("events")),
            ("other", "s", Assignment::Queue, Some("other")),
            ("eventsé", "s", Assignment::Queue, Some("eventsé")),
            ("events.63", "s", Assignment::Partitioned, Some(right.as_str())),
            ("", "s", Assignment::Partitioned, Some(right.as_str())),
            ("events.2", "", Assignment::Partitioned, Some("events.2")),
            ("", "", Assignment::Partitioned, None),
            ("other.2", "s", Assignment::Partitioned, Some("other.2")),
        ] {
            assert_eq!(of(subject, session, assignment).as_deref(), expected, "{subject:?} {session:?} {assignment:?}");
        }
    }
}
