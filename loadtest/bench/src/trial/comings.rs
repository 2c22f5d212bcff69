//! Guests who join and leave a session while it is measured, and what their coming costs the database.

use harness::background::Background;
use harness::error::{Error, Result};
use harness::guests;
use harness::servers::QueryTimes;
use harness::workload::Workload;
use harness::world::World;

use super::servers::Servers;
use crate::result::QueryFigures;

/// Whether a workload can be run.
///
/// # Errors
/// When it has guests and no servers.
pub(super) fn check(workload: &Workload, with_servers: bool) -> Result<()> {
    match workload.guests_per_second > 0 && !with_servers {
        true => Err(Error::new("guests (--guests) need real servers: add --servers")),
        false => Ok(()),
    }
}

/// Guests, and the database's log of statements.
#[derive(Default)]
pub(super) struct Comings {
    guests: Option<Background>,
    times: Option<QueryTimes>,
}

impl Comings {
    /// Lets guests come, where the workload has any, and logs the statements of whoever connects to the database after this.
    ///
    /// # Errors
    /// When the database does not answer.
    pub fn start(world: &World, servers: &Servers) -> Result<Self> {
        let guests = guests::start(world, &*servers.store)?;
        let times = guests.is_some().then(|| servers.store.query_times()).transpose()?.flatten();
        Ok(Self { guests, times })
    }

    /// What was logged, by kind of statement; the first reads, in the warm-up, as well.
    ///
    /// # Errors
    /// When the database does not answer.
    pub fn figures(&mut self) -> Result<Vec<QueryFigures>> {
        let times = self.times.as_mut().map_or(Ok(Vec::new()), QueryTimes::take)?;
        Ok(times.iter().map(|of| QueryFigures::of(of.kind, &of.nanos)).collect())
    }

    /// Nobody comes any more.
    ///
    /// # Errors
    /// What kept guests from coming.
    pub fn stop(&mut self) -> Result<()> {
        self.guests.take().map_or(Ok(()), Background::stop)
    }
}
