//! What is seen of a phase while it runs: pushes as they come, seconds, groups, the engine's CPU.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::error::{Error, Result};
use harness::verdict::{self, Verdict};
use hdrhistogram::Histogram;

use super::{Drive, Phase};
use crate::cost::Cpu;
use crate::engine::Engine;
use crate::live::{Live, Tick};
use crate::load::Published;
use crate::result::{InstanceFigures, SecondFigures, StageFigures, StepFigures};

const TICK: Duration = Duration::from_millis(250);
const POLL: Duration = Duration::from_millis(5);
/// Nothing more is expected once nothing came for so long: longer than any deadline of the engine.
const QUIET: Duration = Duration::from_secs(15);

/// What was pushed before its event ended has come by then.
const SHORTLY_QUIET: Duration = Duration::from_secs(1);

/// What the engine used and told of a phase.
pub(super) struct ByEngine {
    pub cpu: Cpu,
    pub allocations: Option<u64>,
    pub stages: Vec<StageFigures>,
    pub counters: BTreeMap<String, u64>,
    pub instances: Vec<InstanceFigures>,
    pub steps: Vec<StepFigures>,
}

/// Looks at a phase while it runs.
pub(super) struct Watch<'a> {
    drive: Drive,
    verdict: &'a Verdict,
    began: Instant,
    ticked: Instant,
    delivered: u64,
    last_came: Instant,
    delivered_at_tick: u64,
    all: Histogram<u64>,
    second: Histogram<u64>,
    second_began: f64,
    cpu_at_second: Cpu,
    cpu_at_tick: f64,
    by_second: Vec<(f64, f64, Histogram<u64>)>,
    by_group: Vec<Histogram<u64>>,
    /// With how many came while events were published.
    by_class: Vec<(Histogram<u64>, u64)>,
    figures: Vec<SecondFigures>,
    was_given_up: bool,
    /// The longest that a push took since the engine was told.
    longest: Duration,
}

impl<'a> Watch<'a> {
    /// From now on.
    pub fn new(drive: Drive, verdict: &'a Verdict, cpu: Cpu) -> Self {
        let now = Instant::now();
        // The same bounds, so that adding cannot fail; what came before this phase is not of it.
        let before = verdict.take_recent_by_group();
        let by_group: Vec<_> = before.iter().map(Histogram::new_from).collect();
        let classes = verdict.take_recent_by_class();
        let by_class = classes.iter().map(|before| (Histogram::new_from(before), 0)).collect();
        let empty = || verdict::sum(by_group.clone());
        let delivered = verdict.progress().delivered;
        Self {
            drive,
            verdict,
            began: now,
            ticked: now,
            delivered,
            last_came: now,
            delivered_at_tick: delivered,
            all: empty(),
            second: empty(),
            second_began: 0.0,
            cpu_at_second: cpu,
            cpu_at_tick: cpu.total(),
            by_second: Vec::new(),
            by_group,
            by_class,
            figures: Vec::new(),
            was_given_up: false,
            longest: Duration::ZERO,
        }
    }

    /// Looks until the publisher is done.
    ///
    /// # Errors
    /// When the engine dies.
    pub fn until(
        &mut self,
        engine: &mut Engine,
        live: &Live,
        stop: &AtomicBool,
        is_over: impl Fn() -> bool,
    ) -> Result<()> {
        while !is_over() {
            self.look(engine, live, self.drive.phase)?;
            if self.was_given_up {
                stop.store(true, Ordering::Relaxed);
            }
            std::thread::sleep(POLL);
        }
        self.take_recent()?;
        self.by_class.iter_mut().for_each(|(class, came)| *came = class.len());
        Ok(())
    }

    /// Looks until all has come, or nothing comes any longer: all `events` that were published since so many had ended have ended, too, or
    /// it is quiet for longer than anything lasts.
    ///
    /// # Errors
    /// When the engine dies.
    pub fn until_all_came(
        &mut self,
        engine: &mut Engine,
        live: &Live,
        ended_before: Option<u64>,
        events: u64,
    ) -> Result<()> {
        let mut asked_rows = engine.counters().asked_rows();
        let mut asked = Instant::now();
        loop {
            self.look(engine, live, "drain")?;
            let progress = self.verdict.progress();
            if progress.delivered >= progress.expected {
                break;
            }
            if asked.elapsed() > SHORTLY_QUIET && self.last_came.elapsed() > SHORTLY_QUIET {
                asked = Instant::now();
                let ended = engine.events_ended().zip(ended_before);
                if ended.is_some_and(|(now, before)| now >= before + events) {
                    break;
                }
            }
            if self.last_came.elapsed() > QUIET {
                // Whoever yielded gets rows, and no push comes before room was made by those.
                let before = std::mem::replace(&mut asked_rows, engine.counters().asked_rows());
                if asked_rows == before {
                    break;
                }
                self.last_came = Instant::now();
            }
            std::thread::sleep(POLL);
        }
        self.end_second(engine)?;
        engine.go_on(std::mem::take(&mut self.longest))
    }

