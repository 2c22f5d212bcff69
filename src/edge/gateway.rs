//! The gateway connections of one shard: carries out the core's `Open`, `Send`, `Call`, `Finish` and `Cut`, and reports
//! what happened as [`StreamFact`]s.
//!
//! Promises that no call here waits or fails, that a stream's facts come in order with exactly one `Closed` at the end
//! (none after a cut), and that no behaviour of a server panics. Refuses every decision: retries, backoff, answer
//! deadlines and the matching of answers are the core's.
//!
//! ```text
//! Gateways ── Line (queues, flags) ──┬── driver task: connect, dispatch, drain answers      stream.rs, unary.rs
//!                                    ├── hyper's body task takes chunks                     body.rs
//!                                    └── hyper's connection task reads and writes the Wire  io.rs
//! ```

mod body;
mod connection;
pub mod inspect;
pub mod io;
mod status;
mod stream;
mod unary;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use glommio::Task;
use hashbrown::HashMap;

use crate::config::{Current, GatewayConfig, TlsConfig, TlsMode};
use crate::edge::resolve::Resolver;
use crate::model::ids::{GatewayIx, StreamNo};
use crate::model::limits::{GATEWAY_CONNECT_TIMEOUT, GATEWAY_USER_TIMEOUT};
use crate::ports::mailbox::LocalFacts;
use crate::ports::permit::Permit;
use crate::ports::{Endpoint, Protocol};
use crate::push::facts::{StreamEnd, StreamFact};

use body::Line;
use connection::Target;
use io::SpareBuffer;

pub use connection::Svc;

/// Where the keys of TLS to gateways stand in the configuration.
const TLS_SECTION: &str = "gateway.tls";
/// What is spoken over it.
const ALPN: &[&[u8]] = &[b"h2"];

/// What may be set about gateway connections.
#[derive(Clone, Debug)]
pub struct GatewayOptions {
    /// How long one address may take for TCP connect and HTTP/2 settings together.
    pub connect_timeout: Duration,
    /// HTTP/2 pings at this interval, also on quiet connections. `None` (the default) sends none: a grpc-go server
    /// with default settings cuts off a client that pings more often than every five minutes.
    pub ping_interval: Option<Duration>,
    /// A connection whose peer acknowledges nothing of what was sent for this long is dead. What a process that was stopped had
    /// given its kernel goes on for no longer than this.
    pub user_timeout: Duration,
    /// Nothing is written while it does not hold.
    pub permit: Arc<Permit>,
    /// How gateways that speak TLS prove themselves, and whether all must: as it is when a connection is opened.
    pub tls: Current<TlsConfig>,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        let (ping_interval, user_timeout) = (None, GATEWAY_USER_TIMEOUT);
        let tls = GatewayConfig::default().tls.into();
        Self { connect_timeout: GATEWAY_CONNECT_TIMEOUT, ping_interval, user_timeout, permit: Arc::default(), tls }
    }
}

/// Whether this one is spoken to over TLS.
fn is_secure(endpoint: &Endpoint, tls: &TlsConfig) -> bool {
    endpoint.secure || tls.mode == TlsMode::Required
}

type Key = (GatewayIx, StreamNo);

/// The gateway connections of one shard. Lives and dies on its glommio executor.
pub struct Gateways {
    facts: LocalFacts,
    resolver: Resolver,
    options: GatewayOptions,
    spare: SpareBuffer,
    open: Rc<OpenStreams>,
}

/// Streams that are being opened or are open. A driver takes its own out when it reports `Closed`.
#[derive(Default)]
struct OpenStreams(RefCell<HashMap<Key, Entry, foldhash::fast::RandomState>>);

struct Entry {
    line: Rc<Line>,
    driver: Task<()>,
}

impl OpenStreams {
    fn line(&self, key: Key) -> Option<Rc<Line>> {
        self.0.borrow().get(&key).map(|entry| entry.line.clone())
    }

    fn take(&self, key: Key) -> Option<Entry> {
        self.0.borrow_mut().remove(&key)
    }
}

impl Gateways {
    /// No connection yet; must be made and used inside a glommio executor.
    pub fn new(facts: LocalFacts, resolver: Resolver, options: GatewayOptions) -> Self {
        Self { facts, resolver, options, spare: SpareBuffer::default(), open: Rc::default() }
    }

