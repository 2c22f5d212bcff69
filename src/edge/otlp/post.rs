//! One request to a collector, over a connection of its own: HTTP/1.1, plain or over TLS.
//!
//! Promises that it is over within its time limit, names and handshake included, whatever the collector does; that no more of an
//! answer is read than [`ANSWER_BYTES_MAX`]; and that no header of the configuration is in an error. Follows no redirect.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::config::{TlsConfig, TracingConfig};
use crate::edge::tls;

/// How long a request may take, from the look-up of the name to the end of the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of an answer no more is read: it says how many spans were not taken.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Where the keys of TLS to the collector stand in the configuration.
pub const TLS_SECTION: &str = "tracing.tls";
const ALPN: &[&[u8]] = &[b"http/1.1"];

/// Where spans are posted, and with which headers.
#[derive(Debug)]
pub(super) struct Target {
    uri: Uri,
    host: String,
    port: u16,
    headers: HeaderMap,
    tls: Option<TlsConfig>,
}

impl Target {
    /// Of a section that was checked.
    pub(super) fn of(tracing: &TracingConfig) -> Result<Self, String> {
        let uri: Uri = tracing.url().parse().map_err(|_| "tracing.endpoint is no address".to_owned())?;
        let host = uri.host().ok_or("tracing.endpoint names no host")?.trim_matches(['[', ']']).to_owned();
        let is_tls = tracing.is_over_tls();
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let mut headers = HeaderMap::new();
        for (name, value) in tracing.header_pairs() {
            let pair = HeaderName::try_from(name).ok().zip(HeaderValue::try_from(value).ok());
            let (name, mut value) = pair.ok_or("tracing.headers has one that cannot be a header of HTTP")?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        // Those say what is sent, and how.
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        headers.insert(HOST, HeaderValue::try_from(authority).map_err(|_| "tracing.endpoint is no address")?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("task-engine/", env!("CARGO_PKG_VERSION"))));
        Ok(Self { uri, host, port, headers, tls: is_tls.then(|| tracing.tls.clone()) })
    }

    /// Posts spans; gives how many of them the collector did not take.
    ///
    /// # Errors
    /// Why it took none, in words.
    pub(super) async fn post(&self, body: Vec<u8>) -> Result<u64, String> {
        let posted = tokio::time::timeout(PATIENCE, self.exchange(body)).await;
        posted.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")))
    }

    async fn exchange(&self, body: Vec<u8>) -> Result<u64, String> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|error| error.to_string())?;
        match &self.tls {
            None => self.ask(tcp, body).await,
            Some(tls) => {
                let (client, name) = self.made(tls).await?;
                let stream = TlsConnector::from(client).connect(name, tcp).await;
                self.ask(stream.map_err(|error| tls::words(&error, TLS_SECTION))?, body).await
            }
        }
    }

    /// Its files may lie on a file system that hangs.
    async fn made(&self, tls: &TlsConfig) -> Result<(Arc<ClientConfig>, ServerName<'static>), String> {
        let name = tls::server_name(tls, &self.host).map_err(|error| error.to_string())?;
        let tls = tls.clone();
        let made = tokio::task::spawn_blocking(move || tls::client(&tls, TLS_SECTION, ALPN)).await;
        Ok((made.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?, name))
    }

    async fn ask<S>(&self, stream: S, body: Vec<u8>) -> Result<u64, String>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        // Dropped, and so ended, with the answer or the time limit.
        let mut drivers = JoinSet::new();
        drivers.spawn(connection);
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::try_from(self.uri.path()).map_err(|error| error.to_string())?;
        request.headers_mut().clone_from(&self.headers);
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        if !status.is_success() {
            return Err(format!("it answered {status}"));
        }
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        // What is no such answer says nothing against any span.
        let partial = ExportTraceServiceResponse::decode(body).ok().and_then(|answer| answer.partial_success);
        Ok(partial.map_or(0, |partial| u64::try_from(partial.rejected_spans).unwrap_or_default()))
    }
}
