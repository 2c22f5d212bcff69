//! What is seen while a run goes on: a bar and one line of figures in a terminal, else a line every two seconds.
//!
//! Promises that what is not a terminal gets no control codes, and that nothing here can fail or hold up a run. Refuses
//! stdout: figures go to stderr, so that a table can be piped.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::numbers::{count, rate, short};

/// Between two lines where there is no terminal.
const EACH: Duration = Duration::from_secs(2);
/// The bar counts in tenths of a second.
const TENTHS: f64 = 10.0;

/// The figures of a moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tick {
    /// What is going on: `warm-up`, `measured`, `drain`, `search`.
    pub phase: &'static str,
    /// Seconds since the phase began; a phase's `drain` counts on.
    pub at_seconds: f64,
    /// Pushes that came, per second.
    pub pushes_per_second: f64,
    /// Pushes under way.
    pub in_flight: u64,
    /// The median latency since the last tick.
    pub p50_ms: f64,
    /// The 99th percentile since the last tick.
    pub p99_ms: f64,
    /// The engine's CPU since the last tick, as a share of one CPU.
    pub engine_cpus: f64,
    /// Pushes lost or wrong so far.
    pub lost_or_wrong: u64,
}

/// Shows ticks.
pub struct Live {
    /// None where there is no terminal.
    bar: Option<ProgressBar>,
    total_seconds: f64,
    state: Mutex<State>,
}

struct State {
    began: Instant,
    pace: Pace,
    place: Place,
}

/// When the next line is due.
#[derive(Default)]
struct Pace {
    last: Option<Duration>,
}

/// How far the run is, over all its phases.
#[derive(Default)]
struct Place {
    before: f64,
    at: f64,
    last_tick: f64,
}

impl Live {
    /// For a run with so many seconds of load.
    pub fn new(total_seconds: f64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(total_seconds));
        Self {
            // A terminal that can draw nothing (TERM=dumb) gets lines.
            bar: bar.filter(|bar| !bar.is_hidden()),
            total_seconds,
            state: Mutex::new(State { began: Instant::now(), pace: Pace::default(), place: Place::default() }),
        }
    }

    /// Shows these figures, when it is time to.
    pub fn tick(&self, tick: &Tick) {
        let mut state = self.state();
        let at = state.place.of(tick).min(self.total_seconds);
        match &self.bar {
            Some(bar) => {
                bar.set_position((at * TENTHS) as u64);
                bar.set_prefix(format!("{at:.0} of {:.0} s", self.total_seconds));
                bar.set_message(format!("{} {}", tick.phase, figures(tick)));
            }
            None => {
                let now = state.began.elapsed();
                if state.pace.is_due(now) {
                    say(&line(tick));
                }
            }
        }
    }

    /// Says something once: above the bar, or as a line.
    pub fn note(&self, words: &str) {
        match &self.bar {
            Some(bar) => bar.println(words),
            None => say(words),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Live {
    /// A run that fails must not leave half a bar before its error.
    fn drop(&mut self) {
        self.finish();
    }
}

impl Pace {
    fn is_due(&mut self, now: Duration) -> bool {
        let is_due = self.last.is_none_or(|last| now.saturating_sub(last) >= EACH);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}

impl Place {
    /// Seconds of load so far. Draining and searching are no load of the plan, so the bar waits for them.
    fn of(&mut self, tick: &Tick) -> f64 {
        if tick.at_seconds < self.last_tick {
            (self.before, self.at) = (self.before + self.at, 0.0);
        }
        self.last_tick = tick.at_seconds;
        if tick.phase != "drain" && tick.phase != "search" {
            self.at = tick.at_seconds;
        }
        self.before + self.at
    }
}

fn bar(total_seconds: f64) -> ProgressBar {
    let bar = ProgressBar::new((total_seconds * TENTHS).ceil().max(1.0) as u64);
    // The template is a constant; were it wrong, the plain bar would do.
    if let Ok(style) = ProgressStyle::with_template("[{bar:40}] {prefix}\n{wide_msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

fn line(tick: &Tick) -> String {
    format!("{:<8} {:>5.1} s  {}", tick.phase, tick.at_seconds, figures(tick))
}

/// Short, and the most important first: a terminal of 80 columns cuts what is longer.
fn figures(tick: &Tick) -> String {
    format!(
        "{} wrong  {} pushes/s  {} in flight  p50 {}  p99 {} ms  {:.2} CPU",
        count(tick.lost_or_wrong),
        rate(tick.pushes_per_second),
        count(tick.in_flight),
        short(tick.p50_ms),
        short(tick.p99_ms),
        tick.engine_cpus,
    )
}

/// A stderr that is closed is no reason to end a run, which `eprintln!` would.
fn say(words: &str) {
    let _ = writeln!(std::io::stderr(), "{}", words.replace(|letter| char::is_control(letter) && letter != '\n', " "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_every_figure_and_no_control_codes() {
        let line = line(&Tick {
            phase: "measured",
            at_seconds: 3.25,
            pushes_per_second: 40_123.4,
            in_flight: 99,
            p50_ms: 1.214,
            p99_ms: 12.5,
            engine_cpus: 0.87,
            lost_or_wrong: 3,
        });
        for figure in
            ["measured", "3.2 s", "40,123 pushes/s", "99 in flight", "p50 1.21", "p99 12.5 ms", "0.87 CPU", "3 wrong"]
        {
            assert!(line.contains(figure), "{figure} is not in {line}");
        }
        assert!(!line.contains(char::is_control), "{line:?}");
    }

    #[test]
    fn lines_come_at_once_and_then_every_two_seconds() {
        let mut pace = Pace::default();
        let due = (0..20).filter(|tick| pace.is_due(Duration::from_millis(250 * tick)));
        assert_eq!(due.collect::<Vec<_>>(), [0, 8, 16]);
    }

    #[test]
    fn the_bar_goes_on_over_phases_and_waits_for_drains() {
        let mut place = Place::default();
        let mut at = |phase, at_seconds| place.of(&Tick { phase, at_seconds, ..Tick::default() });
        assert_eq!(at("warm-up", 1.0), 1.0);
        assert_eq!(at("warm-up", 2.0), 2.0);
        assert_eq!(at("drain", 2.5), 2.0);
        assert_eq!(at("search", 0.5), 2.0);
        assert_eq!(at("drain", 4.5), 2.0);
        assert_eq!(at("measured", 0.25), 2.25);
        assert_eq!(at("measured", 10.0), 12.0);
    }

    #[test]
    fn showing_never_fails() {
        let live = Live::new(0.0);
        live.note("starting");
        live.tick(&Tick::default());
        live.tick(&Tick { phase: "drain", at_seconds: f64::MAX, ..Tick::default() });
        live.finish();
        live.note("after the end");
    }
}
