//! What a gateway answers to each protocol of `proto/gateway.proto`, over the connections that it has.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_lite::stream::{self, Stream};
use task_engine::model::limits::GRPC_MESSAGE_BYTES_MAX;
use task_engine::model::proto::gateway::group_push::What;
use task_engine::model::proto::gateway::push_service_server::{PushService, PushServiceServer};
use task_engine::model::proto::gateway::{
    GroupAnswer, GroupChange, GroupFailure, GroupFrame, PushBatchRequest, PushBatchResponse, PushMessage,
    PushMessageRequest, PushMessageResponse, PushRequest, PushResponse, SessionNotice,
};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// The text for a user who is not connected here; the engine looks for the user elsewhere then.
pub const NOT_CONNECTED: &str = "user not connected";

/// The users who are connected to this gateway.
pub trait Connections: Send + Sync + 'static {
    /// Hands a message to a user's connection. It must not wait for the client: all others wait meanwhile. One whose buffer is full
    /// is better cut off, and comes back for what it missed.
    ///
    /// # Errors
    /// [`NOT_CONNECTED`], or why the message could not be handed over.
    fn deliver(&self, user: &str, message: &PushMessage) -> Result<(), String>;

    /// Tells a user's connection that a session has messages up to a sequence; its client reads them when it looks. Of one session a
    /// connection needs the newest only.
    ///
    /// # Errors
    /// As [`deliver`](Self::deliver).
    fn notify(&self, user: &str, notice: &SessionNotice) -> Result<(), String>;
}

/// The service.
pub struct Gateway<C>(pub Arc<C>);

type Answers<A> = Pin<Box<dyn Stream<Item = Result<A, Status>> + Send>>;
/// Answers a frame.
type Take<F, A> = Box<dyn FnMut(F) -> Result<A, Status> + Send>;

/// One answer a frame, in the order of the frames; an error ends the stream.
fn answers<F: Send + 'static, A: Send + 'static>(
    frames: Streaming<F>,
    take: impl FnMut(F) -> Result<A, Status> + Send + 'static,
) -> Answers<A> {
    let take: Take<F, A> = Box::new(take);
    Box::pin(stream::unfold(Some((frames, take)), |state| async move {
        let (mut frames, mut take) = state?;
        match frames.message().await {
            Ok(Some(frame)) => {
                let answer = take(frame);
                let goes_on = answer.is_ok();
                Some((answer, goes_on.then_some((frames, take))))
            }
            // The engine half-closed the stream: all is answered, so it ends with OK.
            Ok(None) => None,
            Err(status) => Some((Err(status), None)),
        }
    }))
}

/// Hands one message to many; who failed, with the first error.
fn push(connections: &impl Connections, request: PushRequest) -> Result<PushResponse, Status> {
    let message = request.message.ok_or_else(|| Status::invalid_argument("a push without a message"))?;
    let mut answer = PushResponse { msg_id: message.msg_id, ..PushResponse::default() };
    for user in request.to_usernames {
        if let Err(error) = connections.deliver(&user, &message) {
            answer.failed_usernames.push(user);
            answer.error = if answer.error.is_empty() { error } else { answer.error };
        }
    }
    Ok(answer)
}

#[tonic::async_trait]
impl<C: Connections> PushService for Gateway<C> {
    type PushMessageStream = Answers<PushMessageResponse>;
    type PushBatchStream = Answers<PushBatchResponse>;
    type PushGroupsStream = Answers<GroupAnswer>;

    async fn push(&self, request: Request<PushRequest>) -> Result<Response<PushResponse>, Status> {
        push(&*self.0, request.into_inner()).map(Response::new)
    }

    async fn push_message(
        &self,
        request: Request<Streaming<PushMessageRequest>>,
    ) -> Result<Response<Self::PushMessageStream>, Status> {
        let connections = self.0.clone();
        Ok(Response::new(answers(request.into_inner(), move |frame: PushMessageRequest| {
            let message = frame.message.ok_or_else(|| Status::invalid_argument("a push without a message"))?;
            let error = connections.deliver(&frame.to_username, &message).err().unwrap_or_default();
            Ok(PushMessageResponse { msg_id: message.msg_id, seq_id: message.seq_id, error })
        })))
    }

    async fn push_batch(
        &self,
        request: Request<Streaming<PushBatchRequest>>,
    ) -> Result<Response<Self::PushBatchStream>, Status> {
        let connections = self.0.clone();
        Ok(Response::new(answers(request.into_inner(), move |frame: PushBatchRequest| {
            let all: Vec<_> = frame.pushes.into_iter().map(|one| push(&*connections, one)).collect::<Result<_, _>>()?;
            let failures = all.into_iter().filter(|answer| !answer.failed_usernames.is_empty()).collect();
            Ok(PushBatchResponse { batch_id: frame.batch_id, failures })
        })))
    }

    async fn push_groups(
        &self,
        request: Request<Streaming<GroupFrame>>,
    ) -> Result<Response<Self::PushGroupsStream>, Status> {
        let (connections, mut lists) = (self.0.clone(), Lists::default());
        Ok(Response::new(answers(request.into_inner(), move |frame| lists.take(&*connections, frame))))
    }
}

