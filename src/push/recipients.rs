//! What a configuration says of recipients: who gets a row, and what the sender gets.
//!
//! Promises that nothing configured changes nothing.

/// What is done for recipients besides `inbox.store`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecipientRules {
    /// `inbox.rows_up_to`: in sessions with more members a message whose content is kept costs no rows. 0: always rows.
    pub rows_up_to: usize,
    /// `gateway.notice_above`: in sessions with more members, and in large ones with many messages, gateways that understand notices
    /// get those. 0: all get messages in full.
    pub notice_above: usize,
    /// `inbox.sender`: with `inbox.store: all` the sender gets a row as well.
    pub sender_row: bool,
    /// `consumer.echo_sender`: the sender's gateways get the push as well.
    pub echo_sender: bool,
}

impl RecipientRules {
    /// Whether whoever could not be reached in a session of so many members finds a message by its content.
    #[inline]
    pub(super) fn reads_content(&self, members: usize) -> bool {
        self.rows_up_to > 0 && members > self.rows_up_to
    }
}
