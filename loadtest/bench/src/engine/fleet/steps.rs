//! Instances that come and go during a run, by a list such as `5s leave 2, 8s join 2, 10s kill 1`.
//!
//! Promises that nothing here waits: who was told to end is looked after while the load goes on. Of each step the longest
//! wait of a push until the next step (or the end) is kept.

use std::time::{Duration, Instant};

use harness::error::{Error, Result};
use rustix::process::Signal;

use super::Fleet;
use crate::engine::DEADLINE;
use crate::result::StepFigures;

/// What happens to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// SIGTERM.
    Leave,
    /// It is started.
    Join,
    /// SIGKILL.
    Kill,
}

impl Change {
    const WORDS: [(&str, Self); 3] = [("leave", Self::Leave), ("join", Self::Join), ("kill", Self::Kill)];
}

/// One entry of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Since the measured load began.
    pub at: Duration,
    /// What.
    pub change: Change,
    /// Which, from 0.
    pub instance: usize,
}

/// How far the list is.
#[derive(Default)]
pub struct Steps {
    began: Option<Instant>,
    planned: Vec<Step>,
    done: Vec<StepFigures>,
    /// Who was told to end, when, and by which step.
    ending: Vec<(usize, Instant, usize)>,
}

/// Reads a list; instances are named by their numbers, from 1.
///
/// # Errors
/// Which entry cannot be read, names an instance that is not there, or cannot happen where it stands.
pub fn parse(list: &str, instances: usize) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for entry in list.split(',').map(str::trim) {
        let wrong = |why: &str| {
            Error::new(format!("--during `{entry}`: {why}; entries are like `5s leave 2`, `8s join 2`, `10s kill 1`"))
        };
        let words: Vec<&str> = entry.split_whitespace().collect();
        let [at, change, number] = words[..] else { return Err(wrong("not three words")) };
        let seconds =
            at.strip_suffix('s').and_then(|at| at.parse::<f64>().ok()).filter(|at| (0.0..86_400.0).contains(at));
        let at =
            Duration::from_secs_f64(seconds.ok_or_else(|| wrong("the time is not a number of seconds such as 5s"))?);
        let known = Change::WORDS.iter().find(|(word, _)| *word == change);
        let (_, change) = *known.ok_or_else(|| wrong("the word is none of leave, join, kill"))?;
        let number = number.parse::<usize>().ok().filter(|number| (1..=instances).contains(number));
        let number =
            number.ok_or_else(|| wrong(&format!("instances have the numbers 1 to {instances} (--instances)")))?;
        steps.push(Step { at, change, instance: number - 1 });
    }
    check(&steps, instances)?;
    Ok(steps)
}

/// Who leaves must run, who joins must not, one is left, and time goes on.
fn check(steps: &[Step], instances: usize) -> Result<()> {
    let mut runs = vec![true; instances];
    for (at, step) in steps.iter().enumerate() {
        let number = step.instance + 1;
        if at > 0 && step.at < steps[at - 1].at {
            return Err(Error::new("--during: each entry must be at or after the one before it"));
        }
        let is_join = step.change == Change::Join;
        if is_join == runs[step.instance] {
            let why = if is_join { "runs already" } else { "does not run any more" };
            return Err(Error::new(format!("--during: instance {number} {why} when its entry comes")));
        }
        runs[step.instance] = is_join;
        if !runs.contains(&true) {
            return Err(Error::new("--during: no instance would be left; let one join before the last one leaves"));
        }
    }
    Ok(())
}

impl Steps {
    /// From now on.
    pub fn begin(steps: &[Step]) -> Self {
        Self { began: Some(Instant::now()), planned: steps.iter().rev().copied().collect(), ..Self::default() }
    }

    /// Who was told to end and may have.
    pub(super) fn ending(&self) -> Vec<usize> {
        self.ending.iter().map(|(at, ..)| *at).collect()
    }

    /// What came of those that were done.
    pub fn figures(&self) -> Vec<StepFigures> {
        self.done.clone()
    }

    pub(super) fn go_on(&mut self, fleet: &mut Fleet, longest: Duration) -> Result<()> {
        let Some(began) = self.began else { return Ok(()) };
        if let Some(last) = self.done.last_mut() {
            last.longest_wait_ms = last.longest_wait_ms.max(longest.as_secs_f64() * 1e3);
        }
        self.look_after(fleet)?;
        while let Some(step) = self.planned.pop_if(|step| step.at <= began.elapsed()) {
            if step.change == Change::Join && self.ending().contains(&step.instance) {
                // It has not ended yet: it joins when it has.
                self.planned.push(step);
                return Ok(());
            }
            self.take(fleet, step, began)?;
        }
        Ok(())
    }

    fn take(&mut self, fleet: &mut Fleet, step: Step, began: Instant) -> Result<()> {
        let at = step.instance;
        match step.change {
            Change::Leave => {
                fleet.note(at);
                fleet.process(at)?.send(Signal::TERM)?;
                self.ending.push((at, Instant::now(), self.done.len()));
            }
            Change::Join => fleet.spawn(at)?,
            Change::Kill => fleet.kill(at),
        }
        let word = Change::WORDS.iter().find(|(_, change)| *change == step.change);
        self.done.push(StepFigures {
            change: word.map_or_else(String::new, |(word, _)| (*word).to_owned()),
            instance: fleet.name(at).to_owned(),
            at_seconds: began.elapsed().as_secs_f64(),
            ..StepFigures::default()
        });
        Ok(())
    }

    fn look_after(&mut self, fleet: &mut Fleet) -> Result<()> {
        for (at, since, step) in std::mem::take(&mut self.ending) {
            match fleet.process(at)?.ended()? {
                Some(stopped) => {
                    fleet.say_unclean(at, &stopped);
                    fleet.seats[at].process = None;
                    self.done[step].ended_after_seconds = Some(since.elapsed().as_secs_f64());
                }
                None if since.elapsed() < DEADLINE => self.ending.push((at, since, step)),
                None => {
                    let words = format!("{} did not end within {} s of SIGTERM", fleet.name(at), DEADLINE.as_secs());
                    let last = fleet.process(at)?.last_lines(15);
                    return Err(Error::of(&words, last));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read() {
        let steps = parse("5s leave 2, 8s join 2,10.5s kill 1", 2).expect("a list");
        let step = |seconds, change, instance| Step { at: Duration::from_secs_f64(seconds), change, instance };
        let want = [step(5.0, Change::Leave, 1), step(8.0, Change::Join, 1), step(10.5, Change::Kill, 0)];
        assert_eq!(steps, want);
    }

    #[test]
    fn what_cannot_happen_is_refused_in_words() {
        for (list, words) in [
            ("", "not three words"),
            ("5 leave 2", "seconds such as 5s"),
            ("-5s leave 2", "seconds such as 5s"),
            ("5s go 2", "none of leave, join, kill"),
            ("5s leave 4", "1 to 3"),
            ("5s leave 0", "1 to 3"),
            ("5s leave 2, 4s join 2", "at or after"),
            ("5s join 2", "instance 2 runs already"),
            ("5s leave 2, 6s kill 2", "does not run any more"),
            ("1s kill 1, 2s kill 2, 3s leave 3", "no instance would be left"),
        ] {
            let error = parse(list, 3).expect_err(list).to_string();
            assert!(error.contains(words), "{list}: {error}");
        }
    }
}
