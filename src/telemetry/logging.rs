//! What the engine says of itself: `tracing` set up from `log.*`, and warnings that cannot flood.
//!
//! Promises that no thread waits for whoever reads the log: lines go through a bounded queue to a thread of their own,
//! and what does not fit, or what the output does not take, is dropped and counted ([`dropped_lines`]). Refuses
//! to start when the file cannot be opened. `log.level` is the engine's own: what the crates below it say is written from
//! `warn` up, unless `log.filter` asks for more. `RUST_LOG` is not read.

mod output;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt as lines, reload};

pub use self::output::LogFile;
use self::output::{Output, Refused};
use super::log_limiter::Said;
use crate::config::log_filter::filter_of;

use crate::config::{LogConfig, LogFormat};

/// Lines that wait for the log's thread; at some 200 bytes a line this is 3 MB.
const LINES_WAITING_MAX: usize = 16 * 1024;

/// Keeps the log's thread; dropping it writes what still waits (for a second at most).
#[must_use = "the log ends when this is dropped"]
pub struct LogGuard {
    _worker: WorkerGuard,
    file: Option<LogFile>,
}

impl LogGuard {
    /// The file that lines go to, when `log.output` is one.
    pub fn file(&self) -> Option<LogFile> {
        self.file.clone()
    }
}

impl fmt::Debug for LogGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogGuard").field("dropped_lines", &dropped_lines()).finish()
    }
}

/// Sets the process's log up; once.
///
/// # Errors
/// When the file cannot be opened, `log.filter` cannot be read, or a log is set up already.
pub fn init(config: &LogConfig) -> Result<LogGuard, String> {
    let (output, is_terminal) = Output::open(&config.output)?;
    let (refused, file) = (output.refused(), output.file());
    let (subscriber, filter, worker, dropped) = subscriber(config, output, is_terminal)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| "a log is set up already".to_owned())?;
    // Nobody was before: the process has one log.
    let _ = LOST.set((dropped, refused));
    let _ = FILTER.set(filter);
    Ok(LogGuard { _worker: worker, file })
}

/// What the log of the process did not write.
static LOST: OnceLock<(ErrorCounter, Refused)> = OnceLock::new();

/// Lines of the process's log that were dropped so far, because the output did not keep up, or took none any more; none
/// before [`init`].
pub fn dropped_lines() -> u64 {
    LOST.get().map_or(0, |(dropped, refused)| dropped.dropped_lines() as u64 + refused.load(Ordering::Relaxed))
}

/// What the log of the process leaves out, to be exchanged.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// From now on the process's log, if there is one, leaves out what `log.level` and `log.filter` of this section say.
///
/// # Errors
/// When `log.filter` cannot be read.
pub fn filter_by(config: &LogConfig) -> Result<(), String> {
    let Some(handle) = FILTER.get() else { return Ok(()) };
    exchange(handle, config)
}

fn exchange(handle: &reload::Handle<EnvFilter, Registry>, config: &LogConfig) -> Result<(), String> {
    let filter = filter_of(config.level, &config.filter).map_err(|what| format!("log.filter: {what}"))?;
    handle.reload(filter).map_err(|error| format!("log.filter: {error}"))
}

type Made<S> = (S, reload::Handle<EnvFilter, Registry>, WorkerGuard, ErrorCounter);

fn subscriber(
    config: &LogConfig,
    output: impl Write + Send + 'static,
    is_terminal: bool,
) -> Result<Made<impl tracing::Subscriber + Send + Sync>, String> {
    let filter = filter_of(config.level, &config.filter).map_err(|what| format!("log.filter: {what}"))?;
    let (filter, handle) = reload::Layer::new(filter);
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_WAITING_MAX).thread_name("log");
    let (writer, worker) = builder.finish(output);
    let dropped = writer.error_counter();
    let base = lines::layer().with_writer(writer).with_file(config.source).with_line_number(config.source);
    let color = config.color && is_terminal && config.format == LogFormat::Console;
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match config.format {
        LogFormat::Json => base.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
        LogFormat::Console | LogFormat::Text => base.with_ansi(color).boxed(),
    };
    Ok((Registry::default().with(layer.with_filter(filter)), handle, worker, dropped))
}

/// Lets each reason through at most once in [`LOG_EVERY`](super::log_limiter::LOG_EVERY). Takes a lock: not for the push path.
/// Bounded by the number of reasons, which are words of the program.
#[derive(Debug, Default)]
struct ByReason(Mutex<Option<HashMap<&'static str, Said<Instant>>>>);

impl ByReason {
    const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Whether `reason` may be told at `now`; then with the number of times it was left out since it was told last.
    fn allow(&self, reason: &'static str, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match said.get_or_insert_default().entry(reason) {
            Entry::Occupied(said) => said.into_mut().allow(now),
            Entry::Vacant(place) => {
                place.insert(Said::first(now));
                Some(0)
            }
        }
    }
}

