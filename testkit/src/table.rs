//! One shard of the pure core and a world in tables: members and routes are answered at once (unless a test says what
//! the store answers), streams open at once, and gateways do only what the test makes them do.

mod keepers;
mod made;
mod raw;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use harness::gateways::KeptGroups;
use prost::Message;
use task_engine::model::ends::RememberedEnd;
use task_engine::model::ids::{GatewayIx, Nanos, StreamNo};
use task_engine::model::names::{NameList, RouteList};
use task_engine::model::outcome::{EventOutcome, RecipientOutcome};
use task_engine::model::priority::{PriorityRules, Said};
use task_engine::model::proto::gateway::{GroupFrame, PushBatchRequest, PushMessageRequest, PushRequest};
use task_engine::model::{tap::TappedEvent, trace::EndedTrace};
use task_engine::ports::{
    DeadLetter, DeliveryTag, Disposition, Endpoint, GatewayRecord, InboxRows, LookupError, MessageKey, Protocol,
    Protocols,
};
use task_engine::push::facts::{CallError, Input, Output, StreamFact};
use task_engine::push::inbox::InboxStore;
use task_engine::push::{Push, RecipientRules, Settings};

use self::made::{event, probe_of, settings};
use crate::frames;
pub use crate::frames::{frame, only};

/// A gateway's stream as the core has it.
#[derive(Debug)]
pub struct Link {
    pub ix: GatewayIx,
    pub stream: StreamNo,
    pub protocol: Protocol,
    requests: Vec<u8>,
    /// The lists that it was told of protocol `group`.
    pub groups: KeptGroups,
    /// Batches that were looked at and not taken to be answered.
    batches: Vec<u64>,
    calls: VecDeque<(u32, Bytes)>,
}

/// The core and what it is told.
pub struct Table {
    pub push: Push,
    pub now: Nanos,
    /// The members of every session,
    pub members: Vec<String>,
    /// but for these.
    pub members_of: BTreeMap<String, Vec<String>>,
    /// The routes; who has none is offline, `A+B` are two gateways.
    pub routes: BTreeMap<String, String>,
    /// What the stores answer instead, as long as there is something.
    pub member_errors: VecDeque<LookupError>,
    pub route_errors: VecDeque<LookupError>,
    /// The store refuses each ask for one of these.
    pub refused_users: Vec<String>,
    /// When members were asked for, and how often each user's route was.
    pub member_asks: Vec<Nanos>,
    /// How many sessions each ask for members had that must not hold up others.
    pub slow_asks: Vec<usize>,
    pub route_asks: BTreeMap<String, usize>,
    pub links: BTreeMap<String, Link>,
    /// Gateways whose stream was cut, in order.
    pub cut: Vec<String>,
    pub settled: Vec<u64>,
    /// The same, with how.
    pub settled_as: Vec<(u64, Disposition)>,
    /// Rows that were asked to be stored and have no answer yet.
    pub stores: VecDeque<(u64, InboxRows)>,
    /// Contents that were looked for and have no answer yet.
    pub contents: VecDeque<(u64, MessageKey)>,
    /// Probes of the inbox that have no answer yet.
    pub probes: VecDeque<u64>,
    /// Letters without an answer yet.
    pub letters: VecDeque<(u64, DeliveryTag, DeadLetter)>,
    /// Letters wait for [`Table::publish_letter`]; else they are kept at once.
    pub holds_letters: bool,
    /// Events that were told of.
    pub told: Vec<EndedTrace>,
    /// Events that somebody looked at.
    pub tapped: Vec<TappedEvent>,
    /// The connections take nothing of what is written; else they do at once.
    pub takes_nothing: bool,
    /// What was remembered of the ends that were asked for last.
    pub ends: Vec<RememberedEnd>,
    next_tag: u64,
}

impl Table {
    /// One shard that caches routes; delivery_timeout 1 s, max_retry 2, retry_interval 50 ms, members_ttl 100 ms.
    pub fn new(members: &[&str], routes: &[(&str, &str)]) -> Self {
        Self::with_timeout(members, routes, Duration::from_secs(1))
    }

    /// The same with another delivery_timeout.
    pub fn with_timeout(members: &[&str], routes: &[(&str, &str)], delivery_timeout: Duration) -> Self {
        let settings = settings(delivery_timeout, InboxStore::Off);
        Self::with_settings(members, routes, settings)
    }

    /// The same with an inbox; rows and letters wait for the test's answers.
    pub fn with_inbox(members: &[&str], routes: &[(&str, &str)], inbox: InboxStore) -> Self {
        let settings = settings(Duration::from_secs(1), inbox);
        Self { holds_letters: true, ..Self::with_settings(members, routes, settings) }
    }

