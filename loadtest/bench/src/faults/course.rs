//! One scenario: load, the fault, the end, the judgement.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::clock;
use harness::error::{Error, Result};
use harness::moves::{Mover, RouteWriter};
use harness::publisher::Subject;
use harness::rng::Rng;
use harness::servers::{InboxRow, Store};
use harness::verdict::Verdict;
use harness::world::World;

use super::FaultArgs;
use super::act;
use super::confirm::{Confirmed, Unsettled};
use super::scenario::{Act, Scenario};
use super::stage::{PARTITIONS, STREAM, Stage, TOPIC};
use super::table::FaultResult;
use crate::trial::{self, Assignment};

const DEAD_LETTERS: &str = "RESONANCE_DLQ";
/// Load before the fault, and after its end.
const BEFORE: Duration = Duration::from_secs(3);
const AFTER: Duration = Duration::from_secs(5);
/// How long the engine may take to settle what is left at the end.
const SETTLED_WITHIN: Duration = Duration::from_secs(90);
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// A push that took longer than this was held up by the fault.
const SLOW: Duration = Duration::from_millis(500);
/// It is over with that once no push was so late for this long, and is watched no longer than [`WATCHED`].
const STEADY: Duration = Duration::from_secs(3);
const WATCHED: Duration = Duration::from_secs(30);
/// What the engine counts of pushes that it sent again.
pub(super) const RESENT: [&str; 2] = ["task_engine_resent_recipients_total", "task_engine_rerouted_recipients_total"];
/// What it counts of pushes that one gateway of a recipient did not take and another one did.
const COPIES_MISSED: &str = "task_engine_recipient_copies_missed_total";
/// And of lists of users that it said, and that gateways did not know.
const LISTS: [&str; 2] = ["task_engine_groups_said_total", "task_engine_groups_unknown_total"];
/// Of 100 payloads so many are no events, in the scenario that is about them.
const POISON_PERCENT: u64 = 5;

/// What the publisher did.
#[derive(Default)]
pub(super) struct Published {
    events: u64,
    poison: u64,
    /// Recipients without a connection.
    offline: u64,
}

/// What the publisher does.
pub(super) struct Load {
    pub subject: Subject,
    pub rate: u32,
    /// Of 100 payloads so many are no events.
    pub poison_percent: u64,
    /// Each event is published twice.
    pub is_twice: bool,
}

impl Load {
    fn of(scenario: &Scenario, assignment: Assignment, rate: u32) -> Self {
        let subject = match assignment {
            Assignment::Queue => Subject::One(TOPIC.to_owned()),
            Assignment::Partitioned => Subject::Partitioned { topic: TOPIC.to_owned(), partitions: PARTITIONS },
        };
        let poison_percent = if scenario.act == Act::Poison { POISON_PERCENT } else { 0 };
        Self { subject, rate, poison_percent, is_twice: scenario.act == Act::Twice }
    }
}

/// Runs one.
///
/// # Errors
/// When a part does not start, or the broker confirms nothing for a minute.
pub(super) fn run(scenario: &Scenario, assignment: Assignment, args: &FaultArgs) -> Result<FaultResult> {
    let world = World::new(&args.way.workload(scenario.act)?);
    let verdict = Verdict::new(world.clone());
    let gateways = world.start_gateways(&verdict, args.way.protocols(), false)?;
    args.way.forget(&gateways);
    let mut stage = Stage::start(scenario, assignment, args, (&world, &verdict), gateways)?;
    let publisher = stage.publisher.clone();
    let mover = Mover::start(world.clone(), RouteWriter::Redis(stage.redis.url()))?;
    let load = Load::of(scenario, assignment, args.rate);
    let watch = || act_and_watch(&mut stage, scenario, args, &verdict);
    let (published, recovery) = publish_while(&load, (&publisher, &world, &verdict), watch)?;
    if let Some(mover) = mover {
        mover.stop()?;
    }
    let ended = Instant::now();
    let left = wait_until_settled(&publisher, STREAM);
    let settle_lag_seconds = ended.elapsed().as_secs_f64();
    let dead_letters = publisher.messages(DEAD_LETTERS).unwrap_or(0);
    let engine = stage.engine.take().ok_or_else(|| Error::new("the engine is gone"))?;
    let resent = RESENT.iter().map(|name| engine.counter(name)).sum::<Option<u64>>().unwrap_or(0);
    let copies_missed = engine.counter(COPIES_MISSED).unwrap_or(0);
    let lists = LISTS.map(|name| engine.counter(name).unwrap_or(0));
    let stopped = engine.stop()?;
    let mut result = judge(&*stage.store, &world, &verdict, &published)?;
    result.name = args.way.name(scenario.name);
    result.assignment = trial::word(&assignment);
    (result.settle_lag_seconds, result.recovery_seconds) = (settle_lag_seconds, recovery);
    result.dead_letters = dead_letters;
    result.unanswered = resent + stage.unsettled_recipients;
    if left != Unsettled::default() {
        result.cases.push(format!("{} events were never settled ({} never delivered)", left.unacked, left.pending));
    }
    if result.copies_missing > 0 {
        let missing = result.copies_missing;
        result.cases.push(format!(
            "{missing} pushes came to another gateway of their recipient only; {copies_missed} are counted"
        ));
    }
    let unproven = args.way.unproven(lists);
    if !stopped.is_clean {
        result.cases.push(format!("the engine did not end as it should: {}", stopped.last_words));
    }
    let may_reorder = scenario.may_reorder_in_queue && assignment == Assignment::Queue;
    result.is_good = left == Unsettled::default()
        && unproven.is_none()
        && stopped.is_clean
        && result.lost + result.offline_not_stored + result.misdelivered_or_corrupt == 0
        && result.copies_missing <= copies_missed
        && result.repeated <= if scenario.may_repeat { result.unanswered } else { 0 }
        && (result.out_of_order == 0 || may_reorder)
        && result.dead_letters == result.poison;
    result.cases.extend(unproven);
    Ok(result)
}

