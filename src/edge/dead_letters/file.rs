//! Dead letters in a local file, a line of JSON each: for brokers that keep nothing.
//!
//! Promises that what was written is on the disk when [`append`](LetterFile::append) returns, that a line which a crash
//! tore is passed over (and does not spoil the next one), and that an engine and `task-engine dlq` may work on the file
//! at the same time: each change is made under the file's lock. Refuses to grow past its bound, and to wait for the
//! lock for longer than a few seconds.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::letter::StoredLetter;

/// How long another process may hold the lock.
const LOCK_DEADLINE: Duration = Duration::from_secs(5);
const LOCK_LOOK: Duration = Duration::from_millis(5);

/// Why the file did not take or give letters; in words, with its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileError {
    /// It would be larger than it may be.
    Full(String),
    /// It was opened, and did not take these bytes: the disk is full, or broken.
    Unwritten(String),
    /// It cannot be opened, read or locked.
    Failed(String),
}

impl FileError {
    /// Whether fewer letters might do.
    pub fn is_of_these_letters(&self) -> bool {
        matches!(self, Self::Full(_) | Self::Unwritten(_))
    }
}

impl std::fmt::Display for FileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full(why) | Self::Unwritten(why) | Self::Failed(why) => f.write_str(why),
        }
    }
}

/// The file.
#[derive(Clone, Debug)]
pub struct LetterFile {
    path: PathBuf,
    bytes_max: u64,
}

/// What reading brought besides letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadNotes {
    /// Lines that are no letter: torn by a crash, or not ours.
    pub broken_lines: u64,
}

impl LetterFile {
    /// The file at this path, made when first written to.
    pub fn new(path: &Path, bytes_max: u64) -> Self {
        Self { path: path.to_owned(), bytes_max }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it can be opened to write; makes it when it is not there.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn try_out(&self) -> Result<(), FileError> {
        let is_new = !self.path.exists();
        let opened = options().append(true).create(true).open(&self.path);
        opened
            .and_then(|_| if is_new { self.sync_folder() } else { Ok(()) })
            .map_err(|error| self.failed("cannot be opened to write", &error))
    }

    /// Writes all of them, or none.
    ///
    /// # Errors
    /// See [`FileError`]; the file is as it was then.
    pub fn append(&self, letters: &[StoredLetter]) -> Result<(), FileError> {
        let mut bytes = Vec::new();
        for letter in letters {
            serde_json::to_writer(&mut bytes, letter).map_err(|error| self.failed("cannot be written", &error))?;
            bytes.push(b'\n');
        }
        let (mut file, is_new) = self.locked(true)?.expect("it is made when it is not there");
        let end = file.seek(SeekFrom::End(0)).map_err(|error| self.failed("cannot be read", &error))?;
        if end + bytes.len() as u64 > self.bytes_max {
            let (path, most) = (self.path.display(), self.bytes_max >> 20);
            return Err(FileError::Full(format!(
                "the dead-letter file {path} would be over {most} MiB; look at them with `task-engine dlq list`, \
                 then replay or drop some"
            )));
        }
        let written = ends_in_a_line(&mut file, end)
            .and_then(|ends| if ends { Ok(()) } else { file.write_all(b"\n") })
            .and_then(|()| file.write_all(&bytes))
            .and_then(|()| file.sync_data())
            .and_then(|()| if is_new { self.sync_folder() } else { Ok(()) });
        written.map_err(|error| {
            // Half a letter is worse than none; if that fails too, a reader passes over it.
            let _ = file.set_len(end);
            FileError::Unwritten(self.words("cannot be written", &error))
        })
    }

    /// Hands each letter to `each`, oldest first; the same letter may be there twice. No file: no letters.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, mut each: impl FnMut(StoredLetter)) -> Result<ReadNotes, FileError> {
        let Some((file, _)) = self.locked(false)? else { return Ok(ReadNotes::default()) };
        self.read_lines(file, |_, letter| {
            if let Some(letter) = letter {
                each(letter);
            }
        })
    }

    /// Takes the letters of these keys out; gives how many lines that were. Lines that are no letter stay.
    ///
    /// # Errors
    /// When the file cannot be read or written; it is as it was then.
    pub fn remove(&self, keys: &HashSet<String>) -> Result<u64, FileError> {
        self.remove_those(|letter| keys.contains(&letter.key))
    }

