//! The engine under load: embedded in this process, or a process of its own that speaks the same wire.
//!
//! Promises that a start returns only when the engine is ready, and that one that dies or never becomes ready is an
//! error with what was waited for and its last log lines.

mod counters;
mod embedded;
pub mod own;
mod process;
mod stages;

use std::time::Duration;

use harness::error::Result;

pub use self::counters::Counters;
pub use self::embedded::Embedded;
pub use self::process::{Places, Process, Ready, words_of};
pub use self::stages::Stages;

use crate::cost::{self, Cpu};

/// How long an engine may take to stop: more than its own drain timeout.
const DEADLINE: Duration = Duration::from_secs(30);

/// A running engine.
pub enum Engine {
    /// In this process.
    Embedded(Box<Embedded>),
    /// A process of its own.
    Process(Process),
}

/// What an engine said at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Its report, or the last line of its log.
    pub last_words: String,
    /// Whether it ended as it should, with nothing cut off.
    pub is_clean: bool,
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
        }
    }

    /// The most memory it held so far, in MiB; embedded: this whole process.
    ///
    /// # Errors
    /// When it is gone.
    pub fn peak_rss_mib(&self) -> Result<f64> {
        match self {
            Self::Embedded(_) => cost::peak_rss_mib(std::process::id()),
            Self::Process(process) => process.peak_rss_mib(),
        }
    }

    /// Its heap allocations so far; only the embedded one's are counted.
    pub fn allocations(&self) -> Option<u64> {
        matches!(self, Self::Embedded(_)).then(cost::allocations).flatten()
    }

    /// Its stage histograms so far; none when it has no such page.
    pub fn stages(&self) -> Stages {
        Stages::read(self.admin_port())
    }

    /// Its counters so far; none when it has no such page.
    pub fn counters(&self) -> Counters {
        Counters::read(self.admin_port())
    }

    fn admin_port(&self) -> u16 {
        match self {
            Self::Embedded(embedded) => embedded.admin_port(),
            Self::Process(process) => process.admin_port(),
        }
    }

    /// Fails when it has ended by itself, with its last log lines.
    ///
    /// # Errors
    /// See above.
    pub fn check(&mut self) -> Result<()> {
        match self {
            Self::Embedded(_) => Ok(()),
            Self::Process(process) => process.check(),
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
        }
    }
}
