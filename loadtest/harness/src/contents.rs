//! The contents of messages, as whoever publishes keeps them before: in `t_message_content`.
//!
//! Promises that a message's row is there before it is published, and that of each hundred messages of a session so many have one,
//! spread evenly. Refuses to be fast: each row is a round trip, so it is for rates at which large groups are written to.

use crate::error::Result;
use crate::servers::{Store, Tables};
use crate::verdict::message_key;
use crate::world::World;

/// Writes them.
pub struct Contents {
    tables: Tables,
    /// Of 100 messages, how many have a row.
    percent: u32,
    /// In sessions of more members than this.
    above: u32,
}

impl Contents {
    /// Of a server; `above` is `inbox.rows_up_to` of the engine.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn connect(store: &dyn Store, percent: u32, above: u32) -> Result<Self> {
        Ok(Self { tables: store.connect()?, percent, above })
    }

    /// Keeps a message of a session that is about to be published, if it is one of those; whether whoever cannot be reached finds it
    /// there.
    ///
    /// # Errors
    /// What the server says.
    pub fn keep(&mut self, world: &World, session: usize, number: u32) -> Result<bool> {
        if !is_kept(number, self.percent) {
            return Ok(false);
        }
        let (name, sender) = (World::session_name(session), World::user_name(world.sender(session)));
        self.tables.put_content(message_key(session, number), &name, &sender)?;
        Ok(world.members_count(session) > self.above)
    }
}

fn is_kept(number: u32, percent: u32) -> bool {
    let before = |number: u64| number * u64::from(percent) / 100;
    before(u64::from(number) + 1) > before(number.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_of_a_hundred_are_kept() {
        for (percent, kept) in [(0, 0), (10, 10), (90, 90), (99, 99), (100, 100)] {
            assert_eq!((0..100).filter(|number| is_kept(*number, percent)).count(), kept);
        }
        assert_eq!((0..20).filter(|number| !is_kept(*number, 90)).collect::<Vec<_>>(), [0, 10], "one of ten");
    }
}
