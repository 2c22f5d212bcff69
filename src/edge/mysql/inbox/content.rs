//! The queries for contents of messages in `t_message_content`; the server is asked to give up what takes longer than we wait.

use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, Value};

use crate::config::{Current, MysqlConfig};
use crate::edge::mysql::limited;
use crate::edge::mysql::link::{MysqlLink, live};
use crate::edge::sql::contents::{ContentQueries, Found, Reader};
use crate::edge::sql::fault::Fault;
use crate::edge::sql::live::Live;
use crate::ports::{LookupError, MessageKey};

/// What an operator has to look at when the table is not as expected.
const SCHEMA: &str = "check that mysql.database holds t_message_content(msg_id, session_id, seq_id) and the user may \
                      SELECT it, or set inbox.rows_up_to to 0";

/// One thread's way to the contents; connects when first used.
pub(super) fn reader(server: &Current<MysqlConfig>) -> Reader<Queries> {
    Reader(Queries { live: live(server, SCHEMA) })
}

pub(super) struct Queries {
    live: Live<MysqlLink>,
}

impl Queries {
    /// How long the server may take for a query.
    fn limit(&self) -> Duration {
        self.live.place().timeout.mul_f64(0.75)
    }
}

impl ContentQueries for Queries {
    fn find(&mut self, messages: &[MessageKey]) -> Result<Found, Fault> {
        let limit = self.limit();
        self.live.attempt(|conn, _| find(conn, messages, limit))
    }

    fn probe(&mut self) -> Result<(), Fault> {
        let statement = limited(self.limit(), "msg_id, session_id, seq_id FROM t_message_content LIMIT 1");
        self.live.attempt(|conn, _| Ok(conn.query_drop(&statement)?))
    }

    fn explain(&self, fault: Fault) -> LookupError {
        self.live.explain(fault)
    }
}

fn find(conn: &mut Conn, messages: &[MessageKey], limit: Duration) -> Result<Found, Fault> {
    let Some(last) = messages.last() else { return Ok(Found::new()) };
    // A power of two, so that few statements are prepared.
    let places = messages.len().next_power_of_two();
    let marks = ",?".repeat(places);
    let from = format!("msg_id, session_id, seq_id FROM t_message_content WHERE msg_id IN ({})", &marks[1..]);
    let padding = std::iter::repeat_n(last, places - messages.len());
    let values: Vec<Value> = messages.iter().chain(padding).map(|message| Value::Int(message.msg_id)).collect();
    let rows: Vec<(i64, Vec<u8>, i64)> = conn.exec(limited(limit, &from), values)?;
    Ok(rows.into_iter().map(|(msg_id, session, seq_id)| (msg_id, (session, seq_id))).collect())
}
