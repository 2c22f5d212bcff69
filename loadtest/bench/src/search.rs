//! `--rate max`: the highest rate whose p99 stays under a bound, found by doubling and then halving the gap.
//!
//! Promises to show each step. Refuses to call a rate good that lost anything, was not kept by the publisher, or left
//! more than a second's work undone.

use harness::error::{Error, Result};
use harness::workload::Load;

use crate::live::Live;
use crate::trial::{Drive, Phase, Trial};

/// The gap that is small enough: a tenth.
const CLOSE_ENOUGH: f64 = 1.1;
/// Where a search starts when the workload has no rate.
const FIRST_RATE: u32 = 1_000;
const STEPS_MAX: u32 = 30;
/// A step is given up when one second's p99 is so many times the bound.
const HOPELESS: f64 = 10.0;

/// No rate at all is good then; what was lost is in the verdict at the end.
const LOST: &str = "something was lost or wrong";

/// How a rate is searched for.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Search {
    /// With --rate max: the p99 that must be kept, in milliseconds.
    #[arg(long, default_value_t = 10.0, value_name = "MS")]
    pub slo_p99: f64,
    /// With --rate max: how long each step is.
    #[arg(long, default_value_t = 4, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=600))]
    pub step_seconds: u32,
}

/// Finds it, in events per second.
///
/// # Errors
/// When not even one event per second keeps the bound, or the engine dies.
pub fn highest_rate(trial: &mut Trial, search: &Search, load: Load, live: &Live) -> Result<u32> {
    if !search.slo_p99.is_finite() || search.slo_p99 <= 0.0 {
        return Err(Error::new("--slo-p99 must be a number of milliseconds above 0"));
    }
    let mut rate = match load {
        Load::EventsPerSecond(rate) => rate,
        Load::PushesInFlight(_) => FIRST_RATE,
    };
    let (mut good, mut bad) = (0, None);
    for step in 1..=STEPS_MAX {
        let is_kept = try_rate(trial, search, rate, step, live)?;
        (good, bad) = if is_kept { (rate, bad) } else { (good, Some(rate)) };
        match next_rate(good, bad) {
            Some(next) => rate = next,
            None => break,
        }
    }
    if good == 0 {
        return Err(Error::new(format!("no rate keeps p99 under {} ms", search.slo_p99)));
    }
    live.note(&format!("{good} events/s is the highest rate that keeps p99 under {} ms, to a tenth", search.slo_p99));
    Ok(good)
}

/// What to try after these: none when they are close enough.
fn next_rate(good: u32, bad: Option<u32>) -> Option<u32> {
    let Some(bad) = bad else { return good.checked_mul(2) };
    if f64::from(bad) <= f64::from(good) * CLOSE_ENOUGH {
        return None;
    }
    Some(good + (bad - good) / 2).filter(|next| *next > good)
}

fn try_rate(trial: &mut Trial, search: &Search, rate: u32, step: u32, live: &Live) -> Result<bool> {
    let drive = Drive {
        phase: "search",
        load: Some(Load::EventsPerSecond(rate)),
        seconds: f64::from(search.step_seconds),
        give_up_above_ms: Some(search.slo_p99 * HOPELESS),
    };
    let missing = |trial: &Trial| {
        let progress = trial.verdict().progress();
        progress.expected.saturating_sub(progress.delivered) + trial.verdict().wrong_so_far()
    };
    let before = missing(trial);
    let phase = trial.drive(drive, live)?;
    let verdict = if missing(trial) > before { Err(LOST) } else { judge(&phase, search, rate) };
    let p99 = phase.all.value_at_quantile(0.99) as f64 / 1e6;
    let words = match verdict {
        Ok(()) => "kept".to_owned(),
        Err(why) => format!("not kept: {why}"),
    };
    live.note(&format!("step {step}: {rate} events/s, p99 {p99:.2} ms: {words}"));
    Ok(verdict.is_ok())
}

fn judge(phase: &Phase, search: &Search, rate: u32) -> std::result::Result<(), &'static str> {
    let p99_ms = phase.all.value_at_quantile(0.99) as f64 / 1e6;
    let meant = f64::from(rate) * f64::from(search.step_seconds);
    if phase.was_given_up {
        Err("hopeless, ended early")
    } else if p99_ms > search.slo_p99 {
        Err("p99 is above the bound")
    } else if (phase.published.events as f64) < meant * 0.99 {
        Err("the publisher did not keep the rate")
    } else if phase.seconds > f64::from(search.step_seconds) + 1.0 {
        Err("more than a second's work was left at the end")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_good_rate_is_found_from_below_and_from_above() {
        for (limit, first) in [(777_u32, 100), (777, 5_000), (1, 1_000), (12_345, 12_345)] {
            let (mut good, mut bad, mut rate, mut steps) = (0, None, first, 0);
            loop {
                steps += 1;
                assert!(steps < STEPS_MAX, "{limit} from {first}");
                (good, bad) = if rate <= limit { (rate, bad) } else { (good, Some(rate)) };
                match next_rate(good, bad) {
                    Some(next) => rate = next,
                    None => break,
                }
            }
            assert!(good <= limit && f64::from(limit) <= f64::from(good) * CLOSE_ENOUGH + 1.0, "{limit}: {good}");
        }
    }
}