    /// The same with these rules of recipients.
    pub fn with_rules(members: &[&str], routes: &[(&str, &str)], inbox: InboxStore, rules: RecipientRules) -> Self {
        let mut table = Self::with_inbox(members, routes, inbox);
        let mut push = Push::new(settings(Duration::from_secs(1), inbox)).with_recipient_rules(rules);
        push.take(Input::RoutesTracked(true));
        table.push = push;
        table
    }

    /// The same, of a source that lets so many events out at once; delivery_timeout 10 s.
    pub fn with_window(routes: &[(&str, &str)], events_window: usize) -> Self {
        let settings = settings(Duration::from_secs(10), InboxStore::Off);
        Self::with_settings(&[], routes, Settings { events_window, ..settings })
    }

    /// The same with classes of events, an inbox, and turns of so many recipients.
    pub fn with_priorities(
        rules: PriorityRules,
        events_window: usize,
        inbox: InboxStore,
        turn_recipients: usize,
    ) -> Self {
        let settings = Settings { events_window, ..settings(Duration::from_secs(10), inbox) };
        let mut table = Self::with_settings(&[], &[], settings.clone());
        table.push = Push::new(settings).with_turn_recipients(turn_recipients).with_priorities(rules);
        table.push.take(Input::RoutesTracked(true));
        table
    }

    /// The same where ends are remembered.
    pub fn remembering(mut self) -> Self {
        self.push = self.push.with_recorder(true);
        self
    }

    fn with_settings(members: &[&str], routes: &[(&str, &str)], settings: Settings) -> Self {
        let mut push = Push::new(settings);
        push.take(Input::RoutesTracked(true));
        Self {
            push,
            now: Nanos(0),
            members: members.iter().map(|name| (*name).to_owned()).collect(),
            members_of: BTreeMap::new(),
            routes: routes.iter().map(|(user, gateway)| ((*user).to_owned(), (*gateway).to_owned())).collect(),
            member_errors: VecDeque::new(),
            route_errors: VecDeque::new(),
            refused_users: Vec::new(),
            member_asks: Vec::new(),
            slow_asks: Vec::new(),
            route_asks: BTreeMap::new(),
            links: BTreeMap::new(),
            cut: Vec::new(),
            settled: Vec::new(),
            settled_as: Vec::new(),
            stores: VecDeque::new(),
            contents: VecDeque::new(),
            probes: VecDeque::new(),
            letters: VecDeque::new(),
            holds_letters: false,
            told: Vec::new(),
            tapped: Vec::new(),
            takes_nothing: false,
            ends: Vec::new(),
            next_tag: 0,
        }
    }

    /// The registry lists a gateway.
    pub fn list(&mut self, gateway: &str, protocols: Protocols) {
        let endpoints = vec![Endpoint { host: "gw".into(), port: 1, secure: false }];
        self.push.take(Input::GatewayListed(GatewayRecord {
            gateway_id: gateway.into(),
            endpoints,
            protocols,
            others: Vec::new(),
        }));
        self.run();
    }

    /// The registry lists it no longer.
    pub fn unlist(&mut self, gateway: &str) {
        self.push.take(Input::GatewayGone(gateway.into()));
        self.run();
    }

    /// An event of session `s` from `system` comes in; the number of its tag.
    pub fn event(&mut self, msg_id: i64) -> u64 {
        self.event_from("system", msg_id)
    }

    /// The same from someone; its seq_id is ten times its msg_id.
    pub fn event_from(&mut self, sender: &str, msg_id: i64) -> u64 {
        self.payload(event("s", sender, msg_id))
    }

    /// An event of a session comes in, and no turn follows yet.
    pub fn arrive(&mut self, session: &str, msg_id: i64) {
        self.arrive_as(session, msg_id, Said::Nothing);
    }

    /// The same, and its publisher says this of its class.
    pub fn arrive_as(&mut self, session: &str, msg_id: i64, said: Said) {
        let tag = DeliveryTag { reader: 0, number: self.next_tag };
        self.next_tag += 1;
        self.push.take(Input::Event { payload: event(session, "system", msg_id), tag, said });
    }

    /// Any bytes come in.
    pub fn payload(&mut self, payload: Bytes) -> u64 {
        let number = self.next_tag;
        self.next_tag += 1;
        self.payload_with_tag(payload, number);
        number
    }

    /// The same with a tag of the test's choice.
    pub fn payload_with_tag(&mut self, payload: Bytes, number: u64) {
        self.push.take(Input::Event { payload, tag: DeliveryTag { reader: 0, number }, said: Said::Nothing });
        self.run();
    }

    /// The drain deadline passes.
    pub fn cut_off(&mut self) {
        self.push.take(Input::CutOff);
        self.run();
    }

