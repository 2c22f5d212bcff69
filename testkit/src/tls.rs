//! Certificates of a test, and what a client needs to show one.

use harness::servers::{Authority, CertificateFiles};
use task_engine::config::{RedisConfig, TlsConfig};

/// A CA.
pub fn authority() -> Authority {
    Authority::new().expect("a CA")
}

/// Signs a certificate for these names.
pub fn certificate(authority: &Authority, names: &[&str]) -> CertificateFiles {
    authority.certificate(names).expect("a certificate")
}

/// A CA, a certificate that it signed for a server on this machine, and one for us.
pub fn both_sides() -> (Authority, CertificateFiles, CertificateFiles) {
    let authority = authority();
    let (theirs, mine) = (certificate(&authority, &["localhost"]), certificate(&authority, &["task-engine"]));
    (authority, theirs, mine)
}

/// Nothing of it is written.
pub fn none() -> TlsConfig {
    RedisConfig::default().tls
}

/// Trusts a CA, and shows this certificate.
pub fn ours(authority: &Authority, files: &CertificateFiles) -> TlsConfig {
    let CertificateFiles { cert, key } = files.clone();
    TlsConfig { ca: authority.ca(), cert, key, ..none() }
}
