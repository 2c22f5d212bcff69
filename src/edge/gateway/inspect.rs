//! Whether gateways can be reached and speak what they announce, for `task-engine doctor`.
//!
//! Promises that no gateway is pushed anything: of each protocol one stream is opened, and ended without a message.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::{TlsConfig, TlsMode};
use crate::edge::{socket, tls};
use crate::model::finding::{Check, Findings};
use crate::model::gateway::{Endpoint, GatewayRecord, Protocol, Protocols};

/// Where the keys of TLS to gateways stand in the configuration.
const TLS_SECTION: &str = "gateway.tls";
/// Gateways that are asked at once.
const AT_ONCE: usize = 32;
/// How long one address may take: as long as a stream's opening gets.
const PATIENCE: Duration = Duration::from_secs(5);
/// Gateways that are told one by one.
const TOLD: usize = 16;
/// gRPC's word for a method that is not there.
const UNIMPLEMENTED: &str = "12";

/// What is wrong with one gateway's address.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wrong {
    Tcp(String),
    Tls(String),
    Protocol(String),
}

/// Looks at all of these.
pub fn look(records: &[GatewayRecord], config: &TlsConfig, found: &mut Findings<'_>) {
    found.begin(Check::GatewayTcp);
    if records.is_empty() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime.inspect_err(|error| {
        found.fail(
            Check::GatewayTcp,
            format!("no Tokio runtime can be started: {error}"),
            "look at the machine's limits",
        );
    }) else {
        return;
    };
    let looked = runtime.block_on(look_at_each(records, config));
    // A name that does not resolve in time is not waited for.
    runtime.shutdown_background();
    tell(records.len(), looked, found);
}

/// A gateway, how many of its addresses are wrong, whether all are, and the first that is.
type Looked = (String, bool, Vec<Wrong>);

async fn look_at_each(records: &[GatewayRecord], config: &TlsConfig) -> Vec<Looked> {
    let (places, mut looks) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    for record in records.iter().cloned() {
        let (places, config) = (places.clone(), Arc::new(config.clone()));
        looks.spawn(async move {
            // It is never closed.
            let _place = places.acquire().await;
            let mut wrong = Vec::new();
            for endpoint in &record.endpoints {
                let looked = timeout(PATIENCE, look_at(endpoint, record.protocols, &config)).await;
                let late = || Err(Wrong::Tcp(format!("{endpoint}: no answer within {PATIENCE:?}")));
                wrong.extend(looked.unwrap_or_else(|_| late()).err());
            }
            let all = wrong.len() == record.endpoints.len();
            (record.gateway_id.to_string(), all, wrong)
        });
    }
    let mut looked = looks.join_all().await;
    looked.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    looked
}

fn tell(count: usize, looked: Vec<Looked>, found: &mut Findings<'_>) {
    let is_wrong = |kind: fn(&Wrong) -> bool| looked.iter().any(|(.., wrong)| wrong.iter().any(kind));
    let of = match count {
        1 => "the gateway".to_owned(),
        count => format!("all {count} gateways"),
    };
    if !is_wrong(|wrong| matches!(wrong, Wrong::Tcp(_))) {
        found.ok(Check::GatewayTcp, format!("{of} can be connected to"));
        if !is_wrong(|wrong| matches!(wrong, Wrong::Tls(_))) {
            found.ok(Check::GatewayTls, "TLS where they register it");
            if !is_wrong(|wrong| matches!(wrong, Wrong::Protocol(_))) {
                found.ok(Check::GatewayProtocol, "they speak what they announce");
            }
        }
    }
    let mut told = 0;
    for (id, all, wrong) in looked {
        for one in wrong {
            told += 1;
            if told > TOLD {
                continue;
            }
            let (check, why, advice) = match one {
                Wrong::Tcp(why) => {
                    (Check::GatewayTcp, why, "check that it runs, the address that it registers, and firewalls")
                }
                Wrong::Tls(why) => {
                    (Check::GatewayTls, why, "check gateway.tls, and whether the gateway is to register grpcs://")
                }
                Wrong::Protocol(why) => (
                    Check::GatewayProtocol,
                    why,
                    "check metadata.push_protocols, and that this is the gateway's gRPC port",
                ),
            };
            match all {
                true => found.fail(check, format!("gateway {id}: {why}"), advice),
                false => found.warn(check, format!("gateway {id}, which has other addresses: {why}"), advice),
            }
        }
    }
    if told > TOLD {
        found.fail(Check::GatewayTcp, format!("and {} more", told - TOLD), "see those above");
    }
}

