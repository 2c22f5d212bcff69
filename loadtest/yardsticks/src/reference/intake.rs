//! Reads events from NATS and hands each to its session's task, in order.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{ConnectOptions, Event, ServerAddr, Subscriber};
use harness::error::{Error, Result};
use prost::Message as _;
use task_engine::config::{Assignment, NatsAuth};
use task_engine::model::proto::event::PushEvent;
use tokio::sync::{mpsc, oneshot};
use tonic::codegen::tokio_stream::StreamExt as _;

use super::session::Session;
use super::{Engine, add};

/// Messages that may wait in the NATS client; what comes when it is full is dropped there, and counted.
const UNREAD_MAX: usize = 1 << 20;
/// Events of one session that may wait for its task.
const WAITING_MAX: usize = 1024;
/// A session without an event for this long ends its task. Longer than any push can be under way.
const IDLE: Duration = Duration::from_secs(60);

/// Subscribes in the queue group.
///
/// # Errors
/// When NATS does not answer or does not let it in.
pub(super) async fn subscribe(engine: &Arc<Engine>) -> Result<Subscriber> {
    let (nats, consumer) = (&engine.config.nats, &engine.config.consumer);
    let servers: std::result::Result<Vec<ServerAddr>, _> =
        nats.servers.iter().map(|server| server.to_string().parse()).collect();
    let servers = servers.map_err(|cause| Error::of("nats.url", cause))?;
    let options = match &nats.auth {
        NatsAuth::None => ConnectOptions::new(),
        NatsAuth::Token(token) => ConnectOptions::with_token(token.reveal().to_owned()),
        NatsAuth::User { username, password } => {
            ConnectOptions::with_user_and_password(username.clone(), password.reveal().to_owned())
        }
        _ => return Err(Error::new("a yardstick logs in with a user or a token only")),
    };
    let (counts, wait) = (engine.counts.clone(), nats.reconnect_delay);
    let options = options
        .name(&nats.name)
        .connection_timeout(nats.timeout)
        .ping_interval(nats.ping_interval)
        .reconnect_delay_callback(move |_| wait)
        .subscription_capacity(UNREAD_MAX)
        .event_callback(move |event| {
            if let Event::SlowConsumer(_) = event {
                add(&counts.dropped, 1);
            }
            async {}
        });
    let place = nats.servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let client = options.connect(servers).await.map_err(|cause| Error::of(&format!("NATS at {place}"), cause))?;
    let subject = match consumer.assignment {
        Assignment::Queue => consumer.topic.clone(),
        // One process takes all partitions; who runs several would have to share them out.
        Assignment::Partitioned => format!("{}.*", consumer.topic),
    };
    let subscription = client.queue_subscribe(subject, consumer.queue_group.clone()).await;
    let subscription = subscription.map_err(|cause| Error::of("cannot subscribe", cause))?;
    client.flush().await.map_err(|cause| Error::of("cannot subscribe", cause))?;
    Ok(subscription)
}

/// Reads until `stop`, and then what was already sent to us. What it gives ends when all sessions have.
///
/// # Errors
/// When the subscription cannot be ended.
pub(super) async fn read(
    engine: &Arc<Engine>,
    mut subscription: Subscriber,
    mut stop: oneshot::Receiver<()>,
) -> Result<mpsc::Receiver<()>> {
    let (alive, all_ended) = mpsc::channel(1);
    let mut sessions = Sessions { engine: engine.clone(), known: HashMap::new(), alive };
    let mut is_stopping = false;
    let mut sweep = tokio::time::interval(IDLE);
    loop {
        tokio::select! {
            biased;
            _ = &mut stop, if !is_stopping => {
                is_stopping = true;
                subscription.drain().await.map_err(|cause| Error::of("cannot end the subscription", cause))?;
            }
            _ = sweep.tick() => sessions.sweep(),
            message = subscription.next() => match message {
                Some(message) => sessions.take(&message.payload).await,
                None => return Ok(all_ended),
            },
        }
    }
}

struct Sessions {
    engine: Arc<Engine>,
    known: HashMap<String, (mpsc::Sender<PushEvent>, Instant)>,
    alive: mpsc::Sender<()>,
}

impl Sessions {
    async fn take(&mut self, payload: &[u8]) {
        add(&self.engine.counts.events, 1);
        let event = match PushEvent::decode(payload) {
            Ok(event) if !event.session_id.is_empty() => event,
            _ => return add(&self.engine.counts.passed_over, 1),
        };
        if !self.known.contains_key(&event.session_id) {
            let (events, waiting) = mpsc::channel(WAITING_MAX);
            let session = Session::new(self.engine.clone(), event.session_id.clone(), waiting);
            let alive = self.alive.clone();
            tokio::spawn(async move {
                session.run().await;
                drop(alive);
            });
            self.known.insert(event.session_id.clone(), (events, Instant::now()));
        }
        let Some((events, used)) = self.known.get_mut(&event.session_id) else { return };
        *used = Instant::now();
        // The task ends only after its sender is dropped, so there is somebody to take it.
        let _ = events.send(event).await;
    }

    fn sweep(&mut self) {
        self.known.retain(|_, (_, used)| used.elapsed() < IDLE);
        self.engine.members.forget_unused();
    }
}
