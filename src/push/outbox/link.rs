//! The stream's life: opened when there is something to send, reopened with backoff when it breaks, half-closed when
//! its gateway leaves, moves, says goodbye (GOAWAY), or has had nothing to do for five minutes.

use std::time::Duration;

use crate::model::gateway::{GatewayRecord, Protocol};
use crate::model::ids::{GatewayIx, Nanos, StreamNo};
use crate::model::limits::{GATEWAY_DRAIN_QUIET, GATEWAY_IDLE_CLOSE, GATEWAY_SWITCH_DEADLINE, RECONNECT_BACKOFF};
use crate::push::facts::{Output, StreamEnd, StreamFact};
use crate::push::outbox::{Effects, Item, Outbox};
use crate::telemetry::metrics::GatewayState;

/// What the stream is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// There is none.
    Closed,
    /// There is none, and none is tried before this.
    Backoff { until: Nanos },
    /// It is being opened.
    Opening { stream: StreamNo, protocol: Protocol },
    /// It can be written to.
    Open { stream: StreamNo, protocol: Protocol },
    /// What is written is answered on this stream, the rest goes on the next one.
    Leaving { stream: StreamNo, protocol: Protocol, until: Nanos, is_told: bool, why: Leave },
    /// It is to be dropped at once, and no other tried before this.
    Cutting { stream: StreamNo, until: Nanos },
}

/// Why a stream is left that could go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// The registry's record changed, or nothing is left to do.
    Ours,
    /// The gateway said that it takes no new streams on this connection.
    GoAway,
    /// It is an empty one, to see whether the gateway is there.
    Probe,
}

impl Outbox {
    /// The registry lists the gateway, new or changed.
    pub fn list(&mut self, record: GatewayRecord, now: Nanos) {
        self.peer.unlisted_at = None;
        // What other records of the same id say is no reason to leave this one's address.
        let is_other =
            |known: &GatewayRecord| known.endpoints != record.endpoints || known.protocols != record.protocols;
        let mut is_change = self.peer.record.as_ref().is_some_and(is_other);
        if self.peer.record.is_none() || is_change {
            self.peer.refused_protocols.clear();
            self.health.failures_in_row = 0;
        }
        self.peer.record = Some(record);
        is_change |= self.peer.look_at_others(is_change);
        match self.stream.link {
            Link::Open { stream, protocol } | Link::Opening { stream, protocol } if is_change => {
                let until = now.after(GATEWAY_SWITCH_DEADLINE);
                self.stream.link = Link::Leaving { stream, protocol, until, is_told: false, why: Leave::Ours };
            }
            Link::Backoff { .. } if is_change => self.stream.link = Link::Closed,
            _ => {}
        }
    }

    /// The registry lists the gateway no longer. A registration may be lost while its gateway lives: its address is used for
    /// `registry.forget_after` longer, and a stream that is open as long as it is.
    pub fn unlist(&mut self, now: Nanos) {
        self.peer.unlisted_at = Some(now);
    }

    /// The engine stops: the stream ends as soon as nothing waits.
    pub fn stop(&mut self) {
        self.is_stopping = true;
    }

    /// Whether a stream is open, being opened or being closed.
    pub fn has_stream(&self) -> bool {
        !matches!(self.stream.link, Link::Closed | Link::Backoff { .. })
    }

    /// Has the stream opened, once, though nothing is to be sent yet; false when there is one, or the last one failed.
    pub fn want_stream(&mut self, now: Nanos) -> bool {
        let is_possible = self.stream.link == Link::Closed && self.peer.unlisted_at.is_none() && !self.is_stopping;
        if !is_possible || self.peer.record.is_none() || self.health.failures_in_row > 0 {
            return false;
        }
        // It is quiet from now on.
        (self.stream.is_wanted, self.moved_at) = (true, now);
        true
    }

