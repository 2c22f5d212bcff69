//! One row of a batch, as what stores it and what proves it know it.

use crate::ports::InboxRows;

/// One row of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Its element's place in the batch.
    pub ask: usize,
    /// The element.
    pub of: &'a InboxRows,
    /// Its owner.
    pub user: &'a str,
}

impl<'a> Row<'a> {
    /// What makes it another row than others of the table.
    pub fn key(&self) -> (&'a str, &'a str, i64) {
        (self.user, &self.of.session, self.of.seq_id)
    }
}

/// Whether a name ends in what a column may cut or pad without an error.
pub fn may_be_cut(name: &str) -> bool {
    name.chars().next_back().is_none_or(|last| last.is_whitespace() || last.is_control())
}
