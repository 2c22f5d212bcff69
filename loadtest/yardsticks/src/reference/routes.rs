//! Where users are connected, from Redis by MGET over one multiplexed connection, and how long that is believed.
//!
//! A route is kept for [`KEPT`], since the gateway itself says when a user is no longer there; that there is none is kept
//! for [`OFFLINE_KEPT`], since nobody says when a user comes. With `routes.cache: off` nothing is kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use harness::error::{Error, Result};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client};
use task_engine::config::{Config, RouteCache};

use super::delivery::User;
use super::gateway::Gateways;
use crate::wiring;

/// How long a route is used before Redis is asked again.
const KEPT: Duration = Duration::from_secs(10);
/// How long a user without a route counts as offline.
const OFFLINE_KEPT: Duration = Duration::from_secs(1);
/// Keys in one MGET.
const MGET_KEYS: usize = 1000;

/// The way to the routes.
pub(super) struct Routes {
    client: Client,
    config: AsyncConnectionConfig,
    place: String,
    connection: tokio::sync::Mutex<Option<MultiplexedConnection>>,
    kept: [Duration; 2],
    changes: AtomicU64,
}

impl Routes {
    /// Connects.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn connect(config: &Config) -> Result<Self> {
        let place = format!("Redis at {}", config.redis.at);
        let client = wiring::redis(config)?;
        let patience = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.redis.dial_timeout))
            .set_response_timeout(Some(config.redis.read_timeout));
        let kept = match config.routes.cache {
            RouteCache::Tracked => [KEPT, OFFLINE_KEPT],
            RouteCache::Off => [Duration::ZERO; 2],
        };
        let connection = tokio::sync::Mutex::new(None);
        let routes = Self { client, config: patience, place, connection, kept, changes: AtomicU64::new(0) };
        routes.connection().await?;
        Ok(routes)
    }

    /// Counts the routes that were found changed so far.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// Asks Redis for these users' routes.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn refresh(&self, users: &[Arc<User>], gateways: &Arc<Gateways>) -> Result<()> {
        let mut connection = self.connection().await?;
        for users in users.chunks(MGET_KEYS) {
            let mut ask = redis::cmd("MGET");
            for user in users {
                ask.arg([wiring::ROUTE_KEY_PREFIX.as_bytes(), &user.name].concat());
            }
            let answer: redis::RedisResult<Vec<Option<Vec<u8>>>> = ask.query_async(&mut connection).await;
            let values = match answer {
                Ok(values) => values,
                Err(cause) => {
                    // The connection does not mend itself.
                    *self.connection.lock().await = None;
                    return Err(Error::of(&self.place, cause));
                }
            };
            let now = Instant::now();
            for (user, value) in users.iter().zip(&values) {
                let gateway = value.as_deref().and_then(wiring::gateway_of_route).map(|id| gateways.get(&id));
                let kept = self.kept[usize::from(gateway.is_none())];
                user.set_route(gateway, now + kept, &self.changes);
            }
        }
        Ok(())
    }

    async fn connection(&self) -> Result<MultiplexedConnection> {
        let mut connection = self.connection.lock().await;
        if let Some(connection) = &*connection {
            return Ok(connection.clone());
        }
        let opened = self.client.get_multiplexed_async_connection_with_config(&self.config).await;
        let opened = opened.map_err(|cause| Error::of(&self.place, cause))?;
        *connection = Some(opened.clone());
        Ok(opened)
    }
}
