//! Gateways as the registry and the network show them: listed or not, dialled, deaf, mute, cut off at any byte.
//!
//! What a gateway does with what it is sent is in `serving`; what the core is told of its stream, in `feeding`.

mod feeding;

use std::collections::VecDeque;
use std::num::NonZeroU32;

use bytes::Bytes;
use harness::gateways::KeptGroups;
use task_engine::model::ids::{GatewayIx, Nanos, ShardId, StreamNo};
use task_engine::ports::{Endpoint, GatewayRecord, Protocol, Protocols};
use task_engine::push::facts::{CallError, Input, StreamEnd, StreamFact};

use super::oracle::Answer;
use super::plan::Fault;
use super::world::{MILLI, World};

/// A gateway.
#[derive(Debug)]
pub struct Gateway {
    pub id: String,
    /// Routes name it, and the registry never lists it.
    pub is_ghost: bool,
    /// Reads nothing.
    pub deaf_until: Nanos,
    /// Reads, and answers nothing.
    pub mute_until: Nanos,
    refuses_until: Nanos,
    /// Something before it says "not now", or loses what it is given.
    pub not_now_until: Nanos,
    /// Answers what was not asked.
    pub strange_until: Nanos,
    is_listed: bool,
    port: u16,
    announced: Protocols,
    speaks: Protocols,
    /// It announces notices, or did.
    pub took_notices: bool,
    facts_due: Nanos,
}

/// How a dialled stream goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialled {
    Opens,
    Refused,
    Unimplemented,
    /// It opens, and then says that it does not know the rpc.
    OpensUnimplemented,
}

/// A stream (for `unary`, a connection).
#[derive(Debug)]
pub struct Conn {
    pub number: usize,
    pub gateway: usize,
    pub shard: usize,
    ix: GatewayIx,
    stream: StreamNo,
    pub protocol: Protocol,
    dialled: Dialled,
    ready_at: Nanos,
    pub is_open: bool,
    /// Sent and not read by the gateway.
    pub requests: Vec<u8>,
    pub calls: Vec<(u32, Bytes)>,
    /// Protocol `group`: the lists that the gateway knows, and all that it was told.
    pub groups: KeptGroups,
    pub said_groups: KeptGroups,
    /// What the notice says that is being told.
    pub notice: Option<i64>,
    untaken: usize,
    /// Answered and not arrived.
    pub answers: Vec<u8>,
    pub replies: Vec<Reply>,
    /// Where in the answers each one ends, counted over the stream's life.
    pub marks: VecDeque<(usize, Vec<Answer>)>,
    pub answered_bytes: usize,
    fed_bytes: usize,
    /// Where the answers stop making sense.
    pub garbage_at: Option<usize>,
    /// The core has read what makes it cut the stream.
    must_be_cut: bool,
    is_half_closed: bool,
    has_answered_call: bool,
    has_failed_call: bool,
    pub is_over: bool,
}

/// The end of one unary call.
#[derive(Debug)]
pub struct Reply {
    pub call: u32,
    pub answer: Result<Bytes, CallError>,
    pub answers: Vec<Answer>,
    /// The core must cut the connection for it.
    pub is_fatal: bool,
}

fn knows(protocols: Protocols, protocol: Protocol) -> bool {
    match protocol {
        Protocol::Group => protocols.group.is_some(),
        Protocol::Batch => protocols.batch,
        Protocol::StreamMany => protocols.stream_many,
        Protocol::Stream => protocols.stream,
        Protocol::Unary => protocols.unary,
    }
}

impl World {
    /// Draws the gateways and lists them.
    pub fn make_gateways(&mut self) {
        for number in 0..self.plan.gateways {
            let announced = self.draw_protocols();
            let speaks = if self.rng.chance(200) { self.draw_protocols() } else { announced };
            self.gateways.push(Gateway {
                id: format!("gw-{number}"),
                is_ghost: number > 0 && self.plan.roughness > 0 && self.rng.chance(100),
                deaf_until: Nanos(0),
                mute_until: Nanos(0),
                refuses_until: Nanos(0),
                not_now_until: Nanos(0),
                strange_until: Nanos(0),
                is_listed: false,
                port: 9000,
                announced,
                speaks,
                took_notices: false,
                facts_due: Nanos(0),
            });
            if !self.gateways[number].is_ghost {
                self.list(number);
            }
        }
    }

