//! From an address to a connection that is logged in.
//!
//! Promises one deadline (`nats.timeout`) for all of it, whatever the network and the server do, and words that name the
//! server and what to check. Refuses to show a secret, also when the server repeats it.

use std::cell::Cell;
use std::net::SocketAddr;

use futures_lite::future;
use glommio::timer::Timer;

use super::auth::Identity;
use super::connection::{Connection, Patience};
use super::protocol::{Connect, ErrorKind, connect};
use super::server;
use crate::config::{NatsConfig, NatsServer};
use crate::edge::resolve::Resolver;
use crate::edge::socket;

/// What was waited for when the time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    Greeting,
    LoggingIn,
}

/// Connects and logs in.
///
/// # Errors
/// What is wrong with this server, and what to check.
pub(super) async fn open(
    server: &NatsServer,
    nats: &NatsConfig,
    name: &str,
    patience: Patience,
    resolver: &Resolver,
) -> Result<Connection, String> {
    let (at, limit) = (&server.at, nats.timeout);
    let stage = Cell::new(Stage::Connecting);
    let opened = async {
        let addresses = resolver.resolve(&at.host, at.port).await;
        let addresses = addresses.map_err(|error| format!("the host name has no address ({error}); check nats.url"))?;
        let mut connection = dial(server, &addresses, nats, patience).await?;
        stage.set(Stage::Greeting);
        greet(&mut connection).await?;
        stage.set(Stage::LoggingIn);
        log_in(&mut connection, nats, name).await?;
        connection.is_open = true;
        Ok(connection)
    };
    let late = async {
        Timer::new(limit).await;
        Err(match stage.get() {
            Stage::Connecting => {
                "cannot connect (no answer in time); check nats.url and that the server runs".to_owned()
            }
            Stage::Greeting => {
                format!(
                    "accepts connections but does not answer within {limit:?}; check nats.url and that the server runs"
                )
            }
            Stage::LoggingIn => format!("does not answer the login within {limit:?}; check its load"),
        })
    };
    let opened: Result<Connection, String> = future::or(opened, late).await;
    opened.map_err(|why| format!("NATS at {at}: {}", server::mask(&nats.auth, &why)))
}

async fn dial(
    server: &NatsServer,
    addresses: &[SocketAddr],
    nats: &NatsConfig,
    patience: Patience,
) -> Result<Connection, String> {
    let stream = socket::connect(addresses, nats.timeout).await.map_err(|error| {
        format!("cannot connect ({}); check nats.url and that the server runs", socket::words(&error))
    })?;
    Ok(Connection::over(stream, server.at.to_string(), patience))
}

/// Waits for what the server says first.
async fn greet(connection: &mut Connection) -> Result<(), String> {
    connection.until(|connection| connection.info.is_some()).await?;
    match &connection.info {
        Some(info) if info.tls_required => {
            Err("the server demands TLS, which task-engine does not speak to NATS; use a plain listener".to_owned())
        }
        _ => Ok(()),
    }
}

async fn log_in(connection: &mut Connection, nats: &NatsConfig, name: &str) -> Result<(), String> {
    let identity = Identity::from(&nats.auth);
    let proof = identity.prove(connection.info.as_ref().map_or("", |info| &info.nonce));
    connect(&mut connection.out, &Connect { login: proof.login(), ..Connect::new(name) });
    let ping = connection.ping();
    let logged_in = connection.until(|connection| connection.has_answered(ping)).await;
    let kind = connection.refusal.as_ref().map(|error| &error.kind);
    if logged_in.is_err() && kind == Some(&ErrorKind::AuthorizationViolation) {
        return Err(format!("the login was refused; {}", server::keys(&nats.auth)));
    }
    logged_in
}
