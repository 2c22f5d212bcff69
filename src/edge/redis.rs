//! Routes from Redis: one pipelined connection a shard, asked with MGET, and told by Redis when a route changes.
//!
//! Promises that an ask is always answered, within `redis.read_timeout` of being sent, that whatever may have
//! changed unseen is said to be unknown, that a lost connection is opened again for as long as the shard lives, and that a
//! server which moved to another address of its name is found, although the old one answers.
//! Refuses to show the password anywhere, and to call a server tracking that cannot say what changes: its answers are
//! then good for one event each ([`RouteQueue::is_tracking`]).

pub mod asker;
#[doc(hidden)]
pub mod bench_surface;
mod hello;
pub mod inspect;
mod link;
mod renewal;
mod replies;
mod resp;
mod route_json;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_lite::FutureExt;
use glommio::timer::Timer;

use crate::config::{Current, Held, RedisConfig, RouteCache, RoutesConfig};
use crate::edge::random::random;
use crate::edge::resolve::Resolver;
use crate::edge::socket::words;
use crate::model::limits::RECONNECT_BACKOFF;
use crate::model::redact;
use crate::ports::{Health, LocalFuture, LookupError, RouteQueue, Routes};
use crate::telemetry::log_limiter::LogLimiter;

use hello::Hello;
use link::Link;

/// The key of a route is this and the username.
pub const ROUTE_KEY_PREFIX: &str = "resonance:router:user:";
/// Where the keys of TLS to Redis stand in the configuration.
const TLS_SECTION: &str = "redis.tls";
/// A quiet connection is asked whether it lives this often: with `read_timeout`, the longest time for which a change
/// can go unnoticed because the server vanished without a word.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// Keys of a probe: behind a proxy they are spread over its servers, so that it fails when all of those are away.
const PROBE_KEYS: u64 = 8;
/// How often the name is resolved while the connection lives.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// How often HELLO is tried again where it did not get through.
const HELLO_AGAIN: Duration = Duration::from_secs(300);
/// A connection that lived this long was a good one: the next wait is a short one again.
const GOOD_LINK: Duration = Duration::from_secs(1);

/// How to reach Redis, and how often it is looked after.
#[derive(Clone, Debug)]
pub struct Config {
    /// The section of the configuration.
    pub server: RedisConfig,
    /// Whether Redis is asked to say which routes change.
    pub cache: RouteCache,
    /// How often the name is resolved while the connection lives.
    pub look_every: Duration,
    /// How often HELLO is tried again where it did not get through.
    pub hello_again: Duration,
}

impl Config {
    /// With the times that the engine uses.
    pub fn of(server: RedisConfig, cache: RouteCache) -> Self {
        Self { server, cache, look_every: LOOK_EVERY, hello_again: HELLO_AGAIN }
    }
}

impl Default for Config {
    /// What holds when nothing is configured.
    fn default() -> Self {
        Self::of(RedisConfig::default(), RoutesConfig::default().cache)
    }
}

impl Config {
    /// Who we are to Redis.
    fn user(&self) -> &str {
        if self.server.username.is_empty() { "default" } else { &self.server.username }
    }

    fn is_tracked(&self) -> bool {
        self.cache == RouteCache::Tracked
    }

    /// The nearest real thing to a lookup, of nobody: so many keys of the form that users' keys have, as Redis may let us
    /// read no other; or the prefix alone, as it may let us read that one and some users' keys.
    fn probe(&self, keys: u64) -> redis::Cmd {
        let mut probe = redis::cmd("MGET");
        if keys == 1 {
            probe.arg(ROUTE_KEY_PREFIX);
            return probe;
        }
        for number in 0..keys {
            probe.arg(format!("{ROUTE_KEY_PREFIX}{number}"));
        }
        probe
    }

    /// The same of one user.
    fn probe_of(&self, user: &str) -> redis::Cmd {
        let mut probe = redis::cmd("MGET");
        probe.arg(format!("{ROUTE_KEY_PREFIX}{user}"));
        probe
    }

    /// The connection failed; trying again soon may help.
    fn lost(&self, what: &str, check: &str) -> Lost {
        // Redis ends its sentences.
        let what = what.trim_end_matches('.');
        let why = format!("redis {}: {what}; check that {check}", self.server.at);
        Lost { why, what: what.to_owned(), slow: false }
    }

    /// The same, of what says by itself what to check.
    fn lost_in_words(&self, what: String) -> Lost {
        Lost { why: format!("redis {}: {what}", self.server.at), what, slow: false }
    }

