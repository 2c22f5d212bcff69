//! The page of a run, and of a comparison.
//!
//! Promises one file without script and without anything from elsewhere, legible in light and in dark. Refuses markup
//! from outside: every string of a document is escaped.

use std::fmt::Display;

use harness::error::Result;
use harness::verdict::VerdictCounts;

use super::Compared;
use super::compared::{Comparison, Row, Spread};
use super::plots::{self, Curve, SERIES};
use super::tables;
use crate::numbers::{compact, compact_count, count, rate, short};
use crate::result::{Figures, Histograms, LatencyFigures, RunResult, SecondFigures};

/// A quantile and where a document has it.
type At = (f64, fn(&RunResult) -> f64);

const STYLE: &str = include_str!("page.css");
const ON_LOG: &str =
    "Milliseconds from the instant an event was meant to be sent to the instant its push was read; log scale.";

/// The page of a run.
///
/// # Errors
/// When a picture cannot be drawn.
pub fn run(result: &RunResult, histograms: &Histograms) -> Result<String> {
    let workload = &result.workload;
    let about = format!("{}, {}, {}", result.engine, result.protocol, tables::cores(result));
    let mut body = heading(&format!("{} on {}", workload.name, tables::shortened(&result.engine, 60)), &workload.about);
    body +=
        &format!("<p class=\"soft\">{}; {}; {}</p>\n", escape(&about), escape(&result.started), escape(&result.commit));
    body += &banner(&result.verdict);
    body += &tiles(&result.figures);
    let percentiles = plots::percentiles(&histograms.all)?;
    body += &card("Latency by percentile", ON_LOG, &[], percentiles);
    if !result.groups.is_empty() {
        let rows = result.groups.iter().map(|group| (group.group.as_str(), &group.latency));
        body += &latencies("<h2>Latency by kind of session</h2>\n", ["session, ms", "pushes"], rows);
    }
    if !result.classes.is_empty() {
        let table = numbers(tables::CLASSES, tables::classes(result));
        body += &format!("<div class=\"card\"><h2>Latency by class of messages</h2>\n{table}</div>\n");
    }
    let keys = [(0, "p50"), (1, "p99"), (3, "max")].map(|(colour, name)| (colour, name.to_owned()));
    let by_second = "Of the pushes that came in each second; log scale. A gap is a second without pushes.";
    body += &card("Latency over time", by_second, &keys, plots::over_time(&result.seconds)?);
    if !result.stages.is_empty() {
        let keys = [(0, "p50".to_owned()), (1, "p99".to_owned())];
        let about = "From the engine's own histograms: each stage's median and 99th percentile.";
        body += &card("Stages of the engine", about, &keys, plots::stages(&result.stages)?);
        let rows = result.stages.iter().map(|stage| (stage.stage.as_str(), &stage.latency));
        body += &latencies("", ["stage, ms", "count"], rows);
    }
    if !result.queries.is_empty() {
        let rows = result.queries.iter().map(|of| (of.statement.as_str(), &of.latency));
        body += &latencies("<h2>Statements of the database, by its own log</h2>\n", ["statement, ms", "count"], rows);
    }
    if !result.instances.is_empty() {
        let table = numbers(tables::INSTANCES, tables::instances(result));
        body += &format!("<div class=\"card\"><h2>Instances</h2>\n{table}</div>\n");
    }
    if !result.steps.is_empty() {
        let table = numbers(tables::STEPS, tables::steps(result));
        body += &format!("<div class=\"card\"><h2>Who came and went</h2>\n{table}</div>\n");
    }
    body += &verdict(&result.verdict);
    body += &facts("The run", &facts_of(result));
    body += &seconds(&result.seconds);
    Ok(page(&format!("{} on {}", workload.name, result.engine), &body))
}

