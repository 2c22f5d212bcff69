//! The engine's own stage histograms, read from its page `/debug/histograms`.
//!
//! Refuses nothing: an engine without that page has no stages.

use base64::Engine as _;
use harness::pages::{self, Page};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;

use crate::result::{LatencyFigures, StageFigures};

/// The trip's order; a page's JSON object may be in any.
const ORDER: [&str; 6] = ["intake", "members", "routes", "outbox", "gateway", "event"];

/// Histograms in nanoseconds by stage, since the engine's start.
#[derive(Clone, Debug, Default)]
pub struct Stages(Vec<(String, Histogram<u64>)>);

impl Stages {
    /// Reads them.
    pub fn read(port: u16) -> Self {
        Self(pages::get(port, "/debug/histograms").and_then(Page::ok).and_then(|body| parse(&body)).unwrap_or_default())
    }

    /// With those of another engine.
    pub fn plus(mut self, other: Self) -> Self {
        for (stage, histogram) in other.0 {
            match self.0.iter_mut().find(|(name, _)| *name == stage) {
                // Engines of one build have histograms of the same bounds.
                Some((_, sum)) => _ = sum.add(&histogram),
                None => self.0.push((stage, histogram)),
            }
        }
        self
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

fn parse(body: &str) -> Option<Vec<(String, Histogram<u64>)>> {
    let page: serde_json::Value = serde_json::from_str(body).ok()?;
    let mut stages = Vec::new();
    for (name, stage) in page.get("stages")?.as_object()? {
        let bytes = base64::engine::general_purpose::STANDARD.decode(stage.get("v2")?.as_str()?).ok()?;
        stages.push((name.clone(), Deserializer::new().deserialize(&mut bytes.as_slice()).ok()?));
    }
    let place = |name: &str| ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len());
    stages.sort_by_key(|(name, _)| place(name));
    Some(stages)
}