    fn draw_protocols(&mut self) -> Protocols {
        let one = |batch, stream, unary| Protocols { batch, stream, unary, ..Protocols::STREAM };
        let all = [
            one(true, true, true),
            Protocols::STREAM,
            Protocols::STREAM_MANY,
            one(true, false, false),
            one(false, false, true),
        ];
        let rest = self.rng.pick(&all);
        let members_max = self.rng.pick(&[0, 0, 60, 20, 5, 1_000]);
        let group = self.rng.chance(500).then_some(NonZeroU32::MAX);
        let notice = self.plan.notice_above() > 0 && group.is_some() && self.rng.chance(700);
        Protocols { group, notice, ..rest }.with_group_members_max(members_max)
    }

    fn list(&mut self, gateway: usize) {
        // A newer record claims the same id, and nobody is there.
        let is_contested = self.fault(Fault::Gateways, 100);
        let known = &mut self.gateways[gateway];
        known.is_listed = true;
        known.took_notices |= known.announced.notice;
        let right = Endpoint { host: "gw".into(), port: known.port, secure: false };
        let dead = Endpoint { port: 1, ..right.clone() };
        let (first, others) = if is_contested { (dead, vec![right]) } else { (right, Vec::new()) };
        let record = GatewayRecord {
            gateway_id: known.id.as_str().into(),
            endpoints: vec![first],
            protocols: known.announced,
            others,
        };
        self.tell_registry(gateway, Input::GatewayListed(record));
    }

    /// A new engine asks the registry.
    pub fn list_again(&mut self, gateway: usize) {
        self.gateways[gateway].facts_due = Nanos(0);
        if self.gateways[gateway].is_listed {
            self.list(gateway);
        }
    }

    fn tell_registry(&mut self, gateway: usize, input: Input) {
        let due = self.soon(20).max(self.gateways[gateway].facts_due);
        self.gateways[gateway].facts_due = due;
        if let Input::GatewayGone(id) = input {
            let all = 0..usize::from(self.plan.shards);
            return self.late_facts.extend(all.map(|shard| (due, shard, Input::GatewayGone(id.clone()))));
        }
        let owner = ShardId::of_gateway(&self.gateways[gateway].id, self.plan.shards);
        self.late_facts.push((due, usize::from(owner.0), input));
    }

    /// Something happens to a gateway.
    pub fn disturb_gateways(&mut self) {
        if !self.fault(Fault::Gateways, 30) {
            return;
        }
        let gateway = self.rng.below(self.gateways.len());
        let until = Nanos(self.now.0 + self.rng.within(10, 4_000) * MILLI);
        let kind = self.rng.below(11);
        if self.gateways[gateway].is_ghost {
            return;
        }
        self.trace.line(self.now, || format!("gateway {gateway}: trouble {kind} until {} ms", until.0 / MILLI));
        match kind {
            0 => self.gateways[gateway].deaf_until = until,
            1 => self.gateways[gateway].mute_until = until,
            2 => self.gateways[gateway].refuses_until = until,
            3 | 4 => self.break_stream(gateway),
            5 if self.gateways[gateway].is_listed => {
                self.gateways[gateway].is_listed = false;
                let id = self.gateways[gateway].id.as_str().into();
                self.tell_registry(gateway, Input::GatewayGone(id));
            }
            6 => {
                self.gateways[gateway].port += 1;
                self.list(gateway);
            }
            7 => {
                let protocols = self.draw_protocols();
                self.gateways[gateway].announced = protocols;
                self.gateways[gateway].speaks = protocols;
                self.list(gateway);
            }
            8 => self.gateways[gateway].not_now_until = until,
            9 => self.gateways[gateway].strange_until = Nanos(until.0 + 6_000 * MILLI),
            _ => self.list(gateway),
        }
    }

    fn break_stream(&mut self, gateway: usize) {
        let Some(at) = self.conns.iter().position(|conn| conn.gateway == gateway && !conn.is_over && conn.is_open)
        else {
            return;
        };
        let has_begun = self.conns[at].fed_bytes > 0;
        let end = match self.rng.below(4) {
            0 => StreamEnd::Finished,
            1 if !has_begun => StreamEnd::Unheard("reset".into()),
            2 if !has_begun => StreamEnd::NotOpened("gRPC status 14".into()),
            _ => StreamEnd::Broken("reset".into()),
        };
        self.close(at, end);
    }

