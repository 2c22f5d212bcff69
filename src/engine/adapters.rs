//! What makes each built-in adapter of a configuration.

use std::sync::Arc;

use crate::config::{Assignment, Config, ConsumerMode, NatsAuth, RouteCache};
use crate::edge::resolve::Resolver;
use crate::edge::{dead_letters, etcd, mysql, nats, redis};
use crate::ports::{DeadLetters, Endpoint, Inbox, Members, Registry, Routes, Source};

/// Events from the configured NATS servers.
///
/// # Errors
/// What cannot be used, in words.
pub fn source_of(config: &Config) -> Result<Box<dyn Source>, String> {
    Ok(Box::new(nats_source_of(config)?))
}

/// The same as what it is.
///
/// # Errors
/// What cannot be used, in words.
pub fn nats_source_of(config: &Config) -> Result<nats::NatsSource, String> {
    let (nats, consumer) = (&config.nats, &config.consumer);
    if let Some(server) = nats.servers.iter().find(|server| server.tls) {
        return Err(format!("nats.url: {server}: TLS is not spoken to NATS here; use nats:// on a private network"));
    }
    let (username, password, token) = match &nats.auth {
        NatsAuth::None => ("", "", ""),
        NatsAuth::Token(token) => ("", "", token.reveal()),
        NatsAuth::User { username, password } => (username.as_str(), password.reveal(), ""),
    };
    let settings = nats::NatsSettings {
        url: nats.servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        username: username.to_owned(),
        password: password.to_owned(),
        token: token.to_owned(),
        connect_timeout: nats.timeout,
        reconnect_wait: nats.reconnect_delay,
        ping_interval: nats.ping_interval,
        max_pings_out: nats.max_pings_out,
        topic: consumer.topic.clone(),
        queue_group: consumer.queue_group.clone(),
        assignment: match consumer.assignment {
            Assignment::Queue => nats::Assignment::Queue,
            Assignment::Partitioned => nats::Assignment::Partitioned,
        },
        jetstream: (consumer.mode == ConsumerMode::JetStream).then(|| nats::JetStreamSettings {
            stream: consumer.stream.clone(),
            durable: consumer.durable.clone(),
            ack_wait: consumer.ack_wait,
            max_ack_pending: consumer.max_ack_pending,
        }),
    };
    nats::NatsSource::new(settings).map_err(|error| error.to_string())
}

/// Members from the configured MySQL.
pub fn members_of(config: &Config) -> Arc<dyn Members> {
    Arc::new(mysql::MysqlMembers::new(mysql_of(config)))
}

/// The inbox in the configured MySQL.
pub fn inbox_of(config: &Config) -> Arc<dyn Inbox> {
    Arc::new(mysql::MysqlInbox::new(mysql_of(config)))
}

/// Where dead letters are kept by this configuration.
pub fn dead_letters_of(config: &Config) -> dead_letters::DeadLetterSettings {
    let nats = &config.nats;
    dead_letters::DeadLetterSettings {
        wire: dead_letters::wire::WireSettings {
            servers: nats.servers.clone(),
            auth: nats.auth.clone(),
            name: format!("{} dead letters", nats.name),
            timeout: nats.timeout,
        },
        stream: config.consumer.stream.clone(),
        needs_stream: config.consumer.mode == ConsumerMode::JetStream,
        path: config.dead_letters.path.clone(),
    }
}

/// The built-in dead letters of this configuration.
pub fn dead_letter_store_of(config: &Config) -> Arc<dyn DeadLetters> {
    Arc::new(dead_letters::KeptDeadLetters::new(dead_letters_of(config)))
}

fn mysql_of(config: &Config) -> mysql::MysqlSettings {
    let mysql = &config.mysql;
    mysql::MysqlSettings {
        host: mysql.at.host.clone(),
        port: mysql.at.port,
        username: mysql.username.clone(),
        password: mysql.password.reveal().to_owned(),
        database: mysql.database.clone(),
        charset: "utf8mb4".to_owned(),
        connect_timeout: mysql.connect_timeout,
        read_timeout: mysql.timeout,
        write_timeout: mysql.timeout,
        max_lifetime: mysql.conn_max_lifetime,
    }
}

/// Routes from the configured Redis.
pub fn routes_of(config: &Config, resolver: &Resolver) -> Arc<dyn Routes + Send + Sync> {
    let redis = &config.redis;
    let settings = redis::Config {
        addr: Endpoint { host: redis.at.host.clone(), port: redis.at.port },
        password: redis.password.reveal().to_owned(),
        db: redis.db,
        dial_timeout: redis.dial_timeout,
        read_timeout: redis.read_timeout,
        write_timeout: redis.write_timeout,
        tracked: config.routes.cache == RouteCache::Tracked,
        ..redis::Config::default()
    };
    Arc::new(redis::RedisRoutes::new(settings, resolver.clone()))
}

/// Gateways from the configured etcd.
pub fn registry_of(config: &Config) -> Box<dyn Registry> {
    let etcd = &config.etcd;
    Box::new(etcd::EtcdRegistry::new(etcd::EtcdSettings {
        endpoints: etcd.endpoints.iter().map(ToString::to_string).collect(),
        username: etcd.username.clone(),
        password: etcd.password.reveal().to_owned(),
        dial_timeout: etcd.dial_timeout,
        timeout: etcd.timeout,
        keep_alive_time: etcd.keep_alive_time,
        keep_alive_timeout: etcd.keep_alive_timeout,
        namespace: config.registry.namespace.clone(),
        service: config.gateway_service_name.clone(),
    }))
}
