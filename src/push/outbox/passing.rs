//! What an outbox knows of whom urgent bundles pass: how many stand `ahead`, what of each session stands behind those, and how much
//! of a stream may be unanswered.
//!
//! Promises that its counts follow each item from where it waits to where it ends. Refuses to choose places: `urgent` does that.

use hashbrown::HashMap;
use std::time::Duration;

use crate::push::bundle::SessionKey;
use crate::push::outbox::Item;
use crate::push::outbox::fleeting::FleetingDue;
use crate::push::outbox::window::Window;

/// Whom urgent bundles pass.
#[derive(Debug)]
pub(super) struct Passing {
    /// How many of those that are not written whole, from the front, are not passed.
    pub(super) ahead: usize,
    /// How many of each session stand behind those.
    pub(super) behind: HashMap<SessionKey, u32>,
    /// What the others are owed for being passed, in recipients times their part.
    pub(super) owed: usize,
    pub(super) window: Window,
    pub(super) fleeting: FleetingDue,
    /// The window held some back in this turn.
    pub(super) is_held: bool,
}

impl Passing {
    /// Of an empty outbox.
    pub(super) fn new(target: Duration) -> Self {
        Self {
            ahead: 0,
            behind: HashMap::new(),
            owed: 0,
            window: Window::new(target),
            fleeting: FleetingDue::default(),
            is_held: false,
        }
    }

    /// An item came to stand behind those ahead.
    pub(super) fn entered(&mut self, item: &Item) {
        *self.behind.entry(item.bundle.session_key()).or_default() += 1;
    }

    /// An item stands first from now on, or is about to.
    pub(super) fn goes_ahead(&mut self, item: &mut Item) {
        if !item.is_ahead {
            self.left(item);
            self.stands_ahead(item);
        }
    }

    pub(super) fn stands_ahead(&mut self, item: &mut Item) {
        item.is_ahead = true;
        self.ahead += 1;
    }

    /// An item is not among those any more that are not written whole.
    pub(super) fn left(&mut self, item: &Item) {
        if item.is_ahead {
            self.ahead -= 1;
        } else if let Some(count) = self.behind.get_mut(&item.bundle.session_key()) {
            *count -= 1;
            if *count == 0 {
                self.behind.remove(&item.bundle.session_key());
            }
        }
    }

    /// The first of all, not written whole, leaves.
    pub(super) fn left_front(&mut self, item: &Item) {
        self.left(item);
        self.window.left_begun();
    }

    /// An item is written whole.
    pub(super) fn written(&mut self, item: &Item) {
        self.left(item);
        self.window.written(item.bundle.recipients());
    }

    /// An item that was has all its answers, or gets none.
    pub(super) fn left_stream(&mut self, item: &Item) {
        self.window.left(item.bundle.recipients());
    }

    /// An item that was waits to be written again, before all others: which of them breaks a stream is told by their order.
    pub(super) fn returned(&mut self, item: &mut Item) {
        self.stands_ahead(item);
    }

    /// The stream is gone.
    pub(super) fn lost_stream(&mut self) {
        self.window.lost_stream();
    }
}