/// Publishes while something else is done: what was published, and what came of the other.
///
/// # Errors
/// When the broker confirms nothing for a minute, or the other fails.
pub(super) fn publish_while<T>(
    load: &Load,
    to: (&Confirmed, &Arc<World>, &Arc<Verdict>),
    other: impl FnOnce() -> Result<T>,
) -> Result<(Published, T)> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let publishing = scope.spawn(|| publish(load, to, &stop));
        let came = other();
        stop.store(true, Ordering::Relaxed);
        let published = publishing.join().map_err(|_| Error::new("the publisher's thread panicked"))?;
        Ok((published?, came?))
    })
}

/// Publishes until it is told to stop; each event is confirmed before the next.
///
/// # Errors
/// When the broker confirms nothing for a minute.
fn publish(
    load: &Load,
    (publisher, world, verdict): (&Confirmed, &Arc<World>, &Arc<Verdict>),
    stop: &AtomicBool,
) -> Result<Published> {
    let (period, mut rng) = (1_000_000_000 / u64::from(load.rate), Rng::new(11));
    let (mut published, mut payload, mut next) = (Published::default(), Vec::new(), clock::now());
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_nanos(next.saturating_sub(clock::now())));
        // Who was held up does not catch up: the rate is an upper bound here.
        next = (next + period).max(clock::now());
        let session = world.next_session(published.events);
        let subject = load.subject.of(&World::session_name(session));
        if load.poison_percent > 0 && rng.below(100) < load.poison_percent {
            publisher.publish(&subject, &format!("poison-{}", published.poison), b"\xff\xff no event")?;
            published.poison += 1;
        }
        verdict.next_event(session, clock::now(), &mut payload);
        publisher.publish(&subject, &format!("event-{}", published.events), &payload)?;
        if load.is_twice {
            publisher.publish(&subject, &format!("event-{}-again", published.events), &payload)?;
        }
        published.offline += u64::from(world.offline_members(session));
        published.events += 1;
    }
    Ok(published)
}

/// Does the fault in the middle of the load; gives the seconds from its end until no push was late.
fn act_and_watch(stage: &mut Stage, scenario: &Scenario, args: &FaultArgs, verdict: &Verdict) -> Result<f64> {
    std::thread::sleep(BEFORE);
    act::act(stage, scenario.act, Duration::from_secs(args.lasts.into()))?;
    let (healed, mut late_until) = (Instant::now(), Duration::ZERO);
    verdict.take_recent();
    while healed.elapsed() < AFTER.max(late_until + STEADY).min(WATCHED) {
        std::thread::sleep(SAMPLE_EVERY);
        if verdict.take_recent().max() > SLOW.as_nanos() as u64 {
            late_until = healed.elapsed();
        }
    }
    Ok(late_until.as_secs_f64())
}

/// Waits until nothing of a stream is unsettled; gives what is at the end of its patience.
pub(super) fn wait_until_settled(publisher: &Confirmed, stream: &str) -> Unsettled {
    let until = Instant::now() + SETTLED_WITHIN;
    loop {
        let left = publisher.unsettled(stream);
        match left {
            Ok(left) if left == Unsettled::default() || Instant::now() > until => return left,
            Err(_) if Instant::now() > until => return Unsettled { pending: u64::MAX, unacked: u64::MAX },
            _ => std::thread::sleep(SAMPLE_EVERY),
        }
    }
}

/// What became of each recipient.
///
/// # Errors
/// When the inbox cannot be read.
pub(super) fn judge(store: &dyn Store, world: &World, verdict: &Verdict, published: &Published) -> Result<FaultResult> {
    let rows: Vec<InboxRow> = store.connect()?.inbox()?;
    let mut offline = HashSet::new();
    for (user, session, msg_id) in &rows {
        if world.is_offline(user) {
            offline.insert((user, session, *msg_id));
        } else {
            verdict.stored(session, user, *msg_id);
        }
    }
    let mut findings = verdict.findings();
    let copies_missing = verdict.copies_missing();
    let lost = findings.lost - copies_missing;
    if lost == 0 {
        // What another gateway of theirs took.
        findings.cases.retain(|case| !case.starts_with("lost: "));
    }
    Ok(FaultResult {
        name: String::new(),
        assignment: String::new(),
        events: published.events,
        expected: findings.expected,
        lost,
        copies_missing,
        repeated: findings.repeated,
        out_of_order: findings.out_of_order,
        misdelivered_or_corrupt: findings.misdelivered + findings.corrupt,
        stored: rows.len() as u64,
        offline_not_stored: published.offline.saturating_sub(offline.len() as u64),
        dead_letters: 0,
        poison: published.poison,
        unanswered: 0,
        settle_lag_seconds: 0.0,
        recovery_seconds: 0.0,
        is_good: false,
        cases: findings.cases,
    })
}
