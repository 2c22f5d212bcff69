//! How an engine of this program reaches its stores by its configuration, and what stands in them: shared by the reference
//! engine and the bare one, so that both read the same world.
//!
//! Refuses to look anything up by itself.

use std::borrow::Cow;

use etcd_client::ConnectOptions;
use harness::error::{Error, Result};
use mysql::{Opts, OptsBuilder};
use redis::{ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo};
use serde_json::Value;
use task_engine::config::Config;
use task_engine::ports::Protocols;

/// What a user's name follows in the key of its route.
pub(crate) const ROUTE_KEY_PREFIX: &str = "resonance:router:user:";

/// How MySQL is reached.
pub(crate) fn mysql(config: &Config) -> Opts {
    let mysql = &config.mysql;
    let options = OptsBuilder::new()
        .ip_or_hostname(Some(&mysql.at.host))
        .tcp_port(mysql.at.port)
        .prefer_socket(false)
        .user(Some(&mysql.username))
        .pass(Some(mysql.password.reveal()))
        .db_name(Some(&mysql.database))
        .tcp_connect_timeout(Some(mysql.connect_timeout))
        .read_timeout(Some(mysql.timeout))
        .write_timeout(Some(mysql.timeout))
        .init(vec!["SET NAMES utf8mb4", "SET autocommit = 1"]);
    Opts::from(options)
}

/// How Redis is reached.
///
/// # Errors
/// When its address is none.
pub(crate) fn redis(config: &Config) -> Result<redis::Client> {
    let mut settings = RedisConnectionInfo::default().set_db(i64::from(config.redis.db));
    if !config.redis.password.is_empty() {
        settings = settings.set_password(config.redis.password.reveal());
    }
    let address = ConnectionAddr::Tcp(config.redis.at.host.clone(), config.redis.at.port);
    let info = address.into_connection_info().map(|info| info.set_redis_settings(settings));
    info.and_then(redis::Client::open).map_err(|cause| Error::of(&format!("Redis at {}", config.redis.at), cause))
}

/// How etcd is reached, and where the gateways stand there.
pub(crate) struct Etcd {
    pub endpoints: Vec<String>,
    pub options: ConnectOptions,
    pub prefix: String,
}

impl Etcd {
    /// As this configuration says.
    pub fn of(config: &Config) -> Self {
        let etcd = &config.etcd;
        let mut options = ConnectOptions::new()
            .with_connect_timeout(etcd.dial_timeout)
            .with_keep_alive(etcd.keep_alive_time, etcd.keep_alive_timeout);
        if !etcd.username.is_empty() {
            options = options.with_user(&etcd.username, etcd.password.reveal());
        }
        Self {
            endpoints: etcd.endpoints.iter().map(|at| format!("http://{at}")).collect(),
            options,
            prefix: format!("{}/{}/", config.registry.namespace, config.gateway_service_name),
        }
    }
}

/// What a gateway wrote into the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registration {
    /// The id that routes name.
    pub gateway: String,
    /// `host:port`, at least one.
    pub endpoints: Vec<String>,
    /// What it speaks.
    pub protocols: Protocols,
}

impl Registration {
    /// None when there is no gateway in it.
    pub fn read(value: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(value).ok()?;
        let word = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let gateway = word(&value["metadata"]["gateway_id"]).or_else(|| word(&value["id"]))?;
        let endpoints = value["endpoints"].as_array()?.iter().filter_map(Value::as_str);
        let endpoints: Vec<String> = endpoints
            .filter(|text| !text.starts_with("http"))
            .map(|text| text.trim_start_matches("grpc://").to_owned())
            .collect();
        let protocols = Protocols::parse(&word(&value["metadata"]["push_protocols"]).unwrap_or_default());
        (!endpoints.is_empty()).then_some(Self { gateway, endpoints, protocols })
    }
}

/// The gateway that a route names; what is no route counts as none.
pub(crate) fn gateway_of_route(value: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(serde::Deserialize)]
    struct Stored<'a> {
        #[serde(borrow)]
        gateway_id: Cow<'a, str>,
    }
    let stored: Stored<'_> = serde_json::from_slice(value).ok()?;
    (!stored.gateway_id.is_empty()).then_some(stored.gateway_id)
}
