//! Turns what Redis sends into facts for the shard: answers to asks, and pushes that say which routes changed.
//!
//! Promises to hand on both in the order in which they came on the wire, which is what makes a cached route safe: a
//! change said after an answer is later than it. Refuses a reply that does not fit its request; the connection is then
//! of no more use.

use std::collections::VecDeque;
use std::time::Instant;

use crate::names::{Route, RouteList};
use crate::ports::{Health, LookupError, RoutesPort};
use crate::push::facts::AskNo;

use super::resp::{Reader, Token};
use super::route_json::push_route;
use super::{Config, Lost};

/// A server that answered so many MGETs in a row with errors is not there; one alone may be that ask's fault.
const REFUSALS_MAX: u32 = 2;

/// What a reply that is still to come belongs to.
#[derive(Debug)]
pub(super) enum Expected {
    /// The MGET of an ask for so many users.
    Routes { ask: AskNo, users: u64 },
    /// The MGET of an ask for nobody, which reads one key that nobody has: is the server there?
    Probe { ask: AskNo },
    /// A command of ours of which only success or the error matters.
    Plain,
}

/// The requests on the wire, oldest first, and how far into the current reply we are.
#[derive(Debug)]
pub(super) struct Replies {
    expected: VecDeque<(Instant, Expected)>,
    at: At,
    plain: Option<Result<bool, String>>,
    /// MGETs answered with an error since the latest that was not.
    refused: u32,
}

#[derive(Debug)]
enum At {
    /// Between replies.
    Head,
    /// Inside an MGET's array.
    Values { ask: AskNo, left: u64, routes: RouteList },
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
        Self { expected: VecDeque::new(), at: At::Head, plain: None, refused: 0 }
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

    /// The asks that will get no reply any more.
    pub(super) fn unanswered(self) -> impl Iterator<Item = AskNo> {
        self.expected.into_iter().filter_map(|(_, what)| match what {
            Expected::Routes { ask, .. } | Expected::Probe { ask } => Some(ask),
            Expected::Plain => None,
        })
    }

    /// Takes all whole tokens out of the reader.
    pub(super) fn drain(&mut self, reader: &mut Reader, config: &Config, port: &RoutesPort) -> Result<(), Lost> {
        while let Some(token) = reader.next().map_err(|_| config.nonsense())? {
            self.take(token, config, port)?;
        }
        Ok(())
    }