    /// What is being done about the gateway.
    pub fn state(&self) -> GatewayState {
        match self.stream.link {
            _ if self.peer.record.is_none() => GatewayState::Unknown,
            _ if self.peer.unlisted_at.is_some() => GatewayState::Draining,
            Link::Closed => GatewayState::Idle,
            Link::Backoff { .. } => GatewayState::Backoff,
            Link::Opening { .. } => GatewayState::Opening,
            Link::Open { .. } => GatewayState::Open,
            Link::Leaving { .. } | Link::Cutting { .. } => GatewayState::Draining,
        }
    }

    /// The protocol that is spoken, or would be.
    pub fn protocol(&self) -> Option<Protocol> {
        let announced = self.peer.record.as_ref()?.protocols;
        let steps = [Protocol::Group, Protocol::Batch, Protocol::StreamMany, Protocol::Stream, Protocol::Unary];
        let from = steps.iter().position(|step| Some(*step) == announced.best())?;
        // One that does not know several users a frame takes the last of them, and answers as if it had taken all.
        let may_be = |step: &Protocol| *step != Protocol::StreamMany || announced.stream_many;
        let is_refused = |step: &Protocol| self.peer.refused_protocols.contains(step);
        steps[from..].iter().copied().find(|step| may_be(step) && !is_refused(step))
    }

    pub(super) fn take_closed(&mut self, end: StreamEnd, now: Nanos, effects: &mut Effects) {
        let (protocol, left) = match self.stream.link {
            Link::Opening { protocol, .. } | Link::Open { protocol, .. } => (Some(protocol), None),
            Link::Leaving { protocol, why, .. } => (Some(protocol), Some(why)),
            _ => (None, Some(Leave::Ours)),
        };
        let was_opening = matches!(self.stream.link, Link::Opening { .. });
        let ended = self.suspect_for(&end, left, now, effects);
        self.stream.link = Link::Closed;
        self.forget_written(effects);
        if left == Some(Leave::Probe) && protocol.is_some_and(|protocol| self.take_probed(&end, protocol)) {
            return;
        }
        match end {
            StreamEnd::Unimplemented => self.step_down(protocol, now, effects),
            // One that says goodbye to each connection before it answers anything is not dialled as fast as it can.
            StreamEnd::Finished if left == Some(Leave::GoAway) => self.pause_after_failures(now),
            // The goodbye came while the stream was on its way: it belongs to the connection, not to the gateway.
            StreamEnd::NotOpened(_) if left == Some(Leave::GoAway) && self.health.failures_in_row == 0 => {
                self.pause_after_failures(now);
            }
            _ if left == Some(Leave::Ours) => {}
            StreamEnd::Finished => self.back_off("gateway_broken", "it closed the stream".to_owned(), now, effects),
            StreamEnd::NotOpened(why) if was_opening && self.peer.try_elsewhere(now) => {
                let why = format!("{why}; several records claim this id: the addresses of the others are tried now");
                self.back_off("gateway_unreachable", why, now, effects);
            }
            StreamEnd::NotOpened(why) => self.back_off("gateway_unreachable", why, now, effects),
            StreamEnd::Unheard(why) | StreamEnd::Broken(why) => self.back_off("gateway_broken", why, now, effects),
        }
        if let Some(what) = ended {
            effects.warning = Some(("gateway_push_broken", what));
        }
    }

    pub(super) fn step_down(&mut self, from: Option<Protocol>, now: Nanos, effects: &mut Effects) {
        self.peer.refused_protocols.extend(from);
        let Some(next) = self.protocol() else {
            self.peer.refused_protocols.clear();
            let why = "it implements none of PushGroups, PushBatch, PushMessage and Push".to_owned();
            return self.back_off("gateway_no_protocol", why, now, effects);
        };
        if let Some(from) = from {
            let (from, next) = (from.label(), next.label());
            let what = format!(
                "it does not implement the rpc of protocol {from}: it gets {next} until its record in the registry changes"
            );
            effects.warning = Some(("gateway_stepped_down", what));
        }
    }