    fn look(&mut self, engine: &mut Engine, live: &Live, phase: &'static str) -> Result<()> {
        let progress = self.verdict.progress();
        if progress.delivered > self.delivered {
            (self.delivered, self.last_came) = (progress.delivered, Instant::now());
        }
        engine.go_on(std::mem::take(&mut self.longest))?;
        if self.ticked.elapsed() < TICK {
            return Ok(());
        }
        engine.check()?;
        let recent = self.take_recent()?;
        let took = self.ticked.elapsed().as_secs_f64();
        let cpu = engine.cpu()?.total();
        let ms = |quantile| recent.value_at_quantile(quantile) as f64 / 1e6;
        live.tick(&Tick {
            phase,
            at_seconds: self.began.elapsed().as_secs_f64(),
            pushes_per_second: (progress.delivered - self.delivered_at_tick) as f64 / took,
            in_flight: progress.expected.saturating_sub(progress.delivered),
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            engine_cpus: (cpu - self.cpu_at_tick) / took,
            lost_or_wrong: self.verdict.wrong_so_far(),
        });
        (self.ticked, self.delivered_at_tick, self.cpu_at_tick) = (Instant::now(), progress.delivered, cpu);
        if self.began.elapsed().as_secs_f64() - self.second_began >= 1.0 {
            self.end_second(engine)?;
        }
        Ok(())
    }

    /// What came since the last look, which is entered under its second and its groups.
    fn take_recent(&mut self) -> Result<Histogram<u64>> {
        let differ = |cause| Error::of("histograms of one run differ", cause);
        let recent = self.verdict.take_recent_by_group();
        for (group, recent) in self.by_group.iter_mut().zip(&recent) {
            group.add(recent).map_err(differ)?;
        }
        for ((class, _), recent) in self.by_class.iter_mut().zip(&self.verdict.take_recent_by_class()) {
            class.add(recent).map_err(differ)?;
        }
        let recent = verdict::sum(recent);
        self.second.add(&recent).map_err(differ)?;
        self.longest = self.longest.max(Duration::from_nanos(recent.max()));
        Ok(recent)
    }

    fn end_second(&mut self, engine: &Engine) -> Result<()> {
        self.take_recent()?;
        let (at, cpu) = (self.began.elapsed().as_secs_f64(), engine.cpu()?);
        let length = at - self.second_began;
        let ms = |quantile| self.second.value_at_quantile(quantile) as f64 / 1e6;
        let figures = SecondFigures {
            at_seconds: at,
            pushes: self.second.len(),
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            max_ms: ms(1.0),
            engine_cpus: cpu.since(self.cpu_at_second).total() / length.max(1e-3),
        };
        self.was_given_up |= self.drive.give_up_above_ms.is_some_and(|most| figures.p99_ms > most);
        self.figures.push(figures);
        self.all.add(&self.second).map_err(|cause| Error::of("histograms of one run differ", cause))?;
        self.by_second.push((at, length, self.second.clone()));
        self.second.reset();
        (self.second_began, self.cpu_at_second) = (at, cpu);
        Ok(())
    }

    /// What it saw.
    pub fn finish(self, published: Published, by_engine: ByEngine, moves: u64) -> Phase {
        let ByEngine { cpu, allocations, stages, counters, instances, steps } = by_engine;
        Phase {
            published,
            seconds: self.last_came.duration_since(self.began).as_secs_f64(),
            all: self.all,
            by_second: self.by_second,
            by_group: self.by_group,
            by_class: self.by_class,
            figures_by_second: self.figures,
            cpu,
            allocations,
            stages,
            counters,
            instances,
            steps,
            moves,
            was_given_up: self.was_given_up,
        }
    }
}
