//! The configuration as the engine means it: typed, checked, with every default filled in. The edge takes its section as it
//! is; the defaults are those of the table of keys, here is none.

use std::path::PathBuf;
use std::time::Duration;

use super::field::{Blank, Field, wrong};
pub use super::log_output::LogOutput;
use super::value::Value;
use crate::model::priority::PriorityRules;

/// An enum whose variants are words of the configuration.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $(#[$first_doc:meta])* $first:ident = $first_word:literal,
        $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $(#[$first_doc])* $first, $($(#[$doc])* $variant,)+ }

        impl $name {
            /// All that may be written.
            pub(in crate::config) const WORDS: &'static [&'static str] = &[$first_word, $($word,)+];

            /// As it is written.
            pub const fn word(self) -> &'static str {
                match self { Self::$first => $first_word, $(Self::$variant => $word,)+ }
            }
        }

        impl Blank for $name {
            fn blank() -> Self {
                Self::$first
            }
        }

        impl Field for $name {
            fn set(&mut self, value: Value) {
                *self = match value {
                    Value::Text(word) if word == $first_word => Self::$first,
                    $(Value::Text(word) if word == $word => Self::$variant,)+
                    other => wrong(&other),
                };
            }

            fn show(&self) -> String {
                self.word().to_owned()
            }
        }
    };
}