    /// A stream ends.
    pub fn close(&mut self, at: usize, end: StreamEnd) {
        let (shard, number) = (self.conns[at].shard, self.conns[at].number);
        let input = self.conns[at].fact(StreamFact::Closed(end));
        self.over(at);
        self.trace.line(self.now, || format!("stream {number} closes"));
        self.shards[shard].set_now(self.now);
        self.feed(shard, input);
    }

    fn over(&mut self, at: usize) {
        self.conns[at].is_over = true;
        self.oracle.conn_is_over[self.conns[at].number] = true;
    }

    /// The core dials.
    pub fn open(
        &mut self,
        shard: usize,
        ix: GatewayIx,
        stream: StreamNo,
        id: &str,
        endpoints: &[Endpoint],
        protocol: Protocol,
    ) {
        let gateway = self.gateways.iter().position(|gateway| gateway.id == id).expect("a known gateway");
        let number = self.oracle.conn_is_over.len();
        self.trace
            .line(self.now, || format!("< shard {shard}: open stream {number} to gateway {gateway}, {protocol:?}"));
        let known = &self.gateways[gateway];
        assert!(!known.is_ghost && endpoints.len() == 1 && endpoints[0].port <= known.port, "an address of {id}");
        let is_second = self.conns.iter().any(|conn| conn.gateway == gateway && !conn.is_over);
        assert!(!is_second, "a second stream to gateway {gateway}");
        let is_known = knows(known.speaks, protocol) || protocol == Protocol::Unary;
        let dialled = match self.rng.below(2) {
            _ if known.refuses_until > self.now => Dialled::Refused,
            _ if endpoints[0].port != known.port => Dialled::Refused,
            _ if is_known => Dialled::Opens,
            0 => Dialled::Unimplemented,
            _ => Dialled::OpensUnimplemented,
        };
        let late = if self.fault(Fault::Gateways, 100) { 3_000 } else { 5 };
        let ready_at = self.soon(late);
        self.oracle.conn_is_over.push(false);
        self.oracle.conn_did_not_fit.push(false);
        self.conns.push(Conn {
            number,
            gateway,
            shard,
            ix,
            stream,
            protocol,
            dialled,
            ready_at,
            is_open: false,
            requests: Vec::new(),
            calls: Vec::new(),
            groups: KeptGroups::default(),
            said_groups: KeptGroups::default(),
            notice: None,
            untaken: 0,
            answers: Vec::new(),
            replies: Vec::new(),
            marks: VecDeque::new(),
            answered_bytes: 0,
            fed_bytes: 0,
            garbage_at: None,
            must_be_cut: false,
            is_half_closed: false,
            has_answered_call: false,
            has_failed_call: false,
            is_over: false,
        });
    }

    fn find_live(&self, shard: usize, ix: GatewayIx, stream: StreamNo) -> Option<usize> {
        let is_it = |conn: &Conn| conn.shard == shard && conn.ix == ix && conn.stream == stream && !conn.is_over;
        self.conns.iter().position(is_it)
    }

    fn live(&self, shard: usize, ix: GatewayIx, stream: StreamNo) -> usize {
        self.find_live(shard, ix, stream).expect("an intention about a stream that is there")
    }

    /// The core writes frames.
    pub fn send(&mut self, shard: usize, ix: GatewayIx, stream: StreamNo, chunk: &Bytes) {
        let at = self.live(shard, ix, stream);
        let conn = &mut self.conns[at];
        assert!(conn.is_open && !conn.is_half_closed && conn.protocol != Protocol::Unary, "a stream to write to");
        conn.requests.extend_from_slice(chunk);
        conn.untaken += chunk.len();
        let number = conn.number;
        self.trace.line(self.now, || format!("< shard {shard}: {} bytes on stream {number}", chunk.len()));
        self.note_written(at, chunk);
    }

