//! What the engine says of itself: `tracing` set up from `log.*`, and warnings that cannot flood.
//!
//! Promises that no thread waits for whoever reads the log: lines go through a bounded queue to a thread of their own,
//! and what does not fit is dropped and counted ([`LogGuard::dropped_lines`]). Refuses to start when the file cannot
//! be opened. `RUST_LOG` is not read: `log.level` says it all.

use std::collections::HashMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, fmt as lines};

use crate::config::{LogConfig, LogFormat, LogLevel, LogOutput};

/// Lines that wait for the log's thread; at some 200 bytes a line this is 3 MB.
const LINES_WAITING_MAX: usize = 16 * 1024;
/// A reason is told at most once in this time.
pub const TELL_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Keeps the log's thread; dropping it writes what still waits (for a second at most).
#[must_use = "the log ends when this is dropped"]
pub struct LogGuard {
    _worker: WorkerGuard,
    dropped: ErrorCounter,
}

impl LogGuard {
    /// Lines that were dropped because the output did not keep up.
    pub fn dropped_lines(&self) -> u64 {
        self.dropped.dropped_lines() as u64
    }
}

impl fmt::Debug for LogGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogGuard").field("dropped_lines", &self.dropped_lines()).finish()
    }
}

/// Sets the process's log up; once.
///
/// # Errors
/// When the file cannot be opened, or a log is set up already.
pub fn init(config: &LogConfig) -> Result<LogGuard, String> {
    let (output, is_terminal) = open(&config.output)?;
    let (subscriber, guard) = subscriber(config, output, is_terminal);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| "a log is set up already".to_owned())?;
    Ok(guard)
}

fn open(output: &LogOutput) -> Result<(Box<dyn Write + Send>, bool), String> {
    match output {
        LogOutput::Stdout => Ok((Box::new(std::io::stdout()), std::io::stdout().is_terminal())),
        LogOutput::Stderr => Ok((Box::new(std::io::stderr()), std::io::stderr().is_terminal())),
        LogOutput::File(path) => match OpenOptions::new().create(true).append(true).open(path) {
            Ok(file) => Ok((Box::new(file), false)),
            Err(error) => Err(format!("log.output: {} cannot be opened: {error}", path.display())),
        },
    }
}

fn subscriber(
    config: &LogConfig,
    output: Box<dyn Write + Send>,
    is_terminal: bool,
) -> (impl tracing::Subscriber + Send + Sync, LogGuard) {
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_WAITING_MAX).thread_name("log");
    let (writer, worker) = builder.finish(output);
    let guard = LogGuard { dropped: writer.error_counter(), _worker: worker };
    let base = lines::layer().with_writer(writer).with_file(config.source).with_line_number(config.source);
    let color = config.color && is_terminal && config.format == LogFormat::Console;
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match config.format {
        LogFormat::Json => base.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
        LogFormat::Console | LogFormat::Text => base.with_ansi(color).boxed(),
    };
    let level = match config.level {
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    (Registry::default().with(layer.with_filter(level)), guard)
}

/// Lets each reason through at most once in [`TELL_AGAIN_AFTER`]. Takes a lock: not for the push path.
/// Bounded by the number of reasons, which are words of the program.
#[derive(Debug, Default)]
pub struct RateLimited {
    told: Mutex<Option<HashMap<&'static str, Told>>>,
}

#[derive(Debug)]
struct Told {
    last: Instant,
    left_out: u64,
}

impl RateLimited {
    /// One that has told nothing.
    pub const fn new() -> Self {
        Self { told: Mutex::new(None) }
    }

    /// Whether `reason` may be told at `now`; then with the number of times it was left out since it was told last.
    pub fn admit(&self, reason: &'static str, now: Instant) -> Option<u64> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(before) = told.get_or_insert_default().get_mut(reason) else {
            told.get_or_insert_default().insert(reason, Told { last: now, left_out: 0 });
            return Some(0);
        };
        if now.saturating_duration_since(before.last) < TELL_AGAIN_AFTER {
            before.left_out += 1;
            return None;
        }
        before.last = now;
        Some(std::mem::take(&mut before.left_out))
    }

    /// Warns of `reason` with one example, unless it did so a moment ago. The example is formatted only when told.
    pub fn warn(&self, reason: &'static str, detail: impl fmt::Display) {
        if let Some(left_out) = self.admit(reason, Instant::now()) {
            tracing::warn!(reason, left_out, "{detail}");
        }
    }
}

static WARNINGS: RateLimited = RateLimited::new();

/// [`RateLimited::warn`] on the one of the process.
pub fn warn_limited(reason: &'static str, detail: impl fmt::Display) {
    WARNINGS.warn(reason, detail);
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::config::Config;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What a configuration writes for three lines.
    fn written(change: impl FnOnce(&mut LogConfig), is_terminal: bool) -> String {
        let (kept, mut config) = (Kept::default(), Config::default().log);
        change(&mut config);
        let (subscriber, guard) = subscriber(&config, Box::new(kept.clone()), is_terminal);
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("quiet");
            tracing::info!(gateway = "g1", "opened");
            tracing::warn!("loud");
        });
        drop(guard);
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn level_leaves_out_what_is_below_it() {
        let info = written(|_| {}, false);
        assert!(!info.contains("quiet") && info.contains("opened") && info.contains("loud"), "{info}");
        let warn = written(|log| log.level = LogLevel::Warn, false);
        assert!(!warn.contains("opened") && warn.contains("loud"), "{warn}");
    }

    #[test]
    fn json_is_one_object_a_line_with_the_fields() {
        let text = written(|log| (log.format, log.source) = (LogFormat::Json, true), true);
        let objects: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(objects.len(), 2);
        assert_eq!((&objects[0]["gateway"], &objects[0]["message"]), (&"g1".into(), &"opened".into()));
        assert!(objects[0]["filename"].is_string() && objects[0]["line_number"].is_number(), "{text}");
    }

    #[test]
    fn colours_only_on_a_terminal_for_console_when_asked_for() {
        assert!(written(|_| {}, true).contains('\u{1b}'));
        assert!(!written(|_| {}, false).contains('\u{1b}'));
        assert!(!written(|log| log.color = false, true).contains('\u{1b}'));
        assert!(!written(|log| log.format = LogFormat::Text, true).contains('\u{1b}'));
    }

    #[test]
    fn a_reason_is_told_once_in_ten_seconds_with_what_was_left_out() {
        let (limited, start) = (RateLimited::new(), Instant::now());
        assert_eq!(limited.admit("a", start), Some(0));
        assert_eq!(limited.admit("a", start + Duration::from_secs(1)), None);
        assert_eq!(limited.admit("b", start + Duration::from_secs(1)), Some(0), "another reason is not held back");
        assert_eq!(limited.admit("a", start + Duration::from_millis(9_999)), None);
        assert_eq!(limited.admit("a", start + TELL_AGAIN_AFTER), Some(2));
        assert_eq!(limited.admit("a", start + TELL_AGAIN_AFTER * 2), Some(0));
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let missing = LogOutput::File("/nonexistent/folder/log".into());
        let error = open(&missing).err().unwrap();
        assert!(error.contains("log.output") && error.contains("/nonexistent/folder/log"), "{error}");
    }
}
