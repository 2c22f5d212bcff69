//! Whether contents of messages are in `t_message_content`: one query for all that are asked about together.
//!
//! Promises that a content counts only when its session, by its bytes, and its sequence are those of the message: readers find it
//! by these. Promises that a message whose look-up the server refuses keeps no other from being found, and that the server is
//! asked to give up what takes longer than we wait. Refuses to lock anything.

use std::collections::HashMap;
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, Value};

use crate::config::MysqlConfig;
use crate::edge::mysql::fault::Fault;
use crate::edge::mysql::limited;
use crate::edge::mysql::live::Live;
use crate::ports::{ContentReader, LookupError, MessageKey};

/// What an operator has to look at when the table is not as expected.
const SCHEMA: &str = "check that mysql.database holds t_message_content(msg_id, session_id, seq_id) and the user may \
                      SELECT it, or set inbox.rows_up_to to 0";
/// So many fail alone and none was found: then the others are not asked.
const FAILED_MAX: usize = 4;

/// One thread's way to the contents.
pub(super) struct Reader {
    live: Live,
    /// How long the server may take for a query.
    limit: Duration,
}

/// The contents that are there, by msg_id.
type Found = HashMap<i64, (Vec<u8>, i64)>;

impl Reader {
    /// Connects when first used.
    pub(super) fn new(settings: MysqlConfig) -> Self {
        let limit = settings.timeout.mul_f64(0.75);
        Self { live: Live::new(settings, SCHEMA), limit }
    }

    fn look_for(&mut self, messages: &[MessageKey]) -> Result<Vec<bool>, Fault> {
        let limit = self.limit;
        let found = self.live.attempt(|conn, _| find(conn, messages, limit))?;
        let is_kept = |message: &MessageKey| {
            let content = found.get(&message.msg_id);
            content.is_some_and(|(session, seq_id)| {
                session.as_slice() == message.session.as_bytes() && *seq_id == message.seq_id
            })
        };
        Ok(messages.iter().map(is_kept).collect())
    }

    /// Each alone, after the server refused all together.
    fn look_for_each(&mut self, messages: &[MessageKey]) -> Vec<Result<bool, LookupError>> {
        let (mut failed, mut is_any_answered) = (0, false);
        let mut why = None;
        let mut answers = Vec::with_capacity(messages.len());
        for message in messages {
            if failed >= FAILED_MAX
                && !is_any_answered
                && let Some(why) = &why
            {
                answers.push(Err(LookupError::Unavailable(format!("not asked, since others failed: {why}"))));
                continue;
            }
            let answer = self.look_for(std::slice::from_ref(message));
            is_any_answered |= answer.is_ok();
            failed += usize::from(answer.is_err());
            let answer = answer.map_err(|fault| self.live.explain(fault));
            why = answer.as_ref().err().cloned().or(why);
            answers.push(answer.map(|kept| kept == [true]));
        }
        answers
    }
}

impl ContentReader for Reader {
    fn are_kept(&mut self, messages: &[MessageKey]) -> Vec<Result<bool, LookupError>> {
        match self.look_for(messages) {
            Ok(kept) => kept.into_iter().map(Ok).collect(),
            Err(Fault::Server(_)) if messages.len() > 1 => self.look_for_each(messages),
            Err(fault) => {
                let why = self.live.explain(fault);
                messages.iter().map(|_| Err(why.clone())).collect()
            }
        }
    }

    fn ping(&mut self) -> Result<(), LookupError> {
        let statement = limited(self.limit, "msg_id, session_id, seq_id FROM t_message_content LIMIT 1");
        self.live.run(|conn| Ok(conn.query_drop(&statement)?))
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
