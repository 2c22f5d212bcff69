//! Where events go that can never be pushed: the JetStream stream `<stream>_DLQ`, or a local file.
//!
//! With `consumer.mode: jetstream` letters go to the stream, which `task-engine setup` makes; while it is not there they
//! wait. With core NATS they go to the stream when there is one, else to the file of `dead_letters.path`. What is over
//! the server's message size (a letter is the event and its headers) goes to the file in both.
//!
//! Promises that a letter answered with `Ok` is confirmed by the stream or on the disk, and that writing one again does
//! not keep it twice, and that letters which are written together are answered for one by one: one that the file has no room
//! for costs no other. Refuses to grow the file past its bound, and, with core NATS, to hold letters for a file that cannot
//! be written for longer than [`LETTER_FILE_PATIENCE`]: they would hold the engine, and each stop of it.

pub mod file;
pub mod letter;
pub mod replay;
pub mod stream;

use std::collections::{HashMap, HashSet};
use std::time::{Instant, SystemTime};

use self::file::{FileError, LetterFile};
use self::letter::StoredLetter;
use self::stream::{LetterStream, Published};
use crate::config::{Config, ConsumerConfig, ConsumerMode, Current, DeadLettersConfig, NatsConfig};
use crate::edge::nats::wire::{Wire, WireError};
use crate::model::limits::{LETTER_FILE_BYTES_MAX, LETTER_FILE_PATIENCE, LETTERS_QUEUED};
use crate::ports::{DeadLetter, DeadLetterWriter, DeadLetters, LookupError, Origin};

/// The sections of the configuration that say where dead letters are kept. Its `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct DeadLetterSettings {
    /// The NATS servers.
    pub nats: NatsConfig,
    /// The stream of events, beside which the one of dead letters stands.
    pub consumer: ConsumerConfig,
    /// The local file.
    pub dead_letters: DeadLettersConfig,
}

impl DeadLetterSettings {
    /// Whether the dead-letter stream must be there; else the file takes its place.
    pub fn needs_stream(&self) -> bool {
        self.consumer.mode == ConsumerMode::JetStream
    }
}

impl From<&Config> for DeadLetterSettings {
    fn from(config: &Config) -> Self {
        let Config { nats, consumer, dead_letters, .. } = config.clone();
        Self { nats, consumer, dead_letters }
    }
}

/// The built-in dead letters.
#[derive(Clone, Debug)]
pub struct KeptDeadLetters {
    settings: DeadLetterSettings,
    nats: Current<NatsConfig>,
}

impl KeptDeadLetters {
    /// Connects when first used.
    pub fn new(settings: DeadLetterSettings) -> Self {
        let nats = settings.nats.clone().into();
        Self { settings, nats }
    }

    /// The same, where each connection is opened by what this section says then.
    #[must_use]
    pub fn following(mut self, nats: Current<NatsConfig>) -> Self {
        self.nats = nats;
        self
    }
}

impl DeadLetters for KeptDeadLetters {
    fn open(&self) -> Box<dyn DeadLetterWriter> {
        let settings = self.settings.clone();
        Box::new(Writer {
            nats: self.nats.clone(),
            stream: LetterStream::of(&settings.consumer.stream),
            file: LetterFile::new(&settings.dead_letters.path, LETTER_FILE_BYTES_MAX),
            wire: None,
            file_failed_since: None,
            failed_since: HashMap::new(),
            unconfirmed: HashSet::new(),
            settings,
        })
    }
}

struct Writer {
    settings: DeadLetterSettings,
    nats: Current<NatsConfig>,
    stream: LetterStream,
    file: LetterFile,
    wire: Option<Wire>,
    /// The first write of the file that failed since the last that did not.
    file_failed_since: Option<Instant>,
    /// When a letter that was written alone, by its key, failed first while it was not kept: others may be kept meanwhile.
    failed_since: HashMap<String, Instant>,
    /// Letters of events without a number, by their keys, that were published and that the stream said nothing of.
    unconfirmed: HashSet<String>,
}

