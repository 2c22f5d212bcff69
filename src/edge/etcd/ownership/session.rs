//! The connection to etcd: one endpoint at a time, and the next one when it does not answer.
//!
//! Promises that a session which was said to be over is used by nobody any more, that another one is opened by itself, and that
//! an etcd that cannot be reached is said in words, with what to check: when it begins, and each minute.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, Error, GetOptions};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::super::reach::reach;
use super::super::{STEADY, connect, end_of, patience, places, within, words};
use super::version;
use crate::config::{EtcdConfig, Held};
use crate::edge::random::random;
use crate::model::limits::RECONNECT_BACKOFF;

/// An etcd that is away is said again after this.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was never sent: there was no connection in time.
    NotSent,
    /// etcd or the connection said so.
    Said(Error),
    /// No answer in time.
    Late(Duration),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent => f.write_str("no connection to etcd"),
            Self::Said(error) => f.write_str(&words(error)),
            Self::Late(patience) => write!(f, "no answer within {patience:?}"),
        }
    }
}

/// A connection over which etcd answered.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) client: Client,
    is_over: Arc<watch::Sender<Option<String>>>,
}

impl Session {
    fn new(client: Client) -> Self {
        Self { client, is_over: Arc::new(watch::channel(None).0) }
    }

    /// Nobody uses it any more; the first reason stays.
    pub(super) fn end(&self, why: String) {
        self.is_over.send_if_modified(|over| {
            let is_first = over.is_none();
            over.get_or_insert(why);
            is_first
        });
    }

    fn is_open(&self) -> bool {
        self.is_over.borrow().is_none()
    }

    /// Returns when it has ended, with why.
    pub(super) async fn over(&self) -> String {
        let mut over = self.is_over.subscribe();
        let why = over.wait_for(Option::is_some).await;
        why.ok().and_then(|why| why.clone()).unwrap_or_default()
    }
}

/// The way to the session that is open now. All clones lead to the same one.
#[derive(Clone)]
pub(super) struct Line {
    sessions: watch::Receiver<Option<Session>>,
}

impl Line {
    /// Begins to connect, on the runtime that it is called on.
    pub(super) fn start(settings: Held<EtcdConfig>, root: &Arc<str>) -> Self {
        let (publish, sessions) = watch::channel(None);
        tokio::spawn(Connector { settings, root: root.clone(), publish }.run());
        Self { sessions }
    }

    /// The open session, if there is one.
    pub(super) fn now(&self) -> Option<Session> {
        self.sessions.borrow().clone().filter(Session::is_open)
    }

    /// The open session, waited for.
    pub(super) async fn session(&self) -> Option<Session> {
        let mut sessions = self.sessions.clone();
        let open = sessions.wait_for(|session| session.as_ref().is_some_and(Session::is_open)).await;
        open.ok().and_then(|session| session.clone())
    }

    /// Sends a request once, and waits for its answer; the time is for both, and for a connection before. A request that fails for
    /// the connection's sake, or has no answer, ends the session.
    pub(super) async fn ask<T, F>(&self, patience: Duration, call: impl FnOnce(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let until = Instant::now() + patience;
        let session = timeout_at(until, self.session()).await.ok().flatten().ok_or(Failure::NotSent)?;
        let sent = Instant::now();
        match timeout_at(until, call(session.client.clone())).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                if !is_etcds_word(&error) {
                    session.end(words(&error));
                }
                Err(Failure::Said(error))
            }
            Err(_) => {
                // One that waited for the connection says little about it.
                if sent.elapsed() >= patience / 2 {
                    session.end(format!("no answer within {patience:?}"));
                }
                Err(Failure::Late(sent.elapsed()))
            }
        }
    }
}

/// Whether etcd itself said it, of this request alone. When it has no leader it says so too, but another endpoint may have one.
fn is_etcds_word(error: &Error) -> bool {
    match error {
        // 14: unavailable.
        Error::GRpcStatus(status) => status.message().starts_with("etcdserver:") && i32::from(status.code()) != 14,
        Error::LeaseKeepAliveError(_) | Error::InvalidArgs(_) => true,
        _ => false,
    }
}

struct Connector {
    settings: Held<EtcdConfig>,
    root: Arc<str>,
    publish: watch::Sender<Option<Session>>,
}

impl Connector {
    async fn run(mut self) {
        let endpoints = self.settings.endpoints.len();
        if endpoints == 0 {
            return tracing::error!("etcd.endpoints is empty: no partition will ever be owned");
        }
        let (mut turn, mut failures, mut said) = (random() as usize, 0, None::<Instant>);
        loop {
            self.settings.renew();
            let attempt = |endpoint| open(EtcdConfig::clone(&self.settings), self.root.clone(), endpoint);
            match reach(endpoints, turn, attempt).await {
                Ok((endpoint, session)) => {
                    let at = &self.settings.endpoints[endpoint];
                    if said.take().is_some() {
                        tracing::info!("partition ownership: etcd at {at} answers");
                    }
                    let since = Instant::now();
                    self.publish.send_replace(Some(session.clone()));
                    let why = session.over().await;
                    self.publish.send_replace(None);
                    tracing::info!("partition ownership: etcd at {at}: {why}; connecting anew");
                    turn = endpoint + 1;
                    failures = if since.elapsed() >= STEADY { 0 } else { failures + 1 };
                }
                Err((endpoint, why)) => {
                    if said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
                        said = Some(Instant::now());
                        tracing::warn!("{}", away(&self.settings, endpoint, &why));
                    }
                    (turn, failures) = (endpoint + 1, failures + 1);
                }
            }
            if failures > 0 {
                sleep(RECONNECT_BACKOFF.jittered(failures, random())).await;
            }
        }
    }
}

/// That etcd cannot be reached, what that means, and what to check.
pub(super) fn away(settings: &EtcdConfig, endpoint: usize, why: &str) -> String {
    let (places, endpoint) = (places(settings), &settings.endpoints[endpoint]);
    let credentials = if settings.username.is_empty() { "" } else { ", etcd.username and etcd.password" };
    format!(
        "etcd at {places} cannot be used for partition ownership ({endpoint}: {why}): until it can no partition moves, and an \
         instance that died is not replaced; check that it runs, etcd.endpoints{credentials}"
    )
}

/// A connection over which a read of our keys was answered: that needs a leader, and the right to read them.
async fn open(settings: EtcdConfig, root: Arc<str>, endpoint: usize) -> Result<Session, String> {
    let (patience, place) = (patience(&settings), &settings.endpoints[endpoint]);
    let client = connect(&settings, place).await?;
    within(patience, client.kv_client().get(&*root, Some(one_key(&root)))).await?;
    tokio::spawn(version::look(client.clone(), place.to_string(), patience));
    Ok(Session::new(client))
}

fn one_key(root: &str) -> GetOptions {
    GetOptions::new().with_range(end_of(root)).with_limit(1).with_keys_only()
}

/// Reads one key again and again; returns, with why, when that has no answer in time. A watch is silent while nothing changes, and
/// when etcd hangs.
pub(super) async fn looks(session: &Session, root: &str, every: Duration, patience: Duration) -> String {
    loop {
        sleep(every).await;
        let mut kv = session.client.kv_client();
        match timeout(patience, kv.get(root, Some(one_key(root)))).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return words(&error),
            Err(_) => return format!("no answer within {patience:?}"),
        }
    }
}
