//! Documents of runs: a usual one, one of each unusual kind, and one in which everything is wrong.

use std::collections::BTreeMap;

use harness::verdict::VerdictCounts;
use harness::workload::{How, Load, Misbehaving, SessionGroup, Workload};
use hdrhistogram::Histogram;
use loadtest::result::{
    ClassFigures, Figures, GroupFigures, Histograms, LatencyFigures, Machine, QueryFigures, RunResult, SCHEMA,
    SecondFigures, StageFigures,
};

pub(super) const NASTY: &str = "<script>alert(\"x\")</script> & 'more' \u{1b}[31m";

/// A run with these latencies in each second: nanoseconds and how many.
pub(super) fn run_of(seconds: &[Vec<(u64, u64)>]) -> (RunResult, Histograms) {
    let mut all = Histogram::new(3).expect("three digits");
    let (mut by_second, mut figures_by_second) = (Vec::new(), Vec::new());
    for (number, values) in seconds.iter().enumerate() {
        let mut second = Histogram::new(3).expect("three digits");
        for (value, times) in values {
            second.record_n(*value, *times).expect("it resizes");
        }
        let (at, latency) = (number as f64 + 1.003, LatencyFigures::of(&second));
        figures_by_second.push(SecondFigures {
            at_seconds: at,
            pushes: second.len(),
            p50_ms: latency.p50_ms,
            p99_ms: latency.p99_ms,
            max_ms: latency.max_ms,
            engine_cpus: 0.71,
        });
        all.add(&second).expect("it resizes");
        by_second.push((at, 1.003, second));
    }
    let result = document(&all, figures_by_second);
    (result, Histograms { all, seconds: by_second })
}

pub(super) fn document(all: &Histogram<u64>, seconds: Vec<SecondFigures>) -> RunResult {
    let lasted = seconds.last().map_or(0.0, |second| second.at_seconds);
    let pushes = all.len();
    let workload = workload();
    RunResult {
        schema: SCHEMA,
        command: "target/release/loadtest run --servers --workload mixed --protocol stream".to_owned(),
        commit: "f4d96ed01a2b-dirty".to_owned(),
        started: "2026-11-25T03:10:00Z".to_owned(),
        machine: Machine {
            cpu: "AMD EPYC 7763 64-Core Processor".to_owned(),
            cpus: 2,
            memory_mib: 24_047,
            kernel: "6.8.0-1021".to_owned(),
            load_average: 0.31,
        },
        versions: [("loadtest", "0.1.0"), ("nats-server", "2.9.10"), ("mariadbd", "10.11.19-MariaDB-0+deb12u1")]
            .map(|(name, version)| (name.to_owned(), version.to_owned()))
            .into(),
        engine: "task-engine".to_owned(),
        stores: "servers".to_owned(),
        protocol: "stream".to_owned(),
        source: "core".to_owned(),
        assignment: "queue".to_owned(),
        cores: 1,
        groups: GroupFigures::of(&workload, &vec![all.clone(); workload.sessions.len()]),
        classes: ClassFigures::of(&vec![(all.clone(), pushes / 5); 4]),
        queries: vec![QueryFigures::of("members of some sessions", all)],
        workload,
        figures: Figures {
            events: pushes / 100,
            pushes,
            seconds: lasted,
            events_per_second: pushes as f64 / 100.0 / lasted.max(1e-6),
            pushes_per_second: pushes as f64 / lasted.max(1e-6),
            latency: LatencyFigures::of(all),
            publisher_lag_max_ms: 0.42,
            engine_cpu_user_seconds: 3.4,
            engine_cpu_system_seconds: 1.9,
            pushes_per_cpu_second: pushes as f64 / 5.3,
            events_per_cpu_second: pushes as f64 / 530.0,
            peak_rss_mib: 48.7,
            allocations_per_push: None,
            moves: 0,
        },
        verdict: VerdictCounts { expected: pushes, delivered: pushes, is_clean: true, ..VerdictCounts::default() },
        stages: stages(),
        counters: [("member_queries", 20), ("member_query_sessions", 800), ("mgets", 7), ("mget_keys", 3_206)]
            .map(|(name, count)| (name.to_owned(), count))
            .into(),
        instances: vec![],
        steps: vec![],
        seconds,
    }
}

pub(super) fn workload() -> Workload {
    Workload {
        name: "mixed".to_owned(),
        about: "one-to-one chats, groups of 100 and one of 5,000: a working day".to_owned(),
        users: 20_000,
        gateways: 8,
        sessions: vec![
            SessionGroup { count: 5_000, members: 2, share: 60, classes: vec![] },
            SessionGroup { count: 400, members: 101, share: 39, classes: vec![] },
            SessionGroup { count: 1, members: 5_001, share: 1, classes: vec![] },
        ],
        offline_percent: 0,
        devices: 1.0,
        moves_per_second: 0,
        guests_per_second: 0,
        cold: false,
        content_bytes: 128,
        load: Load::EventsPerSecond(400),
        warm_up_seconds: 2,
        seconds: 15,
        misbehaving: vec![],
    }
}