    /// The server's own words against us. What only an operator can mend is retried slowly.
    fn refused(&self, text: &str) -> Lost {
        let (check, slow) = match text.split(' ').next().unwrap_or_default() {
            "WRONGPASS" if self.server.username.is_empty() => ("redis.password is right", true),
            "WRONGPASS" => ("redis.username and redis.password are right", true),
            "NOAUTH" if self.server.password.is_empty() => ("redis.password is set: this Redis wants one", true),
            "NOAUTH" => ("redis.password is right", true),
            "NOPERM" if self.server.username.is_empty() => ("the user default may do this", true),
            "NOPERM" => (
                "the user of redis.username may do this: MGET and CLIENT TRACKING, and read resonance:router:user:*",
                true,
            ),
            "DENIED" => ("Redis accepts connections from this host", true),
            "LOADING" | "BUSY" | "MASTERDOWN" => ("that Redis server gets ready", false),
            // Servers before version 6, and proxies.
            "ERR" if text.contains("invalid password") => ("redis.password is right", true),
            "ERR" if text.contains("no password is set") || text.contains("without any password configured") => {
                ("redis.password is empty: this Redis wants none", true)
            }
            _ => ("redis.addr, redis.db and redis.password fit that Redis server", false),
        };
        Lost { slow, ..self.lost(&self.masked(text), check) }
    }

    /// Something that is no Redis reply, or a reply to nothing we asked.
    fn nonsense(&self) -> Lost {
        self.lost("unexpected reply", "redis.addr is the address of a Redis server")
    }

    /// Some servers repeat a command they do not know with what came with it, the password, cut wherever their line ends.
    fn masked(&self, text: &str) -> String {
        const REPEATED: &str = "with args";
        let is_repeated =
            |at: &usize| text.as_bytes()[*at..*at + REPEATED.len()].eq_ignore_ascii_case(REPEATED.as_bytes());
        let at = (0..(text.len() + 1).saturating_sub(REPEATED.len())).find(is_repeated);
        at.map_or_else(
            || redact::secret(text, self.server.password.reveal()),
            |at| redact::secret(&text[..at], self.server.password.reveal()) + "***",
        )
    }
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lost {
    /// In words, with the address and what to check.
    why: String,
    /// The same without them.
    what: String,
    /// Only a change of configuration mends it.
    slow: bool,
}

/// The built-in way to the routes; see the [module](self).
#[derive(Clone, Debug)]
pub struct RedisRoutes {
    config: Config,
    server: Current<RedisConfig>,
    resolver: Resolver,
}

impl RedisRoutes {
    /// Opens nothing yet: each shard connects when it starts to serve.
    pub fn new(config: Config, resolver: Resolver) -> Self {
        let server = config.server.clone().into();
        Self { config, server, resolver }
    }

    /// The same on what this section says at a time; what it says is taken for connections that are opened from then on, and for one
    /// in place of that which is open.
    #[must_use]
    pub fn following(mut self, server: Current<RedisConfig>) -> Self {
        self.server = server;
        self
    }
}

impl Routes for RedisRoutes {
    fn serve(&self, port: RouteQueue) -> LocalFuture<()> {
        let section = Section { rest: self.config.clone(), server: self.server.hold() };
        Box::pin(serve(section, self.resolver.clone(), port))
    }
}

/// What the configuration says, which may change.
struct Section {
    rest: Config,
    server: Held<RedisConfig>,
}

impl Section {
    /// What it says now.
    fn now(&mut self) -> Arc<Config> {
        self.server.renew();
        Arc::new(Config { server: RedisConfig::clone(&self.server), ..self.rest.clone() })
    }

    /// Whether it says something else meanwhile.
    fn is_old(&self) -> bool {
        self.server.is_old()
    }
}

/// Connects, serves until the connection is lost, says what that means, waits, and begins again.
async fn serve(mut section: Section, resolver: Resolver, port: RouteQueue) {
    let mut failures = 0_u32;
    let said = LogLimiter::new();
    let mut hello = Hello::default();
    loop {
        let config = section.now();
        let opened = match addresses(&config, &resolver).await {
            Ok(addresses) => hello::open(&config, &addresses, &port, &mut hello).await,
            Err(lost) => Err(lost),
        };
        let lost = match opened {
            Ok(link) => {
                let since = Instant::now();
                let lost = serve_link(link, &mut section, &resolver, &port, &said).await;
                if since.elapsed() >= GOOD_LINK {
                    failures = 0;
                }
                lost
            }
            Err(lost) => lost,
        };
        warn(&said, &port, &lost.why);
        port.report(Health::Waiting(lost.why.clone()));
        // What only a change of configuration mends waits the longest time, and is not counted.
        failures = failures.saturating_add(u32::from(!lost.slow));
        let wait = RECONNECT_BACKOFF.jittered(if lost.slow { u32::MAX } else { failures }, random());
        refuse_for(wait, &lost.why, &port).await;
    }
}

/// The addresses of the host.
async fn addresses(config: &Config, resolver: &Resolver) -> Result<Vec<SocketAddr>, Lost> {
    let addresses = resolver.resolve(&config.server.at.host, config.server.at.port).await;
    addresses.map_err(|error| config.lost(&words(&error), "redis.addr is right"))
}

/// What is served from ready to lost: one connection, or one after the other without a gap.
async fn serve_link<'a>(
    mut link: Link<'a>,
    section: &mut Section,
    resolver: &Resolver,
    port: &'a RouteQueue,
    said: &LogLimiter,
) -> Lost {
    loop {
        let config = link.config().clone();
        let tracking = link.untracked().is_none();
        if let Some(why) = link.untracked().filter(|_| config.is_tracked()) {
            let cost =
                "routes cannot be tracked, they are read for each event; check what stands between it and the engine";
            warn(said, port, &format!("redis {}: {why}: {cost}", config.server.at));
        }
        tracing::info!(shard = %port.shard(), tracking, "redis {}: connected", config.server.at);
        port.set_tracking(tracking);
        port.report(link.health());
        let successor = renewal::successor(&config, section, (resolver, port), link.peer(), !tracking);
        let end = async { Err(link.run().await) }.or(async { Ok(successor.await) }).await;
        if end.is_ok() {
            link.finish().await;
        }
        // What was asked over this connection is not tracked by the next one.
        port.set_tracking(false);
        let why = end
            .as_ref()
            .map_or_else(|lost| lost.why.clone(), |_| format!("redis {}: it is replaced", config.server.at));
        for ask in link.unanswered() {
            port.answer(ask, Err(LookupError::Unavailable(why.clone())));
        }
        port.unknown();
        match end {
            Ok(next) => link = next,
            Err(lost) => return lost,
        }
    }
}

