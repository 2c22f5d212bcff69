//! What may be written for a key: from text to a checked value, or words that say what is allowed.
//!
//! Promises that no message repeats a secret: not a password, not a token, not a DSN, not a URL's user part; nor what a wrong
//! indentation made part of the value of another key.

use std::net::SocketAddr;

use super::addresses::{Dsn, HostPort, NatsUrls};
use super::log_filter::Directives;
use super::plain;
use super::priority;
use super::value::Value;
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
    /// The path of a file that holds the value of the key without `_file` in its name.
    SecretFile,
    /// Text without blanks.
    Word,
    /// Text without blanks; a `/` at its end is taken off.
    Prefix,
    /// A NATS subject without wildcards.
    Subject,
    /// A name JetStream takes for streams and consumers.
    Name,
    /// A host name or an address, without a port.
    Host,
    /// true or false.
    Bool,
    /// A log level: one of these words, or another logger's word for one.
    Level(&'static [&'static str]),
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
    /// Several of them, `https://` before one allowed.
    EtcdUrls(u16),
    /// A DSN of the Go driver for MySQL.
    Dsn,
    /// NATS URLs.
    NatsUrls,
    /// An address to listen on.
    Listen,
    /// An address of HTTP.
    HttpUrl,
    /// The name of a message header.
    Header,
    /// A class of events by type.
    TypeClasses,
    /// A class of events by the size of their session.
    SizeClasses,
}

/// The most shards: their ids have 16 bits, and no machine of today has more CPUs than this.
pub(super) const CORES_MAX: u16 = 1024;

impl Kind {
    /// What may be written, in words: type, unit and bounds.
    pub(super) fn allowed(self) -> String {
        let time = "a time with its unit";
        match self {
            Self::Noted => "anything".to_owned(),
            Self::Text => "text".to_owned(),
            Self::Secret => "text that is never shown".to_owned(),
            Self::SecretFile => "the path of a file".to_owned(),
            Self::Word | Self::Prefix => "text without blanks".to_owned(),
            Self::Subject => "a subject without wildcards".to_owned(),
            Self::Name => "a name without `. * > / \\`".to_owned(),
            Self::Host => "a host name or an address".to_owned(),
            Self::Bool => "`true` or `false`".to_owned(),
            Self::Level(words) | Self::Choice(words) => format!("`{}`", words.join("`, `")),
            Self::Count(min, max) => format!("a whole number from {min} to {max}"),
            Self::Port => "a whole number from 1 to 65535".to_owned(),
            Self::Span(min, max) => format!("{time}, from {} to {}", plain::show_millis(min), plain::show_millis(max)),
            Self::GoSpan => format!("{time}, from 1ms to 1h; 0 means the default"),
            Self::Seconds => format!("{time}, or whole seconds as a bare number; up to 1h"),
            Self::Lifetime => format!("{time}, from 1s to 30days; 0s means without limit"),
            Self::Directives => "`target=level` or `level`, as a list or separated by commas".to_owned(),
            Self::Cores => format!("`all`, or a whole number from 1 to {CORES_MAX}"),
            Self::HostPort(port) => format!("`host:port`; without a port, {port}"),
            Self::EtcdUrls(port) => {
                format!("`host:port` or `https://host:port`, as a list or separated by commas; without a port, {port}")
            }
            Self::Dsn => "`user:password@tcp(host:port)/database?params`".to_owned(),
            Self::NatsUrls => {
                "`nats://[user:password@]host:port` or `tls://...`, as a list or separated by commas".to_owned()
            }
            Self::Listen => "`address:port`; port 0 is a free one".to_owned(),
            Self::HttpUrl => "`http://host:port` or `https://host:port`, with or without a path".to_owned(),
            Self::Header => {
                "the name of a header, not one of NATS (`Nats-*`) or of the engine (`Task-Engine-*`)".to_owned()
            }
            Self::TypeClasses => {
                "`type: class` below the key, or `type=class`, as a list or separated by commas".to_owned()
            }
            Self::SizeClasses => {
                "`members: class` below the key, or `members=class`, as a list or separated by commas".to_owned()
            }
        }
    }

    /// Whether a YAML list may be written.
    pub(super) fn takes_list(self) -> bool {
        matches!(self, Self::EtcdUrls(_) | Self::NatsUrls | Self::Directives | Self::Noted) || self.takes_rules()
    }

    /// Whether rules may stand below the key, a class each.
    pub(super) fn takes_rules(self) -> bool {
        matches!(self, Self::TypeClasses | Self::SizeClasses)
    }

