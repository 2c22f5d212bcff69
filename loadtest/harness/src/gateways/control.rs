//! What the test's thread and a gateway's connections share: how to behave now, and what was seen.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use task_engine::model::proto::gateway::PushMessage;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::kept::KeptGroups;
use super::record::{Answer, Noticed, Recorder, Seen};
use super::{Behaviour, Protocols};
use crate::clock;
use crate::rng::Rng;

/// What a gateway answers for a user that is not connected to it.
pub(crate) const NOT_CONNECTED: &str = "user not connected";

/// How a connection or stream is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Serve.
    Serve,
    /// Send GOAWAY; connections that are open now end when their streams do. Counts how often.
    GoAway(u64),
    /// Drop everything at once, without a goodbye.
    Die,
}

/// The counters of one gateway.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub accepted: AtomicU64,
    pub open: AtomicU64,
    pub streams: AtomicU64,
    pub pushes: AtomicU64,
    pub answers: AtomicU64,
    pub notices: AtomicU64,
    pub pings: AtomicU64,
}

/// A notice as it came to a gateway.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NoticeHere<'a> {
    pub session: &'a str,
    pub max_seq_id: i64,
    pub msg_id: i64,
    pub at: u64,
    /// See [`Noticed::unanswered`].
    pub unanswered: u32,
}

/// Shared by the gateway's handle, its listener, its connections and its streams.
pub(crate) struct Control {
    pub id: Arc<str>,
    pub protocols: Protocols,
    pub recorder: Arc<dyn Recorder>,
    pub behaviour: watch::Sender<Behaviour>,
    pub cut: watch::Sender<u64>,
    pub counters: Counters,
    /// Whether streams are served by hand.
    pub fast: bool,
    /// In how many frames of `group` a list is forgotten; 0: never.
    pub forgets: AtomicU64,
    /// Once it speaks TLS.
    pub tls: OnceLock<TlsAcceptor>,
    stuck: AtomicBool,
    /// user -> the error text that its pushes are answered with
    failing: RwLock<HashMap<String, String>>,
    any_failing: AtomicBool,
}

impl Control {
    pub fn new(id: &str, protocols: Protocols, recorder: Arc<dyn Recorder>, behaviour: Behaviour, fast: bool) -> Self {
        Self {
            id: id.into(),
            protocols,
            recorder,
            behaviour: watch::Sender::new(behaviour),
            cut: watch::Sender::new(0),
            counters: Counters::default(),
            fast,
            forgets: AtomicU64::new(0),
            tls: OnceLock::new(),
            stuck: AtomicBool::new(behaviour == Behaviour::Stuck),
            failing: RwLock::default(),
            any_failing: AtomicBool::new(false),
        }
    }

    pub fn behave(&self, behaviour: Behaviour) {
        self.stuck.store(behaviour == Behaviour::Stuck, Ordering::SeqCst);
        self.behaviour.send_replace(behaviour);
    }

    pub fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::SeqCst)
    }

    pub fn cut_streams(&self) {
        self.cut.send_modify(|times| *times += 1);
    }

    pub fn fail(&self, users: &mut dyn Iterator<Item = String>, text: &str) {
        let mut failing = self.failing.write().unwrap_or_else(PoisonError::into_inner);
        failing.extend(users.map(|user| (user, text.to_owned())));
        self.any_failing.store(true, Ordering::SeqCst);
    }

    pub fn fail_nobody(&self) {
        self.any_failing.store(false, Ordering::SeqCst);
        self.failing.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The error text that this user's pushes are answered with; empty: none.
    pub fn failure_of(&self, user: &str) -> String {
        if !self.recorder.is_connected(&self.id, user) {
            return NOT_CONNECTED.to_owned();
        }
        if !self.any_failing.load(Ordering::Relaxed) {
            return String::new();
        }
        self.failing.read().unwrap_or_else(PoisonError::into_inner).get(user).cloned().unwrap_or_default()
    }

    /// Forgets one of the lists, when this frame is one before which it is to be done.
    pub fn forget_some(&self, kept: &mut KeptGroups, rng: &mut Rng) {
        let one_in = self.forgets.load(Ordering::Relaxed);
        if one_in == 0 || rng.unit() * one_in as f64 >= 1.0 {
            return;
        }
        let ids = kept.ids();
        if !ids.is_empty() {
            let forgotten = ids[(rng.unit() * ids.len() as f64) as usize % ids.len()];
            kept.forget(|id| id == forgotten);
        }
    }

    pub fn next_stream(&self) -> u64 {
        self.counters.streams.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Records one push and gives its error text (empty: delivered).
    pub fn take(&self, stream: u64, recipient: &str, message: &PushMessage) -> String {
        let error = self.failure_of(recipient);
        let answer = match *self.behaviour.borrow() {
            _ if !error.is_empty() => Answer::Refused,
            Behaviour::Deaf => Answer::Held,
            _ => Answer::Delivered,
        };
        self.recorder.push(&Seen {
            gateway: &self.id,
            stream,
            order: self.counters.pushes.fetch_add(1, Ordering::Relaxed),
            at: clock::now(),
            answer,
            recipient,
            session: &message.session_id,
            msg_id: message.msg_id,
            seq_id: message.seq_id,
            from: &message.from_username,
            content: &message.content,
            kind: &message.r#type,
            timestamp: message.timestamp,
            message: Some(message),
            checked: None,
        });
        error
    }

    /// Records one user who is told by a notice and gives its error text (empty: told).
    pub fn notify(&self, recipient: &str, notice: &NoticeHere<'_>) -> String {
        let error = self.failure_of(recipient);
        let answer = match *self.behaviour.borrow() {
            _ if !error.is_empty() => Answer::Refused,
            Behaviour::Deaf => Answer::Held,
            _ => Answer::Delivered,
        };
        let NoticeHere { session, max_seq_id, msg_id, at, unanswered } = *notice;
        self.recorder.notice(&Noticed {
            gateway: &self.id,
            at,
            answer,
            recipient,
            session,
            max_seq_id,
            msg_id,
            unanswered,
        });
        error
    }

    /// Waits until an answer may be given: at once, after the slow delay, or when the gateway is no longer deaf.
    pub async fn pace(&self) {
        let mut changes = self.behaviour.subscribe();
        loop {
            let behaviour = *changes.borrow_and_update();
            match behaviour {
                Behaviour::Prompt | Behaviour::Flapping { .. } => return,
                Behaviour::Slow(delay) => return tokio::time::sleep(delay).await,
                Behaviour::Deaf | Behaviour::Stuck => {
                    if changes.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Cuts all streams now and then, as long as the gateway is flapping.
    pub async fn flap(self: Arc<Self>, every: Duration, mut rng: Rng) {
        let mut changes = self.behaviour.subscribe();
        loop {
            let pause = every.mul_f64(rng.unit() * 2.0);
            tokio::select! {
                _ = changes.changed() => return,
                () = tokio::time::sleep(pause) => self.cut_streams(),
            }
        }
    }
}
