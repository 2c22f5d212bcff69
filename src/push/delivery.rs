//! The delivery stage: bundles into the outboxes of the gateways that this shard owns, and their results home.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::ids::{GatewayIx, StreamNo};
use crate::model::outcome::RecipientOutcome;
use crate::push::bundle::{Bundle, BundleResult};
use crate::push::context::{Context, Settings};
use crate::push::facts::{Output, StreamFact};
use crate::push::gateways::Gateways;
use crate::push::layout::KnownGateways;
use crate::push::outbox::{Effects, OutboxSettings};
use crate::telemetry::metrics::Stage;

/// The gateways with their outboxes, and what comes out of these.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) gateways: Gateways,
    /// What an outbox wants done, between two of them; kept for its memory.
    effects: Effects,
    /// Results of this shard's own events.
    pub(super) results: VecDeque<BundleResult>,
}

impl Delivery {
    pub(super) fn new(settings: &Settings) -> Self {
        let outbox = OutboxSettings {
            delivery_timeout: settings.delivery_timeout,
            forget_after: settings.registry_forget_after,
            group_users_min: settings.group_users_min(),
            stream_target: None,
            fleeting_ttl: Duration::ZERO,
        };
        Self {
            gateways: Gateways::new(outbox, settings.gateway_table.clone()),
            effects: Effects::default(),
            results: VecDeque::new(),
        }
    }

    /// A bundle of this shard's goes to the shard that owns its gateway. Inlined with all that it calls: a bundle that is copied while
    /// its fields are still being stored waits for them, at each copy.
    #[inline(always)]
    pub(super) fn send(&mut self, bundle: Bundle, cx: &mut Context) {
        let owner = self.gateways.owner(bundle.group.gateway, cx.settings.shards);
        if owner == cx.settings.shard { self.own(bundle, cx) } else { cx.out.push(Output::ToOwner(owner, bundle)) }
    }

    /// This shard owns the bundle's gateway: into its outbox.
    #[inline(always)]
    pub(super) fn own(&mut self, bundle: Bundle, cx: &mut Context) {
        let now = cx.now;
        let Some(at) = self.gateways.place_of_group(&bundle.group, now) else {
            self.warn_table_full(&bundle.group.gateway_id, cx);
            return self.send_home(BundleResult::turned_away(bundle, RecipientOutcome::GatewayTableFull), cx);
        };
        if let Err(refused) = self.gateways.outbox(at).put(bundle, now) {
            self.send_home(*refused, cx);
        }
    }

    fn send_home(&mut self, result: BundleResult, cx: &mut Context) {
        let home = result.bundle.home;
        if home == cx.settings.shard {
            self.results.push_back(result)
        } else {
            cx.out.push(Output::ToHome(home, result))
        }
    }

    /// Something happened to a gateway's stream.
    pub(super) fn take(&mut self, at: GatewayIx, stream: StreamNo, fact: StreamFact, cx: &mut Context) {
        self.gateways.outbox(at).take(stream, fact, cx.now, &mut self.effects);
        self.carry_out(at, cx);
    }

    /// Time has passed: looks at the outboxes that have something to do.
    pub(super) fn tick(&mut self, cx: &mut Context) {
        let awake = self.gateways.take_awake();
        cx.activity.outboxes_ticked += awake.len() as u64;
        for at in &awake {
            if self.gateways.outbox_as_it_is(*at).tick(cx.now, &mut self.effects) {
                self.gateways.outbox(*at);
            }
            self.carry_out(*at, cx);
        }
        self.gateways.let_sleep(awake);
    }

    /// The turn ends: the outboxes that something happened to write what the turn allows.
    pub(super) fn flush(&mut self, cx: &mut Context) {
        let mut changed = self.gateways.take_changed();
        while cx.budget.frame_bytes_left > 0
            && let Some(at) = changed.pop_front()
        {
            self.gateways.outbox_as_it_is(at).flush(at, cx.now, &mut self.effects);
            let written = self.effects.counted.frame_bytes;
            cx.budget.frame_bytes_left = cx.budget.frame_bytes_left.saturating_sub(written);
            self.carry_out(at, cx);
        }
        // What is left goes first in the next turn; streams are opened and cut in this one.
        for at in &changed {
            self.gateways.outbox_as_it_is(*at).look_after_link(*at, cx.now, &mut self.effects);
            self.carry_out(*at, cx);
        }
        self.gateways.put_back_changed(changed);
    }

    /// Leaves nothing of the effects but their memory.
    fn carry_out(&mut self, at: GatewayIx, cx: &mut Context) {
        let Effects { outputs, results, outbox_waits, gateway_waits, counted, .. } = &mut self.effects;
        cx.out.append(outputs);
        for wait in outbox_waits.drain(..) {
            cx.stages.record(Stage::Outbox, wait);
        }
        for wait in gateway_waits.drain(..) {
            cx.stages.record(Stage::Gateway, wait);
        }
        cx.activity.add(&std::mem::take(counted));
        if cx.settings.shards == 1 && self.results.is_empty() {
            // All of them are at home here.
            std::mem::swap(results, &mut self.results);
        }
        while let Some(result) = self.effects.results.pop_front() {
            self.send_home(result, cx);
        }
        if let Some((reason, detail)) = self.effects.warning.take() {
            self.warn_of(reason, at, cx, || detail);
        }
    }

    /// The place of the gateway that a route names; none when the table is full.
    pub(super) fn place_of_route(&mut self, id: &str, cx: &mut Context) -> Option<GatewayIx> {
        let place = self.gateways.place_of(id, cx.now);
        if place.is_none() {
            self.warn_table_full(id, cx);
        }
        place
    }

    /// Warns the operator about one gateway.
    pub(super) fn warn_of(
        &self,
        reason: &'static str,
        at: GatewayIx,
        cx: &mut Context,
        detail: impl FnOnce() -> String,
    ) {
        cx.warn_about(reason, Some(at), || format!("gateway {}: {}", self.gateways.id(at), detail()));
    }

    /// Warns the operator that a gateway has no place in the table.
    pub(super) fn warn_table_full(&self, id: &str, cx: &mut Context) {
        let known = self.gateways.known();
        cx.warn("gateway_table_full", || {
            format!(
                "gateway {id} found no place among the {known} gateways that this shard knows: who is connected to it is \
                 not pushed to until others are forgotten; look for routes in Redis that name gateways that are none"
            )
        });
    }
}
