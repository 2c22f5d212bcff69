//! Plain parse functions: words, numbers and times. What has parts (addresses, kinds) is read with them.
//!
//! Promises that no message repeats a secret that a wrong indentation made part of the value.

use std::time::Duration;

use http::Uri;

use crate::model::redact;

const GO_SPAN_MAX: Duration = Duration::from_secs(3600);

/// A text without control characters.
pub(super) fn without_controls(text: &str) -> Result<String, String> {
    if text.chars().any(char::is_control) {
        Err("contains control characters; leave them out".into())
    } else {
        Ok(text.to_owned())
    }
}

pub(super) fn word(text: &str) -> Result<String, String> {
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("{} contains blanks; write one word", redact::value(text)));
    }
    Ok(text.to_owned())
}

/// A NATS subject without wildcards.
pub(super) fn subject(text: &str) -> Result<String, String> {
    let text = word(text)?;
    if text.contains(['*', '>']) {
        return Err(format!("{} contains a wildcard; write the whole subject", redact::value(&text)));
    }
    if text.starts_with('$') {
        return Err(format!("{} begins with $, as the subjects of NATS itself do; take another", redact::value(&text)));
    }
    if text.split('.').any(str::is_empty) {
        return Err(format!("{} has an empty part between its dots", redact::value(&text)));
    }
    Ok(text)
}

/// A stream's or consumer's name: part of a subject, so without dots and wildcards.
pub(super) fn jetstream_name(text: &str) -> Result<String, String> {
    let text = word(text)?;
    if text.contains(['.', '*', '>', '/', '\\']) {
        return Err(format!("{} is not a name that JetStream takes; leave out . * > / \\", redact::value(&text)));
    }
    Ok(text)
}

/// True or false.
pub(super) fn yes_or_no(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(format!("{} is neither true nor false", redact::value(text))),
    }
}

/// A whole number from `min` to `max`.
pub(super) fn count(text: &str, min: u64, max: u64) -> Result<u64, String> {
    match text.parse::<i128>() {
        Ok(number) if (i128::from(min)..=i128::from(max)).contains(&number) => Ok(number as u64),
        Ok(number) => Err(format!("{number} is not from {min} to {max}")),
        Err(_) => Err(format!("{} is not a whole number; write one from {min} to {max}", redact::value(text))),
    }
}

/// A time as Go or people write it: `30s`, `1h30m`, `500ms`, `7days`; a bare 0 is one as well. Keys of the configuration and
/// options of the command line are read by it.
///
/// # Errors
/// What is wrong, and what may be written.
#[expect(clippy::disallowed_methods, reason = "the one place that reads times")]
pub fn span(text: &str) -> Result<Duration, String> {
    if text.parse::<f64>().is_ok_and(|number| number == 0.0) {
        return Ok(Duration::ZERO);
    }
    if text.parse::<f64>().is_ok() && !text.starts_with('-') {
        return Err(format!("{text} has no unit; write {text}s for seconds or {text}ms for milliseconds"));
    }
    if text.starts_with('-') {
        return Err(format!(
            "{} is below zero; a wait without end is not supported, write a time such as 3s",
            redact::value(text).trim_matches('"')
        ));
    }
    humantime::parse_duration(text)
        .map_err(|_| format!("{} is not a time; write one such as 30s, 1h or 500ms", redact::value(text)))
}

/// A time from `min` to `max` milliseconds.
pub(super) fn within(time: Duration, min: u64, max: u64) -> Result<Duration, String> {
    if (Duration::from_millis(min)..=Duration::from_millis(max)).contains(&time) {
        return Ok(time);
    }
    Err(format!("{} is not from {} to {}", show_span(time), show_millis(min), show_millis(max)))
}

/// A time as the Go service has them: from 1 ms to an hour; zero is none, which means the default.
pub(super) fn go_span(text: &str) -> Result<Option<Duration>, String> {
    match span(text)? {
        Duration::ZERO => Ok(None),
        time if time > GO_SPAN_MAX => Err(format!("{text} is over an hour")),
        time if time < Duration::from_millis(1) => Err(format!("{text} is under a millisecond")),
        time => Ok(Some(time)),
    }
}

/// A time of at most an hour; a bare number is whole seconds.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let time = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => span(text)?,
    };
    within(time, 0, 3_600_000)
}

/// How long something may be used; zero and what is below it mean without limit.
pub(super) fn lifetime(text: &str) -> Result<Duration, String> {
    // Go's `SetConnMaxLifetime` takes whatever is not above zero for "without limit".
    let time = span(text.strip_prefix('-').unwrap_or(text))?;
    if time.is_zero() || text.starts_with('-') {
        return Ok(Duration::ZERO);
    }
    within(time, 1_000, 30 * 24 * 3_600_000)
}

/// A time as it is read again: `1h30m`.
pub(super) fn show_span(time: Duration) -> String {
    humantime::format_duration(time).to_string().replace(' ', "")
}

/// The same of so many milliseconds.
pub(super) fn show_millis(millis: u64) -> String {
    show_span(Duration::from_millis(millis))
}

/// An address of HTTP, without a user: `http://host:port`.
pub(super) fn http_url(text: &str) -> Result<String, String> {
    let wrong = || format!("{} is not http://host:port or https://host:port", redact::value(text));
    let uri = text.parse::<Uri>().map_err(|_| wrong())?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    let authority = uri.authority().filter(|authority| is_http && !authority.host().is_empty()).ok_or_else(wrong)?;
    if authority.as_str().contains('@') {
        return Err("names a user; a password goes to tracing.headers".to_owned());
    }
    if uri.query().is_some() {
        return Err("has a query; write http://host:port, or the whole path".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_http_has_a_host_and_no_user() {
        assert_eq!(http_url("http://a:4318/"), Ok("http://a:4318".to_owned()));
        for wrong in ["a:4318", "grpc://a:4317", "http://", "http://u:p@a", "http://a?x=1", "http://a b"] {
            assert!(http_url(wrong).is_err(), "{wrong}");
        }
    }
}
