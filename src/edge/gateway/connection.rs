//! One HTTP/2 connection: the addresses tried side by side, hyper's tasks on glommio, and its goodbye.
//!
//! Promises that an address has `connect_timeout` for TCP and HTTP/2 settings together, and that a [`Link`] that is
//! dropped closes its socket. Refuses to call a connection open before the server's SETTINGS frame is here: a
//! kernel accepts connections for a process that hangs.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_lite::future;
use glommio::Task;
use glommio::net::TcpStream;
use glommio::timer::Timer;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, Connection, SendRequest};
use send_wrapper::SendWrapper;
use tonic::body::Body;

use super::body::Line;
use super::io::{Io, SpareBuffer, Wire};
use super::status::words;
use super::{ALPN, GatewayOptions, TLS_SECTION, is_secure};
use crate::edge::pace;
use crate::edge::race::{self, Next};
use crate::edge::resolve::Resolver;
use crate::edge::transport::Transport;
use crate::model::limits::STREAM_UNSENT_BYTES_MAX;
use crate::ports::Endpoint;
use crate::push::facts::StreamFact;

/// What a gateway may send ahead of our reading, a stream and a connection: answers of a full window of pushes.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// What hyper may hold of one stream when HTTP/2 has room but the socket has not.
const SEND_BUFFER: usize = 2 * STREAM_UNSENT_BYTES_MAX;
/// How long a finished connection may take to say goodbye before it is dropped.
const GOODBYE: Duration = Duration::from_secs(1);
/// Addresses that are named when none could be connected.
const CAUSES_MAX: usize = 8;
const USER_AGENT: &str = concat!("task-engine/", env!("CARGO_PKG_VERSION"), " grpc-rust-hyper");

/// Where to connect, and with what.
pub(super) struct Target {
    pub endpoints: Vec<Endpoint>,
    pub resolver: Resolver,
    pub options: GatewayOptions,
    pub spare: SpareBuffer,
}

/// Addresses of one gateway that are tried, over all its endpoints.
const ADDRESSES_MAX: usize = 32;
/// Names of one gateway that are looked up at once: the threads that do it are few, and all gateways share them.
const NAMES_AT_ONCE: usize = 4;

/// The first address that speaks HTTP/2; else what each of them said. Names are looked up, and addresses
/// tried, side by side (see [`race`]); the whole takes at most three times `connect_timeout`: for the names, until
/// the last address is tried, and for that one.
pub(super) async fn connect(line: &Line, target: &Target) -> Result<Link, String> {
    let limit = target.options.connect_timeout;
    let causes = RefCell::new(Vec::new());
    let mut addresses = Addresses::of(target);
    let attempt = |endpoint, address| {
        let causes = &causes;
        async move {
            match within(limit, "connect", connect_to(target, endpoint, address)).await {
                Ok(connected) => Some((connected, address)),
                Err(cause) => {
                    causes.borrow_mut().push(format!("{endpoint} ({address}): {cause}"));
                    None
                }
            }
        }
    };
    let raced = race::first(|cx| match addresses.next(cx, &mut causes.borrow_mut()) {
        Poll::Ready(Some((endpoint, address, patience))) => Next::Try(attempt(endpoint, address), patience),
        Poll::Ready(None) => Next::End,
        Poll::Pending => Next::Wait,
    });
    let late = async {
        Timer::new(3 * limit).await;
        None
    };
    if let Some(((link, wire), address)) = future::or(raced, late).await {
        line.wire.replace(wire);
        if addresses.are_several() {
            race::worked(address);
        }
        return Ok(link);
    }
    let mut causes = causes.into_inner();
    if causes.is_empty() {
        causes.push(match target.endpoints.is_empty() {
            true => "no endpoint".to_owned(),
            false => format!("no answer within {:?}", 3 * limit),
        });
    }
    causes.truncate(CAUSES_MAX);
    Err(causes.join("; "))
}

/// The addresses of a gateway's endpoints, in the order of the endpoints as far as their names are known.
struct Addresses<'a> {
    lookups: Vec<(&'a Endpoint, Lookup<'a>)>,
    found: VecDeque<(&'a Endpoint, SocketAddr)>,
    left: usize,
    limit: Duration,
}

type Lookup<'a> = Pin<Box<dyn Future<Output = Result<Vec<SocketAddr>, String>> + 'a>>;

