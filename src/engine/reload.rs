//! A running engine goes by a configuration that was read again.
//!
//! Promises that one which is wrong changes nothing, and that each mistake is a line of the log; that each key which differs is a
//! line that says what becomes of it; and that no line has a secret. Refuses to touch a connection: whoever keeps one looks
//! by himself whether his section was exchanged ([`Sections`]).

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::reload::{Change, plan};
use crate::config::{Checked, Config, Mistakes};
use crate::edge::tls::Files;
use crate::engine::adapters::{mistakes_in_files, tls_files};
use crate::engine::sections::Sections;
use crate::telemetry::logging;
use crate::telemetry::metrics::{Meter, table};

/// What came of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// Something was applied.
    Applied,
    /// Nothing was; what differs takes effect at the next start.
    Restart,
    /// Nothing differs.
    Unchanged,
    /// It is wrong; what held holds on.
    Invalid,
}

impl ReloadOutcome {
    /// Every outcome, in the order of the metric page.
    pub const ALL: [Self; 4] = [Self::Applied, Self::Restart, Self::Unchanged, Self::Invalid];

    /// The label on the metric page.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Restart => "restart",
            Self::Unchanged => "unchanged",
            Self::Invalid => "invalid",
        }
    }
}

/// What a reload did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadReport {
    /// The keys that differ.
    pub changes: Vec<Change>,
    /// The sections whose files of certificates and keys are others, at the same places.
    pub renewed: Vec<&'static str>,
    /// What is wrong, a line each; then nothing else is done.
    pub mistakes: Vec<String>,
}

impl ReloadReport {
    /// What came of it.
    pub fn outcome(&self) -> ReloadOutcome {
        let is_applied = self.changes.iter().any(Change::is_applied) || !self.renewed.is_empty();
        match (self.mistakes.is_empty(), is_applied, self.changes.is_empty()) {
            (false, ..) => ReloadOutcome::Invalid,
            (_, true, _) => ReloadOutcome::Applied,
            (_, _, false) => ReloadOutcome::Restart,
            _ => ReloadOutcome::Unchanged,
        }
    }

    /// How many keys wait for the next start.
    fn waiting(&self) -> usize {
        self.changes.iter().filter(|change| !change.is_applied()).count()
    }

    fn log(&self) {
        for mistake in &self.mistakes {
            tracing::error!("configuration not reloaded: {mistake}");
        }
        for section in &self.renewed {
            tracing::info!("{section}: its files are others: the next handshake goes by them");
        }
        for change in &self.changes {
            match change.is_applied() {
                true => tracing::info!("{change}"),
                false => tracing::warn!("{change}"),
            }
        }
        match self.outcome() {
            ReloadOutcome::Invalid => tracing::error!("{self}"),
            _ => tracing::info!("{self}"),
        }
    }
}

impl fmt::Display for ReloadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.waiting();
        let applied = self.changes.len() - waiting + self.renewed.len();
        match (self.outcome(), self.mistakes.len()) {
            (ReloadOutcome::Invalid, 1) => f.write_str("configuration not reloaded: 1 mistake; what held holds on"),
            (ReloadOutcome::Invalid, count) => {
                write!(f, "configuration not reloaded: {count} mistakes; what held holds on")
            }
            (ReloadOutcome::Unchanged, _) => f.write_str("configuration reloaded: nothing changed"),
            _ => write!(f, "configuration reloaded: {applied} applied, {waiting} at the next start"),
        }
    }
}

/// The way of a configuration into a running engine. Clones lead to the same engine, also to one that stops or has stopped.
#[derive(Clone, Debug)]
pub struct Reloader(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sections: Sections,
    state: Mutex<State>,
    /// By outcome, in the order of [`ReloadOutcome::ALL`].
    counts: [AtomicU64; ReloadOutcome::ALL.len()],
    waiting: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// What holds.
    config: Config,
    files: Vec<(&'static str, Files)>,
}

impl Reloader {
    /// Of an engine that goes by these sections of a configuration; its numbers are on the page from now on.
    pub(super) fn of(config: &Config, sections: &Sections, meter: &Meter) -> Self {
        let state = Mutex::new(State { config: config.clone(), files: tls_files(config) });
        let (counts, waiting) = (Default::default(), AtomicU64::new(0));
        let reloader = Self(Arc::new(Inner { sections: sections.clone(), state, counts, waiting }));
        for outcome in ReloadOutcome::ALL {
            let counted = reloader.clone();
            let label = [("outcome", outcome.label())];
            meter.register(&table::CONFIG_RELOADS, &label, move || counted.count(outcome));
        }
        let counted = reloader.clone();
        meter.register(&table::CONFIG_RESTART_KEYS, &[], move || counted.0.waiting.load(Ordering::Relaxed));
        reloader
    }

    fn count(&self, outcome: ReloadOutcome) -> u64 {
        self.0.counts[outcome as usize].load(Ordering::Relaxed)
    }

    /// What holds now.
    pub fn config(&self) -> Config {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).config.clone()
    }

    /// From now on what was read holds, as far as a running engine can go by it; what became of it is said in the log. Reads the
    /// files that it names, so it may block.
    pub fn reload(&self, read: Result<Checked, Mistakes>) -> ReloadReport {
        // Before the lock: a stop looks at what holds, and a file system may hang.
        let checked = checked(read).map(|config| (tls_files(&config), config));
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.config.log.clone();
        let report = match checked {
            Ok((files, read)) => self.take(&mut state, &read, files),
            Err(mistakes) => ReloadReport { changes: Vec::new(), renewed: Vec::new(), mistakes },
        };
        self.0.counts[report.outcome() as usize].fetch_add(1, Ordering::Relaxed);
        // A log that becomes quieter says so first.
        let is_quieter = state.config.log.level as u8 > before.level as u8;
        if is_quieter {
            report.log();
        }
        if state.config.log != before
            && let Err(why) = logging::filter_by(&state.config.log)
        {
            tracing::error!("{why}; the log goes on as before");
        }
        if !is_quieter {
            report.log();
        }
        report
    }

    fn take(&self, state: &mut State, read: &Config, files: Vec<(&'static str, Files)>) -> ReloadReport {
        let plan = plan(&state.config, read);
        self.0.sections.exchange(&plan.config);
        let before = std::mem::replace(&mut state.files, files.clone());
        let is_renewed = |section: &str, files: &Files| {
            before.iter().any(|(of, before)| *of == section && files.are_renewed(before))
        };
        let renewed = files.iter().filter(|(section, files)| is_renewed(section, files));
        let renewed = renewed.map(|(section, _)| *section).collect();
        state.config = plan.config;
        let report = ReloadReport { changes: plan.changes, renewed, mistakes: Vec::new() };
        self.0.waiting.store(report.waiting() as u64, Ordering::Relaxed);
        report
    }
}

/// The same checks as at the start, those of files too; else all that is wrong, a line each.
fn checked(read: Result<Checked, Mistakes>) -> Result<Config, Vec<String>> {
    let config = match read {
        Ok(checked) => checked.config,
        Err(mistakes) => return Err(mistakes.to_string().lines().map(str::to_owned).collect()),
    };
    let wrong = mistakes_in_files(&config);
    if wrong.is_empty() {
        Ok(config)
    } else {
        Err(wrong.iter().flat_map(|text| text.lines()).map(str::to_owned).collect())
    }
}
