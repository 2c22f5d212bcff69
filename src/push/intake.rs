//! The intake stage: what came, told apart from what came before.

use crate::push::repeats::Repeats;

/// The state of the intake. What an event's bytes say is read by [`ingest`](super::ingest), which keeps none.
#[derive(Debug, Default)]
pub(super) struct Intake {
    pub(super) repeats: Repeats,
}
