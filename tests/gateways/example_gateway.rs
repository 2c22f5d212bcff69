//! Promise: the example of a gateway (`examples/gateway`) speaks each protocol with a whole engine: all is delivered, in order, and a
//! user who is not there is told as one; where contents are kept it is told by notices.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use prost::Message as _;
use task_engine::Engine;
use task_engine::config::Config;
use task_engine::edge::memory::{
    MemoryDeadLetters, MemoryInbox, MemoryMembers, MemoryRegistry, MemoryRoutes, MemorySource,
};
use task_engine::model::proto::event::PushEvent;
use task_engine::model::proto::gateway::push_service_server::PushServiceServer;
use task_engine::model::proto::gateway::{PushMessage, SessionNotice};
use task_engine::ports::{
    ContentReader, Endpoint, GatewayRecord, Inbox, InboxWriter, LookupError, MessageKey, Protocols,
};
use testkit::wait::eventually;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

#[path = "../../examples/gateway/service.rs"]
mod service;

const EVENTS: i64 = 30;

/// Where the contents of all messages of one session are kept.
const NOTICED: &str = "notice";

/// What each user got, in order, and the sequences that each was told of; whose name begins with `gone` is not here.
#[derive(Default)]
struct Kept {
    messages: Mutex<BTreeMap<String, Vec<i64>>>,
    notices: Mutex<BTreeMap<String, Vec<i64>>>,
}

fn keep(kept: &Mutex<BTreeMap<String, Vec<i64>>>, user: &str, number: i64) -> Result<(), String> {
    if user.starts_with("gone") {
        return Err(service::NOT_CONNECTED.to_owned());
    }
    kept.lock().unwrap().entry(user.to_owned()).or_default().push(number);
    Ok(())
}

impl service::Connections for Kept {
    fn deliver(&self, user: &str, message: &PushMessage) -> Result<(), String> {
        keep(&self.messages, user, message.msg_id)
    }

    fn notify(&self, user: &str, notice: &SessionNotice) -> Result<(), String> {
        keep(&self.notices, user, notice.max_seq_id)
    }
}

struct WithContents(MemoryInbox);

impl Inbox for WithContents {
    fn open(&self) -> Box<dyn InboxWriter> {
        self.0.open()
    }

    fn open_contents(&self) -> Option<Box<dyn ContentReader>> {
        Some(Box::new(OfOneSession))
    }
}

struct OfOneSession;

impl ContentReader for OfOneSession {
    fn are_kept(&mut self, messages: &[MessageKey]) -> Vec<Result<bool, LookupError>> {
        messages.iter().map(|message| Ok(&*message.session == NOTICED)).collect()
    }
}

/// Serves until the process ends; its address.
fn start(kept: Arc<Kept>, protocols: Protocols) -> SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
            tell.send(incoming.local_addr().expect("its address")).expect("the test waits");
            let server = match protocols.stream_many {
                true => Server::builder().add_service(service::ManyGateway::new(kept)),
                false => Server::builder().add_service(PushServiceServer::new(service::Gateway(kept))),
            };
            server.serve_with_incoming(incoming).await
        })
    });
    told.recv().expect("it listens")
}

const NONE: Protocols = Protocols { stream: false, ..Protocols::STREAM };
const EACH: [(&str, Protocols); 6] = [
    ("unary", Protocols { unary: true, ..NONE }),
    ("stream", Protocols { stream: true, ..NONE }),
    ("many", Protocols { stream_many: true, ..NONE }),
    ("batch", Protocols { batch: true, ..NONE }),
    ("group", Protocols { group: NonZeroU32::new(100_000), ..NONE }),
    (NOTICED, Protocols { group: NonZeroU32::new(100_000), notice: true, ..NONE }),
];

fn users(protocol: &str) -> Vec<String> {
    (0..100).map(|user| format!("{protocol}-{user}")).collect()
}

#[test]
fn it_speaks_each_protocol() {
    let (source, publisher) = MemorySource::new();
    let (members, routes, registry) = (MemoryMembers::new(), MemoryRoutes::new(), MemoryRegistry::new());
    let kept = Arc::new(Kept::default());
    for (name, protocols) in EACH {
        let address = start(kept.clone(), protocols);
        let endpoint = Endpoint { host: address.ip().to_string(), port: address.port(), secure: false };
        let (gateway_id, endpoints) = (name.into(), vec![endpoint]);
        registry.set(GatewayRecord { gateway_id, endpoints, protocols, others: Vec::new() });
        users(name).iter().for_each(|user| routes.set(user, name));
        let gone = format!("gone-{name}");
        routes.set(&gone, name);
        members.set(name, users(name).into_iter().chain([gone]));
    }
    let mut config = Config::default();
    (config.engine.cores, config.admin.listen) = (1, ([127, 0, 0, 1], 0).into());
    (config.inbox.rows_up_to, config.gateway.notice_above) = (50, 60);
    let inbox = MemoryInbox::new();
    let engine = Engine::builder(config).source(source).members(members).routes(routes).registry(registry);
    let engine = engine
        .inbox(WithContents(inbox.clone()))
        .dead_letters(MemoryDeadLetters::new())
        .start()
        .expect("the engine starts");
    for msg_id in 1..=EVENTS {
        for (name, _) in EACH {
            let event = PushEvent {
                msg_id,
                seq_id: msg_id,
                session_id: name.into(),
                from_username: "system".into(),
                ..PushEvent::default()
            };
            publisher.publish(event.encode_to_vec()).expect("the engine takes it");
        }
    }
    eventually("all is settled", || publisher.settled() == EVENTS as u64 * EACH.len() as u64);
    println!("{}", engine.stop());
    let (messages, notices) = (kept.messages.lock().unwrap(), kept.notices.lock().unwrap());
    let all: Vec<i64> = (1..=EVENTS).collect();
    for user in EACH.iter().filter(|(name, _)| *name != NOTICED).flat_map(|(name, _)| users(name)) {
        assert_eq!((messages.get(&user), notices.get(&user)), (Some(&all), None), "{user}");
    }
    for user in users(NOTICED) {
        let told = notices.get(&user).expect("a notice");
        assert!(told.is_sorted() && told.last() == Some(&EVENTS), "{user}: {told:?}");
        assert_eq!(messages.get(&user), None, "{user}");
    }
    let rows = EVENTS as usize * (EACH.len() - 1);
    assert_eq!(inbox.rows().len(), rows, "who was not there has a row of each message that is in no store");
}
