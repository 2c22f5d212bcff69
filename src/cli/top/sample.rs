//! What the pages say: one sample an engine and a look, two of them make rates.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::page::{label, series};
use crate::model::outcome::RecipientOutcome;
use crate::model::stage::Stage;

/// One page.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    at: Instant,
    started: f64,
    events: f64,
    delivered: f64,
    offline: f64,
    failed: f64,
    pub in_flight: f64,
    pub oldest_seconds: f64,
    is_ready: bool,
    waits_for: Vec<String>,
    /// Of each stage: how many took at most so long, by the bound as it is written.
    stages: BTreeMap<&'static str, Vec<(f64, f64)>>,
    gateways: BTreeMap<String, Gateway>,
}

/// A gateway.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Gateway {
    pub backlog: f64,
    pub oldest_seconds: f64,
    pub delivered: f64,
    pub timed_out: f64,
    /// The state of its stream at each engine that has one.
    pub states: Vec<String>,
}

/// Whether a recipient was missed: it was there, and the push did not get to it.
fn is_missed(why: &str) -> bool {
    let none = [RecipientOutcome::Offline, RecipientOutcome::CutByStop, RecipientOutcome::GivenBack];
    none.iter().all(|end| end.label() != why)
}

impl Sample {
    /// Of a page that was asked for at this time.
    pub(super) fn of(page: &str, at: Instant) -> Self {
        let sum = |name: &str| series(page, name).map(|(_, value)| value).sum::<f64>();
        let by = |name: &str, key: &str, holds: &dyn Fn(&str) -> bool| {
            let all = series(page, name).filter(|(labels, _)| label(labels, key).is_some_and(|value| holds(&value)));
            all.map(|(_, value)| value).sum::<f64>()
        };
        let most = |name: &str| series(page, name).map(|(_, value)| value).fold(0.0, f64::max);
        let down = series(page, "dependency_up").filter(|(_, up)| *up == 0.0);
        Self {
            at,
            started: most("process_start_time_seconds"),
            events: sum("events_arrived_total"),
            delivered: by("recipients_ended_total", "end", &|end| end == RecipientOutcome::Delivered.label()),
            offline: by("recipients_unreached_total", "why", &|why| why == RecipientOutcome::Offline.label()),
            failed: by("recipients_unreached_total", "why", &is_missed),
            in_flight: sum("events_in_flight"),
            oldest_seconds: most("oldest_event_seconds"),
            is_ready: most("ready") == 1.0,
            waits_for: down.filter_map(|(labels, _)| label(labels, "dependency")).collect(),
            stages: Stage::ALL.iter().map(|stage| (stage.label(), buckets(page, stage.label()))).collect(),
            gateways: gateways(page),
        }
    }
}

fn buckets(page: &str, stage: &str) -> Vec<(f64, f64)> {
    let of_stage =
        series(page, "stage_seconds_bucket").filter(|(labels, _)| label(labels, "stage").as_deref() == Some(stage));
    let bound = |labels: &str| label(labels, "le").map(|le| le.parse().unwrap_or(f64::INFINITY));
    of_stage.filter_map(|(labels, count)| Some((bound(labels)?, count))).collect()
}

fn gateways(page: &str) -> BTreeMap<String, Gateway> {
    let mut all: BTreeMap<String, Gateway> = BTreeMap::new();
    type Field = fn(&mut Gateway) -> &mut f64;
    let numbers: [(&str, Field); 4] = [
        ("gateway_backlog_recipients", |gateway| &mut gateway.backlog),
        ("gateway_oldest_push_seconds", |gateway| &mut gateway.oldest_seconds),
        ("gateway_recipients_delivered_total", |gateway| &mut gateway.delivered),
        ("gateway_recipients_timed_out_total", |gateway| &mut gateway.timed_out),
    ];
    for (name, field) in numbers {
        for (labels, value) in series(page, name) {
            if let Some(gateway) = label(labels, "gateway") {
                *field(all.entry(gateway).or_default()) += value;
            }
        }
    }
    for (labels, is_so) in series(page, "gateway_state") {
        if let (Some(gateway), Some(state), true) = (label(labels, "gateway"), label(labels, "state"), is_so > 0.0) {
            all.entry(gateway).or_default().states.push(state);
        }
    }
    all
}

