//! Turns what Redis sends into facts for the shard: answers to asks, and pushes that say which routes changed.
//!
//! Promises to hand on both in the order in which they came on the wire, which is what makes a cached route safe: a
//! change said after an answer is later than it; and that an error in the place of a value, which a proxy puts there for
//! each key whose server is away, concerns that key only. Refuses a reply that does not fit its request; the connection is
//! then of no more use.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::model::names::{Route, RouteList};
use crate::ports::{Health, LookupError, RouteQueue};
use crate::push::facts::AskNo;
use crate::telemetry::log_limiter::LogLimiter;

use super::resp::{Reader, Token};
use super::route_json::push_route;
use super::{Config, Lost, PROBE_KEYS, ROUTE_KEY_PREFIX, warn};

/// A server that answered so many MGETs in a row with errors is not there; one alone may be that ask's fault.
const REFUSALS_MAX: u32 = 2;
/// One that has answered an MGET which was sent so shortly before is there, whatever it refuses.
const LATELY: Duration = Duration::from_secs(1);
/// A server that refused all asks, but says of probes only that their keys are not for us, is tried again after so long.
const TRIED_AGAIN: Duration = Duration::from_secs(30);
/// What a server says to whoever it will not talk to: the first at any time, all before it has answered a lookup.
const HANDSHAKE_CODES: [&str; 3] = ["NOAUTH", "WRONGPASS", "DENIED"];

/// What a reply that is still to come belongs to.
#[derive(Debug)]
pub(super) enum Expected {
    /// The MGET of an ask for so many users; the first of them, where one is looked for that probes can ask for.
    Routes { ask: AskNo, users: u64, first: Option<Box<str>> },
    /// The MGET of an ask for nobody, which reads so many keys that most likely nobody has: is the server there?
    Probe { ask: AskNo, keys: u64 },
    /// The same MGET of our own: before asks are taken, and on a quiet connection.
    OwnProbe { keys: u64 },
    /// A command of ours of which only success or the error matters.
    Plain,
}

impl Expected {
    /// How many values its array has.
    fn values(&self) -> Option<u64> {
        match self {
            Self::Routes { users: values, .. } | Self::Probe { keys: values, .. } | Self::OwnProbe { keys: values } => {
                Some(*values)
            }
            Self::Plain => None,
        }
    }
}

/// What a probe asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Several keys of the form that users' keys have.
    Keys,
    /// The prefix alone.
    Prefix,
    /// A user whose route was read.
    Witness,
}

/// The requests on the wire, oldest first, and how far into the current reply we are.
#[derive(Debug)]
pub(super) struct Replies {
    expected: VecDeque<(Instant, Expected)>,
    at: At,
    plain: Option<Result<bool, String>>,
    own_probe: Option<Result<(), String>>,
    /// Which way the next probe asks.
    way: Way,
    /// Probes in a row that were refused.
    probes_refused: u32,
    /// A user whose route was read: where Redis lets us read no other keys but some users', a probe can ask for it.
    witness: Option<Box<str>>,
    /// MGETs answered with nothing but errors since the latest that was not.
    refused: u32,
    /// When the reply had to come to the latest MGET that was answered.
    answered: Option<Instant>,
    /// The server was said to be away, and since when it is.
    is_away: bool,
    away_since: Instant,
    said: LogLimiter,
    /// It was also warned of that.
    is_warned: bool,
}

#[derive(Debug)]
enum At {
    /// Between replies.
    Head,
    /// Inside an MGET's array; it is still expected.
    Values { left: u64, routes: RouteList },
    /// At the name of a push with so many elements.
    PushName { elements: u64 },
    /// At what became invalid.
    Invalid,
    /// Inside the list of keys that became invalid.
    Keys { left: u64 },
    /// Inside something that nobody reads.
    Ignore { left: u64 },
}

