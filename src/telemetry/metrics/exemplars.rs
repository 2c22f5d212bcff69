//! The latest trace of each bucket of a histogram, so that whoever looks at a slow push finds one.
//!
//! Promises one exemplar a class and bucket, and no more memory. Only OpenMetrics shows them: text 0.0.4 has no place for them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::model::priority::{ClassLatency, Priority};

/// One push that was recorded in a histogram, and the trace that its collector has of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exemplar {
    /// The class of its event.
    pub class: Priority,
    /// How long it took.
    pub took: Duration,
    /// Which trace.
    pub trace_id: [u8; 16],
    /// Which span.
    pub span_id: [u8; 8],
    /// When it was answered, in nanoseconds since 1970.
    pub unix_nanos: u64,
}

/// The latest, by class and place of the bucket.
#[derive(Debug, Default)]
pub(super) struct Exemplars(BTreeMap<(usize, usize), Exemplar>);

impl Exemplars {
    pub(super) fn note(&mut self, exemplar: Exemplar) {
        self.0.insert((exemplar.class as usize, ClassLatency::bucket_of(exemplar.took)), exemplar);
    }

    /// What OpenMetrics writes behind a bucket.
    pub(super) fn text_of(&self, class: Priority, bucket: usize) -> Option<String> {
        let exemplar = self.0.get(&(class as usize, bucket))?;
        let at = Duration::from_nanos(exemplar.unix_nanos);
        let labels = format!("trace_id=\"{}\",span_id=\"{}\"", hex(&exemplar.trace_id), hex(&exemplar.span_id));
        let (seconds, millis) = (at.as_secs(), at.subsec_millis());
        Some(format!("# {{{labels}}} {} {seconds}.{millis:03}", exemplar.took.as_secs_f64()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::push_latency::PushLatency;
    use crate::telemetry::metrics::{Format, Meter, ShardReport};

    #[test]
    fn only_openmetrics_has_exemplars_and_only_at_buckets_that_have_values() {
        let (meter, mut publishers) = Meter::new(1);
        let mut latency = PushLatency::default();
        latency.record(Priority::Normal, Some(30_000_000), 2);
        let filled = publishers[0].hand_over(&mut Default::default(), |report: &mut ShardReport| {
            report.latency = Some(Box::new(latency));
        });
        assert!(filled);
        let of = |millis: u64| Exemplar {
            class: Priority::Normal,
            took: Duration::from_millis(millis),
            trace_id: [0xab; 16],
            span_id: [millis as u8; 8],
            unix_nanos: 1_700_000_000_123_456_789,
        };
        meter.note_exemplars([of(29), of(30), of(700)]);
        let open = meter.render(Format::OpenMetrics);
        let line = format!(
            "task_engine_push_latency_seconds_bucket{{le=\"0.05\",class=\"normal\"}} 2 # {{trace_id=\"{}\",span_id=\"{}\"}} 0.03 1700000000.123",
            "ab".repeat(16),
            "1e".repeat(8)
        );
        assert!(open.lines().any(|one| one == line), "{open}");
        assert_eq!(open.matches(" # {").count(), 1, "the bucket of 700 ms is empty");
        assert!(!meter.render(Format::Text).contains(" # {"));
    }
}
