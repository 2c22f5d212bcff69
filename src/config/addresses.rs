//! Addresses with secrets in them: the DSN of the Go driver for MySQL, and NATS URLs.
//!
//! Promises that a mistake in one is told without repeating any of it but the host, and that both can be shown with
//! `***` in place of the secret.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::plain;
use super::secret::Secret;
use crate::model::percent;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A host name or an IP address (IPv6 without brackets).
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl HostPort {
    /// Reads `host:port`, `host` or `:port`, `http://` before it allowed; no host is 127.0.0.1, no port is `port`.
    ///
    /// # Errors
    /// What is wrong, without the part before an `@`.
    pub fn parse(text: &str, port: u16) -> Result<Self, String> {
        if text.starts_with("https://") {
            return Err("write host:port; the section's key tls asks for TLS".into());
        }
        let rest = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        if rest.contains(',') {
            return Err("names several servers, and one is taken: write one host:port".into());
        }
        if rest.contains("://") || rest.contains('@') {
            return Err("write host:port, without a scheme or a user".into());
        }
        let (host, digits) = match rest.strip_prefix('[') {
            Some(inner) => inner.split_once(']').ok_or("a [ is not closed by ]")?,
            None => rest.find(':').map_or((rest, ""), |at| rest.split_at(at)),
        };
        let host = if host.is_empty() { "127.0.0.1".to_owned() } else { Self::check_host(host)? };
        let port = match digits {
            "" => port,
            _ => match digits.strip_prefix(':').and_then(|digits| digits.parse::<u16>().ok()) {
                Some(port) if port > 0 => port,
                _ => return Err(format!("the port after {host:?} is not from 1 to 65535")),
            },
        };
        Ok(Self { host, port })
    }

    /// A host alone.
    pub(super) fn check_host(host: &str) -> Result<String, String> {
        let is_v6 = host.parse::<std::net::Ipv6Addr>().is_ok();
        if host.contains(|c: char| c.is_whitespace() || c.is_control() || "/@,".contains(c)) {
            return Err("a host cannot contain blanks, / , or @".into());
        }
        if host.contains(':') && !is_v6 {
            return Err("write the host without a port; the port has its own key".into());
        }
        Ok(host.to_owned())
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A DSN of the Go driver: `user:password@tcp(host:port)/database?params`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Dsn {
    pub username: String,
    pub password: Secret,
    pub server: HostPort,
    pub database: String,
    pub connect_timeout: Option<Duration>,
    pub timeout: Option<Duration>,
    pub tls: bool,
    params: String,
}

impl Dsn {
    /// As the driver does: the database after the last `/`, the user before the last `@` in front of it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = "write user:password@tcp(host:port)/database";
        let (before, after) = text.rsplit_once('/').ok_or(format!("does not end in /database; {form}"))?;
        let (user, server) = before.rsplit_once('@').unwrap_or(("", before));
        if server.contains(")/") && server.contains('?') {
            return Err("has a / behind its ?; write %2F there, as in loc=Asia%2FShanghai".into());
        }
        let (username, password) = user.split_once(':').unwrap_or((user, ""));
        let server = match server.split_once('(') {
            None if server.is_empty() || server == "tcp" => HostPort::parse("", 3306)?,
            Some(("tcp", rest)) => HostPort::parse(rest.strip_suffix(')').ok_or("a ( is not closed by )")?, 3306)?,
            Some(("unix", _)) => return Err("Unix sockets are not supported; write tcp(host:port)".into()),
            _ => return Err(format!("the part between @ and / is not tcp(host:port); {form}")),
        };
        let (database, params) = after.split_once('?').unwrap_or((after, ""));
        let mut dsn = Self {
            username: username.to_owned(),
            password: Secret::new(password),
            server,
            database: database.to_owned(),
            connect_timeout: None,
            timeout: None,
            tls: false,
            params: params.to_owned(),
        };
        let name = dsn.database.trim();
        if name.is_empty() || plain::word(name).is_err() {
            return Err(format!("does not name a database; {form}"));
        }
        dsn.read_params()?;
        Ok(dsn)
    }

    /// Those that matter here; the rest is about Go's types (`parseTime`, `loc`) or its driver.
    fn read_params(&mut self) -> Result<(), String> {
        for (name, value) in self.params.clone().split('&').filter_map(|pair| pair.split_once('=')) {
            let time = || match value.trim() {
                "" => Ok(None),
                text => plain::go_span(text).map_err(|what| format!("{name}: {what}")),
            };
            match name {
                "timeout" => self.connect_timeout = time()?,
                "readTimeout" | "writeTimeout" => self.timeout = self.timeout.max(time()?),
                "tls" => self.tls = Self::tls(value)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether TLS is demanded. Go's driver takes the system's CAs then, as an empty `mysql.tls.ca` does.
    fn tls(value: &str) -> Result<bool, String> {
        match value {
            "true" => Ok(true),
            "false" | "preferred" | "" => Ok(false),
            "skip-verify" => Err("tls: a server must prove itself; write tls=true, and its CA in mysql.tls.ca".into()),
            _ => {
                Err("tls: settings of a Go program are not known here; write tls=true, and the files in mysql.tls"
                    .into())
            }
        }
    }

    /// As it was written, without the password.
    pub fn masked(&self) -> String {
        let Self { username, password, server, database, params, .. } = self;
        let password = if password.is_empty() { "" } else { ":***" };
        let at = if username.is_empty() && password.is_empty() { "" } else { "@" };
        let question = if params.is_empty() { "" } else { "?" };
        format!("{username}{password}{at}tcp({server})/{database}{question}{params}")
    }
}

/// One NATS server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsServer {
    /// Whether TLS is asked for; of one server in `nats.url`: of all.
    pub tls: bool,
    /// Where it listens.
    pub at: HostPort,
    /// What its certificate must be for, where that is not its own host: the host of the server that named it by an IP address.
    pub known_as: Option<String>,
}

impl NatsServer {
    /// One to which nobody asked for TLS.
    pub fn plain(at: HostPort) -> Self {
        Self { tls: false, at, known_as: None }
    }
}

impl fmt::Display for NatsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "tls" } else { "nats" }, self.at)
    }
}

