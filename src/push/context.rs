//! What every stage of the push path is handed: the time, the settings, what a turn may still do, what is counted, and where
//! intentions go.
//!
//! Promises that it holds no state of any stage. Refuses to decide anything.

use std::time::Duration;

use crate::model::ids::{GatewayIx, Nanos, ShardId};
use crate::model::limits::{
    GATEWAY_FORGET_AFTER, GATEWAY_FORGET_SOON, GATEWAYS_MAX, GROUP_USERS_MIN, TURN_RECIPIENTS_MAX,
};
use crate::model::priority::PriorityRules;
use crate::push::facts::Output;
use crate::push::inbox::InboxStore;
use crate::push::outbox::Counted;
use crate::push::recipients::RecipientRules;
use crate::push::stage_times::StageTimes;
use crate::push::telling::Observed;
use crate::push::turn::Budget;
use crate::push::warnings::Warnings;
use crate::telemetry::metrics::Activity;

/// What a shard's decisions depend on besides facts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which shard this is.
    pub shard: ShardId,
    /// How many there are.
    pub shards: u16,
    /// How many events its source lets out to it at once; [`EVENTS_IN_FLIGHT_MAX`] when the source has no bound.
    pub events_window: usize,
    /// Users of one group at the most: [`GROUP_USERS_MAX`](crate::model::limits::GROUP_USERS_MAX), but where groups are to be cut that are small.
    pub group_users_max: usize,
    /// `members.cache_ttl`.
    pub members_ttl: Duration,
    /// `members.empty_wait`.
    pub empty_wait: Duration,
    /// `routes.cache` is `tracked`: while the store tells changes, a route holds until it does. Else each event asks.
    pub caches_routes: bool,
    /// `gateway.delivery_timeout`.
    pub delivery_timeout: Duration,
    /// `registry.forget_after`.
    pub registry_forget_after: Duration,
    /// How many gateways are known at once, and for how long.
    pub gateway_table: TableBounds,
    /// `consumer.max_retry`.
    pub max_retry: u32,
    /// `consumer.retry_interval`.
    pub retry_interval: Duration,
    /// `inbox.store`.
    pub inbox: InboxStore,
}

impl Settings {
    /// Users of a group below which a gateway that keeps lists is told their names each time. Where groups are small, lists are small too.
    pub fn group_users_min(&self) -> usize {
        GROUP_USERS_MIN.min(self.group_users_max / 4).max(1)
    }
}

/// How many gateways are known at once, and for how long.
#[derive(Clone, Debug)]
pub struct TableBounds {
    /// Those that the registry does not list; with listed ones, at most twice as many.
    pub unlisted: usize,
    /// How long one of those is known that nothing happens to.
    pub forget_after: Duration,
    /// The same while more than half of their places are taken.
    pub forget_soon: Duration,
}

impl Default for TableBounds {
    fn default() -> Self {
        Self { unlisted: GATEWAYS_MAX, forget_after: GATEWAY_FORGET_AFTER, forget_soon: GATEWAY_FORGET_SOON }
    }
}

/// What a stage is handed besides its own state.
#[derive(Debug)]
pub(super) struct Context {
    /// The time of this turn.
    pub(super) now: Nanos,
    /// What the configuration says.
    pub(super) settings: Settings,
    /// What it says of recipients.
    pub(super) rules: RecipientRules,
    /// What is left of this turn.
    pub(super) budget: Budget,
    /// The stop's deadline passed: nothing goes on.
    pub(super) is_cut_off: bool,
    /// What only a store that is away can end is given back.
    pub(super) is_retreating: bool,
    /// What was done besides ending events.
    pub(super) activity: Activity,
    /// How long the steps took.
    pub(super) stages: StageTimes,
    /// Intentions, in order.
    pub(super) out: Vec<Output>,
    /// Recipients of a turn.
    pub(super) turn_recipients: usize,
    /// How events get their class.
    pub(super) priorities: PriorityRules,
    /// How long the events that are taken next had waited for their shard.
    pub(super) waited: Duration,
    /// Whether there are classes at all.
    pub(super) has_classes: bool,
    /// What is seen of events beside their ends.
    pub(super) observed: Observed,
    warnings: Warnings,
}

impl Context {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            now: Nanos(0),
            settings,
            rules: RecipientRules::default(),
            budget: Budget::of(TURN_RECIPIENTS_MAX),
            is_cut_off: false,
            is_retreating: false,
            activity: Activity::default(),
            stages: StageTimes::default(),
            out: Vec::new(),
            turn_recipients: TURN_RECIPIENTS_MAX,
            priorities: PriorityRules::default(),
            waited: Duration::ZERO,
            has_classes: false,
            observed: Observed::default(),
            warnings: Warnings::default(),
        }
    }

    /// From now on events have classes, if there are rules.
    pub(super) fn set_priorities(&mut self, rules: PriorityRules) {
        self.has_classes = rules.is_on();
        self.priorities = rules;
    }

    /// Warns the operator, unless the same reason was given lately; the text is made only when it is sent.
    pub(super) fn warn(&mut self, reason: &'static str, detail: impl FnOnce() -> String) {
        self.warn_about(reason, None, detail);
    }

    /// The same about one gateway: each gateway has its own limit.
    pub(super) fn warn_about(
        &mut self,
        reason: &'static str,
        about: Option<GatewayIx>,
        detail: impl FnOnce() -> String,
    ) {
        let Some(left_out) = self.warnings.allow(reason, about, self.now) else { return };
        let mut detail = detail();
        if left_out > 0 {
            detail = format!("{detail} ({left_out} more like this since it was last said)");
        }
        self.out.push(Output::Warn { reason, detail });
    }

    /// Warnings so far by reason, also those that were not said.
    pub(super) fn warnings(&self) -> &[(&'static str, u64)] {
        self.warnings.totals()
    }

    /// What was said of these gateways says nothing of the next ones at their places.
    pub(super) fn forget_warnings(&mut self, is_one: impl Fn(GatewayIx) -> bool) {
        self.warnings.forget(is_one);
    }
}

impl Activity {
    /// Adds what an outbox counted.
    pub(super) fn add(&mut self, other: &Counted) {
        self.stream_opens += other.stream_opens;
        self.stream_breaks += other.stream_breaks;
        self.answer_mismatches += other.answer_mismatches;
        self.answered_late += other.answered_late;
        self.resent_recipients += other.resent_recipients;
        self.frame_bytes += other.frame_bytes;
        self.groups_said += other.groups_said;
        self.group_changes += other.group_changes;
        self.groups_forgotten += other.groups_forgotten;
        self.groups_unknown += other.groups_unknown;
        self.notices_sent += other.notices_sent;
    }
}