impl<'a> Addresses<'a> {
    fn of(target: &'a Target) -> Self {
        let limit = target.options.connect_timeout;
        let lookup = |endpoint: &'a Endpoint| -> (&'a Endpoint, Lookup<'a>) {
            let resolved = target.resolver.resolve(&endpoint.host, endpoint.port);
            let resolved = async move { resolved.await.map_err(|error| words(&error)) };
            (endpoint, Box::pin(within(limit, "name lookup", resolved)))
        };
        Self {
            lookups: target.endpoints.iter().map(lookup).collect(),
            found: VecDeque::new(),
            left: ADDRESSES_MAX,
            limit,
        }
    }

    /// Whether there was a choice.
    fn are_several(&self) -> bool {
        self.left + 1 < ADDRESSES_MAX || !self.found.is_empty() || !self.lookups.is_empty()
    }

    /// The next one, and how long it is waited for alone.
    fn next(
        &mut self,
        cx: &mut Context<'_>,
        causes: &mut Vec<String>,
    ) -> Poll<Option<(&'a Endpoint, SocketAddr, Duration)>> {
        let found = &mut self.found;
        let mut names = 0;
        self.lookups.retain_mut(|(endpoint, lookup)| {
            if names >= NAMES_AT_ONCE && endpoint.host.parse::<IpAddr>().is_err() {
                return true;
            }
            match lookup.as_mut().poll(cx) {
                Poll::Pending => names += 1,
                Poll::Ready(Ok(addresses)) => {
                    found.extend(addresses.into_iter().map(|address| (*endpoint, address)));
                    return false;
                }
                Poll::Ready(Err(cause)) => {
                    causes.push(format!("{endpoint}: {cause}"));
                    return false;
                }
            }
            true
        });
        let place = race::that_worked(self.found.iter().map(|(_, address)| *address)).unwrap_or(0);
        match self.found.remove(place).filter(|_| self.left > 0) {
            Some((endpoint, address)) => {
                self.left -= 1;
                let patience = race::patience(self.found.len().min(self.left), self.limit);
                Poll::Ready(Some((endpoint, address, patience)))
            }
            None if self.lookups.is_empty() || self.left == 0 => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

async fn within<T>(limit: Duration, what: &str, attempt: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let late = async {
        Timer::new(limit).await;
        Err(format!("{what} took over {limit:?}"))
    };
    future::or(attempt, late).await
}

async fn connect_to(target: &Target, endpoint: &Endpoint, address: SocketAddr) -> Result<(Link, Weak<Wire>), String> {
    let authority: Authority = endpoint.to_string().parse().map_err(|e| format!("not an HTTP authority: {e}"))?;
    let options = &target.options;
    let tcp = TcpStream::connect_timeout(address, options.connect_timeout).await.map_err(|e| words(&e))?;
    let (mut transport, mut scheme) = (Transport::Plain(tcp), Scheme::HTTP);
    let tls = options.tls.now();
    if is_secure(endpoint, &tls) {
        // As long as all of it: who calls has the deadline.
        let limit = options.connect_timeout;
        transport = transport.secured_by(&tls, TLS_SECTION, &endpoint.host, ALPN, limit).await?;
        scheme = Scheme::HTTPS;
    }
    let wire = Rc::new(Wire::new(transport, target.spare.clone(), options).map_err(|e| words(&e))?);
    let exec = Exec { wire: wire.clone(), has_connection: Rc::default(), connection_task: Rc::default() };
    let mut builder = Builder::new(exec.clone());
    builder
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER);
    if let Some(interval) = target.options.ping_interval {
        builder.timer(GlommioTimer).keep_alive_interval(interval).keep_alive_while_idle(true);
    }
    let (send, client) = builder.handshake(Io(wire.clone())).await.map_err(|e| words(&e))?;
    let connection_task = exec.connection_task.take();
    let svc = Svc { send, scheme, authority };
    let mut link = Link { svc, client: Some(client), ended: None, goaway: Goaway::No, connection_task };
    link.alongside(poll_fn(|cx| wire.poll_greeted(cx)))
        .await
        .and_then(|settings| if settings { Ok(()) } else { Err("the first frame is not a SETTINGS frame".to_owned()) })
        .map_err(|cause| wire.said_over_tls().unwrap_or_else(|| format!("no HTTP/2: {cause}")))?;
    Ok((link, Rc::downgrade(&wire)))
}

type Client = Connection<Io, Body, Exec>;

/// An HTTP/2 connection that can take requests. Dropping it closes the socket.
pub(super) struct Link {
    pub svc: Svc,
    client: Option<Client>,
    ended: Option<String>,
    goaway: Goaway,
    connection_task: Option<Task<()>>,
}

/// Whether the server said that it takes no more requests on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goaway {
    No,
    Heard,
    Told,
}

