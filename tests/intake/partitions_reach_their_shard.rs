//! Partitioned assignment: each partition's subject is read by the shard that owns the partition, once over all
//! instances, in publish order.
#![allow(deprecated)]

use crate::intake_support::{Seen, Server, event, started, until};
use task_engine::model::ids::{Partition, ShardId};

#[test]
fn each_partition_is_read_by_its_own_shard() {
    let server = Server::start(&[]);
    let taking = started(&server.partitioned(), 3);
    let other = started(&server.partitioned(), 2);
    taking.until_ready();
    other.until_ready();
    let client = server.client();
    for number in 0..20_000_u64 {
        let session = format!("group:{}", number % 200);
        let partition = Partition::of(session.as_bytes(), 64).0;
        client.publish(&format!("events.{partition}"), event(&session, number)).expect("published");
    }
    client.flush().expect("flushed");
    let (mut seen, mut others) = (Seen::default(), Seen::default());
    until("all are taken", || {
        seen.take(&taking);
        others.take(&other);
        seen.events + others.events >= 20_000
    });
    for (seen, shards) in [(&seen, 3), (&others, 2)] {
        assert!(seen.events > 0);
        for (session, (shard, _)) in &seen.sessions {
            let home = ShardId::of_partition(Partition::of(session.as_bytes(), 64), shards);
            assert_eq!(usize::from(home.0), *shard, "{session}");
        }
    }
    taking.source.stop();
    other.source.stop();
    assert_eq!(seen.events + others.events, 20_000);
    assert_eq!(taking.intake.counts().read() + other.intake.counts().read(), 20_000);
}

#[test]
fn more_shards_than_partitions_leave_some_without_a_connection() {
    let server = Server::start(&[]);
    let taking = started(&server.partitioned(), 70);
    taking.until_ready();
    let client = server.client();
    client.publish("events.63", event("any", 7)).expect("published");
    client.flush().expect("flushed");
    until("it is taken", || taking.lanes[63].len() == 1);
    taking.source.stop();
    assert_eq!(taking.intake.counts().taken(), 1);
}
