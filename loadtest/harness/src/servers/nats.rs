//! A throw-away nats-server: the installed one (Debian's is 2.9), or the current one that `make servers` keeps beside it.

use std::fmt::Write;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use super::{Recipe, Server, ask, folder, listens};
use crate::error::{Error, Result};

/// Who may connect.
#[derive(Clone, Debug, Default)]
pub enum NatsAuth {
    /// Everybody.
    #[default]
    None,
    /// Who knows this user and password.
    UserPassword(String, String),
    /// Who knows this token.
    Token(String),
}

/// Which nats-server is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NatsVersion {
    /// The one in PATH.
    #[default]
    Installed,
    /// The one in the project's `.servers/`.
    Current,
}

/// Where `scripts/install-current-nats` puts it.
const CURRENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.servers/nats-server");

/// What a nats-server is started with.
#[derive(Clone, Debug, Default)]
pub struct NatsOptions {
    /// Which one.
    pub version: NatsVersion,
    /// Who may connect.
    pub auth: NatsAuth,
    /// Whether it keeps streams (in its folder, so they outlast a restart).
    pub jetstream: bool,
    /// Where it keeps them instead: a small file system, say. It must outlast the server.
    pub store_dir: Option<PathBuf>,
    /// More lines of its configuration file, as they are.
    pub config: String,
}

/// A running nats-server.
pub struct Nats(Server);

impl Nats {
    /// Starts one and returns when it greets.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn start(options: &NatsOptions) -> Result<Self> {
        let binary = match options.version {
            NatsVersion::Installed => "nats-server",
            NatsVersion::Current if Path::new(CURRENT).is_file() => CURRENT,
            NatsVersion::Current => return Err(Error::new(format!("{CURRENT} is not there: run `make servers`"))),
        };
        let folder = folder("nats")?;
        let mut config = options.config.clone();
        match &options.auth {
            NatsAuth::None => {}
            NatsAuth::UserPassword(user, password) => {
                write!(config, "\nauthorization {{ user: {user:?}, password: {password:?} }}\n")
                    .map_err(format_failed)?;
            }
            NatsAuth::Token(token) => {
                write!(config, "\nauthorization {{ token: {token:?} }}\n").map_err(format_failed)?;
            }
        }
        if options.jetstream {
            let store = options.store_dir.clone().unwrap_or_else(|| folder.path().join("streams"));
            write!(config, "\njetstream {{ store_dir: {store:?} }}\n").map_err(format_failed)?;
        }
        let written = fs::write(folder.path().join("nats.conf"), config);
        written.map_err(|cause| Error::of("cannot write nats.conf", cause))?;
        // One that wants TLS first says nothing to whoever only listens.
        let ready = if options.config.contains("handshake_first: true") { listens } else { ready };
        Server::start(Recipe { binary, package: "nats-server", ports: 1, args, ready }, folder).map(Self)
    }

    /// `nats://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.addr())
    }
}

fn format_failed(cause: std::fmt::Error) -> Error {
    Error::of("cannot write nats.conf", cause)
}

fn args(folder: &Path, ports: &[u16]) -> Vec<String> {
    let config = folder.join("nats.conf").display().to_string();
    ["-c", &config, "-a", "127.0.0.1", "-p", &ports[0].to_string()].map(String::from).to_vec()
}

fn ready(port: u16) -> std::result::Result<(), String> {
    let greeting = ask(port, b"")?;
    if greeting.starts_with(b"INFO ") { Ok(()) } else { Err("it does not greet as NATS".into()) }
}

impl Deref for Nats {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.0
    }
}
