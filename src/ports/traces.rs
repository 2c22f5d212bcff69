//! How traces of events that have ended go from the shards to whoever sends them on.
//!
//! Promises that a shard never waits and wakes nobody for it: what finds no room is dropped and counted. The number of traces that
//! wait is bounded, and so is each of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::model::trace::{EndedTrace, SpanLoss};

/// Traces that wait at the most: some 16 MB if each has all the pushes it may have.
const TRACES_WAITING: usize = 2048;

/// What became of spans.
#[derive(Debug, Default)]
pub struct SpanCounts {
    sent: AtomicU64,
    lost: [AtomicU64; SpanLoss::COUNT],
}

impl SpanCounts {
    /// Spans that the collector took.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Spans that were dropped for this.
    pub fn lost(&self, why: SpanLoss) -> u64 {
        self.lost[why as usize].load(Ordering::Relaxed)
    }

    /// The collector took so many.
    pub fn note_sent(&self, spans: u64) {
        self.sent.fetch_add(spans, Ordering::Relaxed);
    }

    /// So many were dropped.
    pub fn note_lost(&self, why: SpanLoss, spans: u64) {
        self.lost[why as usize].fetch_add(spans, Ordering::Relaxed);
    }
}

/// A shard's end.
#[derive(Clone, Debug)]
pub struct TraceSender {
    traces: Sender<Box<EndedTrace>>,
    counts: Arc<SpanCounts>,
}

/// The end of whoever sends them on.
#[derive(Debug)]
pub struct TraceReceiver {
    traces: Receiver<Box<EndedTrace>>,
    /// What became of them.
    pub counts: Arc<SpanCounts>,
}

/// Both ends, and the counts.
pub fn traces() -> (TraceSender, TraceReceiver) {
    traces_of(TRACES_WAITING)
}

fn traces_of(most: usize) -> (TraceSender, TraceReceiver) {
    let (sender, receiver) = bounded(most);
    let counts = Arc::new(SpanCounts::default());
    (TraceSender { traces: sender, counts: counts.clone() }, TraceReceiver { traces: receiver, counts })
}

impl TraceSender {
    /// Hands one over, or drops it and counts its spans.
    pub fn offer(&self, trace: Box<EndedTrace>) {
        if let Err(lost) = self.traces.try_send(trace) {
            self.counts.note_lost(SpanLoss::Queue, u64::from(lost.into_inner().spans()));
        }
    }

    /// What became of them.
    pub fn counts(&self) -> &Arc<SpanCounts> {
        &self.counts
    }
}

impl TraceReceiver {
    /// The next one, if one waits.
    pub fn try_next(&self) -> Option<Box<EndedTrace>> {
        self.traces.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::Nanos;
    use crate::model::outcome::EventOutcome;
    use crate::model::priority::Priority;

    fn trace(msg_id: i64) -> Box<EndedTrace> {
        Box::new(EndedTrace {
            parent: None,
            session: "s".into(),
            msg_id,
            seq_id: 0,
            class: Priority::Normal,
            end: EventOutcome::Settled,
            arrived: Nanos(0),
            resolved: Some((Nanos(0), Nanos(0))),
            ended_at: Nanos(0),
            has_missed: false,
            pushes: Vec::new(),
            pushes_left_out: 0,
        })
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_its_spans_are_counted() {
        let (sender, receiver) = traces_of(2);
        (1..=4).for_each(|msg_id| sender.offer(trace(msg_id)));
        assert_eq!(std::iter::from_fn(|| receiver.try_next()).map(|trace| trace.msg_id).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((sender.counts().lost(SpanLoss::Queue), receiver.counts.lost(SpanLoss::Collector)), (6, 0));
        sender.offer(trace(5));
        drop(receiver);
        sender.offer(trace(6));
        assert_eq!(sender.counts().lost(SpanLoss::Queue), 9, "nobody sends them on any more");
    }
}
