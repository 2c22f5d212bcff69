//! Several addresses of one server tried side by side, as RFC 8305 has it: a dead one costs a moment, not its timeout.
//!
//! Promises that the next address is tried when one has failed or has not answered for a moment, that the first that
//! answers wins and the others are dropped, that a bounded number is under way, and that the address which worked last is
//! the first one next time. Refuses to know what is tried.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use glommio::timer::Timer;

/// An address that has not answered for this long is not waited for alone any more.
const PATIENCE: Duration = Duration::from_millis(250);
/// Attempts under way at once; one more, and the oldest is given up.
const AT_ONCE: usize = 16;
/// Addresses that worked, remembered by one shard; only those of servers that have several.
const WORKED_KEPT: usize = 256;

thread_local! {
    /// The newest first.
    static WORKED: RefCell<VecDeque<SocketAddr>> = const { RefCell::new(VecDeque::new()) };
}

/// How long an address is waited for alone when so many others follow and all are to be tried within `limit`.
pub(super) fn patience(others: usize, limit: Duration) -> Duration {
    PATIENCE.min(limit / (others as u32 + 1))
}

/// Where the address that worked last stands among these, so that it is tried first.
pub(super) fn that_worked(addresses: impl Iterator<Item = SocketAddr> + Clone) -> Option<usize> {
    let place_of = |known: &SocketAddr| addresses.clone().position(|address| address == *known);
    WORKED.with_borrow(|worked| worked.iter().find_map(place_of))
}

/// This address of several worked.
pub(super) fn worked(address: SocketAddr) {
    WORKED.with_borrow_mut(|worked| {
        worked.retain(|known| *known != address);
        worked.truncate(WORKED_KEPT - 1);
        worked.push_front(address);
    });
}

/// What may be tried next.
pub(super) enum Next<F> {
    /// This; the one after it not before so long.
    Try(F, Duration),
    /// It is not known yet.
    Wait,
    /// Nothing more.
    End,
}

/// The first attempt that succeeds; none when all have failed. `next` is asked for one more whenever one may begin.
pub(super) async fn first<T, F>(mut next: impl FnMut(&mut Context<'_>) -> Next<F>) -> Option<T>
where
    F: Future<Output = Option<T>>,
{
    let mut running: VecDeque<Pin<Box<F>>> = VecDeque::new();
    let mut pause: Option<Timer> = None;
    poll_fn(move |cx| {
        loop {
            let mut has_failed = running.is_empty();
            let mut at = 0;
            while let Some(attempt) = running.get_mut(at) {
                match attempt.as_mut().poll(cx) {
                    Poll::Ready(Some(done)) => return Poll::Ready(Some(done)),
                    Poll::Ready(None) => {
                        running.remove(at);
                        has_failed = true;
                    }
                    Poll::Pending => at += 1,
                }
            }
            let is_paused = !has_failed && pause.as_mut().is_some_and(|pause| Pin::new(pause).poll(cx).is_pending());
            if is_paused {
                return Poll::Pending;
            }
            pause = None;
            match next(cx) {
                Next::Try(attempt, patience) => {
                    if running.len() == AT_ONCE {
                        running.pop_front();
                    }
                    running.push_back(Box::pin(attempt));
                    pause = Some(Timer::new(patience));
                }
                Next::End if running.is_empty() => return Poll::Ready(None),
                Next::Wait | Next::End => return Poll::Pending,
            }
        }
    })
    .await
}
