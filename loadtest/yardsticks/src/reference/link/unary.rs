//! `Push`: calls in lanes, each with one call at a time; a session always takes the same lane, so its order holds.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use task_engine::model::proto::gateway::PushResponse;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::{Ends, Link, Over, path};
use crate::reference::add;
use crate::reference::delivery::{Address, Bundle, LANES, lock};
use crate::reference::requests::RawPushMany;

/// The pause before a call is tried again.
const PAUSE: Duration = Duration::from_millis(50);

impl Link {
    /// Pushes by calls until the registry says something else; then until all calls have ended.
    pub async fn serve_unary(&mut self, channel: Channel, address: &Address) -> Over {
        let mut tasks = JoinSet::new();
        let mut lane = || {
            let (bundles, waiting) = mpsc::unbounded_channel();
            tasks.spawn(run_lane(waiting, channel.clone(), self.ends.clone(), self.patience));
            bundles
        };
        let lanes: Vec<_> = (0..LANES).map(|_| lane()).collect();
        let mut addresses = self.ends.gateway.address.subscribe();
        let mut moved = std::pin::pin!(addresses.wait_for(|now| now.as_ref() != Some(address)));
        loop {
            for bundle in lock(&self.feed).unanswered.drain(..) {
                // A lane lasts until its sender is dropped.
                let _ = lanes[bundle.message.lane].send(bundle);
            }
            tokio::select! {
                biased;
                _ = &mut moved => break,
                more = poll_fn(|cx| lock(&self.feed).poll(cx)) => if more.is_none() { break },
            }
        }
        drop(lanes);
        tasks.join_all().await;
        Over::Moved
    }
}

async fn run_lane(mut bundles: mpsc::UnboundedReceiver<Arc<Bundle>>, channel: Channel, ends: Ends, patience: Duration) {
    while let Some(bundle) = bundles.recv().await {
        loop {
            match call(&channel, &bundle, patience).await {
                Ok(answer) => ends.many(&bundle, std::iter::once(&answer)),
                Err(status) if status.code() != Code::Unimplemented && bundle.since.elapsed() < patience => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(_) => {
                    add(&ends.counts.unreached, bundle.users.len());
                    bundle.end();
                }
            }
            break;
        }
    }
}

async fn call(channel: &Channel, bundle: &Bundle, patience: Duration) -> Result<PushResponse, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    let call = async {
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let request = Request::new(RawPushMany::of(bundle));
        client.unary(request, path("Push"), ProstCodec::default()).await
    };
    match timeout(patience, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("no answer")),
    }
}
