//! What a run leaves for people and for tools: a table, a JSON document, histograms in their standard formats, a page.
//!
//! Promises that all of them show the same document, and that the page needs nothing but itself: no script, no font, no
//! picture from elsewhere. Refuses to guess: a figure that a run does not have is left out.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use harness::error::Result;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::result::{Histograms, RunResult};

mod axes;
mod compared;
mod files;
mod html;
mod plots;
mod tables;
mod text;

pub use compared::{Comparison, Row, Spread};

/// All trials of one engine, in the order they were run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Compared {
    /// What it is called.
    pub name: String,
    /// Its trials.
    pub runs: Vec<RunResult>,
}

/// Prints the table, the latency histogram and the stages of a run.
pub fn print_text(result: &RunResult, all: &Histogram<u64>) {
    print(&text::run(result, all));
}

/// Refuses early what [`write_files`] or [`write_compared`] would refuse after the run: the folder is made now.
///
/// # Errors
/// As they.
pub fn prepare(dir: &Path, stem: &str) -> Result<()> {
    files::prepare(dir, stem)
}

/// Writes `stem.json`, `stem.hgrm` (milliseconds), `stem.hlog` (nanoseconds, one interval per second) and `stem.html`; the
/// folder is made.
///
/// # Errors
/// When the folder cannot be made or written, or `stem` is not a plain name.
pub fn write_files(dir: &Path, stem: &str, result: &RunResult, histograms: &Histograms) -> Result<Vec<PathBuf>> {
    files::run(dir, stem, result, histograms)
}

/// Prints each engine's figures over its trials, and their ratio to the first engine's.
pub fn print_compared(compared: &[Compared]) {
    print(&text::compared(compared));
}

/// Writes `name.json` and `name.html`; the folder is made.
///
/// # Errors
/// When the folder cannot be made or written, or `name` is not a plain name.
pub fn write_compared(dir: &Path, name: &str, compared: &[Compared]) -> Result<Vec<PathBuf>> {
    files::compared(dir, name, compared)
}

/// A reader that has gone (`| head`) must not end a run before its files are written.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