/// Who the engine says it is to NATS.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum NatsAuth {
    /// Nobody.
    #[default]
    None,
    /// Whoever knows this token.
    Token(Secret),
    /// A user.
    User {
        /// The name.
        username: String,
        /// The password, maybe empty.
        password: Secret,
    },
    /// A user by its key: the seed.
    NkeySeed(Secret),
    /// A user by its key: the file in which the seed stands.
    NkeySeedFile(PathBuf),
    /// A user by a JWT and its key: the file of credentials, as `nsc` writes them.
    CredsFile(PathBuf),
}

impl NatsAuth {
    /// The file that says who we are, and the key of the configuration that names it.
    pub fn file(&self) -> Option<(&'static str, &Path)> {
        match self {
            Self::CredsFile(path) => Some(("nats.creds_file", path)),
            Self::NkeySeedFile(path) => Some(("nats.nkey_seed_file", path)),
            Self::None | Self::Token(_) | Self::User { .. } | Self::NkeySeed(_) => None,
        }
    }

    /// `***` for a seed, empty when there is none.
    pub(super) fn nkey_seed_masked(&self) -> String {
        match self {
            Self::NkeySeed(seed) => seed.to_string(),
            _ => String::new(),
        }
    }

    /// The file that this key names; empty when it names none.
    pub(super) fn file_of(&self, key: &str) -> String {
        let file = self.file().filter(|(of, _)| *of == key);
        file.map_or(String::new(), |(_, path)| path.display().to_string())
    }

    /// The user's name; empty when there is none.
    pub(super) fn username(&self) -> String {
        match self {
            Self::User { username, .. } => username.clone(),
            _ => String::new(),
        }
    }

    /// `***` for a user's password, empty when there is none.
    pub(super) fn password_masked(&self) -> String {
        match self {
            Self::User { password, .. } => password.to_string(),
            _ => String::new(),
        }
    }

    /// `***` for a token, empty when there is none.
    pub(super) fn token_masked(&self) -> String {
        match self {
            Self::Token(token) => token.to_string(),
            _ => String::new(),
        }
    }
}

/// The servers of `nats.url`, and who we are if it says so.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NatsUrls {
    pub servers: Vec<NatsServer>,
    pub auth: NatsAuth,
}

impl NatsUrls {
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut all, mut tls) = (Self { servers: Vec::new(), auth: NatsAuth::None }, false);
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let rest = match part.split_once("://") {
                Some(("nats", rest)) => rest,
                Some(("tls", rest)) => {
                    tls = true;
                    rest
                }
                Some(_) => return Err("the scheme must be nats:// or tls://".into()),
                None => part,
            };
            let (user, server) = match rest.rsplit_once('@') {
                Some((user, server)) => (Some(user), server),
                None => (None, rest),
            };
            let at = HostPort::parse(server, 4222)?;
            if let Some(user) = user.filter(|user| !user.is_empty()) {
                let auth = Self::auth(user)?;
                if all.auth != NatsAuth::None && all.auth != auth {
                    return Err("the URLs name different users; write the same user for all servers".into());
                }
                all.auth = auth;
            }
            all.servers.push(NatsServer::plain(at));
        }
        // As NATS clients do: whoever wants one server to prove itself must not be led to another that does not.
        all.servers.iter_mut().for_each(|server| server.tls = tls);
        if all.servers.is_empty() { Err("does not name a server; write nats://host:port".into()) } else { Ok(all) }
    }

    fn auth(user: &str) -> Result<NatsAuth, String> {
        let decode = |text: &str| percent::decode(text).ok_or("a % in the user part is not followed by two hex digits");
        Ok(match user.split_once(':') {
            None => NatsAuth::Token(Secret::new(&decode(user)?)),
            Some((name, password)) => {
                NatsAuth::User { username: decode(name)?, password: Secret::new(&decode(password)?) }
            }
        })
    }

    /// As it was written, without password and token.
    pub fn masked(&self) -> String {
        let user = match &self.auth {
            NatsAuth::Token(_) => "***@".to_owned(),
            NatsAuth::User { username, .. } => format!("{}:***@", utf8_percent_encode(username, &RESERVED)),
            // A URL has no other.
            _ => String::new(),
        };
        let show = |server: &NatsServer| server.to_string().replacen("://", &format!("://{user}"), 1);
        self.servers.iter().map(show).collect::<Vec<_>>().join(",")
    }
}

/// As RFC 3986 has it: all but letters, digits and `-._~`.
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
