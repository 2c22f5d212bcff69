//! TLS of a port that we listen on: what it takes, made of the files of a `tls` section; and what a command of ours needs to ask that
//! port.
//!
//! Promises the same of the files as for connections that we open.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme};

use super::{Shelf, TlsError, not_ours, ours, roots, wrong};
use crate::config::ServerTlsConfig;

static SERVERS: Shelf<ServerConfig> = Shelf::new();

/// What a port needs: made of the files, or the same as before while none of them has changed. `section` is where their keys stand,
/// such as `admin.tls`.
///
/// # Errors
/// Which file cannot be used, and why.
pub fn server(tls: &ServerTlsConfig, section: &str) -> Result<Arc<ServerConfig>, TlsError> {
    SERVERS.get([&tls.ca, &tls.cert, &tls.key], &[], || {
        let (chain, key) = ours(&tls.cert, &tls.key, section)?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| TlsError(format!("{section}: {error}")))?;
        let builder = if tls.ca.as_os_str().is_empty() {
            builder.with_no_client_auth()
        } else {
            let roots = Arc::new(roots(&tls.ca, section)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            let unfit = |error| wrong(&format!("{section}.ca"), &tls.ca, &format!("cannot be used ({error})"));
            builder.with_client_cert_verifier(verifier.map_err(unfit)?)
        };
        let made = builder.with_single_cert(chain, key);
        made.map_err(|error| not_ours(&error, &tls.cert, &tls.key, section))
    })
}

/// What a command on the same machine needs to ask the port that has these files: the very certificate proves it, whatever it is for, and
/// the command shows it as its own.
///
/// # Errors
/// As of [`server`].
pub fn asking(tls: &ServerTlsConfig, section: &str) -> Result<Arc<ClientConfig>, TlsError> {
    let (chain, key) = ours(&tls.cert, &tls.key, section)?;
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| TlsError(format!("{section}: {error}")))?;
    let known = Known { certificate: chain[0].clone(), provider };
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(known));
    let made = builder.with_client_auth_cert(chain, key);
    made.map(Arc::new).map_err(|error| not_ours(&error, &tls.cert, &tls.key, section))
}

/// Trusts one certificate, and nobody else's.
#[derive(Debug)]
struct Known {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *end_entity == self.certificate {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::General("the port has another certificate than the file: is it another engine's?".to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
