//! What `task-engine doctor` looks at, and what it found: a closed list of checks, and one finding for each.
//!
//! Promises that a look says when it begins, so that whoever waits for it knows which check does not end.

use crate::model::outcome::labelled;

labelled! {
    /// One thing that is looked at. The label is what a person and a script see.
    Check {
        /// The names of the NATS servers have addresses.
        NatsName = "nats.name",
        /// They take connections.
        NatsTcp = "nats.tcp",
        /// TLS with them, where it is spoken.
        NatsTls = "nats.tls",
        /// They let us in.
        NatsLogin = "nats.login",
        /// The user may do what reading needs.
        NatsPermissions = "nats.permissions",
        /// JetStream answers.
        NatsJetStream = "nats.jetstream",
        /// The streams are there, and take the topic.
        NatsStream = "nats.stream",
        /// The consumers can be read.
        NatsConsumers = "nats.consumers",
        /// They wait for acks as long as is configured.
        NatsAckWait = "nats.ack_wait",
        /// No bound of stream, consumer or account is in the way.
        NatsLimits = "nats.limits",
        /// Dead letters have their stream.
        NatsDeadLetters = "nats.dead_letters",
        /// The name of the MySQL server has an address.
        MysqlName = "mysql.name",
        /// It takes connections.
        MysqlTcp = "mysql.tcp",
        /// TLS with it, where it is spoken.
        MysqlTls = "mysql.tls",
        /// It lets us in.
        MysqlLogin = "mysql.login",
        /// The database is there, and ours to use.
        MysqlDatabase = "mysql.database",
        /// The tables are there.
        MysqlTables = "mysql.tables",
        /// They have the columns that are read and written.
        MysqlColumns = "mysql.columns",
        /// They have the keys that rows are found by and kept apart by.
        MysqlUniqueKey = "mysql.unique_key",
        /// Names are kept in a character set that has all of them.
        MysqlCollation = "mysql.collation",
        /// The user may read and write what is read and written.
        MysqlGrants = "mysql.grants",
        /// The server takes rows.
        MysqlReadOnly = "mysql.read_only",
        /// It takes as many connections as are opened.
        MysqlConnections = "mysql.connections",
        /// Its clock is ours.
        MysqlClock = "mysql.clock",
        /// The name of the PostgreSQL server has an address.
        PostgresName = "postgres.name",
        /// It takes connections.
        PostgresTcp = "postgres.tcp",
        /// TLS with it, where it is spoken.
        PostgresTls = "postgres.tls",
        /// It lets us in.
        PostgresLogin = "postgres.login",
        /// The database is there, and ours to use.
        PostgresDatabase = "postgres.database",
        /// The tables are there.
        PostgresTables = "postgres.tables",
        /// They have the columns that are read and written.
        PostgresColumns = "postgres.columns",
        /// They have the keys that rows are found by and kept apart by.
        PostgresUniqueKey = "postgres.unique_key",
        /// Names are kept in an encoding that has all of them.
        PostgresEncoding = "postgres.encoding",
        /// The user may read and write what is read and written.
        PostgresGrants = "postgres.grants",
        /// The server takes rows.
        PostgresReadOnly = "postgres.read_only",
        /// It takes as many connections as are opened.
        PostgresConnections = "postgres.connections",
        /// Its clock is ours.
        PostgresClock = "postgres.clock",
        /// The name of the Redis server has an address.
        RedisName = "redis.name",
        /// It takes connections.
        RedisTcp = "redis.tcp",
        /// TLS with it, where it is spoken.
        RedisTls = "redis.tls",
        /// It lets us in.
        RedisLogin = "redis.login",
        /// It speaks RESP3.
        RedisResp3 = "redis.resp3",
        /// The database of `redis.db` is there.
        RedisDb = "redis.db",
        /// The user may read routes, and be told of changes.
        RedisAcl = "redis.acl",
        /// It tells which routes change.
        RedisTracking = "redis.tracking",
        /// It keeps routes when its memory is full.
        RedisEviction = "redis.eviction",
        /// It is one server, not a cluster.
        RedisCluster = "redis.cluster",
        /// It is no replica that has lost its master.
        RedisReplica = "redis.replica",
        /// Its clock is ours.
        RedisClock = "redis.clock",
        /// The names of etcd's endpoints have addresses.
        EtcdName = "etcd.name",
        /// They take connections.
        EtcdTcp = "etcd.tcp",
        /// TLS with them, where it is spoken.
        EtcdTls = "etcd.tls",
        /// They let us in.
        EtcdLogin = "etcd.login",
        /// The user may read gateways, and write what owners write.
        EtcdRights = "etcd.rights",
        /// Gateways are registered where we look for them.
        EtcdPrefix = "etcd.prefix",
        /// What is registered can be used.
        EtcdEntries = "etcd.entries",
        /// Gateways take connections.
        GatewayTcp = "gateway.tcp",
        /// TLS with those that speak it.
        GatewayTls = "gateway.tls",
        /// They speak what they announce.
        GatewayProtocol = "gateway.protocol",
        /// A shard can have its io_uring executor.
        MachineIoUring = "machine.io_uring",
        /// Enough memory may be locked.
        MachineMemlock = "machine.memlock",
        /// Enough files may be open.
        MachineFiles = "machine.files",
        /// There are CPUs for all shards.
        MachineCpus = "machine.cpus",
        /// The file of dead letters can be written.
        DeadLettersPath = "dead_letters.path",
    }
}

/// How it is with what was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// As it should be.
    Ok,
    /// The engine works, and somebody should look at it.
    Warn,
    /// The engine does not do its work with this.
    Fail,
}

impl Grade {
    /// As it is written.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which check.
    pub check: Check,
    /// How it is.
    pub grade: Grade,
    /// What was seen.
    pub what: String,
    /// What to do about it; empty when nothing is to be done.
    pub advice: String,
}

/// What a look says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// This check begins.
    Begins(Check),
    /// It found this.
    Found(Finding),
}

/// Where a look says what it does.
pub struct Findings<'a>(&'a mut dyn FnMut(Said));

impl<'a> Findings<'a> {
    /// Handed to `tell`.
    pub fn new(tell: &'a mut dyn FnMut(Said)) -> Self {
        Self(tell)
    }

    /// This check begins.
    pub fn begin(&mut self, check: Check) {
        (self.0)(Said::Begins(check));
    }

    /// All is well.
    pub fn ok(&mut self, check: Check, what: impl Into<String>) {
        self.found(check, Grade::Ok, what, "");
    }

    /// Somebody should look at it.
    pub fn warn(&mut self, check: Check, what: impl Into<String>, advice: impl Into<String>) {
        self.found(check, Grade::Warn, what, advice);
    }

    /// It keeps the engine from its work.
    pub fn fail(&mut self, check: Check, what: impl Into<String>, advice: impl Into<String>) {
        self.found(check, Grade::Fail, what, advice);
    }

    /// The same with what is wrong and what to do in one sentence, as errors say it: the advice is what follows the first semicolon.
    pub fn fail_in_words(&mut self, check: Check, words: &str) {
        let (what, advice) = words.split_once("; ").unwrap_or((words, ""));
        self.found(check, Grade::Fail, what, advice);
    }

    fn found(&mut self, check: Check, grade: Grade, what: impl Into<String>, advice: impl Into<String>) {
        (self.0)(Said::Found(Finding { check, grade, what: what.into(), advice: advice.into() }));
    }
}
