//! The servers that a reader may connect to: those of `nats.url`, and those that they name themselves.
//!
//! Promises that each round tries each of them once, the one after the last connection's first, and those that are about to
//! end last; and that what servers name is bounded. Pure: names in, an order out.

use std::net::IpAddr;

use crate::config::{HostPort, NatsServer};

/// Servers that others named, remembered.
const NAMED_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq)]
struct Known {
    server: NatsServer,
    is_configured: bool,
    is_leaving: bool,
}

/// All that are known.
#[derive(Clone, Debug)]
pub(super) struct Servers {
    all: Vec<Known>,
    next: usize,
}

impl Servers {
    /// Those that are configured.
    pub(super) fn new(configured: &[NatsServer]) -> Self {
        let known = |server: &NatsServer| Known { server: server.clone(), is_configured: true, is_leaving: false };
        Self { all: configured.iter().map(known).collect(), next: 0 }
    }

    /// In which order they are to be tried now.
    pub(super) fn round(&self) -> Vec<NatsServer> {
        let (before, after) = self.all.split_at(self.next.min(self.all.len()));
        let mut all: Vec<&Known> = after.iter().chain(before).collect();
        all.sort_by_key(|known| known.is_leaving);
        all.into_iter().map(|known| known.server.clone()).collect()
    }

    /// This one took us; it names others. What named ones are not named any more is forgotten.
    pub(super) fn opened(&mut self, server: &NatsServer, named: &[HostPort]) {
        // A server that does not say which others there are says nothing of them.
        if !named.is_empty() {
            self.all.retain(|known| known.is_configured || known.server == *server || named.contains(&known.server.at));
        }
        for at in named {
            let others = self.all.iter().filter(|known| !known.is_configured).count();
            if others < NAMED_MAX && !self.all.iter().any(|known| known.server.at == *at) {
                // A certificate is rarely for an IP address: by one, it is the same cluster that we know by a name.
                let host = server.known_as.as_ref().unwrap_or(&server.at.host);
                let known_as = (is_ip(&at.host) && !is_ip(host)).then(|| host.clone());
                let server = NatsServer { at: at.clone(), tls: server.tls, known_as };
                self.all.push(Known { server, is_configured: false, is_leaving: false });
            }
        }
        if let Some(at) = self.all.iter().position(|known| known.server == *server) {
            self.all[at].is_leaving = false;
            self.next = at;
        }
    }

    /// The connection to this one is over, or it is about to end.
    pub(super) fn left(&mut self, server: &NatsServer, is_leaving: bool) {
        if let Some(at) = self.all.iter().position(|known| known.server == *server) {
            self.all[at].is_leaving |= is_leaving;
            self.next = (at + 1) % self.all.len();
        }
    }
}

fn is_ip(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_named_by_an_address_is_known_by_the_name_of_whoever_named_it() {
        let known_as = |servers: &Servers, host: &str| {
            let found = servers.round().into_iter().find(|server| server.at.host == host);
            found.expect("it is known").known_as
        };
        let first = NatsServer { tls: true, ..at("nats.example") };
        let mut servers = Servers::new(std::slice::from_ref(&first));
        servers.opened(&first, &[at("10.0.0.1").at, at("[fd00::1]").at, at("b.example").at]);
        assert_eq!(known_as(&servers, "10.0.0.1").as_deref(), Some("nats.example"));
        assert_eq!(known_as(&servers, "fd00::1").as_deref(), Some("nats.example"));
        assert_eq!(known_as(&servers, "b.example"), None);
        assert!(servers.round().iter().all(|server| server.tls));
        let named = servers.round().swap_remove(1);
        servers.opened(&named, &[at("10.0.0.2").at]);
        assert_eq!(known_as(&servers, "10.0.0.2").as_deref(), Some("nats.example"), "named by one that was named");
        let mut servers = Servers::new(&[at("10.0.0.1")]);
        servers.opened(&at("10.0.0.1"), &[at("10.0.0.2").at]);
        assert_eq!(known_as(&servers, "10.0.0.2"), None);
    }

    fn at(host: &str) -> NatsServer {
        NatsServer::plain(HostPort::parse(host, 4222).expect("an address"))
    }

    fn hosts(servers: &Servers) -> Vec<String> {
        servers.round().into_iter().map(|server| server.at.host).collect()
    }

    #[test]
    fn the_next_one_is_tried_first_and_one_that_ends_last() {
        let mut servers = Servers::new(&[at("a"), at("b"), at("c")]);
        assert_eq!(hosts(&servers), ["a", "b", "c"]);
        servers.opened(&at("b"), &[]);
        assert_eq!(hosts(&servers), ["b", "c", "a"]);
        servers.left(&at("b"), false);
        assert_eq!(hosts(&servers), ["c", "a", "b"]);
        servers.opened(&at("a"), &[]);
        servers.left(&at("a"), true);
        assert_eq!(hosts(&servers), ["b", "c", "a"]);
        servers.left(&at("c"), false);
        assert_eq!(hosts(&servers), ["b", "c", "a"], "it is still about to end");
        servers.opened(&at("a"), &[]);
        servers.left(&at("c"), false);
        assert_eq!(hosts(&servers), ["a", "b", "c"], "it took us again");
    }

    #[test]
    fn what_servers_name_is_tried_and_bounded_and_forgotten_with_them() {
        let mut servers = Servers::new(&[at("a")]);
        let many: Vec<HostPort> = (0..10_000).map(|number| at(&format!("named-{number}")).at).collect();
        servers.opened(&at("a"), &many);
        assert_eq!(servers.round().len(), 1 + NAMED_MAX);
        servers.opened(&at("a"), &[at("b").at, at("a").at]);
        assert_eq!(hosts(&servers), ["a", "b"]);
        servers.opened(&at("b"), &[]);
        assert_eq!(hosts(&servers), ["b", "a"], "it says nothing of others");
    }
}
