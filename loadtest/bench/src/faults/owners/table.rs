//! What the faults of owners cost, as a line, a table and JSON.

use std::fmt::Write as _;

use harness::error::Error;
use serde::Serialize;

use super::super::table::over;
use super::scenario::Scenario;

/// One row's outcome.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OwnersResult {
    /// The scenario.
    pub name: String,
    /// Which nats-server.
    pub server: String,
    /// Events that the broker confirmed.
    pub events: u64,
    /// Recipients that were neither pushed nor have their row, or got what was not theirs or not as published.
    pub lost: u64,
    /// Pushed again.
    pub repeated: u64,
    /// Recipients of what was unsettled at the instances that were hurt, and pushes that a stream left unanswered.
    pub may_repeat: u64,
    /// Pushed after a later message of the same session.
    pub out_of_order: u64,
    /// How many of those the row allows: recipients of what was unsettled, or none.
    pub may_reorder: u64,
    /// The longest that a push waited, from its publish, from the fault's begin on.
    pub longest_wait_seconds: f64,
    /// What the row allows.
    pub may_wait_seconds: Option<f64>,
    /// p99 of all pushes before the fault.
    pub calm_p99_ms: f64,
    /// p99 of all pushes from the fault's begin on.
    pub p99_ms: f64,
    /// Whether the promise was kept.
    pub is_good: bool,
    /// What did not come as it must.
    pub wrongs: Vec<String>,
    /// The first cases of the verdict, in words.
    pub cases: Vec<String>,
}

impl OwnersResult {
    /// Of a row that could not be played to its end: a part did not start, or an instance ended that should not.
    pub fn not_run(name: &str, server: String, error: &Error) -> Self {
        Self { name: name.to_owned(), server, wrongs: vec![error.to_string()], ..Self::default() }
    }

    /// Decides whether the promise was kept. With `p99_floor_ms` the p99 must stay below twice the calm one, or below that.
    pub fn judge(&mut self, p99_floor_ms: Option<f64>) {
        let waits = self.may_wait_seconds.is_none_or(|most| self.longest_wait_seconds <= most);
        let p99 = p99_floor_ms.is_none_or(|floor| self.p99_ms < (2.0 * self.calm_p99_ms).max(floor));
        let is_once = self.repeated <= self.may_repeat && self.out_of_order <= self.may_reorder;
        self.is_good = self.lost == 0 && is_once && waits && p99 && self.wrongs.is_empty();
    }

    fn reordered(&self) -> String {
        match self.may_reorder {
            0 => self.out_of_order.to_string(),
            most => format!("{} of at most {most}", self.out_of_order),
        }
    }

    fn cells(&self) -> [String; 11] {
        [
            self.name.clone(),
            self.server.clone(),
            self.events.to_string(),
            self.lost.to_string(),
            self.repeated.to_string(),
            self.may_repeat.to_string(),
            self.reordered(),
            format!("{:.2}", self.longest_wait_seconds),
            self.may_wait_seconds.map_or_else(|| "-".to_owned(), |most| format!("{most:.1}")),
            format!("{:.1}", self.calm_p99_ms),
            format!("{:.1}", self.p99_ms),
        ]
    }
}

const HEADS: [&str; 11] = [
    "fault",
    "nats-server",
    "events",
    "lost",
    "repeated",
    "may repeat",
    "out of order",
    "longest wait, s",
    "at most, s",
    "p99 calm, ms",
    "p99, ms",
];

/// One line while it runs.
pub fn line(result: &OwnersResult) -> String {
    let figures = HEADS.iter().zip(result.cells()).skip(2).map(|(head, cell)| format!("{head} {cell}"));
    let promise = if result.is_good { "kept" } else { "NOT KEPT" };
    let mut line = format!("{promise}: {}", figures.collect::<Vec<_>>().join("; "));
    result.wrongs.iter().chain(&result.cases).for_each(|words| line += &format!("\n    {words}"));
    line
}

/// The whole table, in Markdown.
pub fn text(results: &[OwnersResult]) -> String {
    let mut text = format!("| {} | promise |\n|---|---|{}---|\n", HEADS.join(" | "), "---:|".repeat(HEADS.len() - 2));
    for result in results {
        let promise = if result.is_good { "kept" } else { "**not kept**" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {} | {promise} |", result.cells().join(" | "));
    }
    text
}

/// The same with the rows of an older table that were not run again: the older server first.
pub fn text_over(old: &str, results: &[OwnersResult]) -> String {
    let names: Vec<_> = Scenario::ALL.iter().map(|scenario| scenario.name).collect();
    over(old, &text(results), &names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(repeated: u64, longest: f64, p99_ms: f64) -> OwnersResult {
        OwnersResult {
            repeated,
            may_repeat: 3,
            longest_wait_seconds: longest,
            may_wait_seconds: Some(0.5),
            calm_p99_ms: 4.0,
            p99_ms,
            ..OwnersResult::default()
        }
    }

    #[test]
    fn a_row_is_good_only_within_what_it_allows() {
        for (repeated, longest, p99_ms, is_good) in
            [(3, 0.5, 7.9, true), (4, 0.5, 7.9, false), (3, 0.51, 7.9, false), (3, 0.5, 8.0, false)]
        {
            let mut result = result(repeated, longest, p99_ms);
            result.judge(Some(5.0));
            assert_eq!(result.is_good, is_good, "{result:?}");
        }
        let mut wrong = OwnersResult { wrongs: vec!["it".to_owned()], ..result(0, 0.0, 0.0) };
        wrong.judge(None);
        let mut lost = OwnersResult { lost: 1, ..result(0, 0.0, 0.0) };
        lost.judge(None);
        assert!(!wrong.is_good && !lost.is_good);
        for (out_of_order, may_reorder, is_good) in [(1, 0, false), (2, 2, true), (3, 2, false)] {
            let mut result = OwnersResult { out_of_order, may_reorder, ..result(0, 0.0, 0.0) };
            result.judge(None);
            assert_eq!(result.is_good, is_good, "{result:?}");
        }
    }

    #[test]
    fn rows_that_were_not_run_stay_and_those_that_were_are_new() {
        let row = |name: &str, server: &str, events| OwnersResult {
            name: name.to_owned(),
            server: server.to_owned(),
            events,
            ..OwnersResult::default()
        };
        let old = text(&[row("kill", "installed", 1), row("stop", "installed", 2), row("gone", "installed", 3)]);
        let new = text_over(&old, &[row("kill", "current", 4), row("kill", "installed", 5)]);
        let rows: Vec<_> =
            new.lines().skip(2).map(|row| row.split(" | ").take(3).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(rows, ["| stop installed 2", "| kill installed 5", "| kill current 4"]);
    }

    #[test]
    fn the_row_has_as_many_cells_as_the_head() {
        let text = text(&[result(1, 0.25, 3.0)]);
        let cells: Vec<usize> = text.lines().map(|line| line.matches('|').count()).collect();
        assert_eq!(cells, [13, 13, 13], "{text}");
        assert!(text.ends_with("| 0.25 | 0.5 | 4.0 | 3.0 | **not kept** |\n"), "{text}");
    }
}
