//! The net under an executor that parks with work to do (glommio issue 53).
//!
//! glommio looks at its sockets, sets its preemption timer, and then runs tasks. When that timer has passed before the
//! first task runs (a busy machine took the CPU away in between), it takes itself for idle and sleeps, whatever is
//! runnable, until a timer or a socket wakes it; and who is not asleep by its own word is woken by nobody else. Seen here at
//! one start in forty on a machine with six threads a CPU. So this promises that timers stand, several deep, since each
//! such sleep uses one up before anybody can set it again. It costs a wake-up every [`SHARD_NET_EVERY`].

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use glommio::timer::Timer;

use crate::model::limits::SHARD_NET_EVERY;

/// Sleeps in a row that may use up a timer before one is set again. Each is rare, so that nine are never.
const DEPTH: usize = 8;

/// Stands for as long as it is polled; is never ready.
pub(crate) struct WakeupGuard {
    timers: [(Instant, Timer); DEPTH],
    last: Instant,
}

impl WakeupGuard {
    /// Spreads it; it must be polled at once, by the first task of the executor.
    pub fn spread() -> Self {
        let now = Instant::now();
        // Due now, so that the first poll sets them.
        let timers = std::array::from_fn(|_| (now, Timer::new(SHARD_NET_EVERY)));
        Self { timers, last: now }
    }
}

impl Future for WakeupGuard {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        let net = &mut *self;
        net.last = net.last.max(now);
        for (due, timer) in net.timers.iter_mut().filter(|(due, _)| *due <= now) {
            net.last += SHARD_NET_EVERY;
            (*due, *timer) = (net.last, Timer::new(net.last - now));
            // Only a clock that jumped finds it ready; then the others stand.
            let _ = Pin::new(timer).poll(cx);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn timers_stand_several_deep_and_are_set_again() {
        let executor = glommio::LocalExecutorBuilder::default().io_memory(64 << 10).make().expect("executor");
        executor.run(async {
            let mut net = WakeupGuard::spread();
            let until = Instant::now() + Duration::from_millis(50);
            let mut polls = 0;
            futures_lite::future::poll_fn(|cx| {
                assert!(Pin::new(&mut net).poll(cx).is_pending());
                polls += 1;
                let now = Instant::now();
                let standing = net.timers.iter().filter(|(due, _)| *due > now).count();
                assert!(standing >= DEPTH - 1, "{standing} stand after poll {polls}");
                let mut due: Vec<_> = net.timers.iter().map(|(due, _)| *due).collect();
                due.sort();
                assert!(due.windows(2).all(|pair| pair[0] < pair[1]), "no two go at once");
                if now > until { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            assert!(polls > 2, "the timers alone wake the executor: {polls}");
        });
    }
}
