//! One gateway's task: opens its stream when there is something to push, reads the answers, and opens it again when it
//! breaks; what was not answered goes first then.
//!
//! Promises that every bundle it takes ends, at the latest some `gateway.delivery_timeout` after the gateway became
//! unreachable or silent.

mod unary;

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::uri::PathAndQuery;
use task_engine::model::proto::gateway::{PushBatchResponse, PushMessageResponse, PushResponse};
use tokio::sync::mpsc;
use tokio::time::{Interval, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::delivery::{Address, Bundle, Gateway, Protocol, lock};
use super::requests::{Batches, Feed, Pushes, Source};
use super::{Counts, add};

/// What a gateway says of a user who is not there.
const NOT_CONNECTED: &str = "user not connected";
/// How often a stream is looked at for silence.
const LOOK: Duration = Duration::from_millis(500);
/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Why a stream is over.
pub(super) enum Over {
    /// The gateway does not know the rpc.
    Unimplemented,
    /// The registry says something else now.
    Moved,
    /// It broke.
    Lost(String),
}

impl From<Status> for Over {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::Unimplemented => Self::Unimplemented,
            code => Self::Lost(format!("{code:?}: {}", status.message())),
        }
    }
}

/// See the [module](self).
pub(super) struct Link {
    id: String,
    feed: Arc<Mutex<Feed>>,
    patience: Duration,
    ends: Ends,
    look: Interval,
    /// Of the first unanswered bundle: how many answers came, and how many of them were refusals and failures.
    answered: usize,
    undelivered: usize,
    failures: u32,
}

impl Link {
    /// The task of this gateway, not started.
    pub fn new(
        id: &str,
        gateway: Arc<Gateway>,
        queue: mpsc::UnboundedReceiver<Arc<Bundle>>,
        patience: Duration,
        counts: Arc<Counts>,
    ) -> Self {
        let feed = Feed { queue, unanswered: Default::default(), batches: Default::default() };
        let (id, feed, look) = (id.to_owned(), Arc::new(Mutex::new(feed)), tokio::time::interval(LOOK));
        let ends = Ends { gateway, counts };
        Self { id, feed, patience, ends, look, answered: 0, undelivered: 0, failures: 0 }
    }

    /// Runs as long as the process.
    pub async fn run(mut self) {
        let mut known: Option<(Address, Protocol)> = None;
        while self.wait_for_work().await {
            let Some(address) = self.address().await else {
                self.give_up_old();
                continue;
            };
            let protocol = match &known {
                Some((same, protocol)) if *same == address => *protocol,
                _ => address.best,
            };
            known = Some((address.clone(), protocol));
            match self.serve(&address, protocol).await {
                Over::Moved => {}
                Over::Unimplemented => known = Some((address, self.step_down(protocol))),
                Over::Lost(why) => {
                    self.failures += 1;
                    if self.failures == 1 {
                        eprintln!("reference: gateway {}: {why}", self.id);
                    }
                    self.give_up_old();
                    // The engine's own backoff would be measured against itself.
                    tokio::time::sleep((Duration::from_millis(25) * 2u32.pow(self.failures.min(8))).min(PAUSE_MAX))
                        .await;
                }
            }
        }
    }

    /// Until there is something unanswered; false when there never will be.
    async fn wait_for_work(&self) -> bool {
        poll_fn(|cx| {
            let mut feed = lock(&self.feed);
            if !feed.unanswered.is_empty() {
                return std::task::Poll::Ready(true);
            }
            feed.poll(cx).map(|bundle| bundle.is_some())
        })
        .await
    }

    /// Where it is, as soon as it is registered; none when the oldest bundle can wait no longer.
    async fn address(&self) -> Option<Address> {
        let left =
            lock(&self.feed).unanswered.front().map(|oldest| self.patience.saturating_sub(oldest.since.elapsed()));
        let mut addresses = self.ends.gateway.address.subscribe();
        let address = timeout(left?, addresses.wait_for(Option::is_some)).await.ok()?.ok()?;
        address.clone()
    }

    fn step_down(&self, protocol: Protocol) -> Protocol {
        match protocol {
            Protocol::Batch => Protocol::Stream,
            Protocol::Stream | Protocol::Unary => Protocol::Unary,
        }
    }

    async fn serve(&mut self, address: &Address, protocol: Protocol) -> Over {
        let place = &address.endpoints[self.failures as usize % address.endpoints.len()];
        let endpoint = match Endpoint::from_shared(place.clone()) {
            Ok(endpoint) => endpoint,
            Err(error) => return Over::Lost(format!("{place}: {error}")),
        };
        let endpoint = endpoint.connect_timeout(self.patience).tcp_nodelay(true).tcp_keepalive(Some(self.patience));
        if protocol == Protocol::Unary {
            (self.answered, self.undelivered) = (0, 0);
            return self.serve_unary(endpoint.connect_lazy(), address).await;
        }
        let is_live = Arc::new(AtomicBool::new(true));
        let over = match endpoint.connect().await {
            Ok(channel) => self.serve_stream(channel, protocol, is_live.clone()).await,
            Err(error) => Err(Over::Lost(format!("{place}: {error}"))),
        };
        // An old request stream may outlive its connection's use; it must not take bundles from the new one.
        is_live.store(false, Ordering::Release);
        let Err(over) = over;
        over
    }

