//! Dead letters as `task-engine dlq` works on them, wherever they are kept.
//!
//! Promises that a letter is taken out only after its replay was confirmed, that a replay which was broken off can be
//! run again (the same letter is published under the same message id), and that of one event one copy is shown.
//! A letter about some recipients is replayed for them alone, unless told otherwise.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use crate::config::{Assignment, Config, ConsumerMode, NatsConfig, Partitioner};
use crate::edge::dead_letters::file::{FileError, LetterFile};
use crate::edge::dead_letters::letter::StoredLetter;
use crate::edge::dead_letters::replay::{Replay, only_usernames, subject_of};
use crate::edge::dead_letters::stream::LetterStream;
use crate::edge::nats::wire::{Request, Wire, WireError};
use crate::engine::adapters::dead_letters_of;
use crate::model::limits::{LETTER_FILE_BYTES_MAX, MSG_ID_HEADER, REPLAY_HEADER};

/// Letters of a file that are taken out at once, after their replay.
const REMOVE_AT_ONCE: usize = 256;

/// Which letters are meant; all that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// These ids; empty: any.
    pub ids: Vec<String>,
    /// Of this reason.
    pub reason: Option<String>,
    /// Stored longer ago than this.
    pub older_than: Option<Duration>,
    /// Stored since.
    pub newer_than: Option<Duration>,
}

impl Selection {
    /// Whether nothing is left out.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    fn takes(&self, entry: &Entry, now: SystemTime) -> bool {
        let stored_at = SystemTime::UNIX_EPOCH + Duration::from_nanos(entry.letter.last_unix_nanos);
        let age = now.duration_since(stored_at).unwrap_or_default();
        (self.ids.is_empty() || self.ids.contains(&entry.id))
            && self.reason.as_ref().is_none_or(|reason| *reason == entry.letter.reason)
            && self.older_than.is_none_or(|bound| age >= bound)
            && self.newer_than.is_none_or(|bound| age < bound)
    }
}

/// One letter on the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is asked for by: the number in the stream, or the key in the file.
    pub id: String,
    /// What it says.
    pub letter: StoredLetter,
    /// The payload's size; the payload itself may be left out of a list.
    pub payload_bytes: usize,
    /// Whom its event is for when it is not for all: it is a replay that failed.
    pub only_usernames: Vec<String>,
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

/// Why the store cannot be worked on; in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterStoreError(pub String);

impl std::fmt::Display for DeadLetterStoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<WireError> for DeadLetterStoreError {
    fn from(error: WireError) -> Self {
        Self(error.to_string())
    }
}

impl From<FileError> for DeadLetterStoreError {
    fn from(error: FileError) -> Self {
        Self(error.to_string())
    }
}

enum Place {
    Stream(LetterStream, Box<Wire>),
    File(LetterFile),
}

/// Where letters are kept, opened for the command line.
pub struct DeadLetterStore {
    place: Place,
    nats: NatsConfig,
    mode: ConsumerMode,
    assignment: Assignment,
    partitions: u32,
    topic: String,
    urgent_topic: String,
    /// The stream that takes what is replayed.
    stream: String,
    /// What the person at the terminal should know besides.
    pub notes: Vec<String>,
}

