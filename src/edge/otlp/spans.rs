//! The spans of an event that has ended, as OTLP has them.
//!
//! Promises that each span has an id of its own, that all are children of the event's span and lie within its time, and that it is a child
//! of its publisher's span where that is known.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};

use crate::edge::random::random;
use crate::model::ids::Nanos;
use crate::model::trace::{EndedTrace, TraceParent, TracedPush};

/// Flags of a span: the parent's place is said, and it is another process (OTLP's `SpanFlags`).
const HAS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;
const SAMPLED: u32 = 1;

/// What makes spans of one event.
struct Spans<'a> {
    trace: &'a EndedTrace,
    trace_id: Vec<u8>,
    event_id: Vec<u8>,
    /// The wall clock's time when the time of the engine began.
    unix_zero: u64,
}

/// The spans of one event, its own first; `unix_zero` is what the wall clock showed when the time of the engine began.
pub(super) fn spans_of(trace: &EndedTrace, unix_zero: u64) -> Vec<Span> {
    let trace_id = trace.parent.map_or_else(|| [id(), id()].concat(), |parent| parent.trace_id.to_vec());
    let of = Spans { trace, trace_id, event_id: id(), unix_zero };
    let mut spans = vec![of.event()];
    if let Some((members_known, routes_known)) = trace.resolved {
        spans.push(of.inner("members", trace.arrived, members_known));
        spans.push(of.inner("routes", members_known, routes_known));
    }
    for push in &trace.pushes {
        spans.push(of.outbox(push));
        spans.extend(push.written_at.map(|written_at| of.gateway(push, written_at)));
    }
    spans
}

/// An id that no other span has: eight bytes, not all zero.
fn id() -> Vec<u8> {
    (random() | 1).to_be_bytes().to_vec()
}

impl Spans<'_> {
    fn event(&self) -> Span {
        let EndedTrace { session, msg_id, seq_id, class, end, pushes_left_out, .. } = self.trace;
        let mut span = self.inner("event", self.trace.arrived, self.trace.ended_at);
        span.span_id.clone_from(&self.event_id);
        span.parent_span_id = self.trace.parent.map_or_else(Vec::new, |parent| parent.span_id.to_vec());
        span.flags = HAS_REMOTE | self.trace.parent.map_or(SAMPLED, |parent| IS_REMOTE | flags(parent));
        span.kind = SpanKind::Consumer.into();
        span.attributes = vec![
            text("resonance.session_id", session),
            number("resonance.msg_id", *msg_id),
            number("resonance.seq_id", *seq_id),
            text("task_engine.class", class.label()),
            text("task_engine.end", end.label()),
        ];
        if *pushes_left_out > 0 {
            span.attributes.push(number("task_engine.pushes_left_out", i64::from(*pushes_left_out)));
        }
        if self.trace.has_missed {
            span.status = error("a recipient who was connected could not be reached");
        }
        span
    }

    fn outbox(&self, push: &TracedPush) -> Span {
        let mut span = self.inner("outbox", push.made_at, push.written_at.unwrap_or(push.ended_at));
        span.attributes = self.of_push(push);
        if let (None, Some(end)) = (push.written_at, push.unanswered) {
            span.status = error(end.label());
        }
        span
    }

    fn gateway(&self, push: &TracedPush, written_at: Nanos) -> Span {
        let mut span = self.inner("gateway", written_at, push.ended_at);
        span.kind = SpanKind::Client.into();
        span.attributes = self.of_push(push);
        span.status = match push.unanswered {
            Some(end) => error(end.label()),
            None if push.missed > 0 => error("the gateway did not take it for all"),
            None => None,
        };
        span
    }

    fn of_push(&self, push: &TracedPush) -> Vec<KeyValue> {
        let mut attributes = vec![
            text("task_engine.gateway", &push.gateway),
            number("task_engine.recipients", i64::from(push.recipients)),
        ];
        if push.missed > 0 {
            attributes.push(number("task_engine.missed", i64::from(push.missed)));
        }
        attributes
    }

    /// A span inside that of the event.
    fn inner(&self, name: &str, from: Nanos, to: Nanos) -> Span {
        Span {
            trace_id: self.trace_id.clone(),
            span_id: id(),
            parent_span_id: self.event_id.clone(),
            flags: HAS_REMOTE | self.trace.parent.map_or(SAMPLED, flags),
            name: name.to_owned(),
            kind: SpanKind::Internal.into(),
            start_time_unix_nano: self.unix_zero.saturating_add(from.0),
            end_time_unix_nano: self.unix_zero.saturating_add(to.0.max(from.0)),
            ..Span::default()
        }
    }
}

