//! The page of a campaign: its trials in one table.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::Line;

const HEAD: &str = "| name | trial | engine | workload | protocol | shards | fan-out | events per second | pushes per second | p50, ms | p99, ms | CPU per push, us | peak RSS, MiB | verdict |\n\
    |---|---:|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|\n";

/// In Markdown.
pub(super) fn of(campaign: &str, lines: &[Line]) -> String {
    let all = |part: fn(&Line) -> &str| lines.iter().map(part).collect::<BTreeSet<_>>();
    let join = |parts: BTreeSet<&str>| parts.into_iter().collect::<Vec<_>>().join("; ");
    let dates = all(|line| &line.date);
    let (first, last) = (dates.first().copied().unwrap_or_default(), dates.last().copied().unwrap_or_default());
    let mut text = format!(
        "# Campaign {campaign}\n\n- commit: {}\n- machine: {}\n- trials: {}, begun from {first} to {last}\n\n{HEAD}",
        join(all(|line| &line.commit)),
        join(all(|line| &line.machine)),
        lines.len(),
    );
    for line in lines {
        text += &row(line);
    }
    text
}

fn row(line: &Line) -> String {
    let mut text = String::new();
    let cpu = line.cpu_us_per_push.map_or_else(|| "-".to_owned(), |us| format!("{us:.3}"));
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "| {} | {} | {} | {} | {} | {} | {:.1} | {:.0} | {:.0} | {:.2} | {:.2} | {cpu} | {:.0} | {} |",
        line.name,
        line.trial,
        line.engine.replace('|', "\\|"),
        line.workload,
        line.protocol,
        line.cores,
        line.fan_out,
        line.events_per_second,
        line.pushes_per_second,
        line.p50_ms,
        line.p99_ms,
        line.peak_rss_mib,
        if line.is_clean { "clean" } else { "**not clean**" },
    );
    text
}