    pub(super) fn back_off(&mut self, reason: &'static str, why: String, now: Nanos, effects: &mut Effects) {
        effects.counted.stream_breaks += 1;
        effects.warning = Some((reason, why));
        self.pause(now);
    }

    /// Nothing the first time, nor after answers; answers that fit begin the count anew, unless it happens again and again.
    fn pause_after_failures(&mut self, now: Nanos) {
        self.health.unrest.note(false, now);
        match self.health.failures_in_row.max(self.health.unrest.failures(now)) {
            0 => self.health.failures_in_row = u32::from(!self.stream.has_answered),
            _ => self.pause(now),
        }
    }

    fn pause(&mut self, now: Nanos) {
        let until = now.after(self.next_pause(now));
        self.stream.link = Link::Backoff { until };
    }

    /// Between half of the pause after so many failures and all of it, spread over gateways and tries without a source of
    /// randomness.
    pub(super) fn jittered_backoff(&self, failures: u32) -> Duration {
        let mixed = (u64::from(self.peer.id_hash) ^ u64::from(self.stream.last_stream.0) << 32)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let thousandths = 500 + (mixed >> 40) % 501;
        // The first failure is waited out for the second wait already.
        RECONNECT_BACKOFF.after(failures.saturating_add(1)).mul_f64(thousandths as f64 / 1000.0)
    }

    /// What was written and not answered is written again on the next stream.
    fn forget_written(&mut self, effects: &mut Effects) {
        let (unanswered, late) = self.queue.forget_written();
        effects.counted.resent_recipients += unanswered;
        effects.results.extend(late.into_iter().map(Item::off_stream));
        self.stream.batches.clear();
        self.stream.groups.clear();
        self.stream.partial.clear();
        self.stream.unsent_bytes = 0;
        self.stream.calls_from = Nanos(0);
    }

    /// The answers cannot be trusted, or do not come: the stream is dropped, and another opened after a pause.
    pub(super) fn cut(&mut self, now: Nanos, effects: &mut Effects) {
        let stream = match self.stream.link {
            Link::Open { stream, .. } | Link::Opening { stream, .. } | Link::Leaving { stream, .. } => stream,
            Link::Closed | Link::Backoff { .. } | Link::Cutting { .. } => return,
        };
        self.forget_written(effects);
        let warning = effects.warning.take();
        self.back_off("gateway_broken", String::new(), now, effects);
        effects.warning = warning;
        if let Link::Backoff { until } = self.stream.link {
            self.stream.link = Link::Cutting { stream, until };
        }
    }

    /// Whether the link wants to be looked at without anything having happened to it.
    pub(super) fn is_link_due(&self, now: Nanos) -> bool {
        match self.stream.link {
            Link::Closed => !self.queue.is_empty(),
            Link::Backoff { until } => until <= now,
            Link::Leaving { until, .. } => until <= now,
            Link::Cutting { .. } => true,
            Link::Opening { .. } => false,
            Link::Open { .. } => {
                (self.queue.is_empty() && self.is_over(now))
                    || self.has_parts_waiting()
                    || self.are_calls_due(now)
                    || self.peer.is_return_due(now)
            }
        }
    }

    /// Whether an open stream that has nothing to carry is to be closed.
    fn is_over(&self, now: Nanos) -> bool {
        let quiet = now.since(self.moved_at);
        let has_left = self.peer.unlisted_at.is_some_and(|at| now.since(at) >= GATEWAY_DRAIN_QUIET);
        self.is_stopping || quiet >= GATEWAY_IDLE_CLOSE || (has_left && quiet >= GATEWAY_DRAIN_QUIET)
    }

