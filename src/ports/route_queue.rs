//! The shard's counter for routes: the pump puts asks in, whoever serves routes on this shard takes them, answers them
//! and says what changed.
//!
//! Promises that asks are taken in the order they were put in, that a put wakes the server, and that facts reach the
//! pump in the order the server said them, so that an answer and a later change are never swapped. Refuses to leave
//! its shard: everything here is one thread's. The asks that wait are bounded by the core, which has at most
//! [`MGETS_IN_FLIGHT`](crate::model::limits::MGETS_IN_FLIGHT) of them unanswered.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::model::ids::ShardId;
use crate::model::names::{NameList, RouteList};
use crate::ports::mailbox::LocalFacts;
use crate::ports::{Health, LookupError};
use crate::push::facts::{AskNo, Input};

/// One lookup: the routes of these users, in this order.
#[derive(Debug, PartialEq, Eq)]
pub struct RouteAsk {
    /// Its number, for the answer.
    pub ask: AskNo,
    /// Whose routes; at most [`MGET_KEYS`](crate::model::limits::MGET_KEYS).
    pub users: NameList,
}

/// Both ends of the counter; a clone is the same counter.
#[derive(Clone)]
pub struct RouteQueue(Rc<Counter>);

struct Counter {
    shard: ShardId,
    facts: LocalFacts,
    asks: RefCell<VecDeque<RouteAsk>>,
    server: RefCell<Option<Waker>>,
    health: RefCell<Health>,
    has_news: Cell<bool>,
    tracking: Cell<bool>,
}

impl fmt::Debug for RouteQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counter { shard, asks, health, tracking, .. } = &*self.0;
        let asks = asks.borrow().len();
        f.debug_struct("RoutesPort")
            .field("shard", shard)
            .field("asks", &asks)
            .field("health", &health.borrow())
            .field("tracking", &tracking.get())
            .finish()
    }
}

impl RouteQueue {
    /// The counter of a shard whose pump reads `facts`. Until the server says otherwise it waits and tracks nothing.
    pub fn new(shard: ShardId, facts: LocalFacts) -> Self {
        Self(Rc::new(Counter {
            shard,
            facts,
            asks: RefCell::default(),
            server: RefCell::default(),
            health: RefCell::new(Health::Waiting("routes: not started yet".to_owned())),
            has_news: Cell::new(true),
            tracking: Cell::new(false),
        }))
    }

    /// The shard this counter is on.
    pub fn shard(&self) -> ShardId {
        self.0.shard
    }

    /// The pump asks.
    pub fn put(&self, ask: RouteAsk) {
        self.0.asks.borrow_mut().push_back(ask);
        if let Some(server) = self.0.server.borrow_mut().take() {
            server.wake();
        }
    }

    /// What the server last said of itself.
    pub fn health(&self) -> Health {
        self.0.health.borrow().clone()
    }

    /// Whether each change of a route that was answered is told. False while the server is away, and for good when the
    /// store cannot tell: then an answer is only good for the events that asked for it.
    pub fn is_tracking(&self) -> bool {
        self.0.tracking.get()
    }

    /// The next ask; waits for one. May be dropped at any time without losing an ask.
    pub async fn next(&self) -> RouteAsk {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next ask, if there is one.
    pub fn try_next(&self) -> Option<RouteAsk> {
        self.0.asks.borrow_mut().pop_front()
    }

    /// The next ask, or a wake when one comes. One task at a time can wait.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<RouteAsk> {
        match self.try_next() {
            Some(ask) => Poll::Ready(ask),
            None => {
                *self.0.server.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Answers an ask: one route for each of its users, in their order. Each ask is answered exactly once.
    pub fn answer(&self, ask: AskNo, answer: Result<RouteList, LookupError>) {
        self.0.facts.push(Input::Routes { ask, answer });
    }

    /// The route of this user may have changed.
    pub fn changed(&self, username: &str) {
        self.0.facts.push(Input::RouteChanged(username.into()));
    }

    /// Any route may have changed unseen. To be said whenever a change may have been missed.
    pub fn unknown(&self) {
        self.0.facts.push(Input::RoutesUnknown);
    }

    /// How the server is, for `/readyz`.
    pub fn report(&self, health: Health) {
        *self.0.health.borrow_mut() = health;
        self.0.has_news.set(true);
        self.0.facts.nudge();
    }

    /// Whether the server said how it is since this was last asked.
    pub fn take_news(&self) -> bool {
        self.0.has_news.replace(false)
    }

    /// Whether changes are told from now on.
    pub fn set_tracking(&self, tracking: bool) {
        if self.0.tracking.replace(tracking) != tracking {
            self.0.facts.push(Input::RoutesTracked(tracking));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn ask(number: AskNo) -> RouteAsk {
        RouteAsk { ask: number, users: ["ann"].into_iter().collect() }
    }

    #[test]
    fn a_put_wakes_the_server_once_and_asks_keep_their_order() {
        let port = RouteQueue::new(ShardId(3), LocalFacts::default());
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let mut cx = Context::from_waker(&waker);
        assert_eq!(port.poll_next(&mut cx), Poll::Pending);
        port.clone().put(ask(1));
        port.put(ask(2));
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        assert_eq!(port.poll_next(&mut cx), Poll::Ready(ask(1)));
        assert_eq!(port.try_next(), Some(ask(2)));
        assert_eq!(port.try_next(), None);
    }

    #[test]
    fn facts_reach_the_pump_in_the_order_they_were_said() {
        let facts = LocalFacts::default();
        let port = RouteQueue::new(ShardId(0), facts.clone());
        port.changed("ann");
        port.answer(7, Ok(RouteList::new()));
        port.unknown();
        let mut seen = Vec::new();
        facts.take_all(&mut seen);
        assert!(
            matches!(&seen[..], [Input::RouteChanged(user), Input::Routes { ask: 7, answer: Ok(_) }, Input::RoutesUnknown]
                if &**user == "ann"),
            "{seen:?}"
        );
    }

    #[test]
    fn it_waits_and_does_not_track_until_the_server_says_so() {
        let port = RouteQueue::new(ShardId(0), LocalFacts::default());
        assert!(matches!(port.health(), Health::Waiting(_)) && !port.is_tracking());
        port.report(Health::Ready);
        port.set_tracking(true);
        assert!(port.health() == Health::Ready && port.is_tracking());
    }
}
