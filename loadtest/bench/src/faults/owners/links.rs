//! Ways from one engine to one server that can be cut: each engine has ports of its own for NATS, etcd and a gateway, which the
//! kernel leads to the real ones.
//!
//! Promises that a cut drops every packet of that engine's connections to that server, in both directions, and no other's.

use harness::error::Result;
use harness::servers::free_ports;

use crate::faults::namespace::filter;

/// What an engine is cut from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// nats-server.
    Nats,
    /// etcd.
    Etcd,
    /// The first gateway.
    Gateway,
}

impl Link {
    const ALL: [Self; 3] = [Self::Nats, Self::Etcd, Self::Gateway];
}

/// The ports of each engine.
pub(super) struct Links {
    ports: Vec<[u16; 3]>,
}

impl Links {
    /// Makes the ways of so many engines to these ports, in the order of [`Link::ALL`].
    ///
    /// # Errors
    /// When the kernel refuses them.
    pub fn make(engines: usize, servers: [u16; 3]) -> Result<Self> {
        let free = free_ports(3 * engines)?;
        let ports: Vec<[u16; 3]> = free.chunks_exact(3).map(|each| [each[0], each[1], each[2]]).collect();
        let lead = |own: &[u16; 3]| -> String {
            let each =
                own.iter().zip(servers).map(|(own, server)| format!("  tcp dport {own} redirect to :{server}\n"));
            each.collect()
        };
        let ways: String = ports.iter().map(lead).collect();
        filter(&format!("table ip ways {{\n chain out {{\n  type nat hook output priority -100;\n{ways} }}\n}}\n"))?;
        Ok(Self { ports })
    }

    /// The port by which an engine reaches a server.
    pub fn port(&self, engine: usize, link: Link) -> u16 {
        self.ports[engine][Link::ALL.iter().position(|known| *known == link).unwrap_or(0)]
    }

    /// Drops all packets of these ways.
    ///
    /// # Errors
    /// When the kernel refuses that.
    pub fn cut(&self, engine: usize, links: &[Link]) -> Result<()> {
        let drop = links
            .iter()
            .map(|link| format!("  meta l4proto tcp ct original proto-dst {} drop\n", self.port(engine, *link)));
        let rules: String = drop.collect();
        filter(&format!("table ip cut {{\n chain in {{\n  type filter hook input priority 0;\n{rules} }}\n}}\n"))
    }

    /// Lets them go again.
    ///
    /// # Errors
    /// When the kernel refuses that.
    pub fn heal(&self) -> Result<()> {
        filter("delete table ip cut\n")
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        // The namespace ends with this process; the next scenario makes its own ways. There may be no cut.
        let _ = filter("delete table ip ways\n");
    }
}
