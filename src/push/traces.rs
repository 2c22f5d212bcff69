//! Which events are told of as traces, and what is told.
//!
//! Promises that an event whose publisher records no trace, and which is neither slow nor missed somebody, takes no memory for it;
//! that what is told is bounded, by event and by second; and that nothing of it changes what becomes of an event. Refuses ids of
//! spans: they need chance, which whoever sends the spans has.

use crate::model::ids::Nanos;
use crate::model::outcome::EventOutcome;
use crate::model::trace::{EndedTrace, TracedPush};
use crate::push::Push;
use crate::push::bundle::Bundle;
use crate::push::context::Context;
use crate::push::facts::Output;
use crate::push::ingest::PassOn;
use crate::push::ledger::Event;
use crate::push::telling::{Pushes, Seen, Telling, TraceRules};

impl Event {
    /// Whether it is told of, as far as that is known now.
    fn is_told(&self, telling: &Telling, now: Nanos) -> bool {
        self.arrival.is_sampled() || self.progress.has_missed || telling.is_slow(self.arrived, now)
    }

    fn trace(&mut self, end: EventOutcome, now: Nanos) -> EndedTrace {
        let Pushes { told, left_out, .. } = self.pushes.take().map_or_else(Pushes::default, |pushes| *pushes);
        EndedTrace {
            parent: self.arrival.trace_parent(),
            session: self.arrival.session_id().into(),
            msg_id: self.arrival.msg_id,
            seq_id: self.arrival.seq_id,
            class: self.class,
            end,
            arrived: self.arrived,
            resolved: self.progress.is_bundled.then_some((self.members_known, self.bundled_at)),
            ended_at: now,
            has_missed: self.progress.has_missed,
            pushes: told,
            pushes_left_out: left_out,
        }
    }
}

impl Context {
    /// What of an event is passed on to gateways besides the message.
    #[inline]
    pub(super) fn passes_on(&self) -> PassOn {
        PassOn { device: self.rules.echo_sender, trace: self.observed.telling.is_some() }
    }

    /// An event leaves. What comes again is told of when it does, unless its publisher wants to know.
    #[inline]
    pub(super) fn tell_of(&mut self, event: &mut Event, end: EventOutcome) {
        let Some(telling) = &mut self.observed.telling else { return };
        let comes_again = matches!(end, EventOutcome::GivenBack | EventOutcome::CutByStop);
        if !event.is_told(telling, self.now) || (comes_again && !event.arrival.is_sampled()) {
            return;
        }
        let trace = event.trace(end, self.now);
        let spans = trace.spans();
        if telling.may_tell(spans, self.now) {
            self.out.push(Output::Tell(Box::new(trace)));
        } else {
            self.activity.spans_over_limit += u64::from(spans);
        }
    }
}

impl Push {
    /// The same, which tells of events by these rules; without any of none.
    pub fn with_traces(mut self, rules: Option<TraceRules>) -> Self {
        self.cx.observed.telling = rules.map(|rules| Box::new(Telling::new(rules)));
        self
    }

    /// A publisher means to have its event traced, and nothing comes of it.
    #[cold]
    pub(super) fn note_bad_headers(&mut self) {
        self.cx.activity.trace_headers_refused += 1;
        self.cx.warn("trace_headers_refused", || {
            "the trace_headers of an event are no texts, too many, or their traceparent is none (W3C Trace Context): it is \
             pushed as one without; look at its publisher"
                .to_owned()
        });
    }

    /// A push has ended, and what follows from it is done.
    #[inline]
    pub(super) fn trace_push(&mut self, bundle: &Bundle, seen: Seen) {
        if self.cx.observed.looks_at_pushes()
            && (self.is_traced(bundle) || self.is_tapped(bundle.event, &bundle.group.users))
        {
            self.keep_push(bundle, seen);
        }
    }

    fn is_traced(&self, bundle: &Bundle) -> bool {
        let telling = self.cx.observed.telling.as_ref();
        telling.is_some_and(|telling| self.ledger[bundle.event].is_told(telling, self.cx.now))
    }

    #[inline(never)]
    fn keep_push(&mut self, bundle: &Bundle, seen: Seen) {
        let answered_at = seen.times.answered_at(bundle.made_at).unwrap_or(self.cx.now);
        let event = &mut self.ledger[bundle.event];
        let latency = self.cx.latency_of(event.published, answered_at).filter(|_| seen.delivered > 0);
        // Another shard's turn may have begun before, or after, the one of this shard that it exchanges something with.
        let ended_at = answered_at.clamp(bundle.made_at, self.cx.now);
        let written_at =
            seen.times.written_at(bundle.made_at).map(|written_at| written_at.clamp(bundle.made_at, ended_at));
        event.pushes.get_or_insert_default().keep(TracedPush {
            gateway: bundle.group.gateway_id.clone(),
            recipients: bundle.recipients() as u32,
            missed: seen.missed,
            made_at: bundle.made_at,
            written_at,
            ended_at,
            unanswered: seen.unanswered,
            latency,
        });
    }
}
