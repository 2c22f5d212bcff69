//! What the printed table and the page both say, in the same words.
//!
//! Promises plain text: whoever writes HTML escapes it.

use harness::verdict::VerdictCounts;
use harness::workload::{How, Load, SessionGroup, Workload};

use super::Compared;
use super::compared::Spread;
use crate::numbers::{count, plural, rate, short};
use crate::result::{ClassFigures, Figures, LatencyFigures, Machine, RunResult};

/// One line on the machine.
pub fn machine(machine: &Machine) -> String {
    let cpus = plural(machine.cpus as u64, "CPU", "CPUs");
    let memory = count(machine.memory_mib);
    let load = format!("load average {:.2} at the start", machine.load_average);
    format!("{}, {cpus}, {memory} MiB, Linux {}, {load}", machine.cpu, machine.kernel)
}

/// How many shards.
pub fn cores(result: &RunResult) -> String {
    plural(result.cores.into(), "core", "cores")
}

/// By which rpc, from where, and by how many shards.
pub fn protocol(result: &RunResult) -> String {
    let source = if result.source == "jetstream" { ", through JetStream" } else { "" };
    let each = match result.instances.len() {
        0 => cores(result),
        several => format!("{} of {} each", plural(several as u64, "instance", "instances"), cores(result)),
    };
    format!("{}{source}, assignment {}, {each}", result.protocol, result.assignment)
}

/// How events are published.
pub fn load(workload: &Workload) -> String {
    let how = match workload.load {
        Load::EventsPerSecond(number) => format!("open loop, {} per second", plural(number.into(), "event", "events")),
        Load::PushesInFlight(number) => {
            format!("closed loop, fewer than {} in flight", plural(number, "push", "pushes"))
        }
    };
    format!("{how}, {} s after {} s of warm-up", workload.seconds, workload.warm_up_seconds)
}

/// Events and pushes per second.
pub fn rates(figures: &Figures) -> String {
    format!("{} events/s, {} pushes/s", rate(figures.events_per_second), rate(figures.pushes_per_second))
}

/// The engine's CPU.
pub fn cpu(figures: &Figures) -> String {
    let (user, system) = (figures.engine_cpu_user_seconds, figures.engine_cpu_system_seconds);
    let share = if figures.seconds > 0.0 { (user + system) / figures.seconds } else { 0.0 };
    format!("{} s user, {} s system ({} of one CPU)", short(user), short(system), short(share))
}

/// What the engine asked its stores; nothing when it does not tell, or asked nothing.
pub fn lookups(result: &RunResult) -> Option<String> {
    let counted = |name: &str| result.counters.get(name).copied().unwrap_or(0);
    let asked = |asks: &str, of: &str| {
        let (asks, keys) = (counted(asks), counted(of));
        (asks, keys as f64 / asks.max(1) as f64, keys as f64 / result.figures.seconds.max(1e-6))
    };
    let (queries, sessions, _) = asked("member_queries", "member_query_sessions");
    let (mgets, keys, keys_a_second) = asked("mgets", "mget_keys");
    (queries + mgets > 0).then(|| {
        format!(
            "{} of {} sessions, {} of {} keys ({} keys/s)",
            plural(queries, "member query", "member queries"),
            short(sessions),
            plural(mgets, "MGET", "MGETs"),
            short(keys),
            rate(keys_a_second),
        )
    })
}

/// Columns of [`classes`].
pub const CLASSES: [&str; 8] =
    ["class", "pushes", "under load", "p50, ms", "p90, ms", "p99, ms", "p99.9, ms", "max, ms"];

/// What came of each class, and its part of what came while events were published.
pub fn classes(result: &RunResult) -> impl Iterator<Item = [String; 8]> {
    result.classes.iter().map(|ClassFigures { class, percent_under_load, latency }| {
        let LatencyFigures { p50_ms, p90_ms, p99_ms, p999_ms, max_ms, .. } = latency;
        // Of no pushes there is no latency: 0 would read as a fast one.
        let ms = |ms: &f64| if latency.count == 0 { "-".to_owned() } else { short(*ms) };
        let [p50, p90, p99, p999, max] = [p50_ms, p90_ms, p99_ms, p999_ms, max_ms].map(ms);
        [class.clone(), count(latency.count), format!("{percent_under_load:.1} %"), p50, p90, p99, p999, max]
    })
}

/// Columns of [`instances`].
pub const INSTANCES: [&str; 8] =
    ["instance", "owned at the end", "share", "events", "pushes", "partitions that came", "CPU, s", "peak RSS, MiB"];

/// What each of several instances did.
pub fn instances(result: &RunResult) -> impl Iterator<Item = [String; 8]> {
    let all: u64 = result.instances.iter().map(|instance| instance.pushes).sum();
    result.instances.iter().map(move |instance| {
        let moves = instance.moved_in.iter().filter(|(_, moves)| **moves > 0);
        let moves: Vec<_> = moves.map(|(kind, moves)| format!("{moves} {kind}")).collect();
        [
            instance.instance.clone(),
            instance.owned_at_end.to_string(),
            format!("{:.0} %", instance.pushes as f64 * 100.0 / all.max(1) as f64),
            count(instance.events),
            count(instance.pushes),
            if moves.is_empty() { "none".to_owned() } else { moves.join(", ") },
            short(instance.cpu_seconds),
            short(instance.peak_rss_mib),
        ]
    })
}

