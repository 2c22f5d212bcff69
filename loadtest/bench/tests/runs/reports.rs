//! What a run leaves can be read by what reads such files, and by people.
//!
//! The pages are also left in `target/tmp/reports/`, to be looked at.

mod documents;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use loadtest::report::{self, Compared, Comparison};
use loadtest::result::{GroupFigures, RunResult};
use serde_json::Value;

use documents::{NASTY, kinds, run_of, usual_run, usual_second, wrong_run};

/// Where pages are left to be looked at.
fn shown() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("reports")
}

fn text_of(files: &[PathBuf], extension: &str) -> String {
    let file = files.iter().find(|file| file.extension().is_some_and(|found| found == extension));
    fs::read_to_string(file.expect("it was written")).expect("it is there")
}

#[test]
fn all_files_are_written_into_a_folder_that_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("a/b");
    let (result, histograms) = usual_run();
    let files = report::write_files(&dir, "mixed-stream", &result, &histograms).expect("it is written");
    let names: Vec<_> =
        files.iter().map(|file| file.file_name().expect("a name").to_string_lossy().into_owned()).collect();
    assert_eq!(names, ["mixed-stream.json", "mixed-stream.hgrm", "mixed-stream.hlog", "mixed-stream.html"]);
    assert!(files.iter().all(|file| file.starts_with(&dir) && file.metadata().is_ok_and(|file| file.len() > 100)));
    report::write_files(&dir, "mixed-stream", &result, &histograms).expect("it is written over");
}

#[test]
fn what_cannot_be_written_is_said_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let in_the_way = folder.path().join("file");
    fs::write(&in_the_way, "not a folder").expect("it is written");
    let (result, histograms) = run_of(&[vec![(1, 1)]]);
    let error = report::write_files(&in_the_way.join("out"), "run", &result, &histograms).expect_err("no folder");
    assert!(error.to_string().contains("cannot make the folder") && error.to_string().contains("--out"), "{error}");
    fs::create_dir(folder.path().join("run.json")).expect("a folder in the place of a file");
    let error = report::write_files(folder.path(), "run", &result, &histograms).expect_err("a folder is there");
    assert!(error.to_string().contains("run.json") && error.to_string().contains("--out"), "{error}");
    for stem in ["", "a/b", "..", "../up"] {
        let error = report::write_files(folder.path(), stem, &result, &histograms).expect_err("not a name");
        assert!(error.to_string().contains("plain name"), "{error}");
    }
}

/// The same, but for the last bit of a number: that is all that the reader of JSON promises.
fn assert_same(place: &str, left: &Value, right: &Value) {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            assert!(left.keys().eq(right.keys()), "{place}");
            left.iter().for_each(|(key, value)| assert_same(&format!("{place}.{key}"), value, &right[key]));
        }
        (Value::Array(left), Value::Array(right)) => {
            assert_eq!(left.len(), right.len(), "{place}");
            left.iter().zip(right).for_each(|(left, right)| assert_same(place, left, right));
        }
        (Value::Number(number), Value::Number(other)) if number.is_f64() && other.is_f64() => {
            let (number, other) = (number.as_f64().expect("a number"), other.as_f64().expect("a number"));
            assert!((number - other).abs() <= number.abs() * 1e-15, "{place}: {number} {other}");
        }
        _ => assert_eq!(left, right, "{place}"),
    }
}

#[test]
fn json_is_read_back_as_it_was() {
    for (name, result, histograms) in kinds() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = report::write_files(folder.path(), name, &result, &histograms).expect("it is written");
        let read: RunResult = serde_json::from_str(&text_of(&files, "json")).expect("it is a run");
        let (read, result) = (serde_json::to_value(read), serde_json::to_value(&result));
        assert_same(name, &read.expect("JSON"), &result.expect("JSON"));
    }
}

#[test]
fn hgrm_holds_the_histograms_own_quantiles() {
    for (name, result, histograms) in kinds() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = report::write_files(folder.path(), name, &result, &histograms).expect("it is written");
        let (text, all) = (text_of(&files, "hgrm"), &histograms.all);
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("       Value     Percentile TotalCount 1/(1-Percentile)"));
        assert_eq!(lines.next(), Some(""));
        let rows: Vec<Vec<f64>> = lines
            .clone()
            .take_while(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|word| word.parse().expect("a number")).collect())
            .collect();
        for row in &rows {
            let (ms, quantile) = (row[0], row[1]);
            let expected = all.value_at_quantile(quantile) as f64 / 1e6;
            // The quantile has twelve digits: at the very end of a huge count its neighbour is as near.
            let is_near = |quantile: f64| (all.value_at_quantile(quantile) as f64 / 1e6 - ms).abs() <= ms * 1e-9 + 1e-6;
            assert!(
                is_near(quantile) || is_near((quantile + 1e-12).min(1.0)) || is_near(quantile - 1e-12),
                "{name}: {row:?} {expected}"
            );
            assert_eq!(row.len(), if quantile < 1.0 { 4 } else { 3 }, "{name}: {row:?}");
        }
        assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][2] <= pair[1][2]), "{name}");
        assert_eq!(rows.last().map_or(0.0, |row| row[2]) as u64, all.len(), "{name}");
        let foot: Vec<_> = lines.filter(|line| line.starts_with('#')).collect();
        assert!(
            foot.len() == 3 && foot[0].starts_with("#[Mean    = ") && foot[1].starts_with("#[Max     = "),
            "{foot:?}"
        );
        assert!(foot[1].ends_with(&format!("Total count    = {:12}]", all.len())), "{foot:?}");
    }
}

