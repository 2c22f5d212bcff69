//! Gateways answer as real ones do, and misbehave exactly as told: tried with tonic's own client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::gateways::{Answer, Behaviour, Gateway, GatewayOptions, KeptNotice, Log, Protocols};
use task_engine::model::proto::gateway::group_push::What;
use task_engine::model::proto::gateway::push_service_client::PushServiceClient;
use task_engine::model::proto::gateway::{
    GroupAnswer, GroupChange, GroupFailure, GroupFrame, GroupPush, PushBatchRequest, PushMessage, PushMessageRequest,
    PushMessageResponse, PushRequest, SessionNotice,
};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::codegen::tokio_stream::Stream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

const SOON: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_millis(100);

/// The requests of one stream, fed by the test.
struct Feed<Q>(mpsc::UnboundedReceiver<Q>);

impl<Q> Stream for Feed<Q> {
    type Item = Q;
    fn poll_next(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<Q>> {
        self.0.poll_recv(cx)
    }
}

struct Open {
    requests: mpsc::UnboundedSender<PushMessageRequest>,
    answers: Streaming<PushMessageResponse>,
}

impl Open {
    fn push(&self, msg_id: i64, user: &str) {
        let request = PushMessageRequest { to_username: user.into(), message: Some(message(msg_id)) };
        self.requests.send(request).unwrap();
    }

    async fn answer(&mut self) -> Result<Option<(i64, String)>, Status> {
        let answer = timeout(SOON, self.answers.message()).await.expect("an answer within 5 s")?;
        Ok(answer.map(|answer| (answer.msg_id, answer.error)))
    }

    async fn is_quiet(&mut self) -> bool {
        timeout(QUIET, self.answers.message()).await.is_err()
    }
}

fn message(msg_id: i64) -> PushMessage {
    PushMessage { msg_id, seq_id: 7, session_id: "s".into(), content: "hello".into(), ..Default::default() }
}

/// A gateway of each kind: what one answers, so does the other.
fn both(protocols: Protocols) -> [(Gateway, Arc<Log>); 2] {
    let log = Log::shared();
    let options = GatewayOptions::new("g2", log.clone()).protocols(protocols).fast();
    [start(protocols), (Gateway::start(options).unwrap(), log)]
}

fn start(protocols: Protocols) -> (Gateway, Arc<Log>) {
    let log = Log::shared();
    (Gateway::start(GatewayOptions::new("g1", log.clone()).protocols(protocols)).unwrap(), log)
}

async fn client(gateway: &Gateway) -> PushServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", gateway.addr())).unwrap();
    PushServiceClient::new(endpoint.connect().await.unwrap())
}

