//! Events from core NATS with the sync client: the core takes them out of the client's own channel, so no thread of ours
//! touches a message. One thread does nothing but tell a sleeping core that the channel is not empty any more.
#![allow(deprecated)]

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;

use atomic_waker::AtomicWaker;
use crossbeam_channel::{Receiver, Select, Sender, bounded};
use harness::error::{Error, Result};
use task_engine::config::{Assignment, Config, NatsAuth};

/// Messages that may wait in the client; what comes when it is full is dropped there, and counted.
const UNREAD_MAX: usize = 1 << 20;

/// Wakes the core.
#[derive(Default)]
pub(super) struct Bell {
    waker: AtomicWaker,
    is_watched: AtomicBool,
}

impl Bell {
    /// Has the core look again.
    pub fn ring(&self) {
        self.waker.wake();
    }
}

/// The subscription.
pub(super) struct Intake {
    subscription: nats::Subscription,
    messages: Receiver<nats::Message>,
    bell: Arc<Bell>,
    watch: Sender<()>,
    _connection: nats::Connection,
}

impl Intake {
    /// Subscribes in the queue group.
    ///
    /// # Errors
    /// When NATS does not answer or does not let it in.
    pub fn subscribe(config: &Config) -> Result<Self> {
        let (nats, consumer) = (&config.nats, &config.consumer);
        let options = match &nats.auth {
            NatsAuth::None => nats::Options::new(),
            NatsAuth::Token(token) => nats::Options::with_token(token.reveal()),
            NatsAuth::User { username, password } => nats::Options::with_user_pass(username, password.reveal()),
            _ => return Err(Error::new("a yardstick logs in with a user or a token only")),
        };
        let place = nats.servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let connection = options.with_name(&nats.name).connect(&place);
        let connection = connection.map_err(|cause| Error::of(&format!("NATS at {place}"), cause))?;
        let subject = match consumer.assignment {
            Assignment::Queue => consumer.topic.clone(),
            Assignment::Partitioned => format!("{}.*", consumer.topic),
        };
        let failed = |cause| Error::of("cannot subscribe", cause);
        let subscription = connection.queue_subscribe(&subject, &consumer.queue_group).map_err(failed)?;
        subscription.set_message_limits(UNREAD_MAX);
        connection.flush().map_err(failed)?;
        let messages = subscription.receiver().clone();
        let (bell, (watch, asked)) = (Arc::<Bell>::default(), bounded(1));
        let (rings, watched) = (bell.clone(), messages.clone());
        let thread = thread::Builder::new().name("bell".to_owned()).spawn(move || keep_watch(&asked, &watched, &rings));
        thread.map_err(|cause| Error::of("cannot start the bell's thread", cause))?;
        Ok(Self { subscription, messages, bell, watch, _connection: connection })
    }

    /// The next event, if it is there.
    pub fn take(&self) -> Option<Vec<u8>> {
        self.messages.try_recv().ok().map(|message| message.data)
    }

    /// What wakes the core.
    pub fn bell(&self) -> Arc<Bell> {
        self.bell.clone()
    }

    /// Sleeps until there is an event, or `is_over`.
    pub async fn wait(&self, is_over: impl Fn() -> bool) {
        poll_fn(|cx| {
            self.bell.waker.register(cx.waker());
            if !self.bell.is_watched.swap(true, Ordering::AcqRel) {
                // There is room: the thread takes an ask before it lets the next one be made.
                let _ = self.watch.try_send(());
            }
            if self.messages.is_empty() && !is_over() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Messages that the client dropped.
    pub fn dropped(&self) -> u64 {
        self.subscription.dropped_messages().map_or(0, |count| count as u64)
    }
}

/// For each ask: waits until there is a message, and rings.
fn keep_watch(asked: &Receiver<()>, messages: &Receiver<nats::Message>, bell: &Bell) {
    let mut select = Select::new();
    select.recv(messages);
    for () in asked {
        select.ready();
        bell.is_watched.store(false, Ordering::Release);
        bell.ring();
    }
}
