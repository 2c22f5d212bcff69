//! TLS for connections that we open: what a client needs for it, made of files, and what went wrong in an operator's words.
//!
//! Promises that the files are read once for the whole process and shared, and again when they have changed (so that a renewed
//! certificate counts at the next connect), and that a mistake in one is told with its key and its name. Refuses to show a
//! key. Blocks: a shard has another thread read the files.
//!
//! [`session`] is TLS as bytes in and out; [`blocking`] is it over a socket of a thread. Over a shard's it is
//! [`transport`](super::transport)'s.

pub mod blocking;
pub mod server;
pub(super) mod session;
mod validity;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, InconsistentKeys, RootCertStore};

use crate::config::TlsConfig;

/// The longest file of certificates or keys that is read.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// What different servers need, made and kept.
const KEPT_MAX: usize = 16;

/// What is wrong with the files, or with the name of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError(String);

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

/// When a file was last changed, and which one it is.
type Stamp = Option<(u64, i64, i64, u64)>;

/// The files of a `tls` section, each with what tells it from another one at its place: a renewed one is another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files([(PathBuf, Stamp); 3]);

impl Files {
    /// As they are now; those without a path are none.
    pub fn of(paths: [&PathBuf; 3]) -> Self {
        Self(paths.map(|path| (path.clone(), stamp(path))))
    }

    /// Whether these are at the same places, and other files.
    pub fn are_renewed(&self, before: &Self) -> bool {
        let mut places = self.0.iter().zip(&before.0);
        self != before && places.all(|((path, _), (other, _))| path == other)
    }
}

type Alpn = &'static [&'static [u8]];

struct Kept<T> {
    files: [PathBuf; 3],
    stamps: [Stamp; 3],
    alpn: Alpn,
    made: Arc<T>,
}

/// What was made of files.
struct Shelf<T>(Mutex<Vec<Kept<T>>>);

impl<T> Shelf<T> {
    const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// What was made of these files, while none of them has changed; else what `make` gives now.
    fn get(
        &self,
        files: [&PathBuf; 3],
        alpn: Alpn,
        make: impl FnOnce() -> Result<T, TlsError>,
    ) -> Result<Arc<T>, TlsError> {
        let files = files.map(PathBuf::clone);
        // Before they are read: what changes meanwhile is read again the next time.
        let stamps = files.each_ref().map(|path| stamp(path));
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |kept: &Kept<T>| kept.files == files && kept.alpn == alpn;
        if let Some(kept) = lock().iter().find(|kept| is_it(kept) && kept.stamps == stamps) {
            return Ok(kept.made.clone());
        }
        let made = Arc::new(make()?);
        let mut all = lock();
        all.retain(|kept| !is_it(kept));
        if all.len() >= KEPT_MAX {
            all.remove(0);
        }
        all.push(Kept { files, stamps, alpn, made: made.clone() });
        Ok(made)
    }
}

static CLIENTS: Shelf<ClientConfig> = Shelf::new();

/// What a client needs: made of the files, or the same as before while none of them has changed. `section` is where their keys
/// stand in the configuration, such as `nats.tls`; `alpn` what is to be spoken over it, where the server is told so.
///
/// # Errors
/// Which file cannot be used, and why.
pub fn client(tls: &TlsConfig, section: &str, alpn: Alpn) -> Result<Arc<ClientConfig>, TlsError> {
    CLIENTS.get([&tls.ca, &tls.cert, &tls.key], alpn, || {
        let mut client = made(tls, section)?;
        client.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(client)
    })
}

/// What a server's certificate must be for: `tls.server_name`, or else the host that we connect to.
///
/// # Errors
/// When that is neither a host name nor an address.
pub fn server_name(tls: &TlsConfig, host: &str) -> Result<ServerName<'static>, TlsError> {
    let name = if tls.server_name.is_empty() { host } else { &tls.server_name };
    ServerName::try_from(name.to_owned())
        .map_err(|_| TlsError(format!("{name:?} is no name that a certificate can be for; set server_name")))
}

/// [`client`] and [`server_name`] for a shard: another thread reads the files.
///
/// # Errors
/// See there.
pub(super) async fn on_shard(
    tls: &TlsConfig,
    section: &'static str,
    host: &str,
    alpn: Alpn,
) -> Result<(Arc<ClientConfig>, ServerName<'static>), TlsError> {
    let name = server_name(tls, host)?;
    let tls = tls.clone();
    let made = glommio::executor().spawn_blocking(move || client(&tls, section, alpn)).await;
    Ok((made?, name))
}

fn stamp(path: &Path) -> Stamp {
    let file = fs::metadata(path).ok()?;
    Some((file.ino(), file.mtime(), file.mtime_nsec(), file.len()))
}

fn made(tls: &TlsConfig, section: &str) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| TlsError(format!("{section}: {error}")))?;
    let builder = builder.with_root_certificates(roots(&tls.ca, section)?);
    if tls.cert.as_os_str().is_empty() {
        return Ok(builder.with_no_client_auth());
    }
    let (chain, private) = ours(&tls.cert, &tls.key, section)?;
    builder.with_client_auth_cert(chain, private).map_err(|error| not_ours(&error, &tls.cert, &tls.key, section))
}

/// Our certificate and its key.
fn ours(
    cert: &Path,
    key: &Path,
    section: &str,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let (cert_key, key_key) = (format!("{section}.cert"), format!("{section}.key"));
    let chain = certificates(cert, &cert_key)?;
    if let Some(why) = chain.first().and_then(|certificate| not_valid(certificate, SystemTime::now())) {
        return Err(wrong(&cert_key, cert, &why));
    }
    let private = PrivateKeyDer::from_pem_slice(&read(key, &key_key)?).map_err(|_| {
        wrong(
            &key_key,
            key,
            "there is no private key in it (-----BEGIN PRIVATE KEY-----; one with a passphrase cannot be read)",
        )
    })?;
    Ok((chain, private))
}

