//! What the faults cost, as a table for people, as JSON, and in RELIABILITY.md.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use harness::error::{Error, Result};
use serde::Serialize;

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
    /// Pushes that came to another gateway of their recipient only.
    pub copies_missing: u64,
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

/// One figure of a result.
struct Column {
    name: &'static str,
    unit: &'static str,
    value: fn(&FaultResult) -> String,
}

impl Column {
    const fn new(name: &'static str, unit: &'static str, value: fn(&FaultResult) -> String) -> Self {
        Self { name, unit, value }
    }
}

/// The figures, in the order in which the line and the table have them.
const FIGURES: [Column; 9] = [
    Column::new("events", "", |result| result.events.to_string()),
    Column::new("lost", "", |result| (result.lost + result.offline_not_stored).to_string()),
    Column::new("repeated", "", |result| result.repeated.to_string()),
    Column::new("unanswered", "", |result| result.unanswered.to_string()),
    Column::new("out of order", "", |result| result.out_of_order.to_string()),
    Column::new("inbox rows", "", |result| result.stored.to_string()),
    Column::new("dead letters", "", |result| result.dead_letters.to_string()),
    Column::new("settle lag", "s", |result| format!("{:.1}", result.settle_lag_seconds)),
    Column::new("recovery", "s", |result| format!("{:.1}", result.recovery_seconds)),
];

/// One line while it runs.
pub fn line(result: &FaultResult) -> String {
    let figure =
        |Column { name, unit, value }: &Column| format!("{name} {} {unit}", value(result)).trim_end().to_owned();
    let promise = if result.is_good { "kept" } else { "NOT KEPT" };
    let mut line = format!("{promise}: {}", FIGURES.iter().map(figure).collect::<Vec<_>>().join(", "));
    result.cases.iter().for_each(|case| line += &format!("\n    {case}"));
    line
}

