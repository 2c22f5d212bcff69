//! The inbox and the dead letters in memory, with read-back for tests.
//!
//! Promises what the real ones promise: a row that is there already is good, a place that another message holds is told
//! by its user, and what is answered can be read. Refuses to outlast the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::names::NameList;
use crate::ports::{DeadLetter, DeadLetterWriter, DeadLetters, Inbox, InboxRows, InboxWriter, LookupError, Origin};

/// A row of an [`MemoryInbox`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InboxRow {
    /// Whose inbox.
    pub owner: String,
    /// The session.
    pub session: String,
    /// The message's number in the session.
    pub seq_id: i64,
    /// The message.
    pub msg_id: i64,
}

/// Owner, session and number of a row.
type Place = (String, String, i64);

/// The inbox in memory, as large as what is stored; clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryInbox(Arc<Mutex<BTreeMap<Place, i64>>>);

impl MemoryInbox {
    /// Nothing is stored.
    pub fn new() -> Self {
        Self::default()
    }

    /// All rows, in the order of owner, session and number.
    pub fn rows(&self) -> Vec<InboxRow> {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let row = |((owner, session, seq_id), msg_id): (&Place, &i64)| InboxRow {
            owner: owner.clone(),
            session: session.clone(),
            seq_id: *seq_id,
            msg_id: *msg_id,
        };
        rows.iter().map(row).collect()
    }
}

impl Inbox for MemoryInbox {
    fn open(&self) -> Box<dyn InboxWriter> {
        Box::new(self.clone())
    }
}

impl InboxWriter for MemoryInbox {
    fn store(&mut self, batch: &[InboxRows]) -> Vec<Result<NameList, LookupError>> {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut store = |of: &InboxRows| {
            let mut taken = |user: &&str| {
                let place = ((*user).to_owned(), of.session.to_string(), of.seq_id);
                *rows.entry(place).or_insert(of.msg_id) != of.msg_id
            };
            Ok(of.users.iter().filter(|user| taken(user)).collect())
        };
        batch.iter().map(&mut store).collect()
    }
}

/// Dead letters in memory, as many as are published; clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryDeadLetters(Arc<Mutex<Vec<(DeadLetter, Origin)>>>);

impl MemoryDeadLetters {
    /// No letter.
    pub fn new() -> Self {
        Self::default()
    }

    /// All letters, in the order they were published.
    pub fn letters(&self) -> Vec<(DeadLetter, Origin)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl DeadLetters for MemoryDeadLetters {
    fn open(&self) -> Box<dyn DeadLetterWriter> {
        Box::new(self.clone())
    }
}

impl DeadLetterWriter for MemoryDeadLetters {
    fn write(&mut self, letters: &[(DeadLetter, Origin)]) -> Vec<Result<(), LookupError>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(letters);
        letters.iter().map(|_| Ok(())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_is_good_and_another_message_in_the_place_is_told() {
        let inbox = MemoryInbox::new();
        let rows = |msg_id, users: &[&str]| InboxRows {
            session: "s".into(),
            msg_id,
            seq_id: 5,
            users: users.iter().collect(),
        };
        let mut writer = inbox.open();
        let answers = writer.store(&[rows(1, &["ann", "bob"]), rows(1, &["ann"]), rows(2, &["bob", "cleo"])]);
        assert_eq!(answers, [Ok(NameList::new()), Ok(NameList::new()), Ok(NameList::from_iter(["bob"]))]);
        let held: Vec<(String, i64)> = inbox.rows().into_iter().map(|row| (row.owner, row.msg_id)).collect();
        assert_eq!(held, [("ann".to_owned(), 1), ("bob".to_owned(), 1), ("cleo".to_owned(), 2)]);
    }
}
