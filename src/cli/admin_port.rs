//! A running engine's admin port, asked once: plain, or over TLS with the files of `admin.tls`.
//!
//! Promises an answer or an error within [`WITHIN`].

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;

use crate::config::{Config, ServerTlsConfig};
use crate::edge::tls::blocking::BlockingStream;
use crate::edge::tls::server::asking;
use crate::edge::{etcd, tls};
use crate::engine::adapters::ADMIN_TLS;
use crate::ownership::keys::Key;
use crate::ownership::records;

/// How long one request may take.
pub const WITHIN: Duration = Duration::from_secs(5);

fn words(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "not within 5 s".to_owned(),
        _ => tls::words(error, ADMIN_TLS),
    }
}

/// Where a port that listens everywhere is asked.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Which engines are asked: those that are named, else the configured one and, where partitions have owners, all instances.
pub(super) fn engines(config: &Config, named: &[SocketAddr]) -> Vec<SocketAddr> {
    if !named.is_empty() {
        return named.to_vec();
    }
    let own = reachable(config.admin.listen);
    let others = instances(config).into_iter().filter(|other| *other != own);
    std::iter::once(own).chain(others).collect()
}

/// The admin ports of the other instances, where partitions have owners. Who cannot be found is no engine to ask.
fn instances(config: &Config) -> Vec<SocketAddr> {
    if !config.consumer.is_owned() {
        return Vec::new();
    }
    let root = etcd::ownership::root(&config.consumer.stream, &config.consumer.durable);
    let Ok(look) = etcd::ownership::once::look(&config.etcd, &root) else { return Vec::new() };
    let members = look.keys.iter().filter(|state| matches!(state.key, Key::Member(_)));
    let admins = members.filter_map(|state| records::read_member(state.value.as_deref()?).ok()?.admin.parse().ok());
    admins.map(reachable).collect()
}

/// Status and body of one request; an answer of more than `bytes_max` is none.
///
/// # Errors
/// Why there is no answer, in words.
pub(super) fn ask(
    address: SocketAddr,
    path: &str,
    tls: &ServerTlsConfig,
    bytes_max: u64,
) -> Result<(u16, String), String> {
    let until = Instant::now() + WITHIN;
    let stream = TcpStream::connect_timeout(&address, WITHIN).map_err(|error| error.to_string())?;
    let mut stream = BlockingStream::plain(stream);
    if tls.is_written() {
        let client = asking(tls, ADMIN_TLS).map_err(|error| error.to_string())?;
        let secured = stream.secured(client, ServerName::from(address.ip()), until);
        stream = secured.map_err(|error| words(&error))?;
    }
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write(request.as_bytes(), until).map_err(|error| words(&error))?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece, until) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&piece[..read]),
            // axum ends a connection without TLS's farewell.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(words(&error)),
        }
        if answer.len() as u64 > bytes_max {
            return Err("it answers more than an admin port does".to_owned());
        }
    }
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or("it does not speak HTTP")?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
    Ok((status.ok_or("it does not speak HTTP")?, body.to_owned()))
}
