//! The engine's own stage histograms, read from its page `/debug/histograms`.
//!
//! Refuses nothing: an engine without that page has no stages.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;

use crate::result::{LatencyFigures, StageFigures};

const PATIENCE: Duration = Duration::from_secs(2);
/// The trip's order; a page's JSON object may be in any.
const ORDER: [&str; 6] = ["intake", "members", "routes", "outbox", "gateway", "event"];

/// Histograms in nanoseconds by stage, since the engine's start.
#[derive(Clone, Debug, Default)]
pub struct Stages(Vec<(String, Histogram<u64>)>);

impl Stages {
    /// Reads them.
    pub fn read(port: u16) -> Self {
        Self(get(port, "/debug/histograms").and_then(|body| parse(&body)).unwrap_or_default())
    }

    /// What was recorded since `earlier`.
    pub fn since(mut self, earlier: &Self) -> Vec<StageFigures> {
        for (stage, histogram) in &mut self.0 {
            if let Some((_, before)) = earlier.0.iter().find(|(name, _)| name == stage) {
                // Fails only when the engine was started anew in between; then all of it is since then.
                let _ = histogram.subtract(before);
            }
        }
        let figures = |(stage, histogram): (String, Histogram<u64>)| {
            let latency = LatencyFigures::of(&histogram);
            (latency.count > 0).then_some(StageFigures { stage, latency })
        };
        self.0.into_iter().filter_map(figures).collect()
    }
}

/// The body of a page, when it is answered with 200.
pub(super) fn get(port: u16, path: &str) -> Option<Vec<u8>> {
    let (head, body) = ask(port, path)?;
    head.starts_with(b"HTTP/1.1 200").then_some(body)
}

/// The body of a page, whatever the status.
pub(super) fn get_any(port: u16, path: &str) -> Option<String> {
    ask(port, path).map(|(_, body)| String::from_utf8_lossy(&body).into_owned())
}

fn ask(port: u16, path: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let address = (Ipv4Addr::LOCALHOST, port).into();
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).ok()?;
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let body = answer.split_off(head + 4);
    Some((answer, body))
}

fn parse(body: &[u8]) -> Option<Vec<(String, Histogram<u64>)>> {
    let page: serde_json::Value = serde_json::from_slice(body).ok()?;
    let mut stages = Vec::new();
    for (name, stage) in page.get("stages")?.as_object()? {
        let bytes = base64::engine::general_purpose::STANDARD.decode(stage.get("v2")?.as_str()?).ok()?;
        stages.push((name.clone(), Deserializer::new().deserialize(&mut bytes.as_slice()).ok()?));
    }
    let place = |name: &str| ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len());
    stages.sort_by_key(|(name, _)| place(name));
    Some(stages)
}