impl Replies {
    pub(super) fn new() -> Self {
        Self {
            expected: VecDeque::new(),
            at: At::Head,
            plain: None,
            own_probe: None,
            way: Way::Keys,
            probes_refused: 0,
            witness: None,
            refused: 0,
            answered: None,
            is_away: false,
            away_since: Instant::now(),
            said: LogLimiter::new(),
            is_warned: false,
        }
    }

    /// A request was written whose reply must have come at `due`.
    pub(super) fn expect(&mut self, due: Instant, what: Expected) {
        self.expected.push_back((due, what));
    }

    /// How many replies are still to come.
    pub(super) fn outstanding(&self) -> usize {
        self.expected.len()
    }

    /// When the oldest request must have its whole reply.
    pub(super) fn due(&self) -> Option<Instant> {
        self.expected.front().map(|(due, _)| *due)
    }

    /// The reply to the last plain command, once it came: whether it was a map, or the server's words against it.
    pub(super) fn take_plain(&mut self) -> Option<Result<bool, String>> {
        self.plain.take()
    }

    /// The reply to the last probe of our own, once it came: success, or what an operator is told.
    pub(super) fn take_own_probe(&mut self) -> Option<Result<(), String>> {
        self.own_probe.take()
    }

    /// The way a probe asks now.
    pub(super) fn way(&self) -> Way {
        self.way
    }

    /// A probe, and how many keys it reads.
    pub(super) fn probe(&self, config: &Config) -> (redis::Cmd, u64) {
        match (self.way, &self.witness) {
            (Way::Witness, Some(user)) => (config.probe_of(user), 1),
            (Way::Prefix, _) => (config.probe(1), 1),
            _ => (config.probe(PROBE_KEYS), PROBE_KEYS),
        }
    }

    /// Whether the first user of an ask is to be told with it.
    pub(super) fn wants_witness(&self) -> bool {
        self.probes_refused > 0 && self.witness.is_none()
    }

    /// It may be the number of keys that is refused, or all but the prefix, or the prefix: the next probe asks another way.
    fn probe_was_refused(&mut self) {
        self.probes_refused = self.probes_refused.saturating_add(1);
        self.way = match self.way {
            Way::Keys => Way::Prefix,
            Way::Prefix if self.witness.is_some() => Way::Witness,
            Way::Prefix | Way::Witness => Way::Keys,
        };
    }

    /// The asks that will get no reply any more.
    pub(super) fn unanswered(self) -> impl Iterator<Item = AskNo> {
        self.expected.into_iter().filter_map(|(_, what)| match what {
            Expected::Routes { ask, .. } | Expected::Probe { ask, .. } => Some(ask),
            Expected::OwnProbe { .. } | Expected::Plain => None,
        })
    }

    /// Takes all whole tokens out of the reader.
    pub(super) fn drain(&mut self, reader: &mut Reader, config: &Config, port: &RouteQueue) -> Result<(), Lost> {
        while let Some(token) = reader.next().map_err(|_| config.nonsense())? {
            self.take(token, config, port)?;
        }
        Ok(())
    }

