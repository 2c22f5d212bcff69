//! A server's name and its port, as a command looks at them before anything is said over the connection.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, SystemTime};

use crate::config::HostPort;
use crate::edge::socket;
use crate::model::finding::{Check, Findings};

/// How far clocks may be apart: half of what the coarsest figure that compares them says.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(1);

/// Which checks a look at a name and a port are, and where the address is written.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// The name has an address.
    pub name: Check,
    /// The address takes a connection.
    pub tcp: Check,
    /// The key of the configuration.
    pub key: &'static str,
}

/// Finds the host and connects to it, to each of its addresses within `limit`; none when none answers.
pub fn reach(way: Way, at: &HostPort, limit: Duration, found: &mut Findings<'_>) -> Option<TcpStream> {
    found.begin(way.name);
    let addresses: Vec<SocketAddr> = match (at.host.as_str(), at.port).to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            let what = format!("{} cannot be found by name ({})", at.host, socket::words(&error));
            found.fail(way.name, what, format!("check {} and DNS", way.key));
            return None;
        }
    };
    found.ok(way.name, format!("{} is {}", at.host, listed(&addresses)));
    found.begin(way.tcp);
    let (mut reached, mut refused) = (None, Vec::new());
    for address in &addresses {
        match TcpStream::connect_timeout(address, limit) {
            Ok(stream) => reached = Some(stream),
            Err(error) => refused.push(format!("{address}: {}", socket::words(&error))),
        }
    }
    let advice = format!("check that it runs, {}, and firewalls between here and there", way.key);
    match (&reached, refused.is_empty()) {
        (Some(_), true) => found.ok(way.tcp, format!("{at} takes connections")),
        (Some(_), false) => {
            found.warn(way.tcp, format!("some addresses of {at} do not answer: {}", refused.join(", ")), advice)
        }
        (None, _) => found.fail(way.tcp, format!("{at} takes no connection ({})", refused.join(", ")), advice),
    }
    reached
}

fn listed(addresses: &[SocketAddr]) -> String {
    let ips: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
    ips.join(", ")
}

/// What a look at a server's clock found: `theirs` was asked for `took` ago at the most.
pub fn compare_clocks(check: Check, theirs: SystemTime, took: Duration, found: &mut Findings<'_>) {
    let ours = SystemTime::now();
    let (apart, how) = match ours.duration_since(theirs) {
        Ok(behind) => (behind.saturating_sub(took), "behind"),
        Err(error) => (error.duration(), "ahead"),
    };
    if apart <= CLOCKS_APART_MAX {
        return found.ok(check, format!("its clock is within {CLOCKS_APART_MAX:?} of ours"));
    }
    found.warn(
        check,
        format!(
            "its clock is {} {how} of this machine's",
            humantime::format_duration(Duration::from_secs(apart.as_secs()))
        ),
        "run NTP on both: times of rows, letters and latencies are wrong by that much",
    );
}
