//! From an address to a connection that is logged in.
//!
//! Promises one deadline (`nats.timeout`) for all of it, whatever the network and the server do, and words that name the
//! server and what to check. Refuses to show a secret, also when the server repeats it, and to say who we are before the
//! server has proved itself, where it must.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;
use glommio::timer::Timer;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::auth::Identity;
use super::connection::{Connection, Patience};
use super::protocol::{Connect, connect};
use super::{TLS_SECTION, certified_as, server, wants_tls_after};
use crate::config::{NatsAuth, NatsConfig, NatsServer};
use crate::edge::random::random;
use crate::edge::resolve::Resolver;
use crate::edge::transport::Transport;
use crate::edge::{socket, tls};
use crate::model::backoff::Backoff;

/// The shortest wait after the first try, whatever `nats.reconnect_delay` is.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// The longest wait between tries, unless `nats.reconnect_delay` is longer.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// What was waited for when the time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Reading,
    Connecting,
    Greeting,
    Securing,
    LoggingIn,
}

/// Connects and logs in.
///
/// # Errors
/// What is wrong with this server, and what to check.
pub(super) async fn open(
    server: &NatsServer,
    nats: &Arc<NatsConfig>,
    name: &str,
    patience: Patience,
    resolver: &Resolver,
) -> Result<Connection, String> {
    let (at, limit) = (&server.at, nats.timeout);
    let stage = Cell::new(Stage::Reading);
    let opened = async {
        let identity = identity(&nats.auth).await?;
        stage.set(Stage::Connecting);
        let addresses = resolver.resolve(&at.host, at.port).await;
        let addresses = addresses.map_err(|error| format!("the host name has no address ({error}); check nats.url"))?;
        let stream = dial(&addresses, nats).await?;
        let mut connection = greeted(stream, server, nats, patience, &stage).await?;
        stage.set(Stage::LoggingIn);
        let logged_in = log_in(&mut connection, &identity, name).await;
        logged_in.map_err(|why| {
            let said = server::explain(&nats.auth, Some(&identity), connection.refusal.as_ref());
            identity.mask(&said.unwrap_or(why))
        })?;
        connection.is_open = true;
        Ok(connection)
    };
    let late = async {
        Timer::new(limit).await;
        Err(too_late(stage.get(), nats))
    };
    let opened: Result<Connection, String> = future::or(opened, late).await;
    opened.map_err(|why| format!("NATS at {at}: {}", server::mask(&nats.auth, &why)))
}

fn too_late(stage: Stage, nats: &NatsConfig) -> String {
    let limit = nats.timeout;
    match stage {
        Stage::Reading => {
            let file = nats.auth.file().map_or(String::new(), |(key, path)| format!("{key} {}", path.display()));
            format!("{file} could not be read within {limit:?}; check the file system")
        }
        Stage::Connecting => "cannot connect (no answer in time); check nats.url and that the server runs".to_owned(),
        Stage::Greeting => {
            let hint = match nats.wants_tls() && !nats.handshake_first {
                true => "; or does it want TLS first (nats.tls.handshake_first)?",
                false => "",
            };
            format!(
                "accepts connections but does not answer within {limit:?}; check nats.url and that the server runs{hint}"
            )
        }
        Stage::Securing => {
            format!("does not finish the TLS handshake within {limit:?}; check its load and the network")
        }
        Stage::LoggingIn => format!("does not answer the login within {limit:?}; check its load"),
    }
}

/// Who we are. Files are read anew, so that one that was renewed counts; not by the shard, as a file system may hang.
async fn identity(auth: &NatsAuth) -> Result<Identity, String> {
    let read = match auth.file() {
        None => Identity::read(auth),
        Some(_) => {
            let auth = auth.clone();
            glommio::executor().spawn_blocking(move || Identity::read(&auth)).await
        }
    };
    read.map_err(|error| error.to_string())
}

async fn dial(addresses: &[SocketAddr], nats: &NatsConfig) -> Result<Transport, String> {
    let stream = socket::connect(addresses, nats.timeout).await.map_err(|error| {
        format!("cannot connect ({}); check nats.url and that the server runs", socket::words(&error))
    })?;
    Ok(Transport::Plain(stream))
}

/// A connection whose server has said its first word, over TLS where that is wanted.
async fn greeted(
    stream: Transport,
    server: &NatsServer,
    nats: &Arc<NatsConfig>,
    patience: Patience,
    stage: &Cell<Stage>,
) -> Result<Connection, String> {
    let at = server.at.to_string();
    if nats.handshake_first {
        stage.set(Stage::Securing);
        let (client, name) = tls_of(server, nats).await?;
        let secured = stream.secured(client, name).await;
        let stream = secured.map_err(|error| {
            let words = tls::words(&error, TLS_SECTION);
            format!("no TLS with it: {words} (nats.tls.handshake_first is set: it must want TLS before its first word)")
        })?;
        let mut connection = Connection::over(stream, at, patience);
        stage.set(Stage::Greeting);
        connection.until(|connection| connection.info.is_some()).await?;
        return Ok(connection);
    }
    stage.set(Stage::Greeting);
    let mut connection = Connection::over(stream, at, patience);
    connection.until(|connection| connection.info.is_some()).await?;
    let Some(info) = &connection.info else { return Ok(connection) };
    if !wants_tls_after(info, nats)? {
        return Ok(connection);
    }
    stage.set(Stage::Securing);
    let (client, name) = tls_of(server, nats).await?;
    connection.secured(client, name).await
}

/// What TLS to this server takes; its files are not read by the shard.
async fn tls_of(server: &NatsServer, nats: &NatsConfig) -> Result<(Arc<ClientConfig>, ServerName<'static>), String> {
    let made = tls::on_shard(&nats.tls, TLS_SECTION, certified_as(server), &[]).await;
    made.map_err(|error| error.to_string())
}

async fn log_in(connection: &mut Connection, identity: &Identity, name: &str) -> Result<(), String> {
    let proof = identity.prove(connection.info.as_ref().map_or("", |info| &info.nonce));
    let tls_required = connection.is_tls();
    connect(&mut connection.out, &Connect { login: proof.login(), tls_required, ..Connect::new(name) });
    let ping = connection.ping();
    connection.until(|connection| connection.has_answered(ping)).await
}

/// How long to wait before try number `tries` (from 0): at once, but not all instances at the same moment; then
/// doubling, with jitter.
pub(super) fn backoff(wait: Duration, tries: u32) -> Duration {
    if tries == 0 {
        return Duration::from_millis(10 + random() % 50);
    }
    let first = wait.max(BACKOFF_MIN);
    Backoff::new(first, BACKOFF_MAX.max(first)).jittered(tries, random())
}
