//! The faults: what is done to which part, and what of it the promise allows.

/// A part of the whole that can be hurt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// nats-server.
    Nats,
    /// redis-server.
    Redis,
    /// mariadbd.
    Mysql,
    /// PostgreSQL, in the place of mariadbd.
    Postgres,
    /// etcd.
    Etcd,
    /// The first gateway, which is a process of its own then.
    Gateway,
    /// task-engine.
    Engine,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing.
    Nothing,
    /// Killed (SIGKILL), away for a while, started again with its data.
    Kill(Part),
    /// Stopped (SIGSTOP) for a while: connections stay open, nothing answers.
    Hang(Part),
    /// Killed and started again while the engine is stopped (SIGSTOP): the engine sees only afterwards that connections broke.
    KillBehind(Part),
    /// Takes no writes for a while, and goes on reading.
    ReadOnly(Part),
    /// The engine is told to end (SIGTERM) and started again at once.
    Restart,
    /// The disk under the broker's store is full for a while; the broker is started again once there is room.
    FullDisk,
    /// All packets between engine and gateway are dropped for a while, both ends stay open.
    Partition,
    /// Each event is published twice.
    Twice,
    /// Of 100 payloads, 5 are no events.
    Poison,
    /// Users move between gateways, 50 per second.
    Churn,
    /// All streams of a gateway are reset, ten times.
    CutStreams,
}

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on the command line and in the table.
    pub name: &'static str,
    /// What is done, in words.
    pub about: &'static str,
    /// What is done.
    pub act: Act,
    /// Whether a repeat is allowed, up to what was unanswered: the crash or the cut leaves no other way.
    pub may_repeat: bool,
    /// Whether `queue` may lose a session's order: its one instance crashes.
    pub may_reorder_in_queue: bool,
}

const fn scenario(name: &'static str, about: &'static str, act: Act) -> Scenario {
    Scenario { name, about, act, may_repeat: false, may_reorder_in_queue: false }
}

impl Scenario {
    /// Whether PostgreSQL holds members and inbox.
    pub fn is_on_postgres(&self) -> bool {
        matches!(self.act, Act::Kill(Part::Postgres) | Act::Hang(Part::Postgres) | Act::ReadOnly(Part::Postgres))
    }

    const fn repeats(mut self) -> Self {
        self.may_repeat = true;
        self
    }

    const fn reorders_in_queue(mut self) -> Self {
        self.may_reorder_in_queue = true;
        self
    }

    /// All of them, in the table's order.
    pub const ALL: &'static [Self] = &[
        scenario("none", "no fault: what the others are compared with", Act::Nothing),
        scenario("engine-kill", "kill -9 of the engine, started again", Act::Kill(Part::Engine))
            .repeats()
            .reorders_in_queue(),
        scenario("engine-hang", "SIGSTOP of the engine", Act::Hang(Part::Engine)).repeats().reorders_in_queue(),
        scenario(
            "nats-kill-behind",
            "kill -9 of nats-server, started again, all while the engine is stopped",
            Act::KillBehind(Part::Nats),
        )
        .repeats()
        .reorders_in_queue(),
        scenario(
            "etcd-kill-behind",
            "kill -9 of etcd, started again, all while the engine is stopped",
            Act::KillBehind(Part::Etcd),
        )
        .repeats()
        .reorders_in_queue(),
        scenario("engine-restart", "SIGTERM of the engine, started again", Act::Restart),
        scenario("nats-kill", "kill -9 of nats-server, started again", Act::Kill(Part::Nats)),
        scenario("nats-hang", "SIGSTOP of nats-server", Act::Hang(Part::Nats)),
        scenario("nats-full-disk", "the disk under the stream is full", Act::FullDisk),
        scenario("redis-kill", "kill -9 of redis-server, started again", Act::Kill(Part::Redis)),
        scenario("redis-hang", "SIGSTOP of redis-server", Act::Hang(Part::Redis)),
        scenario("mysql-kill", "kill -9 of mariadbd, started again", Act::Kill(Part::Mysql)),
        scenario("mysql-hang", "SIGSTOP of mariadbd", Act::Hang(Part::Mysql)),
        scenario("mysql-read-only", "mariadbd refuses writes", Act::ReadOnly(Part::Mysql)),
        scenario("postgres-kill", "kill -9 of PostgreSQL, started again", Act::Kill(Part::Postgres)),
        scenario("postgres-hang", "SIGSTOP of PostgreSQL and its sessions", Act::Hang(Part::Postgres)),
        scenario("postgres-read-only", "PostgreSQL refuses writes", Act::ReadOnly(Part::Postgres)),
        scenario("etcd-kill", "kill -9 of etcd, started again", Act::Kill(Part::Etcd)),
        scenario("etcd-hang", "SIGSTOP of etcd", Act::Hang(Part::Etcd)),
        scenario("gateway-kill", "kill -9 of a gateway, started again on its port", Act::Kill(Part::Gateway)).repeats(),
        scenario("gateway-hang", "SIGSTOP of a gateway", Act::Hang(Part::Gateway)).repeats(),
        scenario("gateway-cuts", "a gateway resets all its streams, ten times", Act::CutStreams).repeats(),
        scenario(
            "partition",
            "packets between engine and a gateway are dropped, half-open (nft in a namespace)",
            Act::Partition,
        )
        .repeats(),
        scenario("twice", "each event is published twice", Act::Twice),
        scenario("poison", "5 of 100 payloads are no events", Act::Poison),
        scenario("route-churn", "50 users per second move to another gateway", Act::Churn),
    ];
}