impl DeadLetterWriter for Writer {
    fn write(&mut self, letters: &[(DeadLetter, Origin)]) -> Vec<Result<(), LookupError>> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        let letters: Vec<StoredLetter> =
            letters.iter().map(|(letter, origin)| StoredLetter::of(letter, origin, now)).collect();
        let stream = self.stream.clone();
        let (mut unconfirmed, mut is_again) = (std::mem::take(&mut self.unconfirmed), false);
        let published = self.on_a_live_wire(|wire| {
            let was_sent = std::mem::replace(&mut is_again, true);
            stream.publish(wire, &letters, |letter| was_sent || unconfirmed.contains(&letter.key))
        });
        for (at, letter) in letters.iter().enumerate() {
            let is_told = published.as_ref().is_ok_and(|ends| !matches!(ends[at], Published::Failed(_)));
            if is_told {
                unconfirmed.remove(&letter.key);
            } else if letter.sequence.is_none() && unconfirmed.len() < LETTERS_QUEUED {
                unconfirmed.insert(letter.key.clone());
            }
        }
        self.unconfirmed = unconfirmed;
        let published = match published {
            Ok(published) => published,
            Err(error) => {
                let error = LookupError::Unavailable(error.to_string());
                return letters.iter().map(|_| Err(error.clone())).collect();
            }
        };
        let needs_stream = self.settings.needs_stream();
        let goes_to_file = |end: &Published| match end {
            Published::TooLarge => true,
            Published::NoStream => !needs_stream,
            Published::Stored | Published::Failed(_) => false,
        };
        let to_file: Vec<StoredLetter> = letters
            .into_iter()
            .zip(&published)
            .filter_map(|(letter, end)| goes_to_file(end).then_some(letter))
            .collect();
        let mut in_file = self.append(&to_file).into_iter();
        published
            .iter()
            .map(|end| match end {
                Published::Stored => Ok(()),
                end if goes_to_file(end) => in_file.next().expect("each letter has its answer"),
                Published::Failed(why) => Err(self.unavailable(why)),
                Published::NoStream | Published::TooLarge => Err(self.no_stream()),
            })
            .collect()
    }

    fn ping(&mut self) -> Result<(), LookupError> {
        let stream = self.stream.clone();
        let state = self.on_a_live_wire(|wire| stream.state(wire));
        match state.map_err(|error| LookupError::Unavailable(error.to_string()))? {
            Ok(None) if self.settings.needs_stream() => Err(self.no_stream()),
            Ok(None) => self.file.try_out().map_err(|error| LookupError::Rejected(error.to_string())),
            Ok(Some(_)) => Ok(()),
            Err(why) => Err(self.unavailable(&why)),
        }
    }
}

impl Writer {
    /// Runs `work`; once more on a new connection when the kept one turns out to be dead. What was published twice by
    /// that is stored once.
    fn on_a_live_wire<T>(&mut self, mut work: impl FnMut(&mut Wire) -> Result<T, WireError>) -> Result<T, WireError> {
        if let Some(mut wire) = self.wire.take()
            && let Ok(done) = work(&mut wire)
        {
            self.wire = Some(wire).filter(|wire| !wire.is_doubtful);
            return Ok(done);
        }
        let mut wire = Wire::connect(&self.nats.now(), "dead letters")?;
        let done = work(&mut wire)?;
        self.wire = Some(wire).filter(|wire| !wire.is_doubtful);
        Ok(done)
    }

    /// Each letter's own answer. A set that the file does not take is tried in halves, down to one: a large letter must not
    /// cost those that would fit. What the time for the whole set is too short for waits.
    fn append(&mut self, letters: &[StoredLetter]) -> Vec<Result<(), LookupError>> {
        let deadline = Instant::now() + LETTER_FILE_PATIENCE;
        let mut answers = Vec::with_capacity(letters.len());
        let mut sets = vec![letters];
        while let Some(set) = sets.pop() {
            if set.is_empty() {
                continue;
            }
            match self.file.append(set) {
                Ok(()) => {
                    self.file_failed_since = None;
                    for letter in set {
                        self.failed_since.remove(&letter.key);
                    }
                    answers.extend(set.iter().map(|_| Ok(())));
                }
                Err(error) if set.len() > 1 && error.is_of_these_letters() => {
                    if Instant::now() >= deadline {
                        answers.extend(set.iter().map(|_| Err(LookupError::Unavailable(error.to_string()))));
                        continue;
                    }
                    let (first, second) = set.split_at(set.len() / 2);
                    sets.extend([second, first]);
                }
                Err(error) => {
                    answers.extend(set.iter().map(|letter| Err(self.refused(letter, &error, set.len() == 1))))
                }
            }
        }
        answers
    }

    /// In core mode nobody keeps the event: to hold it for ever would stop the engine. So a full file refuses, and so does
    /// one that could not be written for a while; each later letter is tried once, so it heals by itself.
    fn refused(&mut self, letter: &StoredLetter, error: &FileError, is_alone: bool) -> LookupError {
        let why = error.to_string();
        if self.settings.needs_stream() {
            return LookupError::Unavailable(why);
        }
        let now = Instant::now();
        let mut since = *self.file_failed_since.get_or_insert(now);
        let is_known = self.failed_since.contains_key(&letter.key);
        if is_alone && (is_known || self.failed_since.len() < LETTERS_QUEUED) {
            since = since.min(*self.failed_since.entry(letter.key.clone()).or_insert(now));
        }
        if matches!(error, FileError::Full(_)) || now.saturating_duration_since(since) >= LETTER_FILE_PATIENCE {
            self.failed_since.remove(&letter.key);
            return LookupError::Rejected(why);
        }
        LookupError::Unavailable(why)
    }

    fn no_stream(&self) -> LookupError {
        self.unavailable("there is no such stream; `task-engine setup` makes it")
    }

    fn unavailable(&self, why: &str) -> LookupError {
        LookupError::Unavailable(format!("dead-letter stream {}: {why}", self.stream.name()))
    }
}

#[cfg(test)]
#[path = "dead_letters/append_tests.rs"]
mod append_tests;
