//! The handshake: HELLO 3 and tracking, or, where HELLO does not get through, what every Redis and every proxy knows.
//!
//! Promises that whatever is said against HELLO (or nothing, or nonsense) costs the tracking of routes and not the routes:
//! one try without it, on a fresh connection, decides. So a wrong password is told by the answer to AUTH. A connection
//! that is lost at HELLO may be a server that starts: only the second one in a row is taken for an answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ports::RouteQueue;

use super::link::Link;
use super::{Config, Lost, ROUTE_KEY_PREFIX};

/// The name shown by CLIENT LIST.
const CLIENT_NAME: &str = "task-engine";
/// HELLO is left out of reconnects for this long after it did not get through and the rest did. This limits what is asked, not
/// what is logged: that is the `LogLimiter` of `serve`.
const LEFT_OUT_FOR: Duration = Duration::from_secs(30);
/// Connections lost at HELLO in a row that are an answer.
const LOSSES: u32 = 2;

/// What is known of HELLO at this server.
#[derive(Debug, Default)]
pub(super) struct Hello {
    /// It did not get through, and the rest did: when, and what was said.
    failed: Option<(Instant, String)>,
    losses: u32,
}

/// Why the handshake with HELLO is not done.
enum Failure {
    /// Said by the server, or by somebody before it.
    Refused(String),
    /// The connection was lost.
    Lost(Lost),
    /// It has nothing to do with HELLO.
    Final(Lost),
}

impl From<Lost> for Failure {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

impl Hello {
    /// Whether a new connection begins without it.
    fn is_left_out(&self) -> bool {
        self.failed.as_ref().is_some_and(|(at, _)| at.elapsed() < LEFT_OUT_FOR)
    }
}

/// Connects to one of the addresses and shakes hands, each step with its deadline.
pub(super) async fn open<'a>(
    config: &Arc<Config>,
    addresses: &[SocketAddr],
    port: &'a RouteQueue,
    hello: &mut Hello,
) -> Result<Link<'a>, Lost> {
    let mut why = hello.failed.as_ref().map(|(_, why)| why.clone()).unwrap_or_default();
    if !hello.is_left_out() {
        let mut link = Link::connect(config, addresses, port).await?;
        match greet(&mut link, config).await {
            Ok(untracked) => {
                *hello = Hello::default();
                return link.ready(untracked).await;
            }
            Err(Failure::Final(lost)) => return Err(lost),
            Err(Failure::Lost(lost)) => {
                hello.losses += 1;
                if hello.losses < LOSSES {
                    return Err(lost);
                }
                why = format!("HELLO does not get through: {}", lost.what);
            }
            Err(Failure::Refused(text)) => why = format!("HELLO is refused: {}", config.masked(&text)),
        }
    }
    let mut link = Link::connect(config, addresses, port).await?;
    greet_plainly(&mut link, config).await?;
    let link = link.ready(Some(why.clone())).await?;
    *hello = Hello { failed: Some((Instant::now(), why)), losses: 0 };
    Ok(link)
}

/// HELLO 3, the database, tracking; why Redis does not say which routes change, if it does not.
async fn greet(link: &mut Link<'_>, config: &Config) -> Result<Option<String>, Failure> {
    let mut hello = redis::cmd("HELLO");
    hello.arg(3);
    if !config.server.password.is_empty() {
        hello.arg("AUTH").arg(config.user()).arg(config.server.password.reveal());
    }
    hello.arg("SETNAME").arg(CLIENT_NAME);
    match link.call(&hello).await? {
        Ok(true) => {}
        Ok(false) => return Err(Failure::Refused("the answer is none of RESP3".to_owned())),
        Err(text) if is_not_ready(&text) => return Err(Failure::Final(config.refused(&text))),
        Err(text) => return Err(Failure::Refused(text)),
    }
    select(link, config).await?.map_err(Failure::Final)?;
    if !config.is_tracked() {
        return Ok(Some("tracking is off".to_owned()));
    }
    let mut tracking = redis::cmd("CLIENT");
    tracking.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg(ROUTE_KEY_PREFIX);
    match link.call(&tracking).await? {
        Ok(_) => Ok(None),
        Err(text) if is_not_ready(&text) => Err(Failure::Final(config.refused(&text))),
        // A proxy or a relative of Redis without tracking: as good as an older Redis.
        Err(text) => Ok(Some(format!("CLIENT TRACKING is refused: {}", config.masked(&text)))),
    }
}

/// AUTH and the database. A server that wants a password says so at the latest at the first lookup.
async fn greet_plainly(link: &mut Link<'_>, config: &Config) -> Result<(), Lost> {
    if !config.server.password.is_empty() {
        let mut auth = redis::cmd("AUTH");
        // A Redis without ACL knows the password alone.
        if !config.server.username.is_empty() {
            auth.arg(&config.server.username);
        }
        auth.arg(config.server.password.reveal());
        link.call(&auth).await?.map_err(|text| config.refused(&text))?;
    }
    select(link, config).await?
}

async fn select(link: &mut Link<'_>, config: &Config) -> Result<Result<(), Lost>, Lost> {
    if config.server.db == 0 {
        return Ok(Ok(()));
    }
    let select = redis::cmd("SELECT").arg(config.server.db).take();
    Ok(link.call(&select).await?.map(drop).map_err(|text| config.refused(&text)))
}

/// The server's own trouble, which a connection without HELLO would have as well.
fn is_not_ready(text: &str) -> bool {
    ["LOADING", "BUSY", "MASTERDOWN", "ERR max number of clients"].iter().any(|code| text.starts_with(code))
}
