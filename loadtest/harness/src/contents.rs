//! The contents of messages, as whoever publishes keeps them before: in `t_message_content`.
//!
//! Promises that a message's row is there before it is published, and that of each hundred messages of a session so many have one,
//! spread evenly. Refuses to be fast: each row is a round trip, so it is for rates at which large groups are written to.

use mysql::Conn;
use mysql::params;
use mysql::prelude::Queryable;

use crate::error::{Error, Result};
use crate::servers::Maria;
use crate::verdict::message_key;
use crate::world::World;

/// Writes them.
pub struct Contents {
    conn: Conn,
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
    pub fn connect(maria: &Maria, percent: u32, above: u32) -> Result<Self> {
        Ok(Self { conn: maria.connect()?, percent, above })
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
        let (msg_id, seq_id) = message_key(session, number);
        let insert = "REPLACE INTO t_message_content (msg_id, session_id, sender_username, seq_id, content) \
                      VALUES (:msg_id, :session, :sender, :seq_id, 'kept')";
        let row = params! {
            msg_id, seq_id,
            "session" => World::session_name(session),
            "sender" => World::user_name(world.sender(session)),
        };
        self.conn.exec_drop(insert, row).map_err(|cause| Error::of("cannot keep the content of a message", cause))?;
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
