//! One session's task: members, routes, and a bundle for each gateway, event after event.
//!
//! Events are not waited for one by one. Order holds because a gateway's task keeps the order in which it is given bundles,
//! and because everything unanswered is waited for before a user is sent to another gateway than before: when a gateway
//! refuses a user, and when a route turns out to have changed. Only this session waits then, and only that once.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::error::Result;
use prost::Message as _;
use task_engine::model::ids::Partition;
use task_engine::model::proto::event::PushEvent;
use task_engine::model::proto::gateway::{PushMessage, SessionMeta};
use tokio::sync::{mpsc, oneshot};

use super::delivery::{Bundle, Flight, Gateway, Known, LANES, Message, Refused, User};
use super::{Engine, add};

/// Events of one session that may be unanswered.
pub(super) const FLYING_MAX: usize = 256;
/// Messages by which a repeat is known.
const RECENT: usize = 1024;
/// The pauses before Redis is asked again where a refused user is: the gateway knows of a move before Redis does.
const ASK_AGAIN: [Duration; 3] = [Duration::ZERO, Duration::from_millis(10), Duration::from_millis(50)];

/// See the [module](self).
pub(super) struct Session {
    engine: Arc<Engine>,
    id: String,
    events: mpsc::Receiver<PushEvent>,
    members: Option<(Instant, Arc<[Arc<User>]>)>,
    flying: VecDeque<Flying>,
    recent: (HashSet<i64>, VecDeque<i64>),
    /// By the gateway's number; empty between events, kept for its allocation.
    groups: Vec<Vec<Arc<User>>>,
    touched: Vec<Arc<Gateway>>,
}

/// An event that is not answered yet.
struct Flying {
    message: Arc<Message>,
    /// All changes of routes up to this one were known when it was routed.
    routed_at: u64,
    ended: oneshot::Receiver<Vec<Refused>>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "it lives for one turn of the loop; a box would cost an allocation an event"
)]
enum Next {
    Ended(Vec<Refused>),
    Event(Option<PushEvent>),
}

impl Session {
    /// A session that takes these events.
    pub fn new(engine: Arc<Engine>, id: String, events: mpsc::Receiver<PushEvent>) -> Self {
        let recent = (HashSet::new(), VecDeque::new());
        let (flying, groups, touched) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { engine, id, events, members: None, flying, recent, groups, touched }
    }

    /// Runs until there are no more events and all are answered.
    pub async fn run(mut self) {
        let mut is_open = true;
        while is_open || !self.flying.is_empty() {
            let may_take = is_open && self.flying.len() < FLYING_MAX;
            let oldest = self.flying.front_mut();
            let is_flying = oldest.is_some();
            let next = tokio::select! {
                biased;
                refused = answered(oldest), if is_flying => Next::Ended(refused),
                event = self.events.recv(), if may_take => Next::Event(event),
            };
            match next {
                Next::Ended(refused) => {
                    let Some(flying) = self.flying.pop_front() else { continue };
                    if !refused.is_empty() {
                        self.settle(vec![(flying.message, refused)]).await;
                    }
                }
                Next::Event(Some(event)) => self.push(event).await,
                Next::Event(None) => is_open = false,
            }
        }
    }

    async fn push(&mut self, event: PushEvent) {
        if !self.is_new(event.msg_id) {
            return add(&self.engine.counts.passed_over, 1);
        }
        let sender = event.from_username.clone();
        let message = Arc::new(message_of(event));
        if let Err(error) = self.try_push(&message, sender.as_bytes()).await {
            eprintln!("reference: session {}, message {}: {error}", self.id, message.msg_id);
            add(&self.engine.counts.failed_events, 1);
        }
    }

    async fn try_push(&mut self, message: &Arc<Message>, sender: &[u8]) -> Result<()> {
        let members = self.members().await?;
        let mut routed_at = self.route(&members, sender).await?;
        if routed_at.is_none() {
            self.drop_groups();
            self.settle(Vec::new()).await;
            routed_at = self.route(&members, sender).await?;
        }
        // With nothing unanswered no route can have changed meanwhile.
        let routed_at = routed_at.unwrap_or_default();
        if let Some(ended) = self.send(message).await {
            self.flying.push_back(Flying { message: message.clone(), routed_at, ended });
        }
        Ok(())
    }

    fn is_new(&mut self, msg_id: i64) -> bool {
        let (known, order) = &mut self.recent;
        if !known.insert(msg_id) {
            return false;
        }
        order.push_back(msg_id);
        if order.len() > RECENT
            && let Some(oldest) = order.pop_front()
        {
            known.remove(&oldest);
        }
        true
    }

    async fn members(&mut self) -> Result<Arc<[Arc<User>]>> {
        let known = self.members.as_ref();
        if let Some((_, members)) = known.filter(|(since, _)| since.elapsed() < self.engine.config.members.cache_ttl) {
            return Ok(members.clone());
        }
        let engine = self.engine.clone();
        let known = known.map(|(_, members)| members.clone());
        let members = patiently(&engine, || engine.members.of(&self.id, known.as_ref())).await?;
        self.members = Some((Instant::now(), members.clone()));
        Ok(members)
    }

