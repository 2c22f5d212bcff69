//! Which format of the metric page a request asks for (RFC 9110, section 12.5.1), and whether a browser asks.
//!
//! Promises Prometheus text to everyone who does not ask for OpenMetrics by name, and at least as gladly as for text.
//! Refuses to answer 406: who accepts neither gets text. A part of the header that cannot be read asks for nothing.

use mime::Mime;

use crate::telemetry::metrics::Format;

/// The format for these `Accept` headers; none of them means that everything is accepted.
pub(super) fn format<'a>(headers: impl Iterator<Item = &'a str>) -> Format {
    // Of text the most specific range counts, as `text/plain;q=0.1, */*` does not want text more than that.
    let (mut open_metrics, mut text) = (None, (0, 0.0));
    for (range, q) in ranges(headers) {
        if is_open_metrics(&range) {
            open_metrics = Some(open_metrics.map_or(q, |before: f32| before.max(q)));
        } else if let Some(specific) = text_specificity(&range)
            && (specific > text.0 || specific == text.0 && q > text.1)
        {
            text = (specific, q);
        }
    }
    match open_metrics {
        Some(q) if q > 0.0 && q >= text.1 => Format::OpenMetrics,
        _ => Format::Text,
    }
}

/// Whether HTML is asked for by name, as browsers do.
pub(super) fn wants_html<'a>(headers: impl Iterator<Item = &'a str>) -> bool {
    ranges(headers).any(|(range, q)| range.essence_str() == "text/html" && q > 0.0)
}

fn ranges<'a>(headers: impl Iterator<Item = &'a str>) -> impl Iterator<Item = (Mime, f32)> {
    headers.flat_map(|header| header.split(',')).filter_map(read)
}

/// A media range and how gladly it is taken, from 0 to 1.
fn read(part: &str) -> Option<(Mime, f32)> {
    let range: Mime = part.trim().parse().ok()?;
    let q = match range.get_param("q") {
        Some(q) => q.as_str().parse().ok().filter(|q| (0.0..=1.0).contains(q))?,
        None => 1.0,
    };
    Some((range, q))
}

/// Version 1.0.0, which is ours, or any.
fn is_open_metrics(range: &Mime) -> bool {
    range.essence_str() == "application/openmetrics-text"
        && range.get_param("version").is_none_or(|version| version == "1.0.0")
}

/// How specifically a range names Prometheus text 0.0.4; none when it names something else.
fn text_specificity(range: &Mime) -> Option<u8> {
    match (range.essence_str(), range.get_param("version")) {
        ("text/plain", Some(version)) => (version == "0.0.4").then_some(4),
        ("text/plain", None) => Some(3),
        ("text/*", _) => Some(2),
        ("*/*", _) => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(header: &str) -> Format {
        format([header].into_iter())
    }

    #[test]
    fn html_is_for_whoever_names_it() {
        let wants = |header: &str| wants_html([header].into_iter());
        assert!(
            wants("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8") && wants("*/*, TEXT/HTML;q=0.1")
        );
        assert!(!wants("") && !wants("*/*") && !wants("text/*") && !wants("text/html;q=0") && !wants("text/htmlx"));
    }

    #[test]
    fn text_is_for_everyone_who_does_not_ask_for_openmetrics() {
        assert_eq!(format(std::iter::empty()), Format::Text);
        for header in [
            "",
            "*/*",
            "text/plain",
            "text/*;q=0.5",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "application/*",
            "application/json",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0, */*;q=0",
            "application/openmetrics-text;q=0.4, text/plain;q=0.5",
            "application/openmetrics-text;q=0.4, */*",
            "application/openmetrics-text;q=many",
            "application/openmetrics-text;q=2",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text-of-others",
            ",;,=;",
        ] {
            assert_eq!(of(header), Format::Text, "{header}");
        }
    }

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it_at_least_as_gladly() {
        for header in [
            "application/openmetrics-text",
            "Application/OpenMetrics-Text; Version=1.0.0; Charset=utf-8",
            "application/openmetrics-text, text/plain",
            "text/plain;q=0.1, */*, application/openmetrics-text;q=0.5",
            "nonsense, application/openmetrics-text;q=0.001",
            // Prometheus 2.42 and 3.
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=1.0.0;\
             escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        ] {
            assert_eq!(of(header), Format::OpenMetrics, "{header}");
        }
        assert_eq!(format(["text/plain;q=0.5", "application/openmetrics-text"].into_iter()), Format::OpenMetrics);
    }
}
