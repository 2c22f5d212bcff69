//! Who holds a place at the admin port, and who gives it up for a newcomer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;

/// A client younger than this in what it does is given the time to do it, as long as another can go.
const GRACE: Duration = Duration::from_secs(1);

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// Its request is not answered, most likely since it is not whole.
    Asking,
    /// Its answer is on its way.
    Answering,
    /// It had its answer.
    Nothing,
}

/// One connection's place.
#[derive(Debug)]
pub(super) struct Place(Mutex<State>);

#[derive(Debug)]
struct State {
    doing: Doing,
    since: Instant,
    is_given_away: bool,
    is_left: bool,
    /// Its task, which may wait for its client only.
    task: Option<Waker>,
}

impl Place {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it does now.
    pub(super) fn doing(&self) -> Doing {
        self.state().doing
    }

    /// It does something else from now on.
    pub(super) fn begin(&self, doing: Doing, now: Instant) {
        let mut state = self.state();
        (state.doing, state.since) = (doing, now);
    }

    /// Whether it is to end at once; else the task is woken when it is.
    pub(super) fn poll_given_away(&self, context: &Context<'_>) -> bool {
        let mut state = self.state();
        if !state.is_given_away && !state.task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
            state.task = Some(context.waker().clone());
        }
        state.is_given_away
    }

    /// The connection is gone.
    pub(super) fn leave(&self) {
        self.state().is_left = true;
    }

    fn give_away(&self) {
        let mut state = self.state();
        state.is_given_away = true;
        if let Some(task) = state.task.take() {
            task.wake();
        }
    }

    /// How little is lost with it; of those that are alike, the one with the earlier time.
    fn use_of(&self, now: Instant) -> (u8, Instant) {
        let state = self.state();
        let is_old = now.saturating_duration_since(state.since) >= GRACE;
        let rank = match (state.doing, is_old) {
            (Doing::Asking, true) => 0,
            (Doing::Nothing, true) => 1,
            (Doing::Answering, true) => 2,
            (Doing::Nothing, false) => 3,
            (Doing::Asking, false) => 4,
            (Doing::Answering, false) => 5,
        };
        (rank, state.since)
    }
}

#[derive(Debug)]
pub(super) struct Places {
    taken: Vec<Arc<Place>>,
    max: usize,
}

impl Places {
    pub(super) fn new(max: usize) -> Self {
        Self { taken: Vec::with_capacity(max), max }
    }

    /// Sees to a free place; whether somebody was told to go for it: first those whose request is not whole after [`GRACE`],
    /// then those that had their answer, then those that are slow to take it; of each the oldest.
    pub(super) fn make_room(&mut self, now: Instant) -> bool {
        self.taken.retain(|place| !place.state().is_left);
        if self.taken.len() < self.max {
            return false;
        }
        let least = (0..self.taken.len()).min_by_key(|at| self.taken[*at].use_of(now));
        least.inspect(|at| self.taken.remove(*at).give_away()).is_some()
    }

    /// Takes a free place, for a client that is about to ask.
    pub(super) fn take(&mut self, now: Instant) -> Arc<Place> {
        let state = State { doing: Doing::Asking, since: now, is_given_away: false, is_left: false, task: None };
        let place = Arc::new(Place(Mutex::new(state)));
        self.taken.push(Arc::clone(&place));
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_of_least_use_goes_first() {
        let (start, mut places) = (Instant::now(), Places::new(4));
        let at = |seconds| start + Duration::from_secs(seconds);
        let [idle, slow, asking, reading] = [0, 1, 2, 3].map(|seconds| places.take(at(seconds)));
        idle.begin(Doing::Nothing, at(1));
        reading.begin(Doing::Answering, at(3));
        let mut goes = |place: &Arc<Place>, now| {
            assert!(!place.state().is_given_away && places.make_room(now) && place.state().is_given_away);
            assert!(!places.make_room(now), "there is a place");
            places.take(now)
        };
        let newcomer = goes(&slow, at(5));
        goes(&asking, at(5));
        let third = goes(&idle, at(5));
        goes(&reading, at(5));
        third.begin(Doing::Nothing, at(5));
        goes(&third, at(5));
        goes(&newcomer, at(5));
    }
}
