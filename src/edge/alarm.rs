//! One timer for whatever is due next, kept between the polls of a task.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use glommio::timer::Timer;

/// A timer that is set for the earliest time asked for.
#[derive(Debug, Default)]
pub struct Alarm(Option<(Instant, Timer)>);

impl Alarm {
    /// Ready at `next` or before: one that is set for an earlier time stays, as setting it anew would cost more than looking
    /// once too often.
    pub fn poll(&mut self, cx: &mut Context<'_>, next: Instant) -> Poll<()> {
        if self.0.as_ref().is_none_or(|(at, _)| *at > next) {
            self.0 = Some((next, Timer::new(next.saturating_duration_since(Instant::now()))));
        }
        let Some((_, timer)) = &mut self.0 else { return Poll::Pending };
        ready!(Pin::new(timer).poll(cx));
        self.0 = None;
        Poll::Ready(())
    }
}
