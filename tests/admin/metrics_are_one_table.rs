//! Promise: the page of a running engine is the table of numbers, so is METRICS.md, and Prometheus' own tool finds nothing
//! to say against it; what the core counts is on it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::pages;
use prost::Message as _;
use task_engine::Engine;
use task_engine::config::{Config, Language};
use task_engine::edge::memory::{MemoryInbox, MemoryMembers, MemoryRegistry, MemoryRoutes, MemorySource};
use task_engine::model::priority::Priority;
use task_engine::model::proto::event::PushEvent;
use task_engine::ports::{DeadLetter, DeadLetterWriter, DeadLetters, LookupError, Origin};
use task_engine::telemetry::metrics::{Format, Kind, Metric, reference, table};

const PATIENCE: Duration = Duration::from_secs(30);
/// More than may wait for one event.
const REPEATS: usize = 300;

#[test]
fn metrics_md_is_written_from_the_table() {
    for (name, language) in [("METRICS.md", Language::English), ("METRICS.zh-CN.md", Language::Chinese)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        if std::env::var_os("UPDATE_METRICS").is_some() {
            std::fs::write(&path, reference(language)).expect("the page is written");
        }
        let text = std::fs::read_to_string(path).unwrap_or_default();
        assert!(text == reference(language), "{name}: write it anew: UPDATE_METRICS=1 cargo test --test admin metrics");
    }
}

/// Takes all letters but those of one reason.
struct Choosy;

const REFUSED: &str = "no_session_id";

impl DeadLetters for Choosy {
    fn open(&self) -> Box<dyn DeadLetterWriter> {
        Box::new(Self)
    }
}

impl DeadLetterWriter for Choosy {
    fn write(&mut self, letters: &[(DeadLetter, Origin)]) -> Vec<Result<(), LookupError>> {
        let answer = |letter: &DeadLetter| match letter.reason {
            REFUSED => Err(LookupError::Rejected("of all reasons this one".to_owned())),
            _ => Ok(()),
        };
        letters.iter().map(|(letter, _)| answer(letter)).collect()
    }
}

fn event(session: &str, msg_id: i64) -> Vec<u8> {
    let event = PushEvent { msg_id, session_id: session.into(), from_username: "bob".into(), ..PushEvent::default() };
    event.encode_to_vec()
}

/// The page, as it is answered to this `Accept` header.
fn scrape(admin: SocketAddr, accept: &str) -> String {
    let accept = format!("Accept: {accept}\r\n");
    pages::request(admin, "GET", "/metrics", &accept, PATIENCE).expect("an answer").body
}

/// The sum of the series of `name` whose labels have `with` in them.
fn sum(page: &str, name: &str, with: &str) -> u64 {
    pages::series(page, name).filter(|(labels, _)| labels.contains(with)).map(|(_, value)| value as u64).sum()
}

#[test]
fn the_page_of_an_engine_is_the_table_and_shows_what_its_core_counted() {
    let mut config = Config::default();
    config.engine.cores = 2;
    config.admin.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    (config.consumer.max_retry, config.consumer.retry_interval) = (0, Duration::from_millis(10));
    config.members.empty_wait = Duration::from_secs(3);
    config.priority.types = vec![("typing".to_owned(), Priority::Fleeting)];
    let (source, publisher) = MemorySource::new();
    let members = MemoryMembers::new();
    members.set("s", ["ann"]);
    let engine = Engine::builder(config)
        .source(source)
        .members(members)
        .routes(MemoryRoutes::new())
        .registry(MemoryRegistry::new())
        .inbox(MemoryInbox::new())
        .dead_letters(Choosy)
        .start()
        .expect("the engine starts");
    let publish = |payload: Vec<u8>| publisher.publish(payload).expect("the engine takes it");
    // Nobody is in the session: the first waits, and its repeats with it.
    (0..REPEATS).for_each(|_| publish(event("nobody", 1)));
    let counted: [(&str, &str, u64); 10] = [
        ("repeats_given_back_total", "", 1),
        ("inbox_asks_total", "", 1),
        ("inbox_asked_rows_total", "", 1),
        ("dead_letter_asks_total", "", 2),
        ("dead_letters_lost_total", "", 1),
        ("warnings_total", "reason=\"undecodable\"", 1),
        ("warnings_total", "reason=\"dead_letter_lost\"", 1),
        ("events_taken_total", "", REPEATS as u64 + 1),
        ("events_ended_by_class_total", "class=\"normal\",end=\"settled\"", 1),
        ("class_event_seconds_count", "class=\"normal\"", 1),
    ];
    let until = Instant::now() + PATIENCE;
    for msg_id in 1.. {
        // Ann is nowhere, so her message is a row; a letter is refused for good while others are taken.
        publish(event("s", msg_id));
        publish(event("", msg_id));
        publish(b"\xff\xff not a message".to_vec());
        let page = scrape(engine.admin_address(), "text/plain");
        if counted.iter().all(|(name, with, least)| sum(&page, &format!("task_engine_{name}"), with) >= *least) {
            break;
        }
        assert!(Instant::now() < until, "not all of {counted:?}:\n{page}");
    }
    for (accept, format) in [("*/*", Format::Text), ("application/openmetrics-text", Format::OpenMetrics)] {
        is_the_table(&scrape(engine.admin_address(), accept), format);
    }
    let page = scrape(engine.admin_address(), "text/plain;version=0.0.4");
    engine.stop();
    promtool_has_nothing_to_say(&page);
}

/// Each row is on the page, with its kind, its text and its labels, and nothing else is.
fn is_the_table(page: &str, format: Format) {
    let name = |metric: &Metric| if format == Format::Text { metric.sample() } else { metric.family() };
    let rows: BTreeMap<String, &Metric> = table::all().map(|metric| (name(metric), metric)).collect();
    let mut shown = BTreeSet::new();
    let mut row = None;
    for line in page.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            let metric = *rows.get(name).unwrap_or_else(|| panic!("{name} has no row"));
            assert_eq!(help, metric.help());
            assert!(shown.insert(name.to_owned()), "{name} comes twice");
            row = Some(metric);
        } else if let Some((_, word)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let kind = row.expect("HELP comes first").kind;
            assert!(word == kind.word() || format == Format::Text && kind == Kind::Info && word == "gauge", "{line}");
        } else if !line.starts_with('#') {
            let metric = row.expect("HELP comes first");
            assert!(line.starts_with(&metric.sample()), "{line}");
            let labels: Vec<_> = line.split(['{', ',']).skip(1).filter_map(|label| label.split_once("=\"")).collect();
            let labels: Vec<_> = labels.iter().map(|label| label.0).filter(|label| *label != "le").collect();
            assert_eq!(labels, metric.labels, "{line}");
        }
    }
    let missing: Vec<_> = rows.keys().filter(|name| !shown.contains(*name)).collect();
    assert!(missing.is_empty(), "rows that are not on the page: {missing:?}");
}

fn promtool_has_nothing_to_say(page: &str) {
    let spawned = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = spawned.unwrap_or_else(|error| panic!("promtool: {error}; run scripts/install-servers"));
    promtool.stdin.take().expect("it is piped").write_all(page.as_bytes()).expect("promtool reads the page");
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && said.is_empty(), "promtool check metrics: {}\n{said}", output.status);
}
