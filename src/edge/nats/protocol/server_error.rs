//! What a server complains of, by the words of nats-server 2.9 to 2.15 (server/client.go, errors.go).

use std::fmt;

use super::cut;

/// Bytes of the words that are kept.
const WORDS_BYTES_MAX: usize = 512;

/// What a server complains of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// We may not publish there.
    MayNotPublish {
        /// Where.
        subject: String,
    },
    /// We may not have answers sent there.
    MayNotReplyTo {
        /// Where.
        subject: String,
    },
    /// We may not subscribe there, or no more.
    MayNotSubscribe {
        /// To what.
        subject: String,
        /// In which queue.
        queue: Option<String>,
    },
    /// The login is refused.
    AuthorizationViolation,
    /// The login did not come in time.
    AuthenticationTimeout,
    /// The login is good no more.
    AuthenticationExpired,
    /// The login was revoked.
    Revoked,
    /// The account is good no more.
    AccountExpired,
    /// The account cannot be used.
    AccountFailed,
    /// We read too slowly.
    SlowConsumer,
    /// A message that we published is too long.
    MaxPayload,
    /// A line that we wrote is too long.
    MaxControlLine,
    /// The server has as many connections as it may have.
    MaxConnections,
    /// The account has as many connections as it may have.
    MaxAccountConnections,
    /// The server takes new connections slowly: later.
    Throttled,
    /// The connection has as many subscriptions as it may have.
    MaxSubscriptions,
    /// We did not answer its PING.
    StaleConnection,
    /// A subject that we wrote is not one.
    InvalidSubject,
    /// The server wants TLS.
    TlsRequired,
    /// It is a port for other servers.
    WrongPort,
    /// What we wrote is not what the server speaks.
    UnknownProtocol,
    /// Something else.
    Other,
}

/// What a server said with -ERR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// What it is about.
    pub kind: ErrorKind,
    /// The server's words, printable and bounded. A server may repeat a secret in them.
    pub words: String,
}

/// Words that say all, in lower case.
const WORDS: [(&str, ErrorKind); 25] = [
    ("authorization violation", ErrorKind::AuthorizationViolation),
    ("authentication timeout", ErrorKind::AuthenticationTimeout),
    ("user authentication expired", ErrorKind::AuthenticationExpired),
    ("authentication expired", ErrorKind::AuthenticationExpired),
    ("user authentication revoked", ErrorKind::Revoked),
    ("credentials have been revoked", ErrorKind::Revoked),
    ("account authentication expired", ErrorKind::AccountExpired),
    ("account expired", ErrorKind::AccountExpired),
    ("failed account registration", ErrorKind::AccountFailed),
    ("slow consumer", ErrorKind::SlowConsumer),
    ("maximum payload violation", ErrorKind::MaxPayload),
    ("maximum payload exceeded", ErrorKind::MaxPayload),
    ("maximum control line exceeded", ErrorKind::MaxControlLine),
    ("maximum connections exceeded", ErrorKind::MaxConnections),
    ("maximum account active connections exceeded", ErrorKind::MaxAccountConnections),
    ("connection throttling is active", ErrorKind::Throttled),
    ("maximum subscriptions exceeded", ErrorKind::MaxSubscriptions),
    ("stale connection", ErrorKind::StaleConnection),
    ("invalid subject", ErrorKind::InvalidSubject),
    ("invalid publish subject", ErrorKind::InvalidSubject),
    ("secure connection - tls required", ErrorKind::TlsRequired),
    ("attempted to connect to ", ErrorKind::WrongPort),
    ("unknown protocol operation", ErrorKind::UnknownProtocol),
    ("parser error", ErrorKind::UnknownProtocol),
    ("invalid client protocol", ErrorKind::UnknownProtocol),
];

impl ServerError {
    /// Reads what follows -ERR.
    pub fn parse(text: &[u8]) -> Self {
        let text = text.trim_ascii();
        let text = text.strip_prefix(b"'").unwrap_or(text);
        let text = String::from_utf8_lossy(text.strip_suffix(b"'").unwrap_or(text));
        let kind = violation(&text).unwrap_or_else(|| {
            let is_it = |words: &str| text.get(..words.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(words));
            WORDS.iter().find(|(words, _)| is_it(words)).map_or(ErrorKind::Other, |(_, kind)| kind.clone())
        });
        let shown = text.chars().map(|char| if char.is_control() { '?' } else { char }).collect::<String>();
        Self { kind, words: cut(&shown, WORDS_BYTES_MAX).to_owned() }
    }

