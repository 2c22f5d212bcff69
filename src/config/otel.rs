//! What OpenTelemetry's own variables and texts mean here.
//!
//! Promises that these variables are looked at only where events are traced: they are often given to all processes of a host alike, and
//! one that means nothing here must not keep an engine from starting. No message repeats a header.

use std::ffi::OsString;

use super::keys::{self, KEYS};
use super::read::Reading;
use super::sections::{TraceExport, TracingConfig};
use super::value::Value;
use super::{Place, Remark};
use crate::model::percent;

/// OpenTelemetry's variables, each with the key of the section `tracing` that it sets; of two for one key the later one wins.
const VARIABLES: &[(&str, &str)] = &[
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "endpoint"),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "endpoint"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "headers"),
    ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "headers"),
    ("OTEL_EXPORTER_OTLP_CERTIFICATE", "tls.ca"),
    ("OTEL_SERVICE_NAME", "service_name"),
    ("OTEL_RESOURCE_ATTRIBUTES", "resource"),
];
/// A secret as it is shown.
const SHOWN: &str = "***";
/// Where traces go when nothing says it.
const PATH: &str = "/v1/traces";

impl Reading {
    /// Takes OpenTelemetry's variables. A variable of ours wins over one of them, and one of them over the file.
    pub(super) fn take_standard(&mut self, environment: &[(String, OsString)]) {
        if self.value("tracing", "export") != Some(Value::Text(TraceExport::Otlp.word().to_owned())) {
            return;
        }
        for (name, key) in VARIABLES {
            let found = keys::find("tracing", key).expect("the key is in the table");
            let Some((_, value)) = environment.iter().find(|(given, _)| given == name) else { continue };
            let before = self.place("tracing", key);
            let is_own = matches!(before, Place::Variable(_)) && !is_standard(&before);
            if value.is_empty() || is_own {
                continue;
            }
            // The one before it is of the same source.
            self.values.retain(|(at, _, place)| *at != found || !matches!(place, Place::Variable(_)));
            match value.to_str() {
                Some(text) => self.take(found, KEYS[found].name, text, Place::Variable((*name).to_owned())),
                None => {
                    self.mistake(Place::Variable((*name).to_owned()), &KEYS[found].full(), "is not UTF-8 text".into())
                }
            }
        }
    }
}

/// Names and values as `name=value,name=value`, in which what would be a comma is written as `%2C`.
///
/// # Errors
/// What is wrong, without a word of it.
pub fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let pair = |(at, part): (usize, &str)| {
        let wrong = || format!("part {} is not name=value; write name=value,name=value, and %2C for a comma", at + 1);
        let (name, value) = part.split_once('=').ok_or_else(wrong)?;
        let (name, value) = (percent::decode(name.trim()), percent::decode(value.trim()));
        let (name, value) = name.zip(value).ok_or_else(wrong)?;
        if name.is_empty() { Err(wrong()) } else { Ok((name, value)) }
    };
    parts.enumerate().map(pair).collect()
}

/// Whether a name and a value can be a header of HTTP.
fn is_header(name: &str, value: &str) -> bool {
    http::HeaderName::try_from(name).is_ok() && http::HeaderValue::try_from(value).is_ok()
}

/// What is checked of the whole section.
pub(super) fn check(reading: &mut Reading, tracing: &TracingConfig) {
    if tracing.export == TraceExport::Off {
        return;
    }
    // A configuration that was shown is read again.
    let shown = tracing.headers.reveal() == SHOWN;
    let headers = pairs(if shown { "" } else { tracing.headers.reveal() }).and_then(|pairs| {
        let bad = pairs.iter().position(|(name, value)| !is_header(name, value));
        bad.map_or(Ok(()), |at| Err(format!("part {} cannot be a header of HTTP", at + 1)))
    });
    let resource = pairs(&tracing.resource).map(|_| ());
    for (name, checked) in [("headers", headers), ("resource", resource)] {
        if let Err(what) = checked {
            let place = reading.place("tracing", name);
            reading.mistakes.push(Remark { place, key: format!("tracing.{name}"), what, nearest: None });
        }
    }
    for name in ["tls.ca", "tls.cert", "tls.key", "tls.server_name"] {
        let place = reading.place("tracing", name);
        let is_meant = place != Place::Default && !is_standard(&place);
        if is_meant && !tracing.is_over_tls() {
            let what = "needs an endpoint with https://: over http:// nothing is protected".into();
            reading.mistake(place, &format!("tracing.{name}"), what);
        }
    }
}

/// Whether it is a variable that all processes of a host may have.
fn is_standard(place: &Place) -> bool {
    matches!(place, Place::Variable(name) if VARIABLES.iter().any(|(standard, _)| standard == name))
}

impl TracingConfig {
    /// Where spans are posted: the endpoint's path with `/v1/traces` behind it, unless it ends so already.
    pub fn url(&self) -> String {
        if self.endpoint.ends_with(PATH) { self.endpoint.clone() } else { format!("{}{PATH}", self.endpoint) }
    }

    /// Whether the collector is spoken to over TLS.
    pub fn is_over_tls(&self) -> bool {
        self.endpoint.starts_with("https://")
    }

    /// The headers of each post.
    pub fn header_pairs(&self) -> Vec<(String, String)> {
        pairs(self.headers.reveal()).unwrap_or_default()
    }

    /// What the spans' resource is said to be; the name of the service is among it.
    pub fn resource_pairs(&self) -> Vec<(String, String)> {
        let mut all = pairs(&self.resource).unwrap_or_default();
        let is_named = all.iter().any(|(name, _)| name == "service.name");
        if !self.service_name.is_empty() || !is_named {
            let name = if self.service_name.is_empty() { "task-engine" } else { &self.service_name };
            all.retain(|(name, _)| name != "service.name");
            all.insert(0, ("service.name".to_owned(), name.to_owned()));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn pairs_are_read_as_opentelemetry_writes_them() {
        assert_eq!(pairs(""), Ok(Vec::new()));
        assert_eq!(pairs("a=1, b = two%2C%20three ,"), Ok(of(&[("a", "1"), ("b", "two, three")])));
        assert_eq!(pairs("api-key=a=b=="), Ok(of(&[("api-key", "a=b==")])));
        for wrong in ["secret", "a=1,secret", "=secret", "a=%2"] {
            let what = pairs(wrong).expect_err(wrong);
            assert!(what.contains("is not name=value") && !what.contains("secret"), "{what}");
        }
    }

    #[test]
    fn the_path_of_traces_is_put_behind_an_endpoint_once() {
        for (endpoint, url) in [
            ("http://a:4318", "http://a:4318/v1/traces"),
            ("https://a/otlp", "https://a/otlp/v1/traces"),
            ("http://a/x/v1/traces", "http://a/x/v1/traces"),
        ] {
            let tracing = TracingConfig { endpoint: endpoint.to_owned(), ..TracingConfig::default() };
            assert_eq!(tracing.url(), url);
        }
    }

    #[test]
    fn the_service_has_a_name_whoever_gives_it() {
        let named = |service_name: &str, resource: &str| {
            let (service_name, resource) = (service_name.to_owned(), resource.to_owned());
            TracingConfig { service_name, resource, ..TracingConfig::default() }.resource_pairs()
        };
        assert_eq!(named("", ""), of(&[("service.name", "task-engine")]));
        assert_eq!(named("", "a=1,service.name=x"), of(&[("a", "1"), ("service.name", "x")]));
        assert_eq!(named("y", "a=1,service.name=x"), of(&[("service.name", "y"), ("a", "1")]));
    }
}