async fn look_at(endpoint: &Endpoint, protocols: Protocols, config: &TlsConfig) -> Result<(), Wrong> {
    if !endpoint.secure && config.mode == TlsMode::Required {
        return Err(Wrong::Tls(format!("{endpoint}: is registered without TLS, and gateway.tls.mode is required")));
    }
    let connected = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await;
    let stream = connected.map_err(|error| Wrong::Tcp(format!("{endpoint}: {}", socket::words(&error))))?;
    if !endpoint.secure {
        return speaks(stream, endpoint, protocols, None).await;
    }
    let of_tls = |why: String| Wrong::Tls(format!("{endpoint}: {why}"));
    let client = tls::client(config, TLS_SECTION, &[b"h2"]).map_err(|error| of_tls(error.to_string()))?;
    let name = tls::server_name(config, &endpoint.host).map_err(|error| of_tls(error.to_string()))?;
    let secured = TlsConnector::from(client).connect(name, stream).await;
    let stream = secured.map_err(|error| of_tls(tls::words(&error, TLS_SECTION)))?;
    speaks(stream, endpoint, protocols, Some(TLS_SECTION)).await
}

/// Whether the methods of all protocols are there.
async fn speaks<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    endpoint: &Endpoint,
    protocols: Protocols,
    section: Option<&str>,
) -> Result<(), Wrong> {
    let wrong = |error: h2::Error| match (error.get_io(), section) {
        (Some(error), Some(section)) if tls::of(error).is_some() => {
            Wrong::Tls(format!("{endpoint}: {}", tls::words(error, section)))
        }
        _ => Wrong::Protocol(format!("{endpoint}: it does not speak HTTP/2 ({error})")),
    };
    let (mut send, connection) = h2::client::handshake(stream).await.map_err(wrong)?;
    let driver = tokio::spawn(connection);
    let mut missing = Vec::new();
    for protocol in [Protocol::Group, Protocol::Batch, Protocol::Stream, Protocol::Unary] {
        if !is_announced(protocols, protocol) {
            continue;
        }
        send = match send.ready().await {
            Ok(send) => send,
            // The connection knows better.
            Err(error) => return Err(wrong(ended(driver, error).await)),
        };
        match answers(&mut send, endpoint, super::path_of(protocol)).await {
            Ok(true) => {}
            Ok(false) => missing.push(protocol.label()),
            Err(error) => return Err(wrong(ended(driver, error).await)),
        }
    }
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Wrong::Protocol(format!("{endpoint}: it announces {} and does not speak it", missing.join(", ")))),
    }
}

async fn ended(driver: tokio::task::JoinHandle<Result<(), h2::Error>>, error: h2::Error) -> h2::Error {
    match timeout(Duration::from_millis(100), driver).await {
        Ok(Ok(Err(why))) => why,
        _ => error,
    }
}

fn is_announced(protocols: Protocols, protocol: Protocol) -> bool {
    match protocol {
        Protocol::Group => protocols.group.is_some(),
        Protocol::Batch => protocols.batch,
        // The rpc is that of `stream`, which is asked for.
        Protocol::StreamMany => false,
        Protocol::Stream => protocols.stream,
        Protocol::Unary => protocols.unary,
    }
}

/// A stream without a message: whether its method is there.
async fn answers(
    send: &mut h2::client::SendRequest<Bytes>,
    endpoint: &Endpoint,
    path: &str,
) -> Result<bool, h2::Error> {
    let scheme = if endpoint.secure { "https" } else { "http" };
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{scheme}://{endpoint}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let Ok(request) = request.body(()) else { return Ok(false) };
    let (response, mut frames) = send.send_request(request, false)?;
    // As clients of gRPC end one: grpc-go never sees an end that stands in the head, and would not answer.
    frames.send_data(Bytes::new(), true)?;
    let response = response.await?;
    let is_grpc =
        response.headers().get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let status = |headers: &http::HeaderMap| headers.get("grpc-status").is_some_and(|status| status == UNIMPLEMENTED);
    if !is_grpc || status(response.headers()) {
        return Ok(false);
    }
    let mut body = response.into_body();
    while let Some(data) = body.data().await {
        let taken = data?.len();
        body.flow_control().release_capacity(taken)?;
    }
    Ok(!body.trailers().await?.is_some_and(|trailers| status(&trailers)))
}
