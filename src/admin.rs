//! The admin port: a page for people at `/`, `/metrics`, `/livez`, `/readyz`, and what the load test reads.
//!
//! Promises that the port is ours before anything else starts ([`bind`]), that answering takes nothing from the
//! shards, and a bounded number of connections, each with a deadline for a whole request and a whole answer, so that no
//! number of slow clients keeps a new one from its answer. Refuses secrets (it shows what parts say of
//! themselves, and they keep to that) and every method but GET and HEAD.

mod accept;
mod ends;
mod listener;
mod page;
mod readiness;
mod tap;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rustls::ServerConfig;

use self::readiness::{Changes, Parts};
use crate::ports::Health;
use crate::ports::ends::EndsDesk;
use crate::ports::tap::TapDesk;
use crate::telemetry::metrics::Meter;
use crate::telemetry::watchdog::Heartbeats;

const INDEX: &str = "task-engine\n\
    /                  in a browser: a page for people\n\
    /metrics           Prometheus text; OpenMetrics when asked for\n\
    /livez             200 while every shard moves\n\
    /readyz            200 while events can be taken; ?verbose says each part\n\
    /debug/histograms  the stage histograms, HDR V2 in JSON\n\
    /debug/ends        how messages ended: ?session=S&user=U&msg=M, with engine.recorder on\n\
    /debug/tap/        what events do now, for task-engine tap\n";

/// Says how a part of the engine is. Called on each `/readyz`; must not block.
pub type HealthCheck = Arc<dyn Fn() -> Health + Send + Sync>;

/// Gives what TLS takes, for each new connection: certificates are renewed. May block.
pub type TlsSource = Arc<dyn Fn() -> Result<Arc<ServerConfig>, String> + Send + Sync>;

/// What the admin port shows.
#[derive(Clone)]
pub struct AdminState {
    /// The numbers.
    pub meter: Arc<Meter>,
    /// Whether the shards move.
    pub heartbeats: Arc<Heartbeats>,
    /// The parts, in the order they are listed; their names are shown.
    pub health: Vec<(&'static str, HealthCheck)>,
    /// Set when the stop begins: from then on `/readyz` answers 503 `stopping`.
    pub stopping: Arc<AtomicBool>,
    /// What shards remember of ends.
    pub ends: EndsDesk,
    /// Whoever looks on at events.
    pub tap: TapDesk,
}

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.health.iter().map(|part| part.0).collect();
        f.debug_struct("AdminState").field("health", &parts).field("stopping", &self.stopping).finish_non_exhaustive()
    }
}

/// Why the admin port could not be had, in words for the operator.
#[derive(Debug)]
pub struct BindError {
    address: String,
    cause: io::Error,
}

impl BindError {
    /// What the operating system said.
    pub fn kind(&self) -> io::ErrorKind {
        self.cause.kind()
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, cause } = self;
        let advice = match cause.kind() {
            io::ErrorKind::AddrInUse => {
                "another program (another task-engine?) has this port: stop it, or choose another one"
            }
            io::ErrorKind::AddrNotAvailable => "this machine has no such address: choose one of its own, or 0.0.0.0",
            io::ErrorKind::PermissionDenied => "ports below 1024 need privileges: choose a higher one",
            _ => "choose another address",
        };
        write!(f, "cannot listen on {address} for the admin port: {cause}; {advice} (--admin or admin.listen)")
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// Takes the admin port, such as `127.0.0.1:9100` (port 0: any free one). Before anything else is started, so that a taken
/// port is the first and only error.
///
/// # Errors
/// See [`BindError`].
pub fn bind(address: &str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|cause| BindError { address: address.to_owned(), cause })
}

/// Answers on `listener` (from [`bind`]) until the future is dropped. Needs a Tokio runtime with I/O and time.
///
/// # Errors
/// When the listener cannot be given to the runtime.
pub async fn serve(listener: TcpListener, state: AdminState) -> io::Result<()> {
    serve_over(listener, state, None).await
}

/// The same over TLS, where there is something for it.
///
/// # Errors
/// As of [`serve`].
pub async fn serve_over(listener: TcpListener, state: AdminState, tls: Option<TlsSource>) -> io::Result<()> {
    let address: SocketAddr = listener.local_addr()?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let listener = listener::Bounded::new(tokio::net::TcpListener::from_std(listener)?, tls);
    tracing::info!("admin port: {scheme}://{address}");
    axum::serve(listener, router(state)).await
}

/// Looks once a second whether the engine is ready, tells the log when that changes, and takes what the shards have handed
/// over; until the future is dropped. Needs a Tokio runtime with time.
pub async fn watch(state: AdminState) {
    readiness::register(&state);
    let mut changes = Changes::new(Parts::of(&state));
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        state.meter.fold();
        changes.look(Instant::now());
    }
}

fn router(state: AdminState) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/debug/histograms", get(histograms))
        .route("/debug/ends", get(ends::ends))
        .route("/debug/tap/start", get(tap::start))
        .route("/debug/tap/read", get(tap::read))
        .route("/debug/tap/stop", get(tap::stop))
        .with_state(state)
}

async fn metrics(State(state): State<AdminState>, headers: HeaderMap) -> Response {
    let format = accept::format(accepted(&headers));
    let head = [(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")];
    (head, state.meter.render(format)).into_response()
}

/// The `Accept` headers that can be read.
fn accepted(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok())
}

async fn histograms(State(state): State<AdminState>) -> Response {
    json_page(state.meter.histograms())
}

/// A page of this JSON.
fn json_page(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn livez(State(state): State<AdminState>) -> Response {
    match Parts::of(&state).standstills() {
        None => (StatusCode::OK, "ok\n").into_response(),
        Some(which) => (StatusCode::SERVICE_UNAVAILABLE, format!("{which}\n")).into_response(),
    }
}

async fn readyz(State(state): State<AdminState>, RawQuery(query): RawQuery) -> Response {
    let verbose = query.is_some_and(|query| query.split('&').any(|part| part.split('=').next() == Some("verbose")));
    let parts = Parts::of(&state);
    let said = parts.ask();
    let waiting = readiness::waiting(&said);
    let (status, summary) = if parts.is_stopping() {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned())
    } else if waiting.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", waiting.join(", ")))
    };
    let mut text = String::new();
    if verbose {
        said.iter().for_each(|(name, health)| text.push_str(&line(name, health)));
    }
    (status, text + &summary).into_response()
}

fn line(name: &str, health: &Health) -> String {
    match health {
        Health::Ready => format!("[+] {name} ok\n"),
        Health::Says(how) => format!("[+] {name}: {}\n", one_line(how)),
        Health::Waiting(why) => format!("[-] {name}: {}\n", one_line(why)),
        Health::Degraded(why) => format!("[~] {name}: {}\n", one_line(why)),
    }
}

fn one_line(why: &str) -> String {
    why.replace(['\n', '\r'], " ")
}