async fn open(client: &mut PushServiceClient<Channel>) -> Result<Open, Status> {
    let (requests, feed) = mpsc::unbounded_channel();
    let answers = timeout(SOON, client.push_message(Feed(feed))).await.expect("opens within 5 s")?.into_inner();
    Ok(Open { requests, answers })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stream_is_answered_in_order_and_ends_when_half_closed() {
    for (gateway, log) in both(Protocols::STREAM) {
        answers_a_stream(&gateway, &log).await;
    }
}

async fn answers_a_stream(gateway: &Gateway, log: &Log) {
    gateway.refuse(["ben"]);
    gateway.fail(["cleo"], "send buffer full");
    let mut stream = open(&mut client(gateway).await).await.unwrap();
    for (msg_id, user) in [(1, "anna"), (2, "ben"), (3, "cleo"), (4, "anna")] {
        stream.push(msg_id, user);
    }
    for expected in [(1, ""), (2, "user not connected"), (3, "send buffer full"), (4, "")] {
        assert_eq!(stream.answer().await.unwrap().unwrap(), (expected.0, expected.1.to_owned()));
    }
    let Open { requests, mut answers } = stream;
    drop(requests);
    assert!(timeout(SOON, answers.message()).await.unwrap().unwrap().is_none(), "ends with status OK");
    let records = log.records();
    assert_eq!(log.delivered("s", "anna"), [1, 4]);
    assert_eq!(records.iter().map(|record| record.order).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(records[1].answer, Answer::Refused);
    assert!(records[0].message.as_ref().is_none_or(|message| message.seq_id == 7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn unary_and_batch_name_only_the_failures() {
    for (gateway, log) in both(Protocols::ALL) {
        answers_many(&gateway, &log).await;
    }
}

async fn answers_many(gateway: &Gateway, log: &Log) {
    gateway.refuse(["ben"]);
    let mut client = client(gateway).await;
    let users = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let request = PushRequest { to_usernames: users(&["anna", "ben"]), message: Some(message(1)) };
    let answer = client.push(request.clone()).await.unwrap().into_inner();
    assert_eq!(
        (answer.msg_id, answer.failed_usernames, answer.error),
        (1, users(&["ben"]), "user not connected".into())
    );

    let (requests, feed) = mpsc::unbounded_channel();
    let mut answers = client.push_batch(Feed(feed)).await.unwrap().into_inner();
    let fine = PushRequest { to_usernames: users(&["anna"]), message: Some(message(2)) };
    requests.send(PushBatchRequest { batch_id: 8, pushes: vec![fine.clone(), request] }).unwrap();
    requests.send(PushBatchRequest { batch_id: 9, pushes: vec![fine] }).unwrap();
    let first = timeout(SOON, answers.message()).await.unwrap().unwrap().unwrap();
    assert_eq!((first.batch_id, first.failures.len(), first.failures[0].msg_id), (8, 1, 1));
    let second = timeout(SOON, answers.message()).await.unwrap().unwrap().unwrap();
    assert_eq!((second.batch_id, second.failures.len()), (9, 0));
    assert_eq!(log.delivered("s", "anna"), [1, 2, 1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_rpc_it_does_not_know_is_unimplemented() {
    let (gateway, _) = start(Protocols::UNARY);
    let mut client = client(&gateway).await;
    assert_eq!(open(&mut client).await.err().unwrap().code(), Code::Unimplemented);
    assert_eq!(gateway.protocols().announcement(), "unary");
    assert_eq!(Protocols::ALL.announcement(), "batch,stream,unary");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_deaf_gateway_reads_and_answers_later_a_stuck_one_does_not_read() {
    let (gateway, log) = start(Protocols::STREAM);
    let mut stream = open(&mut client(&gateway).await).await.unwrap();
    gateway.behave(Behaviour::Deaf);
    stream.push(1, "anna");
    assert_eq!(log.wait_for(1, SOON).unwrap()[0].answer, Answer::Held);
    assert!(stream.is_quiet().await);
    gateway.behave(Behaviour::Prompt);
    assert_eq!(stream.answer().await.unwrap().unwrap().0, 1);

    gateway.behave(Behaviour::Stuck);
    stream.push(2, "anna");
    assert!(stream.is_quiet().await);
    assert_eq!(gateway.pushes(), 1, "not read");
    gateway.behave(Behaviour::Prompt);
    assert_eq!(stream.answer().await.unwrap().unwrap().0, 2);
    assert_eq!(gateway.answers(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn notices_are_told_to_each_place_of_their_list_but_those_left_out() {
    for (gateway, log) in both(Protocols::NOTICE) {
        gateway.refuse(["cat"]);
        let mut client = client(&gateway).await;
        let (frames, requests) = mpsc::unbounded_channel();
        let mut answers = client.push_groups(Feed(requests)).await.unwrap().into_inner();
        let add = ["ann", "bob", "cat"].map(Into::into).into();
        let list = GroupChange { group_id: 1, version: 1, replace: true, add, ..Default::default() };
        let notice = |version| {
            let told = SessionNotice { session_id: "s".into(), max_seq_id: 70, msg_id: 7 };
            GroupPush { group_id: 1, version, except: vec![1], what: Some(What::Notice(told)) }
        };
        let first = GroupFrame { frame_id: 1, changes: vec![list], pushes: vec![notice(1)], singles: Vec::new() };
        frames.send(first).unwrap();
        frames.send(GroupFrame { frame_id: 2, pushes: vec![notice(2)], ..Default::default() }).unwrap();
        let failure = GroupFailure { push: 0, places: vec![2], error: "user not connected".into() };
        let expected = [
            GroupAnswer { frame_id: 1, failures: vec![failure], unknown_groups: Vec::new() },
            GroupAnswer { frame_id: 2, failures: Vec::new(), unknown_groups: vec![1] },
        ];
        for answer in expected {
            assert_eq!(timeout(SOON, answers.message()).await.expect("an answer within 5 s").unwrap(), Some(answer));
        }
        let told = |recipient: &str, answer| KeptNotice {
            gateway: gateway.id().into(),
            recipient: recipient.into(),
            session: "s".into(),
            max_seq_id: 70,
            msg_id: 7,
            answer,
        };
        assert_eq!(log.notices(), [told("ann", Answer::Delivered), told("cat", Answer::Refused)]);
        assert_eq!(
            (log.records().len(), gateway.notices(), gateway.protocols().announcement()),
            (0, 1, "group,notice".into())
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_slow_gateway_waits_before_each_answer() {
    let (gateway, _) = start(Protocols::ALL);
    gateway.behave(Behaviour::Slow(Duration::from_millis(30)));
    let mut client = client(&gateway).await;
    let mut stream = open(&mut client).await.unwrap();
    let begun = Instant::now();
    for msg_id in 1..=3 {
        stream.push(msg_id, "anna");
    }
    for msg_id in 1..=3 {
        assert_eq!(stream.answer().await.unwrap().unwrap().0, msg_id);
    }
    assert!(begun.elapsed() >= Duration::from_millis(90));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn cut_streams_are_reset_and_the_connection_stays() {
    let (gateway, _) = start(Protocols::STREAM);
    let mut client = client(&gateway).await;
    let mut stream = open(&mut client).await.unwrap();
    stream.push(1, "anna");
    stream.answer().await.unwrap();
    gateway.cut_streams();
    assert!(stream.answer().await.is_err(), "a reset is no end");
    let mut again = open(&mut client).await.unwrap();
    again.push(2, "anna");
    assert_eq!(again.answer().await.unwrap().unwrap().0, 2);
    assert_eq!((gateway.accepted(), gateway.streams()), (1, 2));

    gateway.behave(Behaviour::Flapping { every: Duration::from_millis(5), seed: 1 });
    assert!(again.answer().await.is_err(), "cut sooner or later");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn goaway_lets_what_is_open_go_on() {
    let (gateway, _) = start(Protocols::STREAM);
    let mut client = client(&gateway).await;
    let mut stream = open(&mut client).await.unwrap();
    gateway.goaway();
    stream.push(1, "anna");
    assert_eq!(stream.answer().await.unwrap().unwrap().0, 1);
    // The connection may take no new stream while the old one lasts; tonic's channel then dials again.
    let until = Instant::now() + SOON;
    let mut other = loop {
        match open(&mut client).await {
            Ok(stream) => break stream,
            Err(status) => assert!(Instant::now() < until, "{status}"),
        }
    };
    other.push(2, "anna");
    assert_eq!(other.answer().await.unwrap().unwrap().0, 2);
    gateway.wait("a second connection", SOON, |gateway| gateway.accepted() == 2).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_killed_gateway_refuses_and_comes_back_on_its_port() {
    let (gateway, log) = start(Protocols::STREAM);
    let mut stream = open(&mut client(&gateway).await).await.unwrap();
    stream.push(1, "anna");
    stream.answer().await.unwrap();
    gateway.kill();
    assert!(stream.answer().await.is_err());
    assert!(std::net::TcpStream::connect(gateway.addr()).is_err(), "the port refuses");
    gateway.wait("no connection", SOON, |gateway| gateway.open() == 0).unwrap();
    gateway.restart().unwrap();
    let mut stream = open(&mut client(&gateway).await).await.unwrap();
    stream.push(2, "anna");
    stream.answer().await.unwrap();
    assert_eq!(log.delivered("s", "anna"), [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_fast_gateway_takes_messages_larger_than_a_chunk() {
    let log = Log::shared();
    let gateway = Gateway::start(GatewayOptions::new("g2", log.clone()).fast()).unwrap();
    let mut stream = open(&mut client(&gateway).await).await.unwrap();
    for msg_id in 1..=20 {
        let content = "x".repeat(msg_id as usize * 9_973);
        let message = PushMessage { msg_id, content, session_id: "s".into(), ..Default::default() };
        stream.requests.send(PushMessageRequest { to_username: "anna".into(), message: Some(message) }).unwrap();
    }
    for msg_id in 1..=20 {
        assert_eq!(stream.answer().await.unwrap().unwrap(), (msg_id, String::new()));
    }
    assert_eq!(log.delivered("s", "anna"), (1..=20).collect::<Vec<_>>());
    gateway.cut_streams();
    assert!(stream.answer().await.is_err(), "a reset is no end");
}
