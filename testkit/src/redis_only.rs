//! A throw-away redis-server on a free port, and one shard's routes served from it.

#![expect(clippy::disallowed_methods, reason = "polls a real server until the fact is there")]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::process::{Child, Command, Stdio};
use std::task::Poll;
use std::time::{Duration, Instant};

use glommio::timer::Timer;
use harness::servers::{Authority, CertificateFiles};
use task_engine::config::{HostPort, RedisConfig};
use task_engine::edge::redis::{Config, RedisRoutes};
use task_engine::edge::resolve::Resolver;
use task_engine::model::ids::ShardId;
use task_engine::model::names::{NameList, Route, RouteList};
use task_engine::ports::mailbox::LocalFacts;
use task_engine::ports::{Health, LookupError, RouteAsk, RouteQueue, Routes};
use task_engine::push::facts::{AskNo, Input};

use crate::mysql_etcd::free_port;

/// No wait of a test is longer.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A redis-server that is killed when this is dropped.
pub struct Server {
    child: Option<Child>,
    folder: tempfile::TempDir,
    port: u16,
    options: Vec<String>,
}

impl Server {
    /// Starts one with these options added, and waits until it answers.
    pub fn start(options: &[&str]) -> Self {
        let port = free_port();
        let folder = tempfile::tempdir().expect("a temp folder");
        let mut server =
            Self { child: None, folder, port, options: options.iter().map(|option| (*option).to_owned()).collect() };
        server.start_again();
        server
    }

    /// Starts one that speaks TLS only, with this certificate, and takes clients with one of the same CA only. What it holds is reached
    /// over its Unix socket ([`client`](Self::client)).
    pub fn over_tls(authority: &Authority, files: &CertificateFiles, options: &[&str]) -> Self {
        let port = free_port();
        let folder = tempfile::tempdir().expect("a temp folder");
        let socket = folder.path().join("socket").display().to_string();
        let path = |path: &std::path::Path| path.display().to_string();
        let (cert, key, ca) = (path(&files.cert), path(&files.key), path(&authority.ca()));
        let tls = [
            ["--port", "0"],
            ["--tls-port", &port.to_string()],
            ["--tls-cert-file", &cert],
            ["--tls-key-file", &key],
            ["--tls-ca-cert-file", &ca],
            ["--unixsocket", &socket],
        ];
        let options = tls.concat().into_iter().chain(options.iter().copied()).map(ToOwned::to_owned).collect();
        let mut server = Self { child: None, folder, port, options };
        server.start_again();
        server
    }

    /// Starts it on the same port.
    pub fn start_again(&mut self) {
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(self.folder.path())
            .args(&self.options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        self.child = Some(child);
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(started.elapsed() < PATIENCE, "redis-server did not start on port {}", self.port);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            child.wait().expect("gone");
        }
    }

    /// Stops its process in the middle of whatever it does, or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        let child = self.child.as_ref().expect("it runs");
        if frozen {
            return harness::servers::freeze(child.id()).expect("it stands still");
        }
        crate::signals::send(child, libc::SIGCONT);
    }

    /// How to reach it.
    pub fn config(&self) -> Config {
        let at = HostPort { host: "localhost".to_owned(), port: self.port };
        Config { server: RedisConfig { at, ..RedisConfig::default() }, ..Config::default() }
    }

    /// A connection to change what is stored; `user` is `:password@` or nothing.
    pub fn client(&self, user: &str) -> redis::Connection {
        let socket = self.folder.path().join("socket");
        let url = match socket.exists() {
            true => format!("redis+unix://{}", socket.display()),
            false => format!("redis://{user}127.0.0.1:{}/", self.port),
        };
        let client = redis::Client::open(url).expect("an address");
        // On a thread of its own: what an io_uring of the test's thread still has to tell interrupts a read that has a time limit.
        let opened = std::thread::spawn(move || client.get_connection_with_timeout(PATIENCE));
        opened.join().expect("no panic").expect("redis answers")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command.
pub fn run(client: &mut redis::Connection, words: &[&str]) {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]).exec(client).unwrap_or_else(|error| panic!("{words:?}: {error}"));
}

/// The key of a user's route.
pub fn key(user: &str) -> String {
    format!("resonance:router:user:{user}")
}