    /// Arrivals = ends + in flight, and each end of someone unreached has its why.
    pub fn check(&self) {
        let counts = self.push.counts();
        let ended = counts.events_ended.iter().sum::<u64>();
        assert_eq!(counts.events_arrived, ended + self.push.events_in_flight() as u64, "events");
        let ended = counts.recipients_ended.iter().sum::<u64>();
        assert_eq!(counts.recipients_arrived, ended + self.push.recipients_in_flight() as u64, "recipients");
        let told = [RecipientOutcome::Delivered, RecipientOutcome::Noticed, RecipientOutcome::Conflated];
        let reached =
            [&told[..], &[RecipientOutcome::SkippedSender, RecipientOutcome::CutByStop, RecipientOutcome::GivenBack]]
                .concat();
        let reached = reached.iter().map(|end| counts.recipients_ended[*end as usize]).sum::<u64>();
        assert_eq!(ended, reached + counts.unreached_by.iter().sum::<u64>(), "whys");
    }

    /// The user's route changes, and the store says so.
    pub fn moves(&mut self, user: &str, gateway: &str) {
        self.routes.insert(user.to_owned(), gateway.to_owned());
        self.push.take(Input::RouteChanged(user.into()));
        self.run();
    }

    /// Time passes, tick by tick.
    pub fn pass(&mut self, millis: u64) {
        for _ in 0..millis.div_ceil(20) {
            self.now = self.now.after(Duration::from_millis(20));
            self.run();
        }
    }

    /// Turns until the core wants nothing more.
    pub fn run(&mut self) {
        while self.turn() {}
    }

