//! What the shards are told of a registry's changes, and what is said of its health.

use super::*;
use crate::ports::mailbox::{Mailbox, Wake, mailbox};
use crate::ports::{Endpoint, Protocols};

fn record(id: &str, port: u16) -> GatewayRecord {
    let endpoints = vec![Endpoint { host: "127.0.0.1".into(), port, secure: false }];
    GatewayRecord { gateway_id: id.into(), endpoints, protocols: Protocols::STREAM, others: Vec::new() }
}

fn sink(shards: usize, capacity: usize) -> (RegistrySink, Directory, Vec<Mailbox>) {
    let (senders, mailboxes) = (0..shards).map(|_| mailbox(capacity, Arc::new(Wake::default()))).unzip();
    let (sink, directory) = RegistrySink::new(senders);
    (sink, directory, mailboxes)
}

fn told(mailbox: &Mailbox) -> Vec<String> {
    std::iter::from_fn(|| mailbox.try_next())
        .map(|fact| match fact {
            Input::GatewayListed(record) => format!("{}@{}", record.gateway_id, record.endpoints[0].port),
            Input::GatewayGone(id) => format!("-{id}"),
            other => panic!("not a gateway fact: {other:?}"),
        })
        .collect()
}

#[test]
fn only_differences_are_told() {
    let (sink, directory, shards) = sink(1, 16);
    sink.upsert(record("a", 1));
    sink.upsert(record("a", 1));
    sink.upsert(record("a", 2));
    sink.remove("nobody");
    assert_eq!(told(&shards[0]), ["a@1", "a@2"]);
    sink.upsert(record("b", 3));
    sink.replace_all(vec![record("b", 3), record("c", 4)]);
    assert_eq!(told(&shards[0]), ["b@3", "-a", "c@4"]);
    assert_eq!(directory.list(), [record("b", 3), record("c", 4)]);
    assert_eq!((directory.get("a"), directory.get("c")), (None, Some(record("c", 4))));
}

#[test]
fn a_gateway_is_told_to_its_owner_only() {
    let (sink, directory, shards) = sink(3, 64);
    sink.replace_all((0..30).map(|n| record(&format!("gateway-{n}"), 1)).collect());
    assert_eq!(directory.len(), 30);
    let mut seen = 0;
    for (number, shard) in shards.iter().enumerate() {
        for line in told(shard) {
            let id = line.split('@').next().expect("an id");
            assert_eq!(ShardId::of_gateway(id, 3), ShardId(number as u16), "{id}");
            seen += 1;
        }
    }
    assert_eq!(seen, 30);
}

#[test]
fn a_gateway_that_left_is_told_to_all_and_its_return_to_its_owner() {
    let (sink, _, shards) = sink(3, 64);
    let owner = usize::from(ShardId::of_gateway("a", 3).0);
    sink.upsert(record("a", 1));
    sink.remove("a");
    for (number, shard) in shards.iter().enumerate() {
        let expected = if number == owner { vec!["a@1", "-a"] } else { vec!["-a"] };
        assert_eq!(told(shard), expected, "shard {number}");
    }
    sink.upsert(record("a", 2));
    let back = shards.iter().map(|shard| told(shard).len()).collect::<Vec<_>>();
    assert_eq!((back.iter().sum::<usize>(), back[owner]), (1, 1));
}

#[test]
fn a_full_mailbox_loses_nothing_and_gets_the_newest_state() {
    let (sink, _, shards) = sink(1, 1);
    for (id, port) in [("a", 1), ("b", 2), ("c", 3), ("b", 4)] {
        sink.upsert(record(id, port));
    }
    sink.remove("c");
    assert!(!sink.flush_pending());
    let mut seen = told(&shards[0]);
    while !sink.flush_pending() {
        seen.extend(told(&shards[0]));
    }
    seen.extend(told(&shards[0]));
    assert_eq!(seen, ["a@1", "b@4", "-c"]);
}

#[tokio::test]
async fn what_was_refused_is_flushed_in_the_background() {
    let (sink, _, shards) = sink(1, 1);
    sink.upsert(record("a", 1));
    sink.upsert(record("b", 2));
    let flushing = tokio::spawn(sink.clone().keep_flushing());
    let seen = tokio::time::timeout(Duration::from_secs(10), async {
        let mut seen = Vec::new();
        while seen.len() < 2 {
            seen.extend(told(&shards[0]));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        seen
    });
    assert_eq!(seen.await.expect("both within ten seconds"), ["a@1", "b@2"]);
    flushing.abort();
}

#[test]
fn bad_entries_are_counted_by_reason_and_health_is_kept() {
    let (sink, _, _shards) = sink(1, 1);
    assert!(matches!(sink.health(), Health::Waiting(_)));
    sink.bad_entry(RegistryFault::NoId, "k", "no id");
    sink.bad_entry(RegistryFault::NoId, "k", "no id");
    sink.report(Health::Ready);
    assert_eq!(sink.health(), Health::Degraded("no gateway is registered".to_owned()), "it is read, and empty");
    sink.upsert(record("a", 1));
    assert_eq!(sink.health(), Health::Ready);
    sink.replace_all(Vec::new());
    assert!(matches!(sink.health(), Health::Degraded(_)));
    sink.report(Health::Waiting("etcd is away".to_owned()));
    assert_eq!(sink.health(), Health::Waiting("etcd is away".to_owned()), "what is worse is said");
    let counts = RegistryFault::ALL.map(|fault| sink.bad_entries(fault));
    assert_eq!(counts, [0, 2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(RegistryFault::ALL.map(|fault| fault as usize), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn ids_that_several_records_claim_are_said_for_as_long_as_they_do() {
    let (sink, _, _shards) = sink(1, 16);
    sink.report(Health::Ready);
    let contested = |id: &str| GatewayRecord { others: record(id, 2).endpoints, ..record(id, 1) };
    sink.replace_all(vec![contested("a"), contested("b"), record("c", 1)]);
    let said = |why: &str| Health::Degraded(format!("several records with different addresses claim gateway id {why}"));
    assert_eq!(sink.health(), said("a (and 1 more)"));
    sink.upsert(record("a", 1));
    assert_eq!(sink.health(), said("b"));
    sink.remove("b");
    assert_eq!(sink.health(), Health::Ready);
}
