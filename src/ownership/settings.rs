//! What an instance is told once, when it starts.

use std::time::Duration;

use super::keys::Instance;
use super::records::Layout;
use crate::model::ids::Partition;

/// How this instance takes part.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `engine.instance`: unique among the instances that run at one time.
    pub instance: Instance,
    /// Random, new in each process: it tells two processes of one name apart.
    pub boot: String,
    /// What is known of the state directory's lock file.
    pub lock: Lock,
    /// This instance's share of the partitions, against the weights of the others: its cores.
    pub weight: u32,
    /// Where its admin pages are, for those who must find it.
    pub admin: String,
    /// The program's version, for the member list.
    pub version: String,
    /// What all instances must agree on.
    pub layout: Layout,
    /// Shards of this instance; at least 1.
    pub shards: u16,
    /// Times.
    pub timings: Timings,
}

impl Settings {
    /// How many partitions have an owner: those of the stream, and one more for the input stream of the partitioner, whose number
    /// is [`Layout::partitions`].
    pub fn partitions(&self) -> u32 {
        self.layout.partitions + u32::from(self.layout.has_input)
    }

    /// Whether a partition is the input stream of the partitioner.
    pub fn is_input(&self, partition: Partition) -> bool {
        self.layout.is_input(partition)
    }

    /// What an operator calls a partition.
    pub fn words(&self, partition: Partition) -> String {
        match self.is_input(partition) {
            true => "the input stream".to_owned(),
            false => format!("partition {}", partition.0),
        }
    }
}

/// The lock file `<state dir>/<instance>.lock`. When `is_held`, no other process with this state directory runs; the id in it tells
/// state directories apart, so that a namesake in another container is never taken for a dead predecessor.
#[derive(Clone, Debug, Default)]
pub struct Lock {
    /// The random id that the file holds, made with the file.
    pub id: String,
    /// The kernel's boot id (`/proc/sys/kernel/random/boot_id`).
    pub kernel: String,
    /// Whether this process holds the lock (`flock`).
    pub is_held: bool,
}

/// Times that safety rests on, and others. [`Timings::of_ttl`] has the values of the design.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// `consumer.lease_ttl`.
    pub lease_ttl: Duration,
    /// M: etcd's permit ends so long before the lease can.
    pub margin: Duration,
    /// X: between the confirmed deletion of all older generations and the successor's first pull.
    pub fence: Duration,
    /// How long a proof holds, from when it was asked for. Must be less than `fence`.
    pub proof: Duration,
    /// Between two proofs.
    pub proof_period: Duration,
    /// Proofs are asked for once the last good keepalive is so old.
    pub proof_after: Duration,
    /// Between two keepalives.
    pub keepalive_period: Duration,
    /// No keepalive is sent when a shard has not moved for so long.
    pub shard_silent: Duration,
    /// The taker reads the repeat window back for so long before the giver begins.
    pub prepare: Duration,
    /// A drain that takes longer is called off, unless this instance stops.
    pub drain: Duration,
    /// A called-off move is tried again after this, twice as long each time, up to [`Timings::retry_move_max`].
    pub retry_move: Duration,
    /// See [`Timings::retry_move`].
    pub retry_move_max: Duration,
    /// No move begins while the partition's oldest unsettled event is older, unless this instance stops.
    pub unsettled: Duration,
    /// How long the plan waits after a join, since several join together.
    pub join: Duration,
    /// So long at the most, however many join one after the other.
    pub join_max: Duration,
    /// The next in line plans when a plan is due for so long.
    pub planner_late: Duration,
    /// An instance that has no NATS for so long says so, and gets no partitions while another has it.
    pub nats_lost: Duration,
    /// It says that it has NATS again after so long.
    pub nats_back: Duration,
}

impl Timings {
    /// The times of the design for a lease of `lease_ttl` (`consumer.lease_ttl`, at least 4 s).
    pub const fn of_ttl(lease_ttl: Duration) -> Self {
        Self {
            lease_ttl,
            margin: Duration::from_secs(2),
            fence: Duration::from_millis(1_500),
            proof: Duration::from_secs(1),
            proof_period: Duration::from_millis(250),
            proof_after: Duration::from_millis(1_500),
            keepalive_period: Duration::from_secs(1),
            shard_silent: Duration::from_secs(2),
            prepare: Duration::from_millis(200),
            drain: Duration::from_secs(10),
            retry_move: Duration::from_secs(30),
            retry_move_max: Duration::from_secs(600),
            unsettled: Duration::from_secs(1),
            join: Duration::from_millis(500),
            join_max: Duration::from_secs(3),
            planner_late: Duration::from_secs(5),
            nats_lost: Duration::from_secs(5),
            nats_back: Duration::from_secs(10),
        }
    }
}
