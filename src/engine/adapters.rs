//! What makes each built-in adapter of a configuration.

use std::sync::Arc;

use crate::admin::TlsSource;
use crate::config::{Config, Database, TraceExport};
use crate::edge::resolve::Resolver;
use crate::edge::{dead_letters, etcd, mysql, nats, otlp, postgres, redis, tls};
use crate::ports::{DeadLetters, Inbox, Members, Registry, Routes};
use crate::telemetry::logging::warn_limited;

/// Where the keys of the admin port's TLS stand in the configuration.
pub const ADMIN_TLS: &str = "admin.tls";

/// Events from the configured NATS servers. A configuration that no file was read for is looked at here: a subject of urgent events
/// beside owners would be read by everybody.
///
/// # Errors
/// What cannot be used, in words.
pub fn source_of(config: &Config, resolver: &Resolver) -> Result<nats::NatsSource, String> {
    if let Some(fault) = config.consumer.urgent_topic_fault() {
        return Err(format!("consumer.urgent_topic: {fault}"));
    }
    check_nats(config)?;
    Ok(nats::NatsSource::new(config.nats.clone(), config.consumer.clone(), resolver.clone()))
}

/// Whether the files can be used by which we prove to the configured NATS servers who we are, and they to us.
///
/// # Errors
/// What cannot, in words.
pub fn check_nats(config: &Config) -> Result<(), String> {
    nats::check_files(&config.nats)
}

/// Whether the files of all `tls` sections can be used.
///
/// # Errors
/// All that cannot, a line each, with their keys.
pub fn check_tls(config: &Config) -> Result<(), String> {
    let is_traced = config.tracing.export == TraceExport::Otlp;
    let blocks = [
        ("mysql.tls", &config.mysql.tls, config.mysql.tls.is_written()),
        ("postgres.tls", &config.postgres.tls, config.postgres.tls.is_written()),
        ("redis.tls", &config.redis.tls, config.redis.tls.is_written()),
        ("etcd.tls", &config.etcd.tls, config.etcd.wants_tls()),
        ("gateway.tls", &config.gateway.tls, config.gateway.tls.is_written()),
        (otlp::TLS_SECTION, &config.tracing.tls, is_traced && config.tracing.is_over_tls()),
    ];
    let used = blocks.into_iter().filter(|(.., is_used)| *is_used);
    let wrong = used.filter_map(|(section, block, _)| tls::client(block, section, &[]).err());
    let admin = config.admin.tls.is_written().then(|| tls::server::server(&config.admin.tls, ADMIN_TLS).err());
    let wrong: Vec<_> = wrong.chain(admin.flatten()).map(|error| error.to_string()).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// What the admin port's TLS takes, if it speaks TLS.
pub fn admin_tls_of(config: &Config) -> Option<TlsSource> {
    let tls = config.admin.tls.clone();
    tls.is_written().then(|| -> TlsSource {
        Arc::new(move || {
            let made = tls::server::server(&tls, ADMIN_TLS).map_err(|error| error.to_string());
            // Clients are told nothing of it.
            made.inspect_err(|why| {
                warn_limited("admin_tls", format_args!("{why}; the admin port answers no new client"))
            })
        })
    })
}

/// Members from the configured database.
pub fn members_of(config: &Config) -> Arc<dyn Members> {
    match config.database {
        Database::Mysql => Arc::new(mysql::MysqlMembers::new(config.mysql.clone())),
        Database::Postgres => Arc::new(postgres::PostgresMembers::new(config.postgres.clone())),
    }
}

/// The inbox in the configured database.
pub fn inbox_of(config: &Config) -> Arc<dyn Inbox> {
    match config.database {
        Database::Mysql => Arc::new(mysql::MysqlInbox::new(config.mysql.clone())),
        Database::Postgres => Arc::new(postgres::PostgresInbox::new(config.postgres.clone())),
    }
}

/// Where dead letters are kept by this configuration.
pub fn dead_letters_of(config: &Config) -> dead_letters::DeadLetterSettings {
    config.into()
}

/// The built-in dead letters of this configuration.
pub fn dead_letter_store_of(config: &Config) -> Arc<dyn DeadLetters> {
    Arc::new(dead_letters::KeptDeadLetters::new(dead_letters_of(config)))
}

/// Routes from the configured Redis.
pub fn routes_of(config: &Config, resolver: &Resolver) -> Arc<dyn Routes + Send + Sync> {
    let settings = redis::Config::of(config.redis.clone(), config.routes.cache);
    Arc::new(redis::RedisRoutes::new(settings, resolver.clone()))
}

/// Gateways from the configured etcd.
pub fn registry_of(config: &Config) -> Box<dyn Registry> {
    Box::new(etcd::EtcdRegistry::new(config.etcd.clone(), &config.registry, &config.gateway_service_name))
}