    async fn serve_stream(
        &mut self,
        channel: Channel,
        protocol: Protocol,
        is_live: Arc<AtomicBool>,
    ) -> Result<Infallible, Over> {
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.map_err(|error| Over::Lost(error.to_string()))?;
        let source = Source::new(&self.feed, self.answered, is_live);
        let silent = |_| Over::Lost("it does not open a stream".to_owned());
        if protocol == Protocol::Stream {
            let codec = ProstCodec::default();
            let opening = client.streaming(Request::new(Pushes::new(source)), path("PushMessage"), codec);
            let answers = timeout(self.patience, opening).await.map_err(silent)??;
            self.read_answers(answers.into_inner()).await
        } else {
            self.answered = 0;
            let codec = ProstCodec::default();
            let opening = client.streaming(Request::new(Batches::new(source)), path("PushBatch"), codec);
            let answers = timeout(self.patience, opening).await.map_err(silent)??;
            self.read_batches(answers.into_inner()).await
        }
    }

    /// The next answer; an error when the stream ends, or is silent for too long.
    async fn next<T>(&mut self, answers: &mut Streaming<T>) -> Result<T, Over> {
        loop {
            tokio::select! {
                biased;
                answer = answers.message() => {
                    self.failures = 0;
                    return answer?.ok_or_else(|| Over::Lost("it ended the stream".to_owned()));
                }
                _ = self.look.tick() => {
                    let feed = lock(&self.feed);
                    if feed.unanswered.front().is_some_and(|oldest| oldest.since.elapsed() > self.patience) {
                        return Err(Over::Lost("it does not answer".to_owned()));
                    }
                }
            }
        }
    }

    async fn read_answers(&mut self, mut answers: Streaming<PushMessageResponse>) -> Result<Infallible, Over> {
        let mut current: Option<Arc<Bundle>> = None;
        loop {
            let answer = self.next(&mut answers).await?;
            let bundle = match current.take() {
                Some(bundle) => bundle,
                None => lock(&self.feed).unanswered.front().cloned().ok_or_else(|| nonsense("answers nothing"))?,
            };
            if answer.msg_id != bundle.message.msg_id {
                return Err(nonsense("answers another message"));
            }
            if !answer.error.is_empty() {
                self.undelivered += 1;
                self.ends.not_delivered(&bundle, self.answered, &answer.error);
            }
            self.answered += 1;
            if self.answered < bundle.users.len() {
                current = Some(bundle);
                continue;
            }
            lock(&self.feed).unanswered.pop_front();
            add(&self.ends.counts.delivered, self.answered - self.undelivered);
            (self.answered, self.undelivered) = (0, 0);
            bundle.end();
        }
    }

    async fn read_batches(&mut self, mut answers: Streaming<PushBatchResponse>) -> Result<Infallible, Over> {
        loop {
            let answer = self.next(&mut answers).await?;
            let bundles: Vec<Arc<Bundle>> = {
                let mut feed = lock(&self.feed);
                match feed.batches.pop_front() {
                    Some((id, count)) if id == answer.batch_id => feed.unanswered.drain(..count).collect(),
                    _ => return Err(nonsense("answers another batch")),
                }
            };
            for bundle in &bundles {
                let mine = answer.failures.iter().filter(|failure| failure.msg_id == bundle.message.msg_id);
                self.ends.many(bundle, mine);
            }
        }
    }

    /// Ends what has waited too long.
    fn give_up_old(&mut self) {
        let mut feed = lock(&self.feed);
        while let Ok(bundle) = feed.queue.try_recv() {
            feed.unanswered.push_back(bundle);
        }
        while feed.unanswered.front().is_some_and(|oldest| oldest.since.elapsed() >= self.patience) {
            let Some(bundle) = feed.unanswered.pop_front() else { return };
            add(&self.ends.counts.delivered, self.answered - self.undelivered);
            add(&self.ends.counts.unreached, bundle.users.len() - self.answered);
            (self.answered, self.undelivered) = (0, 0);
            bundle.end();
        }
    }
}

/// Where answers end up.
#[derive(Clone)]
pub(super) struct Ends {
    pub gateway: Arc<Gateway>,
    pub counts: Arc<Counts>,
}

impl Ends {
    /// Ends a bundle of which only the failures were told.
    pub fn many<'a>(&self, bundle: &Bundle, failures: impl Iterator<Item = &'a PushResponse>) {
        let mut undelivered = 0;
        for failure in failures {
            let is_all = failure.failed_usernames.is_empty() && !failure.error.is_empty();
            for (place, user) in bundle.users.iter().enumerate() {
                if is_all || failure.failed_usernames.iter().any(|name| *name.as_bytes() == user.name) {
                    undelivered += 1;
                    self.not_delivered(bundle, place, &failure.error);
                }
            }
        }
        add(&self.counts.delivered, bundle.users.len() - undelivered);
        bundle.end();
    }

    fn not_delivered(&self, bundle: &Bundle, place: usize, error: &str) {
        if error == NOT_CONNECTED {
            bundle.refuse(&bundle.users[place], &self.gateway);
        } else {
            add(&self.counts.failed, 1);
        }
    }
}

fn nonsense(what: &str) -> Over {
    Over::Lost(format!("it {what}"))
}

/// The path of an rpc.
pub(super) fn path(rpc: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(match rpc {
        "PushMessage" => "/resonance.gateway.v1.PushService/PushMessage",
        "PushBatch" => "/resonance.gateway.v1.PushService/PushBatch",
        _ => "/resonance.gateway.v1.PushService/Push",
    })
}