    /// The core makes a call.
    pub fn call(&mut self, shard: usize, ix: GatewayIx, stream: StreamNo, call: u32, request: &Bytes) {
        let at = self.live(shard, ix, stream);
        let conn = &mut self.conns[at];
        assert!(conn.is_open && !conn.is_half_closed && conn.protocol == Protocol::Unary, "a connection to call on");
        let is_twice = conn.calls.iter().any(|(open, _)| *open == call) || conn.replies.iter().any(|r| r.call == call);
        assert!(!is_twice, "call {call} is open already");
        conn.calls.push((call, request.clone()));
        let number = conn.number;
        self.trace.line(self.now, || format!("< shard {shard}: call {call} on stream {number}"));
    }

    /// The core half-closes.
    pub fn finish(&mut self, shard: usize, ix: GatewayIx, stream: StreamNo) {
        let at = self.live(shard, ix, stream);
        self.conns[at].is_half_closed = true;
        let number = self.conns[at].number;
        self.trace.line(self.now, || format!("< shard {shard}: finish stream {number}"));
    }

    /// The core drops a stream; facts about it may still be on their way.
    pub fn cut(&mut self, shard: usize, ix: GatewayIx, stream: StreamNo) {
        // It may have closed in the turn that decided to cut it.
        let Some(at) = self.find_live(shard, ix, stream) else { return };
        self.over(at);
        self.oracle.conn_did_not_fit[self.conns[at].number] = self.conns[at].must_be_cut;
        let number = self.conns[at].number;
        self.trace.line(self.now, || format!("< shard {shard}: cut stream {number}"));
        let late = match self.rng.below(6) {
            0 => StreamFact::Opened,
            1 => StreamFact::Closed(StreamEnd::Broken("late".into())),
            2 => StreamFact::Answers(Bytes::from(std::mem::take(&mut self.conns[at].answers))),
            3 => StreamFact::Taken(1 << 20),
            _ => return,
        };
        let due = self.soon(200);
        let input = self.conns[at].fact(late);
        self.late_facts.push((due, shard, input));
    }

    /// After a turn: what cannot be trusted is cut.
    pub fn check_conns(&self, shard: usize) {
        for conn in self.conns.iter().filter(|conn| conn.shard == shard && !conn.is_over) {
            assert!(!conn.must_be_cut, "stream {} answered what cannot be, and was not cut", conn.number);
        }
    }

    /// All gateways work, are listed, and speak something that is announced.
    pub fn calm_gateways(&mut self) {
        for gateway in 0..self.gateways.len() {
            let known = &mut self.gateways[gateway];
            if known.is_ghost {
                continue;
            }
            (known.deaf_until, known.mute_until, known.refuses_until) = (self.now, self.now, self.now);
            (known.not_now_until, known.strange_until) = (self.now, self.now);
            known.announced = Protocols { batch: true, ..known.announced };
            self.list(gateway);
        }
        for conn in &mut self.conns {
            conn.ready_at = self.now;
        }
    }

    /// Whether a gateway is there for its users.
    pub fn serves(&self, gateway: usize) -> bool {
        !self.gateways[gateway].is_ghost
    }

    /// Whether it announces notices, or did.
    pub fn takes_notices(&self, gateway: usize) -> bool {
        self.gateways.get(gateway).is_some_and(|known| known.took_notices)
    }

    /// Whether a gateway speaks the best protocol that it announces.
    pub fn speaks_its_best(&self, gateway: usize) -> bool {
        let known = &self.gateways[gateway];
        known.announced.best().is_some_and(|best| knows(known.speaks, best))
    }

    /// Whether a gateway implements the unary rpc.
    pub fn speaks_unary(&self, gateway: usize) -> bool {
        self.gateways[gateway].speaks.unary
    }
}

impl Conn {
    /// Takes a reply. UNIMPLEMENTED is about the rpc only before any call was answered on the connection; after failures it cannot
    /// be told whether one was taken for an answer, so then it is another word.
    fn settle_unimplemented(&mut self, pick: usize) -> Reply {
        let mut reply = self.replies.swap_remove(pick);
        match &mut reply.answer {
            Ok(_) => self.has_answered_call = true,
            Err(error) if error.code == 12 && self.has_failed_call => (error.code, reply.is_fatal) = (14, false),
            Err(error) if error.code == 12 => reply.is_fatal = !self.has_answered_call,
            Err(error) => self.has_failed_call |= error.code == 13,
        }
        reply
    }

    fn fact(&self, fact: StreamFact) -> Input {
        Input::Stream { gateway: self.ix, stream: self.stream, fact }
    }
}
