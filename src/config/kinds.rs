//! What may be written for a key: from text to a checked value, or words that say what is allowed.
//!
//! Promises that no message repeats a secret: not a password, not a token, not a DSN, not a URL's user part; nor what a wrong
//! indentation made part of the value of another key.

use std::net::SocketAddr;
use std::time::Duration;

use super::addresses::{Dsn, HostPort, NatsUrls};
use crate::config::log_filter::Directives;
use crate::model::redact;

/// A kind of value, with its bounds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Accepted because the Go service has it; without effect, whatever its value is.
    Noted,
    /// Any text.
    Text,
    /// Text that is never shown.
    Secret,
    /// Text without blanks.
    Word,
    /// A NATS subject without wildcards.
    Subject,
    /// A name JetStream takes for streams and consumers.
    Name,
    /// A host name or an address, without a port.
    Host,
    /// true or false.
    Bool,
    /// A log level.
    Level,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number from the first to the second.
    Count(u64, u64),
    /// A TCP port.
    Port,
    /// A time with a unit, from the first to the second, in milliseconds.
    Span(u64, u64),
    /// A time as the Go service has them: with a unit; zero means the default.
    GoSpan,
    /// A time; a bare number is whole seconds.
    Seconds,
    /// How long something may be used, as the Go service has it: zero and what is below it mean without limit.
    Lifetime,
    /// Log directives, separated by commas.
    Directives,
    /// `all` or a number of shards.
    Cores,
    /// `host:port`, with the port that is meant when none is written.
    HostPort(u16),
    /// Several of them.
    HostPorts(u16),
    /// A DSN of the Go driver for MySQL.
    Dsn,
    /// NATS URLs.
    NatsUrls,
    /// An address to listen on.
    Listen,
}

/// A checked value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Bool(bool),
    Count(u64),
    Span(Duration),
    /// None is all of them.
    Cores(Option<u16>),
    Hosts(Vec<HostPort>),
    Dsn(Option<Box<Dsn>>),
    NatsUrls(NatsUrls),
    Listen(SocketAddr),
}

/// The most shards: their ids have 16 bits, and no machine of today has more CPUs than this.
const CORES_MAX: u16 = 1024;
const GO_SPAN_MAX: Duration = Duration::from_secs(3600);

impl Kind {
    /// Whether a YAML list may be written.
    pub(super) fn takes_list(self) -> bool {
        matches!(self, Self::HostPorts(_) | Self::NatsUrls | Self::Directives | Self::Noted)
    }

    /// Reads what was written; None when that means the default. An empty text does so for every kind.
    pub(super) fn read(self, text: &str) -> Result<Option<Value>, String> {
        let bare = text.trim();
        if text.is_empty() || (bare.is_empty() && !matches!(self, Self::Secret)) {
            return Ok(None);
        }
        let value = match self {
            Self::Noted => return Ok(None),
            Self::Text => Value::Text(without_controls(text)?),
            Self::Secret => Value::Text(text.to_owned()),
            Self::Word => Value::Text(word(bare)?),
            Self::Subject => Value::Text(subject(bare)?),
            Self::Name => Value::Text(jetstream_name(bare)?),
            Self::Host => Value::Text(HostPort::check_host(bare)?),
            Self::Bool => Value::Bool(yes_or_no(bare)?),
            Self::Level => Value::Text(level(bare)?),
            Self::Choice(allowed) => Value::Text(choice(bare, allowed)?),
            Self::Count(min, max) => Value::Count(count(bare, min, max)?),
            Self::Port => Value::Count(count(bare, 1, 65_535)?),
            Self::Span(min, max) => Value::Span(within(span(bare)?, min, max)?),
            Self::GoSpan => match span(bare)? {
                Duration::ZERO => return Ok(None),
                time if time > GO_SPAN_MAX => return Err(format!("{bare} is over an hour")),
                time if time < Duration::from_millis(1) => return Err(format!("{bare} is under a millisecond")),
                time => Value::Span(time),
            },
            Self::Seconds => Value::Span(seconds(bare)?),
            Self::Lifetime => Value::Span(lifetime(bare)?),
            Self::Directives => Value::Text(Directives::read(bare)?.text()),
            Self::Cores => Value::Cores(cores(bare)?),
            Self::HostPort(port) => Value::Hosts(vec![HostPort::parse(bare, port)?]),
            Self::HostPorts(port) => Value::Hosts(host_ports(bare, port)?),
            Self::Dsn => Value::Dsn(Some(Box::new(Dsn::parse(bare)?))),
            Self::NatsUrls => Value::NatsUrls(NatsUrls::parse(bare)?),
            Self::Listen => Value::Listen(listen(bare)?),
        };
        Ok(Some(value))
    }

