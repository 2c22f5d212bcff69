//! In a large session whoever could not be reached reads a message by its content, when that is kept: rows are asked for only
//! when it is not, or when that cannot be found out.

use crate::model::delivery::{LookupError, MessageKey};
use crate::model::outcome::RecipientOutcome;
use crate::push::bundle::EventIx;
use crate::push::context::Context;
use crate::push::facts::{AskNo, Output};
use crate::push::ledger::Ledger;

/// What is known of an event's content before it is bundled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Content {
    /// Nobody asked.
    #[default]
    NotAsked,
    /// It is looked for.
    Asked,
    /// The store has it.
    Kept,
    /// The store does not have it, as far as is known.
    NotKept,
}

/// Whose answer an answer about a content is.
#[derive(Clone, Copy, Debug)]
pub(in crate::push) enum ContentFound {
    /// That of an event that is not bundled.
    Ahead(EventIx),
    /// That of an event which is to end for it.
    Ends(EventIx),
}

impl Ledger {
    /// All pushes of an event that owes rows have ended; true when the event is to end.
    pub(super) fn want_kept(&mut self, at: EventIx) -> bool {
        self.enter_store(at);
        let (is_sought, is_urgent) = (self[at].progress.reads_content, self.is_urgent(at));
        let (is_kept, order) = (self[at].progress.content == Content::Kept, self[at].order);
        let owed = self[at].owed_mut();
        owed.pieces = 1;
        owed.is_sought = is_sought;
        match is_sought {
            true if is_kept => return self.all_read_content(at).is_some(),
            true => self.content.want((at, order), is_urgent),
            false => self.want_rows(at),
        }
        false
    }

    /// Looks whether the content of an event is kept that is not bundled yet.
    pub(in crate::push) fn look_for_content(&mut self, at: EventIx, is_urgent: bool) {
        self[at].progress.content = Content::Asked;
        let order = self[at].order;
        self.content.want((at, order), is_urgent);
    }

    /// An urgent event waits for that: it is looked for before others. What is found out twice costs a look-up, and nothing else.
    pub(in crate::push) fn hurry_content(&mut self, at: EventIx) {
        let (order, content) = (self[at].order, self[at].progress.content);
        if content == Content::Asked && !self.content.at_store().any(|event| event == at) {
            self.content.want((at, order), true);
        }
    }

    /// Whether the event that was looked for is still that of its place, and waits for the answer: as one that is not bundled, or not.
    fn is_sought(&self, (at, order): (EventIx, u64)) -> Option<bool> {
        let event = self.events.get(at.0).filter(|event| event.order == order)?;
        match event.progress.is_bundled {
            true => event.owed.as_ref().is_some_and(|owed| owed.is_sought).then_some(false),
            false => (event.progress.content == Content::Asked).then_some(true),
        }
    }

    fn found_ahead(&mut self, at: EventIx, content: Content) -> Option<ContentFound> {
        self[at].progress.content = content;
        Some(ContentFound::Ahead(at))
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
            if self.is_sought(sought.event).is_none() {
                // It has ended, or is pushed in full and owes nothing.
                continue;
            }
            let arrival = &self[sought.event.0].arrival;
            let (msg_id, seq_id) = (arrival.msg_id, arrival.seq_id);
            let message = MessageKey { session: arrival.session_id().into(), msg_id, seq_id };
            cx.activity.content_asks += 1;
            let ask = self.content.sent(sought, cx.now);
            cx.out.push(Output::FindContent { ask, message });
        }
    }

    /// Takes an answer. What follows from it for an event.
    pub(in crate::push) fn content_answered(
        &mut self,
        ask: AskNo,
        answer: Result<bool, LookupError>,
        cx: &mut Context,
    ) -> Option<ContentFound> {
        match answer {
            Ok(is_kept) => {
                let sought = self.content.answered(ask)?;
                let (at, is_ahead) = (sought.0, self.is_sought(sought)?);
                cx.activity.content_missing += u64::from(!is_kept && !is_ahead);
                cx.activity.notices_without_content += u64::from(!is_kept && is_ahead);
                match (is_ahead, is_kept) {
                    (true, true) => return self.found_ahead(at, Content::Kept),
                    (true, false) => return self.found_ahead(at, Content::NotKept),
                    (false, true) => return self.all_read_content(at).map(ContentFound::Ends),
                    (false, false) => self.want_rows(at),
                }
                None
            }
            Err(LookupError::NotReached(why)) => {
                self.content.not_reached(ask, cx.now);
                cx.warn("inbox_unavailable", || why);
                None
            }
            Err(why) => {
                let sought = self.content.failed(ask, cx.now);
                match sought.and_then(|sought| Some((sought.0, self.is_sought(sought)?))) {
                    Some((at, true)) => {
                        cx.activity.notices_without_content += 1;
                        cx.warn("content_refused", || format!("{why}; the message is pushed in full"));
                        return self.found_ahead(at, Content::NotKept);
                    }
                    Some((at, false)) => {
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
