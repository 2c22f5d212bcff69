//! The engine's two lock-free places, with loom's and shuttle's atomics in the place of the processor's: the same source files.
//!
//! A lost wake shows as a deadlock, which both report; a torn read as an assertion that fails. loom tries every order with
//! at most [`PREEMPTIONS`] preemptions, and every value that the memory model lets a read see. shuttle tries [`SCHEDULES`] random
//! schedules from [`SEED`], in which each read sees the last write. So the work of both is the same each time.
#![allow(clippy::duplicate_mod, reason = "the same source file is made of the atomics of each")]

#[path = "../../../src/telemetry/metrics/seqlock.rs"]
pub mod seqlock;
pub mod under_loom;
pub mod under_shuttle;

/// Preemptions of one order. Almost all faults of two threads show with two (loom's own advice).
pub const PREEMPTIONS: usize = 3;
/// Schedules of one model.
pub const SCHEDULES: usize = 20_000;
/// What all schedules follow from.
pub const SEED: u64 = 12;

/// Tries all orders of what `threads` starts.
pub fn every_order(threads: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(threads);
}

/// Tries random schedules of what `threads` starts.
pub fn random_schedules(threads: impl Fn() + Sync + Send + 'static) {
    shuttle::check_random_with_seed(threads, SEED, SCHEDULES);
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
    use crate::under_loom::wake::Wake;
    use crate::{random_schedules, under_shuttle};

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
    /// loom cannot try two senders: it does not know that a store comes behind the read-modify-write that read the store before
    /// it. So it lets the second sender read the first one's late `swap(false)`, which is older than the pump's last
    /// `store(true)` in the order of that atomic, and reports a deadlock that C++ and the processor exclude. shuttle tries two.
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

    /// As many senders as that put two facts each, and a pump that takes facts until it has all: in a turn it takes what is
    /// there; when nothing was, it sleeps as `shard::pump` does.
    fn senders_and_a_pump(senders: usize, looks_again: bool) {
        use shuttle::sync::Arc;
        use shuttle::sync::atomic::{AtomicUsize, Ordering};

        const FACTS: usize = 2;
        let (wake, facts) = (Arc::new(under_shuttle::wake::Wake::default()), Arc::new(AtomicUsize::new(0)));
        let sender = |_| {
            let (wake, facts) = (Arc::clone(&wake), Arc::clone(&facts));
            shuttle::thread::spawn(move || {
                for _ in 0..FACTS {
                    facts.fetch_add(1, Ordering::Relaxed);
                    wake.wake();
                }
            })
        };
        let senders = (0..senders).map(sender).collect::<Vec<_>>();
        shuttle::future::block_on(async {
            let mut left = senders.len() * FACTS;
            while left > 0 {
                let taken = facts.swap(0, Ordering::Relaxed);
                left -= taken;
                if taken > 0 {
                    continue;
                }
                let mut has_slept = false;
                poll_fn(|cx| {
                    if std::mem::replace(&mut has_slept, true) {
                        return Poll::Ready(());
                    }
                    wake.falling_asleep(cx.waker());
                    let is_idle = !looks_again || facts.load(Ordering::Relaxed) == 0;
                    if is_idle { Poll::Pending } else { Poll::Ready(()) }
                })
                .await;
                wake.awake();
            }
        });
        senders.into_iter().for_each(|sender| sender.join().expect("the sender ends"));
    }

    #[test]
    fn facts_of_two_senders_wake_the_pump_in_each_schedule() {
        random_schedules(|| senders_and_a_pump(2, true));
    }

    #[test]
    fn facts_of_three_senders_wake_the_pump_in_each_schedule() {
        random_schedules(|| senders_and_a_pump(3, true));
    }

    /// So the model would tell.
    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_pump_that_does_not_look_again_after_it_said_that_it_sleeps_is_not_woken() {
        random_schedules(|| senders_and_a_pump(2, false));
    }
}