    /// The value when nothing is written and the table has no default.
    pub(super) fn nothing(self) -> Value {
        match self {
            Self::Dsn => Value::Dsn(None),
            _ => Value::Text(String::new()),
        }
    }
}

fn without_controls(text: &str) -> Result<String, String> {
    if text.chars().any(char::is_control) { Err("has control characters".into()) } else { Ok(text.to_owned()) }
}

fn word(text: &str) -> Result<String, String> {
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("{} has blanks; write one word", redact::value(text)));
    }
    Ok(text.to_owned())
}

fn subject(text: &str) -> Result<String, String> {
    let text = word(text)?;
    if text.contains(['*', '>']) {
        return Err(format!("{} has a wildcard; write the whole subject", redact::value(&text)));
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
        return Err(format!("{} is no name for JetStream; leave out . * > / \\", redact::value(&text)));
    }
    Ok(text)
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(format!("{} is neither true nor false", redact::value(text))),
    }
}

fn level(text: &str) -> Result<String, String> {
    let allowed = &["trace", "debug", "info", "warn", "error"];
    match text.to_ascii_lowercase().as_str() {
        "warning" => Ok("warn".into()),
        "fatal" | "panic" | "dpanic" => Ok("error".into()),
        _ => choice(text, allowed),
    }
}

fn choice(text: &str, allowed: &[&str]) -> Result<String, String> {
    match allowed.iter().find(|word| word.eq_ignore_ascii_case(text)) {
        Some(word) => Ok((*word).to_owned()),
        None => Err(format!("{} is not one of {}", redact::value(text), allowed.join(", "))),
    }
}

fn count(text: &str, min: u64, max: u64) -> Result<u64, String> {
    match text.parse::<i128>() {
        Ok(number) if (i128::from(min)..=i128::from(max)).contains(&number) => Ok(number as u64),
        Ok(number) => Err(format!("{number} is not from {min} to {max}")),
        Err(_) => Err(format!("{} is no whole number; write one from {min} to {max}", redact::value(text))),
    }
}

/// A time as Go or people write it: `30s`, `1h30m`, `500ms`, `1.5h`; a bare 0 is one as well.
fn span(text: &str) -> Result<Duration, String> {
    if text.parse::<f64>().is_ok_and(|number| number == 0.0) {
        return Ok(Duration::ZERO);
    }
    if text.parse::<f64>().is_ok() && !text.starts_with('-') {
        return Err(format!("{text} has no unit; write {text}s for seconds or {text}ms for milliseconds"));
    }
    if text.starts_with('-') {
        return Err(format!(
            "{} is below zero; each wait has an end here, write a time such as 3s",
            redact::value(text).trim_matches('"')
        ));
    }
    humantime::parse_duration(text)
        .map_err(|_| format!("{} is no time; write one such as 30s, 1h or 500ms", redact::value(text)))
}

fn within(time: Duration, min: u64, max: u64) -> Result<Duration, String> {
    let (min, max) = (Duration::from_millis(min), Duration::from_millis(max));
    if (min..=max).contains(&time) {
        return Ok(time);
    }
    Err(format!("{} is not from {} to {}", show_span(time), show_span(min), show_span(max)))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let time = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => span(text)?,
    };
    within(time, 0, 3_600_000)
}

fn lifetime(text: &str) -> Result<Duration, String> {
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

fn cores(text: &str) -> Result<Option<u16>, String> {
    if text.eq_ignore_ascii_case("all") {
        return Ok(None);
    }
    let number = count(text, 1, u64::from(CORES_MAX)).map_err(|what| format!("{what}, or `all`"))?;
    Ok(Some(number as u16))
}

fn host_ports(text: &str, port: u16) -> Result<Vec<HostPort>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let hosts = parts.map(|part| HostPort::parse(part, port)).collect::<Result<Vec<_>, _>>()?;
    if hosts.is_empty() { Err("names no host".into()) } else { Ok(hosts) }
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    let whole = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None if text.starts_with(':') => format!("0.0.0.0{text}"),
        None => text.to_owned(),
    };
    let shown = redact::value(text);
    whole.parse().map_err(|_| format!("{shown} is no address:port; write one such as 127.0.0.1:9100"))
}
