//! A real tonic gateway in a thread of its own, and a shard's gateway connections on a glommio executor.
#![allow(dead_code, reason = "each test file uses its part")]

use std::future::{Future, pending, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_lite::{Stream, StreamExt, future};
use glommio::LocalExecutorBuilder;
use glommio::timer::Timer;
use harness::gateways::KeptGroups;
use prost::Message;
use task_engine::edge::gateway::{GatewayOptions, Gateways};
use task_engine::edge::resolve::Resolver;
use task_engine::model::ids::{GatewayIx, StreamNo};
use task_engine::ports::mailbox::LocalFacts;
use task_engine::ports::{Endpoint, Protocol};
use task_engine::push::facts::{CallError, Input, StreamEnd, StreamFact};
use testkit::mysql_etcd::free_port;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

#[allow(missing_docs, clippy::all)]
pub mod pb {
    tonic::include_proto!("resonance.gateway.v1");
}
use pb::group_push::What;
use pb::push_service_server::{PushService, PushServiceServer};
use pb::*;

/// No test waits longer for anything.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// How the fake gateway behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Answers each request.
    Answers,
    /// Knows no rpc.
    Unimplemented,
    /// Takes the stream and never reads or answers.
    Deaf,
    /// Refuses with a message that needs percent-encoding.
    Refuses,
    /// Ends the stream with OK after its first answer.
    EndsEarly,
}

/// What the fake gateway has seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub requests: AtomicUsize,
    pub recipients: AtomicUsize,
    pub content_bytes: AtomicUsize,
    pub half_closes: AtomicUsize,
}

struct Fake {
    manner: Manner,
    seen: Arc<Seen>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Fake {
    async fn answer<Q, A>(
        &self,
        request: Request<Streaming<Q>>,
        mut each: impl FnMut(&Seen, Q) -> A + Send + 'static,
    ) -> Result<Response<Answers<A>>, Status>
    where
        Q: Send + 'static,
        A: Send + 'static,
    {
        self.greet().await?;
        let seen = self.seen.clone();
        let closed = self.seen.clone();
        let answers = request.into_inner().map(move |asked| {
            seen.requests.fetch_add(1, Ordering::SeqCst);
            asked.map(|asked| each(&seen, asked))
        });
        let closed = futures_lite::stream::once_future(async move {
            closed.half_closes.fetch_add(1, Ordering::SeqCst);
            None
        });
        let answers = answers.map(Some).chain(closed).filter_map(|answer| answer);
        Ok(Response::new(match self.manner {
            Manner::EndsEarly => Box::pin(answers.take(1)),
            _ => Box::pin(answers),
        }))
    }

    async fn greet(&self) -> Result<(), Status> {
        match self.manner {
            Manner::Unimplemented => Err(Status::unimplemented("no such rpc here")),
            Manner::Refuses => Err(Status::resource_exhausted("voll: 100% \u{4f60}")),
            Manner::Deaf => pending().await,
            Manner::Answers | Manner::EndsEarly => Ok(()),
        }
    }
}

fn note(seen: &Seen, recipients: usize, message: Option<&PushMessage>) -> i64 {
    seen.recipients.fetch_add(recipients, Ordering::SeqCst);
    seen.content_bytes.fetch_add(message.map_or(0, |message| message.content.len()), Ordering::SeqCst);
    message.map_or(0, |message| message.msg_id)
}

/// The same message, as the engine's own code of the proto has it.
fn engines(change: &GroupChange) -> task_engine::model::proto::gateway::GroupChange {
    Message::decode(&*change.encode_to_vec()).unwrap()
}

#[tonic::async_trait]
impl PushService for Fake {
    type PushMessageStream = Answers<PushMessageResponse>;
    type PushBatchStream = Answers<PushBatchResponse>;
    type PushGroupsStream = Answers<GroupAnswer>;

    async fn push_message(
        &self,
        request: Request<Streaming<PushMessageRequest>>,
    ) -> Result<Response<Self::PushMessageStream>, Status> {
        self.answer(request, |seen, asked| {
            let msg_id = note(seen, 1, asked.message.as_ref());
            PushMessageResponse { msg_id, ..Default::default() }
        })
        .await
    }