    /// The same, but a letter of a key that was written after its time (nanoseconds since 1970) stays: it is a later failure.
    ///
    /// # Errors
    /// See [`remove`](Self::remove).
    pub fn remove_up_to(&self, keys: &HashMap<String, u64>) -> Result<u64, FileError> {
        self.remove_those(|letter| keys.get(&letter.key).is_some_and(|until| letter.last_unix_nanos <= *until))
    }

    fn remove_those(&self, is_one: impl Fn(&StoredLetter) -> bool) -> Result<u64, FileError> {
        let Some((file, _)) = self.locked(false)? else { return Ok(0) };
        let mut beside = self.path.clone().into_os_string();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let fresh = options().write(true).create(true).truncate(true).open(&beside);
        let mut fresh = io::BufWriter::new(fresh.map_err(|error| self.failed("cannot be written anew", &error))?);
        let (mut removed, mut outcome) = (0, Ok(()));
        let held = file.try_clone().map_err(|error| self.failed("cannot be read", &error))?;
        self.read_lines(held, |line, letter| {
            if letter.is_some_and(|letter| is_one(&letter)) {
                removed += 1;
            } else if outcome.is_ok() {
                outcome = fresh.write_all(line);
            }
        })?;
        // The lock is held on the old file until the new one has its name: whoever waits for it then looks again.
        outcome
            .and_then(|()| fresh.flush())
            .and_then(|()| fresh.get_ref().sync_data())
            .and_then(|()| std::fs::rename(&beside, &self.path))
            .and_then(|()| self.sync_folder())
            .map_err(|error| self.failed("cannot be written anew", &error))?;
        drop(file);
        Ok(removed)
    }

    fn read_lines(
        &self,
        file: File,
        mut each: impl FnMut(&[u8], Option<StoredLetter>),
    ) -> Result<ReadNotes, FileError> {
        let mut notes = ReadNotes::default();
        let mut reader = BufReader::new(file);
        reader.rewind().map_err(|error| self.failed("cannot be read", &error))?;
        let mut line = Vec::new();
        loop {
            line.clear();
            let count = reader.read_until(b'\n', &mut line).map_err(|error| self.failed("cannot be read", &error))?;
            if count == 0 {
                return Ok(notes);
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let letter = serde_json::from_slice::<StoredLetter>(&line).ok();
            notes.broken_lines += u64::from(letter.is_none());
            each(&line, letter);
        }
    }

    /// The file under its lock, and whether it was made now; none when it is not there and not to be made.
    fn locked(&self, make: bool) -> Result<Option<(File, bool)>, FileError> {
        let deadline = Instant::now() + LOCK_DEADLINE;
        loop {
            let is_new = make && !self.path.exists();
            let file = match options().read(true).append(true).create(make).open(&self.path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !make => return Ok(None),
                Err(error) => return Err(self.failed("cannot be opened", &error)),
            };
            if file.try_lock().is_ok() && self.is_still(&file) {
                return Ok(Some((file, is_new)));
            }
            if Instant::now() > deadline {
                return Err(self.failed("is locked", &"another process holds it"));
            }
            std::thread::park_timeout(LOCK_LOOK);
        }
    }

    /// Whether the path still leads to this file: `remove` puts a new one there.
    fn is_still(&self, file: &File) -> bool {
        let now = std::fs::metadata(&self.path).map(|there| (there.dev(), there.ino()));
        let ours = file.metadata().map(|ours| (ours.dev(), ours.ino()));
        matches!((now, ours), (Ok(now), Ok(ours)) if now == ours)
    }

    /// A new name is on the disk only when its folder is.
    fn sync_folder(&self) -> io::Result<()> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn failed(&self, what: &str, error: &dyn std::fmt::Display) -> FileError {
        FileError::Failed(self.words(what, error))
    }

    fn words(&self, what: &str, error: &dyn std::fmt::Display) -> String {
        let path = self.path.display();
        format!("the dead-letter file {path} {what} ({error}); check dead_letters.path and the disk")
    }
}

/// Letters are people's messages: nobody else reads them.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn ends_in_a_line(file: &mut File, end: u64) -> io::Result<bool> {
    if end == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}
