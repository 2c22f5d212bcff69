//! `probe`: asks a running engine's admin port once, for images that have no curl.
//!
//! Promises an answer or an error within [`WITHIN`], as an exit code and one line. Refuses to look further than the admin
//! port: what the engine says of itself is what counts.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use crate::cli::exit;
use crate::config::{self, Flags};

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
    let address = match config::load(args.config.as_deref(), std::env::vars_os(), &flags) {
        Ok(checked) => reachable(checked.config.admin.listen),
        Err(mistakes) => {
            writeln!(err, "{mistakes}")?;
            return Ok(exit::CONFIG);
        }
    };
    let path = if args.ready { "/readyz?verbose" } else { "/livez" };
    match ask(address, path) {
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
fn ask(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    let until = Instant::now() + WITHIN;
    let left = || {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err("not within 5 s".to_owned()) } else { Ok(left) }
    };
    let mut stream = TcpStream::connect_timeout(&address, left()?).map_err(|error| error.to_string())?;
    stream.set_write_timeout(Some(left()?)).map_err(|error| error.to_string())?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        stream.set_read_timeout(Some(left()?)).map_err(|error| error.to_string())?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Err("not within 5 s".to_owned()),
            Err(error) => return Err(error.to_string()),
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