/// One engine: what was heard of it.
#[derive(Clone, Debug, Default)]
struct Engine {
    name: String,
    before: Option<Sample>,
    now: Option<Sample>,
    /// Why the latest look has no page.
    away: Option<String>,
    looks: u32,
}

/// An engine's line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub name: String,
    /// What it is at, in a word or two.
    pub state: String,
    /// Events, delivered, failed and offline recipients a second; none before two looks.
    pub rates: Option<[f64; 4]>,
    pub in_flight: f64,
    pub oldest_seconds: f64,
}

/// A stage over all engines: half and all but one of a hundred took at most so long, and how many a second there were.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct StageRow {
    pub stage: &'static str,
    pub half: Option<f64>,
    pub high: Option<f64>,
    pub rate: f64,
}

/// All engines.
#[derive(Clone, Debug)]
pub(super) struct Overview(Vec<Engine>);

impl Overview {
    pub(super) fn new(names: Vec<String>) -> Self {
        Self(names.into_iter().map(|name| Engine { name, ..Engine::default() }).collect())
    }

    /// A look at one of them.
    pub(super) fn take(&mut self, at: usize, sample: Result<Sample, String>) {
        let engine = &mut self.0[at];
        engine.looks += 1;
        match sample {
            Ok(sample) => {
                // One that was started again counts from nothing.
                engine.before = engine.now.take().filter(|before| before.started == sample.started);
                (engine.now, engine.away) = (Some(sample), None);
            }
            Err(why) => engine.away = Some(why),
        }
    }

    /// What was heard so long ago is no figure of now.
    pub(super) fn forget_silent(&mut self, silent: Duration) {
        for engine in &mut self.0 {
            if engine.now.as_ref().is_some_and(|now| now.at.elapsed() > silent + super::ONCE) {
                (engine.before, engine.now) = (None, None);
                engine.away.get_or_insert_with(|| "silent".to_owned());
            }
        }
    }

    /// Whether each was looked at.
    pub(super) fn is_heard(&self) -> bool {
        self.0.iter().all(|engine| engine.looks > 0)
    }

    /// Whether each has rates, or none can be had.
    pub(super) fn is_whole(&self) -> bool {
        self.0.iter().all(|engine| engine.away.is_some() || engine.looks > 1)
    }

    pub(super) fn is_any_up(&self) -> bool {
        self.0.iter().any(|engine| engine.now.is_some())
    }

    fn known(&self) -> impl Iterator<Item = (&Sample, Option<&Sample>)> {
        self.0.iter().filter_map(|engine| Some((engine.now.as_ref()?, engine.before.as_ref())))
    }

    pub(super) fn rows(&self) -> Vec<Row> {
        self.0.iter().map(row).collect()
    }