    /// Whether the server closes the connection after it. Of words that are not known that is assumed.
    pub fn is_final(&self) -> bool {
        use ErrorKind as Kind;
        !matches!(
            self.kind,
            Kind::MayNotPublish { .. }
                | Kind::MayNotReplyTo { .. }
                | Kind::MayNotSubscribe { .. }
                | Kind::InvalidSubject
                | Kind::MaxSubscriptions
        )
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// `Permissions Violation for Publish to "subject"` and its likes.
fn violation(text: &str) -> Option<ErrorKind> {
    const BEGIN: &str = "permissions violation";
    text.get(..BEGIN.len()).filter(|begin| begin.eq_ignore_ascii_case(BEGIN))?;
    let rest = &text[BEGIN.len()..];
    let (subject, after) = quoted(rest).unwrap_or_default();
    let what = rest.split('"').next().unwrap_or_default().to_ascii_lowercase();
    Some(if what.contains("subscription") {
        let queue = after.trim_start().starts_with("using queue").then(|| quoted(after)).flatten();
        ErrorKind::MayNotSubscribe { subject, queue: queue.map(|(queue, _)| queue) }
    } else if what.contains("reply") {
        ErrorKind::MayNotReplyTo { subject }
    } else {
        ErrorKind::MayNotPublish { subject }
    })
}

/// The first quoted text, and what follows it. Quotes and backslashes in it have a backslash before them.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (_, inner) = text.split_once('"')?;
    let (mut found, mut is_escaped) = (String::new(), false);
    for (at, char) in inner.char_indices() {
        match char {
            '"' if !is_escaped => return Some((found, &inner[at + 1..])),
            '\\' if !is_escaped => is_escaped = true,
            // What is unprintable stays as the server spells it.
            char => {
                if is_escaped && !matches!(char, '"' | '\\') {
                    found.push('\\');
                }
                found.push(char);
                is_escaped = false;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(words: &str) -> ErrorKind {
        let error = ServerError::parse(format!("'{words}'").as_bytes());
        assert_eq!(error.to_string(), words);
        error.kind
    }

    #[test]
    fn what_servers_say_is_told_apart() {
        use ErrorKind as Kind;
        for (words, want, is_final) in [
            ("Authorization Violation", Kind::AuthorizationViolation, true),
            ("Authentication Timeout", Kind::AuthenticationTimeout, true),
            ("User Authentication Expired", Kind::AuthenticationExpired, true),
            ("User Authentication Revoked", Kind::Revoked, true),
            ("Account Authentication Expired", Kind::AccountExpired, true),
            ("Failed Account Registration", Kind::AccountFailed, true),
            ("Slow Consumer", Kind::SlowConsumer, true),
            ("Maximum Payload Violation", Kind::MaxPayload, true),
            ("maximum control line exceeded", Kind::MaxControlLine, true),
            ("maximum connections exceeded", Kind::MaxConnections, true),
            ("maximum account active connections exceeded", Kind::MaxAccountConnections, true),
            ("Connection throttling is active. Please try again later.", Kind::Throttled, true),
            ("maximum subscriptions exceeded", Kind::MaxSubscriptions, false),
            ("Stale Connection", Kind::StaleConnection, true),
            ("Invalid Subject", Kind::InvalidSubject, false),
            ("Invalid Publish Subject", Kind::InvalidSubject, false),
            ("Secure Connection - TLS Required", Kind::TlsRequired, true),
            ("attempted to connect to route port", Kind::WrongPort, true),
            ("Unknown Protocol Operation", Kind::UnknownProtocol, true),
            ("Parser Error", Kind::UnknownProtocol, true),
            ("invalid client protocol", Kind::UnknownProtocol, true),
            ("no responders requires headers support", Kind::Other, true),
        ] {
            assert_eq!(kind(words), want);
            assert_eq!(ServerError::parse(words.to_uppercase().as_bytes()).kind, want);
            assert_eq!(ServerError::parse(words.as_bytes()).is_final(), is_final, "{words}");
        }
    }

    #[test]
    fn a_violation_names_its_subject() {
        let subscribe = |subject: &str, queue: Option<&str>| ErrorKind::MayNotSubscribe {
            subject: subject.to_owned(),
            queue: queue.map(str::to_owned),
        };
        let to = |subject: &str| subject.to_owned();
        for (words, want) in [
            (r#"Permissions Violation for Publish to "a.b""#, ErrorKind::MayNotPublish { subject: to("a.b") }),
            (r#"Permissions Violation for Publish with Reply of "r""#, ErrorKind::MayNotReplyTo { subject: to("r") }),
            (r#"Permissions Violation for Subscription to "a.>""#, subscribe("a.>", None)),
            (r#"Permissions Violation for Subscription to "a" using queue "q""#, subscribe("a", Some("q"))),
            (r#"Permissions Violation for Subscription to "a" using queue "q" (sid "7")"#, subscribe("a", Some("q"))),
            (r#"Permissions Violation for Subscription to "a" (sid "7")"#, subscribe("a", None)),
            (r#"Permissions Violation for Subscription to "a.b", too many tokens"#, subscribe("a.b", None)),
            (
                r#"Permissions Violation for Publish to "a\"\\\x01""#,
                ErrorKind::MayNotPublish { subject: to("a\"\\\\x01") },
            ),
            (r#"Permissions Violation for Publish to "a"#, ErrorKind::MayNotPublish { subject: to("") }),
            ("Permissions Violation", ErrorKind::MayNotPublish { subject: to("") }),
            (
                r#"Permissions Violation for Publish to "Subscription""#,
                ErrorKind::MayNotPublish { subject: to("Subscription") },
            ),
        ] {
            assert_eq!(kind(words), want, "{words}");
            assert!(!ServerError::parse(words.as_bytes()).is_final());
        }
    }

    #[test]
    fn words_are_printable_and_bounded() {
        for (text, words) in [
            (&b""[..], ""),
            (b"'", ""),
            (b"''", ""),
            (b" 'a' ", "a"),
            (b"it's", "it's"),
            (b"'a\x1b[31m\xff'", "a?[31m\u{fffd}"),
        ] {
            let error = ServerError::parse(text);
            assert_eq!((error.words.as_str(), error.kind), (words, ErrorKind::Other));
        }
        let long = "\u{e9}".repeat(20_000);
        assert_eq!(ServerError::parse(long.as_bytes()).words, long[..512]);
    }
}
