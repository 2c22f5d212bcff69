//! What the faults cost, as a table for people, as JSON, and in RELIABILITY.md.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use harness::error::{Error, Result};
use serde::Serialize;

const MARK: &str = "<!-- faults -->";

/// One scenario's outcome.
#[derive(Clone, Debug, Serialize)]
pub struct FaultResult {
    /// The scenario.
    pub name: String,
    /// `queue` or `partitioned`.
    pub assignment: String,
    /// Events that the broker confirmed (a second copy not counted).
    pub events: u64,
    /// Recipients of them that are connected somewhere.
    pub expected: u64,
    /// Of those, neither pushed nor in the inbox.
    pub lost: u64,
    /// Pushed again.
    pub repeated: u64,
    /// Pushes that were unanswered when a stream was cut (they were sent again), and recipients of events that a killed
    /// engine had not settled: no more may be repeated.
    pub unanswered: u64,
    /// Pushed after a later message of the same session.
    pub out_of_order: u64,
    /// To whom they were not for, or not as they were published.
    pub misdelivered_or_corrupt: u64,
    /// Rows in the inbox.
    pub stored: u64,
    /// Recipients without a connection whose row is missing.
    pub offline_not_stored: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Payloads that are no events; each must be a dead letter once.
    pub poison: u64,
    /// From the last publish to the last settle.
    pub settle_lag_seconds: f64,
    /// From the fault's end until no push was later than half a second.
    pub recovery_seconds: f64,
    /// Whether the promise was kept.
    pub is_good: bool,
    /// The first cases, in words.
    pub cases: Vec<String>,
}

/// One line while it runs.
pub fn line(result: &FaultResult) -> String {
    let mut line = format!(
        "{}: {} events; lost {}, repeated {} of {} unanswered, out of order {}; inbox {}, dead letters {}; settled {:.1} s after the end, recovered in {:.1} s",
        if result.is_good { "kept" } else { "NOT KEPT" },
        result.events,
        result.lost + result.offline_not_stored,
        result.repeated,
        result.unanswered,
        result.out_of_order,
        result.stored,
        result.dead_letters,
        result.settle_lag_seconds,
        result.recovery_seconds,
    );
    result.cases.iter().for_each(|case| line += &format!("\n    {case}"));
    line
}

/// The whole table, in Markdown.
pub fn text(results: &[FaultResult]) -> String {
    let mut text = String::from(
        "| fault | assignment | events | lost | repeated | unanswered | out of order | inbox rows | dead letters | settle lag, s | recovery, s | promise |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|\n",
    );
    for result in results {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.1} | {:.1} | {} |",
            result.name,
            result.assignment,
            result.events,
            result.lost + result.offline_not_stored,
            result.repeated,
            result.unanswered,
            result.out_of_order,
            result.stored,
            result.dead_letters,
            result.settle_lag_seconds,
            result.recovery_seconds,
            if result.is_good { "kept" } else { "**not kept**" },
        );
    }
    text
}

/// Writes the figures.
///
/// # Errors
/// When the file cannot be written.
pub fn write_json(path: &Path, results: &[FaultResult]) -> Result<()> {
    let failed = |cause: std::io::Error| Error::of(&format!("cannot write {}", path.display()), cause);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let json = serde_json::to_string_pretty(results).map_err(|cause| Error::of("cannot write JSON", cause))?;
    fs::write(path, json + "\n").map_err(failed)
}

/// Puts the table between a file's two marks.
///
/// # Errors
/// When the file has no marks, or cannot be read or written.
pub fn write_between_marks(path: &Path, results: &[FaultResult]) -> Result<()> {
    let failed = |cause: std::io::Error| Error::of(&format!("cannot write {}", path.display()), cause);
    let old = fs::read_to_string(path).map_err(failed)?;
    let new = between_marks(&old, &text(results))
        .ok_or_else(|| Error::new(format!("{} has no two lines `{MARK}` to put the table between", path.display())))?;
    fs::write(path, new).map_err(failed)
}

fn between_marks(old: &str, table: &str) -> Option<String> {
    let (before, rest) = old.split_once(MARK)?;
    let (_, after) = rest.split_once(MARK)?;
    Some(format!("{before}{MARK}\n{table}{MARK}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_goes_between_the_marks_and_again() {
        let old = format!("a\n{MARK}\nold\n{MARK}\nb\n");
        let new = between_marks(&old, "new\n").expect("marks");
        assert_eq!(new, format!("a\n{MARK}\nnew\n{MARK}\nb\n"));
        assert_eq!(between_marks(&new, "newer\n").expect("marks"), format!("a\n{MARK}\nnewer\n{MARK}\nb\n"));
        assert_eq!(between_marks("a", "t"), None);
    }
}
