//! Promise: the rules for Prometheus and the board for Grafana name only numbers that an engine has, and the board shows all
//! of them; each alert fires in one world, is silent in another, and stands in the runbook. That the page of a running
//! engine has exactly the numbers of the table is `metrics_are_one_table`'s.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use task_engine::telemetry::metrics::{Kind, Metric, table};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The names that a query may ask for.
fn samples(metric: &Metric) -> Vec<String> {
    match metric.kind {
        Kind::Histogram => ["bucket", "sum", "count"].map(|end| format!("{}_{end}", metric.sample())).to_vec(),
        _ => vec![metric.sample()],
    }
}

/// All words of a text that are names of this engine's numbers.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    words.filter(|word| word.starts_with("task_engine_")).collect()
}

fn alerts() -> Vec<String> {
    let rules = text("deploy/prometheus/alerts.yml");
    rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ").map(str::to_owned)).collect()
}

#[test]
fn rules_and_board_name_only_numbers_that_there_are_and_the_board_shows_all() {
    let known: BTreeSet<String> = table::all().flat_map(samples).collect();
    let board = text("deploy/grafana/task-engine.json");
    for name in ["deploy/prometheus/recording.yml", "deploy/prometheus/alerts.yml", "deploy/grafana/task-engine.json"] {
        let text = text(name);
        let unknown: Vec<_> = named(&text).into_iter().filter(|word| !known.contains(*word)).collect();
        assert!(unknown.is_empty(), "{name} asks for numbers that no engine has: {unknown:?}");
    }
    let shown = named(&board);
    let is_shown = |metric: &&Metric| samples(metric).iter().any(|name| shown.contains(name.as_str()));
    let missing: Vec<_> = table::all().filter(|metric| !is_shown(metric)).map(Metric::sample).collect();
    assert!(missing.is_empty(), "not on the board: {missing:?}");
    // What the recording rules make is asked for by the name that they make.
    let recorded = text("deploy/prometheus/recording.yml");
    for text in [board, text("deploy/prometheus/alerts.yml")] {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
        for word in words.filter(|word| word.starts_with("task_engine:")) {
            assert!(recorded.contains(&format!("- record: {word}\n")), "nothing records {word}");
        }
    }
}

#[test]
fn each_alert_fires_in_one_world_is_silent_in_another_and_stands_in_the_runbook() {
    let (worlds, alerts) = (text("deploy/prometheus/alerts.test.yml"), alerts());
    assert!(alerts.len() >= 12, "{alerts:?}");
    for alert in &alerts {
        for world in ["fires", "silent"] {
            assert!(worlds.contains(&format!("- name: {alert} {world}\n")), "{alert} has no world {world}");
        }
    }
    is_in_the_runbook(&alerts, "docs/runbook.md", ["**Means:**", "**Look at:**", "**Do:**"]);
    is_in_the_runbook(&alerts, "docs/zh-CN/runbook.md", ["**含义**：", "**看什么**：", "**怎么办**："]);
}

/// Each alert has an entry with these parts, and nothing else has one.
fn is_in_the_runbook(alerts: &[String], page: &str, parts: [&str; 3]) {
    let runbook = text(page);
    for alert in alerts {
        let entry = runbook.split("\n## ").find_map(|entry| entry.strip_prefix(&format!("{alert}\n")));
        let entry = entry.unwrap_or_else(|| panic!("{alert} is not in {page}"));
        for part in parts {
            assert!(entry.contains(part), "{alert}: {page} has no {part}");
        }
    }
    let entries = runbook.lines().filter_map(|line| line.strip_prefix("## "));
    // What else it has is about no alert.
    let of_alerts = entries.filter(|entry| entry.starts_with("TaskEngine"));
    let unknown: Vec<_> = of_alerts.filter(|entry| !alerts.iter().any(|alert| alert == entry)).collect();
    assert!(unknown.is_empty(), "{page} speaks of alerts that there are not: {unknown:?}");
}

#[test]
fn prometheus_own_tool_runs_the_worlds() {
    let output = Command::new("promtool")
        .args(["test", "rules", "alerts.test.yml"])
        .current_dir(path("deploy/prometheus"))
        .output()
        .unwrap_or_else(|error| panic!("promtool: {error}; run scripts/install-servers"));
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{said}");
}
