//! One shard: the pure core, its real gateway connections, and stores that answer at once.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use glommio::LocalExecutorBuilder;
use glommio::timer::Timer;
use prost::Message;
use task_engine::edge::gateway::{GatewayOptions, Gateways};
use task_engine::edge::resolve::Resolver;
use task_engine::model::ids::{Nanos, ShardId};
use task_engine::model::names::{NameList, Route, RouteList};
use task_engine::model::outcome::RecipientOutcome;
use task_engine::model::priority::Said;
use task_engine::ports::mailbox::LocalFacts;
use task_engine::ports::{DeliveryTag, Endpoint, GatewayRecord, Protocol};
use task_engine::push::facts::{Input, Output};
use task_engine::push::inbox::InboxStore;
use task_engine::push::{Push, Settings};

/// The protocols a test goes through.
pub const PROTOCOLS: [Protocol; 3] = [Protocol::Stream, Protocol::Batch, Protocol::Unary];
/// The recipients of every event.
pub const USERS: [&str; 2] = ["ann", "bob"];

pub struct Engine {
    pub push: Push,
    gateways: Gateways,
    facts: LocalFacts,
    began: Instant,
    pub warnings: Vec<String>,
    next_tag: u64,
}

impl Engine {
    fn new(delivery_timeout: Duration) -> Self {
        let facts = LocalFacts::default();
        let resolver = Resolver::start().expect("threads");
        let gateways = Gateways::new(facts.clone(), resolver, GatewayOptions::default());
        let mut push = Push::new(Settings {
            shard: ShardId(0),
            shards: 1,
            events_window: usize::MAX,
            group_users_max: task_engine::model::limits::GROUP_USERS_MAX,
            members_ttl: Duration::from_secs(60),
            empty_wait: Duration::from_secs(5),
            registry_forget_after: Duration::from_secs(300),
            gateway_table: task_engine::push::TableBounds::default(),
            caches_routes: true,
            delivery_timeout,
            max_retry: 2,
            retry_interval: Duration::from_millis(50),
            inbox: InboxStore::Off,
        });
        push.take(Input::RoutesTracked(true));
        Self { push, gateways, facts, began: Instant::now(), warnings: Vec::new(), next_tag: 0 }
    }

    /// The registry lists gateway A there.
    pub fn list(&mut self, address: SocketAddr, protocol: Protocol) {
        let protocols = testkit::table::only(protocol);
        let endpoints = vec![Endpoint { host: address.ip().to_string(), port: address.port(), secure: false }];
        self.push.take(Input::GatewayListed(GatewayRecord {
            gateway_id: "A".into(),
            endpoints,
            protocols,
            others: Vec::new(),
        }));
    }

    /// An event of a session for everyone.
    pub fn event(&mut self, session: &str, msg_id: i64) {
        let event = testkit::events::event(session, "system", msg_id);
        let tag = DeliveryTag { reader: 0, number: self.next_tag };
        self.next_tag += 1;
        self.push.take(Input::Event { payload: Bytes::from(event.encode_to_vec()), tag, said: Said::Nothing });
    }

    /// Turns until it holds, for so long at the most; how long it took when it did.
    pub async fn run_until(&mut self, limit: Duration, holds: impl Fn(&Push) -> bool) -> Option<Duration> {
        let began = Instant::now();
        loop {
            self.turn();
            if holds(&self.push) {
                return Some(began.elapsed());
            }
            if began.elapsed() > limit {
                return None;
            }
            Timer::new(Duration::from_millis(2)).await;
        }
    }

    fn turn(&mut self) {
        self.push.set_now(Nanos(self.began.elapsed().as_nanos() as u64));
        let mut facts = Vec::new();
        self.facts.take_all(&mut facts);
        facts.into_iter().for_each(|fact| self.push.take(fact));
        loop {
            let mut outputs = Vec::new();
            self.push.flush(&mut outputs);
            if outputs.is_empty() {
                return;
            }
            outputs.into_iter().for_each(|output| self.carry_out(output));
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::AskMembers { ask, sessions, .. } => {
                let list = || USERS.iter().collect::<NameList>();
                self.push.take(Input::Members { ask, answer: Ok(sessions.iter().map(|_| list()).collect()) });
            }
            Output::AskRoutes { ask, users } => {
                let routes = users.iter().map(|_| Route::Gateway("A")).collect::<RouteList>();
                self.push.take(Input::Routes { ask, answer: Ok(routes) });
            }
            Output::Open { gateway, stream, endpoints, protocol, .. } => {
                self.gateways.open(gateway, stream, endpoints, protocol);
            }
            Output::Send { gateway, stream, chunk } => self.gateways.send(gateway, stream, chunk),
            Output::Call { gateway, stream, call, request } => self.gateways.call(gateway, stream, call, request),
            Output::Finish { gateway, stream } => self.gateways.finish(gateway, stream),
            Output::Cut { gateway, stream } => self.gateways.cut(gateway, stream),
            Output::PublishLetter { ask, .. } => self.push.take(Input::LetterPublished { ask, answer: Ok(()) }),
            Output::Warn { reason, detail } => self.warnings.push(format!("{reason}: {detail}")),
            Output::Settle(_) => {}
            other => panic!("not of this test: {other:?}"),
        }
    }

    pub fn ended(&self, end: RecipientOutcome) -> u64 {
        self.push.counts().recipients_ended[end as usize]
    }

    /// The recipients' ends, for messages.
    pub fn ends(&self) -> String {
        let ends = RecipientOutcome::ALL.iter().filter(|end| self.ended(**end) > 0);
        ends.map(|end| format!("{} {}", end.label(), self.ended(*end))).collect::<Vec<_>>().join(", ")
    }
}

/// Runs each case on a shard of its own, some at a time: most of their time they wait. A case gives what is wrong with it.
pub fn each_on_a_shard<C: Clone + Send + std::fmt::Debug + 'static>(
    cases: &[C],
    delivery_timeout: Duration,
    test: impl Fn(Engine, C) -> Pin<Box<dyn Future<Output = Result<String, String>>>> + Copy + Send + 'static,
) {
    let mut wrong = Vec::new();
    for some in cases.chunks(9) {
        let threads = some.iter().cloned().map(|case| {
            std::thread::spawn(move || {
                let executor = LocalExecutorBuilder::default().io_memory(64 * 1024).make().expect("an executor");
                let name = format!("{case:?}");
                (name, executor.run(async move { test(Engine::new(delivery_timeout), case).await }))
            })
        });
        for thread in threads.collect::<Vec<_>>() {
            match thread.join().expect("no panic") {
                (name, Ok(what)) => println!("{name}: {what}"),
                (name, Err(what)) => wrong.push(format!("{name}: {what}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