/// A struct whose fields the table of keys fills. A section's `Default` is what the table says.
macro_rules! section {
    ($(#[$meta:meta])* $name:ident $(of $section:ident)? { $($(#[$doc:meta])* $field:ident: $type:ty,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name { $($(#[$doc])* pub $field: $type,)+ }

        impl Blank for $name {
            fn blank() -> Self {
                Self { $($field: Blank::blank(),)+ }
            }
        }

        $(impl Default for $name {
            /// What holds when nothing is written: the defaults of the table of keys.
            fn default() -> Self {
                Config::default().$section
            }
        })?
    };
}

mod servers;

pub use servers::*;

section! {
    /// All of it. `Debug` shows no secret.
    Config {
        /// What the engine says of itself.
        log: LogConfig,
        /// Members and inbox.
        mysql: MysqlConfig,
        /// The same.
        postgres: PostgresConfig,
        /// Which of the two is used.
        database: Database,
        /// Routes.
        redis: RedisConfig,
        /// Events.
        nats: NatsConfig,
        /// Where gateways register.
        etcd: EtcdConfig,
        /// How they are named there.
        registry: RegistryConfig,
        /// The gateways' service name.
        gateway_service_name: String,
        /// Which events, and how.
        consumer: ConsumerConfig,
        /// Who goes first, and who yields.
        priority: PriorityRules,
        /// Pushes.
        gateway: GatewayConfig,
        /// Member lists.
        members: MembersConfig,
        /// Users' gateways.
        routes: RoutesConfig,
        /// t_inbox.
        inbox: InboxConfig,
        /// Dead letters.
        dead_letters: DeadLettersConfig,
        /// Threads and the stop.
        engine: EngineConfig,
        /// Metrics and health.
        admin: AdminConfig,
        /// Traces.
        tracing: TracingConfig,
    }
}

words! {
    /// The least important level that is written.
    LogLevel {
        /// Everything.
        Trace = "trace",
        /// For whoever looks for a defect.
        Debug = "debug",
        /// What changes.
        Info = "info",
        /// What an operator should read.
        Warn = "warn",
        /// What stops the engine or loses something.
        Error = "error",
    }
}

words! {
    /// How a log line looks.
    LogFormat {
        /// For people, in colours on a terminal.
        Console = "console",
        /// One JSON object a line.
        Json = "json",
        /// For people, never in colours.
        Text = "text",
    }
}

section! {
    /// `log`.
    LogConfig of log {
        /// `log.level`.
        level: LogLevel,
        /// `log.format`.
        format: LogFormat,
        /// `log.output`.
        output: LogOutput,
        /// `log.enableColor`.
        color: bool,
        /// `log.addSource`.
        source: bool,
        /// `log.filter`: directives that can be read.
        filter: String,
    }
}

section! {
    /// `registry`.
    RegistryConfig of registry {
        /// `registry.namespace`, without a `/` at its end.
        namespace: String,
        /// `registry.forget_after`.
        forget_after: Duration,
    }
}

words! {
    /// What keeps events until they are settled.
    ConsumerMode {
        /// Nothing: core NATS.
        Core = "core",
        /// A JetStream stream.
        JetStream = "jetstream",
    }
}

words! {
    /// How sessions come to processes.
    Assignment {
        /// One subject, one queue group.
        Queue = "queue",
        /// A subject for each partition.
        Partitioned = "partitioned",
    }
}

words! {
    /// Who reads which partition.
    Ownership {
        /// Each instance reads all.
        None = "none",
        /// One owner each, agreed on in etcd.
        Etcd = "etcd",
    }
}

words! {
    /// Whether publishers know partitions.
    Partitioner {
        /// They do, or there are none.
        Off = "off",
        /// They do not: events are moved to their partitions.
        On = "on",
    }
}

words! {
    /// Whether the sender is pushed its own message.
    EchoSender {
        /// It is not.
        Off = "off",
        /// It is.
        On = "on",
    }
}

section! {
    /// `consumer`.
    ConsumerConfig of consumer {
        /// `consumer.topic`.
        topic: String,
        /// `consumer.urgent_topic`; empty: none.
        urgent_topic: String,
        /// `consumer.queue_group`.
        queue_group: String,
        /// `consumer.max_retry`.
        max_retry: u32,
        /// `consumer.retry_interval`.
        retry_interval: Duration,
        /// `consumer.mode`.
        mode: ConsumerMode,
        /// `consumer.stream`.
        stream: String,
        /// `consumer.durable`; the queue group when none is written.
        durable: String,
        /// `consumer.assignment`.
        assignment: Assignment,
        /// `consumer.ownership`; etcd only with JetStream and partitions.
        ownership: Ownership,
        /// `consumer.lease_ttl`.
        lease_ttl: Duration,
        /// `consumer.partitions`; never below `engine.cores`.
        partitions: u32,
        /// `consumer.partitioner`.
        partitioner: Partitioner,
        /// `consumer.echo_sender`.
        echo_sender: EchoSender,
        /// `consumer.ack_wait`.
        ack_wait: Duration,
        /// `consumer.max_ack_pending`.
        max_ack_pending: u32,
    }
}

words! {
    /// What a gateway speaks that announces nothing.
    Unannounced {
        /// `PushMessage`, one user a frame.
        Stream = "stream",
        /// `PushMessage`, several users a frame.
        StreamMany = "stream-many",
    }
}

section! {
    /// `gateway`.
    GatewayConfig of gateway {
        /// `gateway.protocol`.
        protocol: Unannounced,
        /// `gateway.delivery_timeout`; below `engine.drain_timeout`.
        delivery_timeout: Duration,
        /// `gateway.notice_above`; only with `inbox.rows_up_to`.
        notice_above: u32,
        /// `gateway.tls`.
        tls: TlsConfig,
    }
}

section! {
    /// `members`.
    MembersConfig of members {
        /// `members.cache_ttl`; zero: MySQL is asked each time.
        cache_ttl: Duration,
        /// `members.empty_wait`; zero: one empty answer is enough.
        empty_wait: Duration,
    }
}

words! {
    /// How users' gateways are remembered.
    RouteCache {
        /// Until Redis tells that a route changed.
        Tracked = "tracked",
        /// Not at all.
        Off = "off",
    }
}

section! {
    /// `routes`.
    RoutesConfig of routes {
        /// `routes.cache`.
        cache: RouteCache,
    }
}

words! {
    /// Which recipients get a row in t_inbox.
    InboxStore {
        /// Each recipient that could not be reached.
        Offline = "offline",
        /// Everyone but the sender.
        All = "all",
        /// Nobody.
        Off = "off",
    }
}

section! {
    /// `inbox`.
    InboxConfig of inbox {
        /// `inbox.store`.
        store: InboxStore,
        /// `inbox.sender`.
        sender: bool,
        /// `inbox.rows_up_to`.
        rows_up_to: u32,
    }
}

section! {
    /// `dead_letters`.
    DeadLettersConfig of dead_letters {
        /// `dead_letters.path`.
        path: PathBuf,
    }
}

words! {
    /// Whether shards remember the latest ends.
    Recorder {
        /// They do not.
        Off = "off",
        /// They do, for `task-engine why`.
        On = "on",
    }
}

section! {
    /// `engine`.
    EngineConfig of engine {
        /// `engine.cores`: shards, at least one; `all` is already counted.
        cores: u16,
        /// `engine.instance`; the host's name when none is written.
        instance: String,
        /// `engine.drain_timeout`.
        drain_timeout: Duration,
        /// `engine.recorder`.
        recorder: Recorder,
    }
}