    async fn push_batch(
        &self,
        request: Request<Streaming<PushBatchRequest>>,
    ) -> Result<Response<Self::PushBatchStream>, Status> {
        self.answer(request, |seen, asked| {
            asked.pushes.iter().for_each(|push| {
                note(seen, push.to_usernames.len(), push.message.as_ref());
            });
            PushBatchResponse { batch_id: asked.batch_id, failures: Vec::new() }
        })
        .await
    }

    async fn push_groups(
        &self,
        request: Request<Streaming<GroupFrame>>,
    ) -> Result<Response<Self::PushGroupsStream>, Status> {
        let mut kept = KeptGroups::default();
        self.answer(request, move |seen, asked| {
            assert!(
                asked.changes.iter().all(|change| kept.change(engines(change))),
                "changes are as the protocol has them"
            );
            for push in asked.pushes {
                let users = kept.users(push.group_id, push.version).expect("a list that was said").len();
                let Some(What::Message(message)) = push.what else { panic!("a push has a message") };
                note(seen, users - push.except.len(), Some(&message));
            }
            GroupAnswer { frame_id: asked.frame_id, ..Default::default() }
        })
        .await
    }

    async fn push(&self, request: Request<PushRequest>) -> Result<Response<PushResponse>, Status> {
        self.greet().await?;
        let asked = request.into_inner();
        self.seen.requests.fetch_add(1, Ordering::SeqCst);
        let msg_id = note(&self.seen, asked.to_usernames.len(), asked.message.as_ref());
        Ok(Response::new(PushResponse { msg_id, error: String::new(), failed_usernames: asked.to_usernames }))
    }
}

/// A gateway that listens on a free port of 127.0.0.1; dropping it closes all its sockets at once.
pub struct Gateway {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Gateway {
    pub fn start(manner: Manner) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let seen = Arc::new(Seen::default());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let service = PushServiceServer::new(Fake { manner, seen: seen.clone() });
        let server = Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener));
        runtime.spawn(async { server.await.unwrap() });
        Self { address, seen, runtime: Some(runtime) }
    }

    pub fn endpoint(&self) -> Endpoint {
        endpoint(self.address)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(5));
    }
}

pub fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint { host: address.ip().to_string(), port: address.port(), secure: false }
}

/// An address nobody listens on.
pub fn dead_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// The gateway connections of one shard, and the facts they reported.
pub struct Shard {
    pub gateways: Gateways,
    facts: LocalFacts,
    unread: std::collections::VecDeque<(GatewayIx, StreamNo, StreamFact)>,
}

/// Runs a test's shard on this thread.
pub fn on_a_shard<F: Future<Output = ()>>(test: impl FnOnce(Shard) -> F) {
    on_a_shard_with(GatewayOptions::default(), test);
}

pub fn on_a_shard_with<F: Future<Output = ()>>(options: GatewayOptions, test: impl FnOnce(Shard) -> F) {
    let executor = LocalExecutorBuilder::default().io_memory(64 * 1024).make().unwrap();
    executor.run(async {
        let facts = LocalFacts::default();
        let gateways = Gateways::new(facts.clone(), Resolver::start().unwrap(), options);
        test(Shard { gateways, facts, unread: Default::default() }).await;
    });
}

pub const G: GatewayIx = GatewayIx(7);

impl Shard {
    pub fn open(&mut self, stream: u32, endpoints: Vec<Endpoint>, protocol: Protocol) {
        self.gateways.open(G, StreamNo(stream), endpoints, protocol);
    }

    /// Sends them over stream 1 and finishes it; each is answered, in order, before it ends.
    pub async fn five_thousand_pushes(&mut self, at: Endpoint) {
        self.open(1, vec![at], Protocol::Stream);
        self.opened(1).await;
        let mut sent = 0;
        for chunk in 0..50 {
            let frames: BytesMut = (0..100).flat_map(|i| single(chunk * 100 + i, 100)).collect();
            sent += frames.len();
            self.gateways.send(G, StreamNo(1), frames.freeze());
        }
        self.gateways.finish(G, StreamNo(1));
        let rest = self.rest(1).await;
        assert_eq!((rest.end, rest.taken), (Some(StreamEnd::Finished), sent));
        assert_eq!(msg_ids(&rest.answers), (0..5000).collect::<Vec<_>>());
    }