static WARNINGS: ByReason = ByReason::new();

/// Warns of `reason` with one example, unless it did so a moment ago. The example is formatted only when told.
pub fn warn_limited(reason: &'static str, detail: impl fmt::Display) {
    if let Some(left_out) = WARNINGS.allow(reason, Instant::now()) {
        tracing::warn!(reason, left_out, "{detail}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::config::{Config, LogLevel};

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
        let (subscriber, _, worker, _) = subscriber(&config, kept.clone(), is_terminal).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("quiet");
            tracing::info!(gateway = "g1", "opened");
            tracing::warn!("loud");
            tracing::debug!(target: "h2::codec", "a frame");
            tracing::info!(target: "hyper::proto", "a connection");
            tracing::warn!(target: "h2::proto", "a stranger's warning");
        });
        drop(worker);
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
        assert_eq!(objects.len(), 3);
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
    fn a_reason_is_told_once_in_a_while_and_does_not_hold_back_another() {
        let (limited, start) = (ByReason::new(), Instant::now());
        let at = |reason, seconds| limited.allow(reason, start + Duration::from_secs(seconds));
        assert_eq!([at("a", 0), at("a", 1), at("b", 1), at("a", 9)], [Some(0), None, Some(0), None]);
        assert_eq!([at("a", 10), at("a", 20)], [Some(2), Some(0)]);
    }

    #[test]
    fn the_level_is_the_engines_own_and_the_filter_adds_to_it() {
        let debug = written(|log| log.level = LogLevel::Debug, false);
        assert!(debug.contains("quiet") && debug.contains("a stranger's warning"), "{debug}");
        assert!(!debug.contains("a frame") && !debug.contains("a connection"), "{debug}");
        let error = written(|log| log.level = LogLevel::Error, false);
        assert!(error.is_empty(), "{error}");
        let one = written(|log| log.filter = "h2=debug".into(), false);
        assert!(one.contains("a frame") && !one.contains("a connection") && !one.contains("quiet"), "{one}");
        let all = written(|log| log.filter = "debug,h2=off".into(), false);
        assert!(all.contains("a connection") && !all.contains("a frame") && !all.contains("quiet"), "{all}");
        let mine = written(|log| log.filter = "task_engine::telemetry::logging=error".into(), false);
        assert!(!mine.contains("loud") && mine.contains("a stranger's warning"), "{mine}");
    }

    #[test]
    fn what_is_left_out_can_be_exchanged() {
        let (kept, mut config) = (Kept::default(), Config::default().log);
        let (subscriber, handle, worker, _) = subscriber(&config, kept.clone(), false).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            let say = |word: &str, log: Option<LogConfig>| {
                log.into_iter().for_each(|log| exchange(&handle, &log).unwrap());
                tracing::debug!("{word} of debug");
                tracing::info!("{word} of info");
            };
            say("first", None);
            config.level = LogLevel::Debug;
            say("second", Some(config.clone()));
            config.level = LogLevel::Warn;
            say("third", Some(config.clone()));
            config.filter = "[push{a=1,b=2}=debug".into();
            exchange(&handle, &config).unwrap_err();
            config.filter = "task_engine=debug".into();
            say("fourth", Some(config.clone()));
        });
        drop(worker);
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let is_there = |of: &str| text.contains(of);
        assert!(!is_there("first of debug") && is_there("first of info"), "{text}");
        assert!(is_there("second of debug") && is_there("second of info"), "{text}");
        assert!(!is_there("third of debug") && !is_there("third of info"), "{text}");
        assert!(is_there("fourth of debug"), "{text}");
    }

    #[test]
    fn a_filter_with_a_spans_fields_is_used() {
        let (kept, mut config) = (Kept::default(), Config::default().log);
        config.filter = "h2=info,[push{a=1,b=2}]=debug".into();
        let (subscriber, _, worker, _) = subscriber(&config, kept.clone(), false).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info_span!(target: "task_engine", "push", a = 1, b = 2)
                .in_scope(|| tracing::debug!("in the span"));
            tracing::info_span!(target: "task_engine", "push", a = 1, b = 3).in_scope(|| tracing::debug!("in another"));
            tracing::debug!("outside");
            tracing::info!(target: "h2::codec", "a frame");
        });
        drop(worker);
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("in the span") && text.contains("a frame"), "{text}");
        assert!(!text.contains("in another") && !text.contains("outside"), "{text}");
        config.filter = "h2=debug,[push{a=1,b=2}=debug".into();
        let why = super::subscriber(&config, kept, false).map(drop).unwrap_err();
        assert!(why.starts_with("log.filter: \"[push{a=1,b=2}=debug\" is not a directive; write "), "{why}");
    }
}
