//! The gateway's side of the rpcs, over the generated service: one answer a request, in request order.

use std::collections::VecDeque;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use hyper::body::Incoming;
use task_engine::model::proto::gateway::group_push::What;
use task_engine::model::proto::gateway::push_service_server::PushService;
use task_engine::model::proto::gateway::{
    GroupAnswer, GroupFailure, GroupFrame, GroupPush, PushBatchRequest, PushBatchResponse, PushMessage,
    PushMessageRequest, PushMessageResponse, PushRequest, PushResponse, SessionNotice,
};
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::Stream;
use tonic::server::{Grpc, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::Behaviour;
use super::control::{Control, NoticeHere};
use super::kept::KeptGroups;
use crate::clock;
use crate::rng::Rng;

/// Answers that wait for the client to read them.
const ANSWERS: usize = 1024;

/// The service of one gateway.
pub(crate) struct Plain(pub Arc<Control>);

#[tonic::async_trait]
impl PushService for Plain {
    type PushMessageStream = Answers<PushMessageResponse>;
    type PushBatchStream = Answers<PushBatchResponse>;
    type PushGroupsStream = Answers<GroupAnswer>;

    async fn push_message(
        &self,
        request: Request<Streaming<PushMessageRequest>>,
    ) -> Result<Response<Self::PushMessageStream>, Status> {
        speaks(self.0.protocols.stream, "PushMessage")?;
        let control = self.0.clone();
        let stream = control.next_stream();
        Ok(answer_each(self.0.clone(), request, move |request: PushMessageRequest| {
            let message = request.message.unwrap_or_default();
            let error = control.take(stream, &request.to_username, &message);
            PushMessageResponse { msg_id: message.msg_id, seq_id: message.seq_id, error }
        }))
    }

    async fn push(&self, request: Request<PushRequest>) -> Result<Response<PushResponse>, Status> {
        speaks(self.0.protocols.unary, "Push")?;
        let answer = take_request(&self.0, self.0.next_stream(), request.into_inner());
        self.0.pace().await;
        self.0.counters.answers.fetch_add(1, Ordering::Relaxed);
        Ok(Response::new(answer))
    }

    async fn push_batch(
        &self,
        request: Request<Streaming<PushBatchRequest>>,
    ) -> Result<Response<Self::PushBatchStream>, Status> {
        speaks(self.0.protocols.batch, "PushBatch")?;
        let control = self.0.clone();
        let stream = control.next_stream();
        Ok(answer_each(self.0.clone(), request, move |request: PushBatchRequest| {
            let answers = request.pushes.into_iter().map(|push| take_request(&control, stream, push));
            let failures = answers.filter(|answer| !answer.failed_usernames.is_empty()).collect();
            PushBatchResponse { batch_id: request.batch_id, failures }
        }))
    }

    async fn push_groups(
        &self,
        request: Request<Streaming<GroupFrame>>,
    ) -> Result<Response<Self::PushGroupsStream>, Status> {
        speaks(self.0.protocols.group, "PushGroups")?;
        let control = self.0.clone();
        let stream = control.next_stream();
        let (mut kept, mut rng) = (KeptGroups::default(), Rng::new(stream));
        Ok(answer_each(self.0.clone(), request, move |frame: GroupFrame| {
            control.forget_some(&mut kept, &mut rng);
            take_groups(&control, stream, &mut kept, frame)
        }))
    }
}

/// The rpc that gateways of Resonance 0.1.0 have with other messages: on the wire they are those of `Push`.
pub(crate) const MANY: &str = "/resonance.gateway.v1.PushService/PushMessage";

/// [`MANY`] of one gateway.
struct Many(Arc<Control>);

impl StreamingService<PushRequest> for Many {
    type Response = PushResponse;
    type ResponseStream = Answers<PushResponse>;
    type Future = Ready<Result<Response<Answers<PushResponse>>, Status>>;

    fn call(&mut self, request: Request<Streaming<PushRequest>>) -> Self::Future {
        let (control, stream) = (self.0.clone(), self.0.next_stream());
        ready(Ok(answer_each(self.0.clone(), request, move |push: PushRequest| {
            // Whom it could not reach is all that it says.
            PushResponse { error: String::new(), ..take_request(&control, stream, push) }
        })))
    }
}

/// The response to one stream of [`MANY`].
pub(crate) async fn serve_many(
    control: Arc<Control>,
    request: http::Request<Incoming>,
) -> http::Response<tonic::body::Body> {
    Grpc::new(ProstCodec::<PushResponse, PushRequest>::default()).streaming(Many(control), request).await
}

/// Takes one frame: changes, then pushes, then singles.
fn take_groups(control: &Control, stream: u64, kept: &mut KeptGroups, frame: GroupFrame) -> GroupAnswer {
    let mut answer = GroupAnswer { frame_id: frame.frame_id, ..Default::default() };
    if !frame.changes.into_iter().all(|change| kept.change(change)) {
        control.recorder.unreadable(&control.id);
    }
    let singles_from = frame.pushes.len() as u32;
    for (number, push) in (0..).zip(frame.pushes) {
        let GroupPush { group_id, version, except, what } = push;
        let Some(what) = what.filter(|what| control.protocols.notice || matches!(what, What::Message(_))) else {
            control.recorder.unreadable(&control.id);
            continue;
        };
        let Some(users) = kept.users(group_id, version) else {
            if !answer.unknown_groups.contains(&group_id) {
                answer.unknown_groups.push(group_id);
            }
            continue;
        };
        let told = (0..).zip(users).filter(|(place, _)| except.binary_search(place).is_err());
        control.counters.notices.fetch_add(u64::from(matches!(what, What::Notice(_))), Ordering::Relaxed);
        let failed = told.map(|(place, user)| (place, take_what(control, stream, user, &what)));
        answer.failures.extend(failures_of(number, failed));
    }
    for (number, single) in (singles_from..).zip(frame.singles) {
        let message = single.message.unwrap_or_default();
        let told = (0..).zip(&single.to_usernames);
        let failed = told.map(|(place, user)| (place, control.take(stream, user, &message)));
        answer.failures.extend(failures_of(number, failed));
    }
    answer
}

/// Its error text. A frame is answered before the next one is read.
fn take_what(control: &Control, stream: u64, user: &str, what: &What) -> String {
    match what {
        What::Message(message) => control.take(stream, user, message),
        What::Notice(SessionNotice { session_id, max_seq_id, msg_id }) => {
            let (max_seq_id, msg_id, at) = (*max_seq_id, *msg_id, clock::now());
            control.notify(user, &NoticeHere { session: session_id, max_seq_id, msg_id, at, unanswered: 0 })
        }
    }
}

/// One failure for each error text.
fn failures_of(push: u32, answers: impl Iterator<Item = (u32, String)>) -> Vec<GroupFailure> {
    let mut failures: Vec<GroupFailure> = Vec::new();
    for (place, error) in answers.filter(|(_, error)| !error.is_empty()) {
        match failures.iter_mut().find(|failure| failure.error == error) {
            Some(failure) => failure.places.push(place),
            None => failures.push(GroupFailure { push, places: vec![place], error }),
        }
    }
    failures
}

fn speaks(spoken: bool, rpc: &str) -> Result<(), Status> {
    if spoken { Ok(()) } else { Err(Status::unimplemented(format!("unknown method {rpc}"))) }
}

/// Takes one message for many users. The error is that of the first user who has one.
fn take_request(control: &Control, stream: u64, request: PushRequest) -> PushResponse {
    let message: PushMessage = request.message.unwrap_or_default();
    let mut answer = PushResponse { msg_id: message.msg_id, ..Default::default() };
    for user in request.to_usernames {
        let error = control.take(stream, &user, &message);
        if !error.is_empty() {
            answer.failed_usernames.push(user);
            if answer.error.is_empty() {
                answer.error = error;
            }
        }
    }
    answer
}

/// Reads requests on a task of its own and answers each as the gateway's behaviour has it.
fn answer_each<Q, A>(
    control: Arc<Control>,
    request: Request<Streaming<Q>>,
    take: impl FnMut(Q) -> A + Send + 'static,
) -> Response<Answers<A>>
where
    Q: Send + 'static,
    A: Send + 'static,
{
    let (sender, answers) = mpsc::channel(ANSWERS);
    tokio::spawn(async move {
        let mut cut = control.cut.subscribe();
        // Whichever way the stream ends, the task ends with it; a reset of the stream shows as an error of a read.
        tokio::select! {
            biased;
            _ = cut.changed() => {}
            () = sender.closed() => {}
            () = read_and_answer(&control, request.into_inner(), &sender, take) => {}
        }
    });
    Response::new(Answers(answers))
}

async fn read_and_answer<Q, A>(
    control: &Control,
    mut requests: Streaming<Q>,
    answers: &mpsc::Sender<Result<A, Status>>,
    mut take: impl FnMut(Q) -> A,
) {
    let mut changes = control.behaviour.subscribe();
    let mut held = VecDeque::new();
    loop {
        let behaviour = *changes.borrow_and_update();
        if behaviour == Behaviour::Stuck {
            if changes.changed().await.is_err() {
                return;
            }
            continue;
        }
        while behaviour != Behaviour::Deaf
            && let Some(answer) = held.pop_front()
        {
            if let Behaviour::Slow(delay) = behaviour {
                tokio::time::sleep(delay).await;
            }
            if answers.send(Ok(answer)).await.is_err() {
                return;
            }
            control.counters.answers.fetch_add(1, Ordering::Relaxed);
        }
        tokio::select! {
            biased;
            _ = changes.changed() => {}
            request = requests.message() => match request {
                Ok(Some(request)) => held.push_back(take(request)),
                // Half-closed: what is held is still answered, when the behaviour lets it.
                Ok(None) if held.is_empty() => return,
                Ok(None) => if changes.changed().await.is_err() { return },
                Err(_) => return,
            },
        }
    }
}

/// The answers of one stream.
pub(crate) struct Answers<A>(mpsc::Receiver<Result<A, Status>>);

impl<A> Stream for Answers<A> {
    type Item = Result<A, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}