/// Columns of [`steps`].
pub const STEPS: [&str; 5] = ["at, s", "what", "instance", "longest wait of a push, ms", "ended after, s"];

/// Who came and went, and the longest that a push waited from then until the next step or the end.
pub fn steps(result: &RunResult) -> impl Iterator<Item = [String; 5]> {
    result.steps.iter().map(|step| {
        [
            format!("{:.1}", step.at_seconds),
            step.change.clone(),
            step.instance.clone(),
            short(step.longest_wait_ms),
            step.ended_after_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.2}")),
        ]
    })
}

/// Whose memory the peak is, when it is not the engine's alone.
pub fn whose_memory(result: &RunResult) -> &'static str {
    if result.engine == "embedded" { " (this process, gateways and books included)" } else { "" }
}

/// Who talks to whom.
pub fn sessions(groups: &[SessionGroup]) -> String {
    let shares: u32 = groups.iter().map(|group| group.share).fold(0, u32::saturating_add);
    let group = |group: &SessionGroup| {
        let (sessions, members) = (plural(group.count.into(), "session", "sessions"), count(group.members.into()));
        let share = if groups.len() > 1 { format!(" ({} of {shares} events)", group.share) } else { String::new() };
        format!("{sessions} of {members} members{share}")
    };
    groups.iter().map(group).collect::<Vec<_>>().join("; ")
}

/// Which gateways misbehave, and how.
pub fn misbehaving(workload: &Workload) -> String {
    let words = workload.misbehaving.iter().map(|one| {
        let how = match one.how {
            How::Slow => format!("slow by {} ms", one.ms),
            How::Deaf => "deaf".to_owned(),
            How::Flapping => format!("flapping each {} ms", one.ms),
            How::Refusing => "refusing".to_owned(),
        };
        format!("gateway-{} {how}", one.gateway)
    });
    let words: Vec<_> = words.collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

/// The verdict's counts with their names; what was not taken are events, all else pushes.
pub fn verdict(verdict: &VerdictCounts) -> Vec<(&'static str, u64)> {
    let told = [("noticed", verdict.noticed), ("conflated", verdict.conflated)];
    let told = told.into_iter().filter(|_| verdict.notices_at_once > 0);
    let pushed = [("expected", verdict.expected), ("delivered", verdict.delivered)];
    let others = [
        ("stored", verdict.stored),
        ("readable", verdict.readable),
        ("shed", verdict.shed),
        ("lost", verdict.lost),
        ("repeated", verdict.repeated),
        ("out of order", verdict.out_of_order),
        ("misdelivered", verdict.misdelivered),
        ("corrupt", verdict.corrupt),
        ("refused", verdict.refused),
        ("excused", verdict.excused),
        ("not taken", verdict.not_taken_events),
    ];
    pushed.into_iter().chain(told).chain(others).collect()
}

/// What came of notices, where there were any.
pub fn notices(result: &RunResult) -> Option<String> {
    let (counters, verdict) = (&result.counters, &result.verdict);
    let counted = |name: &str| counters.get(name).copied().unwrap_or(0);
    (verdict.notices_at_once > 0).then(|| {
        let gateways = f64::from(result.workload.gateways.max(1));
        format!(
            "{} lists told ({} a gateway and second), {} notices replaced, {} messages in full for want of a content; at most {} of a session \
             unanswered at a gateway; the last message was known after {} ms",
            count(counted("notices")),
            rate(counted("notices") as f64 / gateways / result.figures.seconds.max(1e-6)),
            count(counted("notices_conflated")),
            count(counted("notices_without_content")),
            verdict.notices_at_once,
            count(verdict.last_known_ms),
        )
    })
}

/// Whether a count of [`verdict`] is a fault unless it is 0.
pub fn is_fault(name: &str, verdict: &VerdictCounts) -> bool {
    match name {
        "repeated" => !verdict.may_repeat,
        "lost" | "out of order" | "misdelivered" | "corrupt" => true,
        _ => false,
    }
}

/// `1.23x (1.20 .. 1.31)`.
pub fn ratio(ratio: &Spread) -> String {
    format!("{:.2}x ({:.2} .. {:.2})", ratio.median, ratio.min, ratio.max)
}

/// The numbers of the trials that are not clean, from 1.
pub fn trials_not_clean(engine: &Compared) -> Vec<String> {
    let trials = engine.runs.iter().enumerate();
    trials.filter(|(_, run)| !run.verdict.is_clean).map(|(at, _)| (at + 1).to_string()).collect()
}

/// At most so many characters; what was left out shows as `…`.
pub fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}