    fn take(&mut self, token: Token<'_>, config: &Config, port: &RoutesPort) -> Result<(), Lost> {
        match &mut self.at {
            At::Head => return self.head(token, config, port),
            At::Values { left, routes, .. } => {
                match token {
                    Token::Bulk(value) => push_route(routes, value),
                    Token::Null => routes.push(Route::Offline),
                    Token::TooLong => routes.push(Route::Bad),
                    _ => return Err(config.nonsense()),
                }
                *left -= 1;
                if *left == 0 {
                    self.answer(config, port);
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
                    let name =
                        key.strip_prefix(config.key_prefix.as_bytes()).and_then(|name| str::from_utf8(name).ok());
                    if let Some(name) = name {
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

    fn head(&mut self, token: Token<'_>, config: &Config, port: &RoutesPort) -> Result<(), Lost> {
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
            (Expected::Routes { ask, users }, Token::Array(values)) if values == users => {
                self.at = At::Values { ask, left: values, routes: RouteList::new() };
                // Still unanswered until its last value is here.
                self.expected.push_front((due, Expected::Routes { ask, users }));
            }
            (Expected::Probe { ask }, Token::Array(1)) => {
                self.at = At::ignore(1);
                self.answers(ask, RouteList::new(), config, port);
            }
            (Expected::Routes { ask, .. } | Expected::Probe { ask }, Token::Error(text)) => {
                self.refuse(ask, &line(text), config, port)?
            }
            (what, _) => {
                self.expected.push_front((due, what));
                return Err(config.nonsense());
            }
        }
        Ok(())
    }

    fn answer(&mut self, config: &Config, port: &RoutesPort) {
        if let At::Values { ask, routes, .. } = std::mem::replace(&mut self.at, At::Head) {
            self.expected.pop_front();
            self.answers(ask, routes, config, port);
        }
    }

    fn answers(&mut self, ask: AskNo, routes: RouteList, config: &Config, port: &RoutesPort) {
        port.answer(ask, Ok(routes));
        self.note_answered(config, port);
    }

    /// A lookup was answered.
    pub(super) fn note_answered(&mut self, config: &Config, port: &RoutesPort) {
        if std::mem::take(&mut self.refused) >= REFUSALS_MAX {
            tracing::info!(shard = %port.shard(), "redis {}: answers route lookups again", config.addr);
            port.report(Health::Ready);
        }
    }

    /// The only lookup was refused: the server is not there until one is answered.
    pub(super) fn refused_at_once(&mut self, text: &str, config: &Config) -> String {
        self.refused = REFUSALS_MAX;
        refusal(text, config)
    }

    /// The server answered an MGET with an error: the core decides by other asks whose fault that is, and while all are
    /// refused the server is not there.
    fn refuse(&mut self, ask: AskNo, text: &str, config: &Config, port: &RoutesPort) -> Result<(), Lost> {
        let error = LookupError::Rejected(refusal(text, config));
        self.refused += 1;
        if self.refused == REFUSALS_MAX {
            tracing::warn!(shard = %port.shard(), "{error}");
        }
        if self.refused >= REFUSALS_MAX {
            port.report(Health::Waiting(error.to_string()));
        }
        port.answer(ask, Err(error));
        // The password was changed under us: the handshake of a new connection says it best.
        if text.starts_with("NOAUTH") { Err(config.refused(text)) } else { Ok(()) }
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
fn refusal(text: &str, config: &Config) -> String {
    let check = match text.split(' ').next().unwrap_or_default() {
        "MOVED" | "ASK" | "CROSSSLOT" => "this is a Redis Cluster: set redis.addr to a Redis that is not one",
        "NOPERM" => "check that the user may MGET all keys that begin with the prefix of routes, and the prefix itself",
        _ => "check that Redis server, and the proxy before it",
    };
    format!("redis {}: {}; {check}", config.addr, config.masked(text))
}

/// A server's own words, short enough for a log line.
fn line(text: &[u8]) -> String {
    const CHARS: usize = 200;
    String::from_utf8_lossy(text).chars().take(CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;
    use crate::push::facts::Input;
    use crate::shard::inbox::LocalFacts;

    fn facts(expected: Vec<Expected>, bytes: &[u8], piece: usize) -> (Result<(), Lost>, Vec<Input>, Vec<AskNo>) {
        let facts = LocalFacts::default();
        let port = RoutesPort::new(ShardId(0), facts.clone());
        let config = Config::default();
        let (mut replies, mut reader) = (Replies::new(), Reader::new());
        expected.into_iter().for_each(|what| replies.expect(Instant::now(), what));
        let mut result = Ok(());
        for piece in bytes.chunks(piece) {
            reader.room()[..piece.len()].copy_from_slice(piece);
            reader.filled(piece.len());
            result = result.and_then(|()| replies.drain(&mut reader, &config, &port));
        }
        let mut seen = Vec::new();
        facts.take_all(&mut seen);
        (result, seen, replies.unanswered().collect())
    }

    fn routes(ask: AskNo, users: u64) -> Expected {
        Expected::Routes { ask, users }
    }

    #[test]
    fn answers_and_changes_keep_the_order_of_the_wire() {
        let key = |name: &str| format!("${}\r\nresonance:router:user:{name}\r\n", name.len() + 22);
        let push = |keys: &str| format!(">2\r\n$10\r\ninvalidate\r\n{keys}");
        let wire = [
            push(&format!("*2\r\n{}{}", key("ann"), key("bob"))),
            "*3\r\n$24\r\n{\"gateway_id\":\"gateway\"}\r\n_\r\n$3\r\nbad\r\n".to_owned(),
            push("_\r\n"),
            ">3\r\n$7\r\nmessage\r\n*1\r\n:1\r\n+x\r\n%2\r\n+a\r\n*2\r\n:1\r\n:2\r\n+b\r\n_\r\n".to_owned(),
            push("*1\r\n$5\r\nother\r\n"),
            "-LOADING busy\r\n".to_owned(),
            push(&format!("*1\r\n{}", key(""))),
        ]
        .concat();
        for piece in [1, 3, wire.len()] {
            let expected = vec![routes(1, 3), Expected::Plain, routes(2, 1), routes(3, 1)];
            let (result, seen, unanswered) = facts(expected, wire.as_bytes(), piece);
            assert_eq!(result, Ok(()));
            let listed: RouteList = [Route::Gateway("gateway"), Route::Offline, Route::Bad].into_iter().collect();
            let [
                Input::RouteChanged(ann),
                Input::RouteChanged(bob),
                Input::Routes { ask: 1, answer: Ok(got) },
                Input::RoutesUnknown,
                Input::Routes { ask: 2, answer: Err(LookupError::Rejected(why)) },
                Input::RouteChanged(empty),
            ] = &seen[..]
            else {
                panic!("{seen:?}")
            };
            assert_eq!((&**ann, &**bob, got, &**empty), ("ann", "bob", &listed, ""));
            assert!(why.contains("LOADING") && why.contains("127.0.0.1:6379"), "{why}");
            assert_eq!(unanswered, [3]);
        }
    }

    #[test]
    fn a_reply_that_does_not_fit_is_a_lost_connection() {
        for wire in ["*2\r\n_\r\n", "+OK\r\n", "*1\r\n*1\r\n", "nonsense\r\n", ">2\r\n$10\r\ninvalidate\r\n+x\r\n"] {
            let (result, seen, unanswered) = facts(vec![routes(9, 1)], wire.as_bytes(), 4);
            assert!(result.is_err() && seen.is_empty(), "{wire:?}: {seen:?}");
            assert_eq!(unanswered, [9], "{wire:?}");
        }
        let (result, ..) = facts(vec![], b"-ERR max number of clients reached\r\n", 5);
        assert!(result.expect_err("refused").why.contains("max number of clients"), "the server's words are kept");
    }

    #[test]
    fn a_refusal_is_an_error_whatever_it_says_and_two_in_a_row_are_an_outage() {
        for error in [
            "MOVED 3999 127.0.0.1:6381",
            "CROSSSLOT Keys in request don't hash to the same slot",
            "ERR unknown command 'MGET'",
            "BUSY Redis is busy running a script",
            "CLUSTERDOWN The cluster is down",
            "NOPERM no permissions",
            "NOAUTH Authentication required.",
            "upstream failure",
        ] {
            let (result, seen, _) = facts(vec![routes(1, 1)], format!("-{error}\r\n").as_bytes(), 7);
            assert_eq!(result.is_err(), error.starts_with("NOAUTH"));
            let [Input::Routes { ask: 1, answer: Err(answer) }] = &seen[..] else { panic!("{seen:?}") };
            assert!(matches!(answer, LookupError::Rejected(_)), "{error}");
            assert!(answer.to_string().contains(error), "{answer}");
            assert_eq!(answer.to_string().contains("Cluster:"), error.starts_with('M') || error.starts_with("CR"));
        }
        let probe = |ask| Expected::Probe { ask };
        let wire = b"-upstream failure\r\n*1\r\n_\r\n-upstream failure\r\n*1\r\n$1\r\nx\r\n";
        let (result, seen, unanswered) = facts(vec![probe(1), probe(2), probe(3), probe(4)], wire, 5);
        assert_eq!((result, unanswered), (Ok(()), vec![]));
        let answers = seen.iter().map(|fact| match fact {
            Input::Routes { ask, answer } => (*ask, answer.as_ref().map(RouteList::len).ok()),
            other => panic!("{other:?}"),
        });
        assert_eq!(answers.collect::<Vec<_>>(), [(1, None), (2, Some(0)), (3, None), (4, Some(0))]);
    }
}
