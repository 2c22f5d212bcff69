//! The gateways: what is handed to each, and how much may be under way.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::Counts;
use super::link::Link;
use super::routes::User;

/// Pushes that one gateway may have before it, waiting or unanswered.
const ROOM: usize = 64 * 1024;

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

/// All gateways that routes or the registry name.
pub(super) struct Gateways {
    known: Mutex<HashMap<String, Arc<Gateway>>>,
    any_listed: AtomicBool,
    patience: Duration,
    counts: Arc<Counts>,
}

impl Gateways {
    /// None yet; `patience` is `gateway.delivery_timeout`.
    pub fn new(patience: Duration, counts: Arc<Counts>) -> Self {
        Self { known: Mutex::default(), any_listed: AtomicBool::new(false), patience, counts }
    }

    /// The gateway of this id, which need not be registered yet.
    pub fn get(&self, id: &str) -> Arc<Gateway> {
        let mut known = lock(&self.known);
        if let Some(gateway) = known.get(id) {
            return gateway.clone();
        }
        let (queue, bundles) = mpsc::unbounded_channel();
        let address = watch::Sender::new(None);
        let room = Arc::new(Semaphore::new(ROOM));
        let gateway = Arc::new(Gateway { number: known.len(), address, queue, room, patience: self.patience });
        tokio::spawn(Link::new(id, gateway.clone(), bundles, self.patience, self.counts.clone()).run());
        known.insert(id.to_owned(), gateway.clone());
        gateway
    }

    /// The registry says so.
    pub fn set(&self, id: &str, address: Option<Address>) {
        if address.is_some() {
            self.any_listed.store(true, Ordering::Release);
        }
        self.get(id).address.send_if_modified(|known| {
            let is_new = *known != address;
            *known = address;
            is_new
        });
    }

    /// Whether a gateway was ever registered.
    pub fn any_listed(&self) -> bool {
        self.any_listed.load(Ordering::Acquire)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