/// The whole table, in Markdown.
pub fn text(results: &[FaultResult]) -> String {
    let head = |Column { name, unit, .. }: &Column| match *unit {
        "" => (*name).to_owned(),
        unit => format!("{name}, {unit}"),
    };
    let heads = FIGURES.iter().map(head).collect::<Vec<_>>().join(" | ");
    let mut text =
        format!("| fault | assignment | {heads} | promise |\n|---|---|{}---|\n", "---:|".repeat(FIGURES.len()));
    for result in results {
        let FaultResult { name, assignment, .. } = result;
        let figures = FIGURES.iter().map(|column| (column.value)(result)).collect::<Vec<_>>().join(" | ");
        let promise = if result.is_good { "kept" } else { "**not kept**" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {name} | {assignment} | {figures} | {promise} |");
    }
    text
}

/// A new table with the rows of an older one that it has not: those that are named so, in this order, each by its first two cells, the
/// second in falling order. What a name has in brackets tells rows of it apart.
pub fn over(old: &str, new: &str, names: &[&str]) -> String {
    let key = |row: &str| -> Option<(String, usize, String)> {
        let mut cells = row.split('|').map(str::trim).skip(1);
        let (name, second) = (cells.next()?, cells.next()?);
        let (name, how) = name.split_once(" (").unwrap_or((name, ""));
        Some((how.to_owned(), names.iter().position(|known| *known == name)?, second.to_owned()))
    };
    let head = new.lines().take(2).map(str::to_owned);
    let rows = old.lines().chain(new.lines()).filter_map(|row| Some((key(row)?, row.to_owned())));
    // A later row of the same key takes the earlier one's place.
    let rows: BTreeMap<_, _> = rows.map(|((how, at, second), row)| ((how, at, Reverse(second)), row)).collect();
    head.chain(rows.into_values()).map(|row| row + "\n").collect()
}

/// Writes the figures.
///
/// # Errors
/// When the file cannot be written.
pub fn write_json(path: &Path, results: &[impl Serialize]) -> Result<()> {
    let failed = |cause: std::io::Error| Error::of(&format!("cannot write {}", path.display()), cause);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let json = serde_json::to_string_pretty(results).map_err(|cause| Error::of("cannot write JSON", cause))?;
    fs::write(path, json + "\n").map_err(failed)
}

/// Puts a table between a file's two marks; it is made from the one that stands there.
///
/// # Errors
/// When the file has no marks, or cannot be read or written.
pub fn write_between_marks(path: &Path, mark: &str, table: impl Fn(&str) -> String) -> Result<()> {
    let failed = |cause: std::io::Error| Error::of(&format!("cannot write {}", path.display()), cause);
    let old = fs::read_to_string(path).map_err(failed)?;
    let new = between_marks(&old, mark, table)
        .ok_or_else(|| Error::new(format!("{} has no two lines `{mark}` to put the table between", path.display())))?;
    fs::write(path, new).map_err(failed)
}

fn between_marks(old: &str, mark: &str, table: impl Fn(&str) -> String) -> Option<String> {
    let (before, rest) = old.split_once(mark)?;
    let (stood, after) = rest.split_once(mark)?;
    let table = table(stood);
    Some(format!("{before}{mark}\n{table}{mark}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_and_the_row_have_the_same_figures() {
        let result = FaultResult {
            name: "nats-kill".into(),
            assignment: "queue".into(),
            events: 10,
            expected: 30,
            lost: 1,
            copies_missing: 0,
            repeated: 3,
            unanswered: 4,
            out_of_order: 5,
            misdelivered_or_corrupt: 0,
            stored: 6,
            offline_not_stored: 1,
            dead_letters: 7,
            poison: 0,
            settle_lag_seconds: 0.84,
            recovery_seconds: 9.0,
            is_good: false,
            cases: vec!["one".into()],
        };
        assert_eq!(
            line(&result),
            "NOT KEPT: events 10, lost 2, repeated 3, unanswered 4, out of order 5, inbox rows 6, dead letters 7, \
             settle lag 0.8 s, recovery 9.0 s\n    one"
        );
        assert_eq!(
            text(&[result]),
            "| fault | assignment | events | lost | repeated | unanswered | out of order | inbox rows | dead letters \
             | settle lag, s | recovery, s | promise |\n|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|\n\
             | nats-kill | queue | 10 | 2 | 3 | 4 | 5 | 6 | 7 | 0.8 | 9.0 | **not kept** |\n"
        );
    }

    #[test]
    fn rows_that_were_run_otherwise_stay_beside_each_other() {
        let head = "| fault | assignment |\n|---|---|\n";
        let table = |rows: &[&str]| rows.iter().fold(head.to_owned(), |table, row| table + &format!("| {row} |\n"));
        let old = table(&["b | queue | 1", "a (group) | queue | 2", "gone | queue | 3"]);
        let new = table(&["b (group) | queue | 4", "a | queue | 5", "b | partitioned | 6", "b | queue | 7"]);
        let rows =
            ["a | queue | 5", "b | queue | 7", "b | partitioned | 6", "a (group) | queue | 2", "b (group) | queue | 4"];
        assert_eq!(over(&old, &new, &["a", "b"]), table(&rows));
    }

    #[test]
    fn the_table_goes_between_the_marks_and_again() {
        const MARK: &str = "<!-- faults -->";
        let old = format!("a\n{MARK}\nold\n{MARK}\nb\n");
        let new = between_marks(&old, MARK, |_| "new\n".to_owned()).expect("marks");
        assert_eq!(new, format!("a\n{MARK}\nnew\n{MARK}\nb\n"));
        assert_eq!(
            between_marks(&new, MARK, |old| old.replace("new", "newer").trim_start().to_owned()).expect("marks"),
            format!("a\n{MARK}\nnewer\n{MARK}\nb\n")
        );
        assert_eq!(between_marks("a", MARK, |_| "t".to_owned()), None);
    }
}
