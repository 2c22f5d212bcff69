//! In a large session whoever could not be reached reads a message by its content, when that is kept: rows are asked for only
//! when it is not, or when that cannot be found out.

use crate::model::delivery::{LookupError, MessageKey};
use crate::model::outcome::RecipientOutcome;
use crate::push::bundle::EventIx;
use crate::push::context::Context;
use crate::push::facts::{AskNo, Output};
use crate::push::ledger::Ledger;

impl Ledger {
    /// All pushes of an event that owes rows have ended.
    pub(super) fn want_kept(&mut self, at: EventIx) {
        let (is_sought, is_urgent) = (self[at].progress.reads_content, self.is_urgent(at));
        let owed = self[at].owed_mut();
        owed.pieces = 1;
        owed.is_sought = is_sought;
        if is_sought {
            return self.content.want(at, is_urgent);
        }
        self.want_rows(at);
    }

    fn want_rows(&mut self, at: EventIx) {
        let is_urgent = self.is_urgent(at);
        let owed = self[at].owed_mut();
        owed.is_sought = false;
        let first = owed.users().next();
        self.inbox.want(at, first, is_urgent);
    }

    /// Sends the look-ups that are due, bounded in number.
    pub(in crate::push) fn ask_contents(&mut self, cx: &mut Context) {
        // They are to be given back, and the answer to a trial would hold them up.
        if cx.is_retreating && self.content.is_away() {
            return;
        }
        while let Some(sought) = self.content.next(cx.now) {
            let arrival = &self[sought.event].arrival;
            let (msg_id, seq_id) = (arrival.msg_id, arrival.seq_id);
            let message = MessageKey { session: arrival.session_id().into(), msg_id, seq_id };
            cx.activity.content_asks += 1;
            let ask = self.content.sent(sought, cx.now);
            cx.out.push(Output::FindContent { ask, message });
        }
    }

    /// Takes an answer. The event that is to end for it, if one is.
    pub(in crate::push) fn content_answered(
        &mut self,
        ask: AskNo,
        answer: Result<bool, LookupError>,
        cx: &mut Context,
    ) -> Option<EventIx> {
        match answer {
            Ok(true) => {
                let at = self.content.answered(ask)?;
                self.all_read_content(at)
            }
            Ok(false) => {
                let at = self.content.answered(ask)?;
                cx.activity.content_missing += 1;
                self.want_rows(at);
                None
            }
            Err(LookupError::NotReached(why)) => {
                self.content.not_reached(ask, cx.now);
                cx.warn("inbox_unavailable", || why);
                None
            }
            Err(why) => {
                match self.content.failed(ask, cx.now) {
                    Some(at) => {
                        cx.activity.content_given_up += 1;
                        cx.warn("content_refused", || format!("{why}; its recipients get rows"));
                        self.want_rows(at);
                    }
                    None => cx.warn("inbox_unavailable", || why.to_string()),
                }
                None
            }
        }
    }

    /// The content is kept: nobody gets a row.
    fn all_read_content(&mut self, at: EventIx) -> Option<EventIx> {
        let owed = self[at].owed_mut();
        owed.pieces -= 1;
        owed.is_sought = false;
        let unreached = owed.unreached_of(None);
        for (_, why) in &unreached {
            self.counts.unreached_by[*why as usize] += 1;
        }
        self.end_recipients(at, RecipientOutcome::Readable, unreached.len() as u32);
        self.owes_nothing(at).then_some(at)
    }
}