/// The page of a comparison.
///
/// # Errors
/// When a picture cannot be drawn.
pub fn compared(comparison: &Comparison) -> Result<String> {
    let engines = &comparison.engines;
    let runs = || engines.iter().flat_map(|engine| &engine.runs);
    let first = runs().next();
    let name = first.map_or("nothing", |run| run.workload.name.as_str());
    let names: Vec<_> = engines.iter().map(|engine| tables::shortened(&engine.name, 40)).collect();
    let title = match &names[..] {
        [one, other] => format!("{name}: {one} and {other}"),
        names => format!("{name}: {} engines", names.len()),
    };
    let mut body = heading(&title, first.map_or("", |run| run.workload.about.as_str()));
    let bad = engines.iter().map(|engine| (engine, tables::trials_not_clean(engine)));
    for (engine, trials) in bad.filter(|(_, trials)| !trials.is_empty()) {
        let words = format!("{}: NOT CLEAN in trial {}", engine.name, trials.join(", "));
        body += &format!("<div class=\"card verdict not-clean\">{}</div>\n", escape(&words));
    }
    if first.is_some() && runs().all(|run| run.verdict.is_clean) {
        body += "<div class=\"card verdict clean\">verdict: clean in every trial</div>\n";
    }
    body += &comparison_table(comparison);
    let keys: Vec<_> = names.into_iter().enumerate().collect();
    let about = "More is better; trials of the same number ran one after the other.";
    let by_trial: Vec<_> = engines.iter().enumerate().map(|(at, engine)| by_trial(at, engine)).collect();
    body += &card("Pushes per CPU-second, by trial", about, &keys, plots::by_trial(&by_trial)?);
    let about = "Less is better; the median of the trials at p50, p90, p99 and p99.9; log scale.";
    let curves: Vec<_> = engines.iter().enumerate().map(|(at, engine)| by_percentile(at, engine)).collect();
    body += &card("Latency by percentile", about, &keys, plots::percentiles_of(&curves)?);
    body += &trials(engines);
    if let Some(run) = first {
        body += &facts("The runs", &shared_facts(run));
    }
    Ok(page(&title, &body))
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n",
        escape(title)
    )
}

/// Text that is markup to nobody.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ if letter.is_control() && letter != '\n' => escaped.push('\u{fffd}'),
            _ => escaped.push(letter),
        }
    }
    escaped
}

fn heading(title: &str, about: &str) -> String {
    format!("<h1>{}</h1>\n<p class=\"soft\">{}</p>\n", escape(title), escape(about))
}

fn banner(verdict: &VerdictCounts) -> String {
    let (class, words) = if verdict.is_clean { ("clean", "clean") } else { ("not-clean", "NOT CLEAN") };
    let told = verdict.noticed + verdict.conflated;
    let came = if told > 0 { "came, or were told of by notices" } else { "came" };
    let expected = format!("{} of {} expected pushes {came}", count(verdict.delivered + told), count(verdict.expected));
    let cases: String = verdict.cases.iter().map(|case| format!("<li>{}</li>", escape(case))).collect();
    let cases = if cases.is_empty() { cases } else { format!("<ol>{cases}</ol>") };
    format!("<div class=\"card verdict {class}\">verdict: {words}. {expected}.{cases}</div>\n")
}

fn tiles(figures: &Figures) -> String {
    let latency = &figures.latency;
    // Of no pushes there is no latency: 0 would read as a fast one.
    let ms = |ms: f64| if latency.count == 0 { "-".to_owned() } else { compact(ms) };
    let mut tiles = vec![
        ("pushes per second", compact(figures.pushes_per_second), ""),
        ("pushes per CPU-second", compact(figures.pushes_per_cpu_second), ""),
        ("latency p50", ms(latency.p50_ms), "ms"),
        ("latency p99", ms(latency.p99_ms), "ms"),
        ("latency p99.9", ms(latency.p999_ms), "ms"),
        ("latency max", ms(latency.max_ms), "ms"),
        ("peak RSS", compact(figures.peak_rss_mib), "MiB"),
    ];
    match figures.allocations_per_push {
        Some(allocations) => tiles.push(("allocations per push", short(allocations), "")),
        None => tiles.push(("pushes", compact_count(figures.pushes), "")),
    }
    let tile = |(name, value, unit)| {
        format!("<div class=\"tile\"><span>{name}</span><b>{value}</b> <small>{unit}</small></div>\n")
    };
    format!("<div class=\"tiles\">\n{}</div>\n", tiles.into_iter().map(tile).collect::<String>())
}

/// A picture with its title, what it shows and whose colours they are.
fn card(title: &str, about: &str, keys: &[(usize, String)], svg: Option<String>) -> String {
    let Some(svg) = svg else {
        return format!(
            "<div class=\"card\"><h2>{title}</h2>\n<p class=\"soft\">There is nothing to show: no push came.</p></div>\n"
        );
    };
    let key = |(colour, name): &(usize, String)| {
        // As the dots are: hollow ones when the colours begin anew.
        let style = if *colour < SERIES.len() { "background" } else { "border:3px solid;color" };
        format!("<li><i style=\"{style}:var(--s{})\"></i>{}</li>", colour % SERIES.len() + 1, escape(name))
    };
    let keys: String = keys.iter().map(key).collect();
    let keys = if keys.is_empty() { keys } else { format!("<ul class=\"keys\">{keys}</ul>\n") };
    format!(
        "<div class=\"card\"><h2>{title}</h2>\n<p class=\"soft\">{about}</p>\n{keys}<div class=\"plot\">{svg}</div></div>\n"
    )
}

