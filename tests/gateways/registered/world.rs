//! Shards of the pure core in virtual time: whatever a stream is sent is noted under the id that the stream was opened for,
//! and answered at once.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use task_engine::model::ids::{GatewayIx, Nanos, Partition, ShardId, StreamNo};
use task_engine::model::limits::GROUP_USERS_MAX;
use task_engine::model::names::{NameList, Route, RouteList};
use task_engine::model::outcome::RecipientOutcome;
use task_engine::model::priority::Said;
use task_engine::model::proto::gateway::{PushMessageRequest, PushMessageResponse};
use task_engine::ports::{DeliveryTag, Endpoint, GatewayRecord, Protocols};
use task_engine::push::facts::{Input, Output, StreamEnd, StreamFact};
use task_engine::push::inbox::InboxStore;
use task_engine::push::{Push, Settings, TableBounds};

/// What a shard is given; delivery_timeout 1 s, and an address is not used once it is not listed.
pub fn settings(shard: u16, shards: u16, gateway_table: TableBounds) -> Settings {
    Settings {
        shard: ShardId(shard),
        shards,
        events_window: usize::MAX,
        group_users_max: GROUP_USERS_MAX,
        members_ttl: Duration::from_secs(36_000),
        empty_wait: Duration::from_secs(5),
        caches_routes: true,
        delivery_timeout: Duration::from_secs(1),
        registry_forget_after: Duration::ZERO,
        gateway_table,
        max_retry: 2,
        retry_interval: Duration::from_millis(50),
        inbox: InboxStore::Off,
    }
}

/// Few places, short waits.
pub fn bounds(unlisted: usize) -> TableBounds {
    TableBounds { unlisted, forget_after: Duration::from_secs(60), forget_soon: Duration::from_secs(2) }
}

/// The shards, and the world in tables.
pub struct Shards {
    pub shards: Vec<Push>,
    pub now: Nanos,
    /// The members of each session.
    pub members: BTreeMap<String, Vec<String>>,
    /// The routes; who has none is offline.
    pub routes: BTreeMap<String, String>,
    /// What came over the streams of each id: user and msg_id.
    pub pushed: BTreeMap<String, Vec<(String, i64)>>,
    pub warned: Vec<&'static str>,
    /// Gateways that refuse a connection.
    pub refusing: Vec<String>,
    pub opened: Vec<String>,
    streams: BTreeMap<(usize, u32, u32), String>,
    next_tag: u64,
}

impl Shards {
    pub fn new(settings: Vec<Settings>) -> Self {
        let mut shards = settings.into_iter().map(Push::new).collect::<Vec<_>>();
        shards.iter_mut().for_each(|shard| shard.take(Input::RoutesTracked(true)));
        Self {
            shards,
            now: Nanos(0),
            members: BTreeMap::new(),
            routes: BTreeMap::new(),
            pushed: BTreeMap::new(),
            warned: Vec::new(),
            refusing: Vec::new(),
            opened: Vec::new(),
            streams: BTreeMap::new(),
            next_tag: 0,
        }
    }

    fn owner(&self, gateway: &str) -> usize {
        usize::from(ShardId::of_gateway(gateway, self.shards.len() as u16).0)
    }

    /// An id that this shard owns.
    pub fn id_of(&self, shard: usize, name: &str) -> String {
        let mut ids = (0..).map(|number| format!("{name}-{number}"));
        ids.find(|id| self.owner(id) == shard).expect("every second one")
    }

    /// A session that this shard is home to.
    pub fn session_of(&self, shard: usize) -> String {
        let of = |id: &str| ShardId::of_partition(Partition::of(id.as_bytes(), 64), self.shards.len() as u16);
        let mut ids = (0..).map(|number| format!("session:{number}"));
        ids.find(|id| of(id) == ShardId(shard as u16)).expect("every second one")
    }

    pub fn list(&mut self, gateway: &str) {
        let endpoints = vec![Endpoint { host: "gw".into(), port: 1, secure: false }];
        let record =
            GatewayRecord { gateway_id: gateway.into(), endpoints, protocols: Protocols::STREAM, others: Vec::new() };
        let owner = self.owner(gateway);
        self.shards[owner].take(Input::GatewayListed(record));
        self.run();
    }

    pub fn unlist(&mut self, gateway: &str) {
        self.shards.iter_mut().for_each(|shard| shard.take(Input::GatewayGone(gateway.into())));
        self.run();
    }

    /// The store says where the user is, and tells that it changed.
    pub fn moves(&mut self, user: &str, gateway: &str) {
        self.routes.insert(user.to_owned(), gateway.to_owned());
        self.shards.iter_mut().for_each(|shard| shard.take(Input::RouteChanged(user.into())));
    }

