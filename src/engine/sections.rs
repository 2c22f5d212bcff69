//! The parts of the configuration that a running engine may exchange, each where its users look for it.

use crate::config::{
    Config, Current, EtcdConfig, MysqlConfig, NatsConfig, PostgresConfig, RedisConfig, ServerTlsConfig, TlsConfig,
    TracingConfig,
};
use crate::push::Tune;

/// All of them. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Sections {
    /// Connections to MySQL: opened by it, and replaced when it is exchanged.
    pub mysql: Current<MysqlConfig>,
    /// The same of PostgreSQL.
    pub postgres: Current<PostgresConfig>,
    /// The same of Redis.
    pub redis: Current<RedisConfig>,
    /// The next connections to NATS.
    pub nats: Current<NatsConfig>,
    /// The next connections to etcd.
    pub etcd: Current<EtcdConfig>,
    /// The next connections to gateways.
    pub gateway_tls: Current<TlsConfig>,
    /// The next clients of the admin port.
    pub admin_tls: Current<ServerTlsConfig>,
    /// The next post to the collector.
    pub tracing: Current<TracingConfig>,
    /// The core of each shard.
    pub tune: Current<Tune>,
}

impl Sections {
    /// Of a configuration.
    pub(super) fn of(config: &Config) -> Self {
        Self {
            mysql: config.mysql.clone().into(),
            postgres: config.postgres.clone().into(),
            redis: config.redis.clone().into(),
            nats: config.nats.clone().into(),
            etcd: config.etcd.clone().into(),
            gateway_tls: config.gateway.tls.clone().into(),
            admin_tls: config.admin.tls.clone().into(),
            tracing: config.tracing.clone().into(),
            tune: tune_of(config).into(),
        }
    }

    /// From now on what this configuration says. How many of them it changes.
    pub(super) fn exchange(&self, config: &Config) -> usize {
        let exchanged = [
            self.mysql.exchange(&config.mysql),
            self.postgres.exchange(&config.postgres),
            self.redis.exchange(&config.redis),
            self.nats.exchange(&config.nats),
            self.etcd.exchange(&config.etcd),
            self.gateway_tls.exchange(&config.gateway.tls),
            self.admin_tls.exchange(&config.admin.tls),
            self.tracing.exchange(&config.tracing),
            self.tune.exchange(&tune_of(config)),
        ];
        exchanged.into_iter().filter(|is| *is).count()
    }
}

/// What the core of each shard goes by.
pub(super) fn tune_of(config: &Config) -> Tune {
    Tune {
        members_ttl: config.members.cache_ttl,
        empty_wait: config.members.empty_wait,
        delivery_timeout: config.gateway.delivery_timeout,
        registry_forget_after: config.registry.forget_after,
        max_retry: config.consumer.max_retry,
        retry_interval: config.consumer.retry_interval,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::{KEYS, Key, Reload};
    use crate::config::kinds::Kind;
    use crate::config::{Flags, parse};

    /// A value other than the default.
    fn other(name: &str) -> &'static str {
        match name {
            "max_retry" => "7",
            "tls.mode" => "required",
            "endpoint" => "http://other",
            "sslmode" => "require",
            "tls.handshake_first" => "true",
            name if name.ends_with("timeout") || name.ends_with("_ttl") || name.ends_with("_wait") => "4s",
            name if name.ends_with("_interval") || name.ends_with("_after") || name.ends_with("_lifetime") => "4s",
            _ => "other",
        }
    }

    /// A key that is said to be applied and that nobody looks at would be a promise without a word behind it.
    #[test]
    fn each_key_that_is_applied_while_the_engine_runs_changes_a_part_that_somebody_looks_at() {
        let (defaults, mut count) = (Config::default(), 0);
        // Files are read, Resonance's names are of other keys, and the log's are looked at by the log.
        let is_one = |key: &&Key| key.reload == Reload::Running && !matches!(key.kind, Kind::SecretFile);
        let keys = KEYS.iter().filter(is_one);
        // The stop looks at `engine.drain_timeout` itself.
        for key in keys.filter(|key| !["log", "push_consumer", "engine"].contains(&key.section)) {
            let (group, name) = key.name.split_once('.').unwrap_or(("", key.name));
            let with = match key.full().as_str() {
                "nats.password" => "  username: u\n",
                "redis.username" | "etcd.username" => "  password: p\n",
                "etcd.password" => "  username: u\n",
                _ if group == "tls" && name == "cert" => "  tls: {key: k, cert: other}\n",
                _ if group == "tls" && name == "key" => "  tls: {key: other, cert: c}\n",
                _ if key.full() == "admin.tls.ca" => "  tls: {key: k, cert: c, ca: other}\n",
                _ => "",
            };
            let line = match group {
                _ if with.contains("other") => String::new(),
                "" => format!("  {name}: {}\n", other(key.name)),
                group => format!("  {group}: {{{name}: {}}}\n", other(key.name)),
            };
            let text = format!("{}:\n{with}{line}", key.section);
            let read = parse("t", &text, [], &Flags::default()).unwrap_or_else(|why| panic!("{text}{why}"));
            let changed = Sections::of(&defaults).exchange(&read.config);
            assert_eq!(changed, 1, "{}\n{text}", key.full());
            count += 1;
        }
        assert!(count > 50, "{count} keys");
    }
}
