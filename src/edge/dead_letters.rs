//! Where events go that can never be pushed: the JetStream stream `<stream>_DLQ`, or a local file.
//!
//! With `consumer.mode: jetstream` letters go to the stream, which `task-engine setup` makes; while it is not there they
//! wait. With core NATS they go to the stream when there is one, else to the file of `dead_letters.path`. What is over
//! the server's message size (a letter is the event and its headers) goes to the file in both.
//!
//! Promises that a letter answered with `Ok` is confirmed by the stream or on the disk, and that writing one again does
//! not keep it twice. Refuses to grow the file past its bound, and, with core NATS, to hold letters for a file that cannot be
//! written for longer than [`LETTER_FILE_PATIENCE`]: they would hold the engine, and each stop of it.

pub mod file;
pub mod letter;
pub mod shelf;
pub mod stream;
pub mod wire;

use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use self::file::{FileError, LetterFile};
use self::letter::Kept;
use self::stream::{LetterStream, Published};
use self::wire::{Wire, WireError, WireSettings};
use crate::limits::{LETTER_FILE_BYTES_MAX, LETTER_FILE_PATIENCE};
use crate::ports::{DeadLetter, DeadLetterWriter, DeadLetters, LookupError, Origin};

/// Where dead letters are kept. Its `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct DeadLetterSettings {
    /// The NATS servers.
    pub wire: WireSettings,
    /// The event stream's name.
    pub stream: String,
    /// Whether the dead-letter stream must be there (`consumer.mode: jetstream`); else the file takes its place.
    pub needs_stream: bool,
    /// The local file.
    pub path: PathBuf,
}

/// The built-in dead letters.
#[derive(Clone, Debug)]
pub struct KeptDeadLetters(DeadLetterSettings);

impl KeptDeadLetters {
    /// Connects when first used.
    pub fn new(settings: DeadLetterSettings) -> Self {
        Self(settings)
    }
}

impl DeadLetters for KeptDeadLetters {
    fn open(&self) -> Box<dyn DeadLetterWriter> {
        let settings = self.0.clone();
        Box::new(Writer {
            stream: LetterStream::of(&settings.stream),
            file: LetterFile::new(&settings.path, LETTER_FILE_BYTES_MAX),
            wire: None,
            file_failed_since: None,
            settings,
        })
    }
}

struct Writer {
    settings: DeadLetterSettings,
    stream: LetterStream,
    file: LetterFile,
    wire: Option<Wire>,
    /// The first write of the file that failed since the last that did not.
    file_failed_since: Option<Instant>,
}

impl DeadLetterWriter for Writer {
    fn write(&mut self, letters: &[(DeadLetter, Origin)]) -> Vec<Result<(), LookupError>> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        let letters: Vec<Kept> = letters.iter().map(|(letter, origin)| Kept::of(letter, origin, now)).collect();
        let stream = self.stream.clone();
        let published = match self.on_a_live_wire(|wire| stream.publish(wire, &letters)) {
            Ok(published) => published,
            Err(error) => {
                let error = LookupError::Unavailable(error.to_string());
                return letters.iter().map(|_| Err(error.clone())).collect();
            }
        };
        let needs_stream = self.settings.needs_stream;
        let goes_to_file = |end: &Published| match end {
            Published::TooLarge => true,
            Published::NoStream => !needs_stream,
            Published::Kept | Published::Failed(_) => false,
        };
        let to_file: Vec<Kept> = letters
            .into_iter()
            .zip(&published)
            .filter_map(|(letter, end)| goes_to_file(end).then_some(letter))
            .collect();
        let in_file = if to_file.is_empty() { Ok(()) } else { self.append(&to_file) };
        published
            .iter()
            .map(|end| match end {
                Published::Kept => Ok(()),
                end if goes_to_file(end) => in_file.clone(),
                Published::Failed(why) => Err(self.unavailable(why)),
                Published::NoStream | Published::TooLarge => Err(self.no_stream()),
            })
            .collect()
    }

    fn ping(&mut self) -> Result<(), LookupError> {
        let stream = self.stream.clone();
        let state = self.on_a_live_wire(|wire| stream.state(wire));
        match state.map_err(|error| LookupError::Unavailable(error.to_string()))? {
            Ok(None) if self.settings.needs_stream => Err(self.no_stream()),
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
        let mut wire = Wire::connect(&self.settings.wire)?;
        let done = work(&mut wire)?;
        self.wire = Some(wire).filter(|wire| !wire.is_doubtful);
        Ok(done)
    }

    /// In core mode nobody keeps the event: to hold it for ever would stop the engine. So a full file refuses, and so does
    /// one that could not be written for a while; each later letter is tried once, so it heals by itself.
    fn append(&mut self, letters: &[Kept]) -> Result<(), LookupError> {
        let error = match self.file.append(letters) {
            Ok(()) => {
                self.file_failed_since = None;
                return Ok(());
            }
            Err(error) => error,
        };
        let now = Instant::now();
        let failed_for = now.saturating_duration_since(*self.file_failed_since.get_or_insert(now));
        Err(match error {
            FileError::Full(why) if !self.settings.needs_stream => LookupError::Rejected(why),
            FileError::Failed(why) if !self.settings.needs_stream && failed_for >= LETTER_FILE_PATIENCE => {
                LookupError::Rejected(why)
            }
            FileError::Full(why) | FileError::Failed(why) => LookupError::Unavailable(why),
        })
    }

    fn no_stream(&self) -> LookupError {
        self.unavailable("there is no such stream; `task-engine setup` makes it")
    }

    fn unavailable(&self, why: &str) -> LookupError {
        LookupError::Unavailable(format!("dead-letter stream {}: {why}", self.stream.name()))
    }
}