    /// An event of a session, at its home shard.
    pub fn event(&mut self, session: &str, msg_id: i64) {
        let event = testkit::events::event(session, "system", msg_id);
        let home = ShardId::of_partition(Partition::of(session.as_bytes(), 64), self.shards.len() as u16);
        let tag = DeliveryTag { reader: 0, number: self.next_tag };
        self.next_tag += 1;
        self.shards[usize::from(home.0)].take(Input::Event {
            payload: Bytes::from(event.encode_to_vec()),
            tag,
            said: Said::Nothing,
        });
        self.run();
    }

    /// Time passes, tick by tick.
    pub fn pass(&mut self, time: Duration) {
        for _ in 0..time.as_millis().div_ceil(20) {
            self.now = self.now.after(Duration::from_millis(20));
            self.run();
        }
    }

    /// Turns until nobody wants anything more.
    pub fn run(&mut self) {
        loop {
            let mut all = VecDeque::new();
            for (at, shard) in self.shards.iter_mut().enumerate() {
                shard.set_now(self.now);
                let mut outputs = Vec::new();
                shard.flush(&mut outputs);
                all.extend(outputs.into_iter().map(|output| (at, output)));
            }
            if all.is_empty() {
                return;
            }
            all.into_iter().for_each(|(at, output)| self.carry_out(at, output));
        }
    }

    fn carry_out(&mut self, at: usize, output: Output) {
        match output {
            Output::AskMembers { ask, sessions, .. } => {
                let list = |session: &str| self.members[session].iter().collect::<NameList>();
                let answer = Ok(sessions.iter().map(|session| list(session)).collect());
                self.shards[at].take(Input::Members { ask, answer });
            }
            Output::AskRoutes { ask, users } => {
                let route = |user: &str| self.routes.get(user).map_or(Route::Offline, |id| Route::Gateway(id));
                let answer = Ok(users.iter().map(route).collect::<RouteList>());
                self.shards[at].take(Input::Routes { ask, answer });
            }
            Output::Open { gateway, stream, gateway_id, .. } => {
                let id = gateway_id.to_string();
                self.opened.push(id.clone());
                let fact = match self.refusing.contains(&id) {
                    true => StreamFact::Closed(StreamEnd::NotOpened("connection refused".into())),
                    false => StreamFact::Opened,
                };
                let is_new = self.streams.insert((at, gateway.0, stream.0), id).is_none();
                assert!(is_new, "the number of a stream is used once, whoever had its place before");
                self.shards[at].take(Input::Stream { gateway, stream, fact });
            }
            Output::Send { gateway, stream, chunk } => self.sent(at, gateway, stream, &chunk),
            Output::Finish { gateway, stream } => {
                let fact = StreamFact::Closed(StreamEnd::Finished);
                self.shards[at].take(Input::Stream { gateway, stream, fact });
            }
            Output::Ends { .. } => unreachable!("nobody asks for ends"),
            Output::ToOwner(to, bundle) => self.shards[usize::from(to.0)].take(Input::Bundle(bundle)),
            Output::ToHome(to, result) => self.shards[usize::from(to.0)].take(Input::Result(result)),
            Output::Warn { reason, .. } => self.warned.push(reason),
            Output::FindContent { ask, .. } => self.shards[at].take(Input::ContentFound { ask, answer: Ok(false) }),
            Output::PublishLetter { ask, .. } => self.shards[at].take(Input::LetterPublished { ask, answer: Ok(()) }),
            Output::Cut { .. } | Output::Settle(_) | Output::Tell(_) | Output::Tapped(_) => {}
            Output::Call { .. } | Output::Store { .. } => panic!("neither unary nor an inbox"),
        }
    }

    fn sent(&mut self, at: usize, gateway: GatewayIx, stream: StreamNo, chunk: &[u8]) {
        let id = self.streams[&(at, gateway.0, stream.0)].clone();
        let (mut answers, mut rest) = (Vec::new(), chunk);
        while let Some(length) = rest.get(1..5) {
            let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
            let request = PushMessageRequest::decode(&rest[5..5 + length]).expect("a request");
            rest = &rest[5 + length..];
            let message = request.message.expect("a message");
            self.pushed.entry(id.clone()).or_default().push((request.to_username, message.msg_id));
            let answer = PushMessageResponse { msg_id: message.msg_id, seq_id: message.seq_id, error: String::new() };
            answers.push(0);
            answers.extend((answer.encoded_len() as u32).to_be_bytes());
            answers.extend(answer.encode_to_vec());
        }
        let taken = StreamFact::Taken(chunk.len());
        self.shards[at].take(Input::Stream { gateway, stream, fact: taken });
        self.shards[at].take(Input::Stream { gateway, stream, fact: StreamFact::Answers(answers.into()) });
    }

    /// How many recipients ended so.
    pub fn ended(&self, end: RecipientOutcome) -> u64 {
        self.shards.iter().map(|shard| shard.counts().recipients_ended[end as usize]).sum()
    }
}
