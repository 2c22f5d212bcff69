//! Sends the spans of events to a collector, by OTLP over HTTP.
//!
//! Promises that a collector which is away, slow or broken costs nothing but spans that are dropped and counted: nothing is tried
//! again, one request is under way at a time, and what waits meanwhile is bounded by its queue. Refuses gRPC: the admin thread
//! speaks HTTP/1.1 anyway.

mod post;
mod spans;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

pub use self::post::TLS_SECTION;
use self::post::Target;
use self::spans::{spans_of, text};
use crate::config::{Current, Held, TracingConfig};
use crate::model::trace::{EndedTrace, SpanLoss};
use crate::ports::traces::TraceReceiver;
use crate::telemetry::log_limiter::LogLimiter;
use crate::telemetry::metrics::{Exemplar, Meter};

/// How often it is looked for what waits. Shards wake nobody.
const SEND_EVERY: Duration = Duration::from_millis(250);
/// A request has this many spans, and what the last event adds.
const SPANS_A_REQUEST: usize = 2048;

/// See the module.
#[derive(Debug)]
pub struct Exporter {
    tracing: Held<TracingConfig>,
    to: Collector,
    traces: TraceReceiver,
    meter: Arc<Meter>,
    /// When the time of the engine began.
    epoch: Instant,
    failed: LogLimiter,
}

/// Where spans go, and whose they are.
#[derive(Debug)]
struct Collector {
    target: Target,
    url: String,
    resource: Resource,
}

impl Collector {
    fn of(tracing: &TracingConfig) -> Result<Self, String> {
        let mut attributes: Vec<_> = tracing.resource_pairs().iter().map(|(name, value)| text(name, value)).collect();
        if !attributes.iter().any(|attribute| attribute.key == "service.version") {
            attributes.push(text("service.version", env!("CARGO_PKG_VERSION")));
        }
        let resource = Resource { attributes, ..Resource::default() };
        Ok(Self { target: Target::of(tracing)?, url: tracing.url(), resource })
    }
}

/// What one request takes.
#[derive(Default)]
struct Batch {
    spans: Vec<Span>,
    exemplars: Vec<Exemplar>,
}

impl Exporter {
    /// Sends what comes out of `traces`, whose times are since `epoch`, to where `tracing` says at a time.
    ///
    /// # Errors
    /// What in the section cannot be used.
    pub fn new(
        tracing: &Current<TracingConfig>,
        traces: TraceReceiver,
        meter: Arc<Meter>,
        epoch: Instant,
    ) -> Result<Self, String> {
        let tracing = tracing.hold();
        let to = Collector::of(&tracing)?;
        Ok(Self { tracing, to, traces, meter, epoch, failed: LogLimiter::default() })
    }

    /// Goes by what the section says now; it was checked when it was read.
    fn follow(&mut self) {
        if self.tracing.renew()
            && let Ok(to) = Collector::of(&self.tracing)
        {
            self.to = to;
        }
    }

    /// Runs until it is told to stop, or whoever would tell it is gone; then it sends what still waits.
    pub async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let mut ticks = tokio::time::interval(SEND_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_last = tokio::select! {
                _ = ticks.tick() => false,
                _ = &mut stop => true,
            };
            self.follow();
            self.send_waiting().await;
            if is_last {
                return;
            }
        }
    }

    /// Sends all that waits; after a request that failed the rest waits for the next look, or is dropped by its queue.
    async fn send_waiting(&self) {
        let mut goes_on = true;
        while goes_on {
            let batch = self.next_batch();
            goes_on = !batch.spans.is_empty() && self.send(batch).await;
        }
    }

    fn next_batch(&self) -> Batch {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_zero = now.saturating_sub(self.epoch.elapsed()).as_nanos() as u64;
        let mut batch = Batch::default();
        while batch.spans.len() < SPANS_A_REQUEST
            && let Some(trace) = self.traces.try_next()
        {
            let spans = spans_of(&trace, unix_zero);
            batch.exemplars.extend(exemplar_of(&trace, &spans[0], unix_zero));
            batch.spans.extend(spans);
        }
        batch
    }

    async fn send(&self, batch: Batch) -> bool {
        let spans = batch.spans.len() as u64;
        let scope = InstrumentationScope {
            name: "task-engine".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans: batch.spans, ..ScopeSpans::default() }];
        let resource = Some(self.to.resource.clone());
        let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
        let request = ExportTraceServiceRequest { resource_spans };
        match self.to.target.post(request.encode_to_vec()).await {
            Ok(refused) => {
                let refused = refused.min(spans);
                self.traces.counts.note_sent(spans - refused);
                self.traces.counts.note_lost(SpanLoss::Refused, refused);
                self.meter.note_exemplars(batch.exemplars);
                true
            }
            Err(why) => {
                self.traces.counts.note_lost(SpanLoss::Collector, spans);
                if let Some(left_out) = self.failed.allow() {
                    tracing::warn!(
                        left_out,
                        spans,
                        "the collector at {} took no spans: {why}; they are dropped",
                        self.to.url
                    );
                }
                false
            }
        }
    }
}

/// What points from the histogram of push latency to this trace: its slowest push.
fn exemplar_of(trace: &EndedTrace, event: &Span, unix_zero: u64) -> Option<Exemplar> {
    let slowest = trace.pushes.iter().filter(|push| push.latency.is_some()).max_by_key(|push| push.latency)?;
    Some(Exemplar {
        class: trace.class,
        took: slowest.latency?,
        trace_id: event.trace_id.as_slice().try_into().ok()?,
        span_id: event.span_id.as_slice().try_into().ok()?,
        unix_nanos: unix_zero.saturating_add(slowest.ended_at.0),
    })
}
