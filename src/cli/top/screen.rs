//! The screen: engines above, stages and gateways side by side below. Text only; pure but for the size of the terminal.

use super::sample::{Gateway, Overview, Row, StageRow};
use crate::cli::table::plain;

/// A terminal of columns and lines.
pub(super) const SIZE: (usize, usize) = (80, 24);
/// How wide the stages are, with the gap beside them.
const STAGES_WIDE: usize = 36;
/// Lines that engines get at the most, of how many there are below the first.
const ENGINES_PART: usize = 2;

/// The size of our terminal.
pub(super) fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (usize::from(size.ws_col), usize::from(size.ws_row)),
        _ => SIZE,
    }
}

/// All of it, as many lines as fit, each no longer than fits.
pub(super) fn text(overview: &Overview, (columns, lines): (usize, usize)) -> String {
    let rows = overview.rows();
    let up = rows.iter().filter(|row| row.state == "ready").count();
    let oldest = rows.iter().map(|row| row.oldest_seconds).fold(0.0, f64::max);
    let mut all = vec![
        format!("task-engine top: {up} of {} ready, oldest event {}", rows.len(), seconds(oldest)),
        String::new(),
        head(),
    ];
    let room = (lines.saturating_sub(all.len()) / ENGINES_PART).max(1);
    let is_cut = rows.len() > room;
    let shown = if is_cut { room - 1 } else { rows.len() };
    all.extend(rows.iter().take(shown).map(engine));
    if is_cut {
        all.push(format!("... and {} more", rows.len() - shown));
    }
    if rows.len() > 1 {
        all.push(engine(&sum(&rows)));
    }
    all.push(String::new());
    let below = lines.saturating_sub(all.len() + 1);
    all.extend(beside(&stages(&overview.stages()), &gateways(&overview.gateways(), below)));
    all.truncate(lines.saturating_sub(1));
    let cut = |line: String| line.chars().take(columns).collect::<String>().trim_end().to_owned() + "\n";
    all.into_iter().map(cut).collect()
}

fn head() -> String {
    format!(
        "{:<21} {:<14} {:>7} {:>8} {:>7} {:>8} {:>8}",
        "instance", "state", "event/s", "deliv/s", "fail/s", "offl/s", "oldest"
    )
}

fn engine(row: &Row) -> String {
    let rate = |at: usize| row.rates.map_or("-".to_owned(), |rates| number(rates[at]));
    // An engine that does not answer says why, where its figures would be.
    if row.rates.is_none() && row.state.len() > 14 {
        return format!("{:<21} {}", short(&row.name, 21), plain(&row.state));
    }
    format!(
        "{:<21} {:<14} {:>7} {:>8} {:>7} {:>8} {:>8}",
        short(&row.name, 21),
        short(&row.state, 14),
        rate(0),
        rate(1),
        rate(2),
        rate(3),
        seconds(row.oldest_seconds)
    )
}

fn sum(rows: &[Row]) -> Row {
    let mut rates = [0.0; 4];
    for of in rows.iter().filter_map(|row| row.rates) {
        rates.iter_mut().zip(of).for_each(|(sum, rate)| *sum += rate);
    }
    let any = rows.iter().any(|row| row.rates.is_some());
    let oldest_seconds = rows.iter().map(|row| row.oldest_seconds).fold(0.0, f64::max);
    let in_flight: f64 = rows.iter().map(|row| row.in_flight).sum();
    Row {
        name: "all".to_owned(),
        state: format!("{} in flight", number(in_flight)),
        rates: any.then_some(rates),
        in_flight,
        oldest_seconds,
    }
}

fn stages(rows: &[StageRow]) -> Vec<String> {
    let time = |time: Option<f64>| time.map_or("-".to_owned(), seconds);
    let line = |row: &StageRow| {
        format!("{:<8} {:>8} {:>8} {:>7}", row.stage, time(row.half), time(row.high), number(row.rate))
    };
    let head = format!("{:<8} {:>8} {:>8} {:>7}", "stage", "p50", "p99", "per s");
    std::iter::once(head).chain(rows.iter().map(line)).collect()
}

/// In so many lines; what does not fit is said.
fn gateways(rows: &[(String, Gateway)], lines: usize) -> Vec<String> {
    let line = |(id, gateway): &(String, Gateway)| {
        format!(
            "{:<12} {:<8} {:>7} {:>7} {:>6}",
            short(id, 12),
            short(&state(gateway), 8),
            number(gateway.backlog),
            seconds(gateway.oldest_seconds),
            number(gateway.delivered)
        )
    };
    let head = format!("{:<12} {:<8} {:>7} {:>7} {:>6}", "gateway", "state", "backlog", "oldest", "del/s");
    let mut all = vec![head];
    let room = lines.saturating_sub(1);
    let is_cut = rows.len() > room;
    let shown = if is_cut { room.saturating_sub(1) } else { rows.len() };
    all.extend(rows.iter().take(shown).map(line));
    if is_cut {
        all.push(format!("... and {} more", rows.len() - shown));
    }
    if rows.is_empty() {
        all.push("none is known".to_owned());
    }
    all
}

/// The state of most concern among the engines that have a stream to it.
fn state(gateway: &Gateway) -> String {
    const CONCERN: [&str; 6] = ["backoff", "opening", "draining", "unknown", "open", "idle"];
    let worst = CONCERN.iter().find(|state| gateway.states.iter().any(|has| has == *state));
    worst.map_or_else(|| gateway.states.first().cloned().unwrap_or_default(), |state| (*state).to_owned())
}

fn beside(left: &[String], right: &[String]) -> Vec<String> {
    let line = |at: usize| {
        let of = |side: &[String]| side.get(at).cloned().unwrap_or_default();
        format!("{:<STAGES_WIDE$}{}", of(left), of(right))
    };
    (0..left.len().max(right.len())).map(line).collect()
}

fn short(text: &str, most: usize) -> String {
    let text = plain(text);
    if text.chars().count() <= most {
        return text;
    }
    text.chars().take(most - 1).chain(['~']).collect()
}

/// In at most six letters, from small to large.
fn number(value: f64) -> String {
    match value {
        value if value < 0.05 => "0".to_owned(),
        value if value < 10.0 => format!("{value:.1}"),
        value if value < 100_000.0 => format!("{value:.0}"),
        value if value < 10_000_000.0 => format!("{:.0}k", value / 1e3),
        value => format!("{:.0}M", value / 1e6),
    }
}

fn seconds(value: f64) -> String {
    match value {
        value if value <= 0.0 => "0".to_owned(),
        value if value < 0.001 => format!("{:.0}us", value * 1e6),
        value if value < 0.1 => format!("{:.1}ms", value * 1e3),
        value if value < 1.0 => format!("{:.0}ms", value * 1e3),
        value if value < 100.0 => format!("{value:.1}s"),
        value => format!("{value:.0}s"),
    }
}
