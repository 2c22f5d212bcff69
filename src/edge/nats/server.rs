//! Whether a NATS server is there at all, and words about who we are to it.
//!
//! Promises that no secret shows, and that a probe has a deadline, which the client's own connect has not.

use std::io::{self, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::auth::Identity;
use crate::config::{HostPort, NatsAuth};

/// A server's words without the secret that it may repeat.
pub(super) fn mask(auth: &NatsAuth, text: &str) -> String {
    Identity::from(auth).mask(text)
}

/// Whom the server knows us as, without a secret.
pub(super) fn who(auth: &NatsAuth) -> String {
    match auth {
        NatsAuth::User { username, .. } => format!("user {username}"),
        NatsAuth::Token(_) => "the user of this token".to_owned(),
        NatsAuth::None => "a user without a login".to_owned(),
    }
}

/// A refused subscription, and what to check.
pub(super) fn may_not_subscribe(who: &str, subject: &str, text: &str) -> String {
    format!("{who} may not subscribe to {subject}; check the user's permissions ({text})")
}

/// Which keys an operator has to look at when the login is refused.
pub(super) fn keys(auth: &NatsAuth) -> &'static str {
    match auth {
        NatsAuth::None => "the server wants a login: set nats.username and nats.password, or nats.token",
        NatsAuth::User { .. } => "check nats.username and nats.password (or those in nats.url)",
        NatsAuth::Token(_) => "check nats.token (or the one in nats.url)",
    }
}

/// Connects and waits for the server's first words, each for at most `timeout`, and hangs up.
///
/// # Errors
/// What is wrong and what to check, in words.
pub(super) fn probe(at: &HostPort, timeout: Duration) -> Result<(), String> {
    let addresses = (at.host.as_str(), at.port)
        .to_socket_addrs()
        .map_err(|error| format!("NATS at {at}: the host name has no address ({error}); check nats.url"))?;
    let mut last = format!("NATS at {at}: the host name has no address; check nats.url");
    for address in addresses {
        match introduce(TcpStream::connect_timeout(&address, timeout), timeout) {
            Ok(()) => return Ok(()),
            Err(error) => last = format!("NATS at {at}: {error}; check nats.url and that the server runs"),
        }
    }
    Err(last)
}

fn introduce(stream: io::Result<TcpStream>, timeout: Duration) -> Result<(), String> {
    let mut stream = stream.map_err(|error| format!("cannot connect ({error})"))?;
    let mut word = [0; 5];
    stream
        .set_read_timeout(Some(timeout))
        .and_then(|()| stream.read_exact(&mut word))
        .map_err(|error| format!("accepts connections but does not answer within {timeout:?} ({error})"))?;
    if &word == b"INFO " { Ok(()) } else { Err("the peer is not a NATS server".to_owned()) }
}
