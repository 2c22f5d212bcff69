//! The two text formats of the page: Prometheus 0.0.4 and OpenMetrics 1.0.
//!
//! Our own, as the crates write one of the two each, and each from its own model of all numbers. They differ in few
//! places: which name a counter's header has, how an info is called, and whether units and the end are said.

use std::fmt::{Display, Write};

use super::declare::{Kind, Metric};

/// How the page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4, which every scraper reads.
    Text,
    /// OpenMetrics 1.0, for those that ask for it.
    OpenMetrics,
}

impl Format {
    /// The HTTP header `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    fn type_word(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Self::Text, Kind::Info) => Kind::Gauge.word(),
            _ => kind.word(),
        }
    }
}

/// A page that is being written.
pub(super) struct Writer {
    page: String,
    format: Format,
}

/// The samples of one row.
pub(super) struct Family<'a> {
    page: &'a mut String,
    name: String,
    format: Format,
}

type Labels<'a> = &'a [(&'a str, &'a str)];

impl Writer {
    pub(super) fn new(format: Format) -> Self {
        Self { page: String::with_capacity(64 * 1024), format }
    }

    /// Begins a row; all its samples follow.
    pub(super) fn family(&mut self, metric: &Metric) -> Family<'_> {
        let Self { page, format } = self;
        let sample = metric.sample();
        let name = if *format == Format::Text { sample.clone() } else { metric.family() };
        line(page, format_args!("# HELP {name} {}", metric.help()));
        line(page, format_args!("# TYPE {name} {}", format.type_word(metric.kind)));
        if let (Format::OpenMetrics, Some(unit)) = (*format, metric.unit.word()) {
            line(page, format_args!("# UNIT {name} {unit}"));
        }
        Family { page, name: sample, format: *format }
    }

    /// The whole page.
    pub(super) fn finish(self) -> String {
        let Self { mut page, format } = self;
        if format == Format::OpenMetrics {
            page.push_str("# EOF\n");
        }
        page
    }
}

impl Family<'_> {
    pub(super) fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        self.line("", labels, value);
    }

    /// One histogram, from the count of each bucket (not cumulative; the last one has no bound).
    pub(super) fn histogram(&mut self, labels: Labels<'_>, sum_seconds: f64, count: u64, buckets: &[(f64, u64)]) {
        self.histogram_with(labels, sum_seconds, count, buckets, |_| None);
    }

    /// The same, with what OpenMetrics shows of a trace behind a bucket that has values; by the bucket's place.
    pub(super) fn histogram_with(
        &mut self,
        labels: Labels<'_>,
        sum_seconds: f64,
        count: u64,
        buckets: &[(f64, u64)],
        exemplar: impl Fn(usize) -> Option<String>,
    ) {
        self.line("_sum", labels, sum_seconds);
        self.line("_count", labels, count);
        let mut below = 0;
        for (at, (bound, in_bucket)) in buckets.iter().enumerate() {
            below += in_bucket;
            let bound = bound_text(*bound);
            let with_bound: Vec<_> = std::iter::once(("le", &*bound)).chain(labels.iter().copied()).collect();
            let has_one = self.format == Format::OpenMetrics && *in_bucket > 0;
            match exemplar(at).filter(|_| has_one) {
                Some(text) => self.line("_bucket", &with_bound, format_args!("{below} {text}")),
                None => self.line("_bucket", &with_bound, below),
            }
        }
    }

    fn line(&mut self, ending: &str, labels: Labels<'_>, value: impl Display) {
        let Self { page, name, .. } = self;
        page.push_str(name);
        page.push_str(ending);
        for (at, (label, text)) in labels.iter().enumerate() {
            page.push(if at == 0 { '{' } else { ',' });
            page.push_str(label);
            page.push_str("=\"");
            escape(page, text);
            page.push('"');
        }
        if !labels.is_empty() {
            page.push('}');
        }
        line(page, format_args!(" {value}"));
    }
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(page, "{text}").expect("a string takes everything");
}

fn escape(page: &mut String, text: &str) {
    for letter in text.chars() {
        match letter {
            '\\' => page.push_str("\\\\"),
            '"' => page.push_str("\\\""),
            '\n' => page.push_str("\\n"),
            other => page.push(other),
        }
    }
}

/// The same text for the same bound for ever: it names a series.
pub(super) fn bound_text(bound: f64) -> String {
    if bound.is_infinite() {
        "+Inf".to_owned()
    } else if bound.fract() == 0.0 {
        format!("{bound:.1}")
    } else {
        bound.to_string()
    }
}
