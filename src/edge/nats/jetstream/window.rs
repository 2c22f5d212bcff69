//! How far the reading back of a repeat window is.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::calls::BatchNo;
use super::pulls::Terms;
use crate::model::limits::REPEAT_WINDOW_AGE;

/// How far one is.
#[derive(Debug)]
pub(super) struct ReadBack {
    /// Up to which stream sequence events are settled.
    pub(super) to: u64,
    /// How the partition is pulled from afterwards.
    pub(super) terms: Option<Terms>,
    /// When it began, by both clocks.
    pub(super) begun: Option<(Instant, SystemTime)>,
    /// How far back it goes.
    pub(super) age: Duration,
    /// The request for its consumer.
    pub(super) asked: Option<BatchNo>,
    /// The consumer, once it stands.
    pub(super) name: String,
    /// Events that are still to come.
    pub(super) left: u64,
    /// Events that the shard was not told of.
    pub(super) payloads: Vec<Bytes>,
    /// All that was to come has; or that it will not.
    pub(super) end: Option<bool>,
}

impl ReadBack {
    pub(super) fn new(to: u64, terms: Terms) -> Self {
        Self {
            to,
            terms: Some(terms),
            begun: None,
            age: REPEAT_WINDOW_AGE,
            asked: None,
            name: String::new(),
            left: 0,
            payloads: Vec::new(),
            end: None,
        }
    }
}
