//! What the tasks hand to each other: messages, bundles and their ends, users with their routes, gateways.
//!
//! A bundle names its users, a user the gateway of its route, and a gateway is given bundles: so all of them stand here, and
//! what acts on them stands above.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

/// Pushes that one gateway may have before it, waiting or unanswered.
const ROOM: usize = 64 * 1024;

/// Unary calls that one gateway may have open.
pub(super) const LANES: usize = 32;

/// A message, encoded once for all its recipients.
pub(super) struct Message {
    /// To check answers against.
    pub msg_id: i64,
    /// An encoded `PushMessage`.
    pub bytes: Bytes,
    /// Which of a gateway's unary lanes it takes: the same for all of a session.
    pub lane: usize,
}

/// A recipient that its gateway does not know.
pub(super) struct Refused {
    pub user: Arc<User>,
    pub by: Arc<Gateway>,
}

/// One event's way through all its gateways: its end is told when the last bundle has ended.
pub(super) struct Flight {
    refused: Mutex<Vec<Refused>>,
    ended: Option<oneshot::Sender<Vec<Refused>>>,
}

impl Flight {
    /// A flight, and what tells its end.
    pub fn new() -> (Arc<Self>, oneshot::Receiver<Vec<Refused>>) {
        let (tell, told) = oneshot::channel();
        (Arc::new(Self { refused: Mutex::default(), ended: Some(tell) }), told)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let refused = std::mem::take(&mut *lock(&self.refused));
        if let Some(ended) = self.ended.take() {
            // The session ends only after its flights, unless the process is ending.
            let _ = ended.send(refused);
        }
    }
}

/// All recipients of one event on one gateway.
pub(super) struct Bundle {
    /// What is pushed.
    pub message: Arc<Message>,
    /// To whom.
    pub users: Vec<Arc<User>>,
    /// When it was handed over.
    pub since: Instant,
    /// Until it has ended.
    open: Mutex<Option<(Arc<Flight>, OwnedSemaphorePermit)>>,
}

impl Bundle {
    /// A bundle for which there is room.
    pub fn new(message: Arc<Message>, users: Vec<Arc<User>>, flight: Arc<Flight>, room: OwnedSemaphorePermit) -> Self {
        Self { message, users, since: Instant::now(), open: Mutex::new(Some((flight, room))) }
    }

    /// The gateway does not know this user.
    pub fn refuse(&self, user: &Arc<User>, by: &Arc<Gateway>) {
        if let Some((flight, _)) = &*lock(&self.open) {
            lock(&flight.refused).push(Refused { user: user.clone(), by: by.clone() });
        }
    }

    /// Everything about it is known.
    pub fn end(&self) {
        lock(&self.open).take();
    }
}

/// What a gateway's registration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// `http://host:port`, at least one.
    pub endpoints: Vec<String>,
    /// The best that it speaks.
    pub best: Protocol,
}

/// The rpcs, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protocol {
    Batch,
    Stream,
    Unary,
}

/// One gateway; it and its task last as long as the process.
pub(super) struct Gateway {
    /// Counts gateways from 0.
    pub number: usize,
    /// Where it is; none when it is not registered.
    pub address: watch::Sender<Option<Address>>,
    queue: mpsc::UnboundedSender<Arc<Bundle>>,
    room: Arc<Semaphore>,
    patience: Duration,
}

impl Gateway {
    /// One without an address, and what it is given.
    pub fn new(number: usize, patience: Duration) -> (Arc<Self>, mpsc::UnboundedReceiver<Arc<Bundle>>) {
        let (queue, bundles) = mpsc::unbounded_channel();
        let (address, room) = (watch::Sender::new(None), Arc::new(Semaphore::new(ROOM)));
        (Arc::new(Self { number, address, queue, room, patience }), bundles)
    }

    /// Waits until these pushes fit, for at most `gateway.delivery_timeout`; more than all the room is taken as all of it.
    pub async fn room_for(&self, pushes: usize) -> Option<OwnedSemaphorePermit> {
        let pushes = pushes.min(ROOM) as u32;
        match self.room.clone().try_acquire_many_owned(pushes) {
            Ok(room) => Some(room),
            Err(_) => {
                let room = self.room.clone().acquire_many_owned(pushes);
                tokio::time::timeout(self.patience, room).await.ok().and_then(|room| room.ok())
            }
        }
    }

    /// Takes a bundle after all that it was given before.
    pub fn take(&self, bundle: Bundle) {
        // The task lasts as long as this value; were it gone, the bundle would end here.
        let _ = self.queue.send(Arc::new(bundle));
    }
}

/// A user, one value for all sessions.
pub(super) struct User {
    /// The username.
    pub name: Bytes,
    route: Mutex<Route>,
}

#[derive(Default)]
struct Route {
    gateway: Option<Arc<Gateway>>,
    /// Before the first lookup and after a refusal: none.
    fresh_until: Option<Instant>,
    /// The number of its last change; see [`Routes::changes`](super::routes::Routes::changes).
    changed: u64,
}

/// What is known of a user's route.
pub(super) enum Known {
    /// Ask Redis first.
    Stale,
    /// Connected there (`None`: offline), since this change.
    Fresh(Option<Arc<Gateway>>, u64),
}

impl User {
    /// A user whose route is not known yet.
    pub fn new(name: Bytes) -> Self {
        Self { name, route: Mutex::default() }
    }

    /// The route, when it may be used now.
    pub fn route(&self, now: Instant) -> Known {
        let route = lock(&self.route);
        match route.fresh_until {
            Some(until) if until > now => Known::Fresh(route.gateway.clone(), route.changed),
            _ => Known::Stale,
        }
    }

    /// The route as it was last heard, however old, and its last change.
    pub fn last_route(&self) -> (Option<Arc<Gateway>>, u64) {
        let route = lock(&self.route);
        (route.gateway.clone(), route.changed)
    }

    /// The user is not connected to this gateway: if that is what the route says, Redis is to be asked.
    pub fn is_not_at(&self, gateway: &Arc<Gateway>) {
        let mut route = lock(&self.route);
        if route.gateway.as_ref().is_some_and(|known| Arc::ptr_eq(known, gateway)) {
            route.fresh_until = None;
        }
    }

    /// What Redis says, to be believed until then. A change takes the next number of `changes`.
    pub fn set_route(&self, gateway: Option<Arc<Gateway>>, fresh_until: Instant, changes: &AtomicU64) {
        let mut route = lock(&self.route);
        let is_same = match (&route.gateway, &gateway) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (old, new) => old.is_none() && new.is_none(),
        };
        if !is_same {
            route.changed = changes.fetch_add(1, Ordering::SeqCst) + 1;
        }
        (route.gateway, route.fresh_until) = (gateway, Some(fresh_until));
    }
}

/// Locks it, also after a task panicked while it held it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