    /// The next fact, of any stream.
    pub async fn next(&mut self) -> (StreamNo, StreamFact) {
        self.next_within(DEADLINE).await.expect("a fact before the deadline")
    }

    pub async fn next_within(&mut self, limit: Duration) -> Option<(StreamNo, StreamFact)> {
        let facts = self.facts.clone();
        if self.unread.is_empty() {
            let some = poll_fn(|cx| if facts.falling_asleep(cx.waker()) { Poll::Pending } else { Poll::Ready(true) });
            let late = async {
                Timer::new(limit).await;
                false
            };
            future::or(some, late).await;
        }
        let mut taken = Vec::new();
        facts.take_all(&mut taken);
        self.unread.extend(taken.into_iter().map(|input| match input {
            Input::Stream { gateway, stream, fact } => (gateway, stream, fact),
            other => panic!("no stream fact: {other:?}"),
        }));
        self.unread.pop_front().map(|(gateway, stream, fact)| {
            assert_eq!(gateway, G);
            (stream, fact)
        })
    }

    pub async fn opened(&mut self, stream: u32) {
        let (of, fact) = self.next().await;
        assert!(of == StreamNo(stream) && matches!(fact, StreamFact::Opened), "{of:?}: {fact:?}");
    }

    /// Everything until `Closed`.
    pub async fn rest(&mut self, stream: u32) -> Rest {
        let mut rest = Rest::default();
        loop {
            let (of, fact) = self.next().await;
            assert_eq!(of, StreamNo(stream));
            match fact {
                StreamFact::Opened => panic!("opened twice"),
                StreamFact::GoingAway => {}
                StreamFact::Taken(len) => rest.taken += len,
                StreamFact::Answers(bytes) => rest.answers.extend_from_slice(&bytes),
                StreamFact::CallAnswered { call, answer } => rest.calls.push((call, answer)),
                StreamFact::Closed(end) => {
                    rest.end = Some(end);
                    return rest;
                }
            }
        }
    }

    /// Like [`rest`](Self::rest) until this many answer frames are in.
    pub async fn answers(&mut self, stream: u32, count: usize) -> Rest {
        let mut rest = Rest::default();
        while frames(&rest.answers).len() < count {
            match self.next().await {
                (of, StreamFact::Answers(bytes)) if of == StreamNo(stream) => rest.answers.extend_from_slice(&bytes),
                (of, StreamFact::GoingAway) if of == StreamNo(stream) => {}
                (of, StreamFact::Taken(len)) if of == StreamNo(stream) => rest.taken += len,
                other => panic!("{other:?} while answers were waited for"),
            }
        }
        rest
    }
}

#[derive(Debug, Default)]
pub struct Rest {
    pub taken: usize,
    pub answers: BytesMut,
    pub calls: Vec<(u32, Result<Bytes, CallError>)>,
    pub end: Option<StreamEnd>,
}

/// Cuts gRPC frames at their heads; what is left over at the end is not whole yet.
pub fn frames(mut bytes: &[u8]) -> Vec<Bytes> {
    let mut frames = Vec::new();
    while bytes.len() >= 5 {
        let len = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
        if bytes.len() < 5 + len {
            break;
        }
        frames.push(Bytes::copy_from_slice(&bytes[5..5 + len]));
        bytes = &bytes[5 + len..];
    }
    frames
}

pub fn frame(message: &impl Message) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.encoded_len() as u32);
    message.encode(&mut frame).unwrap();
    frame.freeze()
}

pub fn message(msg_id: i64, content_bytes: usize) -> PushMessage {
    PushMessage { msg_id, session_id: "s".into(), content: "x".repeat(content_bytes), ..Default::default() }
}

/// One PushMessageRequest as a gRPC frame.
pub fn single(msg_id: i64, content_bytes: usize) -> Bytes {
    frame(&PushMessageRequest { to_username: "bob".into(), message: Some(message(msg_id, content_bytes)) })
}

/// The msg_ids of PushMessageResponse frames.
pub fn msg_ids(answers: &[u8]) -> Vec<i64> {
    frames(answers).into_iter().map(|frame| PushMessageResponse::decode(frame).unwrap().msg_id).collect()
}