/// Connects a user to a gateway.
pub fn connect(client: &mut redis::Connection, user: &str, gateway: &str) {
    let value =
        format!(r#"{{"username":"{user}","gateway_id":"{gateway}","remote_ip":"10.0.0.1:5","timestamp":1732000000}}"#);
    run(client, &["SET", &key(user), &value]);
}

/// The pump's side of one shard whose routes come from Redis.
pub struct Shard {
    /// The counter.
    pub port: RouteQueue,
    facts: LocalFacts,
    seen: RefCell<VecDeque<Input>>,
    tracking: RefCell<Vec<bool>>,
}

/// Serves routes on a shard of its own while the test runs.
pub fn on_a_shard<T: 'static>(config: Config, test: impl AsyncFnOnce(Shard) -> T) -> T {
    on_a_shard_with(config, Resolver::start().expect("threads"), test)
}

/// The same with another resolver of names.
pub fn on_a_shard_with<T: 'static>(config: Config, resolver: Resolver, test: impl AsyncFnOnce(Shard) -> T) -> T {
    let executor = glommio::LocalExecutorBuilder::default().io_memory(64 << 10).make().expect("executor");
    let routes = RedisRoutes::new(config, resolver);
    executor.run(async move {
        let facts = LocalFacts::default();
        let port = RouteQueue::new(ShardId(0), facts.clone());
        let server = glommio::spawn_local(routes.serve(port.clone()));
        let result = test(Shard { port, facts, seen: RefCell::default(), tracking: RefCell::default() }).await;
        server.cancel().await;
        result
    })
}

impl Shard {
    /// Asks for routes.
    pub fn ask<'a>(&self, ask: AskNo, users: impl IntoIterator<Item = &'a str>) {
        let users: NameList = users.into_iter().collect();
        self.port.put(RouteAsk { ask, users });
    }

    /// What was said about tracking up to the last fact that was taken.
    pub fn said_tracking(&self) -> Vec<bool> {
        self.tracking.borrow().clone()
    }

    /// The next fact.
    pub async fn fact(&self) -> Input {
        self.fact_within(PATIENCE).await.expect("a fact in time")
    }

    /// The next fact that comes in time. What is said about tracking is kept aside.
    pub async fn fact_within(&self, patience: Duration) -> Option<Input> {
        let mut timer = pin!(Timer::new(patience));
        poll_fn(|cx| {
            if self.seen.borrow().is_empty() {
                let mut fresh = Vec::new();
                if !self.facts.falling_asleep(cx.waker()) {
                    self.facts.take_all(&mut fresh);
                }
                self.seen.borrow_mut().extend(fresh);
            }
            while let Some(fact) = self.seen.borrow_mut().pop_front() {
                match fact {
                    Input::RoutesTracked(tracking) => self.tracking.borrow_mut().push(tracking),
                    fact => return Poll::Ready(Some(fact)),
                }
            }
            Pin::new(&mut timer).poll(cx).map(|_| None)
        })
        .await
    }

    /// The next fact, which must be an answer to this ask.
    pub async fn answer(&self, number: AskNo) -> Result<RouteList, LookupError> {
        match self.fact().await {
            Input::Routes { ask, answer } if ask == number => answer,
            other => panic!("expected the answer to ask {number}, got {other:?}"),
        }
    }

    /// Asks for one user until Redis answers, as the core does; what else is said meanwhile is handed out.
    pub async fn ask_until_answered(&self, user: &str) -> (RouteList, Vec<Input>) {
        let (started, mut others) = (Instant::now(), Vec::new());
        for ask in 1_000_000.. {
            self.ask(ask, [user]);
            loop {
                match self.fact().await {
                    Input::Routes { answer: Ok(routes), .. } => return (routes, others),
                    Input::Routes { answer: Err(error), .. } => {
                        assert!(started.elapsed() < PATIENCE, "still {error}");
                        break;
                    }
                    other => others.push(other),
                }
            }
            Timer::new(Duration::from_millis(20)).await;
        }
        unreachable!("asks do not run out")
    }

    /// The trouble the port tells `/readyz`.
    pub fn trouble(&self) -> String {
        match self.port.health() {
            Health::Waiting(why) | Health::Degraded(why) => why,
            Health::Ready | Health::Says(_) => panic!("ready, expected trouble"),
        }
    }
}

/// The routes as text: the gateway's id, several with `+` between them, `-` for offline, `!` for a bad one, `?` for one that could
/// not be read.
pub fn text(routes: &RouteList) -> Vec<String> {
    let word = |route: Route<'_>| match route {
        Route::Gateway(id) => id.to_owned(),
        Route::Gateways(ids) => ids.iter().collect::<Vec<_>>().join("+"),
        Route::Offline => "-".to_owned(),
        Route::Bad => "!".to_owned(),
        Route::Unread => "?".to_owned(),
    };
    routes.iter().map(word).collect()
}
