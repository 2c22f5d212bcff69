//! What makes the links of an engine go over TLS: a CA, a certificate of the servers and one of the engine.

use super::{Authority, CertificateFiles, EngineConfig, Etcd, free_port};
use crate::error::Result;

/// All that a test or a load needs for it. The files are gone with it.
pub struct OverTls {
    /// Who signed both.
    pub authority: Authority,
    /// What servers and gateways show.
    pub theirs: CertificateFiles,
    /// What the engine shows.
    pub ours: CertificateFiles,
    redis_port: u16,
}

impl OverTls {
    /// Makes one.
    ///
    /// # Errors
    /// When its files cannot be written, or no port is free.
    pub fn new() -> Result<Self> {
        let authority = Authority::new()?;
        let (theirs, ours) = (authority.certificate(&["127.0.0.1"])?, authority.certificate(&["task-engine"])?);
        Ok(Self { authority, theirs, ours, redis_port: free_port()? })
    }

    /// Lines of a Redis that speaks TLS at a port of its own.
    pub fn redis(&self) -> String {
        let (port, ca, CertificateFiles { cert, key }) = (self.redis_port, self.authority.ca(), &self.theirs);
        let [ca, cert, key] = [&ca, cert, key].map(|path| path.display());
        format!("tls-port {port}\ntls-ca-cert-file {ca}\ntls-cert-file {cert}\ntls-key-file {key}\n")
    }

    /// Where that is.
    pub fn redis_port(&self) -> u16 {
        self.redis_port
    }

    /// A `tls` block of the engine, as YAML.
    pub fn block(&self) -> String {
        let (ca, CertificateFiles { cert, key }) = (self.authority.ca(), &self.ours);
        format!("{{ca: {ca:?}, cert: {cert:?}, key: {key:?}}}")
    }

    /// The same as variables of the environment: `<prefix>_CA` and so on.
    pub fn variables(&self, prefix: &str) -> [(String, String); 3] {
        let CertificateFiles { cert, key } = &self.ours;
        [("CA", &self.authority.ca()), ("CERT", cert), ("KEY", key)]
            .map(|(name, path)| (format!("{prefix}_{name}"), path.display().to_string()))
    }

    /// Leads the engine over TLS to all servers; the database is that of this section. What it shows to gateways is another section's.
    pub fn set(&self, config: &mut EngineConfig, database: &'static str, etcd: &Etcd) {
        for section in ["nats", "redis", database, "etcd"] {
            config.set(section, "tls", self.block());
        }
        config.set("redis", "addr", format_args!("127.0.0.1:{}", self.redis_port));
        config.set("etcd", "endpoints", format_args!("[\"https://{}\"]", etcd.addr()));
    }
}
