//! What makes each built-in adapter of a configuration.

use std::sync::Arc;

use crate::admin::TlsSource;
use crate::config::{Config, Database, TlsConfig, TraceExport};
use crate::edge::resolve::Resolver;
use crate::edge::{dead_letters, etcd, mysql, nats, otlp, postgres, redis, tls};
use crate::engine::sections::Sections;
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
    source_by(config, &Sections::of(config), resolver)
}

/// The same, which goes by what these sections say at a time.
pub(super) fn source_by(config: &Config, sections: &Sections, resolver: &Resolver) -> Result<nats::NatsSource, String> {
    if let Some(fault) = config.consumer.urgent_topic_fault() {
        return Err(format!("consumer.urgent_topic: {fault}"));
    }
    check_nats(config)?;
    Ok(nats::NatsSource::new(sections.nats.clone(), config.consumer.clone(), resolver.clone()))
}

/// Whether the files can be used by which we prove to the configured NATS servers who we are, and they to us.
///
/// # Errors
/// What cannot, in words.
pub fn check_nats(config: &Config) -> Result<(), String> {
    nats::check_files(&config.nats)
}

/// What is wrong with the files of keys and certificates that the start would read: NATS's, then those of the `tls` sections. A text
/// of several lines where several are wrong.
pub fn mistakes_in_files(config: &Config) -> Vec<String> {
    [check_nats(config), check_tls(config)].into_iter().filter_map(Result::err).collect()
}

/// Whether the files of all `tls` sections can be used.
///
/// # Errors
/// All that cannot, a line each, with their keys.
pub fn check_tls(config: &Config) -> Result<(), String> {
    let wrong = tls_blocks(config).filter_map(|(section, block)| tls::client(block, section, &[]).err());
    let admin = config.admin.tls.is_written().then(|| tls::server::server(&config.admin.tls, ADMIN_TLS).err());
    let wrong: Vec<_> = wrong.chain(admin.flatten()).map(|error| error.to_string()).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// The `tls` sections that are used for connections that we open, but NATS's.
fn tls_blocks(config: &Config) -> impl Iterator<Item = (&'static str, &TlsConfig)> {
    let is_traced = config.tracing.export == TraceExport::Otlp;
    let blocks = [
        ("mysql.tls", &config.mysql.tls, config.mysql.tls.is_written()),
        ("postgres.tls", &config.postgres.tls, config.postgres.tls.is_written()),
        ("redis.tls", &config.redis.tls, config.redis.tls.is_written()),
        ("etcd.tls", &config.etcd.tls, config.etcd.wants_tls()),
        ("gateway.tls", &config.gateway.tls, config.gateway.tls.is_written()),
        (otlp::TLS_SECTION, &config.tracing.tls, is_traced && config.tracing.is_over_tls()),
    ];
    blocks.into_iter().filter_map(|(section, block, is_used)| is_used.then_some((section, block)))
}

/// Which files the `tls` sections name, each with what tells it from a later one in its place.
pub(super) fn tls_files(config: &Config) -> Vec<(&'static str, tls::Files)> {
    let nats = config.nats.wants_tls().then_some(("nats.tls", &config.nats.tls));
    let of = |(section, block): (_, &TlsConfig)| (section, tls::Files::of([&block.ca, &block.cert, &block.key]));
    let mut all: Vec<_> = tls_blocks(config).chain(nats).map(of).collect();
    let admin = &config.admin.tls;
    if admin.is_written() {
        all.push((ADMIN_TLS, tls::Files::of([&admin.ca, &admin.cert, &admin.key])));
    }
    all
}

/// What the admin port's TLS takes, if it speaks TLS.
pub fn admin_tls_of(config: &Config) -> Option<TlsSource> {
    admin_tls_by(&Sections::of(config))
}

/// The same, which goes by what these sections say at a time.
pub(super) fn admin_tls_by(sections: &Sections) -> Option<TlsSource> {
    let tls = sections.admin_tls.clone();
    tls.now().is_written().then(|| -> TlsSource {
        Arc::new(move || {
            let made = tls::server::server(&tls.now(), ADMIN_TLS).map_err(|error| error.to_string());
            // Clients are told nothing of it.
            made.inspect_err(|why| {
                warn_limited("admin_tls", format_args!("{why}; the admin port answers no new client"))
            })
        })
    })
}

/// Members from the configured database.
pub(super) fn members_by(config: &Config, sections: &Sections) -> Arc<dyn Members> {
    match config.database {
        Database::Mysql => Arc::new(mysql::MysqlMembers::new(sections.mysql.clone())),
        Database::Postgres => Arc::new(postgres::PostgresMembers::new(sections.postgres.clone())),
    }
}

/// The inbox in the configured database.
pub(super) fn inbox_by(config: &Config, sections: &Sections) -> Arc<dyn Inbox> {
    match config.database {
        Database::Mysql => Arc::new(mysql::MysqlInbox::new(sections.mysql.clone())),
        Database::Postgres => Arc::new(postgres::PostgresInbox::new(sections.postgres.clone())),
    }
}

/// Where dead letters are kept by this configuration.
pub fn dead_letters_of(config: &Config) -> dead_letters::DeadLetterSettings {
    config.into()
}

/// The built-in dead letters of this configuration.
pub fn dead_letter_store_of(config: &Config) -> Arc<dyn DeadLetters> {
    dead_letter_store_by(config, &Sections::of(config))
}

/// The same, which goes by what these sections say at a time.
pub(super) fn dead_letter_store_by(config: &Config, sections: &Sections) -> Arc<dyn DeadLetters> {
    let kept = dead_letters::KeptDeadLetters::new(dead_letters_of(config));
    Arc::new(kept.following(sections.nats.clone()))
}

/// Routes from the configured Redis.
pub(super) fn routes_by(config: &Config, sections: &Sections, resolver: &Resolver) -> Arc<dyn Routes + Send + Sync> {
    let settings = redis::Config::of(config.redis.clone(), config.routes.cache);
    Arc::new(redis::RedisRoutes::new(settings, resolver.clone()).following(sections.redis.clone()))
}

/// Gateways from the configured etcd.
pub(super) fn registry_by(config: &Config, sections: &Sections) -> Box<dyn Registry> {
    Box::new(etcd::EtcdRegistry::of(config, sections.etcd.clone()))
}
