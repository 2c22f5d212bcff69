//! Ports of 127.0.0.1 that are given to one asker alone. A port that was only looked at ("free a moment ago") is anybody's: servers take
//! seconds to start, and the tests beside them ask for ports meanwhile.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::clock;
use crate::error::{Error, Result};
use crate::rng::Rng;

/// All ports lie below the range that outgoing connections take (32,768 and up): a server that is killed finds its port free when it comes
/// back, and an address where nobody listens stays one.
const FIRST_PORT: u16 = 12_000;
/// A process claims this many at once, and one socket keeps them.
const PORTS_PER_BLOCK: u16 = 100;
const BLOCKS: u16 = 180;
/// How long [`listen_on`] waits for a port that was ours to be let go.
const LISTEN_DEADLINE: Duration = Duration::from_secs(2);
const LISTEN_EVERY: Duration = Duration::from_millis(5);
/// How long a port may take to say whether anybody listens.
const PROBE_DEADLINE: Duration = Duration::from_millis(200);

/// What this process claimed. Its end, however it comes, gives all of it back.
struct Claims {
    blocks: Vec<UnixDatagram>,
    /// Of the last block.
    not_given: std::ops::Range<u16>,
}

static CLAIMS: Mutex<Claims> = Mutex::new(Claims { blocks: Vec::new(), not_given: 0..0 });

/// Ports where nobody listens, and which no other call gets, in this process or in another that asks here, until this process ends.
///
/// # Errors
/// When all of 12000 to 29999 are claimed or listened on.
pub fn free_ports(count: usize) -> Result<Vec<u16>> {
    let mut claims = CLAIMS.lock().unwrap_or_else(PoisonError::into_inner);
    (0..count).map(|_| claims.next()).collect()
}

/// One of them.
///
/// # Errors
/// As [`free_ports`].
pub fn free_port() -> Result<u16> {
    Ok(free_ports(1)?[0])
}

impl Claims {
    fn next(&mut self) -> Result<u16> {
        loop {
            if let Some(port) = self.not_given.find(|&port| is_free(port)) {
                return Ok(port);
            }
            let (block, first) = claim_a_block()?;
            self.blocks.push(block);
            self.not_given = first..first + PORTS_PER_BLOCK;
        }
    }
}

/// A name in the abstract namespace is one process's at a time, and leaves no file behind.
fn claim_a_block() -> Result<(UnixDatagram, u16)> {
    let start = Rng::new(clock::now() ^ (u64::from(std::process::id()) << 32)).below(BLOCKS.into()) as u16;
    let firsts = (0..BLOCKS).map(|step| FIRST_PORT + (start + step) % BLOCKS * PORTS_PER_BLOCK);
    let mut claimed = firsts.filter_map(|first| Some((claim(first).ok()?, first)));
    claimed.next().ok_or_else(|| {
        let last = FIRST_PORT + BLOCKS * PORTS_PER_BLOCK - 1;
        Error::new(format!("no free port on 127.0.0.1: processes of task-engine's tests hold all of {FIRST_PORT} to {last}; end those that are left over"))
    })
}

fn claim(first: u16) -> io::Result<UnixDatagram> {
    UnixDatagram::bind_addr(&UnixAddr::from_abstract_name(format!("task-engine-ports-{first}"))?)
}

/// Asked by connecting: a listener of our own would be inherited by a child that is being started, and be in the server's way until that
/// child runs its program.
fn is_free(port: u16) -> bool {
    let probe = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), PROBE_DEADLINE);
    probe.is_err_and(|why| why.kind() == io::ErrorKind::ConnectionRefused)
}

/// Listens on a port that was given here. A child that is being started may hold what this process listened on there before, for the
/// milliseconds until it runs its program: those are waited for.
pub fn listen_on(port: u16) -> io::Result<TcpListener> {
    let until = Instant::now() + LISTEN_DEADLINE;
    loop {
        match TcpListener::bind(("127.0.0.1", port)) {
            Err(why) if why.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => thread::sleep(LISTEN_EVERY),
            listening => return listening,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_port_is_given_once() {
        let askers: Vec<_> = (0..4).map(|_| thread::spawn(|| free_ports(75).expect("free ports"))).collect();
        let given: Vec<u16> = askers.into_iter().flat_map(|asker| asker.join().expect("ports")).collect();
        assert_eq!(given.iter().collect::<HashSet<_>>().len(), 300, "more than a block, each port once: {given:?}");
    }

    #[test]
    fn a_block_is_one_holders() {
        let (held, first) = claim_a_block().expect("a free block");
        assert!(claim(first).is_err(), "{first} was claimed twice");
        drop(held);
        claim(first).expect("given back");
    }

    #[test]
    fn a_port_that_is_listened_on_is_passed_over() {
        let port = free_port().expect("a free port");
        let listener = listen_on(port).expect("ours");
        assert!(!is_free(port));
        drop(listener);
        assert!(is_free(port));
    }

    #[test]
    fn who_listens_again_waits_until_the_port_is_let_go() {
        let port = free_port().expect("a free port");
        let held = listen_on(port).expect("ours");
        let (tell, told) = mpsc::channel();
        let again = thread::spawn(move || {
            tell.send(()).expect("the test waits");
            listen_on(port).map(drop)
        });
        told.recv().expect("the thread runs");
        drop(held);
        again.join().expect("no panic").expect("listens");
    }
}