#[test]
fn hlog_is_read_back_interval_by_interval() {
    for (name, result, histograms) in kinds() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = report::write_files(folder.path(), name, &result, &histograms).expect("it is written");
        let text = text_of(&files, "hlog");
        let (mut intervals, mut started) = (Vec::new(), None);
        for entry in IntervalLogIterator::new(text.as_bytes()) {
            match entry.expect("an entry") {
                LogEntry::StartTime(time) => started = Some(time),
                LogEntry::BaseTime(_) => {}
                LogEntry::Interval(interval) => intervals.push(interval),
            }
        }
        let time = humantime::parse_rfc3339(&result.started).expect("a date");
        assert_eq!(started, time.duration_since(std::time::UNIX_EPOCH).ok(), "{name}");
        assert_eq!(intervals.len(), histograms.seconds.len(), "{name}");
        for (interval, (end, length, histogram)) in intervals.iter().zip(&histograms.seconds) {
            let bytes = base64::engine::general_purpose::STANDARD.decode(interval.encoded_histogram());
            let read: Histogram<u64> =
                Deserializer::new().deserialize(&mut bytes.expect("base64").as_slice()).expect("a histogram");
            assert!(read == *histogram, "{name} at {end}");
            let near = |found: Duration, meant: f64| (found.as_secs_f64() - meant).abs() < 0.002;
            assert!(near(interval.start_timestamp(), end - length) && near(interval.duration(), *length), "{name}");
        }
    }
}

/// Nothing that a browser would fetch or run; and no markup of a document's strings.
fn assert_self_contained(name: &str, page: &str) {
    let plain = page.to_lowercase();
    for word in
        ["http:", "https:", "<script", "<link", "<iframe", "<img", " src=", " href=", "url(", "@import", "javascript:"]
    {
        assert!(!plain.contains(word), "{name} has {word}");
    }
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"), "{name}");
    assert!(!page.contains("NaN") && !page.contains("inf ") && !page.contains('\u{1b}'), "{name}");
    for tag in ["svg", "table", "div", "text", "tr", "td", "p", "details"] {
        let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{name}: {tag}");
    }
}

#[test]
fn pages_stand_alone_and_escape_what_they_are_given() {
    for (name, result, histograms) in kinds() {
        let files = report::write_files(&shown(), name, &result, &histograms).expect("it is written");
        let page = text_of(&files, "html");
        assert_self_contained(name, &page);
        let is_clean = result.verdict.is_clean;
        assert_eq!(page.contains("verdict: clean"), is_clean, "{name}");
        assert_eq!(page.contains("verdict: NOT CLEAN"), !is_clean, "{name}");
        let pictures = match name {
            "no-pushes" => 0,
            "no-seconds" => 1,
            _ => 3,
        };
        assert_eq!(page.matches("<svg").count(), pictures, "{name}");
        report::print_text(&result, &histograms.all);
    }
    let (result, histograms) = wrong_run();
    let files = report::write_files(&shown(), "wrong", &result, &histograms).expect("it is written");
    let page = text_of(&files, "html");
    assert!(page.contains("20 member queries of 40.0 sessions, 7 MGETs of 458 keys"));
    assert!(page.contains("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; &#39;more&#39;"));
    assert_eq!(page.matches("<li>lost: session-").count(), 10);
}

#[test]
fn kinds_of_sessions_are_told_apart_where_there_are_several() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut result, histograms) = usual_run();
    let files = report::write_files(folder.path(), "several", &result, &histograms).expect("it is written");
    let (page, json) = (text_of(&files, "html"), text_of(&files, "json"));
    let read: RunResult = serde_json::from_str(&json).expect("it is a run");
    let names: Vec<_> = read.groups.iter().map(|group| (group.group.as_str(), group.sessions, group.members)).collect();
    assert_eq!(names, [("2 members", 5_000, 2), ("101 members", 400, 101), ("5,001 members", 1, 5_001)]);
    assert!(page.contains("Latency by kind of session") && page.contains("<td>5,001 members</td>"));
    result.workload.sessions.truncate(1);
    result.groups = GroupFigures::of(&result.workload, std::slice::from_ref(&histograms.all));
    assert!(result.groups.is_empty(), "the run's own figures are the group's");
    let files = report::write_files(folder.path(), "one", &result, &histograms).expect("it is written");
    assert!(!text_of(&files, "html").contains("Latency by kind of session"));
}

