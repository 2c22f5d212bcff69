//! How the tasks of a shard share it with its sockets.
//!
//! glommio looks at its sockets, sets its preemption timer, and then runs tasks until none can run, or the timer has passed.
//! When it has passed before the first task runs (a busy machine took the CPU away in between), glommio takes itself for idle
//! and sleeps, whatever is runnable, until a timer or a socket wakes it (glommio issue 53). What came from another thread or over
//! a socket at that moment does keep it awake; only its own timer does not. So a shard sets that timer to
//! [`SHARD_PREEMPT_AFTER`], which no machine takes away, and this does its work: it promises that tasks which go on after
//! [`yield_now`] let the shard look at its sockets, its timers and other threads every [`SHARD_LOOK_EVERY`]. Whatever loops on a
//! shard without waiting for anything uses it.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use glommio::timer::Timer;

use crate::model::limits::SHARD_LOOK_EVERY;

/// Long enough to be in the future when it is set, and short enough to be past when the others have run.
const NEXT_LOOK: Duration = Duration::from_micros(1);

thread_local! {
    /// When a task first asked since the shard's thread last looked.
    static STRETCH: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Lets the other tasks run, and from time to time the shard look at its sockets.
pub async fn yield_now() {
    if is_look_due() { look().await } else { futures_lite::future::yield_now().await }
}

/// The same where a task needs not yield each time.
pub async fn yield_if_needed() {
    if is_look_due() { look().await } else { glommio::yield_if_needed().await }
}

/// Whether tasks have run for so long since the last look.
fn is_look_due() -> bool {
    let now = Instant::now();
    // What glommio counts here begins at zero when it is read, and grows with each look.
    let has_looked = glommio::executor().executor_stats().total_runtime() > Duration::ZERO;
    let began = STRETCH.get().filter(|_| !has_looked);
    STRETCH.set(Some(began.unwrap_or(now)));
    began.is_some_and(|began| now.saturating_duration_since(began) >= SHARD_LOOK_EVERY)
}

/// Not runnable until the executor has looked: that is where timers are seen. When all who ask wait like this, no task is left to
/// run, and it looks.
async fn look() {
    let mut ahead = NEXT_LOOK;
    loop {
        let (mut timer, mut has_waited) = (Timer::new(ahead), false);
        poll_fn(|cx| {
            let is_past = Pin::new(&mut timer).poll(cx).is_ready();
            has_waited |= !is_past;
            if is_past { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        if has_waited {
            return;
        }
        // It was past before it was set.
        ahead *= 4;
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    /// An executor that is never preempted by its timer, as a shard's is.
    fn run<T: 'static>(task: impl Future<Output = T> + 'static) -> T {
        let executor = glommio::LocalExecutorBuilder::default()
            .io_memory(64 << 10)
            .preempt_timer(crate::model::limits::SHARD_PREEMPT_AFTER)
            .make()
            .expect("executor");
        executor.run(task)
    }

    /// What never waits, and how often it ran until a timer was seen.
    async fn until_a_timer_is_seen<F: Future<Output = ()>>(busy: usize, pause: impl Fn() -> F + Copy + 'static) -> u64 {
        let is_over = Rc::new(Cell::new(false));
        let turns = Rc::new(Cell::new(0));
        let loops: Vec<_> = (0..busy)
            .map(|_| {
                let (is_over, turns) = (is_over.clone(), turns.clone());
                glommio::spawn_local(async move {
                    while !is_over.get() {
                        turns.set(turns.get() + 1);
                        assert!(turns.get() < 500_000_000, "the timer is never seen");
                        pause().await;
                    }
                })
            })
            .collect();
        glommio::timer::sleep(Duration::from_millis(5)).await;
        is_over.set(true);
        for task in loops {
            task.await;
        }
        turns.get()
    }

    #[test]
    fn tasks_that_never_wait_let_the_shard_look() {
        let turns = run(until_a_timer_is_seen(3, yield_now));
        assert!(turns > 3, "they run: {turns}");
        let turns = run(until_a_timer_is_seen(2, yield_if_needed));
        assert!(turns > 2, "they run: {turns}");
    }

    #[test]
    fn a_task_alone_that_never_waits_lets_the_shard_look() {
        assert!(run(until_a_timer_is_seen(1, yield_now)) > 1);
    }

    #[test]
    fn a_look_is_due_only_after_a_stretch_without_one() {
        run(async {
            glommio::timer::sleep(2 * SHARD_LOOK_EVERY).await;
            let began = Instant::now();
            assert!(!is_look_due(), "it looked a moment ago");
            while !is_look_due() {
                assert!(began.elapsed() < 1000 * SHARD_LOOK_EVERY);
            }
            assert!(began.elapsed() >= SHARD_LOOK_EVERY);
            assert!(is_look_due(), "until it has looked");
            look().await;
            assert!(!is_look_due());
        });
    }
}
