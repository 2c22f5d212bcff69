//! TLS before a server that speaks none, as a proxy that ends it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use super::{Authority, CertificateFiles};
use crate::error::{Error, Result};

/// A port that speaks TLS only, HTTP in it, takes clients with a certificate of the same CA only, and leads to a plain one.
pub struct TlsDoor {
    address: SocketAddr,
    shown: Shown,
    _runtime: Runtime,
}

/// The certificates of the clients that came in, in their order.
type Shown = Arc<Mutex<Vec<Vec<u8>>>>;

impl TlsDoor {
    /// Opens one before a port of 127.0.0.1.
    ///
    /// # Errors
    /// When its certificate cannot be used, or the machine refuses a thread or a port.
    pub fn before(port: u16, authority: &Authority, files: &CertificateFiles) -> Result<Self> {
        let acceptor = TlsAcceptor::from(Arc::new(authority.server_config(files)?));
        let built = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = built.map_err(|cause| Error::of("cannot start a Tokio runtime", cause))?;
        let listening = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        let listener = listening.map_err(|cause| Error::of("cannot listen", cause))?;
        let address = listener.local_addr().map_err(|cause| Error::of("cannot listen", cause))?;
        let shown = Shown::default();
        let seen = shown.clone();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, seen) = (acceptor.clone(), seen.clone());
                tokio::spawn(async move {
                    // A client that is not taken is told so by TLS.
                    let (Ok(mut client), Ok(mut server)) =
                        (acceptor.accept(client).await, TcpStream::connect(("127.0.0.1", port)).await)
                    else {
                        return;
                    };
                    let certificate = client.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                    let certificate = certificate.map(|certificate| certificate.to_vec());
                    seen.lock().unwrap_or_else(PoisonError::into_inner).extend(certificate);
                    // Either may break it.
                    let _ = client.get_ref().0.set_nodelay(true).and_then(|()| server.set_nodelay(true));
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Ok(Self { address, shown, _runtime: runtime })
    }

    /// What the clients that came in so far have shown, in their order: certificates in DER.
    pub fn shown(&self) -> Vec<Vec<u8>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