    /// Groups the members by gateway, and gives the last change that is heeded; none when the route of one of them has
    /// changed since the oldest unanswered event was routed.
    async fn route(&mut self, members: &[Arc<User>], sender: &[u8]) -> Result<Option<u64>> {
        let known_changes = self.engine.routes.changes();
        let routed_at = self.flying.front().map_or(u64::MAX, |oldest| oldest.routed_at);
        let (mut latest, mut stale, mut offline) = (0, Vec::new(), 0);
        let now = Instant::now();
        for user in members.iter().filter(|user| user.name != sender) {
            match user.route(now) {
                Known::Stale => stale.push(user.clone()),
                Known::Fresh(gateway, changed) => {
                    latest = latest.max(changed);
                    offline += usize::from(!self.group(user.clone(), gateway));
                }
            }
        }
        if !stale.is_empty() {
            let asked = self.ask_routes(&stale).await;
            if asked.is_err() {
                self.drop_groups();
            }
            asked?;
            for user in stale {
                let (gateway, changed) = user.last_route();
                latest = latest.max(changed);
                offline += usize::from(!self.group(user, gateway));
            }
        }
        if latest > routed_at {
            return Ok(None);
        }
        add(&self.engine.counts.offline, offline);
        Ok(Some(latest.max(known_changes)))
    }

    async fn ask_routes(&self, users: &[Arc<User>]) -> Result<()> {
        let Engine { routes, gateways, .. } = &*self.engine;
        patiently(&self.engine, || routes.refresh(users, gateways)).await
    }

    /// Puts a recipient to the others of its gateway; false when there is none.
    fn group(&mut self, user: Arc<User>, gateway: Option<Arc<Gateway>>) -> bool {
        let Some(gateway) = gateway else { return false };
        if self.groups.len() <= gateway.number {
            self.groups.resize_with(gateway.number + 1, Vec::new);
        }
        let group = &mut self.groups[gateway.number];
        group.push(user);
        if group.len() == 1 {
            self.touched.push(gateway);
        }
        true
    }

    fn drop_groups(&mut self) {
        for gateway in self.touched.drain(..) {
            self.groups[gateway.number].clear();
        }
    }

    /// Hands the groups to their gateways; what it gives ends when all of them are answered.
    async fn send(&mut self, message: &Arc<Message>) -> Option<oneshot::Receiver<Vec<Refused>>> {
        if self.touched.is_empty() {
            return None;
        }
        let (flight, ended) = Flight::new();
        for gateway in self.touched.drain(..) {
            let users = std::mem::take(&mut self.groups[gateway.number]);
            let count = users.len();
            match gateway.room_for(count).await {
                Some(room) => gateway.take(Bundle::new(message.clone(), users, flight.clone(), room)),
                None => add(&self.engine.counts.unreached, count),
            }
        }
        Some(ended)
    }

    /// Waits until everything is answered, then sends the refused again, in order, to where Redis says they are now.
    async fn settle(&mut self, mut refused: Vec<(Arc<Message>, Vec<Refused>)>) {
        for mut flying in std::mem::take(&mut self.flying) {
            let more = answered(Some(&mut flying)).await;
            refused.push((flying.message, more));
        }
        for pause in ASK_AGAIN {
            refused.retain(|(_, refused)| !refused.is_empty());
            if refused.is_empty() {
                return;
            }
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let all = refused.iter().flat_map(|(_, refused)| refused);
            let all: Vec<Arc<User>> = all
                .map(|refused| {
                    refused.user.is_not_at(&refused.by);
                    refused.user.clone()
                })
                .collect();
            if let Err(error) = self.ask_routes(&all).await {
                eprintln!("reference: session {}: {error}", self.id);
                break;
            }
            refused = self.send_again(refused).await;
        }
        add(&self.engine.counts.offline, refused.iter().map(|(_, refused)| refused.len()).sum());
    }

    /// Sends to whoever has another gateway now, and gives those who are refused still or again.
    async fn send_again(&mut self, refused: Vec<(Arc<Message>, Vec<Refused>)>) -> Vec<(Arc<Message>, Vec<Refused>)> {
        let mut sent = Vec::new();
        for (message, refused) in refused {
            let mut still = Vec::new();
            for refused in refused {
                let (gateway, _) = refused.user.last_route();
                match gateway {
                    Some(gateway) if Arc::ptr_eq(&gateway, &refused.by) => still.push(refused),
                    Some(gateway) => drop(self.group(refused.user, Some(gateway))),
                    None => add(&self.engine.counts.offline, 1),
                }
            }
            let ended = self.send(&message).await;
            sent.push((message, still, ended));
        }
        let mut refused = Vec::new();
        for (message, mut still, ended) in sent {
            if let Some(ended) = ended {
                still.extend(ended.await.unwrap_or_default());
            }
            refused.push((message, still));
        }
        refused
    }
}

/// The refused of an event, once all its bundles have ended.
async fn answered(flying: Option<&mut Flying>) -> Vec<Refused> {
    match flying {
        Some(flying) => (&mut flying.ended).await.unwrap_or_default(),
        None => Vec::new(),
    }
}

/// Tries as often as `consumer.max_retry` says.
async fn patiently<T, F: Future<Output = Result<T>>>(engine: &Engine, mut work: impl FnMut() -> F) -> Result<T> {
    let mut left = engine.config.consumer.max_retry;
    loop {
        match work().await {
            Err(error) if left > 0 => {
                left -= 1;
                eprintln!("reference: {error}; asking again");
                tokio::time::sleep(engine.config.consumer.retry_interval).await;
            }
            done => return done,
        }
    }
}

fn message_of(event: PushEvent) -> Message {
    let has_meta = !event.session_name.is_empty() || event.session_type != 0;
    let lane = Partition::of(event.session_id.as_bytes(), LANES as u32).0 as usize;
    let message = PushMessage {
        msg_id: event.msg_id,
        seq_id: event.seq_id,
        session_id: event.session_id,
        from_username: event.from_username,
        to_username: event.to_username,
        content: event.content,
        r#type: event.r#type,
        timestamp: event.timestamp,
        session_meta: has_meta.then_some(SessionMeta { name: event.session_name, r#type: event.session_type }),
        from_device: String::new(),
        trace_headers: Default::default(),
    };
    Message { msg_id: event.msg_id, bytes: message.encode_to_vec().into(), lane }
}
