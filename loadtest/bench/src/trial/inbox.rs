//! What an engine left in the inbox, told to the verdict.
//!
//! Promises that every row is told. Of this build's own engine, which stores what it cannot push, whoever cannot be reached
//! must have a row; of another nothing is demanded. Refuses to read while the engine runs: what it stores then would be
//! missed.

use harness::error::{Error, Result};
use harness::servers::Maria;
use harness::verdict::Verdict;
use mysql::prelude::Queryable as _;
use task_engine::edge::memory::MemoryInbox;

use super::Trial;

/// The inbox of a trial's engine.
pub(super) struct Inbox {
    embedded: MemoryInbox,
    owes_rows: bool,
}

impl Inbox {
    /// Of an engine by its name or command line; none is this build's own.
    pub fn of(engine: Option<&str>) -> Self {
        let owes_rows = engine.is_none_or(|name| name == "task-engine" || name.starts_with("task-engine-"));
        Self { embedded: MemoryInbox::new(), owes_rows }
    }

    /// Where the embedded engine stores.
    pub fn embedded(&self) -> MemoryInbox {
        self.embedded.clone()
    }
}

impl Trial {
    /// Tells the verdict what is in the inbox.
    ///
    /// # Errors
    /// When the engine was not stopped, or the rows cannot be read.
    pub fn judge_inbox(&self) -> Result<()> {
        if self.engine.is_some() {
            return Err(Error::new("the inbox is read when the engine has stopped"));
        }
        if self.inbox.owes_rows {
            self.verdict.expect_rows();
        }
        match &self.servers {
            Some((servers, _)) => judge_table(&servers.maria, &self.verdict),
            None => {
                let rows = self.inbox.embedded.rows();
                rows.iter().for_each(|row| self.verdict.stored(&row.session, &row.owner, row.msg_id));
                Ok(())
            }
        }
    }
}

fn judge_table(maria: &Maria, verdict: &Verdict) -> Result<()> {
    let failed = |cause: mysql::Error| Error::of("cannot read the inbox", cause);
    let mut conn = maria.connect()?;
    let rows = conn.query_iter("SELECT owner_username, session_id, msg_id FROM t_inbox").map_err(failed)?;
    for row in rows {
        let (user, session, msg_id): (String, String, i64) = mysql::from_row(row.map_err(failed)?);
        verdict.stored(&session, &user, msg_id);
    }
    Ok(())
}