    pub(super) fn link_up(&mut self, at: GatewayIx, now: Nanos, effects: &mut Effects) {
        if let Link::Cutting { stream, until } = self.stream.link {
            effects.outputs.push(Output::Cut { gateway: at, stream });
            self.stream.link = Link::Backoff { until };
        }
        let may_open = matches!(self.stream.link, Link::Closed)
            || matches!(self.stream.link, Link::Backoff { until } if until <= now);
        let is_wanted = std::mem::take(&mut self.stream.is_wanted) || !self.queue.is_empty();
        if !may_open || !is_wanted || self.is_gone(now) {
            return;
        }
        if self.peer.is_return_due(now) {
            self.peer.try_first_record();
        }
        let (Some(endpoints), Some(protocol)) = (self.peer.endpoints(), self.protocol()) else { return };
        self.stream.last_stream.0 += 1;
        let stream = self.stream.last_stream;
        let protocol = self.probe_with(stream, protocol).unwrap_or(protocol);
        effects.counted.stream_opens += 1;
        effects.outputs.push(Output::Open {
            gateway: at,
            stream,
            gateway_id: self.peer.id.clone(),
            endpoints,
            protocol,
        });
        self.stream.link = Link::Opening { stream, protocol };
    }

    pub(super) fn link_down(&mut self, at: GatewayIx, now: Nanos, effects: &mut Effects) {
        match &mut self.stream.link {
            Link::Leaving { stream, until, .. } if *until <= now => {
                effects.outputs.push(Output::Cut { gateway: at, stream: *stream });
                self.stream.link = Link::Closed;
                self.forget_written(effects);
                self.link_up(at, now, effects);
            }
            Link::Leaving { stream, is_told, .. } if !*is_told => {
                *is_told = true;
                effects.outputs.push(Output::Finish { gateway: at, stream: *stream });
            }
            Link::Open { stream, protocol } if self.peer.is_return_due(now) => {
                let (stream, protocol) = (*stream, *protocol);
                self.peer.try_first_record();
                effects.outputs.push(Output::Finish { gateway: at, stream });
                let until = now.after(GATEWAY_SWITCH_DEADLINE);
                self.stream.link = Link::Leaving { stream, protocol, until, is_told: true, why: Leave::Ours };
            }
            Link::Open { stream, protocol } if self.queue.is_empty() => {
                let (stream, protocol) = (*stream, *protocol);
                if self.is_over(now) {
                    effects.outputs.push(Output::Finish { gateway: at, stream });
                    let until = now.after(GATEWAY_SWITCH_DEADLINE);
                    self.stream.link = Link::Leaving { stream, protocol, until, is_told: true, why: Leave::Ours };
                }
            }
            _ => {}
        }
    }

    /// A fact about the stream; facts about an older one are dropped.
    pub fn take(&mut self, about: StreamNo, fact: StreamFact, now: Nanos, effects: &mut Effects) {
        let (stream, protocol) = match self.stream.link {
            Link::Opening { stream, protocol } | Link::Open { stream, protocol } => (stream, protocol),
            Link::Leaving { stream, protocol, .. } => (stream, protocol),
            Link::Closed | Link::Backoff { .. } | Link::Cutting { .. } => return,
        };
        if stream != about {
            return;
        }
        match fact {
            StreamFact::Opened => {
                if let Link::Opening { .. } = self.stream.link {
                    self.peer.is_reached();
                    let until = now.after(GATEWAY_SWITCH_DEADLINE);
                    self.stream.link = match self.health.suspect.is_probe(stream) {
                        true => Link::Leaving { stream, protocol, until, is_told: false, why: Leave::Probe },
                        false => Link::Open { stream, protocol },
                    };
                    (self.stream.has_answered, self.stream.not_implemented) = (false, 0);
                }
            }
            StreamFact::Taken(bytes) => self.stream.unsent_bytes = self.stream.unsent_bytes.saturating_sub(bytes),
            StreamFact::Answers(data) => self.take_answers(&data, protocol, now, effects),
            StreamFact::CallAnswered { call, answer } => self.take_call(call, answer, now, effects),
            StreamFact::GoingAway => {
                if let Link::Open { .. } = self.stream.link {
                    let until = now.after(self.settings.delivery_timeout);
                    self.stream.link = Link::Leaving { stream, protocol, until, is_told: false, why: Leave::GoAway };
                }
            }
            StreamFact::Closed(end) => self.take_closed(end, now, effects),
        }
    }
}