fn flags(parent: TraceParent) -> u32 {
    if parent.is_sampled { SAMPLED } else { 0 }
}

fn error(message: &str) -> Option<Status> {
    Some(Status { message: message.to_owned(), code: StatusCode::Error.into() })
}

/// An attribute.
pub(super) fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::outcome::{EventOutcome, RecipientOutcome};
    use crate::model::priority::Priority;

    fn push(written_at: Option<Nanos>, unanswered: Option<RecipientOutcome>) -> TracedPush {
        TracedPush {
            gateway: "gw-1".into(),
            recipients: 3,
            missed: u32::from(unanswered.is_some()) * 3,
            made_at: Nanos(30),
            written_at,
            ended_at: Nanos(50),
            unanswered,
            latency: None,
        }
    }

    fn trace(parent: Option<TraceParent>) -> EndedTrace {
        EndedTrace {
            parent,
            session: "s".into(),
            msg_id: 7,
            seq_id: 70,
            class: Priority::Normal,
            end: EventOutcome::Settled,
            arrived: Nanos(10),
            resolved: Some((Nanos(20), Nanos(30))),
            ended_at: Nanos(60),
            has_missed: true,
            pushes: vec![
                push(Some(Nanos(40)), None),
                push(Some(Nanos(30)), Some(RecipientOutcome::TimedOut)),
                push(None, Some(RecipientOutcome::OutboxFull)),
            ],
            pushes_left_out: 2,
        }
    }

    #[test]
    fn the_spans_of_an_event_are_its_children_and_lie_within_it() {
        let parent = TraceParent { trace_id: [5; 16], span_id: [6; 8], is_sampled: true };
        let trace = trace(Some(parent));
        let spans = spans_of(&trace, 1_000);
        let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, ["event", "members", "routes", "outbox", "gateway", "outbox", "gateway", "outbox"]);
        assert_eq!(spans.len() as u32, trace.spans());
        let event = &spans[0];
        assert_eq!((&event.trace_id[..], &event.parent_span_id[..], event.flags), (&[5; 16][..], &[6; 8][..], 0x301));
        assert_eq!((event.start_time_unix_nano, event.end_time_unix_nano), (1_010, 1_060));
        let ids: BTreeSet<_> = spans.iter().map(|span| span.span_id.clone()).collect();
        assert!(ids.len() == spans.len() && ids.iter().all(|id| id.len() == 8), "each its own");
        for span in &spans[1..] {
            assert_eq!((&span.trace_id, &span.parent_span_id), (&event.trace_id, &event.span_id), "{}", span.name);
            let time = span.start_time_unix_nano..=span.end_time_unix_nano;
            assert!(*time.start() >= 1_010 && *time.end() <= 1_060 && !time.is_empty(), "{}: {time:?}", span.name);
        }
        let said: Vec<_> =
            spans.iter().filter_map(|span| span.status.as_ref()).map(|status| &*status.message).collect();
        assert_eq!(said, ["a recipient who was connected could not be reached", "timed_out", "outbox_full"]);
    }

    #[test]
    fn an_event_without_a_parent_begins_a_trace_of_its_own() {
        let [one, other] = [spans_of(&trace(None), 0), spans_of(&trace(None), 0)];
        assert_ne!(one[0].trace_id, other[0].trace_id);
        assert!(one[0].trace_id.len() == 16 && one[0].parent_span_id.is_empty());
        assert_eq!((one[0].flags, one[1].flags), (0x101, 0x101));
    }
}
