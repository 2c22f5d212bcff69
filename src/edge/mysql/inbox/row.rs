//! One row of a batch, as what stores it and what proves it know it.

use mysql::Value;

use crate::ports::InboxRows;

/// One row of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    /// Its element's place in the batch.
    pub ask: usize,
    /// The element.
    pub of: &'a InboxRows,
    /// Its owner.
    pub user: &'a str,
}

impl<'a> Row<'a> {
    /// What makes it another row than others of the table.
    pub(super) fn key(&self) -> (&'a str, &'a str, i64) {
        (self.user, &self.of.session, self.of.seq_id)
    }

    /// Its values, as a statement takes them.
    pub(super) fn values(&self) -> [Value; 4] {
        [text(self.user), text(&self.of.session), Value::Int(self.of.msg_id), Value::Int(self.of.seq_id)]
    }
}

/// A text as a statement takes it.
pub(super) fn text(text: &str) -> Value {
    Value::Bytes(text.as_bytes().to_vec())
}
