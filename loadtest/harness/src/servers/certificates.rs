//! Certificates for throw-away servers and their clients, made on the spot by a CA of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::folder;
use crate::error::{Error, Result};

/// A CA. What it has signed is gone with it.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
    made: AtomicU32,
}

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// The certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Authority {
    /// Makes one.
    ///
    /// # Errors
    /// When its files cannot be written.
    pub fn new() -> Result<Self> {
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "a CA of a test");
        let cert = params.self_signed(&key).map_err(failed)?;
        let folder = folder("ca")?;
        write(&folder.path().join("ca.pem"), &cert.pem())?;
        Ok(Self { issuer: Issuer::new(params, key), folder, made: AtomicU32::new(0) })
    }

    /// The file with its certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Signs a certificate for these names and addresses, valid now.
    ///
    /// # Errors
    /// See [`new`](Self::new).
    pub fn certificate(&self, names: &[&str]) -> Result<CertificateFiles> {
        self.signed(names, false)
    }

    /// Signs one whose time is over.
    ///
    /// # Errors
    /// See [`new`](Self::new).
    pub fn expired(&self, names: &[&str]) -> Result<CertificateFiles> {
        self.signed(names, true)
    }

    fn signed(&self, names: &[&str], is_expired: bool) -> Result<CertificateFiles> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, "one of a test");
        if is_expired {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        }
        let key = KeyPair::generate().map_err(failed)?;
        let cert = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let file = |what: &str| self.folder.path().join(format!("{number}-{what}.pem"));
        let files = CertificateFiles { cert: file("cert"), key: file("key") };
        write(&files.cert, &cert.pem())?;
        write(&files.key, &key.serialize_pem())?;
        Ok(files)
    }

    /// TLS as a server of HTTP speaks it that shows this certificate, and takes clients with one of this CA only.
    pub(crate) fn server_config(&self, files: &CertificateFiles) -> Result<ServerConfig> {
        self.config_of(files).map_err(|cause| Error::of("cannot use a certificate", cause))
    }

    fn config_of(&self, files: &CertificateFiles) -> std::result::Result<ServerConfig, Box<dyn std::error::Error>> {
        let provider = Arc::new(default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.ca())?)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build()?;
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let chain = vec![CertificateDer::from_pem_file(&files.cert)?];
        let key = PrivateKeyDer::from_pem_file(&files.key)?;
        let mut config = builder.with_client_cert_verifier(verifier).with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Puts the CA, a certificate and its key into a server's folder, where [`has_certificate`] finds them.
    pub(super) fn copy_into(&self, folder: &Path, files: &CertificateFiles) -> Result<()> {
        let of = [("ca", &self.ca()), ("cert", &files.cert), ("key", &files.key)];
        let copied = of.iter().try_for_each(|(name, file)| fs::copy(file, folder.join(name)).map(drop));
        copied.map_err(|cause| Error::of("cannot copy a server's certificate", cause))
    }

    /// The `tls` block of a nats-server with this certificate, with more lines in it.
    pub fn nats_block(&self, files: &CertificateFiles, more: &str) -> String {
        let (ca, CertificateFiles { cert, key }) = (self.ca(), files);
        format!("tls {{\n cert_file: {cert:?}\n key_file: {key:?}\n ca_file: {ca:?}\n {more}\n}}\n")
    }
}

/// Whether a server's folder holds a certificate: `ca`, `cert` and `key`.
pub(super) fn has_certificate(folder: &Path) -> bool {
    folder.join("cert").exists()
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|cause| Error::of("cannot write a certificate", cause))
}

fn failed(cause: rcgen::Error) -> Error {
    Error::of("cannot make a certificate", cause)
}