    /// Each stage over what ended between the last two looks.
    pub(super) fn stages(&self) -> Vec<StageRow> {
        let of = |stage: &'static str| {
            let (mut all, mut rate): (Vec<(f64, f64)>, f64) = (Vec::new(), 0.0);
            for (now, before) in self.known().filter_map(|(now, before)| Some((now, before?))) {
                let (last, first) = (&now.stages[stage], &before.stages[stage]);
                let got: Vec<_> = last.iter().zip(first).map(|((le, last), (_, first))| (*le, last - first)).collect();
                rate += got.last().map_or(0.0, |(_, all)| all / seconds(now, before));
                match all.is_empty() {
                    true => all = got,
                    false => all.iter_mut().zip(got).for_each(|(sum, (_, count))| sum.1 += count),
                }
            }
            StageRow { stage, half: quantile(&all, 0.5), high: quantile(&all, 0.99), rate }
        };
        Stage::ALL.iter().map(|stage| of(stage.label())).collect()
    }

    /// Gateways over all engines, those with the largest backlog first; `delivered` and `timed_out` a second.
    pub(super) fn gateways(&self) -> Vec<(String, Gateway)> {
        let mut all: BTreeMap<String, Gateway> = BTreeMap::new();
        for (now, before) in self.known() {
            for (id, gateway) in &now.gateways {
                let sum = all.entry(id.clone()).or_default();
                sum.backlog += gateway.backlog;
                sum.oldest_seconds = sum.oldest_seconds.max(gateway.oldest_seconds);
                sum.states.extend(gateway.states.iter().cloned());
                if let Some(before) = before {
                    let first = before.gateways.get(id).cloned().unwrap_or_default();
                    sum.delivered += (gateway.delivered - first.delivered).max(0.0) / seconds(now, before);
                    sum.timed_out += (gateway.timed_out - first.timed_out).max(0.0) / seconds(now, before);
                }
            }
        }
        // Where those of a page are told as one that have no line of their own: nothing waits for them.
        all.retain(|_, gateway| !gateway.states.is_empty() || gateway.backlog > 0.0);
        let mut all: Vec<_> = all.into_iter().collect();
        let age = |gateway: &Gateway| (gateway.backlog, gateway.oldest_seconds, gateway.timed_out);
        all.sort_by(|one, other| age(&other.1).partial_cmp(&age(&one.1)).unwrap_or(std::cmp::Ordering::Equal));
        all
    }

    /// For a script.
    pub(super) fn json(&self) -> serde_json::Value {
        let engine = |row: Row| {
            let rate = |at: usize| row.rates.map(|rates| rates[at]);
            serde_json::json!({
                "instance": row.name, "state": row.state, "events_per_second": rate(0), "delivered_per_second": rate(1),
                "failed_per_second": rate(2), "offline_per_second": rate(3), "events_in_flight": row.in_flight,
                "oldest_event_seconds": row.oldest_seconds,
            })
        };
        let stage = |row: StageRow| serde_json::json!({ "stage": row.stage, "p50_seconds": row.half, "p99_seconds": row.high, "per_second": row.rate });
        let gateway = |(id, gateway): (String, Gateway)| {
            serde_json::json!({
                "gateway": id, "states": gateway.states, "backlog": gateway.backlog, "oldest_push_seconds": gateway.oldest_seconds,
                "delivered_per_second": gateway.delivered, "timed_out_per_second": gateway.timed_out,
            })
        };
        serde_json::json!({
            "instances": self.rows().into_iter().map(engine).collect::<Vec<_>>(),
            "stages": self.stages().into_iter().map(stage).collect::<Vec<_>>(),
            "gateways": self.gateways().into_iter().map(gateway).collect::<Vec<_>>(),
        })
    }
}

fn seconds(now: &Sample, before: &Sample) -> f64 {
    now.at.saturating_duration_since(before.at).as_secs_f64().max(0.001)
}

fn row(engine: &Engine) -> Row {
    let name = engine.name.clone();
    let Some(now) = &engine.now else {
        let state = engine.away.clone().unwrap_or_else(|| "asked".to_owned());
        return Row { name, state, rates: None, in_flight: 0.0, oldest_seconds: 0.0 };
    };
    let state = match (&engine.away, now.is_ready, now.waits_for.is_empty()) {
        (Some(_), ..) => "silent".to_owned(),
        (None, true, _) => "ready".to_owned(),
        (None, false, true) => "not ready".to_owned(),
        (None, false, false) => format!("waits: {}", now.waits_for.join(", ")),
    };
    let rates = engine.before.as_ref().map(|before| {
        let rate = |of: fn(&Sample) -> f64| (of(now) - of(before)).max(0.0) / seconds(now, before);
        [rate(|one| one.events), rate(|one| one.delivered), rate(|one| one.failed), rate(|one| one.offline)]
    });
    Row { name, state, rates, in_flight: now.in_flight, oldest_seconds: now.oldest_seconds }
}

/// A quantile of what buckets got, straight between the bounds of its bucket.
fn quantile(got: &[(f64, f64)], of: f64) -> Option<f64> {
    let wanted = got.last()?.1 * of;
    if wanted <= 0.0 {
        return None;
    }
    let (mut low, mut under) = (0.0, 0.0);
    for (bound, count) in got {
        if *count >= wanted {
            let is_last = bound.is_infinite();
            return Some(if is_last { low } else { low + (bound - low) * (wanted - under) / (count - under) });
        }
        (low, under) = (*bound, *count);
    }
    Some(low)
}

#[cfg(test)]
#[path = "sample_tests.rs"]
mod tests;
