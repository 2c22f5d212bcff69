//! What happened, in lines. Off for the many runs that pass: a seed that failed is run again with the trace on, which
//! gives the same schedule.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use task_engine::model::ids::Nanos;

/// Lines that are kept, unless `SIM_TRACE` says how many.
const KEPT: usize = 60;

/// The last lines of a run; clones share them, so they outlive a panic of the run.
#[derive(Clone, Debug)]
pub struct Trace {
    lines: Rc<RefCell<VecDeque<String>>>,
    kept: usize,
}

impl Trace {
    /// Keeps nothing.
    pub fn off() -> Self {
        Self { lines: Rc::default(), kept: 0 }
    }

    /// Keeps the last lines.
    pub fn on() -> Self {
        let kept = std::env::var("SIM_TRACE").ok().and_then(|lines| lines.parse().ok());
        Self { lines: Rc::default(), kept: kept.unwrap_or(KEPT) }
    }

    /// Adds a line; the text is made only when it is kept.
    pub fn line(&self, now: Nanos, text: impl FnOnce() -> String) {
        if self.kept == 0 {
            return;
        }
        let mut lines = self.lines.borrow_mut();
        if lines.len() >= self.kept.max(2) {
            // The first line is the plan.
            lines.remove(1);
        }
        let mut text = text();
        if text.len() > 300 {
            let end = (0..=300).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(end);
            text.push('…');
        }
        lines.push_back(format!("{:>12.3} ms  {text}", now.0 as f64 / 1e6));
    }

    /// What is kept.
    pub fn text(&self) -> String {
        self.lines.borrow().iter().map(|line| format!("{line}\n")).collect()
    }
}