    /// Reads what was written; None when that means the default. An empty text does so for every kind.
    pub(super) fn read(self, text: &str) -> Result<Option<Value>, String> {
        let bare = text.trim();
        if text.is_empty() || (bare.is_empty() && !matches!(self, Self::Secret)) {
            return Ok(None);
        }
        let value = match self {
            Self::Noted => return Ok(None),
            Self::Text => Value::Text(plain::without_controls(text)?),
            Self::Secret => Value::Text(text.to_owned()),
            Self::SecretFile => Value::Text(plain::without_controls(bare)?),
            Self::Word => Value::Text(plain::word(bare)?),
            Self::Prefix => Value::Text(plain::word(bare)?.trim_end_matches('/').to_owned()),
            Self::Subject => Value::Text(plain::subject(bare)?),
            Self::Name => Value::Text(plain::jetstream_name(bare)?),
            Self::Host => Value::Text(HostPort::check_host(bare)?),
            Self::Bool => Value::Bool(plain::yes_or_no(bare)?),
            Self::Level(allowed) => Value::Text(level(bare, allowed)?),
            Self::Choice(allowed) => Value::Text(choice(bare, allowed)?),
            Self::Count(min, max) => Value::Count(plain::count(bare, min, max)?),
            Self::Port => Value::Count(plain::count(bare, 1, 65_535)?),
            Self::Span(min, max) => Value::Span(plain::within(plain::span(bare)?, min, max)?),
            Self::GoSpan => return Ok(plain::go_span(bare)?.map(Value::Span)),
            Self::Seconds => Value::Span(plain::seconds(bare)?),
            Self::Lifetime => Value::Span(plain::lifetime(bare)?),
            Self::Directives => Value::Text(Directives::read(bare)?.text()),
            Self::Cores => Value::Cores(cores(bare)?),
            Self::HostPort(port) => Value::Hosts(vec![HostPort::parse(bare, port)?]),
            Self::EtcdUrls(port) => etcd_urls(bare, port)?,
            Self::Dsn => Value::Dsn(Box::new(Dsn::parse(bare)?)),
            Self::NatsUrls => Value::NatsUrls(NatsUrls::parse(bare)?),
            Self::Listen => Value::Listen(listen(bare)?),
            Self::HttpUrl => Value::Text(plain::http_url(bare)?),
            Self::Header => Value::Text(priority::header(bare)?),
            Self::TypeClasses => Value::TypeClasses(priority::by_type(bare)?),
            Self::SizeClasses => Value::SizeClasses(priority::by_members(bare)?),
        };
        Ok(Some(value))
    }
}

fn level(text: &str, allowed: &[&str]) -> Result<String, String> {
    match text.to_ascii_lowercase().as_str() {
        "warning" => Ok("warn".into()),
        "fatal" | "panic" | "dpanic" => Ok("error".into()),
        _ => choice(text, allowed),
    }
}

fn choice(text: &str, allowed: &[&str]) -> Result<String, String> {
    // A switch of words is written as any other switch, too.
    let is_switch = ["on", "off"].iter().all(|word| allowed.contains(word));
    let as_switch = plain::yes_or_no(text).ok().filter(|_| is_switch).map(|is_on| if is_on { "on" } else { "off" });
    let text = as_switch.unwrap_or(text);
    match allowed.iter().find(|word| word.eq_ignore_ascii_case(text)) {
        Some(word) => Ok((*word).to_owned()),
        None => Err(format!("{} is not one of {}", redact::value(text), allowed.join(", "))),
    }
}

fn cores(text: &str) -> Result<Option<u16>, String> {
    if text.eq_ignore_ascii_case("all") {
        return Ok(None);
    }
    let number = plain::count(text, 1, u64::from(CORES_MAX)).map_err(|what| format!("{what}, or `all`"))?;
    Ok(Some(number as u16))
}

/// With `https://` before one, TLS is asked for of all: whoever wants one server to prove itself must not be led to another that does not.
fn etcd_urls(text: &str, port: u16) -> Result<Value, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let (mut hosts, mut https) = (Vec::new(), false);
    for part in parts {
        let secure = part.strip_prefix("https://");
        https |= secure.is_some();
        hosts.push(HostPort::parse(secure.unwrap_or(part), port)?);
    }
    if hosts.is_empty() {
        Err("does not name a host; write host:port".into())
    } else {
        Ok(Value::EtcdUrls(hosts, https))
    }
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    let whole = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None if text.starts_with(':') => format!("0.0.0.0{text}"),
        None => text.to_owned(),
    };
    let shown = redact::value(text);
    whole.parse().map_err(|_| format!("{shown} is not address:port; write one such as 127.0.0.1:9100"))
}
