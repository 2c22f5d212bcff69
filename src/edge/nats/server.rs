//! A NATS server's address, what to say to it, and whether it is there at all.
//!
//! Promises that userinfo never shows, and that a probe has a deadline, which the client's own connect has not.

use std::fmt;
use std::io::{self, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::model::{percent, redact};

const DEFAULT_PORT: u16 = 4222;

/// What of `nats.url` is no server, and why; without user names and passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrlError(String);

impl fmt::Display for ServerUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ServerUrlError {}

/// How we say who we are.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    None,
    User { name: String, password: String },
    Token(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Credentials {
    /// A server's words without the secret that it may repeat.
    pub(super) fn mask(&self, text: &str) -> String {
        match self {
            Self::None => text.to_owned(),
            Self::User { password: secret, .. } | Self::Token(secret) => redact::secret(text, secret),
        }
    }

    pub(super) fn of(username: &str, password: &str, token: &str) -> Self {
        if !username.is_empty() {
            Self::User { name: username.to_owned(), password: password.to_owned() }
        } else if !token.is_empty() {
            Self::Token(token.to_owned())
        } else {
            Self::None
        }
    }

    /// Whom the server knows us as, without a secret.
    pub(super) fn who(&self) -> String {
        match self {
            Self::User { name, .. } => format!("user {name}"),
            Self::Token(_) => "the user of this token".to_owned(),
            Self::None => "a user without a login".to_owned(),
        }
    }

    /// Which keys an operator has to look at when they are refused.
    pub(super) fn keys(&self) -> &'static str {
        match self {
            Self::None => "the server wants a login: set nats.username and nats.password, or nats.token",
            Self::User { .. } => "check nats.username and nats.password (or those in nats.url)",
            Self::Token(_) => "check nats.token (or the one in nats.url)",
        }
    }
}

/// One server of `nats.url`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    tls: bool,
    /// IPv6 without brackets.
    host: String,
    port: u16,
    pub(super) credentials: Credentials,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Server {
    /// The address as the client takes it; credentials go another way, as the client does not decode them here.
    pub(super) fn url(&self) -> String {
        format!("{}://{self}", if self.tls { "tls" } else { "nats" })
    }

    fn parse(text: &str, fallback: &Credentials) -> Result<Self, String> {
        let (tls, rest) = match text.split_once("://") {
            None => (false, text),
            Some(("nats", rest)) => (false, rest),
            Some(("tls", rest)) => (true, rest),
            Some(_) => return Err("its scheme is not nats or tls".to_owned()),
        };
        let rest = rest.trim_end_matches('/');
        let (credentials, address) = match rest.rsplit_once('@') {
            None => (fallback.clone(), rest),
            Some((userinfo, address)) => (credentials(userinfo)?, address),
        };
        let (host, port) = match address.strip_prefix('[').map(|address| address.split_once(']')) {
            Some(Some((host, port))) => (host, port.strip_prefix(':')),
            Some(None) => return Err("a bracket is not closed".to_owned()),
            None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => port.parse().map_err(|_| "its port is not a number up to 65535".to_owned())?,
        };
        if host.is_empty() || host.contains(['/', '?', '#', ' ']) || port == 0 {
            return Err("it is not host:port".to_owned());
        }
        Ok(Self { tls, host: host.to_owned(), port, credentials })
    }

    /// Connects and waits for the server's first words, each for at most `timeout`, and hangs up.
    ///
    /// # Errors
    /// What is wrong and what to check, in words.
    pub(super) fn probe(&self, timeout: Duration) -> Result<(), String> {
        let addresses = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|error| format!("NATS at {self}: the host name has no address ({error}); check nats.url"))?;
        let mut last = format!("NATS at {self}: the host name has no address; check nats.url");
        for address in addresses {
            match introduce(TcpStream::connect_timeout(&address, timeout), timeout) {
                Ok(()) => return Ok(()),
                Err(error) => last = format!("NATS at {self}: {error}; check nats.url and that the server runs"),
            }
        }
        Err(last)
    }
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

/// The servers of a comma list, each with its own credentials or else the fallback.
pub(super) fn parse_list(list: &str, fallback: &Credentials) -> Result<Vec<Server>, ServerUrlError> {
    let servers: Result<Vec<_>, _> = list
        .split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .enumerate()
        .map(|(at, text)| {
            Server::parse(text, fallback).map_err(|why| ServerUrlError(format!("nats.url: server {}: {why}", at + 1)))
        })
        .collect();
    match servers {
        Ok(servers) if servers.is_empty() => Err(ServerUrlError("nats.url names no server".to_owned())),
        other => other,
    }
}

fn credentials(userinfo: &str) -> Result<Credentials, String> {
    let decode = |text| percent::decode(text).ok_or("its user name or password is not percent-encoded text".to_owned());
    Ok(match userinfo.split_once(':') {
        Some((name, password)) => Credentials::User { name: decode(name)?, password: decode(password)? },
        None => Credentials::Token(decode(userinfo)?),
    })
}
