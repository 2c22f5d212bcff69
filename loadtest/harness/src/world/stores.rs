//! A world put into the stores that an engine reads: members (MySQL or PostgreSQL), routes (Redis) and gateways (etcd), or those in
//! memory.
//!
//! Refuses nothing that is already there: it is written over.

use etcd_client::{Client, PutOptions};
use serde_json::json;
use task_engine::edge::memory::{MemoryMembers, MemoryRegistry, MemoryRoutes};
use task_engine::ports::{Endpoint, GatewayRecord, Protocols};

use super::World;
use crate::error::{Error, Result};
use crate::gateways::Gateway;
use crate::servers::{Etcd, Redis, Store};

/// Rows of one insert and commands of one pipeline.
const AT_ONCE: usize = 1_000;
/// Seconds that routes and registry entries last: longer than any run.
pub(crate) const LASTS: i64 = 24 * 3600;

/// A world in memory, for an engine inside this process.
#[derive(Clone, Debug)]
pub struct MemoryStores {
    /// Who is in which session.
    pub members: MemoryMembers,
    /// Where users are connected.
    pub routes: MemoryRoutes,
    /// Which gateways there are.
    pub registry: MemoryRegistry,
}

impl World {
    /// Writes everything into real servers.
    ///
    /// # Errors
    /// What a server says.
    pub fn seed(&self, store: &dyn Store, redis: &Redis, etcd: &Etcd, gateways: &[Gateway]) -> Result<()> {
        self.seed_members(store)?;
        self.seed_routes(redis)?;
        register(etcd, "/resonance/services", &gateways.iter().map(registration).collect::<Vec<_>>())
    }

    /// The same in memory.
    pub fn in_memory(&self, gateways: &[Gateway]) -> MemoryStores {
        let (members, routes, registry) = (MemoryMembers::new(), MemoryRoutes::new(), MemoryRegistry::new());
        for session in 0..self.sessions() {
            members.set(&Self::session_name(session), self.members(session).map(Self::user_name));
        }
        for user in self.online() {
            let gateways = self.gateways_of(user, self.place(user).current);
            routes.set_each(&Self::user_name(user), gateways.map(Self::gateway_name));
        }
        for gateway in gateways {
            registry.set(GatewayRecord {
                gateway_id: gateway.id().into(),
                endpoints: vec![Endpoint { host: "127.0.0.1".to_owned(), port: gateway.port(), secure: false }],
                protocols: Protocols::parse(&gateway.protocols().announcement()),
                others: Vec::new(),
            });
        }
        MemoryStores { members, routes, registry }
    }

    fn online(&self) -> impl Iterator<Item = u32> {
        (0..self.workload.users).filter(|user| !self.place(*user).is_offline)
    }

    fn seed_members(&self, store: &dyn Store) -> Result<()> {
        let mut tables = store.connect()?;
        let sessions = (0..self.sessions()).map(|session| {
            let kind = if self.members_count(session) == 2 { 1 } else { 2 };
            format!("('{}', {kind})", Self::session_name(session))
        });
        in_parts(sessions, |rows| tables.put_sessions(rows))?;
        let members = (0..self.sessions()).flat_map(|session| {
            let name = Self::session_name(session);
            self.members(session).map(move |user| format!("('{name}', '{}')", Self::user_name(user)))
        });
        in_parts(members, |rows| tables.put_members(rows))
    }

    fn seed_routes(&self, redis: &Redis) -> Result<()> {
        let failed = |cause| Error::of("cannot write routes", cause);
        let client = redis::Client::open(redis.url()).map_err(failed)?;
        let mut conn = client.get_connection().map_err(failed)?;
        in_parts(self.online(), |users| {
            let mut pipe = redis::pipe();
            users
                .iter()
                .for_each(|user| put_route(&mut pipe, *user, self.gateways_of(*user, self.place(*user).current)));
            pipe.exec(&mut conn).map_err(failed)
        })
    }
}

/// Adds the writing of one user's route, the newest gateway first; as `contrib/redis` writes it where there are several.
pub(crate) fn put_route(pipe: &mut redis::Pipeline, user: u32, gateways: impl Iterator<Item = u32>) {
    let user = World::user_name(user);
    let gateways: Vec<String> = gateways.map(World::gateway_name).collect();
    let mut route = json!({"username": user, "gateway_id": gateways[0], "remote_ip": "127.0.0.1", "timestamp": 0});
    if gateways.len() > 1 {
        route["gateways"] = json!(gateways);
    }
    let key = format!("resonance:router:user:{user}");
    pipe.cmd("SET").arg(key).arg(route.to_string()).arg("EX").arg(LASTS).ignore();
}

/// Writes what gateways say of themselves into the registry of this namespace, under a lease.
///
/// # Errors
/// What etcd says.
pub fn register(etcd: &Etcd, namespace: &str, registrations: &[serde_json::Value]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|cause| Error::of("cannot start a Tokio runtime", cause))?;
    let put = async {
        let mut client = Client::connect([etcd.plain_addr()], etcd.connect_options()).await?;
        let lease = client.lease_grant(LASTS, None).await?.id();
        for registration in registrations {
            let id = registration["metadata"]["gateway_id"].as_str().unwrap_or_default();
            let key = format!("{namespace}/gateway-service/{id}");
            client.put(key, registration.to_string(), Some(PutOptions::new().with_lease(lease))).await?;
        }
        Ok(())
    };
    runtime.block_on(put).map_err(|cause: etcd_client::Error| Error::of("cannot register gateways", cause))
}

/// What a gateway writes of itself into the registry.
pub fn registration(gateway: &Gateway) -> serde_json::Value {
    registration_at(gateway, gateway.port())
}

/// The same of one that is reached at another port of this machine.
pub fn registration_at(gateway: &Gateway, port: u16) -> serde_json::Value {
    json!({
        "id": format!("gateway-service-{}", gateway.port()),
        "name": "gateway-service",
        "version": "1.0.0",
        "metadata": {"gateway_id": gateway.id(), "push_protocols": gateway.protocols().announcement()},
        "endpoints": [format!("grpc://127.0.0.1:{port}")],
    })
}

/// The same of one that speaks TLS.
pub fn registration_over_tls(gateway: &Gateway) -> serde_json::Value {
    let mut registration = registration(gateway);
    registration["endpoints"] = json!([format!("grpcs://{}", gateway.addr())]);
    registration
}

/// Hands over what there is, [`AT_ONCE`] at a time: a world may be larger than what fits in memory twice.
fn in_parts<T>(all: impl Iterator<Item = T>, mut take: impl FnMut(&[T]) -> Result<()>) -> Result<()> {
    let mut part = Vec::with_capacity(AT_ONCE);
    for one in all {
        part.push(one);
        if part.len() == AT_ONCE {
            take(&part)?;
            part.clear();
        }
    }
    if part.is_empty() { Ok(()) } else { take(&part) }
}