/// A table of numbers; the first column is a name, every cell is escaped.
fn numbers<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    numbers_of(&head, rows.into_iter().map(Vec::from))
}

fn numbers_of(head: &[impl AsRef<str>], rows: impl Iterator<Item = Vec<String>>) -> String {
    let cell = |tag: &str, text: &str| format!("<{tag}>{}</{tag}>", escape(text));
    let head: String = head.iter().map(|text| cell("th", text.as_ref())).collect();
    let row = |row: Vec<String>| format!("<tr>{}</tr>\n", row.iter().map(|text| cell("td", text)).collect::<String>());
    let rows: String = rows.map(row).collect();
    format!("<div class=\"scroll\"><table class=\"numbers\">\n<tr>{head}</tr>\n{rows}</table></div>\n")
}

fn latencies<'a>(
    title: &str,
    [name, number]: [&str; 2],
    rows: impl Iterator<Item = (&'a str, &'a LatencyFigures)>,
) -> String {
    let rows = rows.map(|(name, latency)| {
        let ms = [latency.mean_ms, latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.p999_ms, latency.max_ms];
        let [mean, p50, p90, p99, p999, max] = ms.map(short);
        [name.to_owned(), count(latency.count), mean, p50, p90, p99, p999, max]
    });
    let table = numbers([name, number, "mean", "p50", "p90", "p99", "p99.9", "max"], rows);
    format!("<div class=\"card\">{title}{table}</div>\n")
}

fn verdict(verdict: &VerdictCounts) -> String {
    let row = |(name, number): (&str, u64)| {
        let is_wrong = number > 0 && tables::is_fault(name, verdict);
        let class = if is_wrong { " class=\"wrong\"" } else { "" };
        format!("<tr><td>{name}</td><td{class}>{}</td></tr>\n", count(number))
    };
    let rows: String = tables::verdict(verdict).into_iter().map(row).collect();
    let repeats = if verdict.may_repeat { " The workload cuts streams, so repeats are allowed." } else { "" };
    format!(
        "<div class=\"card\"><h2>What became of the pushes</h2>\n<p class=\"soft\">Each by its identity, warm-up included.\
         {repeats}</p>\n<table class=\"numbers narrow\">\n{rows}</table></div>\n"
    )
}

fn facts(title: &str, facts: &[(String, String)]) -> String {
    let row = |(name, value): &(String, String)| {
        let value = escape(value);
        let value = if name == "command" { format!("<code>{value}</code>") } else { value };
        format!("<tr><th>{}</th><td>{value}</td></tr>\n", escape(name))
    };
    let rows: String = facts.iter().map(row).collect();
    format!("<div class=\"card\"><h2>{title}</h2>\n<table class=\"facts\">\n{rows}</table></div>\n")
}

fn fact(name: &str, value: impl Display) -> (String, String) {
    (name.to_owned(), value.to_string())
}

fn facts_of(result: &RunResult) -> Vec<(String, String)> {
    let figures = &result.figures;
    let mut facts = shared_facts(result);
    facts.extend([
        fact("engine", &result.engine),
        fact("events", format!("{} in {} s", count(figures.events), short(figures.seconds))),
        fact("pushes", count(figures.pushes)),
        fact("rates", tables::rates(figures)),
        fact("publisher's lag", format!("at most {} ms (counted in the latency)", short(figures.publisher_lag_max_ms))),
        fact("engine's CPU", tables::cpu(figures)),
        fact("events per CPU-second", rate(figures.events_per_cpu_second)),
        fact("peak RSS", format!("{} MiB{}", short(figures.peak_rss_mib), tables::whose_memory(result))),
        fact("allocations per push", figures.allocations_per_push.map_or_else(|| "not counted".to_owned(), short)),
        fact("users that moved", count(figures.moves)),
        fact("mean latency", format!("{} ms", short(figures.latency.mean_ms))),
    ]);
    facts.extend(tables::lookups(result).map(|lookups| fact("lookups", lookups)));
    facts
}

