//! The engine's two lock-free places, with loom's atomics in the place of the processor's: the same source files.
//!
//! A lost wake shows as a deadlock, which loom reports; a torn read as an assertion that fails. loom tries every order with
//! at most [`PREEMPTIONS`] preemptions, so the work is the same each time.

#[path = "../../../src/telemetry/metrics/seqlock.rs"]
pub mod seqlock;
#[path = "../../../src/ports/mailbox/wake.rs"]
pub mod wake;
pub mod waker;

/// Preemptions of one order. Almost all faults of two threads show with two (loom's own advice).
pub const PREEMPTIONS: usize = 3;

/// Tries all orders of what `threads` starts.
pub fn every_order(threads: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(threads);
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::thread;

    use crate::every_order;
    use crate::seqlock::SeqLock;
    use crate::wake::Wake;

    #[test]
    fn a_read_is_one_publication_whole_and_never_older_than_the_last_read() {
        every_order(|| {
            let lock = Arc::new(SeqLock::<2>::new());
            let writer = {
                let lock = Arc::clone(&lock);
                thread::spawn(move || (1..=2).for_each(|number| lock.write(&[number; 2])))
            };
            let mut last = 0;
            for _ in 0..2 {
                let [first, second] = lock.read();
                assert_eq!(first, second, "torn");
                assert!(first >= last, "back in time");
                last = first;
            }
            writer.join().expect("the writer ends");
            assert_eq!(lock.read(), [2, 2], "what was published last");
        });
    }

    /// One sender, one fact, and a pump that sleeps until it is there. The pump's thread may also wake by itself once.
    ///
    /// Two senders cannot be tried: loom does not know that a store comes behind the read-modify-write that read the store before
    /// it. So it lets the second sender read the first one's late `swap(false)`, which is older than the pump's last
    /// `store(true)` in the order of that atomic, and reports a deadlock that C++ and the processor exclude.
    #[test]
    fn a_fact_that_comes_while_the_pump_falls_asleep_wakes_it() {
        every_order(|| {
            let (wake, facts) = (Arc::new(Wake::default()), Arc::new(AtomicUsize::new(0)));
            let sender = {
                let (wake, facts) = (Arc::clone(&wake), Arc::clone(&facts));
                thread::spawn(move || {
                    facts.fetch_add(1, Ordering::Relaxed);
                    wake.wake();
                })
            };
            let seen = loom::future::block_on(poll_fn(|cx| {
                let is_there = || facts.load(Ordering::Relaxed) == 1;
                wake.awake();
                if is_there() {
                    return Poll::Ready(true);
                }
                wake.falling_asleep(cx.waker());
                if is_there() { Poll::Ready(true) } else { Poll::Pending }
            }));
            assert!(seen);
            sender.join().expect("the sender ends");
        });
    }
}