/// Stages with medians from 3 µs to 1.1 ms.
pub(super) fn stages() -> Vec<StageFigures> {
    let medians = [
        ("intake", 3_100),
        ("members", 42_000),
        ("routes", 310_000),
        ("outbox", 88_000),
        ("gateway", 640_000),
        ("event", 1_100_000),
    ];
    let stage = |(name, median): (&str, u64)| {
        let mut histogram = Histogram::<u64>::new(3).expect("three digits");
        for at in 1..=1_000 {
            histogram.record(median * 500 / (1_001 - at)).expect("it resizes");
        }
        StageFigures { stage: name.to_owned(), latency: LatencyFigures::of(&histogram) }
    };
    medians.into_iter().map(stage).collect()
}

/// A long-tailed second around a median of 1.2 ms, the same each time for the same number.
pub(super) fn usual_second(number: u64) -> Vec<(u64, u64)> {
    let mut state = number * 2_654_435_761 + 88_172_645_463_325_252;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let value = |u: f64, v: f64| {
        let normal = (-2.0 * u.max(1e-12).ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        let tail = if u < 0.002 { 6.0 } else { 1.0 };
        (1.2e6 * (normal * 0.35).exp() * tail) as u64
    };
    (0..20_000).map(|_| (value(random(), random()), 1)).collect()
}

pub(super) fn usual_run() -> (RunResult, Histograms) {
    run_of(&(0..15).map(usual_second).collect::<Vec<_>>())
}

/// One of each kind that a report must bear.
pub(super) fn kinds() -> Vec<(&'static str, RunResult, Histograms)> {
    let mut kinds = vec![];
    let mut add = |name, (result, histograms)| kinds.push((name, result, histograms));
    add("usual", usual_run());
    let mut nothing = run_of(&[vec![], vec![]]);
    (nothing.0.stages, nothing.0.figures.allocations_per_push) = (vec![], None);
    add("no-pushes", nothing);
    add("no-seconds", run_of(&[]));
    add("one-second", run_of(&[vec![(1_500_000, 7)]]));
    let huge =
        [vec![(900, 1), (1_200_000, 3_000_000_000)], vec![], vec![(7_200_000_000_000, 12)], vec![(u64::MAX / 4, 1)]];
    let mut huge = run_of(&huge);
    huge.0.figures.peak_rss_mib = 1e9;
    huge.0.figures.pushes_per_cpu_second = 123_456_789_012.0;
    add("huge", huge);
    add("wrong", wrong_run());
    add(
        "long",
        run_of(
            &(0..300).map(|at| vec![(400_000 + at % 97 * 10_000, 1_000), (9_000_000, at % 13 + 1)]).collect::<Vec<_>>(),
        ),
    );
    kinds
}

/// A verdict with ten cases, long names, and strings that are markup or control codes.
pub(super) fn wrong_run() -> (RunResult, Histograms) {
    let (mut result, histograms) = run_of(&[usual_second(1), usual_second(2)]);
    let case = |at| format!("lost: session-{at}, message 88172645463{at}, to user-{at} at gateway-3 {NASTY}");
    result.verdict = VerdictCounts {
        expected: 40_300,
        delivered: 40_000,
        noticed: 60,
        conflated: 41,
        notices_at_once: 1,
        last_known_ms: 12,
        lost: 300,
        repeated: 4,
        out_of_order: 1,
        misdelivered: 2,
        corrupt: 3,
        refused: 1_234,
        excused: 77,
        stored: 3_519,
        readable: 0,
        shed: 250,
        not_taken_events: 5,
        may_repeat: false,
        is_clean: false,
        cases: (0..10).map(case).collect(),
    };
    result.engine = format!("/opt/engines/{}/bin/engine --config {{config}} {NASTY}", "very-long-folder".repeat(8));
    (result.command, result.commit, result.machine.cpu) = (NASTY.to_owned(), NASTY.to_owned(), NASTY.to_owned());
    (result.workload.name, result.workload.about) = (NASTY.to_owned(), NASTY.to_owned());
    result.versions = BTreeMap::from([(NASTY.to_owned(), NASTY.to_owned())]);
    result.stages[0].stage = NASTY.to_owned();
    result.figures.allocations_per_push = Some(0.0213);
    result.workload.misbehaving =
        vec![Misbehaving { gateway: 3, how: How::Slow, ms: 200 }, Misbehaving { gateway: 5, how: How::Deaf, ms: 0 }];
    (result, histograms)
}
