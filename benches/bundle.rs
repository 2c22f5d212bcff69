//! Bundling, per recipient. `lay-out`: a session's members sorted into groups by gateway, done when a member or a route
//! has changed. `event`: an event of a session that is laid out, from its arrival to one bundle a group, which is what
//! every event costs its home shard on the way out (reading it, finding its session and the sender included).
//!
//! Not in it: lookups, the hop to the owner shard, and the way back (`ledger`).

mod support;

use std::hint::black_box;
use std::sync::Arc;

use support::Clock;
use support::facts::{gateway_name, user_name};
use support::world::{Shape, World};
use task_engine::model::ids::{GatewayId, GatewayIx, UserIx};
use task_engine::push::layout::{Grouper, KnownGateways};
use task_engine::push::users::{RouteState, Users};

fn main() {
    support::run("bundle", |cases| {
        let fan_outs = cases.pick(&[1, 10, 100, 1_000, 10_000][..], &[1, 1_000]);
        for fan_out in fan_outs {
            for gateways in cases.pick(&[1, 8, 64, 256][..], &[8]) {
                lay_out(cases, *fan_out, *gateways);
            }
        }
        for fan_out in fan_outs {
            for gateways in cases.pick(&[1, 8, 64, 256][..], &[8]) {
                event(cases, *fan_out, *gateways);
            }
        }
    });
}

/// Gateways none of which keeps lists of users.
struct Ids(Vec<GatewayId>);

impl KnownGateways for Ids {
    fn id(&self, at: GatewayIx) -> GatewayId {
        Arc::clone(&self.0[at.0 as usize])
    }

    fn keeps_lists(&self, _: GatewayIx) -> bool {
        false
    }

    fn lists_epoch(&self) -> u32 {
        0
    }
}

fn lay_out(cases: &mut support::Cases, fan_out: usize, gateways: usize) {
    let mut users = Users::default();
    let members: Vec<UserIx> = (0..fan_out).map(|user| users.name(&user_name(user))).collect();
    for (number, user) in members.iter().enumerate() {
        users.set_route(*user, RouteState::At(GatewayIx((number % gateways) as u32)));
    }
    let ids = Ids((0..gateways).map(|gateway| gateway_name(gateway).into()).collect());
    let mut grouper = Grouper::default();
    cases.case(format!("lay-out/fan-out-{fan_out}/gateways-{gateways}"), fan_out as u64, |clock| {
        let layout = clock.time(|| grouper.group(black_box(&members), &[], &users, &ids, &mut Vec::new()));
        assert_eq!(layout.groups.iter().map(|laid| laid.group.users.len()).sum::<usize>(), fan_out);
    });
}

fn event(cases: &mut support::Cases, fan_out: usize, gateways: usize) {
    let mut world = World::new(Shape::home_only(fan_out, gateways));
    let recipients = world.turn_events() * fan_out as u64;
    cases.case(format!("event/fan-out-{fan_out}/gateways-{gateways}"), recipients, |clock| {
        assert_eq!(world.feed_events(), recipients);
        world.turn(clock);
        world.answer();
        world.turn(&mut Clock::default());
        world.answer();
        assert!(world.is_quiet());
    });
}