/// Why our certificate and its key cannot be used together.
fn not_ours(error: &rustls::Error, cert: &Path, key: &Path, section: &str) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => wrong(
            &format!("{section}.key"),
            key,
            &format!("it is not the key of the certificate in {section}.cert ({})", cert.display()),
        ),
        error => {
            let why = format!("the certificate or its key cannot be used ({error})");
            wrong(&format!("{section}.cert"), cert, &why)
        }
    }
}

/// Why nobody takes our certificate now, as far as its times say.
fn not_valid(certificate: &[u8], now: SystemTime) -> Option<String> {
    let (from, until) = validity::validity(certificate)?;
    let clock = "check this machine's clock";
    let shown = humantime::format_rfc3339_seconds;
    if until < now {
        return Some(format!("our certificate has expired ({}); renew it, or {clock}", shown(until)));
    }
    (from > now).then(|| format!("our certificate is not valid yet (from {} on); {clock}", shown(from)))
}

fn roots(ca: &Path, section: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    if ca.as_os_str().is_empty() {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let why = found.errors.first().map_or(String::new(), |error| format!(" ({error})"));
            return Err(TlsError(format!("this machine has no CAs that are trusted{why}; set {section}.ca")));
        }
        return Ok(roots);
    }
    let key = format!("{section}.ca");
    for certificate in certificates(ca, &key)? {
        let added = roots.add(certificate);
        added.map_err(|error| wrong(&key, ca, &format!("a certificate in it cannot be used as a CA ({error})")))?;
    }
    Ok(roots)
}

fn certificates(path: &Path, key: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path, key)?).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(wrong(key, path, "there is no certificate in it (-----BEGIN CERTIFICATE-----)")),
        Err(_) => Err(wrong(key, path, "a certificate in it cannot be read; is it cut off?")),
    }
}

fn read(path: &Path, key: &str) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    read.map_err(|error| wrong(key, path, &format!("cannot be read ({})", super::socket::words(&error))))?;
    Ok(bytes)
}

fn wrong(key: &str, path: &Path, why: &str) -> TlsError {
    TlsError(format!("{key}: {}: {why}", path.display()))
}

/// TLS's own error in one of a connection.
pub fn of(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// An error of a connection that may be one over TLS. `section` is where the keys stand: `nats.tls`.
pub fn words(error: &io::Error, section: &str) -> String {
    match of(error) {
        Some(error) => tls_words(error, section),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it was cut off in the middle, without TLS's farewell".to_owned()
        }
        None => super::socket::words(error),
    }
}

/// What went wrong over TLS, and what to check.
fn tls_words(error: &rustls::Error, section: &str) -> String {
    use AlertDescription as Alert;
    use rustls::Error as E;
    match error {
        E::InvalidCertificate(error) => certificate_words(error, section),
        E::AlertReceived(Alert::CertificateRequired) => {
            format!("the server wants a certificate of ours; set {section}.cert and {section}.key")
        }
        E::AlertReceived(
            alert @ (Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            // Of a certificate whose CA has the name of one that the server trusts, and another key.
            | Alert::DecryptError
            | Alert::AccessDenied),
        ) => format!(
            "the server does not take our certificate, or wants one ({alert:?}); check {section}.cert: is it signed by a CA \
             that the server trusts, and still valid?"
        ),
        E::AlertReceived(Alert::ProtocolVersion | Alert::HandshakeFailure | Alert::InsufficientSecurity)
        | E::PeerIncompatible(_) => {
            "the server and we have no TLS version or cipher in common; TLS 1.2 and 1.3 are spoken here".to_owned()
        }
        E::AlertReceived(alert) => format!("the server ended TLS ({alert:?}); look into its log"),
        E::InvalidMessage(_) => "what the peer sends is not TLS; check the address and the port".to_owned(),
        error => format!("TLS failed ({error})"),
    }
}

fn certificate_words(error: &CertificateError, section: &str) -> String {
    use CertificateError as E;
    match error {
        // The second: of a CA with the same name and another key.
        E::UnknownIssuer | E::BadSignature => format!(
            "the server's certificate is signed by no CA that is trusted here; set {section}.ca to the file of its CA"
        ),
        E::Expired => "the server's certificate has expired; renew it, or check this machine's clock".to_owned(),
        E::ExpiredContext { not_after, .. } => format!(
            "the server's certificate has expired ({}); renew it, or check this machine's clock",
            date(*not_after)
        ),
        E::NotValidYet => "the server's certificate is not valid yet; check this machine's clock".to_owned(),
        E::NotValidYetContext { not_before, .. } => format!(
            "the server's certificate is not valid yet (from {} on); check this machine's clock",
            date(*not_before)
        ),
        E::NotValidForName => format!(
            "the server's certificate is for another name; write that name in the address, or set {section}.server_name"
        ),
        E::NotValidForNameContext { expected, presented } => {
            let names = if presented.is_empty() { "no name at all".to_owned() } else { presented.join(", ") };
            format!(
                "the server's certificate is not for {}, it is for {names}; write such a name in the address, or set \
                 {section}.server_name",
                expected.to_str()
            )
        }
        error => format!("the server's certificate cannot be used ({error:?})"),
    }
}

fn date(time: UnixTime) -> String {
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs())).to_string()
}
