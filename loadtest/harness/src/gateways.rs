//! Real gRPC gateways over sockets, which misbehave on request.
//!
//! All gateways of a process share one thread of their own. A gateway listens on 127.0.0.1 on a port that outlasts
//! `kill` and `restart`. Each push it is sent is told to its [`Recorder`] before it is answered. Answers go out in
//! request order, one for each request, whatever the behaviour; a deaf gateway holds them back and gives them when it
//! is told to behave otherwise.

mod control;
mod cuttable;
mod fast;
mod io;
mod kept;
mod plain;
mod process;
mod protocols;
mod record;
mod serve;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use self::control::{Control, NOT_CONNECTED, Order};
pub use self::kept::KeptGroups;
pub use self::process::{GatewayProcess, serve as serve_as_process};
pub use self::protocols::Protocols;
pub use self::record::{Answer, Checked, KeptNotice, Log, Noticed, Record, Recorder, Seen};
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::servers::{self, Authority, CertificateFiles};

/// How long the gateways' thread may take for what it is told.
const DEADLINE: Duration = Duration::from_secs(10);

/// How a gateway treats what it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers at once.
    #[default]
    Prompt,
    /// Waits this long before each answer; a stream's answers wait one after the other.
    Slow(Duration),
    /// Reads and never answers.
    Deaf,
    /// Does not even read.
    Stuck,
    /// Answers at once and cuts all streams at random.
    Flapping {
        /// The mean time from cut to cut.
        every: Duration,
        /// The same seed cuts after the same pauses.
        seed: u64,
    },
}

/// What a gateway is started with.
#[derive(Clone)]
pub struct GatewayOptions {
    /// Its id, as routes and the registry write it.
    pub id: String,
    /// Its port on 127.0.0.1; a free one when left out.
    pub port: Option<u16>,
    /// Which rpcs it knows.
    pub protocols: Protocols,
    /// How it treats what it is sent, at first.
    pub behaviour: Behaviour,
    /// Who is told of each push.
    pub recorder: Arc<dyn Recorder>,
    /// The HTTP/2 window of each stream and connection, in bytes.
    pub window: u32,
    /// Reads HTTP/2 data by hand, for load tests: several times faster than the plain way, without the behaviours slow
    /// and deaf, and without whole messages in what is recorded.
    pub fast: bool,
}

impl GatewayOptions {
    /// A prompt gateway that knows only `PushMessage`, as today's do.
    pub fn new(id: impl Into<String>, recorder: Arc<dyn Recorder>) -> Self {
        let id = id.into();
        let (protocols, behaviour) = (Protocols::STREAM, Behaviour::Prompt);
        Self { id, port: None, protocols, behaviour, recorder, window: 1 << 20, fast: false }
    }

    /// The same with other protocols.
    pub fn protocols(mut self, protocols: Protocols) -> Self {
        self.protocols = protocols;
        self
    }

    /// The same, fast.
    pub fn fast(mut self) -> Self {
        self.fast = true;
        self
    }

    /// The same with another first behaviour.
    pub fn behaviour(mut self, behaviour: Behaviour) -> Self {
        self.behaviour = behaviour;
        self
    }
}

/// A running gateway; ends with its value.
pub struct Gateway {
    control: Arc<Control>,
    port: u16,
    window: u32,
    running: Mutex<Option<Running>>,
}

struct Running {
    order: watch::Sender<Order>,
    ended: mpsc::Receiver<()>,
}

impl Gateway {
    /// Starts one.
    ///
    /// # Errors
    /// When its port is taken, or none is free.
    pub fn start(options: GatewayOptions) -> Result<Self> {
        let GatewayOptions { id, port, protocols, behaviour, recorder, window, fast } = options;
        let control = Arc::new(Control::new(&id, protocols, recorder, behaviour, fast));
        let port = port.map_or_else(servers::free_port, Ok)?;
        let gateway = Self { control, port, window, running: Mutex::new(None) };
        gateway.restart()?;
        gateway.behave(behaviour);
        Ok(gateway)
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.control.id
    }

    /// Its port on 127.0.0.1, the same over all restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:port`.
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What it knows.
    pub fn protocols(&self) -> Protocols {
        self.control.protocols
    }

    /// From now on treats what it is sent like this.
    pub fn behave(&self, behaviour: Behaviour) {
        self.control.behave(behaviour);
        if let Behaviour::Flapping { every, seed } = behaviour {
            runtime().spawn(self.control.clone().flap(every, Rng::new(seed)));
        }
    }