/// What is the same for all trials of a comparison.
fn shared_facts(result: &RunResult) -> Vec<(String, String)> {
    let workload = &result.workload;
    let mut facts = vec![
        fact("command", &result.command),
        fact("commit", &result.commit),
        fact("began", &result.started),
        fact("machine", tables::machine(&result.machine)),
        fact("stores", &result.stores),
        fact("protocol", tables::protocol(result)),
    ];
    let versions = result.versions.iter().map(|(name, version)| format!("{name} {version}"));
    facts.push(fact("versions", versions.collect::<Vec<_>>().join(", ")));
    facts.extend([
        fact("load", tables::load(workload)),
        fact("users", count(workload.users.into())),
        fact("sessions", tables::sessions(&workload.sessions)),
        fact("gateways", workload.gateways),
        fact("misbehaving gateways", tables::misbehaving(workload)),
        fact("content", format!("{} bytes", workload.content_bytes)),
        fact("users without a route", format!("{}%", workload.offline_percent)),
        fact("gateways of a user", workload.devices),
        fact("moves", format!("{} users per second", workload.moves_per_second)),
        fact("guests", format!("{} per second join the largest session, and leave", workload.guests_per_second)),
        fact("cold", if workload.cold { "each session once, none known before" } else { "no" }),
    ]);
    facts
}

fn seconds(seconds: &[SecondFigures]) -> String {
    let rows = seconds.iter().map(|second| {
        let [p50, p99, max] = [second.p50_ms, second.p99_ms, second.max_ms]
            .map(|ms| if second.pushes == 0 { "-".to_owned() } else { short(ms) });
        [format!("{:.1}", second.at_seconds), count(second.pushes), p50, p99, max, short(second.engine_cpus)]
    });
    let table = numbers(["until, s", "pushes", "p50, ms", "p99, ms", "max, ms", "engine, CPUs"], rows);
    format!("<details class=\"card\"><summary>Each second</summary>{table}</details>\n")
}

/// One table, so that the columns of all figures are in line.
fn comparison_table(comparison: &Comparison) -> String {
    let line = |row: &Row, at: usize| {
        let words = |value: Spread| (short(value.median), format!("{} .. {}", short(value.min), short(value.max)));
        let (median, spread) = row.values[at].map_or_else(|| ("-".to_owned(), "-".to_owned()), words);
        let ratio = row.ratios[at].map_or_else(|| "-".to_owned(), |ratio| tables::ratio(&ratio));
        let name = escape(&tables::shortened(&comparison.engines[at].name, 60));
        format!("<tr><td>{name}</td><td>{median}</td><td>{spread}</td><td>{ratio}</td></tr>\n")
    };
    let figure = |row: &Row| {
        let better = if row.more_is_better { "more is better" } else { "less is better" };
        let head = format!("<b>{}</b> <span class=\"soft\">({better})</span>", escape(&row.figure));
        let lines: String = (0..comparison.engines.len()).map(|at| line(row, at)).collect();
        format!("<tr class=\"group\"><td colspan=\"4\">{head}</td></tr>\n{lines}")
    };
    let figures: String = comparison.rows.iter().map(figure).collect();
    format!(
        "<div class=\"card scroll\"><table class=\"numbers\">\n<tr><th>engine</th><th>median</th><th>min .. max</th>\
         <th>ratio to the first (min .. max)</th></tr>\n{figures}</table></div>\n"
    )
}

fn by_trial(colour: usize, engine: &Compared) -> Curve {
    let points = engine.runs.iter().enumerate();
    let points = points.map(|(at, run)| ((at + 1) as f64, run.figures.pushes_per_cpu_second)).collect();
    Curve { colour, pieces: vec![points] }
}

fn by_percentile(colour: usize, engine: &Compared) -> Curve {
    let read: [At; 4] = [
        (0.5, |run| run.figures.latency.p50_ms),
        (0.9, |run| run.figures.latency.p90_ms),
        (0.99, |run| run.figures.latency.p99_ms),
        (0.999, |run| run.figures.latency.p999_ms),
    ];
    // A trial without pushes has no latency.
    let runs = || engine.runs.iter().filter(|run| run.figures.latency.count > 0);
    let point = |(quantile, read): At| Some((quantile, Spread::of(runs().map(read))?.median));
    Curve { colour, pieces: vec![read.into_iter().filter_map(point).collect()] }
}

fn trials(engines: &[Compared]) -> String {
    let rows = engines.iter().flat_map(|engine| {
        engine.runs.iter().enumerate().map(|(at, run)| {
            let (figures, latency) = (&run.figures, &run.figures.latency);
            let verdict = if run.verdict.is_clean { "clean" } else { "NOT CLEAN" };
            [
                tables::shortened(&engine.name, 40),
                (at + 1).to_string(),
                rate(figures.pushes_per_cpu_second),
                short(latency.p50_ms),
                short(latency.p99_ms),
                short(figures.peak_rss_mib),
                verdict.to_owned(),
            ]
        })
    });
    let head = ["engine", "trial", "pushes per CPU-s", "p50, ms", "p99, ms", "peak RSS, MiB", "verdict"];
    format!("<details class=\"card\"><summary>Each trial</summary>{}</details>\n", numbers(head, rows))
}