/// A gateway of protocol `stream-many`: the rpc of `stream`, with the messages of `Push`. Its other protocols are the [`Gateway`]'s. On this
/// rpc a gateway speaks one of the two, since a frame does not say which it is of.
pub struct ManyGateway<C> {
    others: PushServiceServer<Gateway<C>>,
    connections: Arc<C>,
}

impl<C: Connections> ManyGateway<C> {
    /// Over these connections.
    pub fn new(connections: Arc<C>) -> Self {
        let others = PushServiceServer::new(Gateway(connections.clone()));
        Self { others: others.max_decoding_message_size(GRPC_MESSAGE_BYTES_MAX), connections }
    }
}

impl<C> Clone for ManyGateway<C> {
    fn clone(&self) -> Self {
        Self { others: self.others.clone(), connections: self.connections.clone() }
    }
}

impl<C: Connections> NamedService for ManyGateway<C> {
    const NAME: &'static str = <PushServiceServer<Gateway<C>> as NamedService>::NAME;
}

impl<C: Connections> Service<http::Request<Body>> for ManyGateway<C> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != "/resonance.gateway.v1.PushService/PushMessage" {
            return self.others.call(request);
        }
        let codec = ProstCodec::<PushResponse, PushRequest>::default();
        let mut grpc = Grpc::new(codec).max_decoding_message_size(GRPC_MESSAGE_BYTES_MAX);
        let frames = ManyFrames(self.connections.clone());
        Box::pin(async move { Ok(grpc.streaming(frames, request).await) })
    }
}

/// Whom it could not reach, a frame.
struct ManyFrames<C>(Arc<C>);

impl<C: Connections> StreamingService<PushRequest> for ManyFrames<C> {
    type Response = PushResponse;
    type ResponseStream = Answers<PushResponse>;
    type Future = Ready<Result<Response<Answers<PushResponse>>, Status>>;

    fn call(&mut self, request: Request<Streaming<PushRequest>>) -> Self::Future {
        let connections = self.0.clone();
        ready(Ok(Response::new(answers(request.into_inner(), move |frame| push(&*connections, frame)))))
    }
}

/// The lists of users that one stream was told: version and names by id. A new stream begins with none.
#[derive(Default)]
struct Lists(HashMap<u32, (u32, Vec<String>)>);

impl Lists {
    /// Changes first, then pushes to lists, then pushes by name; then one answer.
    fn take(&mut self, connections: &impl Connections, frame: GroupFrame) -> Result<GroupAnswer, Status> {
        frame.changes.into_iter().try_for_each(|change| self.change(change))?;
        let mut answer = GroupAnswer { frame_id: frame.frame_id, ..GroupAnswer::default() };
        let singles_from = frame.pushes.len();
        for (number, one) in frame.pushes.into_iter().enumerate() {
            let what = one.what.ok_or_else(|| Status::invalid_argument("a push without a message or a notice"))?;
            let Some(users) = self.known(one.group_id, one.version) else {
                if !answer.unknown_groups.contains(&one.group_id) {
                    answer.unknown_groups.push(one.group_id);
                }
                continue;
            };
            let told = (0..).zip(users).filter(|(place, _)| !one.except.contains(place));
            answer.failures.extend(failures(number, told, |user| match &what {
                What::Message(message) => connections.deliver(user, message),
                What::Notice(notice) => connections.notify(user, notice),
            }));
        }
        for (number, one) in (singles_from..).zip(frame.singles) {
            let message = one.message.ok_or_else(|| Status::invalid_argument("a push without a message"))?;
            let told = (0..).zip(&one.to_usernames);
            answer.failures.extend(failures(number, told, |user| connections.deliver(user, &message)));
        }
        Ok(answer)
    }

    fn change(&mut self, change: GroupChange) -> Result<(), Status> {
        let GroupChange { group_id, version, replace, add, remove, forget } = change;
        if forget {
            self.0.remove(&group_id);
            return Ok(());
        }
        if replace {
            self.0.insert(group_id, (version, add));
            return Ok(());
        }
        // A change of what is not known, or of another version than the one before it: the list is unknown from now on.
        let Some((_, mut users)) = self.0.remove(&group_id).filter(|(known, _)| known.wrapping_add(1) == version)
        else {
            return Ok(());
        };
        for place in remove.into_iter().rev() {
            if place as usize >= users.len() {
                return Err(Status::invalid_argument("a place that is none"));
            }
            users.remove(place as usize);
        }
        users.extend(add);
        self.0.insert(group_id, (version, users));
        Ok(())
    }

    /// The names of a list as of this version; with another version it is forgotten.
    fn known(&mut self, group_id: u32, version: u32) -> Option<&[String]> {
        self.0.retain(|id, (known, _)| *id != group_id || *known == version);
        self.0.get(&group_id).map(|(_, users)| &**users)
    }
}

/// Hands over to each; one failure for each text.
fn failures<'a>(
    push: usize,
    told: impl Iterator<Item = (u32, &'a String)>,
    deliver: impl Fn(&str) -> Result<(), String>,
) -> Vec<GroupFailure> {
    let mut failures: Vec<GroupFailure> = Vec::new();
    for (place, user) in told {
        let Err(error) = deliver(user) else { continue };
        match failures.iter_mut().find(|failure| failure.error == error) {
            Some(failure) => failure.places.push(place),
            None => failures.push(GroupFailure { push: push as u32, places: vec![place], error }),
        }
    }
    failures
}
