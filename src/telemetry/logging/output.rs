//! Where log lines go: a stream that is there anyway, or a file that can be opened again.
//!
//! Promises that a line is whole in one file, and that opening the file again loses none: lines go into the old one until
//! the new one is open, and on into the old one when it cannot be opened. Whatever is said in a line stays in it: control characters, which
//! may come from others, are escaped, so that nobody forges a line or moves a terminal. Refuses to fail: an output that takes nothing any
//! more (a closed pipe, a full disk) costs lines, which are counted, and never the process.

use std::borrow::Cow;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::LogOutput;

/// Counts the lines that an output refused.
pub(super) type Refused = Arc<AtomicU64>;

/// A log file; a clone is the same one.
#[derive(Clone)]
pub struct LogFile(Arc<Inner>);

struct Inner {
    path: PathBuf,
    file: Mutex<File>,
}

impl LogFile {
    fn open(path: &Path) -> Result<Self, String> {
        let file = append(path).map_err(|error| format!("log.output: {} cannot be opened: {error}", path.display()))?;
        Ok(Self(Arc::new(Inner { path: path.to_owned(), file: Mutex::new(file) })))
    }

    /// Its path, as configured.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Opens the path again, as after a rotation; from then on lines go there. Blocks for as long as the file system does.
    ///
    /// # Errors
    /// When it cannot be opened; the old file stays in use.
    pub fn open_again(&self) -> io::Result<()> {
        // To open a pipe again would wait for a reader.
        if std::fs::metadata(&self.0.path).is_ok_and(|found| !found.is_file()) {
            return Err(io::Error::other("not a regular file"));
        }
        let fresh = append(&self.0.path)?;
        *self.0.file.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// One line, whole in the file that is open.
    fn write_line(&self, line: &[u8]) -> io::Result<()> {
        self.0.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line)
    }
}

impl fmt::Debug for LogFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogFile").field(&self.0.path).finish()
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

enum Target {
    Stdout(io::Stdout),
    Stderr(io::Stderr),
    File(LogFile),
}

/// The end of the way of a line.
pub(super) struct Output {
    target: Target,
    refused: Refused,
    /// The escape sequences of colours are our own then; those of others are escaped before.
    may_be_coloured: bool,
}

/// A line without control characters but its end, and tabs.
fn one_line(line: &[u8], may_be_coloured: bool) -> Cow<'_, [u8]> {
    const ESCAPE: char = '\u{1b}';
    let (said, end) = line.strip_suffix(b"\n").map_or((line, &b""[..]), |said| (said, b"\n"));
    // The second kind of control characters begins with 0xC2 in UTF-8.
    if !said.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t' || *byte == 0xc2) {
        return Cow::Borrowed(line);
    }
    let is_kept = |c: char| !c.is_control() || c == '\t' || c == ESCAPE && may_be_coloured;
    let mut text = String::with_capacity(line.len() + 16);
    for c in String::from_utf8_lossy(said).chars() {
        match is_kept(c) {
            true => text.push(c),
            false => text.extend(c.escape_default()),
        }
    }
    Cow::Owned([text.as_bytes(), end].concat())
}

impl Output {
    /// Opens it; whether it is a terminal.
    pub(super) fn open(output: &LogOutput) -> Result<(Self, bool), String> {
        let (target, is_terminal) = match output {
            LogOutput::Stdout => (Target::Stdout(io::stdout()), io::stdout().is_terminal()),
            LogOutput::Stderr => (Target::Stderr(io::stderr()), io::stderr().is_terminal()),
            LogOutput::File(path) => (Target::File(LogFile::open(path)?), false),
        };
        Ok((Self { target, refused: Refused::default(), may_be_coloured: is_terminal }, is_terminal))
    }

    pub(super) fn refused(&self) -> Refused {
        Arc::clone(&self.refused)
    }

    pub(super) fn file(&self) -> Option<LogFile> {
        match &self.target {
            Target::File(file) => Some(file.clone()),
            Target::Stdout(_) | Target::Stderr(_) => None,
        }
    }
}

/// The log's thread hands in whole lines. It says on stderr when a flush fails, which ends a process whose stderr is closed as
/// well: so nothing fails here.
impl Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_all(line)?;
        Ok(line.len())
    }

    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        let line = one_line(line, self.may_be_coloured);
        let written = match &mut self.target {
            Target::Stdout(stream) => stream.write_all(&line),
            Target::Stderr(stream) => stream.write_all(&line),
            Target::File(file) => file.write_line(&line),
        };
        if written.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Target::Stdout(stream) = &mut self.target {
            // What it refuses was counted with its line.
            let _ = stream.flush();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn what_is_said_stays_in_its_line() {
        for (line, plain, coloured) in [
            ("said\n", "said\n", "said\n"),
            ("\tné ²\n", "\tné ²\n", "\tné ²\n"),
            ("a\nFORGED\r\n", "a\\nFORGED\\r\n", "a\\nFORGED\\r\n"),
            ("\u{1b}[2J\u{7}\u{9b}2J", "\\u{1b}[2J\\u{7}\\u{9b}2J", "\u{1b}[2J\\u{7}\\u{9b}2J"),
        ] {
            let of =
                |may_be_coloured| String::from_utf8(one_line(line.as_bytes(), may_be_coloured).into_owned()).unwrap();
            assert_eq!((of(false).as_str(), of(true).as_str()), (plain, coloured));
        }
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let missing = LogOutput::File("/nonexistent/folder/log".into());
        let error = Output::open(&missing).err().unwrap();
        assert!(error.contains("log.output") && error.contains("/nonexistent/folder/log"), "{error}");
    }

    #[test]
    fn lines_go_to_the_new_file_once_it_is_open_and_to_the_old_one_until_then() {
        let folder = tempfile::tempdir().unwrap();
        let (path, rotated) = (folder.path().join("log"), folder.path().join("log.1"));
        let (mut output, _) = Output::open(&LogOutput::File(path.clone())).unwrap();
        let file = output.file().unwrap();
        output.write_all(b"one\n").unwrap();
        std::fs::rename(&path, &rotated).unwrap();
        output.write_all(b"two\n").unwrap();
        file.open_again().unwrap();
        output.write_all(b"three\n").unwrap();
        assert_eq!((text(&rotated).as_str(), text(&path).as_str()), ("one\ntwo\n", "three\n"));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        file.open_again().unwrap_err();
        output.write_all(b"four\n").unwrap();
        assert_eq!(output.refused().load(Ordering::Relaxed), 0, "the old one is still there");
    }

    #[test]
    fn an_output_that_takes_nothing_costs_counted_lines() {
        let (mut output, _) = Output::open(&LogOutput::File("/dev/full".into())).unwrap();
        output.write_all(b"lost\n").unwrap();
        output.flush().unwrap();
        assert_eq!(output.refused().load(Ordering::Relaxed), 1);
    }
}
