//! What the keys of `nats` and of `tls` blocks mean together.

use super::addresses::NatsAuth;
use super::field::Blank;
use super::sections::{NatsConfig, ServerTlsConfig, TlsConfig};

impl TlsConfig {
    /// Whether anything of it is written.
    pub fn is_written(&self) -> bool {
        *self != Self::blank()
    }
}

impl ServerTlsConfig {
    /// Whether the port speaks TLS.
    pub fn is_written(&self) -> bool {
        !self.cert.as_os_str().is_empty()
    }
}

impl NatsConfig {
    /// Whether a server that does not speak TLS is refused. One that demands TLS gets it either way.
    pub fn wants_tls(&self) -> bool {
        self.handshake_first || self.tls.is_written() || self.servers.iter().any(|server| server.tls)
    }

    /// Who we are by `nats.username`, `nats.password` and `nats.token`; nobody when `nats.url` says it, for then they do
    /// not count.
    pub(super) fn auth_in_keys(&self) -> &NatsAuth {
        if self.url_masked.contains('@') { &NatsAuth::None } else { &self.auth }
    }

    /// The key in which the secret stands by which we prove who we are, or the file that holds it.
    pub(super) fn auth_key(&self) -> &'static str {
        match self.auth {
            _ if self.url_masked.contains('@') => "url",
            NatsAuth::None => "",
            NatsAuth::Token(_) => "token",
            NatsAuth::User { .. } => "password",
            NatsAuth::NkeySeed(_) => "nkey_seed",
            NatsAuth::NkeySeedFile(_) => "nkey_seed_file",
            NatsAuth::CredsFile(_) => "creds_file",
        }
    }
}