    /// Starts to connect. Reports `Opened` once the server's HTTP/2 settings are here and the request is on its way
    /// (never waits for response headers: grpc-go sends them with its first answer), or `Closed(NotOpened)`.
    /// A server's GOAWAY is reported as `GoingAway`: the stream goes on until the core finishes it.
    ///
    /// An older stream of the same gateway is left as it is: until the core finishes or cuts it, both are open.
    pub fn open(&mut self, gateway: GatewayIx, stream: StreamNo, endpoints: Vec<Endpoint>, protocol: Protocol) {
        let key = (gateway, stream);
        let line = Rc::new(Line::new(gateway, stream, self.facts.clone()));
        let target = Target {
            endpoints,
            resolver: self.resolver.clone(),
            options: self.options.clone(),
            spare: self.spare.clone(),
        };
        let driver = glommio::spawn_local(drive(key, line.clone(), target, protocol, Rc::downgrade(&self.open)));
        let replaced = self.open.0.borrow_mut().insert(key, Entry { line, driver });
        debug_assert!(replaced.is_none(), "a stream number is used once");
    }

    /// Queues whole gRPC frames for the stream. Not bounded here: the core counts [`StreamFact::Taken`] and keeps to
    /// [`STREAM_UNSENT_BYTES_MAX`](crate::model::limits::STREAM_UNSENT_BYTES_MAX). A stream that is over forgets them.
    pub fn send(&mut self, gateway: GatewayIx, stream: StreamNo, chunk: Bytes) {
        if let Some(line) = self.open.line((gateway, stream)) {
            line.send(chunk);
        }
    }

    /// Makes a unary call. When the connection is lost the core gets one `Closed(Unheard)`, and no answer for the
    /// calls that had none: they count as not answered.
    pub fn call(&mut self, gateway: GatewayIx, stream: StreamNo, call: u32, request: Bytes) {
        if let Some(line) = self.open.line((gateway, stream)) {
            line.call(call, request);
        }
    }

    /// Half-closes after what is queued; answers still come, then `Closed(Finished)`, and the connection is closed.
    pub fn finish(&mut self, gateway: GatewayIx, stream: StreamNo) {
        if let Some(line) = self.open.line((gateway, stream)) {
            line.finish();
        }
    }

    /// Drops the connection with a TCP reset, so that nothing more of it is delivered; no fact follows.
    pub fn cut(&mut self, gateway: GatewayIx, stream: StreamNo) {
        if let Some(entry) = self.open.take((gateway, stream)) {
            entry.line.cut();
            drop(entry.driver);
        }
    }

    /// Streams that are being opened, open, or draining.
    pub fn open_count(&self) -> usize {
        self.open.0.borrow().len()
    }
}

impl Drop for Gateways {
    fn drop(&mut self) {
        let entries = std::mem::take(&mut *self.open.0.borrow_mut());
        entries.values().for_each(|entry| entry.line.cut());
    }
}

/// Which rpc a protocol is.
const fn path_of(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Group => "/resonance.gateway.v1.PushService/PushGroups",
        Protocol::Batch => "/resonance.gateway.v1.PushService/PushBatch",
        Protocol::StreamMany | Protocol::Stream => "/resonance.gateway.v1.PushService/PushMessage",
        Protocol::Unary => "/resonance.gateway.v1.PushService/Push",
    }
}

async fn drive(key: Key, line: Rc<Line>, target: Target, protocol: Protocol, open: std::rc::Weak<OpenStreams>) {
    let (end, link) = match connection::connect(&line, &target).await {
        Err(words) => (StreamEnd::NotOpened(words), None),
        Ok(mut link) => {
            let end = match protocol {
                Protocol::Unary => unary::run(&line, &mut link).await,
                _ => stream::run(&line, &mut link, path_of(protocol)).await,
            };
            (end, Some(link))
        }
    };
    let finished = end == StreamEnd::Finished;
    line.close(end);
    // The entry holds this very task: dropping its handle would cancel the goodbye below.
    if let Some(entry) = open.upgrade().and_then(|open| open.take(key)) {
        entry.driver.detach();
    }
    if let (true, Some(link)) = (finished, link) {
        link.say_goodbye().await;
    }
}

/// Wakes whoever waits, once.
#[derive(Default)]
struct Waiter(Cell<Option<std::task::Waker>>);

impl Waiter {
    fn wait(&self, cx: &std::task::Context<'_>) {
        self.0.set(Some(cx.waker().clone()));
    }

    fn wake(&self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }
}

impl Line {
    fn report(&self, fact: StreamFact) {
        if !self.over.get() {
            self.facts.push(crate::push::facts::Input::Stream { gateway: self.gateway, stream: self.stream, fact });
        }
    }
}
