//! On which CPUs the shards run.
//!
//! Promises that shards are pinned, one CPU each, when that many CPUs are free, and otherwise run unpinned with one line
//! that says why. Free means: in our affinity mask, and not taken by another task-engine of this machine, so that two
//! of them with `--cores 1` do not share CPU 0 while the others idle. A cgroup quota below `cores` also unpins.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::thread::CpuSet;

use crate::model::ids::ShardId;
use crate::model::words::counted;

/// How many shards `engine.cores: all` means: the CPUs of our affinity mask, less if a cgroup quota says so.
pub fn cores_available() -> u16 {
    std::thread::available_parallelism().map_or(1, |cores| u16::try_from(cores.get()).unwrap_or(u16::MAX))
}

/// How many CPUs our affinity mask has; the quota where it cannot be read.
pub fn cpus_allowed() -> usize {
    affinity().map_or(usize::from(cores_available()), |cpus| cpus.len())
}

/// Where the shards of this process run. Keep it as long as they do: it holds their CPUs against other task-engines.
#[derive(Debug)]
pub enum Cores {
    /// One CPU per shard.
    Pinned(Vec<Claim>),
    /// Wherever the kernel puts them.
    Unpinned {
        /// Why, in words.
        why: String,
        /// How many shards there are.
        shards: u16,
    },
}

/// A CPU that is ours until this is dropped.
#[derive(Debug)]
pub struct Claim {
    cpu: usize,
    /// The kernel frees an abstract name when its socket is closed, also after a crash.
    _name: UnixDatagram,
}

impl Cores {
    /// Decides for so many shards.
    pub fn decide(shards: u16) -> Self {
        match affinity() {
            Ok(cpus) => Self::decide_among(shards, &cpus, usize::from(cores_available()), "task-engine/cpu"),
            Err(error) => Self::Unpinned { why: format!("the affinity mask cannot be read: {error}"), shards },
        }
    }

    fn decide_among(shards: u16, cpus: &[usize], quota: usize, claims: &str) -> Self {
        let wanted = usize::from(shards);
        let words = counted(shards, "shard");
        let why = if wanted > cpus.len() {
            format!("{words} and {}", counted(cpus.len(), "CPU"))
        } else if wanted > quota {
            format!("{words} and a CPU quota of {quota}")
        } else {
            let claimed: Vec<_> = cpus.iter().filter_map(|cpu| Claim::take(claims, *cpu)).take(wanted).collect();
            if claimed.len() == wanted {
                return Self::Pinned(claimed);
            }
            format!("{words} and {} that no other task-engine is pinned to", counted(claimed.len(), "CPU"))
        };
        Self::Unpinned { why, shards }
    }

    /// Where glommio is to put a shard.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn placement(&self, shard: ShardId) -> glommio::Placement {
        match self {
            Self::Pinned(claims) => glommio::Placement::Fixed(claims[usize::from(shard.0)].cpu),
            Self::Unpinned { .. } => glommio::Placement::Unbound,
        }
    }

    /// The one line for the log.
    pub fn describe(&self) -> String {
        match self {
            Self::Pinned(claims) => {
                let cpus: Vec<_> = claims.iter().map(|claim| claim.cpu.to_string()).collect();
                format!("shards are pinned to CPU {}", cpus.join(", "))
            }
            Self::Unpinned { why, .. } => format!("shards are not pinned: {why}"),
        }
    }
}

impl Claim {
    fn take(claims: &str, cpu: usize) -> Option<Self> {
        let name = SocketAddr::from_abstract_name(format!("{claims}/{cpu}")).ok()?;
        Some(Self { cpu, _name: UnixDatagram::bind_addr(&name).ok()? })
    }
}

/// The CPUs this process may run on, ascending.
fn affinity() -> std::io::Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(cores: &Cores) -> Option<Vec<usize>> {
        match cores {
            Cores::Pinned(claims) => Some(claims.iter().map(|claim| claim.cpu).collect()),
            Cores::Unpinned { .. } => None,
        }
    }

    #[test]
    fn shards_are_pinned_while_cpus_are_free() {
        let claims = format!("task-engine-test/{}", std::process::id());
        let first = Cores::decide_among(1, &[2, 5], 2, &claims);
        let second = Cores::decide_among(1, &[2, 5], 2, &claims);
        let third = Cores::decide_among(1, &[2, 5], 2, &claims);
        assert_eq!((cpus(&first), cpus(&second), cpus(&third)), (Some(vec![2]), Some(vec![5]), None));
        assert_eq!(second.describe(), "shards are pinned to CPU 5");
        assert_eq!(
            third.describe(),
            "shards are not pinned: 1 shard and 0 CPUs that no other task-engine is pinned to"
        );
        assert!(matches!(first.placement(ShardId(0)), glommio::Placement::Fixed(2)));
        assert!(matches!(third.placement(ShardId(0)), glommio::Placement::Unbound));
        drop(first);
        assert_eq!(cpus(&Cores::decide_among(1, &[2, 5], 2, &claims)), Some(vec![2]));
    }

    #[test]
    fn more_shards_than_cpus_or_quota_are_not_pinned() {
        let claims = format!("task-engine-test-more/{}", std::process::id());
        let cores = Cores::decide_among(4, &[0, 1], 2, &claims);
        assert_eq!(cores.describe(), "shards are not pinned: 4 shards and 2 CPUs");
        let cores = Cores::decide_among(4, &[0, 1, 2, 3, 4], 2, &claims);
        assert_eq!(cores.describe(), "shards are not pinned: 4 shards and a CPU quota of 2");
    }

    #[test]
    fn this_machine_has_a_cpu_for_us() {
        assert!(!affinity().unwrap().is_empty());
        assert!(cores_available() >= 1);
    }
}
