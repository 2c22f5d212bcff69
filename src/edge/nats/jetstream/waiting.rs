//! Events that are noted and not in their lanes, by their way.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::ports::DeliveryTag;
use crate::ports::intake::Passage;

/// One of them.
pub(super) type Noted = (Bytes, DeliveryTag, Passage);

/// All of them, in order on each way.
#[derive(Default)]
pub(super) struct Waiting {
    plain: VecDeque<Noted>,
    urgent: VecDeque<Noted>,
}

impl Waiting {
    pub(super) fn push(&mut self, event: Noted) {
        self.on_way(event.2.goes_first).push_back(event);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.urgent.is_empty()
    }

    pub(super) fn on_way(&mut self, goes_first: bool) -> &mut VecDeque<Noted> {
        if goes_first { &mut self.urgent } else { &mut self.plain }
    }

    /// Takes out some.
    pub(super) fn take_out(&mut self, is_one: impl Fn(&DeliveryTag) -> bool) -> Vec<Noted> {
        let mut out = Vec::new();
        for waiting in [&mut self.urgent, &mut self.plain] {
            let all = std::mem::take(waiting);
            let (its, others): (VecDeque<_>, _) = all.into_iter().partition(|(_, tag, _)| is_one(tag));
            out.extend(its);
            *waiting = others;
        }
        out
    }
}
