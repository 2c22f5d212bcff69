//! What an engine left in the inbox, told to the verdict.
//!
//! Promises that every row is told. Of this build's own engine, which stores what it cannot push, whoever cannot be reached
//! must have a row; of another nothing is demanded. Refuses to read while the engine runs: what it stores then would be
//! missed.

use harness::error::{Error, Result};
use harness::servers::Store;
use harness::verdict::Verdict;
use task_engine::edge::memory::MemoryInbox;

use super::{StoreKind, Trial};

/// The inbox of a trial's engine.
pub(super) struct Inbox {
    embedded: MemoryInbox,
    owes_rows: bool,
    /// Each member gets a row, the sender too.
    is_of_all: bool,
}

/// Messages of which not each member of their session has one row.
const INCOMPLETE: &str = "SELECT COUNT(*) FROM \
    (SELECT session_id, msg_id, COUNT(*) AS owners FROM t_inbox GROUP BY session_id, msg_id) AS stored \
    JOIN (SELECT session_id, COUNT(*) AS owners FROM t_session_member GROUP BY session_id) AS owed USING (session_id) \
    WHERE stored.owners <> owed.owners";

impl Inbox {
    /// Of an engine by its name or command line; none is this build's own.
    pub fn of(engine: Option<&str>, store: StoreKind) -> Self {
        let owes_rows = engine.is_none_or(|name| name == "task-engine" || name.starts_with("task-engine-"));
        Self { embedded: MemoryInbox::new(), owes_rows, is_of_all: store == StoreKind::Resonance }
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
            Some((servers, _)) => judge_table(&*servers.store, &self.verdict, self.inbox.is_of_all),
            None => {
                let rows = self.inbox.embedded.rows();
                rows.iter().for_each(|row| self.verdict.stored(&row.session, &row.owner, row.msg_id));
                Ok(())
            }
        }
    }
}

fn judge_table(store: &dyn Store, verdict: &Verdict, is_of_all: bool) -> Result<()> {
    let mut tables = store.connect()?;
    if is_of_all {
        let (incomplete, messages) =
            (tables.number(INCOMPLETE)?, tables.number("SELECT COUNT(DISTINCT (session_id, msg_id)) FROM t_inbox")?);
        let published = verdict.progress().events;
        if incomplete != 0 || messages as u64 != published {
            return Err(Error::new(format!(
                "of {published} messages {messages} are in t_inbox, {incomplete} of them not with one row for each member"
            )));
        }
    }
    for (user, session, msg_id) in tables.inbox()? {
        // Whoever is connected must have been pushed to, row or not.
        if !is_of_all || verdict.world().is_offline(&user) {
            verdict.stored(&session, &user, msg_id);
        }
    }
    Ok(())
}
