//! Everything there is, read once: members from MySQL, routes from Redis, gateways from etcd.
//!
//! Refuses to go on when one of them does not answer, or when no gateway is registered.

use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs as _};

use etcd_client::{Client, GetOptions};
use harness::error::{Error, Result};
use mysql::prelude::Queryable as _;
use task_engine::config::Config;
use task_engine::ports::Protocols;

use crate::wiring::{self, Etcd, Registration};

/// Keys in one MGET.
const MGET_KEYS: usize = 1000;

/// What was read.
pub(super) struct World {
    /// The members of each session.
    pub members: HashMap<Vec<u8>, Vec<Vec<u8>>>,
    /// The place in `gateways` of each user who has one.
    pub routes: HashMap<Vec<u8>, usize>,
    /// Gateways that can be pushed to.
    pub gateways: Vec<Place>,
}

/// Where a gateway is.
pub(super) struct Place {
    pub id: String,
    /// `host:port` as the registry has it.
    pub endpoint: String,
    pub addresses: Vec<SocketAddr>,
    /// `PushBatch`, not `PushMessage`.
    pub takes_batches: bool,
}

/// Reads all of it.
///
/// # Errors
/// When a server does not answer, or there is no gateway.
pub(super) fn read(config: &Config) -> Result<World> {
    let gateways = gateways(config)?;
    if gateways.is_empty() {
        return Err(Error::new("no gateway is registered that speaks batch or stream: the bare program looks once"));
    }
    let members = members(config)?;
    let routes = routes(config, &members, &gateways)?;
    eprintln!("bare: {} gateways, {} sessions, {} users with a route", gateways.len(), members.len(), routes.len());
    Ok(World { members, routes, gateways })
}

fn members(config: &Config) -> Result<HashMap<Vec<u8>, Vec<Vec<u8>>>> {
    let failed = |cause| Error::of(&format!("MySQL at {}", config.mysql.at), cause);
    let mut connection = mysql::Conn::new(wiring::mysql(config)).map_err(failed)?;
    let mut members: HashMap<Vec<u8>, Vec<Vec<u8>>> = HashMap::new();
    let put = |(session, user)| members.entry(session).or_default().push(user);
    connection.query_map("SELECT session_id, username FROM t_session_member", put).map_err(failed)?;
    Ok(members)
}

fn routes(
    config: &Config,
    members: &HashMap<Vec<u8>, Vec<Vec<u8>>>,
    gateways: &[Place],
) -> Result<HashMap<Vec<u8>, usize>> {
    let failed = |cause| Error::of(&format!("Redis at {}", config.redis.at), cause);
    let numbers: HashMap<&str, usize> = gateways.iter().enumerate().map(|(at, place)| (&*place.id, at)).collect();
    let mut users: Vec<&Vec<u8>> = members.values().flatten().collect();
    users.sort_unstable();
    users.dedup();
    let mut connection =
        wiring::redis(config)?.get_connection_with_timeout(config.redis.dial_timeout).map_err(failed)?;
    connection.set_read_timeout(Some(config.redis.read_timeout)).map_err(failed)?;
    let mut routes = HashMap::new();
    for users in users.chunks(MGET_KEYS) {
        let mut ask = redis::cmd("MGET");
        for user in users {
            ask.arg([wiring::ROUTE_KEY_PREFIX.as_bytes(), user].concat());
        }
        let values: Vec<Option<Vec<u8>>> = ask.query(&mut connection).map_err(failed)?;
        for (user, value) in users.iter().zip(&values) {
            let gateway = value.as_deref().and_then(wiring::gateway_of_route);
            if let Some(number) = gateway.and_then(|id| numbers.get(&*id)) {
                routes.insert(user.to_vec(), *number);
            }
        }
    }
    Ok(routes)
}

fn gateways(config: &Config) -> Result<Vec<Place>> {
    let Etcd { endpoints, options, prefix } = Etcd::of(config);
    let failed = |cause| Error::of(&format!("etcd at {}", endpoints.join(",")), cause);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|cause| Error::of("cannot start Tokio", cause))?;
    let pairs = runtime.block_on(async {
        let mut client = Client::connect(&endpoints, Some(options)).await?;
        client.get(prefix, Some(GetOptions::new().with_prefix())).await
    });
    let mut pairs = pairs.map_err(failed)?.take_kvs();
    // Of several instances the one that was written last speaks for the gateway.
    pairs.sort_by_key(|pair| std::cmp::Reverse(pair.mod_revision()));
    let mut places: Vec<Place> = Vec::new();
    for registration in pairs.iter().filter_map(|pair| Registration::read(pair.value())) {
        if !places.iter().any(|place| place.id == registration.gateway) {
            places.extend(place(registration)?);
        }
    }
    Ok(places)
}

/// None for a gateway that speaks neither rpc.
fn place(registration: Registration) -> Result<Option<Place>> {
    let Registration { gateway: id, endpoints, protocols: Protocols { batch, stream, .. } } = registration;
    let Some(endpoint) = endpoints.into_iter().next().filter(|_| batch || stream) else { return Ok(None) };
    let addresses = endpoint.to_socket_addrs();
    let addresses = addresses.map_err(|cause| Error::of(&format!("gateway {id} at {endpoint}"), cause))?.collect();
    Ok(Some(Place { id, endpoint, addresses, takes_batches: batch }))
}