    fn take(&mut self, token: Token<'_>, config: &Config, port: &RouteQueue) -> Result<(), Lost> {
        match &mut self.at {
            At::Head => return self.head(token, config, port),
            At::Values { left, routes } => {
                match token {
                    Token::Bulk(value) => push_route(routes, value),
                    Token::Null => routes.push(Route::Offline),
                    Token::TooLong => routes.push(Route::Bad),
                    Token::Error(_) if routes.refusal().is_some() => routes.push(Route::Unread),
                    Token::Error(text) => routes.push_unread(&refusal(&line(text), config)),
                    _ => return Err(config.nonsense()),
                }
                *left -= 1;
                if *left == 0 {
                    self.values_are_here(config, port);
                }
            }
            At::PushName { elements } => {
                let is_invalidate = token == Token::Bulk(b"invalidate") && *elements == 2;
                self.at = if is_invalidate { At::Invalid } else { At::ignore(*elements - 1).more(&token) };
            }
            At::Invalid => match token {
                Token::Null => {
                    port.unknown();
                    self.at = At::Head;
                }
                Token::Array(0) => self.at = At::Head,
                Token::Array(keys) => self.at = At::Keys { left: keys },
                _ => return Err(config.nonsense()),
            },
            At::Keys { left } => {
                if let Token::Bulk(key) = token {
                    // A name that is no UTF-8 is nobody's of ours: members come from a utf8mb4 column.
                    let name = key.strip_prefix(ROUTE_KEY_PREFIX.as_bytes()).and_then(|name| str::from_utf8(name).ok());
                    // Until this connection has brought a route there is none that a change could end. A server that reads its
                    // append-only file tells each of its writes anew: those are no changes.
                    if let (Some(name), true) = (name, self.answered.is_some()) {
                        port.changed(name);
                    }
                }
                *left -= 1;
                if *left == 0 {
                    self.at = At::Head;
                }
            }
            At::Ignore { left } => self.at = At::ignore(*left - 1).more(&token),
        }
        Ok(())
    }

    fn head(&mut self, token: Token<'_>, config: &Config, port: &RouteQueue) -> Result<(), Lost> {
        if let Token::Push(elements) = token {
            self.at = if elements == 0 { At::Head } else { At::PushName { elements } };
            return Ok(());
        }
        let Some((due, what)) = self.expected.pop_front() else {
            // Said before any request: too many clients, protected mode.
            return Err(match token {
                Token::Error(text) => config.refused(&line(text)),
                _ => config.nonsense(),
            });
        };
        match (what, token) {
            (Expected::Plain, Token::Error(text)) => self.plain = Some(Err(line(text))),
            (Expected::Plain, token) => {
                self.plain = Some(Ok(matches!(token, Token::Map(_))));
                self.at = At::ignore(0).more(&token);
            }
            (what, Token::Array(values)) if what.values() == Some(values) => {
                self.at = At::Values { left: values, routes: RouteList::new() };
                // Still unanswered until its last value is here.
                self.expected.push_front((due, what));
            }
            (what, Token::Error(text)) => {
                let text = line(text);
                // The password was changed under us: the handshake of a new connection says it best. Not when it is said
                // in the place of one value: then a proxy's connection to one server lacks it.
                let codes = if matches!(what, Expected::OwnProbe { .. }) {
                    &HANDSHAKE_CODES[..]
                } else {
                    &HANDSHAKE_CODES[..1]
                };
                if !matches!(what, Expected::Routes { .. }) {
                    self.probe_was_refused();
                }
                match what {
                    Expected::OwnProbe { .. } if is_about_keys(&text) => {
                        self.keys_are_hidden(&refusal(&text, config), port)
                    }
                    what => self.refuse(due, what, refusal(&text, config), port),
                }
                if codes.iter().any(|code| text.starts_with(code)) {
                    return Err(config.refused(&text));
                }
            }
            (what, _) => {
                self.expected.push_front((due, what));
                return Err(config.nonsense());
            }
        }
        Ok(())
    }

    /// The last value of an MGET came. One that has an answer for any key is an answer; what it lacks is the core's to
    /// ask again.
    fn values_are_here(&mut self, config: &Config, port: &RouteQueue) {
        let At::Values { routes, .. } = std::mem::replace(&mut self.at, At::Head) else { return };
        let Some((due, what)) = self.expected.pop_front() else { return };
        let why = routes.refusal().filter(|_| routes.iter().all(|route| route == Route::Unread)).map(str::to_owned);
        match (what, why) {
            (what, Some(why)) => return self.refuse(due, what, why, port),
            (Expected::Routes { ask, first, .. }, None) => {
                if first.is_some() && routes.iter().next() != Some(Route::Unread) {
                    (self.witness, self.way) = (first, Way::Witness);
                }
                port.answer(ask, Ok(routes));
            }
            (Expected::Probe { ask, .. }, None) => {
                self.probes_refused = 0;
                port.answer(ask, Ok(RouteList::new()));
            }
            (Expected::OwnProbe { .. } | Expected::Plain, None) => {
                (self.probes_refused, self.own_probe) = (0, Some(Ok(())));
            }
        }
        self.refused = 0;
        self.answered = Some(due);
        if std::mem::take(&mut self.is_away) {
            port.report(Health::Ready);
            if std::mem::take(&mut self.is_warned) {
                tracing::info!(shard = %port.shard(), "redis {}: answers route lookups again", config.server.at);
            }
        }
    }

