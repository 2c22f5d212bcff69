//! A publisher that knows what the broker has: each event is confirmed by JetStream before the next one goes out.
//!
//! Promises publish order also while the broker is away (the same event is tried again until it is confirmed), and that a
//! try whose confirmation was lost makes no second event (`Nats-Msg-Id`). Refuses to be fast: one round trip an event.

use std::time::{Duration, Instant};

use async_nats::jetstream;
use async_nats::{Client, ConnectOptions, HeaderMap};
use futures_lite::StreamExt as _;
use harness::error::{Error, Result};
use tokio::runtime::Runtime;

/// How long a confirmation may take before the event is tried again.
const CONFIRM_WITHIN: Duration = Duration::from_secs(1);
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// How long one event may be tried.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

/// The publisher's connection.
pub struct Confirmed {
    runtime: Runtime,
    stream: jetstream::Context,
}

/// What a stream's consumers have not settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsettled {
    /// Events that were never delivered.
    pub pending: u64,
    /// Events that were delivered and not settled.
    pub unacked: u64,
}

impl Confirmed {
    /// Connects.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn connect(addr: &str) -> Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("publisher").enable_all().build();
        let runtime = runtime.map_err(|cause| Error::of("cannot start a Tokio runtime", cause))?;
        let options =
            ConnectOptions::new().max_reconnects(None).reconnect_delay_callback(|_| Duration::from_millis(50));
        let connect = options.connect(format!("nats://{addr}"));
        let client: Client = runtime
            .block_on(connect)
            .map_err(|cause| Error::of(&format!("cannot publish to NATS at {addr}"), cause))?;
        // It starts a task of its own.
        let inside = runtime.enter();
        let mut stream = jetstream::new(client);
        drop(inside);
        stream.set_timeout(CONFIRM_WITHIN);
        Ok(Self { runtime, stream })
    }

    /// Publishes one event and waits for its confirmation; `id` is what repeats are known by.
    ///
    /// # Errors
    /// When the broker does not confirm it within a minute.
    pub fn publish(&self, subject: &str, id: &str, payload: &[u8]) -> Result<()> {
        let until = Instant::now() + GIVE_UP_AFTER;
        loop {
            let tried = self.runtime.block_on(self.try_once(subject, id, payload));
            match tried {
                Ok(()) => return Ok(()),
                Err(why) if Instant::now() > until => return Err(Error::of("the broker confirms no event", why)),
                Err(_) => std::thread::sleep(TRY_AGAIN_AFTER),
            }
        }
    }

    async fn try_once(&self, subject: &str, id: &str, payload: &[u8]) -> std::result::Result<(), String> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id);
        let sent = self.stream.publish_with_headers(subject.to_owned(), headers, payload.to_vec().into());
        let confirmation = tokio::time::timeout(CONFIRM_WITHIN, sent).await.map_err(|_| "no room".to_owned())?;
        let confirmation = confirmation.map_err(|cause| cause.to_string())?;
        let confirmed = tokio::time::timeout(CONFIRM_WITHIN, confirmation.into_future()).await;
        confirmed.map_err(|_| "no answer".to_owned())?.map_err(|cause| cause.to_string()).map(drop)
    }

    /// What all consumers of a stream have not settled.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn unsettled(&self, stream: &str) -> Result<Unsettled> {
        self.unsettled_of(stream, |_| true)
    }

    /// What those consumers of a stream have not settled whose names are of these.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn unsettled_of(&self, stream: &str, is_of: impl Fn(&str) -> bool) -> Result<Unsettled> {
        self.runtime.block_on(async {
            let failed = |cause: String| Error::of(&format!("cannot ask for the consumers of {stream}"), cause);
            let handle = self.stream.get_stream(stream).await.map_err(|cause| failed(cause.to_string()))?;
            let mut consumers = handle.consumers();
            let mut sum = Unsettled::default();
            while let Some(consumer) = consumers.next().await {
                let info = consumer.map_err(|cause| failed(cause.to_string()))?;
                if is_of(&info.name) {
                    sum.pending += info.num_pending;
                    sum.unacked += info.num_ack_pending as u64;
                }
            }
            Ok(sum)
        })
    }

    /// The names of a stream's consumers.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn consumers(&self, stream: &str) -> Result<Vec<String>> {
        self.runtime.block_on(async {
            let failed = |cause: String| Error::of(&format!("cannot list the consumers of {stream}"), cause);
            let handle = self.stream.get_stream(stream).await.map_err(|cause| failed(cause.to_string()))?;
            let mut names = handle.consumer_names();
            let mut all = Vec::new();
            while let Some(name) = names.next().await {
                all.push(name.map_err(|cause| failed(cause.to_string()))?);
            }
            Ok(all)
        })
    }

    /// Deletes a consumer.
    ///
    /// # Errors
    /// When the broker does not do it.
    pub fn delete_consumer(&self, stream: &str, name: &str) -> Result<()> {
        let deleted = self.runtime.block_on(self.stream.delete_consumer_from_stream(name, stream));
        deleted.map(drop).map_err(|cause| Error::of(&format!("cannot delete the consumer {name}"), cause))
    }

    /// Makes a consumer that nobody asked for.
    ///
    /// # Errors
    /// When the broker does not do it.
    pub fn make_consumer(&self, stream: &str, name: &str, filter: String) -> Result<()> {
        let config = jetstream::consumer::pull::Config {
            durable_name: Some(name.to_owned()),
            filter_subject: filter,
            ..Default::default()
        };
        let made = self.runtime.block_on(self.stream.create_consumer_on_stream(config, stream));
        made.map(drop).map_err(|cause| Error::of(&format!("cannot make the consumer {name}"), cause))
    }

    /// How many messages a stream holds.
    ///
    /// # Errors
    /// When the broker does not answer or has no such stream.
    pub fn messages(&self, stream: &str) -> Result<u64> {
        self.runtime.block_on(async {
            let failed = |cause: String| Error::of(&format!("cannot ask for the stream {stream}"), cause);
            let mut handle = self.stream.get_stream(stream).await.map_err(|cause| failed(cause.to_string()))?;
            let info = handle.info().await.map_err(|cause| failed(cause.to_string()))?;
            Ok(info.state.messages)
        })
    }
}