    /// One turn; whether the core wanted anything.
    pub fn turn(&mut self) -> bool {
        self.push.set_now(self.now);
        let mut outputs = Vec::new();
        self.push.flush(&mut outputs);
        outputs.into_iter().map(|output| self.carry_out(output)).count() > 0
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::AskMembers { ask, sessions, is_suspect } => {
                if is_suspect {
                    self.slow_asks.push(sessions.len());
                }
                if sessions.is_empty() {
                    let answer = probe_of(&mut self.member_errors).map(|()| Vec::new());
                    return self.push.take(Input::Members { ask, answer });
                }
                self.member_asks.push(self.now);
                let list = |session: &str| self.members_of.get(session).unwrap_or(&self.members).iter().collect();
                let answer = match self.member_errors.pop_front() {
                    Some(error) => Err(error),
                    None => Ok(sessions.iter().map(|session| list(session)).collect::<Vec<NameList>>()),
                };
                self.push.take(Input::Members { ask, answer });
            }
            Output::AskRoutes { ask, users } => {
                if users.is_empty() {
                    let answer = probe_of(&mut self.route_errors).map(|()| RouteList::new());
                    return self.push.take(Input::Routes { ask, answer });
                }
                users.iter().for_each(|user| *self.route_asks.entry(user.to_owned()).or_default() += 1);
                let refuses = users.iter().any(|user| self.refused_users.iter().any(|refused| refused == user));
                let answer = match self.route_errors.pop_front() {
                    _ if refuses => Err(LookupError::Rejected("no permission".into())),
                    Some(error) => Err(error),
                    None => Ok(self.routes_of(&users)),
                };
                self.push.take(Input::Routes { ask, answer });
            }
            Output::Open { gateway, stream, gateway_id, protocol, .. } => {
                let (requests, batches, calls) = (Vec::new(), Vec::new(), VecDeque::new());
                let groups = KeptGroups::default();
                let link = Link { ix: gateway, stream, protocol, requests, groups, batches, calls };
                self.links.insert(gateway_id.to_string(), link);
                self.push.take(Input::Stream { gateway, stream, fact: StreamFact::Opened });
            }
            Output::Send { gateway, stream, chunk } => {
                self.link_of(gateway, stream).requests.extend_from_slice(&chunk);
                if !self.takes_nothing {
                    self.push.take(Input::Stream { gateway, stream, fact: StreamFact::Taken(chunk.len()) });
                }
            }
            Output::Call { gateway, stream, call, request } => {
                self.link_of(gateway, stream).calls.push_back((call, request));
            }
            Output::Cut { gateway, .. } => {
                let id = self.links.iter().find(|(_, link)| link.ix == gateway).map(|(id, _)| id.clone());
                self.cut.extend(id.inspect(|id| drop(self.links.remove(id).expect("a stream that was opened"))));
            }
            Output::Settle(settled) => {
                self.settled.push(settled.tag.number);
                self.settled_as.push((settled.tag.number, settled.how));
            }
            Output::Tell(trace) => self.told.push(*trace),
            Output::Tapped(event) => self.tapped.push(*event),
            Output::Finish { .. } | Output::Warn { .. } => {}
            Output::Ends { ends, .. } => self.ends = ends,
            Output::Store { ask, rows } if rows.users.is_empty() => self.probes.push_back(ask),
            Output::Store { ask, rows } => self.stores.push_back((ask, rows)),
            Output::FindContent { ask, message } => self.contents.push_back((ask, message)),
            Output::PublishLetter { ask, tag, letter } if self.holds_letters => {
                self.letters.push_back((ask, tag, letter))
            }
            Output::PublishLetter { ask, .. } => self.push.take(Input::LetterPublished { ask, answer: Ok(()) }),
            Output::ToOwner(..) | Output::ToHome(..) => panic!("there is one shard"),
        }
    }

    fn link_of(&mut self, ix: GatewayIx, stream: StreamNo) -> &mut Link {
        let mut links = self.links.values_mut();
        links.find(|link| link.ix == ix && link.stream == stream).expect("an intention about an open stream")
    }

    /// What a gateway was pushed since it was last looked at: the user and the msg_id of each.
    pub fn pushed(&mut self, gateway: &str) -> Vec<(String, i64)> {
        let Some(link) = self.links.get_mut(gateway) else { return Vec::new() };
        let mut pushed = Vec::new();
        let mut take = |push: PushRequest| {
            let msg_id = push.message.expect("a push has a message").msg_id;
            pushed.extend(push.to_usernames.into_iter().map(|user| (user, msg_id)));
        };
        match link.protocol {
            Protocol::Stream => {
                while let Some(request) = frames::next_frame::<PushMessageRequest>(&mut link.requests) {
                    take(PushRequest { to_usernames: vec![request.to_username], message: request.message });
                }
            }
            Protocol::StreamMany => {
                while let Some(request) = frames::next_frame::<PushRequest>(&mut link.requests) {
                    link.batches.extend(request.message.as_ref().map(|message| message.msg_id as u64));
                    take(request);
                }
            }
            Protocol::Batch => {
                while let Some(request) = frames::next_frame::<PushBatchRequest>(&mut link.requests) {
                    link.batches.push(request.batch_id);
                    request.pushes.into_iter().for_each(&mut take);
                }
            }
            Protocol::Group => {
                while let Some(frame) = frames::next_frame::<GroupFrame>(&mut link.requests) {
                    link.batches.push(frame.frame_id);
                    frames::pushes_of(frame, &mut link.groups).into_iter().for_each(&mut take);
                }
            }
            Protocol::Unary => {
                for (_, request) in &link.calls {
                    take(frames::next_frame::<PushRequest>(&mut request.to_vec()).expect("a call is one frame"));
                }
            }
        }
        pushed
    }

    /// The batches that [`pushed`](Self::pushed) has shown, once each; with several users a frame the frames' msg_ids.
    pub fn take_batches(&mut self, gateway: &str) -> Vec<u64> {
        std::mem::take(&mut self.links.get_mut(gateway).expect("a stream").batches)
    }

    /// The msg_ids of the calls without an answer, oldest first.
    pub fn open_calls(&self, gateway: &str) -> Vec<i64> {
        let msg_id = |request: &Bytes| {
            let push = frames::next_frame::<PushRequest>(&mut request.to_vec()).expect("a call is one frame");
            push.message.expect("a push has a message").msg_id
        };
        self.links[gateway].calls.iter().map(|(_, request)| msg_id(request)).collect()
    }

    /// Just the msg_ids.
    pub fn pushed_ids(&mut self, gateway: &str) -> Vec<i64> {
        self.pushed(gateway).into_iter().map(|(_, msg_id)| msg_id).collect()
    }

    /// Something happens to a gateway's stream.
    pub fn fact(&mut self, gateway: &str, fact: StreamFact) {
        let link = &self.links[gateway];
        self.push.take(Input::Stream { gateway: link.ix, stream: link.stream, fact });
        if !self.push.outboxes().any(|outbox| outbox.id().as_ref() == gateway && outbox.has_stream()) {
            self.links.remove(gateway);
        }
        self.run();
    }

    /// A gateway answers on its stream.
    pub fn answer(&mut self, gateway: &str, message: &impl Message) {
        self.fact(gateway, StreamFact::Answers(Bytes::from(frame(message))));
    }

    /// A gateway answers its oldest open call.
    pub fn answer_call(&mut self, gateway: &str, answer: Result<Vec<u8>, CallError>) {
        let link = self.links.get_mut(gateway).expect("a connection");
        let (call, _) = link.calls.pop_front().expect("an open call");
        self.fact(gateway, StreamFact::CallAnswered { call, answer: answer.map(Bytes::from) });
    }

    /// How many recipients ended so.
    pub fn ended(&self, end: RecipientOutcome) -> u64 {
        self.push.counts().recipients_ended[end as usize]
    }

    /// How many events ended so.
    pub fn events_ended(&self, end: EventOutcome) -> u64 {
        self.push.counts().events_ended[end as usize]
    }
}