/// Answers every ask with the trouble until the wait is over: there is no connection, so it concerns nobody who is asked for.
async fn refuse_for(wait: Duration, why: &str, port: &RouteQueue) {
    let mut timer = pin!(Timer::new(wait));
    poll_fn(|cx: &mut Context<'_>| {
        while let Poll::Ready(ask) = port.poll_next(cx) {
            port.answer(ask.ask, Err(LookupError::NotReached(why.to_owned())));
        }
        Pin::new(&mut timer).poll(cx).map(|_| ())
    })
    .await;
}

/// Says trouble, unless some was said lately.
fn warn(said: &LogLimiter, port: &RouteQueue, why: &str) {
    if let Some(left_out) = said.allow() {
        tracing::warn!(shard = %port.shard(), left_out, "{why}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn with_password(password: &str) -> Config {
        let server = RedisConfig { password: Secret::new(password), ..RedisConfig::default() };
        Config { server, ..Config::default() }
    }

    #[test]
    fn the_password_is_in_no_text() {
        let config = with_password("s3cret");
        let refused = config.refused("ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `s3cret`");
        for text in [format!("{config:?}"), format!("{:#?}", config.clone()), refused.why] {
            assert!(!text.contains("s3cret") && text.contains("***"), "{text}");
        }
    }

    #[test]
    fn one_of_two_probes_passes_who_may_read_only_users_or_only_the_prefix() {
        // A user of Redis may be kept to the keys that have a name behind the prefix.
        for (keys, is_bare) in [(1, true), (PROBE_KEYS, false)] {
            let text = String::from_utf8(Config::default().probe(keys).get_packed_command()).expect("ASCII");
            assert_eq!(text.matches(ROUTE_KEY_PREFIX).count() as u64, keys);
            assert_eq!(text.contains(&format!("{ROUTE_KEY_PREFIX}\r\n")), is_bare, "{text}");
        }
    }

    #[test]
    fn a_long_password_is_not_shown_where_a_server_or_a_line_cuts_it() {
        for len in [100, 120, 250] {
            let password = "pa55w0rd-of-many-letters-".chars().cycle().take(len).collect::<String>();
            let config = with_password(&password);
            // As Redis 5 and 7 repeat HELLO, and one that names no arguments; each cut at 128 bytes.
            for words in [
                "ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `",
                "ERR unknown command 'HELLO', With Args Beginning With: '3' 'AUTH' 'default' '",
                "ERR not known: HELLO 3 AUTH default ",
            ] {
                let text = format!("{words}{}', ", &password[..len.min(128)]);
                for text in [&*text, &text[..words.len() + 9]] {
                    for shown in [config.refused(text).why, config.masked(text), replies::refusal(text, &config)] {
                        assert!(!shown.contains("pa55w0rd") && shown.contains("***"), "{shown}");
                    }
                }
            }
        }
        assert_eq!(Config::default().masked("with arg"), "with arg");
    }

    #[test]
    fn a_wrong_password_is_said_and_retried_slowly() {
        let with = with_password("s3cret");
        for (config, text, hint) in [
            (&with, "WRONGPASS invalid username-password pair or user is disabled.", "redis.password is right"),
            (&with, "NOAUTH Authentication required.", "redis.password is right"),
            (&Config::default(), "NOAUTH HELLO must be called with ...", "redis.password is set"),
        ] {
            let lost = config.refused(text);
            assert!(lost.slow && lost.why.contains(hint) && lost.why.starts_with("redis 127.0.0.1:6379: "), "{lost:?}");
        }
        assert!(!with.refused("LOADING Redis is loading the dataset in memory").slow);
    }
}
