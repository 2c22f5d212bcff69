//! Nothing is written to a gateway while the permit does not hold, and what waited is written when it is given again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::gateway_support::*;
use glommio::timer::Timer;
use task_engine::edge::gateway::GatewayOptions;
use task_engine::model::ids::StreamNo;
use task_engine::ports::Protocol;
use task_engine::ports::permit::{Permit, boottime};
use task_engine::push::facts::StreamEnd;

const HOUR: u64 = 3_600_000_000_000;

fn with(permit: &Arc<Permit>) -> GatewayOptions {
    GatewayOptions { permit: permit.clone(), ..GatewayOptions::default() }
}

#[test]
fn what_is_pushed_without_a_permit_waits_for_it() {
    let gateway = Gateway::start(Manner::Answers);
    let permit = Arc::new(Permit::not_given());
    permit.set(boottime().0 + HOUR);
    on_a_shard_with(with(&permit), async |mut shard| {
        shard.open(1, vec![gateway.endpoint()], Protocol::Stream);
        shard.opened(1).await;
        shard.gateways.send(G, StreamNo(1), single(1, 10));
        shard.answers(1, 1).await;
        for round in 0..3 {
            // Ended by time alone.
            permit.set(boottime().0 + 1_000_000);
            Timer::new(Duration::from_millis(2)).await;
            let seen = gateway.seen.recipients.load(Ordering::SeqCst);
            for msg_id in 0..100 {
                shard.gateways.send(G, StreamNo(1), single(1000 * (round + 1) + msg_id, 2_000));
            }
            Timer::new(Duration::from_millis(200)).await;
            assert_eq!(gateway.seen.recipients.load(Ordering::SeqCst), seen, "round {round}");
            permit.set(boottime().0 + HOUR);
            let rest = shard.answers(1, 100).await;
            assert_eq!(msg_ids(&rest.answers), (0..100).map(|at| 1000 * (round + 1) + at).collect::<Vec<_>>());
        }
        shard.gateways.finish(G, StreamNo(1));
        assert_eq!(shard.rest(1).await.end, Some(StreamEnd::Finished));
    });
    assert_eq!(gateway.seen.recipients.load(Ordering::SeqCst), 301);
}

#[test]
fn of_a_connection_that_is_opened_without_a_permit_nothing_reaches_the_gateway() {
    let gateway = Gateway::start(Manner::Answers);
    let permit = Arc::new(Permit::not_given());
    on_a_shard_with(with(&permit), async |mut shard| {
        shard.open(1, vec![gateway.endpoint()], Protocol::Stream);
        // A server greets before it was said anything.
        shard.opened(1).await;
        shard.gateways.send(G, StreamNo(1), single(1, 10));
        Timer::new(Duration::from_millis(300)).await;
        assert_eq!(gateway.seen.requests.load(Ordering::SeqCst), 0);
        permit.set(boottime().0 + HOUR);
        assert_eq!(msg_ids(&shard.answers(1, 1).await.answers), [1]);
    });
}