impl DeadLetterStore {
    /// The file when one is named; else what the configuration says: the stream, or (core NATS without one) the file.
    ///
    /// # Errors
    /// When NATS does not answer, or a stream must be there and is not.
    pub fn open(config: &Config, file: Option<&std::path::Path>) -> Result<Self, DeadLetterStoreError> {
        let settings = dead_letters_of(config);
        let own = LetterFile::new(file.unwrap_or(&settings.dead_letters.path), LETTER_FILE_BYTES_MAX);
        let mut notes = Vec::new();
        let place = if file.is_some() {
            Place::File(own)
        } else {
            let stream = LetterStream::of(&settings.consumer.stream);
            let mut wire = Wire::connect(&settings.nats, "dead letters")?;
            match stream.state(&mut wire)?.map_err(DeadLetterStoreError)? {
                Some(_) => {
                    if own.path().exists() {
                        let path = own.path().display();
                        notes.push(format!("there are letters in the file {path} too: see them with --file {path}"));
                    }
                    Place::Stream(stream, Box::new(wire))
                }
                None if settings.needs_stream() => {
                    let name = stream.name();
                    return Err(DeadLetterStoreError(format!(
                        "there is no stream {name}; `task-engine setup` makes it"
                    )));
                }
                None => Place::File(own),
            }
        };
        let consumer = &config.consumer;
        let moves = consumer.partitioner == Partitioner::On;
        Ok(Self {
            place,
            nats: settings.nats,
            mode: consumer.mode,
            // With the partitioner publishers see one subject, as with a queue.
            assignment: if moves { Assignment::Queue } else { consumer.assignment },
            partitions: consumer.partitions,
            topic: consumer.topic.clone(),
            urgent_topic: consumer.urgent_topic.clone(),
            stream: if moves { consumer.input_stream() } else { consumer.stream.clone() },
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
    pub fn list(&mut self, selection: &Selection, with_payloads: bool) -> Result<Vec<Entry>, DeadLetterStoreError> {
        let now = SystemTime::now();
        let mut entries = Vec::new();
        let mut take = |id: String, mut letter: StoredLetter| {
            let payload_bytes = letter.payload.len();
            let only_usernames = only_usernames(&letter.payload);
            if !with_payloads {
                letter.payload = bytes::Bytes::new();
            }
            let entry = Entry { id, letter, payload_bytes, only_usernames };
            if selection.takes(&entry, now) {
                entries.push(entry);
            }
        };
        match &mut self.place {
            Place::Stream(stream, wire) => {
                for ask in stream_asks(selection) {
                    match ask {
                        StreamAsk::One(sequence) => {
                            if let Some((at, letter)) = stream.get(wire, sequence)?.map_err(DeadLetterStoreError)? {
                                take(at.to_string(), letter);
                            }
                        }
                        StreamAsk::All => {
                            let (mut from, reason) = (1, selection.reason.as_deref());
                            while let Some((at, letter)) =
                                stream.next(wire, from, reason)?.map_err(DeadLetterStoreError)?
                            {
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
                    self.notes.push(format!("{path}: {count} line(s) are not letters (torn by a crash?); skipped"));
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
    pub fn replay(&mut self, selection: &Selection, for_everyone: bool) -> Result<Replayed, DeadLetterStoreError> {
        let is_file = matches!(self.place, Place::File(_));
        let entries = self.list(selection, is_file)?;
        let mut done = Replayed::default();
        let mut confirmed = HashMap::new();
        let mut own = if is_file { Some(Wire::connect(&self.nats, "dead letters")?) } else { None };
        for entry in entries {
            match self.replay_one(&entry, for_everyone, own.as_mut())? {
                Ok(is_for_one) => {
                    confirmed.insert(entry.id.clone(), entry.letter.last_unix_nanos);
                    if is_for_one {
                        done.one_recipient.push(entry.id.clone());
                    }
                    done.replayed.push(entry.id);
                }
                Err(why) => done.failed.push((entry.id, why)),
            }
            if confirmed.len() >= if is_file { REMOVE_AT_ONCE } else { 1 } {
                self.remove_replayed(&std::mem::take(&mut confirmed))?;
            }
        }
        self.remove_replayed(&confirmed)?;
        Ok(done)
    }

    /// A replay may have failed already: what the engine wrote under the same key since then stays.
    fn remove_replayed(&mut self, confirmed: &HashMap<String, u64>) -> Result<(), DeadLetterStoreError> {
        match &mut self.place {
            _ if confirmed.is_empty() => {}
            Place::File(file) => drop(file.remove_up_to(confirmed)?),
            Place::Stream(..) => drop(self.remove(&confirmed.keys().cloned().collect())?),
        }
        Ok(())
    }

    /// Takes letters out; gives how many.
    ///
    /// # Errors
    /// When that fails; some may be out then.
    pub fn remove(&mut self, ids: &HashSet<String>) -> Result<u64, DeadLetterStoreError> {
        match &mut self.place {
            _ if ids.is_empty() => Ok(0),
            Place::File(file) => Ok(file.remove(ids)?),
            Place::Stream(stream, wire) => {
                for sequence in ids.iter().filter_map(|id| id.parse().ok()) {
                    stream.delete(wire, sequence)?.map_err(DeadLetterStoreError)?;
                }
                Ok(ids.len() as u64)
            }
        }
    }

    /// Publishes one; whether for one recipient only.
    fn replay_one(
        &mut self,
        entry: &Entry,
        for_everyone: bool,
        own: Option<&mut Wire>,
    ) -> Result<Result<bool, String>, DeadLetterStoreError> {
        let mut letter = entry.letter.clone();
        let wire = match (&mut self.place, own) {
            (Place::Stream(stream, wire), _) => {
                let sequence = entry.id.parse().unwrap_or_default();
                let Some((_, whole)) = stream.get(wire, sequence)?.map_err(DeadLetterStoreError)? else {
                    return Ok(Err("it is gone: someone else replayed or dropped it".to_owned()));
                };
                letter = whole;
                &mut **wire
            }
            (Place::File(_), Some(wire)) => wire,
            (Place::File(_), None) => return Ok(Err("no connection".to_owned())),
        };
        let Some(subject) = subject_of(&letter, [&self.topic, &self.urgent_topic], self.assignment, self.partitions)
        else {
            return Ok(Err("it does not say where it was published".to_owned()));
        };
        let key = if letter.key.is_empty() { &entry.id } else { &letter.key };
        let replay = match Replay::of(&letter, key, for_everyone, SystemTime::now()) {
            Ok(replay) => replay,
            Err(why) => return Ok(Err(why)),
        };
        // Whatever an engine or a partitioner knows of the event, also one that took its partition over and read it back: it
        // counts as new. By its value the partitioner tells two replays apart.
        let headers = vec![(MSG_ID_HEADER, replay.message_id.clone()), (REPLAY_HEADER, replay.message_id)];
        let request = Request { subject: subject.clone(), headers, payload: &replay.payload };
        if let Err(why) = request.check() {
            return Ok(Err(format!("it cannot be published to {subject:?}: {why}")));
        }
        if request.size() > wire.max_payload {
            return Ok(Err(format!("{} bytes are over the server's max_payload", request.size())));
        }
        Ok(match self.mode {
            ConsumerMode::JetStream => match LetterStream::replay(wire, &self.stream, request)? {
                Ok(true) => Ok(replay.is_for_one),
                Ok(false) => Err(format!("no stream takes {subject}; is stream {} away?", self.stream)),
                Err(why) => Err(why),
            },
            ConsumerMode::Core if wire.publish(request)? => Ok(replay.is_for_one),
            ConsumerMode::Core => Err(format!("no subscriber on {subject}: is an engine running?")),
        })
    }
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