impl Link {
    /// Drives hyper's dispatcher; ready when the connection takes no more requests.
    pub fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(client) = &mut self.client else { return Poll::Ready(()) };
        let Poll::Ready(end) = Pin::new(client).poll(cx) else { return Poll::Pending };
        self.client = None;
        if end.is_ok() {
            self.goaway = Goaway::Heard;
        }
        self.ended = Some(end.map_or_else(|error| words(&error), |()| "the gateway closed the connection".to_owned()));
        Poll::Ready(())
    }

    /// Drives the dispatcher (ready when it has ended), and tells once when it ended because the server said GOAWAY. That is no
    /// error: streams outlive it. (An end of file looks the same here; the stream's own end follows at once then.)
    pub fn look(&mut self, line: &Line, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(wire) = line.wire.borrow().upgrade() {
            wire.heard.wait(cx);
        }
        let ended = self.poll_ended(cx);
        self.tell(line);
        ended
    }

    /// Tells once of a GOAWAY that was heard.
    pub fn tell(&mut self, line: &Line) {
        if self.goaway == Goaway::Heard {
            self.goaway = Goaway::Told;
            line.report(StreamFact::GoingAway);
        }
    }

    /// Whether [`look`](Self::look) told of it.
    pub fn said_goaway(&self) -> bool {
        self.goaway == Goaway::Told
    }

    /// Waits for `work` and [`look`](Self::look)s meanwhile.
    pub async fn driving<T>(&mut self, line: &Line, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            let _ = self.look(line, cx);
            work.as_mut().poll(cx)
        })
        .await
    }

    /// Runs `work` with the dispatcher beside it; an error when the connection ends before `work` does.
    pub async fn alongside<T>(&mut self, work: impl Future<Output = T>) -> Result<T, String> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            let ended = self.poll_ended(cx);
            match work.as_mut().poll(cx) {
                Poll::Ready(done) => Poll::Ready(Ok(done)),
                Poll::Pending => ended.map(|()| Err(self.ended.clone().unwrap_or_default())),
            }
        })
        .await
    }

    /// An error's words, and those of the connection's end when that is known by now.
    pub async fn words(&mut self, error: Option<&hyper::Error>) -> String {
        let known = poll_fn(|cx| Poll::Ready(self.poll_ended(cx).is_ready())).await;
        match (error.map(|error| words(error)), &self.ended) {
            (Some(words), Some(ended)) if known && !words.contains(ended.as_str()) => format!("{words}; {ended}"),
            (Some(words), _) => words,
            (None, ended) => ended.clone().unwrap_or_default(),
        }
    }

    /// Closes the connection the polite way (GOAWAY, then end of file), within [`GOODBYE`].
    pub async fn say_goodbye(self) {
        let Self { svc, client, connection_task, .. } = self;
        drop((svc, client));
        if let Some(task) = connection_task {
            future::or(task, async {
                Timer::new(GOODBYE).await;
            })
            .await;
        }
    }
}

/// hyper's tasks as glommio tasks of this shard. The first one hyper spawns is the connection itself: it is kept, so
/// that dropping it closes the socket, and its writes are flushed at the end of each of its turns. The others end by
/// themselves when the connection is gone.
#[derive(Clone)]
pub(super) struct Exec {
    wire: Rc<Wire>,
    has_connection: Rc<Cell<bool>>,
    connection_task: Rc<RefCell<Option<Task<()>>>>,
}

impl<F: Future + 'static> hyper::rt::Executor<F> for Exec {
    fn execute(&self, future: F) {
        let wire = self.wire.clone();
        if self.has_connection.replace(true) {
            glommio::spawn_local(async move { drop(future.await) }).detach();
            return;
        }
        let task = glommio::spawn_local(async move {
            let mut connection = pin!(future);
            while !poll_fn(|cx| poll_turn(connection.as_mut(), &wire, cx)).await {
                pace::yield_now().await;
            }
        });
        self.connection_task.replace(Some(task));
    }
}

/// A turn of hyper's connection task; ready with whether it has ended, or must go on when the others have had their turn.
fn poll_turn(mut connection: Pin<&mut impl Future>, wire: &Wire, cx: &mut Context<'_>) -> Poll<bool> {
    wire.begin_turn();
    loop {
        if connection.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        match wire.poll_flush(cx) {
            // hyper sees the error at its next read.
            Poll::Ready(Err(_)) => {}
            Poll::Ready(Ok(())) | Poll::Pending if wire.has_read_enough() => return Poll::Ready(false),
            Poll::Ready(Ok(())) | Poll::Pending => return Poll::Pending,
        }
    }
}

/// A gRPC channel over one connection, for tonic's request bodies (and its generated clients). tonic sends paths only;
/// HTTP/2 wants scheme and authority, which this puts in.
pub struct Svc {
    send: SendRequest<Body>,
    scheme: Scheme,
    authority: Authority,
}

impl Svc {
    /// Hands a gRPC request to hyper; the future is its response.
    pub(super) fn request(&mut self, path: &'static str, body: Body) -> SvcFuture {
        let mut request = Request::new(body);
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = Uri::from_static(path);
        let headers = request.headers_mut();
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        tower_service::Service::call(self, request)
    }
}

type SvcFuture = Pin<Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>>>>;

impl tower_service::Service<Request<Body>> for Svc {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = SvcFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.send.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        // A request without a path stays as it is; hyper answers it with an error.
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        Box::pin(self.send.send_request(request))
    }
}

/// hyper's timer for HTTP/2 pings.
struct GlommioTimer;

struct Sleep(SendWrapper<Timer>);

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut *self.0).poll(cx).map(|_| ())
    }
}

impl hyper::rt::Sleep for Sleep {}

impl hyper::rt::Timer for GlommioTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(SendWrapper::new(Timer::new(duration))))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep(deadline.saturating_duration_since(Instant::now()))
    }
}
