//! What a pump does when the engine stops: it looks how far the stop is, tells how far it is itself, and ends.

use std::sync::atomic::Ordering;

use super::Pump;
use crate::push::facts::Input;
use crate::push::retreat::Away;
use crate::shard::stop::{CUT_OFF, DRAINING, GIVEN_UP, LEAVING, count};

impl Pump {
    pub(super) fn look_at_stop(&mut self) {
        let phase = self.shared.stop.phase.load(Ordering::Acquire);
        if phase >= LEAVING {
            self.look_at_stores();
        }
        if phase >= GIVEN_UP && !std::mem::replace(&mut self.work.has_given_up, true) {
            self.push.take(Input::CutOff);
            self.give_back_lane();
        }
        if phase >= DRAINING && !self.work.is_quiet && self.lane.is_empty() && self.push.events_in_flight() == 0 {
            self.work.is_quiet = true;
            self.shared.stop.quiet.fetch_add(1, Ordering::AcqRel);
        }
        let all_quiet = self.shared.stop.quiet.load(Ordering::Acquire) == self.shared.routes_health.len();
        if all_quiet && !self.work.is_stopping {
            self.work.is_stopping = true;
            self.push.take(Input::Stopping);
        }
        if phase >= CUT_OFF && !self.work.is_cut_off {
            self.work.is_cut_off = true;
            self.push.take(Input::CutOff);
            self.give_back_lane();
        }
    }

    /// Tells whether this shard waits for nothing but stores that are away.
    fn look_at_stores(&mut self) {
        let stop = &self.shared.stop;
        let away = Away::of_bits(stop.away.load(Ordering::Acquire));
        let is_stuck = away.is_any()
            && !self.work.is_quiet
            && self.lane.is_held_up(self.push.room(), self.push.room_for_urgent())
            && self.push.waits_only_for(away);
        let is_blocked = is_stuck && self.lane.is_full();
        let is_idle = !self.work.is_quiet && self.lane.is_empty() && self.push.events_in_flight() == 0;
        let work = &mut self.work;
        count(&mut work.is_stuck, is_stuck, &stop.stuck);
        count(&mut work.is_blocked, is_blocked, &stop.blocked);
        count(&mut work.is_idle, is_idle, &stop.idle);
    }

    /// What waits in the lane ends as what is in flight: a lane that is dropped would leave it without an end. Intake is
    /// over, or shut, so no more than a lane holds.
    pub(super) fn give_back_lane(&mut self) {
        for _ in 0..self.lane.len() {
            let Some((payload, tag, said, _)) = self.lane.try_take_timed() else { break };
            self.push.take(Input::Event { payload, tag, said });
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.work.is_cut_off || (self.work.is_stopping && !self.push.has_streams() && self.mesh.is_quiet())
    }
}
