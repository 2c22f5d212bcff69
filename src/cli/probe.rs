//! `probe`: asks a running engine's admin port once, for images that have no curl.
//!
//! Promises an answer or an error within [`WITHIN`], as an exit code and one line. Refuses to look further than the admin
//! port: what the engine says of itself is what counts.

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use rustls::pki_types::ServerName;

use crate::cli::exit;
use crate::config::{self, Flags, ServerTlsConfig};
use crate::edge::tls;
use crate::edge::tls::blocking::BlockingStream;
use crate::edge::tls::server::asking;
use crate::engine::adapters::ADMIN_TLS;

/// How long the whole of it may take.
pub const WITHIN: Duration = Duration::from_secs(5);
/// More than any answer has.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// The flags of `probe`.
#[derive(Clone, Debug, Args)]
pub struct ProbeArgs {
    /// Ask whether it takes events (/readyz); without it whether all shards move (/livez).
    #[arg(long)]
    pub ready: bool,
    /// YAML file whose admin.listen is asked; the environment is read as well.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of the admin port [default: admin.listen].
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<String>,
}

/// What `probe` does: the engine's words go to `out`, what is wrong to `err`; gives the exit code: 0 yes, 1 no or no answer, 2 wrong
/// configuration.
///
/// # Errors
/// When `out` or `err` cannot be written to.
pub fn run(args: &ProbeArgs, out: &mut dyn Write, err: &mut dyn Write) -> std::io::Result<u8> {
    let flags = Flags { cores: None, admin: args.admin.clone() };
    let admin = match config::load(args.config.as_deref(), std::env::vars_os(), &flags) {
        Ok(checked) => checked.config.admin,
        Err(mistakes) => {
            writeln!(err, "{mistakes}")?;
            return Ok(exit::CONFIG);
        }
    };
    let address = reachable(admin.listen);
    let path = if args.ready { "/readyz?verbose" } else { "/livez" };
    match ask(address, path, &admin.tls) {
        Ok((status, words)) => {
            write!(out, "{words}")?;
            out.flush()?;
            Ok(if status == 200 { exit::OK } else { exit::FAILED })
        }
        Err(why) => {
            writeln!(
                err,
                "no answer from the admin port {address}: {why}; is task-engine running, and is this its admin.listen?"
            )?;
            Ok(exit::FAILED)
        }
    }
}

fn words(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "not within 5 s".to_owned(),
        _ => tls::words(error, ADMIN_TLS),
    }
}

/// Where a port that listens everywhere is asked.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Status and body of one request.
fn ask(address: SocketAddr, path: &str, tls: &ServerTlsConfig) -> Result<(u16, String), String> {
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
        if answer.len() as u64 > ANSWER_BYTES_MAX {
            return Err("it answers more than an admin port does".to_owned());
        }
    }
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or("it does not speak HTTP")?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
    Ok((status.ok_or("it does not speak HTTP")?, body.to_owned()))
}
