//! Keepalives of the lease: one stream at a time, on which answers are told apart by their order alone.
//!
//! Promises that an answer is told only of the keepalive that it is surely to: the answers of one stream come in the order of what was
//! sent on it, and when it ends those without an answer are forgotten. A stream is opened with a keepalive that counts for nothing,
//! as the client keeps its answer to itself.

use std::collections::VecDeque;
use std::future::pending;
use std::time::Duration;

use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, sleep_until, timeout};

use super::super::words;
use super::session::{Line, Session};
use crate::ownership::facts::{AskNo, Fact};
use crate::ownership::keys::{LeaseId, Revision};

type Asked = (AskNo, LeaseId);

/// Sends each keepalive that is asked for, until nobody can ask for one. While there is no connection they are forgotten.
pub(super) async fn keep_alive(
    line: Line,
    patience: Duration,
    mut asks: UnboundedReceiver<Asked>,
    tell: UnboundedSender<Fact>,
) {
    let mut next = None;
    loop {
        let asked = match next.take() {
            Some(asked) => asked,
            None => match asks.recv().await {
                Some(asked) => asked,
                None => return,
            },
        };
        if let Some(session) = line.now() {
            next =
                Keeper { patience, asks: &mut asks, tell: &tell, session, flying: VecDeque::new() }.keep(asked).await;
        }
    }
}

struct Keeper<'a> {
    patience: Duration,
    asks: &'a mut UnboundedReceiver<Asked>,
    tell: &'a UnboundedSender<Fact>,
    session: Session,
    /// Sent and not answered, in order.
    flying: VecDeque<(AskNo, Instant)>,
}

impl Keeper<'_> {
    /// Keeps one lease alive over one stream until that is over; gives what was asked for another lease.
    async fn keep(mut self, (ask, lease): Asked) -> Option<Asked> {
        let mut client = self.session.client.lease_client();
        let opened = tokio::select! {
            opened = timeout(self.patience, client.keep_alive(lease.0)) => opened,
            _ = self.session.over() => return None,
        };
        let (mut keeper, mut answers) = match opened {
            Ok(Ok(opened)) => opened,
            // The client's word for an answer without time left.
            Ok(Err(etcd_client::Error::LeaseKeepAliveError(_))) => {
                self.answer(ask, 0, 0);
                return None;
            }
            Ok(Err(error)) => return self.end(words(&error)),
            Err(_) => return self.end(format!("no answer to a keepalive within {:?}", self.patience)),
        };
        if let Err(why) = self.send(&mut keeper, ask).await {
            return self.end(why);
        }
        loop {
            let oldest = self.flying.front().map(|(_, sent)| *sent);
            let asked = tokio::select! {
                heard = heard(&mut answers, oldest, self.patience, &self.session) => match heard {
                    Ok((ttl, revision)) => match self.flying.pop_front() {
                        Some((ask, _)) => {
                            self.answer(ask, ttl, revision);
                            if ttl > 0 { continue } else { return None }
                        }
                        None => return self.end("an answer to a keepalive that was not sent".to_owned()),
                    },
                    Err(why) => return self.end(why),
                },
                asked = self.asks.recv() => asked?,
            };
            if asked.1 != lease {
                return Some(asked);
            }
            if let Err(why) = self.send(&mut keeper, asked.0).await {
                return self.end(why);
            }
        }
    }

    async fn send(&mut self, keeper: &mut LeaseKeeper, ask: AskNo) -> Result<(), String> {
        self.flying.push_back((ask, Instant::now()));
        match timeout(self.patience, keeper.keep_alive()).await {
            Ok(sent) => sent.map_err(|error| words(&error)),
            Err(_) => Err(format!("no keepalive could be sent within {:?}", self.patience)),
        }
    }

    fn answer(&self, ask: AskNo, ttl: i64, revision: Revision) {
        let ttl = Duration::from_secs(u64::try_from(ttl).unwrap_or(0));
        let _ = self.tell.send(Fact::KeptAlive { ask, ttl, revision });
    }

    fn end(&self, why: String) -> Option<Asked> {
        self.session.end(why);
        None
    }
}

/// The next answer of the stream: what is left of the lease, in seconds, and the revision of its header.
async fn heard(
    answers: &mut LeaseKeepAliveStream,
    oldest: Option<Instant>,
    patience: Duration,
    session: &Session,
) -> Result<(i64, Revision), String> {
    let late = async {
        match oldest {
            Some(sent) => sleep_until(sent + patience).await,
            None => pending().await,
        }
    };
    tokio::select! {
        answer = answers.message() => match answer {
            Ok(Some(answer)) => Ok((answer.ttl(), answer.header().map_or(0, |header| header.revision()))),
            Ok(None) => Err("the stream of keepalives ended".to_owned()),
            Err(error) => Err(words(&error)),
        },
        () = late => Err(format!("no answer to a keepalive within {patience:?}")),
        why = session.over() => Err(why),
    }
}
