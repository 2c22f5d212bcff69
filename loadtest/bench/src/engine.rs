//! The engine under load: embedded in this process, or a process of its own that speaks the same wire.
//!
//! Promises that a start returns only when the engine is ready, and that one that dies or never becomes ready is an
//! error with what was waited for and its last log lines.

mod counters;
mod embedded;
pub mod fleet;
pub mod own;
mod process;
mod stages;

use std::time::Duration;

use harness::error::Result;

pub use self::counters::Counters;
pub use self::embedded::Embedded;
use self::fleet::{Fleet, Tally};
pub use self::process::{Places, Process, Ready, words_of};
pub use self::stages::Stages;

use crate::cost::{self, Cpu};
use crate::result::{InstanceFigures, StepFigures};

/// How long an engine may take to stop: more than its own drain timeout.
const DEADLINE: Duration = Duration::from_secs(30);

/// A running engine.
pub enum Engine {
    /// In this process.
    Embedded(Box<Embedded>),
    /// A process of its own.
    Process(Process),
    /// Several beside each other.
    Fleet(Box<Fleet>),
}

/// What an engine said at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Its report, or the last line of its log.
    pub last_words: String,
    /// Whether it ended as it should, with nothing cut off.
    pub is_clean: bool,
    /// Its exit code, when it is a process that was not killed.
    pub code: Option<i32>,
}

impl Engine {
    /// CPU time it used so far.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu(&self) -> Result<Cpu> {
        match self {
            Self::Embedded(_) => cost::embedded_cpu(),
            Self::Process(process) => process.cpu(),
            Self::Fleet(fleet) => Ok(fleet.cpu()),
        }
    }

    /// The most memory it held so far, in MiB; embedded: this whole process; several: the sum of what each held at most.
    ///
    /// # Errors
    /// When it is gone.
    pub fn peak_rss_mib(&self) -> Result<f64> {
        match self {
            Self::Embedded(_) => cost::peak_rss_mib(std::process::id()),
            Self::Process(process) => process.peak_rss_mib(),
            Self::Fleet(fleet) => Ok(fleet.peak_rss_mib()),
        }
    }

    /// Its heap allocations so far; only the embedded one's are counted.
    pub fn allocations(&self) -> Option<u64> {
        matches!(self, Self::Embedded(_)).then(cost::allocations).flatten()
    }

    /// Its stage histograms so far; none when it has no such page. Of several, those that run are added up.
    pub fn stages(&self) -> Stages {
        match self {
            Self::Embedded(embedded) => Stages::read(embedded.admin_port()),
            Self::Process(process) => Stages::read(process.admin_port()),
            Self::Fleet(fleet) => fleet.stages(),
        }
    }

    /// Its counters so far; none when it has no such page.
    pub fn counters(&self) -> Counters {
        match self {
            Self::Embedded(embedded) => Counters::read(embedded.admin_port()),
            Self::Process(process) => Counters::read(process.admin_port()),
            Self::Fleet(fleet) => {
                let mut sum = Counters::default();
                fleet.tallies().iter().for_each(|tally| sum.add(&tally.counters));
                sum
            }
        }
    }

    /// How many events have ended for good since its start; `None` while some are in flight, or where that cannot be told.
    pub fn events_ended(&self) -> Option<u64> {
        match self {
            Self::Embedded(embedded) => counters::events_ended(embedded.admin_port()),
            Self::Process(process) => counters::events_ended(process.admin_port()),
            Self::Fleet(_) => None,
        }
    }

    /// Whether all that it counts is of one process, which runs still: of several what one counted may have ended with it.
    pub fn is_one(&self) -> bool {
        !matches!(self, Self::Fleet(_))
    }

    /// What each of several used and counted so far.
    pub fn tallies(&self) -> Vec<Tally> {
        if let Self::Fleet(fleet) = self { fleet.tallies() } else { Vec::new() }
    }

    /// What each of several used and counted since then, and what came of those that came and went.
    pub fn instances(&self, since: &[Tally]) -> (Vec<InstanceFigures>, Vec<StepFigures>) {
        if let Self::Fleet(fleet) = self { (fleet.figures(since), fleet.step_figures()) } else { Default::default() }
    }

    /// Of several: does what is due; `longest` is the longest that a push took since the last call.
    ///
    /// # Errors
    /// When an instance does not come or go.
    pub fn go_on(&mut self, longest: Duration) -> Result<()> {
        if let Self::Fleet(fleet) = self { fleet.go_on(longest) } else { Ok(()) }
    }

    /// Fails when it has ended by itself, with its last log lines.
    ///
    /// # Errors
    /// See above.
    pub fn check(&mut self) -> Result<()> {
        match self {
            Self::Embedded(_) => Ok(()),
            Self::Process(process) => process.check(),
            Self::Fleet(fleet) => fleet.check(),
        }
    }

    /// Asks it to stop and waits until it has.
    ///
    /// # Errors
    /// When it does not within [`DEADLINE`].
    pub fn stop(self) -> Result<Stopped> {
        match self {
            Self::Embedded(embedded) => Ok(embedded.stop()),
            Self::Process(process) => process.stop(),
            Self::Fleet(mut fleet) => fleet.end(),
        }
    }
}
