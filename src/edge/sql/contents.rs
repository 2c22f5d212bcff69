//! Whether contents of messages are in `t_message_content`: one query for all that are asked about together.
//!
//! Promises that a content counts only when its session, by its bytes, and its sequence are those of the message: readers find it
//! by these. Promises that a message whose look-up the server refuses keeps no other from being found. Refuses to lock anything.

use std::collections::HashMap;

use super::fault::Fault;
use crate::ports::{ContentReader, LookupError, MessageKey};

/// So many fail alone and none was found: then the others are not asked.
const FAILED_MAX: usize = 4;

/// The contents that are there, by msg_id: their session and sequence.
pub type Found = HashMap<i64, (Vec<u8>, i64)>;

/// The queries for contents.
pub trait ContentQueries: Send {
    /// Those that are there.
    ///
    /// # Errors
    /// Why there is no answer.
    fn find(&mut self, messages: &[MessageKey]) -> Result<Found, Fault>;
    /// Whether the table answers.
    ///
    /// # Errors
    /// Why not.
    fn probe(&mut self) -> Result<(), Fault>;
    /// A fault in words.
    fn explain(&self, fault: Fault) -> LookupError;
}

/// One thread's way to the contents.
pub struct Reader<Q>(pub Q);

impl<Q: ContentQueries> Reader<Q> {
    fn look_for(&mut self, messages: &[MessageKey]) -> Result<Vec<bool>, Fault> {
        let found = self.0.find(messages)?;
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
            let answer = answer.map_err(|fault| self.0.explain(fault));
            why = answer.as_ref().err().cloned().or(why);
            answers.push(answer.map(|kept| kept == [true]));
        }
        answers
    }
}

impl<Q: ContentQueries> ContentReader for Reader<Q> {
    fn are_kept(&mut self, messages: &[MessageKey]) -> Vec<Result<bool, LookupError>> {
        match self.look_for(messages) {
            Ok(kept) => kept.into_iter().map(Ok).collect(),
            Err(Fault::Server(_)) if messages.len() > 1 => self.look_for_each(messages),
            Err(fault) => {
                let why = self.0.explain(fault);
                messages.iter().map(|_| Err(why.clone())).collect()
            }
        }
    }

    fn ping(&mut self) -> Result<(), LookupError> {
        self.0.probe().map_err(|fault| self.0.explain(fault))
    }
}