#[test]
fn classes_are_told_where_messages_say_theirs() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut result, histograms) = usual_run();
    let written = |result: &RunResult, name| {
        text_of(&report::write_files(folder.path(), name, result, &histograms).expect("it is written"), "html")
    };
    let page = written(&result, "classes");
    assert!(page.contains("Latency by class of messages") && page.contains("<td>fleeting</td>"));
    assert!(page.contains("<td>shed</td>"), "what became of the pushes");
    result.classes.clear();
    assert!(!written(&result, "none").contains("Latency by class of messages"));
}

#[test]
fn every_colour_of_a_picture_turns_with_the_theme() {
    let folder = tempfile::tempdir().expect("a folder");
    let (result, histograms) = usual_run();
    let mut pages =
        vec![text_of(&report::write_files(folder.path(), "a", &result, &histograms).expect("written"), "html")];
    pages.push(text_of(&report::write_compared(folder.path(), "b", &trials(7)).expect("written"), "html"));
    for page in pages {
        let (style, body) = page.split_once("</style>").expect("a style sheet");
        for name in ["fill", "stroke"] {
            for piece in body.split(&format!(" {name}=\"#")).skip(1) {
                let rule = format!("[{name}=\"#{}\"]", &piece[..6]);
                assert!(style.contains(&rule), "{rule} has no rule");
            }
        }
    }
}

/// So many engines with five trials each; the second is 1.5 times as good as the first.
fn trials(engines: usize) -> Vec<Compared> {
    let (run, _) = run_of(&[usual_second(3), usual_second(4)]);
    let engine = |number: usize| {
        let runs = (0..5).map(|trial| {
            let mut run = run.clone();
            let better = 1.0 + number as f64 * 0.5;
            run.figures.pushes_per_cpu_second = 200_000.0 * better * (1.0 + trial as f64 * 0.01);
            let latency = &mut run.figures.latency;
            for ms in [&mut latency.p50_ms, &mut latency.p90_ms, &mut latency.p99_ms, &mut latency.p999_ms] {
                *ms /= better;
            }
            run
        });
        let name = if number == 0 { "reference".to_owned() } else { format!("engine-{number} {NASTY}") };
        Compared { name, runs: runs.collect() }
    };
    (0..engines).map(engine).collect()
}

#[test]
fn comparisons_tell_medians_spreads_and_ratios() {
    let files = report::write_compared(&shown(), "compared", &trials(2)).expect("it is written");
    let document: Comparison = serde_json::from_str(&text_of(&files, "json")).expect("it is a comparison");
    let row = &document.rows[0];
    assert_eq!(row.figure, "pushes per CPU-second");
    let (values, ratios) = (row.values[1].expect("trials"), row.ratios[1].expect("trials"));
    assert!((values.median - 306_000.0).abs() < 1.0 && (values.min - 300_000.0).abs() < 1.0, "{values:?}");
    assert!((ratios.median - 1.5).abs() < 1e-9 && (ratios.max - ratios.min).abs() < 1e-9, "{ratios:?}");
    assert_eq!((document.engines.len(), document.engines[1].runs.len()), (2, 5));
    let page = text_of(&files, "html");
    assert_self_contained("compared", &page);
    assert!(page.contains("1.50x (1.50 .. 1.50)") && page.contains("clean in every trial"));
    assert_eq!(page.matches("<svg").count(), 2);
    report::print_compared(&trials(2));
}

#[test]
fn a_comparison_bears_what_is_missing_and_what_is_wrong() {
    let mut compared = trials(3);
    compared[1].runs.clear();
    let (mut nothing, _) = run_of(&[]);
    nothing.figures.pushes_per_cpu_second = 0.0;
    compared[2].runs = vec![nothing, wrong_run().0];
    for (name, compared) in [("compared-odd", compared), ("compared-none", vec![]), ("compared-seven", trials(7))] {
        let files = report::write_compared(&shown(), name, &compared).expect("it is written");
        let page = text_of(&files, "html");
        assert_self_contained(name, &page);
        assert_eq!(page.contains("NOT CLEAN in trial 2"), name == "compared-odd", "{name}");
        let document: Comparison = serde_json::from_str(&text_of(&files, "json")).expect("it is a comparison");
        if name == "compared-odd" {
            let row = document.rows.iter().find(|row| row.figure == "latency p50, ms").expect("a figure");
            // No trials have no figure, and a trial without pushes has no latency: not one of 0.
            assert_eq!(row.values[1], None);
            assert!(row.values[2].is_some_and(|value| value.min > 0.0), "{row:?}");
        }
        report::print_compared(&compared);
    }
}
