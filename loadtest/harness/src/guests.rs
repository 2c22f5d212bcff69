//! Members who come and go while events are published: guests of the largest session, who are connected nowhere.
//!
//! Promises so many joins a second, each a statement of its own, and as many leaves once the first ones have been there for
//! [`STAYS`]; their names lie all over the order of the session's members. A guest is no user of the world: nothing is expected
//! for it, and its rows in the inbox are nobody's fault.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use crate::background::Background;
use crate::clock;
use crate::error::Result;
use crate::rng::Rng;
use crate::servers::{Store, Tables};
use crate::world::World;

/// How long a guest stays.
const STAYS: Duration = Duration::from_secs(5);
/// Joins and leaves are gathered for so long.
const GATHER: Duration = Duration::from_millis(5);
const SEED: u64 = 13;
/// Between the name of a user and a guest's number.
const MARK: &str = "-guest-";

/// Whether a name is a guest's.
pub fn is_guest(name: &str) -> bool {
    name.contains(MARK)
}

/// Starts, where the workload has guests; who is there at the end stays.
///
/// # Errors
/// When the server does not answer.
pub fn start(world: &World, store: &dyn Store) -> Result<Option<Background>> {
    let rate = world.workload().guests_per_second;
    if rate == 0 {
        return Ok(None);
    }
    let largest = (0..world.sessions()).max_by_key(|session| world.members_count(*session)).unwrap_or(0);
    let coming = Coming {
        tables: store.connect()?,
        session: World::session_name(largest),
        users: world.workload().users,
        rng: Rng::new(SEED),
        joined: 0,
        there: VecDeque::new(),
    };
    let is_over = |stop: &Receiver<()>, pause| stop.recv_timeout(pause) != Err(RecvTimeoutError::Timeout);
    Background::start("guests", move |stop| coming.run(rate, |pause| is_over(stop, pause))).map(Some)
}

struct Coming {
    tables: Tables,
    session: String,
    users: u32,
    rng: Rng,
    joined: u64,
    /// Since when, and who.
    there: VecDeque<(u64, String)>,
}

impl Coming {
    fn run(mut self, rate: u32, is_over: impl Fn(Duration) -> bool) -> Result<()> {
        let (start, stays) = (clock::now(), STAYS.as_nanos() as u64);
        while !is_over(GATHER) {
            let passed = u128::from(clock::now() - start);
            let due = (passed * u128::from(rate) / 1_000_000_000) as u64;
            while self.joined < due {
                self.join()?;
            }
            while self.there.front().is_some_and(|(since, _)| clock::now() - since >= stays)
                && let Some((_, name)) = self.there.pop_front()
            {
                self.tables.take_member(&self.session, &name)?;
            }
        }
        Ok(())
    }

    fn join(&mut self) -> Result<()> {
        let beside = World::user_name(self.rng.below(self.users.into()) as u32);
        let name = format!("{beside}{MARK}{}", self.joined);
        self.tables.put_members(&[format!("('{}', '{name}')", self.session)])?;
        self.there.push_back((clock::now(), name));
        self.joined += 1;
        Ok(())
    }
}
