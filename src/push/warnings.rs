//! What was said to the operator, so that the same is not said again and again.
//!
//! Promises that each reason is said at most once in ten seconds of each gateway (one gateway's trouble does not hide
//! another's), and that what was left out is counted in the next one and in the totals.

use hashbrown::HashMap;

use crate::model::ids::{GatewayIx, Nanos};
use crate::model::limits::WARNINGS_KEPT;
use crate::telemetry::log_limiter::Said;

/// What was said lately.
#[derive(Debug, Default)]
pub struct Warnings {
    said: HashMap<(&'static str, Option<GatewayIx>), Said<Nanos>>,
    /// Few, as the reasons are words of the program: found by looking at each.
    totals: Vec<(&'static str, u64)>,
}

impl Warnings {
    /// Whether this is to be said now; if so, how many like it were left out since the last one.
    pub fn allow(&mut self, reason: &'static str, about: Option<GatewayIx>, now: Nanos) -> Option<u64> {
        self.count(reason);
        let is_new = !self.said.contains_key(&(reason, about));
        if is_new && self.said.len() >= WARNINGS_KEPT {
            self.said.retain(|_, said| said.is_recent(now));
        }
        // So many gateways in trouble at once are said of as one.
        let about = about.filter(|_| !is_new || self.said.len() < WARNINGS_KEPT);
        let Some(said) = self.said.get_mut(&(reason, about)) else {
            self.said.insert((reason, about), Said::first(now));
            return Some(0);
        };
        said.allow(now)
    }
}

impl Warnings {
    fn count(&mut self, reason: &'static str) {
        match self.totals.iter_mut().find(|total| total.0 == reason) {
            Some(total) => total.1 += 1,
            None => self.totals.push((reason, 1)),
        }
    }

    /// How often there was each reason, said or not.
    pub fn totals(&self) -> &[(&'static str, u64)] {
        &self.totals
    }

    /// These gateways are forgotten: what is said of others at their places is said of others.
    pub fn forget(&mut self, is_one: impl Fn(GatewayIx) -> bool) {
        self.said.retain(|(_, about), _| !about.is_some_and(&is_one));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::log_limiter::LOG_EVERY;

    #[test]
    fn one_gateway_does_not_hide_another_and_what_is_left_out_is_counted() {
        let mut warnings = Warnings::default();
        let (a, b) = (Some(GatewayIx(0)), Some(GatewayIx(1)));
        let later = Nanos(0).after(LOG_EVERY);
        assert_eq!(warnings.allow("broken", a, Nanos(0)), Some(0));
        assert_eq!(warnings.allow("broken", b, Nanos(0)), Some(0));
        assert_eq!(warnings.allow("broken", a, Nanos(1)), None);
        assert_eq!(warnings.allow("silent", a, Nanos(1)), Some(0));
        assert_eq!(warnings.allow("broken", a, later), Some(1));
        assert_eq!(warnings.allow("broken", b, later), Some(0));
        assert_eq!(warnings.totals(), [("broken", 5), ("silent", 1)]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut warnings = Warnings::default();
        let say = |warnings: &mut Warnings, now| {
            let all = (0..2 * WARNINGS_KEPT as u32).map(|at| warnings.allow("broken", Some(GatewayIx(at)), now));
            all.flatten().count()
        };
        assert_eq!(say(&mut warnings, Nanos(0)), WARNINGS_KEPT + 1);
        assert!(warnings.said.len() <= WARNINGS_KEPT + 1);
        assert_eq!(say(&mut warnings, Nanos(0).after(LOG_EVERY)), WARNINGS_KEPT + 1);
        assert!(warnings.said.len() <= WARNINGS_KEPT + 1);
    }
}
