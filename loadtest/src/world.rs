//! A described world, put into real servers: who is in which session (MySQL), where each user is connected (Redis), and
//! which gateways there are (etcd).
//!
//! Users, sessions and places are those that [`verdict`](crate::verdict) knows, so the same sizes make the same world.
//! Every user is connected. Refuses nothing that is already there: it is written over.

use etcd_client::{Client, PutOptions};
use mysql::prelude::Queryable;
use serde_json::json;

use crate::error::{Error, Result};
use crate::gateways::Gateway;
use crate::servers::{Etcd, Maria, Redis};
use crate::verdict::{gateway_of, member_name, session_name};

/// Rows of one insert and commands of one pipeline.
const AT_ONCE: usize = 1_000;
/// Seconds that routes and registry entries last: longer than any run.
const LASTS: i64 = 24 * 3600;

/// The sizes of a world.
#[derive(Clone, Debug)]
pub struct World {
    /// Members of each session, the sender included.
    pub sizes: Vec<u32>,
    /// How many gateways the users are spread over.
    pub gateways: u32,
}

impl World {
    /// Everybody with the session and place: `(session, member)`.
    fn places(&self) -> Vec<(usize, u32)> {
        let members = |(session, size): (usize, &u32)| (0..*size).map(move |member| (session, member));
        self.sizes.iter().enumerate().flat_map(members).collect()
    }

    /// Writes the sessions and their members.
    ///
    /// # Errors
    /// What the server says.
    pub fn seed_members(&self, maria: &Maria) -> Result<()> {
        let failed = |cause| Error::of("cannot write members", cause);
        let mut conn = maria.connect()?;
        let sessions: Vec<usize> = (0..self.sizes.len()).collect();
        for part in sessions.chunks(AT_ONCE) {
            // Names of digits, letters, ':' and '-' only: nothing to escape.
            let kind = |session: &usize| if self.sizes[*session] == 2 { 1 } else { 2 };
            let rows = part.iter().map(|session| format!("('{}', {})", session_name(*session), kind(session)));
            let rows = rows.collect::<Vec<_>>().join(",");
            conn.query_drop(format!("REPLACE INTO t_session (session_id, type) VALUES {rows}")).map_err(failed)?;
        }
        for part in self.places().chunks(AT_ONCE) {
            let row = |&(session, member): &(usize, u32)| {
                format!("('{}', '{}')", session_name(session), member_name(session, member))
            };
            let rows = part.iter().map(row).collect::<Vec<_>>().join(",");
            let insert = format!("REPLACE INTO t_session_member (session_id, username) VALUES {rows}");
            conn.query_drop(insert).map_err(failed)?;
        }
        Ok(())
    }

    /// Writes every user's route.
    ///
    /// # Errors
    /// What the server says.
    pub fn seed_routes(&self, redis: &Redis) -> Result<()> {
        let failed = |cause| Error::of("cannot write routes", cause);
        let client = redis::Client::open(redis.url()).map_err(failed)?;
        let mut conn = client.get_connection().map_err(failed)?;
        for part in self.places().chunks(AT_ONCE) {
            let mut pipe = redis::pipe();
            for (session, member) in part {
                let user = member_name(*session, *member);
                let gateway = format!("gateway-{}", gateway_of(*session, *member, self.gateways));
                let route = json!({"username": user, "gateway_id": gateway, "remote_ip": "127.0.0.1", "timestamp": 0});
                let key = format!("resonance:router:user:{user}");
                pipe.cmd("SET").arg(key).arg(route.to_string()).arg("EX").arg(LASTS).ignore();
            }
            pipe.exec(&mut conn).map_err(failed)?;
        }
        Ok(())
    }

    /// Registers the gateways under a lease.
    ///
    /// # Errors
    /// What the server says.
    pub fn register(&self, etcd: &Etcd, gateways: &[Gateway]) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|cause| Error::of("cannot start a Tokio runtime", cause))?;
        let put = async {
            let mut client = Client::connect([etcd.addr()], etcd.connect_options()).await?;
            let lease = client.lease_grant(LASTS, None).await?.id();
            for gateway in gateways {
                let key = format!("/resonance/services/gateway-service/{}", gateway.id());
                let options = PutOptions::new().with_lease(lease);
                client.put(key, registration(gateway).to_string(), Some(options)).await?;
            }
            Ok(())
        };
        runtime.block_on(put).map_err(|cause: etcd_client::Error| Error::of("cannot register gateways", cause))
    }
}

/// What a gateway writes of itself into the registry.
pub fn registration(gateway: &Gateway) -> serde_json::Value {
    json!({
        "id": format!("gateway-service-{}", gateway.port()),
        "name": "gateway-service",
        "version": "1.0.0",
        "metadata": {"gateway_id": gateway.id(), "push_protocols": gateway.protocols().announcement()},
        "endpoints": [format!("grpc://{}", gateway.addr())],
    })
}
