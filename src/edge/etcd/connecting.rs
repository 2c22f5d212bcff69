//! A connection to one endpoint of etcd: plain as its client opens it, or over TLS of ours.
//!
//! Promises the same options either way (keepalive, timeouts, the login), one deadline for all of it, and errors that name the key
//! of the configuration. Refuses to log in before etcd has proved itself.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use etcd_client::{Channel, Client, GetOptions};
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Endpoint;
use tower_service::Service;

use super::{PING_EVERY_MIN, options, patience, within};
use crate::config::{EtcdConfig, HostPort};
use crate::edge::tls;

/// Where the keys of TLS to etcd stand in the configuration.
pub(super) const TLS_SECTION: &str = "etcd.tls";
/// What is spoken over it.
const ALPN: &[&[u8]] = &[b"h2"];

/// Connects to this endpoint, and logs in.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) async fn connect(settings: &EtcdConfig, at: &HostPort) -> Result<Client, String> {
    let patience = patience(settings);
    if !settings.wants_tls() {
        return within(patience, Client::connect([at.to_string()], Some(options(settings)))).await;
    }
    let said = Said::default();
    let opened = within(patience, async {
        let channel = over_tls(settings, at, said.clone()).await?;
        let client = Client::from_channel(Channel::Tonic(channel), Some(options(settings))).await?;
        // A server says after the handshake that it does not take our certificate. Whatever it answers, it has taken it.
        let key = GetOptions::new().with_limit(1).with_keys_only();
        match client.kv_client().get("/", Some(key)).await {
            Err(error) if !is_etcds_word(&error) => Err(error),
            _ => Ok(client),
        }
    });
    // HTTP/2 keeps less of it.
    opened.await.map_err(|why| said.get().cloned().unwrap_or(why))
}

/// Whether etcd itself said it.
fn is_etcds_word(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if status.message().starts_with("etcdserver:"))
}

async fn over_tls(
    settings: &EtcdConfig,
    at: &HostPort,
    said: Said,
) -> Result<tonic::transport::Channel, etcd_client::Error> {
    let invalid = |error: tls::TlsError| etcd_client::Error::InvalidArgs(error.to_string());
    let name = tls::server_name(&settings.tls, &at.host).map_err(invalid)?;
    let of = settings.tls.clone();
    // Its files may lie on a file system that hangs.
    let made = tokio::task::spawn_blocking(move || tls::client(&of, TLS_SECTION, ALPN)).await;
    let client = made.map_err(|error| etcd_client::Error::InvalidArgs(error.to_string()))?.map_err(invalid)?;
    let uri = |scheme: &str| format!("{scheme}://{at}").parse::<Uri>().map_err(etcd_client::Error::from);
    let ping_every = settings.keep_alive_time.max(PING_EVERY_MIN);
    let endpoint = Endpoint::from(uri("http")?)
        // What is connected is TLS already: the channel knows of it by the origin alone.
        .origin(uri("https")?)
        .connect_timeout(settings.dial_timeout)
        .http2_keep_alive_interval(ping_every)
        .keep_alive_timeout(settings.keep_alive_timeout)
        .keep_alive_while_idle(false);
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(ping_every));
    tcp.set_connect_timeout(Some(settings.dial_timeout));
    Ok(endpoint.connect_with_connector(Connector { tcp, client, name, said }).await?)
}

/// Opens TCP connections, and makes the handshake over them.
#[derive(Clone)]
struct Connector {
    tcp: HttpConnector,
    client: Arc<ClientConfig>,
    name: ServerName<'static>,
    said: Said,
}

/// What was wrong with TLS on a connection.
type Said = Arc<OnceLock<String>>;
type Connected = TokioIo<Heard>;

impl Service<Uri> for Connector {
    type Response = Connected;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Connected>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp.poll_ready(cx).map_err(io::Error::other)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, tls) = (self.tcp.call(uri), TlsConnector::from(self.client.clone()));
        let (name, said) = (self.name.clone(), self.said.clone());
        Box::pin(async move {
            let tcp = connecting.await.map_err(io::Error::other)?;
            Ok(TokioIo::new(Heard { stream: tls.connect(name, tcp.into_inner()).await?, said }))
        })
    }
}

/// A connection that keeps what its peer says against it.
struct Heard {
    stream: TlsStream<TcpStream>,
    said: Said,
}

impl Heard {
    /// A server that does not take our certificate says so and is gone, maybe before a write of ours: what it said is read first. On a
    /// connection that is broken a read is never waited for in vain.
    fn after_write<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if !matches!(written, Poll::Ready(Err(_))) {
            return written;
        }
        let mut room = [0; 256];
        loop {
            let mut room = ReadBuf::new(&mut room);
            match ready!(Pin::new(&mut *self).poll_read(cx, &mut room)) {
                Ok(()) if !room.filled().is_empty() => {}
                _ => return written,
            }
        }
    }
}

impl AsyncRead for Heard {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, room);
        if let Poll::Ready(Err(error)) = &read
            && tls::of(error).is_some()
        {
            self.said.get_or_init(|| tls::words(error, TLS_SECTION));
        }
        read
    }
}

impl AsyncWrite for Heard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.after_write(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.after_write(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
