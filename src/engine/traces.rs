//! The way of traces from the shards to their collector, where events are traced.

use std::sync::Arc;

use crate::config::{Current, TraceExport, TracingConfig};
use crate::edge::otlp::Exporter;
use crate::model::trace::SpanLoss;
use crate::ports::traces::{TraceSender, traces};
use crate::shard::pump::Shared;
use crate::telemetry::metrics::{Meter, table};

/// The shards' end of the way, and who sends on what comes out of it; neither where nothing is traced.
pub(super) fn start(
    tracing: &Current<TracingConfig>,
    meter: &Arc<Meter>,
    shared: &Shared,
) -> Result<(Option<TraceSender>, Option<Exporter>), String> {
    if tracing.now().export == TraceExport::Off {
        meter.register_lines(&table::SPANS_SENT, Vec::new);
        meter.register_lines(&table::SPANS_DROPPED, Vec::new);
        return Ok((None, None));
    }
    let (sender, receiver) = traces();
    let counts = sender.counts().clone();
    meter.register(&table::SPANS_SENT, &[], move || counts.sent());
    for why in SpanLoss::ALL {
        let counts = sender.counts().clone();
        meter.register(&table::SPANS_DROPPED, &[("reason", why.label())], move || counts.lost(*why));
    }
    let exporter = Exporter::new(tracing, receiver, meter.clone(), shared.epoch)?;
    Ok((Some(sender), Some(exporter)))
}