    /// The server may be asked, but not for the keys of a probe: that says nothing of the users'. Asks decide; where all of those
    /// were refused nobody asks any more after a while, so after [`TRIED_AGAIN`] they may again.
    fn keys_are_hidden(&mut self, why: &str, port: &RouteQueue) {
        self.own_probe = Some(Ok(()));
        if self.probes_refused > 1 {
            warn(&self.said, port, &format!("{why}; the lookups of users decide whether it is there"));
        }
        if self.is_away && self.away_since.elapsed() >= TRIED_AGAIN {
            (self.is_away, self.refused) = (false, 0);
            port.report(Health::Ready);
        }
    }

    /// The server answered with an error, or with one in the place of each value: the core decides by other asks whose
    /// fault that is, and while all are refused the server is not there.
    fn refuse(&mut self, due: Instant, what: Expected, why: String, port: &RouteQueue) {
        match what {
            Expected::Routes { ask, .. } | Expected::Probe { ask, .. } => {
                self.refused = self.refused.saturating_add(1);
                let is_there = self.answered.is_some_and(|answered| due < answered + LATELY);
                if self.refused >= REFUSALS_MAX && !is_there {
                    if !self.is_away {
                        self.away_since = Instant::now();
                    }
                    warn(&self.said, port, &why);
                    (self.is_away, self.is_warned) = (true, true);
                    port.report(Health::Waiting(why.clone()));
                }
                port.answer(ask, Err(LookupError::Rejected(why)));
            }
            // The only lookup: the server is not there until one is answered.
            Expected::OwnProbe { .. } | Expected::Plain => {
                self.is_away = true;
                self.own_probe = Some(Err(why));
            }
        }
    }
}

impl At {
    fn ignore(left: u64) -> Self {
        if left == 0 { Self::Head } else { Self::Ignore { left } }
    }

    /// Ignores what the token announces, too.
    fn more(self, token: &Token<'_>) -> Self {
        let announced = match token {
            Token::Array(elements) | Token::Push(elements) => *elements,
            Token::Map(pairs) => pairs.saturating_mul(2),
            _ => 0,
        };
        match self {
            Self::Ignore { left } => Self::ignore(left.saturating_add(announced)),
            _ => Self::ignore(announced),
        }
    }
}

/// An MGET that was answered with an error, for an operator.
pub(super) fn refusal(text: &str, config: &Config) -> String {
    let check = match text.split(' ').next().unwrap_or_default() {
        "MOVED" | "ASK" | "CROSSSLOT" => "this is a Redis Cluster: set redis.addr to a Redis that is not one",
        "NOPERM" => "check that the user may MGET all keys that begin with the prefix of routes",
        _ => "check that Redis server, and the proxy before it",
    };
    format!("redis {}: {}; {check}", config.server.at, config.masked(text))
}

/// Whether a server lets us ask, but not for these keys.
fn is_about_keys(text: &str) -> bool {
    text.starts_with("NOPERM") && text.contains("key")
}

/// A server's own words, short enough for a log line.
fn line(text: &[u8]) -> String {
    const CHARS: usize = 200;
    String::from_utf8_lossy(text).chars().take(CHARS).collect()
}

#[cfg(test)]
mod tests;
