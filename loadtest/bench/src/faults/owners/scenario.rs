//! The faults of instances that own partitions, and what of each the promise allows.

use std::time::Duration;

use super::links::Link;

/// What is done; the second instance is the one that is hurt, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing.
    Nothing,
    /// SIGTERM.
    Stop,
    /// SIGTERM while etcd is away.
    StopWithoutEtcd,
    /// Each is stopped and started again, one after the other.
    Rolling,
    /// SIGKILL.
    Kill,
    /// SIGKILL of the first one, which makes the plans.
    KillPlanner,
    /// SIGKILL of one, and of another that is taking its partitions over.
    KillTaker,
    /// SIGKILL, started again at once on its host.
    KillAndStart,
    /// SIGSTOP for so many seconds.
    Pause(u32),
    /// SIGSTOP until the others have its partitions, then SIGCONT.
    PauseUntilTaken,
    /// One shard stands still, and all other threads of its process go on.
    HangShard,
    /// SIGSTOP of a gateway, then of an owner; SIGCONT of both when the others have its partitions.
    PauseBesideGateway,
    /// kill -9 of etcd for longer than the lease.
    EtcdKill,
    /// SIGSTOP of etcd for longer than the lease.
    EtcdHang,
    /// etcd comes back without data.
    EtcdEmptied,
    /// etcd comes back with data of before a move.
    EtcdRestored,
    /// Its lease is revoked under it.
    Revoke,
    /// It is cut from these for 20 s; whether it ends then, since others have its partitions.
    Cut(&'static [Link], bool),
    /// kill -9 of nats-server.
    NatsKill,
    /// Another process has its name.
    Namesake,
    /// One that is configured otherwise joins.
    Layout,
    /// A plan of an unknown version.
    UnknownPlan,
    /// A record of an unknown version, of a partition that is free.
    UnknownRecord,
    /// Its consumers are deleted by hand.
    ConsumersDeleted,
    /// Next generations of its partitions are made by hand; then it is killed.
    ConsumersMade,
    /// An instance without ownership reads beside it.
    NoneBeside,
    /// 1, 2, 3 and 2 instances.
    Scale,
    /// It is drained and undrained.
    Drain,
}

/// How many repeats are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// None.
    None,
    /// Recipients of what was unsettled, and pushes that streams left unanswered.
    Unsettled,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on the command line and in the table.
    pub name: &'static str,
    /// What is done, in words.
    pub about: &'static str,
    /// What is done.
    pub act: Act,
    /// What may come again.
    pub repeats: Repeats,
    /// The longest that a push may wait; none where it waits for what is away, or goes to the inbox.
    pub longest: Option<Duration>,
    /// Whether pushes of what was unsettled may come after later ones.
    pub may_reorder: bool,
    /// Whether p99 of all pushes must stay below twice that of the calm before.
    pub keeps_p99: bool,
}

const HALF_A_SECOND: Duration = Duration::from_millis(500);
/// `lease_ttl` 5 s, what etcd takes to notice, the wait of the fence, and the opening.
const TAKEOVER: Duration = Duration::from_millis(7_500);
/// A shard that has not moved for two seconds keeps no lease.
const SHARD_LOST: Duration = Duration::from_millis(9_500);
/// The gateway stands still a second before its owner does, and until that one has ended.
const GATEWAY_BACK: Duration = Duration::from_millis(10_000);

/// Some 5.5 s until a link on which no packet passes is known to be lost, 5 s until others are planned for it, 2 s in which the close
/// is not answered, the next generations and their opening.
const NATS_LOST: Duration = Duration::from_millis(14_000);

const fn row(name: &'static str, about: &'static str, act: Act) -> Scenario {
    let longest = Some(HALF_A_SECOND);
    Scenario { name, about, act, repeats: Repeats::None, longest, may_reorder: false, keeps_p99: false }
}

impl Scenario {
    const fn within(mut self, longest: Duration) -> Self {
        self.longest = Some(longest);
        self
    }

    const fn unbounded(mut self) -> Self {
        self.longest = None;
        self
    }

    const fn repeats(mut self) -> Self {
        self.repeats = Repeats::Unsettled;
        self
    }

    const fn reorders(mut self) -> Self {
        self.may_reorder = true;
        self
    }

