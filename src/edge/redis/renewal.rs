//! When a connection that works is to be replaced: its host's name leads elsewhere now, the configuration says something else, or
//! HELLO may get through again.
//!
//! Promises that the old connection serves until the new one is open, so that nobody notices; and that a name which
//! cannot be resolved says nothing. Refuses to follow a name at its first word: a name server that hands out a part of its
//! addresses each time leaves the one in use out now and then.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use glommio::timer::Timer;

use crate::edge::resolve::Resolver;
use crate::ports::RouteQueue;

use super::hello::{self, Hello};
use super::link::Link;
use super::{Config, Section, addresses};

/// Looks in a row that must leave the address in use out.
const ABSENCES: u32 = 3;
/// How often it is looked whether the configuration says something else.
const SECTION_LOOK: Duration = Duration::from_secs(1);

/// What the looks at a name have shown.
#[derive(Debug, Default)]
struct Absence(u32);

impl Absence {
    /// Whether the name leads elsewhere, after one look more.
    fn looked(&mut self, peer: Option<SocketAddr>, found: &io::Result<Vec<SocketAddr>>) -> bool {
        let (Some(peer), Ok(found)) = (peer, found) else { return false };
        self.0 = if found.contains(&peer) { 0 } else { self.0 + 1 };
        self.0 >= ABSENCES
    }
}

/// Ready with the connection that is to go on in place of this one; most live and end without one.
pub(super) async fn successor<'a>(
    old: &Arc<Config>,
    section: &mut Section,
    (resolver, port): (&Resolver, &'a RouteQueue),
    peer: Option<SocketAddr>,
    untracked: bool,
) -> Link<'a> {
    let mut absence = Absence::default();
    let mut greeted = Instant::now();
    let mut config = old.clone();
    loop {
        if look_is_due(&config, section).await {
            config = section.now();
        }
        let is_other = !Arc::ptr_eq(&config, old);
        let found = resolver.resolve(&config.server.at.host, config.server.at.port).await;
        let has_moved = absence.looked(peer, &found);
        let may_track = untracked && config.is_tracked() && greeted.elapsed() >= config.hello_again;
        let why = match (is_other, has_moved) {
            (true, _) => "the configuration was reloaded",
            (_, true) => "its name leads to another address",
            _ if may_track => "it can track routes now",
            _ => continue,
        };
        let opened = match addresses(&config, resolver).await {
            // A HELLO that does not get through is tried at each of these, and costs the new connection, not the old one.
            Ok(addresses) => hello::open(&config, &addresses, port, &mut Hello::default()).await,
            Err(lost) => Err(lost),
        };
        greeted = Instant::now();
        match opened {
            Ok(link) if is_other || has_moved || link.untracked().is_none() => {
                tracing::info!(shard = %port.shard(), "redis {}: {why}: the connection is replaced", config.server.at);
                return link;
            }
            Ok(_) => {}
            Err(lost) if is_other || has_moved => {
                crate::telemetry::logging::warn_limited(
                    "redis_not_replaced",
                    format_args!("{}; {why}, the old connection is used on", lost.why),
                );
            }
            Err(_) => {}
        }
    }
}

/// Waits for the next look at the name, or until the configuration says something else; then it gives true.
async fn look_is_due(config: &Config, section: &Section) -> bool {
    let due = Instant::now() + config.look_every;
    loop {
        if section.is_old() {
            return true;
        }
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        Timer::new(left.min(SECTION_LOOK)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_followed_when_it_leaves_the_address_out_three_times_in_a_row() {
        let at = |port| SocketAddr::from(([10, 0, 0, 1], port));
        let mut absence = Absence::default();
        let mut look = |found: io::Result<Vec<SocketAddr>>| absence.looked(Some(at(1)), &found);
        assert_eq!([look(Ok(vec![at(2)])), look(Ok(vec![at(2)]))], [false; 2]);
        assert!(!look(Ok(vec![at(2), at(1)])), "one of several");
        assert_eq!([look(Ok(vec![at(2)])), look(Ok(vec![at(3)]))], [false; 2]);
        assert!(!look(Err(io::ErrorKind::NotFound.into())), "says nothing");
        assert!(look(Ok(vec![at(2)])));
    }
}