    /// From now on its new connections speak TLS only, and it takes clients with a certificate of the same CA only.
    ///
    /// # Errors
    /// When its certificate cannot be used, or it speaks TLS already.
    pub fn secure(&self, authority: &Authority, files: &CertificateFiles) -> Result<()> {
        let acceptor = TlsAcceptor::from(Arc::new(authority.server_config(files)?));
        self.control.tls.set(acceptor).map_err(|_| Error::new(format!("gateway {} speaks TLS already", self.id())))
    }

    /// Answers pushes for these users with `user not connected`.
    pub fn refuse<S: Into<String>>(&self, users: impl IntoIterator<Item = S>) {
        self.fail(users, NOT_CONNECTED);
    }

    /// Answers pushes for these users with this error.
    pub fn fail<S: Into<String>>(&self, users: impl IntoIterator<Item = S>, text: &str) {
        self.control.fail(&mut users.into_iter().map(Into::into), text);
    }

    /// Refuses and fails nobody any longer.
    pub fn fail_nobody(&self) {
        self.control.fail_nobody();
    }

    /// Resets all streams and calls now; connections stay open.
    pub fn cut_streams(&self) {
        self.control.cut_streams();
    }

    /// Sends GOAWAY on all connections: what is open goes on, new streams need a new connection.
    pub fn goaway(&self) {
        if let Some(running) = &*self.running() {
            running.order.send_modify(|order| {
                *order = Order::GoAway(if let Order::GoAway(times) = order { *times + 1 } else { 1 });
            });
        }
    }

    /// Ends at once as a killed process does: connections are reset, the port refuses. Returns when that is done.
    pub fn kill(&self) {
        if let Some(Running { order, ended }) = self.running().take() {
            order.send_replace(Order::Die);
            self.control.cut_streams();
            // Either it says that it ended, or its end dropped the channel.
            let _ = ended.recv_timeout(DEADLINE);
        }
    }

    /// Listens again on the same port, killing it first when it still runs. Behaviour and failing users stay.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn restart(&self) -> Result<()> {
        self.kill();
        let listener = servers::listen_on(self.port);
        self.serve(listener.map_err(|cause| self.cannot_listen(cause))?)
    }

    fn cannot_listen(&self, cause: std::io::Error) -> Error {
        Error::of(&format!("gateway {} cannot listen on {}", self.id(), self.addr()), cause)
    }

    fn serve(&self, listener: std::net::TcpListener) -> Result<()> {
        let listener = listener.set_nonblocking(true).and_then(|()| {
            let _inside = runtime().enter();
            TcpListener::from_std(listener)
        });
        let listener = listener.map_err(|cause| self.cannot_listen(cause))?;
        let order = watch::Sender::new(Order::Serve);
        let (ending, ended) = mpsc::channel();
        let serving = serve::accept(listener, self.control.clone(), order.subscribe(), self.window);
        runtime().spawn(async move {
            serving.await;
            // Nobody may be waiting for it.
            let _ = ending.send(());
        });
        *self.running() = Some(Running { order, ended });
        Ok(())
    }

    /// Pushes it was sent since its start, over restarts.
    pub fn pushes(&self) -> u64 {
        self.control.counters.pushes.load(Ordering::SeqCst)
    }

    /// Pushes to lists that were notices, counted as [`pushes`](Self::pushes) are but one a list.
    pub fn notices(&self) -> u64 {
        self.control.counters.notices.load(Ordering::SeqCst)
    }

    /// Answers it gave (one a request or batch).
    pub fn answers(&self) -> u64 {
        self.control.counters.answers.load(Ordering::SeqCst)
    }

    /// Connections it accepted since its start.
    pub fn accepted(&self) -> u64 {
        self.control.counters.accepted.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub fn open(&self) -> u64 {
        self.control.counters.open.load(Ordering::SeqCst)
    }

    /// Streams opened since its start (a unary call counts as one).
    pub fn streams(&self) -> u64 {
        self.control.counters.streams.load(Ordering::SeqCst)
    }

    /// HTTP/2 pings it was sent since its start.
    pub fn pings(&self) -> u64 {
        self.control.counters.pings.load(Ordering::SeqCst)
    }

    /// Waits until something holds of this gateway.
    ///
    /// # Errors
    /// When it does not hold before the deadline.
    pub fn wait(&self, what: &str, deadline: Duration, holds: impl Fn(&Self) -> bool) -> Result<()> {
        let until = Instant::now() + deadline;
        while !holds(self) {
            if Instant::now() > until {
                return Err(Error::new(format!("gateway {}: not within {deadline:?}: {what}", self.id())));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.control.behave(Behaviour::Prompt); // ends the flapping
        self.kill();
    }
}

/// The one thread of all gateways of this process.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let built = builder.worker_threads(1).thread_name("gateways").enable_all().build();
        built.expect("a Tokio runtime needs a thread and an epoll; without them no test can run")
    })
}
