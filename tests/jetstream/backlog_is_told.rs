//! What waits in the stream, and what is out and not settled, is told by the broker's own figures: also while nobody takes it, over
//! all partitions and whoever owns them, for at most a few requests per second, and not at all while nobody knows it.
#![allow(deprecated)]

use std::time::{Duration, Instant};

use harness::servers::NatsVersion;
use task_engine::config::Assignment;
use task_engine::ports::Disposition;
use task_engine::ports::intake::{Backlog, StreamPart};
use testkit::engine::{Process, eventually};

use crate::door::Way;
use crate::jetstream_support::{
    PATIENCE, Taking, client, on_both_servers, publish, ready, set_up, settings, started, until, world_set_up,
};
use crate::scene::{Scene, jetstream};

on_both_servers! {
    what_a_paused_shard_leaves_in_the_stream_is_told_until_it_is_settled
    the_partitions_are_summed_at_a_few_requests_per_second
    urgent_events_have_figures_of_their_own
    the_newest_generations_count_where_partitions_have_owners
    the_page_tells_it_and_has_no_line_while_the_broker_is_away
}

fn told(taking: &Taking, part: StreamPart) -> Option<Backlog> {
    taking.intake.counts().backlogs().of(part)
}

fn until_told(taking: &Taking, part: StreamPart, pending: u64, unsettled: u64) {
    let want = Some(Backlog { pending, unsettled });
    until(&format!("the broker holds {want:?}"), || told(taking, part) == want);
}

/// Settles what comes until nothing is left.
fn settle_all(taking: &Taking, part: StreamPart) {
    until("all is settled, and told so", || {
        taking.settle(&taking.take(), Disposition::Ack);
        told(taking, part) == Some(Backlog::default())
    });
}

fn what_a_paused_shard_leaves_in_the_stream_is_told_until_it_is_settled(version: NatsVersion) {
    let (server, settings) = ready(version, Assignment::Queue);
    let client = client(&server);
    let taking = started(&settings, 1);
    taking.until_ready();
    until_told(&taking, StreamPart::Topic, 0, 0);
    // The lane is not read: a window of 1,000 is out.
    publish(&client, "events", "s", 0..1_500);
    until_told(&taking, StreamPart::Topic, 500, 1_000);
    assert_eq!([told(&taking, StreamPart::Urgent), told(&taking, StreamPart::Input)], [None; 2], "nobody reads these");
    settle_all(&taking, StreamPart::Topic);
    taking.stop();
}

/// Partitions, and how many requests per second may be sent, of which a look at 24 partitions takes 6 s.
const MANY: u32 = 24;
const REQUESTS_A_SECOND: usize = 4;

fn the_partitions_are_summed_at_a_few_requests_per_second(version: NatsVersion) {
    let (server, mut settings) = ready(version, Assignment::Partitioned);
    settings.consumer.partitions = MANY;
    settings.consumer.durable = "many".to_owned();
    assert!(set_up(&settings, false).expect("setup").1);
    let client = client(&server);
    let asked = client.subscribe("$JS.API.CONSUMER.INFO.>").expect("subscribed");
    client.flush_timeout(PATIENCE).expect("flushed");
    let began = Instant::now();
    let taking = Taking::start(&settings, MANY, 2);
    taking.until_ready();
    for partition in 0..MANY {
        publish(&client, &format!("events.{partition}"), &format!("s{partition}"), 0..10);
    }
    let all = u64::from(MANY) * 10;
    until("all is told, in the stream or out", || {
        told(&taking, StreamPart::Topic).is_some_and(|backlog| backlog.pending + backlog.unsettled == all)
    });
    settle_all(&taking, StreamPart::Topic);
    taking.stop();
    // Readers ask as well; their answers come to another place.
    let is_ours = |reply: &str| reply.split('.').count() == 3;
    let count = asked.try_iter().filter(|message| message.reply.as_deref().is_some_and(is_ours)).count();
    let most = REQUESTS_A_SECOND * (began.elapsed() + Duration::from_secs(1)).as_secs_f64().ceil() as usize;
    assert!(count >= 2 * MANY as usize && count <= most, "{count} requests, at most {most} in {:?}", began.elapsed());
}

fn urgent_events_have_figures_of_their_own(version: NatsVersion) {
    let server = crate::jetstream_support::server(version);
    let mut settings = settings(&server, Assignment::Queue);
    settings.consumer.urgent_topic = "calls".to_owned();
    assert!(set_up(&settings, false).expect("setup").1);
    let client = client(&server);
    let taking = started(&settings, 1);
    taking.until_ready();
    publish(&client, "events", "s", 0..7);
    publish(&client, "calls", "t", 0..3);
    until_told(&taking, StreamPart::Topic, 0, 7);
    until_told(&taking, StreamPart::Urgent, 0, 3);
    taking.stop();
}

const OWNED: &str = "consumer:\n  mode: jetstream\n  stream: S\n  durable: d\n  assignment: partitioned\n  partitions: 6\n  \
                     ownership: etcd\n  lease_ttl: 4s\n  ack_wait: 10s\n";

fn figures(engine: &Process) -> [u64; 2] {
    ["stream_pending", "stream_unsettled"].map(|name| engine.metrics().of(name, "topic"))
}

fn the_newest_generations_count_where_partitions_have_owners(version: NatsVersion) {
    let (world, client, _gateway) = world_set_up(version, 6, OWNED);
    let engine = |name: &str| world.engine_with(1, OWNED, &[("RESONANCE_ENGINE_INSTANCE", name)]);
    let a = engine("a");
    a.wait_ready();
    eventually("the backlog is known", || has_line(&a));
    // Nobody reads: of what is published every event waits.
    a.stop_clean();
    let subject = testkit::engine::SUBJECT;
    for partition in 0..6 {
        publish(&client, &format!("{subject}.{partition}"), "nobody's", 0..5);
    }
    let b = engine("b");
    b.wait_ready();
    eventually("all is settled by the second owner, and told", || has_line(&b) && figures(&b) == [0, 0]);
    b.stop_clean();
}

fn has_line(engine: &Process) -> bool {
    let (_, page) = engine.page("/metrics").expect("a page");
    page.lines().any(|line| line.starts_with("task_engine_stream_pending{"))
}

fn the_page_tells_it_and_has_no_line_while_the_broker_is_away(version: NatsVersion) {
    let scene = Scene::start(version);
    let instance = scene.instance(&jetstream("queue"), [Way::Open; 3]);
    instance.engine.wait_ready();
    // Members hang: what is taken does not end.
    instance.mysql.set(Way::Hanging);
    scene.publish(0..600);
    eventually("what waits and what is out is on the page", || {
        let [pending, unsettled] = figures(&instance.engine);
        pending + unsettled == 600 && unsettled > 0
    });
    instance.mysql.set(Way::Open);
    scene.until_settled("d");
    eventually("nothing waits any more", || figures(&instance.engine) == [0, 0] && has_line(&instance.engine));
    scene.world.nats.stop().expect("it stops");
    eventually("nobody knows", || !has_line(&instance.engine));
}
