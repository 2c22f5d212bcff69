//! When a connection that works is to be replaced: its host's name leads elsewhere now, or HELLO may get through again.
//!
//! Promises that the old connection serves until the new one is open, so that nobody notices; and that a name which
//! cannot be resolved says nothing. Refuses to follow a name at its first word: a name server that hands out a part of its
//! addresses each time leaves the one in use out now and then.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use glommio::timer::Timer;

use crate::edge::resolve::Resolver;
use crate::ports::RouteQueue;

use super::hello::{self, Hello};
use super::link::Link;
use super::{Config, addresses};

/// Looks in a row that must leave the address in use out.
const ABSENCES: u32 = 3;

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
    config: &'a Config,
    resolver: &Resolver,
    port: &'a RouteQueue,
    peer: Option<SocketAddr>,
    untracked: bool,
) -> Link<'a> {
    let mut absence = Absence::default();
    let mut greeted = Instant::now();
    loop {
        Timer::new(config.look_every).await;
        let found = resolver.resolve(&config.server.at.host, config.server.at.port).await;
        let has_moved = absence.looked(peer, &found);
        let may_track = untracked && config.is_tracked() && greeted.elapsed() >= config.hello_again;
        if !has_moved && !may_track {
            continue;
        }
        let opened = match addresses(config, resolver).await {
            // A HELLO that does not get through is tried at each of these, and costs the new connection, not the old one.
            Ok(addresses) => hello::open(config, &addresses, port, &mut Hello::default()).await,
            Err(lost) => Err(lost),
        };
        greeted = Instant::now();
        match opened {
            Ok(link) if has_moved || link.untracked().is_none() => {
                let why = if has_moved { "its name leads to another address" } else { "it can track routes now" };
                tracing::info!(shard = %port.shard(), "redis {}: {why}: the connection is replaced", config.server.at);
                return link;
            }
            Ok(_) => {}
            Err(lost) if has_moved => {
                crate::telemetry::logging::warn_limited(
                    "redis_not_replaced",
                    format_args!("{}; its name leads to another address, the old connection is used on", lost.why),
                );
            }
            Err(_) => {}
        }
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
