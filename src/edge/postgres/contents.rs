//! The queries for contents of messages in `t_message_content`.

use tokio_postgres::types::Type;

use super::conn::Raw;
use super::link::{PostgresLink, live};
use crate::config::{Current, PostgresConfig};
use crate::edge::sql::contents::{ContentQueries, Found, Reader};
use crate::edge::sql::fault::Fault;
use crate::edge::sql::live::Live;
use crate::ports::{LookupError, MessageKey};

/// What an operator has to look at when the table is not as expected.
const SCHEMA: &str = "check that postgres.database holds t_message_content(msg_id, session_id, seq_id) in the user's search_path \
                      and the user may SELECT it, or set inbox.rows_up_to to 0";
const FIND: &str = "SELECT msg_id, session_id, seq_id FROM t_message_content WHERE msg_id = ANY($1)";
const PROBE: &str = "SELECT msg_id, session_id, seq_id FROM t_message_content LIMIT 1";

/// One thread's way to the contents; connects when first used.
pub(super) fn reader(server: &Current<PostgresConfig>) -> Reader<Queries> {
    Reader(Queries(live(server, SCHEMA)))
}

pub(super) struct Queries(Live<PostgresLink>);

impl ContentQueries for Queries {
    fn find(&mut self, messages: &[MessageKey]) -> Result<Found, Fault> {
        let ids: Vec<i64> = messages.iter().map(|message| message.msg_id).collect();
        let rows = self.0.attempt(|conn, _| conn.query(FIND, &[Type::INT8_ARRAY], &[&ids]))?;
        let found = rows.iter().filter_map(|row| {
            let Raw(session) = row.try_get(1).ok()?;
            Some((row.try_get(0).ok()?, (session.to_vec(), row.try_get(2).ok()?)))
        });
        Ok(found.collect())
    }

    fn probe(&mut self) -> Result<(), Fault> {
        self.0.attempt(|conn, _| conn.query(PROBE, &[], &[])).map(drop)
    }

    fn explain(&self, fault: Fault) -> LookupError {
        self.0.explain(fault)
    }
}