    const fn keeps_p99(mut self) -> Self {
        self.keeps_p99 = true;
        self
    }

    /// All of them, in the table's order.
    pub const ALL: &'static [Self] = &[
        row("calm", "no fault: what the others are compared with", Act::Nothing),
        row("stop", "SIGTERM of one", Act::Stop),
        row("rolling-restart", "each is stopped and started again in turn", Act::Rolling).keeps_p99(),
        row("scale", "1, 2, 3 and 2 instances", Act::Scale),
        row("drain", "`partitions drain` of one, then `undrain`", Act::Drain),
        row("kill", "kill -9 of one", Act::Kill).repeats().within(TAKEOVER),
        row("kill-planner", "kill -9 of the one that plans", Act::KillPlanner).repeats().within(TAKEOVER),
        row("kill-taker", "kill -9 of one, and of another while it takes over", Act::KillTaker)
            .repeats()
            .within(TAKEOVER.saturating_mul(2)),
        row("kill-start", "kill -9 of one, started again at once", Act::KillAndStart).repeats().within(TAKEOVER),
        row("pause-2s", "SIGSTOP of one for 2 s", Act::Pause(2)).within(Duration::from_millis(2_500)),
        row("pause-4s", "SIGSTOP of one for 4 s", Act::Pause(4)).within(Duration::from_millis(5_500)),
        row("pause-taken", "SIGSTOP of one until others have its partitions, then SIGCONT", Act::PauseUntilTaken)
            .repeats()
            .within(TAKEOVER),
        row(
            "shard-hang",
            "one shard of one stands still (ptrace), the other threads of its process go on",
            Act::HangShard,
        )
        .repeats()
        .within(SHARD_LOST),
        row(
            "pause-gateway",
            "SIGSTOP of a gateway and of one; SIGCONT of both when others have its partitions",
            Act::PauseBesideGateway,
        )
        .repeats()
        .reorders()
        .within(GATEWAY_BACK),
        row("etcd-kill", "kill -9 of etcd for 8 s", Act::EtcdKill),
        row("etcd-hang", "SIGSTOP of etcd for 8 s", Act::EtcdHang).repeats().within(Duration::from_secs(3)),
        row("etcd-emptied", "etcd comes back without data", Act::EtcdEmptied).repeats().within(TAKEOVER),
        row("etcd-restored", "etcd comes back with data of before a move", Act::EtcdRestored)
            .repeats()
            .within(TAKEOVER),
        row("lease-revoked", "the lease of one is revoked by hand", Act::Revoke)
            .repeats()
            .within(Duration::from_secs(3)),
        row("stop-no-etcd", "SIGTERM of one while etcd is away", Act::StopWithoutEtcd).unbounded(),
        row("etcd-cut", "one cut from etcd for 20 s", Act::Cut(&[Link::Etcd], true))
            .repeats()
            .within(Duration::from_secs(3)),
        row("nats-cut", "one cut from NATS for 20 s", Act::Cut(&[Link::Nats], false)).within(NATS_LOST),
        row("both-cut", "one cut from etcd and NATS for 20 s", Act::Cut(&[Link::Etcd, Link::Nats], true))
            .repeats()
            .within(TAKEOVER),
        row("gateway-cut", "one cut from a gateway for 20 s", Act::Cut(&[Link::Gateway], false)).repeats().unbounded(),
        row("nats-kill", "kill -9 of nats-server for 3 s", Act::NatsKill).within(Duration::from_secs(5)),
        row("namesake", "another process with the name of one", Act::Namesake),
        row("layout", "one with another number of partitions joins", Act::Layout),
        row("unknown-plan", "the plan has an unknown version", Act::UnknownPlan),
        row("unknown-record", "the record of a free partition has an unknown version", Act::UnknownRecord).unbounded(),
        row("consumers-deleted", "all consumers of one are deleted by hand", Act::ConsumersDeleted)
            .within(Duration::from_secs(1)),
        row("consumers-made", "next generations are made by hand, then kill -9 of their owner", Act::ConsumersMade)
            .repeats()
            .within(TAKEOVER),
        row("none-beside", "an instance with `ownership: none` beside owners", Act::NoneBeside),
    ];
}
